"""Transactions: one record or none, for threads, processes, tasks and forks; rolled back to the same objects."""

import asyncio
import copy
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import probe
from support.independent_reader import read_file as on_disk
from support.independent_reader import read_state
from support.memory_tree import check_node
from support.processes import Child, held_by_a_thread, needs_fork, not_on_windows

import mmapstate
from mmapstate import ClosedError, LockTimeout, PersistedState, ReadOnlyError, StateError
from mmapstate.live.node import NODES


def records(path):
    """Return the changes of each record in the file."""
    from mmapstate import changes
    from mmapstate.file import content

    with open(path, "rb") as file:
        data = file.read()
    parts = content.layout(data, path)
    return [changes.decode(payload) for payload in parts.scan.payloads] if parts.scan else []


def picture(node):
    """Return all that a rollback must bring back: the nodes themselves, their order, and what they hold."""
    items = probe.items(node)
    pairs = items.items() if isinstance(items, dict) else enumerate(items)
    return (
        id(node),
        [(repr(key), picture(value) if value.__class__ in NODES else repr(value)) for key, value in pairs],
    )


class Stop(Exception):
    """Raised by the tests, to have a transaction taken back."""


CONTENTS = {
    "a": 1,
    "b": {"x": 1, "y": {"z": [1, 2, {"deep": True}]}, "w": 3},
    "c": [5, 3, {"n": 1}, [7, 8], 1, {"m": 2}],
    "d": "text",
    "numbers": [3, 1, 2],
    "e": None,
}

DICT_OPERATIONS = {
    "set a new key": lambda d: d.__setitem__("new", 1),
    "set a new container": lambda d: d.__setitem__("new", {"q": [1]}),
    "set a key there is": lambda d: d.__setitem__("x", 2),
    "set a key to a container": lambda d: d.__setitem__("x", [1]),
    "set a container to a scalar": lambda d: d.__setitem__("y", 2),
    "set a node elsewhere": lambda d: d.__setitem__("copy", d["y"]),
    "delete the first key": lambda d: d.__delitem__("x"),
    "delete the last key": lambda d: d.__delitem__("w"),
    "delete a container": lambda d: d.__delitem__("y"),
    "setdefault": lambda d: d.setdefault("new", [1]).append(2),
    "pop": lambda d: d.pop("y"),
    "popitem": lambda d: d.popitem(),
    "clear": lambda d: d.clear(),
    "update": lambda d: d.update({"x": 5, "new": {"a": 1}, "y": 1}),
    "|=": lambda d: d.__ior__({"w": [1], "newer": 2}),
    "increment": lambda d: d.increment("x", 5),
    "increment of a new key": lambda d: d.increment("counter"),
    "change below": lambda d: d["y"]["z"].append(4),
    "change and delete below": lambda d: (d["y"]["z"][2].update(more=1), d["y"].__delitem__("z")),
}

LIST_OPERATIONS = {
    "set": lambda c: c.__setitem__(0, 9),
    "set a container": lambda c: c.__setitem__(2, {"other": 1}),
    "set from the end": lambda c: c.__setitem__(-1, "last"),
    "set a slice": lambda c: c.__setitem__(slice(1, 3), [1, {"s": 1}, 3, 4]),
    "set a slice of the same length": lambda c: c.__setitem__(slice(1, 3), [1, {"s": 1}]),
    "set an extended slice": lambda c: c.__setitem__(slice(None, None, 2), [1, [2], 3]),
    "delete": lambda c: c.__delitem__(2),
    "delete a slice": lambda c: c.__delitem__(slice(1, 4)),
    "delete an extended slice": lambda c: c.__delitem__(slice(None, None, 2)),
    "delete backwards": lambda c: c.__delitem__(slice(None, None, -2)),
    "insert": lambda c: c.insert(1, {"i": 1}),
    "append": lambda c: c.append([1]),
    "extend": lambda c: c.extend([1, {"e": 2}]),
    "+=": lambda c: c.__iadd__([1, 2]),
    "*=": lambda c: c.__imul__(3),
    "*= 0": lambda c: c.__imul__(0),
    "extend by itself": lambda c: c.extend(c),
    "pop": lambda c: c.pop(),
    "pop the first": lambda c: c.pop(0),
    "remove": lambda c: c.remove(1),
    "clear": lambda c: c.clear(),
    "reverse": lambda c: c.reverse(),
    "sort": lambda c: c.sort(key=str),
    "move a node": lambda c: c.__setitem__(slice(0, 4), [c[3], c[2]]),
    "change below": lambda c: (c[2].update(n=2), c[3].reverse()),
    "change and delete below": lambda c: (c[3].append(1), c.pop(3)),
}


