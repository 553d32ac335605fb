"""Threads that close a state, and open it again, while others use it: `ClosedError` or `LockTimeout`, nothing else.

Each thread keeps what it was told: a change whose statement ended is in the file, one that raised is not. Likewise
where the system fails to unlock: what raised is not committed, and nobody is locked out.
"""

import collections
import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback

import pytest
from support.others import SOON, Other, descriptors, on_disk, settle
from support.processes import Child, needs_fork
from support.runs import scaled

import mmapstate
from mmapstate import ClosedError, LockTimeout

pytestmark = [
    pytest.mark.family("fork"),
    needs_fork,
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell what is open"),
]

TOKENS = 100_000
START = {"counted": 0, "together": [0, 0], "items": [], "tokens": TOKENS}


class Threads:
    """What each thread does, all with the one state that one of them closes."""

    def __init__(self, path, timeout):
        self.path, self.timeout = path, timeout
        self.over = False
        self.told = collections.Counter()
        self.errors = collections.Counter()
        self.open()

    def open(self):
        self.state = mmapstate.open(self.path, timeout=self.timeout)

    def close(self):
        self.state.close()

    def counted(self):
        self.state.increment("counted")
        self.told["counted"] += 1

    def together(self):
        with self.state.transaction() as state:
            for index in range(2):
                state["together"][index] += 1
        self.told["together"] += 1

    def items(self):
        self.state["items"].append(self.told["items"] + 1)
        self.told["items"] += 1

    def tokens(self):
        self.state.update(tokens=TOKENS - self.told["tokens"] - 1)
        self.told["tokens"] += 1

    def read(self):
        state = self.state
        assert len(state.plain()) >= len(START)
        assert state["counted"] >= 0
        assert "counted" in repr(state)

    def vacuum(self):
        self.state.vacuum()

    def run(self, call):
        while not self.over:
            time.sleep(2e-4)  # else they take turns with each other, and the file grows
            try:
                call()
            except (ClosedError, LockTimeout):
                if call == self.read:
                    raise
            except BaseException as error:
                where = [
                    f"{os.path.basename(each.filename)}:{each.name}"
                    for each in traceback.extract_tb(error.__traceback__)
                ]
                self.errors[f"{call.__name__}: {type(error).__name__}: {error} in {where[-1]}"] += 1


def close_again_and_again(talk, path, timeout, rounds):
    """Close and open while the threads are at work; return what they were told, and what is wrong afterwards."""
    sys.setswitchinterval(1e-5)
    faulthandler.dump_traceback_later(100, exit=True)  # what hangs is shown
    threads = Threads(path, timeout)
    settle(threads.state)
    clean = descriptors(path)
    calls = (threads.counted, threads.together, threads.items, threads.tokens, threads.read, threads.vacuum)
    running = [threading.Thread(target=threads.run, args=(call,), daemon=True) for call in calls]
    for thread in running:
        thread.start()
    for _ in range(rounds):
        for call in (threads.close, threads.open):
            try:
                call()
            except LockTimeout:
                pass
            except BaseException as error:
                threads.errors[f"{call.__name__}: {type(error).__name__}: {error}"] += 1
    threads.over = True  # what hangs is told by who waits for this process in vain
    for thread in running:
        thread.join(4 * SOON)
    if any(thread.is_alive() for thread in running):
        return threads.told, {"a thread hangs": 1}
    with contextlib.suppress(ClosedError):
        threads.state.close()
    threads.timeout = SOON
    threads.open()
    settle(threads.state)
    left = descriptors(path) - clean
    threads.errors.update({f"left {how}: {name}": count for (how, name), count in left.items()})
    return threads.told, dict(threads.errors)


@pytest.mark.parametrize(
    ("timeout", "alone", "rounds"),
    [(SOON, True, 800), (1e-3, True, 1500), (0, True, 1500), (0.01, False, 300)],
    ids=["patient", "impatient", "trying-once", "beside-another-process"],
)
def test_threads_that_use_a_state_which_another_closes_are_told_and_nothing_is_doubled(
    path, timeout, alone, rounds, cases
):
    mmapstate.open(path, START).close()
    with Other(path) as other:
        if not alone:
            other.tell("contend", "theirs")
        with Child.share(close_again_and_again, path, timeout, scaled(rounds)) as child:
            told, errors = child.result(120)
        if not alone:
            other.send("enough")
            other.receive()
            other.ask("close")
    cases(scaled(rounds))
    disk = on_disk(path)
    wrong = [f"{what}: {count} times" for what, count in errors.items()]
    in_file = {
        "counted": disk["counted"],
        "together": disk["together"][0],
        "items": len(disk["items"]),
        "tokens": TOKENS - disk["tokens"],
    }
    wrong += [f"{key}: told {told[key]}, in the file {in_file[key]}" for key in in_file if in_file[key] != told[key]]
    assert disk["together"][0] == disk["together"][1]
    assert not wrong, "\n".join(wrong)
