"""A container in flow style, ``{...}`` or ``[...]``, on one line or several, changed only where it has to be.

It is reassembled from what is between its brackets: the entries, and the gaps between them with comma, blanks, line
ends and comments. Where the entries on both sides of a gap stay, the gap stays as it is.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

from mmapstate.text import writer
from mmapstate.text.alignment import origins_of
from mmapstate.text.source import Written, parts_of, value_of
from mmapstate.text.spans import NotUnderstood, Text, parted
from mmapstate.values import Plain, same

_TO_COMMA = re.compile(r"(?:[ \t\r\n]|#[^\n]*\n)*,")
_MOST_SIBLINGS = 50  # that are looked at
_PLAIN = re.compile(r"[A-Za-z][\w ./+-]*[\w./+-]|[A-Za-z]")
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"))


class _Gap:
    """What stands between two entries, without the comma."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.has_comma = False
        self.trails = False  # the comma stands in the line of the entry before it
        self.tail = ""  # the comments of the entry before it
        self.apart: list[str] = []  # lines
        self.above: list[str] = []  # lines: comments of the entry behind it
        self.pad: str | None = None  # the blanks before the entry behind it, None if that does not begin its line
        self.comma: tuple[str, str] | None = None  # the blanks before and behind a comma that begins that line
        self.blanks = ""  # between two entries in one line


class Manner(NamedTuple):
    """How text is quoted: keys, and values."""

    key: str = ""
    value: str = ""


def changed(text: Text, written: Written, new: Plain) -> str:
    """Return the text of a container in flow style that has become `new`, of the same kind."""
    return _Flow(text).container(written, new, Manner())


def quoted_alike(style: str, new: Plain, otherwise: str) -> str:
    """Return the text of a scalar in quotes of that style, if it is one that can be."""
    if not isinstance(new, str) or not new.isprintable():
        return otherwise
    if style == '"':
        return writer.flow([new]).decode()[1:-1]
    return "'" + new.replace("'", "''") + "'" if style == "'" else otherwise


def renamed(key: Written, name: Any) -> str:
    """Return the text of a key that has got another name, quoted as it is."""
    return quoted_alike(key.style, name, flow(name, Manner()))


