"""What Windows has otherwise: names, line ends, who may open what, and what a flush is. Most of it runs anywhere."""

import contextlib
import errno
import os
import stat
import sys
import types

import pytest
from support import probe
from support.independent_reader import read_file as on_disk

import mmapstate
from mmapstate import PersistedState
from mmapstate.file import system

on_windows = pytest.mark.skipif(not system.WINDOWS, reason="it is about Windows alone")


def use_all_of(path):
    """Open, change, compact, close, open again: all names that are made from that of the file."""
    with PersistedState(path, n=0, items_={"a": []}) as state:
        state.n = 1
        state.items_["a"].append("x" * 20_000)
        state.vacuum()
        state.n += 1
        with mmapstate.open(path, readonly=True) as reader:
            assert reader.n == 2
    assert on_disk(path) == {"n": 2, "items_": {"a": ["x" * 20_000]}}
    with mmapstate.open(path, exclusive=True) as state:
        assert state.n == 2


class TestNames:
    @pytest.mark.parametrize("name", ["with spaces.state", "größe.state", "状態.yaml", "emoji 🐙.state", "no-suffix"])
    def test_of_files(self, tmp_path, name):
        folder = tmp_path / f"in {name}"
        folder.mkdir()
        use_all_of(folder / name)
        assert sorted(os.listdir(folder)) == sorted([name, name + "-lock"])

    @pytest.mark.parametrize("length", [120, 200, 225, 245, 258, 262, 300])
    def test_long_ones(self, tmp_path, length):
        """Windows takes 259 characters where nobody has allowed more; what is written beside the file has more."""
        folder = os.path.join(tmp_path, "a" * 80)
        if length > len(folder) + 20:
            os.mkdir(folder)
            path = os.path.join(folder, "b" * (length - len(folder) - 1))
        else:
            path = os.path.join(tmp_path, "b" * max(10, length - len(str(tmp_path)) - 1))
        try:
            use_all_of(path)
        except OSError as error:
            if getattr(error, "winerror", None) != 234:
                raise
            pytest.skip("Wine cannot tell the final path of a file of so long a name (error 234)")
        assert os.path.exists(system.real_path(path))

    @on_windows
    def test_long_ones_are_turned_into_the_form_without_a_limit(self):
        long = "a" * 200
        assert system.long_path(rf"C:\{long}\x.state") == rf"\\?\C:\{long}\x.state"
        assert system.long_path(rf"\\server\share\{long}") == rf"\\?\UNC\server\share\{long}"
        assert system.long_path(rf"\\?\C:\{long}") == rf"\\?\C:\{long}"
        assert system.long_path(r"C:\short.state") == r"C:\short.state"

    def test_relative_ones_stay_what_they_are_when_the_folder_changes(self, tmp_path, monkeypatch):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        with PersistedState("x.state", n=0) as state:
            monkeypatch.chdir(tmp_path / "elsewhere")
            state.n = 1
            state.vacuum()
            state.n = 2
        assert on_disk(tmp_path / "x.state") == {"n": 2}
        assert os.listdir(tmp_path / "elsewhere") == []

    @on_windows
    def test_drive_relative_ones_are_relative_to_the_drives_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        drive = os.path.splitdrive(os.getcwd())[0]
        use_all_of(f"{drive}x.state")
        assert on_disk(tmp_path / "x.state")["n"] == 2

    @on_windows
    def test_letter_case_and_slashes_make_no_other_state(self, path):
        state = PersistedState(path, n=0)
        other = PersistedState(path.upper().replace("\\", "/"))
        other.n = 1
        assert state.n == 1
        assert probe.backend(state) is probe.backend(other)


class TestLineEnds:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b"n: 1\r\nname: a b\r\n", b"n: 2\r\nname: a b\r\n"),
            (b"n: 1\nname: a b\n", b"n: 2\nname: a b\n"),
            (b"n: 1", b"n: 2"),
            (b"n: 1\r\nnames:\r\n- a\r\n- b\r\n", b"n: 2\r\nnames:\r\n- a\r\n- b\r\n"),
            (b"name: |\r\n  two\r\n  lines\r\nn: 1\r\n", None),
            (b'"n": 1\r\nname: "folded\r\n\r\n  text"\r\n', None),
        ],
    )
    def test_those_of_a_file_written_by_hand_are_kept(self, path, text, expected):
        with open(path, "wb") as file:
            file.write(text)
        os.utime(path, (1, 1))
        with mmapstate.open(path) as state:
            before = state.plain()
            state["n"] += 1
            assert on_disk(path) == state == {**before, "n": 2}
        with open(path, "rb") as file:
            found = file.read()
        assert on_disk(path) == {**before, "n": 2}
        assert found.count(b"\r\n") == (found.count(b"\n") if b"\r" in text else 0)
        if expected is not None:
            assert found.replace(b"'n'", b"n").replace(b'"n"', b"n") == expected


