"""The stack or the memory ends anywhere inside a call: what raised is not committed, and all goes on.

Every kind of call is made with one frame left, with two, and so on until it succeeds; and so that its first allocation
fails, its second, and so on: one, three in a row, or all. That goes on in the clean-up, which has no frame or no memory
either. Afterwards the file and memory are what they were when the call raised, what they should be when it returned;
this thread, another one and another process write at once; nothing is left open.

CPython itself does not survive each allocation that fails. What such a death leaves tells nothing: it has been seen to
clear memory that is not its own, the map of the file included. The next case has a new file.
"""

import collections
import functools
import itertools
import os
import random
import signal
import sys
import threading

import pytest
from support.limits import Allocations, Frames, FramesOfC, Unlocks, can_fail_allocations
from support.lives import Model
from support.others import SOON, Helper, Other, descriptors, left_since, on_disk, outcome, settle, stuck
from support.processes import Child, needs_fork
from support.runs import SEED, scaled

import mmapstate

pytestmark = [
    pytest.mark.family("memory"),
    needs_fork,
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell what is open"),
]

START = {"n": 0, "text": "", "list": [1, 2, 3], "c": {"n": 0}, "f": 0.5}
NESTED = {"a": {"b": [1, {"e": 2.5}]}}
NEWS = (None, "write", "vacuum")
ENOUGH = 12 if scaled(100) >= 100 else 5  # calls in a row that succeed: it needs no more
MOST_STUCK = 3  # cases that leave a lock: more of them tell nothing new, and each takes seconds
HANGS = 8 * SOON  # seconds; the checks of one case take less, even if all that can be is stuck
DEATHS = (signal.SIGSEGV, signal.SIGABRT)  # of CPython; SIGBUS would be ours
SMALL = 40_000  # bytes; a larger file is compacted between two cases, for the sake of who reads all of it each time


class Plain(Model):
    def increment(self, key):
        self[key] += 1

    sync = plain = dict.copy


def transaction(state, number):
    with state.transaction():
        state["n"] = number
        state["list"].append({"i": number, **NESTED})


WRITES = {
    "set-number": lambda state, number: state.__setitem__("n", number + 10**9),
    "set-text": lambda state, number: state.__setitem__("text", f"text {number}"),
    "set-new-key": lambda state, number: state.__setitem__(f"key {number}", number),
    "set-nested": lambda state, number: state["c"].__setitem__("n", {"i": number, **NESTED}),
    "set-large": lambda state, number: state.__setitem__("text", "é" * (9000 + number)),
    "increment": lambda state, number: state.increment("n"),
    "append": lambda state, number: state["list"].append(number + 10**9),
    "append-nested": lambda state, number: state["list"].append({"i": number, **NESTED}),
    "update": lambda state, number: state.update({"n": number, "y": NESTED, "k": []}),
    "insert": lambda state, number: state["list"].insert(0, {"i": number}),
    "pop": lambda state, number: state["list"].pop(0),
    "slice": lambda state, number: state["list"].__setitem__(slice(0, 2), [number, number + 1, number + 2]),
    "sort": lambda state, number: state["list"].sort(key=lambda item: -item),
    "delete": lambda state, number: state.__delitem__("f"),
    "transaction": transaction,
    "vacuum": lambda state, number: state.vacuum(),
    "sync": lambda state, number: state.sync(),
    "read": lambda state, number: state["n"],
    "plain": lambda state, number: state.plain(),
}
LIVES = ("open", "open-alone", "close", "close-alone")  # alone: no other process has the state open


def cases_of(kind, limit, start):
    """Yield how much is left, how many fail, and what another process has just done, in each case.

    A long run tries all; others one of all widths and news a number, and beyond some not each number.
    """
    dice = random.Random(f"{SEED} {kind} {start}")
    share = scaled(1000) / 1000
    all_of_them = [*itertools.product(limit.widths, NEWS)]
    number = start
    while True:
        for width, news in all_of_them if share >= 4 else [dice.choice(all_of_them)]:
            yield number, width, news
        mean = max(1.0, (0.25 if number < limit.dense else 4) / share)
        number += dice.randint(1, round(2 * mean - 1))


