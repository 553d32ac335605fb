"""A YAML file, with the places of what is in it as PyYAML's own reader tells them; an edit of one."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmapstate.text import snapshot

__all__ = ["Apply", "Edit", "Entry", "File", "Judge", "at", "comments_of", "differing"]

Judge = Callable[[list[str]], int]  # the lines of a result: how many of them are needless
Apply = Callable[[Any], None]


class Entry(NamedTuple):
    """An entry of a container, by the numbers of the entries on the way to it."""

    way: tuple[int, ...]
    around: Any
    key: Any
    node: Any


class Edit(NamedTuple):
    """A change of the data, the lines (of which to which) whose comments may go, and what judges the result."""

    apply: Apply
    wanted: Any
    may_go: tuple[int, int]
    judge: Judge


class File:
    """A text, with places of what is in it as PyYAML's own reader tells them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.state = snapshot.parse(self.data, str(path))
        self.text = self.data.decode()
        if self.text[:1] == "\ufeff" or "\r" in self.text or "\t" in self.text:
            raise ValueError("its marks and lines are no plain ones")
        self.text += "\n" * (self.text[-1:] != "\n")
        self.lines = self.text.splitlines()
        if self.lines != self.text.split("\n")[:-1]:
            raise ValueError("it has other line ends")
        for event in yaml.parse(self.text, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ValueError("it has anchors or tags")
        self.root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        self.entries = list(entries_of(self.root))
        self.comments = comments_of(self.text)

    def line(self, index: int) -> int:
        return self.text.count("\n", 0, index)

    def end(self, entry: Entry) -> int:
        """Return where an entry's text ends."""
        return end_of(self.text, entry.key, entry.node)

    def begin(self, entry: Entry) -> int:
        """Return where an entry's text begins: its key, or the dash in block style."""
        if entry.key is not None:
            return int(entry.key.start_mark.index)
        start: int = entry.node.start_mark.index
        return start if entry.around.flow_style else self.text.rindex("-", 0, start + 1 - bool(self._is_compact(start)))

    def _is_compact(self, start: int) -> bool:
        return self.text[start] == "-"

    def column(self, index: int) -> int:
        return index - self.text.rfind("\n", 0, index) - 1

    def begins_line(self, index: int) -> bool:
        return not self.text[index - self.column(index) : index].strip()

    def is_content(self, line: int) -> bool:
        return self.lines[line].strip()[:1] not in ("", "#")

    def siblings(self, entry: Entry) -> list[Entry]:
        return [other for other in self.entries if other.around is entry.around]

    def indentations(self) -> tuple[list[int], list[int]]:
        """Return by how much mappings below keys are indented in the file, and lists: each of those used most."""
        counts: dict[type, Counter[int]] = {yaml.MappingNode: Counter(), yaml.SequenceNode: Counter()}
        for entry in self.entries:
            if entry.key is None or not isinstance(entry.node, yaml.CollectionNode):
                continue
            if not entry.node.flow_style and entry.node.value:
                step = entry.node.start_mark.column - entry.key.start_mark.column
                counts[type(entry.node)][step] += 1
        steps, dashes = counts[yaml.MappingNode], counts[yaml.SequenceNode]
        return (
            [step for step, count in steps.items() if count == max(steps.values())] or [2, 3, 4, 8],
            [dash for dash, count in dashes.items() if count == max(dashes.values())] or [0, 2, 4],
        )


def entries_of(node: Any, way: tuple[int, ...] = ()) -> Iterator[Entry]:
    """Yield the entries of a node, and all that are in them."""
    if isinstance(node, yaml.MappingNode):
        pairs = node.value
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(None, each) for each in node.value]
    else:
        return
    for number, (key, value) in enumerate(pairs):
        yield Entry((*way, number), node, key, value)
        yield from entries_of(value, (*way, number))


def end_of(text: str, key: Any, node: Any) -> int:
    """Return where the text of a node ends, that of a block of text without blank lines at its end."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style and node.value:
        last = node.value[-1]
        key, node = last if isinstance(last, tuple) else (None, last)
    start, end = node.start_mark.index, node.end_mark.index
    if start == end:
        return int(text.index(":", key.end_mark.index) + 1 if key is not None else text.rindex("-", 0, start + 1) + 1)
    return start + len(text[start:end].rstrip()) if isinstance(node, yaml.ScalarNode) else int(end)


def comments_of(text: str) -> list[tuple[int, str]]:
    """Return the comments of a text, each with the number of its line."""
    found, position = [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        start, end = token.start_mark.index, token.end_mark.index
        header = text[start : text.find("\n", start)] if getattr(token, "style", None) in ("|", ">") else ""
        gaps = [(position, text[position:start])]
        if "#" in header:
            gaps.append((start, header))
        for begin, gap in gaps:
            matches = re.finditer(r"#[^\n]*", gap)
            found += [(text.count("\n", 0, begin + match.start()), match[0].rstrip()) for match in matches]
        position = max(position, end)
    return found


def at(data: Any, way: tuple[int, ...]) -> Any:
    """Return the container of an entry, and the entry's key or index, in plain data or ruamel's."""
    for number in way[:-1]:
        data = data[list(data)[number]] if isinstance(data, dict) else data[number]
    return data, (list(data)[way[-1]] if isinstance(data, dict) else way[-1])


def differing(right: list[str], found: list[str]) -> int:
    """Return how many lines differ, at least: those that are gone, or those that have come."""
    count = 0
    for kind, first, last, begin, end in difflib.SequenceMatcher(None, right, found, autojunk=False).get_opcodes():
        count += max(last - first, end - begin) if kind != "equal" else 0
    return count
