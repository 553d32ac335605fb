"""What a case is: who is measured at what, and what the figures should be."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perf.contenders import Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Case", "Clock", "Goal", "Sample", "ahead_of"]


@dataclass(frozen=True)
class Goal:
    """What a figure should be.

    `of` is a contender, and the figure is its time as a multiple of ours; or the name of a figure of ours; or nothing,
    and it is about our own time, in the unit of the case.
    """

    says: str
    of: str
    least: float = 0.0
    most: float = math.inf

    def is_met(self, found: float, share: float = 1.0) -> bool:
        """Return whether it is reached; with a `share` below 1, whether at least that much of it is."""
        return self.least * share <= found <= self.most / share


def ahead_of(kinds: Sequence[type[Contender]]) -> tuple[Goal, ...]:
    """Return the goals of being as fast as each of these, or faster."""
    return tuple(Goal(f"ahead of {kind.name}", kind.name, least=1) for kind in kinds)


@dataclass
class Sample:
    """What one run of one contender gave: `value` for `count` operations, in seconds or whatever the case measures.

    `total` is what was found to be stored then, `expected` what should be. `figures` are told beside it; those whose
    name begins with "longest" by their maximum, others by their median. `varying` are the seconds of the run that a
    smaller count would save, if they are not the value.
    """

    value: float
    count: int
    total: int = 0
    expected: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    varying: float | None = None


@dataclass(frozen=True)
class Case:
    """`measure` is called as ``measure(kind, folder, count)`` in a fresh process and an empty folder.

    Times are in seconds an operation, shown times `scale` as `unit`. `count` is how many operations a run has, `least`
    how many it has at least where they take long, `quick` how many with ``--check`` (0: left out there). What hardly
    differs from run to run needs few `rounds`.
    """

    name: str
    title: str
    measure: Callable[[type[Contender], Path, int], Sample]
    ours: type[Contender]
    others: Sequence[type[Contender]]
    count: int
    goals: tuple[Goal, ...] = ()
    least: int = 1
    quick: int = 0
    rounds: int = 1_000
    unit: str = "us"
    scale: float = 1e6


class Clock:
    """How long a block took: ``with clock.running(): ...``; several blocks add up. In seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        gc.collect()  # what came before is not to be paid for here
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began
