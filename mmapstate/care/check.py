"""Look at a state file, and at what stands beside it, without changing anything: `check`.

A file that programs use is looked at without its lock. What is odd then is looked at again, with the lock for as long
as it takes to read the file, if its lock file is there and can be opened; nothing is created for it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from mmapstate.care import findings
from mmapstate.care.findings import BY_ITSELF, ERROR, NOTE, WARNING, Finding
from mmapstate.errors import LockTimeout, StateError
from mmapstate.file import content, forks, host, images, system
from mmapstate.file.filelock import FileLock
from mmapstate.file.format import PAGE_SIZE, Image
from mmapstate.file.page import MAGIC, HeaderPage
from mmapstate.file.sidecar import fault_of, may_be_page, sidecar_mode, sidecar_path

_PATIENCE = 0.5  # seconds that are waited for the lock
_READINGS = 5  # of a file whose lock is not to be had; what two of them agree on is so
_PAUSE = 0.01  # seconds between two of them


def check(path: str | os.PathLike[str]) -> list[Finding]:
    """Look at a state file, at rest or in use, and return what is not as programs leave it: nothing, if all is well.

    Parameters:
        path: the state file; symbolic links are followed.

    Each `Finding` has a severity: an "error" keeps the file from being opened, or costs a part of what it holds; a
    "warning" is what somebody should look at; a "note" is what the next program to open the file puts right by itself.
    Errors come first, then what comes first in the file. Nothing is changed or created, and no more than the right to
    read is needed. Never raises for what is wrong with the file: one that is not there, or cannot be read, is an error
    that is found.
    """
    real = system.real_path(path)
    found = [*_of_bytes(real), *_beside(real)]
    return sorted(found, key=lambda each: (each.severity != ERROR, each.offset if each.offset is not None else -1))


class _Reading(NamedTuple):
    """What was read of a file at once: its bytes, what the system says of it, and the header page."""

    data: bytes
    image: Image
    page: bytes
    alone: bool


def _of_bytes(file: str) -> list[Finding]:
    """Return what is odd about a file's bytes, when that is not the moment's: a program may be at work on them."""
    found = _judged(file, None)
    if not found:
        return found
    with contextlib.ExitStack() as undo:
        lock = _locked(file, undo)
        if lock is not None:
            return _judged(file, lock)
    for _ in range(_READINGS):
        time.sleep(_PAUSE)
        before, found = found, _judged(file, None)
        if found == before:
            break
    return found


def _locked(file: str, undo: contextlib.ExitStack) -> FileLock | None:
    """Return the lock of a state, taken, to be closed by `undo`; None where it is not there, or not to be had."""
    path = sidecar_path(file)
    try:
        descriptor = forks.alone(lambda: system.open_regular(path, write=False, follow=False))
    except (OSError, StateError):
        return None
    lock = FileLock(path, descriptor, file)
    undo.callback(lock.close)
    try:
        lock.acquire(_PATIENCE)
    except (OSError, LockTimeout):
        return None
    return lock


def _judged(file: str, lock: FileLock | None) -> list[Finding]:
    """Read the file once and return what is odd about it; with a lock, which is taken, release that before judging."""
    try:
        page = _page_of(file, lock)  # first: what it announces is in the file then
        data, status = system.read_file(file)
    except FileNotFoundError:
        return [_whole(ERROR, file, "is not there", "look for a copy beside it, or a backup; programs create it anew")]
    except OSError as error:
        return [_whole(ERROR, file, f"cannot be read ({error.strerror or error})", "see to it that it can")]
    except StateError:
        return [_whole(ERROR, file, "is no regular file", "remove it, or use another path")]
    finally:
        if lock is not None:
            lock.release()
    examined = findings.examine(data, file)
    reading = _Reading(data, system.as_image(status), page, lock is not None)
    return [*examined.findings, *_of_page(file, reading, examined.parts)]


def _page_of(file: str, lock: FileLock | None) -> bytes:
    """Return the bytes of the header page; none where it is not to be had."""
    if lock is not None:
        return system.read(lock.descriptor, 0, PAGE_SIZE)
    try:
        return system.read_file(sidecar_path(file), follow=False, most=PAGE_SIZE)[0]
    except (OSError, StateError):  # told of in `_of_sidecar`; on Windows who has the lock is the only one to read it
        return b""


def _whole(severity: str, file: str, what: str, what_to_do: str) -> Finding:
    return Finding(severity, file, None, None, what, what_to_do)


# --- The header page -----------------------------------------------------------------------------------------------


def _of_page(file: str, reading: _Reading, parts: content.Layout | None) -> Iterator[Finding]:
    """Compare the file with what the programs that use it have agreed on."""
    if not any(reading.page) or parts is None:
        return
    if not may_be_page(reading.page):
        what = "what stands where its lock file must be is none of this library: programs refuse to open the state"
        yield _whole(ERROR, file, what, f"move {sidecar_path(file)} away, or remove it")
        return
    if len(reading.page) < PAGE_SIZE or reading.page[: len(MAGIC)] != MAGIC:
        what = "its lock file was cut, or written to by another program"
        yield _whole(WARNING, file, what, "stop the programs that use the state, and remove the lock file")
        return
    page = HeaderPage.of_bytes(reading.page)
    if not page.is_usable(host.boot_id()):
        return  # of another start of the machine: made anew by who opens it
    if page.dirty:
        what = "a program ended in the middle of a change, or has found the file changed by others"
        if not reading.alone:
            what = f"a program is in the middle of a change; or {what.removeprefix('a program ')}"
        yield _whole(NOTE, file, what, BY_ITSELF)
    if page.sync_failed:
        what = "syncing the file failed: the disk may not have all of it"
        yield _whole(WARNING, file, what, "look after the disk; the next change writes a new file")
    yield from _of_position(file, reading, page, parts)


def _of_position(file: str, reading: _Reading, page: HeaderPage, parts: content.Layout) -> Iterator[Finding]:
    announced, pending, image = page.position, page.pending, reading.image
    if pending.generation:
        what = "a program ended while it compacted the file"
        yield _whole(NOTE, file, what, BY_ITSELF)
        if pending.tail == image.inode:
            return
    if announced.generation == 0:
        return
    if parts.marker is not None and parts.scan is not None and parts.marker.generation == announced.generation:
        tail = parts.scan.tail
        line = reading.data.count(b"\n", 0, tail) + 1
        if tail > announced.tail:
            what = "the last change was not announced to the other programs, as its writer was killed"
            if not reading.alone:
                what += ", or is at it"
            yield Finding(NOTE, file, tail, line, what, BY_ITSELF)
        elif tail < announced.tail:
            yield Finding(
                WARNING, file, tail, line,
                f"programs had {announced.tail - tail} bytes more of changes than there are: an older copy was put in "
                "the file's place, or its end was cut or damaged",
                "look for a newer copy; programs go on with what is there",
            )  # fmt: skip
    elif page.start >= 0:
        yield _whole(
            WARNING, file, "was replaced, or edited by hand, when programs had made changes that may not be in it",
            "look at the copies beside it; programs go on with what is there",
        )  # fmt: skip
    elif image[:2] != page.image[:2] or parts.snapshot_crc != page.snapshot_crc:
        yield _whole(NOTE, file, "was edited by hand since programs wrote it last", "nothing: programs take it up")


# --- What stands beside it, and the file as the system has it --------------------------------------------------------


def _beside(file: str) -> Iterator[Finding]:
    status = _status(file)
    if status is None:
        return  # told already
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        what = f"has {status.st_nlink} names (hard links); who opens it by another one has another lock"
        yield _whole(WARNING, file, what, "use it by one name alone, and remove the others")
    yield from _of_sidecar(file, status)
    try:
        left, copies = images.images_of(file), images.copies_of(file)
        if left:
            time.sleep(_PAUSE)
            left = [image for image in left if system.is_there(image)]  # else swapped in meanwhile
    except OSError as error:
        what = f"its folder cannot be listed ({error.strerror}), so copies beside it are not seen"
        yield _whole(NOTE, file, what, "nothing, if that is as it should be")
        return
    for image in left:
        what_to_do = "nothing: it is used up or removed; if it stays while no program runs, remove it"
        yield _whole(NOTE, image, "is an image that a killed program left (or one writes just now)", what_to_do)
    for copy in copies:
        what_to_do = "look at it, take from it what is missing, and remove it"
        yield _whole(NOTE, copy, "was kept because an edit, or damage, would have lost it", what_to_do)


def _of_sidecar(file: str, state: os.stat_result) -> Iterator[Finding]:
    path = sidecar_path(file)
    status = _status(path, follow=False)
    if status is None:
        return  # none: who opens the state creates it
    if not stat.S_ISREG(status.st_mode):
        yield _whole(ERROR, path, "stands where the lock file should, and is no regular file", "remove it")
        return
    if system.WINDOWS:
        return
    fault = fault_of(status, state, os.path.dirname(file))
    if fault is not None:
        yield _whole(ERROR, path, f"the lock file {fault.what}", fault.what_to_do)
    mode, expected, unlike = stat.S_IMODE(status.st_mode), sidecar_mode(state), ""
    shared = status.st_gid == state.st_gid and mode & expected & 0o060 == 0o060
    if fault is None and status.st_uid != state.st_uid and not shared:
        unlike = "owner than the state, who may not be able to open it"
    elif status.st_gid != state.st_gid and expected & 0o060:
        unlike = "group than the state: who may write the state cannot open it"
    if unlike:
        yield _whole(WARNING, path, f"the lock file has another {unlike}", "give both the same")
    for wrong, what in (
        (mode & ~expected & 0o666, "who may not write the state could hold its lock for ever"),
        (expected & ~mode, "some who may write the state cannot open it"),
    ):
        if wrong:
            yield _whole(WARNING, path, f"the lock file's mode is {mode:03o}: {what}", f"set it to {expected:03o}")


def _status(path: str, *, follow: bool = True) -> os.stat_result | None:
    try:
        return system.status(path, follow=follow)
    except OSError:
        return None
