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
import errno
import sys
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar
from zlib import crc32

from mmapstate import changes
from mmapstate.changes import SET_STARTS
from mmapstate.errors import ClosedError, LockTimeout, StateError, UnsupportedValueError
from mmapstate.file import host, system
from mmapstate.file.format import (
    BEFORE,
    DOUBTFUL,
    LET_GO,
    MARK_LENGTH,
    UNCOMMITTED,
    UNSETTLED,
    WAITED_FOR,
    stamp,
    unsynced,
)
from mmapstate.file.journal import COMMITTED, SLACK, Journal
from mmapstate.file.locks import LONGEST_WAIT
from mmapstate.file.mapped import EditedMeanwhile
from mmapstate.file.recovery import Surprises
from mmapstate.file.replica import LOOK_INTERVAL, READ, UNSEEN, WRITE
from mmapstate.file.system import END
from mmapstate.live.node import ADD, APPEND, KINDS, SET, Node, live
from mmapstate.live.undo import Pending
from mmapstate.values import SURE_INT

__all__ = ["Committer"]

_PATIENCE = 0.02  # seconds of waiting for the lock after which the others are asked to pause
_PAUSE = 2 * LONGEST_WAIT  # seconds; who waits tries the lock more than once meanwhile

_READ_PATIENCE = 0.1  # seconds that a read waits for the lock, as long as it can go on without

_IN_JSON = frozenset({int, str, bool, type(None)})
_CATCH_UPS = 4  # each has less to read: what came while the one before it read

_T = TypeVar("_T")


