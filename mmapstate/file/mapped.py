"""The mapped file and the mapped header page; the only user of ``mmap``.

All stores go through the ``bytes`` of these two (an ``mmap``, or what behaves like one) and the ``word`` of the page.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

from mmapstate.errors import StateError
from mmapstate.file import host, system
from mmapstate.file.format import PAGE_SIZE, Image
from mmapstate.file.page import SEQUENCE, HeaderPage


class EditedMeanwhile(Exception):
    """The file was found edited after the decision what to write: recover, and decide again."""


_END = 16  # bytes, by which a file is known again that something was appended to


class MappedFile:
    """A state file: its descriptor, and its bytes mapped while there is a journal to write to.

    ``size`` is what the file's size should be: that of the mapping, or of the snapshot at rest. Reads go through the
    descriptor: a file that another program cuts gives a short read there, and kills the process here. On Windows they
    go through the map: nobody can cut a mapped file there, and a read need not show at once what was stored in a map.

    Nor can anybody replace a file there that is open. So it can be released for a while, and reopened.
    """

    def __init__(self, descriptor: int, path: str, *, write: bool = True) -> None:
        try:
            self.image = system.image_of(descriptor)
        except BaseException:
            system.close(descriptor)  # it was given away
            raise
        self.descriptor = descriptor
        self.path = path
        self.inode = self.image.inode
        self.size = self.image.size
        self.bytes: Any = None
        self.write = write
        self.kept = (0, b"")  # of a file released: an offset, and the bytes from there on that are still to be read

    @classmethod
    def absent(cls, path: str) -> MappedFile:
        """Return what stands for the file of who has none yet: it is empty, and was released."""
        file = cls.__new__(cls)
        file.image, file.descriptor, file.path = Image(0, 0, 0), -1, path
        file.inode, file.size, file.bytes, file.write, file.kept = 0, 0, None, True, (0, b"")
        return file

    @classmethod
    def open(cls, path: str, *, write: bool = True) -> MappedFile:
        """Open the state file at `path`; raise OSError, or `StateError` if it is no regular file."""
        return cls(system.open_regular(path, write=write), path, write=write)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from `start` to `stop` (default: to the end of the file); of one released, what it kept."""
        if self.descriptor < 0:
            first, kept = self.kept
            return kept[start - first : None if stop is None else stop - first] if start >= first else b""
        if stop is None:
            stop = max(start, system.file_size(self.descriptor))  # another program may have cut it
        if system.WINDOWS and self.bytes is not None and stop <= len(self.bytes):
            return bytes(self.bytes[start:stop])
        return system.read(self.descriptor, start, stop)

    def map(self) -> None:
        """Map the whole file, as large as it is now; raise `EditedMeanwhile` if another program has cut it."""
        size = system.file_size(self.descriptor)
        if host.writes_copies(self.path, self.descriptor):
            mapped: Any = _Written(self.descriptor)
        else:
            try:
                mapped = mmap.mmap(self.descriptor, size)
            except ValueError:  # empty, or shorter by now
                raise EditedMeanwhile from None
        self.unmap()  # not before: without memory for the new one, the old one stays
        self.bytes, self.size = mapped, size

    def expect_size(self, size: int) -> None:
        """Have `size` be what the file's size should be: another process has made it grow."""
        self.size = size

    def check_size(self) -> None:
        """Raise `EditedMeanwhile` if the size is not what it should be: another program has the file, or cut it.

        As the last thing before a store, which would kill the process where the file has been cut, or be a hole.
        """
        if system.file_size(self.descriptor) != self.size:
            raise EditedMeanwhile

    def unmap(self) -> None:
        """Unmap it, if it is mapped."""
        if self.bytes is not None:
            self.bytes.close()
            self.bytes = None

    def append(self, data: bytes) -> None:
        """Write `data` behind the end of the file, all of it or (raising OSError) nothing; needs a new `map`.

        Raises `EditedMeanwhile` where another program has cut the file: there may be a hole now, or another text.
        """
        if self.bytes is not None and system.WINDOWS:
            self.unmap()  # a failed append could not be taken back: a mapped file cannot be cut there
        size = self.size
        end = self.read(max(size - _END, 0), size)
        self.check_size()
        try:
            system.write_all(self.descriptor, data, size)
        except BaseException:
            with contextlib.suppress(OSError) if system.WINDOWS else contextlib.nullcontext():
                system.truncate(self.descriptor, size)  # refused there while others map it: so it ends in slack
            raise
        self.size = size + len(data)
        if self.read(max(size - _END, 0), size) != end:
            raise EditedMeanwhile

    def sync(self) -> None:
        """Make all bytes survive loss of power."""
        if system.WINDOWS and self.bytes is not None:
            self.bytes.flush()
        system.sync_data(self.descriptor)

    def release(self, start: int, stop: int) -> None:
        """Close the file for a while, and keep what is in it from `start` to `stop`."""
        kept = self.read(start, stop)
        self.close()
        self.kept = (start, kept)

    def reopen(self, *, mapped: bool) -> bool:
        """Open again, and map, what was released or closed; return False if it is not there, or not to be had."""
        if self.descriptor >= 0:
            return True
        try:
            self.descriptor = system.open_regular(self.path, write=self.write)
            if system.image_of(self.descriptor).inode == self.inode:
                size = self.size
                if mapped:
                    self.map()
                    self.size = size  # what it should be: if it differs, somebody has to look
                self.kept = (0, b"")
                return True
        except (OSError, StateError):
            pass  # whoever cannot do without it opens it anew, and is told
        self.close()
        return False

    def close(self) -> None:
        """Close it."""
        self.unmap()
        descriptor, self.descriptor = self.descriptor, -1  # forgotten first, as in `filelock`
        if descriptor >= 0:
            system.close(descriptor)


