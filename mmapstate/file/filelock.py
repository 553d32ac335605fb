"""The lock: one for the threads of a process, one for the processes of a host; the only user of ``portalocker``.

The file lock is held on the sidecar (``<state file>-lock``), a file of its own that is never deleted: a lock on the
state file would go with each vacuum's rename, and on Windows keep other programs from reading it. Its descriptor is
never mapped: a map keeps a duplicate of its descriptor alive, and with it the lock, in a forked child.

flock belongs to the open file, which a fork shares: the child must close its descriptors (see `live.forks`), and must
not unlock, else it would unlock its parent. Who closes one otherwise unlocks it first: a child that another thread
forks in that moment has it open, too, and does not know of it.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from portalocker import portalocker as _portalocker

from mmapstate.errors import LockTimeout, closed
from mmapstate.file import host, system
from mmapstate.file.sidecar import open_sidecar
from mmapstate.live.forks import inherit

_FIRST_WAIT = 200e-6  # seconds; grows to the longest, jittered, so that waiting processes do not march in step
LONGEST_WAIT = 2e-3

EXCLUSIVE: Any = _portalocker.LockFlags.EXCLUSIVE | _portalocker.LockFlags.NON_BLOCKING
SHARED: Any = _portalocker.LockFlags.SHARED | _portalocker.LockFlags.NON_BLOCKING
UNLOCK: Any = _portalocker.LockFlags.UNBLOCK

if system.WINDOWS:
    from portalocker.exceptions import AlreadyLocked as _Contended
    from portalocker.exceptions import LockException as _Failed

    _locker: Any = _portalocker.MsvcrtLocker()  # type: ignore[attr-defined,unused-ignore]

    def _windows_lock(descriptor: int, operation: Any) -> None:
        """Take (`EXCLUSIVE`) or release (`UNLOCK`) a lock at once; raise BlockingIOError if somebody else has it."""
        try:
            if operation == UNLOCK:
                _locker.unlock(descriptor)
            else:
                _locker.lock(descriptor, operation)
        except _Contended as error:
            raise BlockingIOError(f"somebody else has the lock: {error}") from error
        except _Failed as error:
            raise OSError(f"the lock cannot be had, or be released: {error}") from error

    file_lock: Any = _windows_lock

else:
    # portalocker's own function for the platform (flock), called directly: `portalocker.lock` spends 8 us on checks.
    file_lock = _portalocker.FlockLocker().locker
    EXCLUSIVE, SHARED, UNLOCK = int(EXCLUSIVE), int(SHARED), int(UNLOCK)


def new_thread_lock() -> Any:
    """Return a re-entrant lock that can tell, by ``_is_owned``, whether the asking thread holds it."""
    return threading.RLock()  # has told threading.Condition so since Python 2; typeshed does not know


class FileLock:
    """Thread lock and file lock, acquired together in this order.

    ``held`` tells that the file lock is, or may be, ours: it is set before the system is asked, so that an interrupt
    in between never leaves a lock that nobody releases. ``whole`` tells that the thread with the thread lock has the
    file lock, too, and what it calls can join it: not so for a signal handler that comes in between. ``busy`` tells
    that this thread is inside a change, and must not start another one.
    """

    def __init__(self, path: str, descriptor: int, file: str) -> None:
        self.path = path
        self.file = file
        self.descriptor = descriptor
        self.inode = 0
        self.held = self.whole = self.kept = self.closed = self.busy = False
        self.attended = False  # whether the sidecar says that this process has the state open
        self._renew()
        inherit(self)
        self._know(descriptor)

    def _renew(self) -> None:
        self.thread = new_thread_lock()
        self.owned: Callable[[], bool] = self.thread._is_owned  # as threading.Condition asks: is it this thread's?

    def _know(self, descriptor: int) -> None:
        try:
            self.inode = system.image_of(descriptor).inode
        except BaseException:
            self._close()  # it was given away
            raise

    def acquire(
        self,
        timeout: float | None,
        meanwhile: Callable[[float], object] = bool,
        patience: float | None = None,
    ) -> None:
        """Take both locks within `timeout` seconds (None: wait for ever); raise `LockTimeout` otherwise.

        While another process has the file lock `meanwhile` is called now and then, with the seconds waited so far. It
        is given up after `patience` seconds, if that is less.
        """
        if patience is None or (timeout is not None and timeout < patience):
            patience = timeout
        thread = self.thread
        if not thread.acquire(False):
            self._acquire_thread(timeout)
        if self.kept:
            return
        if self.descriptor < 0:
            self.open_again()
        self.held = True
        if not try_lock(self.descriptor):
            try:
                self._wait(self.descriptor, patience, meanwhile)
            except LockTimeout:
                self.held = False
                raise
        self.whole = True

    def take(self) -> bool:
        """Take both locks if nobody has them, this thread neither; return False otherwise. `free` must follow.

        Not `whole`: what a signal handler calls shall not join it.
        """
        if not self.thread.acquire(False):
            return False
        if not self.kept:
            if self.descriptor < 0:
                return False
            self.held = True
            try:
                file_lock(self.descriptor, EXCLUSIVE)
            except BlockingIOError:
                return False
        self.busy = True
        return True

    def begin(self) -> None:
        """Be inside a change: with the locks."""
        self.busy = True

    def settle(self) -> None:
        """Be inside no change: with the locks, or in a forked child, where the thread that was is no more."""
        self.busy = False

    def end(self) -> None:
        """Be inside no change any more, if this thread has the locks; else another one has, and may be."""
        if self.owned():
            self.busy = False

    def free(self) -> None:
        """Release what this thread holds of the two, where an interrupt has it called again.

        It needs no more stack than `take`, and no memory: neither a RecursionError nor a MemoryError that sends a
        thread here can keep it from being done. Nor does it raise: what was done under the lock is done.
        """
        if self.owned():
            self.busy = False
            if self.held and not self.kept:
                whole, self.whole = self.whole, False
                try:
                    file_lock(self.descriptor, UNLOCK)
                except OSError:
                    if whole or not system.WINDOWS:
                        self.drop()
                    else:  # there it can be that somebody else had the lock; or a signal handler raised it, before
                        unlock(self.descriptor)
                self.held = False
            self.thread.release()

    def release(self) -> None:
        """Release what this thread holds of the two, also where an interrupt comes just now."""
        try:
            self.free()
        except BaseException:
            self.free()
            raise

    def release_all(self) -> None:
        """Release them twice: an interrupt may have hit the release itself, which then does nothing the first time."""
        try:
            self.release()
        finally:
            self.release()

    def drop(self) -> None:
        """Close the descriptor, where the system refuses to unlock it (ENOLCK): that frees the lock in any case.

        What was done under the lock is done: it must not be an error of who did it. The next one opens it anew.
        """
        self._close()

    def open_again(self) -> None:
        """Open the sidecar where it is not open, as after `drop` and `forget`; `inode` may be another one then."""
        if self.closed:  # while this thread waited
            raise closed(self.file)
        if self.descriptor >= 0:
            return
        self.descriptor = open_sidecar(self.path)
        self._know(self.descriptor)

    def is_in_place(self) -> bool:
        """Return whether the file that is locked is the one at its path: if not, others may lock another one."""
        found = system.path_image(self.path)
        return found is not None and found.inode == self.inode

    def attend(self, *, exclusively: bool = False) -> bool:
        """Have the sidecar say that this process has the state open; return False if that is not to be had now."""
        if not self.attended and self.descriptor >= 0:
            self.attended = host.say_open(self.descriptor, alone=exclusively)
        return self.attended

    def is_only(self) -> bool:
        """Return whether no other process says so. Under the file lock."""
        alone = host.say_open(self.descriptor, alone=True)
        return host.say_open(self.descriptor) and alone

    def leave(self) -> None:
        """Have the sidecar say so no longer."""
        self.attended = False
        if self.descriptor >= 0:
            host.say_closed(self.descriptor)

    def keep(self) -> None:
        """Keep the file lock from now on, until `close`: `release` frees the thread lock alone."""
        self.kept = True

    def successor(self, timeout: float | None) -> FileLock:
        """Return the lock of the sidecar that stands at the path by now, its file lock taken; made if there is none.

        Its thread lock is not taken: `replace_by` makes it this one's. Raises `LockTimeout`.
        """
        while True:
            new = FileLock(self.path, open_sidecar(self.path), self.file)
            try:
                if not try_lock(new.descriptor):
                    new._wait(new.descriptor, timeout, bool)
                new.held = True
                if new.is_in_place():
                    return new
            except BaseException:
                new.close()
                raise
            new.close()

    def replace_by(self, new: FileLock) -> None:
        """Go on with the file of `new`, which is locked; free the old one."""
        self.attended = False
        self.descriptor, new.descriptor = new.descriptor, self.descriptor
        self.inode = new.inode
        new.close()

    def forget(self) -> None:
        """In a forked child: close the inherited descriptor without unlocking, and start with a fresh thread lock."""
        self._close()
        self.held = self.whole = False  # busy it stays: whether memory is whole, its owner judges by it
        self._renew()

    def close(self) -> None:
        """Free the lock, and close the descriptor."""
        self.closed = True
        if self.held and self.descriptor >= 0:
            unlock(self.descriptor)
        self._close()
        self.held = self.whole = self.kept = False

    def _close(self) -> None:
        # Forgotten first: its number may be another file's a moment later, and a fork or an interrupt can come between.
        self.attended = False
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            system.close(descriptor)

    def _acquire_thread(self, timeout: float | None) -> None:
        if not self.thread.acquire(True, -1 if timeout is None else max(timeout, 0)):
            raise LockTimeout(
                f"{self.file}: another thread of this process held the state for more than {timeout} s; "
                "shorten what it does there, or open the state with a larger timeout"
            )

    def _wait(self, descriptor: int, timeout: float | None, meanwhile: Callable[[float], object]) -> None:
        start = time.monotonic()
        deadline = None if timeout is None else start + timeout
        wait = _FIRST_WAIT
        while True:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LockTimeout(
                        f"{self.file}: another process held the lock for more than {timeout} s (a stopped program? "
                        f"a state opened with exclusive=True?); end it, or open the state with a larger timeout"
                    )
                wait = min(wait, left)
            time.sleep(wait * random.uniform(0.5, 1))
            meanwhile(time.monotonic() - start)
            if try_lock(descriptor):
                return
            wait = min(wait * 1.5, LONGEST_WAIT)


def unlock(descriptor: int) -> None:
    """Release a lock on an open file, if there is one."""
    with contextlib.suppress(OSError):  # Windows refuses to unlock what is not locked
        file_lock(descriptor, UNLOCK)


def try_lock(descriptor: int, operation: Any = EXCLUSIVE) -> bool:
    """Take a lock on an open file at once; return False if somebody else has it."""
    try:
        file_lock(descriptor, operation)
    except BlockingIOError:
        return False
    return True
