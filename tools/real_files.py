"""Changes real YAML files at random places, and tells how much of them changed that need not have, and what was lost.

    python tools/real_files.py FOLDER                   # whose files, in all its folders, are taken; none is changed
    python tools/real_files.py FOLDER --beside          # and the same by ruamel.yaml, if that is installed (slow)
    python tools/real_files.py FOLDER --show delete     # what was not as it should be, as diffs

Taken are files that are one document with a mapping at its top, without anchors and tags. Each is changed by each kind
of edit at up to `--edits` places. An edit is *as it should be* if its result holds the wanted state, no comment is lost
and no line is needless. A comment is *lost* if it is no longer there, and was none of what was removed: in its lines,
directly above it (but for a block of comments that begins the file), or directly below it and deeper than it. A line is
*needless* if it is none of the lines that make the edit, judged by places that PyYAML tells, not by this library's:

- set, several, rename: the text with nothing but those scalars replaced, in the quotes that they had, is the only right
  one; each line that differs from it is needless.
- text (of several lines): one line has another word, is gone, or is there twice. The only right one is that line edited
  by hand.
- delete, drop (an item): the lines of the entry go, and of the comments and blank lines around it those that are its
  own; what is behind the dash in the line of a first key is followed by the next one. Where it stood no more blank
  lines follow each other than above or below it before, and some if there were some on both sides. In flow style
  nothing but the entry, a comma and blanks go.
- add, append: one line comes, behind the last entry, in its column, with its distance from dash or colon, in the quotes
  that all others have which need none (without any if no other one has any). In flow style nothing else comes.
- record (an item that is a copy of the last one, with another text), nested (a mapping with a list and a mapping in
  it): the new lines come together and nothing else changes. A record has each line where the last one has it, indented
  and quoted as that is, without its comments. In a nested one keys are indented as mappings are in that file, lists as
  lists are (most of them), or in flow style if some are; it is in flow style itself if all of its siblings are.
- clear: the lines of what was in it go, `[]` or `{}` comes, with the comment that stood behind the key; blank lines as
  above.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmapstate import StateFileError, snapshot
from mmapstate.patch import CannotPatch, patch
from mmapstate.values import same

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


# --- A file -----------------------------------------------------------------------------------------------------------


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


# --- Kinds of edits ---------------------------------------------------------------------------------------------------


class Kinds:
    """Makes edits of one file; each method makes one of its kind, or None where there is no place for it."""

    def __init__(self, file: File, dice: random.Random) -> None:
        self.file = file
        self.dice = dice

    def pick(self, which: Callable[[Entry], Any]) -> Entry | None:
        found = [entry for entry in self.file.entries if which(entry)]
        return self.dice.choice(found) if found else None

    def edit(self, apply: Apply, judge: Judge, may_go: tuple[int, int] = (0, 0)) -> Edit:
        wanted = copy.deepcopy(self.file.state)
        apply(wanted)
        return Edit(apply, wanted, may_go, judge)

    def exactly(self, apply: Apply, replaced: list[tuple[int, int, str]]) -> Edit:
        """Return an edit of which only the text with parts replaced is right."""
        text = self.file.text
        for start, stop, new in sorted(replaced, reverse=True):
            text = text[:start] + new + text[stop:]
        return self.edit(apply, lambda lines: differing(text.splitlines(), lines))

    # Scalars

    def is_scalar(self, entry: Entry) -> bool:
        node = entry.node
        return isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">") and node.end_mark != node.start_mark

    def other(self, entry: Entry) -> tuple[Any, str]:
        """Return another value of the same kind, and how it is written there."""
        holder, key = at(self.file.state, entry.way)
        value, style, number = holder[key], entry.node.style, self.dice.randrange(10_000)
        if isinstance(value, bool):
            return not value, str(not value).lower()
        if isinstance(value, int | float):
            return number + 10_000, str(number + 10_000)
        return f"other{number}", f"{style or ''}other{number}{style or ''}"

    def set(self) -> Edit | None:
        entry = self.pick(self.is_scalar)
        return entry and self._set([entry])

    def _set(self, entries: list[Entry]) -> Edit:
        values = [self.other(entry) for entry in entries]

        def apply(data: Any) -> None:
            for entry, (value, _) in zip(entries, values, strict=True):
                holder, key = at(data, entry.way)
                holder[key] = value

        places = [(entry.node.start_mark.index, entry.node.end_mark.index) for entry in entries]
        return self.exactly(apply, [(*place, new) for place, (_, new) in zip(places, values, strict=True)])

    def several(self) -> Edit | None:
        entry = self.pick(lambda each: isinstance(each.node, yaml.CollectionNode) and len(each.node.value) > 1)
        if entry is None:
            return None
        inside = [
            each for each in self.file.entries if each.way[: len(entry.way)] == entry.way and self.is_scalar(each)
        ]
        by_item = defaultdict(list)
        for each in inside:
            by_item[each.way[len(entry.way)]].append(each)
        if len(by_item) < 2:
            return None
        numbers = self.dice.sample(sorted(by_item), min(len(by_item), self.dice.choice((2, 3, 4))))
        return self._set([self.dice.choice(by_item[number]) for number in numbers])

    def rename(self) -> Edit | None:
        entry = self.pick(lambda each: each.key is not None)
        if entry is None or not isinstance(at(self.file.state, entry.way)[1], str):
            return None
        new, style = f"renamed{self.dice.randrange(10_000)}", entry.key.style or ""

        def apply(data: Any) -> None:
            holder, old = at(data, entry.way)
            if hasattr(holder, "insert"):  # ruamel's
                holder.insert(entry.way[-1], new, holder.pop(old))
                if old in holder.ca.items:
                    holder.ca.items[new] = holder.ca.items.pop(old)
                return
            renamed = {new if key == old else key: value for key, value in holder.items()}
            holder.clear()
            holder.update(renamed)

        return self.exactly(apply, [(entry.key.start_mark.index, entry.key.end_mark.index, style + new + style)])

    def text(self) -> Edit | None:
        def has_lines(each: Entry) -> bool:
            start, end = each.node.start_mark.index, each.node.end_mark.index
            lines = self.file.text[start:end].rstrip().count("\n")
            return isinstance(each.node, yaml.ScalarNode) and lines > (each.node.style in ("|", ">"))

        entry = self.pick(has_lines)
        if entry is None:
            return None
        lines = list(self.file.lines)
        first = entry.node.start_mark.line + (entry.node.style in ("|", ">"))
        last = self.file.line(self.file.end(entry))
        number = self.dice.choice([each for each in range(first, last + 1) if lines[each].strip()])
        kind = self.dice.choice(("word", "word", "gone", "twice")) if entry.node.style in ("|", ">") else "word"
        if kind == "word":
            words = list(re.finditer(r"[A-Za-z]+", lines[number]))
            if number == entry.node.start_mark.line:
                words = [word for word in words if word.start() > entry.node.start_mark.column]
            if not words:
                return None
            word = self.dice.choice(words)
            lines[number] = f"{lines[number][: word.start()]}other{lines[number][word.end() :]}"
        elif kind == "gone" and first < number < last:  # the first one tells how far all are indented
            del lines[number]
        else:
            lines.insert(number, lines[number])
        try:
            right = "\n".join(lines) + "\n"
            holder, key = at(snapshot.parse(right.encode(), ""), entry.way)
            value = holder[key]
        except (StateFileError, LookupError, TypeError):
            return None

        def apply(data: Any) -> None:
            holder, key = at(data, entry.way)
            kept = type(holder[key]).__module__.startswith("ruamel") and not isinstance(holder, type(holder[key]))
            holder[key] = type(holder[key])(value) if kept else value

        found = self.edit(apply, lambda lines: differing(right.splitlines(), lines))
        return found if same(found.wanted, snapshot.parse(right.encode(), "")) else None

    # What goes

    def delete(self) -> Edit | None:
        entry = self.pick(lambda each: each.key is not None and len(each.around.value) > 1)
        return entry and self._gone(entry)

    def drop(self) -> Edit | None:
        entry = self.pick(lambda each: each.key is None and len(each.around.value) > 1)
        return entry and self._gone(entry)

    def _gone(self, entry: Entry) -> Edit:
        def apply(data: Any) -> None:
            holder, key = at(data, entry.way)
            del holder[key]

        file = self.file
        if entry.around.flow_style:
            own = file.line(file.begin(entry)), file.line(file.end(entry)) + 1
            return self.edit(apply, self._flow_without(entry), own if file.begins_line(file.begin(entry)) else (0, 0))
        region = Region(self.file, entry)
        return self.edit(apply, region.judge_gone, region.own)

    def _flow_without(self, entry: Entry) -> Judge:
        file = self.file
        bare = re.compile(r"[\s,]+")
        begin, end = file.begin(entry), file.end(entry)
        rights = [bare.sub("", file.text[:begin] + file.text[end:])]
        if (own := re.match(r",?[ \t]*#[^\n]*", file.text[end:])) is not None:  # a comment behind it may go
            rights.append(bare.sub("", file.text[:begin] + file.text[end + own.end() :]))
        around = file.line(entry.around.start_mark.index), file.line(entry.around.end_mark.index)

        def judge(lines: list[str]) -> int:
            rest = len(file.lines) - around[1] - 1
            apart = (
                lines[: around[0]] == file.lines[: around[0]]
                and lines[len(lines) - rest :] == file.lines[around[1] + 1 :]
            )
            if apart and bare.sub("", "".join(lines)) in rights and len(lines) <= len(file.lines):
                return 0
            return max(1, differing(file.lines, lines) - 1)

        return judge

    def clear(self) -> Edit | None:
        entry = self.pick(lambda each: isinstance(each.node, yaml.CollectionNode) and each.node.value)
        if entry is None:
            return None

        def apply(data: Any) -> None:
            holder, key = at(data, entry.way)
            holder[key].clear()

        file = self.file
        empty = "[]" if isinstance(entry.node, yaml.SequenceNode) else "{}"
        if entry.node.flow_style:
            place = entry.node.start_mark.index, entry.node.end_mark.index
            if "#" not in file.text[slice(*place)]:
                return self.exactly(apply, [(*place, empty)])
        region = Region(file, entry)
        first, last = file.line(file.begin(entry)), file.line(file.end(entry)) + 1
        return self.edit(apply, lambda lines: region.judge_cleared(lines, empty), (first, max(last, region.own[1])))

    # What comes

    def add(self) -> Edit | None:
        entry = self.pick(lambda each: each.key is not None and each.way[-1] == len(each.around.value) - 1)
        return entry and self._comes(entry, f"added{self.dice.randrange(10_000)}", "new value")

    def append(self) -> Edit | None:
        entry = self.pick(
            lambda each: each.key is None and each.way[-1] == len(each.around.value) - 1 and self.is_scalar(each)
        )
        return entry and self._comes(entry, None, "new value")

    def _comes(self, last: Entry, key: str | None, value: str) -> Edit:
        file = self.file

        def apply(data: Any) -> None:
            holder, _ = at(data, last.way)
            if key is None:
                holder.append(value)
            else:
                holder[key] = value

        siblings = file.siblings(last)
        keys = quotes([each.key for each in siblings]) if key is not None else [""]
        values = quotes([each.node for each in siblings])
        begin = file.begin(last)
        if key is not None:
            texts = [f"{mark}{key}{mark}: {quote}{value}{quote}" for mark in keys for quote in values]
        else:
            sign = "" if last.around.flow_style else file.text[begin : last.node.start_mark.index]
            texts = [f"{sign}{quote}{value}{quote}" for quote in values]
        if last.around.flow_style:
            return self.edit(apply, self._flow_with(last, texts))
        texts = [" " * file.column(begin) + text for text in texts]
        gap = Gap(file, last)
        return self.edit(apply, lambda lines: gap.judge(lines, lambda new: new in [[text] for text in texts]))

    def _flow_with(self, last: Entry, texts: list[str]) -> Judge:
        file = self.file
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

    def record(self) -> Edit | None:
        entry = self.pick(
            lambda each: (
                each.key is None
                and each.way[-1] == len(each.around.value) - 1
                and not each.around.flow_style
                and isinstance(each.node, yaml.MappingNode)
            )
        )
        if entry is None:
            return None
        holder, index = at(self.file.state, entry.way)
        new = copy.deepcopy(holder[index])
        for key, value in new.items():
            if isinstance(value, str) and "\n" not in value and value.isalpha():
                new[key] = f"{value}er"
                break

        def apply(data: Any) -> None:
            at(data, entry.way)[0].append(copy.deepcopy(new))

        gap = Gap(self.file, entry)
        own = shape(self.file.text, entry.node, self.file.begin(entry))

        def judge(lines: list[str]) -> int:
            text = "\n".join(lines) + "\n"
            node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
            for number in entry.way[:-1]:
                node = node.value[number][1] if isinstance(node, yaml.MappingNode) else node.value[number]
            last = node.value[-1]
            found = shape(text, last, text.rindex("-", 0, last.start_mark.index))
            unlike = sum(not all(map(fits, one, other)) for one, other in zip(own, found, strict=False))
            return gap.judge(lines, lambda _: True) or unlike + abs(len(own) - len(found))

        return self.edit(apply, judge)

    def nested(self) -> Edit | None:
        entry = self.pick(
            lambda each: (
                each.key is not None
                and each.way[-1] == len(each.around.value) - 1
                and not each.around.flow_style
                and any(isinstance(node, yaml.CollectionNode) for _, node in each.around.value)
            )
        )
        if entry is None:
            return None
        name = f"nested{self.dice.randrange(10_000)}"
        new = {"one": 1, "all": [2, 3], "more": {"two": 2}}

        def apply(data: Any) -> None:
            holder, _ = at(data, entry.way)
            holder[name] = copy.deepcopy(new)

        values = [node for _, node in entry.around.value if isinstance(node, yaml.MappingNode) and node.value]
        flow = bool(values) and all(node.flow_style for node in values)
        steps, dashes = self._indentations()
        sequences = [each.node for each in self.file.entries if isinstance(each.node, yaml.SequenceNode)]
        has_flow = any(node.flow_style and node.value for node in sequences)
        pad = " " * self.file.column(self.file.begin(entry))
        rights = []
        for mark in quotes([each.key for each in self.file.siblings(entry)]):
            key = f"{pad}{mark}{name}{mark}:"
            if flow:
                rights.append([f"{key} {{one: 1, all: [2, 3], more: {{two: 2}}}}"])
                continue
            for step in steps:
                for dash in dashes:
                    inner = pad + " " * step
                    items = [f"{inner}all:", *(f"{inner}{' ' * dash}- {item}" for item in (2, 3))]
                    for lists in (items, [f"{inner}all: [2, 3]"])[: 1 + has_flow]:
                        more = [f"{inner}more:", f"{inner}{' ' * step}two: 2"]
                        rights.append([key, f"{inner}one: 1", *lists, *more])

        def bare(lines: list[str]) -> list[str]:
            """Return lines without quotes in those below the first one, and without blanks in brackets."""
            inner = [line.replace('"', "").replace("'", "") for line in lines[1:]]
            return [re.sub(r"(?<=[\[{]) | (?=[\]}])", "", line) for line in [*lines[:1], *inner]]

        gap = Gap(self.file, entry)
        return self.edit(apply, lambda lines: gap.judge(lines, lambda found: bare(found) in rights))

    def _indentations(self) -> tuple[list[int], list[int]]:
        """Return by how much mappings below keys are indented in the file, and lists: each of those used most."""
        counts: dict[type, Counter[int]] = {yaml.MappingNode: Counter(), yaml.SequenceNode: Counter()}
        for entry in self.file.entries:
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


# --- The table --------------------------------------------------------------------------------------------------------

KINDS = ("set", "several", "nested", "add", "append", "record", "rename", "text", "delete", "drop", "clear")


def by_patch(file: File, edit: Edit) -> str | None:
    try:
        return patch(file.data, edit.wanted).decode()
    except CannotPatch:
        return None


def by_ruamel(file: File, edit: Edit) -> str | None:
    from ruamel.yaml import YAML, util

    try:
        _, indent, offset = util.load_yaml_guess_indent(file.text)
        tool = YAML()
        tool.preserve_quotes = True
        tool.width = 100_000
        if indent is not None:
            steps, _ = Kinds(file, random.Random())._indentations()
            tool.indent(mapping=steps[0], sequence=indent, offset=offset)
        tool.explicit_start = any(line.split("#")[0].strip() == "---" for line in file.lines)
        data = tool.load(file.text)
        edit.apply(data)
        out = StringIO()
        tool.dump(data, out)
    except Exception:  # whatever it raises: it did not do it
        return None
    return out.getvalue()


class Row:
    def __init__(self) -> None:
        self.edits = self.right = self.needless = self.lost = self.failed = 0

    def judge(self, file: File, edit: Edit, text: str | None) -> bool:
        """Count an edit's result; return whether it is as it should be."""
        self.edits += 1
        if text is None or not held(text, edit.wanted):
            self.failed += 1
            return False
        needless = edit.judge(text.splitlines())
        there = Counter(comment for _, comment in comments_of(text))
        wanted = Counter(text for line, text in file.comments if not edit.may_go[0] <= line < edit.may_go[1])
        lost = sum((wanted - there).values())
        self.needless, self.lost = self.needless + needless, self.lost + lost
        self.right += not needless and not lost
        return not needless and not lost

    def __str__(self) -> str:
        share = 100 * self.right / self.edits if self.edits else 100
        return f"{share:8.2f} % {self.needless:9,} {self.lost:6,} {self.failed:6,}"


