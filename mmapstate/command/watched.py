"""What `watch` shows: values of a live state, as text, with their rates of change."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmapstate.changes import Change, flow_text
from mmapstate.command import key_paths
from mmapstate.command.key_paths import Segment
from mmapstate.command.outcome import Failure
from mmapstate.values import same

_WINDOW = 5.0  # seconds, or as many intervals: what a rate is taken over
_LONGEST = 1000  # characters, or bytes, of a value; no terminal has more columns

MISSING = "(missing)"

_MISSING: Any = object()


class Row(NamedTuple):
    """One value as it is shown: `changed` since the last look; `rate` per second, of a number or a size."""

    name: str
    text: str
    rate: str
    changed: bool


class Watched:
    """The watched values, with the numbers of the last seconds for their rates."""

    def __init__(self, file: str, paths: Sequence[Sequence[Segment]], interval: float) -> None:
        self.file = file
        self.paths = paths
        self.window = _WINDOW * max(interval, 1.0)
        self.rows: list[Row] = []
        self.message = ""
        self.messages: list[str] = []  # since the last look
        self.records = 0
        self.commits = 0.0  # per second
        self._numbers: dict[str, deque[tuple[float, float]]] = {}
        self._values: dict[str, Any] = {}

    def count(self, *_: object) -> None:
        """Count a record."""
        self.records += 1

    def tell(self, what: str, _: Sequence[Change]) -> None:
        """Take note of another event."""
        self.message = f"{time.strftime('%H:%M:%S')} {what}"
        self.messages.append(f"{self.file} {what}")

    def update(self, root: Any) -> None:
        """Bring `rows` up to date with the root of a live state."""
        now = time.monotonic()
        if self.paths:
            values = {_name_of(path): _value_at(root, path) for path in self.paths}
        else:
            values = {key_paths.written([key]): _shown(value) for key, value in root._items.items()}
        self.commits = self._rate("", self.records, now)
        self.rows = [self._row(name, value, now) for name, value in values.items()]
        for gone in self._values.keys() - values.keys():
            del self._values[gone]
            self._numbers.pop(gone, None)  # else its rate when it comes back would span its absence

    def _row(self, name: str, value: Any, now: float) -> Row:
        before = self._values.get(name, value)
        self._values[name] = value
        return Row(name, _text(value), _rate_text(self._rate(name, value, now)), not same(value, before))

    def _rate(self, name: str, value: Any, now: float) -> float:
        number = value.size if isinstance(value, _Size) else value
        if not isinstance(number, int | float) or isinstance(number, bool):
            self._numbers.pop(name, None)
            return 0.0
        numbers = self._numbers.setdefault(name, deque())
        try:
            numbers.append((now, float(number)))
        except OverflowError:
            return 0.0
        while now - numbers[0][0] > self.window:
            numbers.popleft()
        seconds = now - numbers[0][0]
        return (numbers[-1][1] - numbers[0][1]) / seconds if seconds else 0.0


class _Size(NamedTuple):
    """A container, shown by its size."""

    size: int
    what: str


def _shown(value: Any) -> Any:
    items = getattr(value, "_items", None)  # of a live container, without another look at the file
    return value if items is None else _Size(len(items), "key" if isinstance(items, dict) else "item")


def _value_at(root: Any, path: Sequence[Segment]) -> Any:
    for number, segment in enumerate(path):
        items = getattr(root, "_items", None)
        if items is None:
            return _MISSING
        try:
            root = items[key_paths.key_in(items, segment, path[:number])]
        except (Failure, LookupError):
            return _MISSING
    return _shown(root)


def _name_of(path: Sequence[Segment]) -> str:
    return ".".join(key_paths.written([segment.text]) if segment.quoted else segment.text for segment in path)


def _text(value: Any) -> str:
    if value is _MISSING:
        return MISSING
    if isinstance(value, _Size):
        return f"({value.size:,} {value.what}{'s' if value.size != 1 else ''})"
    if isinstance(value, str | bytes) and len(value) > _LONGEST:
        return flow_text(value[:_LONGEST])[:-1] + "..."
    return flow_text(value)


def _rate_text(rate: float) -> str:
    return "" if not rate else f"{rate:+,.0f}/s" if abs(rate) >= 10 else f"{rate:+.2g}/s"
