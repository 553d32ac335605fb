"""Live containers: `StateDict` and `StateList`, which hand their changes to a tree and know nothing of files.

A node holds its children in a plain ``dict`` or ``list``: scalars as they are, containers as nodes. It knows its parent
and its key there (in a list a hint, searched outward when stale), not its path: an insert at the front of a long list
touches no child.

Every writing method is one atomic step: `Tree.write` takes the locks and catches up, then the method's inner half (named
with an underscore) decides on what is there, and hands changes to `Tree.commit`, which publishes them in memory when
they are in the file. The inner halves named ``_put...`` and ``_take...`` change memory only; replay uses the same ones.
"""

from __future__ import annotations

import operator
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    MutableSequence,
    ValuesView,
)
from typing import Any, NoReturn, Protocol, SupportsIndex, TypeVar, cast

from mmapstate import snapshot
from mmapstate.changes import Change
from mmapstate.errors import DetachedError, UnsupportedValueError
from mmapstate.values import Live, Plain, normalise, normalise_key

__all__ = ["StateDict", "StateList", "Tree", "adopt_root", "new_root", "plain_root", "reconcile", "replay", "use_tree"]

_T = TypeVar("_T")


class Tree(Protocol):
    """What stands behind the nodes: where changes go, and where others' changes come from."""

    file: str
    """The name of the whole in messages."""
    root: StateDict
    """The container at the top; its ``_items`` stay the same object for ever."""
    applying: bool
    """Is true while memory is half-way from one state to the next."""

    def refresh(self) -> None:
        """Bring memory up to date with what others committed; fast when there is nothing new."""

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Return ``decide(*args)``, which may call `commit`, run under the locks with memory up to date."""

    def commit(self, changes: tuple[Change, ...], publish: Callable[..., None], *args: Any) -> None:
        """Put `changes` into the file as one record, then call ``publish(*args)``."""


class _Node(Live):
    __slots__ = ("_items", "_key", "_parent", "_tree")

    _items: Any
    _tree: Tree
    _parent: _Node | None
    _key: Any
    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} is part of a state: store a container there and read it back")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} has no attribute {name!r} to set; {self._instead(name)}")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} has no attribute {name!r}; {self._instead(name)}")

    def __len__(self) -> int:
        self._tree.refresh()
        return len(self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_plain(self._items)!r})"

    def __copy__(self) -> Any:
        return self.plain()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.plain()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return _identity, (self.plain(),)

    def plain(self) -> Any:
        """Return the contents as plain data: a deep, consistent copy."""
        return self._tree.steady(_plain, self._items)

    def _instead(self, name: str) -> str:
        return f"write [{name!r}] for the key"

    def _path(self) -> list[Any]:
        """Return the keys from the root to this container. Needs the locks, as an index may move."""
        keys: list[Any] = []
        node = self
        parent = node._parent
        while parent is not None:
            keys.append(parent._key_of(node))
            node = parent
            parent = node._parent
        if node._items is not self._tree.root._items:
            raise DetachedError(
                f"{self._tree.file}: this container was removed from the state, or replaced in it; "
                "read it again from the state"
            )
        keys.reverse()
        return keys

    def _key_of(self, child: _Node) -> Any:
        raise NotImplementedError

    def _level(self) -> int:
        """Return how many containers stand around this one's children."""
        level = 1
        parent = self._parent
        while parent is not None:
            level += 1
            parent = parent._parent
        return level

    def _checked(self, value: Any, *place: Any) -> Plain:
        """Return `value` normalised for its place here; the error tells that place from the root of the state."""
        try:
            return normalise(value, 0 if value.__class__ in _FLAT else self._level())
        except UnsupportedValueError as error:
            raise self._told(error, *place) from None

    def _told(self, error: UnsupportedValueError, *place: Any) -> UnsupportedValueError:
        try:
            path = self._path()
        except (DetachedError, LookupError):
            path = []
        return error.within((*path, *place), self._tree.file)

    def _fetch(self, key: Any) -> Any:
        return self._items[key]


