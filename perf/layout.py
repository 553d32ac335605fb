"""What it costs to keep comments and layout: ``python -m perf.layout [--rounds 7]``.

The same state, in a file that is what a dump gives and in one with a comment behind each line, is changed at one place
and compacted, in turn. Printed are the medians of the vacuums, and the ratio of the two round by round. The first takes
the short way (no look at the text), the second reads it, changes one line, and reads the result back.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mmapstate import PersistedState, __version__

SIZES = (1_000, 60_000, 1_000_000)  # bytes of the plain file, about


def state_of(size: int) -> dict[str, dict[str, object]]:
    """Return some hosts, whose dump has about `size` bytes."""
    return {f"host{n}": {"port": n, "name": f"the host {n}", "tags": ["a", "b"]} for n in range(max(1, size // 66))}


def vacuum(path: Path) -> float:
    """Change one value, compact the file, and return the seconds that the vacuum took."""
    with PersistedState(path) as state:
        state.host0["port"] += 1
        began = time.perf_counter()
        state.vacuum()
        return time.perf_counter() - began


def main() -> int:
    """Run it and print its table."""
    parser = argparse.ArgumentParser(prog="python -m perf.layout", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of both files (default: 7)")
    rounds = parser.parse_args().rounds
    print(f"CPython {platform.python_version()} on {platform.system()} {platform.machine()}; mmapstate {__version__}")
    print(f"one change and a vacuum, {rounds} rounds; medians in milliseconds")
    print(f"{'bytes':>10}{'plain':>10}{'commented':>12}{'ratio: min':>12}{'median':>8}{'max':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            plain, commented = Path(folder, f"{size}-plain.state"), Path(folder, f"{size}-commented.state")
            with PersistedState(plain) as state:
                state.update(state_of(size))
            text = plain.read_text(encoding="utf-8")
            commented.write_text(text.replace("\n", "  # as it came\n"), encoding="utf-8")
            times: list[tuple[float, float]] = [(vacuum(plain), vacuum(commented)) for _ in range(rounds + 1)][1:]
            assert commented.read_text(encoding="utf-8").count("# as it came") == text.count("\n")
            ratios = [theirs / ours for ours, theirs in times]
            print(
                f"{len(text):10,}{statistics.median(ours for ours, _ in times) * 1e3:10.2f}"
                f"{statistics.median(theirs for _, theirs in times) * 1e3:12.2f}"
                f"{min(ratios):12.1f}{statistics.median(ratios):8.1f}{max(ratios):8.1f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
