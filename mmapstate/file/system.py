"""Files as the operating system has them: open safely, replace, sync; every ``if`` on the operating system.

All functions are thin: one call of the system, or a few that belong together. No other module calls the system for a
file, but for ``lock`` (to lock it) and ``mapping`` (to map it): tests count, fail and record every call by putting
something else in the place of this module's ``os``, of ``mapping.mmap`` and of ``lock.file_lock``.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

from mmapstate.errors import StateError
from mmapstate.file.format import PAGE_SIZE, Image

__all__ = [
    "COPY_ON_WRITE",
    "END",
    "REPLACE_NEEDS_UNMAPPED",
    "WINDOWS",
    "boot_id",
    "close",
    "command_line",
    "create",
    "default_editor",
    "duplicate",
    "file_size",
    "filesystem",
    "flocks",
    "foreign_filesystem",
    "image_of",
    "is_folder",
    "is_heard",
    "is_immutable",
    "is_in_use",
    "is_refusal",
    "is_settled",
    "is_there",
    "keep_group",
    "keep_owner",
    "may_be_young",
    "names_in",
    "obeys_escapes",
    "open_regular",
    "path_image",
    "patiently",
    "read",
    "real_path",
    "remove",
    "replace",
    "say_closed",
    "say_open",
    "seek",
    "set_mode",
    "split_command",
    "status",
    "status_of",
    "sync_data",
    "sync_file",
    "sync_folder",
    "truncate",
    "unshared",
    "user",
    "users_of",
    "write_all",
    "write_byte",
    "write_in_place",
    "writes_copies",
]

END = os.SEEK_END
WINDOWS = sys.platform == "win32"
REPLACE_NEEDS_UNMAPPED = WINDOWS  # a file that anybody has open is not replaced there

_T = TypeVar("_T")

_EXTRA: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_NO_BLOCK: int = getattr(os, "O_NONBLOCK", 0)  # else opening a FIFO that somebody put there waits for ever

# A rename that the system refuses now, or always (a file that is a mount point of its own): not a failure of ours.
_REFUSALS = frozenset({errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.ETXTBSY})
_WINDOWS_REFUSALS = frozenset({5, 32, 1224})  # access denied, sharing violation, a mapped section is open
_SHARING_VIOLATION = 32

# Seconds that an open is tried again on Windows: whoever renames a file, or scans it for viruses, has it for himself.
_PATIENCE = 0.3
_LONGEST_PAUSE = 0.02

_LONGEST_PLAIN_PATH = 200  # characters; what is written beside the file has a longer name, and 260 is the limit

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
_EDITORS = ("notepad",) if WINDOWS else ("sensible-editor", "editor", "nano", "vi")
_VIRTUAL_TERMINAL = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING

_COARSEST_TICK = 2_500_000_000  # nanoseconds, of a filesystem's times

_MOUNT_ESCAPE = re.compile(r"\\([0-7]{3})")


class _Opened:
    """What the system has opened, at the latest closed when nobody has it any more."""

    __slots__ = ("closed", "numbers")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.closed = False

    def __del__(self) -> None:
        if self.numbers and not self.closed:
            os.close(self.numbers[0])


class Descriptor(int):
    """The number of an open file. `close` closes it; that it closes itself is for what was cut short.

    An interrupt can come at whatever bytecode between the system's answer and the place that it was meant for, and
    memory or stack can end there.
    """

    opened: _Opened


def _owned(call: Callable[..., int], *arguments: Any) -> Descriptor:
    """Return the descriptor that a call of the system gives."""
    opened = _Opened()  # first: what closes it is there, and there is stack for that, before there is what to close
    opened.numbers.extend(map(call, *zip(arguments, strict=False)))  # in C from the system's answer to the list
    descriptor = Descriptor(opened.numbers[0])
    descriptor.opened = opened
    return descriptor


def open_regular(path: str, *, write: bool, follow: bool = True) -> int:
    """Return a descriptor of the regular file at `path`; raise OSError, or `StateError` if it is none.

    Without `follow` a symbolic link at the last place of the path is refused.
    """
    flags = (os.O_RDWR if write else os.O_RDONLY) | _EXTRA | _NO_BLOCK | (0 if follow else _NO_FOLLOW)
    descriptor = _open_shared(path, flags) if WINDOWS else _owned(os.open, path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StateError(f"{path}: not a regular file; remove it, or use another path")
    except BaseException:
        close(descriptor)
        raise
    return descriptor


def _open_shared(path: str, flags: int) -> int:
    """Open a file on Windows, where others can have it for themselves: for a moment, or so long that it is an error."""
    try:
        return patiently(lambda: _owned(os.open, path, flags), lambda error: error.errno == errno.EACCES, _PATIENCE)
    except PermissionError as error:
        if is_in_use(path):  # the open itself does not tell why it failed
            told = "another program has the file open and shares it with nobody; close the file there"
            raise PermissionError(errno.EACCES, told, path) from error
        raise


def is_in_use(path: str) -> bool:
    """Return whether anybody, this process included, has the file at `path` open, on Windows: no rename of it, then."""
    try:
        os.rename(path, path)
    except OSError as error:
        return getattr(error, "winerror", None) == _SHARING_VIOLATION
    return False


def patiently(call: Callable[[], _T], passes: Callable[[OSError], bool], seconds: float) -> _T:
    """Return what `call` returns, called again for so many seconds while it raises what `passes`."""
    deadline = time.monotonic() + seconds
    pause = 1e-3
    while True:
        try:
            return call()
        except OSError as error:
            if time.monotonic() >= deadline or not passes(error):
                raise
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def real_path(path: str | bytes) -> str | bytes:
    """Return the path of the file that `path` leads to, absolute and through all links."""
    if WINDOWS and isinstance(path, str):
        return os.path.realpath(long_path(os.path.abspath(path)))
    return os.path.realpath(path)


def long_path(path: str) -> str:
    """Return an absolute path of Windows in the form that it takes at any length, if it is long."""
    if len(path) <= _LONGEST_PLAIN_PATH or path.startswith("\\\\?\\"):
        return path
    return "\\\\?\\UNC" + path[1:] if path.startswith("\\\\") else "\\\\?\\" + path


def create(path: str, mode: int = 0o666) -> int:
    """Create the file `path`, which must not exist (nor a link of that name), and return its descriptor."""
    return _owned(os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _EXTRA | _NO_FOLLOW, mode)


unshared: set[int] = set()
"""Descriptors that a forked child closes; see `forks`."""


def close(descriptor: int) -> None:
    """Close an open file, which succeeds even where the system complains.

    Linux frees the descriptor whatever it says. What it can tell, that bytes did not reach the disk, a sync tells, too.
    """
    unshared.discard(descriptor)  # first: its number may be another file's a moment later
    try:
        if descriptor.__class__ is Descriptor:
            descriptor.opened.closed = True; os.close(descriptor)  # noqa: E702 # one line: a tracer raises between two  # fmt: skip
        else:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:  # a mistake of ours
            raise


def keep_owner(descriptor: int, like: os.stat_result) -> None:
    """Give a new file the owner of another one; raise PermissionError where the system does not let us."""
    if WINDOWS:
        return
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)


def keep_group(descriptor: int, like: os.stat_result) -> None:
    """Give a new file the group of another one; raise PermissionError where the system does not let us."""
    if not WINDOWS:
        os.fchown(descriptor, -1, like.st_gid)


def user() -> int:
    """Return the number of the user whose rights this process has; -1 on Windows, where users have none."""
    return -1 if sys.platform == "win32" else os.geteuid()


def set_mode(descriptor: int, mode: int) -> None:
    """Give a new file its permissions; after its owner, as a change of that drops some."""
    if not WINDOWS:
        os.fchmod(descriptor, stat.S_IMODE(mode))


def duplicate(descriptor: int) -> int:
    """Return another descriptor of the same open file."""
    return _owned(os.dup, descriptor)


def file_size(descriptor: int) -> int:
    """Return the size of an open file. A third of the price of ``fstat``; nothing here uses the file's position."""
    return seek(descriptor, 0, END)


