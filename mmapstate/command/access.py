"""The subcommands that read and change values: show, get, set, delete, append, increment.

The former two read the file once, and import nothing that writes. A change is one transaction: a PATH that leads
nowhere, or a value that cannot be stored, changes nothing.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmapstate.command import output
from mmapstate.command.key_paths import find, key_in, missing, parse
from mmapstate.command.outcome import MISUSED, WARNING, WELL, Failure
from mmapstate.file import content, reading, system

if TYPE_CHECKING:
    from mmapstate.live.state import PersistedState
    from mmapstate.text.reader import Suspect

__all__ = ["append", "delete", "get", "increment", "naming", "opened", "set_value", "show"]


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
    by = _number(options.by)
    with _place(options) as (container, key):
        if not isinstance(container, MutableSequence):
            total = container.increment(key, by)
        elif type(container[key]) not in (int, float):
            raise Failure(f"{options.path} is no number: nothing can be added to it")
        else:
            total = container[key] = container[key] + by
    print(output.as_scalar(total))
    return WELL


def _read(options: Any) -> Any:
    segments = parse(options.path) if options.path is not None else ()
    words: list[Suspect] = []
    file = str(system.real_path(options.file))
    state = reading.read(file, words)
    for word in words:
        print(f"{WARNING}{content.warning_of(word, file)}", file=sys.stderr)
    return find(state, segments)


def _value(options: Any) -> Any:
    return options.value if options.string else _yaml(options.value)


def _yaml(text: str) -> Any:
    from mmapstate.errors import StateFileError
    from mmapstate.text.reader import parse_flow

    words: list[Suspect] = []
    try:
        value = parse_flow(text.encode("utf-8", "surrogatepass"), words)
    except StateFileError as error:
        problem = f"VALUE, line {error.line}, column {error.column}: {error.problem}; --string takes it as text"
        raise Failure(problem, MISUSED) from None
    if value is None and not text.strip().casefold().endswith(("null", "~")):  # a shell's variable that is empty
        raise Failure("VALUE is empty, or a comment: write null, or --string for text", MISUSED)
    for word in words:
        told = f"{word.text} is text, not a boolean: that would be true or false; --string takes it as text"
        print(f"{WARNING}{told}", file=sys.stderr)
    return value


def _number(text: str) -> int | float:
    from mmapstate.errors import StateFileError
    from mmapstate.text.reader import parse_flow

    try:
        number = parse_flow(text.encode("utf-8", "surrogatepass"))
    except StateFileError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Failure(f"BY is {text!r}: it must be a number, such as 5, -1 or 0.5", MISUSED)
    return number


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
    from mmapstate.live.state import open_state
    from mmapstate.logger import warnings_shown

    path = str(system.real_path(options.file))
    if not getattr(options, "create", False) and system.status(path) is None:
        hint = " (--create makes it)" if hasattr(options, "create") else ""
        raise FileNotFoundError(errno.ENOENT, f"there is no such file{hint}", options.file)
    durability = "power" if options.power else "process"
    with (
        naming(options.file),
        warnings_shown(WARNING),
        open_state(path, timeout=options.timeout, durability=durability) as state,
    ):
        yield state


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Have an error of the system that names no file, such as that of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.strerror:
            error.filename = file
        raise
