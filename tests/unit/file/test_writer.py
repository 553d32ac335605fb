"""Each access: the fast path of a counter and what sends it the long one; interrupts and signal handlers inside."""

import itertools
import math
import mmap
import os
import sys
import threading
from datetime import date
from time import monotonic

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, held_by_a_thread, needs_fork, not_on_windows
from support.runs import on_an_open_file

import mmapstate
from mmapstate import DetachedError, LockTimeout, PersistedState, State
from mmapstate.file.journal import COMMITTED
from mmapstate.file.page import DIRTY, WAITED_FOR

RECORD_OF_TEXT = '--- ["set", [], "text", ""] #00000000\n'


class Roads:
    """Tells which way the writes of a state went, after it has settled: no look at the path is due for a while."""

    def __init__(self, state):
        state.n = -1  # not at rest
        probe.check_later(state)
        self.long = 0
        probe.on_each_long_write(state, self.count)

    def count(self):
        self.long += 1


class TestTheShortWay:
    """What `Committer.commit_one` does is what the general way would have done, and left behind."""

    def test_a_counter_takes_it(self, path):
        state = PersistedState(path, n=0, d={"e": {"n": 0}})
        roads = Roads(state)
        node = state.d["e"]
        for number in range(50):
            state.n = number
            state["n"] += 1
            node["n"] += 2
        assert roads.long == 0
        assert on_disk(path) == state == {"n": 50, "d": {"e": {"n": 100}}}
        assert probe.is_free(state)

    @pytest.mark.parametrize("value", [True, None, 1.5, -0.0, "text", "\u2028", 2**200, -(10**18)])
    def test_every_value_that_is_json_takes_it(self, path, value):
        state = PersistedState(path, n=0)
        roads = Roads(state)
        state.n = value
        assert roads.long == 0
        assert repr(state.n) == repr(on_disk(path)["n"]) == repr(value)

    @pytest.mark.parametrize("value", [[1], {}, {"a": [{"b": None}], "c": {}}])
    def test_a_container_takes_it_and_is_live_then(self, path, value):
        state = PersistedState(path, n=0, d={}, jobs=[])
        roads = Roads(state)
        state.n = value
        state.d["k"] = value
        state.jobs.append(value)
        state.jobs.append(value)
        assert roads.long == 0
        assert on_disk(path) == state == {"n": value, "d": {"k": value}, "jobs": [value, value]}
        places = [state.n, state.d["k"], *state.jobs]
        assert len(set(map(id, places))) == 4
        for number, place in enumerate(places):
            place.clear()
            if isinstance(value, list):
                place.append(number)
            else:
                place["number"] = number
        kept = [[number] if isinstance(value, list) else {"number": number} for number in range(4)]
        assert on_disk(path) == state == {"n": kept[0], "d": {"k": kept[1]}, "jobs": kept[2:]}

    @pytest.mark.parametrize("value", [b"bytes", math.inf, date(2001, 2, 3), [b"x"], {"a": math.nan}, "x" * 100_000])
    def test_what_is_no_json_or_has_no_room_does_not(self, path, value):
        state = PersistedState(path, n=0)
        roads = Roads(state)
        state.n = value
        assert roads.long == 1
        assert repr(on_disk(path)) == repr(state.copy()) == repr({"n": value})

    @pytest.mark.parametrize("value", [5, True, None, 1.5, "text", "\u2028", 2**200])
    def test_what_is_appended_takes_it(self, path, value):
        state = PersistedState(path, n=0, jobs=[1], d={"jobs": []})
        roads = Roads(state)
        for jobs in (state["jobs"], state.d["jobs"]):
            jobs.append(value)
            jobs.append(7)
        assert roads.long == 0
        assert repr(on_disk(path)["jobs"]) == repr(state["jobs"].copy()) == repr([1, value, 7])
        assert repr(on_disk(path)["d"]["jobs"]) == repr(state.d["jobs"].copy()) == repr([value, 7])
        assert probe.is_free(state)

    @pytest.mark.parametrize("value", [b"bytes", math.inf, date(2001, 2, 3), [b"x"], "x" * 100_000])
    def test_what_is_appended_and_is_no_json_or_has_no_room_does_not(self, path, value):
        state = PersistedState(path, n=0, jobs=[])
        roads = Roads(state)
        state["jobs"].append(value)
        assert roads.long == 1
        assert on_disk(path)["jobs"] == state["jobs"] == [value]

    def test_a_list_that_is_no_longer_there_is_not_appended_to(self, path):
        state = PersistedState(path, n=0, jobs=[])
        jobs = state["jobs"]
        del state["jobs"]
        with pytest.raises(DetachedError):
            jobs.append(1)
        assert probe.is_free(state)
        assert (jobs.copy(), on_disk(path)) == ([], {"n": 0})

    @pytest.mark.parametrize("key", [1, "1", 1.0, True, "true"])
    def test_keys_that_are_equal_and_not_the_same_are_not_mixed_up(self, path, key):
        """Two of them cannot be in one mapping: but in two files."""
        state = PersistedState(path, n=0)
        state[key] = 7
        assert repr(on_disk(path)) == repr(state.copy()) == repr({"n": 0, key: 7})

    def test_a_state_that_takes_it_for_another_file_writes_to_its_own(self, path, tmp_path):
        first, second = PersistedState(path, n=0), PersistedState(tmp_path / "second.state", n=0)
        for number in range(10):
            first.n = number
            second.n = -number
        assert (on_disk(path), on_disk(tmp_path / "second.state")) == ({"n": 9}, {"n": -9})

    def test_when_a_look_at_the_path_is_due_it_is_not_taken(self, path):
        state = PersistedState(path, n=0)
        roads = Roads(state)
        probe.check_next(state)
        state.n = 5
        state.n = 6
        assert roads.long == 1

    def test_at_rest_it_is_not_taken(self, path):
        state = PersistedState(path, n=0)
        roads = Roads(state)
        state.vacuum()
        state.n = 5
        assert roads.long == 2
        assert on_disk(path) == {"n": 5}

    def test_with_power_it_is_not_taken(self, path):
        state = mmapstate.open(path, {"n": 0}, durability="power")
        roads = Roads(state)
        state.n = 5
        assert roads.long == 1

    def test_a_region_is_filled_to_its_last_byte(self, path):
        state = PersistedState(path, n=0)
        roads = Roads(state)
        journal = probe.journal(state)
        lengths = []
        while roads.long == 0:
            lengths.append(journal.room())
            state.n = 10**17
        assert len({before - after for before, after in itertools.pairwise(lengths)}) == 1
        assert lengths[-1] < lengths[0] - lengths[1]
        record = lengths[0] - lengths[1]
        for room in (record - 1, record, record + 1):
            state.text = ""
            with state._thread_lock:
                state.text = "x" * (probe.room(state) - room - len(RECORD_OF_TEXT))
                assert probe.room(state) == room
            roads.long = 0
            state.n = 10**17
            assert roads.long == (room < record)
            assert on_disk(path) == state


