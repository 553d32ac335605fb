"""Forks at every step of what another thread does: nobody waits, nothing stays taken, and no child keeps a lock.

A thread is stopped before, or behind, the n-th call of the system or store into a map of what it does (see `seam`).
Then the process forks, and the thread goes on. What follows is told at each test.
"""

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import warnings

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.interrupting import LIBRARY
from support.processes import Child, needs_fork
from support.runs import SEED, scaled
from support.seam import between

import mmapstate
from mmapstate import ClosedError, PersistedState
from mmapstate.file import forks, system
from mmapstate.live.forks import inherit

AT_FILE = os.path.join(LIBRARY, "file")

pytestmark = [pytest.mark.family("fork"), needs_fork]


def fork():
    with warnings.catch_warnings():  # as there are threads
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


@contextlib.contextmanager
def in_a_thread(work, stopped, go_on):
    """Have ``work()`` done by a thread, up to where it sets `stopped` and waits for `go_on`, or to its end."""
    failed = []

    def run():
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            stopped.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert stopped.wait(60)
    try:
        yield
    finally:
        go_on.set()
        thread.join(30)
    assert not thread.is_alive(), "the thread is stuck"
    if failed:
        raise failed[0]


@contextlib.contextmanager
def stopped_at(step, work):
    """Have ``work()`` done by a thread that is stopped at its `step`-th step inside the block, if it gets so far.

    Gives whether it was stopped, and the event that lets it go on before the end.
    """
    stopped, go_on = threading.Event(), threading.Event()
    worker, left = None, step

    def count():
        nonlocal left
        left -= threading.current_thread() is worker
        if left == 0 and not stopped.is_set():
            stopped.set()
            assert go_on.wait(30)

    def handle(name, arguments, do):
        count()
        result = do(*arguments)
        count()
        return result

    def counted():
        nonlocal worker
        worker = threading.current_thread()
        work()

    with between(handle), in_a_thread(counted, stopped, go_on):
        yield left == 0, go_on


@contextlib.contextmanager
def stopped_at_bytecode(step, work):
    """The same, before the `step`-th bytecode of the library.

    Gives the steps that it came to in what has to do with the file, and the event that lets it go on.
    """
    stopped, go_on = threading.Event(), threading.Event()
    left, at_file = step, []

    def trace(frame, event, _):
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_code.co_filename.startswith(LIBRARY):
            left -= 1
            if frame.f_code.co_filename.startswith(AT_FILE):
                at_file.append(step - left)
            if left == 0:
                sys.settrace(None)
                stopped.set()
                assert go_on.wait(30)
        return trace if frame.f_code.co_filename.startswith(LIBRARY) and left > 0 else None

    def traced():
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)

    with in_a_thread(traced, stopped, go_on):
        yield at_file, go_on


