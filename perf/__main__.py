"""Time mmapstate beside what people would pick instead, in one run: ``python -m perf [--rounds 7] [--count 10000]``.

Each round runs every contender once, in turn (A B A B ...), each on a fresh file in this one process, so that a machine
whose speed drifts is as unfair to one as to the other. Printed are medians, and the ratio to ours round by round. A
contender is one small class; one that ends with a wrong total is disqualified, and shown as such.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from mmapstate import __version__


class Ours:
    """This library."""

    name = "mmapstate"

    def version(self) -> str:
        """Return which one it is: the one in this folder, installed or not."""
        return __version__

    def count(self, path: Path, count: int) -> int:
        """Count to `count` in a fresh file at `path`, closing included, and return the total that is stored then."""
        from mmapstate import PersistedState

        return _count(PersistedState, path, count)


class Predecessor:
    """What this library comes from: one process only, no sync, no lock against others."""

    name = "persistedstate"

    def version(self) -> str:
        """Return which one it is."""
        return metadata.version(self.name)

    def count(self, path: Path, count: int) -> int:
        """Count as `Ours` does."""
        from persistedstate import PersistedState

        return _count(PersistedState, path, count)


CONTENDERS = (Ours(), Predecessor())


def _count(kind: Callable[..., Any], path: Path, count: int) -> int:
    with kind(path, counter=0) as state:
        for _ in range(count):
            state.counter += 1
    with kind(path) as state:
        return int(state.counter)


def main() -> int:
    """Run the case and print its table; return 1 if a contender was disqualified."""
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all contenders (default: 7)")
    parser.add_argument("--count", type=int, default=10_000, help="what is counted to (default: 10,000)")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {contender.name: [] for contender in CONTENDERS}
    wrong: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds + 1):  # the first is a warm-up
            for contender in CONTENDERS:
                path = Path(folder, f"{contender.name}-{number}.state")
                began = time.perf_counter()
                total = contender.count(path, arguments.count)
                took = time.perf_counter() - began
                if number:
                    seconds[contender.name].append(took)
                if total != arguments.count:
                    wrong[contender.name] = total
    versions = ", ".join(f"{contender.name} {contender.version()}" for contender in CONTENDERS)
    print(f"CPython {platform.python_version()} on {platform.system()} {platform.machine()}; {versions}")
    print(f"count to {arguments.count:,} with state.counter += 1, {arguments.rounds} rounds; times in seconds")
    print(f"{'':16}{'median':>10}{'of ours: min':>16}{'median':>10}{'max':>10}")
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(times, seconds[Ours.name], strict=True)]
        verdict = f"  DISQUALIFIED: total {wrong[name]:,}" if name in wrong else ""
        print(
            f"{name:16}{statistics.median(times):10.4f}{min(ratios):16.2f}{statistics.median(ratios):10.2f}"
            f"{max(ratios):10.2f}{verdict}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
