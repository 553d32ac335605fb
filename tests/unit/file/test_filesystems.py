"""Where the file is not on a disk of this machine alone, that is told when it is opened: once for each filesystem."""

import os
import shutil
import subprocess
import sys

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child

import mmapstate
from mmapstate import PersistedState
from mmapstate.file import host, system

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mounted where")

FOREIGN = (
    "nfs nfs4 cifs smb3 smbfs ceph glusterfs lustre 9p afs vboxsf drvfs virtiofs fuse fuse.sshfs fuse.s3fs fuseblk"
)
LOCAL = "ext4 xfs btrfs tmpfs overlay zfs f2fs vfat"


@pytest.fixture(autouse=True)
def nothing_known_yet(monkeypatch):
    monkeypatch.setattr(probe.KINDS_OF_FILESYSTEMS, {})
    monkeypatch.setattr(probe.WARNED_OF, set())


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if "Keep it on a local disk" in record.getMessage()]


def mount_table(monkeypatch, *mounts):
    """Have the system tell of these mounts: pairs of a mount point, as the system writes it, and a kind."""
    lines = [
        f"{number} 1 0:{number} / {point} rw shared:7 - {kind} x rw\n" for number, (point, kind) in enumerate(mounts)
    ]
    monkeypatch.setattr(probe.MOUNTS, lambda: lines)


@on_linux
class TestMounts:
    @pytest.mark.parametrize("options", [{}, {"readonly": True}], ids=str)
    @pytest.mark.parametrize("kind", FOREIGN.split())
    def test_one_that_others_may_have_too_is_warned_about_once(
        self, path, tmp_path, monkeypatch, caplog, kind, options
    ):
        mount_table(monkeypatch, ("/", "ext4"), (tmp_path, kind))
        for name in (path, str(tmp_path / "second.state")):
            with open(name, "w") as file:
                file.write("n: 1\n")
            os.utime(name, (1, 1))
            for _ in range(2):
                mmapstate.open(name, **options).close()
        (warning,) = warnings(caplog)
        assert path in warning
        assert f"is on {kind}," in warning

    @pytest.mark.parametrize("kind", LOCAL.split())
    def test_one_of_this_machine_alone_is_not(self, path, tmp_path, monkeypatch, caplog, kind):
        mount_table(monkeypatch, ("/", "nfs"), (tmp_path, kind))
        PersistedState(path, n=1).close()
        assert warnings(caplog) == []

    def test_the_last_mount_of_those_that_are_nearest_counts(self, path, tmp_path, monkeypatch, caplog):
        mount_table(monkeypatch, (tmp_path, "ext4"), (f"{tmp_path}x", "nfs"), ("/", "nfs"), (tmp_path, "fuse.sshfs"))
        PersistedState(path, n=1).close()
        assert len(warnings(caplog)) == 1

    def test_a_mount_point_may_hold_blanks(self, tmp_path, monkeypatch, caplog):
        folder = tmp_path / "a b\tc\\d"
        folder.mkdir()
        mount_table(monkeypatch, ("/", "ext4"), (str(tmp_path) + r"/a\040b\011c\134d", "nfs"))
        PersistedState(folder / "example.state", n=1).close()
        assert len(warnings(caplog)) == 1

    def test_what_is_mounted_is_asked_once_for_each_device(self, path, monkeypatch):
        asked = []
        really = probe.get(probe.MOUNTS)

        def count():
            asked.append(1)
            return really()

        monkeypatch.setattr(probe.MOUNTS, count)
        for _ in range(5):
            with PersistedState(path, n=1) as opened:
                opened.n += 1
                opened.vacuum()
        assert len(asked) == 1

    def test_where_nobody_tells_nothing_is_said(self, path, monkeypatch, caplog):
        monkeypatch.setattr(probe.MOUNTS, list)
        PersistedState(path, n=1).close()
        assert warnings(caplog) == []


@pytest.mark.parametrize("path", [r"\\server\share\x.state", r"\\?\UNC\server\share\x.state"])
def test_a_share_of_windows_is_known_by_its_path(monkeypatch, path):
    monkeypatch.setattr(system, "WINDOWS", True)
    assert host.foreign_filesystem(path)[1] == "a network share"


@pytest.mark.parametrize("path", [r"C:\x.state", r"\\?\C:\a\very\long\path\x.state", r"\\.\C:\x.state"])
def test_a_disk_of_windows_is_none(monkeypatch, path):
    monkeypatch.setattr(system, "WINDOWS", True)
    assert host.foreign_filesystem(path)[1] == ""


def test_a_path_that_leads_nowhere_is_told_of_by_the_open(tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match="the folder of the state file does not exist"):
        PersistedState(tmp_path / "missing" / "example.state")
    assert warnings(caplog) == []


@on_linux
@pytest.mark.parametrize("program", ["bindfs", "fuse-overlayfs"])
def test_a_real_filesystem_in_a_program_is_warned_about_and_serves_the_processes_of_one_machine(
    tmp_path, caplog, program
):
    if shutil.which(program) is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip(f"there is no {program} here, or no FUSE")
    below, disk, work = tmp_path / "below", tmp_path / "disk", tmp_path / "work"
    for folder in (below, disk, work):
        folder.mkdir()
    command = {
        "bindfs": ["bindfs", str(below), str(disk)],
        "fuse-overlayfs": ["fuse-overlayfs", "-o", f"lowerdir={below},upperdir={below},workdir={work}", str(disk)],
    }[program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        pytest.skip(f"{program} mounts nothing here: {done.stderr.strip()}")
    path = str(disk / "example.state")

    def count(talk):
        with PersistedState(path) as opened:
            for number in range(300):
                opened.increment("n")
                if number % 100 == 0:
                    opened.vacuum()

    try:
        with PersistedState(path, n=0):
            pass
        (warning,) = warnings(caplog)
        assert f"is on fuse.{program}," in warning or "is on fuse" in warning
        with Child(count) as first, Child(count) as second:
            first.result()
            second.result()
        assert on_disk(path) == {"n": 600}
    finally:
        probe.close_all()
        subprocess.run(["umount", str(disk)], check=True, timeout=20)
