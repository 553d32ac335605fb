"""Go on under another lock file, where somebody has deleted or replaced the one in use."""

from __future__ import annotations

import time

from mmapstate.file.filelock import FileLock
from mmapstate.file.mapped import page_behind
from mmapstate.file.page import HeaderPage
from mmapstate.file.replica import Replica

LONGEST_MOVE = 1.0  # seconds after which nobody commits any more under a lock file that was deleted


def locked_page(lock: FileLock, timeout: float | None) -> HeaderPage:
    """Return the page of the lock file that stands at its path; the lock that this thread has is that file's then."""
    while True:
        page = page_behind(lock.path, lock.descriptor, lock.inode)
        if page is not None:
            return page
        lock.replace_by(lock.successor(timeout))


def check_lock_file(replica: Replica, timeout: float | None) -> None:
    """Go on with the lock file that stands at its path, if that is another one. Under the locks."""
    lock, old, cursor = replica.locks.lock, replica.page, replica.cursor
    if old.inode == lock.inode and lock.is_in_place():
        return
    if old.inode != lock.inode:  # opened anew, as an unlock failed, and locked: what the old page says may be old
        cursor.use_page(_started(locked_page(lock, timeout), replica.boot))
    else:
        new, page = _successor(old, lock, replica.boot, timeout)
        # Not before the new page can be used: others would wait for that in vain. And before anybody else can have
        # the old lock: who gets that looks closely, and comes here.
        old.moved_on = True
        old.dirty = True
        cursor.use_page(page)
        lock.replace_by(new)
    lock.attend(exclusively=replica.locks.exclusive)
    old.close()  # not before: readers in other threads ask it


def _successor(old: HeaderPage, lock: FileLock, boot: bytes, timeout: float | None) -> tuple[FileLock, HeaderPage]:
    """Return the lock and the page of the lock file that stands at the path, locked, and a page that can be used.

    The first to leave the old page has its lock, and takes along what that says: no newcomer was let in since, as
    this one is present. Whoever comes later may find that the new lock file is gone, too: then the others, who may be
    committing under that, have to be the first to leave it. They look every 50 ms.
    """
    deadline = time.monotonic() + LONGEST_MOVE
    while True:
        new = lock.successor(timeout)
        try:
            page = page_behind(new.path, new.descriptor, new.inode)
            if page is not None:
                if page.is_usable(boot):
                    return new, page
                if not old.moved_on and old.is_usable(boot):
                    page.take_over(old)
                    return new, page
                if time.monotonic() >= deadline:
                    return new, _started(page, boot)
                page.close()
        except BaseException:
            new.close()
            raise
        new.close()
        time.sleep(0.01)


def _started(page: HeaderPage, boot: bytes) -> HeaderPage:
    if not page.is_usable(boot):
        page.initialise(boot)
    return page
