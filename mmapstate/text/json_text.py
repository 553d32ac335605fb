r"""JSON text to plain data, and what plain data JSON can hold.

JSON is not read as YAML, though it nearly is: ``1e5``, ``"\ud83d\udc0d"`` and a key of 1,100 characters mean something
else in YAML, or nothing. What JSON cannot hold is refused at the write, so that `json_style` never meets it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mmapstate.errors import UnsupportedValueError
from mmapstate.text.source import BOM, SURROGATE, Leniency, Source, Written, split_bom
from mmapstate.values import MAX_DEPTH, MAX_INT_DIGITS, Plain

NOT_RAW = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON lets stand for itself, and YAML takes for a line break or refuses."""

_BEGINNING = re.compile(rb"(?:%b)?[ \t\r\n]*(?:\{|\Z)" % BOM)
_TOKEN = re.compile(r'[ \t\r\n]*([{}\[\],:]|"(?:[^"\\]|\\.)*"|[^ \t\r\n{}\[\],:"]+)')
_SUSPECT = re.compile(rf"\\u[dD][89a-fA-F]|[0-9]{{{MAX_INT_DIGITS + 1}}}")  # halves of pairs; integers too long
_CONSTANTS = {"NaN", "Infinity", "-Infinity"}
_SCALARS = frozenset({str, int, float, bool, type(None)})


def escaped(match: re.Match[str]) -> str:
    """Return what is written for a character that `NOT_RAW` has found, in JSON and in YAML."""
    return f"\\u{ord(match[0]):04x}"


def may_begin(head: bytes) -> bool:
    """Return whether a text that begins with `head` can be a JSON object, or is too short to tell."""
    return _BEGINNING.match(head) is not None


def is_object(text: bytes) -> bool:
    """Return whether a text is a JSON object, as Python's reader has it. An empty one says nothing: it is YAML, too."""
    if not may_begin(text):
        return False
    try:
        found = json.loads(split_bom(text)[1].decode())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return False
    except ValueError:  # an integer of too many digits
        return True
    return isinstance(found, dict) and found != {}


def parse(text: bytes, file: str) -> dict[Any, Plain]:
    """Return the data of a JSON text: the object at its top, ``{}`` if it is blank.

    Raises `StateFileError`, with line and column, for anything else, and for keys that stand twice in an object.
    """
    source = Source(text, file)
    if not source.text.strip(" \t\r\n"):
        return {}
    try:  # by Python's reader, which is fast, and tells of what is odd no place
        data: Plain = json.loads(source.text, object_pairs_hook=_object, parse_constant=refuse_constant)
        is_sure = source.text.count("[") + source.text.count("{") <= MAX_DEPTH and not _SUSPECT.search(source.text)
    except json.JSONDecodeError as error:
        problem = f"by its name the file is JSON, and its text is not ({error.msg})"
        raise source.refusal(problem, error.pos) from None
    except (ValueError, RecursionError):  # the state could not hold what it found
        is_sure = False
    if not is_sure:
        written = _Reader(source).compose()
        data = None if written is None else written.value
    if not isinstance(data, dict):
        raise source.refusal("the top is no object; write one, in braces", 0)
    return data


def parse_leniently(text: bytes, told: list[Leniency]) -> dict[Any, Plain]:
    """Return the data of a JSON text that `parse` refuses though Python reads it; what was unusual goes to `told`.

    The last of equal keys counts; what is no number in JSON is null; an integer of too many digits is text. Raises
    `StateFileError` for anything else.
    """
    source = Source(text, "")
    written = _Reader(source, told).compose()
    if written is None or not isinstance(written.value, dict):
        raise source.refusal("no object", 0)
    return written.value


def compose(text: str) -> Written | None:
    """Return the root of a JSON text, without a BOM, which `parse` reads, with the places of all that is in it."""
    return _Reader(Source(text.encode(), "")).compose()


