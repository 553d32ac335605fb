"""One store per real path in a process: found again by every open, told of forks, put to rest at exit."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol

from mmapstate.declared import Declared
from mmapstate.errors import StateError
from mmapstate.logger import log
from mmapstate.store import Store

__all__ = ["Handle", "enter", "leave", "rest_all"]


class Handle(Protocol):
    """What counts as a user of a store."""

    _durability: str

    @property
    def _declared(self) -> Declared: ...


class _Place:
    """A real path of this process: its store while there is one, the handles that use it, and a lock for opening."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.store: Store | None = None
        self.handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by id: no hash

    def asks_for_power(self) -> bool:
        """Return whether any handle wants its changes to survive loss of power."""
        return any(handle._durability == "power" for handle in list(self.handles.values()))

    def declared(self) -> tuple[Declared, ...]:
        """Return what the handles' classes declare: it holds for all of them."""
        found = {id(handle._declared): handle._declared for handle in list(self.handles.values())}
        return tuple(declared for declared in found.values() if declared.kinds)


_LONGEST_STOP = 1.0  # seconds that a fork waits for other threads

_places: dict[str, _Place] = {}  # by real path; on Windows, where letter case makes no other file, in lower case
_lock_of_places = [threading.RLock()]  # one, renewed in a forked child


def enter(path: str, handle: Handle, *, timeout: float | None, exclusive: bool) -> Store:
    """Return the store of the real path `path`, opened if need be; `handle` uses it until `leave`, or until it is gone.

    Of the handles' timeouts the newest counts, of their durabilities the strictest. Raises `StateError` if this
    process has the state open with the other choice of `exclusive`, and what opening raises.
    """
    with _lock_of_places[0]:
        place = _places.setdefault(os.path.normcase(path), _Place())
    with place.lock:
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
            declared = (handle._declared,) if handle._declared.kinds else ()
            store = Store(path, timeout=timeout, exclusive=exclusive, power=power, declared=declared)
        store.timeout = timeout
        place.handles[id(handle)] = handle
        place.store = store
        store.power = place.asks_for_power()
        store.declared = place.declared()
        return store


def leave(path: str, handle: Handle) -> None:
    """Take `handle` off the users of its store; the last one closes it."""
    with _lock_of_places[0]:
        place = _places.get(os.path.normcase(path))
    if place is None:
        return
    with place.lock:
        store = place.store
        if place.handles.pop(id(handle), None) is None or store is None:
            return
        store.power = place.asks_for_power()
        store.declared = place.declared()
        if not place.handles:
            store.close()
            if place.store is store:  # not so where a signal handler came in between
                place.store = None


def rest_all() -> None:
    """At exit (see the package): the last process with a journal vacuums it. Later writes still work."""
    for place in list(_places.values()):
        if place.store is not None:
            place.store.rest()


_stopped_for_fork: list[Any] = []


def _stop_all() -> None:
    """Before a fork: wait, not for long, until no other thread is opening, closing or remapping a file.

    The child closes what it knows of: descriptors that such a thread has in its hands would leak into it.
    """
    for place in list(_places.values()):
        store = place.store
        locks = [place.lock] if store is None else [place.lock, store.guard]
        _stopped_for_fork.extend(lock for lock in locks if lock.acquire(timeout=_LONGEST_STOP))


def _go_on_all() -> None:
    while _stopped_for_fork:
        _stopped_for_fork.pop().release()


def _forget_all() -> None:
    """In a forked child: other threads are gone, and their locks may be left taken."""
    _stopped_for_fork.clear()
    _lock_of_places[0] = threading.RLock()
    for place in list(_places.values()):
        place.lock = threading.RLock()
        if place.store is not None:
            try:
                place.store.forget()
            except OSError as error:  # the other stores are to be forgotten all the same
                log.warning("%s: a descriptor may stay open in a forked child: %s", place.store.file, error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_all, after_in_parent=_go_on_all, after_in_child=_forget_all)
