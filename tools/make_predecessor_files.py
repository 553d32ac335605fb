"""Make the state files of persistedstate 26.1 that the tests read, with persistedstate itself.

Run from the top of the repository, with the ``perf`` extra installed: ``python tools/make_predecessor_files.py``.

Each file in ``tests/data/persistedstate/`` has beside it, as YAML, what persistedstate had in memory when it wrote the
file, or was killed; those in ``refused/`` do not surely tell that. They are never changed: a file that is there already
is compared, not written, and the exit status is 1 where one differs.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pathlib
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from unittest import mock

import yaml
from persistedstate import PersistedState
from persistedstate.types import convert_to_json_like

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "persistedstate"
to_plain: Any = convert_to_json_like


class _NeverCut(io.FileIO):
    """A file whose program is killed when it wants to cut it: the last thing that a vacuum does."""

    def truncate(self, size: int | None = None) -> int:  # noqa: ARG002
        self.close()  # else persistedstate compacts it again when it goes
        raise InterruptedError


class Session:
    """A program that uses persistedstate on a file which has the bytes `before`; `line_end` is that of its platform."""

    def __init__(
        self, before: bytes = b"", line_end: str = "\n", kind: type[io.FileIO] = io.FileIO, **defaults: Any
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name) / "a.state"
        self.path.write_bytes(before)

        def opened(path: pathlib.Path, mode: str, encoding: str) -> io.TextIOWrapper:
            return io.TextIOWrapper(io.BufferedRandom(kind(str(path), mode)), encoding=encoding, newline=line_end)

        with mock.patch.object(pathlib.Path, "open", opened):
            self.state: Any = PersistedState(self.path, **defaults)

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def memory(self) -> Any:
        return to_plain(self.state)

    def close(self) -> bytes:
        self.state.close()
        return self.content


Case = Callable[[], tuple[bytes, Any]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__.replace("_", "-")] = function
    return function


def refused(function: Case) -> Case:
    CASES["refused/" + function.__name__.replace("_", "-")] = function
    return function


def all_sorts(state: Any) -> None:
    """Store every sort of value that persistedstate can journal, and texts that YAML could take for something else."""
    state.none = None
    state.truths = [True, False]
    state.numbers = [0, -1, 10**30, 0.1, 1e16, 1e-7, -2.5e300, float("inf"), float("-inf")]
    state.nan = float("nan")
    state["texts"] = [
        "",
        " ",
        "yes",
        "no",
        "null",
        "~",
        "012",
        "12:30",
        "1e3",
        "- a",
        "a: b",
        "#",
        "'",
        '"',
        "\\",
        "<<",
    ]
    state["lines"] = "one\ntwo\n\n---\n### LAST VALID STATE ###\n"
    state["letters"] = "Máté \u00a0\u0085\u2028\u2029\ufeff\x7f\x1b\t\r 日本語 \U0001f642"
    state["ключ with spaces: and #"] = {"": 1, "- ": 2, "?": 3, "k" * 150: 4}
    state["nested"] = {"list": [[], {}, [1, [2, {"deep": [3]}]]], "empty": {}}
    state[7] = "int"
    state[None] = "none"
    state[1.5] = "float"
    state["long"] = "word " * 60


@case
def rest() -> tuple[bytes, Any]:
    session = Session()
    all_sorts(session.state)
    memory = session.memory
    return session.close(), memory


@case
def rest_windows() -> tuple[bytes, Any]:
    session = Session(line_end="\r\n", last_id=5, text="one\ntwo\r\n", queue=["a", {"b": 1}])
    memory = session.memory
    return session.close(), memory


@case
def rest_empty() -> tuple[bytes, Any]:
    return Session().close(), {}


@case
def journal_alone() -> tuple[bytes, Any]:
    session = Session()
    all_sorts(session.state)
    return session.content, session.memory


def changed(line_end: str = "\n", kind: type[io.FileIO] = io.FileIO) -> Session:
    session = Session(Session(line_end=line_end, z=1, a={"b": {"c": [1, 2, 3]}}, queue=["x"]).close(), line_end, kind)
    state = session.state
    state.z += 1
    state.a["b"]["c"].append({"é": ["ű"]})
    state.a["b"]["c"][3]["é"].insert(0, "ő")
    state.a["b"]["c"].insert(0, {"first": 0})
    state.a["b"]["c"][0]["first"] += 1
    del state.a["b"]["c"][1]
    state["new"] = {"x": [{"y": 1}]}
    state["new"]["x"][0]["y"] = [None]
    del state["queue"]
    state["queue"] = ["later in memory, earlier in the sorted file"]
    return session


@case
def journal() -> tuple[bytes, Any]:
    session = changed()
    return session.content, session.memory


@case
def journal_windows() -> tuple[bytes, Any]:
    session = changed("\r\n")
    return session.content, session.memory


@refused
def journal_refused_changes() -> tuple[bytes, Any]:
    session = Session(Session(queue=[1, 2], config={"a": 1}).close())
    state = session.state

    def refuse(error: type[Exception], change: Callable[[], Any]) -> None:
        try:
            change()
        except error:
            return
        raise AssertionError("persistedstate took the change")

    refuse(IndexError, lambda: state.queue.__setitem__(5, "beyond the end"))
    state.first = "acknowledged"
    refuse(KeyError, lambda: state.config.__delitem__("missing"))
    refuse(IndexError, lambda: state.queue.__delitem__(-3))
    refuse(TypeError, lambda: state.queue.__setitem__("key", 1))
    refuse(TypeError, lambda: state.__setitem__([1], 1))
    refuse(OverflowError, lambda: state.queue.insert(10**30, 1))
    state.queue.append(3)
    detached = state.config
    del state["config"]
    detached["a"] = "to a container that was removed"
    state.last = "acknowledged"
    return session.content, session.memory


@refused
def journal_negative_indexes() -> tuple[bytes, Any]:
    session = Session(jobs=[{"id": number} for number in range(5)], one=[{}])
    jobs = session.state.jobs
    jobs.pop()
    jobs[0]["status"] = "persistedstate writes this one at -1"
    jobs[1]["status"] = "and this one at 0"
    jobs[-1] = {"id": "last"}
    jobs[-1]["sub"] = []
    jobs.insert(0, {"id": "first"})
    jobs[4]["sub"].append("still at -1 for persistedstate")
    with contextlib.suppress(IndexError):
        session.state.one.pop()  # removes it, journals it, and raises
    session.state.end = True
    return session.content, session.memory


@refused
def journal_keys_that_json_makes_text() -> tuple[bytes, Any]:
    session = Session(counts={1: 2, 3: {4: 5}, 6: 7, None: 8})
    counts = session.state.counts
    counts[1] += 1
    counts[3][4] = [6]
    del counts[6]
    del counts[None]
    return session.content, session.memory


@refused
def journal_torn() -> tuple[bytes, Any]:
    session = changed()
    memory, size = session.memory, len(session.content)
    session.state.torn = {"é": "this change was not acknowledged"}
    assert memory != session.memory
    return session.content[: size + 20], memory


@refused
def vacuum_before_cut() -> tuple[bytes, Any]:
    session = changed(kind=_NeverCut)
    with contextlib.suppress(InterruptedError):
        session.close()
    return session.content, session.memory


def main() -> int:
    assert version("persistedstate") == "26.1", "install persistedstate 26.1"
    wrong = []
    (FOLDER / "refused").mkdir(parents=True, exist_ok=True)
    for name, make in CASES.items():
        data, memory = make()
        gc.collect()
        texts = {f"{name}.state": data, f"{name}.yaml": yaml.safe_dump(memory).encode()}
        for file, content in texts.items():
            path = FOLDER / file
            if not path.exists():
                path.write_bytes(content)
            elif path.read_bytes() != content:
                wrong.append(f"{path} differs")
    for message in wrong:
        print(message, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
