"""The house holds: which room may import which, who alone may import a library, how large things may grow.

The source is parsed, not imported (see ``tools/rooms.py``).
"""

import ast
import sys

import pytest
from support.runs import ROOT

sys.path.insert(0, str(ROOT))

from mmapstate.file.page import HeaderPage
from tools import rooms

# From the ground up; a room may import from the rooms before it.
ROOMS = ("errors", "logger", "values", "text", "changes", "live", "file", "care", "__init__", "command", "__main__")

# Libraries of which a few modules are the only users, so that those alone know their traps.
OWNERS = {
    "argparse": {"command.parser"},
    "json": {"changes", "text.json_style", "text.json_text", "command.output"},
    "logging": {"logger"},
    "mmap": {"file.mapped"},
    "portalocker": {"file.filelock"},
    "rich": {"command.screen"},
    "yaml": {"text.scalars", "text.reader", "text.writer"},
}


def objections(module, source):
    """Return what is wrong with the imports in the source of a module."""
    known = rooms.modules()
    found = []
    for line, target in rooms.imported(source, module, {**known, module: None}):
        if target.startswith("."):
            top = target[1:].partition(".")[0]
            if module not in OWNERS.get(top, {module}):
                found.append(f"{module}:{line}: only {' and '.join(sorted(OWNERS[top]))} may import {top}")
            continue
        mine, other = rooms.room_of(module), rooms.room_of(target)
        if mine not in ROOMS or other not in ROOMS:
            found.append(f"{module}:{line}: {mine if mine not in ROOMS else other} is no room that is known")
        elif mine != other and ROOMS.index(other) >= ROOMS.index(mine):
            found.append(f"{module}:{line}: {other} is not below {mine}")
    return found


@pytest.mark.parametrize("module", rooms.modules())
def test_a_module_imports_only_from_rooms_below_its_own(module):
    assert objections(module, rooms.modules()[module].read_text("utf-8")) == []


def test_there_are_no_circles():
    """Of modules either: each can be read with those below it alone."""
    assert max(rooms.floors(rooms.rooms()).values()) <= 10
    rooms.floors(rooms.imports())


def test_there_are_few_rooms():
    assert len(rooms.rooms()) <= 14


def test_the_notes_show_the_house_as_it_is():
    assert rooms.BEGIN + "\n" + rooms.picture() + "\n" + rooms.END in rooms.NOTES.read_text("utf-8"), (
        "run tools/rooms.py --write"
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "import os, sys.path\nfrom collections import abc"),
        ("values", "from .errors import UnsupportedValueError"),
        ("values", "from . import errors"),
        ("values", "import mmapstate.errors as e"),
        ("live.tree", "from . import mapping\nfrom .. import changes"),
        ("file.replica", "from mmapstate.live import tree\nfrom mmapstate.file.filelock import FileLock"),
        ("text.reader", "import yaml\nfrom yaml.nodes import Node"),
        ("command.parser", "import argparse\nfrom mmapstate import __version__\nfrom . import outcome"),
        ("errors", "import mmapstate_plugin, jsonschema"),
    ],
)
def test_the_rules_let_pass(module, source):
    assert objections(module, source) == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("values", "import os\nfrom .file.locks import x", "values:2: file is not below values"),
        ("values", "from mmapstate import errors, file", "values:1: file is not below values"),
        ("values", "import mmapstate.file.locks", "values:1: file is not below values"),
        ("live.tree", "def f():\n    from ..file import locks", "live.tree:2: file is not below live"),
        ("text.patch", "from mmapstate.live import tree", "text.patch:1: live is not below text"),
        ("live.tree", "from mmapstate import open", "live.tree:1: __init__ is not below live"),
        ("errors", "if TYPE_CHECKING:\n    import mmapstate.values", "errors:2: values is not below errors"),
        (
            "values",
            "import yaml",
            "values:1: only text.reader and text.scalars and text.writer may import yaml",
        ),
        ("file.writer", "from json.decoder import JSONDecoder", "file.writer:1: only "),
        ("cellar.wine", "import os\nfrom mmapstate import errors", "cellar.wine:2: cellar is no room"),
    ],
)
def test_the_rules_object_to(module, source, message):
    assert any(found.startswith(message) for found in objections(module, source)), objections(module, source)


def test_a_circle_is_named():
    with pytest.raises(ValueError, match="a circle: a -> b -> a"):
        rooms.floors({"a": {"b"}, "b": {"a"}})


# --- Flags ------------------------------------------------------------------------------------------------------------

# What all processes share: to store a field of the header page is a step of the protocol, whoever makes it.
SHARED = {name for name, value in vars(HeaderPage).items() if isinstance(value, property)}


def strangers(modules):
    """Yield where a module assigns an attribute of what another module owns."""
    for module, source in modules.items():
        stores = [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
        ]
        own = {node.attr for node in stores if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
        for node in stores:
            if node.attr not in own | SHARED and ast.unparse(node.value) not in ("self", "cls"):
                yield f"{module}:{node.lineno}: {ast.unparse(node)}"


def test_each_flag_is_assigned_by_its_owner_alone():
    """What an object is, its own module says: others ask it to change."""
    sources = {
        module: path.read_text("utf-8")
        for module, path in rooms.modules().items()
        if rooms.room_of(module) in ("live", "file", "care")
    }
    assert [found for found in strangers(sources) if found.partition(":")[0] not in ASSIGNS] == []


# Modules that assign attributes of something that is not theirs, and why.
ASSIGNS = {
    "file.system": "marks a descriptor, which is an int of its own kind made by the same module",
    "live.state": "names of a class that is being made",
}


def test_a_stranger_is_seen():
    modules = {
        "a": "class A:\n    def f(self):\n        self.flag = 1",
        "b": "def f(a):\n    a.flag = 2\n    a.page.dirty = 1\n    del a.other",
    }
    assert [*strangers(modules)] == ["b:2: a.flag", "b:4: a.other"]


# --- Size -------------------------------------------------------------------------------------------------------------

LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 60
MOST_ATTRIBUTES = 20

# What is larger, and why.
LARGE = {}


def sizes(module, source):
    """Yield name and size of what is too large in a module: itself, functions, classes by their attributes."""
    if (lines := len(source.splitlines())) > LONGEST_MODULE:
        yield module, f"{lines} lines"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for function in node.body:
                if isinstance(function, ast.FunctionDef):
                    lines = function.end_lineno - function.lineno + 1
                    if lines > LONGEST_FUNCTION:
                        yield f"{module}.{node.name}.{function.name}", f"{lines} lines"
            names = attributes(node)
            if len(names) > MOST_ATTRIBUTES:
                yield f"{module}.{node.name}", f"{len(names)} attributes"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION:
            yield f"{module}.{node.name}", f"{node.end_lineno - node.lineno + 1} lines"


def attributes(kind):
    """Return the names that a class assigns on `self`, and those of its slots."""
    found = set()
    for node in ast.walk(kind):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


def test_nothing_is_larger_than_it_may_be_but_what_is_named():
    found = {
        name: told for module, path in rooms.modules().items() for name, told in sizes(module, path.read_text("utf-8"))
    }
    assert {name: told for name, told in found.items() if name not in LARGE} == {}
    assert set(LARGE) <= set(found), "no longer large: take it out of LARGE"
