"""Put the best state that a broken file's bytes allow in its place, and keep the broken file: `repair`.

What is kept of it is decided in `salvage`. Here it is replaced, in the same steps as by a vacuum: a kill at any of
them leaves the broken file or the mended one, and the next program that opens the state clears up what is beside it.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from mmapstate.care import salvage
from mmapstate.care.findings import NOTE, Finding
from mmapstate.errors import LockTimeout, StateError
from mmapstate.file import host, images, system
from mmapstate.file.filelock import FileLock
from mmapstate.file.page import HeaderPage
from mmapstate.file.presence import Presence
from mmapstate.file.relock import locked_page
from mmapstate.file.sidecar import open_sidecar, sidecar_path
from mmapstate.file.swap import Swap
from mmapstate.live.state import open_state


class Repair(NamedTuple):
    """What `repair` did.

    `copy` is the path of the file as it was before, None where there was nothing to repair: then nothing was written.
    `findings` tell what is no longer as it was: a "warning" is something that is lost, or may be, a "note" is not.
    """

    copy: str | None
    findings: list[Finding]

    @property
    def lost_something(self) -> bool:
        """Whether the new file lacks something that the old one had, as far as that can be told."""
        return any(found.severity != NOTE for found in self.findings)


def repair(path: str | os.PathLike[str], *, timeout: float | None = 10.0) -> Repair:
    """Make a state file that cannot be opened, or not without a loss, one that can; keep it as it was beside it.

    Parameters:
        path: the state file; symbolic links are followed.
        timeout: seconds to wait for the lock; None waits for ever, 0 tries once.

    A file that can be opened is left alone: programs that open it put right what is odd about it. Else the whole file
    is copied to ``<path>.damaged-<time>``, and replaced by its best state: of the journal all changes up to the first
    that was damaged, of the document all entries that can be read. Nothing is invented. To be killed in it costs
    nothing: call it again.

    Raises `StateError` while other programs have the state open; `StateFileError` where nothing in the file can be read
    as a state, or its journal is of an unknown version; `LockTimeout`; OSError, FileNotFoundError among them. The file
    is as it was then.
    """
    real = system.real_path(path)
    if salvage.mend(system.read_file(real)[0], real) is None:
        return Repair(None, [])
    with contextlib.ExitStack() as undo:
        lock = FileLock(sidecar_path(real), open_sidecar(sidecar_path(real)), real)
        undo.callback(lock.close)
        lock.acquire(timeout)
        page = locked_page(lock, timeout)
        undo.callback(page.close)
        presence = Presence()
        undo.callback(presence.leave)
        _refuse_in_use(real, presence, lock)
        data, _ = system.read_file(real)
        mended = salvage.mend(data, real)
        if mended is None:
            return Repair(None, [])  # somebody else was faster
        copy = images.keep_damaged(real, data)
        system.sync_folder(real)  # also when the power fails
        _swap(real, mended.text, page)
    with contextlib.suppress(LockTimeout):  # of somebody who was faster, and has opened it
        open_state(real, timeout=timeout).close()  # accepts the new file, and proves that it can be opened
    return Repair(copy, mended.losses)


def _refuse_in_use(file: str, presence: Presence, lock: FileLock) -> None:
    """Raise `StateError` while others have the file open: they may know better than its bytes what was in it."""
    if system.REPLACE_NEEDS_UNMAPPED:
        alone = not system.is_in_use(file)
    else:
        alone = lock.attend(exclusively=True) and presence.take(file, exclusively=True)
    if not alone:
        raise StateError(f"{file}: programs have the state open; stop them, then repair it")


def _swap(file: str, text: bytes, page: HeaderPage) -> None:
    """Put `text` in the file's place, as a vacuum killed right after it would: the next open recovers."""
    if not page.is_usable(host.boot_id()):
        page.initialise(host.boot_id())
    with Swap(page, file, images.new_generation(page.position.generation)) as swap:
        page.supersede(page.position)  # whoever stood there, with the lock file gone, has what may be lost here
        descriptor = swap.write(text, system.status(file))
        try:
            swap.ready(system.image_of(descriptor).inode)
        finally:
            system.close(descriptor)  # first: Windows renames no file that is open
        system.replace(swap.temporary, file)
    system.sync_folder(file)
