"""The stack or the memory ends anywhere inside a call: what raised is not committed, and all goes on.

Every kind of call is made with one frame left, with two, and so on until it succeeds; and so that its first allocation
fails, its second, and so on (by CPython's own `_testcapi.set_nomemory`): one, three in a row, all that follow. That
goes on in the clean-up, too, which has no frame or no memory either. Afterwards the file and memory are what they were
when the call raised, what they should be when it returned; this thread, another one and another process write at
once; nothing is left open.

CPython itself does not survive each allocation that fails. Such a death counts as one by kill -9.
"""

import collections
import functools
import gc
import os
import random
import signal
import sys
import threading

import pytest
from conftest import SEED, scaled
from lives import Model
from others import SOON, Helper, Other, descriptors, on_disk, outcome
from processes import Child, needs_fork, not_on_windows

import mmapstate

try:
    import _testcapi
except ImportError:  # a CPython built without its tests, or none
    _testcapi = None

pytestmark = [
    pytest.mark.family("memory"),
    needs_fork,
    not_on_windows("it is about what any system has"),
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell what is open"),
]

START = {"n": 0, "text": "", "list": [1, 2, 3], "c": {"n": 0}, "f": 0.5}
NESTED = {"a": {"b": [1, {"e": 2.5}]}}
NEWS = (None, "write", "vacuum")
ENOUGH = 9  # calls in a row that succeed: it needs no more
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


class Frames:
    """So many frames are left."""

    errors = ("RecursionError",)
    dense = 1000  # numbers up to which each is tried in a full run

    def __init__(self):
        sys.setrecursionlimit(600)

    def __call__(self, left, call):
        """Do `call` with `left` frames left, its own among them. How many there are, only trying tells."""

        def deepest(depth):
            try:
                return deepest(depth + 1)
            except RecursionError:
                return depth

        def sink(depth):
            return sink(depth - 1) if depth > 0 else call()

        return sink(deepest(0) - left)


class FramesOfC(Frames):
    """The same for what CPython 3.12 and 3.13 count apart: calls by C of what may call C again."""

    def __init__(self):
        sys.setrecursionlimit(200_000)

    def __call__(self, left, call):
        def deepest(depth):
            try:
                return functools.partial(deepest, depth + 1)()
            except RecursionError:
                return depth

        def sink(depth):
            return functools.partial(sink, depth - 1)() if depth > 0 else call()

        return sink(deepest(0) - left)


class Allocations:
    """So many allocations succeed, and then `width` of them fail.

    Not all for ever: where a handler of exceptions begins behind its function's 256th instruction, CPython 3.11 and
    later tries for ever to have memory for its number.
    """

    errors = ("MemoryError", "RuntimeError", "SystemError")  # locks, and CPython's own mistakes, raise the others
    dense = 80

    def __init__(self, width):
        self.width = width

    def __call__(self, left, call):
        gc.disable()
        try:
            _testcapi.set_nomemory(left, left + self.width)
            return call()
        finally:
            _testcapi.remove_mem_hooks()
            gc.enable()


def cases_of(kind, dense, start):
    """Yield how much is left, and what another process has just done, in each case.

    A long run tries all; others try all news but in a row, and beyond `dense` not each number.
    """
    dice = random.Random(f"{SEED} {kind} {start}")
    share = scaled(1000) / 1000
    number = start
    while True:
        yield from [(number, news) for news in NEWS] if share >= 4 else [(number, dice.choice(NEWS))]
        mean = max(1.0, (0.25 if number < dense else 4) / share)
        number += dice.randint(1, round(2 * mean - 1))


def judge(path, state, other, helper, number, before, wanted, raised, errors):
    """Return what is wrong after a call that `raised` (None: it returned)."""
    found = []
    disk = on_disk(path)
    if raised is None and disk != wanted:
        found.append("returned, and is not in the file")
    if raised is not None:
        if disk != before:
            found.append("raised, yet committed")
        if raised not in errors:
            found.append(f"raised {raised}")
    memory = outcome(lambda: state.plain())
    if memory != disk:
        found.append(f"memory is not what the file holds: {memory}"[:90] if isinstance(memory, str) else "memory")
    for who, told in (
        ("another thread", helper.ask(state.__setitem__, "thread", number)),
        ("this thread", outcome(state.__setitem__, "this", number)),
        ("another process", other.ask("write", "other", number)),
    ):
        if told is not None:
            found.append(f"stuck: {who}: {told.split(':')[0]}")
    if not found:
        after = {**disk, "thread": number, "this": number, "other": number}
        if not on_disk(path) == state.plain() == after == other.ask("read"):
            found.append("goes on with something else")
    return found


