"""Runs a family of the tests for longer than the suite does, with a bigger number.

    python tools/torture.py growth --count 1000000
    python tools/windows_tests.py --timeout 7200 -- tools/torture.py growth --count 1000000

What the tests print is shown: counts, sizes, seeds. The exit code is that of pytest.

growth    increments (200,000) by two processes while two others sleep: the size of the file
model     steps (2,000) that three processes make, compared with plain data after each
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Family: the tests, and the variable that tells them the number.
FAMILIES = {
    "growth": ("tests/test_idle.py::TestVacuum::test_a_file_that_others_hold_grows_and_shrinks_again", "INCREMENTS"),
    "model": ("tests/test_model.py", "STEPS"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s FAMILY --count N"
    )
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--count", type=int, required=True, metavar="N")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("the count is a positive number")
    tests, variable = FAMILIES[options.family]
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-o", "timeout=0", tests]
    environment = os.environ | {f"MMAPSTATE_TEST_{variable}": str(options.count)}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
