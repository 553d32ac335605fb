"""Make the state files of persistedstate 26.1 that the tests read, with persistedstate itself.

Run from the top of the repository, with the ``perf`` extra installed: ``python tools/make_predecessor_files.py``.

Each file in ``tests/data/persistedstate/`` has beside it, as YAML, what persistedstate had in memory when it wrote the
file, or was killed. They are never changed: a file that is there already is compared, not written, and the exit status
is 1 where one differs. A kill is made of what persistedstate handed to the operating system: the writes are recorded,
and only so many bytes of them are repeated.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple
from unittest import mock

import yaml
from persistedstate import PersistedState
from persistedstate.types import convert_to_json_like

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "persistedstate"
to_plain: Any = convert_to_json_like
BUFFER = 8192  # bytes, the default before Python 3.14


class Write(NamedTuple):
    """A write of `data` at an offset, or the cut of the file there (None)."""

    offset: int
    data: bytes | None


class _RecordedFile(io.FileIO):
    writes: list[Write]

    def write(self, data: Any) -> int:
        offset = self.tell()
        count = super().write(data)
        self.writes.append(Write(offset, bytes(data[:count])))
        return count

    def truncate(self, size: int | None = None) -> int:
        size = super().truncate(size)
        self.writes.append(Write(size, None))
        return size


class Session:
    """A program that uses persistedstate on a file which has the bytes `before`; `line_end` is that of its platform."""

    def __init__(self, before: bytes = b"", line_end: str = "\n", **defaults: Any) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name) / "a.state"
        self.path.write_bytes(before)
        self.writes: list[Write] = []
        with mock.patch.object(pathlib.Path, "open", self._opener(line_end)):
            self.state: Any = PersistedState(self.path, **defaults)

    def _opener(self, line_end: str) -> Callable[..., Any]:
        def open_recorded(path: pathlib.Path, mode: str, encoding: str) -> io.TextIOWrapper:
            raw = _RecordedFile(str(path), mode)
            raw.writes = self.writes
            return io.TextIOWrapper(io.BufferedRandom(raw, BUFFER), encoding=encoding, newline=line_end)

        return open_recorded

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def memory(self) -> Any:
        return to_plain(self.state)

    def close(self) -> bytes:
        self.state.close()
        return self.content

    def killed(self, keep: Callable[[list[Write]], int]) -> bytes:
        """Return the file after a kill in the vacuum of `close`: of its writes only the first `keep(writes)` bytes."""
        data = bytearray(self.content)
        del self.writes[:]
        self.close()
        left = keep(self.writes)
        for offset, written in self.writes:
            if left <= 0 or written is None:
                break
            data[offset : offset + min(left, len(written))] = written[:left]
            left -= len(written)
        return bytes(data)


Case = Callable[[], tuple[bytes, Any]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__.replace("_", "-")] = function
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


def changed(line_end: str = "\n") -> Session:
    session = Session(Session(line_end=line_end, z=1, a={"b": {"c": [1, 2, 3]}}, queue=["x"]).close(), line_end)
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


@case
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


@case
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


@case
def journal_keys_that_json_makes_text() -> tuple[bytes, Any]:
    session = Session(counts={1: 2, 3: {4: 5}, 6: 7, None: 8})
    counts = session.state.counts
    counts[1] += 1
    counts[3][4] = [6]
    del counts[6]
    del counts[None]
    return session.content, session.memory


@case
def journal_torn() -> tuple[bytes, Any]:
    session = changed()
    memory, size = session.memory, len(session.content)
    session.state.torn = {"é": "this change was not acknowledged"}
    assert memory != session.memory
    return session.content[: size + 20], memory


def grown() -> Session:
    session = Session(Session(a=1).close())
    session.state.b = ["much longer than all that was in the file before", {"so": "that it reaches behind the journal"}]
    return session


def shrunk() -> Session:
    session = Session(Session(a=1, big="x" * 200, z=[1, 2]).close())
    del session.state["big"]
    session.state.a = 2
    return session


def padding(writes: list[Write]) -> bytes:
    text = b"".join(write.data or b"" for write in writes if write.offset > 0)
    return text.partition(b"\n---\n### LAST")[0]


@case
def vacuum_in_padding() -> tuple[bytes, Any]:
    session = changed()
    return session.killed(lambda writes: len(padding(writes)) // 2), session.memory


@case
def vacuum_in_last_state() -> tuple[bytes, Any]:
    session = Session(Session(a=2, b={"a": 1}).close())
    session.state.a = 1
    # "a: 1\n" is there of it: its beginning, and the end of the padding, too.
    return session.killed(lambda writes: len(padding(writes)) + 29 + 5), session.memory


@case
def vacuum_in_front_grown() -> tuple[bytes, Any]:
    session = grown()
    return session.killed(lambda writes: sum(len(write.data or b"") for write in writes) - 20), session.memory


@case
def vacuum_in_front_shrunk() -> tuple[bytes, Any]:
    session = shrunk()
    return session.killed(lambda writes: sum(len(write.data or b"") for write in writes) - 6), session.memory


@case
def vacuum_before_cut() -> tuple[bytes, Any]:
    session = changed()
    return session.killed(lambda writes: sum(len(write.data or b"") for write in writes)), session.memory


@case
def vacuum_before_cut_windows() -> tuple[bytes, Any]:
    session = changed("\r\n")
    return session.killed(lambda writes: sum(len(write.data or b"") for write in writes)), session.memory


@case
def vacuum_before_cut_empty() -> tuple[bytes, Any]:
    session = Session()
    return session.killed(lambda writes: sum(len(write.data or b"") for write in writes)), {}


@case
def vacuum_unchanged_in_padding() -> tuple[bytes, Any]:
    session = Session(Session(queue=["a", "b", "c"]).close())
    return session.killed(lambda writes: len(padding(writes)) // 2), session.memory


@case
def vacuum_killed_then_opened_again_windows() -> tuple[bytes, Any]:
    line_end = "\r\n"
    session = Session(Session(line_end=line_end, a=1, b=[2]).close(), line_end)
    left = session.killed(lambda writes: sum(len(write.data or b"") for write in writes if write.offset > 0))
    session = Session(left, line_end)  # it accepts keys that stand twice
    session.state.a += 1
    session.state.b.append(3)
    return session.content, session.memory


def buffered() -> Iterator[str]:
    """Yield what is wrong with how the tests think that a vacuum writes."""
    for letters in (10, 5000, 20000):
        session = Session(Session(text="é" * letters).close())
        before, text = session.content, ("text: " + "é" * letters + "\n").encode()
        appended = text + b"\n---\n### LAST VALID STATE ###\n" + text
        end = session.killed(lambda writes: sum(len(write.data or b"") for write in writes))
        if end != text + b"...\n" + (before + appended)[len(text) + 4 :]:
            yield f"a vacuum of {letters} letters does not write what the tests think"


def main() -> int:
    assert version("persistedstate") == "26.1", "install persistedstate 26.1"
    wrong = list(buffered())
    FOLDER.mkdir(parents=True, exist_ok=True)
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
