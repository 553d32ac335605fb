"""Time mmapstate beside what people would pick instead, in one run: ``python -m perf``. It needs the extra ``perf``.

Each round runs every contender that is installed once, in turn, on a fresh file and in a process of its own. Printed
are medians, the ratio to ours round by round, and each goal with what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.cases import CASES
from perf.chart import chart
from perf.contenders import OTHERS
from perf.contenders.ours import Ours
from perf.machine import load, machine, versions
from perf.processes import alone
from perf.report import case_lines, into_readme, summary_lines
from perf.run import Effort, run

__all__ = ["main"]

_CHECK = Effort(rounds=3, seconds=1.0, quick=True)
_PERF = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return 1 if ours failed or, with ``--check``, if less than 80 % of a goal was reached."""
    parser = _parser()
    options = parser.parse_args(arguments)
    effort = _CHECK if options.check else Effort(options.rounds, options.seconds, options.count)
    cases = [case for case in CASES if not options.case or case.name in options.case]
    if options.check:
        cases = [case for case in cases if case.goals and case.quick]
    if not cases:
        parser.error(f"no such case; there are: {', '.join(case.name for case in CASES)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an import is told as users have it: what is installed is compiled
    # In a process each: to import some of them makes others slower (see `run`).
    kinds = dict.fromkeys([*OTHERS, *(kind for case in cases for kind in case.others)])
    missing = {kind: alone(kind.missing) for kind in kinds}
    for kind in OTHERS:
        if missing[kind]:
            print(f"left out: {kind.name}: {missing[kind]}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as folder:
        results: dict[str, Any] = {
            "machine": machine(Path(folder)),
            "versions": versions([Ours, *(kind for kind in OTHERS if not missing[kind])]),
            "cases": [],
        }
        print("; ".join(f"{name}: {value}" for name, value in results["machine"].items()))
        print("; ".join(f"{name} {version}" for name, version in results["versions"].items()))
        for case in cases:
            sought = {goal.of for goal in case.goals}
            others = [
                kind
                for kind in case.others
                if not missing[kind]
                and (not options.contender or issubclass(kind, Ours) or kind.name.startswith(tuple(options.contender)))
                and (not options.check or kind.name in sought)
            ]
            results["cases"].append(run(case, others, Path(folder), effort))
            print("", *case_lines(results["cases"][-1]), sep="\n", flush=True)
    results["machine"]["load at the end"] = load()
    print("", *summary_lines(results["cases"]), sep="\n")
    print(f"took {time.monotonic() - began:.0f} s; load at the end: {results['machine']['load at the end']}")
    if options.publish or options.output:
        _write(results, _PERF if options.publish else options.output)
        if options.publish:
            into_readme(results, _PERF.parent / "README.md")
    failed = [case["name"] for case in results["cases"] if case["contenders"][0]["failed"]]
    if options.check:
        goals = [(case["name"], goal) for case in results["cases"] for goal in case["goals"]]
        failed += [f"{name}: {goal['says']}" for name, goal in goals if goal["nearly"] is False]
    for failure in failed:
        print(f"FAILED: {failure}")
    return 1 if failed else 0


def _write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "chart.svg").write_text(chart(results), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perf", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--case", action="append", metavar="NAME", help="only this case; can be given again")
    add("--contender", action="append", metavar="NAME", help="only ours and those whose name begins so")
    add("--rounds", type=int, default=7, help="rounds of all contenders (default: 7)")
    add("--seconds", type=float, default=20.0, help="for a contender in a case; then fewer rounds (default: 20)")
    add("--count", type=int, help="operations of a run (default: each case has its own)")
    add("--check", action="store_true", help="a short version, which fails below 80 %% of a goal")
    add("--folder", type=Path, help="where the files are (default: where temporary files are)")
    add("--output", type=Path, metavar="FOLDER", help="write results.json and chart.svg there")
    add("--publish", action="store_true", help="write them into perf/, and their table into README.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
