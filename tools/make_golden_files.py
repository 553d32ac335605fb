"""Make the state files of format 1 that the tests read: one of each kind that this library leaves, whole or killed.

Run from the top of the repository: ``python tools/make_golden_files.py``.

Each file in ``tests/data/format1/`` has beside it, as YAML, the state that it holds. They are never changed: what is
read from them today is to be read from them for ever. A file that is there already is compared, not written, and the
exit status is 1 where this library would write another one today. Where that is meant to be so, the file stays, its
case here gets another name, and its own name goes to ``KEPT``.

The bytes are the library's own. What would be random or large is not: names of journals are counted, regions small.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any
from unittest import mock

import yaml

import mmapstate
from mmapstate.file import images, mapped, recovery, writer
from mmapstate.file.format import MARKER_START

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "format1"
ROOM = 600  # bytes for changes, so that none of these regions grows unless it is to

KEPT = (
    "rest-values.state",
    "rest-values.yaml",
    "rest-by-hand.state",
    "rest-by-hand.yaml",
)  # files that an earlier version wrote, and this one does not

CASES: dict[str, Callable[[], tuple[bytes, Any]]] = {}


def case(make: Callable[[], tuple[bytes, Any]]) -> Callable[[], tuple[bytes, Any]]:
    CASES[make.__name__.replace("_", "-")] = make
    return make


class Killed(BaseException):
    """A process that is killed: nothing that comes after it happens to the file."""


class Program:
    """A program that opens a file with the bytes `before`, and runs until it is left."""

    def __init__(self, before: bytes | None = None, room: int = ROOM, **defaults: Any) -> None:
        self.before = before
        self.room = room
        self.defaults = defaults

    def __enter__(self) -> Program:
        with contextlib.ExitStack() as undo:
            self.path = os.path.join(undo.enter_context(tempfile.TemporaryDirectory()), "a.state")
            if self.before is not None:
                pathlib.Path(self.path).write_bytes(self.before)
                os.utime(self.path, (1, 1))  # not just edited
            names = itertools.count(1)
            undo.enter_context(mock.patch.object(images, "new_generation", side_effect=names))
            undo.enter_context(mock.patch.object(images, "region_size", self._region_size))
            self.state: Any = mmapstate.open(self.path, self.defaults)
            undo.callback(self.state.close)
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    def _region_size(self, snapshot: int, before: int, need: int) -> int:
        del snapshot, before
        return max(self.room, need + 48)

    @property
    def content(self) -> bytes:
        return pathlib.Path(self.path).read_bytes()

    def now(self) -> tuple[bytes, Any]:
        """Return the file as it is, and the state."""
        return self.content, self.state.plain()

    def rested(self) -> tuple[bytes, Any]:
        """Return the file when the program has ended, and the state."""
        self.state.close()
        return self.now()

    def killed(self, stores: int, change: Callable[[], object], *, torn: bool = False) -> bytes:
        """Return the file when so many stores of a `change` were done, or of the last one of them a half."""

        def check_size(file: mapped.MappedFile, real: Any = mapped.MappedFile.check_size) -> None:
            real(file)
            if file.bytes is not None:  # else it is the region that is appended
                file.bytes = Dying(file.bytes, stores, torn)

        with mock.patch.object(mapped.MappedFile, "check_size", check_size), contextlib.suppress(Killed):
            change()
        file = self.state._tree.backend.replica.file
        if isinstance(file.bytes, Dying):
            file.bytes = file.bytes.real
        return self.content


class Dying:
    """A map in which so many stores are done."""

    def __init__(self, real: Any, stores: int, torn: bool) -> None:
        self.real, self.stores, self.torn = real, stores, torn

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.stores == 0:
            raise Killed
        self.stores -= 1
        half = len(value) // 2 if self.torn else 0
        self.real[slice(key.start + half, key.stop) if half else key] = value[half:] if half else value
        if self.stores == 0:
            raise Killed


VALUES: dict[Any, Any] = {
    "nothing": None,
    "truth": [True, False],
    "whole": [0, -1, 2**63, -(10**30)],
    "broken": [0.0, -1.5, 1e16, 1e-7, 1.7976931348623157e308],
    "limits": [float("inf"), float("-inf"), float("nan")],
    "text": ["", " ", "a: b", "- a", "#", "yes", "012", "12:30", "1e5", "~", "2001-02-03", "'\"\\", "tab\there"],
    "lines": ["two\nlines\n", "\nfirst\n\n\nlast", "a\r\nb", "trailing \n"],
    "letters": ["é", "日本語", "\U0001f419", "\u0085\u2028\u2029\ufeff", "\x7f\x9f", "e\u0301"],
    "bytes": [b"", b"\x00\xff" * 30],
    "days": [date(2001, 2, 3), datetime(2001, 2, 3, 4, 5, 6), datetime(2001, 2, 3, 4, 5, 6, 789)],
    "zones": [datetime(2001, 2, 3, tzinfo=timezone.utc), datetime(2001, 2, 3, tzinfo=timezone(timedelta(hours=-5)))],
    "containers": [[], {}, [[]], [{}], {"a": []}, {"a": {"b": {"c": [1, [2, [3]]]}}}],
    "keys": {"": 1, " ": 2, "a b": 3, "é": 4, "yes": 5, "#": 6, "k" * 200: 7},
}
ODD_KEYS: dict[Any, Any] = {1: "a", -1: "b", 1.5: "c", None: "d", False: "e", date(2001, 2, 3): "f", b"x": "g"}

BY_HAND = b"""\
# Settings of the mill. Ask the miller first!
speed: 0x28         # turns per minute

