"""The subcommand `watch`: values as programs change them, and how fast; in place on a terminal, else line by line."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from mmapstate.command import key_paths, opening, output
from mmapstate.command.outcome import INTERRUPTED
from mmapstate.command.watched import MISSING, Watched

if TYPE_CHECKING:
    from mmapstate.command.screen import Screen

_VIRTUAL_TERMINAL = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING


def watch(options: Any) -> int:
    """Show values until Ctrl-C."""
    watched = Watched(options.file, [key_paths.parse(path) for path in options.paths], options.interval)
    try:
        with opening.followed(options.file, watched.count, watched.tell) as followed, _display(watched) as display:
            while True:
                watched.messages.clear()
                followed.look()
                watched.update(followed.tree.root)
                display.show()
                display.wait(options.interval)
    except KeyboardInterrupt:
        return INTERRUPTED


def _display(watched: Watched) -> AbstractContextManager[_Lines | Screen]:
    if _obeys_escapes(sys.stdout):
        try:
            from mmapstate.command.screen import Screen

            return Screen(watched)
        except ModuleNotFoundError:
            print("mmapstate: to see values in place: pip install 'mmapstate[watch]'", file=sys.stderr)
    return nullcontext(_Lines(watched))


def _obeys_escapes(stream: TextIO) -> bool:
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


class _Lines:
    """A line for each value, then one for each change."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.names: set[str] = set()

    def show(self) -> None:
        now = time.strftime("%H:%M:%S")
        for message in self.watched.messages:
            print(f"# {message}")
        for row in self.watched.rows:
            if row.changed or row.name not in self.names:
                print(f"{now} {row.name} = {row.text}{f'  {row.rate}' if row.changed and row.rate else ''}")
        names = {row.name for row in self.watched.rows}
        for name in sorted(self.names - names):
            print(f"{now} {name} = {MISSING}")
        self.names = names
        output.flush()

    wait = staticmethod(time.sleep)
