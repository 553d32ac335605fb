"""The terminal, and the programs of whoever sits there."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from mmapstate.file.system import WINDOWS

_EDITORS = ("notepad",) if WINDOWS else ("sensible-editor", "editor", "nano", "vi")
_VIRTUAL_TERMINAL = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING


def split_command(text: str) -> list[str]:
    """Return a command and its arguments, as a variable such as EDITOR holds them."""
    import shlex  # here, as below: only the command asks for these, and each takes milliseconds to import

    if not WINDOWS:
        return shlex.split(text)
    return [part.strip('"') for part in shlex.split(text, posix=False)]  # a backslash is part of a path there


def default_editor() -> str:
    """Return the name of an editor that is here, for who has set none."""
    import shutil

    return next(filter(shutil.which, _EDITORS), _EDITORS[-1])


def is_heard(stream: TextIO) -> bool:
    """Return False where nobody can read what is written to a stream: it is a pipe, of which the other end is closed.

    Windows tells that to who writes alone.
    """
    if sys.platform == "win32":
        return True
    import select

    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except io.UnsupportedOperation:  # a stream in memory
        return True
    return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def obeys_escapes(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that moves its cursor as ANSI says; have Windows' console do so."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    if sys.platform != "win32":
        return True
    import ctypes
    import msvcrt

    kernel, mode = ctypes.windll.kernel32, ctypes.c_uint32()
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno()))
    is_console = kernel.GetConsoleMode(handle, ctypes.byref(mode))
    return bool(is_console and kernel.SetConsoleMode(handle, mode.value | _VIRTUAL_TERMINAL))
