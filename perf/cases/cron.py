"""Open, one increment, close: a cron job, a shell's counter; alone, and beside 7 processes at work on the file."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from perf.case import Case, Clock, Sample
from perf.contenders import Contender
from perf.contenders.documents import JsonFile
from perf.contenders.lmdb import Lmdb
from perf.contenders.mappings import DiskCache
from perf.contenders.ours import OursIncrement, Predecessor
from perf.contenders.sqlite import Sqlite
from perf.processes import alone, together

__all__ = ["CASES"]

_OTHERS = (Predecessor, Sqlite, DiskCache, Lmdb, JsonFile)
_LIVE = 7
_EVERY = 0.01  # seconds between two changes of a live worker


def _visit(ready: Callable[[], Any], kind: type[Contender], path: Path, times: int) -> float:
    clock = Clock()
    ready()
    with clock.running():
        for _ in range(times):
            opened = kind(path)
            opened.count(1)
            opened.close()
    path.with_name("over").touch()
    return clock.seconds


def _live(ready: Callable[[], Any], kind: type[Contender], path: Path) -> None:
    opened = kind(path)
    ready()
    while not path.with_name("over").exists():
        opened.increment("live")
        time.sleep(_EVERY)
    opened.close()


def _create(kind: type[Contender], path: Path) -> None:
    kind(path).close()


def _total(kind: type[Contender], path: Path) -> int:
    opened = kind(path)
    found = opened.get()
    opened.close()
    return found


def _measure(workers: int, kind: type[Contender], folder: Path, count: int) -> Sample:
    path = folder / "state"
    alone(_create, kind, path)
    seconds, *_ = together([(_visit, kind, path, count), *[(_live, kind, path)] * workers])
    return Sample(seconds, count, alone(_total, kind, path), count)


CASES = (
    Case(
        "cron",
        "open, one increment, close",
        partial(_measure, 0),
        OursIncrement,
        _OTHERS,
        100,
        least=10,
        unit="ms",
        scale=1e3,
    ),
    Case(
        "cron-beside",
        "open, one increment, close, beside 7 live workers",
        partial(_measure, _LIVE),
        OursIncrement,
        [kind for kind in _OTHERS if kind.shared],
        100,
        least=10,
        unit="ms",
        scale=1e3,
    ),
)
