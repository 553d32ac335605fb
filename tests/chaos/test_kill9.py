"""kill -9: every change whose statement ended is there; at most the one in flight is in doubt; it always reopens."""

import contextlib
import copy
import os
import random
import re
import time

import pytest
from support import independent_reader, probe
from support.lives import Model, Tripwire, moved
from support.processes import Child
from support.runs import SEED, scaled
from support.seam import between

import mmapstate
from mmapstate import PersistedState
from mmapstate.file import content as file_content

pytestmark = pytest.mark.family("kill9")


def operations(seed):
    """Yield an endless, repeatable run of changes: name and arguments."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        kind = dice.random()
        if kind < 0.45:
            yield "set", "n", number
        elif kind < 0.75:
            yield "append", "queue", [number, "x" * dice.choice((0, 3, 40, 40, 400, 400, 5000))]
        elif kind < 0.80:
            yield "nested", f"k{dice.randrange(5)}", number
        elif kind < 0.85:
            yield "trim", "queue", -3
        elif kind < 0.95:
            yield "many", number, dice.randrange(1, 6)
        else:
            yield "vacuum", None, None


def perform(state, name, key, value):
    """Do one of the operations to a live state or to a plain dict: each is one record."""
    if name == "set":
        state[key] = value
    elif name == "append":
        state.setdefault(key, [])
        state[key].append(value)
    elif name == "nested":
        state.setdefault("d", {})
        state["d"][key] = {"v": value}
    elif name == "trim":
        if key in state:
            del state[key][:value]
    elif name == "many":
        state.update({f"m{index}": [key] for index in range(value)})
    elif isinstance(state, PersistedState):
        state.vacuum()


REGIONS = (0, 40_000, probe.get(probe.GROWING_REGION))


def write_until_killed(talk, path, seed):
    probe.put(probe.GROWING_REGION, random.Random(seed).choice(REGIONS))
    state = PersistedState(path)
    talk.send("open")
    for operation in operations(seed):
        perform(state, *operation)
        talk.send("done")


def states_after(model, seed, count):
    """Return the states that may be found when `count` operations were acknowledged, smallest first."""
    run = operations(seed)
    for _ in range(count):
        perform(model, *next(run))
    yield mmapstate.plain(model)
    name, key, value = next(run)
    if name == "append" and key not in model:  # two records: the container, then the item
        yield {**mmapstate.plain(model), key: []}
    if name == "nested" and "d" not in model:
        yield {**mmapstate.plain(model), "d": {}}
    perform(model, name, key, value)
    yield mmapstate.plain(model)


ROUNDS = scaled(500 if hasattr(os, "fork") else 200)


def test_random_kills_of_a_writer_lose_no_acknowledged_change(path, cases):
    dice = random.Random(SEED)
    model = {"mine": True}
    with open(path, "wb") as file:
        file.write(b"# a comment of ours\nmine: true  # ours\n")
    acknowledged = 0
    for round_number in range(ROUNDS):
        seed = dice.getrandbits(32)
        with Child(write_until_killed, path, seed) as child:
            if dice.random() < 0.9:
                assert child.receive() == "open"
            time.sleep(dice.random() ** 3 * 0.03)
            done = [message for message in child.kill() if message == "done"]
        assert child.was_killed()
        acknowledged += len(done)
        allowed = list(states_after(model, seed, len(done)))
        # Half of the looks leave the file as the dead left it, for the next writer to clean up.
        with mmapstate.open(path, readonly=dice.random() < 0.5 and os.path.exists(path)) as state:
            found = state.copy()
        assert found in allowed, f"round {round_number}, seed {SEED}: {len(done)} acknowledged"
        with open(path, "rb") as file:
            content = file.read()
        assert independent_reader.read_state(content) == found
        assert content.startswith(b"# a comment of ours\nmine: true  # ours\n")
        model = found
    with PersistedState(path) as state:  # clears what the last of the dead left beside the file
        assert state == model
    cases(ROUNDS)
    print(f"{acknowledged} acknowledged changes")
    assert acknowledged > ROUNDS


def count_until_killed(talk, path, name, region):
    """Count up an own number and a common one, in one transaction, and keep each number in a common list."""
    probe.put(probe.GROWING_REGION, region)
    state = PersistedState(path)
    talk.send("open")
    while True:
        with state.transaction():
            number = state.setdefault(name, 0) + 1
            state[name] = number
            state["all"] = state.get("all", 0) + 1
            state.setdefault("last", []).append([name, number])
            if len(state["last"]) > 20:
                del state["last"][:10]
        talk.send(number)
        if number % 7 == 0:
            state.vacuum()


def test_kills_of_one_of_several_writers_lose_nothing_of_any(path, cases):
    dice = random.Random(SEED)
    kills, numbers = 0, dict.fromkeys("abcd", 0)
    for _ in range(scaled(150 if hasattr(os, "fork") else 40)):
        region = dice.choice(REGIONS)
        with contextlib.ExitStack() as ended:
            writers = {
                name: ended.enter_context(Child(count_until_killed, path, name, region))
                for name in dice.sample("abcd", dice.randrange(1, 5))
            }
            for name, writer in writers.items():
                if dice.random() < 0.8:
                    assert writer.receive() == "open"
                time.sleep(dice.random() ** 3 * 0.03)
                told = [message for message in writer.kill() if isinstance(message, int)]
                assert writer.was_killed()
                kills += 1
                numbers[name] = told[-1] if told else numbers[name]
        with mmapstate.open(path, readonly=dice.random() < 0.5 and os.path.exists(path)) as state:
            found = state.copy()
        for name, number in numbers.items():  # at most the one in flight is there, too
            assert found.get(name, 0) - number in (0, 1), (name, number, found, SEED)
            numbers[name] = found.get(name, 0)
        assert found.get("all", 0) == sum(numbers.values()), (found, SEED)
        for name in "abcd":
            kept = [number for by, number in found.get("last", []) if by == name]
            assert kept == list(range(numbers[name] - len(kept) + 1, numbers[name] + 1)), (found, SEED)
    cases(kills)
    print(f"{kills} kills, {sum(numbers.values())} transactions")
    with PersistedState(path):
        pass  # clears what the last of the dead left beside the file


def stumble(talk, path, at, torn):
    """Live a short life (open, change, vacuum, change, close) and die at the `at`-th step of it."""
    tripwire = Tripwire(at, torn)
    if torn:
        probe.put(probe.GROWING_REGION, 0)  # a region that is full is never made larger in place
    with between(tripwire.handle):
        state = mmapstate.open(path, {"n": 0})
        talk.send("done")
        for step in SHORT_LIFE:
            step(state)
            talk.send("done")
        state.close()
    talk.send("done")
    return tripwire.left


COMMENTED = b"# mine\nn: 0  # a number\n"

SHORT_LIFE = (
    lambda state: state.update(n=1),
    lambda state: state.update(text="é" * 3000),
    lambda state: state.update(queue=["x" * 9000]),
    lambda state: state["queue"].append("y" * 9000),  # no room: a larger region
    moved,
    lambda state: state.vacuum(),
    lambda state: state.update(n=2, m=[]),
    lambda state: state.__setitem__("n", 3),  # the short way, as these all
    lambda state: state["m"].append(4),
    lambda state: state["m"].append({"k": [5]}),
)


def short_life_states(done, before=None):
    """Return what may be in the file when so many steps of the short life, begun with `before`, were acknowledged."""
    states = [before or {}, {"n": 0, **(before or {})}]
    for step in SHORT_LIFE:
        model = Model(copy.deepcopy(states[-1]))
        step(model)
        states.append(dict(model))
    states.append(states[-1])
    return states[done : done + 2]


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("start", [None, b"", b"n: 0", COMMENTED])
def test_a_kill_at_every_step_of_a_short_life_loses_nothing_acknowledged(path, torn, start, cases):
    # Some of the steps, drawn anew each time, where fewer cases are wanted, or a process takes long to start.
    stride = max(1, 5 // scaled(5)) if hasattr(os, "fork") else 23
    at = random.Random(SEED).randrange(stride) - stride + 1
    while True:
        at += stride
        for name in os.listdir(os.path.dirname(path)):
            os.unlink(os.path.join(os.path.dirname(path), name))
        if start is not None:
            with open(path, "wb") as file:
                file.write(start)
            os.utime(path, (1, 1))
        with Child(stumble, path, at, torn) as child:
            messages = list(child.drain())
            child.wait()
        if not child.was_killed():
            assert messages[-1][0] == "result", messages[-1]
            assert messages[-1][1] >= 0
            break
        if os.path.exists(path):
            os.utime(path, (1, 1))  # else the next open waits for an editor that may still be at work
        if start == COMMENTED and os.path.exists(path):
            with open(path, "rb") as file:
                assert file.read().startswith(b"# mine\nn: "), at
        done = messages.count("done")
        allowed = short_life_states(done)
        if done == 0:
            allowed.append({})
        if os.path.exists(path):
            with mmapstate.open(path, readonly=True) as state:
                assert state.copy() in allowed, (at, done)
        for _ in range(2):  # opening twice changes nothing
            with PersistedState(path) as state:
                with open(path, "rb") as file:
                    content = file.read()
                parts = file_content.layout(content, path)
                assert parts.scan is None or parts.scan.clean, (at, done, content)
                assert state.copy() in allowed or (not done and state.copy() == {}), (at, done)
        leftovers = [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")]
        assert leftovers == [], (at, leftovers)
        if start == COMMENTED:
            with open(path, "rb") as file:
                assert re.match(rb"# mine\nn: \d  # a number\n", file.read()), at
    cases(at // stride)
    assert at > 60


@pytest.mark.family("recovery")
def test_a_kill_while_a_kill_is_cleaned_up_loses_nothing_either(path, cases):
    dice = random.Random(SEED)
    before, rounds = None, scaled(1000 if hasattr(os, "fork") else 80)
    for number in range(rounds):
        if number % 7 == 0:
            for name in os.listdir(os.path.dirname(path)):
                os.unlink(os.path.join(os.path.dirname(path), name))
            before = None
        at = dice.choice((dice.randrange(1, 40), dice.randrange(1, 150)))
        with Child(stumble, path, at, dice.random() < 0.5) as child:
            done = list(child.drain()).count("done")
            child.wait()
        allowed = short_life_states(done, before)
        told = (number, at, done, SEED)
        if os.path.exists(path):
            os.utime(path, (1, 1))  # else the next open waits for an editor that may still be at work
            with open(path, "rb") as file:  # half a character may be left in the comment at its end
                text = file.read().decode(errors="replace").encode()
            before = independent_reader.read_state(text, quick=True)
            assert before in allowed, told
        else:
            assert before is None, told
            assert not done, told
    with PersistedState(path) as state:  # clears what the last of the dead left
        assert state.copy() == (before or {})
    cases(rounds)
