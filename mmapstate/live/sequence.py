"""`StateList`, the live sequence."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import Any, SupportsIndex, cast

from mmapstate.changes import Change
from mmapstate.live.backend import APPEND
from mmapstate.live.node import KINDS, NODES, Node, Step, comparable, copy_of, hint, live
from mmapstate.live.sentinels import SLOW
from mmapstate.values import SURE_INT, Plain

_REACH = 256  # items to each side: how far a child is looked for, before all are told their index anew


class StateList(Node, MutableSequence[Any]):
    """A sequence of the state: behaves as ``list`` does, and every change of it is in the file when its statement ends.

    A value is copied in; reading a container gives a live node. Slices, ``+`` and ``*`` give a new plain ``list`` (of
    live nodes where containers are inside). Containers that a sort, a reversal or the assignment of a slice only moves
    stay live, whoever does it. After an edit by hand, or vacuums that this process has missed, a container inside is
    known by what it holds, by its first entry, or by its place where as many are left; else it is detached. Iteration
    walks the items as they were when the walk began. ``pop`` returns plain data, ``copy`` a plain, deep, consistent
    copy. Writing raises as `StateDict` tells.
    """

    __slots__ = ()

    _items: list[Any]
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Any:
        value = self._tree.cursor.read(self._items, index, SLOW)
        return value if value is not SLOW else self._tree.steady(operator.getitem, self._items, index)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._listed())

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._listed()[::-1])

    def __contains__(self, value: object) -> bool:
        return comparable(value) in self._listed()

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize) -> int:
        """Return the first index of `value` in ``[start:stop]``; raise ValueError if it is not there."""
        return self._listed().index(comparable(value), start, stop)

    def count(self, value: Any) -> int:
        """Return how many items equal `value`."""
        return self._listed().count(comparable(value))

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
        if not hasattr(type(times), "__index__"):
            return NotImplemented
        return self._listed() * times

    __rmul__ = __mul__

    def __iadd__(self, values: Iterable[Any]) -> StateList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> StateList:
        if not hasattr(type(times), "__index__"):
            return NotImplemented
        self._tree.write(self._multiply, operator.index(times))
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._tree.write(self._set_slice, index, None if value is self else self._checked_slice(index, value))
            return
        index = _index(index)
        if self._is_own(value):
            self._tree.write(self._set_node, index, value)
        else:
            self._tree.write(self._set, index, self._checked(value, index))

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
        if not (value.__class__ is int and -SURE_INT < value < SURE_INT):
            value = self._checked(value, len(self._items))
        self._tree.change(self, APPEND, None, value)

    def extend(self, values: Iterable[Any]) -> None:
        """Add all `values` at the end, as one record."""
        self._tree.write(self._extend, None if values is self else self._checked_all(values, len(self._items), 1))

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Remove the item at `index` and return it as plain data; raise IndexError if there is none."""
        return self._tree.write(self._pop, operator.index(index))

    def remove(self, value: Any) -> None:
        """Remove the first item that equals `value`; raise ValueError if there is none. Of racing calls one removes."""
        self._tree.write(self._remove, comparable(value))

    def clear(self) -> None:
        """Remove all items, as one record."""
        self._tree.write(self._delete_slice, slice(None))

    def reverse(self) -> None:
        """Reverse the order in place, as one record."""
        self._tree.write(self._reverse)

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort in place, as one record. `key` gets containers as live nodes, and must not change the state."""
        self._tree.write(self._sort, key, reverse)

    # The inner halves run under the locks, with memory up to date. They take plain values, and `Node`s where told.

    def _set(self, index: int, value: Plain) -> None:
        index = self._resolved(index, "list assignment index out of range")
        self._tree.commit(self, (("set", self._path(), index, value),), self._put, index, value)

    def _set_node(self, index: int, node: Node) -> None:
        if self._items[self._resolved(index, "list assignment index out of range")] is not node:
            self._set(index, self._checked(node, index))

    def _delete(self, index: int, message: str) -> None:
        index = self._resolved(index, message)
        self._tree.commit(self, (("delete", self._path(), index),), self._take, index)

    def _insert(self, index: int, value: Plain) -> None:
        index = slice(index, None).indices(len(self._items))[0]
        self._tree.commit(self, (("insert", self._path(), index, value),), self._put_in, index, value)

    def _append(self, _: None, value: Plain) -> None:
        index = len(self._items)
        self._tree.commit(self, (("insert", self._path(), index, value),), self._put_in, index, value)

    def _extend(self, values: list[Any] | None) -> None:
        end = len(self._items)
        self._splice(end, end, self._items.copy() if values is None else values)

    def _pop(self, index: int) -> Any:
        if not self._items:
            raise IndexError("pop from empty list")
        value = copy_of(self._items[self._resolved(index, "pop index out of range")])
        self._delete(index, "")
        return value

    def _remove(self, value: Any) -> None:
        try:
            index = self._items.index(value)
        except ValueError:
            raise ValueError("list.remove(x): x not in list") from None
        self._delete(index, "")

    def _reverse(self) -> None:
        self._splice(0, len(self._items), self._items[::-1])

    def _sort(self, key: Callable[[Any], Any] | None, reverse: bool) -> None:
        self._splice(0, len(self._items), sorted(self._items, key=key, reverse=reverse))

    def _multiply(self, times: int) -> None:
        if times <= 0:
            self._splice(0, len(self._items), [])
        else:
            end = len(self._items)
            self._splice(end, end, self._items * (times - 1))

    def _set_slice(self, index: slice, values: list[Any] | None) -> None:
        """Put `values`, plain or nodes, at `index`; None stands for this list itself."""
        if values is None:
            values = self._items.copy()
        start, stop, step = index.indices(len(self._items))
        if step == 1:
            self._splice(start, max(start, stop), values)
            return
        indexes = range(start, stop, step)
        if len(indexes) != len(values):
            raise ValueError(
                f"attempt to assign sequence of size {len(values)} to extended slice of size {len(indexes)}"
            )
        changed = {
            each: self._checked(value, each) if value.__class__ in NODES else value
            for each, value in zip(indexes, values, strict=True)
            if value.__class__ not in NODES or self._items[each] is not value
        }
        if changed:
            path = self._path()
            changes = tuple(("set", path, each, value) for each, value in changed.items())
            self._tree.commit(self, changes, self._put_all, changed)

    def _delete_slice(self, index: slice) -> None:
        start, stop, step = index.indices(len(self._items))
        if step == 1:
            self._splice(start, max(start, stop), [])
            return
        indexes = sorted(range(start, stop, step), reverse=True)  # from the end: the others do not move
        if indexes:
            path = self._path()
            self._tree.commit(self, tuple(("delete", path, each) for each in indexes), self._take_slice, index)

    def _splice(self, start: int, stop: int, values: list[Any]) -> None:
        """Put `values`, plain or nodes, in place of ``[start:stop]``.

        What stands in its place already, at both ends, is no part of the change. A node that stands between is moved;
        one from elsewhere is copied, and so is one that comes a second time.
        """
        items = self._items
        first, last = 0, len(values)
        while start < stop and first < last and items[start] is values[first]:
            start += 1
            first += 1
        while start < stop and first < last and items[stop - 1] is values[last - 1]:
            stop -= 1
            last -= 1
        if start == stop and first == last:
            return
        movable = {id(item) for item in items[start:stop] if item.__class__ in NODES}
        held: list[Any] = []
        plain: list[Plain] = []
        for index, value in enumerate(values[first:last], start):
            if id(value) in movable:
                movable.remove(id(value))
                held.append(value)
                plain.append(copy_of(value))
            else:
                copy = self._checked(value, index) if value.__class__ in NODES else value
                held.append(copy)
                plain.append(copy)
        self._tree.commit(self, (("splice", self._path(), start, stop, plain),), self._put_slice, start, stop, held)

    def _put(self, index: int, value: Plain) -> None:
        self._items[index] = live(value, self, index) if value.__class__ in KINDS else value

    def _put_all(self, values: dict[int, Plain]) -> None:
        for index, value in values.items():
            self._put(index, value)

    def _put_in(self, index: int, value: Plain) -> None:
        self._items.insert(index, live(value, self, index) if value.__class__ in KINDS else value)

    def _put_slice(self, start: int, stop: int, values: list[Any]) -> None:
        """Put `values`, plain or nodes of this list, in place of ``[start:stop]``."""
        held = list(values)
        for offset, value in enumerate(values):
            if value.__class__ in KINDS:
                held[offset] = live(value, self, start + offset)
            elif value.__class__ in NODES:
                hint(value, start + offset)
        self._items[start:stop] = held

    def _take(self, index: int) -> None:
        del self._items[index]

    def _take_slice(self, index: slice) -> None:
        del self._items[index]

    def _inverse(self, change: Change) -> Step | None:
        operation, place = change[0], change[2]
        items = self._items
        if operation == "set":
            return items.__setitem__, place, items[place]
        if operation == "insert":
            return _put_back, items, len(items) + 1, slice(place, place + 1), []
        if operation == "delete":
            return _put_back, items, len(items) - 1, slice(place, place), [items[place]]
        stop, values = change[3], change[4]
        length = len(items) - (stop - place) + len(values)
        return _put_back, items, length, slice(place, place + len(values)), items[place:stop]

    def _whole(self) -> Step:
        return _put_back, self._items, None, slice(None), self._items.copy()

    def _key_of(self, child: Node) -> int:
        items = self._items
        near: int = child._key
        for distance in range(_REACH):
            for index in (near - distance, near + distance):
                if 0 <= index < len(items) and items[index] is child:
                    hint(child, index)
                    return index
        for index, item in enumerate(items):  # many have moved far: the others are looked for next
            if item.__class__ in NODES:
                hint(item, index)
        if not (child._key < len(items) and items[child._key] is child):
            raise child._detached()
        return cast("int", child._key)

    def _holds(self, child: Node) -> bool:
        return any(item is child for item in self._items.copy())

    def _resolved(self, index: int, message: str) -> int:
        length = len(self._items)
        if index < 0:
            index += length
        if not 0 <= index < length:
            raise IndexError(message)
        return index

    def _checked_slice(self, index: slice, values: Any) -> list[Any]:
        start, _, step = index.indices(len(self._items))
        try:
            walk = iter(values)
        except TypeError:
            raise TypeError("can only assign an iterable") from None
        return self._checked_all(walk, start, step)

    def _checked_all(self, values: Iterable[Any], start: int, step: int) -> list[Any]:
        """Return plain copies of `values`, which are to stand from `start` on; nodes of this state are left alone."""
        return [
            value if self._is_own(value) else self._checked(value, start + offset * step)
            for offset, value in enumerate(values)
        ]

    def _listed(self) -> list[Any]:
        return cast("list[Any]", self._fetch(list))

    def _compared(self, compare: Callable[[Any, Any], bool], other: Any) -> bool:
        if not isinstance(other, list) and other.__class__ is not StateList:
            return cast("bool", NotImplemented)
        mine = self.plain()
        return compare(mine, mine if other is self else comparable(other))

    def _instead(self, name: str) -> str:  # noqa: ARG002
        return "items have an index, such as [0]"


KINDS[list] = StateList


def _put_back(items: list[Any], length: int | None, place: slice, values: list[Any]) -> None:
    """Put `values` at `place` of `items`, if these are as long as after the change that is undone.

    Else that change was not made: an interrupt came before it. (Where it left the length as it was, all is as it was.)
    """
    if length is None or len(items) == length:
        items[place] = values


def _index(index: Any) -> int:
    if not hasattr(type(index), "__index__"):
        raise TypeError(f"list indices must be integers or slices, not {type(index).__name__}")
    return operator.index(index)
