"""What no heir can tell a forked child (see `live.forks`): what the system has just given to another thread.

That thread has not noted it yet: see `alone`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

from mmapstate.file import system
from mmapstate.live import forks as _heirs_first  # noqa: F401 - its hook is registered before, and runs before

# Both are changed by the hooks in one step each, which no signal handler and no other thread can come between.
_under_way: list[None] = []  # an item for each thread that is in a fork
_windows: set[object] = set()  # of those that open a file: one that a fork fell into is taken out

_TRIES = 1000  # to open a file with nobody in a fork, as another library's hook can keep one there
_PAUSE = 1e-3


def alone(open_file: Callable[[], int]) -> int:
    """Return the descriptor that `open_file` gives: no child has the open file without knowing of it.

    Such a child would keep what is locked on it when its parent is killed, for as long as it lives. So a file that some
    thread forked while it was being opened is closed again, never locked, and opened anew. Nothing keeps forks off
    meanwhile: who held such a lock into a fork would wait, in the hooks of other libraries (logging has one), for
    threads that may be waiting for it here. Not for ever therefore, either: then a fork may fall in between.
    """
    for left in reversed(range(_TRIES)):
        window = object()
        try:
            _windows.add(window)
            if not _under_way or not left:  # in this order: who begins a fork after this look takes the window out
                descriptor = open_file()
                system.unshared.add(int(descriptor))
                if window in _windows or not left:
                    return descriptor
                if descriptor in system.unshared:  # not so in the child of a signal handler, which has closed it
                    system.close(descriptor)
        finally:
            _windows.discard(window)
        time.sleep(_PAUSE)
    raise AssertionError("not reached")


def _close_unshared() -> None:
    """In a forked child, when the heirs have been told: close what nobody had noted but as opened."""
    _under_way.clear()
    for descriptor in list(system.unshared):
        system.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_windows.clear, after_in_parent=_under_way.pop, after_in_child=_close_unshared)
    # What is registered last is called first: who finds nobody in a fork has a window that the next one takes out.
    os.register_at_fork(before=functools.partial(_under_way.append, None))
