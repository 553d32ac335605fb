"""What a ``with`` statement can hold of a state: its locks, or a transaction."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mmapstate.live.tree import Tree, entered

_S = TypeVar("_S")

_numbers = itertools.count(1)


def _watch(block: Any, release: Callable[[int], object]) -> None:
    """Have what `block` holds released when the object goes, if it is not left.

    An interrupt can come when `__enter__` is done, or before `__exit__` begins: then Python calls no `__exit__`. Nor
    where memory is wanting; it may be so still when the object goes, then the next access ends what it held. Not by a
    `__del__`, which would run at the end of every block: an interrupt that comes there is lost.
    """
    number = block._number

    def gone(_: object) -> None:
        release(number)
        entered.pop(number, None)

    entered[number] = weakref.ref(block, gone)


def _release_all(tree: Tree, holder: int) -> None:
    while tree.backend.unhold(holder):
        pass


def _leave(tree: Tree, number: int) -> None:
    """Look no more after a block that holds nothing. What it did is done: want of memory is no error of it."""
    try:
        if not tree.backend.held(number):
            entered.pop(number, None)
    except MemoryError:  # to suppress it by a context manager would need some; it goes with the block
        pass


class Hold:
    """What ``_thread_lock`` gives: both locks, for a ``with`` block; can be nested."""

    __slots__ = ("__weakref__", "_number", "_tree")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._number = next(_numbers)

    def __enter__(self) -> bool:
        if self._number not in entered:
            _watch(self, functools.partial(_release_all, self._tree))
        try:
            self._tree.hold(self._number)
        except BaseException:
            self._forget()
            raise
        return True

    def __exit__(self, *_: object) -> None:
        self._tree.backend.unhold(self._number)
        self._forget()

    def _forget(self) -> None:
        _leave(self._tree, self._number)

    def acquire(self) -> bool:
        """Take both locks; raise `LockTimeout` if that takes longer than the state's timeout."""
        self._tree.hold(0)
        return True

    def release(self) -> None:
        """Release them; raise RuntimeError where this thread has not taken them so."""
        if not self._tree.backend.unhold(0):
            raise RuntimeError(f"{self._tree.name}: this thread does not hold the lock")


class Transaction(Generic[_S]):
    """What ``transaction()`` gives: a ``with`` block whose changes are one record, or none; yields the state."""

    __slots__ = ("__weakref__", "_number", "_state", "_tree")

    def __init__(self, tree: Tree, state: _S) -> None:
        self._tree = tree
        self._number = next(_numbers)
        self._state = state

    def __enter__(self) -> _S:
        tree = self._tree
        if tree.backend.held(self._number):
            raise RuntimeError("this transaction has begun already; call transaction() for one inside of it")
        _watch(self, functools.partial(tree.end, commit=False))
        try:
            tree.begin(self._number)
        except BaseException:
            tree.end(self._number, commit=False)
            entered.pop(self._number, None)
            raise
        return self._state

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        tree, number = self._tree, self._number
        try:
            try:
                tree.end(number, commit=kind is None)
            except BaseException:
                tree.end(number, commit=False)
                raise
        finally:
            _leave(tree, number)
