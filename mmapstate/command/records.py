"""The subcommand `journal`: the records since the last vacuum, a line for each change; with -f those to come, too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mmapstate.changes import Change, flow_text
from mmapstate.command import opening, output
from mmapstate.command.key_paths import written
from mmapstate.command.outcome import INTERRUPTED, WELL

if TYPE_CHECKING:
    from mmapstate.command.following import Followed

_PAUSES = (1e-3, 0.05)  # seconds between two looks at the file: short while it is changed, longer when nothing happens


def journal(options: Any) -> int:
    """Print the journal of a state."""
    printed = _Printed(options.file)
    try:
        with opening.followed(options.file, printed.record, printed.event) as followed:
            if options.follow:
                _follow(followed, printed)
            if not followed.number:
                print("# there are no changes since the last vacuum")
            return WELL
    except KeyboardInterrupt:
        return INTERRUPTED


def _follow(followed: Followed, printed: _Printed) -> NoReturn:
    pause = _PAUSES[0]
    while True:
        before = printed.lines
        followed.look()
        output.flush()  # so that a pipe gets each line at once; ends when nobody reads it
        pause = _PAUSES[0] if printed.lines != before else min(pause * 1.5, _PAUSES[1])
        time.sleep(pause)


class _Printed:
    """Prints what happens to a state; lines about anything but records begin with ``#``."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines = 0

    def record(self, number: int, record: Sequence[Change]) -> None:
        """Print a record: with more than one change, it is a transaction, and its lines are numbered 7.1, 7.2, ..."""
        for place, change in enumerate(record, 1):
            self._print(f"{f'{number}.{place}' if len(record) > 1 else number:<7} {text_of(change)}")

    def event(self, what: str, differences: Sequence[Change]) -> None:
        """Print what else happened, and what is different since."""
        self._print(f"# {self.file} {what}")
        for change in differences:
            self._print(f"#       {text_of(change)}")

    def _print(self, line: str) -> None:
        self.lines += 1
        print(line)


def text_of(change: Change) -> str:
    """Return a change as a line: ``hosts.mill.port = 8080``, ``delete queue.0``, ``insert queue.3 = "a"``."""
    operation, path, key, *values = change
    if operation == "splice":
        return f"splice {written(path)} {key}:{values[0]} = {flow_text(values[1])}"
    place = written([*path, key])
    if operation == "delete":
        return f"delete {place}"
    return f"{'insert ' if operation == 'insert' else ''}{place} = {flow_text(values[0])}"
