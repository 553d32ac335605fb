"""What a run prints, and the same as a table for README.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "case_lines", "into_readme", "summary_lines", "table"]

BEGIN, END = "<!-- perf:begin -->\n", "<!-- perf:end -->\n"

_VERDICTS = {True: "met", False: "MISSED", None: "not measured"}


def case_lines(case: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of one case: medians, and the ratio to ours round by round."""
    yield f"{case['name']}: {case['title']}; {case['unit']}; times as long as ours, round by round"
    yield f"{'':34}{'median':>12}{'min':>10}{'median':>9}{'max':>9}"
    full = case["contenders"][0]["count"]
    for line in case["contenders"]:
        text = f"  {line['name']:32}{_short(line['median']):>12}"
        if line["ratios"]:
            ratios = line["ratios"]
            text += "".join(
                f"{_short(value):>{width}}"
                for value, width in ((min(ratios), 10), (statistics.median(ratios), 9), (max(ratios), 9))
            )
        else:
            text += " " * 28
        notes = [f"{name}: {_short(value)}" for name, value in line["figures"].items()]
        if line["count"] != full or (len(line["values"]) != case["rounds"] and not line["failed"]):
            notes.append(f"count {line['count']:,}, rounds {len(line['values'])}")
        yield f"{text}  {'; '.join([line['failed']] * bool(line['failed']) + notes)}".rstrip()
    for goal in case["goals"]:
        yield f"    {_VERDICTS[goal['met']]}: {goal['says']} ({_found(goal)})"


def _goal_rows(cases: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield for each goal: the case, what it says, what was found, and the verdict."""
    for case in cases:
        for goal in case["goals"]:
            yield case["name"], goal["says"], _found(goal), _VERDICTS[goal["met"]]


def summary_lines(cases: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield all goals, a line each, and how many of them are met."""
    rows = list(_goal_rows(cases))
    for name, says, found, verdict in rows:
        yield f"{name:20}{says:48}{found:>16}  {verdict}"
    yield f"{sum(row[3] == 'met' for row in rows)} of {len(rows)} goals met"


def table(results: Mapping[str, Any]) -> str:
    """Return the cases as a Markdown table: ours, the others as multiples of it, the goals; and on what it ran."""
    machine = "; ".join(f"{name}: {value}" for name, value in results["machine"].items())
    rows = [
        f"Run on {machine}.",
        "",
        "| case | ours | the others, as multiples of ours | goals |",
        "| --- | --- | --- | --- |",
    ]
    for case in results["cases"]:
        ours, *others = case["contenders"]
        told = [
            f"{line['name']} {_short(statistics.median(line['ratios']))}"
            if line["ratios"]
            else f"{line['name']}: wrong"
            for line in others
            if line["ratios"] or line["failed"]
        ]
        goals = [f"{goal['says']}: {_found(goal)}, {_VERDICTS[goal['met']]}" for goal in case["goals"]]
        figures = [f"{name}: {_short(value)}" for name, value in ours["figures"].items()]
        rows.append(
            f"| {case['title']} | {'; '.join([_short(ours['median']) + ' ' + case['unit'], *figures])} "
            f"| {', '.join(told)} | {'; '.join(goals)} |"
        )
    return "\n".join(rows) + "\n"


def _found(goal: Mapping[str, Any]) -> str:
    return "-" if goal["found"] is None else f"{_short(goal['found'])}{' times ours' if goal['ratio'] else ''}"


def _short(value: float | None) -> str:
    """Return a number with three digits that count."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 - (abs(value) >= 10)}f}" if abs(value) >= 1 else f"{value:.2g}"


def into_readme(results: Mapping[str, Any], readme: Path) -> None:
    """Put the table of a run into a text, between its two comments."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}{table(results)}{END}{after}", encoding="utf-8")
