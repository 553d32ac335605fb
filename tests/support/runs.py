"""What a run of the tests is made of: where it is, its seed, how many cases, descriptors, what Windows refuses."""

import contextlib
import errno
import os
import pathlib
import random
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TESTS.parent

SEED = int(os.environ.get("MMAPSTATE_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
"""What all that is random begins with. The run's header tells it; to repeat a run, set MMAPSTATE_TEST_SEED."""
os.environ["MMAPSTATE_TEST_SEED"] = str(SEED)  # for the processes of pytest-xdist, and for pytest run by a test

SHARES = {"full": 1, "tenth": 0.1}


def scaled(count):
    """Return how many cases to run: a tenth, all with MMAPSTATE_TEST_COUNTS=full, more under `tools/torture.py`."""
    share = os.environ.get("MMAPSTATE_TEST_COUNTS", "tenth")
    return max(1, int(count * (SHARES[share] if share in SHARES else float(share))))


@contextlib.contextmanager
def on_an_open_file():
    """Empty, replace or remove a file that a state may have open: Windows refuses that, and there the test ends."""
    try:
        yield
    except OSError as error:
        if sys.platform != "win32" or (error.errno, error.winerror) not in REFUSALS:
            raise
        pytest.skip("Windows empties, replaces and removes no file that a program has mapped, or open")


# Emptied while mapped (error 1224, of which Python's open tells nothing); replaced; removed.
REFUSALS = {(errno.EINVAL, None), (errno.EACCES, 5), (errno.EACCES, 32)}


def open_descriptors():
    """Return what the descriptors of this process point to; None where the system does not tell."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found = {}
    for name in names:
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def leaked_since(before):
    """Return which descriptors of test files are open that were not open `before`."""
    after = open_descriptors()
    if before is None or after is None:
        return {}
    return {name: target for name, target in after.items() if name not in before and "/tmp" in target}
