"""Change the text of a snapshot only where the state has changed: comments, order and layout of the rest stay.

The text is composed to what is written where, compared with the state, and edited at the places that differ. What is
changed so is read back: if it is not the state, nothing of this is used (see `patch`).
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Any

from mmapstate import snapshot
from mmapstate.errors import StateFileError
from mmapstate.snapshot import Written
from mmapstate.values import Plain, same

__all__ = ["CannotPatch", "patch"]

_MOST_PAIRS = 10_000  # of items that are alike, or are compared with each other; beyond that, in their order
_BEFORE_THE_FIRST = frozenset(" -")  # what stands in its line before the first entry of an item that is a container

_COLON = re.compile(r"[ \t]*:")
_COLON_BELOW = re.compile(r"\s*:")  # behind a key with a question mark
_COMMA = re.compile(r"[ \t]*,")
_COMMENT = re.compile(r"[ \t]+#[^\n]*|[ \t]*$", re.MULTILINE)
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z][\w ./+-]*[\w./+-]|[A-Za-z]")
_BETWEEN_ITEMS = re.compile(r"(?:[ \t\r\n]|(?<![^ \t\r\n])#[^\n]*)*")
_COMMENT_LINE = re.compile(r"([ \t]*)#")


class CannotPatch(Exception):
    """The text as a whole has to be written anew; the message says why."""


def patch(text: bytes, state: dict[Any, Plain]) -> bytes:
    """Return the snapshot `text` changed to hold `state`; raise `CannotPatch` where its layout is not understood."""
    source = text.decode("utf-8-sig")
    has_bom = text.startswith(b"\xef\xbb\xbf")
    crlf = 0 < source.count("\r\n") == source.count("\n")
    if crlf:
        source = source.replace("\r\n", "\n")
    why = ""
    for literal in (True, False):  # a comment behind a text of several lines would become part of it: quoted, then
        try:
            patched = _Patch(source, literal=literal).to(state)
            if crlf:
                patched = patched.replace("\n", "\r\n")
            result = (b"\xef\xbb\xbf" if has_bom else b"") + patched.encode()
            if same(snapshot.parse(result, ""), state):
                return result
            why = "what came of it holds another state"
        except (StateFileError, LookupError, ValueError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}"
    raise CannotPatch(why)


class _Unpatchable(Exception):
    """The layout of a container does not let it be changed in part: it is written anew, alone."""


class _Patch:
    """The edits of one text."""

    def __init__(self, source: str, *, literal: bool) -> None:
        self.source = source
        self.literal = literal
        self.edits: list[tuple[int, int, str]] = []
        self.step = 2

    def to(self, state: dict[Any, Plain]) -> str:
        """Return the text with `state` in it."""
        source = self.source
        root = snapshot.compose(source)
        if root is None or root.start == root.end:  # nothing, or comments
            added = self._dumped(state)
            return source + ("\n" if source and not source.endswith("\n") and added else "") + added
        self.step = _step_of(root, self._column)
        try:
            if not root.entries:  # {} or null
                raise _Unpatchable
            self._container(root, state, is_root=True)
        except _Unpatchable:  # what is above and below it stays
            self.edits = [(root.start, self._end(root), self._dumped(state).removesuffix("\n") or "{}")]
        pieces, end = [], 0
        for start, stop, new in sorted(self.edits, key=lambda edit: edit[:2]):
            if start < end:
                raise ValueError("two edits of one place")
            pieces += [source[end:start], new]
            end = stop
        return "".join([*pieces, source[end:]])

    # --- Containers -------------------------------------------------------------------------------------------------

    def _container(self, written: Written, new: Any, *, is_root: bool = False) -> None:
        """Record the edits that make the container `written` into `new`, one of the same kind."""
        before = len(self.edits)
        try:
            if written.style:
                self._flow(written, new)
            elif isinstance(new, dict):
                self._block_map(written, new, is_root=is_root)
            else:
                self._block_list(written, new)
        except _Unpatchable:
            del self.edits[before:]
            raise

    def _block_map(self, written: Written, new: dict[Any, Plain], *, is_root: bool) -> None:
        places = self._places([(self._key_start(key), value) for key, value in written.entries or ()])
        kept = _kept_keys([key.value for key, _ in written.entries or ()], list(new))
        if not new and not is_root:
            raise _Unpatchable  # to be written as {}
        for number, (key, value) in enumerate(written.entries or ()):
            start = places[number][0]
            if number not in kept:
                self._remove(places[number])
            elif not same(value.value, new[key.value]):
                colon = (_COLON if start == key.start else _COLON_BELOW).match(self.source, key.end)
                if colon is None:
                    raise _Unpatchable
                self._value(colon.end(), value, new[key.value], self._column(start))
        there = {key.value for number, (key, _) in enumerate(written.entries or ()) if number in kept}
        added = {key: value for key, value in new.items() if key not in there}
        if added:
            self._add(places[-1], self._dumped(added))

    def _key_start(self, key: Written) -> int:
        """Return where a key begins, with the question mark before it, as a very long one has."""
        before = self.source[self._line_start(key.start) : key.start]
        return key.start - len(before) + before.index("?") if before.strip(" ") == "?" else key.start

    def _block_list(self, written: Written, new: list[Plain]) -> None:
        items: list[Written] = written.entries or []
        dashes, position = [], written.start
        for item in items:
            if self.source[position : position + 1] != "-":
                raise _Unpatchable
            dashes.append(position)
            position = self._next_sign(item)
        if not new:
            raise _Unpatchable  # to be written as []
        places = self._places(list(zip(dashes, items, strict=True)))
        assert isinstance(written.value, list)
        for kind, first, last, new_first, new_last in _differences(written.value, new):
            both = min(last - first, new_last - new_first) if kind == "replace" else 0
            for offset in range(both):
                dash = dashes[first + offset]
                self._value(dash + 1, items[first + offset], new[new_first + offset], self._column(dash), in_list=True)
            for number in range(first + both, last):
                self._remove(places[number])
            if new_first + both < new_last:
                text = self._dumped(new[new_first + both : new_last])
                if last < len(items):
                    self._insert(places[last], text)
                else:
                    self._add(places[-1], text)

    # --- Values in block style --------------------------------------------------------------------------------------

    def _value(self, after: int, written: Written, new: Plain, indent: int, *, in_list: bool = False) -> None:
        """Make the value behind a colon or dash, which ends at `after` in column `indent` of its entry, into `new`."""
        if same(written.value, new):
            return
        both = (written.value, new)
        if written.entries and any(all(isinstance(each, kind) for each in both) for kind in (dict, list)):
            try:
                self._container(written, new)
                return
            except _Unpatchable:
                pass
        self._replace(after, written, new, indent, in_list=in_list)

    def _replace(self, after: int, written: Written, new: Plain, indent: int, *, in_list: bool) -> None:
        source = self.source
        text = self._dumped([new] if in_list else {"k": new}, indent)[indent:].removesuffix("\n")
        head, more, rest = text[1 if in_list else 2 :].partition("\n")
        end = self._end(written)
        if written.style in ("|", ">"):
            comment = _COMMENT.search(source, written.start, self._line_end(written.start))
            head += comment[0] if comment is not None else ""
            self.edits.append((after, end, head + more + rest))
        elif (written.style or written.entries is None) and not more:
            lead = "" if written.start > after else " "
            new_text = _quoted_alike(written, new, head.strip(" ")) + self._behind_bracket(written)
            self.edits.append((written.start, written.end, lead + new_text))
        elif written.entries is None and written.start > self._line_end(after) and not head.strip():
            pad = " " * self._column(written.start)  # what stood in a line of its own: comments above it stay
            behind = source[written.end : self._line_end(written.end)].strip()
            told = f"{pad}{behind}\n" if behind else ""
            self.edits.append((self._line_start(written.start), self._line_end(written.end), told + rest))
        else:
            begins_here = written.start <= self._line_end(after) and (written.style or written.entries is None)
            where = end if begins_here else after
            comment = _COMMENT.match(source, where)
            if comment is None:  # a compact container: the entries of it begin in this line
                self.edits.append((after, self._line_end(end), head + more + rest))
            else:
                told = self._behind_bracket(written) + comment[0].rstrip()
                self.edits.append((after, self._line_end(end), head + told + more + rest))

    def _behind_bracket(self, written: Written) -> str:
        """Return the comment behind the bracket that opens a container in flow style: it is that of the entry."""
        if written.style not in ("{", "[") or "\n" not in self.source[written.start : written.end]:
            return ""
        comment = _COMMENT.match(self.source, written.start + 1)
        return comment[0].rstrip() if comment is not None else ""

    def _dumped(self, value: Any, indent: int = 0) -> str:
        """Return a mapping or list as lines in block style, each indented."""
        if not value:
            return ""
        lines = snapshot.dump(value, step=self.step, literal=self.literal).decode().split("\n")
        return "\n".join(" " * indent + line if line else "" for line in lines)

    # --- Entries in block style -------------------------------------------------------------------------------------

    def _places(self, entries: list[tuple[int, Written]]) -> list[tuple[int, int, bool]]:
        """Return of each entry where it begins, where it ends (behind a comment), and whether it begins its line."""
        places = []
        for number, (start, value) in enumerate(entries):
            before = self.source[self._line_start(start) : start]
            if before.strip(" ") and (number > 0 or not set(before) <= _BEFORE_THE_FIRST):
                raise _Unpatchable
            places.append((start, self._line_end(self._end(value)), not before.strip(" ")))
        return places

    def _remove(self, place: tuple[int, int, bool]) -> None:
        start, end, begins_line = place
        if begins_line:
            self.edits.append((self._with_comments_above(start), min(end + 1, len(self.source)), ""))
        else:  # behind the dash of an item, whose other entries follow
            while self.source[start - 1] == " ":
                start -= 1
            self.edits.append((start, end, ""))

    def _insert(self, place: tuple[int, int, bool], lines: str) -> None:
        start, _, begins_line = place
        column = self._column(start)
        text = self._indented(lines, column)
        if begins_line:
            at = self._with_comments_above(start)
            self.edits.append((at, at, text))
        else:  # behind the dash of an item that is a list: there the new one stands now, the old one below it
            self.edits.append((start, start, text[column:] + " " * column))

    def _add(self, place: tuple[int, int, bool], lines: str) -> None:
        start, end, _ = place
        text = self._indented(lines, self._column(start))
        if end >= len(self.source):  # the last line has no end, and the new last line shall have none
            self.edits.append((end, end, "\n" + text.removesuffix("\n")))
        else:
            self.edits.append((end + 1, end + 1, text))

    def _indented(self, lines: str, column: int) -> str:
        return "".join(" " * column + line if line.strip("\n") else line for line in lines.splitlines(keepends=True))

    def _with_comments_above(self, start: int) -> int:
        """Return where comments begin that stand directly above an entry, in its column; else where its line begins."""
        column, top = self._column(start), self._line_start(start)
        while top > 0:
            above = self._line_start(top - 1)
            found = _COMMENT_LINE.match(self.source, above)
            if found is None or len(found[1]) != column:
                break
            top = above
        return top

    def _next_sign(self, item: Written) -> int:
        """Return where the next dash stands behind an item."""
        found = _BETWEEN_ITEMS.match(self.source, item.end)
        assert found is not None
        return found.end()

    def _end(self, written: Written) -> int:
        """Return where the text of a value ends, without the blank lines and the line end that a block takes along."""
        last = written
        while last.entries and not last.style:
            entry = last.entries[-1]
            last = entry[1] if isinstance(entry, tuple) else entry
        if last.style not in ("|", ">"):
            return last.end
        header = self.source[last.start : self._line_end(last.start)].partition("#")[0]
        text = self.source[last.start : last.end]
        return last.start + len(text.removesuffix("\n") if "+" in header else text.rstrip("\n"))

    # --- Flow style -------------------------------------------------------------------------------------------------

    def _flow(self, written: Written, new: Any) -> None:
        if self.source[written.start] != written.style or not new or not written.entries:
            raise _Unpatchable
        if "\n" not in self.source[written.start : written.end]:
            self.edits.append((written.start, written.end, self._flow_text(written, new)))
        elif isinstance(new, dict):
            self._flow_map_of_lines(written, new)
        else:
            self._flow_list_of_lines(written, new)

    def _flow_map_of_lines(self, written: Written, new: dict[Any, Plain]) -> None:
        entries: list[tuple[Written, Written]] = written.entries or []
        kept = _kept_keys([key.value for key, _ in entries], list(new))
        for number, (key, value) in enumerate(entries):
            if number in kept:
                self._flow_value(value, new[key.value])
            else:
                self._remove_from_flow(key.start, value.end)
        there = {entries[number][0].value for number in kept}
        added = [_flow({key: value})[1:-1] for key, value in new.items() if key not in there]
        if added:
            self._add_to_flow(entries[-1][0].start, entries[-1][1].end, added, stays=len(entries) - 1 in kept)

    def _flow_list_of_lines(self, written: Written, new: list[Plain]) -> None:
        items: list[Written] = written.entries or []
        assert isinstance(written.value, list)
        last_stays = True
        for kind, first, last, new_first, new_last in _differences(written.value, new):
            both = min(last - first, new_last - new_first) if kind == "replace" else 0
            for offset in range(both):
                self._flow_value(items[first + offset], new[new_first + offset])
            for item in items[first + both : last]:
                self._remove_from_flow(item.start, item.end)
                last_stays = last_stays and item is not items[-1]
            added = [_flow(value) for value in new[new_first + both : new_last]]
            if added and last < len(items):
                self._insert_into_flow(items[last].start, added)
            elif added:
                self._add_to_flow(items[-1].start, items[-1].end, added, stays=last_stays)

    def _flow_value(self, written: Written, new: Plain) -> None:
        if same(written.value, new):
            return
        if written.entries and type(written.value) is type(new) and new:
            self._container(written, new)
        elif written.start == written.end:
            raise _Unpatchable
        else:
            self.edits.append((written.start, written.end, self._flow_text(written, new)))

    def _remove_from_flow(self, start: int, end: int) -> None:
        """Remove an entry and the comma behind it; the line, too, and the comments above, if it is alone there."""
        comma = _COMMA.match(self.source, end)
        end = comma.end() if comma is not None else end
        comment = _COMMENT.match(self.source, end)
        if comment is not None and self._begins_line(start):
            self.edits.append((self._with_comments_above(start), min(comment.end() + 1, len(self.source)), ""))
        else:
            blanks = len(self.source) - len(self.source[end:].lstrip(" ")) - end if comma is not None else 0
            self.edits.append((start, end + blanks, ""))

    def _insert_into_flow(self, start: int, texts: list[str]) -> None:
        if self._begins_line(start):
            pad = " " * self._column(start)
            at = self._with_comments_above(start)
            self.edits.append((at, at, "".join(f"{pad}{text},\n" for text in texts)))
        else:
            self.edits.append((start, start, "".join(f"{text}, " for text in texts)))

    def _add_to_flow(self, start: int, end: int, texts: list[str], *, stays: bool) -> None:
        """Add entries behind the last one, from `start` to `end`, which stays or is removed."""
        comma = _COMMA.match(self.source, end)
        comment = _COMMENT.match(self.source, comma.end() if comma is not None else end)
        if comment is not None and self._begins_line(start):
            if comma is None and stays:
                self.edits.append((end, end, ","))
            pad, at = " " * self._column(start), min(comment.end() + 1, len(self.source))
            lines = ",\n".join(pad + text for text in texts) + ("," if comma is not None else "") + "\n"
            self.edits.append((at, at, lines))
        elif not stays:
            raise _Unpatchable
        else:
            self.edits.append((end, end, "".join(f", {text}" for text in texts)))

    def _begins_line(self, start: int) -> bool:
        return not self.source[self._line_start(start) : start].strip(" ")

    def _flow_text(self, written: Written, new: Plain) -> str:
        """Return the text of a value inside a container in flow style, all in one line."""
        if same(written.value, new):
            return self.source[written.start : written.end]
        opened = written.style in ("{", "[") and self.source[written.start] == written.style and written.entries
        if opened and isinstance(new, dict) and isinstance(written.value, dict):
            return self._flow_map(written, new)
        if opened and isinstance(new, list) and isinstance(written.value, list):
            return self._flow_list(written, new)
        return _quoted_alike(written, new, _flow(new))

    def _flow_map(self, written: Written, new: dict[Any, Plain]) -> str:
        entries: list[tuple[Written, Written]] = written.entries or []
        kept = _kept_keys([key.value for key, _ in entries], list(new))
        pieces, seen = [], set()
        for number in kept:
            key, value = entries[number]
            seen.add(key.value)
            if same(value.value, new[key.value]):
                pieces.append(self.source[key.start : max(key.end, value.end)])
            else:
                colon = _COLON.match(self.source, key.end)
                between = self.source[key.end : value.start] if colon and value.start > colon.end() else ": "
                pieces.append(self.source[key.start : key.end] + between + self._flow_text(value, new[key.value]))
        pieces += [_flow({key: value})[1:-1] for key, value in new.items() if key not in seen]
        return self._in_brackets(written, pieces)

    def _flow_list(self, written: Written, new: list[Plain]) -> str:
        items: list[Written] = written.entries or []
        pieces: list[str] = []
        assert isinstance(written.value, list)
        for kind, first, last, new_first, new_last in _differences(written.value, new, whole=True):
            if kind == "equal":
                pieces += [self.source[item.start : item.end] for item in items[first:last]]
                continue
            both = min(last - first, new_last - new_first)
            pieces += [self._flow_text(items[first + n], new[new_first + n]) for n in range(both)]
            pieces += [_flow(value) for value in new[new_first + both : new_last]]
        return self._in_brackets(written, pieces)

    def _in_brackets(self, written: Written, pieces: list[str]) -> str:
        first = (written.entries or [])[0]
        begin = (first[0] if isinstance(first, tuple) else first).start
        inside = self.source[written.start + 1 : begin]
        close = self.source[written.end - 1]
        padding = inside if not inside.strip() else ""
        return self.source[written.start] + padding + ", ".join(pieces) + padding + close

    # --- Lines ------------------------------------------------------------------------------------------------------

    def _line_start(self, position: int) -> int:
        return self.source.rfind("\n", 0, position) + 1

    def _line_end(self, position: int) -> int:
        end = self.source.find("\n", position)
        return len(self.source) if end < 0 else end

    def _column(self, position: int) -> int:
        return position - self._line_start(position)


def _flow(value: Plain) -> str:
    """Return a value as one line in flow style, its text without quotes where it needs none."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = snapshot.dump([value]).decode()[2:-1]
    if isinstance(value, str) and not _PLAIN_IN_FLOW.fullmatch(text):
        return snapshot.flow([value]).decode()[1:-1]
    return text if "\n" not in text else snapshot.flow([value]).decode()[1:-1]


