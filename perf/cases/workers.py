"""Several processes that write to one file at once: 4 and 8, started by a barrier, each change timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from perf.case import Case, Goal, Sample
from perf.contenders import Contender, those
from perf.contenders.lmdb import Lmdb
from perf.contenders.mappings import DiskCache
from perf.contenders.ours import Ours
from perf.contenders.sqlite import Sqlite
from perf.processes import alone, together

__all__ = ["CASES"]

_LONGEST = "longest wait, ms"


def _work(
    ready: Callable[[], Any], kind: type[Contender], path: Path, number: int, times: int, what: str
) -> tuple[float, float, float]:
    opened = kind(path)
    step: Callable[[], None]
    if what == "list":
        step = partial(opened.append, number)
    else:
        step = partial(opened.increment, f"counter{number if what == 'each' else ''}")
    longest = 0.0
    ready()
    began = before = time.perf_counter()  # the same clock in all processes
    for _ in range(times):
        step()
        now = time.perf_counter()
        longest = max(longest, now - before)
        before = now
    opened.close()
    return began, before, longest


def _totals(kind: type[Contender], path: Path, workers: int, what: str) -> int:
    opened = kind(path)
    if what == "list":
        found = opened.length()
    else:
        found = sum(map(opened.get, [f"counter{n}" for n in range(workers)] if what == "each" else ["counter"]))
    opened.close()
    return found


def _create(kind: type[Contender], path: Path) -> None:
    kind(path).close()


def _measure(workers: int, what: str, kind: type[Contender], folder: Path, count: int) -> Sample:
    path, times = folder / "state", max(1, count // workers)
    alone(_create, kind, path)  # in processes of their own: nothing is open here when the workers are forked
    done = together([(_work, kind, path, number, times, what) for number in range(workers)])
    took = max(ended for _, ended, _ in done) - min(began for began, _, _ in done)
    figures = {_LONGEST: max(longest for *_, longest in done) * 1e3}
    total = alone(_totals, kind, path, workers, what)
    return Sample(took, times * workers, total, times * workers, figures)


_TITLES = {
    "one": "incrementing one counter",
    "each": "incrementing a counter each",
    "list": "appending to one list",
}
_QUICK = {(4, "one"): 2_000, (8, "one"): 2_000, (4, "list"): 1_000}


def _goals(workers: int) -> tuple[Goal, ...]:
    return (
        *([Goal("at most 1.3 times the time of lmdb", Lmdb.name, least=1 / 1.3)] if workers == 4 else []),
        Goal("2 times as fast as sqlite3 in WAL mode", Sqlite.name, least=2),
        Goal("6 times as fast as diskcache", DiskCache.name, least=6),
        Goal("longest wait of any worker below 500 ms", _LONGEST, most=500),
    )


CASES = tuple(
    Case(
        f"workers-{workers}-{what}",
        f"{workers} processes {title}",
        partial(_measure, workers, what),
        Ours,
        those("append" if what == "list" else "increment", shared=True),
        4_000 if what == "list" else 8_000,
        _goals(workers),
        least=400,
        quick=_QUICK.get((workers, what), 0),
    )
    for what, title in _TITLES.items()
    for workers in (4, 8)
)
