"""Three states to one: what two sides have made of a common base. Pure: no files.

Mappings are merged key by key, lists item by item where it is clear which item is which. What both have changed, each
to something else, is a conflict: at a key, as the items of a list have no names. A list with a conflict inside is one.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

from mmapstate.text.alignment import origins_of_items
from mmapstate.values import Plain, same

MISSING: Any = object()
"""Stands for the value of a key that is not there."""


class Conflict(NamedTuple):
    """A place, keys of mappings alone, at which both sides have changed something; MISSING: it was removed."""

    path: tuple[Any, ...]
    theirs: Any
    mine: Any


def merge(
    base: dict[Any, Plain], theirs: dict[Any, Plain], mine: dict[Any, Plain], decided: Container[tuple[Any, ...]] = ()
) -> tuple[dict[Any, Plain], list[Conflict]]:
    """Return what comes of `base` with the changes of both sides, and where they are in conflict: there it is theirs.

    At the paths in `decided` there is none: mine counts. Keys are in the order of mine, what they added comes last.
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
    """What one side has made of the items of a list: each one's value by its number, what is new by what it follows."""

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
    """Return the items that come of both; None where it is not clear, or where both have changed one of them."""
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