class TestRefusals:
    def test_a_file_that_may_only_be_read_tells_of_readonly(self, path):
        PersistedState(path, n=1).close()
        os.chmod(path, stat.S_IREAD)
        try:
            with contextlib.suppress(PermissionError):
                os.close(os.open(path, os.O_RDWR))
                pytest.skip("root may write it all the same; test_permissions does this as another user")
            with pytest.raises(PermissionError, match="to read it alone, open it with readonly=True") as caught:
                PersistedState(path)
            assert caught.value.filename == path
            with mmapstate.open(path, readonly=True) as state:
                assert state.n == 1
        finally:
            os.chmod(path, stat.S_IREAD | stat.S_IWRITE)

    @on_windows
    def test_a_file_that_another_program_shares_with_nobody_is_an_error_that_says_so(self, path):
        PersistedState(path, n=1).close()
        with held_alone(path):
            for options in ({}, {"readonly": True}):
                with pytest.raises(PermissionError, match="another program has the file open and shares it") as caught:
                    mmapstate.open(path, **options)
                assert caught.value.filename == path
        with PersistedState(path) as state:
            assert state.n == 1

    @on_windows
    def test_one_that_gives_it_back_in_a_moment_is_waited_for(self, path):
        import threading

        PersistedState(path, n=1).close()
        with contextlib.ExitStack() as held:
            held.enter_context(held_alone(path))
            timer = threading.Timer(0.1, held.close)
            timer.start()
            with PersistedState(path) as state:
                assert state.n == 1
            timer.join()

    @on_windows
    def test_an_editor_that_saves_while_the_file_is_mapped_is_refused_and_nothing_is_lost(self, path):
        with PersistedState(path, n=0) as state:
            state.n = 1
            with pytest.raises(OSError) as caught, open(path, "wb"):
                pass  # to be emptied first, as most editors do
            assert caught.value.errno == errno.EINVAL
            with open(path + ".new", "wb") as file:
                file.write(b"n: 7\n")
            with pytest.raises(PermissionError):
                os.replace(path + ".new", path)
            state.n += 1
            assert on_disk(path) == {"n": 2}
            state.vacuum()
            with open(path, "wb") as file:  # at rest it may be saved in place
                file.write(b"n: 7\n")
            os.utime(path + ".new", (1, 1))
            probe.check_next(state)
            assert state.n == 7


@contextlib.contextmanager
def held_alone(path):
    """Have the file open without sharing it, as some programs do."""
    import _winapi

    handle = _winapi.CreateFile(path, _winapi.GENERIC_READ, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
    try:
        yield
    finally:
        _winapi.CloseHandle(handle)


class TestPower:
    def test_on_windows_the_view_is_flushed_and_then_the_file(self, path, monkeypatch):
        """FlushViewOfFile hands the bytes to the system and does not wait for the disk."""
        calls = []
        state = mmapstate.open(path, {"n": 0}, durability="power")
        state.n = 1
        file = probe.mapped(state)

        class Watched:
            def __init__(self, real):
                self.real = real

            def __getitem__(self, key):
                return self.real[key]

            def __setitem__(self, key, value):
                calls.append("store")
                self.real[key] = value

            def __len__(self):
                return len(self.real)

            def flush(self):
                calls.append("flush")
                self.real.flush()

            def close(self):
                self.real.close()

        real_fsync = os.fsync
        monkeypatch.setattr(system, "WINDOWS", True)
        monkeypatch.setattr(sys, "platform", "win32")  # no fdatasync there
        monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), real_fsync(descriptor)))
        file.bytes = Watched(file.bytes)
        state.n = 2
        monkeypatch.undo()
        assert calls[-5:] == ["store", "store", "flush", "fsync", "store"]  # the last one takes away the mark
        assert on_disk(path) == {"n": 2}

    @pytest.mark.parametrize("refused", [False, True])
    def test_on_macos_the_drive_is_told_to_write_or_else_fsync_is_all(self, path, monkeypatch, refused):
        """F_FULLFSYNC; fsync alone hands the bytes to the drive, which may keep them in its memory."""
        calls = []

        def fcntl(descriptor, operation):
            assert operation == 51
            calls.append("full")
            if refused:  # a network drive, for one
                raise OSError(errno.ENOTSUP, "Operation not supported")
            return 0

        state = mmapstate.open(path, {"n": 0}, durability="power")
        state.n = 1
        real_fsync = os.fsync
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setitem(sys.modules, "fcntl", types.SimpleNamespace(fcntl=fcntl, F_FULLFSYNC=51))
        monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), real_fsync(descriptor)))
        state.n = 2
        assert calls == ["full", "fsync"] if refused else ["full"]
        calls.clear()
        state.sync()
        assert calls.count("full") >= 1
        assert ("fsync" in calls) is refused
        monkeypatch.undo()
        state.close()
        assert on_disk(path) == {"n": 2}
