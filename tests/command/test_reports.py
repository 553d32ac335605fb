"""`info` tells how large a file is and who uses it, `doctor` whether a folder is good for one, `vacuum` compacts."""

import io
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import independent_reader, probe
from support.processes import Child, not_on_windows
from test_command import call  # noqa: F401 - a fixture

import mmapstate
from mmapstate.care.info import Process
from mmapstate.command.key_paths import find, parse, written
from mmapstate.file import host, sidecar, system

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a lock")


def use(talk, path):
    """Have a state open, and hold its lock when told to."""
    with mmapstate.open(path) as state:
        talk.send("open")
        talk.receive()
        with state.transaction():
            talk.send("held")
            talk.receive()
        talk.send("free")
        talk.receive()


class TestInfo:
    def test_at_rest_the_file_is_the_snapshot(self, path):
        Path(path).write_bytes(b"a: 1\n")
        found = mmapstate.info(path)
        assert found[1:7] == (5, 5, 0, 0, None, 0)
        assert (found.file, found.at_rest, found.holder) == (os.path.realpath(path), True, None)
        assert not found.users

    def test_with_a_journal_the_parts_are_those_of_the_format(self, path):
        with mmapstate.open(path, {"a": 1}) as state:
            state.vacuum()
            for number in range(7):
                state.a = number
            found = mmapstate.info(path)
            data = Path(path).read_bytes()
        assert (found.size, found.records, found.at_rest) == (len(data), 7, False)
        assert data[: found.snapshot] == b"a: 1\n"
        journal = data[found.snapshot : found.snapshot + found.journal]
        assert journal.startswith(b"--- # mmapstate journal 1 " + found.generation.encode())
        assert journal.count(b"\n") == 8
        assert journal.endswith(b"\n")
        assert data[found.snapshot + found.journal :].strip(b"# ") == b""
        assert found.slack == len(data) - found.snapshot - found.journal
        assert independent_reader.read_file(path) == {"a": 6}

    def test_the_command_line_of_another_user_moves_no_cursor(self):
        assert probe.named(Process(7, "a\x1b[2J\nb c")) == "7  a [2J b c"

    @linux
    def test_it_names_who_has_it_open_and_who_has_the_lock(self, path):
        with Child(use, path) as one, Child(use, path) as other:
            one.receive()
            other.receive()
            assert [user.pid for user in mmapstate.info(path).users] == sorted([one.pid, other.pid])
            assert mmapstate.info(path).holder is None
            one.send("hold")
            one.receive()
            holder = mmapstate.info(path).holder
            assert holder.pid == one.pid
            assert "python" in holder.command
            assert holder in mmapstate.info(path).users
            one.send("let go")
            one.receive()
            assert mmapstate.info(path).holder is None
            other.kill()
            assert [user.pid for user in mmapstate.info(path).users] == [one.pid]
            one.send("end")
            one.result()

    @linux
    def test_who_waits_for_the_lock_does_not_have_it(self, path, monkeypatch):
        Path(path).write_bytes(b"a: 1\n")
        inode = f"{os.stat(path).st_ino}"
        device = f"{os.major(os.stat(path).st_dev):02x}:{os.minor(os.stat(path).st_dev):02x}"
        listed = (
            f"1: FLOCK  ADVISORY  WRITE 4194000 {device}:{inode} 0 EOF\n"
            f"1: -> FLOCK  ADVISORY  WRITE 4194001 {device}:{inode} 0 EOF\n"
            f"2: POSIX  ADVISORY  WRITE 4194002 {device}:{inode} 0 EOF\n"
            f"3: FLOCK  ADVISORY  READ -1 {device}:{inode} 0 EOF\n"
            f"4: FLOCK  ADVISORY  READ 4194003 ff:ff:{inode} 0 EOF\n"
            f"5: FLOCK  ADVISORY  READ {os.getpid()} ff:ff:{inode} 0 EOF\n"
        )
        monkeypatch.setattr(host, "open", lambda *_, **__: io.StringIO(listed), raising=False)
        status = os.stat(path)
        assert host.flocks(status) == [(4194000, True), (0, False)]
        with open(path):  # of a filesystem that tells another device to `stat`
            assert host.flocks(status)[2:] == [(os.getpid(), False)]

    @pytest.mark.parametrize(
        ("data", "parts"),
        [
            (b"", (0, 0, 0, 0, None, 0)),
            (b"a: 1\n#-- # mmapstate journal 1", (30, 5, 0, 25, None, 0)),
            (b'a: 1\n---\n["set", [], "a", 2]\n', (29, 29, 0, 0, None, 0)),
        ],
        ids=["empty", "unborn", "persistedstate"],
    )
    def test_of_files_that_are_not_as_we_leave_them(self, broken_path, data, parts):
        Path(broken_path).write_bytes(data)
        found = mmapstate.info(broken_path)
        assert found[1:7] == parts
        assert found.size == found.snapshot + found.journal + found.slack

    def test_a_damaged_journal_has_no_slack(self, broken_path):
        with mmapstate.open(broken_path, {"a": 1}) as state:
            state.vacuum()
            state.a, state.a = 2, 3
            data = bytearray(Path(broken_path).read_bytes())
        data[data.rindex(b'"a"')] ^= 1
        Path(broken_path).write_bytes(data)
        found = mmapstate.info(broken_path)
        assert (found.records, found.slack, found.journal) == (1, 0, len(data) - found.snapshot)

    def test_what_is_not_there_or_of_a_version_to_come_is_an_error(self, broken_path):
        with pytest.raises(FileNotFoundError):
            mmapstate.info(broken_path)
        with pytest.raises(TypeError, match="the path must be text"):
            mmapstate.info(os.fsencode(broken_path))
        Path(broken_path).write_bytes(b"a: 1\n--- # mmapstate journal 2 0123456789abcdef from - 00000000 x\n#  \n")
        with pytest.raises(mmapstate.StateFileError, match="version 2"):
            mmapstate.info(broken_path)

    def test_the_command_prints_it(self, path, call):  # noqa: F811
        with mmapstate.open(path, {"a": 1}) as state:
            state.vacuum()
            state.a = 2
            code, output, errors = call("info", path)
            found = json.loads(call("info", path, "--json")[1])
        assert (code, errors) == (0, "")
        lines = output.splitlines()
        assert lines[0] == os.path.realpath(path)
        assert lines[1] == (
            f"size        {found['size']:,} bytes: snapshot 5, journal {found['journal']:,}, slack {found['slack']:,}"
        )
        assert lines[2] == f"journal     1 record since the last vacuum; generation {found['generation']}"
        if found["users"] is not None:
            assert lines[3] == "lock        free"
            assert lines[4].startswith(f"used by     {os.getpid()}  ")
        code, output, _ = call("info", path)
        assert (code, output.splitlines()[2]) == (0, "journal     none: the file is at rest")