class StateDict(_Node, MutableMapping[Any, Any]):
    """A mapping of the state: behaves as ``dict`` does, and every change of it is in the file when its statement ends.

    Keys are scalars. A value is copied in; reading a container gives a live `StateDict` or `StateList`. Iteration and
    the views' iterators walk the entries as they were when the walk began. ``pop`` and ``popitem`` return plain data,
    ``copy`` a plain, deep, consistent copy.

    Writing raises `UnsupportedValueError` for what cannot be stored, `DetachedError` when this container is no longer
    part of the state, and what the state's own writes raise (`LockTimeout`, `ClosedError`, `ReadOnlyError`,
    `StateFileError`, OSError). When a write raises, nothing has changed.
    """

    __slots__ = ()

    _items: dict[Any, Any]

    def __getitem__(self, key: Any) -> Any:
        tree = self._tree
        tree.refresh()
        value = self._items[key]
        if tree.applying:
            return tree.steady(self._fetch, key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value at `key`, or `default` if there is none."""
        tree = self._tree
        tree.refresh()
        value = self._items.get(key, default)
        if tree.applying:
            return tree.steady(self._items.get, key, default)
        return value

    def __contains__(self, key: object) -> bool:
        tree = self._tree
        tree.refresh()
        found = key in self._items
        if tree.applying:
            return tree.steady(self._items.__contains__, key)
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tree.steady(list, self._items))

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._tree.steady(list, self._items))

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
        if isinstance(other, _Node):
            other = other.plain()
        if not isinstance(other, Mapping):
            return NotImplemented
        return bool(self.plain() == dict(other))

    def __or__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**self.copy(), **other}

    def __ror__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**other, **self.copy()}

    def __ior__(self, other: Any) -> StateDict:  # type: ignore[misc]
        self.update(other)
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        key = self._checked_key(key)
        if value.__class__ in _FLAT or not isinstance(value, _Node):
            value = self._checked(value, key)
        self._tree.write(self._set, key, value)

    def __delitem__(self, key: Any) -> None:
        self._tree.write(self._delete, key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value at `key`; where there is none, store `default` first. Of racing calls one stores."""
        if key in self:
            try:
                return self[key]
            except KeyError:  # deleted meanwhile
                pass
        key = self._checked_key(key)
        return self._tree.write(self._setdefault, key, self._checked(default, key))

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove `key` and return its value as plain data, or `default` if there is none; else raise KeyError."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        return self._tree.write(self._pop, key, default)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the last entry and return it as key and plain value; raise KeyError if there is none."""
        return self._tree.write(self._popitem)

    def clear(self) -> None:
        """Remove all entries, as one record."""
        self._tree.write(self._clear)

    def update(self, other: Any = (), /, **entries: Any) -> None:  # type: ignore[override]
        """Store all entries of `other` (a mapping, or pairs) and `entries`, as one record."""
        if isinstance(other, Mapping) or hasattr(other, "keys"):
            pairs = [(key, other[key]) for key in other.keys()]  # noqa: SIM118 - as dict.update does it
        else:
            pairs = list(dict(other).items())
        pairs.extend(entries.items())
        checked: dict[Any, Any] = {}
        for key, value in pairs:
            key = self._checked_key(key)
            checked[key] = value if isinstance(value, _Node) else self._checked(value, key)
        if checked:
            self._tree.write(self._update, checked)

    # The inner halves run under the locks, with memory up to date.

    def _set(self, key: Any, value: Any) -> None:
        if value.__class__ not in _FLAT and isinstance(value, _Node):
            if self._items.get(key) is value:
                return  # `state.queue += [x]` ends with an assignment of the node to its own place
            value = self._checked(value, key)
        self._tree.commit((("set", self._path(), key, value),), self._put, key, value)

    def _delete(self, key: Any) -> None:
        if key not in self._items:
            raise KeyError(key)
        self._tree.commit((("delete", self._path(), key),), self._take, key)

    def _setdefault(self, key: Any, value: Plain) -> Any:
        if key not in self._items:
            self._set(key, value)
        return self._items[key]

    def _pop(self, key: Any, default: tuple[Any, ...]) -> Any:
        if key not in self._items and default:
            return default[0]
        value = _plain(self._items[key])
        self._delete(key)
        return value

    def _popitem(self) -> tuple[Any, Any]:
        if not self._items:
            raise KeyError("popitem(): dictionary is empty")
        key = next(reversed(self._items))
        return key, self._pop(key, ())

    def _clear(self) -> None:
        path = self._path()
        changes = tuple(("delete", path, key) for key in self._items)
        if changes:
            self._tree.commit(changes, self._take_all)

    def _update(self, entries: dict[Any, Any]) -> None:
        path = self._path()
        entries = {
            key: self._checked(value, key) if isinstance(value, _Node) else value
            for key, value in entries.items()
            if not (isinstance(value, _Node) and self._items.get(key) is value)
        }
        if entries:
            changes = tuple(("set", path, key, value) for key, value in entries.items())
            self._tree.commit(changes, self._put_all, entries)

    def _put(self, key: Any, value: Plain) -> None:
        old = self._items.get(key)
        self._items[key] = _live(value, self, key) if value.__class__ in _CONTAINERS else value
        if old.__class__ in _NODES:
            _DETACH(old, None)

    def _take(self, key: Any) -> None:
        old = self._items.pop(key)
        if old.__class__ in _NODES:
            _DETACH(old, None)

    def _take_all(self) -> None:
        for key in list(self._items):
            self._take(key)

    def _put_all(self, entries: dict[Any, Plain]) -> None:
        for key, value in entries.items():
            self._put(key, value)

    def _key_of(self, child: _Node) -> Any:
        return child._key

    def _checked_key(self, key: Any) -> Any:
        if key.__class__ is not str and hasattr(key, "__hash__") and key.__hash__ is None:
            raise TypeError(f"unhashable type: {type(key).__name__!r}")
        try:
            return normalise_key(key)
        except UnsupportedValueError as error:
            raise self._told(error) from None


class _Keys(KeysView[Any]):
    __slots__ = ()
    _mapping: StateDict

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._mapping)

    def __repr__(self) -> str:
        return f"dict_keys({list(self)!r})"


