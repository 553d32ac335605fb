"""How large a state file is, and who uses it, without its lock and without changing anything: `info`."""

from __future__ import annotations

import os
from typing import NamedTuple

from mmapstate.file import content, host, system
from mmapstate.file.format import DAMAGED
from mmapstate.file.sidecar import sidecar_path


class Process(NamedTuple):
    """A process of this host: its number, and its command line; "" where the system does not tell."""

    pid: int
    command: str


class Info(NamedTuple):
    """What `info` tells. Sizes are in bytes; `snapshot`, `journal` and `slack` are the parts of `size`.

    At rest, that is, without a journal, `generation` (16 hexadecimal digits) is None, and `records`, the changes since
    the last vacuum, are 0. `holder` has the lock just now. `users` have the file open, but for those that only read.
    `users` is None where the system does not tell: anywhere but on Linux, `holder` is None there, too.
    """

    file: str
    size: int
    snapshot: int
    journal: int
    slack: int
    generation: str | None
    records: int
    holder: Process | None
    users: list[Process] | None

    @property
    def at_rest(self) -> bool:
        """Whether the file is the snapshot alone."""
        return self.size == self.snapshot


def info(path: str | os.PathLike[str]) -> Info:
    """Return sizes, generation and number of records of a state file, at rest or in use, and who uses it.

    Parameters:
        path: the state file; symbolic links are followed.

    Nothing is changed or created, and no lock is taken: of a file in use it tells one moment. Whether its contents are
    as they should be, `check` says. Raises OSError, and `StateFileError` where the journal is of an unknown version.
    """
    real = system.real_path(path)
    data, status = system.read_file(real)
    presences = host.flocks(status)
    parts = content.layout(data, real)
    start = len(data) if parts.foreign else parts.snapshot_end
    end, generation, records = start if parts.marker is None else len(data), None, 0
    if parts.marker is not None and parts.scan is not None and parts.marker.version != DAMAGED:
        generation, records = f"{parts.marker.generation:016x}", len(parts.scan.payloads)
        if parts.scan.bad < 0:  # else there is no telling where the slack begins
            end = parts.scan.tail
    sidecar = system.status(sidecar_path(real), follow=False)
    locks = host.flocks(sidecar) if sidecar is not None else None
    if presences is not None and sidecar is not None:
        presences += [(pid, False) for pid in host.users_of(sidecar)]
    holders = [_process(pid) for pid, exclusive in locks or () if exclusive]
    return Info(
        real, len(data), start, end - start, len(data) - end, generation, records,
        holders[0] if holders else None,
        None if presences is None else [_process(pid) for pid in sorted({pid for pid, _ in presences})],
    )  # fmt: skip


def _process(pid: int) -> Process:
    return Process(pid, host.command_line(pid))
