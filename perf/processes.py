"""Processes for cases: one alone, several started by a barrier, one that is killed. Each is ended by its own handle.

A process of its own for each measurement keeps what one contender leaves behind (threads, memory, a crash) from the
next. Forked where there is a fork: the libraries are imported by then.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["alone", "killed", "together"]

_context: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
_SECONDS = 300  # until a process counts as hung


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, and return what it returns; raise RuntimeError if it fails there."""
    return _results([_start(None, function, arguments)])[0]


def together(calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call each of these, ``(function, *arguments)``, in a process of its own; return what they return, in order.

    A function gets, before its arguments, what it has to call when it is ready: it returns when all are.
    """
    barrier = _context.Barrier(len(calls))
    return _results([_start(barrier, function, arguments) for function, *arguments in calls])


def killed(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function in a process that is killed as soon as it returns; what it returns is alive until then."""
    process, receiver = _start(None, _then_die, (function, *arguments))
    process.join(_SECONDS)
    receiver.close()
    if process.exitcode is None or process.exitcode == 0 or process.exitcode == 1:
        process.kill()
        raise RuntimeError(f"what was to be killed ended with {process.exitcode}")
    process.close()


def _then_die(function: Callable[..., Any], *arguments: Any) -> None:
    _alive = function(*arguments)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows that terminates it, too


def _start(barrier: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_serve, args=(sender, barrier, function, arguments))
    process.start()
    sender.close()
    return process, receiver


def _serve(sender: Any, barrier: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    try:
        result = function(*arguments) if barrier is None else function(barrier.wait, *arguments)
    except threading.BrokenBarrierError:
        sender.send((False, ""))  # another one tells why
    except Exception as error:
        if barrier is not None:
            barrier.abort()
        sender.send((False, f"{type(error).__name__}: {error}"))
    else:
        sender.send((True, result))


def _results(started: Sequence[tuple[Any, Any]]) -> list[Any]:
    deadline = time.monotonic() + _SECONDS
    try:
        answers = [_answer(receiver, deadline) for _, receiver in started]
    finally:
        for process, receiver in started:
            process.join(1)
            process.kill()
            process.join()
            process.close()
            receiver.close()
    failures = [answer for good, answer in answers if not good]
    if failures:
        raise RuntimeError(max(failures))
    return [answer for _, answer in answers]


def _answer(receiver: Any, deadline: float) -> tuple[bool, Any]:
    if not receiver.poll(max(0, deadline - time.monotonic())):
        return False, f"not ready after {_SECONDS} seconds"
    try:
        answer: tuple[bool, Any] = receiver.recv()
    except EOFError:
        return False, "the process died"
    return answer
