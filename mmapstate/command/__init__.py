"""The command: ``mmapstate``, and ``python -m mmapstate``. What it does is told by ``--help``.

`parser` has the table of subcommands: each is a function that takes the parsed arguments, prints to stdout and returns
the exit code. Its module is imported when it runs, so that a shell that asks for one value does not wait for the rest.
A state is opened by `opening` alone. Here is what all subcommands share: streams, errors, exit codes (see `outcome`).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from mmapstate.command.outcome import FAILED, INTERRUPTED, Failure
from mmapstate.errors import StateError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process); return its exit code.

    Raises SystemExit after wrong usage, and after help.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: else the next file opened would take its place
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale, or a code page of Windows
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except (Failure, StateError, OSError) as error:
        if not _is_unread(error):
            print(f"mmapstate: {_told(error)}", file=sys.stderr)
        return error.code if isinstance(error, Failure) else FAILED


def _run(arguments: Sequence[str] | None) -> int:
    from mmapstate.command import parser

    try:
        options = parser.parse(arguments)
        module, _, name = options.run.partition(":")
        function: Callable[[Any], int] = getattr(import_module(f"{__name__}.{module}"), name)
        return function(options)
    finally:  # after --help, too
        sys.stdout.flush()


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _is_unread(error: Exception) -> bool:
    """Return whether nobody reads stdout any more, as in `... | head`; then send the rest of the output nowhere.

    Else Python would complain at exit that it cannot flush it.
    """
    from mmapstate.file.system import WINDOWS

    closed = isinstance(error, BrokenPipeError)
    if WINDOWS:  # an invalid argument there
        closed |= isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed
