"""This library, used in several ways, and its predecessor, which has the same interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

from perf.contenders.base import Contender

__all__ = [
    "Ours",
    "OursDeclared",
    "OursExclusive",
    "OursInOne",
    "OursIncrement",
    "OursNested",
    "OursPower",
    "OursReadonly",
    "Predecessor",
    "PredecessorNested",
]


class _Live(Contender):
    """A mapping whose keys are attributes, and whose changes go to the file."""

    state: Any

    def close(self) -> None:
        self.state.close()

    def count(self, times: int) -> None:
        state = self.state
        for _ in repeat(None, times):
            state.counter += 1

    def read(self, times: int) -> int:
        state, value = self.state, 0
        for _ in repeat(None, times):
            value = state.counter
        return value

    def get(self, key: str = "counter") -> int:
        return int(self.state[key])

    def put(self, value: int) -> None:
        self.state.counter = value

    def fill(self, entries: Mapping[str, Any]) -> None:
        self.state["entries"] = dict(entries)

    def values(self) -> Iterable[Any]:
        values: Iterable[Any] = self.state["entries"].values()
        return values


class Ours(_Live):
    """The default: shared by processes, durability "process"."""

    name = "mmapstate"
    modules = ("mmapstate.live.state",)  # the package imports its parts when they are asked for
    shared = True

    def __init__(self, path: Path) -> None:
        from mmapstate import PersistedState

        self.state = PersistedState(path, counter=0, list=[])

    def increment(self, key: str) -> None:
        self.state.increment(key)

    def append(self, item: int) -> None:
        self.state.list.append(item)

    def length(self) -> int:
        return len(self.state["list"])

    @classmethod
    def versions(cls) -> dict[str, str]:
        from mmapstate import __version__  # of the one in this folder, installed or not

        return {cls.name: __version__}


class OursReadonly(Ours):
    """Read by who has no part in the lock, beside a program that writes."""

    def __init__(self, path: Path) -> None:
        import mmapstate

        super().__init__(path)
        self.writer, self.state = self.state, mmapstate.open(path, readonly=True)

    def close(self) -> None:
        super().close()
        self.writer.close()

    def put(self, value: int) -> None:
        self.writer.counter = value


class OursExclusive(Ours):
    def __init__(self, path: Path) -> None:
        import mmapstate

        self.state = mmapstate.open(path, {"counter": 0}, exclusive=True)


class OursPower(Ours):
    def __init__(self, path: Path) -> None:
        import mmapstate

        self.state = mmapstate.open(path, {"counter": 0}, durability="power")


class OursDeclared(Ours):
    def __init__(self, path: Path) -> None:
        from mmapstate import State

        class Counting(State):
            counter: int = 0

        self.state = Counting(path)


class OursIncrement(Ours):
    def count(self, times: int) -> None:
        increment = self.state.increment
        for _ in repeat(None, times):
            increment("counter")


class OursInOne(Ours):
    def count(self, times: int) -> None:
        with self.state.transaction() as state:
            for _ in repeat(None, times):
                state.counter += 1


class Predecessor(_Live):
    """What this library comes from: one process only, and what it writes is never synced."""

    name = "persistedstate"
    modules = distributions = ("persistedstate",)

    def __init__(self, path: Path) -> None:
        from persistedstate import PersistedState

        self.state = PersistedState(path, counter=0)


class _Nested(_Live):
    """Reads a value three levels down."""

    def put(self, value: int) -> None:
        self.state["a"] = {"b": {"c": value}}

    def read(self, times: int) -> int:
        state, value = self.state, 0
        for _ in repeat(None, times):
            value = state["a"]["b"]["c"]
        return value


class OursNested(_Nested, Ours):
    pass


class PredecessorNested(_Nested, Predecessor):
    pass
