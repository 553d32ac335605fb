"""A value that nobody has changed, read again and again."""

from __future__ import annotations

import sys
from pathlib import Path

from perf.case import Case, Clock, Goal, Sample
from perf.contenders import Contender, those
from perf.contenders.ours import Ours, OursDeclared, OursNested, OursReadonly, Predecessor, PredecessorNested

__all__ = ["CASES"]

_VALUE = 7
# A failed look for an attribute before `__getattr__` is slow before 3.12: there ours should save it, and be faster.
_GOAL = (
    Goal("at most twice the time of persistedstate", Predecessor.name, least=0.5)
    if sys.version_info >= (3, 12)
    else Goal("2 times as fast as persistedstate", Predecessor.name, least=2),
)


def _measure(kind: type[Contender], folder: Path, count: int) -> Sample:
    opened = kind(folder / "counter")
    opened.put(_VALUE)
    clock = Clock()
    opened.read(10)  # warm: it may learn the name
    with clock.running():
        value = opened.read(count)
    opened.close()
    return Sample(clock.seconds, count, value, _VALUE)


CASES = (
    Case(
        "read",
        "read state.counter",
        _measure,
        Ours,
        those("read"),
        200_000,
        _GOAL,
        least=1_000,
        quick=50_000,
        unit="ns",
        scale=1e9,
    ),
    Case(
        "read-declared",
        "read state.counter, a declared attribute",
        _measure,
        OursDeclared,
        [Predecessor],
        200_000,
        _GOAL,
        quick=50_000,
        unit="ns",
        scale=1e9,
    ),
    Case(
        "read-nested",
        'read state["a"]["b"]["c"]',
        _measure,
        OursNested,
        [PredecessorNested],
        200_000,
        _GOAL,
        quick=50_000,
        unit="ns",
        scale=1e9,
    ),
    Case(
        "read-readonly",
        "read state.counter, opened with readonly=True: without the lock, and what is new is seen at once",
        _measure,
        OursReadonly,
        (),
        100_000,
        (Goal("a look takes under 10 us", "", most=10_000),),
        quick=20_000,
        unit="ns",
        scale=1e9,
    ),
)