counter:   41       # sacks, ground so far
grain: [rye, oats]  # what is there
hosts:
    mill:  {port: 80}
"""


# --- At rest --------------------------------------------------------------------------------------------------------


@case
def rest() -> tuple[bytes, Any]:
    with Program(last_id=1, hosts={"mill": {"port": 80}}, queue=["a", "b"]) as program:
        return program.rested()


@case
def rest_new() -> tuple[bytes, Any]:
    with Program() as program:
        return program.rested()


@case
def rest_emptied() -> tuple[bytes, Any]:
    with Program(a=1) as program:
        program.state.clear()
        return program.rested()


@case
def rest_values_and_letters_as_they_are() -> tuple[bytes, Any]:
    with Program(**VALUES) as program:
        program.state["odd keys"] = ODD_KEYS
        return program.rested()


@case
def rest_by_hand_as_siblings() -> tuple[bytes, Any]:
    with Program(BY_HAND) as program:
        program.state["counter"] += 1
        program.state["hosts"]["barn"] = {"port": 81}
        return program.rested()


@case
def rest_by_hand_windows() -> tuple[bytes, Any]:
    with Program(b"\xef\xbb\xbf" + BY_HAND.replace(b"\n", b"\r\n")) as program:
        program.state["counter"] += 1
        return program.rested()


@case
def rest_bare_last_line() -> tuple[bytes, Any]:
    with Program(b"a: 1\nb: 2") as program:
        program.state["a"] = 3
        return program.rested()


@case
def rest_empty_by_hand() -> tuple[bytes, Any]:
    with Program(b"# nothing yet\n\n{}\n") as program:
        return program.rested()


@case
def rest_typed_by_hand() -> tuple[bytes, Any]:
    text = b"""\
%YAML 1.1
---
words: [yes, No, on, OFF, y, true, False, null, ~, ]
numbers: [0x1F, 0b11, 012, 1_000, +1, 12:30, 1e5, 1.0e+5, .5, .inf, -.INF, .NaN]
days: [2001-02-03, 2001-02-03 04:05:06 +01:00, 2001-02-03T04:05:06.7Z]
? a key
: "\\u00e9\\x41\\
  b"
folded: >-
  two
  lines

kept: |+
  one