class _Flow:
    def __init__(self, text: Text) -> None:
        self.text = text
        self.source = text.source

    def container(self, written: Written, new: Any, manner: Manner) -> str:
        """Return the text of a container that has become `new`."""
        source, text = self.source, self.text
        manner = manner_of(written, manner)
        old = written.entries or []
        origins = origins_of(written, new)
        opened = text.content(written) + 1
        places = self._places(written, opened)
        around = [(-1, opened), *places, (written.end - 1, written.end)]
        gaps = [self._gap(end, start, of) for (of, end), (start, _) in pairwise(around)]
        joints = _Joints(gaps, text, written.start, is_json=manner.key == '"')
        pieces = [source[written.start : opened]]
        for number, value in zip(origins.numbers, new.items() if isinstance(new, dict) else new, strict=True):
            pieces.append(joints.before(number, pieces[-1], stays=number in origins.staying))
            if number < 0:
                pieces.append(flow(value, manner))
            elif isinstance(value, tuple):
                pieces.append(self._pair(places[number], old[number], value, manner))
            else:
                pieces.append(self._value(old[number], value, manner, places[number]))
        pieces.append(joints.before(len(places), pieces[-1], stays=True, closes=True))
        inside = "".join(pieces[1:])
        return pieces[0] + (inside if new or "#" in inside else "") + source[written.end - 1]

    def _places(self, written: Written, opened: int) -> list[tuple[int, int]]:
        """Return where the entries begin and end."""
        places: list[tuple[int, int]] = []
        position = opened
        for entry in written.entries or ():
            key, value = parts_of(entry)
            start = self.text.next_token(position)
            if start != (key or value).start and self.source[start] != "?":
                raise NotUnderstood("its entries do not follow each other")
            places.append((start, self.text.end(value, key)))
            position = self.text.behind(_TO_COMMA, places[-1][1])
        if self.text.next_token(position) != written.end - 1:
            raise NotUnderstood("something stands before the closing bracket")
        return places

    def _gap(self, begin: int, end: int, of: int) -> _Gap:
        """Return what stands from `begin` to `end`, behind the entry that begins at `of`, -1 for the bracket."""
        gap = _Gap(begin, end)
        comma = self.text.behind(_TO_COMMA, begin) - 1
        gap.has_comma = begin <= comma < end
        line_end = self.source.find("\n", begin, end)
        gap.trails = gap.has_comma and comma < line_end
        if line_end < 0:
            gap.blanks = self.source[comma + 1 if gap.has_comma else begin : end]
            return gap
        raw = self.source[begin:end]
        if gap.has_comma:
            raw = raw[comma + 1 - begin :] if gap.trails else raw[: comma - begin] + raw[comma + 1 - begin :]
        tail, *lines, gap.pad = raw.split("\n")
        most_below = len(lines)
        if gap.has_comma and not gap.trails:
            if self.text.line_start(comma) == self.text.line_start(end):
                gap.comma = self.source[self.text.line_start(comma) : comma], self.source[comma + 1 : end]
            else:  # in a line of its own, perhaps with a comment
                most_below = self.source.count("\n", line_end + 1, comma)
                if not lines[most_below].strip(" "):
                    del lines[most_below]
        below, _ = parted(lines[:most_below], self.text.column(of) if of >= 0 else 1 << 30)
        _, above = parted(lines[below:], 1 << 30)
        gap.tail = "\n".join([tail.rstrip(), *lines[:below]]) if tail.strip() or below else ""
        gap.apart, gap.above = lines[below : len(lines) - above], lines[len(lines) - above :]
        return gap

    def _pair(
        self, place: tuple[int, int], written: tuple[Written, Written], entry: tuple[Any, Plain], manner: Manner
    ) -> str:
        """Return the text of an entry of a mapping that has become `entry`."""
        (start, end), (key, value), (name, new) = place, written, entry
        head = self.source[start : key.end]
        if not same(key.value, name):
            head = self.source[start : self.text.content(key)] + renamed(key, name)
        if same(value.value, new):
            return head + self.source[key.end : end]
        if value.start < value.end:
            return head + self.source[key.end : value.start] + self._value(value, new, manner)
        colon = self.text.colon(key, value)
        return head + self.source[key.end : colon or key.end] + (" " if colon else ": ") + flow(new, manner)

    def _value(self, written: Written, new: Plain, manner: Manner, place: tuple[int, int] | None = None) -> str:
        """Return the text of a value that has become `new`."""
        start, end = place or (written.start, self.text.end(written))
        if same(written.value, new):
            return self.source[start:end]
        if type(written.value) is type(new) and isinstance(new, dict | list):
            if self.text.in_brackets(written):
                return self.container(written, new, manner)
            key, value = (written.entries or [])[0]
            if isinstance(new, dict) and len(new) == 1 and key.value in new:
                return self._pair((start, end), (key, value), (key.value, new[key.value]), manner)
        return quoted_alike(written.style, new, flow(new, manner))


