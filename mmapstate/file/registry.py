"""One store per real path in a process: found again by every open, put to rest at exit."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol

from mmapstate.errors import StateError
from mmapstate.file import forks
from mmapstate.file.backend import Store
from mmapstate.live.schema import Schema

__all__ = ["Handle", "enter", "leave", "rest_all"]


class Handle(Protocol):
    """What counts as a user of a store."""

    _durability: str

    @property
    def _declared(self) -> Schema: ...


class _Place:
    """A real path of this process: its store while there is one, the handles that use it, and a lock for opening."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.store: Store | None = None
        self.handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by id: no hash
        forks.inherit(self)

    def forget(self) -> None:
        """In a forked child: have a lock that no other thread has, as those are gone."""
        self.lock = threading.RLock()

    def asks_for_power(self) -> bool:
        """Return whether any handle wants its changes to survive loss of power."""
        return any(handle._durability == "power" for handle in list(self.handles.values()))

    def declared(self) -> tuple[Schema, ...]:
        """Return what the handles' classes declare: it holds for all of them."""
        found = {id(handle._declared): handle._declared for handle in list(self.handles.values())}
        return tuple(declared for declared in found.values() if declared.fields)


_places: dict[str, _Place] = {}
"""By real path (on Windows, where letter case makes no other file, in lower case): where a store is open, or opened.

Who has the lock of a place, and it alone, takes that out again; anybody puts one in where none is.
"""


def enter(path: str, handle: Handle, *, timeout: float | None, exclusive: bool) -> Store:
    """Return the store of the real path `path`, opened if need be; `handle` uses it until `leave`, or until it is gone.

    Of the handles' timeouts the newest counts, of their durabilities the strictest. Raises `StateError` if this
    process has the state open with the other choice of `exclusive`, and what opening raises.
    """
    key = os.path.normcase(path)
    while True:
        place = _places.setdefault(key, _Place())
        with place.lock:
            if _places.get(key) is not place:
                continue  # it was taken out while this thread waited for it
            try:
                return _enter(place, path, handle, timeout, exclusive)
            finally:
                _take_out_unused(key, place)


def _enter(place: _Place, path: str, handle: Handle, timeout: float | None, exclusive: bool) -> Store:
    store = place.store
    if store is not None and store.exclusive != exclusive and not place.handles:
        store.close()  # its handles were dropped without close(); this open may want it otherwise
        store = None
    if store is not None and store.exclusive != exclusive:
        raise StateError(
            f"{path}: this process has it open {'exclusively' if store.exclusive else 'without exclusive=True'}; "
            "close that first, or open it the same way"
        )
    if store is None or store.closed:
        power = handle._durability == "power"
        declared = (handle._declared,) if handle._declared.fields else ()
        store = Store(path, timeout=timeout, exclusive=exclusive, power=power, declared=declared)
        store.open()
    store.timeout = timeout
    place.handles[id(handle)] = handle
    place.store = store
    store.power = place.asks_for_power()
    store.declared = place.declared()
    return store


def leave(path: str, handle: Handle) -> None:
    """Take `handle` off the users of its store; the last one closes it."""
    key = os.path.normcase(path)
    place = _places.get(key)
    if place is None:
        return
    with place.lock:
        store = place.store
        place.handles.pop(id(handle), None)
        if store is None:
            return
        store.power = place.asks_for_power()
        store.declared = place.declared()
        if not place.handles:  # also where an error has cut the last close short
            store.close()
            _take_out_unused(key, place)


def _take_out_unused(key: str, place: _Place) -> None:
    """Forget a place without a store that is open. With its lock."""
    if (place.store is None or place.store.closed) and not place.handles and _places.get(key) is place:
        del _places[key]


def rest_all() -> None:
    """At exit (see the package): the last process with a journal vacuums it. Later writes still work."""
    for place in list(_places.values()):
        if place.store is not None:
            place.store.rest()