def judge(path, state, other, helper, number, before, wanted, raised):
    """Return what is wrong after a call that `raised` (None: it returned)."""
    found = []
    disk = on_disk(path)
    if raised is None and disk != wanted:
        found.append("returned, and is not in the file")
    if raised is not None and disk != before:
        found.append("raised, yet committed")
    memory = outcome(state.plain)
    if memory != disk:
        found.append(
            f"cannot be read: {memory}"[:90] if isinstance(memory, str) else "memory is not what the file holds"
        )
    found += stuck(state, other, helper, number)
    if not found:
        after = {**disk, "thread": number, "this": number, "other": number}
        if not on_disk(path) == state.plain() == after == other.ask("read"):
            found.append("goes on with something else")
    return found


def left_open(path, clean):
    """Return what is open that was not, and take it for clean from now on."""
    left = left_since(path, clean)
    return [f"left {how}: {'an image' if name.startswith('.') else name}" for how, name in left]


class Calls:
    """The calls of one kind: what comes before each, and what must be so after it."""

    def __init__(self, path, kind, limit, other):
        self.path, self.kind, self.limit, self.other = path, kind, limit, other
        self.helper = Helper()
        self.state = mmapstate.open(path, timeout=SOON)
        settle(self.state)
        if kind in LIVES:
            self.state.close()
            self.state = None
        self.clean = descriptors(path)

    def prepare(self, news, number):
        """Have the state open, or not, with something to do, and something new in it."""
        if self.kind in LIVES:
            self.other.ask("close" if self.kind.endswith("alone") else "open")
        if self.kind not in LIVES[:2]:
            self.state = self.state or mmapstate.open(self.path, timeout=SOON)
            self.state.update({"list": [1, 2, 3], "f": 0.5, "n": 0, "text": ""})
        if news:
            self.other.ask(news, *(["news", number] if news == "write" else []))

    def open(self):
        self.state = mmapstate.open(self.path, timeout=SOON)

    def go_on(self):
        """Have the state open after a call of `LIVES`; raise if that is not to be had."""
        if self.kind in LIVES[2:]:
            self.state.close()  # again, if it raised
            self.state = None
        if self.state is None:
            self.open()

    def call(self, number, width, news):
        """Make one call, with so much left; return what is wrong after it, and whether it raised."""
        if (told := outcome(self.prepare, news, number)) is not None:
            return [f"stuck: in what comes next: {told}"[:90]], None
        before = on_disk(self.path)
        wanted = Plain({**before, "list": [*before["list"]], "c": {**before["c"]}})
        if self.kind in WRITES:
            WRITES[self.kind](wanted, number)
            call = functools.partial(WRITES[self.kind], self.state, number)
        else:
            call = self.open if self.kind in LIVES[:2] else self.state.close
        raised = None
        try:
            self.limit(number, width, call)
        except BaseException as error:
            raised = type(error).__name__
        if self.kind in LIVES and (told := outcome(self.go_on)) is not None:
            return [f"stuck: {told.split(':')[0]}"], raised
        found = judge(self.path, self.state, self.other, self.helper, number, before, wanted, raised)
        if raised is not None and raised not in self.limit.errors:
            found.append(f"raised {raised}")
        if self.kind in LIVES and not any(map(is_stuck, found)):
            self.state.close()
            self.state = None
            found += left_open(self.path, self.clean)
        return found, raised


def is_stuck(what):
    return what.startswith("stuck")


def work(talk, path, kind, limit, other, start):
    """Make calls of one kind from the number `start` on, tell of each what is wrong; return whether all were made."""
    calls = Calls(path, kind, limit(), other)
    in_a_row = 0
    for number, width, news in cases_of(kind, limit, start):
        talk.send(number)
        found, raised = calls.call(number, width, news)
        talk.send(found)
        if any(map(is_stuck, found)):
            return False
        in_a_row = 0 if raised else in_a_row + 1
        if in_a_row == ENOUGH:
            break
        if os.path.getsize(path) > SMALL:
            other.ask("vacuum")
    if kind not in LIVES:
        settle(calls.state)
        talk.send(left_open(path, calls.clean))
    return True