def _quoted_alike(written: Written, new: Plain, text: str) -> str:
    """Return the text of a scalar, in quotes if it was so before."""
    if not isinstance(new, str) or not new.isprintable():
        return text
    if written.style == '"':
        return snapshot.flow([new]).decode()[1:-1]
    return "'" + new.replace("'", "''") + "'" if written.style == "'" else text


def _kept_keys(old: list[Any], new: list[Any]) -> dict[int, None]:
    """Return the numbers of the `old` keys that stay where they are: the first ones of `new`, in their old order."""
    numbers = {key: number for number, key in enumerate(old)}
    kept: dict[int, None] = {}
    last = -1
    for key in new:
        number = numbers.get(key, -1)
        if number <= last or not same(old[number], key):
            break
        kept[number] = None
        last = number
    return kept


def _differences(old: list[Plain], new: list[Plain], *, whole: bool = False) -> list[tuple[str, int, int, int, int]]:
    """Return what leads from one list to the other, as difflib has it; without what is equal, or with all (`whole`)."""
    before, after = [repr(value) for value in old], [repr(value) for value in new]
    front = 0
    while front < min(len(before), len(after)) and before[front] == after[front]:
        front += 1
    back = 0
    while back < min(len(before), len(after)) - front and before[-1 - back] == after[-1 - back]:
        back += 1
    old_end, new_end = len(before) - back, len(after) - back
    middle: list[tuple[str, int, int, int, int]] = []
    if front < old_end and front < new_end:
        for kind, first, last, new_first, new_last in _opcodes(before[front:old_end], after[front:new_end]):
            where = (first + front, last + front, new_first + front, new_last + front)
            middle += _aligned(old, new, *where) if kind == "replace" else [(kind, *where)]
    elif front < old_end or front < new_end:
        middle = [("delete" if front < old_end else "insert", front, old_end, front, new_end)]
    if not whole:
        return [each for each in middle if each[0] != "equal"]
    return [("equal", 0, front, 0, front), *middle, ("equal", old_end, len(before), new_end, len(after))]


