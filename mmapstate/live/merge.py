"""Bring a live tree up to date: replay what others have changed, or reconcile it with other contents."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, cast

from mmapstate.changes import Change
from mmapstate.live.mapping import StateDict
from mmapstate.live.node import KINDS, NODES, Node, copy_of, hint, live
from mmapstate.live.sequence import StateList
from mmapstate.text.alignment import origins_of_items
from mmapstate.values import Plain, same


def replay(root: StateDict, changes: Iterable[Change]) -> None:
    """Apply `changes`, which are in the file, to the live tree below `root`.

    Raises LookupError, TypeError or AttributeError when one does not fit the tree; those before it are applied then.
    """
    for change in changes:
        operation = change[0]
        node: Any = root
        for key in change[1]:
            node = node._items[key]
        if node.__class__ not in NODES:
            raise TypeError(f"{operation} of something that is no container")
        if operation == "set":
            node._put(change[2], change[3])
        elif operation == "delete":
            node._take(change[2])
        elif operation == "insert":
            node._put_in(change[2], change[3])
        else:
            node._put_slice(change[2], change[3], _moved(node._items[change[2] : change[3]], change[4]))


def _moved(items: list[Any], values: list[Plain]) -> list[Any]:
    """Return `values`, which come in the place of `items`, with the nodes among these for those that they equal.

    A record of ``sort()`` or ``reverse()`` does not tell what it moved. As for who sorts, so for all others a container
    that is there before and after stays live.
    """
    if not items or not values:
        return values
    nodes: dict[str, list[Any]] = defaultdict(list)
    for item in reversed(items):
        if item.__class__ in NODES:
            nodes[repr(copy_of(item))].append(item)
    if not nodes:
        return values
    texts = (repr(value) if value.__class__ in KINDS else "" for value in values)
    return [nodes[text].pop() if nodes.get(text) else value for text, value in zip(texts, values, strict=True)]


def reconcile(node: StateDict, data: dict[Any, Plain]) -> None:
    """Make the contents of `node` equal `data`; a container that is still there stays the same object.

    Which one that is, keys tell, and in a list, where nobody tells, what it holds (see `_origins`).
    """
    entries = {key: _become(node._items.get(key), value, node, key) for key, value in data.items()}
    node._items.clear()
    node._items.update(entries)


def _become(held: Any, value: Plain, parent: Node, key: Any) -> Any:
    """Return what is to stand at `key` for `value`: `held`, with other contents, if it is a container of that kind."""
    kind = KINDS.get(value.__class__)
    if kind is None:
        return value
    if held.__class__ is not kind:
        return live(value, parent, key)
    if kind is StateDict:
        reconcile(held, cast("dict[Any, Plain]", value))
    else:
        _reconcile_list(held, cast("list[Plain]", value))
    hint(held, key)
    return held


def _reconcile_list(node: StateList, data: list[Plain]) -> None:
    """Do what `reconcile` does. The ends that are as they were are only looked at: mostly that is all there is."""
    items = node._items
    shorter = min(len(items), len(data))
    front = next((index for index in range(shorter) if not _is(items[index], data[index])), shorter)
    shorter -= front
    back = next((index for index in range(shorter) if not _is(items[-1 - index], data[-1 - index])), shorter)
    before, after = items[front : len(items) - back], data[front : len(data) - back]
    if before or after:
        has_nodes = any(item.__class__ in NODES for item in before)  # else nobody holds anything of it
        numbers = _origins([copy_of(item) for item in before], after) if has_nodes else [-1] * len(after)
        items[front : len(items) - back] = [
            _become(before[number] if number >= 0 else None, value, node, index)
            for index, (number, value) in enumerate(zip(numbers, after, strict=True), front)
        ]


def _is(item: Any, value: Plain) -> bool:
    """Return whether what a node holds, `item`, is `value` already."""
    kind = KINDS.get(value.__class__)
    if kind is None:
        return same(item, value)
    if item.__class__ is not kind or len(item._items) != len(value):  # type: ignore[arg-type]
        return False
    if kind is StateList:
        return all(map(_is, item._items, cast("list[Plain]", value)))
    entries = cast("dict[Any, Plain]", value)
    return all(
        same(key, name) and _is(item._items[key], entries[name]) for key, name in zip(item._items, entries, strict=True)
    )


def _origins(old: list[Plain], new: list[Plain]) -> list[int]:
    """Return of each new item of a list the number of the old one that it is, -1 for none.

    What is alike is the same item; so is what has the same first entry, often an id or a name, and is alone with it.
    Between the nearest of those, if as many items are left as there were, each is what stood in its place. Else some
    came or went, and who is who would be a guess. A comment can bear one, a container that somebody holds can not: what
    is written through it would go to another item. It is detached, which is told.
    """
    old_marks, new_marks = _marks(old, new)
    numbers, staying = origins_of_items(old_marks, new_marks)
    moved = {number for number in numbers if number >= 0} - staying
    sure = [
        index for index, number in enumerate(numbers) if number in staying and old_marks[number] == new_marks[index]
    ]
    start = first = 0
    for end in [*sure, len(new)]:
        last = numbers[end] if end < len(new) else len(old)
        come = [index for index in range(start, end) if numbers[index] not in moved]
        gone = [number for number in range(first, last) if number not in moved]
        for index, number in zip(come, gone if len(come) == len(gone) else [-1] * len(come), strict=True):
            numbers[index] = number
        start, first = end + 1, last + 1
    return numbers


def _marks(old: list[Plain], new: list[Plain]) -> tuple[list[Plain], list[Plain]]:
    """Return for each item of both what it can be known by: a text that no other has, unless they are the same one."""
    alike = {*map(repr, old)} & {*map(repr, new)}
    names = _alone(old) & _alone(new)

    def marks(values: list[Plain], side: str) -> list[Plain]:
        made: list[Plain] = []
        for index, value in enumerate(values):
            text, name = repr(value), _name(value)
            made.append(f"={text}" if text in alike else f"~{name}" if name in names else f"{side} {index}")
        return made

    return marks(old, "old"), marks(new, "new")


def _alone(values: list[Plain]) -> set[str]:
    return {name for name, count in Counter(map(_name, values)).items() if name and count == 1}


def _name(value: Plain) -> str:
    """Return the first entry of a container, as text."""
    if value.__class__ in KINDS and value:
        return repr(next(iter(value.items()))) if isinstance(value, dict) else repr(cast("list[Plain]", value)[:1])
    return ""
