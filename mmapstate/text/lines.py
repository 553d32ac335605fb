"""A scalar of several lines, some of which have changed: the other lines stay, and so does the style.

The scalar is split into its lines, each with the part of the value that it yields. Lines that yield the beginning or
the end of the new value stay, and between them those that yield some of it. The result is read back on its own; if it
is another text, the scalar is rewritten (see `block_style`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mmapstate.errors import StateFileError
from mmapstate.text import reader, writer
from mmapstate.text.source import Written
from mmapstate.text.spans import Text

_HEADER = re.compile(r"[|>](?P<signs>[-+]?[1-9]?|[1-9][-+])(?:[ \t][^\n]*)?\n")
_IN_LINES = re.compile("[\t\n -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_PARAGRAPH = re.compile("([^\n]+)(\n*)")
_SHORTEST = 60  # columns of a text that is parted anew
_BLANKS = (" ", "\t")
_SPACE = re.compile("(?<! ) (?! )")
_MOST_LINES = 100  # between which lines are looked for that stay


class _Line(NamedTuple):
    """A line as it is written, with the blank lines below it, and the part of the value that it yields."""

    raw: str
    part: str


class _Layout(NamedTuple):
    """How a text is written: ``head`` and ``tail`` around its lines; what new lines begin with, and how long they are.

    ``lead`` are line ends that it begins with, and that stay.
    """

    head: str
    lines: list[_Line]
    tail: str
    pad: str
    style: str
    lead: str = ""


def changed_text(text: Text, written: Written, new: str, column: int) -> tuple[int, int, str] | None:
    """Return which part of the text becomes what so that a text of several lines becomes `new`; None if it is new.

    `column` is that of its entry. A block stays one, but not for a text of one line that does not end as its header
    says.
    """
    start = text.content(written)
    source, old = text.source[start : written.end], str(written.value)
    if not _IN_LINES.fullmatch(new):
        return None
    is_block = written.style in ("|", ">")
    layout = _block(source, column, old, new) if is_block else _flow(source, written.style, old)
    if layout is None or not new.startswith(layout.lead):
        return None
    body = new.rstrip("\n") if is_block else new
    raws = _spliced(layout, layout.lines, body[len(layout.lead) :])
    found = _put_together(layout, raws, column) if raws else ""
    if not found or not _is_read_as(found, column, new):
        return None
    if layout.tail and "+" not in layout.head[:3] and is_block:  # blank lines that are no part of it
        return start, written.end - len(layout.tail), found[: -len(layout.tail)]
    return start, written.end, found


def _is_read_as(source: str, column: int, wanted: str) -> bool:
    """Return whether what stands behind a colon in that column is read as the text."""
    line = " " * column + "k: " + source
    try:
        return reader.parse((line if line.endswith("\n") else line + "\n").encode(), "").get("k") == wanted
    except (StateFileError, ValueError):
        return False


def _put_together(layout: _Layout, raws: list[str], column: int) -> str:
    head, pad = layout.head, layout.pad
    if layout.style not in ("|", ">"):
        first = layout.lines[0].raw  # which follows something in its line
        raws = [
            raw if (raw == first) == (number == 0) else pad * (number > 0) + raw.lstrip(" ")
            for number, raw in enumerate(raws)
        ]
        return head + "\n".join(raws) + layout.tail
    if raws[0][len(pad) :].startswith(" ") and not re.match("[|>][-+]?[1-9]", head):
        head = f"{head[0]}{len(pad) - column}{head[1:]}"  # which tells where a text begins that begins with blanks
    return head + "".join(f"{raw}\n" for raw in raws) + layout.tail


# --- How it is written ------------------------------------------------------------------------------------------------


def _block(source: str, column: int, old: str, new: str) -> _Layout | None:
    """Return the layout of a block, with the header that `new` needs; None if it is not understood, or does not fit."""
    found = _HEADER.match(source)
    body, ends = new.rstrip("\n"), len(new) - len(new.rstrip("\n"))
    if found is None or not body:
        return None
    head, signs = found[0], found["signs"]
    chomping = signs.strip("123456789")
    digits = signs.strip("-+")
    raws = source[found.end() :].removesuffix("\n").split("\n")
    first = next((raw for raw in raws if raw.strip(" ")), "")
    pad = " " * (column + int(digits) if digits else len(first) - len(first.lstrip(" ")))
    count = len(raws)
    while count and not raws[count - 1][len(pad) :]:
        count -= 1
    if {"": ends != 1, "-": ends != 0, "+": ends == 0}[chomping]:
        if ends > 1 or "\n" not in body:
            return None
        head = head[0] + head[1:].replace(signs, digits + "-" * (ends == 0), 1)
    lead = 0
    while head[0] == ">" and lead < count and not raws[lead][len(pad) :]:
        lead += 1
    texts = [raw[len(pad) :] for raw in raws[lead:count]]
    parts = _parts_of_folded(texts) if head[0] == ">" else [f"{text}\n" for text in texts[:-1]] + texts[-1:]
    if len(pad) <= column or "\n" * lead + "".join(parts) != old.rstrip("\n"):
        return None
    lines: list[_Line] = []
    for raw, part in zip(raws[lead:], parts, strict=False):
        if part or head[0] == "|":
            lines.append(_Line(raw, part))
        else:
            lines[-1] = _Line(f"{lines[-1].raw}\n{raw}", lines[-1].part)
    tail = "\n" * (ends - 1) if "+" in head[:3] else "".join(f"{raw}\n" for raw in raws[count:])
    head += "".join(f"{raw}\n" for raw in raws[:lead])
    return _Layout(head, lines, tail, pad, head[0], "\n" * lead)


def _parts_of_folded(texts: list[str]) -> list[str]:
    """Return what each line of a folded block gives; a blank one gives nothing, the one above it its line end."""
    parts = [""] * len(texts)
    before: int | None = None
    for number, text in enumerate(texts):
        if not text:
            continue
        if before is not None:
            blank = number - before - 1
            deeper = texts[before][0] in " \t" or text[0] in " \t"
            parts[before] += "\n" * (blank + deeper) if blank or deeper else " "
        parts[number] = text
        before = number
    return parts


def _flow(source: str, style: str, old: str) -> _Layout | None:
    """Return the layout of a text in quotes, or without any, that goes on in other lines; None if it does not."""
    raws = source[len(style) : len(source) - len(style)].split("\n")
    if len(raws) == 1:
        return None
    lines: list[_Line] = []
    for number, raw in enumerate(raws):
        last = number == len(raws) - 1
        text = raw if number == 0 else raw.lstrip(" \t")
        text = _unquoted(text if last else text.rstrip(" \t"), style)
        if text or number == 0 or last:
            if lines and lines[-1].part[-1:] != "\n":
                lines[-1] = _Line(lines[-1].raw, lines[-1].part + " ")
            lines.append(_Line(raw, text))
        else:
            lines[-1] = _Line(f"{lines[-1].raw}\n{raw}", lines[-1].part + "\n")
    if "".join(line.part for line in lines) != old:
        return None
    blanks = raws[1][: len(raws[1]) - len(raws[1].lstrip(" "))]
    return _Layout(style, lines, style, blanks, style)


def _unquoted(text: str, style: str) -> str:
    if style == "'":
        return text.replace("''", "'")
    if style == '"' and "\\" in text:
        try:
            return str(reader.parse(f'k: "{text}"\n'.encode(), "")["k"])
        except StateFileError:
            return ""  # as one whose line end is escaped: then it is not the text that it should be
    return text


def _quoted(text: str, style: str) -> str:
    if style == "'":
        return text.replace("'", "''")
    return writer.flow([text]).decode()[2:-2] if style == '"' else text


# --- What has changed -------------------------------------------------------------------------------------------------


def _spliced(layout: _Layout, lines: list[_Line], new: str, *, ends: bool = True) -> list[str]:
    """Return the lines of `new`: those that give its beginning, new ones, and those that give its end.

    With `ends` nothing comes behind the last one; else `new` ends as something does that goes on.
    """
    front, at = 0, 0
    joints = "\n" if layout.style == "|" else " \n"
    while front < len(lines) and new.startswith(lines[front].part, at):
        rest = new[at + len(lines[front].part) :]
        here = "\n" if layout.style == ">" and lines[front].part[:1] in _BLANKS else joints
        if ends and front == len(lines) - 1 and rest and rest[0] not in here:
            break
        at += len(lines[front].part)
        front += 1
    if front and front < len(lines) and _is_parted_anew(layout, lines[front - 1], lines[front].part, new[at:]):
        front -= 1
        at -= len(lines[front].part)
    kept = [line.raw for line in lines[:front]]
    if front == len(lines) and at < len(new) and ends and front:  # it goes on behind what was its last line
        breaks = len(new) - at - len(new[at:].lstrip("\n"))
        deeper = layout.style == ">" and (lines[-1].part[0] in _BLANKS or new[at + breaks] in _BLANKS)
        kept[-1] += "\n" * (breaks - 1 if layout.style == "|" else breaks - deeper)
        at += max(breaks, 1)
    back, until = len(lines), len(new)
    while back > front and until - len(lines[back - 1].part) >= at and new.endswith(lines[back - 1].part, at, until):
        begin = until - len(lines[back - 1].part)
        if begin > at and new[begin - 1] not in joints:
            break
        until, back = begin, back - 1
    below = lines[back].part[:1] if back < len(lines) else ""
    between = _between(layout, lines[front:back], new[at:until], below, ends=ends and back == len(lines))
    return kept + between + [line.raw for line in lines[back:]]


def _is_parted_anew(layout: _Layout, line: _Line, old: str, new: str) -> bool:
    """Return whether other blank lines part a line from what comes behind it: beside an indented line, one less."""
    if layout.style != ">" or line.part[-1:] != "\n" or line.part[0] in " \t":
        return False
    return (old[:1] in _BLANKS) != (new[:1] in _BLANKS)


def _between(layout: _Layout, lines: list[_Line], new: str, below: str, *, ends: bool) -> list[str]:
    """Return the lines of a part that does not begin or end as it did, among them those that give some of it.

    `below` is what the line below it begins with.
    """
    if layout.style == "|":
        raws = {line.part.removesuffix("\n"): line.raw for line in lines}
        texts = (new if ends else new.removesuffix("\n")).split("\n") if new else []
        return [raws.get(text, layout.pad + text if text else "") for text in texts]
    longest = max((line for line in lines if new.count(line.part) == 1), key=lambda line: len(line.part), default=None)
    if longest is not None and len(longest.part) > 8 and 1 < len(lines) < _MOST_LINES:
        number, at = lines.index(longest), new.index(longest.part)
        behind = at + len(longest.part)
        old = lines[number + 1].part if number + 1 < len(lines) else below
        stays = longest.part[-1] in " \n" and not _is_parted_anew(layout, longest, old, new[behind:] or below)
        if stays and (not at or new[at - 1] in " \n"):
            above = _spliced(layout, lines[:number], new[:at], ends=False)
            return [*above, longest.raw, *_spliced(layout, lines[number + 1 :], new[behind:], ends=ends)]
    width = max(_SHORTEST, *(len(line.raw) - len(layout.pad) for line in layout.lines))
    return _folded(layout, new, below, width * 5 // 4 if len(lines) == 1 else width)


def _folded(layout: _Layout, new: str, below: str, width: int) -> list[str]:
    """Return lines that give a part of a folded text; what is indented in it has its own lines."""
    found: list[str] = []
    for match in _PARAGRAPH.finditer(new):
        behind = new[match.end() : match.end() + 1] or below
        if layout.style == ">" and (match[1][0] in _BLANKS or (match[2] and behind in _BLANKS)):
            found.append(layout.pad + match[1] + match[2][1:])
            continue
        words = _SPACE.split(match[1].removesuffix(" ") if not match[2] else match[1])
        line = words[0]
        for word in words[1:]:
            if len(line) + 1 + len(word) > width:
                found.append(layout.pad + _quoted(line, layout.style))
                line = word
            else:
                line += f" {word}"
        found.append(layout.pad + _quoted(line, layout.style) + match[2])
    return found