class _Joints:
    """Makes what stands before each entry, one after the other."""

    def __init__(self, gaps: list[_Gap], text: Text, start: int, *, is_json: bool) -> None:
        self.gaps = gaps
        self.is_json = is_json
        self.text = text
        before = text.before(start)
        self.indent = " " * (len(before) - len(before.lstrip(" ")))
        self.previous = self.stayed = -1  # which old entry was the last one, and the last one that stays
        self.at_beginning = True
        entries = gaps[:-1]
        self.pad = next((gap.pad for gap in reversed(entries) if gap.pad is not None), None)
        self.new_pad = entries[-1].pad if entries else self.indent + "  " if gaps[0].pad is not None else None
        self.commas = next((gap.comma for gap in entries if gap.comma), None)

    def before(self, number: int, text: str, *, stays: bool, closes: bool = False) -> str:
        """Return what stands before an entry, an old one with that number, or -1; or before the closing bracket.

        It follows on `text`.
        """
        gap = self.gaps[number] if number >= 0 else None
        if gap is not None and stays and number == self.previous + 1 == self.stayed + 1 and not self.is_added:
            joint = self.text.source[gap.begin : gap.end]
        else:
            joint = self._made(gap, number if stays else -1, closes=closes)
            if text.endswith(":") and joint[:1] in ("", ","):
                joint = " " + joint
        self.previous = number
        self.at_beginning = False
        if stays:
            self.stayed = number
        return joint

    @property
    def is_added(self) -> bool:
        """Whether the last entry is a new one."""
        return self.previous < 0 and not self.at_beginning

    def _has_last_comma(self) -> bool:
        """Return whether the last entry has a comma: if the last one had, or where its line can stay as it is.

        That is so in YAML. In JSON it must not have one.
        """
        stays = not self.is_added and self.previous == self.stayed and self.gaps[self.previous + 1].trails
        return self.gaps[-1].has_comma or (stays and not self.is_json)

    def _made(self, gap: _Gap | None, number: int, *, closes: bool) -> str:
        tail = "" if self.is_added else self.gaps[self.previous + 1].tail
        lines = [line for each in self.gaps[self.stayed + 1 : number + 1] for line in each.apart]
        if gap is not None:
            lines += gap.above
        pad = gap.pad if gap is not None else self.new_pad
        if pad is None and (lines or "#" in tail):
            pad = self.indent + " " if closes else self.pad or self.indent + "  "
        comma = "" if self.at_beginning or (closes and not self._has_last_comma()) else ","
        if pad is None:
            blanks = self.gaps[0 if self.at_beginning else -1].blanks if self.at_beginning or closes else " "
            return comma + blanks
        if self.commas is not None and not closes:
            before, behind = self.commas
            pad = before + (comma or " ") + behind
        if self.commas is not None:
            comma = ""
        if not comma and tail.startswith("#"):
            tail = " " + tail
        return comma + tail + "".join("\n" + line for line in lines) + "\n" + pad


def manner_of(written: Written, around: Manner) -> Manner:
    """Return how text is quoted in a container; as `around` it where it has none."""
    last = last_entries(written)
    key = _quotes_of([entry[0] for entry in last if isinstance(entry, tuple)], around.key)
    return Manner(key, _quotes_of([value_of(entry) for entry in last], key or around.value))


def last_entries(written: Written) -> list[Any]:
    """Return the last entries of a container, as many as are looked at to find out how it is written."""
    return (written.entries or [])[-_MOST_SIBLINGS:]


def _quotes_of(written: list[Written], otherwise: str) -> str:
    """Return how texts are quoted: as all do that need no quotes, or where there are none, as the first one."""
    texts = [each for each in written if isinstance(each.value, str) and each.style not in ("|", ">")]
    free = {each.style for each in texts if not each.style or needs_no_quotes(each.value)}
    if not free:
        return texts[0].style if texts else otherwise
    return free.pop() if len(free) == 1 else ""


def needs_no_quotes(text: Any) -> bool:
    """Return whether a text is surely read as itself without quotes, wherever it stands."""
    return _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS


def flow(value: Plain | tuple[Any, Plain], manner: Manner) -> str:
    """Return a value, or an entry of a mapping, as one line in flow style.

    Text is quoted as its siblings, or without quotes where it needs none.
    """
    if isinstance(value, tuple):
        return f"{flow(value[0], Manner(manner.key, manner.key))}: {flow(value[1], manner)}"
    if isinstance(value, dict):
        return "{" + ", ".join(flow(entry, manner) for entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner, manner) for inner in value) + "]"
    if type(value) is int:
        return str(value)
    text = writer.dump([value], literal=False).decode()[2:-1]
    if isinstance(value, str) and not _PLAIN.fullmatch(text):
        text = writer.flow([value]).decode()[1:-1]
    return quoted_alike(manner.value, value, text)
