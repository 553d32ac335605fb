"""The layers hold: each module of the package imports only from the modules below it in `LAYERS`.

The source is parsed, not imported, so that imports inside functions and under `TYPE_CHECKING` count as well.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "mmapstate"
SUBPACKAGES = {"mmapstate.command"}
FOLDER = Path(__file__).resolve().parent.parent / PACKAGE

# From the ground up: a module may import only from modules named before it.
LAYERS = (
    "errors",
    "logger",
    "values",
    "snapshot",
    "differences",
    "places",
    "flow_style",
    "text_lines",
    "siblings",
    "between",
    "block_style",
    "changes",
    "json_text",
    "json_style",
    "format",
    "platform",
    "forks",
    "sidecar",
    "lock",
    "mapping",
    "journal",
    "predecessor",
    "beside",
    "tree",
    "state_dict",
    "state_list",
    "nodes",
    "pending",
    "declared",
    "content",
    "patch",
    "findings",
    "salvage",
    "picture",
    "vacuum",
    "surprises",
    "committer",
    "transactions",
    "idle",
    "store",
    "registry",
    "reading",
    "view",
    "blocks",
    "waiting",
    "state",
    "inspection",
    "overview",
    "repairs",
    "__init__",
    "command.outcome",
    "command.output",
    "command.key_paths",
    "command.parser",
    "command.access",
    "command.merging",
    "command.edit",
    "command.following",
    "command.records",
    "command.watch",
    "command.reports",
    "command.doctor",
    "command.demo",
    "command.__init__",
    "__main__",
)

# What a module may not import although it is named before it: nodes know nothing of files.
_FILES = {"format", "platform", "lock", "mapping", "journal", "predecessor", "content", "beside"}
BARRED = dict.fromkeys(("tree", "state_dict", "state_list", "nodes", "pending", "declared"), _FILES)

# Libraries of which one module is the only user, so that one module knows their traps.
OWNERS = {
    "argparse": {"command.parser"},
    "json": {
        "changes",
        "json_style",
        "json_text",
        "command.output",
    },  # a record, a JSON file, what other programs are given
    "logging": {"logger"},
    "mmap": {"mapping"},
    "portalocker": {"lock"},
    "yaml": {"snapshot"},
}


def violations(module: str, source: str) -> list[str]:
    """Name every import in the source of a module that breaks the rules above: module, line, import, reason."""
    if module not in LAYERS:
        return [f"{module}: not in the table of layers: give it a place in LAYERS"]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [
                (node.lineno, f"{module}:{node.lineno}: `{ast.unparse(node)}`: {reason}")
                for target in imported(node, module)
                if (reason := objection(module, target))
            ]
    return [message for _, message in sorted(found)]


def imported(node: ast.Import | ast.ImportFrom, module: str) -> Iterator[str]:
    """Yield the full name of each module that an import statement of a module of our package asks for."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    around = f"{PACKAGE}.{module}".split(".")[: -node.level] if node.level else []
    origin = ".".join([*around, *filter(None, [node.module])])
    if origin != PACKAGE and origin not in SUBPACKAGES:
        yield origin
        return
    for alias in node.names:  # `from . import x`: x is a module, or else a name that `__init__` defines
        yield f"{origin}.{alias.name}" if layer_of(f"{origin}.{alias.name}") in LAYERS else origin


def layer_of(target: str) -> str:
    """Return what the table calls a module of our package, or what it would."""
    if target == PACKAGE or target in SUBPACKAGES:
        target += ".__init__"
    parts = target.split(".")[1:]
    return ".".join(parts[: 2 if f"{PACKAGE}.{parts[0]}" in SUBPACKAGES else 1])


def objection(module: str, target: str) -> str:
    """Say why a module may not import another; empty when it may."""
    top = target.partition(".")[0]
    if top != PACKAGE:
        owners = OWNERS.get(top, {module})
        return "" if module in owners else f"only {' and '.join(sorted(owners))} may import {top}"
    layer = layer_of(target)
    if layer not in LAYERS:
        return f"{layer} is not in the table of layers"
    if LAYERS.index(layer) >= LAYERS.index(module):
        return f"{layer} is not below {module}"
    if layer in BARRED.get(module, ()):
        return f"{module} knows nothing of {layer}"
    return ""


def module_name(path: Path) -> str:
    """Return the name of a module within the package, `folder.name` for one in a subfolder."""
    return ".".join(path.relative_to(FOLDER).with_suffix("").parts)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=module_name)
def test_module_imports_only_from_below(path):
    """Each module of the package is in the table and keeps to it."""
    assert violations(module_name(path), path.read_text(encoding="utf-8")) == []


