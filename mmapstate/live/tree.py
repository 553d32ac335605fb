"""The live tree of one state in this process, and the way of each access to what stands behind it.

What is the same whatever that is, stands here: the choice between the fast path and the long way, transactions and
their roll-back, what classes declare.

In a transaction the thread that has the locks sees what it has changed; everybody else waits for them, or sees what was
there before: memory is ahead of what is stored.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from mmapstate.changes import Change
from mmapstate.errors import StateError, closed
from mmapstate.live.backend import ADD, APPEND, SET, Backend, Closed
from mmapstate.live.mapping import StateDict
from mmapstate.live.node import Node, copy_of, fill, new_node
from mmapstate.live.sentinels import SLOW
from mmapstate.live.undo import UndoLog
from mmapstate.values import Plain

_T = TypeVar("_T")

_LONG_WAY = {SET: "_set", ADD: "_increment", APPEND: "_append"}  # the inner half of a node that does it

entered: dict[int, weakref.ref[Any]] = {}
"""The blocks of all states that were entered and not left, by the number that they hold the locks for."""


class Tree:
    """The live tree of one state; nodes of all its handles belong to it."""

    def __init__(
        self,
        open_backend: Callable[[Tree], Backend],
        root: StateDict | None = None,
        schemas: Sequence[Any] = (),
        defaults: dict[Any, Plain] | None = None,
        *,
        exclusive: bool = False,
    ) -> None:
        self.root = cast("StateDict", new_node(StateDict, self, None, None, {})) if root is None else root
        self.schemas = schemas
        self.defaults = defaults or {}
        self.exclusive = exclusive
        self.undo: UndoLog | None = None  # of the transaction that is open, in the thread that holds the locks for it
        self.backend = open_backend(self)
        self.cursor = self.backend.cursor
        self.name = self.backend.name

    @classmethod
    def closed(cls, name: str, root: StateDict) -> Tree:
        """Return what stands behind a handle that was closed: the same tree, which cannot be written to."""
        return cls(lambda _: Closed(name), root)

    def declare(self, schemas: Sequence[Any]) -> None:
        """Have what the classes of the handles declare be `schemas` from now on."""
        self.schemas = schemas

    # --- Reads --------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Bring memory up to date with what others committed; fast when there is nothing new."""
        if self.undo is None or not self.is_in_transaction():
            self.backend.refresh()

    def glance(self) -> None:
        """Do what `refresh` does, as far as that raises nothing and waits for nobody."""
        if self.undo is None:
            self.backend.glance()

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""
        if self.undo is not None and self.is_in_transaction():
            return read(*args)
        return self.backend.steady(read, *args)

    # --- Writes -------------------------------------------------------------------------------------------------------

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Return ``decide(*args)``, run under the locks with memory up to date; it may call `commit`.

        Raises `LockTimeout`, `ClosedError`, `StateFileError` (an external edit that does not parse), `StateError` (a
        write inside a write of the same thread, as a signal handler can try), and what `decide` raises.
        """
        if self.undo is None:
            return self.backend.write(decide, *args)
        if self.is_in_transaction():
            return self.backend.run_held(decide, *args)
        return cast("_T", self.backend.write(self._after_another, decide, args))

    def _after_another(self, decide: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        """Do it when the transaction of another thread has ended, or was left by an interrupt: its log is nobody's."""
        self.undo = None
        return decide(*args)

    def change(self, node: Any, operation: str, key: Any, value: Any) -> Any:
        """Make one change, in whatever way; return what stands there then."""
        if self.undo is None and (not self.schemas or self._fits(node, key, value)):
            result = self.backend.change(node, operation, key, value)
            if result is not SLOW:
                return result
        return self.write(getattr(node, _LONG_WAY[operation]), key, value)

    def _fits(self, node: Node, key: Any, value: Any) -> bool:
        """Return whether a value at the top of the state, and any sum with it, is sure to be what is declared."""
        if node._parent is not None:
            return False
        for schema in self.schemas:
            validator = schema.record.items.get(key)
            if validator is not None and (value.__class__ not in validator.scalars or key not in node._items):
                return False
        return True

    def commit(self, node: Node, record: tuple[Change, ...], publish: Callable[..., object], *args: Any) -> None:
        """Commit `record`, changes of `node`; ``publish(*args)`` makes them in memory. Inside `write` only.

        In a transaction it waits for the end of that. Raises `UnsupportedValueError`, and OSError when the disk is full
        or a sync fails; nothing has changed then.
        """
        for schema in self.schemas:
            schema.check(record, self.root, self.name)
        self.backend.check(record)
        if self.undo is None:
            self.backend.append(record, publish, *args)
        else:
            if not self.cursor.epoch & 1:
                self.backend.go_ahead()
            self.undo.add(node, record, publish, *args)

    # --- Transactions -------------------------------------------------------------------------------------------------

    def begin(self, holder: int) -> None:
        """Hold the locks for `holder`, and let what this thread changes be one record, committed by `end`; nests.

        To be ended even when it raises.
        """
        self.hold(holder)
        if self.undo is not None:
            self.undo.begin_inner(holder)
        else:
            self.backend.write(self._begin, holder)

    def _begin(self, holder: int) -> None:
        self.backend.prepare()
        undo = UndoLog(holder, _current_task())
        if undo.task is not None:  # reads of other tasks are to be noticed even before the first change
            self.backend.go_ahead()
        self.undo = undo

    def hold(self, holder: int) -> None:
        """Take the locks and keep them for `holder` until `unhold`; nests."""
        if self.undo is not None:
            self.is_in_transaction()  # raises in another task
        self.backend.hold(holder)
        if self.undo is not None and not self.backend.held(self.undo.holder):
            self.undo = None  # an interrupt cut short the end of a transaction

    def end(self, holder: int, *, commit: bool) -> None:
        """Commit what was changed since `holder` began, or roll it back. Does nothing in a child forked inside.

        The inner one of two leaves the commit to the outer. To be called again, without `commit`, when this raises: an
        interrupt may have come anywhere. Raises, with all rolled back, `StateError` when an external edit came
        meanwhile, `ClosedError` when another thread closed the state, and OSError.
        """
        backend = self.backend
        if not backend.held(holder):
            return
        undo, done = self.undo, False
        backend.begin_work()
        try:
            try:
                if undo is not None and undo.holder == holder:
                    self._end(undo, commit)
                elif undo is not None:
                    undo.end_inner(holder, commit=commit)
                done = True
            finally:
                backend.end_work()
                if done or self.undo is None:  # else it is to be called again
                    backend.unhold(holder)
        except MemoryError:
            if not (done and commit):  # else it is in the file, and the next access releases what is held
                raise

    def _end(self, undo: UndoLog, commit: bool) -> None:
        edited = committed = False
        try:
            if commit and undo.torn:
                raise StateError(
                    f"{self.name}: the transaction was interrupted in the middle of a change; run it again"
                )
            if commit and undo.changes:
                if self.backend.closed:
                    raise closed(self.name)
                committed = self.backend.append_held(undo.changes, undo.forget)
                edited = not committed
        finally:
            try:
                if not committed and self.backend.is_ahead():
                    self.backend.fall_back(undo.roll_back)
            finally:
                self.undo = None
        if edited:
            self.backend.accept_edit()
            raise StateError(
                f"{self.name}: was edited by hand during the transaction, which is rolled back; run it again"
            )

    def is_in_transaction(self) -> bool:
        """Return whether a transaction of this thread is open; raise `StateError` in another task of the thread."""
        undo, holder = self.undo, self.backend.last_holder()
        if undo is None or holder is None:
            return False
        block = entered.get(holder)
        if block is not None and block() is None:
            self.end_abandoned()
            undo = self.undo
            if undo is None:
                return False
        if undo.task is not None and _current_task() is not undo.task:
            raise StateError(
                f"{self.name}: another task of this thread has a transaction open; do not await inside of one, or run "
                "it in a thread of its own (asyncio.to_thread)"
            )
        return True

    def end_abandoned(self) -> None:
        """End what blocks of this thread began that are gone: memory was wanting to end it then."""
        while (holder := self.backend.last_holder()) is not None:
            block = entered.get(holder)
            if block is None or block() is not None:
                break
            self.end(holder, commit=False)
            del entered[holder]

    def refuse_to_wait(self) -> None:
        """Raise the error that waiting for others would be in vain, if so."""
        if self.backend.closed:
            raise closed(self.name)
        if self.backend.owned():
            raise StateError(
                f"{self.name}: this thread has the state's locks, so nobody else can change it; wait outside of the "
                "transaction"
            )

    def refuse_in_transaction(self, what: str) -> None:
        """Raise `StateError` where this thread has a transaction open; `what` is to be done when it has ended."""
        if self.is_in_transaction():
            raise StateError(f"{self.name}: a transaction is open in this thread; {what} when it has ended")

    def forget(self) -> UndoLog | None:
        """In a forked child: have no part in the transaction of its parent; return its log, if one was open."""
        undo, self.undo = self.undo, None
        return undo


def plain_root(root: StateDict) -> dict[Any, Plain]:
    """Return a plain, deep copy of the tree below `root` as memory has it now."""
    return cast("dict[Any, Plain]", copy_of(root._items))


def adopt_root(node: StateDict, tree: Tree) -> None:
    """Make `node` another face of the root of `tree`: the same entries."""
    fill(node, tree, None, None, tree.root._items)


def _current_task() -> Any:
    """Return the asyncio task that this thread is running, if any. Who has not imported asyncio has none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running in this thread
        return None
