"""Changes of one value, vacuums included, on states of 10, 1,000 and 100,000 entries: a tree, and one long list."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, ClassVar

from perf.case import Case, Clock, Goal, Sample
from perf.contenders import Contender
from perf.contenders.ours import Ours

__all__ = ["CASES"]


class _Tree10(Ours):
    """Groups of hosts of ten values each: a value is three levels down."""

    name = "10 entries"
    entries: ClassVar[int] = 10

    def prepare(self) -> None:
        hosts = {f"host{n}": {f"value{digit}": 0 for digit in range(10)} for n in range(self.entries // 10)}
        names = list(hosts)
        groups = {f"group{n}": {name: hosts[name] for name in names[n : n + 100]} for n in range(0, len(names), 100)}
        self.state.update(groups)

    def change(self, entry: int, value: int) -> None:
        host = entry // 10
        self.state[f"group{host // 100 * 100}"][f"host{host}"][f"value{entry % 10}"] = value

    def entry(self, entry: int) -> Any:
        host = entry // 10
        return self.state[f"group{host // 100 * 100}"][f"host{host}"][f"value{entry % 10}"]


class _Tree1000(_Tree10):
    name = "1,000 entries"
    entries = 1_000


class _Tree100000(_Tree10):
    name = "100,000 entries"
    entries = 100_000


class _List10(_Tree10):
    def prepare(self) -> None:
        self.state["list"] = [0] * self.entries

    def change(self, entry: int, value: int) -> None:
        self.state["list"][entry] = value

    def entry(self, entry: int) -> Any:
        return self.state["list"][entry]


class _List1000(_List10):
    name = "1,000 entries"
    entries = 1_000


class _List100000(_List10):
    name = "100,000 entries"
    entries = 100_000


def _measure(kind: type[Contender], folder: Path, count: int) -> Sample:
    assert issubclass(kind, _Tree10)
    path = folder / "state"
    opened = kind(path)
    opened.prepare()
    opened.close()
    opened = kind(path)
    chance = random.Random(count)
    entries = [chance.randrange(kind.entries) for _ in range(count)]
    change, changing, closing, longest = opened.change, Clock(), Clock(), 0.0
    with changing.running():
        before = time.perf_counter()
        for number, entry in enumerate(entries):
            change(entry, number)
            now = time.perf_counter()
            longest = max(longest, now - before)
            before = now
    with closing.running():
        opened.close()
    last = {entry: number for number, entry in enumerate(entries)}
    again = kind(path)
    total = sum(again.entry(entry) for entry in last)
    again.close()
    figures = {"longest pause, ms": longest * 1e3, "closing, ms": closing.seconds * 1e3}
    return Sample(changing.seconds, count, total, sum(last.values()), figures)


_GOAL = Goal("at 100,000 entries at most 3 times that at 10", _Tree100000.name, most=3)

CASES = (
    Case(
        "growth-tree",
        "100,000 changes in a tree of many entries",
        _measure,
        _Tree10,
        [_Tree1000, _Tree100000],
        100_000,
        (_GOAL,),
        least=100_000,
        quick=20_000,
    ),
    Case(
        "growth-list",
        "100,000 changes in a list of many entries",
        _measure,
        _List10,
        [_List1000, _List100000],
        100_000,
        (_GOAL,),
        least=100_000,
        quick=20_000,
    ),
)
