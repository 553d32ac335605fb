"""What every test gets: a state file that is checked afterwards by an independent reader, and a look at descriptors."""

import gc
import os
import signal
import sys

import pytest
from support import independent_reader, probe, seeded_bugs
from support.families import (  # noqa: F401 - hooks of pytest, and a fixture
    cases,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
)
from support.runs import SEED, leaked_since, open_descriptors

from mmapstate.care import check

probe.be_patient()
if "MMAPSTATE_SEEDED_BUG" in os.environ:
    seeded_bugs.plant(os.environ["MMAPSTATE_SEEDED_BUG"])
sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run all, or whole families, in two processes where nothing else is said: with files, or -n, -s, --pdb."""
    options = config.option
    everything = config.args_source is config.ArgsSource.TESTPATHS
    plain = options.capture != "no" and not options.usepdb and not options.collectonly
    if everything and plain and getattr(options, "numprocesses", 0) is None and not hasattr(config, "workerinput"):
        options.numprocesses = 2


def pytest_report_header():
    return f"MMAPSTATE_TEST_SEED={SEED}"


@pytest.fixture(autouse=True)
def no_descriptor_leaks():
    """Fail a test that leaves descriptors open."""
    before = open_descriptors()
    yield
    probe.close_all()
    assert not probe.watched(), "a state is still watched: on Windows a thread would look at it for ever"
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
    probe.close_all()
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
