"""Forks: the one owner of what a forked child does first.

A child has the memory that its parent had at one moment, the parent's open files, and one thread alone: what the others
were in the middle of stays so, and their locks stay taken. So each object that has a lock for threads, or an open file
with a lock for processes, is an heir from the beginning of its life, and is told to `forget` in the child, whatever it
was in the middle of. A fork waits for nobody, and has nobody wait that is at work: the child's hook suffices.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from mmapstate.logger import log


class Heir(Protocol):
    """What a forked child has a copy of that is of no use to it as it is."""

    def forget(self) -> None:
        """In a forked child: close what must not be shared, have new locks. Whatever another thread was doing."""


_heirs: weakref.WeakSet[Heir] = weakref.WeakSet()


def inherit(heir: Heir) -> None:
    """Have `heir` told in a forked child, for as long as it lives."""
    _heirs.add(heir)


def _tell_heirs() -> None:
    for heir in list(_heirs):
        try:
            heir.forget()
        except Exception as error:  # the others are to be told all the same
            log.warning("a descriptor may stay open in a forked child: %s", error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_heirs)
