"""What a path means, where it is one of a file: the last kind to be asked, as any text can be one."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, Any

from mmapstate.file import host, system
from mmapstate.live.backend import Memory, Options, Place
from mmapstate.logger import log

if TYPE_CHECKING:
    from mmapstate.live.backend import Backend


def place_of(path: Any) -> Place:
    """Return the place of the state file at `path`, made absolute now; symbolic links are followed."""
    real = system.real_path(path)
    return Place(real, os.path.normcase(real), functools.partial(_open, real))


def _open(path: str, memory: Memory, options: Options) -> Backend:
    _warn_of_filesystem(path)
    if options.readonly:
        from mmapstate.file.readonly import ReadonlyBackend

        return ReadonlyBackend(path, memory)
    from mmapstate.file.backend import FileBackend

    return FileBackend(path, memory, options)


_warned_of: set[int] = set()  # devices


def _warn_of_filesystem(path: str) -> None:
    """Tell, once, that a state is where other machines may write it, too."""
    with contextlib.suppress(OSError):  # it is the open that tells what is wrong with the path
        device, kind = host.foreign_filesystem(path)
        if kind and device not in _warned_of:
            _warned_of.add(device)
            log.warning(
                "%s: is on %s, not on a disk of this machine alone; where programs of two machines use it, changes "
                "are lost; locks, mapped pages and syncs may not be there what they promise. Keep it on a local disk",
                path, kind,
            )  # fmt: skip
