"""One state file behind a live tree: the parts wired together, and their life (open, compact, close, fork)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mmapstate import changes
from mmapstate.errors import LockTimeout, StateError
from mmapstate.file import content, sidecar, system, windows
from mmapstate.file.child import Child
from mmapstate.file.closing import Closing
from mmapstate.file.compaction import Compaction
from mmapstate.file.filelock import FileLock
from mmapstate.file.joining import Joining
from mmapstate.file.keeper import Keeper
from mmapstate.file.locks import Locks
from mmapstate.file.mapped import EditedMeanwhile
from mmapstate.file.recovery import Recovery
from mmapstate.file.refresh import Refresh
from mmapstate.file.replica import READ, WRITE, Replica
from mmapstate.file.sidecar import open_sidecar, sidecar_path
from mmapstate.file.writer import Writer
from mmapstate.live import json_changes
from mmapstate.live.backend import ADD, APPEND, Memory, Options
from mmapstate.live.node import KINDS, live
from mmapstate.live.sentinels import SLOW
from mmapstate.live.tree import plain_root
from mmapstate.values import Plain

_READ_PATIENCE = 0.1  # seconds that a read waits for the lock, as long as it can go on without
_LONGEST_CHANGE = 1.0  # seconds that a close waits for a change of another thread at least

_IN_JSON = frozenset({int, str, bool, type(None)})

_T = TypeVar("_T")


class FileBackend:
    """One state file in this process (see `live.backend.Backend`).

    Opens the file, or creates it; nothing is left open where that raises.
    """

    def __init__(self, path: str, memory: Memory, options: Options) -> None:
        self.name = path
        self.memory = memory
        self.locks = Locks(_open_lock(path), exclusive=options.exclusive)
        self.replica = Replica(path, memory, self.locks)
        self.cursor = self.replica.cursor
        self.compaction = Compaction(self.replica, power=options.durability == "power")
        keeper = Keeper(self.replica)
        recovery = Recovery(self.replica, self.compaction, keeper)
        self.refresher = Refresh(self.replica, recovery)
        self.closing = Closing(self.replica, self.compaction)
        self.writer = Writer(
            self.replica, self.compaction, recovery, self.refresher,
            timeout=options.timeout, close_files=self.closing.close_files,
        )  # fmt: skip
        self.joining = Joining(self.replica, recovery, keeper, self.writer)
        self.child = Child(self.replica, self.joining, self.writer)
        self.last_need = 0  # bytes that the record of the last transaction took
        try:
            windows.watch(self.refresher)  # before it waits for who has the lock, and may wait for this one to release
            self.joining.join(options.timeout)
            sidecar.adjust(self.locks.lock.descriptor, system.status_of(self.replica.file.descriptor))
            self.child.opened()
        except BaseException:
            windows.unwatch(self.refresher)
            self.closing.close_files(None)
            raise

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.locks.closed

    def adjust(self, options: Options, *, power: bool) -> None:
        """Go by the options of the newest handle; `power`: as any of the handles wants it."""
        self.writer.wait_for(options.timeout)
        self.compaction.require_power(power)

    # --- Reads --------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Bring memory up to date. With nothing new: one comparison and a clock, no lock and no system call."""
        cursor = self.cursor
        if cursor.word[0] != cursor.applied or time.monotonic() >= cursor.next_check:
            self._refresh()

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""
        self.refresh()
        locks = self.locks
        # Locks that this thread has: of a signal handler or finaliser inside a change, which reads what is there; or
        # left by what could not release them, for want of memory: that is made up for.
        if (locks.guarded() or locks.lock.owned()) and self.writer.is_inside():
            return read(*args)
        while True:
            with self.locks.guard:
                if not self.cursor.epoch & 1:
                    return self.cursor.copy(read, *args)  # type: ignore[no-any-return]
            self._refresh()  # interrupted half-way: rebuild

    def glance(self) -> None:
        """Bring memory up to date if that raises nothing, needs no lock and waits for nobody: for `repr`."""
        if not (self.closed or self.child.asleep or self.writer.is_inside()):
            self.refresher.unless_guarded(self.refresher.follow)

    def wait(self, timeout: float) -> None:
        """Wait. There is no portable way to be woken by a store into a map of another process."""
        time.sleep(timeout)

    def _refresh(self) -> None:
        if self.writer.is_inside():
            return  # a signal handler or finaliser inside this thread's own change: as it is
        if self.child.asleep:
            self.child.wake()
        if self.refresher.is_going_on():
            return
        with self.locks.guard:
            done = self.refresher.follow()
        if done:
            return
        try:
            self.writer.locked(READ, bool, patience=_READ_PATIENCE)
        except LockTimeout:
            if not self.refresher.go_on():
                self.writer.locked(READ, bool)

    # --- Writes -------------------------------------------------------------------------------------------------------

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Return ``decide(*args)``, run under the locks with memory up to date; it may call `append`."""
        if self.child.asleep:
            self.locks.refuse_closed()
            self.child.wake()
        return self.writer.locked(WRITE, decide, args)

    def change(self, node: Any, operation: str, key: Any, value: Any) -> Any:
        """Make one change by the cursor. Not with "power", where the sync is what takes long."""
        cursor = self.cursor
        token = cursor.token()
        if token is None or self.compaction.power or (self.replica.is_json and not _fits_json(node, key, value)):
            return SLOW
        items = node._items
        try:
            path = [] if node._parent is None else node._path()
            if operation is APPEND:
                index = len(items)
                payload = changes.encode_insert(path, index, value)
                held = live(value, node, index) if value.__class__ in KINDS else value
                done = payload is not None and cursor.append(token, payload, items.append, held)
            else:
                if operation is ADD:
                    value = node._sum(key, value)
                payload = changes.encode_set(path, key, value)
                held = live(value, node, key) if value.__class__ in KINDS else value
                done = payload is not None and cursor.append(token, payload, items.__setitem__, key, held)
        except (StateError, LookupError, TypeError):  # or another thread was half-way: the long way tells
            return SLOW
        return value if done else SLOW

    def check(self, record: Sequence[changes.Change]) -> None:
        """Raise `UnsupportedValueError` where the file is JSON, and that cannot hold what `record` puts there."""
        if self.replica.is_json:
            json_changes.check(record, self.memory.root, self.name)

    def append(self, record: Sequence[changes.Change], publish: Callable[..., object], *args: Any) -> None:
        """Commit `record`, then call ``publish(*args)``."""
        self.writer.append(record, self.compaction.make_room, publish, args)

    # --- Several steps in one -----------------------------------------------------------------------------------------

    def hold(self, holder: int) -> None:
        """Take both locks and keep them for `holder` until `unhold`; nests."""
        locks = self.locks
        locks.refuse_closed()
        if self.child.asleep:
            self.child.wake()
        self.writer.refuse_inside()
        if locks.lock.owned():
            locks.holders.append(holder)
            return
        try:
            self.writer.acquire()
            locks.hold_first(holder)
            locks.lock.begin()
            self.writer.look(WRITE)
            locks.lock.end()
        except BaseException:
            locks.lock.release()
            raise

    def held(self, holder: int) -> int:
        """Return how many times this thread has taken the locks for `holder`, and not released them."""
        return self.locks.held(holder)

    def owned(self) -> bool:
        """Return whether this thread has the locks."""
        return self.locks.lock.owned()

    def last_holder(self) -> int | None:
        """Return for whom this thread has taken the locks last; None where it has not got them."""
        holders = self.locks.holders
        return holders[-1] if holders and self.locks.lock.owned() else None

    def unhold(self, holder: int) -> bool:
        """Release what `hold` took for `holder`; return whether this thread had taken it, and not released it yet."""
        unheld = self.locks.unhold(holder)
        if unheld and self.closed and not self.locks.lock.owned():
            self.closing.close_files(0)
        return unheld

    def prepare(self) -> None:
        """Make room for as much as the last transaction changed: inside, the region can only grow."""
        journal = self.replica.journal
        if journal.start >= 0 and journal.room() < self.last_need:
            need, self.last_need = self.last_need, 0
            try:
                self.compaction.make_room(need)
            except OSError:  # a full disk: no matter to one that changes less, or nothing
                raise EditedMeanwhile from None  # look again, and begin without it

    def run_held(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Do what `write` does, where this thread holds the locks and memory may be ahead of the file."""
        locks, lock = self.locks, self.locks.lock
        if locks.closed or lock.busy or locks.guarded() or not lock.whole:
            locks.refuse_closed()
            self.writer.refuse_inside()
        lock.begin()
        try:
            return decide(*args)
        finally:
            lock.settle()

    def begin_work(self) -> None:
        """Be in the middle of a change, with the locks."""
        self.locks.lock.begin()

    def end_work(self) -> None:
        """Be so no longer."""
        self.locks.lock.end()

    def go_ahead(self) -> None:
        """From here on memory is ahead of the file: whoever has not the locks waits."""
        with self.locks.guard:
            self.cursor.look_again()
            self.cursor.begin_change()

    def is_ahead(self) -> bool:
        """Return whether it is so; not where an interrupt cut a commit short: the file tells what it became."""
        return bool(self.cursor.epoch & 1) and not self.cursor.unsure

    def append_held(self, record: Sequence[changes.Change], publish: Callable[..., object]) -> bool:
        """Commit what memory is ahead by; return False where an external edit came meanwhile."""
        if not self.writer.is_as_left():
            return False
        before = self.replica.journal.tail
        try:
            self.writer.append(record, self.compaction.make_room_in_place, publish)
        except EditedMeanwhile:
            return False
        try:  # nothing may be raised any more
            self.last_need = self.replica.journal.tail - before
        except MemoryError:
            self.last_need = 0
        return True

    def fall_back(self, undo: Callable[[], object]) -> None:
        """Have memory be what is in the file again, by ``undo()``."""
        cursor = self.cursor
        cursor.distrust()
        undo()
        with self.locks.guard:
            cursor.end_change()
            cursor.mark_applied(cursor.word[0] if self.closed else self.replica.journal.sequence)
            cursor.trust()  # last: without memory for the others it is rebuilt

    def accept_edit(self) -> None:
        """Bring memory up to date with an external edit. Under the locks."""
        self.cursor.check_now()
        self.writer.look(WRITE)

    # --- Its life -----------------------------------------------------------------------------------------------------

    def check_schemas(self) -> None:
        """Raise `StateFileError` where the state does not fit what the classes of its handles declare."""
        state = self.steady(plain_root, self.memory.root)
        if any(schema.mismatch(state) is not None for schema in self.memory.schemas):
            self.write(self._check_schemas)  # looks for the line, too

    def _check_schemas(self) -> None:
        data = self.replica.file.read()
        parts = content.layout(data, self.name)
        content.check(data, parts, plain_root(self.memory.root), self.memory.schemas, self.name)

    def sync(self) -> None:
        """Make everything committed so far survive loss of power."""
        self.write(self.compaction.sync_all)

    def vacuum(self) -> None:
        """Compact the file to its snapshot alone. Raises `StateError` where the system refuses to replace it."""
        if not self.write(self.compaction.to_rest):
            raise StateError(
                f"{self.name}: the system refused to replace the file (in use elsewhere?); try again later"
            )

    def rewrite(self, edit: Callable[[bytes, dict[Any, Plain]], bytes]) -> bool:
        """Have the file become the text that ``edit(snapshot, state)`` makes of the present one: as one step, synced.

        `edit` is called under the locks, again if somebody edits the file by hand meanwhile; with what it raises
        nothing has changed. Returns False where the system refuses to replace the file: nothing has changed either.
        Raises `StateFileError` where the text is no snapshot, OSError.
        """
        return self.write(self.compaction.rewrite, edit)

    def close(self) -> None:
        """Release the file; the last process to do so compacts it to its snapshot alone."""
        if not self.closed:
            self.rest()
            windows.unwatch(self.refresher)
        self.locks.close()
        timeout = self.writer.timeout
        self.closing.close_files(None if timeout is None else max(timeout, _LONGEST_CHANGE))

    def rest(self) -> None:
        """Compact the file if no other process has it open, and be no longer one that has."""
        if self.child.asleep or self.closed:
            return  # a forked child that never touched the state leaves it to its parent
        if self.memory.undo is not None and self.locks.lock.owned():
            return  # at exit, in a generator that was never ended: what it has not committed, nobody has seen
        self.closing.rest(self.writer, self.joining)


def _open_lock(path: str) -> FileLock:
    """Open the lock file, for whom may write the state. Errors name the state file: it is what the user knows of."""
    state: os.stat_result | None = None
    try:
        descriptor = system.open_regular(path, write=True)
        try:
            state = system.status_of(descriptor)
        finally:
            system.close(descriptor)
    except FileNotFoundError:
        if not system.is_folder(os.path.dirname(path)):
            raise FileNotFoundError(
                errno.ENOENT, "the folder of the state file does not exist; create it first", path
            ) from None
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        told = f"{error.strerror}; to read it alone, open it with readonly=True"
        raise OSError(error.errno, told, path) from None
    lock_path = sidecar_path(path)
    return FileLock(lock_path, open_sidecar(lock_path, state), path)


def _fits_json(node: Any, key: Any, value: Any) -> bool:
    """Return whether a value is one that JSON has, and so is any sum with it, and the key is text."""
    items = node._items
    if items.__class__ is not list and (key.__class__ is not str or items.get(key).__class__ is float):
        return False
    return value.__class__ in _IN_JSON
