"""A counter, raised by one process: what each step costs, opening and closing apart."""

from __future__ import annotations

from pathlib import Path

from perf.case import Case, Clock, Goal, Sample, ahead_of
from perf.contenders import Contender, those
from perf.contenders.floor import Floor
from perf.contenders.lmdb import LmdbInOne
from perf.contenders.ours import Ours, OursDeclared, OursExclusive, OursIncrement, OursInOne, Predecessor
from perf.contenders.sqlite import SqliteInOne

__all__ = ["CASES", "measure"]


def measure(kind: type[Contender], folder: Path, count: int) -> Sample:
    path = folder / "counter"
    opened = kind(path)
    counting, closing = Clock(), Clock()
    with counting.running():
        opened.count(count)
    with closing.running():
        opened.close()
    sample = Sample(counting.seconds, count, figures={"closing, ms": closing.seconds * 1e3})
    if kind.offers("get"):  # the floor does not
        again = kind(path)
        sample.total, sample.expected = again.get(), count
        again.close()
    return sample


def _times(least: float) -> tuple[Goal, ...]:
    return (Goal(f"{least:g} times as fast as persistedstate", Predecessor.name, least=least),)


CASES = (
    Case(
        "count",
        "count with state.counter += 1, shared by processes",
        measure,
        Ours,
        those("count"),
        10_000,
        (
            *_times(3),
            Goal("at most 3.5 times the floor", Floor.name, least=1 / 3.5),
            *ahead_of(those("count", shared=True)),
        ),
        least=500,
        quick=3_000,
    ),
    Case(
        "count-exclusive",
        "count with state.counter += 1, exclusive=True",
        measure,
        OursExclusive,
        [Predecessor],
        10_000,
        _times(5),
        quick=3_000,
    ),
    Case(
        "count-in-one",
        "count with state.counter += 1, inside one transaction",
        measure,
        OursInOne,
        [Predecessor, LmdbInOne, SqliteInOne],
        10_000,
        _times(5),
        quick=3_000,
    ),
    Case(
        "count-declared",
        "count with state.counter += 1, a declared attribute",
        measure,
        OursDeclared,
        [Predecessor],
        10_000,
        _times(4),
        quick=3_000,
    ),
    Case(
        "count-increment",
        'count with state.increment("counter")',
        measure,
        OursIncrement,
        those("count"),
        10_000,
        _times(4),
        least=500,
        quick=3_000,
    ),
)