class _Written:
    """Bytes of a file behind the interface of a map, stored by ``pwrite``.

    On a copy-on-write filesystem that is full, a store into a map kills the process with SIGBUS; this raises ENOSPC.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __getitem__(self, key: slice) -> bytes:
        return system.read(self.descriptor, key.start, key.stop)

    def __setitem__(self, key: int | slice, value: int | bytes) -> None:
        if isinstance(key, slice):
            assert isinstance(value, bytes)
            system.write_all(self.descriptor, value, key.start)
        else:
            assert isinstance(value, int)
            system.write_byte(self.descriptor, value, key)

    def flush(self) -> None:
        """Have nothing to do: what was stored is in the file."""

    def close(self) -> None:
        """Have nothing to do: the descriptor is the file's."""


def sequence_of(page: mmap.mmap) -> memoryview:
    """Return the sequence word in `page`, as the one item of a view. To store it is one store of the machine."""
    return memoryview(page).cast("Q")[SEQUENCE : SEQUENCE + 1]


def map_page(path: str) -> HeaderPage:
    """Return the header page in the lock file at `path`, mapped."""
    descriptor = system.open_regular(path, write=True, follow=False)
    try:
        inode = system.image_of(descriptor).inode
        contents = mmap.mmap(descriptor, PAGE_SIZE)
    finally:
        system.close(descriptor)
    return HeaderPage(contents, sequence_of(contents), inode)


def page_behind(path: str, lock_descriptor: int, inode: int) -> HeaderPage | None:
    """Return the page of the lock file whose lock is held; None if that is no longer the file at `path`.

    The map needs an open file of its own, which is opened by name: it could be another one's, and two processes would
    have one lock and two pages, or the other way round.
    """
    if system.file_size(lock_descriptor) < PAGE_SIZE:
        # Through the lock's own descriptor: on Windows no other may write where the lock is.
        system.write_all(lock_descriptor, bytes(PAGE_SIZE), 0)
    try:
        page = map_page(path)
    except (FileNotFoundError, ValueError):  # removed, or a new one, still empty
        return None
    if page.inode == inode:
        return page
    page.close()
    return None