class TestRollingBack:
    @pytest.mark.parametrize("name", DICT_OPERATIONS)
    def test_every_operation_of_a_mapping_is_taken_back(self, path, name):
        self.take_back(path, lambda state: DICT_OPERATIONS[name](state["b"]))

    @pytest.mark.parametrize("name", LIST_OPERATIONS)
    def test_every_operation_of_a_list_is_taken_back(self, path, name):
        self.take_back(path, lambda state: LIST_OPERATIONS[name](state["c"]))

    @pytest.mark.parametrize("name", [name for name in DICT_OPERATIONS if "below" not in name])
    def test_every_operation_of_the_state_itself_is_taken_back(self, path, name):
        def change(state):
            state.update(x=state.pop("a"), y=state.pop("b"), w=state.pop("d"))
            DICT_OPERATIONS[name](state)

        self.take_back(path, change)

    @pytest.mark.parametrize("made", [False, True])
    @pytest.mark.parametrize("name", [*DICT_OPERATIONS, *LIST_OPERATIONS])
    def test_an_operation_that_an_interrupt_cut_is_taken_back(self, path, monkeypatch, name, made):
        """The interrupt comes when its inverse is known, just before it is made in memory, or just after."""
        state = mmapstate.open(path, CONTENTS)
        before = picture(state)
        add = probe.get(probe.ADD_UNDO)

        def cut(pending, node, changes, publish, *args):
            def interrupted(*args):
                if made:
                    publish(*args)
                raise KeyboardInterrupt

            add(pending, node, changes, interrupted, *args)

        with pytest.raises(KeyboardInterrupt), state.transaction():
            state["e"] = state["numbers"].pop()
            monkeypatch.setattr(probe.ADD_UNDO, cut)
            if name in DICT_OPERATIONS:
                DICT_OPERATIONS[name](state["b"])
            else:
                LIST_OPERATIONS[name](state["c"])
        assert picture(state) == before
        check_node(probe.root(state), [])

    def take_back(self, path, change):
        """Do it alone, twice, and amid others, and take it back each time; then do it for good."""
        state = mmapstate.open(path, CONTENTS)
        before, bytes_before = picture(state), Path(path).read_bytes()
        seed = random.randrange(1 << 32)
        print("seed", seed)
        rng = random.Random(seed)
        for amid in (False, True):
            with pytest.raises(Stop), state.transaction():
                if amid:
                    self.some(state, rng)
                change(state)
                if amid:
                    self.some(state, rng)
                assert amid or picture(state) != before, "amid others it can be what undoes another"
                raise Stop
            assert picture(state) == before
            check_node(probe.root(state), [])
            assert Path(path).read_bytes() == bytes_before, "the file saw something of it"
        with state.transaction():
            change(state)
        assert on_disk(path) == state.plain()
        assert len(records(path)) == 2, "one for the defaults, one for the transaction"
        check_node(probe.root(state), [])

    def some(self, state, rng):
        for _ in range(rng.randrange(5)):
            operation = rng.choice(list(LIST_OPERATIONS))
            if "numbers" in state and operation not in (
                "move a node",
                "change below",
                "change and delete below",
                "set an extended slice",
            ):
                try:
                    LIST_OPERATIONS[operation](state["numbers"])
                except (IndexError, ValueError):
                    pass
            if "b" in state:
                state["b"][rng.choice("pqr")] = rng.choice([1, [2], {"three": 3}])

    def test_what_a_failed_statement_inside_left_alone_is_committed_without_it(self, path):
        state = mmapstate.open(path, CONTENTS)
        with state.transaction():
            state["a"] = 2
            with pytest.raises(mmapstate.UnsupportedValueError):
                state["b"] = object()
            with pytest.raises(KeyError):
                del state["missing"]
            state["e"] = 3
        assert on_disk(path) == state.plain() == {**CONTENTS, "a": 2, "e": 3}

    def test_a_node_removed_inside_is_live_again_after_the_rollback(self, path):
        state = mmapstate.open(path, CONTENTS)
        node, item = state["b"]["y"], state["c"][2]
        with pytest.raises(Stop), state.transaction():
            del state["b"]["y"]
            state["c"].clear()
            with pytest.raises(mmapstate.DetachedError):
                node["more"] = 1
            raise Stop
        node["more"] = 1
        item["n"] = 2
        assert on_disk(path)["b"]["y"]["more"] == 1
        assert on_disk(path)["c"][2] == {"n": 2}

    def test_a_node_made_inside_is_detached_after_the_rollback(self, path):
        state = PersistedState(path)
        with pytest.raises(Stop), state.transaction():
            node = state.setdefault("new", {})
            raise Stop
        with pytest.raises(mmapstate.DetachedError):
            node["x"] = 1

    def test_deleting_many_keys_copies_the_mapping_once(self, path):
        state = mmapstate.open(path, {"m": {key: key for key in range(2000)}})
        with pytest.raises(Stop), state.transaction():
            for key in range(0, 2000, 2):
                del state["m"][key]
            assert probe.steps_to_undo(state) == 1
            raise Stop
        assert list(state["m"]) == list(range(2000))

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_an_exception_that_is_no_error_rolls_back_as_well(self, path, error):
        state = PersistedState(path, a=1)
        with pytest.raises(error), state.transaction():
            state.a = 2
            raise error
        assert on_disk(path) == state.plain() == {"a": 1}

    @not_on_windows("there a program can be sent no interrupt alone, without its parent")
    def test_a_real_interrupt_from_the_keyboard_rolls_back(self, path, interrupts):
        program = """
import sys, time, mmapstate
state = mmapstate.PersistedState(sys.argv[1], a=1, b=[1])
try:
    with state.transaction():
        state.a = 2
        state.b.append(2)
        print("inside", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print(state.plain(), flush=True)
"""
        process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "inside\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[0] == "{'a': 1, 'b': [1]}\n"
        finally:
            process.kill()
            process.wait()
        assert on_disk(path) == {"a": 1, "b": [1]}