seek = os.lseek
"""``seek(descriptor, 0, END)`` is `file_size` for those in a hurry."""


def status(path: str, *, follow: bool = True) -> os.stat_result | None:
    """Return what the system says of the file at `path` (of a link itself unless `follow`); None if there is none."""
    try:
        return os.stat(path) if follow else os.lstat(path)
    except FileNotFoundError:
        return None


def status_of(descriptor: int) -> os.stat_result:
    """Return what the system says of an open file."""
    return os.fstat(descriptor)


def is_there(path: str) -> bool:
    """Return whether anything has this name, be it a link that leads nowhere."""
    return status(path, follow=False) is not None


def is_folder(path: str) -> bool:
    """Return whether there is a folder at `path`."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def names_in(folder: str) -> list[str]:
    """Return the names in a folder."""
    return os.listdir(folder)


def image_of(descriptor: int) -> Image:
    """Return inode, size and times of an open file."""
    return _image(os.fstat(descriptor))


def path_image(path: str) -> Image | None:
    """Return inode, size and times of the file at `path`; None if there is none."""
    try:
        found = os.stat(path)
        if found.st_ino == 0:  # Windows, from the folder: the file could not be opened for a look (Wine: it is mapped)
            descriptor = _owned(os.open, path, os.O_RDONLY | _EXTRA)
            try:
                found = os.fstat(descriptor)
            finally:
                close(descriptor)
    except FileNotFoundError:
        return None
    return _image(found)


def _image(found: os.stat_result) -> Image:
    changed = 0 if WINDOWS else found.st_ctime_ns  # there it is when the file was made, and not the same by name
    return Image(found.st_ino & 0xFFFF_FFFF_FFFF_FFFF, found.st_size, found.st_mtime_ns, changed)


def is_settled(image: Image) -> bool:
    """Return whether any later change of the file must give it other times: the clock has ticked since they were set.

    ext4 with small inodes counts in seconds, FAT in two.
    """
    return time.time_ns() - max(image.times) > _COARSEST_TICK


def may_be_young(image: Image, seconds: float) -> bool:
    """Return whether the file may have changed in the last `seconds`, as far as its mtime tells."""
    tick = 0 if image.mtime % 10**9 else _COARSEST_TICK
    return not seconds * 1e9 + tick <= time.time_ns() - image.mtime


if WINDOWS:  # no pread and pwrite there; the position of a descriptor is nobody else's

    def read(descriptor: int, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`; fewer where the file ends before."""
        os.lseek(descriptor, start, os.SEEK_SET)
        pieces = []
        while start < stop and (piece := os.read(descriptor, stop - start)):
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def write_all(descriptor: int, data: bytes, start: int) -> None:
        """Write `data` at the offset `start`, all of it."""
        os.lseek(descriptor, start, os.SEEK_SET)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

