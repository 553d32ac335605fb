"""The subcommand `edit`: a state in somebody's editor, while programs go on changing it.

What is edited is a copy, in a private file. The state is not locked, nor open, meanwhile. When the editor is done the
copy is compared with what it was, and with what programs have made of the state since (see `merging`): what comes of
all three is written as one step. The text is the user's own, comments and layout included; what programs changed is put
into it.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

from mmapstate.command import opening
from mmapstate.command.draft import Draft, ask_to_edit_again
from mmapstate.command.key_paths import written
from mmapstate.command.merging import MISSING, Conflict, merge
from mmapstate.command.outcome import WARNING, WELL, Failure
from mmapstate.errors import StateError, StateFileError
from mmapstate.file import content, system
from mmapstate.text import json_text, patch, snapshot
from mmapstate.text.snapshot import Written
from mmapstate.values import Plain, same

_MARK = "# mmapstate:"
_ADVICE = f"{_MARK} programs changed this, too: keep what is right, remove these lines"


def edit(options: Any) -> int:
    """Have a state edited."""
    path = str(system.real_path(options.file))
    shown = _Shown.now(path)
    if not os.access(path, os.W_OK):
        raise Failure(f"{options.file}: you may read it, and not write it; nothing to edit")
    name, kind = os.path.basename(path), ".json" if content.is_json(shown.text, path) else ".yaml"
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
    """A state as its user is shown it: the text, and what it holds."""

    text: bytes
    state: dict[Any, Plain]

    @classmethod
    def now(cls, path: str) -> _Shown:
        """Read the state at `path`, as a vacuum would write it: without a lock, and nothing is written."""
        text, state = opening.read_text(path)
        return cls(_laid_over(text, state, path), state)


def _laid_over(text: bytes, state: dict[Any, Plain], path: str) -> bytes:
    """Return `text` changed to hold `state`: comments and layout stay where that can be."""
    try:
        return content.patched(text, state, path)
    except patch.CannotPatch:
        as_json = content.is_json(text, path)
        return content.dump(state, path, as_json=as_json, line_end=snapshot.line_end_of(text))


# ---------------------------------------------------------------- from the editor to the state


def _edited(file: str, path: str, base: _Shown, draft: Draft) -> bool:
    """Run the editor until what it gives can be written, and write it; return False if nothing is changed by it."""
    decided: set[tuple[Any, ...]] = set()
    marks: set[bytes] = set()
    while True:
        text = _with_line_ends_of(base.text, draft.edited())
        if text == base.text:
            return False
        if not marks.isdisjoint(line.strip() for line in text.splitlines()):  # first: there is no such line in JSON
            ask_to_edit_again(f"there are lines left that begin with '{_MARK}': choose a value, and remove them")
            continue
        try:
            mine = _checked(text, file, path, base.text)
        except StateFileError as error:
            where = "".join(f", {name} {at}" for name, at in (("line", error.line), ("column", error.column)) if at)
            ask_to_edit_again(f"what you edited is no state{where}: {error.problem or error}")
            continue
        if not os.path.exists(path):
            raise Failure(f"{file}: was removed meanwhile; nothing was changed")
        try:
            return _write(path, _Edit(path, base, _Shown(text, mine), decided))
        except _InConflict as found:
            places = ", ".join(written(conflict.path) for conflict in found.conflicts)
            print(f"mmapstate: programs have changed what you have changed, too: {places}", file=sys.stderr)
            decided |= {conflict.path for conflict in found.conflicts}
            base = found.newest
            marks = {line.encode() for conflict in found.conflicts for line in _marks(conflict)}
            draft.offer(_marked(found.merged, found.conflicts, as_json=content.is_json(found.merged.text, path)))


def _with_line_ends_of(before: bytes, text: bytes) -> bytes:
    """Return `text` with the line ends that it had `before`, where an editor has changed all: none was meant."""
    had, has = (part.count(b"\r\n") == part.count(b"\n") for part in (before, text))
    if has and b"\r" not in before:
        return text.replace(b"\r\n", b"\n")
    if had and b"\r" not in text:
        return text.replace(b"\n", b"\r\n")
    return text


def _checked(text: bytes, file: str, path: str, before: bytes) -> dict[Any, Plain]:
    """Return the state in a text; raise `StateFileError` where it is none, by the rules for an edit by hand."""
    if not text.strip():  # as a failing editor leaves it
        error = StateFileError(f"{file}: the text is empty")
        error.problem = "it is empty; to remove all there is, write {}"
        raise error
    words: list[snapshot.Suspect] = []
    state = content.read_alone(text, path, words)
    lines, known = text.splitlines(), set(before.splitlines())
    for word in words:
        if lines[word.line - 1] not in known:
            told = f"line {word.line}: {word.text} is text, not a boolean: that would be true or false"
            print(f"{WARNING}{told}", file=sys.stderr)
    return state


class _InConflict(Exception):
    """Both sides have changed something, each to something else; there, `merged` is as the `newest`."""

    def __init__(self, newest: _Shown, merged: _Shown, conflicts: list[Conflict]) -> None:
        super().__init__()
        self.newest, self.merged, self.conflicts = newest, merged, conflicts


class _Unchanged(Exception):
    """Programs have done meanwhile what somebody wanted, or nothing else than theirs was kept."""


class _Edit:
    """What somebody made of a state, to be merged with what it is by now."""

    def __init__(self, path: str, base: _Shown, mine: _Shown, decided: set[tuple[Any, ...]]) -> None:
        self.path, self.base, self.mine, self.decided = path, base, mine, decided
        self.values_alone = mine.text == _laid_over(base.text, mine.state, path)

    def merged(self, text: bytes, state: dict[Any, Plain]) -> _Shown:
        """Return what comes of it with the text and the state of now; raise `_InConflict` or `_Unchanged`."""
        newest = _Shown(_laid_over(text, state, self.path), state)
        merged, conflicts = merge(self.base.state, state, self.mine.state, self.decided)
        # Where the user has changed no comments, those that others have changed meanwhile are to stay.
        result = _Shown(_laid_over(newest.text if self.values_alone else self.mine.text, merged, self.path), merged)
        if conflicts:
            raise _InConflict(newest, result, conflicts)
        if result.text == newest.text:
            raise _Unchanged
        return result


def _write(path: str, edited: _Edit) -> bool:
    """Put an edit into the state, as one step; return False if nothing is changed by it."""
    try:
        with opening.opened(path, power=True) as state:
            store: Any = state._store
            if not store.rewrite(lambda text, before: edited.merged(text, before).text):
                _write_values(state, edited)
    except _Unchanged:
        return False
    return True


def _write_values(state: Any, edited: _Edit) -> None:
    """Write the values alone, as one record: where the system does not let the file be replaced."""
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
    """Return the comments that tell both values of a conflict."""
    *around, key = conflict.path
    place = [f"{_MARK} in {written(around)}"] if around else []
    return [_ADVICE, *place, _told("theirs", key, conflict.theirs), _told("yours", key, conflict.mine)]


def _told(whose: str, key: Any, value: Any) -> str:
    told = "removed" if value is MISSING else snapshot.dump({key: value}).decode().rstrip("\n")
    if "\n" in told:
        told = snapshot.flow([{key: value}]).decode()[2:-2]
    return f"{_MARK} {whose + ':':8}{told}"


def _marked(merged: _Shown, conflicts: list[Conflict], *, as_json: bool) -> bytes:
    """Return the merged text with comments above each key in conflict, or where that cannot be, above all.

    In JSON there is room above each line, though not for long: they are to be removed.
    """
    text = merged.text.decode("utf-8-sig")
    bom = merged.text[: len(merged.text) - len(text.encode())]
    end = snapshot.line_end_of(merged.text).decode()
    root = json_text.compose(text) if as_json else snapshot.compose(text)
    top = ""
    placed = ((_start_of(root, conflict.path), _marks(conflict)) for conflict in conflicts)
    for at, marks in sorted(placed, reverse=True):  # from below, so that those above stay in place
        start = text.rfind("\n", 0, at) + 1
        indent = " " * (len(text[start:]) - len(text[start:].lstrip(" ")))
        marked = text[:start] + "".join(f"{indent}{mark}{end}" for mark in marks) + text[start:]
        if as_json or _holds(marked, merged.state):
            text = marked
        else:  # inside of a text of several lines
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