class TestOneRecord:
    def test_all_changes_are_one_record_and_reads_inside_see_them(self, path):
        state = PersistedState(path, queue=[1, 2], running=[])
        before = len(records(path))
        with state.transaction() as same:
            assert same is state
            job = state.queue.pop(0)
            state.running.append(job)
            assert (state.queue.plain(), state.running.plain(), len(state["queue"])) == ([2], [1], 1)
            assert on_disk(path) == {"queue": [1, 2], "running": []}
        assert on_disk(path) == state.plain() == {"queue": [2], "running": [1]}
        assert len(records(path)) == before + 1

    def test_no_changes_are_no_record(self, path):
        with PersistedState(path, a=1):
            pass
        state = PersistedState(path)
        before = Path(path).read_bytes(), os.stat(path).st_mtime_ns
        with state.transaction():
            assert state.a == 1
        assert (Path(path).read_bytes(), os.stat(path).st_mtime_ns) == before

    def test_every_assignment_counts_equal_or_not(self, path):
        state = PersistedState(path, a=1)
        before = len(records(path))
        with state.transaction():
            state.a = 1
        assert len(records(path)) == before + 1

    def test_a_set_replaces_the_last_one_of_the_same_key(self, path):
        state = mmapstate.open(path, {"n": 0, "m": {"k": 0}})
        with state.transaction():
            for number in range(100):
                state.n = number
                state["m"]["k"] = number
        assert records(path)[-1] == [("set", [], "n", 99), ("set", ["m"], "k", 99)]

    def test_it_does_not_where_something_else_touched_that_mapping_in_between(self, path):
        state = mmapstate.open(path, {"a": 0, "b": 0})
        with state.transaction():
            state.a = 1
            state.b = 1
            state.a = 2
        assert records(path)[-1] == [("set", [], "a", 1), ("set", [], "b", 1), ("set", [], "a", 2)]
        with state.transaction():
            state.a = 1
            del state.a
            state.a = 2
        assert records(path)[-1] == [("set", [], "a", 1), ("delete", [], "a"), ("set", [], "a", 2)]
        assert list(on_disk(path)) == ["b", "a"] == list(state)

    def test_it_does_not_where_the_mapping_was_moved_in_between(self, path):
        state = mmapstate.open(path, {"c": [{"n": 1}, {"n": 2}]})
        with state.transaction():
            item = state["c"][0]
            item["n"] = 10
            state["c"].reverse()
            item["n"] = 11
        assert on_disk(path) == state.plain() == {"c": [{"n": 2}, {"n": 11}]}

    def test_it_does_not_where_a_container_was_set(self, path):
        state = mmapstate.open(path, {})
        with state.transaction():
            state["a"] = {"n": 1}
            state["a"]["n"] = 2
            state["a"] = 5
            state["a"] = 6
        assert on_disk(path) == state.plain() == {"a": 6}

    def test_changes_of_lists_are_never_merged(self, path):
        state = mmapstate.open(path, {"c": [1]})
        with state.transaction():
            state["c"][0] = 2
            state["c"][0] = 3
        assert records(path)[-1] == [("set", ["c"], 0, 2), ("set", ["c"], 0, 3)]

    def test_one_that_is_larger_than_the_region_works(self, path):
        state = PersistedState(path, a=1)
        state.a = 2
        with state.transaction():
            for number in range(3000):
                state[f"key {number}"] = "x" * 1000
        assert on_disk(path) == state.plain()
        assert len(state) == 3001
        with state.transaction():  # at rest, too
            state.b = "y" * 3_000_000
        assert on_disk(path) == state.plain()

    def test_one_that_outgrows_a_large_region_is_committed_once(self, path):
        state = PersistedState(path, c=[], text="")
        for number in range(4):
            state.text = str(number) * 300_000  # the region is past growing where it is
        with state.transaction():
            for _ in range(3):
                state.c.append("x" * 1_000_000)
        assert len(state.c) == 3
        assert on_disk(path) == state.plain()
        probe.close_all()
        assert len(PersistedState(path).c) == 3

    def test_a_program_of_nothing_but_transactions_keeps_its_file_small(self, path):
        state = PersistedState(path, a=0, log="")
        largest = 0
        for number in range(400):
            with state.transaction():
                state.a = number
                state.log = "x" * (20_000 if number % 3 else 60_000)
            largest = max(largest, os.path.getsize(path))
        assert largest < 8_000_000, "without a vacuum 13 MB"
        assert on_disk(path) == state.plain()

    def test_all_kinds_of_values_go_through_it(self, path):
        state = PersistedState(path)
        with state.transaction():
            state.update({"b": b"\xff", "inf": float("inf"), "big": 10**30, 1: {None: [True]}, "text": "\x85\u2028"})
            state["b2"] = b"x"
        assert on_disk(path) == state.plain()


