"""A document in block style, changed only where it has to be, as edits of its text.

What stays where it is keeps its lines; what is moved in its container takes its lines along; what is new is dumped
there. A container whose layout is not understood is dumped anew, alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from mmapstate import flow_style, snapshot
from mmapstate.differences import Origins, origins_of_items, origins_of_keys
from mmapstate.places import NotUnderstood, Place, Text
from mmapstate.snapshot import Written
from mmapstate.values import Plain, same

__all__ = ["Changer", "Edit", "edited"]

_END_OF_DOCUMENT = re.compile(r"^\.\.\.(?=\s)", re.MULTILINE)


class Edit(NamedTuple):
    """The text from `start` to `stop` becomes another one."""

    start: int
    stop: int
    text: str


class Changer:
    """Changes one text, whose last line has an end.

    With `literal`, new text of several lines is a block of them. `tell` is told which containers are written anew, and
    why.
    """

    def __init__(self, source: str, *, literal: bool, tell: Callable[[str], None]) -> None:
        self.text = Text(source)
        self.source = source
        self.literal = literal
        self.tell = tell
        self.step = 2

    def to(self, state: dict[Any, Plain]) -> str:
        """Return the text with `state` in it."""
        root = snapshot.compose(self.source)
        if root is None or root.start == root.end:  # nothing, or comments
            found = _END_OF_DOCUMENT.search(self.source)
            at = len(self.source) if found is None else found.start()
            return self.source[:at] + self._dumped(state) + self.source[at:]
        if same(root.value, state):
            return self.source
        self.step = _step_of(root, self.text.column)
        return edited(self.source, 0, len(self.source), self._root(root, state))

    def _root(self, root: Written, state: dict[Any, Plain]) -> list[Edit]:
        if root.entries and (state or self.text.in_brackets(root)):
            try:
                return self._container(root, state)
            except NotUnderstood as error:
                self._tell(root, error)
        elif root.entries and self.text.content(root) == root.start:
            edits = self._without_entries(root)
            if _END_OF_DOCUMENT.search(self.source, root.end):  # an end needs something that ends
                edits.append(Edit(edits[0].start, edits[0].start, "{}\n"))
            return edits
        text = self.text  # what is above and below it stays
        if not state:
            return [Edit(root.start, text.end(root), "{}")]
        column = text.column(root.start) if text.begins_line(root.start) else 0
        lines = self._dumped(state, column)[column:].removesuffix("\n")
        if text.begins_line(root.start):
            return [Edit(root.start, text.end(root), lines)]
        end = text.line_end(text.end(root))
        start = root.start - len(text.before(root.start)) + len(text.before(root.start).rstrip(" "))
        return [Edit(start, end, (text.comment(text.end(root)) or "") + "\n" + lines)]

    # --- Containers -------------------------------------------------------------------------------------------------

    def _container(self, written: Written, new: Any) -> list[Edit]:
        """Return the edits that make the container `written`, which has entries, into `new`, one of the same kind."""
        if written.style:
            return [Edit(written.start, written.end, flow_style.changed(self.text, written, new))]
        entries = written.entries or []
        if isinstance(new, dict):
            origins = origins_of_keys([key.value for key, _ in entries], list(new))
        else:
            origins = origins_of_items([item.value for item in entries], new)
        values = list(new.values()) if isinstance(new, dict) else new
        if isinstance(new, dict) and origins.nothing_moves(len(entries)):
            edits = []
            for (key, value), changed in zip(entries, values, strict=True):
                if not same(value.value, changed):
                    edits += self._value_of_key(key, value, changed)
            return edits
        return self._rearranged(written, new, values, origins)

    def _rearranged(self, written: Written, new: Any, values: list[Plain], origins: Origins) -> list[Edit]:
        """Return the edits of a container of which some entries are moved, removed or new."""
        entries = written.entries or []
        places = self.text.places(written)
        keys = list(new) if isinstance(new, dict) else []
        column = self.text.column(places[0].start)
        edits: list[Edit] = []
        come: list[str | dict[Any, Plain] | list[Plain]] = []  # what comes here: lines, or what is to be dumped
        at: Place | None = None
        for index, number in enumerate(origins.numbers):
            if number < 0:
                come.append({keys[index]: values[index]} if keys else [values[index]])
                continue
            inside = self._entry(entries[number], places[number], values[index])
            if number not in origins.staying:
                lines = edited(self.source, places[number].top, places[number].bottom, inside)
                come.append(lines if number or self.text.begins_line(places[0].start) else " " * column + lines)
                continue
            if come:
                edits += self._coming(at, places[0], self._lines(come, column), stays=0 in origins.staying)
                come = []
            edits += inside
            at = places[number]
        if come:
            edits += self._coming(at, places[0], self._lines(come, column), stays=0 in origins.staying)
        replaced = not self.text.begins_line(places[0].start) and any(edit.start <= places[0].start for edit in edits)
        for number, place in enumerate(places):
            if number not in origins.staying and not (number == 0 and replaced):
                edits.append(self._going(place))
        return edits

    def _coming(self, behind: Place | None, first: Place, lines: str, *, stays: bool) -> list[Edit]:
        """Return the edit that puts lines behind an entry that stays; or, without one, where the first one begins.

        That may stand behind the dash of an item; then its line is parted, or all of it replaced if it does not stay.
        """
        if behind is not None:
            return [Edit(behind.bottom, behind.bottom, lines)]
        if self.text.begins_line(first.start):
            return [Edit(first.top, first.top, lines)]
        column = self.text.column(first.start)
        if lines.lstrip(" ").startswith("#"):
            start, lines = self._behind_sign(first.start), "\n" + lines
        else:
            start, lines = first.start, lines[column:]
        return [Edit(start, first.start, lines + " " * column) if stays else Edit(start, first.bottom, lines)]

    def _going(self, place: Place) -> Edit:
        if self.text.begins_line(place.start):
            return Edit(place.top, place.bottom, "")
        return Edit(self._behind_sign(place.start), place.bottom - 1, "")  # other entries follow below

    def _behind_sign(self, start: int) -> int:
        return start - len(self.text.before(start)) + len(self.text.before(start).rstrip(" "))

    def _without_entries(self, written: Written) -> list[Edit]:
        return [self._going(place) for place in self.text.places(written)]

    def _lines(self, come: list[str | dict[Any, Plain] | list[Plain]], column: int) -> str:
        """Return the lines of entries; what is to be dumped is, at one go."""
        pieces: list[str] = []
        for kind, group in groupby(come, type):
            if kind is str:
                pieces += group  # type: ignore[arg-type]
            else:
                together = kind()
                for each in group:
                    together.update(each) if kind is dict else together.extend(each)
                pieces.append(self._dumped(together, column))
        return "".join(pieces)

    # --- Entries ----------------------------------------------------------------------------------------------------

    def _entry(self, entry: Any, place: Place, new: Plain) -> list[Edit]:
        if isinstance(entry, tuple):
            key, value = entry
            return [] if same(value.value, new) else self._value_of_key(key, value, new)
        return self._value(place.start + 1, entry, new, self.text.column(place.start), in_list=True)

    def _value_of_key(self, key: Written, value: Written, new: Plain) -> list[Edit]:
        column = self.text.column(self.text.key_start(key))
        colon = self.text.colon(key, value)
        if colon is not None:
            return self._value(colon, value, new, column)
        end = self.text.line_end(self.text.end(key))  # behind a question mark, without a value
        head, lines = self._head_and_lines(new, column, in_list=False)
        return [Edit(end, end, "\n" + " " * column + ":" + head + lines)]

    def _value(self, after: int, written: Written, new: Plain, indent: int, *, in_list: bool = False) -> list[Edit]:
        """Make the value behind a colon or dash, which ends at `after` in column `indent` of its entry, into `new`."""
        if same(written.value, new):
            return []
        kind = next((kind for kind in (dict, list) if isinstance(new, kind) and isinstance(written.value, kind)), None)
        if kind is not None:
            try:
                if written.entries and (new or written.style):
                    return self._container(written, new)
                if written.entries:
                    return self._emptied(after, written, "{}" if kind is dict else "[]")
                if written.style and "#" in self.source[written.start : written.end]:
                    return self._container(written, new)
            except NotUnderstood as error:
                self._tell(written, error)
        return self._replaced(after, written, new, indent, in_list=in_list)

    def _emptied(self, after: int, written: Written, empty: str) -> list[Edit]:
        """Return the edits that take the entries away, and no comment that was set apart from them."""
        if written.start > self.text.line_end(after) and self.text.content(written) > written.start:
            raise NotUnderstood("its tag stands in a line of its own")
        end = self.text.properties_end(after)  # perhaps those of the first key, behind a dash
        going = self._without_entries(written)
        return [Edit(after, end if end <= going[0].start else after, f" {empty}"), *going]

    def _replaced(self, after: int, written: Written, new: Plain, indent: int, *, in_list: bool) -> list[Edit]:
        """Return the edits that put another value there; comments of its entry, before and behind it, stay."""
        text = self.text
        head, lines = self._head_and_lines(new, indent, in_list=in_list)
        start, end = text.content(written), text.end(written)
        line_end = text.line_end(after)
        told = self._behind_bracket(written)
        if written.entries and not written.style:
            places = self._places(written)
            if not places or places[0].top <= line_end:  # the entries begin behind a dash, or nobody knows where
                return [Edit(after, text.line_end(end), head + lines)]
            end = places[-1].bottom - 1
            if places[0].top == line_end + 1:
                return [Edit(after, end, head + (text.comment(text.properties_end(after)) or "") + lines)]
            begin = places[0].top
        else:
            begin = text.line_start(start)
            if written.style in ("|", ">"):
                told = text.comment(self._behind_header(written)) or ""
            elif lines:
                told += text.comment(end) or ""
                end = text.line_end(end)
            else:
                head = " " + flow_style.quoted_alike(written.style, new, head.strip(" "))
        if start <= line_end:
            if lines or written.start == after:
                return [Edit(after, end, head + told + lines)]
            return [Edit(written.start, end, head.lstrip(" ") + told)]
        # It stands in lines of its own, below comments; anchor and tag above them were those of the old value.
        edits = [Edit(after, text.properties_end(after), "")]
        if line_end < written.start:
            begin = min(begin, text.line_start(written.start))
        pad = " " * max(text.column(start), indent + 1)
        if not isinstance(new, dict | list) or not lines:
            return [*edits, Edit(begin, end, pad + head.strip(" ") + told + lines)]
        above = pad + told.strip() if told else ""
        if head.strip(" "):  # an item that is a list
            above += "\n" * bool(told) + " " * (indent + 1 + len(head) - len(head.lstrip(" "))) + head.strip(" ")
        return [*edits, Edit(begin, end, above + lines if above else lines[1:])]

    def _places(self, written: Written) -> list[Place]:
        try:
            return self.text.places(written)
        except NotUnderstood:
            return []

    def _behind_header(self, written: Written) -> int:
        """Return where the header of a block of lines ends."""
        found = re.compile(r"[|>][-+0-9]*").match(self.source, self.text.content(written))
        assert found is not None
        return found.end()

    def _behind_bracket(self, written: Written) -> str:
        """Return the comment behind the bracket that opens a container in flow style: it is that of the entry."""
        if not self.text.in_brackets(written):
            return ""
        return self.text.comment(self.text.content(written) + 1) or ""

    def _head_and_lines(self, value: Plain, indent: int, *, in_list: bool) -> tuple[str, str]:
        """Return what stands behind the colon or dash of an entry, and the lines below it."""
        text = self._dumped([value] if in_list else {"k": value}, indent)[indent + (1 if in_list else 2) :]
        head, more, rest = text.removesuffix("\n").partition("\n")
        return head, more + rest

    def _dumped(self, value: Any, indent: int = 0) -> str:
        """Return a mapping or list as lines in block style, each indented."""
        if not value:
            return ""
        text = snapshot.dump(value, step=self.step, literal=self.literal).decode()
        return re.sub(r"^(?!$)", " " * indent, text, flags=re.MULTILINE) if indent else text

    def _tell(self, written: Written, why: Exception) -> None:
        line = self.source.count("\n", 0, written.start) + 1
        self.tell(f"what begins in line {line} is written anew, without its comments: {why}")


def edited(source: str, start: int, stop: int, edits: list[Edit]) -> str:
    """Return the text from `start` to `stop` with edits, of which no two are of one place."""
    pieces = []
    for edit in sorted(edits, key=lambda edit: edit[:2]):
        if edit.start < start:
            raise ValueError("two edits of one place")
        pieces += [source[start : edit.start], edit.text]
        start = edit.stop
    return "".join([*pieces, source[start:stop]])


def _step_of(root: Written, column: Callable[[int], int]) -> int:
    """Return by how many columns the text indents a mapping inside another one; 2 if it has none."""
    todo = [root]
    while todo:
        written = todo.pop()
        for entry in written.entries or ():
            key, value = entry if isinstance(entry, tuple) else (None, entry)
            if written.style or not value.entries or value.style:
                continue
            todo.append(value)
            step = column(value.start) - column(key.start) if key is not None and isinstance(value.value, dict) else 0
            if 2 <= step <= 9:
                return int(step)
    return 2
