"""A process stopped (SIGSTOP) at each of its calls and stores: the others read on, writers are told, nothing is lost.

Readers, those that write otherwise and those that are readonly, read what was there before or what it makes of it, at
once. A writer, or who opens, gets the lock or `LockTimeout` when its time is over. When it goes on, all do.
"""

import collections
import os
import random
import signal
import time

import pytest
from support import probe
from support.lives import Model
from support.others import Other, on_disk
from support.processes import Child, needs_fork
from support.runs import SEED, scaled
from support.seam import between

import mmapstate

pytestmark = [pytest.mark.family("stops"), needs_fork]

START = {"n": 0, "items": [], "text": ""}
TIMEOUT = 0.04  # seconds that a writer waits
AT_ONCE = 2  # seconds; the machine may be busy


def transaction(state, number):
    with state.transaction():
        state["n"] = number
        state["items"].append(number)


def write(state, number):
    state["n"] = number


def long_way(state, number):
    state.update(n=number, items=[number])


def larger(state, number):
    state["text"] = "é" * (9000 + number)


def vacuum(state, number):
    state.vacuum()


def open_again(state, number):
    return mmapstate.open(probe.file_path(state), timeout=5)


def open_with_defaults(state, number):
    return mmapstate.open(probe.file_path(state), {f"default {number}": 1}, timeout=5)


def close(state, number):
    state.close()


def nothing(state, number):
    pass


# Name: what is done before, undisturbed; the step that is stopped.
STEPS = {
    "open": (close, open_again),
    "open-with-defaults": (close, open_with_defaults),
    "first-write": (vacuum, write),
    "write": (write, write),
    "write-the-long-way": (write, long_way),
    "write-a-larger-region": (vacuum, larger),
    "transaction": (write, transaction),
    "vacuum": (write, vacuum),
    "close": (write, close),
}


def stop_at_each(talk, path, kind, durability):
    """Do what is told: prepare a step, or do it, and stop at the call of a number; tell the calls that it took."""
    prepare, step = STEPS[kind]
    state = mmapstate.open(path, timeout=5, durability=durability)
    while (order := talk.receive(600)) is not None:
        number, at = order
        if probe.is_closed(state):
            state = mmapstate.open(path, timeout=5, durability=durability)
        prepare(state, -number)
        talk.send(state.plain())
        talk.receive(600)
        calls = 0

        def handle(name, arguments, do):
            nonlocal calls
            calls += 1
            if calls == at:  # noqa: B023 - it is called before the next
                os.kill(os.getpid(), signal.SIGSTOP)
            return do(*arguments)

        with between(handle):
            state = step(state, number) or state
        talk.send(calls)


def stops(child):
    """Return whether the child stops; else it has said something."""
    while True:
        pid, status = os.waitpid(child.pid, os.WUNTRACED | os.WNOHANG)
        if pid:
            assert os.WIFSTOPPED(status), status
            return True
        if child.line.ready(1e-3):
            return False


READS = ("read", "read_view", "read_only")


def without_count(state):
    return {key: value for key, value in state.items() if key != "count"} if isinstance(state, dict) else state


def read(reader, how, known, patience=0.0):
    """Have it read one of the `known` states, at the latest after so many seconds; return what is wrong with it."""
    end = time.monotonic() + patience
    while True:
        begun = time.monotonic()
        got = without_count(reader.ask(how))
        took = time.monotonic() - begun
        if got in known or time.monotonic() > end:
            break
    if got not in known:
        return [f"{how}: {got}"[:150] if isinstance(got, str) else f"{how}: another state"]
    return [f"{how}: took {took:.1f} s"] if took > AT_ONCE else []


class Writer:
    """Another process that writes, and opens the state anew; what it was told."""

    def __init__(self, other):
        self.other = other
        self.count = 0

    def increment(self):
        """Return what is wrong with its number, or with how long that took."""
        begun = time.monotonic()
        told = self.other.ask("increment", "count")
        took = time.monotonic() - begun
        if took > TIMEOUT + AT_ONCE:
            return [f"increment: took {took:.1f} s"]
        if isinstance(told, str):
            return [] if told.startswith("LockTimeout") else [f"increment: {told}"[:150]]
        self.count += 1
        return [] if told == [self.count] else [f"increment: {told}, not {self.count}"]

    def open_anew(self):
        begun = time.monotonic()
        told = self.other.ask("open_anew")
        took = time.monotonic() - begun
        if took > 3 * TIMEOUT + AT_ONCE:  # the close waits, too, and what it may compact
            return [f"open: took {took:.1f} s"]
        return [f"open: {told}"[:150]] if told is not None and not told.startswith("LockTimeout") else []


def a_round(child, reader, writer, kind, number, at):
    """Stop the child at one call of its step; return what is wrong, or None where it came to no such call."""
    child.send((number, at))
    before = without_count(child.receive())
    effect = {"open": nothing, "close": nothing, "open-with-defaults": default}.get(kind, STEPS[kind][1])
    after = Model({**before, "items": [*before["items"]]})
    effect(after, number)
    found = [f"before: {each}" for how in READS for each in read(reader, how, [before], patience=0.2)]
    child.send("go")
    if not stops(child):
        child.receive()
        return None
    try:
        for how in READS:
            found += read(reader, how, [before, after])
        found += writer.increment() + (writer.open_anew() if at % 2 else [])
        for how in READS:
            found += read(reader, how, [before, after])
    finally:
        os.kill(child.pid, signal.SIGCONT)
    child.receive()
    told = writer.increment()
    found += [f"afterwards: {each}" for each in told]
    found += [f"afterwards: {each}" for how in READS for each in read(reader, how, [after], patience=0.2)]
    return found


def default(state, number):
    state.setdefault(f"default {number}", 1)


@pytest.mark.parametrize(
    ("kind", "durability"),
    [(kind, "process") for kind in STEPS] + [(kind, "power") for kind in ("first-write", "write", "transaction")],
)
def test_a_process_stopped_at_each_step_keeps_nobody_for_long(path, kind, durability, cases):
    mmapstate.open(path, START).close()
    dice = random.Random(f"{SEED} {kind} {durability}")
    found, number, at = collections.defaultdict(list), 0, 0
    with (
        Other(path, TIMEOUT) as reader,
        Other(path, TIMEOUT) as other,
        Child(stop_at_each, path, kind, durability) as child,
    ):
        writer = Writer(other)
        while True:
            number += 1
            at += dice.randint(1, 2 * round(1 / min(1, scaled(100) / 100)) - 1)
            wrong = a_round(child, reader, writer, kind, number, at)
            if wrong is None:
                break
            for each in wrong:
                found[each].append(at)
        assert on_disk(path).get("count", 0) == writer.count
    cases(number)
    assert not found, "\n".join(f"{each}: stopped at call {calls[:12]}" for each, calls in found.items())
