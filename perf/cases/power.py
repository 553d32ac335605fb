"""Each change is on the disk when its statement ends: ours beside a loop that does nothing but store and sync."""

from __future__ import annotations

from perf.case import Case, Goal
from perf.cases.count import measure
from perf.contenders.floor import FloorPower
from perf.contenders.lmdb import LmdbPower
from perf.contenders.ours import OursPower
from perf.contenders.sqlite import SqlitePower

__all__ = ["CASES"]

CASES = (
    Case(
        "power",
        'count with durability="power": each step synced to the disk',
        measure,
        OursPower,
        [FloorPower, SqlitePower, LmdbPower],
        1_000,
        (Goal("at most 1.3 times a loop of store and fdatasync", FloorPower.name, least=1 / 1.3),),
        least=50,
        quick=200,
    ),
)
