"""Plain data to JSON text, and a JSON text changed only where the state has changed.

JSON has no comments. Order and white space stay, and the spelling of each value that stays; new values are written in
the manner of the old ones.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mmapstate.text.alignment import origins_of_items, origins_of_keys
from mmapstate.text.json_text import NOT_RAW, compose, escaped
from mmapstate.text.source import Written, parts_of, split_bom, value_of
from mmapstate.values import Plain, same

_ESCAPED_LETTER = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])")


def dump(state: Plain, *, line_end: bytes = b"\n") -> bytes:
    """Return `state` as JSON, indented by two, each line with its end."""
    text = json.dumps(state, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return NOT_RAW.sub(escaped, text).encode().replace(b"\n", line_end)


def patch(text: bytes, state: dict[Any, Plain]) -> bytes:
    """Return the JSON `text` changed to hold `state`. Raises `StateFileError` where it is none."""
    bom, utf8 = split_bom(text)
    source = utf8.decode()
    root = compose(source)
    if root is None:
        return bom + dump(state)
    changed = _Writer(source, root).value(root, state)
    return bom + (source[: root.start] + changed + source[root.end :]).encode()


class _Writer:
    """Writes values as those are written that are there."""

    def __init__(self, source: str, root: Written) -> None:
        self.source = source
        self.line_end = "\r\n" if "\r\n" in source else "\n"
        self.ascii_alone = source.isascii() and _ESCAPED_LETTER.search(source) is not None
        lead = self._lead(root, 0) if root.entries else "\n  "
        self.unit = lead.rpartition("\n")[2] if "\n" in lead else None
        todo = [root]
        commas: list[str] = []
        colons: list[str] = []
        lines: dict[type, set[bool]] = {dict: set(), list: set()}
        while todo:
            written = todo.pop()
            for number, entry in enumerate(written.entries or ()):
                key, value = parts_of(entry)
                colons += [self.source[key.end : value.start]] if key is not None else []
                commas += ["," + self._lead(written, number)] if number else []
                if value.entries:
                    lines[type(value.value)].add("\n" in self._lead(value, 0))
                    todo.append(value)
        self.colon = next((colon for colon in colons if "\n" not in colon), ": ")
        otherwise = ", " if self.colon.endswith(" ") else ","
        self.comma = next((comma for comma in commas if "\n" not in comma), otherwise)
        self.in_line = {kind: found == {False} for kind, found in lines.items()}

    def _lead(self, written: Written, number: int) -> str:
        """Return the blanks before an entry."""
        return _blanks_before(self.source, _start_of((written.entries or [])[number]))

    def value(self, written: Written, new: Plain, indent: str = "", *, in_line: bool = False) -> str:
        """Return the text of a value that has become `new`; `indent` is that of its line."""
        if same(written.value, new):
            return self.source[written.start : written.end]
        if type(written.value) is type(new) and written.entries and isinstance(new, dict | list) and new:
            return self._container(written, new, indent)
        return self._new(new, indent, in_line=in_line)

    def _container(self, written: Written, new: Any, indent: str) -> str:
        """Return the text of an object or array, which has entries, and has become `new`, which has some."""
        old = written.entries or []
        if isinstance(new, dict):
            numbers = origins_of_keys([key.value for key, _ in old], list(new)).numbers
        else:
            numbers = origins_of_items([item.value for item in old], new).numbers
        leads = [self._lead(written, number) for number in range(len(old))]
        in_line = "\n" not in leads[0]
        lead = leads[1] if len(old) > 1 else self.comma[1:] if in_line else leads[0]
        inner = indent if in_line else leads[0].rpartition("\n")[2]
        pieces = [self.source[written.start]]
        values = new.items() if isinstance(new, dict) else new
        for index, (number, value) in enumerate(zip(numbers, values, strict=True)):
            if index:
                pieces.append(self._behind(old, numbers[index - 1]) + ",")
            pieces.append(leads[0] if index == 0 else leads[number] if number > 0 else lead)
            pieces.append(self._entry(old[number] if number >= 0 else None, value, inner, in_line=in_line))
        return "".join([*pieces, _blanks_before(self.source, written.end - 1), self.source[written.end - 1]])

    def _entry(self, old: Any, new: Any, indent: str, *, in_line: bool) -> str:
        """Return the text of an entry that has become `new`, key and value or item; `old` is None for one that came."""
        name, value = new if isinstance(new, tuple) else (None, new)
        if old is None:
            before = "" if name is None else self._new(name, indent) + self.colon
            return before + self._new(value, indent, in_line=in_line)
        now = value_of(old)
        return self.source[_start_of(old) : now.start] + self.value(now, value, indent, in_line=in_line)

    def _behind(self, old: list[Any], number: int) -> str:
        """Return the blanks between an entry and the comma behind it; those of the first where it had none."""
        if len(old) < 2:
            return ""
        end = value_of(old[number if 0 <= number < len(old) - 1 else 0]).end
        return self.source[end : self.source.index(",", end)]

    def _new(self, value: Plain, indent: str, *, in_line: bool = False) -> str:
        if not isinstance(value, dict | list) or not value or in_line or self.unit is None or self._fits_a_line(value):
            separators = self.comma, self.colon
            text = json.dumps(value, separators=separators, ensure_ascii=self.ascii_alone, allow_nan=False)
            return NOT_RAW.sub(escaped, text)
        inner = indent + self.unit
        if isinstance(value, dict):
            lines = [self._new(key, inner) + self.colon + self._new(item, inner) for key, item in value.items()]
        else:
            lines = [self._new(item, inner) for item in value]
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        joint = "," + self.line_end + inner
        return f"{opening}{self.line_end}{inner}{joint.join(lines)}{self.line_end}{indent}{closing}"

    def _fits_a_line(self, value: dict[Any, Plain] | list[Plain]) -> bool:
        """Return whether such a container is written in one line here, as all others of its kind are."""
        inside = value.values() if isinstance(value, dict) else value
        return self.in_line[type(value)] and not any(isinstance(item, dict | list) and item for item in inside)


def _start_of(entry: Any) -> int:
    key, value = parts_of(entry)
    return (key or value).start


def _blanks_before(source: str, position: int) -> str:
    start = position
    while source[start - 1] in " \t\r\n":
        start -= 1
    return source[start:position]
