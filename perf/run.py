"""Runs a case with all its contenders in turn, round by round, and puts what they gave beside the goals.

In turn, so that a machine whose speed drifts is as unfair to one as to the other.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perf.case import Case, Goal, Sample
from perf.contenders import Contender
from perf.processes import alone

__all__ = ["Effort", "run"]


@dataclass(frozen=True)
class Effort:
    """How much to do: at most so many rounds, and `seconds` for each contender of a case."""

    rounds: int = 7
    seconds: float = 20.0
    count: int | None = None  # instead of the case's own
    quick: bool = False


@dataclass
class _Line:
    """One contender in a case."""

    kind: type[Contender]
    count: int = 0
    rounds: int = 0
    spent: float = 0.0
    failed: str = ""
    samples: list[Sample] = field(default_factory=list)

    def attempt(self, case: Case, folder: Path, count: int) -> tuple[Sample | None, float]:
        """Run it once; return what it gave, if that is right, and how long all of it took."""
        began = time.perf_counter()
        sample: Sample | None = None
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as inner:
            try:
                sample = alone(_measured, case, self.kind, Path(inner), count)
            except RuntimeError as error:
                self.failed = f"DISQUALIFIED: {error}"
        if sample is not None and sample.total != sample.expected:
            self.failed = f"DISQUALIFIED: total {sample.total:,} instead of {sample.expected:,}"
        return sample, time.perf_counter() - began

    def plan(self, case: Case, folder: Path, effort: Effort) -> None:
        """Warm up with a small count, and settle on a count and on rounds that fit."""
        full = case.quick if effort.quick else case.count
        if effort.count is not None and case.count > 1:
            full = effort.count
        least = min(full, max(1, case.least))
        first = max(1, full // 20)
        sample, took = self.attempt(case, folder, first)
        self.count, self.rounds = full, min(effort.rounds, case.rounds)
        if sample is None or self.failed:
            return
        each = (sample.value if sample.varying is None else sample.varying) / first
        fixed = max(0.0, took - each * first)
        for divisor in (1, 2, 5, 10, 20, 50, 100):
            self.count = max(least, full // divisor)
            if (fixed + each * self.count) * self.rounds <= effort.seconds:
                break
        self.rounds = max(1, min(self.rounds, int(effort.seconds / (fixed + each * self.count))))


def _measured(case: Case, kind: type[Contender], folder: Path, count: int) -> Sample:
    """Measure with what the contender needs imported, and nothing that the others do.

    filelock 4 has an audit hook, called at each flock of whoever is in its process: 0.25 us each.
    """
    reason = kind.missing()
    if reason:
        raise RuntimeError(reason)
    return case.measure(kind, folder, count)


def run(case: Case, others: Sequence[type[Contender]], folder: Path, effort: Effort) -> dict[str, Any]:
    """Return what a case gave, as JSON takes it. `others` are those that are installed."""
    lines = [_Line(kind) for kind in (case.ours, *others)]
    for line in lines:
        line.plan(case, folder, effort)
    for number in range(effort.rounds):
        for line in lines:
            late = line.spent > effort.seconds and number > 0  # it takes longer than the warm-up promised
            if line.failed or late or number >= line.rounds:
                continue
            sample, took = line.attempt(case, folder, line.count)
            line.spent += took
            if sample is not None:
                line.samples.append(sample)
    told = [_told(case, line, lines[0]) for line in lines]
    return {
        "name": case.name,
        "title": case.title,
        "unit": case.unit,
        "rounds": min(effort.rounds, case.rounds),
        "contenders": told,
        "goals": [_judged(goal, told) for goal in case.goals if goal.of in ("", *_known(told))],
    }


def _told(case: Case, line: _Line, ours: _Line) -> dict[str, Any]:
    values = [sample.value / sample.count * case.scale for sample in line.samples]
    base = [sample.value / sample.count * case.scale for sample in ours.samples]
    ratios = [their / our for their, our in zip(values, base, strict=False) if our]
    good = not line.failed and not ours.failed and line is not ours
    names = {name for sample in line.samples for name in sample.figures}
    figures = {name: [sample.figures[name] for sample in line.samples if name in sample.figures] for name in names}
    return {
        "name": line.kind.name,
        "count": line.count,
        "values": values,
        "median": statistics.median(values) if values else None,
        "ratios": ratios if good else [],
        "figures": {
            name: max(found) if name.startswith("longest") else statistics.median(found)
            for name, found in sorted(figures.items())
        },
        "failed": line.failed,
    }


def _known(told: Sequence[dict[str, Any]]) -> set[str]:
    return {line["name"] for line in told} | set(told[0]["figures"])


def _judged(goal: Goal, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ours = told[0]
    found: float | None
    if not goal.of:
        found = ours["median"]
    elif goal.of in ours["figures"]:
        found = ours["figures"][goal.of]
    else:
        (ratios,) = (line["ratios"] for line in told if line["name"] == goal.of)
        found = statistics.median(ratios) if ratios else None
    judged = {"says": goal.says, "found": found, "ratio": goal.of not in ("", *ours["figures"])}
    for word, share in (("met", 1.0), ("nearly", 0.8)):
        judged[word] = None if found is None and not ours["failed"] else found is not None and goal.is_met(found, share)
    return judged