class TestNesting:
    def test_nested_ones_join_the_outer(self, path):
        state = PersistedState(path, a=1)
        before = len(records(path))
        with state.transaction():
            state.a = 2
            with state.transaction():
                state.b = 3
            assert on_disk(path) == {"a": 1}
            state.c = 4
        assert on_disk(path) == {"a": 2, "b": 3, "c": 4}
        assert len(records(path)) == before + 1

    def test_an_inner_one_that_raises_is_taken_back_alone(self, path):
        state = PersistedState(path, a=1)
        with state.transaction():
            state.a = 2
            with pytest.raises(Stop), state.transaction():
                state.a = 3
                state.b = 3
                raise Stop
            assert state.plain() == {"a": 2}
            state.a += 2
        assert on_disk(path) == state.plain() == {"a": 4}

    def test_the_outer_takes_the_inner_ones_back_as_well(self, path):
        state = mmapstate.open(path, CONTENTS)
        before = picture(state)
        with pytest.raises(Stop), state.transaction():
            state["c"].pop(0)
            with state.transaction():
                del state["b"]["x"]
                with pytest.raises(Stop), state.transaction():
                    state["b"].clear()
                    raise Stop
                del state["b"]["y"]
            raise Stop
        assert picture(state) == before

    def test_it_nests_with_the_lock(self, path):
        state = PersistedState(path, a=1)
        with state._thread_lock:
            state.a = 2
            assert on_disk(path) == {"a": 2}
            with state.transaction(), state._thread_lock:
                state.a = 3
                assert on_disk(path) == {"a": 2}
            assert on_disk(path) == {"a": 3}
            state.a = 4
            assert on_disk(path) == {"a": 4}

    def test_it_can_be_begun_again_but_not_twice_at_once(self, path):
        state = PersistedState(path, a=1)
        transaction = state.transaction()
        for number in (2, 3):
            with transaction:
                state.a = number
                with pytest.raises(RuntimeError, match="begun already"), transaction:
                    pass
        assert on_disk(path) == {"a": 3}

    def test_all_handles_of_a_file_take_part(self, path):
        first, second = PersistedState(path, a=1), PersistedState(path)
        with first.transaction():
            first.a = 2
            assert second.a == 2
            with second.transaction():
                second.b = 1
            assert on_disk(path) == {"a": 1}
        assert on_disk(path) == {"a": 2, "b": 1}


class TestRefusals:
    def test_closing_and_compacting_inside_are_refused(self, path):
        state = PersistedState(path, a=1)
        with state.transaction():
            state.a = 2
            with pytest.raises(StateError, match=r"example\.state: a transaction is open"):
                state.close()
            with pytest.raises(StateError, match=r"example\.state: a transaction is open"):
                state.vacuum()
            state.a += 1
        state.close()
        assert on_disk(path) == {"a": 3}

    def test_readonly_and_closed_states_have_none(self, path):
        state = PersistedState(path, a=1)
        with mmapstate.open(path, readonly=True) as reader, pytest.raises(ReadOnlyError), reader.transaction():
            pass
        other = PersistedState(path)
        state.close()
        with pytest.raises(ClosedError), state.transaction():
            pass
        other.close()

    def test_one_whose_state_another_thread_closes_is_taken_back(self, path):
        state = mmapstate.open(path, {"a": 1}, timeout=0.05)
        with pytest.raises(ClosedError), state.transaction():
            state.a = 2
            thread = threading.Thread(target=state.close)
            thread.start()
            thread.join()
            with pytest.raises(ClosedError):
                state.a = 3
        assert state.a == 1
        assert on_disk(path) == {"a": 1}

    def test_a_full_disk_takes_it_back(self, path, monkeypatch):
        import errno

        from mmapstate.file import system

        state = mmapstate.open(path, CONTENTS)
        before = picture(state)

        def full(*_):
            raise OSError(errno.ENOSPC, "no space")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"), state.transaction():
            state["c"][3].append("x" * 100_000)
            patch.setattr(system, "write_all", full)
        assert picture(state) == before
        assert on_disk(path) == CONTENTS
        with state.transaction():
            state["c"][3].append(1)
        assert on_disk(path) == state.plain()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no limit on the size of a file on this system")
    @not_on_windows("there are no limits on the size of a file")
    def test_a_full_disk_does_not_keep_small_ones_from_working_after_a_large_one(self, path):
        def fill(talk):
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            state = mmapstate.open(path, {"x": 0, "c": []})
            with state.transaction():
                state.c.extend("x" * 100 for _ in range(3000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path), resource.RLIM_INFINITY))
            for number in range(3):
                with state.transaction():
                    state.x = number
            return on_disk(path) == state.plain(), state.x

        with Child(fill) as child:
            assert child.result() == (True, 2)

    def test_a_full_disk_at_the_first_commit_of_a_file_at_rest_takes_it_back(self, path, monkeypatch):
        import errno

        from mmapstate.file import system

        mmapstate.open(path, CONTENTS).close()
        state = mmapstate.open(path)
        before = picture(state)

        def full(*_):
            raise OSError(errno.ENOSPC, "no space")

        with monkeypatch.context() as patch:
            patch.setattr(system, "write_all", full)
            with pytest.raises(OSError, match="no space"), state.transaction():
                state["c"][3].append(1)
        assert picture(state) == before
        assert not probe.header(state).dirty
        with state.transaction():
            state["c"][3].append(1)
        assert on_disk(path) == state.plain()


