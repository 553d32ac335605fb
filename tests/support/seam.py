"""Stand between the library and the system: see, fail, record or die at every system call and every store into a map.

All of them go through a few names: ``os`` and `seek` of `system`, ``os`` and ``open`` of `host`, ``mmap`` and
``sequence_of`` of `mapped`, and ``file_lock`` of `filelock`. That nothing goes elsewhere
is shown in `test_seam`, by strace.
"""

import contextlib
import mmap
import os

from mmapstate.file import filelock, host, mapped, system
from mmapstate.file.page import SEQUENCE

__all__ = ["CALLS", "STORES", "between"]

CALLS = frozenset({
    *("open", "close", "fstat", "lseek", "dup", "read", "write", "pread", "pwrite", "ftruncate", "fsync", "fdatasync"),
    *("stat", "lstat", "listdir", "replace", "rename", "unlink", "fchown", "fchmod"),
})  # fmt: skip
STORES = frozenset({"store", "word"})


@contextlib.contextmanager
def between(handle):
    """Have each call be ``handle(name, arguments, do)``, which does it by ``do(*arguments)``, or does something else.

    Names are those of `os`, and ``open_text`` (the built-in), ``flock`` (descriptor, operation), ``mmap`` (descriptor,
    size), ``store`` (map, slice or offset, bytes or byte) and ``word`` (map, number of the word, value).
    """

    class Calls:
        """What `system` and `host` have for ``os``."""

        def __getattr__(self, name):
            real = getattr(os, name)
            return _through(handle, name, real) if name in CALLS else real

    class Map:
        """A map whose stores are seen; it is closed, measured and read as it is."""

        def __init__(self, descriptor, size):
            self.map = mmap.mmap(descriptor, size)
            self.inode = os.fstat(descriptor).st_ino

        def __setitem__(self, key, value):
            handle("store", (self, key, value), _store)

        def __getitem__(self, key):
            return self.map[key]

        def __len__(self):
            return len(self.map)

        def flush(self):
            handle("msync", (self,), lambda watched: watched.map.flush())

        def close(self):
            self.map.close()

    class Word:
        def __init__(self, watched):
            self.map = watched
            self.words = memoryview(watched.map).cast("Q")

        def __getitem__(self, index):
            return self.words[SEQUENCE + index]

        def __setitem__(self, index, value):
            handle("word", (self.map, SEQUENCE + index, value), self._store)

        def _store(self, watched, key, value):
            self.words[key] = value

        def release(self):
            self.words.release()

    class Maps:
        """What `mapped` has for the module ``mmap``."""

        @staticmethod
        def mmap(descriptor, size):
            return handle("mmap", (descriptor, size), Map)

    places = [
        (system, "os", Calls()),
        (host, "os", Calls()),
        (host, "open", _through(handle, "open_text", open)),
        (system, "seek", _through(handle, "lseek", os.lseek)),
        (mapped, "mmap", Maps),
        (mapped, "sequence_of", Word),
        (filelock, "file_lock", _through(handle, "flock", filelock.file_lock)),
    ]
    before = [(place, name, getattr(place, name, open)) for place, name, _ in places]
    for place, name, substitute in places:
        setattr(place, name, substitute)
    try:
        yield
    finally:
        for place, name, original in before:
            setattr(place, name, original)


def _through(handle, name, real):
    def call(*arguments, **options):
        return handle(name, arguments, lambda *arguments: real(*arguments, **options))

    return call


def _store(watched, key, value):
    watched.map[key] = value