def each_step(try_one, cases):
    """Call ``try_one(step)`` for each step until it returns that there are no more."""
    stride = max(1, 13 // scaled(4))
    step = random.Random(SEED).randrange(stride) + 1
    count = 0
    while try_one(step):
        step += stride
        count += 1
    assert step > 60
    cases(count)


def test_threads_fork_at_once_while_others_vacuum_and_nobody_waits_for_anybody(tmp_path):
    """Four that fork, three that are in the middle of a vacuum until all four have a child."""
    paths = [str(tmp_path / f"{number}.state") for number in range(3)]

    def work(talk):
        errors = []
        sys.unraisablehook = errors.append  # what a hook raises goes there
        states = [PersistedState(path, n=1) for path in paths]
        waiting = threading.Barrier(4)
        go_on = threading.Event()
        replace = system.replace

        def slow(*arguments):
            waiting.wait(30)
            assert go_on.wait(60)
            replace(*arguments)

        system.replace = slow
        vacuums = [threading.Thread(target=state.vacuum) for state in states]
        for thread in vacuums:
            thread.start()
        waiting.wait(30)
        together, forked = threading.Barrier(4), threading.Semaphore(0)

        def one():
            together.wait(30)
            child = fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            forked.release()
            assert go_on.wait(60)  # lives on, as one of a pool does

        forkers = [threading.Thread(target=one) for _ in range(4)]
        for thread in forkers:
            thread.start()
        free = all(forked.acquire(timeout=20) for _ in forkers)
        go_on.set()
        for thread in [*vacuums, *forkers]:
            thread.join(30)
        user = threading.Thread(target=lambda: [state.increment("n") for state in states], daemon=True)
        user.start()
        user.join(20)
        return free, user.is_alive(), [str(error.exc_value) for error in errors]

    with Child(work) as child:
        assert child.result(120) == (True, False, [])
    assert [on_disk(path) for path in paths] == [{"n": 2}] * 3


def live(path):
    """Open, write, compact, close: all that opens and closes a file with a lock."""
    state = PersistedState(path, n=0)
    state.n = 1
    state.vacuum()
    state.n = 2
    state.close()


def test_a_child_forked_at_any_step_keeps_no_lock_of_its_parent_which_is_killed(path, cases):
    def work():
        live(path)
        states.append(mmapstate.open(path, exclusive=True))  # nobody else is present, and it keeps the lock

    states = []

    def own(talk, step):
        with stopped_at(step, work) as (stopped, _):
            worker = fork()
            if worker == 0:
                talk.close()
                signal.pause()
            talk.send((stopped, worker))
        talk.send("held")
        signal.pause()

    def try_one(step):
        with Child(own, step) as owner:
            stopped, worker = owner.receive()
            try:
                assert owner.receive() == "held"
                owner.kill()
                with mmapstate.open(path, timeout=0, exclusive=True) as state:
                    assert state.n == 2, step
            finally:
                os.kill(worker, signal.SIGKILL)
        return stopped

    each_step(try_one, cases)


def use(state):
    """All kinds of change and read, those under the guard among them, and the close."""
    for number in range(2):
        state.increment("n")
        state["l"].append(number)
        with state.transaction():
            state.m += 1
            state["d"][f"k{number}"] = {"x": number}
            with contextlib.suppress(KeyError), state.transaction():
                del state["d"]["k0"]
                state["d"]["gone"] = state["l"].pop()
                raise KeyError
        state["l"].insert(0, state["l"].pop(0))
        state.copy()
        state.vacuum()
    state.close()


def one_more(state, go_on):
    """Fork a child that reads and writes; return 0 when it could, 2 when it was told that the state is closed."""
    worker = fork()
    if worker == 0:
        threading.Timer(20, os._exit, (3,)).start()
        status = 1
        with contextlib.suppress(BaseException):
            status = read_and_write(state)
        os._exit(status)
    go_on.set()  # the child waits for the lock, which this process may have
    _, status = os.waitpid(worker, 0)
    return os.waitstatus_to_exitcode(status)


def read_and_write(state):
    seen = state.copy()
    assert seen["n"] in (0, 1, 2)
    assert state.n >= seen["n"]
    try:
        state["mine"] = 1
    except ClosedError:  # by the thread, before
        return 2
    seen = state.copy()
    assert seen["mine"] == 1
    assert seen["l"] in ([], [0], [0, 1], [1])
    assert seen["m"] == len(seen["d"])
    return 0


NEVER = 1_000_000  # bytecodes: more than there are
USED = {"n": 2, "m": 2, "l": [0, 1], "d": {"k0": {"x": 0}, "k1": {"x": 1}}}


def test_a_child_forked_at_any_step_reads_and_writes_by_itself(path, cases):
    def own(talk, step):
        state = PersistedState(path, n=0, m=0, l=[], d={})
        with stopped_at(step, lambda: use(state)) as (stopped, go_on):
            status = one_more(state, go_on)
        return stopped, status

    def try_one(step):
        if os.path.exists(path):
            os.unlink(path)
        with Child(own, step) as owner:
            stopped, status = owner.result()
        assert status in (0, 2), step
        assert on_disk(path) == USED | ({"mine": 1} if status == 0 else {}), step
        return stopped

    each_step(try_one, cases)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="older ones do not reliably trace each instruction")
