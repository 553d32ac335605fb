"""An interrupt at any moment of a transaction, and at each place where signals are handled: one record or none."""

import functools
import random
import signal
import sys

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.interrupting import interrupted_at
from support.memory_tree import check_node
from support.processes import Child, not_on_windows
from support.runs import scaled

import mmapstate
from mmapstate import PersistedState, StateError


@pytest.mark.family("interrupts")
class TestInterrupts:
    @not_on_windows("there is no timer that sends signals there")
    def test_an_interrupt_at_any_moment_leaves_memory_and_file_alike(self, path, cases):
        """A timer of random length interrupts transactions; what is left is always the last committed one.

        The length follows what a transaction takes on this machine, at this moment: too short, and the next is longer.
        """
        seed = random.randrange(1 << 32)
        print("seed", seed)

        def storm(talk):  # in a child: an interrupt can leave a descriptor open
            probe.forget_blocks()  # of the parent
            rng = random.Random(seed)
            state = mmapstate.open(path, {"n": 0, "m": {"n": 0, "gone": 1}, "c": [{"n": 0}, 0]})
            committed = interrupted = 0
            longest = 4e-4  # s

            def interrupt(*_):
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, interrupt)
            for number in range(1, scaled(600) + 1):
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, longest))
                    with state.transaction():
                        state.n = number
                        change_all(state, number)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    committed += 1
                    longest *= 0.8
                except KeyboardInterrupt:
                    interrupted += 1
                    longest *= 1.25
                signal.setitimer(signal.ITIMER_REAL, 0)
                check_left(state, path)
                if number % 4 == 0:
                    state.vacuum()
            return committed, interrupted

        with Child(storm) as child:
            committed, interrupted = child.result()
        print(committed, "committed,", interrupted, "interrupted")
        assert committed
        assert interrupted
        cases(committed + interrupted)

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="older ones do not reliably trace each instruction")
    def test_an_interrupt_at_every_place_where_signals_are_handled_leaves_memory_and_file_alike(self, path, cases):
        def walk(talk):
            probe.forget_blocks()  # of the parent
            state = mmapstate.open(path, {"n": 0, "m": {"n": 0, "gone": 1}, "c": [{"n": 0}, 0]})

            def work(number):
                with state.transaction():
                    change_all(state, number)
                    state["n"] = number

            place = 0
            while interrupted_at(place + 1, functools.partial(work, place))[1]:
                check_left(state, path)
                place += 1
                if place % 4 == 0:
                    state.vacuum()
            return place

        with Child(walk) as child:
            places = child.result()
            assert places > 300
            cases(places)

    def test_one_that_was_interrupted_inside_a_change_and_goes_on_is_taken_back(self, path, monkeypatch):
        state = PersistedState(path, a=1, c=[1])

        def interrupted(*_):
            raise KeyboardInterrupt

        with pytest.raises(StateError, match="interrupted in the middle of a change"), state.transaction():
            state.a = 2
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(probe.PUT_IN, interrupted)
                state.c.append(2)
            state.a = 3
        assert on_disk(path) == state.plain() == {"a": 1, "c": [1]}


def change_all(state, number):
    state["m"].pop("gone", None)
    state["m"]["n"] = number
    state["c"][0]["n"] = number
    state["c"].reverse()
    state["c"].reverse()
    state["c"][1] = number
    state["m"]["gone"] = 1


def check_left(state, path):
    """Assert that memory and file are what one transaction made of them, and that nothing is held any more."""
    assert probe.is_nothing_left(state)
    whole = state.plain()
    assert whole == on_disk(path)
    last = whole["n"]
    assert whole == {"n": last, "m": {"n": last, "gone": 1}, "c": [{"n": last}, last]}
    check_node(probe.root(state), [])
