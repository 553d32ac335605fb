r"""PATH, the text that leads to a value: to keys and back.

Segments are split at dots. A segment in double quotes is taken as it is, dots and digits included; in it ``\"`` and
``\\`` stand for ``"`` and ``\``, ``\n``, ``\t`` and ``\uXXXX`` for what they stand for in JSON. In a list, a segment is
an index, negative ones counting from the end. In a mapping, it is the text key of that name; where there is none, the
key that `get` would print so, a number, a date, ``true`` or ``null``. So where a mapping has 80 and "80"
as keys, a path leads to the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mmapstate.command import output
from mmapstate.command.outcome import MISUSED, Failure


class Segment(NamedTuple):
    """A step of a path: its text, and whether it was quoted, and so is no index."""

    text: str
    quoted: bool


_SEGMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|((?!")[^.]+)', re.S)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.S)
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}
_INDEX = re.compile(r"-?[0-9]{1,9}\Z")
_MOST_NAMES = 8  # in a message


def parse(text: str) -> tuple[Segment, ...]:
    """Return the segments of a path; raise `Failure` where it is none."""
    segments = []
    at = 0
    while True:
        found = _SEGMENT.match(text, at)
        if found is None:
            quote = text[at : at + 1] == '"'
            raise _misuse(text, at, "the quote is not closed" if quote else 'there is no key (the empty text is "")')
        quoted = found[1] is not None
        segments.append(Segment(_unescaped(text, found) if quoted else found[2], quoted))
        at = found.end()
        if at == len(text):
            return tuple(segments)
        if text[at] != ".":
            raise _misuse(text, at, "a dot is missing behind the quote")
        at += 1


def _unescaped(text: str, segment: re.Match[str]) -> str:
    def character(escape: re.Match[str]) -> str:
        if escape[1]:
            return chr(int(escape[1], 16))
        if escape[2] not in _ESCAPES:
            raise _misuse(text, segment.start(1) + escape.start(), r"write \\ for a backslash in quotes")
        return _ESCAPES[escape[2]]

    return _ESCAPE.sub(character, segment[1])


def _misuse(text: str, at: int, problem: str) -> Failure:
    return Failure(f"the path {text}, character {at + 1}: {problem}", MISUSED)


def find(data: Any, segments: Sequence[Segment]) -> Any:
    """Return what stands at a path in `data`, plain or live; raise `Failure`, with near misses, if nothing does."""
    keys: list[Any] = []
    for segment in segments:
        key = key_in(data, segment, keys)
        if isinstance(data, Mapping) and key not in data:
            raise missing(data, segment, keys)
        data = data[key]
        keys.append(key)
    return data


def key_in(data: Any, segment: Segment, keys: Sequence[Any]) -> Any:
    """Return the key, or the index, that a segment means in `data`, which stands at `keys`.

    A key need not be there; an index must. Raises `Failure` where `data` has no such index, or is no container.
    """
    text = segment.text
    if isinstance(data, Mapping):
        if text in data:
            return text
        return next((key for key in data if not isinstance(key, str) and _text_of(key) == text), text)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        count = len(data)
        if segment.quoted or not _INDEX.match(text):
            raise Failure(
                f"{_place(keys)} is a list, and {text!r} is not an index: write 0 for its first item, -1 for its last"
            )
        index = int(text)
        if not -count <= index < count:
            has = f"its indexes are 0 to {count - 1}" if count else "it is empty"
            raise Failure(f"{_place(keys)} has no item {text}: {has}")
        return index + count if index < 0 else index
    raise Failure(f"{_place(keys)} is not a mapping or list: there is no {text!r} in it")


def missing(data: Mapping[Any, Any], segment: Segment, keys: Sequence[Any]) -> Failure:
    """Return the error for a key that the mapping `data`, at `keys`, does not have; it suggests others."""
    import difflib

    names = [_written(key) for key in data]
    near = difflib.get_close_matches(_written(segment.text), names)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"it has {', '.join(names[:_MOST_NAMES])}{' ...' if len(names) > _MOST_NAMES else ''}"
    else:
        hint = "it is empty"
    return Failure(f"{_place(keys)} has no key {_written(segment.text)}: {hint}")


def _place(keys: Sequence[Any]) -> str:
    return written(keys) if keys else "the state"


def written(keys: Iterable[Any]) -> str:
    """Return the path, in one line, that leads to `keys`."""
    return ".".join(map(_written, keys))


def _written(key: Any) -> str:
    text = _text_of(key)
    plain = text and text.isprintable() and text[0] != '"' and "." not in text
    if plain and not (isinstance(key, str) and _INDEX.match(text)):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() or character > "\uffff" else f"\\u{ord(character):04x}"


def _text_of(key: Any) -> str:
    """Return how YAML writes a key."""
    return key if isinstance(key, str) else output.as_scalar(key)
