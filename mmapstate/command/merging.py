"""A three-way merge of states: what two sides have made of a common base. Pure: no files.

Mappings are merged key by key, lists item by item where it is clear which item is which. Where both sides have changed
the same thing differently, there is a conflict: of a key, since items of a list have no names; a list with a conflict
inside is in conflict as a whole.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

from mmapstate.text.alignment import origins_of_items
from mmapstate.values import Plain, same

MISSING: Any = object()
"""Stands for the value of a key that is not there."""


class Conflict(NamedTuple):
    """What both sides have made of the value at a path of keys; MISSING: removed."""

    path: tuple[Any, ...]
    theirs: Any
    mine: Any


def merge(
    base: dict[Any, Plain], theirs: dict[Any, Plain], mine: dict[Any, Plain], decided: Container[tuple[Any, ...]] = ()
) -> tuple[dict[Any, Plain], list[Conflict]]:
    """Return `base` with the changes of both sides, and the conflicts, where theirs stands.

    Paths in `decided` are never in conflict: mine counts. Keys come in the order of mine, then those only they have.
    """
    merging = _Merging(decided)
    merged: Any = merging.mappings((), base, theirs, mine)
    return merged, merging.conflicts


class _Merging:
    def __init__(self, decided: Container[tuple[Any, ...]]) -> None:
        self.decided = decided
        self.conflicts: list[Conflict] = []

    def mappings(self, path: tuple[Any, ...], base: Any, theirs: Any, mine: Any) -> dict[Any, Plain]:
        merged = {}
        for key in {**mine, **theirs}:  # of 1 and 1.0, which are one key, the one of mine
            each = (side.get(key, MISSING) for side in (base, theirs, mine))
            value = self.values((*path, key), *each)
            if value is not MISSING:
                merged[key] = value
        return merged

    def values(self, path: tuple[Any, ...], base: Any, theirs: Any, mine: Any) -> Any:
        if same(mine, base):
            return theirs
        if same(theirs, base) or same(theirs, mine):
            return mine
        if isinstance(theirs, dict) and isinstance(mine, dict):
            return self.mappings(path, base if isinstance(base, dict) else {}, theirs, mine)
        if path in self.decided:
            return mine
        if isinstance(base, list) and isinstance(theirs, list) and isinstance(mine, list):
            merged = _merged_lists(base, theirs, mine)
            if merged is not None:
                return merged
        self.conflicts.append(Conflict(path, theirs, mine))
        return theirs


class _Side:
    """One side's items of a list: those of the base by their number there, new ones by the item that they follow."""

    def __init__(self, base: list[Plain], items: list[Plain]) -> None:
        origins = origins_of_items(base, items)
        self.items: dict[int, Plain] = {}
        self.new: dict[int, list[Plain]] = {}
        self.moved = any(number >= 0 and number not in origins.staying for number in origins.numbers)
        last = -1
        for number, item in zip(origins.numbers, items, strict=True):
            if number >= 0:
                self.items[number] = item
                last = number
            else:
                self.new.setdefault(last, []).append(item)


def _merged_lists(base: list[Plain], theirs: list[Plain], mine: list[Plain]) -> list[Plain] | None:
    """Return the merged items; None where that is unclear, or both have changed the same one."""
    their, my = _Side(base, theirs), _Side(base, mine)
    if their.moved or my.moved:
        return None
    merging = _Merging(())
    merged: list[Plain] = []
    for number in range(-1, len(base)):
        if number >= 0:
            each = (side.get(number, MISSING) for side in (their.items, my.items))
            value = merging.values((number,), base[number], *each)
            if merging.conflicts:
                return None
            if value is not MISSING:
                merged.append(value)
        new, added = their.new.get(number, []), my.new.get(number, [])
        merged += new if same(new, added) else new + added
    return merged
