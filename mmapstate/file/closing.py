"""How a process leaves a state file: at rest, if it is the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmapstate.errors import StateError
from mmapstate.file import system
from mmapstate.file.compaction import Compaction
from mmapstate.file.replica import CLOSE, Replica
from mmapstate.logger import log

if TYPE_CHECKING:
    from mmapstate.file.joining import Joining
    from mmapstate.file.writer import Writer


class Closing:
    """Closes the files of a replica."""

    def __init__(self, replica: Replica, compaction: Compaction) -> None:
        self.replica = replica
        self.locks = replica.locks
        self.compaction = compaction
        self.path = replica.path

    def close_files(self, timeout: float | None) -> None:
        """Close all files, once no thread is in the middle of a change.

        One that is there for longer than `timeout` seconds does it itself, at its end. Each that comes later finds
        `closed` set.
        """
        lock = self.locks.lock
        if (lock.closed and lock.descriptor < 0) or not lock.thread.acquire(True, -1 if timeout is None else timeout):
            return
        try:
            self._close_now()
        except BaseException:  # an interrupt: nobody else would do it
            self._close_now()
            raise
        finally:
            lock.thread.release()

    def _close_now(self) -> None:
        with self.locks.guard:
            self.replica.close()
            self.locks.lock.close()

    def rest(self, writer: Writer, joining: Joining) -> None:
        """Compact the file if no other process has it open, and be no longer one that has.

        What goes wrong is logged: nothing is lost by it. A later access, as of another handler at exit, still works.
        """
        # Who leaves a deleted lock file for another one does so before it closes: others wait for that.
        self.replica.cursor.check_now()
        try:
            writer.locked(CLOSE, self._rest_if_last, (joining,))
        except (StateError, OSError) as error:
            log.warning("left without compacting it: %s", error)

    def _rest_if_last(self, joining: Joining) -> None:
        with self.locks.guard:
            try:
                self._compact_if_last(joining)
            finally:  # under the lock: of two that end at the same time the second must not see the first, too
                self.replica.cursor.look_again()
                self.locks.presence.leave()
                self.locks.lock.leave()
                if system.REPLACE_NEEDS_UNMAPPED:
                    self.replica.leave()

    def _compact_if_last(self, joining: Joining) -> None:
        file, found = self.replica.file, system.path_image(self.path)
        if found is None or found[:2] != (file.inode, file.size):
            # Not ours to write: only a commit writes it anew. Or an editor is half-way.
            log.warning("%s: was %s while in use; left so", self.path, "deleted" if found is None else "changed")
            return
        if self.replica.journal.start >= 0 and joining.is_last():
            self.compaction.to_rest()