def test_package_is_where_we_look():
    """The test above has something to look at."""
    assert (FOLDER / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "import os, sys.path\nfrom collections import abc"),
        ("values", "from .errors import UnsupportedValueError"),
        ("values", "from . import errors"),
        ("values", "from mmapstate import errors"),
        ("values", "import mmapstate.errors as e"),
        ("nodes", "from . import changes, errors, snapshot, values"),
        ("state", "from .nodes import StateDict\nfrom .store import Store"),
        ("snapshot", "import yaml\nfrom yaml.nodes import Node"),
        ("changes", "import json"),
        ("lock", "import portalocker"),
        ("mapping", "import mmap"),
        ("__init__", "from .state import *"),
        ("__main__", "from . import __version__\nfrom .command import main"),
        ("command.parser", "import argparse\nfrom mmapstate import __version__\nfrom . import outcome"),
        ("command.watch", "from mmapstate.command import key_paths\nfrom .key_paths import find\nfrom .. import view"),
        ("command.__init__", "from mmapstate.command import parser\nimport mmapstate.command.parser"),
        ("errors", "import mmapstate_plugin, jsonschema"),
    ],
)
def test_checker_lets_pass(module, source):
    """What the rules allow passes, in each way to write it."""
    assert violations(module, source) == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("values", "import os\nfrom .store import Store", "values:2: `from .store import Store`: store is not below"),
        ("values", "from . import errors, store", "values:1: `from . import errors, store`: store is not below values"),
        ("values", "import mmapstate.store", "values:1: `import mmapstate.store`: store is not below values"),
        ("values", "from mmapstate import store", "store is not below values"),
        ("values", "from mmapstate.store.deep import x", "store is not below values"),
        ("values", "from .values import x", "values is not below values"),
        ("state", "from . import __version__", "state:1: `from . import __version__`: __init__ is not below state"),
        ("state", "from . import *", "__init__ is not below state"),
        ("state", "import mmapstate", "__init__ is not below state"),
        ("state", "from mmapstate import command", "command.__init__ is not below state"),
        ("state", "from mmapstate.command import parser", "command.parser is not below state"),
        ("__init__", "from .command import main", "command.__init__ is not below __init__"),
        ("command.access", "from mmapstate.command import main", "command.__init__ is not below command.access"),
        ("command.access", "from . import watch", "command.watch is not below command.access"),
        ("command.access", "from .helpers import x", "command.helpers is not in the table"),
        ("command.access", "import argparse", "only command.parser may import argparse"),
        ("__init__", "from . import __main__", "__main__ is not below __init__"),
        ("state", "from .helpers import x", "state:1: `from .helpers import x`: helpers is not in the table"),
        (
            "errors",
            "def f():\n    from .view import View",
            "errors:2: `from .view import View`: view is not below errors",
        ),
        ("errors", "if TYPE_CHECKING:\n    from .state import State", "errors:2: `from .state import State`"),
        ("nodes", "from .store import Store", "nodes:1: `from .store import Store`: store is not below nodes"),
        ("nodes", "from .format import MAGIC", "nodes knows nothing of format"),
        ("nodes", "from .platform import replace", "nodes knows nothing of platform"),
        ("nodes", "from .lock import Lock", "nodes knows nothing of lock"),
        ("nodes", "from .mapping import Page", "nodes knows nothing of mapping"),
        ("nodes", "from .journal import Journal", "nodes knows nothing of journal"),
        ("store", "import yaml", "store:1: `import yaml`: only snapshot may import yaml"),
        ("store", "from yaml.nodes import Node", "only snapshot may import yaml"),
        (
            "snapshot",
            "import os, json",
            "snapshot:1: `import os, json`: only changes and command.output and json_style and json_text may import",
        ),
        ("mapping", "import portalocker.portalocker", "only lock may import portalocker"),
        ("journal", "from mmap import mmap", "only mapping may import mmap"),
        ("helpers", "", "helpers: not in the table of layers"),
        ("inner.errors", "", "inner.errors: not in the table of layers"),
    ],
)
def test_checker_objects(module, source, message):
    """What the rules forbid is one message, with module, line and import."""
    (found,) = violations(module, source)
    assert message in found


def test_checker_names_every_violation_in_order_of_lines():
    """A function-level import is found before a later one at the top, and one statement may break two rules."""
    source = "def f():\n    import yaml\nimport json, mmap\n"
    assert [message.partition(": `")[0] for message in violations("errors", source)] == [
        "errors:2",
        "errors:3",
        "errors:3",
    ]


# What another module than `platform` may use of `os`: nothing that asks the system about a file.
PURE = {
    *("fspath", "fsencode", "stat_result", "register_at_fork", "PathLike"),
    *("path.basename", "path.dirname", "path.join", "path.normcase", "path.split"),
}
PROGRAMS = {"command.__init__", "command.demo", "command.doctor", "command.edit", "command.watch"}
# What they do to a pipe, a process or a file of their own is no store into a state file.


def system_calls(source: str) -> set[str]:
    """Return what the source of a module uses of `os` and of the built-in `open`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.startswith("os.") and name != "os.path":
                found.add(name.removeprefix("os."))
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            found.add("open")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=module_name)
def test_only_platform_calls_the_system_for_a_file(path):
    """So a test that puts something in the place of its `os` counts, fails and records every call."""
    if module_name(path) in {"platform", *PROGRAMS}:
        return
    assert system_calls(path.read_text(encoding="utf-8")) - PURE == set()


def test_system_calls_are_found_in_each_way_to_write_them():
    """The test above has something to find."""
    source = "from os import stat\nos.path.isdir(p)\nos.path.join(p)\nopen(p)\nx.open(p)\nos.close(1)"
    assert system_calls(source) == {"stat", "path.isdir", "path.join", "open", "close"}