tagged: [!!str 1, !!int "2", !!binary eA==]
...
"""
    state = {
        "words": ["yes", "No", "on", "OFF", "y", True, False, None, None],
        "numbers": [31, 3, 12, 1000, 1, "12:30", 1e5, 1e5, 0.5, float("inf"), float("-inf"), float("nan")],
        "days": [
            date(2001, 2, 3),
            datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1))),
            datetime(2001, 2, 3, 4, 5, 6, 700_000, tzinfo=timezone.utc),
        ],
        "a key": "\u00e9Ab",
        "folded": "two lines",
        "kept": "one\n\n",
        "tagged": ["1", 2, b"x"],
    }
    return text, state


# --- With a journal -------------------------------------------------------------------------------------------------


@case
def journal_set() -> tuple[bytes, Any]:
    with Program(b"a: 1\nd: {x: 1}\nq: [1, {y: 1}]\n") as program:
        program.state["a"] = 2
        program.state["d"]["x"] = "new"
        program.state["q"][1]["y"] = [1]
        program.state["q"][0] = {}
        program.state.increment("n")
        return program.now()


@case
def journal_delete() -> tuple[bytes, Any]:
    with Program(b"a: 1\nb: 2\nd: {x: 1, y: 2}\nq: [1, 2, 3]\n") as program:
        del program.state["a"]
        program.state["d"].pop("x")
        program.state["q"].pop()
        del program.state["q"][0]
        return program.now()


@case
def journal_insert() -> tuple[bytes, Any]:
    with Program(b"q: [1, [2]]\n") as program:
        program.state["q"].append({"a": 1})
        program.state["q"].insert(0, 0)
        program.state["q"][2].insert(0, None)
        return program.now()


@case
def journal_splice() -> tuple[bytes, Any]:
    with Program(b"q: [3, 1, 2]\nr: [1]\n") as program:
        program.state["q"][1:2] = [7, 8, 9]
        program.state["q"].sort()
        program.state["q"].reverse()
        program.state["r"] += [2, 3]
        program.state["r"].clear()
        return program.now()


@case
def journal_values() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program:
        for key, value in VALUES.items():
            program.state[key] = value
        program.state["odd keys"] = {}
        for key, value in ODD_KEYS.items():
            program.state["odd keys"][key] = value
        return program.now()


@case
def journal_transaction() -> tuple[bytes, Any]:
    with Program(b"a: 1\nd: {}\nq: []\n") as program:
        with program.state.transaction():
            program.state["a"] = 2
            program.state["d"]["x"] = float("inf")
            program.state["q"].append(1)
            del program.state["q"][0]
        program.state.update(a=3, b=4)
        return program.now()


@case
def journal_empty_snapshot() -> tuple[bytes, Any]:
    with Program() as program:
        program.state["a"] = 1
        return program.now()


@case
def journal_emptied() -> tuple[bytes, Any]:
    with Program(b"a: 1\nb: 2\n") as program:
        program.state.clear()
        return program.now()


@case
def journal_bare_last_line() -> tuple[bytes, Any]:
    with Program(b"a: 1\nb: 2") as program:
        program.state["a"] = 3
        return program.now()


@case
def journal_by_hand() -> tuple[bytes, Any]:
    with Program(b"\xef\xbb\xbf" + BY_HAND) as program:
        program.state["counter"] += 1
        return program.now()


@case
def journal_grown() -> tuple[bytes, Any]:
    with Program(b"q: []\n", room=0) as program:
        for number in range(4):
            program.state["q"].append("x" * 50 * number)
        return program.now()


@case
def journal_after_vacuum() -> tuple[bytes, Any]:
    with Program(b"q: []\n", room=0) as program, mock.patch.object(images, "GROWING_REGION", 0):
        for number in range(4):
            program.state["q"].append("x" * 20 * number)
        return program.now()


@case
def journal_from_nothing() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program, mock.patch.object(recovery, "PATIENCE", 0):
        program.state["b"] = 2
        os.unlink(program.path)
        program.state._tree.cursor.check_now()
        program.state["c"] = 3
        return program.now()


# --- Left by a kill -------------------------------------------------------------------------------------------------


@case
def killed_before_birth() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program:
        memory = program.state.plain()
        with mock.patch.object(mapped.MappedFile, "map", side_effect=Killed), contextlib.suppress(Killed):
            program.state.update(a=2)
        return program.content, memory


@case
def killed_while_beginning() -> tuple[bytes, Any]:
    data, memory = killed_before_birth()
    return data[: data.index(b"from") + 2], memory


@case
def killed_after_birth() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program:
        memory = program.state.plain()
        return program.killed(0, lambda: program.state.update(a=2)), memory


@case
def killed_before_commit() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program:
        program.state["b"] = 2
        memory = program.state.plain()
        return program.killed(1, lambda: program.state.update(a=2)), memory


@case
def killed_in_store() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program:
        program.state["b"] = 2
        memory = program.state.plain()
        return program.killed(1, lambda: program.state.update(a="long " * 5), torn=True), memory


@case
def killed_after_commit() -> tuple[bytes, Any]:
    with Program(b"a: 1\n") as program:
        program.state["b"] = 2
        data = program.killed(2, lambda: program.state.update(a=2))
        return data, {"a": 2, "b": 2}


@case
def killed_before_announcement() -> tuple[bytes, Any]:
    """What was to survive loss of power is marked until it is synced; of a copy that is another machine's mark."""
    with Program(b"a: 1\n") as program, mmapstate.open(program.path, durability="power"):
        program.state["b"] = 2
        with mock.patch.object(writer, "unsynced", return_value=b"!0123abcd"):
            data = program.killed(2, lambda: program.state.update(a=2))
        return data, {"a": 2, "b": 2}


