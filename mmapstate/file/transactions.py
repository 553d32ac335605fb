"""Several steps in one: the locks held for a while (`hold`), and changes that are one record, or none (`begin`).

In a transaction the thread that has the locks sees what it has changed; everybody else waits for them, or sees what was
there before. ``applying`` is odd as long as memory holds what the file does not: that is what makes readers wait.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from mmapstate.errors import ClosedError, StateError
from mmapstate.file import system
from mmapstate.file.format import UNSETTLED
from mmapstate.file.mapped import EditedMeanwhile
from mmapstate.file.replica import LOOK_INTERVAL, WRITE
from mmapstate.file.writer import Committer
from mmapstate.live.schema import Schema
from mmapstate.live.undo import Pending

__all__ = ["Transactions"]

_T = TypeVar("_T")


class Transactions(Committer):
    """A picture whose writer can keep the locks, and take back what it did."""

    last_need = 0  # bytes that the record of the last transaction took

    def __init__(
        self, path: str, *, timeout: float | None, exclusive: bool, power: bool, declared: tuple[Schema, ...] = ()
    ) -> None:
        super().__init__(path, timeout=timeout, exclusive=exclusive, power=power, declared=declared)
        self.holders: list[int] = []

    def hold(self, holder: int = 0) -> None:
        """Take both locks and keep them for `holder` until `unhold`; nests."""
        self._refuse_closed()
        if self.forked:
            self._wake()
        self.is_in_transaction()
        self._refuse_inside()
        if self.lock.owned():
            self.holders.append(holder)
            return
        try:
            self._acquire()
            self.holders = [holder]  # a new list: the last holder may be taking itself off the old one
            self.busy = True
            self._look(WRITE)
            self.busy = False
        except BaseException:
            if self.lock.owned():  # else another thread has it, and this one has waited in vain
                self.busy = False
            self.lock.release()
            raise

    def held(self, holder: int = 0) -> int:
        """Return how many times this thread has taken the locks for `holder`, and not released them."""
        return self.holders.count(holder) if self.lock.owned() else 0

    def unhold(self, holder: int = 0) -> bool:
        """Release what `hold` took for `holder`; return whether this thread had taken it, and not released it yet."""
        if not self.held(holder):
            return False  # as in a child forked inside: its parent holds the lock, it does not
        holders = self.holders
        if len(holders) == 1:
            self.lock.release()  # first: an interrupt in it leaves a holder that can call this again
        holders.remove(holder)
        if self.closed and not self.lock.owned():
            self._close_files(0)
        return True

    def begin(self, holder: int) -> None:
        """Hold the locks for `holder`, and let what this thread changes be one record, committed by `end`; nests.

        To be ended even when it raises.
        """
        self.hold(holder)
        if self.pending is None:
            self._locked(WRITE, self._begin, (holder,))
        else:
            self.pending.begin_inner(holder)

    def end(self, holder: int, *, commit: bool) -> None:
        """Commit what was changed since `holder` began, or take it back. Does nothing in a child forked inside.

        The inner one of two leaves the commit to the outer. To be called again, without `commit`, when this raises: an
        interrupt may have come anywhere. Raises, with all taken back, `StateError` when an edit by hand came meanwhile,
        `ClosedError` when another thread closed the state, and OSError.
        """
        if not self.held(holder):
            return
        pending = self.pending
        self.busy = True
        try:
            if pending is not None and pending.holder == holder:
                self._end(pending, commit)
            elif pending is not None:
                pending.end_inner(holder, commit=commit)
        finally:
            self.busy = False
        try:
            self.unhold(holder)
        except MemoryError:  # CPython 3.10 may need some to call what frees the lock
            self.unhold(holder)

    def is_in_transaction(self) -> bool:
        """Return whether a transaction of this thread is open; raise `StateError` in another task of the thread."""
        pending = self.pending
        if pending is None or not self.lock.owned():
            return False
        if pending.task is not None and _current_task() is not pending.task:
            raise StateError(
                f"{self.file}: another task of this thread has a transaction open; do not await inside of one, or run "
                "it in a thread of its own (asyncio.to_thread)"
            )
        return True

    def refuse_to_wait(self) -> None:
        """Raise the error that waiting for others would be in vain, if so."""
        self._refuse_closed()
        if self.lock.owned():
            raise StateError(
                f"{self.file}: this thread has the state's locks, so nobody else can change it; wait outside of the "
                "transaction"
            )

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ClosedError(f"{self.file}: the state was closed; open it again")

    def _write_inside(self, decide: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        if (
            self.closed or self.busy or self.guarded() or not self.lock.whole
        ):  # a fifth faster than to call each of them
            self._refuse_closed()
            self._refuse_inside()
        self.busy = True
        try:
            return decide(*args)
        finally:
            self.busy = False

    def _begin(self, holder: int) -> None:
        if self.journal.start >= 0 and self.journal.room() < self.last_need:
            need, self.last_need = self.last_need, 0
            try:
                self._make_room(need)  # inside, where memory is ahead of the file, the region can only grow
            except OSError:  # a full disk: no matter to one that changes less, or nothing
                raise EditedMeanwhile from None  # look again, and begin without it
        pending = Pending(holder, _current_task())
        if pending.task is not None:  # reads of other tasks are to be noticed even before the first change
            self._begin_applying()
        self.pending = pending

    def _end(self, pending: Pending, commit: bool) -> None:
        edited = False
        try:
            if commit and pending.torn:
                raise StateError(
                    f"{self.file}: the transaction was interrupted in the middle of a change; run it again"
                )
            if commit and pending.changes:
                self._refuse_closed()
                edited = not self._is_as_left()
                if not edited:
                    before = self.journal.tail
                    try:
                        self._append(pending.changes, self._make_room_in_place, pending.forget)
                        try:  # it is committed: nothing may be raised any more
                            self.last_need = self.journal.tail - before
                        except MemoryError:
                            self.last_need = 0
                    except EditedMeanwhile:
                        edited = True
        finally:
            try:
                # Where memory is unsure, an interrupt came in the middle of the commit: the file tells what it became.
                if self.applying & 1 and not self.unsure:
                    self._take_back(pending)
            finally:
                self.pending = None
        if edited:
            self.due = 0.0
            self._look(WRITE)
            raise StateError(
                f"{self.file}: was edited by hand during the transaction, which is taken back; run it again"
            )

    def _is_as_left(self) -> bool:
        """Return whether the file is as this thread, which has had the lock since, left it."""
        with self.guard:
            if monotonic() >= self.due:
                self._look_at_sidecar()  # deleted meanwhile: no edit, and all else is as it was
            page, journal = self.page_bytes, self.journal
            if (
                page[UNSETTLED]
                or self.stamp[0] != journal.stamp
                or system.file_size(self.mapping.descriptor) != self.mapping.size
                or (journal.start >= 0 and not journal.is_untouched())
            ):
                return False
            if monotonic() >= self.due:
                self.due = monotonic() + LOOK_INTERVAL
                return self._is_file_unchanged(WRITE)
            return True

    def _take_back(self, pending: Pending) -> None:
        self._begin_unsure()
        pending.take_back()
        with self.guard:
            self.unsure = False
            self.applying += 1
            self.seen = self.stamp[0] if self.closed else self.journal.stamp


def _current_task() -> Any:
    """Return the asyncio task that this thread is running, if any. Who has not imported asyncio has none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running in this thread
        return None