class TestInTheWay:
    """What others did since the last look sends it the long way; nothing is written over, nothing is lost."""

    def test_a_copy_under_way_in_another_thread(self, path):
        state = PersistedState(path, n=0, d={str(number): {"n": 0} for number in range(200)})
        roads = Roads(state)
        probe.hold_back_for_a_copy(state)
        state.n = 5
        assert roads.long == 1

    def test_copies_are_of_one_moment_though_another_thread_writes(self, path):
        """It writes to two places in turn: no copy has the later one without the earlier."""
        state = PersistedState(path, **{f"pad{number}": [{}] * 50 for number in range(20)})
        state.update(a={"n": 0}, z={"n": 0})
        first, last = state.a, state.z
        stop = threading.Event()

        def write():
            number = 0
            while not stop.is_set():
                number += 1
                last["n"] = number
                first["n"] = number

        switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(300):
                copy = state.copy()
                assert copy["z"]["n"] - copy["a"]["n"] in (0, 1)
        finally:
            stop.set()
            writer.join()
            sys.setswitchinterval(switch)

    def test_another_thread_between_its_two_locks(self, path):
        state = PersistedState(path, n=0)
        Roads(state)
        with held_by_a_thread(probe.lock(state).thread) as let_go:
            threading.Timer(0.05, let_go.set).start()
            state.n = 5
        assert on_disk(path) == {"n": 5}

    def test_another_thread_that_closes_the_state_just_before(self, path):
        state = PersistedState(path, n=0)
        Roads(state)

        def close():
            thread = threading.Thread(target=probe.close_again, args=[state])
            thread.start()
            thread.join()

        probe.just_before_the_lock(state, close)
        with pytest.raises(mmapstate.ClosedError):
            probe.set_item(state, "n", 7)
        assert not probe.lock(state).held
        assert on_disk(path) == {"n": -1}

    @pytest.mark.family("history")
    @pytest.mark.parametrize("change", [lambda state: state.increment("n"), lambda state: state.l.append(state.n)])
    def test_another_thread_that_makes_the_same_change_just_before(self, path, change):
        """What is in memory by then is the latest again: only the token tells that it was decided on before that."""
        state = PersistedState(path, n=0, l=[])
        Roads(state)

        def change_first():
            thread = threading.Thread(target=change, args=[state])
            thread.start()
            thread.join()

        probe.just_before_the_lock(state, change_first)
        change(state)
        assert on_disk(path) == state
        assert (state.n, state.l) in ((1, []), (-1, [-1, -1]))

    def test_a_counter_that_is_deleted_just_before_begins_at_what_is_declared(self, path, monkeypatch):
        class Counting(State):
            hits: int = 5

        state = Counting(path)
        state.hits = 7
        fits = probe.get(probe.FITS)

        def delete_after(self, node, key, value):
            monkeypatch.undo()
            fit = fits(self, node, key, value)
            del state["hits"]
            return fit

        monkeypatch.setattr(probe.FITS, delete_after)
        assert state.increment("hits") == 6

    def test_a_read_in_the_moment_in_which_the_lock_file_is_exchanged(self, path, monkeypatch):
        state = PersistedState(path, n=0)
        found = []

        def close_and_read(page):
            monkeypatch.undo()
            page.close()
            thread = threading.Thread(target=lambda: found.append(state["n"]))
            thread.start()
            thread.join(0.2)  # it may wait for who is at work
            threads.append(thread)

        threads = []
        monkeypatch.setattr(probe.CLOSE_HEADER, close_and_read)
        with on_an_open_file():
            os.unlink(path + "-lock")
        probe.check_next(state)
        state.n = 5
        threads[0].join()
        assert found in ([0], [5])
        assert state.n == 5

    def test_another_thread_with_the_lock(self, path):
        state = mmapstate.open(path, {"n": 0}, timeout=0.05)
        Roads(state)
        with held_by_a_thread(state._thread_lock):
            with pytest.raises(LockTimeout, match="another thread"):
                state.n = 1
            assert state.n == -1
        state.n = 2
        assert on_disk(path) == {"n": 2}

    def test_who_waits_for_another_process_reads_what_that_commits_meanwhile(self, path):
        def hold(talk):
            with PersistedState(path) as state:
                talk.receive()
                with state._thread_lock:
                    for number in range(3):
                        state.n = number
                    talk.send("held")
                    talk.receive()

        with Child(hold) as child, PersistedState(path, n=-1) as state:
            child.send("open here, too")
            child.receive()
            thread = threading.Thread(target=state.increment, args=("n",))
            thread.start()
            deadline = monotonic() + 30
            while probe.items(state)["n"] != 2:  # as memory has it: nobody else asks it to read
                assert monotonic() < deadline
                assert thread.is_alive()
            child.send("let go")
            thread.join()
            assert state.n == 3
            child.result()

    def test_who_waits_for_long_has_the_others_pause_before_they_take_the_lock_again(self, path):
        def hold(talk):
            with PersistedState(path) as state:
                talk.receive()
                with state._thread_lock:
                    talk.send("held")
                    deadline = monotonic() + 30
                    while not probe.header_bytes(state)[WAITED_FOR]:
                        assert monotonic() < deadline
                talk.receive()
                pauses = []
                probe.header_bytes(state)[WAITED_FOR] = 1  # as by one who still waits
                probe.put(probe.SLEEP, pauses.append)
                state.vacuum()
                talk.send((pauses, probe.header_bytes(state)[WAITED_FOR]))

        with Child(hold) as child, PersistedState(path, n=-1) as state:
            child.send("open here, too")
            child.receive()
            state.n = 5
            child.send("not waiting any more")
            assert child.receive() == ([probe.get(probe.PAUSE)], 0)
            child.result()

    def test_who_tries_once_does_not_pause(self, path, monkeypatch):
        monkeypatch.setattr(probe.SLEEP, None)
        with mmapstate.open(path, {"n": 1}, timeout=0) as state:
            probe.header_bytes(state)[WAITED_FOR] = 1
            state.vacuum()
            assert probe.header_bytes(state)[WAITED_FOR] == 0

    def test_a_thread_that_waits_in_vain_leaves_the_nesting_of_the_other_alone(self, path):
        state = mmapstate.open(path, {"n": 0}, timeout=0)
        outcome = []

        def wait():
            try:
                state._thread_lock.acquire()
            except LockTimeout:
                outcome.append("in vain")

        with state._thread_lock:
            with state._thread_lock:
                thread = threading.Thread(target=wait)
                thread.start()
                thread.join()
            assert outcome == ["in vain"]
            assert probe.holders(state) == 1
        assert probe.is_free(state)

    def test_inside_the_lock_it_joins_and_leaves_it_held(self, path):
        state = PersistedState(path, n=0)
        Roads(state)
        with state._thread_lock:
            state.n = 1
            assert probe.is_whole(state)
            state.n += 1
        assert probe.is_free(state)
        assert on_disk(path) == {"n": 2}

    def test_a_container_that_was_removed(self, path):
        state = PersistedState(path, d={"n": 0})
        Roads(state)
        node = state.d
        del state["d"]
        with pytest.raises(DetachedError):
            node["n"] = 1
        assert probe.is_free(state)
        assert on_disk(path) == state == {"n": -1}

    def test_a_closed_state(self, path):
        state = PersistedState(path, n=0, d={"n": 0})
        node = state.d
        state.close()
        for write in (lambda: state.__setattr__("n", 1), lambda: node.__setitem__("n", 1)):
            with pytest.raises(mmapstate.ClosedError):
                write()
        assert on_disk(path) == {"n": 0, "d": {"n": 0}}

    def test_a_file_cut_by_another_program(self, path):
        """In place, a moment before the store, at a page's end: without the look at its size that would be a SIGBUS."""
        state = PersistedState(path, n=0)
        Roads(state)
        state.text = "x" * (mmap.PAGESIZE - (probe.tail(state) + len(RECORD_OF_TEXT)) % mmap.PAGESIZE)
        assert probe.tail(state) % mmap.PAGESIZE == 0
        os.truncate(path, probe.tail(state))
        state.n = 1
        assert on_disk(path) == state
        assert state.n == 1

    @pytest.mark.family("editors")
    def test_another_file_of_the_same_shape_written_over_it(self, path, tmp_path):
        """Every offset is the same: only the crc of the last record tells."""
        other = tmp_path / "other.state"
        state, stranger = PersistedState(path, n=0, name="a"), PersistedState(other, n=0, name="b")
        Roads(state)
        stranger.n = -1
        assert probe.tail(state) == probe.tail(stranger)
        data = other.read_bytes()
        assert len(data) == os.path.getsize(path)
        with open(path, "r+b") as file:
            file.write(data)
        state.n = 1
        assert on_disk(path) == state == {"n": 1, "name": "b"}

    def test_a_record_of_another_process(self, path):
        state = PersistedState(path, n=0)
        roads = Roads(state)

        def change(talk):
            state.n = 10
            state.m = 1

        with Child.share(change) as child:
            child.result()
        state.n = 11
        assert roads.long == 1
        assert on_disk(path) == state == {"n": 11, "m": 1}

    def test_a_vacuum_of_another_process(self, path):
        state = PersistedState(path, n=0)
        Roads(state)
        with Child.share(lambda talk: state.vacuum()) as child:
            child.result()
        state.n = 7
        assert on_disk(path) == state == {"n": 7}

    @pytest.mark.parametrize("unsettled", [0, 1])
    def test_a_record_that_its_writer_died_over_before_it_was_announced(self, path, unsettled):
        state = PersistedState(path, n=0)
        Roads(state)

        def commit(talk):
            with state._thread_lock:
                probe.header_bytes(state)[DIRTY] = unsettled
                text, _ = probe.journal(state).encode(b'["set", [], "m", 5]')
                probe.store(state, probe.tail(state) + 1, text)
                probe.store(state, probe.tail(state), bytes([COMMITTED]))
                talk.send("committed")
                talk.receive()

        with Child.share(commit) as child:
            assert child.receive() == "committed"
            child.kill()
        state.n = 7
        assert on_disk(path) == state == {"n": 7, "m": 5}

    def test_junk_of_a_writer_that_died_before_its_commit(self, path):
        """It is longer than the next record, which would end in the middle of it."""
        state = PersistedState(path, n=0)
        Roads(state)

        def begin(talk):
            with state._thread_lock:
                probe.header_bytes(state)[DIRTY] = 1
                junk = probe.journal(state).encode(b'["set", [], "junk", "%b"]' % (b"x" * 200))[0]
                probe.store(state, probe.tail(state) + 1, junk)
                talk.send("begun")
                talk.receive()

        with Child.share(begin) as child:
            assert child.receive() == "begun"
            child.kill()
        state.n = 7
        assert on_disk(path) == state == {"n": 7}
        with open(path, "rb") as file:
            data = file.read()
        assert data[probe.tail(state) :].rstrip(b" ") == b"#"

    def test_another_process_with_the_lock(self, path):
        state = mmapstate.open(path, {"n": 0}, timeout=0.05)
        Roads(state)

        def hold(talk):
            with state._thread_lock:
                state.n = 10
                talk.send("held")
                talk.receive()

        with Child.share(hold) as child:
            assert child.receive() == "held"
            with pytest.raises(LockTimeout, match="another process"):
                state.n = 1
            assert probe.is_free(state)
            assert state.n == 10
            child.send("let go")
            child.result()
        state.n += 1
        assert on_disk(path) == {"n": 11}

    def test_a_fork(self, path):
        state = PersistedState(path, n=0)
        Roads(state)

        def change(talk):
            for _ in range(100):
                with state._thread_lock:
                    state.n += 1

        with Child.share(change) as child:
            for _ in range(100):
                with state._thread_lock:
                    state.n += 1
            child.result()
        assert on_disk(path) == state == {"n": 199}


