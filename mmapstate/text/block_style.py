"""A document in block style, changed only where it has to be, as edits of its text.

An entry that stays keeps its lines, one that moves within its container takes them along, a new one is dumped in place.
A container whose layout is not understood is rewritten, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from typing import Any

from mmapstate.text import flow_style, reader
from mmapstate.text.alignment import Origins, origins_of
from mmapstate.text.between import Edit, between, edited, emptied
from mmapstate.text.lines import changed_text
from mmapstate.text.siblings import LONGEST_KEY, Siblings
from mmapstate.text.source import Written
from mmapstate.text.spans import NotUnderstood, Place, Text
from mmapstate.values import Plain, same

_NO_PLACE = Place(0, 0, 0)
_END_OF_DOCUMENT = re.compile(r"^\.\.\.(?=\s)", re.MULTILINE)


class Changer:
    """Changes one text, whose last line has an end.

    With `literal`, new text of several lines becomes a block scalar. `tell` is told which containers are rewritten, and
    why.
    """

    def __init__(self, source: str, *, literal: bool, tell: Callable[[str], None]) -> None:
        self.text = Text(source)
        self.source = source
        self.literal = literal
        self.tell = tell

    def to(self, state: dict[Any, Plain]) -> str:
        """Return the text with `state` in it."""
        root = reader.compose(self.source)
        self.siblings = Siblings(self.text, root, literal=self.literal)
        if root is None or root.start == root.end:  # nothing, or comments
            found = _END_OF_DOCUMENT.search(self.source)
            at = len(self.source) if found is None else found.start()
            return self.source[:at] + self.siblings.dumped(state) + self.source[at:]
        if same(root.value, state):
            return self.source
        return edited(self.source, 0, len(self.source), self._root(root, state))

    def _root(self, root: Written, state: dict[Any, Plain]) -> list[Edit]:
        if root.entries and (state or self.text.in_brackets(root)):
            try:
                return self._container(root, state)
            except NotUnderstood as error:
                self._tell(root, error)
        elif root.entries and self.text.content(root) == root.start:
            edits = emptied(self.text, self.text.places(root))
            if _END_OF_DOCUMENT.search(self.source, root.end):  # an end needs something that ends
                edits.append(Edit(edits[0].start, edits[0].start, "{}\n"))
            return edits
        text = self.text  # what is above and below it stays
        if not state:
            return [Edit(root.start, text.end(root), "{}")]
        column = text.column(root.start) if text.begins_line(root.start) else 0
        lines = self.siblings.dumped(state, column)[column:].removesuffix("\n")
        if text.begins_line(root.start):
            return [Edit(root.start, text.end(root), lines)]
        end = text.line_end(text.end(root))
        return [Edit(text.before_blanks(root.start), end, (text.comment(text.end(root)) or "") + "\n" + lines)]

    # --- Containers -------------------------------------------------------------------------------------------------

    def _container(self, written: Written, new: Any) -> list[Edit]:
        """Return the edits that make the container `written`, which has entries, into `new`, one of the same kind."""
        if written.style:
            return [Edit(written.start, written.end, flow_style.changed(self.text, written, new))]
        entries = written.entries or []
        origins = origins_of(written, new)
        values = list(new.values()) if isinstance(new, dict) else new
        if isinstance(new, dict) and len(origins.numbers) == len(origins.staying) == len(entries):  # nothing moves
            edits = []
            for entry, name, changed in zip(entries, new, values, strict=True):
                if not same(entry[0].value, name) or not same(entry[1].value, changed):
                    edits += self._entry(entry, _NO_PLACE, name, changed)
            return edits
        return self._rearranged(written, new, values, origins)

    def _rearranged(self, written: Written, new: Any, values: list[Plain], origins: Origins) -> list[Edit]:
        """Return the edits of a container of which some entries are moved, removed or new."""
        entries = written.entries or []
        places = self.text.places(written)
        keys = list(new) if isinstance(new, dict) else []
        column = self.text.column(places[0].start)
        edits: list[Edit] = []
        come: list[str | dict[Any, Plain] | list[Plain]] = []  # what comes here: lines, or what is to be written
        before = -1
        for index, number in enumerate(origins.numbers):
            if number < 0:
                come.append({keys[index]: values[index]} if keys else [values[index]])
                continue
            inside = self._entry(entries[number], places[number], keys[index] if keys else None, values[index])
            if number not in origins.staying:
                lines = edited(self.source, places[number].top, places[number].bottom, inside)
                come.append(lines if number or self.text.begins_line(places[0].start) else " " * column + lines)
                continue
            edits += between(self.text, places, before, number, self._lines(written, come, column))
            edits += inside
            come, before = [], number
        return edits + between(self.text, places, before, len(places), self._lines(written, come, column))

    def _lines(self, written: Written, come: list[str | dict[Any, Plain] | list[Plain]], column: int) -> str:
        """Return the lines of entries; those of new ones are made at one go."""
        pieces: list[str] = []
        for kind, group in groupby(come, type):
            if kind is str:
                pieces += group  # type: ignore[arg-type]
            else:
                together = kind()
                for each in group:
                    together.update(each) if kind is dict else together.extend(each)
                pieces.append(self.siblings.entries(written, together, column))
        return "".join(pieces)

    # --- Entries ----------------------------------------------------------------------------------------------------

    def _entry(self, entry: Any, place: Place, name: Any, new: Plain) -> list[Edit]:
        if not isinstance(entry, tuple):
            return self._value(place.start + 1, entry, new, self.text.column(place.start), in_list=True)
        key, value = entry
        edits = [] if same(value.value, new) else self._value_of_key(key, value, new)
        if not same(key.value, name):
            start = self.text.content(key)
            if "\n" in self.source[start : key.end] or len(text := flow_style.renamed(key, name)) > LONGEST_KEY:
                raise NotUnderstood("a key has another name, and takes more than a line")
            edits.insert(0, Edit(start, key.end, text))
        return edits

    def _value_of_key(self, key: Written, value: Written, new: Plain) -> list[Edit]:
        column = self.text.column(self.text.key_start(key))
        colon = self.text.colon(key, value)
        if colon is not None:
            return self._value(colon, value, new, column)
        end = self.text.line_end(self.text.end(key))  # behind a question mark, without a value
        head, lines = self.siblings.value(new, column, value, in_list=False)
        return [Edit(end, end, "\n" + " " * column + ":" + head + lines)]

    def _value(self, after: int, written: Written, new: Plain, indent: int, *, in_list: bool = False) -> list[Edit]:
        """Make the value behind a colon or dash, which ends at `after` in column `indent` of its entry, into `new`."""
        if same(written.value, new):
            return []
        if isinstance(new, dict | list) and type(new) is type(written.value):
            try:
                if written.entries and (new or written.style):
                    return self._container(written, new)
                if written.entries:
                    return self._emptied(after, written, "{}" if isinstance(new, dict) else "[]")
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
        going = emptied(self.text, self.text.places(written), after)
        return [Edit(after, end if end <= going[0].start else after, f" {empty}"), *going]

    def _replaced(self, after: int, written: Written, new: Plain, indent: int, *, in_list: bool) -> list[Edit]:
        """Return the edits that put another value there; comments of its entry, before and behind it, stay."""
        text = self.text
        if self.literal and isinstance(new, str) and isinstance(written.value, str):
            found = changed_text(text, written, new, indent)
            if found is not None:
                return [Edit(*found)]
        head, lines = self.siblings.value(new, indent, written, in_list=in_list)
        start, end = text.content(written), text.end(written)
        line_end = text.line_end(after)
        # What stands behind the bracket that opens a container in flow style is the comment of the entry.
        told = (text.comment(start + 1) or "") if text.in_brackets(written) else ""
        if written.entries and not written.style:
            places: list[Place] = []
            with suppress(NotUnderstood):
                places = text.places(written)
            if not places or places[0].top <= line_end:  # the entries begin behind a dash, or nobody knows where
                return [Edit(after, text.line_end(end), head + lines)]
            end = places[-1].bottom - 1
            if places[0].top == line_end + 1:
                return [Edit(after, end, head + (text.comment(text.properties_end(after)) or "") + lines)]
            begin = places[0].top
        else:
            begin = text.line_start(start)
            if written.style in ("|", ">"):
                told = text.comment(text.header_end(written)) or ""
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

    def _tell(self, written: Written, why: Exception) -> None:
        line = self.source.count("\n", 0, written.start) + 1
        self.tell(f"what begins in line {line} is written anew, without its comments: {why}")