class _Reader:
    """Reads one text. With `told`, what can be read somehow is, and told there."""

    def __init__(self, source: Source, told: list[Leniency] | None = None) -> None:
        self.source = source
        self.told = told

    def compose(self) -> Written | None:
        """Return what is written where; refuse, or tell, what a state cannot hold. The text is one that JSON reads."""
        root: list[Written] = []
        around: list[tuple[Any, Written | None]] = []
        container: Any = None
        key: Written | None = None
        at = 0
        while (token := _TOKEN.match(self.source.text, at)) is not None:
            start, at, sign = token.start(1), token.end(), token[1]
            if sign in ",:":
                continue
            if sign in "{[":
                if len(around) >= MAX_DEPTH:
                    raise self.source.refusal(f"more than {MAX_DEPTH} containers inside each other", start)
                around.append((container, key))
                container, key = Written({} if sign == "{" else [], start, start, sign, []), None
                continue
            if sign in "}]":
                if container is None:
                    raise self.source.refusal("no JSON (a bracket too many)", start)
                found = container
                found.end = at
                container, key = around.pop()
            else:
                found = Written(self._scalar(sign, start), start, at, '"' if sign[0] == '"' else "")
            if container is None:
                root.append(found)
            elif isinstance(container.value, dict) and key is None:
                key = self._key(found, container)
            elif key is None:
                container.value.append(found.value)
                container.entries.append(found)
            else:
                container.value[key.value] = found.value
                container.entries.append((key, found))
                key = None
        return root[0] if root else None

    def _odd(self, problem: str, at: int, becomes: str) -> None:
        if self.told is None:
            raise self.source.refusal(problem, at)
        self.told.append(Leniency(self.source.place(at)[0], f"{problem}: {becomes}"))

    def _scalar(self, sign: str, at: int) -> Plain:
        if sign in _CONSTANTS:
            self._odd(f"{sign} is no JSON; write null, or text", at, "it is null now")
            return None
        if len(sign) > MAX_INT_DIGITS and sign.lstrip("-").isdigit() and len(sign.lstrip("-")) > MAX_INT_DIGITS:
            self._odd(f"an integer of more than {MAX_INT_DIGITS} digits", at, "it is text now")
            return sign
        try:
            value: Plain = json.loads(sign)
        except ValueError as error:
            raise self.source.refusal(f"no JSON ({error})", at) from None
        if isinstance(value, str) and not value.isascii() and SURROGATE.search(value):
            self._odd("half of a surrogate pair is no text", at, "it is a question mark now")
            return SURROGATE.sub("?", value)
        return value

    def _key(self, found: Written, container: Any) -> Written:
        if not isinstance(found.value, str):
            raise self.source.refusal("no JSON (a key is text)", found.start)
        if found.value in container.value:
            problem = f"the key {found.value!r} stands twice in one mapping"
            self._odd(
                f"{problem}: remove one" if self.told is None else problem, found.start, "the last of them counts"
            )
            del container.value[found.value]
        return found


def _object(pairs: list[tuple[str, Plain]]) -> dict[Any, Plain]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def refuse_constant(name: str) -> Any:
    """Raise ValueError: this is what ``json`` calls for NaN and infinities."""
    raise ValueError(f"{name} is not JSON")


# --- What JSON cannot hold -------------------------------------------------------------------------------------------


def mismatch(value: Plain, path: tuple[Any, ...] = (), first: int = 0) -> UnsupportedValueError | None:
    """Return what to raise for the first thing in plain data at `path` that JSON cannot hold, None if there is none.

    `first` is the index of a first item.
    """
    return next(_mismatches(value, path, first), None)


def _mismatches(value: Plain, path: tuple[Any, ...], first: int = 0) -> Iterator[UnsupportedValueError]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key.__class__ is not str:
                yield mismatch_of_key(key, path)
            yield from _mismatches(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value, first):
            if item.__class__ is not str and item.__class__ is not int:  # as most are
                yield from _mismatches(item, (*path, index))
    elif value.__class__ not in _SCALARS:
        kind = type(value).__name__
        way_out = "base64 of it, as text" if isinstance(value, bytes) else "its .isoformat()"
        yield UnsupportedValueError(f"the file is JSON, which has no {kind}; store {way_out}", path)
    elif isinstance(value, float) and not math.isfinite(value):
        yield UnsupportedValueError(f"the file is JSON, which has no number {value}; store None, or text", path)


def mismatch_of_key(key: Any, path: Iterable[Any]) -> UnsupportedValueError:
    """Return what is wrong with a key that is not text."""
    problem = f"the file is JSON, in which a key is text, and this is {type(key).__name__}; use str(...)"
    return UnsupportedValueError(problem, (*path, key))
