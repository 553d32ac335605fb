"""Forks: the one owner of what a forked child does first, and of what no child may share without knowing.

A child has the memory that its parent had at one moment, the parent's open files, and one thread alone: what the others
were in the middle of stays so, and their locks stay taken. So each object that has a lock for threads, or an open file
with a lock for processes, is an heir from the beginning of its life, and is told to `forget` in the child, whatever it
was in the middle of. A fork waits for nobody, and has nobody wait that is at work: the child's hook suffices.

One thing no heir can tell: what the system has just given to another thread, which has not noted it yet. See `alone`.
"""

from __future__ import annotations

import functools
import os
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from mmapstate.file import system
from mmapstate.logger import log

__all__ = ["alone", "inherit"]


class Heir(Protocol):
    """What a forked child has a copy of that is of no use to it as it is."""

    def forget(self) -> None:
        """In a forked child: close what must not be shared, have new locks. Whatever another thread was doing."""


_heirs: weakref.WeakSet[Heir] = weakref.WeakSet()

# Both are changed by the hooks in one step each, which no signal handler and no other thread can come between.
_under_way: list[None] = []  # an item for each thread that is in a fork
_windows: set[object] = set()  # of those that open a file: one that a fork fell into is taken out

_TRIES = 1000  # to open a file with nobody in a fork, as another library's hook can keep one there
_PAUSE = 1e-3


def inherit(heir: Heir) -> None:
    """Have `heir` told in a forked child, for as long as it lives."""
    _heirs.add(heir)


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


def _take_over() -> None:
    """In a forked child: tell the heirs, then close what nobody had noted but as opened."""
    _under_way.clear()
    for heir in list(_heirs):
        try:
            heir.forget()
        except Exception as error:  # the others are to be told all the same
            log.warning("a descriptor may stay open in a forked child: %s", error)
    for descriptor in list(system.unshared):
        system.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_windows.clear, after_in_parent=_under_way.pop, after_in_child=_take_over)
    # What is registered last is called first: who finds nobody in a fork has a window that the next one takes out.
    os.register_at_fork(before=functools.partial(_under_way.append, None))