def _opcodes(before: list[str], after: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Return what difflib finds, in lists of which few items are alike: its time grows with all pairs that are."""
    there = Counter(after)
    if sum(there[each] for each in before) > _MOST_PAIRS:
        return [("replace", 0, len(before), 0, len(after))]
    return list(difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes())


def _aligned(
    old: list[Plain], new: list[Plain], first: int, last: int, new_first: int, new_last: int
) -> list[tuple[str, int, int, int, int]]:
    """Return which of the items that were replaced became which: the pairs that have most in common, in their order.

    One that a program removed shall not take along the comments of the one behind it, in which a value was changed.
    What stands between two such pairs, and has nothing in common, is paired in its order.
    """
    rows, columns = last - first, new_last - new_first
    if rows * columns > _MOST_PAIRS or (rows == columns == 1):
        return [("replace", first, last, new_first, new_last)]
    best = [[0] * (columns + 1) for _ in range(rows + 1)]  # of the items from there on
    for row in reversed(range(rows)):
        for column in reversed(range(columns)):
            common = _in_common(old[first + row], new[new_first + column])
            best[row][column] = max(
                common + best[row + 1][column + 1] if common else 0, best[row + 1][column], best[row][column + 1]
            )
    found = []
    row = column = gap_row = gap_column = 0
    while row < rows and column < columns:
        if best[row][column] == best[row + 1][column]:
            row += 1
        elif best[row][column] == best[row][column + 1]:
            column += 1
        else:
            found += _gap(first + gap_row, first + row, new_first + gap_column, new_first + column)
            found.append(("replace", first + row, first + row + 1, new_first + column, new_first + column + 1))
            row, column = row + 1, column + 1
            gap_row, gap_column = row, column
    return found + _gap(first + gap_row, last, new_first + gap_column, new_last)


def _gap(first: int, last: int, new_first: int, new_last: int) -> list[tuple[str, int, int, int, int]]:
    if first == last and new_first == new_last:
        return []
    kind = "insert" if first == last else "delete" if new_first == new_last else "replace"
    return [(kind, first, last, new_first, new_last)]


def _in_common(old: Plain, new: Plain) -> int:
    """Return how much two containers of one kind share; the first entry of a mapping, often its name, counts most."""
    if isinstance(old, dict) and isinstance(new, dict):
        first = next(iter(old), None)
        return sum(3 if key == first else 1 for key, value in old.items() if key in new and same(value, new[key]))
    if isinstance(old, list) and isinstance(new, list):
        return len({repr(value) for value in old} & {repr(value) for value in new})
    return 0


def _step_of(root: Written, column: Any) -> int:
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