class _Values(ValuesView[Any]):
    __slots__ = ()
    _mapping: StateDict

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping._tree.steady(_listed_values, self._mapping._items))

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._mapping._tree.steady(_listed_values, self._mapping._items))

    def __repr__(self) -> str:
        return f"dict_values({list(self)!r})"


class _Items(ItemsView[Any, Any]):
    __slots__ = ()
    _mapping: StateDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(self._mapping._tree.steady(_listed_items, self._mapping._items))

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        return reversed(self._mapping._tree.steady(_listed_items, self._mapping._items))

    def __repr__(self) -> str:
        return f"dict_items({list(self)!r})"


class StateList(_Node, MutableSequence[Any]):
    """A sequence of the state: behaves as ``list`` does, and every change of it is in the file when its statement ends.

    A value is copied in; reading a container gives a live node. Slices, ``+`` and ``*`` give a new plain ``list`` (of
    live nodes where containers are inside). Iteration walks the items as they were when the walk began. ``pop``
    returns plain data, ``copy`` a plain, deep, consistent copy. Writing raises as `StateDict` tells.
    """

    __slots__ = ()

    _items: list[Any]

    def __getitem__(self, index: Any) -> Any:
        tree = self._tree
        tree.refresh()
        value = self._items[index]
        if tree.applying:
            return tree.steady(self._fetch, index)
        return value

    def __iter__(self) -> Iterator[Any]:
        return iter(self._listed())

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._listed())

    def __contains__(self, value: object) -> bool:
        return _comparable(value) in self._comparables()

    def index(self, value: Any, start: Any = 0, stop: Any = None) -> int:
        """Return the first index of `value` in ``[start:stop]``; raise ValueError if it is not there."""
        items = self._comparables()
        return items.index(_comparable(value), start, len(items) if stop is None else stop)

    def count(self, value: Any) -> int:
        """Return how many items equal `value`."""
        return self._comparables().count(_comparable(value))

    def copy(self) -> list[Any]:
        """Return a plain, deep, consistent copy."""
        return cast("list[Any]", self.plain())

    def __eq__(self, other: object) -> bool:
        return self._compared(operator.eq, other)

    def __lt__(self, other: object) -> bool:
        return self._compared(operator.lt, other)

    def __le__(self, other: object) -> bool:
        return self._compared(operator.le, other)

    def __gt__(self, other: object) -> bool:
        return self._compared(operator.gt, other)

    def __ge__(self, other: object) -> bool:
        return self._compared(operator.ge, other)

    def __add__(self, other: Any) -> list[Any]:
        if not isinstance(other, list | StateList):
            return NotImplemented
        return [*self._listed(), *other]

    def __radd__(self, other: Any) -> list[Any]:
        if not isinstance(other, list):
            return NotImplemented
        return [*other, *self._listed()]

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        return self._listed() * times

    __rmul__ = __mul__

    def __iadd__(self, values: Iterable[Any]) -> StateList:  # type: ignore[override,misc]
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> StateList:
        self._tree.write(self._multiply, operator.index(times))
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            values = None if value is self else self._checked_all(value, "can only assign an iterable")
            self._tree.write(self._set_slice, index, values)
            return
        index = _index(index)
        if value.__class__ in _FLAT or not isinstance(value, _Node):
            value = self._checked(value, index)
        self._tree.write(self._set, index, value)

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            self._tree.write(self._delete_slice, index)
        else:
            self._tree.write(self._delete, _index(index), "list assignment index out of range")

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Insert `value` before `index`."""
        index = operator.index(index)
        self._tree.write(self._insert, index, self._checked(value, index))

    def append(self, value: Any) -> None:
        """Add `value` at the end. No value that another process appends is lost."""
        self._tree.write(self._append, self._checked(value, len(self._items)))

    def extend(self, values: Iterable[Any]) -> None:
        """Add all `values` at the end, as one record."""
        self._tree.write(self._extend, None if values is self else self._checked_all(values))

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Remove the item at `index` and return it as plain data; raise IndexError if there is none."""
        return self._tree.write(self._pop, operator.index(index))

    def remove(self, value: Any) -> None:
        """Remove the first item that equals `value`; raise ValueError if there is none. Of racing calls one removes."""
        self._tree.write(self._remove, value)

    def clear(self) -> None:
        """Remove all items."""
        self._tree.write(self._delete_slice, slice(None))

    def reverse(self) -> None:
        """Reverse the order in place, as one record; containers inside stay live."""
        self._tree.write(self._arrange, _reversed)

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort in place, as one record; containers inside stay live. `key` gets them as live nodes."""
        self._tree.write(self._arrange, lambda items: sorted(items, key=key, reverse=reverse))

    # The inner halves run under the locks, with memory up to date.

    def _set(self, index: int, value: Any) -> None:
        index = self._resolved(index, "list assignment index out of range")
        if value.__class__ not in _FLAT and isinstance(value, _Node):
            if self._items[index] is value:
                return
            value = self._checked(value, index)
        self._tree.commit((("set", self._path(), index, value),), self._put, index, value)

    def _delete(self, index: int, message: str) -> None:
        index = self._resolved(index, message)
        self._tree.commit((("delete", self._path(), index),), self._take, index)

    def _insert(self, index: int, value: Plain) -> None:
        length = len(self._items)
        index = max(0, index + length) if index < 0 else min(index, length)
        self._tree.commit((("insert", self._path(), index, value),), self._put_in, index, value)

    def _append(self, value: Plain) -> None:
        index = len(self._items)
        self._tree.commit((("insert", self._path(), index, value),), self._put_in, index, value)

    def _extend(self, values: list[Plain] | None) -> None:
        end = len(self._items)
        self._splice(end, end, _plain(self._items) if values is None else values)

    def _pop(self, index: int) -> Any:
        if not self._items:
            raise IndexError("pop from empty list")
        index = self._resolved(index, "pop index out of range")
        value = _plain(self._items[index])
        self._delete(index, "pop index out of range")
        return value

    def _remove(self, value: Any) -> None:
        index = _plain(self._items).index(_comparable(value))
        self._delete(index, "list.remove(x): x not in list")

    def _multiply(self, times: int) -> None:
        if times <= 0:
            self._splice(0, len(self._items), [])
        elif times > 1:
            end = len(self._items)
            self._splice(end, end, [copy for _ in range(times - 1) for copy in _plain(self._items)])

    def _set_slice(self, index: slice, values: list[Plain] | None) -> None:
        if values is None:
            values = _plain(self._items)
        start, stop, step = index.indices(len(self._items))
        if step == 1:
            self._splice(start, max(start, stop), values)
            return
        indexes = range(start, stop, step)
        if len(indexes) != len(values):
            raise ValueError(
                f"attempt to assign sequence of size {len(values)} to extended slice of size {len(indexes)}"
            )
        path = self._path()
        changes = tuple(("set", path, each, value) for each, value in zip(indexes, values, strict=True))
        if changes:
            self._tree.commit(changes, self._put_all, list(indexes), values)

    def _delete_slice(self, index: slice) -> None:
        start, stop, step = index.indices(len(self._items))
        if step == 1:
            self._splice(start, max(start, stop), [])
            return
        path = self._path()
        indexes = sorted(range(start, stop, step), reverse=True)  # from the end: the others do not move
        changes = tuple(("delete", path, each) for each in indexes)
        if changes:
            self._tree.commit(changes, self._take_all, indexes)

    def _splice(self, start: int, stop: int, values: list[Plain]) -> None:
        if start != stop or values:
            change = ("splice", self._path(), start, stop, values)
            self._tree.commit((change,), self._put_slice, start, stop, values)

    def _arrange(self, arrange: Callable[[list[Any]], list[Any]]) -> None:
        before = list(self._items)
        after = arrange(before)
        if list(map(id, before)) != list(map(id, self._items)):
            raise ValueError("list modified during sort")
        if list(map(id, after)) != list(map(id, before)):
            change = ("splice", self._path(), 0, len(after), _plain(after))
            self._tree.commit((change,), self._put_order, after)

    def _put(self, index: int, value: Plain) -> None:
        old = self._items[index]
        self._items[index] = _live(value, self, index) if value.__class__ in _CONTAINERS else value
        if old.__class__ in _NODES:
            _DETACH(old, None)

    def _put_all(self, indexes: list[int], values: list[Plain]) -> None:
        for index, value in zip(indexes, values, strict=True):
            self._put(index, value)

    def _put_in(self, index: int, value: Plain) -> None:
        self._items.insert(index, _live(value, self, index) if value.__class__ in _CONTAINERS else value)

    def _put_slice(self, start: int, stop: int, values: list[Plain]) -> None:
        gone = self._items[start:stop]
        self._items[start:stop] = [
            _live(value, self, start + offset) if value.__class__ in _CONTAINERS else value
            for offset, value in enumerate(values)
        ]
        for old in gone:
            if old.__class__ in _NODES:
                _DETACH(old, None)

    def _put_order(self, items: list[Any]) -> None:
        self._items[:] = items

    def _take(self, index: int) -> None:
        old = self._items.pop(index)
        if old.__class__ in _NODES:
            _DETACH(old, None)

    def _take_all(self, indexes: list[int]) -> None:
        for index in indexes:
            self._take(index)

    def _key_of(self, child: _Node) -> int:
        """Return where `child` stands now: at its hint, or nearby."""
        items = self._items
        hint = min(cast("int", child._key), len(items) - 1)
        for distance in range(len(items)):
            for index in (hint + distance, hint - distance):
                if 0 <= index < len(items) and items[index] is child:
                    _HINT(child, index)
                    return index
        raise DetachedError(f"{self._tree.file}: this container is no longer in its list; read it again from the state")

    def _resolved(self, index: int, message: str) -> int:
        length = len(self._items)
        if index < 0:
            index += length
        if not 0 <= index < length:
            raise IndexError(message)
        return index

    def _checked_all(self, values: Any, message: str | None = None) -> list[Plain]:
        if message is not None and not isinstance(values, Iterable):
            raise TypeError(message)
        return [self._checked(value, index) for index, value in enumerate(values)]

    def _listed(self) -> list[Any]:
        return self._tree.steady(list, self._items)

    def _comparables(self) -> list[Any]:
        return cast("list[Any]", self.plain())

    def _compared(self, compare: Callable[[Any, Any], Any], other: object) -> bool:
        if isinstance(other, _Node):
            other = other.plain()
        if not isinstance(other, list):
            return NotImplemented
        return bool(compare(self.plain(), other))

    def _instead(self, name: str) -> str:
        return "items have an index, such as [0]"


_FLAT = frozenset({int, str, float, bool, bytes, type(None)})  # the types that are no container and no node
_CONTAINERS = frozenset({dict, list})
_NODES = frozenset({StateDict, StateList})
# __setattr__ refuses all names; the slots are set by their descriptors.
_ITEMS: Any = _Node.__dict__["_items"].__set__
_TREE: Any = _Node.__dict__["_tree"].__set__
_DETACH: Any = _Node.__dict__["_parent"].__set__
_HINT: Any = _Node.__dict__["_key"].__set__


def new_root(tree: Any) -> StateDict:
    """Return an empty mapping that is the top of `tree`."""
    return _node(StateDict, tree, None, None, {})


def adopt_root(node: StateDict, root: StateDict) -> None:
    """Make `node` another face of `root`: the same entries, the same tree."""
    _fill(node, root._tree, None, None, root._items)


def use_tree(node: StateDict, tree: Any) -> None:
    """Send the writes of this one node elsewhere."""
    _TREE(node, tree)


def plain_root(root: StateDict) -> dict[Any, Plain]:
    """Return a plain, deep copy of the tree below `root` as memory has it now."""
    return cast("dict[Any, Plain]", _plain(root._items))


def replay(root: StateDict, changes: Iterable[Change]) -> None:
    """Apply `changes`, which are in the file, to the live tree below `root`.

    Raises LookupError, TypeError or AttributeError when one does not fit the tree.
    """
    for change in changes:
        operation, path = change[0], change[1]
        node: Any = root
        for key in path:
            node = node._items[key]
        if node.__class__ not in _NODES:
            raise TypeError(f"{operation} of something that is no container")
        if operation == "set":
            node._put(change[2], change[3])
        elif operation == "delete":
            node._take(change[2])
        elif operation == "insert":
            node._put_in(change[2], change[3])
        else:
            node._put_slice(change[2], change[3], change[4])


def reconcile(node: StateDict, data: dict[Any, Plain]) -> None:
    """Make the contents of `node` equal `data`; a container whose path is mapping keys only stays the same object."""
    old = dict(node._items)
    new: dict[Any, Any] = {}
    for key, value in data.items():
        kept = old.get(key)
        if kept.__class__ is StateDict and value.__class__ is dict:
            reconcile(kept, cast("dict[Any, Plain]", value))
            new[key] = old.pop(key)
        elif kept.__class__ is StateList and value.__class__ is list:
            kept._put_slice(0, len(kept._items), value)
            new[key] = old.pop(key)
        else:
            new[key] = _live(value, node, key) if value.__class__ in _CONTAINERS else value
    node._items.clear()
    node._items.update(new)
    for gone in old.values():
        if gone.__class__ in _NODES:
            _DETACH(gone, None)


def _fill(node: _Node, tree: Any, parent: _Node | None, key: Any, items: Any) -> None:
    _TREE(node, tree)
    _DETACH(node, parent)
    _HINT(node, key)
    _ITEMS(node, items)


def _node(kind: Any, tree: Any, parent: _Node | None, key: Any, items: Any) -> Any:
    node = kind.__new__(kind)
    _fill(node, tree, parent, key, items)
    return node


def _live(value: Any, parent: _Node, key: Any) -> _Node:
    """Return a node for the plain container `value`, and nodes for the containers in it."""
    tree = parent._tree
    if value.__class__ is dict:
        entries: dict[Any, Any] = {}
        made = _node(StateDict, tree, parent, key, entries)
        for name, item in value.items():
            entries[name] = _live(item, made, name) if item.__class__ in _CONTAINERS else item
    else:
        items: list[Any] = []
        made = _node(StateList, tree, parent, key, items)
        for index, item in enumerate(value):
            items.append(_live(item, made, index) if item.__class__ in _CONTAINERS else item)
    return cast("_Node", made)


def _plain(value: Any) -> Any:
    """Return a deep copy of what a node holds (or of one item of it) as plain data."""
    if value.__class__ in _NODES:
        value = value._items
    if value.__class__ is dict:
        return {key: _plain(item) if item.__class__ in _NODES else item for key, item in value.items()}
    if value.__class__ is list:
        return [_plain(item) if item.__class__ in _NODES else item for item in value]
    return value


def _comparable(value: Any) -> Any:
    return value.plain() if isinstance(value, _Node) else value


def _index(index: Any) -> int:
    if not hasattr(type(index), "__index__"):
        raise TypeError(f"list indices must be integers or slices, not {type(index).__name__}")
    return operator.index(index)


def _listed_values(items: dict[Any, Any]) -> list[Any]:
    return list(items.values())


def _listed_items(items: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return list(items.items())


def _reversed(items: list[Any]) -> list[Any]:
    return items[::-1]


def _identity(value: Any) -> Any:
    return value


snapshot.represent_as_plain(_Node, _Node.plain)
