"""What a disk may hold after a loss of power: recorded at the seam, rebuilt in every way that the system allows.

The model is that of a pessimist (after ALICE, Pillai et al., OSDI 2014, and LazyFS). Without a sync that came after it,

- of each unit of a file (512 bytes, a disk's sector, or 4 KiB, a page) any version since the last sync may be there, or
  a torn one: its first half of one version, the rest of the next or the last;
- a change of the file's size may be there or not, whatever became of the bytes: what was never written reads as NULs;
- a name may lead to whatever file it led to since the last sync of the folder, or to none.
"""

import itertools
import os

from mmapstate.file.sidecar import sidecar_path
from support.seam import between

__all__ = ["Recorder", "disks"]


class File:
    """A file's history: its bytes as synced last, and each version since, with the step at which it came."""

    def __init__(self, step):
        self.versions = [(step, b"")]
        self.syncs = []

    def change(self, step, offset, data):
        old = self.versions[-1][1]
        new = bytearray(old.ljust(offset + len(data), b"\0"))
        new[offset : offset + len(data)] = data
        self.versions.append((step, bytes(new)))

    def cut(self, step, size):
        self.versions.append((step, self.versions[-1][1][:size].ljust(size, b"\0")))

    def until(self, step):
        """Return the versions that may be there at `step`: from the last one synced on."""
        synced = max((when for when in self.syncs if when <= step), default=-1)
        sure = max((index for index, (when, _) in enumerate(self.versions) if when <= synced), default=0)
        return [data for when, data in self.versions[sure:] if when <= step]


class Recorder:
    """Records what one process does to the state file at `path`, step by step; to be installed by `recording`."""

    def __init__(self, path):
        self.path = path
        self.step = 0
        self.files = {}  # by inode, of which the system gives a number away again
        self.names = [(0, None)]  # what the path led to, from which step on
        self.folder_syncs = [0]
        self.beside = {}  # files by path
        self.folders = set()

    def recording(self):
        return between(self.handle)

    def handle(self, name, arguments, do):
        result = self.sync(name, arguments[0]) if name in ("fsync", "fdatasync") else do(*arguments)
        if name == "open":
            self.opened(arguments[0], arguments[1], result)
        elif name == "pwrite":
            self.changed(self.inode(arguments[0]), arguments[2], bytes(arguments[1][:result]))
        elif name == "ftruncate":
            self.step += 1
            self.files[self.inode(arguments[0])].cut(self.step, arguments[1])
        elif name == "store":
            watched, key, value = arguments
            self.changed(watched.inode, key.start if isinstance(key, slice) else key, self.bytes_of(value))
        elif name == "replace" and arguments[1] == self.path:
            self.step += 1
            self.names.append((self.step, self.beside[arguments[0]]))
        return result

    def opened(self, path, flags, descriptor):
        if path == sidecar_path(self.path):  # after a restart its page is none of that boot
            return
        if os.path.isdir(path):
            self.folders.add(descriptor)
        elif flags & os.O_CREAT:
            self.step += 1
            file = self.beside[path] = self.files[self.inode(descriptor)] = File(self.step)
            if path == self.path:
                self.names.append((self.step, file))
        if descriptor in self.folders and not os.path.isdir(path):
            self.folders.discard(descriptor)

    @staticmethod
    def inode(descriptor):
        return os.fstat(descriptor).st_ino

    @staticmethod
    def bytes_of(value):
        return value if isinstance(value, bytes) else bytes((value,))

    def changed(self, inode, offset, data):
        if inode in self.files:
            self.step += 1
            self.files[inode].change(self.step, offset, data)

    def sync(self, name, descriptor):
        """Note a sync. Not made: a disk is what this makes up, and a real one takes its time."""
        self.step += 1
        if descriptor in self.folders:
            self.folder_syncs.append(self.step)
        else:
            self.files[self.inode(descriptor)].syncs.append(self.step)

    def cuts(self):
        """Return the steps after which to cut the power: before each sync, and at the end.

        What may be there after an earlier one may be there after these, too.
        """
        files = {file for _, file in self.names if file is not None}
        syncs = {when for file in files for when in file.syncs} | set(self.folder_syncs)
        return sorted({when - 1 for when in syncs if when} | {self.step})

    def disks(self, step, unit, dice, most):
        """Yield what may stand at the path when the power fails after `step`: bytes, or None for no file."""
        synced = max(when for when in self.folder_syncs if when <= step)
        sure = max(index for index, (when, _) in enumerate(self.names) if when <= synced)
        for file in dict.fromkeys(file for when, file in self.names[sure:] if when <= step):
            if file is None:
                yield None
            else:
                yield from disks(file.until(step), unit, dice, most)


def disks(versions, unit, dice, most):
    """Yield the bytes that a file may have of which these are the versions since its last sync, each one once.

    All combinations of units, unless they are more than `most`: then so many of them, drawn by `dice`.
    """
    longest = max(map(len, versions))
    padded = [data.ljust(longest, b"\0") for data in versions]
    base = bytearray(longest)
    choices = []  # for each group of units: the alternatives, each a list of (offset, bytes)
    blank = {}
    for offset in range(0, longest, unit):
        seen = list(dict.fromkeys(data[offset : offset + unit] for data in padded))
        if len(seen) == 1:
            base[offset : offset + unit] = seen[0]
        elif all(not data.strip(b" \0") for data in seen):
            blank.setdefault(tuple(data[:1] for data in seen), []).append((offset, seen))
        else:
            choices.append([[(offset, data)] for data in dict.fromkeys(torn(seen))])
    # Units of slack that were never anything but spaces or NULs: 2 to the power of 32 ways, of which a reader that
    # strips them cannot tell one from another. All as they were, all as they are, each second one, the first half.
    for group in blank.values():
        half = len(group) // 2
        choices.append([
            [(offset, seen[choose(number)]) for number, (offset, seen) in enumerate(group)]
            for choose in (lambda _: 0, lambda _: -1, lambda n: -(n % 2), lambda n, half=half: -(n < half))
        ])  # fmt: skip
    sizes = sorted(set(map(len, versions)))
    count = len(sizes)
    for alternatives in choices:
        count *= len(alternatives)
    if count <= most:
        combinations = itertools.product(sizes, *choices)
    else:
        combinations = ((dice.choice(sizes), *map(dice.choice, choices)) for _ in range(most))
    found = set()
    for size, *parts in combinations:
        data = base.copy()
        for part in parts:
            for offset, piece in part:
                data[offset : offset + len(piece)] = piece
        found.add(bytes(data[:size]))
    yield from found


def torn(seen):
    """Yield the versions of a unit, and what it is when one of the stores between them has been cut in half."""
    yield from seen
    for old, new in itertools.pairwise(seen):
        differing = int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
        first = ((differing & -differing).bit_length() - 1) // 8
        middle = (first + (differing.bit_length() + 7) // 8) // 2
        yield new[:middle] + old[middle:]
        yield old[:middle] + new[middle:]
