"""Keys of a state as attributes of its class: which names are none, and which need no further look.

An attribute that is found only by ``__getattr__`` costs as much as the rest of a count. So a class learns the names of
its keys, and finds them by data descriptors.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from mmapstate.live.sentinels import MISSING, SLOW
from mmapstate.values import SURE_KEY

_MOST_SURE_NAMES = 256

INTERNAL = frozenset(
    [
        "_declared",
        "_free",
        "_hidden",
        "_items",
        "_key",
        "_options",
        "_parent",
        "_place",
        "_schema",
        "_sure_names",
        "_thread_lock",
        "_tree",
    ]
)
"""What a state keeps for itself."""

hidden_somewhere = set[str]()
"""What any class of states defines: no class that it may come from learns such a name as a key."""

sure_where_free = set[str]()
"""What classes with free names have learned, and no class defines: one set, since to ask each for its own takes longer.
"""


def names_in(kind: type) -> frozenset[str]:
    """Return the names that hide a key from attributes: those of methods, and what else a class defines."""
    return frozenset[str]().union(*map(own_names, kind.__mro__))


def own_names(kind: type) -> set[str]:
    """Return what a class defines itself, but for the keys that it has learned."""
    learned: set[str] = vars(kind).get("_sure_names", set())
    return {name for name in vars(kind) if not name.startswith("_")} - learned


def is_sure(name: str) -> bool:
    """Return whether a name needs no further look as a key."""
    return len(name) < SURE_KEY and name.isascii()


def has_setter(kind: type, name: str) -> bool:
    """Return whether an attribute that a class defines can be assigned."""
    found = next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
    return found.fset is not None if isinstance(found, property) else hasattr(found, "__set__")


def learn(kind: Any, name: str, *, free: bool) -> None:
    """Make the next use of a key as an attribute faster: the class learns its name. `free`: any name is a key."""
    known = name in kind._sure_names or name in hidden_somewhere
    if not known and is_sure(name) and len(kind._sure_names) < _MOST_SURE_NAMES:
        setattr(kind, name, key_attribute(name))
        kind._sure_names.add(name)
        if free:
            sure_where_free.add(name)


def key_attribute(name: str) -> property:
    """Return a data descriptor that reads the key `name`: found at once, where `__getattr__` is called last of all."""

    def read(state: Any) -> Any:
        value = state._tree.cursor.read(state._items, name, SLOW)
        if value is SLOW:
            value = state._tree.steady(state._items.get, name, MISSING)
            if value is MISSING:
                raise AttributeError(name)  # `__getattr__` is asked next
        return value

    return property(read)


def undeclared(kind: Any, name: str) -> str:
    """Return what to say of a name that a class does not declare."""
    nearest = difflib.get_close_matches(name, kind._declared.fields | kind._hidden, 1)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return (
        f"{kind.__name__} declares no {name!r}{meant}; write STATE[{name!r}] for a key that is not declared, "
        f"_{name} for an attribute that is not stored"
    )


def what_hides(kind: type, name: str) -> str:
    """Return what a name is that hides a key."""
    if callable(getattr(kind, name)):
        return "a method of a state"
    return f"what the class {kind.__name__} defines, and no field"


def refuse_hidden(defaults: Mapping[str, Any], hidden: frozenset[str]) -> None:
    """Raise AttributeError where a default is named like what hides a key."""
    for name in defaults:
        if name in hidden:
            raise AttributeError(
                f"the default {name!r} is named like a method of a state; use mmapstate.open(path, {{{name!r}: ...}})"
            )
