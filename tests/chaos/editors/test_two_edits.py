"""Two events in a row, where the page remembers one: what the first edit superseded is kept by the process that has it.

One process has all that was committed. Others have missed the last vacuum: they take up an edit, have nothing of what
it superseded, and then take up another one, compact the file, or die half-way. When the first looks again, it keeps
what it has; what came after the first edit is not lost either.
"""

import contextlib
import glob
import os
import random
import time

import pytest
import yaml
from support.others import Other, on_disk
from support.processes import Child, needs_fork, not_on_windows
from support.runs import SEED, scaled
from support.seam import between
from support.spawned import kill_myself

import mmapstate

pytestmark = [
    pytest.mark.family("editors"),
    needs_fork,
    not_on_windows("a mapped file can neither be cut nor replaced there"),
]

LOOKED = 0.06  # seconds; the path is looked at every 50 ms
PEARL = "what nobody else has seen"


def edit(path, number, *, in_place=False):
    """Have another program put a text in the file's place that knows nothing of the last changes."""
    new = path if in_place else path + ".new"
    with open(new, "w") as file:
        file.write(f"early: 1\nedit: {number}\n")
    os.utime(new, (1000 + number, 1000 + number))  # a while ago: it is taken up at once
    os.replace(new, path)
    time.sleep(LOOKED)


def kept(path):
    """Return what stands in the copies beside the file."""
    found = []
    for copy in glob.glob(glob.escape(path) + ".superseded-*"):
        with open(copy) as file:
            found.append(yaml.safe_load(file))
    return found


@contextlib.contextmanager
def with_a_pearl(path, *late):
    """Give a process that has all that was committed; those that are `late` have not seen it, nor two vacuums."""
    mmapstate.open(path, {"early": 1}).close()
    with Other(path) as knowing:
        assert knowing.ask("write", "begun", 1) is None
        for each in late:
            assert each.ask("read")["begun"] == 1
        for number in range(2):
            assert knowing.ask("write", "number", number) is None
            assert knowing.ask("vacuum") is None
        assert knowing.ask("write", "pearl", PEARL) is None
        yield knowing


def a_second_edit(path, late):
    edit(path, 2)
    return {"early": 1, "edit": 2}


def a_second_edit_taken_up(path, late):
    edit(path, 2)
    assert late.ask("read") == {"early": 1, "edit": 2}
    return {"early": 1, "edit": 2}


def a_second_edit_after_a_write(path, late):
    assert late.ask("write", "later", 1) is None
    edit(path, 2)
    assert late.ask("read") == {"early": 1, "edit": 2}
    return {"early": 1, "edit": 2}


def three_more_edits(path, late):
    for number in (2, 3, 4):
        edit(path, number)
        assert late.ask("read")["edit"] == number
    return {"early": 1, "edit": 4}


def a_vacuum(path, late):
    assert late.ask("vacuum") is None
    return {"early": 1, "edit": 1}


def writes_and_vacuums(path, late):
    for number in range(3):
        assert late.ask("write", "later", number) is None
        assert late.ask("vacuum") is None
    return {"early": 1, "edit": 1, "later": 2}


def writes(path, late):
    for number in range(3):
        assert late.ask("write", "later", number) is None
    return {"early": 1, "edit": 1, "later": 2}


def it_closes(path, late):
    assert late.ask("write", "later", 1) is None
    assert late.ask("close") is None
    return {"early": 1, "edit": 1, "later": 1}


def a_newcomer(path, late):
    with Other(path) as newcomer:
        assert newcomer.ask("write", "later", 1) is None
        assert newcomer.ask("close") is None
    return {"early": 1, "edit": 1, "later": 1}


def the_lock_file_deleted(path, late):
    os.unlink(path + "-lock")
    return {"early": 1, "edit": 1}


SECOND = (
    a_second_edit,
    a_second_edit_taken_up,
    a_second_edit_after_a_write,
    three_more_edits,
    a_vacuum,
    writes_and_vacuums,
    writes,
    it_closes,
    a_newcomer,
    the_lock_file_deleted,
)
LOOKS = {
    "reads": lambda knowing: knowing.ask("read"),
    "writes": lambda knowing: knowing.ask("write", "after", 1),
    "closes": lambda knowing: knowing.ask("close"),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in-place"])
@pytest.mark.parametrize("second", SECOND)
def test_what_an_edit_superseded_is_kept_whatever_comes_second(path, second, in_place, look):
    with Other(path) as late, with_a_pearl(path, late) as knowing:
        edit(path, 1, in_place=in_place)
        assert late.ask("read") == {"early": 1, "edit": 1}
        state = second(path, late)
        told = LOOKS[look](knowing)
        assert not isinstance(told, str), told
        assert PEARL in [copy.get("pearl") for copy in kept(path)]
        disk = on_disk(path)
        disk.pop("after", None)
        assert disk == state


@pytest.mark.parametrize("look", LOOKS)
def test_of_two_edits_that_nobody_has_looked_at_between_the_first_loses_nothing(path, look):
    with with_a_pearl(path) as knowing:
        edit(path, 1)
        edit(path, 2)
        told = LOOKS[look](knowing)
        assert not isinstance(told, str), told
        assert PEARL in [copy.get("pearl") for copy in kept(path)]


def look_and_die(talk, path, how):
    """Have the state open, look at it again when told, and die at the call of the number that is told."""
    state = mmapstate.open(path)
    talk.send(state.plain())
    at = talk.receive()
    calls = 0

    def handle(name, arguments, do):
        nonlocal calls
        calls += 1
        if calls == at:
            kill_myself()
        return do(*arguments)

    with between(handle):
        if how == "reads":
            state.plain()
        else:
            state["later"] = 1
    return calls


@pytest.mark.parametrize("how", ["reads", "writes"])
@pytest.mark.parametrize("between_them", ["nothing", "an edit"])
def test_what_an_edit_superseded_is_kept_after_two_deaths_in_taking_it_up(tmp_path, how, between_them, cases):
    dice = random.Random(f"{SEED} {how} {between_them}")
    step, number, found = 0, 0, []
    while True:
        step += dice.randint(1, 2 * round(1 / min(1, scaled(100) / 100)) - 1)
        number += 1
        path = str(tmp_path / f"{number}.state")
        mmapstate.open(path, {"early": 1}).close()
        with Child(look_and_die, path, how) as one, Child(look_and_die, path, how) as two:
            assert one.receive() == two.receive() == {"early": 1}
            with with_a_pearl(path) as knowing:
                edit(path, 1)
                one.send(step)
                told = one.line.drain()
                if list(told):
                    break  # it came to no such call
                if between_them == "an edit":
                    edit(path, 2)
                two.send(dice.randint(1, step + 1))
                list(two.line.drain())
                told = knowing.ask("read")
                if isinstance(told, str):
                    found.append(f"step {step}: {told}")
                elif PEARL not in [copy.get("pearl") for copy in kept(path)]:
                    found.append(f"step {step}: nothing is kept, of {told}")
                elif on_disk(path) != told:
                    found.append(f"step {step}: {told} is read, and {on_disk(path)} is in the file")
    cases(number)
    assert not found, "\n".join(found)
