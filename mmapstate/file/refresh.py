"""Follow what others commit, without the lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import monotonic

from mmapstate.errors import StateError
from mmapstate.file import host, validation
from mmapstate.file.cursor import UNSEEN
from mmapstate.file.page import RELEASE, sequence
from mmapstate.file.recovery import Recovery
from mmapstate.file.replica import READ, Replica

_CATCH_UPS = 4  # each has less to read: what came while the one before it read


class Refresh:
    """Keeps a replica up to date, as far as that needs no lock."""

    def __init__(self, replica: Replica, recovery: Recovery) -> None:
        self.replica = replica
        self.path = replica.path
        self.cursor = replica.cursor
        self.locks = replica.locks
        self.recovery = recovery
        self.going_on_until = 0.0  # reads go on with what was announced until then, as the lock was not to be had

    def is_going_on(self) -> bool:
        """Return whether to read what was announced last, and ask no more."""
        return monotonic() < self.going_on_until and self.cursor.word[0] == self.cursor.applied

    def go_on(self) -> bool:
        """Go on with what has been announced where the lock is not to be had: who has it may be stopped, in a vacuum.

        Whatever stands at the path, that one has to see to it. Returns False where memory is not what was announced.
        """
        with self.locks.guard:
            if self.locks.closed:
                return True
            if self.cursor.epoch & 1:  # of another thread, in a transaction
                return False
            position = self.replica.page.position
            is_there = not self.cursor.unsure and self.replica.journal.position == position
            if not is_there and not self.recovery.rebuild_without_lock():
                return False
            self.cursor.mark_applied(sequence(position))
            self.going_on_until = monotonic() + validation.CHECK_INTERVAL
            return True

    def follow(self) -> bool:
        """Follow what others appended; return False if that does not do. Under the guard."""
        replica, cursor, locks = self.replica, self.cursor, self.locks
        if locks.closed:  # by another thread, a moment ago
            return True
        if cursor.epoch & 1:
            return False
        if cursor.unsure:  # True: another thread is in its commit, and memory is right
            return locks.lock.busy and not locks.lock.owned()
        page = replica.page
        position = page.position
        back = replica.file.descriptor >= 0 or page.release or replica.reopen()
        if position.generation != replica.journal.generation:
            if not replica.move_over(position):
                return False
        elif not back:
            return False
        if position.tail > replica.journal.tail and not replica.follow(position.tail):
            return False
        if replica.file.descriptor < 0:
            return True  # another process is replacing it just now
        present = replica.be_present()
        if monotonic() >= cursor.next_check:
            if not replica.is_path_unchanged(READ):
                return False
            if present and not host.is_immutable(replica.file.descriptor):  # else a write shall look, and is told
                cursor.check_later()
        cursor.mark_applied(sequence(position))
        if page.release:
            self.release_file()
        return True

    def follow_meanwhile(self) -> None:
        """Follow another process, which has the lock that this thread waits for."""
        if self.cursor.word[0] != self.cursor.applied:
            self.unless_guarded(self._follow_several)

    def _follow_several(self) -> None:
        for _ in range(_CATCH_UPS):
            if self.cursor.word[0] == self.cursor.applied or not self.follow():
                break

    def unless_guarded(self, look: Callable[[], object]) -> None:
        """Call `look` under the guard, if no thread has that; what it finds wrong is told to others."""
        locks = self.locks
        try:
            try:
                if not locks.guarded() and locks.guard.acquire(False):
                    with contextlib.suppress(StateError, OSError):
                        look()
            finally:
                if locks.guarded():
                    locks.guard.release()
        finally:  # again: an interrupt may have come before the first release
            if locks.guarded():
                locks.guard.release()

    def release_file(self) -> None:
        """Release the file, as another process asks for (Windows); keep what is not read yet. Under the guard.

        Who asks has the file lock, so no thread of this process is writing. From here on none takes the fast path: each
        comes to `Writer.look` or `follow`, and waits there for the guard. If one that is at the end of a commit puts
        `applied` back, it still has the lock: then the page does not ask yet, or `applied` is found put back.
        """
        cursor, replica = self.cursor, self.replica
        cursor.look_again()
        if cursor.header[RELEASE] and cursor.applied == UNSEEN:
            position, journal = replica.page.position, replica.journal
            known = position.generation == journal.generation
            replica.file.release(journal.tail, max(position.tail, journal.tail) if known else journal.tail)

    def release_if_asked(self) -> None:
        """Release the file when another process is about to replace it, reopen it afterwards (see `windows`).

        Quickly, as the other one waits: what is new in the file is read afterwards, so that no second vacuum overtakes.
        """
        replica, page = self.replica, self.replica.page
        if not replica.has_file() or bool(page.release) == (replica.file.descriptor < 0):
            return
        with self.locks.guard:
            page = replica.page
            if self.locks.closed or bool(page.release) == (replica.file.descriptor < 0):
                return  # it was this process's own vacuum, and is over
            with contextlib.suppress(StateError, OSError):  # told to whoever uses the state next
                position = page.position
                if not page.release:
                    if not replica.left:
                        self.follow()
                elif not self.cursor.unsure and position.generation != replica.journal.generation:
                    replica.move_over(position)
            if page.release:
                self.release_file()
