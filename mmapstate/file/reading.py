"""A state file read as a whole, by who has no part in its lock: nothing that is created or written.

Programs may be writing meanwhile, or an editor. What does not fit together is read again, and judged when it stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from mmapstate.errors import DamagedStateError, StateFileError
from mmapstate.file import content, system
from mmapstate.file.journal import Readable, is_lasting
from mmapstate.text.reader import Suspect
from mmapstate.values import Plain

_T = TypeVar("_T")
_File = TypeVar("_File", bound=Readable)

PAUSE = 0.01  # seconds between two readings of a file that does not fit together
EMPTIED = 0.4  # seconds for which a file that was emptied may be one that an editor is about to write
ENDLESS = 10.0  # seconds of readings none of which fits together, nor is like the one before


def read(path: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the state in the file at `path`. Raises as `read_text` does."""
    return read_text(path, suspects)[1]


def read_text(path: str, suspects: list[Suspect] | None = None) -> tuple[bytes, dict[Any, Plain]]:
    """Return the snapshot of the file at `path` (none of persistedstate's), and the state that the whole file holds.

    `suspects` is that of `content.read`. What is caught half-way through an edit is read again until it stands. Raises
    OSError, `StateFileError`, `DamagedStateError`.
    """

    def taken(file: _ReadOnce, data: bytes) -> tuple[bytes, dict[Any, Plain]]:
        parts = layout(file, data)
        return content.snapshot_in(data, parts), content.read(data, parts, path, suspects).state

    return settled(lambda: _ReadOnce(path), taken, _ReadOnce.close)


class _ReadOnce:
    """A file to be read once: what `MappedFile` is, but for what maps need, which takes a while to import."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = system.open_regular(path, write=False)
        try:
            self.image = system.image_of(self.descriptor)
        except BaseException:
            self.close()
            raise
        self.inode = self.image.inode

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return system.read(self.descriptor, start, system.file_size(self.descriptor) if stop is None else stop)

    def close(self) -> None:
        system.close(self.descriptor)


def settled(opened: Callable[[], _File], judge: Callable[[_File, bytes], _T], leave: Callable[[_File], None]) -> _T:
    """Return what `judge` makes of a state file, which ``opened()`` opens, and of its bytes.

    What is caught half-way is read again: a file that an editor has emptied a moment ago, and one of which `judge`
    raises `StateFileError`. The latter is raised only where two readings, a pause apart, gave the same bytes: of a
    reading that was put aside between two pages while programs wrote neither size nor times tell. In the end
    ``leave(file)`` is called. Raises OSError, too, and what else `judge` raises.
    """
    began, before = time.monotonic(), None
    while True:
        file = opened()
        try:
            data = file.read()
            if data or time.monotonic() - began > EMPTIED or time.time_ns() - file.image.mtime > EMPTIED * 1e9:
                return judge(file, data)
        except StateFileError as error:
            if data == before:
                raise
            if time.monotonic() - began > ENDLESS:
                told = f"{file.path}: keeps changing while it is read, and never fits together ({error})"
                raise StateFileError(f"{told}; stop the program that writes to it") from error
            before = data
        finally:
            leave(file)
        time.sleep(PAUSE)


def layout(file: Readable, data: bytes) -> content.Layout:
    """Return the parts of a state file, for who cannot mend it, without a record that a failing sync could take back.

    Raises `StateFileError`, `DamagedStateError`.
    """
    parts = content.layout(data, file.path)
    if parts.scan is not None and parts.scan.bad >= 0:
        raise DamagedStateError(
            f"{file.path}, offset {parts.scan.bad}: the journal was changed there since programs wrote it, or text "
            "was added behind it; run 'mmapstate check FILE', or open it once without readonly=True, to have it "
            "explained or repaired"
        )
    if parts.scan is not None and parts.scan.payloads:
        last = data.rindex(b"\n", 0, parts.scan.tail - 1) + 1
        if not is_lasting(file, last, parts.scan.tail):
            return content.without_last(parts, last)
    return parts
