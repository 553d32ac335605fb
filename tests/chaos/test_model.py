"""Three processes share a state; whatever they do, each sees what plain dicts and lists would hold.

A state machine of Hypothesis gives orders to real worker processes over pipes: changes, transactions, rollbacks,
vacuums, closing and opening again, ``kill -9``. After each step all of them, and an independent reader of the file,
must agree with the model. MMAPSTATE_TEST_STEPS sets how many steps are made (2,000 by default).
"""

import copy
import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child
from support.runs import scaled

import mmapstate

# Where a process cannot be forked, to start the workers takes most of the time.
STEPS = int(os.environ.get("MMAPSTATE_TEST_STEPS", "0")) or scaled(2000 if hasattr(os, "fork") else 120)
STEPS_IN_A_RUN = 40
WORKERS = 3


def is_mapping(node):
    return isinstance(node, dict | mmapstate.StateDict)


# Each does the same to a live container and to a plain one. What does not fit raises, and changes nothing.
OPERATIONS = {
    "set": lambda node, key, value: node.__setitem__(key, value),
    "delete": lambda node, key, value: node.__delitem__(key),
    "setdefault": lambda node, key, value: mmapstate.plain(node.setdefault(key, value)),
    "pop key": lambda node, key, value: node.pop(key) if is_mapping(node) else node.pop(),
    "popitem": lambda node, key, value: node.popitem(),
    "update": lambda node, key, value: node.update({key: value, "b": copy.deepcopy(value)}),
    "clear": lambda node, key, value: node.clear(),
    "append": lambda node, key, value: node.append(value),
    "insert": lambda node, key, value: node.insert(len(node) // 2, value),
    "extend": lambda node, key, value: node.extend([value, 0]),
    "pop first": lambda node, key, value: node.pop(0),
    "set item": lambda node, key, value: node.__setitem__(-1, value) if not is_mapping(node) else None,
    "slice": lambda node, key, value: node.__setitem__(slice(0, 2), [value]) if not is_mapping(node) else None,
    "delete slice": lambda node, key, value: node.__delitem__(slice(None, None, 2)) if not is_mapping(node) else None,
    "reverse": lambda node, key, value: node.reverse(),
    "sort": lambda node, key, value: node.sort(key=lambda item: repr(mmapstate.plain(item))),
    "count": lambda node, key, value: count(node, key),
}


def count(node, key):
    if isinstance(node, dict):
        node[key] = node.get(key, 0) + 1
        return node[key]
    return node.increment(key)


def do(root, path, operation, key, value):
    """Do one operation at `path` below `root` and return what came of it, comparably."""
    try:
        node = root
        for step in path:
            node = node[step]
        return repr(mmapstate.plain(OPERATIONS[operation](node, key, copy.deepcopy(value))))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return "TypeError" if isinstance(error, TypeError) else type(error).__name__


class Undo(Exception):
    """Has a transaction taken back."""


def work(talk, path):
    """Be a worker: do what comes over the pipe and answer with what came of it."""
    state = mmapstate.open(path)
    while True:
        order, *arguments = talk.receive(3600)
        if order == "do":
            talk.send(do(state, *arguments))
        elif order == "transaction":
            steps, commit = arguments
            try:
                with state.transaction():
                    answers = [do(state, *step) for step in steps]
                    if commit == "die":
                        talk.send(answers)
                        talk.receive(3600)  # killed here
                    if not commit:
                        raise Undo
            except Undo:
                pass
            talk.send(answers)
        elif order == "look":
            talk.send(state.plain())
        elif order == "vacuum":
            state.vacuum()
            talk.send(None)
        elif order == "reopen":
            state.close()
            state = mmapstate.open(path)
            talk.send(None)


keys = st.sampled_from(["a", "b", "c", 1])
values = st.recursive(
    st.integers(-5, 5) | st.sampled_from(["", "x", "no", None, True, 1.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
paths = st.lists(st.sampled_from(["a", "b", "list", "map", 0, 1]), max_size=3)
operations = st.tuples(paths, st.sampled_from(sorted(OPERATIONS)), keys, values)
workers = st.integers(0, WORKERS - 1)


class ThreeProcesses(RuleBasedStateMachine):
    made = 0

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "example.state")
        self.model = {"map": {"a": 1}, "list": [1, {"b": 2}, [3]]}
        mmapstate.open(self.path, self.model).close()
        self.workers = [Child(work, self.path) for _ in range(WORKERS)]

    def ask(self, worker, *order):
        self.workers[worker].send(order)
        return self.workers[worker].receive(60)

    @rule(worker=workers, operation=operations)
    def change(self, worker, operation):
        assert self.ask(worker, "do", *operation) == do(self.model, *operation)

    @rule(worker=workers, steps=st.lists(operations, max_size=6), commit=st.booleans())
    def transaction(self, worker, steps, commit):
        wanted = copy.deepcopy(self.model)
        assert self.ask(worker, "transaction", steps, commit) == [do(wanted, *step) for step in steps]
        if commit:
            self.model = wanted

    @rule(worker=workers, steps=st.lists(operations, min_size=1, max_size=4))
    def die_in_a_transaction(self, worker, steps):
        self.ask(worker, "transaction", steps, "die")
        self.replace(worker)

    @rule(worker=workers)
    def die(self, worker):
        self.replace(worker)

    def replace(self, worker):
        self.workers[worker].kill()
        self.workers[worker] = Child(work, self.path)

    @rule(worker=workers)
    def vacuum(self, worker):
        self.ask(worker, "vacuum")

    @rule(worker=workers)
    def reopen(self, worker):
        self.ask(worker, "reopen")

    @invariant()
    def all_agree(self):
        if hasattr(self, "workers"):
            ThreeProcesses.made += 1
            for worker in self.workers:
                worker.send(["look"])
            seen = [worker.receive(60) for worker in self.workers]
            expected = repr(self.model)  # order of keys, and True apart from 1
            assert [repr(each) for each in seen] == [expected] * WORKERS
            assert repr(on_disk(self.path)) == expected

    def teardown(self):
        for worker in getattr(self, "workers", []):
            worker.kill()
        probe.close_all()
        if hasattr(self, "folder"):
            with mmapstate.open(self.path) as state:
                assert repr(state.plain()) == repr(self.model)
            self.folder.cleanup()


@pytest.mark.family("model")
def test_three_processes_equal_a_model_of_plain_data(cases):
    ThreeProcesses.made = 0
    while ThreeProcesses.made < STEPS:  # how many steps a run has is up to Hypothesis
        run_state_machine_as_test(
            ThreeProcesses,
            settings=settings(
                max_examples=min(3, STEPS),
                stateful_step_count=STEPS_IN_A_RUN,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(ThreeProcesses.made, "steps made")
    cases(ThreeProcesses.made)
