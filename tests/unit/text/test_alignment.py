"""What became of the entries of a container is found out by comparing: as many stay as can."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import scaled

from mmapstate.text.alignment import origins_of_items, origins_of_keys

FEW = st.lists(st.sampled_from(["a", "b", "c", "d", 0, 1]), max_size=9)


def most_in_common(old, new):
    """Return how long the longest list is that both contain in its order, by looking at each pair."""
    best = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for row, left in enumerate(old):
        for column, right in enumerate(new):
            found = best[row][column] + 1 if left == right else 0
            best[row + 1][column + 1] = max(found, best[row][column + 1], best[row + 1][column])
    return best[-1][-1]


@settings(deadline=None, max_examples=scaled(2000))
@given(FEW, FEW)
def test_what_is_alike_is_the_same_item(old, new):
    """As many items as can stay; what is alike beyond that is moved; each old one is used once, those in order."""
    numbers, staying = origins_of_items(old, new)
    used = [number for number in numbers if number >= 0]
    assert len(numbers) == len(new)
    assert len(set(used)) == len(used)
    assert staying <= set(used)
    in_place = [number for number in numbers if number in staying]
    assert in_place == sorted(in_place)
    alike = [number for number, item in zip(numbers, new, strict=True) if number >= 0 and old[number] == item]
    assert sum(number in staying for number in alike) == most_in_common(old, new)
    assert len(alike) == sum(min(old.count(item), new.count(item)) for item in {*old, *new})
    assert all(number in staying for number in used if number not in alike)


@settings(deadline=None, max_examples=scaled(500))
@given(st.permutations(range(8)), st.permutations(range(8)), st.integers(0, 8), st.integers(0, 8))
def test_keys_are_the_same_ones_wherever_they_are(old, new, first, second):
    old, new = old[:first], new[:second]
    numbers, staying = origins_of_keys(old, new)
    assert [old[number] if number >= 0 else None for number in numbers] == [key if key in old else None for key in new]
    assert len(staying) == most_in_common(old, new)


def test_keys_of_another_type_are_others():
    assert origins_of_keys([1, "b"], [True, "b"]).numbers == [-1, 1]


def test_items_that_are_all_alike_are_not_compared_with_each_other():
    """Six thousand have 18 million pairs, which take longer than a hundred sorts."""
    items = [0] * 6000
    began = time.process_time()
    for _ in range(100):
        sorted(map(repr, items))
    sorted_at = time.process_time()
    numbers, staying = origins_of_items(items, [number % 2 for number in range(6000)])
    assert time.process_time() - sorted_at < sorted_at - began
    assert len(numbers) == len(staying) == 6000
