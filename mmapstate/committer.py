"""Read, look, write, commit: what happens at each access to a state that is open.

Three locks, taken in this order and never the other way round:

- the thread lock of `StoreLock` lets one thread of this process write at a time, and joins what it nests;
- the file lock lets one process of the host write at a time;
- ``guard`` protects this process's `Picture`. It is held briefly, and by readers too. A writer holds it whenever it
  changes that picture, so a reader in another thread can follow the others' commits while a writer of this process
  waits for the file lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar
from zlib import crc32

from mmapstate import changes, platform
from mmapstate.changes import SET_STARTS
from mmapstate.errors import ClosedError, StateError, UnsupportedValueError
from mmapstate.format import DOUBTFUL, LET_GO, UNCOMMITTED, UNSETTLED, WAITED_FOR, stamp
from mmapstate.journal import COMMITTED, Journal
from mmapstate.lock import EXCLUSIVE, LONGEST_WAIT, UNLOCK, file_lock
from mmapstate.mapping import EditedMeanwhile
from mmapstate.pending import Pending
from mmapstate.picture import LOOK_INTERVAL, READ, UNSEEN, WRITE
from mmapstate.platform import END
from mmapstate.surprises import Surprises
from mmapstate.tree import ADD, APPEND, KINDS, SET, Node, live
from mmapstate.values import SURE_INT

__all__ = ["Committer"]

_PATIENCE = 0.02  # seconds of waiting for the lock after which the others are asked to pause
_PAUSE = 2 * LONGEST_WAIT  # seconds; who waits tries the lock more than once meanwhile

_IN_JSON = frozenset({int, str, bool, type(None)})
_CATCH_UPS = 4  # each has less to read: what came while the one before it read

_T = TypeVar("_T")


class Committer(Surprises):
    """A picture that is read and written to: what stands behind the nodes (see `nodes.Tree`)."""

    closed = False
    forked = False
    pending: Pending | None = None  # of the transaction that is open, in the thread that has the locks

    def refresh(self) -> None:
        """Bring memory up to date. With nothing new: one comparison and a clock, no lock and no system call."""
        if self.stamp[0] != self.seen or monotonic() >= self.due:
            self._refresh()

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""
        if self.pending is not None and self.is_in_transaction():
            return read(*args)
        self.refresh()
        if self.guarded():  # a signal handler or finaliser inside this thread's own change: as it is
            return read(*args)
        while True:
            with self.guard:
                if not self.applying & 1:
                    self.copying = True  # a writer that is past its look at this changes one value: no harm to a copy
                    try:
                        return read(*args)
                    finally:
                        self.copying = False
            self._refresh()  # interrupted half-way: rebuild

    def glance(self) -> None:
        """Bring memory up to date if that raises nothing, needs no lock and waits for nobody: for `repr`."""
        if self.closed or self.forked or self.pending is not None or self._is_inside() or not self.guard.acquire(False):
            return
        try:
            with contextlib.suppress(StateError, OSError):
                self._follow_quietly()
        finally:
            self.guard.release()

    def _refresh(self) -> None:
        if (self.pending is not None and self.is_in_transaction()) or self._is_inside():
            return  # a signal handler or finaliser inside this thread's own change: as it is
        if self.forked:
            self._wake()
        with self.guard:
            done = self._follow_quietly()
        if not done:
            self._locked(READ, nothing, ())

    def _follow_quietly(self) -> bool:
        """Follow what others appended, without the lock; return False if that does not do. Under the guard."""
        if self.closed:  # by another thread, a moment ago
            return True
        if self.unsure or self.applying & 1:
            # True: another thread is in its commit, and memory is right; not so in a transaction, for which to wait.
            return self.busy and self.pending is None and not self.lock.owned()
        position = self.page.position
        back = self.mapping.descriptor >= 0 or self.page_bytes[LET_GO] or self._take_up()
        if position.generation != self.journal.generation:
            if not self._move_over(position):
                return False
        elif not back:
            return False
        if position.tail > self.journal.tail and not self._follow(position.tail):
            return False
        if self.mapping.descriptor < 0:
            return True  # another process is replacing it just now
        if monotonic() >= self.due:
            if not self._is_path_unchanged(READ):
                return False
            self.due = monotonic() + LOOK_INTERVAL
        self.seen = stamp(position)
        if self.page_bytes[LET_GO]:
            self._let_go_of_file()
        return True

    def _let_go_of_file(self) -> None:
        """Let go of the file, as another process asks for (Windows); keep what is not read yet. Under the guard.

        Who asks has the file lock, so no thread of this process is writing. From here on none takes the short way: each
        comes to `_look` or `_follow_quietly`, and waits there for the guard. If one that is at the end of a commit puts
        `seen` back, it still has the lock: then the page does not ask yet, or `seen` is found put back.
        """
        self.seen = UNSEEN
        if self.page_bytes[LET_GO] and self.seen == UNSEEN:
            position, journal = self.page.position, self.journal
            known = position.generation == journal.generation
            self.mapping.let_go(journal.tail, max(position.tail, journal.tail) if known else journal.tail)

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Return ``decide(*args)``, run under the locks with memory up to date; it may call `commit`.

        Raises `LockTimeout`, `ClosedError`, `StateFileError` (an edit by hand that does not parse), `StateError` (a
        write inside a write of the same thread, as a signal handler can try), and what `decide` raises.
        """
        if self.pending is not None and self.is_in_transaction():
            return self._write_inside(decide, args)
        return self._locked(WRITE, decide, args)

    def _locked(self, purpose: str, decide: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        if self.closed:
            raise ClosedError(f"{self.file}: the state was closed; open it again")
        if self.forked:
            self._wake()
        lock = self.lock
        joined = lock.owned()
        self._refuse_inside()
        try:
            try:
                if not joined:
                    self._acquire()
                self.busy = True
                while True:
                    try:
                        self._look(purpose)
                        return decide(*args)
                    except EditedMeanwhile:
                        self.due = 0.0
                        self.mtime = -1  # check the snapshot's bytes
            finally:
                if lock.owned():  # else another thread has it, and this one has waited in vain
                    self.busy = False
                if not joined:
                    lock.release()
        finally:
            if not joined:
                self._leave_again()

    def _acquire(self) -> None:
        if self.page_bytes[WAITED_FOR] and self.timeout != 0:
            sleep(_PAUSE)  # the lock is nobody's in turn: who vacuums all the time would leave it for microseconds
        self.lock.acquire(self.timeout, self._wait_usefully)
        if self.page_bytes[WAITED_FOR]:
            self.page_bytes[WAITED_FOR] = 0  # whoever waits still says so again
        if self.pending is not None:  # an interrupt cut short the end of a transaction
            self._begin_unsure()
            self.pending = None

    def _wait_usefully(self, waited: float) -> None:
        """Follow the process that has the lock while waiting for it: what is read by then delays nobody later."""
        if waited > _PATIENCE and not self.closed:
            self.page_bytes[WAITED_FOR] = 1
        if self.stamp[0] != self.seen and self.guard.acquire(False):
            try:
                with contextlib.suppress(StateError, OSError):  # who has the lock is told
                    for _ in range(_CATCH_UPS):
                        if self.stamp[0] == self.seen or not self._follow_quietly():
                            break
            finally:
                self.guard.release()

    def _leave_again(self) -> None:
        """Release the locks, whatever of them this thread has: an interrupt may have hit the release itself."""
        try:
            if self.lock.owned():
                self.busy = False
            self.lock.release()
        finally:
            self.lock.release()

    def _refuse_inside(self) -> None:
        if self._is_inside():
            raise StateError(
                f"{self.file}: a change is under way in this thread; do not change the state in a signal handler, a "
                "finaliser or a sort key"
            )

    def _is_inside(self) -> bool:
        """Return whether this thread is in the middle of a change: then a signal handler or finaliser asks."""
        return self.guarded() or (self.lock.owned() and (self.busy or not self.lock.whole))

    def is_in_transaction(self) -> bool:
        """Return whether a transaction of this thread is open; raise `StateError` in another task of the thread."""
        raise NotImplementedError

    def _write_inside(self, decide: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        """Do what `write` does in a transaction: the locks are held, and memory is what its changes made of it."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Take part again, as a process of its own, after a fork."""
        raise NotImplementedError

    def _look(self, purpose: str) -> None:
        """Find out whether all is as this process left it, and catch up. Under the file lock."""
        with self.guard:
            page, journal = self.page_bytes, self.journal
            if (
                page[UNSETTLED]
                or self.unsure
                or self.stamp[0] != self.seen
                or platform.file_size(self.mapping.descriptor) != self.mapping.size
                or (journal.start >= 0 and not journal.is_untouched())
                or monotonic() >= self.due
            ):
                self._look_closely(purpose)

    def _look_closely(self, purpose: str) -> None:
        self._take_up()
        if not self._catch_up(purpose):
            self._settle(purpose)
            self.due = monotonic() + LOOK_INTERVAL
        if self.presence_due or self.presence.descriptor < 0:  # an interrupt left it so; or Windows, which has none
            self.presence_due = not self.presence.take(self.path, exclusively=self.exclusive)
        self.seen = self.stamp[0]

    def _catch_up(self, purpose: str) -> bool:
        """Follow what others did in good order; return False if anything else happened."""
        if self.page.unsettled or self.unsure or self.applying & 1:
            return False
        position = self.page.position
        if position.generation != self.journal.generation and not self._move_over(position):
            return False
        if self.mapping.descriptor < 0:
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
        if monotonic() >= self.due:
            if not self._is_path_unchanged(purpose):
                return False
            self.due = monotonic() + LOOK_INTERVAL
        return True

    def commit_one(self, node: Any, key: Any, value: Any, how: str = SET) -> Any:
        """Commit one change (see `tree.Tree`); return what stands there then.

        Written out in one go for where nothing is in the way: the locks free, nothing new in the file, no look at the
        path due, room for the record. A counter spends its time here, and every call of a function would be a fortieth
        of it. What a look is for is told at `_look`, the order of the stores at `Journal.append`.
        """
        if self.checks and not self._fits(node, key, value):
            return self.write(getattr(node, how), key, value)
        lock = self.lock
        # Not with "power", where the sync is what takes long; nor where this thread has the lock: a signal handler may.
        if lock.held == lock.kept and not (self.power or lock.owned()):
            locked = False
            try:
                try:
                    if lock.thread.acquire(False):
                        if not lock.kept and lock.descriptor >= 0:  # else it was closed, and the page is unsettled
                            lock.held = True
                            file_lock(lock.descriptor, EXCLUSIVE)
                        locked = True
                        page, stamp = self.page_bytes, self.stamp
                        if stamp[0] == self.seen and not page[UNSETTLED]:  # so memory, too, is as it should be
                            journal, file = self.journal, self.mapping  # not before: a reader may have been moving over
                            stores, tail = file.bytes, journal.tail
                            if journal.start >= 0 and monotonic() < self.due and not self.copying:
                                items = node._items
                                if how != ADD:
                                    result = value
                                elif (old := items.get(key)).__class__ is value.__class__ is int and (
                                    -SURE_INT < old < SURE_INT
                                ):
                                    result = old + value
                                else:
                                    result = node._sum(key, value)
                                held = result
                                if how == APPEND:
                                    payload = changes.encode_insert(node._path(), len(items), result) or b""
                                    if result.__class__ in KINDS:
                                        held = live(result, node, len(items))
                                elif result.__class__ is int and key in SET_STARTS and node._parent is None:
                                    payload = b"%b%d]" % (SET_STARTS[key], result)
                                else:
                                    path = [] if node._parent is None else node._path()
                                    payload = changes.encode_set(path, key, result) or b""
                                    if result.__class__ in KINDS:
                                        held = live(result, node, key)
                                crc = crc32(payload, journal.crc)
                                text = UNCOMMITTED % (payload, crc)
                                end = tail + len(text)
                                if (  # as late as can be: another program may cut the file before the stores
                                    payload
                                    and end < file.size
                                    and platform.seek(file.descriptor, 0, END) == file.size
                                    and stores[journal.end_start : tail + 1] == journal.end
                                ):
                                    self.busy = True
                                    self.seen = UNSEEN
                                    self.unsure = True
                                    page[UNSETTLED] = 1
                                    stores[tail + 1 : end + 1] = text
                                    stores[tail] = COMMITTED
                                    if how == APPEND:
                                        items.append(held)
                                    else:
                                        items[key] = held
                                    journal.end_start, journal.end, journal.crc, journal.tail = tail + 1, text, crc, end
                                    self.unsure = False
                                    stamp[0] = seen = journal.base + end
                                    page[UNSETTLED] = 0
                                    self.seen = seen
                                    self.busy = False
                                    if not lock.kept:
                                        file_lock(lock.descriptor, UNLOCK)
                                        lock.held = False
                                    lock.thread.release()
                                    return result
                        self._leave_again()
                except BlockingIOError:  # another process has the lock
                    self._leave_again()
                    if locked:  # no: a signal handler raised it
                        raise
                except BaseException:
                    self._leave_again()
                    raise
            except BaseException:  # again: an interrupt may have come before the first one began to release
                self._leave_again()
                raise
        return self.write(getattr(node, how), key, value)

    def _fits(self, node: Node, key: Any, value: Any) -> bool:
        """Return whether a value at the top of the state, and any sum with it, is sure to be what is declared.

        In a JSON file: anywhere, whether it is one that JSON has, and so is any sum with it, and the key is text.
        """
        if self.is_json:
            items = node._items
            key_fits = items.__class__ is list or (key.__class__ is str and items.get(key).__class__ is not float)
            if value.__class__ not in _IN_JSON or not key_fits:
                return False
        if self.declared and node._parent is not None:
            return False
        for declared in self.declared:
            kind = declared.kinds.get(key)
            if kind is not None and (value.__class__ not in kind.scalars or key not in node._items):
                return False
        return True

    def commit(self, node: Node, record: tuple[changes.Change, ...], publish: Callable[..., None], *args: Any) -> None:
        """Put `record`, changes of `node`, into the file, then call ``publish(*args)``. Inside `write` only.

        In a transaction it waits for the end of that. Raises OSError when the disk is full or a sync fails; nothing has
        changed then.
        """
        for each in self.checks:
            each.check(record, self.root, self.file)
        if self.pending is not None:
            if not self.applying & 1:
                self._begin_applying()
            self.pending.add(node, record, publish, *args)
        else:
            self._append(record, self._make_room, publish, *args)

    def _begin_applying(self) -> None:
        """From here on memory is ahead of the file: whoever has not the locks waits."""
        with self.guard:
            self.seen = UNSEEN
            self.applying |= 1

    def _append(
        self,
        record: Sequence[changes.Change],
        make_room: Callable[[int], None],
        publish: Callable[..., None],
        *args: Any,
    ) -> None:
        try:
            payload = changes.encode(record)
        except ValueError as error:
            raise UnsupportedValueError(str(error), (), self.file) from None
        journal = self.journal
        text, crc = journal.encode(payload)
        if len(text) > journal.room():
            make_room(len(text))
            journal = self.journal
            text, crc = journal.encode(payload)
        page = self.page_bytes
        if self.power:
            self._sync_first()
        self.mapping.check_size()
        self._begin_unsure()
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
        self.stamp[0] = seen = journal.stamp
        page[UNSETTLED] = 0
        self.seen = seen

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


def nothing() -> None:
    """Decide nothing: the look that comes first is all that is wanted."""
