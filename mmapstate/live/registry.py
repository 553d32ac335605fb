"""One live tree per place in a process: found again by every open, put to rest at exit."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Protocol

from mmapstate.errors import StateError
from mmapstate.live import forks
from mmapstate.live.backend import Options, Place
from mmapstate.live.tree import Tree
from mmapstate.values import Plain


class Handle(Protocol):
    """What counts as a user of a tree."""

    _options: Options

    @property
    def _schema(self) -> Any: ...


class _Entry:
    """A place that is in use: its tree while there is one, the handles that use it, and a lock for opening."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tree: Tree | None = None
        self.handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by id: no hash
        forks.inherit(self)

    def forget(self) -> None:
        """In a forked child: have a lock that no other thread has, as those are gone."""
        self.lock = threading.RLock()

    def is_open(self) -> bool:
        """Return whether there is a tree, and not closed."""
        return self.tree is not None and not self.tree.backend.closed

    def adjust(self, tree: Tree, options: Options) -> None:
        """Have `tree` go by the options of the newest handle, and by what all of them want."""
        handles = list(self.handles.values())
        power = any(handle._options.durability == "power" for handle in handles)
        tree.backend.adjust(options, power=power)
        schemas = {id(handle._schema): handle._schema for handle in handles}
        tree.declare(tuple(schema for schema in schemas.values() if schema.fields))


_entries: dict[str, _Entry] = {}
"""By the key of the place: where a state is open, or opened.

Who has the lock of an entry, and it alone, takes that out again; anybody puts one in where none is.
"""


def enter(place: Place, handle: Handle) -> Tree:
    """Return the tree of `place`, opened if need be; `handle` uses it until `leave`, or until it is gone.

    Of the handles' timeouts the newest counts, of their durabilities the strictest. Raises `StateError` if this
    process has the state open with the other choice of `exclusive`, and what opening raises.
    """
    while True:
        entry = _entries.setdefault(place.key, _Entry())
        with entry.lock:
            if _entries.get(place.key) is not entry:
                continue  # it was taken out while this thread waited for it
            try:
                return _enter(entry, place, handle)
            finally:
                _take_out_unused(place.key, entry)


def _enter(entry: _Entry, place: Place, handle: Handle) -> Tree:
    tree, options = entry.tree, handle._options
    if tree is not None and tree.exclusive != options.exclusive and not entry.handles:
        tree.backend.close()  # its handles were dropped without close(); this open may want it otherwise
        tree = None
    if tree is not None and tree.exclusive != options.exclusive:
        raise StateError(
            f"{place.name}: this process has it open {'exclusively' if tree.exclusive else 'without exclusive=True'}; "
            "close that first, or open it the same way"
        )
    if tree is None or tree.backend.closed:
        tree = opened(place, options, handle._schema)
    entry.handles[id(handle)] = handle
    entry.tree = tree
    entry.adjust(tree, options)
    return tree


def opened(place: Place, options: Options, schema: Any, defaults: dict[Any, Plain] | None = None) -> Tree:
    """Return a tree of its own for `place`; raise what opening raises."""
    schemas = (schema,) if schema.fields else ()
    return Tree(lambda tree: place.open(tree, options), None, schemas, defaults, exclusive=options.exclusive)


def leave(place: Place, handle: Handle) -> None:
    """Take `handle` off the users of its tree; the last one closes it."""
    entry = _entries.get(place.key)
    if entry is None:
        return
    with entry.lock:
        tree = entry.tree
        entry.handles.pop(id(handle), None)
        if tree is None:
            return
        entry.adjust(tree, handle._options)
        if not entry.handles:  # also where an error has cut the last close short
            tree.backend.close()
            _take_out_unused(place.key, entry)


def _take_out_unused(key: str, entry: _Entry) -> None:
    """Forget a place without a tree that is open. With its lock."""
    if not entry.is_open() and not entry.handles and _entries.get(key) is entry:
        del _entries[key]


def rest_all() -> None:
    """At exit (see the package): the last process with a journal compacts it. Later writes still work."""
    for entry in list(_entries.values()):
        if entry.tree is not None:
            entry.tree.backend.rest()
