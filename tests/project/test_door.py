"""The tests reach for what is private in the library through one door: `support/probe.py`.

So that a private name can change, and one file with it. The rule goes by the names that the library has.
"""

import ast
import pathlib

import pytest
from support.runs import ROOT, TESTS

# Names with an underscore that users may use.
PUBLIC = {"_thread_lock"}

# The door; all calls and stores; broken variants of functions. And what this test itself is tried with.
DOOR = {*(TESTS / "support" / f"{name}.py" for name in ("probe", "seam", "seeded_bugs")), pathlib.Path(__file__)}

# The library's own door to the system: each test may stand in it.
OPEN = "mmapstate.file.system"
SYSTEM = {"mmapstate.file.system", "mmapstate.file.host"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names():
    """Return the names with an underscore that the library gives to anything."""
    found = set()
    for path in (ROOT / "mmapstate").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Constant(value=str(name)):  # of `__slots__`
                    found.add(name)
    return {name for name in found if is_private(name)} - PUBLIC


PRIVATE = private_names()


def reaches(source, private=PRIVATE):
    """Yield line and name of what the source of a test reaches for past the door."""
    tree = ast.parse(source)
    modules = {}  # of the library, by the name that they have in the test
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] == "mmapstate":
                for name in names:
                    modules[name.asname or name.name] = f"{module}.{name.name}"
                    if is_private(name.name):
                        yield node.lineno, f"{module}.{name.name}"
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(value=ast.Call(func=ast.Attribute(value=ast.Name(id="probe"), attr="backend"))):
                yield node.lineno, f"backend(...).{node.attr}"
            case ast.Attribute(value=ast.Name(id=owner), attr=name, ctx=ast.Store()):
                if name in private or modules.get(owner, OPEN) not in SYSTEM:
                    yield node.lineno, f"{owner}.{name}"
            case ast.Attribute(attr=name) | ast.Constant(value=name) if name in private:
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(attr="setattr" | "object"), args=[ast.Name(id=owner), *_]):
                if modules.get(owner, OPEN) not in SYSTEM:
                    yield node.lineno, f"setattr({modules[owner]}, ...)"


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in sorted(TESTS.rglob("*.py")) if path not in DOOR]
)
def test_what_is_private_is_reached_for_through_the_door(path):
    assert list(reaches(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "state._thread_lock.acquire()",
        "os._exit(0)",
        "state._remark = 1",
        "from mmapstate.file import system\nsystem.sync_file = id\npatch.setattr(system, 'replace', id)",
        "assert probe.backend(one) is probe.backend(other)",
        "self._tree = 1",
    ],
)
def test_what_is_not_private_is_let_pass(source):
    assert list(reaches(source)) == []


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("state._tree.due = 0", "_tree"),
        ("def test():\n    from mmapstate.live.node import _set_items", "mmapstate.live.node._set_items"),
        ("getattr(state, '_tree')", "_tree"),
        ("patch.setattr(state, '_tree', 1)", "_tree"),
        (
            "from mmapstate.file import writer\npatch.setattr(writer, 'sleep', id)",
            "setattr(mmapstate.file.writer, ...)",
        ),
        ("from mmapstate.file import images\nimages.GROWING_REGION = 0", "images.GROWING_REGION"),
        ("probe.backend(state).power", "backend(...).power"),
    ],
)
def test_what_is_private_is_seen(source, told):
    assert [name for _, name in reaches(source)] == [told]


def test_no_two_modules_have_the_same_name():
    """Each is imported by its own name alone, whatever folder it is in."""
    names = [path.stem for path in TESTS.rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
