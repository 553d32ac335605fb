"""Open, vacuum, close, fork: the life of one state file in one process.

What happens at each access in between is told in `committer` and `transactions`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

from mmapstate.errors import LockTimeout, StateError
from mmapstate.file import content, forks, images, sidecar, system, windows
from mmapstate.file.format import LET_GO, stamp
from mmapstate.file.locks import StoreLock
from mmapstate.file.mapped import MappedFile
from mmapstate.file.replica import CLOSE, LOOK_INTERVAL, OPEN, UNSEEN
from mmapstate.file.sidecar import open_sidecar, sidecar_path
from mmapstate.file.transactions import Transactions
from mmapstate.file.writer import nothing
from mmapstate.live import tree
from mmapstate.live.schema import Schema
from mmapstate.live.undo import Pending
from mmapstate.logger import log
from mmapstate.values import Plain

__all__ = ["Store"]

_LONGEST_CHANGE = 1.0  # seconds that a close waits for a change of another thread at least


class Store(Transactions):
    """One state file in this process: what stands behind the nodes (see `nodes.Tree`)."""

    def __init__(
        self, path: str, *, timeout: float | None, exclusive: bool, power: bool, declared: tuple[Schema, ...] = ()
    ) -> None:
        super().__init__(path, timeout=timeout, exclusive=exclusive, power=power, declared=declared)
        self.user = system.user()
        forks.inherit(self)

    def open(self) -> None:
        """Open the file, or create it; nothing is left open when this raises."""
        try:
            self._open()
            self.opened = True
        except BaseException:
            windows.unwatch(self)
            if hasattr(self, "lock"):
                self._close_files(None)
            raise

    def check_declared(self) -> None:
        """Raise `StateFileError` where the state does not fit what the classes of its handles declare."""
        state = self.steady(tree.plain_root, self.root)
        if any(declared.mismatch(state) is not None for declared in self.declared):
            self.write(self._check_declared)  # looks for the line, too

    def _check_declared(self) -> None:
        data = self.mapping.read()
        content.check(data, content.layout(data, self.file), tree.plain_root(self.root), self.declared, self.file)

    def vacuum(self) -> None:
        """Compact the file to its snapshot alone. Raises `StateError` where the system refuses to replace it."""
        if self.is_in_transaction():
            raise StateError(f"{self.file}: a transaction is open in this thread; compact the file when it has ended")
        if not self.write(self._vacuum_to_rest):
            raise StateError(
                f"{self.file}: the system refused to replace the file (in use elsewhere?); try again later"
            )

    def rewrite(self, edit: Callable[[bytes, dict[Any, Plain]], bytes]) -> bool:
        """Have the file become the text that ``edit(snapshot, state)`` makes of the present one: as one step, synced.

        `edit` is called under the locks, again if somebody edits the file by hand meanwhile; with what it raises
        nothing has changed. Returns False where the system refuses to replace the file: nothing has changed either.
        Raises `StateFileError` where the text is no snapshot, `StateError` inside a transaction, OSError.
        """
        if self.is_in_transaction():
            raise StateError(f"{self.file}: a transaction is open in this thread; edit the file when it has ended")
        return self.write(self._rewrite, edit)

    opened = False
    pending_of_parent: Pending | None = None

    def _open(self) -> None:
        self.lock = self._open_lock()
        windows.watch(self)  # before it waits for who has the lock, and may be waiting for this one to let go
        self._join()
        sidecar.adjust(self.lock.descriptor, system.status_of(self.mapping.descriptor))

    def _join(self) -> None:
        """Stand where the others stand, once those are gone, or have come over, whom the page does not know."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while not self._pin():
            if deadline is not None and time.monotonic() >= deadline:
                self._give_up_opening()
            time.sleep(LOOK_INTERVAL)
        self._parse_pinned()
        self.joined_at = self.journal.position
        self.fresh_page = False  # what is damaged from here on, no loss of power has damaged

    def _give_up_opening(self) -> NoReturn:
        if self.exclusive:
            raise LockTimeout(f"{self.file}: other programs have the state open; stop them to have it exclusively")
        raise StateError(
            f"{self.file}: a program uses this state under another lock file (was {self.lock.path} deleted?), or has "
            "locked the state file itself; stop it and try again"
        )

    def _open_lock(self) -> StoreLock:
        """Open the sidecar, for whom may write the state. Errors name the state file: it is what the user knows of."""
        state: os.stat_result | None = None
        try:
            descriptor = system.open_regular(self.path, write=True)
            try:
                state = system.status_of(descriptor)
            finally:
                system.close(descriptor)
        except FileNotFoundError:
            if not system.is_folder(os.path.dirname(self.path)):
                raise FileNotFoundError(
                    errno.ENOENT, "the folder of the state file does not exist; create it first", self.path
                ) from None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            told = f"{error.strerror}; to read it alone, open it with readonly=True"
            raise OSError(error.errno, told, self.path) from None
        path = sidecar_path(self.path)
        return StoreLock(path, open_sidecar(path, state), self.file)

    def _pin(self) -> bool:
        """Under the lock: know inode and tail to read up to. Returns False where others must be gone first."""
        lock = self.lock
        try:
            lock.acquire(self.timeout)
            self.busy = True
            if "page" not in self.__dict__ or not lock.is_in_place():
                self._change_page()
            self.fresh_page = not self.page.is_usable(self.boot)
            if not self._may_open():
                self.presence.leave()
                return False
            if self.fresh_page:
                self.page.initialise(self.boot)
                images.sweep(self.path)
            with self.guard:
                if self.fresh_page or self.page.unsettled or not self._pin_known():
                    self._settle(OPEN)
            if not self.exclusive:
                self.presence.leave()
            if not self._be_present() or not lock.is_in_place():  # in this order: see `_be_present`
                return False
            if self.exclusive:
                lock.keep()
            return True
        finally:
            self.busy = False
            lock.release()

    def _change_page(self) -> None:
        page, old = self._page_of_lock(), self.__dict__.get("page")
        self._use_page(page)
        if old is not None:
            old.close()

    def _may_open(self) -> bool:
        """Return whether no other process has the state open, where that matters."""
        if not (self.fresh_page or self.exclusive) or system.path_image(self.path) is None:
            return True
        if system.REPLACE_NEEDS_UNMAPPED:
            return not system.is_in_use(self.path)
        # It stays alone until it stands on the file: what it may have to settle there, nobody else shall do meanwhile.
        alone = self.presence.take(self.path, exclusively=True)
        return alone and (not self.exclusive or self.lock.attend(exclusively=True))

    def _is_last(self) -> bool:
        """Return whether no other process has the state open. Under the locks."""
        if not system.REPLACE_NEEDS_UNMAPPED:
            return self._be_present() and self.lock.is_only() and self.presence.become_only()
        self.mapping.close()
        alone = not system.is_in_use(self.path)
        return self._take_up() and alone

    def _pin_known(self) -> bool:
        """Stand in front of the records of a file that the page knows; it is parsed later, without the lock."""
        page = self.page
        found = system.path_image(self.path)
        if found is None or found[:2] != page.image[:2]:
            return False
        file = MappedFile.open(self.path)
        with self._closed_unless_used(file):
            journal = self._journal_of(file, page.position, page.start)
            if journal is None or file.inode != found.inode:
                return False
            self._stand_on(file, journal)
        self._begin_unsure()
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
                    self.seen = stamp(self.pinned)
        if self.unsure:
            self._locked(OPEN, nothing, ())
        self.due = time.monotonic() + LOOK_INTERVAL

    def close(self) -> None:
        """Let go of the file; the last process to do so vacuums it to rest."""
        if not self.closed:
            self.rest()
            windows.unwatch(self)
        self.closed = True  # whoever comes, or has waited for a lock, finds it so
        self._close_files(None if self.timeout is None else max(self.timeout, _LONGEST_CHANGE))

    def rest(self) -> None:
        """Vacuum the file to rest if no other process has it open, and be no longer one that has.

        What goes wrong is logged: nothing is lost by it. A later access, as of another handler at exit, still works.
        """
        if self.forked or self.closed:
            return  # a forked child that never touched the state leaves it to its parent
        if self.pending is not None and self.lock.owned():
            return  # at exit, in a generator that was never ended: what it has not committed, nobody has seen
        self.due = 0.0  # who leaves a deleted lock file for another one does so before it closes: others wait for that
        try:
            self._locked(CLOSE, self._rest_if_last, ())
        except (StateError, OSError) as error:
            log.warning("left without compacting it: %s", error)

    def _rest_if_last(self) -> None:
        with self.guard:
            try:
                self._vacuum_if_last()
            finally:  # under the lock: of two that end at the same time the second must not see the first, too
                self.seen = UNSEEN
                self.presence.leave()
                self.lock.leave()
                if system.REPLACE_NEEDS_UNMAPPED:
                    self.mapping.close()
                    self.left = True

    def _vacuum_if_last(self) -> None:
        found = system.path_image(self.path)
        if found is None or found[:2] != (self.mapping.inode, self.mapping.size):
            # Not ours to write: only a commit writes it anew. Or an editor is half-way.
            log.warning("%s: was %s while in use; left so", self.file, "deleted" if found is None else "changed")
            return
        if self.journal.start >= 0 and self._is_last():
            self._vacuum_to_rest()

    def let_go_if_asked(self) -> None:
        """Let go of the file when another process is about to replace it, take it up again afterwards (see `idle`).

        Quickly, as the other one waits: what is new in the file is read afterwards, so that no second vacuum overtakes.
        """
        if not self._has_file() or (self.page_bytes[LET_GO] == 0) == (self.mapping.descriptor >= 0):
            return
        with self.guard:
            if self.closed or (self.page_bytes[LET_GO] == 0) == (self.mapping.descriptor >= 0):
                return  # it was this process's own vacuum, and is over
            with contextlib.suppress(StateError, OSError):  # told to whoever uses the state next
                position = self.page.position
                if not self.page_bytes[LET_GO]:
                    if not self.left:
                        self._follow_quietly()
                elif not self.unsure and position.generation != self.journal.generation:
                    self._move_over(position)
            if self.page_bytes[LET_GO]:
                self._let_go_of_file()

    def forget(self) -> None:
        """In a forked child: close what must not be shared; the rest happens at the first access."""
        self._renew_guard()
        if self.closed or not self.opened:  # another thread was at it, and is no more
            self.presence.forget()
            self._let_go_for_good()
            return
        pending = self.pending_of_parent if self.forked else self.pending  # of the grandparent, if it forked twice
        self.pending = None
        half_way = self.unsure or self.busy or (pending.torn if pending is not None else self.applying & 1)
        self.pending_of_parent = None if half_way else pending
        self.forked = True
        self.unsure = bool(half_way)
        self.applying += self.applying & 1
        self.busy = self.copying = False
        self.holders = []
        self.seen = UNSEEN

    def _wake(self) -> None:
        """Take part again, as a process of its own, after a fork."""
        if self.exclusive:
            raise StateError(f"{self.file}: is open exclusively in the parent process; open it in one of the two alone")
        with self.guard:  # of the child's threads one wakes it; all the others come here first, and find it done
            if not self.forked:
                return
            if self.pending_of_parent is not None:  # the parent's transaction is none of this process
                self.applying |= 1
                self.pending_of_parent.take_back()
                self.applying += 1
                self.pending_of_parent = None
            self.due = 0.0
            self._open_lock_again()
            # It was replaced meanwhile: the parent may still use the old one. Or the parent was itself a child, in the
            # middle of this.
            if "page" not in self.__dict__ or self.lock.inode != self.page.inode:
                self.stamp = (UNSEEN - 1,)  # readers in other threads find that all is new, and wait for the guard
                if "page" in self.__dict__:
                    self.page.close()
                    del self.page
                self._join()
            self.forked = False

    def _open_lock_again(self) -> None:
        try:
            self.lock.open_again()
        except PermissionError as error:
            if system.user() == self.user:
                raise
            raise PermissionError(
                error.errno,
                f"this process has become user {system.user()} since user {self.user} opened the state (as gunicorn "
                f"does with --preload and --user), and may not open the lock file {os.path.basename(self.lock.path)}; "
                "open the state afterwards, in each worker, or give the state file and its lock file to the new user",
                self.path,
            ) from error
