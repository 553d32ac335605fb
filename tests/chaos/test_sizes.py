"""Sizes at which something changes: of records, of files, of depth, of how often a state is opened."""

import gc
import os
import sys
import time

import pytest
from support import probe
from support.independent_reader import read_file
from support.runs import open_descriptors, scaled

import mmapstate
from mmapstate import PersistedState, StateFileError, UnsupportedValueError
from mmapstate.values import MAX_DEPTH

pytestmark = pytest.mark.family("sizes")


def maps_and_memory():
    """Return how many maps this process has, and its resident memory in bytes."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        maps = sum("/" in line and ".state" in line for line in file)
    with open("/proc/self/statm", encoding="ascii") as file:
        return maps, int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of maps and memory in /proc")
@pytest.mark.parametrize("change", [False, True], ids=["reading", "changing"])
def test_thousands_of_opens_leave_descriptors_maps_and_memory_flat(path, change, cases):
    rounds = scaled(2000 if change else 8000)

    def use(number):
        with mmapstate.open(path, {"n": 0, "list": [1, {"a": 2}]}) as state:
            assert state["list"][1]["a"] == 2
            if change:
                state.n = number

    for number in range(rounds // 4):
        use(number)
    gc.collect()
    descriptors, (maps, memory) = open_descriptors(), maps_and_memory()
    for number in range(rounds):
        use(number)
    gc.collect()
    assert len(open_descriptors()) == len(descriptors)
    maps_now, memory_now = maps_and_memory()
    assert maps_now == maps
    assert memory_now < memory + 4_000_000
    cases(rounds)


@pytest.mark.parametrize("less", range(-3, 4))
def test_a_transaction_around_the_size_of_the_room_left_fits_or_makes_room(path, less):
    state = PersistedState(path, n=0)
    overhead = len(b'--- [["set", [], "t", ""], ["set", [], "n", 1]] #01234567\n')
    with state.transaction():
        state.t = "x" * (probe.room(state) - overhead + less)
        state.n = 1
    assert read_file(path) == state


def test_a_state_as_deep_as_can_be_is_stored_and_one_level_more_is_refused(path):
    deepest = []
    for _ in range(MAX_DEPTH - 2):  # the state is one level, and the list another
        deepest = [deepest]
    with PersistedState(path) as state:
        state.deep = deepest
        with pytest.raises(UnsupportedValueError):
            state.deeper = [[deepest]]
        assert list(state) == ["deep"]
    assert read_file(path) == {"deep": deepest}


def test_a_file_that_unfolds_to_billions_is_refused_at_once(broken_path):
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    with open(broken_path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    os.utime(broken_path, (1, 1))
    began = time.process_time()
    with pytest.raises(StateFileError, match="line 2"):
        PersistedState(broken_path)
    assert time.process_time() - began < 5


def test_a_state_of_many_entries_is_opened_changed_and_compacted(path):
    with PersistedState(path, n=0) as state:
        state.numbers = dict.fromkeys(map(str, range(scaled(100_000))), 0)
        state.numbers["7"] = 1
    with PersistedState(path) as state:
        assert len(state.numbers) == scaled(100_000)
        assert state.numbers["7"] == 1
        state.n = 1
