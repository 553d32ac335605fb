"""The four changes: applied to a plain tree, and as the text of a record.

A change is a tuple::

    ("set", path, key, value)               container[key] = value
    ("delete", path, key)                   del container[key]
    ("insert", path, index, value)          container.insert(index, value)
    ("splice", path, start, stop, values)   container[start:stop] = values

``path`` is a list of keys and indexes from the root to the container; indexes are never negative. The text of a record
is one change, or a list of changes that happen together. It is JSON wherever JSON can carry it and YAML reads it the
same way; otherwise it is one line of YAML in flow style.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mmapstate.errors import StateFileError
from mmapstate.text import reader, writer
from mmapstate.text.json_text import NOT_RAW, escaped, refuse_constant
from mmapstate.values import Plain

Change = tuple[Any, ...]

APPLY_ERRORS = (LookupError, TypeError, AttributeError, ValueError, OverflowError)
"""What `apply` raises for a change that does not fit the tree."""

_LENGTHS = {"set": 4, "delete": 3, "insert": 4, "splice": 5}

_quoted = json.encoder.encode_basestring


SET_STARTS: dict[str, bytes] = {}
"""What stands before the value in the text of a set at the root, by key: found here, a counter's is not made anew."""

_INSERT_STARTS: dict[Any, bytes] = {}  # likewise, of an insert into a list at the root

_MOST_STARTS = 256

# Of a record like which the next one is likely to be; with keys such as most have, and all of ours at the root. The
# path to the last byte: what ends in the middle of a text could be the start of another one, too.
_TEXT = rb'"[^"\\]*"'
_PATH = rb"\[(?:(?:%b|[0-9]+)(?:, (?:%b|[0-9]+))*)?\]" % (_TEXT, _TEXT)
_RUN_START = re.compile(
    rb'\["set", %b, %b, |(?P<before>\["insert", %b, )(?P<index>[0-9]{1,18}), ' % (_PATH, _TEXT, _PATH)
)


class _NotJson(Exception):
    """A value that JSON cannot carry."""


def encode(changes: Sequence[Change]) -> bytes:
    """Return the text of the record that holds `changes`: UTF-8, one line, no line end.

    Raises ValueError when neither JSON nor YAML can carry a value.
    """
    try:
        return text_of(changes[0] if len(changes) == 1 else list(changes)).encode()
    except _NotJson:
        return writer.flow(list(changes[0]) if len(changes) == 1 else [list(change) for change in changes])


def encode_set(path: list[Any], key: Any, value: Plain) -> bytes | None:
    """Return what ``encode([("set", path, key, value)])`` does; None where that is no JSON."""
    try:
        start = SET_STARTS.get(key) if not path else None
        if start is None:
            start = f'["set", {text_of(path)}, {text_of(key)}, '.encode()
            if not path and key.__class__ is str and len(SET_STARTS) < _MOST_STARTS:  # 1 would be found as True, too
                SET_STARTS[key] = start
        return b"%b%d]" % (start, value) if value.__class__ is int else b"%b%b]" % (start, text_of(value).encode())
    except _NotJson:
        return None


def encode_insert(path: list[Any], index: int, value: Plain) -> bytes | None:
    """Return what ``encode([("insert", path, index, value)])`` does; None where that is no JSON."""
    key = path[0] if len(path) == 1 else None
    try:
        start = _INSERT_STARTS.get(key)
        if start is None:
            start = f'["insert", {text_of(path)}, '.encode()
            if key.__class__ is str and len(_INSERT_STARTS) < _MOST_STARTS:
                _INSERT_STARTS[key] = start
        if value.__class__ is int:
            return b"%b%d, %d]" % (start, index, value)
        return b"%b%d, %b]" % (start, index, text_of(value).encode())
    except _NotJson:
        return None


def text_of(value: Any) -> str:
    """Return the JSON text of `value` that YAML reads alike; raise an internal error if there is none."""
    kind = value.__class__
    if kind is str:
        if value.isascii() and "\x7f" not in value:
            return _quoted(value)
        return NOT_RAW.sub(escaped, _quoted(value))
    if kind is int:
        return int.__repr__(value)
    if kind is list or kind is tuple:
        return "[" + ", ".join(map(text_of, value)) + "]"
    if kind is dict:
        return "{" + ", ".join([f"{_key_text(key)}: {text_of(item)}" for key, item in value.items()]) + "}"
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is float and math.isfinite(value):
        text = float.__repr__(value)
        return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 takes 1e+16 for text
    raise _NotJson


