"""A backend in a forked child: what it must not share with its parent, and how it takes part again."""

from __future__ import annotations

import os

from mmapstate.errors import StateError
from mmapstate.file import system
from mmapstate.file.joining import Joining
from mmapstate.file.replica import Replica
from mmapstate.file.writer import Writer
from mmapstate.live.forks import inherit
from mmapstate.live.undo import UndoLog


class Child:
    """What a fork makes of one backend. `asleep` is set in a child until the first access there."""

    def __init__(self, replica: Replica, joining: Joining, writer: Writer) -> None:
        self.replica = replica
        self.locks = replica.locks
        self.joining = joining
        self.writer = writer
        self.user = system.user()
        self.is_open = self.asleep = False
        self.undo_of_parent: UndoLog | None = None
        inherit(self)

    def opened(self) -> None:
        """Note that the file is open: a fork until now leaves the child nothing to go on with."""
        self.is_open = True

    def forget(self) -> None:
        """In a forked child: close what must not be shared; the rest happens at the first access."""
        cursor, locks = self.replica.cursor, self.locks
        locks.renew_guard()
        if locks.closed or not self.is_open:  # another thread was at it, and is no more
            locks.presence.forget()
            self.replica.close()
            return
        undo = self.replica.memory.forget()
        if self.asleep:  # it has forked twice: the grandparent's
            undo = self.undo_of_parent
        half_way = cursor.unsure or locks.lock.busy or (undo.torn if undo is not None else cursor.epoch & 1)
        self.undo_of_parent = None if half_way else undo
        self.asleep = True
        cursor.forget()
        if half_way:
            cursor.distrust()
        else:
            cursor.trust()
        locks.lock.settle()
        locks.forget_holders()

    def wake(self) -> None:
        """Take part again, as a process of its own."""
        locks, cursor, path = self.locks, self.replica.cursor, self.replica.path
        if locks.exclusive:
            raise StateError(f"{path}: is open exclusively in the parent process; open it in one of the two alone")
        with locks.guard:  # of the child's threads one wakes it; all the others come here first, and find it done
            if not self.asleep:
                return
            if self.undo_of_parent is not None:  # the parent's transaction is none of this process
                cursor.begin_change()
                self.undo_of_parent.roll_back()
                cursor.end_change()
                self.undo_of_parent = None
            cursor.check_now()
            self._open_lock_again()
            # It was replaced meanwhile: the parent may still use the old one. Or the parent was itself a child, in the
            # middle of this.
            if locks.lock.inode != self.replica.page.inode:
                cursor.wait_for_guard()
                self.joining.join(self.writer.timeout)
            self.asleep = False

    def _open_lock_again(self) -> None:
        lock = self.locks.lock
        try:
            lock.open_again()
        except PermissionError as error:
            if system.user() == self.user:
                raise
            raise PermissionError(
                error.errno,
                f"this process has become user {system.user()} since user {self.user} opened the state (as gunicorn "
                f"does with --preload and --user), and may not open the lock file {os.path.basename(lock.path)}; "
                "open the state afterwards, in each worker, or give the state file and its lock file to the new user",
                self.replica.path,
            ) from error