class TestThreads:
    def test_other_threads_wait_instead_of_seeing_half_of_it(self, path):
        state = mmapstate.open(path, {"a": 0, "b": 0, "m": {"x": 0}, "c": [0]})
        seen, stop = [], threading.Event()

        def look():
            while not stop.is_set():
                first = state.a  # the writer raises b first: with a at n, b is at n already
                seen.append(first <= state.b)
                whole = state.plain()
                seen.append(whole["a"] == whole["b"] == whole["m"]["x"] == whole["c"][0])
                seen.append(state["m"]["x"] in range(301) and len(state["c"]) == 1)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 301):
            try:
                with state.transaction():
                    state.b = number
                    state["m"]["x"] = number
                    state["c"].append(number)
                    state["c"].pop(0)
                    state.a = number
                    if number % 3 == 0:
                        raise Stop
            except Stop:
                with state.transaction():
                    state.update(b=number, a=number, m={"x": number}, c=[number])
        stop.set()
        for thread in threads:
            thread.join()
        assert len(seen) > 100
        assert all(seen)

    def test_a_thread_that_waits_too_long_for_one_gets_a_lock_timeout(self, path):
        state = mmapstate.open(path, {"a": 1}, timeout=0.05)
        errors = []

        def look():
            for access in (lambda: state.a, lambda: state["a"], state.plain, lambda: len(state), lambda: list(state)):
                try:
                    access()
                except LockTimeout as error:
                    errors.append(str(error))

        with state.transaction():
            state.a = 2
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        assert len(errors) == 5
        assert all("example.state: another thread" in error for error in errors)

    def test_who_waits_for_one_that_is_in_a_long_statement_gets_a_lock_timeout_as_well(self, path):
        """It must not spin, either, until the statement ends."""
        state = mmapstate.open(path, {"c": [1, 2]}, timeout=0.05)
        errors, inside, enough = [], threading.Event(), threading.Event()

        def look():
            inside.wait(30)
            try:
                state.plain()
            except LockTimeout as error:
                errors.append(str(error))
            enough.set()

        def key(item):
            inside.set()
            assert enough.wait(30), "the other thread spins"
            return -item

        thread = threading.Thread(target=look)
        thread.start()
        with state.transaction():
            state.c.append(3)
            state.c.sort(key=key)
        thread.join()
        assert len(errors) == 1
        assert state.c.plain() == [3, 2, 1]

    def test_one_that_changed_nothing_yet_keeps_no_reader_waiting(self, path):
        state = mmapstate.open(path, {"a": 1}, timeout=0.05)
        values = []
        with state.transaction():
            thread = threading.Thread(target=lambda: values.append(state.a))
            thread.start()
            thread.join()
        assert values == [1]

    def test_repr_waits_for_none(self, path):
        state = mmapstate.open(path, {"a": 1}, timeout=None)
        texts = []
        with state.transaction():
            state.a = 2
            thread = threading.Thread(target=lambda: texts.append(repr(state)))
            thread.start()
            thread.join(20)
        assert texts

    def test_who_ends_one_is_not_disturbed_by_who_begins_the_next(self, path, monkeypatch):
        state = mmapstate.open(path, {"a": 0}, timeout=60)
        release = probe.get(probe.RELEASE)
        others = []

        def slow(lock):
            release(lock)
            if threading.current_thread() is threading.main_thread() and not others:
                threading.Thread(target=hold).start()
                assert begun.wait(30)

        begun, held = threading.Event(), threading.Event()

        def hold():
            with state._thread_lock:
                others.append(1)
                begun.set()
                held.wait(30)

        monkeypatch.setattr(probe.RELEASE, slow)
        with state.transaction():
            state.a = 1
        held.set()
        assert others == [1]
        assert on_disk(path) == {"a": 1}

    def test_who_waits_in_vain_does_not_open_the_door_for_changes_inside_changes(self, path):
        state = mmapstate.open(path, {"c": [3, 1, 2]}, timeout=0)
        refused = []

        def wait_in_vain():
            with pytest.raises(LockTimeout), state.transaction():
                pass

        def key(item):
            thread = threading.Thread(target=wait_in_vain)
            thread.start()
            thread.join()
            try:
                state["c"].append(99)
            except StateError as error:
                refused.append(str(error))
            return item

        state["c"].sort(key=key)
        assert len(refused) == 3
        assert on_disk(path) == {"c": [1, 2, 3]}

    def test_threads_that_count_in_transactions_lose_nothing(self, path):
        state = mmapstate.open(path, {"a": 0, "c": []}, timeout=60)

        def count():
            for _ in range(100):
                with state.transaction():
                    state.a += 1
                    state["c"].append(state.a)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert on_disk(path) == {"a": 400, "c": list(range(1, 401))}


