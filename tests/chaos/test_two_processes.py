"""Two processes that wait for each other, and exceptions out of signal handlers in one of them: nobody is stuck.

In storms: a timer interrupts each kind of call, at random, while the other process counts and compacts all the time.
And in order: the other process has the lock until it has been waited for, and the call is interrupted at its first
place where CPython handles signals, at its second, and so on. Afterwards this thread, another one and the other process
write at once, no descriptor is left open, every number that was told is in the file.
"""

import contextlib
import os
import random
import signal
import sys
import time

import pytest
from support.interrupting import interrupted_at
from support.others import SOON, Helper, Other, descriptors, left_since, on_disk, outcome, settle, stuck
from support.processes import Child, needs_fork
from support.runs import SEED, scaled
from support.seam import between

import mmapstate
from mmapstate import ClosedError, StateError
from mmapstate.file.filelock import UNLOCK

pytestmark = [
    pytest.mark.family("two-processes"),
    needs_fork,
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell what is open"),
]

START = {"mine": 0, "theirs": 0, "list": [1, 2, 3]}
MOST_SECONDS = 20  # of a storm; a busy machine interrupts less often


class Hit(BaseException):
    pass


def hit(*_):
    raise Hit


class Caller:
    """The calls that are interrupted, of one process."""

    def __init__(self, path):
        self.path = path
        self.state = self.view = None
        self.told = self.begun = 0  # increments
        self.open()

    def open(self):
        self.state = mmapstate.open(self.path, timeout=SOON)

    def increment(self):
        self.begun += 1
        self.told = self.state.increment("mine")

    def append_and_pop(self):
        self.state["list"].append(4)
        self.state["list"].pop()

    def update(self):
        self.state.update({"a": 1, "b": [1]})

    def transaction(self):
        self.begun += 1
        with self.state.transaction():
            self.state["mine"] += 1
        self.told += 1

    def hold(self):
        with self.state._thread_lock:
            self.state["list"]

    def vacuum(self):
        self.state.vacuum()

    def sync(self):
        self.state.sync()

    def plain(self):
        self.state.plain()

    def read(self):
        self.state["news"] if "news" in self.state else self.state["theirs"]

    def repr(self):
        repr(self.state)

    def repr_of_a_list(self):
        repr(self.state["list"])

    def wait_for(self):
        self.state.wait_for(lambda: False, timeout=5e-4)

    def open_and_close(self):
        mmapstate.open(self.path, timeout=SOON).close()  # the same store: there is another handle

    def open_anew_and_close(self):
        self.state.close()
        self.open()

    def readonly(self):
        self.view = self.view or mmapstate.open(self.path, readonly=True)
        self.view.plain()
        self.view.wait_for(lambda: True)
        repr(self.view)

    def readonly_anew(self):
        mmapstate.open(self.path, readonly=True).close()

    def go_on(self):
        """Have the state open, after an interrupt anywhere."""
        with contextlib.suppress(ClosedError):
            self.state["list"]
            self.state["gone on"] = True
            return
        self.open()


KINDS = [name for name in vars(Caller) if name[0] != "_" and name not in ("open", "go_on")]


def storm(talk, path, kind, other):
    """Interrupt one kind of call so many times; return how often, and what is wrong afterwards."""
    sys.unraisablehook = id  # what is raised in a finaliser is lost, and told; that is as it should be
    dice = random.Random(f"{SEED} {kind}")
    helper, caller = Helper(), Caller(path)
    settle(caller.state)
    clean = descriptors(path)
    signal.signal(signal.SIGALRM, hit)
    other.tell("contend", "theirs")
    hits = calls = 0
    deadline = time.monotonic() + MOST_SECONDS
    found = []
    while hits < scaled(4000) and time.monotonic() < deadline:
        calls += 1
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, dice.expovariate(1 / dice.choice((2e-5, 1e-4, 5e-4))) + 1e-6)
                getattr(caller, kind)()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Hit:
            hits += 1
        except ClosedError:
            caller.open()
        except StateError as error:
            found.append(f"{type(error).__name__} in the storm: {error}")
            break
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    other.send("enough")
    return hits, found + judge(caller, other.receive(), helper, other, clean)


