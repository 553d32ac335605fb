"""Wait until something is true of a state, whoever makes it so."""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from mmapstate.errors import DetachedError, LockTimeout
from mmapstate.live.node import Node
from mmapstate.live.sentinels import Sentinel

_T = TypeVar("_T")

_FIRST_PAUSE = 1e-3  # seconds between two looks: short while the state is changed, longer when nothing happens
_LONGEST_PAUSE = 15e-3  # with waking up a look takes some 0.1 ms: less than a hundredth of a core


def wait_for(tree: Any, check: Callable[[], object], predicate: Callable[[], _T], timeout: float | None) -> _T:
    """Call `predicate` now and after each change of `tree`, until it returns something true or `timeout` is over.

    Returns what it returned last, as ``threading.Condition.wait_for`` does. `check` raises where waiting is in vain,
    and so does this where all that the predicate looks at was removed from the state.
    """
    if timeout is not None and not isinstance(timeout, int | float):
        raise TypeError(f"timeout is {timeout!r}; it can be None, or seconds")
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        check()
        before = _version(tree)  # first: what changes while the predicate runs has it called again
        if before is None and _changes(tree, check, None, deadline):
            continue
        result = predicate()
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody awaited it
            raise TypeError("the predicate is asynchronous: what it returns is always true; use a plain function")
        if not result:
            _refuse_in_vain(predicate)
        if result or not _changes(tree, check, before, deadline):
            return result


def _refuse_in_vain(predicate: Callable[[], object]) -> None:
    """Raise `DetachedError` where what `predicate` refers to are containers that were removed, and nothing else.

    A removed container still reads, so the predicate would say for ever what it says now. Where it refers to anything
    that may lead to more of the state, this keeps silent.
    """
    found = [*_referred(predicate, _FUNCTIONS)]
    nodes = [value for value in found if isinstance(value, Node)]
    if nodes and not any(node._is_part() for node in nodes) and all(isinstance(value, _KNOWN) for value in found):
        raise DetachedError(
            f"{nodes[0]._tree.name}: what wait_for looks at was removed from the state, or replaced in it, and changes "
            "no more; have the predicate read it from the state, as in STATE['jobs'][0]['done']"
        )


_KNOWN = (Node, Sentinel, BuiltinFunctionType, ModuleType, type, str, bytes, int, float, type(None))
_FUNCTIONS = 3  # that call each other, and are looked into: what those behind them look at is not known


def _referred(value: Any, depth: int) -> Iterator[Any]:
    """Yield what a function, and those that it refers to, have as variables of their own or take from outside."""
    inner: list[Any] = []
    if isinstance(value, functools.partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, MethodType):
        inner = [value.__self__, value.__func__]
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty
                inner.append(cell.cell_contents)
        inner += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        inner += _globals_of(value.__code__, value.__globals__)
    if depth == 0 or not isinstance(value, functools.partial | MethodType | FunctionType):
        yield value
        return
    for each in inner:
        yield from _referred(each, depth - 1)


def _globals_of(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    yield from (names[name] for name in code.co_names if name in names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function, or a generator, inside
            yield from _globals_of(constant, names)


def _version(tree: Any) -> tuple[Any, int] | None:
    """Return what differs after each change; None while a transaction of another thread keeps readers out for long."""
    try:
        tree.refresh()
    except LockTimeout:
        return None
    return tree.cursor.applied, tree.cursor.epoch


def _changes(tree: Any, check: Callable[[], object], before: tuple[Any, int] | None, deadline: float | None) -> bool:
    """Wait for a change since `before` and return True; return False when `deadline` has come."""
    pause = _FIRST_PAUSE
    while (now := _version(tree)) is None or now == before:
        check()
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            pause = min(pause, left)
        tree.backend.wait(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True
