"""The subcommand `doctor`: tries, with temporary files, whether a folder is a good place for a state.

It does what the library does, with the library's functions; another process plays its part for real (`_second`).
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from mmapstate.command.outcome import FAILED, WELL, Failure
from mmapstate.file import host, system
from mmapstate.file.filelock import EXCLUSIVE, file_lock
from mmapstate.file.mapped import MappedFile

_SIZE = 4096  # bytes of a file
_SYNCS = 5  # of which the median is told
_PATIENCE = 30.0  # seconds for the other process


def doctor(options: Any) -> int:
    """Try a folder, and print what was found."""
    path = str(system.real_path(options.path))
    if system.status(path) is None:  # nor is a file yet to come allowed: a misspelt folder would be one
        raise FileNotFoundError(errno.ENOENT, "no such file or folder", path)
    folder = path if system.is_folder(path) else os.path.dirname(path)
    kind = host.filesystem(folder)
    print(f"{folder}: a folder{f' on {kind}' if kind else ''}")
    code = WELL
    for name, attempt in _ATTEMPTS.items():
        try:
            told, mark = attempt(folder), "ok"
        except (Failure, OSError, subprocess.TimeoutExpired) as error:
            told, mark, code = str(error), "FAILED", FAILED
        print(f"{mark:7} {name:7} {told}")
        if attempt is _try_to_write and code is FAILED:
            break  # the others need a file, too
    for advice in _advice(folder, kind):
        print(f"advice  {advice}")
    return code


def _advice(folder: str, kind: str) -> Iterator[str]:
    _, foreign = host.foreign_filesystem(folder)
    if foreign.startswith("fuse"):
        yield f"{foreign} is a program that shows files; what it does with locks and syncs is its own: prefer a disk"
    elif foreign:
        yield f"{foreign} may be shared with other machines, whose changes would be lost: use a disk of this machine"
    if kind in ("tmpfs", "ramfs"):
        yield f"{kind} is memory: what is here is gone when the machine starts anew, whatever is synced"
    if kind in host.COPY_ON_WRITE:
        yield f"{kind} writes to new places: changes are written by calls, not stored in a map, and take longer"


@contextmanager
def _file(folder: str) -> Iterator[str]:
    """Yield the path of a temporary file of `_SIZE` bytes."""
    descriptor, path = tempfile.mkstemp(prefix=".mmapstate-doctor-", suffix=".tmp", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(bytes(_SIZE))
        yield path
    finally:
        system.remove(path)


def _opened(path: str) -> closing[MappedFile]:
    return closing(MappedFile.open(path))


def _try_to_write(folder: str) -> str:
    with _file(folder):
        return "files can be made, written and removed"


def _try_locks(folder: str) -> str:
    with _file(folder) as path:
        with _opened(path) as file:
            file_lock(file.descriptor, EXCLUSIVE)
            if _second(path, "lock") != "refused":
                raise Failure("two processes have the same lock at once: changes would be lost")
        if _second(path, "lock") != "taken":
            raise Failure("a lock is still held when its file is closed: programs would wait for ever")
    return "a lock keeps another process out, and is free again when its holder ends"


def _try_maps(folder: str) -> str:
    with _file(folder) as path:
        with _opened(path) as file:
            file.map()
            file.bytes[0:5] = b"first"
            if _second(path, "map") != "first":
                raise Failure("another process does not see what is stored in a map: changes would be lost")
            if bytes(file.bytes[0:6]) != b"second":
                raise Failure("what another process stores in a map is not seen: changes would be lost")
            file.sync()
        with open(path, "rb") as again:
            if again.read(6) != b"second":
                raise Failure("what was stored in a map is not in the file")
    return "what one process stores in a map another one sees, and is in the file"


def _try_rename(folder: str) -> str:
    with _file(folder) as path, _file(folder) as image:
        with open(image, "wb") as file:
            file.write(b"image")
        with _opened(path) as before:
            if system.REPLACE_NEEDS_UNMAPPED:
                before.close()
            else:
                before.map()
            system.replace(image, path)
            with open(path, "rb") as again:
                if again.read() != b"image":
                    raise Failure("a file that was renamed over another one is not there")
            if not system.REPLACE_NEEDS_UNMAPPED and before.read() != bytes(_SIZE):
                raise Failure("who has the old file open does not read it any more: programs could not follow")
    return "a file can be put in the place of another one that is in use"


def _try_syncs(folder: str) -> str:
    with _file(folder) as path:
        with _opened(path) as file:
            times = []
            for number in range(_SYNCS):
                system.write_all(file.descriptor, b"%d" % number, 0)
                begin = time.perf_counter()
                system.sync_data(file.descriptor)
                times.append(time.perf_counter() - begin)
            system.sync_file(file.descriptor)
        system.sync_folder(path)
    median = sorted(times)[_SYNCS // 2] * 1e3
    return f"file and folder can be synced; a change with durability 'power' takes about {median:.2g} ms"


_ATTEMPTS: dict[str, Callable[[str], str]] = {
    "write": _try_to_write,
    "locks": _try_locks,
    "maps": _try_maps,
    "rename": _try_rename,
    "syncs": _try_syncs,
}


def _second(path: str, task: str) -> str:
    """Have another process do a task with a file; return what it says."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import be_second; be_second()"
    done = subprocess.run(
        [sys.executable, "-c", program, path, task],
        capture_output=True, encoding="utf-8", errors="replace", timeout=_PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failure(f"another process could not do its part: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def be_second() -> None:
    """Be the other process: do the task named by the arguments, and print the outcome."""
    path, task = sys.argv[1:]
    with _opened(path) as file:
        if task == "map":
            file.map()
            sys.stdout.write(bytes(file.bytes[0:5]).decode("ascii", "replace"))
            file.bytes[0:6] = b"second"
            return
        try:
            file_lock(file.descriptor, EXCLUSIVE)
            sys.stdout.write("taken")
        except BlockingIOError:
            sys.stdout.write("refused")
