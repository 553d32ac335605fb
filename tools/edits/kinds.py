"""Random edits of a file, of eleven kinds, each with what judges its result (see `tools/real_files.py`)."""

from __future__ import annotations

import copy
import random
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import yaml

from mmapstate import StateFileError
from mmapstate.text import snapshot
from mmapstate.values import same
from tools.edits.files import Apply, Edit, Entry, File, Judge, at, differing
from tools.edits.judges import Gap, Region, fits, flow_with, flow_without, quotes, shape

__all__ = ["KINDS", "Kinds"]

KINDS = ("set", "several", "nested", "add", "append", "record", "rename", "text", "delete", "drop", "clear")


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
            return self.edit(apply, flow_without(file, entry), own if file.begins_line(file.begin(entry)) else (0, 0))
        region = Region(self.file, entry)
        return self.edit(apply, region.judge_gone, region.own)

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
            return self.edit(apply, flow_with(file, last, texts))
        texts = [" " * file.column(begin) + text for text in texts]
        gap = Gap(file, last)
        return self.edit(apply, lambda lines: gap.judge(lines, lambda new: new in [[text] for text in texts]))

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
        steps, dashes = self.file.indentations()
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
