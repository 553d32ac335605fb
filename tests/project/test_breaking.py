"""What "How to break it" in the README claims and no other test shows: stopped, copied, moved, dated, of two names."""

import datetime
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.independent_reader import read_state
from support.processes import Child, needs_fork, not_on_windows

import mmapstate
from mmapstate import DamagedStateError, LockTimeout, PersistedState, StateFileError

pytestmark = [needs_fork, not_on_windows("see 'On Windows' in the README: most of this is refused there")]


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (1, 1))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_program_stopped_while_it_has_the_lock_is_a_lock_timeout_to_writers_and_nothing_to_readers(path):
    def stop_inside(talk):
        state = PersistedState(path)
        with state.transaction():
            state.n = 6
            os.kill(os.getpid(), signal.SIGSTOP)
            state.n = 7

    state = mmapstate.open(path, {"n": 5}, timeout=0.2)
    state.close()
    with Child(stop_inside) as child:
        os.waitpid(child.pid, os.WUNTRACED)
        with pytest.raises(LockTimeout, match="a stopped program"):
            mmapstate.open(path, timeout=0.2)
        with mmapstate.open(path, readonly=True) as reader:
            assert reader.n == 5
        child.resume()
        child.result()
    assert on_disk(path) == {"n": 7}


def test_one_stopped_without_the_lock_is_in_nobodys_way(path):
    def sleep(talk):
        state = PersistedState(path)
        talk.send("open")
        talk.receive()
        return state.n

    PersistedState(path, n=5).close()
    with Child(sleep) as child:
        child.receive()
        child.stop()
        with PersistedState(path) as state:
            state.n = 6
            state.vacuum()
        child.resume()
        child.send("go on")
        assert child.result() == 6


def test_what_was_committed_before_os_exit_is_there(path):
    def leave(talk):
        state = PersistedState(path, n=0)
        for _ in range(10):
            state.n += 1
        with state.transaction():
            state.n = 100
            os._exit(0)

    with Child(leave) as child:
        child.wait()
    assert PersistedState(path).n == 10


@pytest.mark.parametrize("days", [-20_000, -1, 1, 20_000])
def test_an_edit_is_taken_up_whatever_its_date_says(path, days):
    """A clock set back, or forth: the date only tells how long to watch whether the file stands still."""
    state = PersistedState(path, n=1)
    state.n = 2
    with open(path, "w") as file:
        file.write("n: 70\n")
    then = max(time.time() + datetime.timedelta(days=days).total_seconds(), 1)
    os.utime(path, (then, then))
    probe.check_next(state)
    assert state.n == 70
    state.n += 1
    assert on_disk(path) == {"n": 71}


def test_a_state_moved_away_while_open_is_left_so_at_close_and_keeps_what_it_had(path):
    state = PersistedState(path, n=1)
    state.n = 2
    os.rename(path, path + ".moved")
    probe.check_next(state)
    state.close()
    assert not os.path.exists(path)
    assert PersistedState(path + ".moved").n == 2


