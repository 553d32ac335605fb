"""Runs a family of the tests for longer than the suite does, with a bigger number.

    python tools/torture.py kill9 --minutes 30
    python tools/torture.py power-cut --minutes 30 --seed 4711
    python tools/torture.py growth --count 1000000
    python tools/windows_tests.py --timeout 7200 -- tools/torture.py growth --count 1000000

With ``--minutes`` a family is run again and again, each time from another seed, until the time is over or a test fails;
the seed that repeats a failure is printed, and ``--seed`` with it repeats the run. With ``--times`` it is run once, so
many times as large as in the suite. What the tests print is shown: counts, sizes, seeds. The exit code is that of
pytest.

Families (`tests/support/families.py` tells what each is):
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from support.families import FAMILIES  # noqa: E402 - it lies beside the tests

OTHERS = {
    "cuts": "cuts in place of a file under a writer: how many end by SIGBUS, between their look and their store",
    "growth": "increments by two processes while two others sleep: the size of the file",
}

# These have a number of their own (disks: rounds, also on xfs and btrfs; editors: rounds of each; model: steps): the
# tests, and the variable that tells them the number.
COUNTED = {
    "cuts": ("tests/chaos/editors/test_editors.py::test_the_window", "CUTS"),
    "disks": ("tests/chaos/test_disks.py", "DISKS"),
    "editors": (
        "tests/chaos/editors/test_editors.py::test_an_edit_under_two_writers_is_adopted_and_nothing_after_it_is_lost",
        "EDITS",
    ),
    "growth": (
        "tests/unit/file/test_letting_go.py::TestVacuum::test_a_file_that_others_hold_grows_and_shrinks_again",
        "INCREMENTS",
    ),
    "model": ("tests/chaos/test_model.py", "STEPS"),
}


def main() -> int:
    told = "\n".join(f"{name:14} {what}" for name, what in {**FAMILIES, **OTHERS}.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}{told}", formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s FAMILY (--minutes N | --times N | --count N) [--seed N]",
    )  # fmt: skip
    parser.add_argument("family", choices=sorted({*FAMILIES, *COUNTED}))
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--minutes", type=float, metavar="N", help="run it again and again for so long")
    amount.add_argument("--times", type=float, metavar="N", help="run it once, so many times as large")
    amount.add_argument("--count", type=int, metavar="N", help="how many cuts, increments, steps, or rounds")
    parser.add_argument("--seed", type=int, metavar="N", help="what the first run begins with (default: drawn)")
    options = parser.parse_args()
    if options.count is not None and (options.family not in COUNTED or options.count < 1):
        parser.error(f"--count is for {' and '.join(COUNTED)}, and a positive number")
    seed = options.seed or random.SystemRandom().getrandbits(32)
    if options.count is not None:
        tests, variable = COUNTED[options.family]
        return run([tests], seed, {f"MMAPSTATE_TEST_{variable}": str(options.count)})
    if options.family not in FAMILIES:
        parser.error(f"{options.family} takes --count")
    family = ["--family", options.family]
    if options.times is not None:
        return run(family, seed, {"MMAPSTATE_TEST_COUNTS": str(options.times)})
    return run_for(options.minutes * 60, family, seed)


def run_for(seconds: float, arguments: list[str], seed: int) -> int:
    deadline = time.monotonic() + seconds
    runs = 0
    while True:
        runs += 1
        code = run(arguments, seed, {})
        if code != 0:
            print(f"run {runs} failed; to repeat it: --times 1 --seed {seed}")
            return code
        if time.monotonic() >= deadline:
            print(f"{runs} runs, none failed")
            return 0
        seed += 1


def run(arguments: list[str], seed: int, variables: dict[str, str]) -> int:
    """Run pytest once; return its exit code."""
    print(f"seed {seed}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-o", "timeout=0", f"--hypothesis-seed={seed}", *arguments]
    environment = {"MMAPSTATE_TEST_COUNTS": "full"} | os.environ | variables | {"MMAPSTATE_TEST_SEED": str(seed)}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
