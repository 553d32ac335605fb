"""Files as the operating system has them: open them safely, read, write, sync, replace.

All functions are thin: one call of the system, or a few that belong together. No other module calls the system for a
file, but for `filelock` (to lock it), `mapped` (to map it) and `host` (to ask where it is, and who has it): tests
count, fail and record every call by putting something else in the place of this module's ``os``, and of a few names
there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mmapstate.errors import StateError
from mmapstate.file.format import Image

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
_COARSEST_TICK = 2_500_000_000  # nanoseconds, of a filesystem's times


# --- Open and close ---------------------------------------------------------------------------------------------------


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


def create(path: str, mode: int = 0o666) -> int:
    """Create the file `path`, which must not exist (nor a link of that name), and return its descriptor."""
    return _owned(os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _EXTRA | _NO_FOLLOW, mode)


def duplicate(descriptor: int) -> int:
    """Return another descriptor of the same open file."""
    return _owned(os.dup, descriptor)


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


# --- Paths ------------------------------------------------------------------------------------------------------------


def real_path(path: str | os.PathLike[str]) -> str:
    """Return the path of the file that `path` leads to, absolute and through all links; raise TypeError for bytes."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError("the path must be text, not bytes")
    return os.path.realpath(long_path(os.path.abspath(text)) if WINDOWS else text)


def long_path(path: str) -> str:
    """Return an absolute path of Windows in the form that it takes at any length, if it is long."""
    if len(path) <= _LONGEST_PLAIN_PATH or path.startswith("\\\\?\\"):
        return path
    return "\\\\?\\UNC" + path[1:] if path.startswith("\\\\") else "\\\\?\\" + path


def names_in(folder: str) -> list[str]:
    """Return the names in a folder."""
    return os.listdir(folder)


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


# --- What the system says of a file -----------------------------------------------------------------------------------


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


def image_of(descriptor: int) -> Image:
    """Return inode, size and times of an open file."""
    return as_image(os.fstat(descriptor))


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
    return as_image(found)


def as_image(found: os.stat_result) -> Image:
    """Return inode, size and times out of what the system says of a file."""
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


def file_size(descriptor: int) -> int:
    """Return the size of an open file. A third of the price of ``fstat``; nothing here uses the file's position."""
    return seek(descriptor, 0, END)


seek = os.lseek
"""``seek(descriptor, 0, END)`` is `file_size` for those in a hurry."""


# --- Owner and mode, which Windows has not ----------------------------------------------------------------------------


def user() -> int:
    """Return the number of the user whose rights this process has; -1 on Windows, where users have none."""
    return -1 if sys.platform == "win32" else os.geteuid()


def keep_owner(descriptor: int, like: os.stat_result) -> None:
    """Give a new file the owner of another one; raise PermissionError where the system does not let us."""
    if WINDOWS:
        return
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)


def keep_group(descriptor: int, like: os.stat_result) -> None:
    """Give a new file the group of another one; raise as `keep_owner` does."""
    if not WINDOWS:
        os.fchown(descriptor, -1, like.st_gid)


def set_mode(descriptor: int, mode: int) -> None:
    """Give a new file its permissions; after its owner, as a change of that drops some."""
    if not WINDOWS:
        os.fchmod(descriptor, stat.S_IMODE(mode))


# --- Bytes ------------------------------------------------------------------------------------------------------------


def read(descriptor: int, start: int, stop: int) -> bytes:
    """Return the bytes from `start` to `stop`; fewer where the file ends before."""
    data = piece = _read_at(descriptor, stop - start, start)
    while piece and start + len(data) < stop:  # a short read: a signal, a file cut meanwhile, or over 2 GiB
        piece = _read_at(descriptor, stop - start - len(data), start + len(data))
        data += piece
    return data


def read_file(path: str, *, follow: bool = True, most: int | None = None) -> tuple[bytes, os.stat_result]:
    """Return the bytes of the regular file at `path`, `most` of them, and what the system says of it then.

    Raises as `open_regular` does.
    """
    descriptor = open_regular(path, write=False, follow=follow)
    try:
        return read(descriptor, 0, file_size(descriptor) if most is None else most), os.fstat(descriptor)
    finally:
        close(descriptor)


def write_all(descriptor: int, data: bytes, start: int) -> None:
    """Write `data` at the offset `start`, all of it."""
    view = memoryview(data)
    while view:
        written = _write_at(descriptor, view, start)
        view = view[written:]
        start += written


if WINDOWS:  # no pread and pwrite there; the position of a descriptor is nobody else's

    def _read_at(descriptor: int, size: int, start: int) -> bytes:
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.read(descriptor, size)

    def _write_at(descriptor: int, data: memoryview, start: int) -> int:
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.write(descriptor, data)

else:

    def _read_at(descriptor: int, size: int, start: int) -> bytes:
        return os.pread(descriptor, size, start)

    def _write_at(descriptor: int, data: memoryview, start: int) -> int:
        return os.pwrite(descriptor, data, start)


def write_byte(descriptor: int, byte: int, start: int) -> None:
    """Write one byte at the offset `start`. It may be a commit: nothing that can fail comes after the system's call."""
    os.pwrite(descriptor, bytes((byte,)), start)


def truncate(descriptor: int, size: int) -> None:
    """Cut the file to `size` bytes."""
    os.ftruncate(descriptor, size)


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
