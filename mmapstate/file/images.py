"""Write files beside the state file: the image that a vacuum swaps in, and copies of what would be lost.

The mechanics alone. When to do it, and what is announced around it, is decided in `compaction`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import time
from zlib import crc32

from mmapstate.errors import StateError
from mmapstate.file import system
from mmapstate.file.format import Position, marker
from mmapstate.file.page import successor

_FIRST_REGION = 16 * 1024
GROWING_REGION = 1024 * 1024  # bytes; a smaller one that is full grows where it is
LARGEST_REGION = 4 * 1024 * 1024
_SNAPSHOTS_PER_REGION = 8


def region_size(snapshot: int, before: int, need: int) -> int:
    """Return how many bytes a new append region should have.

    Small at first (`before` is 0), as a program may change one counter and leave; larger with each vacuum of a busy
    time and with the snapshot, so that dumping it stays a small share of the commits. `need` bytes fit in any case.
    """
    if before == 0:
        size = max(_FIRST_REGION, min(snapshot, LARGEST_REGION))
    else:
        size = max(min(before * 8, LARGEST_REGION), snapshot * _SNAPSHOTS_PER_REGION)
    return max(size, need + 4096)


def new_generation(before: int) -> int:
    """Return a new name for a journal that follows the generation `before`."""
    return successor(before, random.SystemRandom().getrandbits(48))  # of the system: no child repeats its parent's


def whole_image(snapshot: bytes, generation: int, origin: Position | None, capacity: int) -> tuple[bytes, int]:
    """Return the bytes of a file, and where its snapshot ends: with a `capacity` marker and slack follow."""
    if not capacity:
        return snapshot, len(snapshot)
    bare = snapshot != b"" and not snapshot.endswith(b"\n")
    snapshot += b"\n" * bare
    line = marker(generation, origin, crc32(snapshot), bare=bare)
    return b"%b%b#%b" % (snapshot, line, b" " * (capacity - 1)), len(snapshot)


def temporary_path(path: str, generation: int) -> str:
    """Return where the image of `generation` is written before it is swapped in."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{generation:016x}.tmp")


def write_beside(path: str, data: bytes, like: os.stat_result | None, *, may_differ: bool = False) -> int:
    """Create `path` with `data`, synced, with the owner and mode of `like`; return its descriptor.

    Raises OSError, and leaves nothing behind then. Where the owner is another user, whom the system does not let us
    make the owner of a file, that is one of the errors, or with `may_differ` the file is readable for us alone.
    """
    descriptor = system.create(path, 0o600 if like is not None else 0o666)
    try:
        system.write_all(descriptor, data, 0)
        if like is not None:
            with contextlib.suppress(PermissionError) if may_differ else contextlib.nullcontext():
                system.keep_owner(descriptor, like)
                system.set_mode(descriptor, like.st_mode)
        system.sync_file(descriptor)  # before the rename: else loss of power leaves an empty file under the name
    except BaseException:
        system.close(descriptor)
        system.remove(path)
        raise
    return descriptor


def keep_copy(path: str, suffix: str, data: bytes) -> str | None:
    """Write `data` as ``<path>.<suffix>``, readable as the state file is; None if that copy is there already.

    Returns the copy's path: that of an older one of its kind with the same bytes, if there is one. Else a program that
    is started again and again, and fails each time, would fill the disk. Under the lock. A copy comes into its place as
    a whole: raises OSError, and leaves nothing behind then.
    """
    target = f"{path}.{suffix}"
    if system.is_there(target):
        return None
    same = _copy_of(path, f"{path}.{suffix.partition('-')[0]}-", data)
    if same is not None:
        return same
    temporary = temporary_path(path, random.SystemRandom().getrandbits(64))
    system.close(write_beside(temporary, data, system.status(path), may_differ=True))
    try:
        system.replace(temporary, target)
    except BaseException:
        system.remove(temporary)
        raise
    return target


def _copy_of(path: str, prefix: str, data: bytes) -> str | None:
    """Return the path of a copy that was kept of `path`, begins with `prefix`, and holds `data`."""
    with contextlib.suppress(PermissionError):  # of a folder that cannot be listed
        for copy in copies_of(path):
            if copy.startswith(prefix):
                with contextlib.suppress(OSError, StateError):  # another user's, or no file
                    if system.read_file(copy, follow=False, most=len(data) + 1)[0] == data:
                        return copy
    return None


def keep_damaged(path: str, data: bytes) -> str:
    """Keep a file that is damaged as ``<path>.damaged-<time>``, or with a number behind; return the copy's path.

    Raises, and uses a copy that is there, as `keep_copy` does.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S")
    suffixes = (f"damaged-{stamp}" + (f"-{number}" if number else "") for number in itertools.count())
    return next(kept for suffix in suffixes if (kept := keep_copy(path, suffix, data)) is not None)


def sweep(path: str) -> None:
    """Remove images that vacuums of `path` left when they were killed. Under the lock, with no vacuum under way."""
    with contextlib.suppress(PermissionError):  # of another user in a sticky folder, or one that cannot be listed
        for found in images_of(path):
            system.remove(found)


def images_of(path: str) -> list[str]:
    """Return the paths of images of `path` that are not swapped in: left by a killed vacuum, or written just now."""
    return _beside(path, r"\.{}\.[0-9a-f]{{16}}\.tmp")


def copies_of(path: str) -> list[str]:
    """Return the paths of what was kept of `path` (see `keep_copy`)."""
    return _beside(path, r"{}\.(superseded|damaged)-[0-9A-Za-z-]+")


def _beside(path: str, pattern: str) -> list[str]:
    """Return the paths of files beside `path`, in order, whose names `pattern` matches, with its name filled in."""
    folder, name = os.path.split(path)
    wanted = re.compile(pattern.format(re.escape(name)))
    return [os.path.join(folder, found) for found in sorted(system.names_in(folder or ".")) if wanted.fullmatch(found)]