else:

    def read(descriptor: int, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`; fewer where the file ends before."""
        data = os.pread(descriptor, stop - start, start)
        while data and start + len(data) < stop:  # a short read: a signal, a file cut meanwhile, or over 2 GiB
            piece = os.pread(descriptor, stop - start - len(data), start + len(data))
            if not piece:
                break
            data += piece
        return data

    def write_all(descriptor: int, data: bytes, start: int) -> None:
        """Write `data` at the offset `start`, all of it."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, start)
            view = view[written:]
            start += written


def write_byte(descriptor: int, byte: int, start: int) -> None:
    """Write one byte at the offset `start`. It may be a commit: nothing that can fail comes after the system's call."""
    os.pwrite(descriptor, bytes((byte,)), start)


def truncate(descriptor: int, size: int) -> None:
    """Cut the file to `size` bytes."""
    os.ftruncate(descriptor, size)


def replace(source: str, target: str) -> None:
    """Rename `source` over `target`, atomically."""
    os.replace(source, target)


def remove(path: str) -> None:
    """Remove the file `path` if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def is_refusal(error: OSError) -> bool:
    """Return whether a rename failed because the system does not let it happen here and now."""
    return error.errno in _REFUSALS or getattr(error, "winerror", None) in _WINDOWS_REFUSALS


def sync_file(descriptor: int) -> None:
    """Make the file's bytes and size survive loss of power."""
    if sys.platform == "darwin":  # fsync there only hands the bytes to the drive
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Make the file's bytes survive loss of power: all of them, as a mapping may have dirtied any page."""
    if sys.platform == "linux":
        os.fdatasync(descriptor)
    else:
        sync_file(descriptor)


def sync_folder(path: str) -> None:
    """Make names in the folder of `path` survive loss of power."""
    if WINDOWS:  # folders cannot be opened; NTFS journals its names
        return
    descriptor = _owned(os.open, os.path.dirname(path) or ".", os.O_RDONLY | _EXTRA)
    try:
        sync_file(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some filesystems have no folders to sync
            raise
    finally:
        close(descriptor)


def boot_id() -> bytes:
    """Return 16 bytes that stay the same from one start of the machine to the next; zeros where nobody tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)


def flocks(file: os.stat_result) -> list[tuple[int, bool]] | None:
    """Return who has a flock on a file, as Linux tells it: process, and whether exclusively; elsewhere None.

    A process of another container has the number 0. With some filesystems (btrfs, overlays) the device is not the one
    that `stat` tells: there the inode must do, and a look at what the process has open.
    """
    if not hasattr(os, "major"):  # Windows, where Wine shows the /proc of its host
        return None
    try:
        with open("/proc/locks", encoding="ascii") as listed:
            lines = [line.split() for line in listed]
    except OSError:
        return None
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    found = []
    for fields in lines:
        if fields[1] != "FLOCK":  # of another kind, or "->": it waits
            continue
        where, _, inode = fields[5].rpartition(":")
        pid = int(fields[4])
        if int(inode) == file.st_ino and (where == device or _has_open(pid, file)):
            found.append((max(pid, 0), fields[3] == "WRITE"))
    return found


def _has_open(pid: int, file: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        return any(os.path.samestat(os.stat(f"{folder}/{name}"), file) for name in os.listdir(folder))
    except OSError:  # it is gone, or another user's
        return False


def users_of(sidecar: os.stat_result) -> list[int]:
    """Return which processes say by `say_open` that they have a state open, as far as we may know, on Linux."""
    try:
        with open("/proc/locks", encoding="ascii") as listed:
            said = any(
                fields[1] == "OFDLCK" and fields[5].rpartition(":")[2] == str(sidecar.st_ino)
                for fields in map(str.split, listed)
            )
        return [int(name) for name in os.listdir("/proc") if said and name.isdigit() and _has_open(int(name), sidecar)]
    except OSError:
        return []


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


def command_line(pid: int) -> str:
    """Return the command line of a process; "" where nobody tells."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return " ".join(file.read().split("\0")).strip()
    except OSError:
        return ""


def writes_copies(path: str, descriptor: int) -> bool:
    """Return whether the open file's filesystem writes to new places only: a store into a map can find no room there.

    `path` tells which filesystem, the descriptor whether that is known already.
    """
    return _kind_of_filesystem(path, os.fstat(descriptor).st_dev) in COPY_ON_WRITE


def foreign_filesystem(path: str) -> tuple[int, str]:
    """Return device and kind of the filesystem at `path` if another machine, or a program, has a hand in it; else "".

    `path` is what `real_path` returns, which on Windows leads from a drive letter to the share behind it. On macOS
    nobody tells.
    """
    if WINDOWS:
        is_share = path.startswith("\\\\") and not path.startswith(("\\\\?\\", "\\\\.\\"))
        return (0, "a network share") if is_share or path[:8].upper() == "\\\\?\\UNC\\" else (0, "")
    try:
        device = os.stat(path).st_dev
    except OSError:  # there is no file yet
        device = os.stat(os.path.dirname(path)).st_dev
    kind = _kind_of_filesystem(path, device)
    return (device, kind) if kind in _FOREIGN or kind.startswith("fuse") else (device, "")


def write_in_place(path: str, descriptor: int) -> None:
    """Have what is stored into a new, empty file written where it is, on a filesystem that would take a new place.

    Else a store into a map of it ends the process where the disk is full. btrfs can do it, for a file at a time.
    """
    if writes_copies(path, descriptor):
        import fcntl

        with contextlib.suppress(OSError):  # bcachefs has no such flag, nor have old kernels
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", _flags_of(descriptor) | _NO_COPIES))


def _flags_of(descriptor: int) -> int:
    """Return the flags that Linux has for an open file, those of ``lsattr``."""
    import fcntl

    (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_LONG)))
    return int(flags)


def is_immutable(descriptor: int) -> bool:
    """Return whether an open file was made immutable (``chattr +i``): a store into a map of it ends the process."""
    if sys.platform == "linux":
        try:
            return bool(_flags_of(descriptor) & _IMMUTABLE)
        except OSError:  # many filesystems have no flags
            return False
    return bool(getattr(os.fstat(descriptor), "st_flags", 0) & (stat.UF_IMMUTABLE | stat.SF_IMMUTABLE))


def filesystem(path: str) -> str:
    """Return what Linux calls the kind of filesystem at `path`, a folder or file; "" where nobody tells."""
    return "" if WINDOWS else _kind_of_filesystem(path, os.stat(path).st_dev)


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


# --- The terminal, and the programs of who sits there -----------------------------------------------------------------


def split_command(text: str) -> list[str]:
    """Return a command and its arguments, as a variable such as EDITOR holds them."""
    import shlex  # here, as below: only the command asks for these, and each takes milliseconds to import

    if not WINDOWS:
        return shlex.split(text)
    return [part.strip('"') for part in shlex.split(text, posix=False)]  # a backslash is part of a path there


def default_editor() -> str:
    """Return the name of an editor that is here, for who has set none."""
    import shutil

    return next(filter(shutil.which, _EDITORS), _EDITORS[-1])


def is_heard(stream: TextIO) -> bool:
    """Return False where nobody can read what is written to a stream: it is a pipe, of which the other end is closed.

    Windows tells that to who writes alone.
    """
    if sys.platform == "win32":
        return True
    import select

    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except io.UnsupportedOperation:  # a stream in memory
        return True
    return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def obeys_escapes(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that moves its cursor as ANSI says; have Windows' console do so."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    if sys.platform != "win32":
        return True
    import ctypes
    import msvcrt

    kernel, mode = ctypes.windll.kernel32, ctypes.c_uint32()
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno()))
    is_console = kernel.GetConsoleMode(handle, ctypes.byref(mode))
    return bool(is_console and kernel.SetConsoleMode(handle, mode.value | _VIRTUAL_TERMINAL))
