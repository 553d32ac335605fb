"""New values, written in the manner of their siblings: in block or flow style, indented and quoted as those are.

A new container is modelled on another: the one in the same list that has most keys in common with it, the value of the
same key in a sibling of its mapping, another value of that mapping. Without a model, the file's majority decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from mmapstate.text import writer
from mmapstate.text.flow_style import Manner, flow, last_entries, manner_of, quoted_alike
from mmapstate.text.lines import changed_text
from mmapstate.text.source import Written, value_of
from mmapstate.text.spans import Text
from mmapstate.values import Plain, same

_COMMENT_OF_HEADER = re.compile(r"\A([|>]\S*)[ \t]+#[^\n]*")
_ITEM = re.compile(r"^- (.*(?:\n(?!- ).*)*)", re.MULTILINE)
LONGEST_KEY = 100


class Siblings:
    """Writes new values into one text; with `literal` those of several lines as blocks."""

    def __init__(self, text: Text, root: Written | None, *, literal: bool) -> None:
        self.text = text
        self.root = root
        self.literal = literal
        self.pieces: dict[tuple[type, str], str] = {}

    # --- What the file does -----------------------------------------------------------------------------------------

    @cached_property
    def _around(self) -> dict[int, Written]:
        """Of each container, by its identity, the one that it is in."""
        return {id(value_of(entry)): container for container in self._containers() for entry in container.entries or ()}

    def _containers(self) -> Iterator[Written]:
        todo = [self.root] if self.root is not None else []
        while todo:
            container = todo.pop()
            yield container
            todo += [value for value in map(value_of, container.entries or ()) if value.entries]

    @cached_property
    def _steps(self) -> tuple[int, int]:
        """By how many columns most mappings below a key are indented, and most lists."""
        steps: dict[type, Counter[int]] = {dict: Counter({2: 0}), list: Counter({0: 0})}
        for container in self._containers():
            for entry in () if container.style else container.entries or ():
                value = value_of(entry)
                if isinstance(entry, tuple) and value.entries and not value.style:
                    step = self.text.column(value.start) - self.text.column(entry[0].start)
                    steps[type(value.value)][step] += 2 <= step <= 9 or (step == 0 and isinstance(value.value, list))
        return steps[dict].most_common(1)[0][0], steps[list].most_common(1)[0][0]

    # --- Models -----------------------------------------------------------------------------------------------------

    def _model_at(self, written: Written, kind: type) -> Any:
        """Return the entry after which a value is to be written that becomes a container; None if there is none."""
        around = self._around[id(written)]
        if isinstance(around.value, list):
            return _model_like(around, kind())
        key = next(key for key, value in around.entries or () if value is written)
        return self._model_of_key(around, key.value, kind)

    def _model_of_key(self, container: Written, key: Any, kind: type) -> Any:
        around = self._around.get(id(container))
        beside = [value_of(entry) for entry in last_entries(around)] if around is not None else []
        for other in reversed(beside):
            if isinstance(other.value, dict) and other is not container and isinstance(other.value.get(key), kind):
                found = next(entry for entry in other.entries or () if entry[0].value == key)
                if found[1].entries:
                    return found
        return _model_like(container, kind())

    # --- Writing ----------------------------------------------------------------------------------------------------

    def entries(self, container: Written, new: dict[Any, Plain] | list[Plain], column: int) -> str:
        """Return the lines of new entries of a container in block style, which begin in that column."""
        if not self._prepare(new):
            return self.dumped(new, column)
        manner = manner_of(container, Manner())
        lines = []
        if isinstance(new, dict):
            for key, value in new.items():
                model = self._model_of_key(container, key, type(value)) if isinstance(value, dict | list) else None
                head, more = self._value(value, column, model, manner, None, in_list=False)
                lines.append(f"{' ' * column}{self._key(key, manner)}:{head}{more}\n")
            return "".join(lines)
        last = value_of(container.entries[-1]) if container.entries else None
        before = self.text.before(last.start) if last is not None else ""
        blanks = before[len(before.rstrip(" ")) :] if before.rstrip(" ").endswith("-") else " "
        for item in new:
            model = _model_like(container, item)
            head, more = self._value(item, column, model, manner, None, in_list=True)
            if not more:
                head = blanks + head.lstrip(" ")
            lines.append(f"{' ' * column}-{head}{more}\n")
        return "".join(lines)

    def value(self, new: Plain, column: int, written: Written, *, in_list: bool) -> tuple[str, str]:
        """Return what stands behind the colon or dash of an entry in that column, and the lines below it.

        It is in the place of what is `written`.
        """
        if not self._prepare([new]):
            text = self.dumped([new] if in_list else {"k": new}, column)[column + (1 if in_list else 2) :]
            head, more, rest = text.removesuffix("\n").partition("\n")
            return head, more + rest
        model = self._model_at(written, type(new)) if isinstance(new, dict | list) else None
        return self._value(new, column, model, Manner(), None, in_list=in_list)

    def dumped(self, value: Any, indent: int = 0) -> str:
        """Return a mapping or list as lines in block style, each indented, as the dumper writes it."""
        if not value:
            return ""
        text = writer.dump(value, step=self._steps[0], literal=self.literal).decode()
        return re.sub(r"^(?!$)", " " * indent, text, flags=re.MULTILINE) if indent else text

    def _prepare(self, new: dict[Any, Plain] | list[Plain]) -> bool:
        """Have all scalars dumped, at one go; return whether the keys are such as can stand before a colon."""
        scalars: dict[tuple[type, str], Plain] = {}
        keys: set[tuple[type, str]] = set()
        todo: list[Plain] = [new]
        while todo:
            value = todo.pop()
            if isinstance(value, dict):
                keys.update((type(key), repr(key)) for key in value)
                todo += [*value, *value.values()]
            elif isinstance(value, list):
                todo += value
            else:
                scalars[type(value), repr(value)] = value
        if scalars:
            has_lines = any(isinstance(value, str) and "\n" in value for value in scalars.values())
            step = self._steps[0] if has_lines else 2
            text = writer.dump(list(scalars.values()), step=step, literal=self.literal).decode()
            found = _ITEM.findall(text.removesuffix("\n"))
            self.pieces.update(zip(scalars, found, strict=True))
        return all("\n" not in self.pieces[key] and len(self.pieces[key]) <= LONGEST_KEY for key in keys)

    def _key(self, key: Any, manner: Manner) -> str:
        return quoted_alike(manner.key, key, self.pieces[type(key), repr(key)])

    def _value(
        self, new: Plain, column: int, model: Any, manner: Manner, step: int | None, *, in_list: bool
    ) -> tuple[str, str]:
        """Return what stands behind the colon or dash of an entry, and the lines below it.

        What has no model is indented by `step`, as what is around it, or as most of the file.
        """
        if not isinstance(new, dict | list):
            head, more, rest = self._scalar(new, column, model, manner).partition("\n")
            return f" {head}" if head else "", more + rest
        if not new:
            return " {}" if isinstance(new, dict) else " []", ""
        like = value_of(model) if model is not None else None
        if like is not None:
            manner = manner_of(like, manner)
            if like.style:
                return f" {self._in_brackets(new, like, manner)}", ""
        inner = column + self._offset(new, model, step, in_list=in_list)
        lines = []
        pairs: list[tuple[Any, Plain]] = list(new.items()) if isinstance(new, dict) else list(enumerate(new))
        step = inner - column if isinstance(new, dict) and not in_list else step
        for key, value in pairs:
            entry = _model_in(like, key, value)
            head, more = self._value(value, inner, entry, manner, step, in_list=isinstance(new, list))
            if isinstance(new, dict):
                head = self._key(key, manner) + self._behind_key(key, entry, head)
            lines.append(f"{' ' * inner}{'' if isinstance(new, dict) else '-'}{head}{more}")
        text = "\n".join(lines)
        if not in_list:
            return "", f"\n{text}"
        head, more, rest = text[column + 1 :].partition("\n")
        return head, more + rest

    def _behind_key(self, key: Any, model: Any, head: str) -> str:
        """Return what stands behind a key, with colon, as far from it as in a sibling with the same one."""
        if isinstance(model, tuple) and same(model[0].value, key):
            between = self.text.source[model[0].end : model[1].start]
            if not between.replace(":", "", 1).strip(" ") and ":" in between:
                colon, _, blanks = between.partition(":")
                return f"{colon}:{blanks if blanks and head else ' ' if head else ''}{head.lstrip(' ')}"
        return f":{head}"

    def _column_of(self, entry: Any) -> int:
        """Return in which column an entry begins, -1 if its dash stands in a line of its own."""
        if isinstance(entry, tuple):
            return self.text.column(entry[0].start)
        before = self.text.before(entry.start).rstrip(" ")
        return len(before) - 1 if before.endswith("-") else -1

    def _in_brackets(self, new: Plain, like: Written, manner: Manner) -> str:
        """Return a container in flow style, in one line, with blanks inside the brackets if its model has some."""
        source = self.text.source[self.text.content(like) : like.end]
        if same(like.value, new) and "\n" not in source:
            return source
        text = flow(new, manner)
        return f"{text[0]} {text[1:-1]} {text[-1]}" if source[1:2] == " " else text

    def _offset(self, new: Plain, model: Any, step: int | None, *, in_list: bool) -> int:
        """Return by how many columns a container is indented in its entry."""
        if model is not None and isinstance(model, tuple) != in_list:
            like = value_of(model)
            column = self._column_of(model)
            offset = self.text.column(like.start) - column
            if column >= 0 and (offset > 0 or (offset == 0 and isinstance(new, list))):
                return offset
        if in_list:
            return 2
        return self._steps[1] if isinstance(new, list) else step or self._steps[0]

    def _scalar(self, new: Plain, column: int, model: Any, manner: Manner) -> str:
        """Return a scalar's text, as its model in a sibling; lines below the first one with their indentation."""
        piece = self.pieces[type(new), repr(new)]
        style = manner.value
        if model is not None:
            like = value_of(model)
            source = self.text.source[self.text.content(like) : like.end]
            if self.literal and isinstance(new, str) and "\n" in source and self._column_of(model) == column:
                found = None if same(like.value, new) else changed_text(self.text, like, new, column)
                if found is not None or same(like.value, new):
                    source = _COMMENT_OF_HEADER.sub(r"\1", source if found is None else found[2])
                    return source.removesuffix("\n") if "+" in source[:3] else source.rstrip("\n")
            elif same(like.value, new) and source and "\n" not in source:
                return source
            elif isinstance(model, tuple) and isinstance(like.value, str):
                style = like.style
        if "\n" in piece:
            return re.sub(r"\n(?!\n|$)", "\n" + " " * column, piece)
        return quoted_alike(style, new, piece)


def _model_like(container: Written, new: Plain, first: Any = None) -> Any:
    """Return the entry after which a new container is to be written, `first` if it is one, None if there is none.

    In a list it is the one that has most keys in common with a new mapping.
    """
    alike = [
        entry
        for entry in (first, *reversed(last_entries(container)))
        if entry is not None and value_of(entry).entries and isinstance(value_of(entry).value, type(new))
    ]
    if isinstance(container.value, list) and isinstance(new, dict):
        return max(alike, key=lambda entry: len(new.keys() & entry.value.keys()), default=None)
    return alike[0] if alike else None


def _model_in(container: Written | None, key: Any, new: Plain) -> Any:
    """Return the entry of a model after which one of what is written like it is to be written.

    That is the one with the same key, or at the same place, if it is of one kind; else the last one that is.
    """
    if container is None:
        return None
    entries = container.entries or []
    if isinstance(container.value, dict):
        found = next((entry for entry in entries if same(entry[0].value, key)), None)
    else:
        found = entries[key] if key < len(entries) else None
    return _model_like(container, new, found) if isinstance(new, dict | list) else found
