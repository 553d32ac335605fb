"""The subcommand `edit`: a state in somebody's editor, while programs go on changing it.

The user edits a copy; the state is neither locked nor open meanwhile. When the editor is done, three states are merged
(see `merging`): the one that was shown, what the user made of it, what programs have made of it since. The result is
written in one step. Comments and layout are the user's; the changes of programs are patched into that text.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, NamedTuple

from mmapstate.command import opening
from mmapstate.command.draft import Draft, ask_to_edit_again
from mmapstate.command.key_paths import written
from mmapstate.command.merging import MISSING, Conflict, merge
from mmapstate.command.outcome import WARNING, WELL, Failure
from mmapstate.errors import StateError, StateFileError
from mmapstate.file import content, system
from mmapstate.live.state import rewrite_document
from mmapstate.text import patch, snapshot, writer
from mmapstate.text.reader import Suspect
from mmapstate.text.source import Written, line_end_of, split_bom
from mmapstate.values import Plain, same

_MARK = "# mmapstate:"
_ADVICE = f"{_MARK} programs changed this, too: keep what is right, remove these lines"


def edit(options: Any) -> int:
    """Have a state edited."""
    path = str(system.real_path(options.file))
    text, state = opening.read_text(path)
    shown = _Shown(_laid_over(text, state, path), state)
    if not os.access(path, os.W_OK):
        raise Failure(f"{options.file}: you may read it, but not write it; nothing was changed")
    name, kind = os.path.basename(path), ".json" if snapshot.is_json(shown.text, path) else ".yaml"
    draft = Draft(name if name.endswith(kind) else name + kind, shown.text)
    try:
        changed = _edited(options.file, path, shown, draft)
    except BaseException:
        draft.keep()
        raise
    draft.remove()
    print(f"{options.file}: {'changed' if changed else 'nothing was changed'}")
    return WELL


class _Shown(NamedTuple):
    """A state as text, and what that text holds."""

    text: bytes
    state: dict[Any, Plain]


def _laid_over(text: bytes, state: dict[Any, Plain], path: str) -> bytes:
    """Return `text` changed to hold `state`: comments and layout stay where that can be."""
    try:
        return content.patched(text, state, path)
    except patch.CannotPatch:
        as_json = snapshot.is_json(text, path)
        return snapshot.dump(state, path, as_json=as_json, line_end=line_end_of(text))


# ---------------------------------------------------------------- from the editor to the state


def _edited(file: str, path: str, base: _Shown, draft: Draft) -> bool:
    """Run the editor until its text can be written, and write it; return False if that changes nothing."""
    decided: set[tuple[Any, ...]] = set()
    marks: set[bytes] = set()
    while True:
        text = _with_line_ends_of(base.text, draft.edited())
        if text == base.text:
            return False
        if not marks.isdisjoint(line.strip() for line in text.splitlines()):  # first, as JSON has no comments
            ask_to_edit_again(f"there are lines left that begin with '{_MARK}': choose a value, and remove them")
            continue
        if not text.strip():  # as a failing editor leaves it
            ask_to_edit_again("what you edited is not a state: it is empty; to remove all there is, write {}")
            continue
        try:
            mine = _checked(text, path, base.text)
        except StateFileError as error:
            where = "".join(f", {name} {at}" for name, at in (("line", error.line), ("column", error.column)) if at)
            ask_to_edit_again(f"what you edited is not a state{where}: {error.problem or error}")
            continue
        if not os.path.exists(path):
            raise Failure(f"{file}: was removed meanwhile; nothing was changed")
        try:
            return _write(path, _Edit(path, base, _Shown(text, mine), decided))
        except _InConflict as found:
            base, merged, conflicts = found.args
            places = ", ".join(written(conflict.path) for conflict in conflicts)
            print(f"mmapstate: programs have changed what you have changed, too: {places}", file=sys.stderr)
            decided |= {conflict.path for conflict in conflicts}
            marks = {line.encode() for conflict in conflicts for line in _marks(conflict)}
            draft.offer(_marked(merged, conflicts, as_json=snapshot.is_json(merged.text, path)))


def _with_line_ends_of(before: bytes, text: bytes) -> bytes:
    """Return `text` with the line ends from `before`, where the editor has changed them all: nobody meant that."""
    had, has = (part.count(b"\r\n") == part.count(b"\n") for part in (before, text))
    if has and b"\r" not in before:
        return text.replace(b"\r\n", b"\n")
    if had and b"\r" not in text:
        return text.replace(b"\n", b"\r\n")
    return text


def _checked(text: bytes, path: str, before: bytes) -> dict[Any, Plain]:
    """Return the state in a text, which follows the rules for an edit by hand; else raise `StateFileError`."""
    words: list[Suspect] = []
    state = content.read_alone(text, path, words)
    lines, known = text.splitlines(), set(before.splitlines())
    for word in words:
        if lines[word.line - 1] not in known:
            told = f"line {word.line}: {word.text} is text, not a boolean: that would be true or false"
            print(f"{WARNING}{told}", file=sys.stderr)
    return state


class _InConflict(Exception):
    """Both sides have changed the same keys: the newest state, the merged one, as it in those, and the conflicts."""


class _Unchanged(Exception):
    """There is nothing to write: programs have made the same change, or the user has kept theirs."""


class _Edit:
    """What the user made of a state, to be merged with what it is by now."""

    def __init__(self, path: str, base: _Shown, mine: _Shown, decided: set[tuple[Any, ...]]) -> None:
        self.path, self.base, self.mine, self.decided = path, base, mine, decided
        self.values_alone = mine.text == _laid_over(base.text, mine.state, path)

    def merged(self, text: bytes, state: dict[Any, Plain]) -> _Shown:
        """Return it merged with the present text and state; raise `_InConflict` or `_Unchanged`."""
        newest = _Shown(_laid_over(text, state, self.path), state)
        merged, conflicts = merge(self.base.state, state, self.mine.state, self.decided)
        # If the user has changed no comments, keep those that others have changed meanwhile.
        result = _Shown(_laid_over(newest.text if self.values_alone else self.mine.text, merged, self.path), merged)
        if conflicts:
            raise _InConflict(newest, result, conflicts)
        if result.text == newest.text:
            raise _Unchanged
        return result


def _write(path: str, edited: _Edit) -> bool:
    """Write an edit in one step; return False if there is nothing to write."""
    with suppress(_Unchanged), opening.opened(path, power=True) as state:
        if not rewrite_document(state, lambda text, before: edited.merged(text, before).text):
            _write_values(state, edited)
        return True
    return False


def _write_values(state: Any, edited: _Edit) -> None:
    """Write only the values, as one record: for a file that the system does not let us replace."""
    with state.transaction():
        before = state.copy()
        merged = edited.merged(edited.base.text, before).state
        for key in [key for key in before if key not in merged]:
            del state[key]
        for key, value in merged.items():
            if key not in before or not same(value, before[key]):
                state[key] = value
    if not edited.values_alone:
        raise Failure(f"{edited.path}: the system refuses to replace it: values alone are changed, not comments")


# ---------------------------------------------------------------- conflicts, told in the text


def _marks(conflict: Conflict) -> list[str]:
    """Return the comments that show both values of a conflict."""
    *around, key = conflict.path
    place = [f"{_MARK} in {written(around)}"] if around else []
    return [_ADVICE, *place, _told("theirs", key, conflict.theirs), _told("yours", key, conflict.mine)]


def _told(whose: str, key: Any, value: Any) -> str:
    told = "removed" if value is MISSING else writer.dump({key: value}).decode().rstrip("\n")
    if "\n" in told:
        told = writer.flow([{key: value}]).decode()[2:-2]
    return f"{_MARK} {whose + ':':8}{told}"


def _marked(merged: _Shown, conflicts: list[Conflict], *, as_json: bool) -> bytes:
    """Return the merged text with comments above each key in conflict; at the top where they cannot stand there.

    Into JSON they go as well: they are to be removed before it is read.
    """
    bom, utf8 = split_bom(merged.text)
    text = utf8.decode()
    end = line_end_of(merged.text).decode()
    root = snapshot.compose(merged.text, as_json=as_json)
    top = ""
    placed = ((_start_of(root, conflict.path), _marks(conflict)) for conflict in conflicts)
    for at, marks in sorted(placed, reverse=True):  # bottom up, so that the positions above stay valid
        start = text.rfind("\n", 0, at) + 1
        indent = " " * (len(text[start:]) - len(text[start:].lstrip(" ")))
        marked = text[:start] + "".join(f"{indent}{mark}{end}" for mark in marks) + text[start:]
        if as_json or _holds(marked, merged.state):
            text = marked
        else:  # inside a text of several lines
            top = "".join(mark + end for mark in marks) + top
    return bom + (top + text).encode()


def _holds(text: str, state: dict[Any, Plain]) -> bool:
    try:
        return same(content.read_alone(text.encode(), ""), state)
    except StateError:
        return False


def _start_of(written: Written | None, path: tuple[Any, ...]) -> int:
    """Return where the key at `path` stands in a text, or the last one on the way to it that is there."""
    start = 0
    for key in path:
        found = next((entry for entry in (written.entries or () if written else ()) if entry[0].value == key), None)
        if found is None:
            break
        start, written = found[0].start, found[1]
    return start
