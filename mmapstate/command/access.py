"""The subcommands that read or change a state: show, get, set, delete, append, increment, vacuum.

A change is one transaction: a PATH that leads nowhere, or a value that cannot be stored, changes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from mmapstate.command import opening, output
from mmapstate.command.key_paths import find, key_in, missing, parse
from mmapstate.command.outcome import MISUSED, WARNING, WELL, Failure
from mmapstate.errors import StateFileError
from mmapstate.text.reader import Suspect, parse_flow

if TYPE_CHECKING:
    from mmapstate.live.state import PersistedState

_NUMBERS = (int, float)  # no bool


def show(options: Any) -> int:
    """Print a state or a part of it."""
    value = _read(options)
    print(output.as_json(value) if options.json else output.as_yaml(value).removesuffix("\n"))
    return WELL


def get(options: Any) -> int:
    """Print a value for scripts."""
    value = _read(options)
    if options.json or isinstance(value, dict | list):
        return show(options)
    print(output.as_scalar(value))
    return WELL


def set_value(options: Any) -> int:
    """Store a value."""
    value = _value(options)
    with _place(options) as (container, key):
        container[key] = value
    return WELL


def delete(options: Any) -> int:
    """Remove a key or an item."""
    with _place(options, there=True) as (container, key):
        del container[key]
    return WELL


def append(options: Any) -> int:
    """Put a value at the end of a list."""
    value = _value(options)
    with _place(options) as (container, key):
        if _lacks(container, key):
            container[key] = []
        items: Any = container[key]
        if not isinstance(items, MutableSequence):
            raise Failure(f"{options.path} is not a list: nothing can be appended to it")
        items.append(value)
    return WELL


def increment(options: Any) -> int:
    """Add to a number and print the sum."""
    by = _number(options.by)
    with _place(options) as (container, key):
        if not isinstance(container, MutableSequence):
            total = container.increment(key, by)
        elif type(container[key]) not in _NUMBERS:
            raise Failure(f"{options.path} is not a number: nothing can be added to it")
        else:
            total = container[key] = container[key] + by
    print(output.as_scalar(total))
    return WELL


def vacuum(options: Any) -> int:
    """Compact a state."""
    before = os.path.getsize(options.file)
    with _opened(options) as state:
        state.vacuum()
        after = os.path.getsize(options.file)
    print(f"{options.file}: {before:,} bytes before, {after:,} bytes after")
    return WELL


def _read(options: Any) -> Any:
    segments = parse(options.path) if options.path is not None else ()
    return find(opening.read(options.file), segments)


def _value(options: Any) -> Any:
    text = options.value
    if options.string:
        return text
    words: list[Suspect] = []
    try:
        value = parse_flow(text.encode("utf-8", "surrogatepass"), words)
    except StateFileError as error:
        problem = f"VALUE, line {error.line}, column {error.column}: {error.problem}; --string takes it as text"
        raise Failure(problem, MISUSED) from None
    if value is None and not text.strip().casefold().endswith(("null", "~")):  # an empty variable of a shell
        raise Failure("VALUE is empty, or a comment: write null, or --string for text", MISUSED)
    for word in words:
        told = f"{word.text} is text, not a boolean: that would be true or false; --string takes it as text"
        print(f"{WARNING}{told}", file=sys.stderr)
    return value


def _number(text: str) -> int | float:
    try:
        number = parse_flow(text.encode("utf-8", "surrogatepass"))
    except StateFileError:
        number = None
    if type(number) not in _NUMBERS:
        raise Failure(f"BY is {text!r}: it must be a number, such as 5, -1 or 0.5", MISUSED)
    return number  # type: ignore[return-value]


def _opened(options: Any) -> AbstractContextManager[PersistedState]:
    return opening.opened(options.file, create=_create(options), timeout=options.timeout, power=options.power)


def _create(options: Any) -> bool | None:
    return getattr(options, "create", None)  # delete and vacuum have no such option


@contextmanager
def _place(options: Any, *, there: bool = False) -> Iterator[tuple[Any, Any]]:
    """Yield, in a transaction, the live container that PATH leads into, and its key; with `there` it must exist."""
    *way, last = parse(options.path)
    with _opened(options) as state, state.transaction():
        container: Any = state
        keys: list[Any] = []
        for segment in way:
            key = key_in(container, segment, keys)
            if _lacks(container, key):
                if not _create(options):
                    raise Failure(f"{missing(container, segment, keys)}{opening.hint(_create(options))}")
                container[key] = {}
            container = container[key]
            keys.append(key)
        key = key_in(container, last, keys)
        if there and _lacks(container, key):
            raise missing(container, last, keys)
        yield container, key


def _lacks(container: Any, key: Any) -> bool:
    return isinstance(container, Mapping) and key not in container
