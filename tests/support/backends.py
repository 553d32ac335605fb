"""What can stand behind a state, each as the conformance suite in `tests/backend` sees it. A new one is added here.

A maker is given contents, and is a context manager. What it gives has ``root``, the live root with these contents;
``file``, as messages name it; and, where it can be written, ``records``, a list of the changes of each record that was
committed since; ``write(decide)``, a write as the nodes make it; and ``check()``, which asserts that memory and what is
kept agree.
"""

import contextlib
import os
import tempfile
from types import SimpleNamespace

import mmapstate
from mmapstate import changes
from mmapstate.file import content
from support import independent_reader, probe
from support.memory_tree import MemoryTree, check_node

__all__ = ["READABLE", "WRITABLE"]


@contextlib.contextmanager
def in_memory(contents):
    """A tree that is followed by another one, record by record."""
    tree = MemoryTree(contents)
    tree.follow()
    yield tree
    tree.check()


class InAFile:
    """A state in a file; its records are those in the file."""

    def __init__(self, path, contents, **options):
        self.file = os.path.realpath(path)
        self.state = mmapstate.open(path, **options)
        self.state.update(contents)
        self.root = probe.root(self.state)
        self.records = RecordsOf(path)

    def write(self, decide):
        return probe.write(self.state, decide)

    def check(self):
        assert independent_reader.read_file(self.file) == self.root.copy()
        check_node(self.root, [])


class RecordsOf:
    """The records of a file, but for those that were there, or have been cleared."""

    def __init__(self, path):
        self.path = path
        self.cleared = 0
        self.clear()

    def clear(self):
        self.cleared += len(self)

    def __len__(self):
        return len(self.all()) - self.cleared

    def __getitem__(self, index):
        return self.all()[self.cleared :][index]

    def __eq__(self, other):
        return self[:] == other

    __hash__ = None

    def all(self):
        with open(self.path, "rb") as file:
            parts = content.layout(file.read(), self.path)
        return [changes.decode(payload) for payload in parts.scan.payloads] if parts.scan else []


@contextlib.contextmanager
def in_a_file(contents, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "example.state")
        tree = InAFile(path, contents, **options)
        yield tree
        tree.check()
        left = tree.state.copy()
        tree.state.close()
        with mmapstate.open(path) as again:
            assert again.copy() == left


@contextlib.contextmanager
def readonly(contents):
    """A state that another handle has written, and goes on with."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "example.state")
        with mmapstate.open(path) as state:
            state.update(contents)
            with mmapstate.open(path, readonly=True) as view:
                yield SimpleNamespace(root=probe.root(view), file=os.path.realpath(path))
            assert state == contents


WRITABLE = {"memory": in_memory, "file": in_a_file}
READABLE = {**WRITABLE, "readonly": readonly}
