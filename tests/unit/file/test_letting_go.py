"""Where nobody can replace a file that is open (Windows), all let go of it for a vacuum, and take it up again.

On Windows this is so. On Linux it is made so: a rename is refused while a process of the test has the target open.
"""

import contextlib
import errno
import os
import sys
import threading
import time

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child
from support.runs import scaled

import mmapstate
from mmapstate import PersistedState, StateError
from mmapstate.file import images, system
from mmapstate.file.page import DIRTY, RELEASE

pytestmark = pytest.mark.skipif(
    sys.platform not in ("win32", "linux"), reason="it takes Windows, or /proc to do as Windows does"
)


@pytest.fixture(autouse=True)
def as_on_windows():
    """Refuse to replace a file that is open, as Windows does."""
    if sys.platform == "win32":
        yield
        return
    tester = os.getpid()
    really_replace = system.replace

    def is_in_use(path):
        return os.path.exists(path) and os.stat(path).st_ino in open_files(tester)

    def replace(source, target):
        if is_in_use(target):
            raise PermissionError(errno.EACCES, "a process has it open", source, None, target)
        really_replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "REPLACE_NEEDS_UNMAPPED", True)
        patch.setattr(system, "is_in_use", is_in_use)
        patch.setattr(system, "replace", replace)
        yield
        probe.close_all()  # while the rules are those of their opening


def open_files(tester):
    """Yield the inode of each file that the process `tester` or a child of it has open or mapped (Linux)."""
    pids = [str(tester)]
    for task in os.listdir(f"/proc/{tester}/task"):
        pids += read(f"/proc/{tester}/task/{task}/children").split()
    for pid in pids:
        with contextlib.suppress(OSError):  # gone meanwhile
            yield from (int(line.split()[4]) for line in read(f"/proc/{pid}/maps").splitlines())
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):  # the descriptor of the listing itself
                    yield os.stat(f"/proc/{pid}/fd/{number}").st_ino


def read(path):
    with open(path) as file:
        return file.read()


def sleep(talk, path):
    """Have the state open and do nothing; then tell what it holds, and whether a node is still the same."""
    state = PersistedState(path)
    jobs = state["jobs"]
    talk.send("asleep")
    talk.receive(86_400)  # a long run takes hours
    return state.plain(), state["jobs"] is jobs


def hold(talk, path):
    """The same, with an item of a list, which stays the same only for who follows record by record."""
    state = PersistedState(path)
    item = state["jobs"][0]
    talk.send("asleep")
    talk.receive(86_400)  # a long run takes hours
    return state.plain(), state["jobs"][0] is item


def count(talk, path, times, seconds):
    """Increment in a row and tell how often; the largest size that the file had, too."""
    state = PersistedState(path)
    talk.send("ready")
    talk.receive(1000)
    until = time.monotonic() + seconds
    done, largest = 0, 0
    while done < times and time.monotonic() < until:
        state.increment("count")
        done += 1
        if done % 50 == 0:
            largest = max(largest, os.path.getsize(path))
    return done, largest


def count_until_told(talk, path):
    """Increment in a row until a message comes, and tell how often."""
    state = PersistedState(path)
    done = 0
    while not talk.ready(0):
        done = state.increment("count")
    return done