class TestVacuum:
    def test_it_tells_the_sizes_before_and_after(self, path, call):  # noqa: F811
        with Child(use, path) as child:
            child.receive()
            child.kill()
        mmapstate.open(path, {"a": 1}).close()
        with mmapstate.open(path) as state:
            state.a = 2
            before = os.path.getsize(path)
            code, output, errors = call("vacuum", path)
            assert (code, output, errors) == (0, f"{path}: {before:,} bytes before, 5 bytes after\n", "")

    def test_without_a_file_there_is_nothing_to_do(self, path, call):  # noqa: F811
        code, output, errors = call("vacuum", path)
        assert (code, output) == (1, "")
        assert errors in [f"mmapstate: {path}: {told}\n" for told in ("No such file or directory", "File not found")]
        assert not os.path.exists(path)


class TestDoctor:
    def test_a_good_folder_has_all_that_is_tried_and_nothing_is_left(self, tmp_path, call):  # noqa: F811
        (tmp_path / "a.state").write_text("a: 1\n")
        for place in (tmp_path, tmp_path / "a.state"):
            code, output, errors = call("doctor", str(place))
            assert (code, errors) == (0, "")
            lines = output.splitlines()
            assert lines[0].startswith(f"{os.path.realpath(tmp_path)}: a folder")
            assert [line.split()[:2] for line in lines[1:6]] == [["ok", name] for name in probe.ATTEMPTS]
            assert os.listdir(tmp_path) == ["a.state"]

    def test_a_lock_that_keeps_nobody_out_is_found(self, tmp_path, call, monkeypatch):  # noqa: F811
        monkeypatch.setattr(probe.FILE_LOCK_OF_DOCTOR, lambda *_: None)
        code, output, _ = call("doctor", str(tmp_path))
        assert code == 1
        assert "\nFAILED  locks   two processes have the same lock at once: changes would be lost\n" in output

    def test_a_map_that_nobody_else_sees_is_found(self, tmp_path, call, monkeypatch):  # noqa: F811
        def map_privately(self):
            self.bytes = bytearray(system.read(self.descriptor, 0, 4096))

        monkeypatch.setattr(probe.MAP, map_privately)
        monkeypatch.setattr(probe.UNMAP, lambda _: None)
        code, output, _ = call("doctor", str(tmp_path))
        assert code == 1
        assert "\nFAILED  maps    another process does not see what is stored in a map" in output

    def test_a_map_that_does_not_see_others_is_found(self, tmp_path, call, monkeypatch):  # noqa: F811
        class Deaf:
            """Stores go to the file, reads come from a copy of one's own."""

            def __init__(self, descriptor):
                self.descriptor, self.own = descriptor, bytearray(4096)

            def __getitem__(self, key):
                return self.own[key]

            def __setitem__(self, key, value):
                self.own[key] = value
                system.write_all(self.descriptor, value, key.start)

        monkeypatch.setattr(probe.MAP, lambda self: setattr(self, "bytes", Deaf(self.descriptor)))
        monkeypatch.setattr(probe.UNMAP, lambda _: None)
        code, output, _ = call("doctor", str(tmp_path))
        assert code == 1
        assert "\nFAILED  maps    what another process stores in a map is not seen" in output

    def test_a_rename_that_is_refused_and_a_sync_that_fails_are_found(self, tmp_path, call, monkeypatch):  # noqa: F811
        def refuse(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(system, "replace", refuse)
        monkeypatch.setattr(system, "sync_folder", refuse)
        code, output, _ = call("doctor", str(tmp_path))
        assert code == 1
        assert "\nFAILED  rename  [Errno 5] Input/output error\n" in output
        assert "\nFAILED  syncs   [Errno 5] Input/output error\n" in output
        assert os.listdir(tmp_path) == []

    def test_where_no_file_can_be_made_nothing_else_is_tried(self, tmp_path, call, monkeypatch):  # noqa: F811
        def refuse(**_):
            raise PermissionError(13, "Permission denied", str(tmp_path))

        monkeypatch.setattr(tempfile, "mkstemp", refuse)
        code, output, _ = call("doctor", str(tmp_path))
        assert (code, output.count("FAILED"), output.count("\n")) == (1, 1, 2)

    @pytest.mark.parametrize("name", ["none", "none/a.state", "a.state"])
    def test_a_folder_that_is_not_there_is_told_and_no_other_one_is_tried(self, tmp_path, call, name):  # noqa: F811
        path = str(tmp_path / name)
        assert call("doctor", path) == (
            1, "", f"mmapstate: {path}: no such file or folder\n"
        )  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    @not_on_windows("kinds of filesystems are told by mounts")
    @pytest.mark.parametrize(
        ("kind", "advice"),
        [
            ("nfs4", "nfs4 may be shared with other machines"),
            ("fuse.sshfs", "fuse.sshfs is a program that shows files"),
            ("tmpfs", "tmpfs is memory"),
            ("btrfs", "btrfs writes to new places"),
            ("ext4", None),
        ],
    )
    def test_it_knows_kinds_of_filesystems(self, tmp_path, call, monkeypatch, kind, advice):  # noqa: F811
        monkeypatch.setattr(probe.KIND_OF_FILESYSTEM, lambda *_: kind)
        code, output, _ = call("doctor", str(tmp_path))
        assert code == 0
        assert output.startswith(f"{os.path.realpath(tmp_path)}: a folder on {kind}\n")
        assert [line for line in output.splitlines() if line.startswith(f"advice  {advice}")] != [] or advice is None
        assert ("\nadvice" in output) is (advice is not None)


class TestKeyPaths:
    KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False) | st.dates()

    @given(st.lists(KEYS, min_size=1, max_size=4))
    def test_what_is_written_leads_back(self, keys):
        """To each key, whatever it holds; in one line, so that a person can copy it."""
        data = "found"
        for key in reversed(keys):
            data = {key: data}
        text = written(keys)
        assert find(data, parse(text)) == "found"
        assert len(text.splitlines()) == 1 or any(ord(character) > 0xFFFF for character in text)

    def test_a_text_key_goes_before_what_is_written_alike(self):
        for key in ("80", '"80"'):
            assert find({80: "number", "80": "text"}, parse(key)) == "text"
            assert find({80: "number"}, parse(key)) == "number"

    def test_escapes_in_quotes(self):
        assert [segment.text for segment in parse(r'"a.\"\\\n\tä".b')] == ['a."\\\n\tä', "b"]


def test_a_lock_seen_by_info_is_the_sidecars(path):
    """A lock on the state file itself is somebody's presence, or another program's."""
    with mmapstate.open(path, {"a": 1}):
        assert mmapstate.info(path).holder is None
        if sys.platform == "linux":
            assert host.flocks(os.stat(path)) == [(os.getpid(), False)]
            assert host.flocks(os.stat(sidecar.sidecar_path(path))) == []
