"""The rooms of the package and who imports whom: read from the source, drawn into ``mmapstate/docs/notes.md``.

    python tools/rooms.py                print the picture
    python tools/rooms.py --write        put it into docs/notes.md

A room is a package or a module directly in ``mmapstate``. A floor is the length of the longest way down. Imports inside
functions and under ``TYPE_CHECKING`` count as well, since the source is parsed, not imported.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "mmapstate"
FOLDER = Path(__file__).resolve().parent.parent / PACKAGE
NOTES = FOLDER / "docs" / "notes.md"
BEGIN, END = "<!-- rooms: made by tools/rooms.py -->\n", "<!-- rooms: end -->\n"


def modules() -> dict[str, Path]:
    """Return the file of each module, by its name within the package (`text.reader`, `text.__init__`, `errors`)."""
    return {".".join(path.relative_to(FOLDER).with_suffix("").parts): path for path in sorted(FOLDER.rglob("*.py"))}


def room_of(module: str) -> str:
    """Return the room that a module is in."""
    return module.partition(".")[0]


def imported(source: str, module: str, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield line and module (`text.reader`) of each import of a module of the package in the source of `module`.

    What is imported from elsewhere is given by its whole name with a dot before it (`.yaml`).
    """
    around = f"{PACKAGE}.{module}".split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, _named(alias.name, known)
        elif isinstance(node, ast.ImportFrom):
            start = around[: len(around) - node.level + 1] if node.level else []
            origin = ".".join([*start, *filter(None, [node.module])])
            for alias in node.names:  # `from . import x`: x is a module, or else a name that `__init__` defines
                inner = _named(f"{origin}.{alias.name}", known)
                yield node.lineno, inner if inner in known else _named(origin, known)


def _named(name: str, known: dict[str, Path]) -> str:
    """Return how a module is called here, by its full name."""
    if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
        return f".{name}"
    inner = name[len(PACKAGE) + 1 :]
    return inner if inner in known else ".".join(filter(None, [inner, "__init__"]))


@functools.cache
def imports() -> dict[str, set[str]]:
    """Return for each module the modules of the package that it imports."""
    known = modules()
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        inner = {name for _, name in imported(path.read_text("utf-8"), module, known) if name in known}
        found[module] = inner - {module}
    return found


def rooms() -> dict[str, set[str]]:
    """Return for each room the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for module, inner in imports().items():
        found.setdefault(room_of(module), set()).update(room_of(name) for name in inner)
    return {room: inner - {room} for room, inner in found.items()}


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Return for each node of a graph its floor; raise ValueError naming the nodes of a circle."""
    found: dict[str, int] = {}

    def floor(node: str, way: tuple[str, ...]) -> int:
        if node in way:
            raise ValueError(f"a circle: {' -> '.join([*way[way.index(node) :], node])}")
        if node not in found:
            found[node] = 1 + max((floor(below, (*way, node)) for below in graph[node]), default=0)
        return found[node]

    for node in graph:
        floor(node, ())
    return found


def picture() -> str:
    """Return the rooms by floor, each with its modules by floor within it, as Markdown."""
    graph = rooms()
    heights = floors(graph)
    lines = ["| floor | room | lines | imports | its modules, from the ground up |", "| --- | --- | --- | --- | --- |"]
    for room in sorted(graph, key=lambda room: (-heights[room], room)):
        mine = {module for module in modules() if room_of(module) == room}
        inner = floors({module: imports()[module] & mine for module in mine})
        count = sum(len(modules()[module].read_text("utf-8").splitlines()) for module in mine)
        names = sorted(mine - {f"{room}.__init__"}, key=lambda module: (inner[module], module))
        told = ", ".join(name.partition(".")[2] for name in names) if mine != {room} else ""
        below = ", ".join(sorted(graph[room], key=lambda other: (-heights[other], other)))
        lines.append(f"| {heights[room]} | `{room}` | {count:,} | {below} | {told} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the picture, or write it into the notes."""
    if "--write" not in sys.argv[1:]:
        print(picture(), end="")
        return 0
    text = NOTES.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    NOTES.write_text(f"{before}{BEGIN}\n{picture()}\n{END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
