"""A file of 60 KB, opened and read: at rest, and as a kill leaves it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from perf.case import Case, Clock, Goal, Sample
from perf.contenders import Contender, those
from perf.contenders.ours import Ours, Predecessor
from perf.layout import state_of
from perf.processes import killed

__all__ = ["CASES"]

_ENTRIES = state_of(60_000)


class _KeepingAll(Predecessor):
    """It compacts its file after 2,000 changes; here it does not, and leaves as many records as ours."""

    def __init__(self, path: Path) -> None:
        from persistedstate.file_handler import FileHandler

        FileHandler._VACUUM_ON_CHANGE = 1_000_000
        super().__init__(path)


def _prepare(kind: type[Contender], path: Path, changes: int, at_rest: bool) -> Contender:
    opened = kind(path)
    opened.fill(_ENTRIES)
    opened.close()
    if not at_rest:
        opened = kind(path)
        opened.count(changes)
    return opened


def _measure(at_rest: bool, kind: type[Contender], folder: Path, count: int) -> Sample:
    path = folder / "state"
    changes = 0 if at_rest else count
    killed(_prepare, kind, path, changes, at_rest)
    opening = Clock()
    with opening.running():
        opened = kind(path)
        found = sum(entry["port"] for entry in opened.values())
    total = found + opened.get()
    opened.close()
    return Sample(opening.seconds, 1, total, sum(range(len(_ENTRIES))) + changes, varying=0)


CASES = (
    Case(
        "open-rest",
        "open and read 60 KB at rest",
        partial(_measure, True),
        Ours,
        those("fill", "values"),
        1,
        (Goal("8 times as fast as persistedstate", Predecessor.name, least=8),),
        quick=1,
        unit="ms",
        scale=1e3,
    ),
    Case(
        "open-killed",
        "open and read 60 KB with 10,000 records behind it, left by a kill",
        partial(_measure, False),
        Ours,
        [_KeepingAll],
        10_000,
        (Goal("20 times as fast as persistedstate", Predecessor.name, least=20),),
        least=10_000,
        quick=10_000,
        unit="ms",
        scale=1e3,
    ),
    Case(
        "open-killed-as-is",
        "open and read 60 KB after 10,000 changes and a kill, compacted as each does",
        partial(_measure, False),
        Ours,
        those("fill", "values"),
        10_000,
        least=1_000,
        unit="ms",
        scale=1e3,
    ),
)
