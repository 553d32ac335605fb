"""What a ``with`` statement can hold of a state: its locks, or a transaction."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mmapstate.file.backend import Store
from mmapstate.file.readonly import View

__all__ = ["Hold", "Transaction"]

_S = TypeVar("_S")


_entered: dict[int, weakref.ref[Any]] = {}
"""The blocks that were entered and not left, by id.

An interrupt can come when `__enter__` is done, or before `__exit__` begins: then Python calls no `__exit__`, and what
was held is released when the object goes. Not by a `__del__`, which would run at the end of every block: an interrupt
that comes there is lost.
"""


def _watch(block: Any, release: Callable[[int], object]) -> None:
    number = id(block)

    def gone(_: object) -> None:
        _entered.pop(number, None)
        release(number)

    _entered[number] = weakref.ref(block, gone)


def _release_all(store: Store | View, holder: int) -> None:
    while store.unhold(holder):
        pass


class Hold:
    """What ``_thread_lock`` gives: both locks, for a ``with`` block; can be nested."""

    __slots__ = ("__weakref__", "_number", "_store")

    def __init__(self, store: Store | View) -> None:
        self._store = store
        self._number = id(self)  # kept: to end it needs no memory

    def __enter__(self) -> bool:
        if self._number not in _entered:
            _watch(self, functools.partial(_release_all, self._store))
        try:
            self._store.hold(self._number)
        except BaseException:
            self._forget()
            raise
        return True

    def __exit__(self, *_: object) -> None:
        self._store.unhold(self._number)
        self._forget()

    def _forget(self) -> None:
        if not self._store.held(self._number):
            _entered.pop(self._number, None)

    def acquire(self) -> bool:
        """Take both locks; raise `LockTimeout` if that takes longer than the state's timeout."""
        self._store.hold()
        return True

    def release(self) -> None:
        """Release them; raise RuntimeError where this thread has not taken them so."""
        if not self._store.unhold():
            raise RuntimeError(f"{self._store.file}: this thread does not hold the lock")


class Transaction(Generic[_S]):
    """What ``transaction()`` gives: a ``with`` block whose changes are one record, or none; yields the state."""

    __slots__ = ("__weakref__", "_number", "_state", "_store")

    def __init__(self, store: Store | View, state: _S) -> None:
        self._store = store
        self._number = id(self)  # kept: to end it needs no memory
        self._state = state

    def __enter__(self) -> _S:
        store = self._store
        if store.held(self._number):
            raise RuntimeError("this transaction has begun already; call transaction() for one inside of it")
        _watch(self, functools.partial(store.end, commit=False))
        try:
            store.begin(self._number)
        except BaseException:
            store.end(self._number, commit=False)
            _entered.pop(self._number, None)
            raise
        return self._state

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            self._store.end(self._number, commit=kind is None)
        finally:
            self._store.end(self._number, commit=False)
            _entered.pop(self._number, None)
