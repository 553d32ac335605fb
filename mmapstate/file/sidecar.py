"""The sidecar as a file: where it is, whose it is, and what in its place is none of ours.

Anybody who can read a file can hold a lock on it for ever, and anybody who can write it can mislead the others. So only
those who may write the state can open the sidecar, and it is used only if one of them made it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import NamedTuple

from mmapstate.errors import StateError
from mmapstate.file import forks, host, system
from mmapstate.file.format import PAGE_SIZE
from mmapstate.file.page import BOOT, DIRTY, MAGIC

_SUFFIX = "-lock"
_GROUP = 0o070
_STORED_FIRST = {DIRTY, *range(BOOT.start, BOOT.stop)}


def sidecar_path(path: str) -> str:
    """Return the path of the sidecar. Not ``.lock``: shell idioms such as ``9>state.lock`` truncate that name."""
    return path + _SUFFIX


def open_sidecar(path: str, state: os.stat_result | None = None) -> int:
    """Return a descriptor of the sidecar at `path`, created if need be: for those alone who may write the state.

    `state` is what the system says of the state file (default: it is asked). Where there is none yet, those count who
    may write the file that this process would create. Raises OSError, which names the state file: it is what the user
    knows of; and `StateError` where something else than a sidecar stands there, to which nothing is done.
    """
    file = path.removesuffix(_SUFFIX)
    try:
        like = system.status(file) if state is None else state
        return forks.alone(lambda: _open_or_create(path, like))
    except OSError as error:
        raise _explained(error, path, file) from error


def _open_or_create(path: str, state: os.stat_result | None) -> int:
    while True:
        made = False
        try:
            descriptor = system.open_regular(path, write=True, follow=False)
        except FileNotFoundError:
            try:
                # Who may write a new state, the umask tells: the system applies it here. Nobody else can read this yet.
                descriptor = system.create(path, 0o600 if state is not None else 0o622)
            except FileExistsError:
                continue
            made = True
        try:
            if made:
                host.write_in_place(path, descriptor)
                _make_like(descriptor, state or system.status_of(descriptor))
            else:
                _refuse_another(descriptor, path, state)
        except BaseException:  # no ExitStack, which needs memory to close it
            system.close(descriptor)
            raise
        return descriptor


# --- Whose it is ------------------------------------------------------------------------------------------------------


def sidecar_mode(state: os.stat_result) -> int:
    """Return the mode that the sidecar of the state file `state` should have: for those alone who may write that."""
    writers = state.st_mode & 0o222
    return writers | writers << 1 or 0o600  # none: for who may write whatever the mode says


def adjust(descriptor: int, state: os.stat_result) -> None:
    """Have an open sidecar follow the state file, which may have got another owner, group or mode since, if we may."""
    now = system.status_of(descriptor)
    if system.WINDOWS or system.user() not in (0, now.st_uid):
        return
    if (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) != (state.st_uid, state.st_gid, sidecar_mode(state)):
        with contextlib.suppress(OSError):  # those who cannot open it are told
            _make_like(descriptor, state)


def _make_like(descriptor: int, state: os.stat_result) -> None:
    mode = sidecar_mode(state)
    try:
        system.keep_owner(descriptor, state)
    except PermissionError:  # it is another user's; but whoever writes it by a group of ours is to have the lock, too
        try:
            system.keep_group(descriptor, state)
        except PermissionError:
            mode = mode & ~_GROUP | (mode & 0o007) << 3  # for another group no more than for everybody
    system.set_mode(descriptor, mode)


# --- What else can stand there ----------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """Why a file is not used as sidecar, and what to do."""

    what: str
    what_to_do: str


def fault_of(sidecar: os.stat_result, state: os.stat_result | None, folder: str) -> Fault | None:
    """Return what is wrong with the file that stands where the sidecar should, by what the system says of it.

    `state` is the state file if there is one, and `folder` where it is. None: nothing is wrong.
    """
    if sidecar.st_nlink > 1:
        what = f"has {sidecar.st_nlink} names (hard links): it may be another file, too"
        return Fault(what, "stop the programs that use the state, and remove this name: they make a new one")
    if system.WINDOWS or sidecar.st_uid in (0, system.user()):
        return None
    where = system.status(folder) if state is None else state
    if where is None or _may_write(sidecar, where):
        return None
    what = f"belongs to user {sidecar.st_uid}, who may not write the state, and could hold the lock for ever"
    return Fault(what, "stop the programs that use the state, and remove it, or give it to the owner of the state")


def _may_write(owned: os.stat_result, file: os.stat_result) -> bool:
    """Return whether the owner of one file may write another one, or may have any name in a folder, by its mode.

    Of groups the one alone is known that he has given to his file.
    """
    if owned.st_uid == file.st_uid:
        return True
    if stat.S_ISDIR(file.st_mode) and file.st_mode & stat.S_ISVTX:
        return False
    return bool(file.st_mode & 0o002 or (file.st_mode & 0o020 and owned.st_gid == file.st_gid))


def may_be_page(data: bytes) -> bool:
    """Return whether `data` is what a sidecar begins with: of any version, or killed while it was first written to.

    Of a file that is larger than a page, `data` is more than a page.
    """
    if data.startswith(MAGIC[:-1]):
        return True
    return len(data) <= PAGE_SIZE and all(
        place in _STORED_FIRST or MAGIC[place : place + 1] == bytes((byte,))  # in whatever order
        for place, byte in enumerate(data)
        if byte
    )


def _refuse_another(descriptor: int, path: str, state: os.stat_result | None) -> None:
    """Raise `StateError` where an open file is no sidecar, or one that is not to be trusted."""
    fault = fault_of(system.status_of(descriptor), state, os.path.dirname(path))
    if fault is None:
        try:
            if may_be_page(system.read(descriptor, 0, PAGE_SIZE + 1)):
                return
        except PermissionError:
            if system.WINDOWS:  # somebody has the lock, where others cannot read then
                return
            raise
        fault = Fault("is none of this library", "move it away, or remove it: it would be written over")
    file = path.removesuffix(_SUFFIX)
    raise StateError(f"{file}: what stands where its lock file must be, {path}, {fault.what}; {fault.what_to_do}")


def _explained(error: OSError, path: str, file: str) -> OSError:
    """Return the error of an open in words for who knows of the state file alone, and may not know why it is."""
    told = f"{error.strerror}, at its lock file {os.path.basename(path)}, which must be beside it"
    if error.errno in (errno.EACCES, errno.EPERM) and not system.WINDOWS:
        with contextlib.suppress(OSError):
            found = system.status(path, follow=False)
            if found is not None:
                told += (
                    f"; it belongs to user {found.st_uid} and group {found.st_gid} with mode "
                    f"{stat.S_IMODE(found.st_mode):03o}, and this process is user {system.user()}: give it the owner "
                    f"and group of the state ('mmapstate check {file}' tells more)"
                )
    return OSError(error.errno, told, file)
