"""The locks of one state in one process, taken in this order and never the other way round.

- the thread lock of `FileLock` lets one thread of this process write at a time, and joins what it nests;
- the file lock lets one process of the host write at a time;
- ``guard`` protects this process's `Replica`. It is held briefly, and by readers too. A writer holds it whenever it
  changes more of the replica than one value, so a reader in another thread can follow the others' commits while a
  writer of this process waits for the file lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmapstate.errors import closed
from mmapstate.file import system
from mmapstate.file.filelock import FileLock, new_thread_lock
from mmapstate.file.presence import Presence


class Locks:
    """The three locks, who holds the first two for several changes, and the presence that others go by."""

    def __init__(self, lock: FileLock, *, exclusive: bool) -> None:
        self.lock = lock
        self.exclusive = exclusive
        self.closed = False  # whoever comes, or has waited for one of them, finds it so
        self.presence = Presence()
        self.holders: list[int] = []
        self.renew_guard()

    def renew_guard(self) -> None:
        """Have a guard that nobody has: another thread had it when this process was forked, and is no more."""
        self.guard: Any = new_thread_lock()
        self.guarded: Callable[[], bool] = self.guard._is_owned

    def forget_holders(self) -> None:
        """In a forked child: its parent holds the locks, it does not."""
        self.holders = []

    def close(self) -> None:
        """Have nobody take them any more."""
        self.closed = True

    def refuse_closed(self) -> None:
        """Raise `ClosedError` where nobody may take them any more."""
        if self.closed:
            raise closed(self.lock.file)

    def is_inside(self) -> bool:
        """Return whether this thread has left the guard, or the locks, in the middle of a change."""
        lock = self.lock
        return self.guarded() or (lock.owned() and (lock.busy or not lock.whole or not self.holders))

    def hold_first(self, holder: int) -> None:
        """Note that this thread, which has just acquired the locks, keeps them for `holder`."""
        self.holders = [holder]  # a new list: the last holder may be taking itself off the old one

    def held(self, holder: int) -> int:
        """Return how many times this thread has taken the locks for `holder`, and not released them."""
        return self.holders.count(holder) if self.lock.owned() else 0

    def unhold(self, holder: int) -> bool:
        """Release what was held for `holder`; return whether this thread held anything, and still did."""
        if not self.held(holder):
            return False  # as in a child forked inside: its parent holds the lock, it does not
        holders = self.holders
        if len(holders) == 1:
            self.lock.release()  # first: an interrupt in it leaves a holder that can call this again
        holders.remove(holder)
        return True

    def is_present(self, inode: int) -> bool:
        """Return whether others find this process on the file that has this `inode`."""
        return system.REPLACE_NEEDS_UNMAPPED or (self.lock.attended and self.presence.inode == inode)

    def be_present(self, path: str, inode: int) -> bool:
        """Be present on the file that this process stands on. Under the guard.

        Whoever comes with another lock file, as this one's was deleted, has made that before it looks who is present.
        So this one looks at the lock file after it is present, and writes nothing before: one finds the other.
        """
        if not self.is_present(inode):
            self.lock.attend(exclusively=self.exclusive)
            self.presence.take(path, exclusively=self.exclusive)
        return self.is_present(inode)

    def move_presence(self, presence: Presence) -> None:
        """Go on with a presence that was taken on a new image before that had its name."""
        former, self.presence = self.presence, presence
        former.leave()
