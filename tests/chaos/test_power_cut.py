"""Loss of power: with "power" nothing acknowledged is lost, with "process" what is there is a state that once was.

Whatever stands on the disk afterwards is read by what `surprises` reads a file with that it does not know; a part of
the disks is opened for real, twice.
"""

import contextlib
import itertools
import os
import random
import zlib

import pytest
from support import independent_reader, probe
from support.lives import moved
from support.power import Recorder
from support.processes import not_on_windows
from support.runs import SEED, scaled

import mmapstate
from mmapstate import StateError
from mmapstate.file import content, host, reading

# Each is one record.
OPERATIONS = {
    "set": lambda state: state.update(n=state["n"] + 1),
    "text": lambda state: state.update(text="é" * 400),  # spans sectors
    "append": lambda state: state["jobs"].append({"id": len(state["jobs"])}),
    "delete": lambda state: state.pop("text", None),
    "transaction": moved,
    "large": lambda state: state.update(large="x" * 20_000),  # does not fit into the first region
    "vacuum": lambda state: state.vacuum(),
    "reopen": None,
    "crash": None,
}


# Disks to look at for each power cut and size of unit, by the length of the workload; if there are more, so many drawn.
MOST = {1: scaled(2048), 2: scaled(40), 3: scaled(6)}


class Run:
    """A workload, run once: the recorder, and after which step each state was acknowledged."""

    def __init__(self, path, workload, durability):
        self.path, self.durability = path, durability
        self.recorder = Recorder(path)
        self.states = [None, {}]  # what a program has seen as the state, in order: at first there is no file
        self.acknowledged = [(0, 0)]  # step, number of the state that was acknowledged then
        self.lasting = [(0, 0)]  # the same, of states that loss of power must not take
        with self.recorder.recording():
            state = self.open()
            for name in workload:
                if name in ("reopen", "crash"):
                    self.leave(state, name)
                    state = self.open()
                else:
                    OPERATIONS[name](state)
                    self.acknowledge(state, lasting=name == "vacuum")
            self.leave(state, "reopen")

    def open(self):
        state = mmapstate.open(self.path, {"n": 0, "jobs": []}, durability=self.durability)
        self.acknowledge(state)
        return state

    def leave(self, state, name):
        if name == "reopen":
            state.close()
            self.acknowledge(state, lasting=True)
        else:  # as if it had been killed
            probe.abandon(state)

    def acknowledge(self, state, lasting=False):
        found = mmapstate.plain(state)
        if found != self.states[-1]:
            self.states.append(found)
        step, number = self.recorder.step, len(self.states) - 1
        self.acknowledged.append((step, number))
        if lasting or self.durability == "power":
            self.lasting.append((step, number))

    def allowed(self, step):
        """Return the states that may be found when the power fails after `step`."""
        least = max(number for when, number in self.lasting if when <= step)
        most = max(number for when, number in self.acknowledged if when <= step) + 1
        if most == 1:
            most = 2  # creating a file and its defaults are two steps that are acknowledged as one
        return self.states[least : most + 2]


def recovered(data):
    """Return the state that a process finds in a file which nobody has had open since the machine started."""
    return None if data is None else content.read(data, content.layout(data, "it"), "it").state


def is_right(data, allowed, durability):
    """Return whether what is found in the bytes is one of the states that may be there."""
    try:
        return recovered(data) in allowed
    except StateError:
        return durability == "process"  # an error, never wrong data


def check_for_real(folder, data, allowed, durability, monkeypatch):
    """Open the file that was found, as the first process after a restart, and once more."""
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    path = os.path.join(folder, "found.state")
    if data is not None:
        with open(path, "wb") as file:
            file.write(data)
    for _ in range(2):
        if os.path.exists(path):
            os.utime(path, (1, 1))  # else it waits for an editor that may still be at work
        boot = random.SystemRandom().randbytes(16)
        monkeypatch.setattr(host, "boot_id", lambda boot=boot: boot)
        with contextlib.suppress(StateError):  # who cannot mend it is told where it is damaged
            assert data is None or reading.read(path) in allowed
        try:
            with mmapstate.open(path) as state:
                assert state.copy() in allowed or (None in allowed and state == {})
                probe.close_all()
        except StateError:
            assert durability == "process"
            return
        with open(path, "rb") as file:
            content_now = file.read()
        independent_reader.check(content_now)
        assert independent_reader.read_state(content_now) in allowed or None in allowed


@pytest.mark.family("power-cut")
@not_on_windows("what is recorded are the calls of POSIX; what becomes of a disk without power is the same there")
@pytest.mark.parametrize("durability", ["power", "process"])
def test_after_loss_of_power_there_is_a_state_that_was_and_with_power_the_last(
    tmp_path, durability, monkeypatch, cases
):
    dice = random.Random(SEED)
    boot = bytes(range(16))
    monkeypatch.setattr(host, "boot_id", lambda: boot)
    seen, count, opened = set(), 0, 0
    workloads = [w for length in (1, 2, 3) for w in itertools.product(OPERATIONS, repeat=length)]
    dice.shuffle(workloads)
    real = tmp_path / "real"
    real.mkdir()
    for number, workload in enumerate(sorted(workloads, key=len)[: max(scaled(len(workloads)), 90)]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        run = Run(str(folder / "example.state"), workload, durability)
        for step in run.recorder.cuts():
            allowed = run.allowed(step)
            for unit in (512, 4096):
                for data in run.recorder.disks(step, unit, dice, MOST[len(workload)]):
                    case = (None if data is None else zlib.crc32(data), repr(allowed))
                    if case in seen:
                        continue
                    seen.add(case)
                    count += 1
                    told = f"{workload}, {durability}, step {step} of {run.recorder.step}, units of {unit}, seed {SEED}"
                    assert is_right(data, allowed, durability), f"{told}\n{allowed!r:.500}\n{data!r:.3000}"
                    if dice.random() < 0.01:
                        opened += 1
                        check_for_real(str(real), data, allowed, durability, monkeypatch)
    print(f"{len(workloads)} workloads, {count} disks, {opened} of them opened")
    cases(count)
