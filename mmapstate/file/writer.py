"""The long way of a write: take the locks, validate, decide, commit."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar

from mmapstate import changes
from mmapstate.errors import StateError, UnsupportedValueError
from mmapstate.file import host, system
from mmapstate.file.compaction import Compaction
from mmapstate.file.cursor import WANTING
from mmapstate.file.filelock import LONGEST_WAIT
from mmapstate.file.format import MARK_LENGTH, unsynced
from mmapstate.file.journal import COMMITTED, SLACK, Journal
from mmapstate.file.mapped import EditedMeanwhile
from mmapstate.file.page import DIRTY, WAITED_FOR
from mmapstate.file.recovery import Recovery
from mmapstate.file.refresh import Refresh
from mmapstate.file.replica import WRITE, Replica

_PATIENCE = 0.02  # seconds of waiting for the lock after which the others are asked to pause
_PAUSE = 2 * LONGEST_WAIT  # seconds; who waits tries the lock more than once meanwhile

_T = TypeVar("_T")

# Through these a program comes in, and what is below them on the stack belongs to another call.
_ENTRANCES = frozenset(f"mmapstate.live.{name}" for name in ("state", "mapping", "sequence", "node", "transaction"))


class Writer:
    """Writes to the file of a replica."""

    def __init__(
        self,
        replica: Replica,
        compaction: Compaction,
        recovery: Recovery,
        refresh: Refresh,
        *,
        timeout: float | None,
        close_files: Callable[[float | None], None],
    ) -> None:
        self.replica = replica
        self.cursor = replica.cursor
        self.locks = replica.locks
        self.compaction = compaction
        self.recovery = recovery
        self.refresh = refresh
        self.path = replica.path
        self.timeout = timeout
        self.close_files = close_files

    def wait_for(self, timeout: float | None) -> None:
        """Wait so many seconds for a lock from now on."""
        self.timeout = timeout

    # --- The locks ----------------------------------------------------------------------------------------------------

    def locked(
        self, purpose: str, decide: Callable[..., _T], args: tuple[Any, ...] = (), patience: float | None = None
    ) -> _T:
        """Return ``decide(*args)``, run under the locks, after a look at the file for `purpose`."""
        locks, lock = self.locks, self.locks.lock
        if locks.closed or locks.holders or locks.is_inside():
            locks.refuse_closed()
            self.refuse_inside()
        joined = lock.owned()
        done = False
        try:
            try:
                if not joined:
                    self.acquire(patience)
                if locks.closed:  # while this thread waited
                    locks.refuse_closed()
                lock.begin()
                while True:
                    try:
                        self.look(purpose)
                        result = decide(*args)
                        done = True
                        return result
                    except EditedMeanwhile:
                        self.cursor.check_now()
                        self.replica.checked.forget()  # compare the snapshot's bytes
            finally:
                if joined:
                    lock.end()
                elif lock.owned():  # else another thread has it, and this one has waited in vain
                    lock.free()
        except MemoryError:  # CPython 3.10 may need some to call what frees the lock
            if not joined:
                lock.release_all()
            if not done:
                raise
            return result
        except BaseException:
            if not joined:
                lock.release_all()
            raise
        finally:
            if locks.closed and not joined:
                self.close_files(0)

    def acquire(self, patience: float | None = None) -> None:
        """Take both locks; raise `LockTimeout`."""
        if self.cursor.header[WAITED_FOR] and self.timeout != 0:
            sleep(_PAUSE)  # the lock is nobody's in turn: who vacuums all the time would leave it for microseconds
        self.locks.lock.acquire(self.timeout, self._wait_usefully, patience)
        header = self.cursor.header
        if header[WAITED_FOR] and not self.locks.closed:
            header[WAITED_FOR] = 0  # whoever waits still says so again

    def _wait_usefully(self, waited: float) -> None:
        """Follow the process that has the lock while waiting for it: what is read by then delays nobody later."""
        if waited > _PATIENCE and not self.locks.closed:
            self.replica.page.waited_for = True
        self.refresh.follow_meanwhile()

    def refuse_inside(self) -> None:
        """Raise `StateError` where this thread is in the middle of a change."""
        if self.is_inside():
            raise StateError(
                f"{self.path}: a change is under way in this thread; do not change the state in a signal handler, a "
                "finaliser or a sort key"
            )

    def is_inside(self) -> bool:
        """Return whether this thread is in the middle of a change: then a signal handler or finaliser asks."""
        locks = self.locks
        if locks.holders and locks.lock.owned():
            self.replica.memory.end_abandoned()
        if not locks.is_inside():
            return False
        if self._is_under_way():
            return True
        # Interrupts that came one upon the other have cut a release short, and its repetition: it is made up for now.
        self.cursor.distrust()
        locks.lock.end()
        while locks.guarded():
            locks.guard.release()
        if not locks.holders:
            locks.lock.release()
        return False

    def _is_under_way(self) -> bool:
        """Return whether a part of this backend is on this thread's stack, below the frames of the call now."""
        parts = {id(part) for part in (self, self.cursor, self.replica, self.compaction, self.recovery, self.refresh)}
        parts.add(id(self.replica.memory))  # through it comes every access
        frame: Any = sys._getframe(1)
        while frame is not None and (name := frame.f_globals.get("__name__", "")).startswith("mmapstate."):
            frame = frame.f_back
            if name in _ENTRANCES:  # what is below belongs to another call, also where that has come here by C alone
                break
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith("mmapstate.") and id(frame.f_locals.get("self")) in parts:
                return True
            frame = frame.f_back
        return False

    # --- Validation ---------------------------------------------------------------------------------------------------

    def look(self, purpose: str) -> None:
        """Find out whether all is as this process left it, and catch up. Under the file lock."""
        replica, cursor = self.replica, self.cursor
        with self.locks.guard:
            if (
                cursor.unsure
                or cursor.word[0] != cursor.applied
                or not replica.is_as_left()
                or monotonic() >= cursor.next_check
                or self.locks.lock.inode != cursor.page.inode  # opened anew, as an unlock failed
            ):
                self._look_closely(purpose)

    def _look_closely(self, purpose: str) -> None:
        replica, cursor = self.replica, self.cursor
        replica.reopen()
        deadline = None if self.timeout is None else monotonic() + self.timeout
        while True:
            if not self._catch_up(purpose):
                self.recovery.recover(purpose, self.timeout)
                cursor.check_later()
            if replica.is_present():
                break
            if replica.be_present():
                continue  # now that it is present: the look at the path, and at the lock file, once more
            if purpose != WRITE:
                break
            if deadline is not None and monotonic() >= deadline:
                raise StateError(
                    f"{self.path}: another program has locked the state file itself; stop it and try again"
                )
            sleep(_PAUSE)
        cursor.mark_applied(cursor.word[0])

    def _catch_up(self, purpose: str) -> bool:
        """Follow what others did in good order; return False if anything else happened."""
        replica, cursor, page = self.replica, self.cursor, self.replica.page
        if page.dirty or cursor.unsure or cursor.epoch & 1 or self.locks.lock.inode != page.inode:
            return False
        position = page.position
        if position.generation != replica.journal.generation and not replica.move_over(position):
            return False
        file = replica.file
        if file.descriptor < 0:
            return False
        size = system.file_size(file.descriptor)
        if size != file.size:
            if page.image.size != size or page.image.inode != file.inode:
                return False
            file.map()  # another process grew the region
        if position.tail > replica.journal.tail and not replica.follow(position.tail):
            return False
        journal = replica.journal
        if journal.position != position or (journal.start >= 0 and not journal.is_untouched()):
            return False
        if monotonic() >= cursor.next_check:
            if not replica.is_path_unchanged(purpose):
                return False
            if purpose == WRITE and host.is_immutable(file.descriptor):
                raise PermissionError(
                    errno.EPERM,
                    "the file has been made immutable; undo that (chattr -i) to change the state",
                    self.path,
                )
            cursor.check_later()
        return True

    def is_as_left(self) -> bool:
        """Return whether the file is as this thread, which has had the lock since, left it."""
        replica, cursor = self.replica, self.cursor
        with self.locks.guard:
            if monotonic() >= cursor.next_check:
                self.recovery.check_lock_file(self.timeout)  # deleted meanwhile: no edit, all else is as it was
            if not replica.is_as_left():
                return False
            if monotonic() >= cursor.next_check:
                cursor.check_later()
                return replica.is_file_unchanged(WRITE)
            return True

    # --- The commit ---------------------------------------------------------------------------------------------------

    def append(
        self,
        record: Sequence[changes.Change],
        make_room: Callable[[int], None],
        publish: Callable[..., object],
        args: tuple[Any, ...] = (),
    ) -> None:
        """Put `record` into the file and call ``publish(*args)``.

        All that can fail comes before the commit. After it nothing is raised, for who calls takes an error for "not
        committed": where memory or stack are wanting for the rest, what is in memory is rebuilt by the next access.
        """
        try:
            payload = changes.encode(record)
        except ValueError as error:
            raise UnsupportedValueError(str(error), (), self.path) from None
        cursor, power = self.cursor, self.compaction.power
        journal = cursor.journal
        text, crc = journal.encode(payload)
        need = len(text) + (MARK_LENGTH if power else 0)
        if need > journal.room():
            make_room(need)
            journal = cursor.journal
            text, crc = journal.encode(payload)
        if power:
            self.compaction.sync_first()
        cursor.file.check_size()
        header, stores, tail = cursor.header, cursor.file.bytes, journal.tail
        start, end, known = tail + 1, tail + len(text), text[-10:]
        stored_text = text + unsynced(self.replica.boot, journal.file.inode) if power else text
        stored, known_from, sequence = slice(start, start + len(stored_text)), end - 9, journal.base + end
        committed = False
        cursor.distrust()
        header[DIRTY] = 1
        try:
            # A kill tears this store: any of its bytes may be missing. The slack is clean, so these are spaces: junk in
            # a comment. The last store is one byte, which no kill tears.
            stores[stored] = stored_text
            stores[tail] = COMMITTED
            if power:
                self._sync_commit(journal, text)
            committed = True
            with self.locks.guard:
                journal.advance(known_from, known, crc, end)
                cursor.publish(sequence, publish, args)
        except WANTING:
            if not committed:
                raise
        cursor.word[0] = sequence
        header[DIRTY] = 0

    def _sync_commit(self, journal: Journal, text: bytes) -> None:
        """Make the record just appended survive loss of power; a sync that fails rolls it back, and is raised."""
        file, page = self.replica.file, self.replica.page
        try:
            file.sync()
            journal.unmark(text)
        except BaseException as error:
            # Nobody has seen the record: it was not announced. This first: what is left of it is a comment then, and
            # is blanked by who finds the page dirty.
            file.bytes[journal.tail] = SLACK
            page.sync_failed = True  # a second fsync would claim success: whoever writes next writes a new file
            if isinstance(error, OSError):
                journal.blank(journal.tail + 1, journal.tail + 1 + len(text))
                journal.unmark(text)  # last: until then no reader takes what comes back to it for a record
                self.cursor.trust()
            raise
