"""The corners of opening, syncing and swapping that the larger families pass by."""

import errno
import glob
import os
import sys
import threading
import time

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, not_on_windows
from support.runs import on_an_open_file

import mmapstate
from mmapstate import PersistedState, StateError, StateFileError
from mmapstate.file import host, system


def hold_open(talk, path):
    state = PersistedState(path, n=0)
    talk.send("open")
    talk.receive(1000)
    return state.n


class TestOpening:
    def test_an_opener_under_a_new_sidecar_is_refused_while_others_use_the_old_one(self, path):
        with Child(hold_open, path) as child:
            child.receive()
            with on_an_open_file():
                os.unlink(path + "-lock")
            with pytest.raises(StateError, match="another lock file"):
                mmapstate.open(path, timeout=0.1)
            child.send("look")
            child.result()
        with PersistedState(path) as state:
            assert state == {"n": 0}

    def test_an_opener_under_a_new_sidecar_waits_for_the_others_to_come_over(self, path):
        with Child(hold_open, path) as child:
            child.receive()
            with on_an_open_file():
                os.unlink(path + "-lock")
            waker = threading.Timer(0.2, child.send, ["look"])
            waker.start()
            with mmapstate.open(path, timeout=20) as state:
                state.n = 5
            waker.join()
            child.result()

    @not_on_windows("a lock on the state file itself is about flock")
    def test_a_file_that_another_program_has_locked_is_an_error_that_says_so(self, path):
        import fcntl

        with PersistedState(path, n=0):
            pass
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with pytest.raises(StateError, match="or has locked the state file"):
                mmapstate.open(path, timeout=0.1)
        finally:
            os.close(descriptor)
        with PersistedState(path) as state:
            assert state.n == 0

    def test_an_opener_finds_another_file_of_the_same_shape_written_over_it(self, path, tmp_path):
        other = tmp_path / "other.state"
        state, stranger = PersistedState(path, n=0, name="a"), PersistedState(other, n=0, name="b")
        with open(path, "r+b") as file:
            file.write(other.read_bytes())
        with on_an_open_file():
            os.utime(path, (1, 1))

        def read(talk):
            probe.forget_all()  # open it as a stranger does
            return mmapstate.open(path).copy()

        with Child.share(read) as child:
            assert child.result() == {"n": 0, "name": "b"}
        probe.check_next(state)
        assert state == stranger

    def test_exclusive_is_a_lock_timeout_while_others_have_it_open(self, path):
        with Child(hold_open, path) as child:
            child.receive()
            with pytest.raises(mmapstate.LockTimeout, match="other programs have the state open"):
                mmapstate.open(path, exclusive=True, timeout=0.1)
            child.send("end")
            child.result()
        with mmapstate.open(path, exclusive=True, timeout=0.1) as state:
            assert state.n == 0

    def test_an_opener_does_not_wait_for_a_lock_holder_longer_than_its_timeout(self, path):
        state = mmapstate.open(path, {"n": 0}, timeout=0.2)

        def hold(talk):
            with state._thread_lock:
                talk.send("held")
                talk.receive(1000)

        with Child.share(hold) as child:
            child.receive()
            state.close()
            started = time.monotonic()
            with pytest.raises(mmapstate.LockTimeout):
                mmapstate.open(path, timeout=0.2)
            assert 0.15 < time.monotonic() - started < 5
            child.kill()

    def test_a_stopped_process_delays_only_its_own_lock(self, path):
        with Child(hold_open, path) as child:
            child.receive()
            child.stop()
            with PersistedState(path) as state:
                state.n = 7
                if sys.platform != "win32":  # where it is put off: see test_idle
                    state.vacuum()
                state.n = 8
            child.resume()
            child.send("look")
            assert child.result() == 8

    def test_a_leftover_image_of_a_killed_vacuum_is_swept(self, path, tmp_path):
        leftover = tmp_path / ".example.state.0123456789abcdef.tmp"
        leftover.write_text("x")
        other = tmp_path / ".other.state.0123456789abcdef.tmp"
        other.write_text("x")
        with PersistedState(path):
            assert not leftover.exists()
            assert other.exists()
        other.unlink()

    def test_junk_in_the_slack_after_loss_of_power_is_kept_and_reported(self, path, monkeypatch, caplog):
        def leave(talk):
            state = PersistedState(path, n=0)
            state.n = 1
            talk.send("done")
            talk.receive(1000)

        with Child(leave) as child:
            child.receive()
            child.kill()
        with open(path, "r+b") as file:
            data = file.read()
            file.seek(data.rindex(b"\n#") + 40)
            file.write(b"half of a record that was on another page")
        monkeypatch.setattr(host, "boot_id", lambda: b"another boot....")
        with PersistedState(path) as state:
            assert state.n == 1
        assert len(glob.glob(path + ".damaged-*")) == 1
        assert "with the power" in caplog.text


def test_a_journal_that_went_with_the_power_is_told_of(path, caplog):
    PersistedState(path, count=1).close()
    with open(path, "ab") as file:
        file.write(b"\0" * 506 + b" " * 9000)
    os.utime(path, (1, 1))
    with PersistedState(path) as state:
        assert state == {"count": 1}
    assert "records from offset 9 on are lost" in caplog.text
    (copy,) = glob.glob(path + ".damaged-*")
    assert os.path.getsize(copy) == 9 + 506 + 9000


