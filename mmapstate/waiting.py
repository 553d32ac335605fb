"""Wait until something is true of a state, whoever makes it so."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mmapstate.errors import LockTimeout

__all__ = ["wait_for"]

_T = TypeVar("_T")

_FIRST_PAUSE = 1e-3  # seconds between two looks: short while the state is changed, longer when nothing happens
_LONGEST_PAUSE = 15e-3  # with waking up a look takes some 0.1 ms: less than a hundredth of a core


def wait_for(tree: Any, check: Callable[[], object], predicate: Callable[[], _T], timeout: float | None) -> _T:
    """Call `predicate` now and after each change of `tree`, until it returns something true or `timeout` is over.

    Returns what it returned last, as ``threading.Condition.wait_for`` does. `check` raises where waiting is in vain.
    There is no portable way to be woken by a store into a map of another process: this looks at the control page, which
    costs no system call.
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
        if result or not _changes(tree, check, before, deadline):
            return result


def _version(tree: Any) -> tuple[Any, int] | None:
    """Return what differs after each change; None while a transaction of another thread keeps readers out for long."""
    try:
        tree.refresh()
    except LockTimeout:
        return None
    return tree.seen, tree.applying


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
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True