class TestVacuum:
    def test_it_goes_through_while_others_sleep_and_they_follow_it_in_their_sleep(self, path):
        PersistedState(path, count=0, jobs=[{"a": 1}]).close()
        with Child(sleep, path) as one, Child(sleep, path) as other:
            assert one.receive() == other.receive() == "asleep"
            with PersistedState(path) as state:
                for number in range(1, 6):
                    state.count = number
                    state["jobs"].append(number)
                    inode = system.path_image(path).inode
                    state.vacuum()
                    assert system.path_image(path).inode != inode
                    assert "mmapstate journal" not in read(path)
                state.count += 1
                one.send("wake up")
                other.send("wake up")
                expected = ({"count": 6, "jobs": [{"a": 1}, 1, 2, 3, 4, 5]}, True)
                assert one.result() == other.result() == expected

    def test_one_that_had_not_read_all_when_it_let_go_reads_it_afterwards(self, path):
        PersistedState(path, count=0, jobs=[{}]).close()
        with Child(hold, path) as child:
            assert child.receive() == "asleep"
            with PersistedState(path) as state:
                for number in range(100):
                    state.count = number
                state.vacuum()
                child.send("wake up")
                assert child.result() == ({"count": 99, "jobs": [{}]}, True)

    def test_one_that_only_reads_is_never_in_the_way(self, path):
        state = PersistedState(path, count=0)
        with mmapstate.open(path, readonly=True) as reader:
            for number in range(1, 4):
                state.count = number
                assert reader.wait_for(lambda: reader.count == number, timeout=10)  # noqa: B023
                state.vacuum()
                assert reader.count == number

    def test_it_goes_through_while_another_process_writes(self, path):
        with PersistedState(path, count=0):
            pass
        with Child(count_until_told, path) as child:
            state = PersistedState(path)
            for _ in range(max(5, scaled(200))):
                before = state.count
                state.vacuum()
                assert state.wait_for(lambda: state.count > before, timeout=30)  # noqa: B023
            child.send("enough")
            assert child.result() == state.count

    def test_a_process_that_is_stopped_only_puts_it_off(self, path, monkeypatch):
        monkeypatch.setattr(probe.LONGEST_RELEASE, 0.05)
        monkeypatch.setattr(probe.GROWING_REGION, 0)
        PersistedState(path, count=0, jobs=[{}]).close()
        with Child(sleep, path) as child:
            assert child.receive() == "asleep"
            state = PersistedState(path)
            child.stop()
            try:
                state.count = 1
                with pytest.raises(StateError, match="refused to replace"):
                    state.vacuum()
                assert probe.header_bytes(state)[RELEASE] == 0
                for number in range(3):
                    state.text = str(number) * 20_000  # more than the region holds: it grows where it is
                grown = os.path.getsize(path)
                assert grown > 60_000
                assert on_disk(path) == state
            finally:
                child.resume()
            monkeypatch.undo()
            state.vacuum()
            assert os.path.getsize(path) < 25_000
            state.count = 2
            child.send("wake up")
            assert child.result()[0] == {"count": 2, "jobs": [{}], "text": "2" * 20_000}

    def test_who_dies_while_the_others_let_go_leaves_them_a_file_to_take_up(self, path):
        PersistedState(path, count=0, jobs=[{}]).close()

        def die(talk):
            state = PersistedState(path)
            state.count = 1
            with state._thread_lock:
                probe.header_bytes(state)[DIRTY] = 1
                probe.header_bytes(state)[RELEASE] = 1
                talk.send("asked")
                talk.receive(1000)

        with Child(sleep, path) as sleeper:
            assert sleeper.receive() == "asleep"
            with Child(die) as child:
                assert child.receive() == "asked"
                child.kill()
            state = PersistedState(path)
            assert probe.header_bytes(state)[RELEASE] == 0
            state.count += 1
            sleeper.send("wake up")
            assert sleeper.result() == ({"count": 2, "jobs": [{}]}, True)

    def test_a_file_that_others_hold_grows_and_shrinks_again(self, path):
        """Four live processes, two of them idle: the file stays of bounded size over a long run.

        200,000 increments, or as many as fit 60 seconds; or as many as MMAPSTATE_TEST_INCREMENTS says, however long.
        """
        asked = int(os.environ.get("MMAPSTATE_TEST_INCREMENTS", "0"))
        times, seconds = (asked or scaled(200_000)) // 2, 86_400 if asked else 60
        PersistedState(path, count=0, jobs=[{}]).close()
        with Child(sleep, path) as one, Child(sleep, path) as other:
            assert one.receive() == other.receive() == "asleep"
            with Child(count, path, times, seconds) as first, Child(count, path, times, seconds) as second:
                assert first.receive() == second.receive() == "ready"
                first.send("go")
                second.send("go")
                results = [first.result(seconds + 60), second.result(seconds + 60)]
                done, largest = sum(each[0] for each in results), max(each[1] for each in results)
            live = os.path.getsize(path)
            one.send("wake up")
            other.send("wake up")
            assert one.result() == other.result() == ({"count": done, "jobs": [{}]}, True)
        with PersistedState(path) as state:
            assert state == {"count": done, "jobs": [{}]}
        print(f"{done} increments; largest {largest} bytes, {live} at their end, {os.path.getsize(path)} at rest")
        assert largest <= 2 * images.LARGEST_REGION + 4096 + 100
        assert os.path.getsize(path) < 100


class TestOpenAndClose:
    def test_the_last_to_close_compacts_the_file_and_none_before(self, path):
        PersistedState(path, count=0, jobs=[{}]).close()
        with Child(sleep, path) as child:
            assert child.receive() == "asleep"
            with PersistedState(path) as state:
                state.count = 1
            assert "mmapstate journal" in read(path)
            child.send("wake up")
            child.result()
        with PersistedState(path):
            pass
        assert read(path) == "count: 1\njobs:\n- {}\n"

    def test_exclusive_is_refused_while_others_have_it_open(self, path):
        PersistedState(path, count=0, jobs=[{}]).close()
        with Child(sleep, path) as child:
            assert child.receive() == "asleep"
            with pytest.raises(mmapstate.LockTimeout, match="other programs have the state open"):
                mmapstate.open(path, exclusive=True, timeout=0.1)
            child.send("wake up")
            child.result()
        with mmapstate.open(path, exclusive=True, timeout=10) as state:
            state.count += 1

    def test_the_thread_begins_with_the_first_state_and_ends_with_the_last(self, path, tmp_path):
        def threads():
            return [thread for thread in threading.enumerate() if thread.name == "mmapstate idle"]

        assert threads() == []
        one, other = PersistedState(path), PersistedState(tmp_path / "other.state")
        (thread,) = threads()
        one.close()
        assert threads() == [thread]
        other.close()
        assert threads() == []
        with PersistedState(path):
            assert threads() not in ([], [thread])
        assert threads() == []

    def test_an_error_in_the_thread_is_logged_and_ends_nothing(self, path, tmp_path, caplog, monkeypatch):
        one, other = PersistedState(path, count=0), PersistedState(tmp_path / "other.state", count=0)
        asked = threading.Event()
        probe.at_each_turn_of_the_watcher(one, lambda: 1 / 0, monkeypatch.setattr)
        probe.at_each_turn_of_the_watcher(other, asked.set, monkeypatch.setattr)
        assert asked.wait(10)
        asked.clear()
        assert asked.wait(10)
        monkeypatch.undo()
        assert "may keep it open" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert probe.watcher().is_alive()
