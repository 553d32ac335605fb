"""A tree of live nodes without any file: what `mmapstate.live.node.Tree` asks for, and the checks that tests need.

Each record makes the way through its text, as in a file, to two followers: a plain tree, changed by `changes.apply`,
and a second live one, changed by `nodes.replay`. `check` asserts that all three are the same.
"""

import threading
from contextlib import contextmanager

from mmapstate import changes
from mmapstate.errors import StateError
from mmapstate.live import tree as nodes
from mmapstate.live.node import NODES, SET
from mmapstate.values import normalise, same
from support import probe


class MemoryTree:
    file = "memory.state"
    stamp, seen = (0,), 0  # nothing new, for ever
    due = float("inf")

    def __init__(self, contents=None):
        self.lock = threading.RLock()
        self.guard = threading.RLock()
        self.busy = False
        self.applying = 0
        self.records = []
        self.plain = {}
        self.follower = None
        self.root = nodes.new_root(self)
        if contents:
            self.root.update(contents)
            self.records.clear()

    def refresh(self):
        pass

    def glance(self):
        pass

    def steady(self, read, *args):
        with self.guard:
            return read(*args)

    def write(self, decide, *args):
        with self.lock:
            if self.busy:
                raise StateError(f"{self.file}: a change is under way")
            self.busy = True
            try:
                return decide(*args)
            finally:
                self.busy = False

    def commit_one(self, node, key, value, how=SET):
        return self.write(getattr(node, how), key, value)

    def commit(self, node, record, publish, *args):
        assert self.busy, "commit is for inside of write"
        assert record, "a record holds changes"
        again = changes.decode(changes.encode(record))
        assert same(normalise(again), normalise(list(record))), "the record reads back as something else"
        self.records.append(again)
        with self.changing():
            publish(*args)
        changes.apply(self.plain, changes.decode(changes.encode(record)))
        if self.follower is not None:
            nodes.replay(self.follower.root, again)

    @contextmanager
    def changing(self):
        with self.guard:
            self.applying += 1
            yield
            self.applying += 1

    def follow(self):
        """Begin a second live tree that replays from now on what is committed here."""
        self.follower = MemoryTree(nodes.plain_root(self.root))
        return self.follower

    def check(self):
        """Assert all that must be true between two writes."""
        assert self.applying % 2 == 0
        assert same(nodes.plain_root(self.root), self.plain), "the records, applied, give something else"
        check_node(self.root, [])
        if self.follower is not None:
            assert same(nodes.plain_root(self.follower.root), self.plain), "the records, replayed, give something else"
            check_node(self.follower.root, [])


def check_node(node, path):
    """Assert that `node` knows where it is, and that what it holds is scalars and such nodes."""
    assert type(node) in NODES
    assert probe.path(node) == path
    items = probe.items(node)
    entries = items.items() if isinstance(items, dict) else enumerate(items)
    for key, value in entries:
        if type(value) in NODES:
            check_node(value, [*path, key])
        else:
            assert not isinstance(value, dict | list | tuple), "a plain container inside of a node"


@contextmanager
def records(tree, count):
    """Assert that what is done inside commits `count` records, and leaves all as it must be."""
    before = len(tree.records)
    yield
    assert len(tree.records) - before == count, tree.records[before:]
    tree.check()


class records_of:  # noqa: N801 - reads as the function beside it
    """Assert that what is done inside commits one record, with these changes."""

    def __init__(self, tree, changes):
        self.tree, self.changes = tree, changes

    def __enter__(self):
        self.before = len(self.tree.records)

    def __exit__(self, kind, *_):
        if kind is None:
            assert self.tree.records[self.before :] == [self.changes]