def begin_and_end(state):
    with state.transaction():
        pass


def lock_and_release(state):
    with state._thread_lock:
        pass


class TestTasks:
    def run(self, path, access):
        """Touch the state from a second task while a transaction is open in the first; return what came of it."""
        state = mmapstate.open(path, {"a": 1, "c": [1]})

        async def holder(opened, go_on):
            with state.transaction():
                opened.set()
                await go_on.wait()
                state.a += 1

        async def main():
            opened, go_on = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(holder(opened, go_on))
            await opened.wait()
            try:
                access(state)
            except StateError as error:
                return str(error)
            finally:
                go_on.set()
                await task
            return None

        told = asyncio.run(main())
        assert on_disk(path) == {"a": 2, "c": [1]}
        access(state)  # afterwards it works
        return told

    @pytest.mark.parametrize(
        "access",
        [
            lambda state: state.a,
            lambda state: state["a"],
            lambda state: state.get("a"),
            lambda state: "a" in state,
            len,
            list,
            lambda state: state.plain(),
            lambda state: state == {},
            lambda state: state["c"][0],
            lambda state: setattr(state, "a", 2),
            lambda state: state["c"].append(1),
            lambda state: state.increment("a", 0),
            lambda state: state.update(a=2),
            begin_and_end,
            lock_and_release,
        ],
    )
    def test_any_access_from_another_task_of_the_thread_is_told_not_to_await_inside(self, path, access):
        told = self.run(path, access)
        assert told is not None
        assert "example.state: another task" in told
        assert "do not await inside" in told

    def test_the_task_itself_goes_on(self, path):
        state = PersistedState(path, a=1)

        async def main():
            with state.transaction():
                state.a += 1
                assert state.a == 2

        asyncio.run(main())
        assert on_disk(path) == {"a": 2}

    def test_a_cancelled_task_rolls_back(self, path):
        state = PersistedState(path, a=1)

        async def holder(opened):
            with state.transaction():
                state.a = 2
                opened.set()
                await asyncio.sleep(60)

        async def main():
            opened = asyncio.Event()
            task = asyncio.create_task(holder(opened))
            await opened.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert on_disk(path) == state.plain() == {"a": 1}

    def test_a_loop_that_runs_inside_of_one_takes_part(self, path):
        state = PersistedState(path, a=1)

        async def main():
            state.a += 1

        with state.transaction():
            asyncio.run(main())
        assert on_disk(path) == {"a": 2}


