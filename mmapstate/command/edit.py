"""The subcommand `edit`: a state in somebody's editor, while programs go on changing it.

What is edited is a copy, in a private file. The state is not locked, nor open, meanwhile. When the editor is done the
copy is compared with what it was, and with what programs have made of the state since (see `merging`): what comes of
all three is written as one step. The text is the user's own, comments and layout included; what programs changed is put
into it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from mmapstate.command.access import naming
from mmapstate.command.key_paths import written
from mmapstate.command.merging import MISSING, Conflict, merge
from mmapstate.command.outcome import WARNING, WELL, Failure
from mmapstate.errors import StateError, StateFileError
from mmapstate.file import content, reading, system
from mmapstate.live.state import open_state
from mmapstate.logger import warnings_shown
from mmapstate.text import patch, snapshot, writer
from mmapstate.text.reader import Suspect
from mmapstate.text.source import Written, line_end_of, split_bom
from mmapstate.values import Plain, same

__all__ = ["edit"]

_MARK = "# mmapstate:"
_ADVICE = f"{_MARK} programs changed this, too: keep what is right, remove these lines"


def edit(options: Any) -> int:
    """Have a state edited."""
    path = str(system.real_path(options.file))
    shown = _Shown.now(path)
    if not os.access(path, os.W_OK):
        raise Failure(f"{options.file}: you may read it, and not write it; nothing to edit")
    draft = _Draft(path, shown.text)
    try:
        changed = _edited(options.file, path, shown, draft)
    except BaseException:
        draft.end(shown.text)
        raise
    draft.remove()
    print(f"{options.file}: {'changed' if changed else 'nothing was changed'}")
    return WELL


class _Shown(NamedTuple):
    """A state as its user was shown it: the text, and what it holds."""

    text: bytes
    state: dict[Any, Plain]

    @classmethod
    def now(cls, path: str) -> _Shown:
        """Read the state at `path`, as a vacuum would write it: without a lock, and nothing is written."""
        text, state = reading.read_text(path)
        return cls(_laid_over(text, state, path), state)


def _laid_over(text: bytes, state: dict[Any, Plain], path: str) -> bytes:
    """Return `text` changed to hold `state`: comments and layout stay where that can be."""
    try:
        return content.patched(text, state, path)
    except patch.CannotPatch:
        as_json = snapshot.is_json(text, path)
        return snapshot.dump(state, path, as_json=as_json, line_end=line_end_of(text))


# ---------------------------------------------------------------- the editor


class _Draft:
    """The file that the editor has: nobody else may read it, as states hold tokens, nor copies that editors keep."""

    def __init__(self, path: str, text: bytes) -> None:
        self.folder = tempfile.mkdtemp(prefix="mmapstate-")
        name = os.path.basename(path)
        kind = ".json" if snapshot.is_json(text, path) else ".yaml"
        self.name = os.path.join(self.folder, name if name.endswith(kind) else name + kind)
        os.close(os.open(self.name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self.offer(text)

    def offer(self, text: bytes) -> None:
        """Have the next editor begin with this text."""
        Path(self.name).write_bytes(text)

    def edited(self) -> bytes:
        """Run the editor; return the text when it has ended well."""
        variable = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name, "").strip()), "")
        try:
            command = system.split_command(os.environ[variable]) if variable else [system.default_editor()]
        except ValueError as error:
            raise Failure(f"${variable} is no command: {error}; nothing was changed") from None
        told = f"the editor, {command[0]}{f' (of ${variable})' if variable else ''},"
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the editor's, which does not inherit this
        try:
            code = subprocess.run([*command, self.name], check=False).returncode
        except OSError as error:
            raise Failure(
                f"{told} cannot be run: {error.strerror}; set VISUAL or EDITOR; nothing was changed"
            ) from None
        finally:
            signal.signal(signal.SIGINT, before)
        if code:
            ended = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
            raise Failure(f"{told} {ended}; nothing was changed")
        return self.read()

    def read(self) -> bytes:
        """Return the text as it is now."""
        try:
            return Path(self.name).read_bytes()
        except FileNotFoundError:
            raise Failure("the editor has removed the file that it was given; nothing was changed") from None

    def end(self, first: bytes) -> None:
        """Remove it, unless there is what somebody typed: that is kept, and its name told."""
        if not os.path.isdir(self.folder):
            return  # removed, with all that is in it, under the editor
        left = os.listdir(self.folder)
        if os.path.basename(self.name) in left and self.read() != first:
            print(f"mmapstate: what you edited is kept in {self.name}", file=sys.stderr)
        elif {*left} - {os.path.basename(self.name)}:  # of an editor that was killed: what was typed
            print(f"mmapstate: what the editor has left is kept in {self.folder}", file=sys.stderr)
        else:
            self.remove()

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder)


def _ask(told: str) -> None:
    """Tell what is wrong, and ask whether to edit again; raise `Failure` if not, or if nobody answers.

    The answer is a line of stdin, which need be no terminal: a script can give it, too.
    """
    print(f"mmapstate: {told}", file=sys.stderr)
    while True:
        print("[e]dit again, or [q]uit? ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            print(file=sys.stderr)
        if answer.strip().lower() in ("e", "edit"):
            return
        if not answer or answer.strip().lower() in ("q", "quit"):
            raise Failure("nothing was changed")


# ---------------------------------------------------------------- from the editor to the state


class _InConflict(Exception):
    """Both sides have changed something, each to something else."""

    def __init__(self, newest: _Shown, conflicts: list[Conflict], merged: _Shown, *, as_json: bool) -> None:
        super().__init__()
        self.newest = newest
        self.conflicts = conflicts
        self.marks = [_marks(conflict) for conflict in conflicts]
        self.offered = merged.text
        root = snapshot.compose(merged.text, as_json=as_json)
        placed = [(_start_of(root, each.path), each, marks) for each, marks in zip(conflicts, self.marks, strict=True)]
        for _, conflict, marks in sorted(placed, key=lambda each: each[0], reverse=True):  # the others stay in place
            self.offered = _with_lines(self.offered, merged, conflict.path, marks, as_json=as_json)


class _Unchanged(Exception):
    """Programs have done meanwhile what somebody wanted, or nothing else than theirs was kept."""


def _edited(file: str, path: str, base: _Shown, draft: _Draft) -> bool:
    """Run the editor until what it gives can be written, and write it; return False if nothing is changed by it."""
    decided: set[tuple[Any, ...]] = set()
    marks: set[bytes] = set()
    while True:
        text = _with_line_ends_of(base.text, draft.edited())
        if text == base.text:
            return False
        if not marks.isdisjoint(line.strip() for line in text.splitlines()):  # first: there is no such line in JSON
            _ask(f"there are lines left that begin with '{_MARK}': choose a value, and remove them")
            continue
        try:
            mine = _checked(text, file, path, base.text)
        except StateFileError as error:
            where = "".join(f", {name} {at}" for name, at in (("line", error.line), ("column", error.column)) if at)
            _ask(f"what you edited is no state{where}: {error.problem or error}")
            continue
        if not os.path.exists(path):
            raise Failure(f"{file}: was removed meanwhile; nothing was changed")
        try:
            _write(path, _Edit(path, base, _Shown(text, mine), decided))
            return True
        except _Unchanged:
            return False
        except _InConflict as found:
            places = ", ".join(written(conflict.path) for conflict in found.conflicts)
            print(f"mmapstate: programs have changed what you have changed, too: {places}", file=sys.stderr)
            decided |= {conflict.path for conflict in found.conflicts}
            base = found.newest
            marks = {line.encode() for lines in found.marks for line in lines}
            draft.offer(found.offered)


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
    words: list[Suspect] = []
    state = content.read_alone(text, path, words)
    lines, known = text.splitlines(), set(before.splitlines())
    for word in words:
        if lines[word.line - 1] not in known:
            told = f"line {word.line}: {word.text} is text, not a boolean: that would be true or false"
            print(f"{WARNING}{told}", file=sys.stderr)
    return state


class _Edit:
    """What somebody made of a state, to be merged with what it is by now."""

    def __init__(self, path: str, base: _Shown, mine: _Shown, decided: set[tuple[Any, ...]]) -> None:
        self.path, self.base, self.mine, self.decided = path, base, mine, decided
        self.values_alone = mine.text == _laid_over(base.text, mine.state, path)

    def merged(self, text: bytes, state: dict[Any, Plain]) -> _Shown:
        """Return what comes of it, when the present snapshot and state are these; raise `_InConflict`."""
        newest = _Shown(_laid_over(text, state, self.path), state)
        merged, conflicts = merge(self.base.state, state, self.mine.state, self.decided)
        # Where the user has changed no comments, those that others have changed meanwhile are to stay.
        result = _laid_over(newest.text if self.values_alone else self.mine.text, merged, self.path)
        if conflicts:
            raise _InConflict(newest, conflicts, _Shown(result, merged), as_json=snapshot.is_json(result, self.path))
        if result == newest.text:
            raise _Unchanged
        return _Shown(result, merged)


def _write(path: str, edited: _Edit) -> None:
    """Put an edit into the file, as one step."""
    with naming(path), warnings_shown(WARNING), open_state(path, durability="power") as state:
        store: Any = state._store

        def text_of(text: bytes, before: dict[Any, Plain]) -> bytes:
            return edited.merged(text, before).text

        if not store.rewrite(text_of):
            _commit(state, edited)


def _commit(state: Any, edited: _Edit) -> None:
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
        raise Failure(f"{state._path_text}: the system refuses to replace it: values alone are changed, not comments")


def _marks(conflict: Conflict) -> list[str]:
    """Return the comments that tell both values of a conflict."""
    *around, key = conflict.path
    place = [f"{_MARK} in {written(around)}"] if around else []
    return [_ADVICE, *place, _told("theirs", key, conflict.theirs), _told("yours", key, conflict.mine)]


def _told(whose: str, key: Any, value: Any) -> str:
    told = "removed" if value is MISSING else writer.dump({key: value}).decode().rstrip("\n")
    if "\n" in told:
        told = writer.flow([{key: value}]).decode()[2:-2]
    return f"{_MARK} {whose + ':':8}{told}"


def _with_lines(text: bytes, merged: _Shown, path: tuple[Any, ...], lines: list[str], *, as_json: bool) -> bytes:
    """Return `text`, which holds what is merged, with comments above a key; above all where there is no room for them.

    In JSON there is room above each line, though not for long: they are to be removed.
    """
    bom, utf8 = split_bom(text)
    source = utf8.decode()
    end = line_end_of(text).decode()
    root = snapshot.compose(merged.text if as_json else text, as_json=as_json)
    start = source.rfind("\n", 0, _start_of(root, path)) + 1
    indent = source[start:][: len(source[start:]) - len(source[start:].lstrip(" "))]
    for at, before in ((start, indent), (0, "")):
        put = "".join(before + line + end for line in lines)
        result = bom + (source[:at] + put + source[at:]).encode()
        try:
            if as_json or same(content.read_alone(result, ""), merged.state):
                return result
        except StateError:
            pass  # inside of a text of several lines
    raise AssertionError("not reached: comments can stand above all")


def _start_of(written: Written | None, path: tuple[Any, ...]) -> int:
    """Return where the key at `path` stands in a text, or the last one on the way to it that is there."""
    start = 0
    for key in path:
        found = next((entry for entry in (written.entries or () if written else ()) if entry[0].value == key), None)
        if found is None:
            break
        start, written = found[0].start, found[1]
    return start