# --- Changed by others, and by the power ----------------------------------------------------------------------------


def three_changes() -> tuple[bytes, Any]:
    with Program(b"a: 1\nq: []\n") as program:
        program.state["a"] = 2
        program.state["q"].append("é")
        program.state["q"].insert(0, [1])
        return program.now()


@case
def slack_cut() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return data.rstrip(b" #"), memory


@case
def slack_trimmed() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return data.rstrip(b" ") + b"\n", memory


@case
def slack_of_zeros() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return data.rstrip(b" ") + b"\0" * 100, memory


@case
def saved_with_crlf() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return data.replace(b"\n", b"\r\n"), memory


@case
def edited_under_a_journal() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return data.replace(b"a: 1\n", b"a: 1\nnew: [x]  # by hand\n"), {"a": 2, "new": ["x"], "q": memory["q"]}


def as_comments(data: bytes, lines: list[int]) -> bytes:
    """Return a journal of which so many of its lines, counted from its beginning, are still comments."""
    start = data.index(MARKER_START)
    text = data[start:].split(b"\n")
    for number in lines:
        text[number] = b"#" + text[number][1:]
    return data[:start] + b"\n".join(text)


@case
def copied_while_a_change_was_made() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return as_comments(data, [2]), memory


@case
def copied_while_a_journal_was_begun() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return as_comments(data, [0]), memory


@case
def copied_while_all_was_made() -> tuple[bytes, Any]:
    data, memory = three_changes()
    return as_comments(data, [1, 2]), memory


def made() -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file."""
    for name, make in CASES.items():
        data, memory = make()
        yield f"{name}.state", data
        yield f"{name}.yaml", yaml.safe_dump(memory, sort_keys=False).encode()


def main() -> int:
    logging.disable()  # what programs are warned of in some cases
    FOLDER.mkdir(parents=True, exist_ok=True)
    wrong = []
    files = dict(made())
    for name, content in files.items():
        path = FOLDER / name
        if not path.exists():
            path.write_bytes(content)
        elif path.read_bytes() != content:
            wrong.append(f"{path} differs")
    wrong += [f"{path} has no case" for path in sorted(FOLDER.iterdir()) if path.name not in {*files, *KEPT}]
    for message in wrong:
        print(message, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
