"""Make ``mmapstate/docs/reference.md`` from the docstrings: every public name, with signature, and its own methods.

Run from the top of the repository: ``python tools/make_reference.py``. A test compares the page with what this makes.

What is public is `mmapstate.__all__`. What a container does as ``dict`` or ``list`` do is named in one line. Signatures
are taken from the source, not from `inspect`, which words annotations otherwise in each version of Python.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mmapstate  # noqa: E402 - that of this clone
from mmapstate import errors  # noqa: E402

PAGE = ROOT / "mmapstate" / "docs" / "reference.md"
WIDTH = 100  # characters; a longer signature has a line for each parameter

LIKE: dict[Any, type] = {mmapstate.StateDict: dict, mmapstate.StateList: list}
OPERATORS: dict[Any, str] = {
    dict: "`len`, `in`, `[]`, `del`, `for`, `reversed`, `==`, `|`, `|=`",
    list: "`len`, `in`, `[]` and slices, `del`, `for`, `reversed`, `==`, `<` and the others, `+`, `+=`, `*`, `*=`",
}

HEAD = """\
# The public names of mmapstate

Made from the docstrings by `tools/make_reference.py`. What it all is for is told in the [README](../../README.md), what
the file looks like in [format.md](format.md).
"""


def reference() -> str:
    """Return the text of the page; raise LookupError for a public name without a docstring."""
    public = {name: getattr(mmapstate, name) for name in mmapstate.__all__}
    classes = {name: each for name, each in public.items() if inspect.isclass(each)}
    states = {name: each for name, each in classes.items() if issubclass(each, mmapstate.State)}
    containers = {name: each for name, each in classes.items() if each in LIKE}
    raised = {name: each for name, each in vars(errors).items() if classes.get(name) is each}
    functions = {f"mmapstate.{name}": each for name, each in public.items() if name not in classes}
    results = {
        name: each for name, each in classes.items() if not {name} & (states.keys() | containers.keys() | raised.keys())
    }
    parts = [HEAD]
    for title, members in (
        ("Functions", dict(sorted(functions.items(), key=lambda item: item[0] != "mmapstate.open"))),
        ("States", dict(sorted(states.items(), key=lambda item: len(item[1].__mro__)))),
        ("Containers", containers),
        ("What functions return", results),
    ):
        parts.append(f"## {title}\n")
        parts += [part for name, each in members.items() for part in entry(name, each)]
    parts.append(f"## Errors\n\n{fenced(errors.__doc__.partition(chr(10) * 2)[2])}")
    parts += [f"### {name}\n\n{markdown(docstring(each, name))}" for name, each in raised.items()]
    return "\n".join(parts)


def entry(name: str, each: Any) -> Iterator[str]:
    """Yield the text of one public name, and of the methods and properties that are its own."""
    yield f"### {name}\n\n{signature(name, each)}{markdown(docstring(each, name))}"
    if not inspect.isclass(each):
        return
    base = next(base for base in each.__mro__[1:] if base in (mmapstate.State, mmapstate.StateDict, tuple, object))
    like = LIKE.get(each, base)
    if each in LIKE:
        same = sorted(f"`{method}`" for method in dir(like) if method in dir(each) and not method.startswith("_"))
        yield filled(f"As a `{like.__name__}` has them: {', '.join(same)}; {OPERATORS[like]}.")
    elif issubclass(each, mmapstate.State):
        yield f"It has all that a `{base.__name__}` has.\n"
    learned: set[str] = getattr(each, "_sure_names", set())  # keys that a program of this process has used
    for method in dir(each):
        if not method.startswith("_") and not hasattr(like, method) and method not in learned:
            found = inspect.getattr_static(each, method)
            if callable(found) or isinstance(
                found, property
            ):  # not the fields of a tuple, of which its docstring tells
                text = markdown(docstring(found, f"{name}.{method}"))
                yield f"#### {name}.{method}\n\n{signature(method, found)}{text}"


def signature(name: str, each: Any) -> str:
    """Return how something is called as a block; nothing for what users do not call."""
    result = ""
    if inspect.isclass(each) and issubclass(each, tuple):
        (node,) = ast.parse(inspect.getsource(each)).body
        assert isinstance(node, ast.ClassDef)
        found = [ast.unparse(line) for line in node.body if isinstance(line, ast.AnnAssign)]
    elif inspect.isclass(each) and issubclass(each, mmapstate.State):
        found = parameters(definition(each.__init__).args)
    elif inspect.isclass(each) or isinstance(each, property):
        return ""
    else:
        function = definition(each)
        found = parameters(function.args)
        result = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    line = f"{name}({', '.join(found)}){result}"
    if len(line) > WIDTH:
        line = f"{name}(\n{''.join(f'    {each},' + chr(10) for each in found)}){result}"
    return fenced(line) + "\n"


def parameters(arguments: ast.arguments) -> list[str]:
    """Return the parameters of a function as they are written, but for `self`."""
    before = len(arguments.posonlyargs)
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    found = [written(*each) for each in zip(positional, [*defaults, *arguments.defaults], strict=True)]
    if before:
        found.insert(before, "/")
    if arguments.vararg or arguments.kwonlyargs:
        found.append(f"*{written(arguments.vararg)}" if arguments.vararg else "*")
    found += [written(*each) for each in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        found.append(f"**{written(arguments.kwarg)}")
    return found[1:] if found[:1] == ["self"] else found


def written(parameter: ast.arg, default: ast.expr | None = None) -> str:
    """Return a parameter with its type and its default."""
    text = ast.unparse(parameter)
    return text if default is None else f"{text} = {ast.unparse(default)}"


def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return a function's definition, parsed."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    return node


def docstring(each: Any, name: str) -> str:
    """Return a docstring, its indentation removed; raise LookupError if there is none."""
    if not each.__doc__:
        raise LookupError(f"{name} has no docstring")
    return inspect.cleandoc(each.__doc__)


def markdown(text: str) -> str:
    """Return a docstring as Markdown: names as code, parameters as a list."""
    text = text.replace("``", "`")
    lines = []
    for line in text.splitlines():
        item = re.match(r" {4}(\w+): (.*)", line)
        if item:
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif line.startswith(" " * 8):
            lines.append(f"  {line[8:]}")
        elif line == "Parameters:":
            lines += [line, ""]
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """Return a paragraph in lines of the usual length."""
    return textwrap.fill(text, 120, break_on_hyphens=False) + "\n"


def fenced(text: str) -> str:
    """Return a block of plain text."""
    return f"```text\n{text.strip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8", newline="\n")
