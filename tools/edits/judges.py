"""What of a changed text is needless where the right text is not the only one (see `tools/real_files.py`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from tools.edits.files import Entry, File, Judge, differing

__all__ = ["Gap", "Region", "fits", "flow_with", "flow_without", "quotes", "shape"]


class Region:
    """The lines of an entry in block style, and the comments and blank lines around it."""

    def __init__(self, file: File, entry: Entry) -> None:
        self.file = file
        begin = file.begin(entry)
        self.compact = not file.begins_line(begin)
        self.first, self.last = file.line(begin), file.line(file.end(entry)) + 1
        self.begin = begin
        self.top, self.bottom = self.first, self.last
        while self.top and not file.is_content(self.top - 1) and not self.compact:
            self.top -= 1
        while self.bottom < len(file.lines) and not file.is_content(self.bottom):
            self.bottom += 1
        above, below = self.first, self.last
        while above > self.top and file.lines[above - 1].strip():
            above -= 1
        if above == 0:
            above = self.first  # what begins the file is the file's
        column = file.column(begin)
        while below < self.bottom and re.match(rf" {{{column + 1},}}#", file.lines[below]):
            below += 1
        self.own = above, below

    def judge_gone(self, lines: list[str]) -> int:
        return self._judge(lines, self._next_line() if self.compact else [])

    def _next_line(self) -> list[str]:
        """Return the line that the first key of an item leaves: the next one, behind the dash."""
        column = self.file.column(self.begin)
        before = self.file.text[self.begin - column : self.begin]
        return [before + self.file.lines[self.bottom][column:]]

    def judge_cleared(self, lines: list[str], empty: str) -> int:
        file = self.file
        head = file.lines[self.first]
        place = head.find(":", file.column(self.begin)) if file.text[self.begin] != "-" else file.column(self.begin)
        return self._judge(lines, [head[: place + 1]], empty)

    def _judge(self, lines: list[str], heads: list[str], empty: str = "") -> int:
        """Return how many lines are needless, `heads` those that are there instead, perhaps with more behind."""
        file = self.file
        bottom = self.bottom + (self.compact and not empty)
        rest = file.lines[bottom:]
        inner = lines[self.top : len(lines) - len(rest)]
        if lines[: self.top] != file.lines[: self.top] or lines[len(lines) - len(rest) :] != rest:
            return max(1, differing(file.lines[: self.top] + rest, lines) - len(heads))
        content = [line for line in inner if line.strip()[:1] not in ("", "#")]
        if empty:
            fits = len(content) == 1 and re.sub(r"\s+", " ", content[0].partition(" #")[0]).strip().endswith(empty)
            wrong = not fits
        else:
            wrong = content != heads
        above, below = file.lines[self.top : self.own[0]], file.lines[self.own[1] : self.bottom]
        longest = max(run_of_blanks(above), run_of_blanks(below))
        more = max(0, run_of_blanks(inner) - longest)
        both = above[-1:] and below[:1] and not (above[-1].strip() or below[0].strip())
        together = bool(both and rest and not empty and run_of_blanks(inner) == 0)
        return wrong * max(1, abs(len(content) - len(heads))) + more + together


class Gap:
    """What stands between the last entry of a container and what comes next."""

    def __init__(self, file: File, last: Entry) -> None:
        self.file = file
        self.top = file.line(file.end(last)) + 1
        self.bottom = self.top
        while self.bottom < len(file.lines) and not file.is_content(self.bottom):
            self.bottom += 1

    def judge(self, lines: list[str], fits: Callable[[list[str]], bool]) -> int:
        """Return how many lines are needless if new ones came together somewhere in there, which must fit."""
        before = self.file.lines
        count = len(lines) - len(before)
        for place in range(self.top, self.bottom + 1):
            if lines[:place] == before[:place] and lines[place + count :] == before[place:]:
                return 0 if fits(lines[place : place + count]) else 1
        return max(1, differing(before, lines) - 1)


def run_of_blanks(lines: list[str]) -> int:
    """Return how many blank lines follow each other, at most."""
    longest = run = 0
    for line in lines:
        run = 0 if line.strip() else run + 1
        longest = max(longest, run)
    return longest


def quotes(nodes: list[Any]) -> list[str]:
    """Return how a new text may be quoted beside others."""
    texts = [node for node in nodes if isinstance(node, yaml.ScalarNode) and "\n" not in node.value]
    texts = [node for node in texts if node.style in ("'", '"') or node.tag == "tag:yaml.org,2002:str"]
    texts = [node for node in texts if node.style not in ("|", ">")]
    free = {node.style or "" for node in texts if not node.style or needs_none(node.value)}
    return sorted(free) if len(free) == 1 else ["", "'", '"']


def needs_none(text: str) -> bool:
    """Return whether a text is read as itself without quotes, wherever it stands."""
    return re.fullmatch(r"[A-Za-z][\w ./-]*[\w./-]|[A-Za-z]", text) is not None and text.lower() not in (
        "true", "false", "null", "yes", "no", "on", "off", "y", "n",
    )  # fmt: skip


def shape(text: str, node: Any, begin: int) -> list[tuple[Any, ...]]:
    """Return of all that is in an item where it stands, counted from its beginning, and how it is written."""
    first = text.rfind("\n", 0, begin) + 1
    found: list[tuple[Any, ...]] = []
    todo = [node]
    while todo:
        each = todo.pop()
        start, begins = each.start_mark, text.rfind("\n", 0, each.start_mark.index) + 1
        above = [line for line in text[first:begins].split("\n") if line.strip() and line.strip()[0] != "#"]
        if isinstance(each, yaml.ScalarNode):
            style = "any" if each.style in ("'", '"') and not needs_none(each.value) else each.style
            found.append((len(above), start.column - (begin - first), style or "plain"))
            continue
        found.append((len(above), start.column - (begin - first), each.flow_style))
        todo += [inner for pair in each.value for inner in (pair if isinstance(pair, tuple) else (pair,))]
    return found


def fits(one: Any, other: Any) -> bool:
    return bool(one == other or "any" in (one, other))


def flow_without(file: File, entry: Entry) -> Judge:
    bare = re.compile(r"[\s,]+")
    begin, end = file.begin(entry), file.end(entry)
    rights = [bare.sub("", file.text[:begin] + file.text[end:])]
    if (own := re.match(r",?[ \t]*#[^\n]*", file.text[end:])) is not None:  # a comment behind it may go
        rights.append(bare.sub("", file.text[:begin] + file.text[end + own.end() :]))
    around = file.line(entry.around.start_mark.index), file.line(entry.around.end_mark.index)

    def judge(lines: list[str]) -> int:
        rest = len(file.lines) - around[1] - 1
        apart = (
            lines[: around[0]] == file.lines[: around[0]] and lines[len(lines) - rest :] == file.lines[around[1] + 1 :]
        )
        if apart and bare.sub("", "".join(lines)) in rights and len(lines) <= len(file.lines):
            return 0
        return max(1, differing(file.lines, lines) - 1)

    return judge


def flow_with(file: File, last: Entry, texts: list[str]) -> Judge:
    bare = re.compile(r"[\s,]+")
    end = file.end(last)
    rights = [bare.sub("", f"{file.text[:end]}{text}{file.text[end:]}") for text in texts]
    # Comments behind the last one stay with it.
    rest = file.text.find("\n", end) if "#" in file.text[end : file.text.find("\n", end)] else end
    rights += [bare.sub("", f"{file.text[:rest]}{text}{file.text[rest:]}") for text in texts]
    more = file.begins_line(file.begin(last))

    def judge(lines: list[str]) -> int:
        if bare.sub("", "".join(lines)) in rights and len(lines) == len(file.lines) + more:
            return 0
        return max(1, differing(file.lines, lines) - 1)

    return judge