def judge(caller, theirs, helper, other, clean):
    """Return what is wrong after interrupts."""
    path = caller.path
    found = [f"cannot go on: {told}"] if (told := outcome(caller.go_on)) is not None else []
    state = caller.state
    found += stuck(state, other, helper, 1)
    if found:
        return found
    disk = on_disk(path)
    if not disk == state.plain() == other.ask("read"):
        found.append("they differ")
    if theirs is not None and disk["theirs"] != theirs:
        found.append(f"the other process was told {theirs}, and {disk['theirs']} is in the file")
    if not caller.told <= disk["mine"] <= caller.begun:
        found.append(f"told {caller.told} of {caller.begun} begun, and {disk['mine']} is in the file")
    if caller.view is not None:
        caller.view.close()
        caller.view = None
    settle(state)
    left = left_since(path, clean)
    images = sum(count for (_, name), count in left.items() if name.startswith("."))
    found += [f"left {how}: {name}, {count} times" for (how, name), count in left.items() if not name.startswith(".")]
    return found + [f"left open: {images} images"] * bool(images)


def beside_another(path, run, kind, seconds):
    """Return what comes of `run` in a child, with another process that has the state open."""
    mmapstate.open(path, START).close()
    with Other(path) as other:
        other.ask("open")
        with Child.share(run, path, kind, other) as child:
            return child.result(seconds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_of_interrupts_beside_another_process_leaves_nobody_stuck(path, kind, cases):
    hits, found = beside_another(path, storm, kind, 3 * MOST_SECONDS)
    cases(hits)
    assert not found, f"after {hits} interrupts: " + "\n".join(found)
    assert hits


class Contended:
    """The other process has the lock, until it has been tried for twice."""

    def __init__(self, other):
        self.other = other
        self.held = False
        self.tries = 0
        self.number = 0

    def take(self):
        self.number += 1
        self.tries = 0
        assert self.other.ask("hold", self.number) == "held"
        self.held = True

    def let_go(self):
        if self.held:
            self.held = False
            assert self.other.ask("go on") == "free"

    def handle(self, name, arguments, do):
        try:
            return do(*arguments)
        except BlockingIOError:
            if name == "flock" and arguments[1] != UNLOCK:
                self.tries += 1
                if self.tries == 2:
                    self.let_go()
            raise


def walk(talk, path, kind, other):
    """Interrupt a call that waits at each place, or at some of them; return at how many, and what is wrong."""
    sys.unraisablehook = id
    helper, caller, contended = Helper(), Caller(path), Contended(other)
    settle(caller.state)
    clean = descriptors(path)
    found, count, place, last = [], 0, 0, 1
    dice = random.Random(f"{SEED} {kind}")
    with between(contended.handle):
        while place < last:
            place += dice.randint(1, max(1, 2 * last // scaled(150)))
            caller.state.close()  # opened again here, through the seam
            caller.open()
            contended.take()
            passed, where = interrupted_at(place, getattr(caller, kind), Hit)
            last = max(last, passed + (passed >= place))
            contended.let_go()
            count += 1
            told = judge(caller, None, helper, other, clean)
            found += [f"{each}, at {where}" for each in told]
            if any(each.startswith("stuck") for each in told):
                break
    return count, found


@pytest.mark.skipif(sys.version_info < (3, 13), reason="older ones do not reliably trace each instruction")
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_each_place_while_another_process_has_the_lock_leaves_nobody_stuck(path, kind, cases):
    count, found = beside_another(path, walk, kind, 200)
    print(count, "places")
    cases(count)
    assert not found, "\n".join(found)
