"""Who has a state open: a shared lock on the state file itself, of each process that may write to it."""

from __future__ import annotations

import functools

from mmapstate.file import forks, system
from mmapstate.file.filelock import EXCLUSIVE, SHARED, try_lock, unlock
from mmapstate.live.forks import inherit


class Presence:
    """A shared lock on the state file's inode, held while a process has the state open (POSIX).

    Who can get it exclusively is the only one. On a descriptor of its own: a map keeps a duplicate of its descriptor.
    On Windows there is none: there the system itself refuses to replace a file that somebody else has open.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        self.inode = 0
        inherit(self)

    def take(self, path: str, *, exclusively: bool = False) -> bool:
        """Be present on the inode at `path`, leaving the former one. Return False if that is not to be had.

        It stays present on the former one then, if that is another.
        """
        if system.REPLACE_NEEDS_UNMAPPED:
            return True
        new = Presence()
        try:
            new.descriptor = forks.alone(functools.partial(system.open_regular, path, write=False))
        except FileNotFoundError:  # deleted a moment ago: who looks next finds out
            return False
        try:
            inode = system.image_of(new.descriptor).inode
            if inode == self.inode:  # as its own other lock would be in the way
                self.leave()
            taken = try_lock(new.descriptor, EXCLUSIVE if exclusively else SHARED)
            found = system.path_image(path) if taken else None
            taken = found is not None and found.inode == inode  # else it was replaced before it was locked
        except BaseException:
            new.leave()
            raise
        if not taken:
            new.leave()
            return False
        self.leave()
        self.descriptor, new.descriptor = new.descriptor, -1
        self.inode = inode
        return True

    def become_only(self) -> bool:
        """Be present alone, so that no other process can be until this one leaves; return False if others are.

        Then this one is present no longer: the system drops the lock before it looks who has another one.
        """
        alone = try_lock(self.descriptor)
        if not alone:
            self.leave()
        return alone

    def leave(self) -> None:
        """Be no longer present."""
        if self.descriptor >= 0:
            unlock(self.descriptor)
        self.forget()

    def forget(self) -> None:
        """In a forked child: not be present, which the parent still is."""
        descriptor, self.descriptor, self.inode = self.descriptor, -1, 0
        if descriptor >= 0:
            system.close(descriptor)
