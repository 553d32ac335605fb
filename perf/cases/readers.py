"""One process writes now and then, 7 look every 0.5 ms: how long until they see it, and whether they lock."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perf.case import Case, Goal, Sample
from perf.contenders import Contender, those
from perf.contenders.ours import Ours
from perf.processes import alone, together

__all__ = ["CASES"]

_READERS = 7
_EVERY = 0.5e-3  # seconds between two looks of a reader
_LOCKS = "locks taken by readers"
_LOCKING = {"fcntl.flock", "fcntl.lockf", "msvcrt.locking"}  # events that Python tells an audit hook
_END = -1


def _write(ready: Callable[[], Any], kind: type[Contender], path: Path, changes: int) -> tuple[list[float], int]:
    opened, chance = kind(path), random.Random(changes)
    opened.put(0)  # a first change may cost more: to the readers, too
    ready()
    for _ in range(changes):
        time.sleep(chance.uniform(1e-3, 5e-3))
        opened.put(time.perf_counter_ns())  # the same clock in all processes
    time.sleep(10 * _EVERY)
    opened.put(_END)
    opened.close()
    return [], 0


def _read(ready: Callable[[], Any], kind: type[Contender], path: Path) -> tuple[list[float], int]:
    """Return after how many seconds each change was seen, and how often this process asked for a lock."""
    opened, locks, seen = kind(path), 0, []

    def heard(event: str, _: Any) -> None:
        nonlocal locks
        locks += event in _LOCKING

    last = opened.get()
    ready()
    sys.addaudithook(heard)
    while True:
        time.sleep(_EVERY)
        value = opened.get()
        if value == _END:
            break
        if value != last:
            seen.append((time.perf_counter_ns() - value) / 1e9)
            last = value
    found = seen, locks
    opened.close()
    return found


def _create(kind: type[Contender], path: Path) -> None:
    kind(path).close()


def _measure(kind: type[Contender], folder: Path, count: int) -> Sample:
    path = folder / "state"
    alone(_create, kind, path)
    _, *readers = together([(_write, kind, path, count), *[(_read, kind, path)] * _READERS])
    delays = sorted(delay for seen, _ in readers for delay in seen)
    figures = {
        "99 of 100 within, ms": delays[len(delays) * 99 // 100] * 1e3,
        "seen, of 100": 100 * len(delays) / count / _READERS,
    }
    if issubclass(kind, Ours):  # the locks of others are not Python's to see
        figures[_LOCKS] = sum(locks for _, locks in readers)
    return Sample(statistics.median(delays), 1, len(readers), _READERS, figures)


CASES = (
    Case(
        "readers",
        "one process writes, 7 look every 0.5 ms: until a change is seen",
        _measure,
        Ours,
        those("get", "put", shared=True),
        300,
        (
            Goal("a change is seen in under 1 ms at the median", "", most=1),
            Goal("readers stay off the lock", _LOCKS, most=0),
        ),
        least=100,
        quick=100,
        unit="ms",
        scale=1e3,
    ),
)
