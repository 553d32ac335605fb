"""What became of the entries of a container: which of them stay, moved, changed or are gone; which are new.

Two states are compared, as nobody says what was done. The keys of a mapping tell which entry is which. Items of a list
have no names: equal ones are the same item, and what is left between two that stay is paired by what it has in common.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmapstate.text.source import Written
from mmapstate.values import Plain, same

_MOST_PAIRS = 10_000  # of items that are compared with each other; beyond that, in their order


class Origins(NamedTuple):
    """Of each new entry, the number of the old one that it was, -1 for none; and of the old ones those that stay.

    What stays is in its old order. What is in `numbers`, but does not stay, is moved; what is not there is removed.
    """

    numbers: list[int]
    staying: frozenset[int]


def origins_of(written: Written, new: dict[Any, Plain] | list[Plain]) -> Origins:
    """Return where the entries of a container come from, which has become `new`, one of the same kind.

    In a mapping, one that has another key and the same value was renamed. What a program adds comes last. What is new
    before one that stays was put there by who made the mapping anew: it is the entry that is gone from that place. At
    the end a value tells it that is not one of those that many have; that of an entry elsewhere, only if it is a
    container, and no other is like it.
    """
    old = written.entries or []
    if not isinstance(new, dict):
        return origins_of_items([item.value for item in old], new)
    values = list(new.values())
    origins = origins_of_keys([key.value for key, _ in old], list(new))
    gone = sorted(set(range(len(old))).difference(origins.numbers))
    come = [index for index, number in enumerate(origins.numbers) if number < 0]
    if not gone or not come:
        return origins
    numbers, staying = list(origins.numbers), set(origins.staying)
    last = max((index for index, number in enumerate(numbers) if number in staying), default=-1)
    for index, number in _in_one_gap(numbers, staying, gone):
        tells = index < last or _tells(values[index])
        if tells and same(old[number][1].value, values[index]):
            numbers[index] = number
            staying.add(number)
    for index in come:
        if numbers[index] < 0 and isinstance(values[index], dict | list) and _tells(values[index]):
            alike = [number for number in gone if number not in numbers and same(old[number][1].value, values[index])]
            if len(alike) == 1:
                numbers[index] = alike[0]
    return Origins(numbers, frozenset(staying))


def _tells(value: Plain) -> bool:
    return bool(value) and value is not True and value != 1


def _in_one_gap(numbers: list[int], staying: set[int], gone: list[int]) -> list[tuple[int, int]]:
    """Return which new entry stands where which old one stood: between the same two that stay, counted from there."""
    at_old: dict[tuple[int, int], int] = {}
    stays = sorted(staying)
    for number in gone:
        gap = bisect_left(stays, number)
        first = stays[gap - 1] if gap else -1
        at_old[first, sum(first < other < number for other in gone)] = number
    found = []
    before, count = -1, 0
    for index, number in enumerate(numbers):
        if number in staying:
            before, count = number, 0
        elif number < 0:
            if (before, count) in at_old:
                found.append((index, at_old[before, count]))
            count += 1
    return found


def origins_of_keys(old: Sequence[Any], new: Sequence[Any]) -> Origins:
    """Return where the keys of a mapping come from."""
    places = {key: number for number, key in enumerate(old)}
    found = [places.get(key, -1) for key in new]
    numbers = [number if number >= 0 and same(old[number], key) else -1 for number, key in zip(found, new, strict=True)]
    known = [number for number in numbers if number >= 0]
    return Origins(numbers, frozenset(known[index] for index in _longest_rising(known)))


def origins_of_items(old: Sequence[Plain], new: Sequence[Plain]) -> Origins:
    """Return where the items of a list come from; the time is that of sorting, however they are mixed."""
    before, after = [repr(value) for value in old], [repr(value) for value in new]
    shorter = min(len(before), len(after))
    front = next((index for index in range(shorter) if before[index] != after[index]), shorter)
    shorter -= front
    back = next((index for index in range(shorter) if before[-1 - index] != after[-1 - index]), shorter)
    numbers = [*range(front), *[-1] * (len(after) - front - back), *range(len(before) - back, len(before))]
    alike: dict[str, list[int]] = defaultdict(list)
    for number in range(front, len(before) - back):
        alike[before[number]].append(number)
    middle = range(front, len(after) - back)
    in_order = _matched_in_order([(index, alike[after[index]]) for index in middle if after[index] in alike])
    if len(before) == len(after):
        in_place = [(index, index) for index in middle if before[index] == after[index]]
        in_order = max(in_place, in_order, key=len)
    for index, number in in_order:
        numbers[index] = number
    staying = {number for number in numbers if number >= 0}
    for places in alike.values():
        places[:] = [number for number in reversed(places) if number not in staying]
    moved = set()
    for index in middle:
        if numbers[index] < 0 and alike.get(after[index]):
            numbers[index] = alike[after[index]].pop()
            moved.add(numbers[index])
    staying |= _match_what_is_left(old, new, numbers, staying, moved)
    return Origins(numbers, frozenset(staying))


def _matched_in_order(pairs: list[tuple[int, list[int]]]) -> list[tuple[int, int]]:
    """Return as many new items as can be, each with the number of an old one that is alike, all numbers rising.

    That is the longest rising sequence of all pairs, of which each new item has its own in falling order. Where too
    many are alike, the first is taken for the first, the second for the second.
    """
    if sum(len(places) for _, places in pairs) <= _MOST_PAIRS + 4 * len(pairs):
        singles = [(index, number) for index, places in pairs for number in reversed(places)]
    else:
        seen: dict[int, int] = defaultdict(int)
        singles = []
        for index, places in pairs:
            if seen[places[0]] < len(places):
                singles.append((index, places[seen[places[0]]]))
                seen[places[0]] += 1
    return [singles[place] for place in _longest_rising([number for _, number in singles])]


def _longest_rising(numbers: Sequence[int]) -> list[int]:
    """Return the places of a longest sequence of numbers that rises."""
    lasts: list[int] = []  # the smallest number that ends a sequence of that length
    ends: list[int] = []  # its place
    before: list[int] = []
    for place, number in enumerate(numbers):
        length = bisect_left(lasts, number)
        before.append(ends[length - 1] if length else -1)
        lasts[length : length + 1] = [number]
        ends[length : length + 1] = [place]
    found = []
    place = ends[-1] if ends else -1
    while place >= 0:
        found.append(place)
        place = before[place]
    return found[::-1]


def _match_what_is_left(
    old: Sequence[Plain], new: Sequence[Plain], numbers: list[int], staying: set[int], moved: set[int]
) -> set[int]:
    """Between each two items that stay, take what is left of the old ones for what is left of the new ones."""
    found: set[int] = set()
    here: list[int] = []
    first = 0
    for index in range(len(new) + 1):
        if index < len(new) and numbers[index] not in staying:
            if numbers[index] < 0:
                here.append(index)
            continue
        last = numbers[index] if index < len(new) else len(old)
        there = [number for number in range(first, last) if number not in moved] if here else []
        for row, column in _aligned([old[number] for number in there], [new[each] for each in here]):
            numbers[here[column]] = there[row]
            found.add(there[row])
        here, first = [], last + 1
    return found


def _aligned(old: list[Plain], new: list[Plain]) -> list[tuple[int, int]]:
    """Return which of the old items became which: the pairs that have most in common, in their order.

    One that a program removed shall not take along the comments of the one behind it, in which a value was changed. Of
    pairings that have as much in common that one is right in which most items are where they were: nothing tells that
    one was removed. What stands between two such pairs, and has nothing in common, is paired in its order.
    """
    if len(old) * len(new) > _MOST_PAIRS or len(old) == len(new) == 1:
        return [(number, number) for number in range(min(len(old), len(new)))]
    in_place = min(len(old), len(new)) + 1  # more than all of them that are where they were
    names = _names(old)
    worth = [[0] * len(new) for _ in old]
    best = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]  # of the items from there on
    for row in reversed(range(len(old))):
        for column in reversed(range(len(new))):
            common = _in_common(old[row], new[column], names)
            pair = worth[row][column] = common * in_place + (row == column) if common else 0
            best[row][column] = max(
                pair and pair + best[row + 1][column + 1], best[row + 1][column], best[row][column + 1]
            )
    found: list[tuple[int, int]] = []
    row = column = gap_row = gap_column = 0
    while row < len(old) and column < len(new):
        pair = worth[row][column]
        if pair and best[row][column] == pair + best[row + 1][column + 1]:
            found += zip(range(gap_row, row), range(gap_column, column), strict=False)
            found.append((row, column))
            row, column = row + 1, column + 1
            gap_row, gap_column = row, column
        elif best[row][column] == best[row + 1][column]:
            row += 1
        else:
            column += 1
    return found + list(zip(range(gap_row, len(old)), range(gap_column, len(new)), strict=False))


def _names(items: list[Plain]) -> set[Any]:
    """Return the keys that tell records from each other: all that do, or if none does, the first one."""
    records = [item for item in items if isinstance(item, dict)]
    telling = {
        key for key in (records[0] if records else ())
        if len({repr(record.get(key)) for record in records}) == len(records)
    }  # fmt: skip
    return telling or {next(iter(record), None) for record in records[:1]}


def _in_common(old: Plain, new: Plain, names: set[Any]) -> int:
    """Return how much two containers of one kind share; the entry of a mapping that is its name counts most."""
    if isinstance(old, dict) and isinstance(new, dict):
        return sum(3 if key in names else 1 for key, value in old.items() if key in new and same(value, new[key]))
    if isinstance(old, list) and isinstance(new, list):
        return len({repr(value) for value in old} & {repr(value) for value in new})
    return 0