def in_a_thread(talk, *arguments):
    """Do the work in a thread with a stack that holds as many calls of C as CPython allows."""
    result, failed = [], []

    def run():
        try:
            result.append(work(talk, *arguments))
        except BaseException as error:
            failed.append(error)

    threading.stack_size(512 << 20)
    thread = threading.Thread(target=run)
    thread.start()
    threading.stack_size(0)
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


def judged(path, kind, limit, cases, run=work):
    """Make all calls of one kind, and assert that each costs nothing; return how many CPython did not survive.

    Of failed allocations CPython 3.13 dies now and then, or goes on with objects that are wrong (it has been seen to
    fill memory of others with zeros): what is found is made anew from the same seed, and counts if it is found again.
    Before 3.12 it needs memory to call the finaliser of what was just opened: that can stay open.
    """
    found, count, deaths = gathered(path, kind, limit, run)
    if limit is Allocations and sys.version_info < (3, 12):
        found = {what: numbers for what, numbers in found.items() if not what.startswith(("left open", "left mapped"))}
    if found and limit is Allocations:
        print("once more, as there was found:", dict(found))
        again, more, _ = gathered(path, kind, limit, run)
        count += more
        found = {what: numbers for what, numbers in found.items() if what in again}
    print(kind, limit.__name__, count, "cases,", deaths, "of them deaths of CPython")
    cases(count)
    assert not found, "\n".join(f"{what}: {len(numbers)} times, {numbers[:8]}" for what, numbers in found.items())
    return deaths


def gathered(path, kind, limit, run):
    """Return what is wrong after which calls, how many there were, and how many of them CPython did not survive."""
    found, unfinished, deaths, number, count, done = collections.defaultdict(list), 0, 0, 0, 0, False
    while unfinished < MOST_STUCK and not done:
        for each in os.listdir(os.path.dirname(path)):
            os.unlink(os.path.join(os.path.dirname(path), each))
        mmapstate.open(path, START).close()
        with Other(path) as other:
            other.ask("open")
            with Child.share(run, path, kind, limit, other, number + 1) as child:
                try:
                    while not isinstance(message := child.receive(HANGS), tuple):
                        if isinstance(message, int):
                            number, count = message, count + 1
                        else:
                            for each in message:
                                found[each].append(number)
                    done = message[1]
                    unfinished += not done
                except AssertionError as error:
                    if "no message" in str(error):
                        found["hangs"].append(number)
                        unfinished += 1
                        continue
                    child.wait()
                    if not os.WIFSIGNALED(child.status) or os.WTERMSIG(child.status) not in DEATHS:
                        found[str(error).splitlines()[0]].append(number)
                        unfinished += 1
                        continue
                    deaths += 1
    return found, count, deaths


@pytest.mark.parametrize("kind", [*WRITES, *LIVES])
class TestEach:
    def test_depth_at_which_the_stack_ends_costs_nothing(self, path, kind, cases):
        assert not judged(path, kind, Frames, cases)

    @pytest.mark.skipif(sys.version_info[:2] not in ((3, 12), (3, 13)), reason="others count calls of C as frames")
    def test_depth_at_which_the_stack_of_c_ends_costs_nothing(self, path, kind, cases):
        assert not judged(path, kind, FramesOfC, cases, in_a_thread)

    @pytest.mark.skipif(not can_fail_allocations, reason="this Python has no _testcapi")
    def test_allocation_that_fails_costs_nothing(self, path, kind, cases):
        judged(path, kind, Allocations, cases)

    @pytest.mark.family("failing-calls")
    def test_unlock_that_fails_costs_nothing(self, path, kind, cases):
        assert not judged(path, kind, Unlocks, cases)