class TestReading:
    def test_a_read_inside_this_threads_own_change_is_as_it_is(self, path):
        """As a signal handler or finaliser does."""
        state = PersistedState(path, d={"n": 0})
        assert probe.consistently(state, lambda: (state.copy(), state.d["n"])) == ({"d": {"n": 0}}, 0)

    def test_what_an_interrupt_left_half_way_is_rebuilt_before_it_is_read(self, path):
        state = PersistedState(path, d={"n": 0})
        node = state.d
        probe.doubt(state)
        probe.begin_change(state)
        probe.items(node)["n"] = "half-way"
        probe.check_later(state)
        assert state.copy() == {"d": {"n": 0}}
        assert state.d["n"] == 0

    def test_a_glance_waits_for_no_other_thread(self, path):
        state = PersistedState(path, n=0)
        with held_by_a_thread(probe.guard(state)):
            assert "'n': 0" in repr(state)

    def test_a_read_that_comes_just_after_another_threads_close_gives_the_last_state(self, path):
        state = PersistedState(path, n=0)
        backend = probe.backend(state)
        state.close()
        probe.refresh(backend)
        assert state.n == 0


class TestClosing:
    def test_it_waits_for_a_thread_with_the_lock_as_long_as_the_timeout_says(self, path, caplog):
        state = mmapstate.open(path, {"n": 0}, timeout=0.05)
        with held_by_a_thread(state._thread_lock):
            state.close()
            assert "left without compacting it" in caplog.text
        probe.close_again(state)  # again: nothing
        with pytest.raises(mmapstate.ClosedError), state._thread_lock:
            pass
        assert on_disk(path) == {"n": 0}

    def test_a_thread_that_waited_meanwhile_is_told_that_the_state_is_closed(self, path):
        state = PersistedState(path, n=0)
        outcome = []

        def write():
            try:
                state["n"] = 1
            except mmapstate.ClosedError:
                outcome.append("closed")

        thread = threading.Thread(target=write)
        with state._thread_lock:
            thread.start()
            state.close()
        thread.join()
        assert outcome == ["closed"]
        assert on_disk(path) == {"n": 0}

    @not_on_windows("a file that is mapped cannot be written anew there")
    def test_a_lock_that_finds_a_broken_edit_is_free_again(self, broken_path):
        state = PersistedState(broken_path, n=0)
        with open(broken_path, "wb") as file:
            file.write(b"n: [\n")
        os.utime(broken_path, (1, 1))
        probe.check_next(state)
        with pytest.raises(mmapstate.StateFileError), state._thread_lock:
            pass
        assert probe.is_free(state)

    @needs_fork
    def test_a_forked_child_that_never_touched_the_state_leaves_it_to_its_parent(self, path):
        state = PersistedState(path, n=0)

        def end(talk):
            probe.rest_all()  # what the interpreter does at its exit
            return probe.forked(state)

        with Child.share(end) as child:
            assert child.result()
        assert probe.journal(state).start >= 0
        state.n = 1
        state.close()
        with Child.share(lambda talk: state.n) as child:
            assert child.result() == 1