def settle(state):
    """Have it open what it opens: a map of the journal, and its presence, on the file of this moment."""
    state.vacuum()
    state["settled"] = True


def left_open(path, clean):
    """Return what is open that was not, and take it for clean from now on."""
    left = descriptors(path) - clean
    clean.update(left)
    return [f"left {how}: {'an image' if name.startswith('.') else name}" for how, name in left]


def work(talk, path, kind, limit, other, start):
    """Make the calls of one kind from the number `start` on, and tell of each what is wrong after it."""
    helper = Helper()
    deprived = limit()
    goes_on = 0
    state = mmapstate.open(path, timeout=SOON)
    settle(state)
    if kind in LIVES:
        state.close()
    clean = descriptors(path)
    for number, news in cases_of(kind, deprived.dense, start):
        talk.send(number)
        if kind in LIVES:
            other.ask("close" if kind.endswith("alone") else "open")
            state = None
        if kind.startswith("close") or kind in WRITES:
            state = state or mmapstate.open(path, timeout=SOON)
            state.update({"list": [1, 2, 3], "f": 0.5, "n": 0, "text": ""})
        if news:
            other.ask(news, *(["news", number] if news == "write" else []))
        before = on_disk(path)
        wanted = Plain({**before, "list": [*before.get("list", [])], "c": {**before["c"]}})
        opened = []
        if kind in WRITES:
            WRITES[kind](wanted, number)
            call = functools.partial(WRITES[kind], state, number)
        elif kind.startswith("open"):
            call = functools.partial(lambda: opened.append(mmapstate.open(path, timeout=SOON)))
        else:
            call = state.close
        raised = None
        try:
            deprived(number, call)
        except BaseException as error:
            raised = type(error).__name__
        if kind.startswith("open"):
            state = outcome(lambda: opened[0] if opened else mmapstate.open(path, timeout=SOON))
        elif kind.startswith("close"):
            told = outcome(state.close) if raised else None
            state = outcome(lambda: mmapstate.open(path, timeout=SOON)) if told is None else told
        if isinstance(state, str):
            talk.send([f"stuck: {state.split(':')[0]}"])
            return False
        found = judge(path, state, other, helper, number, before, wanted, raised, deprived.errors)
        if kind in LIVES and not found:
            state.close()
            found += left_open(path, clean)
        talk.send(found)
        if any(each.startswith("stuck") for each in found):
            return False
        goes_on = 0 if raised else goes_on + 1
        if goes_on == ENOUGH:
            break
        if os.path.getsize(path) > SMALL:
            other.ask("vacuum")
    if kind not in LIVES:
        settle(state)
        talk.send(left_open(path, clean))
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
    """Make all calls of one kind, and assert that each costs nothing; return how many CPython did not survive."""
    mmapstate.open(path, START).close()
    found, stuck, deaths, number, count, done = collections.defaultdict(list), 0, 0, 0, 0, False
    while stuck < MOST_STUCK and not done:
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
                    stuck += not done
                except AssertionError as error:
                    if "no message" in str(error):
                        found["hangs"].append(number)
                        stuck += 1
                        continue
                    child.wait()
                    if not os.WIFSIGNALED(child.status) or os.WTERMSIG(child.status) not in DEATHS:
                        raise
                    deaths += 1
                    if (told := other.ask("write", "after a death", number)) is not None:
                        found[f"after a death of CPython: {told}"].append(number)
    print(kind, limit, count, "cases,", deaths, "of them deaths of CPython")
    cases(count)
    assert not found, "\n".join(f"{what}: {len(numbers)} times, {numbers[:8]}" for what, numbers in found.items())
    return deaths


@pytest.mark.parametrize("kind", [*WRITES, *LIVES])
class TestEach:
    def test_depth_at_which_the_stack_ends_costs_nothing(self, path, kind, cases):
        assert not judged(path, kind, Frames, cases)

    @pytest.mark.skipif(sys.version_info[:2] not in ((3, 12), (3, 13)), reason="others count calls of C as frames")
    def test_depth_at_which_the_stack_of_c_ends_costs_nothing(self, path, kind, cases):
        assert not judged(path, kind, FramesOfC, cases, in_a_thread)

    @pytest.mark.skipif(_testcapi is None, reason="this Python has no _testcapi")
    @pytest.mark.parametrize("width", [1, 3, 1000], ids=["one", "three", "all"])
    def test_allocation_that_fails_costs_nothing(self, path, kind, width, cases):
        judged(path, kind, functools.partial(Allocations, width), cases)
