"""The subcommands that read and change values: show, get, set, delete, append, increment.

The former two read the file once, and import nothing that writes. A change is one transaction: a PATH that leads
nowhere, or a value that cannot be stored, changes nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmapstate import platform, reading
from mmapstate.command import output
from mmapstate.command.key_paths import find, key_in, missing, parse
from mmapstate.command.outcome import MISUSED, WARNING, WELL, Failure

if TYPE_CHECKING:
    from mmapstate.state import PersistedState

__all__ = ["append", "delete", "get", "increment", "opened", "set_value", "show"]


def show(options: Any) -> int:
    """Print a state or a part of it."""
    value = _read(options)
    print(output.as_json(value) if options.json else output.as_yaml(value).removesuffix("\n"))
    return WELL


def get(options: Any) -> int:
    """Print a value so that scripts can use it."""
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
            raise Failure(f"{options.path} is no list: nothing can be appended to it")
        items.append(value)
    return WELL


def increment(options: Any) -> int:
    """Add to a number and print the sum."""
    by = _yaml(options.by, "BY")
    with _place(options) as (container, key):
        if not isinstance(container, MutableSequence):
            total = container.increment(key, by)
        elif not all(type(number) in (int, float) for number in (container[key], by)):
            raise Failure(f"{options.path} and BY must be numbers to be added")
        else:
            total = container[key] = container[key] + by
    print(output.as_scalar(total))
    return WELL


def _read(options: Any) -> Any:
    segments = parse(options.path) if options.path is not None else ()
    return find(reading.read(str(platform.real_path(options.file))), segments)


def _value(options: Any) -> Any:
    return options.value if options.string else _yaml(options.value, "VALUE")


def _yaml(text: str, name: str) -> Any:
    from mmapstate.errors import StateFileError
    from mmapstate.snapshot import parse_flow

    try:
        value = parse_flow(text.encode("utf-8", "surrogatepass"))
    except StateFileError as error:
        problem = f"{name}, line {error.line}, column {error.column}: {error.problem}; --string takes it as text"
        raise Failure(problem, MISUSED) from None
    if value is None and not text.strip().casefold().endswith(("null", "~")):  # a shell's variable that is empty
        raise Failure(f"{name} is empty, or a comment: write null, or --string for text", MISUSED)
    return value


@contextmanager
def _place(options: Any, *, there: bool = False) -> Iterator[tuple[Any, Any]]:
    """Give, inside a transaction, the live container in which PATH ends, and its last key, be it `there` or not."""
    *way, last = parse(options.path)
    create = getattr(options, "create", False)
    with opened(options) as state, state.transaction():
        container: Any = state
        keys: list[Any] = []
        for segment in way:
            key = key_in(container, segment, keys)
            if _lacks(container, key):
                if not create:
                    hint = " (--create makes it)" if hasattr(options, "create") else ""
                    raise Failure(f"{missing(container, segment, keys)}{hint}")
                container[key] = {}
            container = container[key]
            keys.append(key)
        key = key_in(container, last, keys)
        if there and _lacks(container, key):
            raise missing(container, last, keys)
        yield container, key


def _lacks(container: Any, key: Any) -> bool:
    return isinstance(container, Mapping) and key not in container


@contextmanager
def opened(options: Any) -> Iterator[PersistedState]:
    """Give the state, opened for writing; what the library warns of goes to stderr.

    Raises FileNotFoundError where there is none, and the command has no --create, or was not given it.
    """
    from mmapstate.logger import warnings_shown
    from mmapstate.state import open_state

    path = str(platform.real_path(options.file))
    if not getattr(options, "create", False) and platform.status(path) is None:
        hint = " (--create makes it)" if hasattr(options, "create") else ""
        raise FileNotFoundError(errno.ENOENT, f"there is no such file{hint}", options.file)
    durability = "power" if options.power else "process"
    with warnings_shown(WARNING), open_state(path, timeout=options.timeout, durability=durability) as state:
        yield state
