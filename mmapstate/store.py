"""Open, refresh, write, commit, close, fork: the orchestration of it all.

A `Store` is one state file in one process. Three locks, taken in this order and never the other way round:

- the thread lock of `StoreLock` lets one thread of this process write at a time, and joins what it nests;
- the file lock lets one process of the host write at a time;
- ``guard`` protects this process's `Picture`. It is held briefly, and by readers too. A writer holds it whenever it
  changes that picture, so a reader in another thread can follow the others' commits while a writer of this process
  waits for the file lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from mmapstate import beside, changes, content, platform
from mmapstate.errors import ClosedError, LockTimeout, StateError, UnsupportedValueError
from mmapstate.format import DOUBTFUL, NO_POSITION, POSITION, TAIL, UNSETTLED, pack_position, pack_tail
from mmapstate.journal import Journal
from mmapstate.lock import StoreLock, open_sidecar, sidecar_path
from mmapstate.mapping import ControlPage, MappedFile
from mmapstate.picture import CLOSE, LOOK_INTERVAL, OPEN, READ, WRITE, log
from mmapstate.surprises import Surprises
from mmapstate.vacuum import EditedMeanwhile

__all__ = ["Store"]

_T = TypeVar("_T")


class Store(Surprises):
    """One state file in this process: what stands behind the nodes (see `nodes.Tree`)."""

    def __init__(self, path: str, *, timeout: float | None, exclusive: bool, power: bool) -> None:
        super().__init__(path, timeout=timeout, exclusive=exclusive, power=power)
        self.holds = 0
        self.closed = False
        self.forked = False
        self._open()

    def refresh(self) -> None:
        """Bring memory up to date. With nothing new: one comparison and a clock, no lock and no system call."""
        if self.page_bytes[POSITION] != self.seen or time.monotonic() >= self.due:
            self._refresh()

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""
        self.refresh()
        if self.guarded():  # a signal handler or finaliser inside this thread's own change: as it is
            return read(*args)
        while True:
            with self.guard:
                if not self.applying & 1:
                    return read(*args)
            self._refresh()  # interrupted half-way: rebuild

    def _refresh(self) -> None:
        if self.guarded() or self.busy == threading.get_ident():
            return  # a signal handler or finaliser inside this thread's own change: as it is
        if self.forked:
            self._wake()
        with self.guard:
            done = self._follow_quietly()
        if not done:
            self._locked(READ, _nothing, ())

    def _follow_quietly(self) -> bool:
        """Follow what others appended, without the lock; return False if that does not do. Under the guard."""
        if self.unsure or self.applying & 1:
            return self.busy not in (0, threading.get_ident())  # another thread is in its commit: memory is right
        position = self.page.position
        if position.generation != self.journal.generation and not self._move_over(position):
            return False
        if position.tail > self.journal.tail and not self._follow(position.tail):
            return False
        if time.monotonic() >= self.due:
            if not self._is_path_unchanged(READ):
                return False
            self.due = time.monotonic() + LOOK_INTERVAL
        self.seen = pack_position(position)
        return True

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Return ``decide(*args)``, run under the locks with memory up to date; it may call `commit`.

        Raises `LockTimeout`, `ClosedError`, `StateFileError` (an edit by hand that does not parse), `StateError` (a
        write inside a write of the same thread, as a signal handler can try), and what `decide` raises.
        """
        return self._locked(WRITE, decide, args)

    def _locked(self, purpose: str, decide: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        if self.closed:
            raise ClosedError(f"{self.file}: the state was closed; open it again")
        if self.forked:
            self._wake()
        lock = self.lock
        joined = lock.owned()
        if (joined and self.busy) or self.guarded():
            raise StateError(
                f"{self.file}: a change is under way in this thread; do not change the state in a signal handler, a "
                "finaliser or a sort key"
            )
        try:
            try:
                if not joined:
                    lock.acquire(self.timeout)
                self.busy = threading.get_ident()
                while True:
                    self._look(purpose)
                    try:
                        return decide(*args)
                    except EditedMeanwhile:
                        self.due = 0.0
                        self.mtime = -1  # check the snapshot's bytes
            finally:
                self.busy = 0
                if not joined:
                    lock.release()
        finally:  # again: an interrupt may have hit the first one before it released
            if not joined and lock.owned():
                self.busy = 0
                lock.release()

    def _look(self, purpose: str) -> None:
        """Find out whether all is as this process left it, and catch up. Under the file lock."""
        page = self.page_bytes
        journal = self.journal
        with self.guard:
            if (
                page[UNSETTLED]
                or self.unsure
                or page[POSITION] != self.seen
                or platform.file_size(self.mapping.descriptor) != self.mapping.size
                or (journal.start >= 0 and not journal.is_untouched())
                or time.monotonic() >= self.due
            ):
                self._look_closely(purpose)

    def _look_closely(self, purpose: str) -> None:
        if not self._catch_up(purpose):
            self._settle(purpose)
        if self.presence_due:
            self.presence_due = not self.presence.take(self.path, exclusively=self.exclusive)
        self.seen = self.page_bytes[POSITION]
        self.due = time.monotonic() + LOOK_INTERVAL

    def _catch_up(self, purpose: str) -> bool:
        """Follow what others did in good order; return False if anything else happened."""
        if self.page.unsettled or self.unsure or self.applying & 1:
            return False
        position = self.page.position
        if position.generation != self.journal.generation and not self._move_over(position):
            return False
        size = platform.file_size(self.mapping.descriptor)
        if size != self.mapping.size:
            if self.page.image.size != size or self.page.image.inode != self.mapping.inode:
                return False
            self.mapping.map()  # another process grew the region
        if position.tail > self.journal.tail and not self._follow(position.tail):
            return False
        if self.journal.position != position or (self.journal.start >= 0 and not self.journal.is_untouched()):
            return False
        return self._is_path_unchanged(purpose)

    def commit(self, record: tuple[changes.Change, ...], publish: Callable[..., None], *args: Any) -> None:
        """Put the changes into the file as one record, then call ``publish(*args)``. Inside `write` only.

        Raises OSError when the disk is full or a sync fails; nothing has changed then.
        """
        try:
            payload = changes.encode(record)
        except ValueError as error:
            raise UnsupportedValueError(str(error), (), self.file) from None
        journal = self.journal
        text, crc = journal.encode(payload)
        if len(text) > journal.room():
            self._make_room(len(text))
            journal = self.journal
            text, crc = journal.encode(payload)
        page = self.page_bytes
        if self.power:
            self._sync_first()
        self.seen = b""
        self.unsure = True
        page[UNSETTLED] = 1
        journal.append(text)
        if self.power:
            self._sync_commit(journal, text)
        with self.guard:
            self.applying |= 1
            publish(*args)
            journal.advance(text, crc)
            self.applying += 1
        self.unsure = False
        page[TAIL] = pack_tail(journal.tail)
        page[UNSETTLED] = 0
        self.seen = page[POSITION]

    def _sync_commit(self, journal: Journal, text: bytes) -> None:
        """Make the record just appended survive loss of power; a sync that fails takes it back, and is raised."""
        try:
            self.mapping.sync()
        except OSError:
            # A second fsync would claim success. Nobody has seen the record: it was not announced.
            journal.take_back(text)
            self.page_bytes[DOUBTFUL] = 1  # whoever writes next writes a new file
            self.unsure = False
            raise

    def _sync_first(self) -> None:
        """Before the first "power" commit on a file that others wrote to: what is in it may not be synced yet."""
        if self.synced_inode != self.mapping.inode:
            self.mapping.sync()
            platform.sync_folder(self.path)
            self.synced_inode = self.mapping.inode

    def sync(self) -> None:
        """Make everything committed so far survive loss of power."""
        self.write(self._sync_all)

    def _sync_all(self) -> None:
        self.mapping.sync()
        platform.sync_folder(self.path)

    def hold(self) -> None:
        """Take both locks and keep them until `unhold`; nests."""
        if self.closed:
            raise ClosedError(f"{self.file}: the state was closed; open it again")
        if self.forked:
            self._wake()
        if not self.lock.owned():
            self.holds = 0
            try:
                self.lock.acquire(self.timeout)
                self.busy = threading.get_ident()
                self._look(WRITE)
            except BaseException:
                self.busy = 0
                self.lock.release()
                raise
            self.busy = 0
        self.holds += 1

    def unhold(self) -> None:
        """Release what `hold` took."""
        if not self.lock.owned():
            return  # a child forked inside: its parent holds the lock, it does not
        self.holds -= 1
        if self.holds <= 0:
            self.lock.release()

    def vacuum(self) -> None:
        """Compact the file to its snapshot alone. Raises `StateError` where the system refuses to replace it."""
        if not self.write(self._vacuum_to_rest):
            raise StateError(
                f"{self.file}: the system refused to replace the file (in use elsewhere?); try again later"
            )

    def _open(self) -> None:
        with contextlib.ExitStack() as undo:
            self.lock = self._open_lock()
            undo.callback(self.lock.close)
            undo.callback(self._let_go)
            self._join()
            undo.pop_all()

    def _join(self) -> None:
        """Stand where the others stand, once those are gone, or have come over, whom the page does not know."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while not self._pin():
            if deadline is not None and time.monotonic() >= deadline:
                self._give_up_opening()
            time.sleep(LOOK_INTERVAL)
        self._parse_pinned()

    def _give_up_opening(self) -> NoReturn:
        if self.exclusive:
            raise LockTimeout(f"{self.file}: other programs have the state open; stop them to have it exclusively")
        raise StateError(
            f"{self.file}: programs use this state under another lock file (was {self.lock.path} deleted?); stop them "
            "and try again"
        )

    def _open_lock(self) -> StoreLock:
        try:
            state: os.stat_result | None = os.stat(self.path)
        except FileNotFoundError:
            state = None
        path = sidecar_path(self.path)
        return StoreLock(path, open_sidecar(path, state), self.file)

    def _pin(self) -> bool:
        """Under the lock: know inode and tail to read up to. Returns False where others must be gone first."""
        lock = self.lock
        try:
            lock.acquire(self.timeout)
            self.busy = threading.get_ident()
            if "page" not in self.__dict__:
                self.page = ControlPage(lock.path, lock.descriptor)
                self.page_bytes = self.page.bytes
            self.fresh_page = not self.page.is_usable(self.boot)
            if not self._may_open():
                return False
            if self.fresh_page:
                self.page.initialise(self.boot)
                beside.sweep(self.path)
            with self.guard:
                if self.fresh_page or self.page.unsettled or not self._pin_known():
                    self._settle(OPEN)
            if not self.presence.take(self.path, exclusively=self.exclusive):
                return False
            self.presence_due = False
            if self.exclusive:
                lock.keep()
            return True
        finally:
            self.busy = 0
            lock.release()

    def _may_open(self) -> bool:
        """Return whether no other process has the state open, where that matters."""
        if not (self.fresh_page or self.exclusive) or platform.path_image(self.path) is None:
            return True
        alone = self.presence.take(self.path, exclusively=True)
        self.presence.leave()
        return alone

    def _pin_known(self) -> bool:
        """Stand in front of the records of a file that the page knows; it is parsed later, without the lock."""
        page = self.page
        found = platform.path_image(self.path)
        if found is None or (found != page.image if page.start < 0 else found[:2] != page.image[:2]):
            return False
        file = MappedFile.open(self.path)
        journal = self._journal_of(file, page.position, page.start)
        if journal is None or file.inode != found.inode:
            file.close()
            return False
        self._stand_on(file, journal)
        self.unsure = True
        self.seen = self.page_bytes[POSITION]
        self.pinned = page.position
        return True

    def _parse_pinned(self) -> None:
        """Read what `_pin` pinned; anything odd is settled under the lock."""
        if self.unsure:
            with self.guard:
                data = self.mapping.read(0, self.pinned.tail)
                parts = content.layout(data, self.file)
                tail = parts.scan.tail if parts.scan is not None else parts.snapshot_end
                if parts.intact and tail == self.pinned.tail and not (parts.foreign or parts.unborn):
                    self._rebuild(data, parts)
                    if parts.scan is not None:
                        self.journal.stand(parts.scan.tail, parts.scan.crc)
                    self.unsure = False
        if self.unsure:
            self._locked(OPEN, _nothing, ())
        self.due = time.monotonic() + LOOK_INTERVAL

    def close(self) -> None:
        """Let go of the file; the last process to do so vacuums it to rest."""
        if self.closed:
            return
        self.rest()
        self.closed = True
        with self.guard:
            self.page_bytes, self.seen, self.due = _CLOSED_PAGE, NO_POSITION, float("inf")
            self._let_go()
            self.lock.close()

    def rest(self) -> None:
        """Vacuum the file to rest if no other process has it open. What goes wrong is logged: nothing is lost by it."""
        if self.forked or self.closed:
            return  # a forked child that never touched the state leaves it to its parent
        try:
            self._locked(CLOSE, self._rest_if_last, ())
        except (StateError, OSError) as error:
            log.warning("%s: left with its journal: %s", self.file, error)

    def _rest_if_last(self) -> None:
        found = platform.path_image(self.path)
        if found is None or found[:2] != (self.mapping.inode, self.mapping.size):
            return  # deleted, or an editor half-way: the file is not ours to write
        if self.journal.start >= 0 and self.presence.is_only():
            self._vacuum_to_rest()

    def forget(self) -> None:
        """In a forked child: close what must not be shared; the rest happens at the first access."""
        if self.closed:
            return
        half_way = self.unsure or self.applying & 1 or self.busy
        self.forked = True
        self.lock.forget()
        self.presence.leave()
        self.guard = threading.RLock()
        self.guarded = self.guard._is_owned
        self.unsure = bool(half_way)
        self.applying += self.applying & 1
        self.busy = self.holds = 0
        self.seen = b""

    def _wake(self) -> None:
        """Take part again, as a process of its own, after a fork."""
        if self.exclusive:
            raise StateError(f"{self.file}: is open exclusively in the parent process; open it in one of the two alone")
        self.lock.descriptor = open_sidecar(self.lock.path, None)
        self.presence_due = True
        self.due = 0.0
        self.forked = False
        inode = platform.image_of(self.lock.descriptor).inode
        if inode != self.lock.inode:  # the sidecar was replaced meanwhile: the parent may still use the old one
            self.lock.inode = inode
            self.page.close()
            del self.page
            self._join()


_CLOSED_PAGE = bytes(144)


def _nothing() -> None:
    """Decide nothing: the look that comes first is all that is wanted."""