class TestProcesses:
    def test_other_processes_see_none_or_all(self, path):
        PersistedState(path, a=0, b=0, c=[]).close()

        def write(talk):
            state = PersistedState(path)
            talk.send("ready")
            for number in range(1, 400):
                with state.transaction():
                    state.a = number
                    state.c.append(number)
                    state.b = number
                if number % 50 == 0:
                    state.vacuum()

        with Child(write) as child:
            state = PersistedState(path)
            assert child.receive() == "ready"
            while state.a < 399:
                whole = state.plain()
                assert whole["a"] == whole["b"] == len(whole["c"])
                onto = on_disk(path)
                assert onto["a"] == onto["b"] == len(onto["c"])
            child.result()

    def test_each_batch_is_whole_for_other_processes(self, path):
        mmapstate.open(path, {"a": 0, "b": 0, "c": [0] * 20, "m": {}}).close()

        def write(talk):
            state = mmapstate.open(path)
            talk.send("ready")
            for number in range(1, 600):
                state.update(a=number, b=number)
                state |= {"a": -number, "b": -number}
                state["c"][:] = [number, -number] * 10
                state["c"].sort()
                state["c"].extend([0] * 20)
                state["c"][20:] = []
                state["m"].update(dict.fromkeys("vwxyz", number))
                state["m"].clear()

        with Child(write) as child:
            state = mmapstate.open(path)
            assert child.receive() == "ready"
            while state["a"] > -599:
                for copy in (state.plain(), on_disk(path)):
                    assert copy["a"] == copy["b"]
                    assert sum(copy["c"]) == 0
                    assert len(copy["c"]) in (20, 40)
                    changed = sum(
                        item != other for item, other in zip(copy["c"][:20], sorted(copy["c"][:20]), strict=True)
                    )
                    assert changed in (0, 10, 20), "half sorted"
                    assert len(copy["m"]) in (0, 5)
            child.result()

    def test_the_changes_of_others_are_there_when_it_begins(self, path):
        PersistedState(path, a=0).close()

        def count(talk):
            state = PersistedState(path)
            for _ in range(300):
                with state.transaction():
                    state.a += 1

        with Child(count) as first, Child(count) as second:
            first.result()
            second.result()
        assert on_disk(path) == {"a": 600}

    def test_one_whose_process_is_killed_never_was(self, path):
        PersistedState(path, a=1, c=[1]).close()

        def die(talk):
            state = PersistedState(path)
            with state.transaction():
                state.a = 2
                state.c.append(2)
                talk.send("inside")
                time.sleep(60)

        with Child(die) as child:
            assert child.receive() == "inside"
            child.kill()
        state = PersistedState(path)
        assert state.plain() == on_disk(path) == {"a": 1, "c": [1]}
        state.a = 3

    @needs_fork
    @pytest.mark.parametrize("changed", [False, True])
    def test_a_child_forked_inside_is_outside_of_it(self, path, changed):
        state = mmapstate.open(path, {"a": 1, "c": [1], "d": {"e": {"f": 1}}})
        node = state["d"]["e"]

        def child(talk):
            try:
                assert talk.receive() == "committed"
                assert state.a == (2 if changed else 1)  # what the parent has committed since
                node["f"] = 5
                state.b = 1
            finally:
                talk.send(state.plain())
            return on_disk(path)

        with state.transaction():
            if changed:
                state.a = 2
                state["c"].append(2)
            with Child.share(child) as forked:
                probe.end_transaction(state)
                forked.send("committed")
                expected = {"a": 2 if changed else 1, "c": [1, 2] if changed else [1], "d": {"e": {"f": 5}}, "b": 1}
                assert forked.receive() == expected
                assert forked.result() == expected

    @needs_fork
    def test_a_child_of_a_child_forked_inside_sees_what_was_before(self, path):
        """As who becomes a daemon does: the one in between never touches the state."""
        state = mmapstate.open(path, {"a": 1, "c": [1]})

        def between(talk):
            def grandchild(talk):
                seen = state.plain()
                state["b"] = 1
                state.vacuum()
                return seen

            assert talk.receive() == "taken back"
            with Child.share(grandchild) as child:
                return child.result()

        with pytest.raises(Stop), state.transaction():
            state.a = 2
            state["c"].append(2)
            forked = Child.share(between)
            raise Stop
        with forked:
            forked.send("taken back")
            assert forked.result() == {"a": 1, "c": [1]}
        assert on_disk(path) == state.plain() == {"a": 1, "c": [1], "b": 1}

    @needs_fork
    def test_a_child_forked_inside_sees_what_was_before_and_leaves_the_block_without_a_commit(self, path):
        state = mmapstate.open(path, {"a": 1, "c": [1, [2]]})
        inner = state["c"][1]
        read, write = os.pipe()
        pid = None
        try:
            with state.transaction():
                state.a = 2
                state["c"].clear()
                pid = os.fork()
                if pid == 0:
                    told = (state.plain(), inner is state["c"][1])
                else:
                    child_told = os.read(read, 1000).decode()  # it has left the block
            if pid == 0:
                os.write(write, repr((told, len(records(path)), state.plain())).encode() or b"?")
        finally:
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            os.close(read)
            os.close(write)
        assert child_told == repr((({"a": 1, "c": [1, [2]]}, True), 1, {"a": 1, "c": [1, [2]]}))
        assert on_disk(path) == state.plain() == {"a": 2, "c": []}

    def test_two_files_locked_in_opposite_order_end_in_a_lock_timeout_that_names_the_file(self, tmp_path):
        paths = [str(tmp_path / "first.state"), str(tmp_path / "second.state")]
        for each in paths:
            PersistedState(each, a=1).close()

        def work(talk, order):
            first, second = (mmapstate.open(each, timeout=0.3) for each in order)
            talk.send("open")
            assert talk.receive() == "lock"
            with first.transaction():
                first.a = 2
                talk.send("locked")
                assert talk.receive() == "go on"
                try:
                    with second.transaction():
                        second.a = 2
                except LockTimeout as error:
                    talk.send(str(error))
                    raise Stop from None
                talk.send("both")

        def caught(talk, order):
            try:
                work(talk, order)
            except Stop:
                pass

        with Child(caught, paths) as one, Child(caught, paths[::-1]) as other:
            assert one.receive() == other.receive() == "open"
            one.send("lock")
            other.send("lock")
            assert one.receive() == other.receive() == "locked"
            one.send("go on")
            other.send("go on")
            told = [one.receive(), other.receive()]
            one.result()
            other.result()
        assert "second.state: another process held the lock" in told[0] or told[0] == "both"
        assert "first.state: another process held the lock" in told[1] or told[1] == "both"
        assert told != ["both", "both"]
        states = [on_disk(each)["a"] for each in paths]
        assert states == ([1, 1] if "both" not in told else [2, 2])


