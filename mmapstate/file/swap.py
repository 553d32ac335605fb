"""How an image comes into the place of the state file: one protocol, for a vacuum and for a repair.

The header page says so from before the image's first byte: dirty, and what is pending. Who dies at any step leaves the
old file or the new one, and whoever gets the lock next finds out which, and clears up.
"""

from __future__ import annotations

import os

from mmapstate.file import images, system
from mmapstate.file.format import Position
from mmapstate.file.page import NOWHERE, UNKNOWN, HeaderPage


class Swap:
    """One image on its way; a ``with`` block that raises leaves nothing behind but what the system has swapped in.

    Dirty the page stays after that: an interrupt may have come when the rename was done. The next look finds out by
    what is pending; that says no longer so only where there is nothing any more that could be swapped in.
    """

    def __init__(self, page: HeaderPage, path: str, generation: int) -> None:
        self.page = page
        self.path = path
        self.generation = generation
        self.temporary = images.temporary_path(path, generation)
        self.layout_before = page.layout

    def __enter__(self) -> Swap:
        self.page.dirty = True
        self.page.pending = Position(self.generation, 0)
        self.page.layout = UNKNOWN
        return self

    def write(self, data: bytes, like: os.stat_result | None) -> int:
        """Write the image beside the file, as `images.write_beside` does; return its descriptor."""
        return images.write_beside(self.temporary, data, like)

    def ready(self, inode: int) -> None:
        """Say which inode the image has: whoever finds that at the path knows that it was swapped in."""
        self.page.pending = Position(self.generation, inode)

    def withdraw(self) -> None:
        """Say that nothing comes of it, as the system refuses to replace the file: all is as it was."""
        system.remove(self.temporary)
        self.page.pending = NOWHERE
        self.page.layout = self.layout_before
        self.page.dirty = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        system.remove(self.temporary)
        found = system.path_image(self.path)
        pending = self.page.pending
        if found is None or pending.tail == 0 or found.inode != pending.tail:
            self.page.pending = NOWHERE
