"""The one place where the command opens a state: to read it once, to change it, to follow it.

To read imports nothing that writes: a short command spends most of its time on its start.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from mmapstate.command.outcome import WARNING
from mmapstate.file import content, reading, system

if TYPE_CHECKING:
    from mmapstate.command.following import Followed, OnEvent, OnRecord
    from mmapstate.live.state import PersistedState
    from mmapstate.text.reader import Suspect
    from mmapstate.values import Plain


def read(path: str) -> dict[Any, Plain]:
    """Return the state as plain data; warn on stderr of words that were perhaps meant as booleans."""
    words: list[Suspect] = []
    real = system.real_path(path)
    state = reading.read(real, words)
    for word in words:
        print(f"{WARNING}{content.warning_of(word, real)}", file=sys.stderr)
    return state


def read_text(path: str) -> tuple[bytes, dict[Any, Plain]]:
    """Return the text of the last vacuum or edit, and the state, which may be newer."""
    return reading.read_text(system.real_path(path))


@contextmanager
def opened(
    path: str, *, create: bool | None = None, timeout: float = 10.0, power: bool = False
) -> Iterator[PersistedState]:
    """Open the state for writing; the library's warnings go to stderr.

    Raises FileNotFoundError where there is none, unless `create` is true. See `hint`.
    """
    from mmapstate.live.state import open_state
    from mmapstate.logger import warnings_shown

    real = system.real_path(path)
    if not create and system.status(real) is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no such file{hint(create)}", path)
    try:
        with (
            warnings_shown(WARNING),
            open_state(real, timeout=timeout, durability="power" if power else "process") as state,
        ):
            yield state
    except OSError as error:
        if error.filename is None and error.strerror:  # such as that of a full disk
            error.filename = path
        raise


def hint(create: bool | None) -> str:
    """Return what an error about something missing says of --create; None: the command has no such option."""
    return "" if create is None else " (--create makes it)"


@contextmanager
def followed(path: str, on_record: OnRecord, on_event: OnEvent) -> Iterator[Followed]:
    """Open the state for reading it again and again, without its lock; see `Followed`."""
    from mmapstate.command.following import Followed
    from mmapstate.logger import warnings_shown

    with warnings_shown(WARNING), closing(Followed(system.real_path(path), on_record, on_event)) as following:
        yield following