class TestSyncs:
    def fail_folder(self, monkeypatch, number=errno.EIO):
        def fail(path):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(system, "sync_folder", fail)

    def test_a_folder_that_cannot_be_synced_is_told_by_a_warning(self, path, monkeypatch, caplog):
        state = PersistedState(path, n=0)
        self.fail_folder(monkeypatch)
        state.vacuum()
        state.n = 1
        assert "bring back an older state" in caplog.text
        assert on_disk(path) == {"n": 1}

    def test_a_folder_that_cannot_be_synced_is_an_error_to_power_and_nothing_is_lost(self, path, monkeypatch):
        state = mmapstate.open(path, {"n": 0}, durability="power")
        self.fail_folder(monkeypatch)
        with pytest.raises(OSError, match="Input/output"):
            state.vacuum()
        with pytest.raises(OSError, match="Input/output"):
            state.n = 1
        assert state.n == 0
        monkeypatch.undo()
        state.n = 2
        assert on_disk(path) == {"n": 2}

    def test_after_a_failed_sync_nothing_is_committed_where_the_file_cannot_be_replaced(self, path, monkeypatch):
        state = mmapstate.open(path, {"n": 0}, durability="power")

        def fail(*arguments):
            raise OSError(errno.EIO, "Input/output error")

        def refuse(*arguments):
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(system, "sync_data", fail)
        with pytest.raises(OSError, match="Input/output"):
            state.n = 1
        monkeypatch.setattr(system, "replace", refuse)
        monkeypatch.setattr(probe.LONGEST_RELEASE, 0.01)
        with pytest.raises(StateError, match="a sync failed"):
            state.n = 2
        assert state.n == 0
        monkeypatch.undo()
        state.n = 3
        assert on_disk(path) == {"n": 3}

    def test_power_syncs_each_commit_and_process_none(self, path, monkeypatch):
        calls = []
        real = system.sync_data
        monkeypatch.setattr(system, "sync_data", lambda descriptor: calls.append(real(descriptor)))
        with mmapstate.open(path, {"n": 0}) as state:
            for n in range(10):
                state.n = n
            assert calls == []
            state.sync()
            assert len(calls) == 1
        with mmapstate.open(path, durability="power") as state:
            state.n = -1
            calls.clear()
            for n in range(10):
                state.n = n
            assert len(calls) == 10

    def test_the_strictest_handle_of_a_process_decides(self, path):
        weak = PersistedState(path, n=0)
        assert not probe.syncs(weak)
        strict = mmapstate.open(path, durability="power")
        assert probe.syncs(weak)
        strict.close()
        assert not probe.syncs(weak)


class TestSwaps:
    @pytest.mark.family("editors")
    def test_an_edit_of_a_live_file_that_cannot_be_replaced_is_an_error_that_says_what_to_do(
        self, broken_path, monkeypatch
    ):
        state = PersistedState(broken_path, n=0)
        with open(broken_path, "rb") as file:
            edited = b"m: 1\n" + file.read()
        with on_an_open_file(), open(broken_path, "wb") as file:
            file.write(edited)
        os.utime(broken_path, (1, 1))

        def refuse(*arguments):
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(system, "replace", refuse)
        monkeypatch.setattr(probe.LONGEST_RELEASE, 0.01)
        probe.check_next(state)
        with pytest.raises(StateFileError, match="remove the lines"):
            state.n = 1
        with open(broken_path, "rb") as file:
            assert file.read() == edited

    def test_a_file_that_keeps_changing_is_an_error_in_the_end(self, path, monkeypatch):
        monkeypatch.setattr(probe.ENDLESS_EDIT, 0.5)
        stop = threading.Event()

        def scribble():
            while not stop.is_set():
                with open(path, "w") as file:
                    file.write(f"n: {time.time_ns()}\n")
                time.sleep(0.02)

        with open(path, "w") as file:
            file.write("n: 0\n")
        thread = threading.Thread(target=scribble)
        thread.start()
        try:
            with pytest.raises(StateFileError, match="keeps changing"):
                PersistedState(path)
        finally:
            stop.set()
            thread.join()

    def test_regions_grow_with_a_busy_time_so_that_vacuums_get_rare(self, path):
        state = PersistedState(path, n=0)
        inodes = set()
        for n in range(20_000):
            state.n = n
            if n % 100 == 0:
                inodes.add(system.path_image(path).inode)
        assert len(inodes) <= 5
        assert on_disk(path) == {"n": 19_999}

    @pytest.mark.family("sizes")
    @pytest.mark.parametrize("less", range(-3, 4))
    def test_records_around_the_size_of_the_room_left_fit_or_make_room(self, path, less):
        state = PersistedState(path, n=0)
        journal = probe.journal(state)
        overhead = len(b'--- ["set", [], "t", ""] #01234567\n')
        state.t = "x" * (journal.room() - overhead + less)
        assert on_disk(path) == {"n": 0, "t": state.t}
        state.n = 1
        assert on_disk(path)["n"] == 1

    @pytest.mark.family("sizes")
    def test_a_record_larger_than_any_region_fits(self, path):
        state = PersistedState(path, n=0)
        state.big = ["x" * 100] * 100_000
        assert len(on_disk(path)["big"]) == 100_000
