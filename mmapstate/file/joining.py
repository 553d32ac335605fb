"""How a process joins those that use a state file, at open and after a fork."""

from __future__ import annotations

import time
from typing import NoReturn

from mmapstate.errors import LockTimeout, StateError
from mmapstate.file import content, images, system, validation
from mmapstate.file.keeper import Keeper
from mmapstate.file.mapped import MappedFile
from mmapstate.file.page import NOWHERE, sequence
from mmapstate.file.recovery import Recovery
from mmapstate.file.relock import locked_page
from mmapstate.file.replica import OPEN, Replica
from mmapstate.file.writer import Writer


class Joining:
    """Has a replica stand where the others stand."""

    def __init__(self, replica: Replica, recovery: Recovery, keeper: Keeper, writer: Writer) -> None:
        self.replica = replica
        self.cursor = replica.cursor
        self.locks = replica.locks
        self.recovery = recovery
        self.keeper = keeper
        self.writer = writer
        self.path = replica.path
        self.pinned = NOWHERE  # the position to read up to

    def join(self, timeout: float | None) -> None:
        """Stand where the others stand, once those are gone, or have come over, whom the page does not know."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._pin(timeout):
            if deadline is not None and time.monotonic() >= deadline:
                self._give_up()
            time.sleep(validation.CHECK_INTERVAL)
        self._parse_pinned()
        self.keeper.joined()
        self.recovery.begin(fresh=False)  # what is damaged from here on, no loss of power has damaged

    def _give_up(self) -> NoReturn:
        if self.locks.exclusive:
            raise LockTimeout(f"{self.path}: other programs have the state open; stop them to have it exclusively")
        raise StateError(
            f"{self.path}: a program uses this state under another lock file (was {self.locks.lock.path} deleted?), or "
            "has locked the state file itself; stop it and try again"
        )

    def _pin(self, timeout: float | None) -> bool:
        """Under the lock: know inode and tail to read up to. Returns False where others must be gone first."""
        locks, lock, replica = self.locks, self.locks.lock, self.replica
        try:
            lock.acquire(timeout)
            lock.begin()
            if replica.page.inode != lock.inode or not lock.is_in_place():
                old = replica.page
                self.cursor.use_page(locked_page(lock, timeout))
                old.close()
            page = replica.page
            fresh = not page.is_usable(replica.boot)
            self.recovery.begin(fresh=fresh)
            if not self._may_open(fresh):
                locks.presence.leave()
                return False
            if fresh:
                page.initialise(replica.boot)
                images.sweep(self.path)
            with locks.guard:
                if fresh or page.dirty or not self._pin_known():
                    self.recovery.recover(OPEN, timeout)
            if not locks.exclusive:
                locks.presence.leave()
            if not replica.be_present() or not lock.is_in_place():  # in this order: see `be_present`
                return False
            if locks.exclusive:
                lock.keep()
            return True
        finally:
            lock.end()
            lock.release()

    def _may_open(self, fresh: bool) -> bool:
        """Return whether no other process has the state open, where that matters."""
        if not (fresh or self.locks.exclusive) or system.path_image(self.path) is None:
            return True
        if system.REPLACE_NEEDS_UNMAPPED:
            return not system.is_in_use(self.path)
        # It stays alone until it stands on the file: what it may have to settle there, nobody else shall do meanwhile.
        alone = self.locks.presence.take(self.path, exclusively=True)
        return alone and (not self.locks.exclusive or self.locks.lock.attend(exclusively=True))

    def is_last(self) -> bool:
        """Return whether no other process has the state open. Under the locks."""
        replica, locks = self.replica, self.locks
        if not system.REPLACE_NEEDS_UNMAPPED:
            return replica.be_present() and locks.lock.is_only() and locks.presence.become_only()
        replica.file.close()
        alone = not system.is_in_use(self.path)
        return replica.reopen() and alone

    def _pin_known(self) -> bool:
        """Stand in front of the records of a file that the page knows; it is parsed later, without the lock."""
        replica, page = self.replica, self.replica.page
        found = system.path_image(self.path)
        if found is None or found[:2] != page.image[:2]:
            return False
        file = MappedFile.open(self.path)
        with replica.closed_unless_used(file):
            journal = replica.journal_of(file, page.position, page.start)
            if journal is None or file.inode != found.inode:
                return False
            replica.stand_on(file, journal)
        self.cursor.distrust()
        self.pinned = page.position
        return True

    def _parse_pinned(self) -> None:
        """Read what `_pin` pinned; from anything odd it recovers under the lock."""
        replica, cursor = self.replica, self.cursor
        if cursor.unsure:
            with self.locks.guard:
                data = replica.file.read(0, self.pinned.tail)
                parts = content.layout(data, self.path)
                tail = parts.scan.tail if parts.scan is not None else parts.snapshot_end
                if parts.intact and tail == self.pinned.tail and not (parts.foreign or parts.unborn):
                    self.recovery.rebuild(data, parts)
                    if parts.scan is not None:
                        replica.journal.stand(parts.scan.tail, parts.scan.crc)
                    cursor.trust()
                    cursor.mark_applied(sequence(self.pinned))
        if cursor.unsure:
            self.writer.locked(OPEN, bool)
        cursor.check_later()
