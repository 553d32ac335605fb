"""A state file read once, as plain data: no lock, no sidecar, nothing that is created, written or kept open."""

from __future__ import annotations

import time
from typing import Any

from mmapstate import content, platform
from mmapstate.errors import DamagedStateError, StateFileError
from mmapstate.format import Image
from mmapstate.snapshot import Suspect
from mmapstate.values import Plain

__all__ = ["PAUSE", "TRIES", "is_half_way", "parsed", "read", "read_text"]

TRIES = 40  # of a file that changes under the read
PAUSE = 0.01  # seconds between two


def read(path: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the state in the file at `path`. Raises as `read_text` does."""
    return read_text(path, suspects)[1]


def read_text(path: str, suspects: list[Suspect] | None = None) -> tuple[bytes, dict[Any, Plain]]:
    """Return the snapshot of the file at `path`, none of a predecessor's, and the state that the whole file holds.

    `suspects` is that of `content.read`. What is caught half-way through an edit is read again until it stands. Raises
    OSError, `StateFileError`, `DamagedStateError`.
    """
    for left in reversed(range(TRIES)):
        descriptor = platform.open_regular(path, write=False)
        try:
            image = platform.image_of(descriptor)
            data = platform.read(descriptor, 0, platform.file_size(descriptor))
        finally:
            platform.close(descriptor)
        try:
            if left == 0 or not is_half_way(data, image):
                parts, state = parsed(data, path, suspects)
                return content.snapshot_in(data, parts), state
        except StateFileError:
            if left == 0 or platform.path_image(path) == image:
                raise
        time.sleep(PAUSE)
    raise AssertionError("not reached")


def is_half_way(data: bytes, image: Image) -> bool:
    """Return whether an editor may be about to write to the file `image`: it has been emptied, a moment ago."""
    return not data and time.time_ns() - image.mtime <= TRIES * PAUSE * 1e9


def parsed(data: bytes, file: str, suspects: list[Suspect] | None = None) -> tuple[content.Layout, dict[Any, Plain]]:
    """Return the parts of a file with the bytes `data`, and the state it holds; for who cannot mend it."""
    parts = content.layout(data, file)
    if parts.scan is not None and parts.scan.bad >= 0:
        raise DamagedStateError(
            f"{file}, offset {parts.scan.bad}: the journal was changed there since programs wrote it, or text "
            "was added behind it; run 'mmapstate check FILE', or open it once without readonly=True, to have it "
            "explained or repaired"
        )
    return parts, content.read(data, parts, file, suspects).state