def held(text: str, wanted: Any) -> bool:
    try:
        return same(snapshot.parse(text.encode(), ""), wanted)
    except StateFileError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--edits", type=int, default=2, metavar="N", help="of each kind and file (default: %(default)d)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", action="store_true", help="let ruamel.yaml do the same")
    parser.add_argument("--show", choices=KINDS, help="print what is not as it should be")
    options = parser.parse_args()
    tools = {"mmapstate": by_patch} | ({"ruamel.yaml": by_ruamel} if options.beside else {})
    rows = {(name, kind): Row() for name in tools for kind in (*KINDS, "all")}
    count = 0
    for path in sorted(each for each in options.folder.rglob("*") if each.is_file()):
        try:
            file = File(path)
        except (StateFileError, ValueError, yaml.YAMLError):
            continue
        count += 1
        for kind in KINDS:
            kinds = Kinds(file, random.Random(f"{options.seed} {path.name} {kind}"))
            for edit in [getattr(kinds, kind)() for _ in range(options.edits)]:
                for name, tool in tools.items():
                    if edit is None:
                        continue
                    text = tool(file, edit)
                    fine = rows[name, kind].judge(file, edit, text)
                    rows[name, "all"].judge(file, edit, text)
                    if not fine and kind == options.show:
                        show(path, file, text, name)
    print(f"{count} files of {options.folder.name}; as it should be, needless lines, comments lost, failed")
    for name in tools:
        print(f"{name:16}")
        for kind in (*KINDS, "all"):
            print(f"  {kind:10}{rows[name, kind].edits:7,} {rows[name, kind]}")
    return 0


def show(path: Path, file: File, text: str | None, name: str) -> None:
    after = ["it could not"] if text is None else text.splitlines()
    print(f"=== {path.name} by {name}", *difflib.unified_diff(file.lines, after, lineterm="", n=2), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
