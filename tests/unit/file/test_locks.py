"""The lock of the processes: what is contention and what is failure, and who frees it."""

import os
import time

import pytest
from support.independent_reader import read_file as on_disk
from support.processes import Child

import mmapstate
from mmapstate import LockTimeout, PersistedState
from mmapstate.file import system
from mmapstate.file.filelock import EXCLUSIVE, UNLOCK, file_lock
from mmapstate.file.sidecar import open_sidecar


@pytest.fixture
def sidecar(tmp_path):
    descriptors = [open_sidecar(str(tmp_path / "x-lock")) for _ in range(2)]
    yield descriptors
    for descriptor in descriptors:
        system.close(descriptor)


def test_a_lock_that_somebody_else_has_is_a_blocking_io_error_at_once(sidecar):
    mine, theirs = sidecar
    file_lock(theirs, EXCLUSIVE)
    before = time.monotonic()
    for _ in range(10):
        with pytest.raises(BlockingIOError):
            file_lock(mine, EXCLUSIVE)
    assert time.monotonic() - before < 1  # portalocker's own way to block gives up after ten tries a second apart
    file_lock(theirs, UNLOCK)
    file_lock(mine, EXCLUSIVE)


def test_a_lock_that_cannot_be_had_is_another_error(sidecar, tmp_path):
    """Else whoever asks would wait for ever, and tell of a process that has it."""
    closed = os.dup(sidecar[0])
    os.close(closed)
    with pytest.raises(OSError) as caught:
        file_lock(closed, EXCLUSIVE)
    assert not isinstance(caught.value, BlockingIOError)


def test_what_is_locked_can_be_read_and_written_through_the_map(path):
    """Windows keeps others from a locked part of a file; not from a map of it, which is how all use the page."""
    one = mmapstate.open(path, {"n": 0}, timeout=0.05)

    def use(talk):
        other = mmapstate.open(path, timeout=10)
        talk.send(other.n)
        talk.receive()
        seen = other.n  # without the lock, which the other process has
        with pytest.raises(LockTimeout):
            mmapstate.open(path, timeout=0)["n"] = 9
        talk.send(seen)
        talk.receive()
        other.n += 1
        return other.n

    with Child.share(use) as child:
        assert child.receive() == 0
        with one._thread_lock:
            one.n = 5
            child.send("look")
            assert child.receive() == 5
        child.send("go on")
        assert child.result() == 6
    assert one.n == 6


def test_the_lock_of_a_killed_process_is_free(path):
    def hold(talk):
        state = PersistedState(path, n=0)
        with state.transaction():
            state.n = 1
            talk.send("held")
            talk.receive(1000)

    for _ in range(3):
        with Child(hold) as child:
            assert child.receive() == "held"
            with pytest.raises(LockTimeout, match="another process"):
                mmapstate.open(path, timeout=0.05)
            child.kill()
            assert child.was_killed()
        with mmapstate.open(path, timeout=10) as state:
            assert state == {"n": 0}
            state.n += 0
        assert on_disk(path) == {"n": 0}


def test_who_waits_gets_it_soon_after_it_is_free(path):
    """Not after the second that the system's own waiting takes on Windows."""
    state = mmapstate.open(path, {"n": 0}, timeout=10)

    def hold(talk):
        other = PersistedState(path)
        with other._thread_lock:
            talk.send("held")
            talk.receive()
        return time.time()

    waits = []
    for _ in range(5):
        with Child.share(hold) as child:
            assert child.receive() == "held"
            child.send("let go")
            state.n += 1
            got = time.time()
            waits.append(got - child.result())
    print("waits", [f"{wait * 1e3:.1f} ms" for wait in waits])
    assert min(waits) < 0.5


@pytest.mark.skipif(not system.WINDOWS, reason="it is about the locks of Windows")
def test_what_is_not_locked_cannot_be_unlocked(sidecar):
    """`FileLock.release` reckons with that, after an interrupt."""
    with pytest.raises(OSError):
        file_lock(sidecar[0], UNLOCK)
