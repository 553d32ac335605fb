"""What the system tells about this host: when it was started, who has a file open, what a filesystem is like."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
import sys

from mmapstate.file import system
from mmapstate.file.format import PAGE_SIZE

COPY_ON_WRITE = frozenset({"btrfs", "bcachefs"})
_NO_COPIES = 0x0080_0000  # FS_NOCOW_FL
_IMMUTABLE = 0x0000_0010  # FS_IMMUTABLE_FL
_LONG = struct.calcsize("l")
# FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_GET_FLAGS, _SET_FLAGS = (way << 30 | _LONG << 16 | ord("f") << 8 | number for way, number in ((2, 1), (1, 2)))

# Other machines may have these mounted too, or a host has it beside its guests; and so may what a FUSE program shows.
_FOREIGN = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs"}
)
_MOUNT_ESCAPE = re.compile(r"\\([0-7]{3})")


def boot_id() -> bytes:
    """Return 16 bytes that stay the same from one start of the machine to the next; zeros where nobody tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)


# --- Processes that have a file open ----------------------------------------------------------------------------------


def say_open(descriptor: int, *, alone: bool = False) -> bool:
    """Have an open sidecar say that a process has the state open; return False where others say so and it is `alone`.

    Or where another one is alone. By a lock of the open file itself, on a byte behind the page, which Linux has beside
    flock: unlike the state's file, the sidecar stays the same over a vacuum that a sleeping process has not seen.
    """
    return _lock_byte(descriptor, "F_WRLCK" if alone else "F_RDLCK")


def say_closed(descriptor: int) -> None:
    """Have it say so no longer."""
    _lock_byte(descriptor, "F_UNLCK")


def _lock_byte(descriptor: int, kind: str) -> bool:
    if sys.platform != "linux" or _LONG < 8:
        return True
    import fcntl

    asked = struct.pack("hhqqi4x", getattr(fcntl, kind), os.SEEK_SET, PAGE_SIZE, 1, 0)  # struct flock
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
    except OSError as error:  # else the filesystem has none
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def users_of(sidecar: os.stat_result) -> list[int]:
    """Return which processes say by `say_open` that they have a state open, as far as we may know, on Linux."""
    inode = str(sidecar.st_ino)
    said = any(fields[1] == "OFDLCK" and fields[5].rpartition(":")[2] == inode for fields in _locks() or ())
    if not said:
        return []
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _has_open(int(name), sidecar)]
    return []


def flocks(file: os.stat_result) -> list[tuple[int, bool]] | None:
    """Return who has a flock on a file, as Linux tells it: process, and whether exclusively; elsewhere None.

    A process of another container has the number 0. With some filesystems (btrfs, overlays) the device is not the one
    that `stat` tells: there the inode must do, and a look at what the process has open.
    """
    locks = _locks()
    if locks is None:
        return None
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    found = []
    for fields in locks:
        if fields[1] != "FLOCK":  # of another kind, or "->": it waits
            continue
        where, _, inode = fields[5].rpartition(":")
        pid = int(fields[4])
        if int(inode) == file.st_ino and (where == device or _has_open(pid, file)):
            found.append((max(pid, 0), fields[3] == "WRITE"))
    return found


def _locks() -> list[list[str]] | None:
    """Return the fields of each line of Linux's table of locks; None where there is none."""
    if system.WINDOWS:  # where Wine shows the /proc of its host
        return None
    try:
        with open("/proc/locks", encoding="ascii") as listed:
            return [line.split() for line in listed]
    except OSError:
        return None


def _has_open(pid: int, file: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        return any(os.path.samestat(os.stat(f"{folder}/{name}"), file) for name in os.listdir(folder))
    except OSError:  # it is gone, or another user's
        return False


def command_line(pid: int) -> str:
    """Return the command line of a process; "" where nobody tells."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return " ".join(file.read().split("\0")).strip()
    except OSError:
        return ""


# --- Filesystems ------------------------------------------------------------------------------------------------------


def filesystem(path: str) -> str:
    """Return what Linux calls the kind of filesystem at `path`, a folder or file; "" where nobody tells."""
    return "" if system.WINDOWS else _kind_of_filesystem(path, os.stat(path).st_dev)


def foreign_filesystem(path: str) -> tuple[int, str]:
    """Return device and kind of the filesystem at `path` if another machine, or a program, has a hand in it; else "".

    `path` is what `real_path` returns, which on Windows leads from a drive letter to the share behind it. On macOS
    nobody tells.
    """
    if system.WINDOWS:
        is_share = path.startswith("\\\\") and not path.startswith(("\\\\?\\", "\\\\.\\"))
        return (0, "a network share") if is_share or path[:8].upper() == "\\\\?\\UNC\\" else (0, "")
    try:
        device = os.stat(path).st_dev
    except OSError:  # there is no file yet
        device = os.stat(os.path.dirname(path)).st_dev
    kind = _kind_of_filesystem(path, device)
    return (device, kind) if kind in _FOREIGN or kind.startswith("fuse") else (device, "")


def writes_copies(path: str, descriptor: int) -> bool:
    """Return whether the open file's filesystem writes to new places only: a store into a map can find no room there.

    `path` tells which filesystem, the descriptor whether that is known already.
    """
    return _kind_of_filesystem(path, os.fstat(descriptor).st_dev) in COPY_ON_WRITE


def write_in_place(path: str, descriptor: int) -> None:
    """Have what is stored into a new, empty file written where it is, on a filesystem that would take a new place.

    Else a store into a map of it ends the process where the disk is full. btrfs can do it, for a file at a time.
    """
    if writes_copies(path, descriptor):
        import fcntl

        with contextlib.suppress(OSError):  # bcachefs has no such flag, nor have old kernels
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", _flags_of(descriptor) | _NO_COPIES))


def is_immutable(descriptor: int) -> bool:
    """Return whether an open file was made immutable (``chattr +i``): a store into a map of it ends the process."""
    if sys.platform == "linux":
        try:
            return bool(_flags_of(descriptor) & _IMMUTABLE)
        except OSError:  # many filesystems have no flags
            return False
    return bool(getattr(os.fstat(descriptor), "st_flags", 0) & (stat.UF_IMMUTABLE | stat.SF_IMMUTABLE))


def _flags_of(descriptor: int) -> int:
    """Return the flags that Linux has for an open file, those of ``lsattr``."""
    import fcntl

    (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_LONG)))
    return int(flags)


_kinds: dict[int, str] = {}  # of filesystems, by device


def _kind_of_filesystem(path: str, device: int) -> str:
    """Return what Linux calls the kind of filesystem at `path`, which is on `device`; "" where it is not told."""
    if device not in _kinds:
        best = (-1, "")
        for line in _mounts():
            fields = line.split()
            point = _MOUNT_ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= best[0]:
                best = (len(point), fields[fields.index("-") + 1])
        _kinds[device] = best[1]
    return _kinds[device]


def _mounts() -> list[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.readlines()
    except OSError:
        return []
