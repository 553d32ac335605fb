"""The lock file deleted at each step of one process, while others write, open and read: everyone goes on as one.

One process opens, begins a journal, writes, compacts, closes; before one of its calls of the system, or stores, it
deletes the lock file, and in half of the rounds waits until the others must have noticed. One of the others counts and
appends, one opens and closes, one follows by reading and writes now and then. No number is given out twice, none that
was told is missing, nor is any item; nobody gets an error.
"""

import collections
import contextlib
import itertools
import mmap
import os
import random
import re
import time

import pytest
from support.independent_reader import read_file as on_disk
from support.processes import Child, needs_fork, not_on_windows
from support.runs import SEED, scaled
from support.seam import between

import mmapstate

pytestmark = [
    pytest.mark.family("lock-file"),
    needs_fork,
    not_on_windows("a file that is open cannot be deleted there"),
]

START = {"n": 0, "items": [], "gone": 0}
NOTICED = 0.07  # seconds after which all that do anything have looked at the lock file
TIMEOUT = 5


class Rounds:
    """Which round it is, and whether that was the last: memory that all processes share."""

    def __init__(self):
        self.shared = mmap.mmap(-1, 8)

    @property
    def now(self):
        return int.from_bytes(self.shared[:4], "little")

    @now.setter
    def now(self, number):
        self.shared[:4] = number.to_bytes(4, "little")

    def over(self):
        return bool(self.shared[4])

    def end(self):
        self.shared[4] = 1


class Log:
    """What one process was told: numbers, and items that it appended, each with the round in which it began."""

    def __init__(self, rounds, name):
        self.rounds, self.name = rounds, name
        self.numbers, self.items, self.errors = [], [], []
        self.last = 0

    def count(self, state):
        now = self.rounds.now
        self.numbers.append((now, state.increment("n")))

    def append(self, state):
        now = self.rounds.now
        item = self.new_item()
        state["items"].append(item)
        self.items.append((now, item))

    def new_item(self):
        self.last += 1
        return f"{os.getpid()} {self.last}"

    @contextlib.contextmanager
    def errors_kept(self):
        now = self.rounds.now
        try:
            yield
        except Exception as error:
            what = re.sub(r"/\S*/", "", f"{self.name}: {type(error).__name__}: {error}")
            self.errors.append((now, what))
            time.sleep(0.01)

    def told(self):
        return self.numbers, self.items, self.errors


def count_all_the_time(talk, path, rounds):
    log = Log(rounds, "who counts")
    state = mmapstate.open(path, timeout=TIMEOUT)
    talk.send("open")
    while not rounds.over():
        with log.errors_kept():
            for _ in range(10):
                log.count(state)
            log.append(state)
        time.sleep(1e-3)
    return log.told()


def open_all_the_time(talk, path, rounds):
    log = Log(rounds, "who opens")
    talk.send("open")
    while not rounds.over():
        with log.errors_kept(), mmapstate.open(path, timeout=TIMEOUT) as state:
            log.count(state)
            log.append(state)
        time.sleep(2e-3)
    return log.told()


def read_all_the_time(talk, path, rounds):
    log = Log(rounds, "who reads")
    state = mmapstate.open(path, timeout=TIMEOUT)
    talk.send("open")
    dice = random.Random(SEED)
    while not rounds.over():
        with log.errors_kept():
            for _ in range(dice.randint(1, 40)):
                state["n"]
                time.sleep(5e-4)
            for _ in range(dice.randint(0, 3)):
                log.count(state)
    return log.told()


OTHERS = (count_all_the_time, open_all_the_time, read_all_the_time)


def opened(state, path, log):
    state = mmapstate.open(path, timeout=TIMEOUT)
    log.count(state)
    return state


def transaction(state, path, log):
    now = log.rounds.now
    with state.transaction():
        item = log.new_item()
        state["items"].append(item)
        number = state.increment("n")
    log.numbers.append((now, number))
    log.items.append((now, item))


# Name: what is done before, undisturbed, and the steps that are disturbed.
STEPS = {
    "open": (lambda state, path, log: state.close(), opened),
    "first-write": (lambda state, path, log: state.vacuum(), lambda state, path, log: log.count(state)),
    "write": (lambda state, path, log: log.count(state), lambda state, path, log: log.count(state)),
    "append": (lambda state, path, log: log.count(state), lambda state, path, log: log.append(state)),
    "vacuum": (lambda state, path, log: log.count(state), lambda state, path, log: state.vacuum()),
    "close": (lambda state, path, log: log.count(state), lambda state, path, log: state.close()),
    "transaction": (lambda state, path, log: log.count(state), transaction),
}