def test_a_folder_moved_away_and_back_loses_nothing(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    state = PersistedState(folder / "example.state", n=1)
    folder.rename(tmp_path / "elsewhere")
    probe.check_next(state)
    with pytest.raises(OSError):
        state.n = 2
    assert state.n == 1
    (tmp_path / "elsewhere").rename(folder)
    state.n += 1
    state.close()
    assert on_disk(folder / "example.state") == {"n": 2}


def test_a_folder_copied_while_in_use_is_a_second_state(tmp_path):
    """The lock file in it tells of another file, and is not believed."""
    (tmp_path / "a").mkdir()
    state = PersistedState(tmp_path / "a" / "example.state", n=1)
    state.n = 2
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    state.n = 3
    with PersistedState(tmp_path / "b" / "example.state") as other:
        assert other.n == 2
        other.n = 100
    assert state.n == 3


def torn_copy(state, path):
    """Return a copy of which the second page was read much later than the first; and what the state was in between."""
    while probe.tail(state) < 3500:
        state.n += 1
    first, before = read(path), state.plain()
    while probe.tail(state) < 6000:
        state.n += 1
    return first[:4096] + read(path)[4096:], before


def test_a_copy_that_was_torn_gives_what_came_before_the_tear_and_is_kept(path, tmp_path, caplog):
    state = PersistedState(path, n=0)
    data, before = torn_copy(state, path)
    put(tmp_path / "copy.state", data)
    with PersistedState(tmp_path / "copy.state") as copy:
        assert copy == before
    (kept,) = tmp_path.glob("copy.state.damaged-*")
    assert read(kept) == data
    assert "records from offset" in caplog.text


def test_a_torn_copy_put_back_while_programs_run_is_refused_and_overwritten_by_nobody(broken_path):
    state = PersistedState(broken_path, n=0)
    data, _ = torn_copy(state, broken_path)
    put(broken_path + ".new", data)
    os.replace(broken_path + ".new", broken_path)
    probe.check_next(state)
    with pytest.raises(DamagedStateError, match="offset"):
        state.n += 1
    state.close()
    assert read(broken_path) == data


def test_a_lock_file_that_is_emptied_ends_its_users_and_loses_nothing_that_was_committed(path):
    """Their page is cut; Python cannot catch that. So it is not called ``.lock``, which shells empty by habit."""

    def count(talk):
        import faulthandler

        faulthandler.disable()
        state = PersistedState(path, n=0)
        while True:
            state.n += 1
            talk.send(state.n)

    with Child(count) as child:
        child.receive()
        os.truncate(path + "-lock", 0)
        told = list(child.drain())
        assert os.WTERMSIG(child.wait()) == signal.SIGBUS
    with PersistedState(path) as state:
        assert state.n - (told[-1] if told else 1) in (0, 1)


def test_an_editor_killed_half_way_leaves_a_text_that_is_refused_and_what_was_before_beside_it(path, tmp_path):
    state = PersistedState(path, n=1, names=["a", "b"])
    state.n = 2
    with open(path, "wb") as file:
        file.write(b"n: 3\nnames: [a, ")
    probe.check_next(state)
    with pytest.raises(StateFileError, match="line"):
        state.n += 1
    (kept,) = tmp_path.glob("example.state.superseded-*")
    assert read_state(read(kept)) == {"n": 2, "names": ["a", "b"]}
    os.replace(kept, path)
    probe.check_next(state)
    state.n += 1
    assert on_disk(path) == {"n": 3, "names": ["a", "b"]}


def test_two_programs_that_opened_two_hard_links_in_turn_end_with_two_states(path, tmp_path):
    other = str(tmp_path / "other.state")
    PersistedState(path, n=0).close()
    os.link(path, other)
    with PersistedState(path) as first:
        first.n = 1
    with PersistedState(path) as first, PersistedState(other) as second:
        first.n += 1
        second.n += 100
    assert (on_disk(path), on_disk(other)) == ({"n": 2}, {"n": 101})


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts")
class TestMounts:
    """As containers have it: the same folder, or the same file, under another path."""

    @pytest.fixture
    def bound(self, tmp_path):
        """Return a function that mounts what is at one path at another."""
        mounted = []

        def bind(what, where):
            done = subprocess.run(["mount", "--bind", str(what), str(where)], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
            mounted.append(where)

        yield bind
        for where in reversed(mounted):
            subprocess.run(["umount", str(where)], check=True)

    @staticmethod
    def count(talk, path):
        with PersistedState(path) as state:
            talk.send("open")
            talk.receive()
            for number in range(500):
                state.increment("n")
                if number % 100 == 0:
                    state.vacuum()

    def test_programs_that_have_the_folder_mounted_elsewhere_share_the_state(self, tmp_path, bound):
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        bound(here, there)
        PersistedState(here / "example.state", n=0).close()
        with Child(self.count, here / "example.state") as one, Child(self.count, there / "example.state") as two:
            for child in (one, two):
                child.receive()
            for child in (one, two):
                child.send("go")
            one.result()
            two.result()
        assert on_disk(here / "example.state") == {"n": 1000}

    def test_a_file_that_is_a_mount_point_is_written_and_never_compacted(self, tmp_path, bound):
        inside, outside = tmp_path / "inside.state", tmp_path / "outside.state"
        PersistedState(outside, n=0).close()
        inside.touch()
        bound(outside, inside)
        with PersistedState(inside) as state:
            for _ in range(100):
                state.increment("n")
            with pytest.raises(mmapstate.StateError, match="refused"):
                state.vacuum()
        assert on_disk(outside) == {"n": 100}
        with PersistedState(inside) as state:
            assert state.n == 100
