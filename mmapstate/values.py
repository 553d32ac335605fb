"""What may be stored: validate, normalise, copy to plain data.

Plain data is made of ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, ``date``, ``datetime``, ``list`` and
``dict``, each of exactly that type. How it is written as text is not told here (see `snapshot` and `changes`).
"""

from __future__ import annotations

import enum
import math
import numbers
from collections import UserString
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any, Union

from mmapstate.errors import UnsupportedValueError

Plain = Union[None, bool, int, float, str, bytes, date, datetime, "list[Plain]", "dict[Any, Plain]"]

MAX_DEPTH = 100
"""Containers inside each other, the state itself included. libyaml's loader crashes the interpreter at some 30,000."""

MAX_KEY_TEXT = 1000
"""Characters of a mapping key as JSON text. YAML reads no ``key:`` of more than 1,024."""

MAX_INT_DIGITS = 4300
"""CPython refuses to convert longer integers from and to text (since 3.11, by default)."""

_MINUTE = timedelta(minutes=1)
SURE_INT = 10**18
"""Smaller integers need no further look."""

SURE_KEY = 161
"""Shorter ASCII keys need no further look: an escape has at most six characters."""

_LIMIT_INT: int = 10**MAX_INT_DIGITS


class Live:
    """Base of the live containers, which know best how to copy themselves."""

    __slots__ = ()

    def plain(self) -> Plain:
        """Return a plain, deep, consistent copy."""
        raise NotImplementedError


def plain(value: Any) -> Plain:
    """Return `value` as plain data: a deep copy in which live containers are ``dict`` and ``list``.

    What is no container comes back as the plain type that a state would store. Serves as
    ``json.dumps(..., default=mmapstate.plain)``. Raises `UnsupportedValueError` for what a state cannot hold.
    """
    copy = normalise(value)
    # The same object where it is plain already: else json would ask for a date's default again and again.
    return copy if isinstance(copy, list | dict) or type(copy) is not type(value) else value


def normalise(value: Any, level: int = 0, around: tuple[int, ...] = ()) -> Plain:
    """Return a copy of `value` as plain data.

    `level` is the number of containers that will be around the value, `around` are the ids of those that were met so
    far. Raises `UnsupportedValueError`, its ``path`` relative to `value`, for a type that cannot be stored, a cycle,
    more than `MAX_DEPTH` levels, text with lone surrogates, an integer of more than `MAX_INT_DIGITS` digits, and a key
    that is no scalar, is NaN or is too long.
    """
    kind = type(value)
    if kind is int:
        if -SURE_INT < value < SURE_INT:
            return value  # type: ignore[no-any-return]
        return _checked_int(value)
    if kind is str:
        return value if value.isascii() else _checked_text(value)
    if value is None or kind is bool or kind is float or kind is bytes:
        return value  # type: ignore[no-any-return]
    if kind is dict or kind is list or kind is tuple:
        return _normalise_container(value, level, around)
    return _normalise_other(value, kind, level, around)


def normalise_key(key: Any) -> Any:
    """Return `key` as a plain scalar that may be the key of a mapping; raise `UnsupportedValueError` otherwise."""
    if type(key) is str and len(key) < SURE_KEY and key.isascii():
        return key
    path = (key,) if isinstance(key, str | int | float) else ()
    try:
        copy = normalise(key)
    except UnsupportedValueError as error:
        raise UnsupportedValueError(f"as a key: {error.problem}", path) from None
    if isinstance(copy, list | dict):
        raise UnsupportedValueError(f"{_name(type(key))} cannot be a key; use a scalar, such as text", path)
    if isinstance(copy, float) and math.isnan(copy):
        raise UnsupportedValueError("NaN cannot be a key: it is not equal to itself", path)
    if len(copy if isinstance(copy, bytes) else str(copy)) > 160 and _text_length(copy) > MAX_KEY_TEXT:
        shown = repr(key)[:40]
        raise UnsupportedValueError(
            f"the key {shown}... has more than {MAX_KEY_TEXT} characters as text, YAML cannot read it back; "
            "shorten it, or keep the long text as a value"
        )
    return copy


