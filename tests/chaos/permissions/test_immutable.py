"""A file made immutable (``chattr +i``) while programs use it: an OSError, and nobody dies of it (a store: SIGBUS).

What raised is not committed, what returned is; readers read on; and when the file can be written again, all go on.
"""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from support import probe
from support.lives import Model
from support.others import Other, on_disk, outcome
from support.processes import Child, needs_fork

import mmapstate

pytestmark = [
    pytest.mark.family("permissions"),
    needs_fork,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or shutil.which("chattr") is None,
        reason="only root, with chattr, makes a file immutable",
    ),
]

START = {"n": 0, "items": [1, 2, 3], "text": ""}


def transaction(state, number):
    with state.transaction():
        state["n"] = number
        state["items"].append(number)


WRITES = {
    "set-number": lambda state, number: state.__setitem__("n", number),
    "set-text": lambda state, number: state.__setitem__("text", f"text {number}"),
    "set-large": lambda state, number: state.__setitem__("text", "é" * 9000),
    "append": lambda state, number: state["items"].append(number),
    "update": lambda state, number: state.update(n=number, items=[number]),
    "pop": lambda state, number: state["items"].pop(),
    "transaction": transaction,
}


def change(path, sign):
    done = subprocess.run(["chattr", f"{sign}i", path], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the filesystem has no such flag: {done.stderr.strip()}")


def written_back(path):
    """Have the system write what is in its memory: the next store into a map asks whether that is allowed."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@pytest.fixture
def file(path):
    mmapstate.open(path, START).close()
    yield path
    subprocess.run(["chattr", "-i", path], capture_output=True, check=False)


def write_when_told(talk, path, kind, durability):
    """Write, say so, and write again when told; tell what that raised, and what is in memory then."""
    state = mmapstate.open(path, timeout=5, durability=durability)
    while (number := talk.receive(600)) is not None:
        raised = None
        probe.check_next(state)  # a look at the file is due, as it is 50 ms after the last one
        try:
            if number:
                WRITES[kind](state, number)
        except OSError as error:
            raised = type(error).__name__, error.errno, error.filename
        talk.send((raised, outcome(state.plain)))


def answer(child):
    """Return what the child says; fail where it died of a store."""
    try:
        return child.receive()
    except AssertionError:
        child.wait()
        assert not os.WIFSIGNALED(child.status), f"it died: {signal.Signals(os.WTERMSIG(child.status)).name}"
        raise


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("journal", [False, True], ids=["at-rest", "with-a-journal"])
def test_a_write_to_a_file_that_was_made_immutable_is_an_error(file, kind, journal, durability):
    with Child(write_when_told, file, kind, durability) as child, Other(file) as reader:
        reader.ask("read")  # it has it open, too: to open an immutable file anew is an error
        child.send(1)
        raised, state = child.receive()
        assert raised is None
        if not journal:
            assert reader.ask("vacuum") is None
            child.send(0)
            assert child.receive() == (None, state)
        change(file, "+")
        written_back(file)
        for number in (2, 3):
            child.send(number)
            raised, memory = answer(child)
            wanted = Model({**state, "items": [*state["items"]]})
            WRITES[kind](wanted, number)
            state = state if raised is not None else dict(wanted)
            assert raised is not None or journal, "a file at rest cannot have been written to"
            assert on_disk(file) == state, "raised, yet committed"
            assert memory == state
            assert reader.ask("read") == reader.ask("read_only") == state
        change(file, "-")
        child.send(4)
        raised, memory = answer(child)
        WRITES[kind](wanted := Model({**state, "items": [*state["items"]]}), 4)
        assert (raised, memory) == (None, wanted)
        assert on_disk(file) == memory == reader.ask("read")