def test_a_child_forked_at_any_bytecode_reads_and_writes_by_itself(path, cases):
    """Where no call of the system is near: in the middle of a change of memory alone."""

    def own(talk, step):
        state = PersistedState(path, n=0, m=0, l=[], d={})
        with stopped_at_bytecode(step, lambda: use(state)) as (at_file, go_on):
            status = one_more(state, go_on) if step != NEVER else 0
        return at_file, status

    def try_one(step):
        if os.path.exists(path):
            os.unlink(path)
        with Child(own, step) as owner:
            return owner.result()

    at_file, _ = try_one(NEVER)
    draw = random.Random(SEED)
    count = max(150, scaled(300))
    for number in range(count):  # each second one where a child may have half of a change
        step = draw.choice(at_file) if number % 2 else draw.randrange(1, at_file[-1] + 1)
        _, status = try_one(step)
        assert status in (0, 2), step
        assert on_disk(path) == USED | ({"mine": 1} if status == 0 else {}), step
    cases(count)


def test_a_signal_handler_forks_at_any_step_of_its_own_thread(path, cases):
    """It waits for no lock of that thread, and what the thread does goes on."""

    def own(talk, step):
        left = step

        def count():
            nonlocal left
            left -= 1
            if left == 0:
                child = fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)

        def handle(name, arguments, do):
            count()
            result = do(*arguments)
            count()
            return result

        with between(handle):
            live(path)
        return left <= 0

    def try_one(step):
        with Child(own, step) as owner:
            stopped = owner.result()
        assert on_disk(path) == {"n": 2}
        return stopped

    each_step(try_one, cases)


def test_a_file_that_is_opened_while_a_thread_forks_is_opened_again(tmp_path):
    """Else a child could have it open without knowing."""
    opened = []

    def open_file():
        descriptor = system.create(str(tmp_path / f"{len(opened)}"))
        opened.append(descriptor)
        if len(opened) < 3:
            pid = fork()
            if pid == 0:
                os._exit(descriptor in system.unshared)
            assert os.waitpid(pid, 0)[1] == 0
        return descriptor

    descriptor = forks.alone(open_file)
    assert len(opened) == 3
    assert descriptor in system.unshared
    system.close(descriptor)
    assert system.unshared.isdisjoint(opened)


def test_nobody_waits_for_ever_for_a_fork_that_waits_in_the_hook_of_another_library(path, monkeypatch):
    monkeypatch.setattr(probe.FORK_TRIES, 3)
    monkeypatch.setattr(probe.FORKS_UNDER_WAY, [None])
    with PersistedState(path, n=1) as state:
        assert state.n == 1


def test_what_a_child_cannot_forget_keeps_it_from_nothing_else(path, caplog):
    class Awkward:
        def forget(self):
            raise OSError("no")

    heirs = [Awkward(), Awkward()]
    state = PersistedState(path, n=0)
    for heir in heirs:
        inherit(heir)

    def count(talk):
        state.n += 1
        return caplog.text.count("a descriptor may stay open in a forked child: no")

    with Child.share(count) as child:
        assert child.result() == 2
    assert state.n == 1


def test_nothing_is_kept_of_a_path_when_its_last_state_is_closed(tmp_path):
    def use(number):
        state = PersistedState(tmp_path / f"{number}.state", n=number)
        same = PersistedState(tmp_path / f"{number}.state")
        state.close()
        same.close()
        mmapstate.open(tmp_path / f"{number}.state", readonly=True).close()
        with pytest.raises(FileNotFoundError):
            PersistedState(tmp_path / "nowhere" / f"{number}.state")

    use(0)
    gc.collect()
    before = probe.heirs()
    for number in range(20):
        use(number)
    gc.collect()
    assert probe.opened() == []
    assert probe.heirs() <= before


def test_threads_that_open_and_close_the_same_path_always_share_one_store(path):
    """A place that one thread gives up while another waits for it is none any more."""
    failed = []

    def use():
        try:
            for _ in range(scaled(200)):
                with PersistedState(path, n=0) as state:
                    assert probe.backend(state) is probe.backend_at(path)
                    state.increment("n")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert on_disk(path) == {"n": 4 * scaled(200)}
    assert probe.opened() == []
