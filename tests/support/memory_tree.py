"""A state without any file: a whole backend in memory (see `mmapstate.live.backend.Backend`), and checks for tests.

Each record makes the way through its text, as in a file, to two followers: a plain tree, changed by `changes.apply`,
and a second live one, changed by `merge.replay`. `MemoryTree.check` asserts that all three are the same.
"""

import threading
import time
from contextlib import contextmanager

from mmapstate import changes
from mmapstate.errors import StateError
from mmapstate.live.backend import Still
from mmapstate.live.merge import replay
from mmapstate.live.node import NODES
from mmapstate.live.sentinels import SLOW
from mmapstate.live.tree import Tree, plain_root
from mmapstate.values import normalise, same
from support import probe


class MemoryBackend:
    """Keeps what is committed in memory; no other process sees it."""

    name = "memory.state"

    def __init__(self, memory):
        self.memory = memory
        self.cursor = Still()
        self.lock = threading.RLock()
        self.holders = []
        self.ahead = self.busy = self.closed = False
        self.records = []
        self.plain = {}
        self.follower = None

    def refresh(self):
        pass

    glance = check_schemas = sync = vacuum = rest = prepare = accept_edit = refresh

    def steady(self, read, *args):
        with self.lock:
            return read(*args)

    def wait(self, timeout):
        time.sleep(timeout)

    def write(self, decide, *args):
        with self.lock:
            return self.run_held(decide, *args)

    def run_held(self, decide, *args):
        if self.busy:
            raise StateError(f"{self.name}: a change is under way")
        self.busy = True
        try:
            return decide(*args)
        finally:
            self.busy = False

    def change(self, node, operation, key, value):
        return SLOW

    def check(self, record):
        pass

    def append(self, record, publish, *args):
        assert self.busy, "append is for inside of write"
        assert record, "a record holds changes"
        again = changes.decode(changes.encode(record))
        assert same(normalise(again), normalise(list(record))), "the record reads back as something else"
        self.records.append(again)
        publish(*args)
        self.cursor.applied += 1
        changes.apply(self.plain, changes.decode(changes.encode(record)))
        if self.follower is not None:
            replay(self.follower.root, again)

    def hold(self, holder):
        self.lock.acquire()
        self.holders.append(holder)

    def owned(self):
        return self.lock._is_owned()

    def held(self, holder):
        return self.holders.count(holder) if self.owned() else 0

    def last_holder(self):
        return self.holders[-1] if self.owned() and self.holders else None

    def unhold(self, holder):
        if not self.held(holder):
            return False
        self.holders.remove(holder)
        self.lock.release()
        return True

    def begin_work(self):
        self.busy = True

    def end_work(self):
        self.busy = False

    def go_ahead(self):
        self.ahead = True

    def is_ahead(self):
        return self.ahead

    def append_held(self, record, publish):
        self.append(record, publish)
        self.ahead = False
        return True

    def fall_back(self, undo):
        undo()
        self.ahead = False

    def adjust(self, options, *, power):
        pass

    def close(self):
        self.closed = True


class MemoryTree(Tree):
    """A tree over it."""

    def __init__(self, contents=None):
        super().__init__(MemoryBackend)
        if contents:
            self.root.update(contents)
            self.records.clear()

    @property
    def file(self):
        return self.name

    @property
    def follower(self):
        return self.backend.follower

    @follower.setter
    def follower(self, follower):
        self.backend.follower = follower

    @contextmanager
    def changing(self):
        """Change memory inside, with nobody reading."""
        with self.backend.lock:
            yield

    @property
    def plain(self):
        """What the records make of plain data."""
        return self.backend.plain

    @plain.setter
    def plain(self, plain):
        self.backend.plain = plain

    @property
    def records(self):
        return self.backend.records

    def follow(self):
        """Begin a second live tree that replays from now on what is committed here."""
        self.backend.follower = MemoryTree(plain_root(self.root))
        return self.backend.follower

    def check(self):
        """Assert all that must be true between two writes."""
        assert not self.backend.ahead
        plain, follower = self.backend.plain, self.backend.follower
        assert same(plain_root(self.root), plain), "the records, applied, give something else"
        check_node(self.root, [])
        if follower is not None:
            assert same(plain_root(follower.root), plain), "the records, replayed, give something else"
            check_node(follower.root, [])


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
