"""What every test gets: a state file that is checked afterwards by an independent reader, and a look at descriptors."""

import contextlib
import errno
import gc
import os
import random
import signal
import sys

import independent_reader
import pytest
import seeded_bugs
from families import (  # noqa: F401 - hooks of pytest, and a fixture
    cases,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
)
from spawned import be_patient

from mmapstate.care import check
from mmapstate.file import registry, windows

be_patient()
if "MMAPSTATE_SEEDED_BUG" in os.environ:
    seeded_bugs.plant(os.environ["MMAPSTATE_SEEDED_BUG"])
sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))

SEED = int(os.environ.get("MMAPSTATE_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
"""What all that is random begins with. The run's header tells it; to repeat a run, set MMAPSTATE_TEST_SEED."""
os.environ["MMAPSTATE_TEST_SEED"] = str(SEED)  # for the processes of pytest-xdist, and for pytest run by a test


def pytest_report_header():
    return f"MMAPSTATE_TEST_SEED={SEED}"


def scaled(count):
    """Return how many cases to run: all on one CPython, a tenth on others, more under `tools/torture.py`."""
    share = os.environ.get("MMAPSTATE_TEST_COUNTS", "full")
    return max(1, int(count * (SHARES[share] if share in SHARES else float(share))))


SHARES = {"full": 1, "tenth": 0.1}


def close_all_stores():
    """Close every store of this process, as if its handles had been closed."""
    for place in list(registry._places.values()):
        if place.store is not None:
            place.store.close()
        place.handles.clear()
    registry._places.clear()


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


@pytest.fixture(autouse=True)
def no_descriptor_leaks():
    """Fail a test that leaves descriptors open."""
    before = open_descriptors()
    yield
    close_all_stores()
    assert not windows._watch.stores, "a store is still watched: on Windows a thread would look at it for ever"
    if leaked_since(before):
        gc.collect()  # not after each test: with what pytest keeps, it would be most of the time
        leaked = leaked_since(before)
        assert not leaked, f"descriptors left open: {leaked}"


@pytest.fixture
def interrupts():
    """Have processes that a test starts heed an interrupt: background jobs of a shell ignore it, and pass that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def path(tmp_path):
    """The path of a state file that does not exist yet; what it holds at the end is checked."""
    state_path = tmp_path / "example.state"
    yield str(state_path)
    close_all_stores()
    if state_path.exists() and not (tmp_path / "not-to-be-checked").exists():
        content = state_path.read_bytes()
        independent_reader.check(content)
        independent_reader.read_state(content)
        assert [str(found) for found in check.check(str(state_path)) if found.severity == "error"] == []
    leftovers = [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    assert not leftovers, f"temporary files left: {leftovers}"


@pytest.fixture
def broken_path(tmp_path):
    """The same for tests that leave a file which is no state."""
    (tmp_path / "not-to-be-checked").touch()
    return str(tmp_path / "example.state")