def flow_text(value: Plain) -> str:
    """Return a value as one line of YAML, text in double quotes, without control characters; JSON where that can be."""
    try:
        return text_of(value)
    except _NotJson:
        return writer.flow([value])[1:-1].decode()


def decode(payload: bytes) -> list[Change]:
    """Return the changes that a record's text holds; raise `StateFileError` if it holds none."""
    try:
        value = json.loads(payload, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        value = reader.parse_flow(payload)
    return _changes_of(value)


def decode_json(payload: bytes) -> Change:
    """Return the change that a JSON text of another program holds, which may have NaN and infinities in it.

    Raises ValueError, RecursionError or `StateFileError` if it holds none.
    """
    return _change_of(json.loads(payload.decode()))


def decode_each(payloads: Sequence[bytes]) -> list[list[Change]]:
    """Return the changes of each record: one JSON parse for all of them where that is possible."""
    try:
        values = json.loads(b"[" + b",".join(payloads) + b"]", parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(payloads):
        return [decode(payload) for payload in payloads]
    return [_changes_of(value) for value in values]


def decode_effect(payloads: Sequence[bytes]) -> list[list[Change]]:
    """Return changes whose effect is that of the records `payloads` one after the other, and fewer where that can be.

    Who waits while others count, or append to a list, has thousands to read: of those the last one counts, and of these
    one splice is made. That takes a third of the time.
    """
    texts: list[bytes] = []
    added: dict[int, list[bytes]] = {}  # by the place of an insert in `texts`, the items that go behind its own
    start = before_index = b""
    index = 0
    for payload in payloads:
        if start and payload.startswith(start):
            if before_index:
                added.setdefault(len(texts) - 1, []).append(payload[len(start) : -1])
                index += 1
                start = b"%b%d, " % (before_index, index)
            else:
                texts[-1] = payload
            continue
        texts.append(payload)
        start = before_index = b""
        found = _RUN_START.match(payload)
        if found and found["index"]:
            before_index, index = found["before"], int(found["index"]) + 1
            start = b"%b%d, " % (before_index, index)
        elif found:
            start = found[0]
    for place, items in added.items():
        texts[place] = _splice_text(texts[place], items)
    records = decode_each(texts)
    if any(len(records[place][0][4]) != 1 + len(items) for place, items in added.items()):
        return decode_each(payloads)  # not all of them were one item
    return records


def _splice_text(payload: bytes, items: list[bytes]) -> bytes:
    """Return the text of an insert, `payload`, and of further `items` behind its own, as one splice."""
    found = _RUN_START.match(payload)
    assert found is not None
    path, index = found["before"][len(b'["insert", ') :], found["index"]
    return b'["splice", %b%b, %b, [%b]]' % (path, index, index, b", ".join([payload[found.end() : -1], *items]))


def apply(root: dict[Any, Plain], changes: Iterable[Change]) -> None:
    """Apply `changes` to the plain tree `root`, in place.

    Raises one of `APPLY_ERRORS` when one does not fit the tree; those before it have been applied then.
    """
    for change in changes:
        operation, path = change[0], change[1]
        container: Any = root
        for key in path:
            container = container[key]
        if operation == "set":
            container[change[2]] = change[3]
        elif operation == "delete":
            del container[change[2]]
        elif container.__class__ is not list:
            raise TypeError(f"{operation} needs a list")
        elif operation == "insert":
            container.insert(change[2], change[3])
        else:
            container[change[2] : change[3]] = change[4]


def _changes_of(value: Any) -> list[Change]:
    if value.__class__ is list and value and value[0].__class__ is list:
        return [_change_of(change) for change in value]
    return [_change_of(value)]


def _change_of(value: Any) -> Change:
    if (
        value.__class__ is list
        and value
        and (operation := value[0]).__class__ is str
        and len(value) == _LENGTHS.get(operation)
        and value[1].__class__ is list
        and (operation != "splice" or value[4].__class__ is list)
    ):
        return tuple(value)
    raise StateFileError(f"a record begins with {str(value)[:12]!r}: that is no change of a state")


def _key_text(key: Any) -> str:
    if key.__class__ is not str:
        raise _NotJson
    return text_of(key)
