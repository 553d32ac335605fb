"""The subcommand `watch`: values as programs change them, and how fast; in place on a terminal, else line by line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from mmapstate.changes import Change, flow_text
from mmapstate.command import key_paths, output, terminal
from mmapstate.command.following import Followed
from mmapstate.command.key_paths import Segment
from mmapstate.command.outcome import INTERRUPTED, WARNING, Failure
from mmapstate.logger import warnings_shown
from mmapstate.values import same

__all__ = ["watch"]

_WINDOW = 5.0  # seconds, or as many intervals: what a rate is taken over
_SLICE = 0.05  # seconds between two looks at the size of the terminal
_LONGEST = 1000  # characters, or bytes, of a value; no terminal has more columns

_OTHER_SCREEN, _USUAL_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other one has no cursor
_STOP: signal.Signals | None = getattr(signal, "SIGTSTP", None)  # Windows has no Ctrl-Z

_MISSING: Any = object()


def watch(options: Any) -> int:
    """Show values until Ctrl-C."""
    with warnings_shown(WARNING):
        return _watch(options)


def _watch(options: Any) -> int:
    watched = _Watched(options.file, [key_paths.parse(path) for path in options.paths], options.interval)
    screen: _Screen | _Lines = _Screen(watched) if terminal.obeys_escapes(sys.stdout) else _Lines(watched)
    try:
        with screen:
            while True:
                watched.look()
                screen.show()
                screen.wait(time.monotonic() + options.interval)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        watched.followed.close()


class _Row(NamedTuple):
    """What is shown of one value: `changed` since the last look, `rate` per second of a number, or of a size."""

    name: str
    text: str
    rate: float | None
    changed: bool


class _Watched:
    """The values that are watched, each with numbers of the last seconds."""

    def __init__(self, file: str, paths: Sequence[Sequence[Segment]], interval: float) -> None:
        self.file = file
        self.paths = paths
        self.window = _WINDOW * max(interval, 1.0)
        self.rows: list[_Row] = []
        self.message = ""
        self.messages: list[str] = []  # since the last look
        self.records = 0
        self.commits: float | None = None  # per second
        self._numbers: dict[str, deque[tuple[float, float]]] = {}
        self._values: dict[str, Any] = {}
        self.followed = Followed(file, self._count, self._tell)

    def look(self) -> None:
        """Bring `rows` up to date."""
        self.messages.clear()
        self.followed.look()
        now = time.monotonic()
        rows = self._read()
        self.commits = self._rate("", self.records, now)
        self.rows = [self._row(name, value, now) for name, value in rows]
        for gone in self._values.keys() - {name for name, _ in rows}:
            del self._values[gone]
            self._numbers.pop(gone, None)  # else the rate of one that comes again would be that of its absence

    def _count(self, *_: object) -> None:
        self.records += 1

    def _tell(self, what: str, _: Sequence[Change]) -> None:
        self.message = f"{time.strftime('%H:%M:%S')} {what}"
        self.messages.append(f"{self.file} {what}")

    def _read(self) -> list[tuple[str, Any]]:
        root = self.followed.tree.root
        if self.paths:
            return [(_name_of(path), _value_at(root, path)) for path in self.paths]
        return [(key_paths.written([key]), _shown(value)) for key, value in root._items.items()]

    def _row(self, name: str, value: Any, now: float) -> _Row:
        first = name not in self._values
        changed = not first and not (value is self._values[name] or same(value, self._values[name]))
        self._values[name] = value
        return _Row(name, _text(value), self._rate(name, value, now), changed)

    def _rate(self, name: str, value: Any, now: float) -> float | None:
        number = value.size if isinstance(value, _Size) else value
        if not isinstance(number, int | float) or isinstance(number, bool):
            self._numbers.pop(name, None)
            return None
        numbers = self._numbers.setdefault(name, deque())
        try:
            numbers.append((now, float(number)))
        except OverflowError:
            return None
        while now - numbers[0][0] > self.window:
            numbers.popleft()
        seconds = now - numbers[0][0]
        return (numbers[-1][1] - numbers[0][1]) / seconds if seconds else None


class _Size(NamedTuple):
    """A container, of which the size is shown; `items` is its values where somebody asked for it."""

    size: int
    what: str


def _name_of(path: Sequence[Segment]) -> str:
    return ".".join(key_paths.written([segment.text]) if segment.quoted else segment.text for segment in path)


def _value_at(root: Any, path: Sequence[Segment]) -> Any:
    for number, segment in enumerate(path):
        items = getattr(root, "_items", None)
        if items is None:
            return _MISSING
        try:
            key = key_paths.key_in(items, segment, path[:number])
            root = items[key]
        except (Failure, LookupError):
            return _MISSING
    return _shown(root)


def _shown(value: Any) -> Any:
    """Return a scalar as it is, and the size of a live container."""
    items = getattr(value, "_items", None)
    if items is None:
        return value
    return _Size(len(items), "keys" if isinstance(items, dict) else "items")


def _text(value: Any) -> str:
    if value is _MISSING:
        return "(missing)"
    if isinstance(value, _Size):
        return f"({value.size:,} {value.what if value.size != 1 else value.what[:-1]})"
    if isinstance(value, str | bytes) and len(value) > _LONGEST:
        return flow_text(value[:_LONGEST])[:-1] + "..."
    return flow_text(value)


def _rate_text(rate: float | None) -> str:
    return "" if not rate else f"{rate:+,.0f}/s" if abs(rate) >= 10 else f"{rate:+.2g}/s"


class _Lines:
    """For a pipe: a line for each value, then one for each change."""

    def __init__(self, watched: _Watched) -> None:
        self.watched = watched
        self.names: set[str] = set()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def show(self) -> None:
        for message in self.watched.messages:
            print(f"# {message}")
        for row in self.watched.rows:
            if row.changed or row.name not in self.names:
                rate = _rate_text(row.rate) if row.changed else ""
                print(f"{time.strftime('%H:%M:%S')} {row.name} = {row.text}{f'  {rate}' if rate else ''}")
        names = {row.name for row in self.watched.rows}
        for name in sorted(self.names - names):
            print(f"{time.strftime('%H:%M:%S')} {name} = (missing)")
        self.names = names
        output.flush()

    @staticmethod
    def wait(until: float) -> None:
        time.sleep(max(0.0, until - time.monotonic()))


class _Screen:
    """For a terminal: all values on a screen of its own, written over; at the end they stay in the usual one."""

    def __init__(self, watched: _Watched) -> None:
        self.watched = watched
        self.size = os.terminal_size((80, 24))
        self.to_stop = False
        self.colors = not os.environ.get("NO_COLOR")

    def __enter__(self) -> None:
        signal.signal(signal.SIGTERM, _end)  # else the shell would be left on the other screen; so with Ctrl-Z
        if _STOP is not None:
            signal.signal(_STOP, self._ask_to_stop)
        self._put(_OTHER_SCREEN)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._put(_USUAL_SCREEN + "".join(f"{line}\n" for line in self._lines()))

    def _ask_to_stop(self, *_: object) -> None:
        self.to_stop = True  # not in the middle of writing

    def _stop(self) -> None:
        """Do what Ctrl-Z asks for, and go on when that is wanted."""
        assert _STOP is not None
        self.to_stop = False
        self._put(_USUAL_SCREEN)
        signal.signal(_STOP, signal.SIG_DFL)
        os.kill(os.getpid(), _STOP)
        self.__enter__()
        self.show()

    def show(self) -> None:
        self.size = _terminal_size()
        self._put("\x1b[H" + "\n".join(f"{line}\x1b[K" for line in self._lines()) + "\x1b[J")

    def wait(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
            if self.to_stop:
                self._stop()
            if _terminal_size() != self.size:
                self.show()

    def _lines(self) -> Iterator[str]:
        """Yield what fits on the screen: a head, a line for each value, what happened last."""
        columns, lines = self.size
        watched = self.watched
        rows = watched.rows
        room = max(lines - 2 - bool(watched.message), 1)
        more = len(rows) - room + 1 if len(rows) > room else 0
        rows = rows[: len(rows) - more]
        head = f"  {time.strftime('%H:%M:%S')}  {watched.commits or 0:,.0f} changes/s"
        yield self._styled("1", _fitted(_fitted(watched.file, max(columns - len(head), 1)) + head, columns))
        yield ""
        rates = [_rate_text(row.rate) for row in rows]
        name_width = min(max(map(_width, (row.name for row in rows)), default=0), max(columns // 3, 1))
        rate_width = max(map(len, rates), default=0)
        text_width = max(columns - name_width - rate_width - 4, 1)
        text_width = min(text_width, max((_width(row.text) for row in rows), default=0))
        for row, rate in zip(rows, rates, strict=True):
            name, text = _padded(row.name, name_width), _padded(row.text, text_width)
            if name_width + text_width + rate_width + 4 > columns:  # hardly any
                yield _fitted(f"{name}  {text}", columns)
            else:
                style = "2" if row.text == "(missing)" else "1;32" if row.changed else ""
                yield f"{name}  {self._styled(style, text)}  {self._styled('36', rate.rjust(rate_width))}".rstrip()
        if more:
            yield _fitted(f"... and {more} more", columns)
        if watched.message:
            yield self._styled("2", _fitted(watched.message, columns))

    def _styled(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style and text.strip() and self.colors else text

    @staticmethod
    def _put(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _terminal_size() -> os.terminal_size:
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return os.terminal_size((80, 24))
    return size if size.columns and size.lines else os.terminal_size((80, 24))


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitted(text: str, columns: int) -> str:
    """Return as much of a text as fits; its control characters, as of a file's name, are shown as question marks."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if _width(text) <= columns:
        return text
    if columns < 1:
        return ""
    taken = 0
    for number, character in enumerate(text):
        taken += _columns(character)
        if taken > columns - 1:
            return text[:number] + "…"
    return text


def _padded(text: str, columns: int) -> str:
    text = _fitted(text, columns)
    return text + " " * (columns - _width(text))
