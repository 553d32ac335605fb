"""Draws the values of `watch` in place on a terminal, with rich: importing this needs the extra `watch`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from mmapstate.command import output
from mmapstate.command.watched import MISSING, Watched

_SLICE = 0.05  # seconds between two looks at the size of the terminal
_STOP: signal.Signals | None = getattr(signal, "SIGTSTP", None)  # Windows has no Ctrl-Z


class Screen:
    """All values on the terminal's alternate screen; at the end they stay on the usual one."""

    def __init__(self, watched: Watched) -> None:
        self.picture = Picture(watched)
        for name in ("COLUMNS", "LINES"):  # as readline sets them: to rich, the size of the window for good
            os.environ.pop(name, None)
        self.console = Console(force_terminal=True)
        self.size = self.console.size
        self.to_stop = False

    def __enter__(self) -> Screen:
        signal.signal(signal.SIGTERM, _end)  # else the shell would be left on the alternate screen, as with Ctrl-Z
        if _STOP is not None:
            signal.signal(_STOP, self._ask_to_stop)
        self._switch(on=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._switch(on=False)
        self.console.print(self.picture)

    def show(self) -> None:
        """Draw the values as they are now."""
        self.size = self.console.size
        self.console.update_screen(self.picture)

    def wait(self, seconds: float) -> None:
        """Let time pass; redraw when the window is resized."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
            if self.to_stop:
                self._stop()
            if self.console.size != self.size:
                self.show()

    def _switch(self, *, on: bool) -> None:
        self.console.set_alt_screen(on)
        self.console.show_cursor(not on)

    def _ask_to_stop(self, *_: object) -> None:
        self.to_stop = True  # not in the middle of writing

    def _stop(self) -> None:
        """Stop the process, as Ctrl-Z asks for; redraw when it is continued."""
        self.to_stop = False
        self._switch(on=False)
        assert _STOP is not None
        signal.signal(_STOP, signal.SIG_DFL)
        os.kill(os.getpid(), _STOP)
        self.__enter__()
        self.show()


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


class Picture:
    """What fits on the terminal: a head, a line for each value, the last event."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> Iterator[RenderableType]:
        watched = self.watched
        room = max(console.height - 2 - bool(watched.message), 1)
        more = len(watched.rows) - room + 1 if len(watched.rows) > room else 0
        yield self._head()
        yield ""
        yield self._values(len(watched.rows) - more, console.width)
        if more:
            yield _line(f"... and {more} more")
        if watched.message:
            yield _line(watched.message, "dim")

    def _head(self) -> Table:
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        now = f"{time.strftime('%H:%M:%S')}  {self.watched.commits:,.0f} changes/s"
        head.add_row(_line(self.watched.file, "bold"), _line(now, "bold"))
        return head

    def _values(self, count: int, width: int) -> Table:
        values = Table.grid(padding=(0, 2))
        values.add_column(max_width=max(width // 3, 1))
        values.add_column()
        values.add_column(justify="right")
        for row in self.watched.rows[:count]:
            style = "dim" if row.text == MISSING else "bold green" if row.changed else ""
            values.add_row(_line(row.name), _line(row.text, style), _line(row.rate, "cyan"))
        return values


def _line(text: str, style: str = "") -> Text:
    return Text(output.printable(text), style, no_wrap=True, overflow="ellipsis")
