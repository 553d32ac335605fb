"""Many processes count at once: no number is given twice, none is left out, and what is read only goes forward."""

import contextlib
import os
import random
import sys
import time

import pytest
from support.independent_reader import read_file as on_disk
from support.processes import Child
from support.runs import scaled

import mmapstate

PROCESSES = 8 if hasattr(os, "fork") else 4  # where the locks of the system are quick, and where they may not be
LONGEST_LOG = 50


def numbers_of(path, work, rounds):
    """Run `work` in several processes while one compacts the file and two look; return all numbers that were given."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    with mmapstate.open(path, {"counter": 0, "log": []}), contextlib.ExitStack() as ended:
        others = [Child(compact, path, seed), Child(look, path, False), Child(look, path, True)]
        children = [Child.share(work, path, rounds) for _ in range(PROCESSES)]
        for child in (*others, *children):
            ended.enter_context(child)
        numbers = [child.result(250) for child in children]
        for other in others:
            other.send("enough")
        print([other.result() for other in others], "vacuums, and looks")
    return numbers


def compact(talk, path, seed):
    rng = random.Random(seed)
    vacuums, took = 0, 0.0
    with mmapstate.open(path, timeout=120) as state:
        while not talk.ready(rng.uniform(0, 0.05) + took):  # on a slow disk it would keep the others out all the time
            began = time.monotonic()
            with contextlib.suppress(mmapstate.StateError) if sys.platform == "win32" else contextlib.nullcontext():
                state.vacuum()  # put off there when so many processes do not all let go in time
                vacuums += 1
            took = time.monotonic() - began
    return vacuums


def look(talk, path, readonly):
    """Check that what is read is whole, and only goes forward."""
    last, looks = 0, 0
    with mmapstate.open(path, timeout=120, readonly=readonly) as state:
        while not talk.ready(0):
            counter = state.counter
            whole = state.plain()
            assert last <= counter <= whole["counter"], "the counter went back"
            last = whole["counter"]
            if whole["log"]:
                assert whole["log"] == list(range(last - len(whole["log"]) + 1, last + 1)), "half a transaction"
            looks += 1
    return looks


def increment(talk, path, rounds):
    state = mmapstate.open(path, timeout=120)
    given = []
    for _ in range(rounds):
        before = state.counter
        given.append(state.increment("counter"))
        assert before < given[-1] <= state.counter
    return given


def increment_without_a_look(talk, path, rounds):
    """A read just before would have told what is new."""
    state = mmapstate.open(path, timeout=120)
    return [state.increment("counter") for _ in range(rounds)]


def increment_and_append(talk, path, rounds):
    state = mmapstate.open(path, timeout=120)
    given = []
    for _ in range(rounds):
        with state.transaction():
            number = state.increment("counter")
            state.log.append(number)
            if len(state.log) > LONGEST_LOG:
                state.log.pop(0)
        given.append(number)
    return given


def append(talk, path, name, rounds):
    """Append items of several kinds, each with whose and which it is; return the list when all have done so."""
    state = mmapstate.open(path, timeout=120)
    for number in range(rounds):
        item = [name, number]
        state.log.append(name * rounds + number if number % 3 else {"item": item} if number % 2 else item)
    talk.send("done")
    talk.receive(250)
    return state.log.copy()


@pytest.mark.family("history")
@pytest.mark.parametrize("work", [increment, increment_without_a_look, increment_and_append])
def test_every_number_is_given_once_while_a_vacuum_runs_and_reads_only_go_forward(path, work, cases):
    rounds = scaled(5000 if hasattr(os, "fork") else 2500)
    numbers = numbers_of(path, work, rounds)
    assert sorted(number for given in numbers for number in given) == list(range(1, PROCESSES * rounds + 1))
    assert all(given == sorted(given) for given in numbers)
    assert on_disk(path)["counter"] == PROCESSES * rounds
    cases(PROCESSES * rounds)


@pytest.mark.family("history")
def test_items_that_many_append_to_one_list_are_there_once_and_all_see_them_in_one_order(path, cases):
    rounds = scaled(500)
    with mmapstate.open(path, {"log": []}) as state, contextlib.ExitStack() as ended:
        children = [ended.enter_context(Child.share(append, path, name, rounds)) for name in range(PROCESSES)]
        for child in children:
            assert child.receive(250) == "done"
        for child in children:
            child.send("look")
        lists = [*(child.result(250) for child in children), state.log.copy(), on_disk(path)["log"]]
    items = []
    for item in lists[0]:
        name, number = (
            divmod(item, rounds) if isinstance(item, int) else item["item"] if isinstance(item, dict) else item
        )
        items.append((name, number))
    assert all(found == lists[0] for found in lists)
    for name in range(PROCESSES):
        assert [number for whose, number in items if whose == name] == list(range(rounds))
    assert len(items) == PROCESSES * rounds
    cases(PROCESSES * rounds)


def compact_all_the_time(talk, path):
    """Compact, and change an item of the list and another key meanwhile: who looks now and then misses some."""
    vacuums = 0
    with mmapstate.open(path, timeout=120) as state:
        talk.send("ready")
        while not talk.ready(0):
            state["others"] = vacuums
            state["items"][1]["n"] += 1
            with contextlib.suppress(mmapstate.StateError) if sys.platform == "win32" else contextlib.nullcontext():
                state.vacuum()
            vacuums += 1
    return vacuums


@pytest.mark.family("history")
def test_no_container_that_nobody_removed_is_detached_beside_a_program_that_compacts(path, cases):
    """Neither in one statement nor held for long, in a list, by whoever writes, or only reads."""
    rounds = scaled(300)
    with mmapstate.open(path, {"others": 0, "items": [{"n": 0}, {"n": 0}]}, timeout=120) as state:
        readonly = mmapstate.open(path, readonly=True)
        held, seen = state["items"][0], readonly["items"][0]
        with Child.share(compact_all_the_time, path) as child:
            assert child.receive(60) == "ready"
            for number in range(1, rounds):
                time.sleep(0.004)  # for the other one to compact more than once: who misses that rebuilds
                state["items"][0]["n"] = number
                held["n"] += 1
            child.send("enough")
            print(child.result(), "vacuums")
        assert held["n"] == rounds
        time.sleep(0.06)  # a readonly state looks at the path every 50 ms
        assert seen["n"] == rounds
        assert (held, seen) == (state["items"][0], readonly["items"][0])
        readonly.close()
    cases(rounds)