class Committer(Surprises):
    """A picture that is read and written to: what stands behind the nodes (see `nodes.Tree`)."""

    closed = False
    forked = False
    holders: Sequence[int] = ()  # who has taken the locks for more than one change
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
        if self.guarded() and self._is_inside():  # a signal handler or finaliser inside this thread's change: as it is
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
        if not (self.closed or self.forked or self.pending is not None or self._is_inside()):
            self._unless_guarded(self._follow_quietly)

    def _unless_guarded(self, look: Callable[[], object]) -> None:
        """Call `look` under the guard, if no thread has that; what it finds wrong is told to others."""
        try:
            try:
                if not self.guarded() and self.guard.acquire(False):
                    with contextlib.suppress(StateError, OSError):
                        look()
            finally:
                if self.guarded():
                    self.guard.release()
        finally:  # again: an interrupt may have come before the first release
            if self.guarded():
                self.guard.release()

    def _refresh(self) -> None:
        if (self.pending is not None and self.is_in_transaction()) or self._is_inside():
            return  # a signal handler or finaliser inside this thread's own change: as it is
        if self.forked:
            self._wake()
        if monotonic() < self.read_on and self.stamp[0] == self.seen:
            return
        with self.guard:
            done = self._follow_quietly()
        if done:
            return
        try:
            self._locked(READ, nothing, (), _READ_PATIENCE)
        except LockTimeout:
            if not self._read_on():
                self._locked(READ, nothing, ())

    def _read_on(self) -> bool:
        """Go on with what has been announced where the lock is not to be had: who has it may be stopped, in a vacuum.

        Whatever stands at the path, that one has to see to it. Returns False where memory is not what was announced.
        """
        with self.guard:
            if self.closed:
                return True
            if self.applying & 1 or self.pending is not None:  # of another thread, in a transaction
                return False
            position = self.page.position
            if (self.unsure or self.journal.position != position) and not self._read_anew():
                return False
            self.seen = stamp(position)
            self.read_on = monotonic() + LOOK_INTERVAL
            return True

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
        present = self._be_present()
        if monotonic() >= self.due:
            if not self._is_path_unchanged(READ):
                return False
            if present and not host.is_immutable(self.mapping.descriptor):  # else a write shall look, and is told
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

    def _locked(
        self, purpose: str, decide: Callable[..., _T], args: tuple[Any, ...], patience: float | None = None
    ) -> _T:
        """Return ``decide(*args)``, run under the locks, after a look at the file for `purpose`."""
        if self.closed:
            raise ClosedError(f"{self.file}: the state was closed; open it again")
        if self.forked:
            self._wake()
        lock = self.lock
        self._refuse_inside()
        joined = lock.owned()
        done = False
        try:
            try:
                if not joined:
                    self._acquire(patience)
                if self.closed:  # while this thread waited
                    raise ClosedError(f"{self.file}: the state was closed; open it again")
                self.busy = True
                while True:
                    try:
                        self._look(purpose)
                        result = decide(*args)
                        done = True
                        return result
                    except EditedMeanwhile:
                        self.due = 0.0
                        self.times, self.bytes_due = None, 0.0  # check the snapshot's bytes
            finally:
                if lock.owned():  # else another thread has it, and this one has waited in vain
                    self.busy = False
                    if not joined:
                        lock.free()
        except MemoryError:  # CPython 3.10 may need some to call what frees the lock
            if not joined:
                self._leave_again()
            if not done:
                raise
            return result
        except BaseException:
            if not joined:
                self._leave_again()
            raise
        finally:
            if self.closed and not joined:
                self._close_files(0)

    def _close_files(self, timeout: float | None) -> None:
        """Close all files, once no thread is in the middle of a change.

        One that is there for longer than `timeout` seconds does it itself, at its end. Each that comes later finds
        `closed` set.
        """
        lock = self.lock
        thread = lock.thread
        if (lock.closed and lock.descriptor < 0) or not thread.acquire(True, -1 if timeout is None else timeout):
            return
        try:
            self._close_now()
        except BaseException:  # an interrupt: nobody else would do it
            self._close_now()
            raise
        finally:
            thread.release()

    def _close_now(self) -> None:
        with self.guard:
            self._let_go_for_good()
            self.lock.close()

    def _let_go_for_good(self) -> None:
        """Have no file any more: reads go on working on the last state. Can be called again."""
        self.page_bytes, self.stamp, self.seen, self.due = _CLOSED_PAGE, (0,), 0, float("inf")
        self._let_go()

    def _acquire(self, patience: float | None = None) -> None:
        if self.page_bytes[WAITED_FOR] and self.timeout != 0:
            sleep(_PAUSE)  # the lock is nobody's in turn: who vacuums all the time would leave it for microseconds
        self.lock.acquire(self.timeout, self._wait_usefully, patience)
        if self.page_bytes[WAITED_FOR]:
            self.page_bytes[WAITED_FOR] = 0  # whoever waits still says so again
        if self.pending is not None:  # an interrupt cut short the end of a transaction
            self._begin_unsure()
            self.pending = None

    def _wait_usefully(self, waited: float) -> None:
        """Follow the process that has the lock while waiting for it: what is read by then delays nobody later."""
        if waited > _PATIENCE and not self.closed:
            self.page_bytes[WAITED_FOR] = 1
        if self.stamp[0] != self.seen:
            self._unless_guarded(self._follow_several)

    def _follow_several(self) -> None:
        for _ in range(_CATCH_UPS):
            if self.stamp[0] == self.seen or not self._follow_quietly():
                break

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
        if not (self.guarded() or (self.lock.owned() and (self.busy or not self.lock.whole))):
            return False
        if self._is_under_way():
            return True
        # Interrupts that came one upon the other have cut a release short, and its repetition: it is made up for now.
        self._begin_unsure()
        self.busy = False
        while self.guarded():
            self.guard.release()
        if not self.holders:
            self.lock.release()
        return False

    def _is_under_way(self) -> bool:
        """Return whether a method of this store is on this thread's stack, below those that belong to the call now."""
        frame: Any = sys._getframe(2)
        while frame is not None and (name := frame.f_globals.get("__name__", "")).startswith("mmapstate."):
            frame = frame.f_back
            if name in _ENTRANCES:  # what is below belongs to another call, also where that has come here by C alone
                break
        while frame is not None:
            if frame.f_globals.get("__name__") in _STOREYS and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

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
                or system.file_size(self.mapping.descriptor) != self.mapping.size
                or (journal.start >= 0 and not journal.is_untouched())
                or monotonic() >= self.due
                or self.lock.inode != self.page.inode  # opened anew, as an unlock failed
            ):
                self._look_closely(purpose)

    def _look_closely(self, purpose: str) -> None:
        self._take_up()
        deadline = None if self.timeout is None else monotonic() + self.timeout
        while True:
            if not self._catch_up(purpose):
                self._settle(purpose)
                self.due = monotonic() + LOOK_INTERVAL
            if self._is_present():
                break
            if self._be_present():
                continue  # now that it is present: the look at the path, and at the lock file, once more
            if purpose != WRITE:
                break
            if deadline is not None and monotonic() >= deadline:
                raise StateError(
                    f"{self.file}: another program has locked the state file itself; stop it and try again"
                )
            sleep(_PAUSE)
        self.seen = self.stamp[0]

    def _catch_up(self, purpose: str) -> bool:
        """Follow what others did in good order; return False if anything else happened."""
        if self.page.unsettled or self.unsure or self.applying & 1 or self.lock.inode != self.page.inode:
            return False
        position = self.page.position
        if position.generation != self.journal.generation and not self._move_over(position):
            return False
        if self.mapping.descriptor < 0:
            return False
        size = system.file_size(self.mapping.descriptor)
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
            if purpose == WRITE and host.is_immutable(self.mapping.descriptor):
                raise PermissionError(
                    errno.EPERM,
                    "the file has been made immutable; undo that (chattr -i) to change the state",
                    self.file,
                )
            self.due = monotonic() + LOOK_INTERVAL
        return True

    def commit_one(self, node: Any, key: Any, value: Any, how: str = SET) -> Any:
        """Commit one change (see `tree.Tree`); return what stands there then.

        Written out in one go for where nothing is in the way: the locks free, nothing new in the file, no look at the
        path due, room for the record. A counter spends its time here, and every call of a function would be a fortieth
        of it. What a look is for is told at `_look`, the order of the stores at `_append`.
        """
        if self.checks and not self._fits(node, key, value):
            return self.write(getattr(node, how), key, value)
        lock = self.lock
        # Not with "power", where the sync is what takes long; nor where this thread has the lock: a signal handler may.
        if lock.held == lock.kept and not (self.power or lock.owned()):
            done = False
            try:
                try:
                    if lock.take():
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
                                start, end = tail + 1, tail + len(text)
                                seen = journal.base + end
                                if (  # as late as can be: another program may cut the file before the stores
                                    payload
                                    and end < file.size
                                    and system.seek(file.descriptor, 0, END) == file.size
                                    and stores[journal.end_start : start] == journal.end
                                ):
                                    self.busy = True
                                    self.seen = UNSEEN
                                    self.unsure = True
                                    page[UNSETTLED] = 1
                                    stores[start : end + 1] = text
                                    stores[tail] = COMMITTED
                                    done = True
                                    journal.end_start = start
                                    journal.end = text
                                    journal.crc = crc
                                    journal.tail = end
                                    if how == APPEND:
                                        items.append(held)
                                    else:
                                        items[key] = held
                                    self.unsure = False
                                    stamp[0] = seen
                                    page[UNSETTLED] = 0
                                    self.seen = seen
                except MemoryError:
                    if not done:  # else only memory is behind, and the next access rebuilds it
                        raise
                finally:
                    if lock.owned():
                        self.busy = False
                        lock.free()
            except BaseException:
                self._leave_again()  # an interrupt may have come before, or in, the release
                raise
            if done:
                return result
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
        for schema in self.declared:
            validator = schema.record.items.get(key)
            if validator is not None and (value.__class__ not in validator.scalars or key not in node._items):
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
        """Put `record` into the file and call ``publish(*args)``.

        All that can fail comes before the commit. After it nothing is raised, for who calls takes an error for "not
        committed": where memory or stack are wanting for the rest, what is in memory is rebuilt by the next access.
        """
        try:
            payload = changes.encode(record)
        except ValueError as error:
            raise UnsupportedValueError(str(error), (), self.file) from None
        journal, power = self.journal, self.power
        text, crc = journal.encode(payload)
        need = len(text) + (MARK_LENGTH if power else 0)
        if need > journal.room():
            make_room(need)
            journal = self.journal
            text, crc = journal.encode(payload)
        if power:
            self._sync_first()
        self.mapping.check_size()
        page, stores, tail = self.page_bytes, self.mapping.bytes, journal.tail
        start, end, known = tail + 1, tail + len(text), text[-10:]
        stored_text = text + unsynced(self.boot, journal.file.inode) if power else text
        stored, known_from, seen = slice(start, start + len(stored_text)), end - 9, journal.base + end
        half_way = self.applying | 1
        after = half_way + 1
        committed = False
        self._begin_unsure()
        page[UNSETTLED] = 1
        try:
            # A kill tears this store: any of its bytes may be missing. The slack is clean, so these are spaces: junk in
            # a comment. The last store is one byte, which no kill tears.
            stores[stored] = stored_text
            stores[tail] = COMMITTED
            if power:
                self._sync_commit(journal, text)
            committed = True
            with self.guard:
                self.applying = half_way
                journal.end_start = known_from
                journal.end = known
                journal.crc = crc
                journal.tail = end
                publish(*args)
                self.applying = after
                self.unsure = False
                self.seen = seen
        except (MemoryError, RecursionError):
            if not committed:
                raise
        self.stamp[0] = seen
        page[UNSETTLED] = 0

    def _sync_commit(self, journal: Journal, text: bytes) -> None:
        """Make the record just appended survive loss of power; a sync that fails takes it back, and is raised."""
        try:
            self.mapping.sync()
            journal.unmark(text)
        except BaseException as error:
            # Nobody has seen the record: it was not announced. This first: what is left of it is a comment then, and
            # is blanked by who finds the page unsettled.
            self.mapping.bytes[journal.tail] = SLACK
            self.page_bytes[DOUBTFUL] = 1  # a second fsync would claim success: whoever writes next writes a new file
            if isinstance(error, OSError):
                journal.blank(journal.tail + 1, journal.tail + 1 + len(text))
                journal.unmark(text)  # last: until then no reader takes what comes back to it for a record
                self.unsure = False
            raise

    def _sync_first(self) -> None:
        """Before the first "power" commit on a file that others wrote to: what is in it may not be synced yet."""
        if self.synced_inode != self.mapping.inode:
            self.mapping.sync()
            system.sync_folder(self.path)
            self.synced_inode = self.mapping.inode

    def sync(self) -> None:
        """Make everything committed so far survive loss of power."""
        self.write(self._sync_all)

    def _sync_all(self) -> None:
        self.mapping.sync()
        system.sync_folder(self.path)


_CLOSED_PAGE = bytes(UNSETTLED) + b"\1" + bytes(BEFORE.stop - UNSETTLED - 1)
"""Of a closed store: unsettled, so that `commit_one` does not go on as reads do."""


_ENTRANCES = frozenset(
    {*(f"mmapstate.live.{name}" for name in ("state", "mapping", "sequence", "node")), "mmapstate.file.blocks"}
)
_STOREYS = frozenset(
    f"mmapstate.file.{name}" for name in ("replica", "compaction", "recovery", "writer", "transactions", "backend")
)


def nothing() -> None:
    """Decide nothing: the look that comes first is all that is wanted."""