def delete_at_each_step(talk, path, rounds, kind):
    """Do the steps of one kind again and again, until they come to no further call at which to delete."""
    log = Log(rounds, "who is at the step")
    dice = random.Random(f"{SEED} {kind}")
    before, disturbed = STEPS[kind]
    share = min(1, scaled(100) / 100)
    step = in_vain = 0
    while in_vain < 2:  # how many calls there are differs, by what the others do
        step += dice.randint(1, 2 * round(1 / share) - 1)
        for wait in (False, True) if share == 1 else [dice.random() < 0.5]:
            rounds.now += 1
            seen = deleting_at(step, path + "-lock", wait)
            with log.errors_kept():
                state = mmapstate.open(path, timeout=TIMEOUT)  # the same one, unless it was closed
                before(state, path, log)
                with between(seen):
                    state = disturbed(state, path, log) or state
            in_vain = 0 if seen.calls >= step else in_vain + 1
            time.sleep(NOTICED)
            with log.errors_kept():
                if kind != "close":
                    log.append(state)
    return log.told()


def deleting_at(step, path, wait):
    """Return a handler for the seam that deletes the file at the call of that number, and waits until it is noticed."""

    def handle(name, arguments, do):
        handle.calls += name != last[0] or name != "flock"  # not each time that it is tried for in vain
        last[0] = name
        if handle.calls == step:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            if wait:
                time.sleep(NOTICED)
        return do(*arguments)

    last = [""]
    handle.calls = 0
    return handle


@pytest.mark.parametrize("kind", STEPS)
def test_everyone_goes_on_as_one_when_the_lock_file_is_deleted(broken_path, kind, cases):
    path = broken_path
    rounds = Rounds()
    mmapstate.open(path, START).close()
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(Child(run, path, rounds)) for run in OTHERS]
        assert [each.receive() for each in others] == ["open"] * len(others)
        try:
            child = stack.enter_context(Child(delete_at_each_step, path, rounds, kind))
            logs = [child.result(120)]
        finally:
            rounds.end()
        logs += [each.result() for each in others]
    cases(rounds.now)
    assert not (wrong := wrongs(logs, on_disk(path))), f"of {rounds.now} rounds:\n" + "\n".join(wrong)


def test_eight_processes_go_on_as_one_when_the_lock_file_is_deleted_now_and_then(broken_path, cases):
    path = broken_path
    rounds = Rounds()
    dice = random.Random(SEED)
    mmapstate.open(path, START).close()
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(Child(run, path, rounds)) for run in (*OTHERS, *OTHERS, *OTHERS[1:])]
        assert [each.receive() for each in others] == ["open"] * len(others)
        for _ in range(scaled(60)):
            rounds.now += 1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + "-lock")
            time.sleep(dice.uniform(0, 0.2))
        rounds.end()
        logs = [each.result() for each in others]
    cases(rounds.now)
    assert not (wrong := wrongs(logs, on_disk(path))), f"of {rounds.now} rounds:\n" + "\n".join(wrong)


def wrongs(logs, state):
    """Return what is wrong with what the processes were told, and with what the file holds."""
    found = []
    errors = collections.defaultdict(list)
    for _, _, failed in logs:
        for now, what in failed:
            errors[what].append(now)
    found += [f"{what}: in rounds {numbers[:9]}" for what, numbers in errors.items()]
    numbers = sorted((number, now) for told, _, _ in logs for now, number in told)
    twice = [now for (number, _), (before, now) in itertools.pairwise(numbers) if number == before]
    if twice:
        found.append(f"{len(twice)} numbers given out twice, in rounds {sorted(set(twice))[:9]}")
    if numbers and state["n"] != numbers[-1][0]:
        found.append(f"n is {state['n']}, and {numbers[-1][0]} was told")
    there = collections.Counter(state["items"])
    items = [(now, item) for _, told, _ in logs for now, item in told]
    gone = [now for now, item in items if item not in there]
    if gone:
        found.append(f"{len(gone)} of {len(items)} items are gone, of rounds {sorted(set(gone))[:9]}")
    if any(count > 1 for count in there.values()):
        found.append("items are there twice")
    return found