def same(left: Any, right: Any) -> bool:
    """Return whether two plain values are the same in type, order of keys, sign of zero and time zone (NaN is NaN)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            same(left_key, right_key) and same(left[left_key], right[right_key])
            for left_key, right_key in zip(left, right, strict=True)
        )
    if isinstance(left, float):
        if math.isnan(left):
            return math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, datetime):
        return bool(left == right) and left.utcoffset() == right.utcoffset()
    return bool(left == right)


def is_storable_int(value: int) -> bool:
    """Return whether the integer has at most `MAX_INT_DIGITS` digits."""
    return -_LIMIT_INT < value < _LIMIT_INT


def _normalise_other(value: Any, kind: type, level: int, around: tuple[int, ...]) -> Plain:
    """Normalise what is not one of the commonest types."""
    if isinstance(value, Live):
        value = value.plain()
    if isinstance(value, str):  # a subclass, such as StrEnum
        return _checked_text(str.__str__(value))
    if isinstance(value, int):
        return _checked_int(int.__pos__(value))
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Mapping | Sequence) and not isinstance(value, UserString):
        return _normalise_container(value, level, around)
    try:
        if isinstance(value, datetime):
            return _plain_datetime(value)
        if isinstance(value, date):
            return date(value.year, value.month, value.day)
        return _plain_scalar(value, kind)
    except UnsupportedValueError:
        raise
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UnsupportedValueError(f"this {_name(kind)} cannot be stored ({error}){_way_out(value, kind)}") from None


def _plain_scalar(value: Any, kind: type) -> Plain:
    """Return a scalar of numpy or its like as plain data, by the protocols that it follows."""
    if hasattr(kind, "__index__") and not getattr(value, "shape", ()):  # arrays have the method, and refuse it
        try:
            index = value.__index__()
        except TypeError:
            pass
        else:
            return _checked_int(int.__pos__(index))
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        return float(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        item = value.item()
        if type(item) in (bool, float, date, datetime):  # an integer would be a datetime64 in nanoseconds
            return item  # type: ignore[no-any-return]
    raise UnsupportedValueError(f"{_name(kind)} cannot be stored{_way_out(value, kind)}")


def _normalise_container(value: Any, level: int, around: tuple[int, ...]) -> Plain:
    if id(value) in around:
        raise UnsupportedValueError("this container is inside itself; a state holds trees only")
    if level >= MAX_DEPTH:
        raise UnsupportedValueError(f"more than {MAX_DEPTH} containers inside each other; store it flatter")
    around = (*around, id(value))
    level += 1
    place: tuple[Any, ...] = ()
    try:
        if isinstance(value, Mapping):
            copy: dict[Any, Plain] = {}
            for key, item in value.items():
                place = ()
                name = normalise_key(key)
                place = (name,)
                if name in copy:  # a subclass may hash as it likes
                    raise UnsupportedValueError("this key stands twice in one mapping, once it is a plain scalar")
                copy[name] = normalise(item, level, around)
            return copy
        items: list[Plain] = []
        for index, item in enumerate(value):
            place = (index,)
            items.append(normalise(item, level, around))
        return items
    except UnsupportedValueError as error:
        raise UnsupportedValueError(error.problem, place + error.path) from None


def _checked_int(value: int) -> int:
    if not is_storable_int(value):
        raise UnsupportedValueError(f"an integer of more than {MAX_INT_DIGITS} digits cannot be stored; use hex(...)")
    return value


def _checked_text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnsupportedValueError(
            f"text with a lone surrogate (at character {error.start}) is no UTF-8; "
            'use os.fsencode(...), or .encode("utf-8", "surrogatepass"), and store the bytes'
        ) from None
    return value


def _plain_datetime(value: datetime) -> datetime:
    offset = value.utcoffset()
    zone = None if offset is None else timezone(offset)
    copy = datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, tzinfo=zone
    )
    if offset is not None and offset % _MINUTE:
        return copy.astimezone(timezone.utc)  # YAML has no seconds in the offset of a time zone
    return copy


def _text_length(key: Any) -> int:
    if isinstance(key, str):  # as JSON text: an escape has two characters, or at most six
        return 2 + sum(2 if each in '"\\' else 1 if each.isprintable() else 6 for each in key)
    return len(key) * 4 // 3 + 16 if isinstance(key, bytes) else len(str(key))


def _name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


def _way_out(value: Any, kind: type) -> str:
    """Return what people usually store in place of a value of this type, as the end of a sentence."""
    if kind.__module__ in ("ipaddress", "uuid"):
        return "; store str(...) of it"
    for mark, way_out in _WAYS_OUT:
        if hasattr(value, mark) if isinstance(mark, str) else isinstance(value, mark):
            return f"; store {way_out}"
    return "; store text, numbers, lists and mappings that describe it"


_WAYS_OUT: tuple[tuple[str | tuple[type, ...], str], ...] = (  # by its type, or an attribute that it has
    ((set, frozenset), "sorted(...) of it"),
    ((UserString,), "str(...) of it"),
    ("__fspath__", "str(...) of it"),
    ("tolist", "its .tolist()"),
    ("__dataclass_fields__", "dataclasses.asdict(...) of it"),
    ("model_dump", "its .model_dump()"),
    ((enum.Enum,), "its .value"),
    ((complex,), "[value.real, value.imag]"),
    ((numbers.Number,), "str(...), or float(...) of it"),
    ((timedelta,), "its .total_seconds()"),
    ("isoformat", "its .isoformat()"),
    ("__iter__", "list(...) of it"),
)