class TestEdits:
    def test_an_edit_found_at_the_commit_rolls_back_and_asks_to_run_it_again(self, path, caplog):
        PersistedState(path, a=1, b=1, c=[[1]]).close()
        state = PersistedState(path)
        with (
            pytest.raises(StateError, match=r"example\.state: was edited by hand during the transaction.*run it again"),
            state.transaction(),
        ):
            state.a = 2
            state.c[0].append(2)
            with open(path, "w") as file:
                file.write("a: 10\nb: 20\nc:\n- - 1\n")
            probe.check_next(state)  # as if 50 ms had passed
        assert state.plain() == {"a": 10, "b": 20, "c": [[1]]}
        with state.transaction():
            state.a += 1
        assert on_disk(path) == {"a": 11, "b": 20, "c": [[1]]}

    def test_an_edit_that_does_not_parse_is_told_and_stays(self, path):
        PersistedState(path, a=1).close()
        state = PersistedState(path)
        with pytest.raises(mmapstate.StateFileError, match="line 1"), state.transaction():
            state.a = 2
            with open(path, "w") as file:
                file.write("a: [10\n")
            probe.check_next(state)
        assert Path(path).read_text() == "a: [10\n"
        with open(path, "w") as file:
            file.write("a: 10\n")
        assert state.a == 10

    def test_an_edit_of_the_same_size_is_found_as_well(self, path):
        PersistedState(path, a=1).close()
        state = PersistedState(path)
        with pytest.raises(StateError, match="run it again"), state.transaction():
            state.a = 2
            with open(path, "r+") as file:
                file.write("a: 7\n")
            probe.check_next(state)
        assert state.a == 7


def changes_of(state_path, steps):
    """Run random steps, each a list of operations that is committed or taken back, beside a model."""
    state = mmapstate.open(state_path, {"d": {}, "c": []})
    model = {"d": {}, "c": []}
    for commit, operations in steps:
        wanted = copy.deepcopy(model)
        before = picture(state)
        try:
            with state.transaction():
                for operation, key, value in operations:
                    for root in (state, wanted):
                        try:
                            target = root[key] if key in ("d", "c") else root
                            OPERATIONS[operation](target, key, copy.deepcopy(value))
                        except (LookupError, TypeError, AttributeError, ValueError):
                            pass
                if not commit:
                    raise Stop
            model = wanted
        except Stop:
            assert picture(state) == before
        assert mmapstate.plain(state) == model
        check_node(probe.root(state), [])
        with open(state_path, "rb") as file:
            assert read_state(file.read()) == model
    probe.close_all()
    with mmapstate.open(state_path) as again:
        assert again.plain() == model


OPERATIONS = {
    "set": lambda node, key, value: node.__setitem__("k" if isinstance(node, dict | mmapstate.StateDict) else 0, value),
    "set root": lambda node, key, value: node.__setitem__(key, value) if key not in ("d", "c") else None,
    "append": lambda node, key, value: node.append(value),
    "insert": lambda node, key, value: node.insert(0, value),
    "pop": lambda node, key, value: node.pop(),
    "pop first": lambda node, key, value: node.pop(0),
    "delete": lambda node, key, value: node.__delitem__("k"),
    "nested set": lambda node, key, value: node[0].__setitem__("n", value),
    "nested append": lambda node, key, value: node["k"].append(value),
    "deep set": lambda node, key, value: node["k"].__setitem__("n", value),
    "reverse": lambda node, key, value: node.reverse(),
    "clear": lambda node, key, value: node.clear(),
    "update": lambda node, key, value: node.update(k=value, other=1),
    "splice": lambda node, key, value: node.extend([]) or node.__setitem__(slice(1, 3), [value, copy.deepcopy(value)]),
}
values = st.recursive(
    st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("nk"), inner, max_size=2),
    max_leaves=4,
)
steps = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.sampled_from("dcxy"), values), min_size=1, max_size=8),
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
@example(steps=[(True, [("splice", "c", {}), ("nested set", "c", 1)])])  # what is put in twice is two containers
def test_random_transactions_equal_those_of_plain_data(tmp_path_factory, steps):
    changes_of(str(tmp_path_factory.mktemp("random") / "example.state"), steps)


def test_two_threads_each_with_a_transaction_on_another_file_do_not_meet(tmp_path):
    first, second = PersistedState(str(tmp_path / "a.state"), a=1), PersistedState(str(tmp_path / "b.state"), a=1)
    with held_by_a_thread(first.transaction()), second.transaction():
        second.a = 2
    assert (first.a, second.a) == (1, 2)
