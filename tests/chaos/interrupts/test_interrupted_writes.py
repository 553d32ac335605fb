"""An interrupt, or a signal handler, at each line or bytecode of a write: file and memory agree, no lock is left."""

import contextlib
import gc
import glob
import itertools
import linecache
import operator
import random
import signal
import sys
from functools import partial

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.interrupting import LIBRARY, at_bytecode, interrupt
from support.processes import not_on_windows

import mmapstate
from mmapstate import PersistedState
from mmapstate.file import system
from mmapstate.file.filelock import file_lock

RECORD_OF_TEXT = '--- ["set", [], "text", ""] #00000000\n'


def settle(state):
    """Have writes take the fast path: not at rest, and no check of the path is due for a while."""
    state.n = -1
    probe.check_later(state)


def pipe_is_full():
    raise BlockingIOError


@pytest.fixture(scope="module", autouse=True)
def bytecodes_are_traced(tmp_path_factory):
    """CPython 3.12 begins with the second call of a function that is traced so."""
    with PersistedState(tmp_path_factory.mktemp("traced") / "first.state", n=0) as state:
        at_bytecode(1_000_000, partial(state.__setattr__, "n", 1), interrupt)


@pytest.mark.family("interrupts")
class TestInterrupts:
    def test_a_write_inside_a_write_of_the_same_thread_is_an_error_and_changes_nothing(self, path):
        state = PersistedState(path, queue=[3, 1, 2])

        def meddle(item):
            state.meddled = True
            return item

        with pytest.raises(mmapstate.StateError, match="under way in this thread"):
            state.queue.sort(key=meddle)
        assert state == {"queue": [3, 1, 2]}

    def test_an_interrupt_at_every_line_of_a_commit_leaves_file_and_memory_in_agreement(self, path):
        state = PersistedState(path, n=0, queue=[])
        line = 0
        while True:
            line += 1
            left = line

            def trace(frame, event, argument):
                nonlocal left
                if not frame.f_code.co_filename.startswith(LIBRARY):
                    return trace
                # Leaving a `with` shows as its line again, and `try:` is a line of no instruction: a trace function can
                # raise there, outside the tables of what to do then. No signal is handled at these places.
                source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
                if event == "line" and source != "try:" and not source.startswith("with "):
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                return trace

            with state._thread_lock:  # clears what the last interrupt left
                before = state.copy()
            outer = sys.gettrace()  # that of coverage
            sys.settrace(trace)
            try:
                state.queue.append({"line": line, "any": b"thing"})  # no JSON: it goes the long way
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
            finally:
                sys.settrace(outer)
            after = {"n": 0, "queue": [*before["queue"], {"line": line, "any": b"thing"}]}
            assert state.copy() in (before, after), line
            assert on_disk(path) == state, line
            assert probe.is_free(state), line
            if not interrupted:
                break
        assert line > 40
        assert state.queue[-1] == {"line": line, "any": b"thing"}

    @not_on_windows("there is no timer that sends signals there")
    def test_a_signal_handler_that_commits_during_a_commit_gets_an_error_or_is_kept(self, path):
        state = PersistedState(path, n=0, handled=0)
        outcomes = []

        def handler(number, frame):
            try:
                state.handled += 1
                outcomes.append("kept")
            except mmapstate.StateError:
                outcomes.append("refused")

        old = signal.signal(signal.SIGALRM, handler)
        dice = random.Random(1)
        try:
            for n in range(2000):
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 2e-5))
                state.n = n
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert state.n == 1999
        assert on_disk(path) == state
        assert outcomes
        assert state.handled <= outcomes.count("kept")

    def test_a_signal_handler_that_finds_the_lock_with_another_process_takes_nothing_from_its_thread(
        self, path, monkeypatch
    ):
        """It came between the two locks of the interrupted statement, and released them both."""
        state = PersistedState(path, n=0, handled=0)
        number = 0
        in_handler = False

        def contended(descriptor, operation):
            if sys._getframe(1).f_code is probe.TAKE_LOCK and in_handler:
                raise BlockingIOError
            file_lock(descriptor, operation)

        def handler():
            nonlocal in_handler
            in_handler = True
            try:
                state["handled"] = number
            except mmapstate.StateError:
                pass
            finally:
                in_handler = False

        monkeypatch.setattr(probe.FILE_LOCK, contended)
        hit = True
        while hit:
            number += 1
            with state._thread_lock:
                probe.check_later(state)
            hit = at_bytecode(number, partial(state.__setattr__, "n", number), handler)
            assert probe.is_free(state), number
            assert on_disk(path)["n"] == state.n == number

    def test_an_interrupt_at_every_bytecode_of_a_set_that_finds_the_lock_taken_leaves_no_lock(self, path, monkeypatch):
        state = PersistedState(path, n=0)
        settle(state)

        def contended(descriptor, operation):
            probe.put(probe.FILE_LOCK, file_lock)  # the long way gets it
            raise BlockingIOError

        for number in itertools.count(1):
            with state._thread_lock:
                probe.check_later(state)
            with monkeypatch.context() as patched:
                patched.setattr(probe.FILE_LOCK, contended)
                hit = at_bytecode(number, partial(state.__setattr__, "n", number), interrupt)
            assert probe.is_free(state), number
            if not hit:
                break
        assert on_disk(path) == state == {"n": number}

    @pytest.mark.parametrize("what", ["thread", "thread and file", "guard", "thread, file and guard"])
    def test_what_interrupts_one_upon_the_other_have_left_taken_is_made_up_for_by_the_next_access(self, path, what):
        """They cut the release, and what repeats it: no call is under way, and the locks are this thread's."""
        state = PersistedState(path, n=0, jobs=[])
        for access in (lambda: state["n"], state.plain, lambda: state.increment("m"), lambda: state.jobs.append(1)):
            probe.leave_taken(state, what)
            access()
            state.n += 1
            assert probe.is_free(state)
        assert on_disk(path) == state == {"n": 4, "jobs": [1], "m": 1}

    def test_a_key_of_a_sort_that_is_none_of_python_reads_inside_of_the_change(self, path):
        """Between the two calls is no frame but of this library."""
        state = PersistedState(path, jobs=[{"n": 2}, {"n": 1}])
        state.jobs.sort(key=operator.itemgetter("n"))
        assert on_disk(path) == state == {"jobs": [{"n": 1}, {"n": 2}]}

    def test_an_interrupt_around_the_lock_of_a_with_statement_leaves_it_free(self, path):
        """Python calls no `__exit__` when one comes at the end of `__enter__`, or at the beginning of `__exit__`."""
        state = PersistedState(path, n=0)
        for name in ("__enter__", "__exit__"):

            class Interrupted(type(state._thread_lock)):
                def __enter__(self, name=name):
                    super().__enter__()
                    if name == "__enter__":
                        raise KeyboardInterrupt

                def __exit__(self, *error):
                    raise KeyboardInterrupt

            with state._thread_lock:
                with pytest.raises(KeyboardInterrupt), Interrupted(probe.tree(state)):
                    pass
                gc.collect()
                assert probe.holders(state) == 1  # that of the outer one
            assert probe.is_free(state)

    def test_an_interrupt_just_after_the_rename_of_a_vacuum_loses_nothing(self, path, monkeypatch):
        state = PersistedState(path, n=0, d={"n": 0})
        node = state.d
        replace = system.replace

        def interrupted(source, target):
            replace(source, target)
            raise KeyboardInterrupt

        for number in range(1, 4):
            state.n = number
            monkeypatch.setattr(system, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                state.vacuum()
            monkeypatch.undo()
            probe.check_later(state)  # no look at the path may be needed
            node["n"] = number
            assert on_disk(path) == state == {"n": number, "d": {"n": number}}
        assert glob.glob(path + ".superseded*") == []

    def test_an_interrupt_at_every_bytecode_of_the_short_way_leaves_file_and_memory_in_agreement(self, path, cases):
        state = PersistedState(path, n=0)
        settle(state)
        number = 0
        while True:
            number += 1
            with state._thread_lock:  # clears what the last interrupt left: else this one would go the long way
                before = state.n
            probe.check_later(state)  # what is seen from here on is by the page alone
            hit = at_bytecode(number, partial(state.__setattr__, "n", number), interrupt)
            assert state.n in (before, number), number
            assert on_disk(path) == state, number
            assert probe.is_free(state), number
            if not hit:
                break
        assert state.n == number > 200
        cases(number)

    @pytest.mark.parametrize("action", [interrupt, pipe_is_full])
    def test_what_a_signal_raises_at_every_bytecode_of_an_append_leaves_the_item_there_once_or_not_at_all(
        self, path, action, cases
    ):
        """A self-pipe that is full raises what a lock does that another process has: the change is not made again."""
        state = PersistedState(path, n=0, jobs=[0])
        settle(state)
        jobs = state["jobs"]
        number = 0
        hit = True
        while hit:
            number += 1
            with state._thread_lock:
                before = jobs.copy()
            probe.check_later(state)
            item = number if number % 2 else [number]
            with contextlib.suppress(BlockingIOError):
                hit = at_bytecode(number, partial(jobs.append, item), action)
            assert jobs.copy() in (before, [*before, item]), number
            assert on_disk(path) == state, number
            assert probe.is_free(state), number
        assert jobs[-1] == item
        assert number > 200
        cases(number)

    @pytest.mark.parametrize("at_rest", [True, False])
    def test_an_interrupt_in_a_transaction_that_makes_room_commits_nothing_of_it(self, path, at_rest, cases):
        state = PersistedState(path, n=0, pad="x" * 5000)
        line = 0
        interrupted = True
        while interrupted:
            line += 1
            left = line
            if at_rest:
                state.vacuum()
            else:
                fill_up(state)
            before = state.copy()

            def trace(frame, event, argument):
                nonlocal left
                if frame.f_code.co_name in probe.MAKING_ROOM:
                    source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
                    if event == "line" and source != "try:" and not source.startswith("with "):
                        left -= 1
                        if left == 0:
                            sys.settrace(None)
                            raise KeyboardInterrupt
                return trace

            outer = sys.gettrace()  # that of coverage
            try:
                with state.transaction():
                    state["n"] += 100
                    sys.settrace(trace)
                interrupted = False
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(outer)
            begun = before["n"] + (0 if interrupted else 100)
            assert state.increment("n") == begun + 1, line
            assert on_disk(path) == state.copy() == {**before, "n": begun + 1}, line
            assert probe.is_free(state)
        assert line > 8
        cases(line)

    def test_a_signal_handler_at_every_bytecode_of_the_short_way_is_refused_or_kept(self, path, cases):
        """What it sets is there unless it was refused, and what the interrupted statement sets is there, too."""
        state = PersistedState(path, n=0, handled=0)
        number = handled = refused = 0

        def handler():
            nonlocal handled, refused
            try:
                state["handled"] = number
                handled = number
            except mmapstate.StateError:
                refused += 1

        hit = True
        while hit:
            number += 1
            with state._thread_lock:
                probe.check_later(state)
            hit = at_bytecode(number, partial(state.__setattr__, "n", number), handler)
            assert on_disk(path) == state == {"n": number, "handled": handled}, number
            assert probe.is_free(state)
        assert refused > 150
        assert number - refused > 10
        cases(number)


def fill_up(state):
    """Leave no room for a record in the file's region."""
    state.text = ""
    with state._thread_lock:
        room = probe.room(state) - len(RECORD_OF_TEXT) - 20
    state.text = "x" * max(room, 0)
