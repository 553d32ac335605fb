"""`StateDict`, the live mapping, and its views."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from operator import getitem
from types import MappingProxyType
from typing import Any, cast

from mmapstate.changes import SET_STARTS, Change
from mmapstate.errors import UnsupportedValueError
from mmapstate.live.backend import ADD, SET
from mmapstate.live.node import KINDS, NODES, Node, Step, comparable, copy_of, live
from mmapstate.live.sentinels import MISSING, SLOW
from mmapstate.values import SURE_INT, SURE_KEY, Plain, normalise_key


class StateDict(Node, MutableMapping[Any, Any]):
    """A mapping of the state: behaves as ``dict`` does, and every change of it is in the file when its statement ends.

    Keys are scalars. A value is copied in; reading a container gives a live `StateDict` or `StateList`. Iteration and
    the views' iterators walk the entries as they were when the walk began. ``|``, like ``dict(...)`` of it, gives a new
    plain ``dict`` (of live nodes where containers are inside). ``pop`` and ``popitem`` return plain data, ``copy`` a
    plain, deep, consistent copy.

    Writing raises `UnsupportedValueError` for what cannot be stored, `DetachedError` when this container is no longer
    part of the state, and what the state's own writes raise (`LockTimeout`, `ClosedError`, `ReadOnlyError`,
    `StateFileError`, OSError). When a write raises, nothing has changed.
    """

    __slots__ = ()

    _items: dict[Any, Any]
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: Any) -> Any:
        value = self._tree.cursor.read(self._items, key, SLOW)
        return value if value is not SLOW else self._tree.steady(getitem, self._items, key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value at `key`, or `default` if there is none."""
        value = self._tree.cursor.read(self._items, key, default)
        return value if value is not SLOW else self._tree.steady(self._items.get, key, default)

    def __contains__(self, key: object) -> bool:
        value = self._tree.cursor.read(self._items, key, MISSING)
        return value is not MISSING if value is not SLOW else self._tree.steady(self._items.__contains__, key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._listed(list))

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._listed(list)[::-1])

    def keys(self) -> KeysView[Any]:
        """Return a set-like view of the keys."""
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values."""
        return _Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a set-like view of the entries."""
        return _Items(self)

    def copy(self) -> dict[Any, Any]:
        """Return a plain, deep, consistent copy."""
        return cast("dict[Any, Any]", self.plain())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mine = self.plain()
        return bool(mine == (mine if other is self else dict(comparable(other))))

    def __or__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**_shallow(self), **_shallow(other)}

    def __ror__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**other, **_shallow(self)}

    def __ior__(self, other: Any) -> StateDict:
        self.update(other)
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        if not (key.__class__ is str and len(key) < SURE_KEY and key.isascii()):
            key = self._checked_key(key)
        if value.__class__ is int and -SURE_INT < value < SURE_INT:  # spares a counter three calls
            self._tree.change(self, SET, key, value)
        elif self._is_own(value):
            self._tree.write(self._set_node, key, value)
        else:
            self._tree.change(self, SET, key, self._checked(value, key))

    def __delitem__(self, key: Any) -> None:
        self._tree.write(self._delete, key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value at `key`; where there is none, store `default` first. Of racing calls one stores."""
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        key = self._checked_key(key)
        return self._tree.write(self._setdefault, key, self._checked(default, key))

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove `key` and return its value as plain data, or `default` if there is none; else raise KeyError."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        return self._tree.write(self._pop, key, default)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the last entry and return it as key and plain value; raise KeyError if there is none."""
        return cast("tuple[Any, Any]", self._tree.write(self._popitem))

    def clear(self) -> None:
        """Remove all entries, as one record."""
        self._tree.write(self._clear)

    def update(self, other: Any = (), /, **entries: Any) -> None:
        """Store all entries of `other` (a mapping, or pairs) and `entries`, as one record."""
        given = _shallow(other) if other.__class__ in NODES or hasattr(other, "keys") else dict(other)
        checked: dict[Any, Any] = {}
        for name, value in (*given.items(), *entries.items()):
            key = self._checked_key(name)
            checked[key] = value if self._is_own(value) else self._checked(value, key)
        if checked:
            self._tree.write(self._update, checked)

    def increment(self, key: Any, by: Any = 1) -> Any:
        """Add `by` to the number at `key` and return the sum.

        A key that is not there begins at 0 (one that a class declares, at its default).

        One atomic step: no two callers, in whatever thread or process, get the same sum for the same counter. Raises
        `UnsupportedValueError` (a TypeError) where `by`, or what is there, is no int or float.
        """
        if not (key.__class__ is str and (key in SET_STARTS or (len(key) < SURE_KEY and key.isascii()))):
            key = self._checked_key(key)
        if by.__class__ is not int or not -SURE_INT < by < SURE_INT:
            by = self._checked(by, key)
            self._refuse_no_number(by, key, "add")
        return self._tree.change(self, ADD, key, by)

    # The inner halves run under the locks, with memory up to date. They take plain values, and `Node`s where told.

    def _set(self, key: Any, value: Plain) -> None:
        self._tree.commit(self, (("set", self._path(), key, value),), self._put, key, value)

    def _set_node(self, key: Any, node: Node) -> None:
        if self._items.get(key) is node:
            return  # `state.queue += [x]` ends with an assignment of the node to its own place
        self._set(key, self._checked(node, key))

    def _sum(self, key: Any, by: Any) -> Any:
        """Return what stands at `key` plus `by`; raise `UnsupportedValueError` where that cannot be stored."""
        value = self._items.get(key, MISSING)
        if value is MISSING:
            value = self._start_of(key)
        if value.__class__ is int and by.__class__ is int and -SURE_INT < value < SURE_INT:
            return value + by
        self._refuse_no_number(value, key, "add to")
        try:
            return self._checked(value + by, key)
        except OverflowError as error:  # an integer that no float is large enough for
            raise self._placed(UnsupportedValueError(f"the sum cannot be had: {error}"), key) from None

    def _start_of(self, key: Any) -> Any:  # noqa: ARG002
        """Return what a counter that is not there begins at."""
        return 0

    def _increment(self, key: Any, by: Any) -> Any:
        total = self._sum(key, by)
        self._set(key, total)
        return total

    def _refuse_no_number(self, value: Any, key: Any, use: str) -> None:
        if value.__class__ is not int and value.__class__ is not float:
            raise self._placed(
                UnsupportedValueError(f"increment needs an int or a float to {use}, not {type(value).__name__}"), key
            )

    def _delete(self, key: Any) -> None:
        if key not in self._items:
            raise KeyError(key)
        key = self._stored(key)
        self._tree.commit(self, (("delete", self._path(), key),), self._take, key)

    def _setdefault(self, key: Any, value: Plain) -> Any:
        if key not in self._items:
            self._set(key, value)
        return self._items[key]

    def _pop(self, key: Any, default: tuple[Any, ...]) -> Any:
        if default and key not in self._items:
            return default[0]
        value = copy_of(self._items[key])
        self._delete(key)
        return value

    def _popitem(self) -> tuple[Any, Any]:
        if not self._items:
            raise KeyError("popitem(): dictionary is empty")
        key = next(reversed(self._items))
        return key, self._pop(key, ())

    def _clear(self) -> None:
        if self._items:
            path = self._path()
            self._tree.commit(self, tuple(("delete", path, key) for key in self._items), self._take_all)

    def _update(self, entries: dict[Any, Any]) -> None:
        """Set `entries`, plain values or nodes; a node that stands in its place already stays."""
        changed = {
            key: self._checked(value, key) if value.__class__ in NODES else value
            for key, value in entries.items()
            if value.__class__ not in NODES or self._items.get(key) is not value
        }
        if changed:
            path = self._path()
            changes = tuple(("set", path, key, value) for key, value in changed.items())
            self._tree.commit(self, changes, self._put_all, changed)

    def _put(self, key: Any, value: Plain) -> None:
        self._items[key] = live(value, self, key) if value.__class__ in KINDS else value

    def _put_all(self, entries: dict[Any, Plain]) -> None:
        for key, value in entries.items():
            self._put(key, value)

    def _take(self, key: Any) -> None:
        del self._items[key]

    def _take_all(self) -> None:
        self._items.clear()

    def _inverse(self, change: Change) -> Step | None:
        items, key = self._items, change[2]
        if change[0] == "set":
            return (items.__setitem__, key, items[key]) if key in items else (items.pop, key, None)
        last = next(reversed(items))
        if key == last:
            return items.__setitem__, last, items[key]
        return None  # its place in the order is known by all the others alone

    def _whole(self) -> Step:
        return _put_back, self._items, self._items.copy()

    def _key_of(self, child: Node) -> Any:
        if self._items.get(child._key) is not child:
            raise child._detached()
        return child._key

    def _holds(self, child: Node) -> bool:
        return self._items.get(child._key) is child

    def _checked_key(self, key: Any) -> Any:
        hash(key)  # what dict raises, it raises
        try:
            return normalise_key(key)
        except UnsupportedValueError as error:
            if key.__class__ is str and key in self._items:  # of a JSON file, whose keys may be longer than YAML's
                return key
            raise self._placed(error) from None

    def _stored(self, key: Any) -> Any:
        """Return the key here that equals `key`, which may be of a type that cannot be stored, such as Decimal(1)."""
        try:
            return normalise_key(key)
        except UnsupportedValueError:
            return next(stored for stored in self._items if stored == key)

    def _listed(self, kind: Callable[[dict[Any, Any]], list[Any]]) -> list[Any]:
        return cast("list[Any]", self._fetch(kind))

    def _instead(self, name: str) -> str:
        return f'write ["{name}"] for the key'


KINDS[dict] = StateDict


class _View:
    """What `dict`'s views do and those of ``collections.abc`` do not, or not in one look."""

    __slots__ = ()

    _mapping: StateDict
    _name = ""

    @staticmethod
    def _list(items: dict[Any, Any]) -> list[Any]:
        raise NotImplementedError

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The mapping that this is a view of, read-only."""
        return MappingProxyType(self._mapping)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping._listed(self._list))

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._mapping._listed(self._list)[::-1])

    def __repr__(self) -> str:
        return f"{self._name}({self._mapping._listed(self._list)!r})"


class _Keys(_View, KeysView[Any]):
    __slots__ = ()

    _name = "dict_keys"
    _list = list  # type: ignore[assignment]


class _Values(_View, ValuesView[Any]):
    __slots__ = ()

    _name = "dict_values"

    @staticmethod
    def _list(items: dict[Any, Any]) -> list[Any]:
        return list(items.values())

    def __contains__(self, value: object) -> bool:
        return value in self._mapping._listed(self._list)


class _Items(_View, ItemsView[Any, Any]):
    __slots__ = ()

    _name = "dict_items"

    @staticmethod
    def _list(items: dict[Any, Any]) -> list[Any]:
        return list(items.items())

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and super().__contains__(item)


def _put_back(items: dict[Any, Any], copy: dict[Any, Any]) -> None:
    items.clear()
    items.update(copy)


def _shallow(mapping: Any) -> dict[Any, Any]:
    """Return the entries of a mapping, or of what has ``keys()``, in a new dict; those of a node are of one moment."""
    if mapping.__class__ in NODES:
        return cast("dict[Any, Any]", mapping._tree.steady(dict, mapping._items))
    return {key: mapping[key] for key in mapping.keys()}  # noqa: SIM118 - all that ``dict.update`` asks for
