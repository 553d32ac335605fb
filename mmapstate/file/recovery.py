"""What else can stand at the path: after a death, an external edit, damage, a deletion. Recovered from under the lock.

The page is dirty first. Whatever changes contents other than by appending ends in a new generation, announced last: so
a position never stands for two contents.
"""

from __future__ import annotations

import copy
import time
from typing import NoReturn
from zlib import crc32

from mmapstate.errors import DamagedStateError, StateError, StateFileError
from mmapstate.file import content, images, system
from mmapstate.file.compaction import NOTHING_THERE, Compaction
from mmapstate.file.format import Image, Marker, Position
from mmapstate.file.journal import Journal
from mmapstate.file.keeper import Keeper
from mmapstate.file.mapped import EditedMeanwhile, MappedFile
from mmapstate.file.page import UNKNOWN, HeaderPage
from mmapstate.file.relock import check_lock_file
from mmapstate.file.replica import OPEN, WRITE, Replica
from mmapstate.logger import log

SETTLING = 0.2  # seconds that size, inode and mtime of an edited file must have stood still
PATIENCE = 2.0  # seconds for an editor that emptied or removed the file to write it again
ENDLESS_EDIT = 30.0  # seconds; some program that is none of ours writes to the file all the time


class Recovery:
    """Finds out what stands at the path, whatever happened, and has the replica agree with it."""

    def __init__(self, replica: Replica, compaction: Compaction, keeper: Keeper) -> None:
        self.replica = replica
        self.compaction = compaction
        self.keeper = keeper
        self.path = replica.path
        self.fresh = False  # the page was, when this process opened the file: what is damaged, the power may have been
        self.refused: tuple[Image, StateFileError] | None = None

    @property
    def page(self) -> HeaderPage:
        """The header page in use."""
        return self.replica.page

    def begin(self, *, fresh: bool) -> None:
        """Say whether the page is `fresh`: nobody of this boot has written to it."""
        self.fresh = fresh

    def check_lock_file(self, timeout: float | None) -> None:
        """Go on with the lock file that stands at its path, if that is another one. Under the locks."""
        check_lock_file(self.replica, timeout)

    def recover(self, purpose: str, timeout: float | None) -> None:
        """Agree with what stands at the path. Under the locks and the guard."""
        replica = self.replica
        check_lock_file(replica, timeout)
        page = self.page
        page.release = False  # whoever asked for that has died: this thread has the lock
        if page.pending.generation:  # a vacuum's owner died: what it had not swapped in goes first
            system.remove(images.temporary_path(self.path, page.pending.generation))
        deadline = time.monotonic() + ENDLESS_EDIT
        while True:
            if time.monotonic() > deadline:
                raise StateFileError(f"{self.path}: keeps changing; stop the program that writes to it")
            found = system.path_image(self.path)
            if found is None or (found.size == 0 and self._has_state()):
                if self._wait_for_editor(purpose, found):
                    return
                continue
            replica.found_again()
            self._refuse_again(found)
            try:
                file = MappedFile.open(self.path)
            except FileNotFoundError:
                continue  # deleted since
            with replica.closed_unless_used(file):
                if self._accept(file, purpose):
                    return

    def _accept(self, file: MappedFile, purpose: str) -> bool:
        """Go on with `file`, if it is ours or an edit that can be read; return False to look again."""
        replica, page = self.replica, self.page
        try:
            data = file.read(0, file.size)
            if len(data) != file.size:
                return False
            parts = content.layout(data, self.path)
            if self._is_unborn_only(file, data, parts) and self._cut(file):
                return False
            accept = self._accept_own if self._is_ours(file, parts) else self._accept_edit
            return accept(file, data, parts) and self._leave_unsynced(purpose)
        except EditedMeanwhile:
            return False
        except StateFileError as error:
            page.dirty = True  # the others look closely too
            replica.cursor.look_again()
            replica.cursor.check_now()  # each access looks again, until it is mended
            self.refused = (file.image, error)
            if replica.has_file() and page.start >= 0:
                try:
                    self.keeper.keep(page.position)  # now: nobody may live to see it mended
                except OSError as failure:
                    log.warning("%s: the state before cannot be kept beside it: %s", self.path, failure)
            raise
        except OSError:  # as where what an edit supersedes finds no room: memory has it, and is not in doubt
            page.dirty = True
            replica.cursor.look_again()
            raise
        except BaseException:
            page.dirty = True
            replica.cursor.distrust()
            raise

    def _refuse_again(self, found: Image) -> None:
        """Raise the error of the last look again while the file is still the one that was refused."""
        if self.refused is not None:
            image, error = self.refused
            self.refused = None
            if image == found:
                self.refused = (image, error)
                raise copy.copy(error)  # without the traceback, which would grow

    def _has_state(self) -> bool:
        """Return whether this process, or the page, knows of a state that was in the file."""
        return self.replica.has_file() and (self.replica.file.size > 0 or self.page.position.tail > 0)

    # --- What this library wrote --------------------------------------------------------------------------------------

    def _is_ours(self, file: MappedFile, parts: content.Layout) -> bool:
        """Return whether this is the file that this library wrote last, by what the page knows of it."""
        page = self.page
        pending = page.pending
        if parts.marker is not None:
            known = {page.position.generation} | ({pending.generation} if pending.tail == file.inode else set())
            inodes = {page.image.inode, pending.tail}
            return bool(parts.intact and parts.marker.generation in known - {0} and file.inode in inodes)
        if parts.unborn or parts.foreign:
            return False
        as_left = file.image[:2] == page.image[:2] and parts.snapshot_crc == page.snapshot_crc
        return as_left or self._is_swapped(file)

    def _is_swapped(self, file: MappedFile) -> bool:
        """Return whether this is the image of a vacuum that has not been announced."""
        pending = self.page.pending
        return bool(pending.generation != 0 and pending.tail == file.inode != self.page.image.inode)

    def _is_unborn_only(self, file: MappedFile, data: bytes, parts: content.Layout) -> bool:
        """Return whether all that has changed is that a region was appended, and its writer died before its birth."""
        page = self.page
        rest = page.image.size
        at_rest = page.start < 0 and file.inode == page.image.inode
        as_left = at_rest and rest < file.size and crc32(data[:rest]) == page.snapshot_crc
        return as_left and parts.unborn and b"\0" not in data[rest:]

    def _cut(self, file: MappedFile) -> bool:
        """Cut off the region; return False where that is refused: on Windows, while anybody has the file mapped."""
        try:
            system.truncate(file.descriptor, self.page.image.size)
        except OSError:
            if not system.WINDOWS:
                raise
            return False
        return True

    def _accept_own(self, file: MappedFile, data: bytes, parts: content.Layout) -> bool:
        """Go on with our own file: replay what a dead writer committed, clear what it left. False: look again."""
        replica, page, found, scan = self.replica, self.page, parts.marker, parts.scan
        if found is None or scan is None:
            return self._accept_own_at_rest(file, data, parts)
        announced = page.position if page.position.generation == found.generation else None
        if scan.bad >= 0 or (announced is not None and scan.tail < announced.tail):
            if scan.bad < 0 or not any(replica.boot):
                # The tail went back: an older copy was put in its place. Or nobody tells whether the power failed.
                return self._accept_edit(file, data, parts)
            self._damaged(data, scan.bad)
        if not scan.clean and data[scan.tail : scan.tail + 1] != b"#":
            return self._accept_edit(file, data, parts)  # slack cut short by an editor, or NULs
        page.dirty = True
        journal = Journal.begun(file, found)
        keep = self._can_keep(found)
        if keep is None:
            self.rebuild(data, parts)
            journal.stand(scan.tail, scan.crc)
        elif keep.generation == found.generation:
            journal.stand(keep.tail, replica.journal.crc)
        replica.stand_on(file, journal)
        if journal.tail != scan.tail and not replica.follow(scan.tail):
            replica.cursor.distrust()
            return False
        if not scan.clean:
            if file.size > page.image.size and file.inode == page.image.inode:
                log.warning("%s: removed what another program added to the comment at its end", self.path)
            journal.blank(scan.tail + 1, file.size)
        replica.announce(found.origin)
        return True

    def _accept_own_at_rest(self, file: MappedFile, data: bytes, parts: content.Layout) -> bool:
        replica, page = self.replica, self.page
        swapped = self._is_swapped(file)  # and its owner died then
        generation = page.pending.generation if swapped else page.position.generation
        journal = Journal.at_rest(file, generation, parts.snapshot_crc)
        page.dirty = True
        if replica.cursor.unsure or replica.cursor.epoch & 1 or not replica.stood_at(journal.position):
            self.rebuild(data, parts)
        replica.stand_on(file, journal)
        replica.announce(None if swapped or page.origin.generation == 0 else page.origin)
        return True

    def _can_keep(self, found: Marker) -> Position | None:
        """Return the position from which memory can follow the journal that `found` begins; None: rebuild."""
        replica, journal = self.replica, self.replica.journal
        if replica.cursor.unsure or replica.cursor.epoch & 1 or not replica.has_file():
            return None
        if journal.generation == found.generation:
            return journal.position
        origin = found.origin
        if origin is not None and origin.generation == journal.generation and origin.tail > journal.tail:
            replica.follow(origin.tail)
        return journal.position if journal.position == origin else None

    def rebuild(self, data: bytes, parts: content.Layout) -> None:
        """Read the state from the file's bytes into the live tree; containers that are still there stay the same."""
        state = content.read(data, parts, self.path).state
        content.check(data, parts, state, self.replica.memory.schemas, self.path)
        self.keeper.keep_earlier()
        self.replica.replace_contents(state)

    def rebuild_without_lock(self) -> bool:
        """Rebuild memory from the file at the path, without the lock, if programs of this library have written that.

        Under the guard. What a vacuum has swapped in and not announced is what was announced, in another form.
        """
        page = self.page
        try:
            file = MappedFile.open(self.path)
        except (OSError, StateError):
            return False
        with self.replica.closed_unless_used(file):
            data = file.read(0, file.size)
            try:
                parts = content.layout(data, self.path)
                if len(data) != file.size or not self._is_ours(file, parts):
                    return False
                if parts.scan is None:
                    generation = (page.pending if self._is_swapped(file) else page.position).generation
                    journal = Journal.at_rest(file, generation, parts.snapshot_crc)
                elif parts.marker is None or parts.scan.bad >= 0:
                    return False
                else:
                    journal = Journal.begun(file, parts.marker)
                    if page.position.generation == journal.generation:  # what is not announced may be rolled back yet
                        data = data[: page.position.tail]
                        parts = content.layout(data, self.path)
                self.rebuild(data, parts)
            except StateFileError:
                return False
            if parts.scan is not None:
                journal.stand(parts.scan.tail, parts.scan.crc)
            self.replica.stand_on(file, journal)
        return True

    def _damaged(self, data: bytes, offset: int) -> NoReturn:
        line = data.count(b"\n", 0, offset) + 1
        error = DamagedStateError(
            f"{self.path}, line {line}, offset {offset}: the journal was changed there since programs wrote it, or "
            "text was added behind it; no crash of a program does that. Nothing was overwritten. Stop the programs, "
            "then put back a good copy, or run 'mmapstate repair', which keeps the file as it is now"
        )
        raise error.at("the journal was changed there", line=line, offset=offset)

    def _leave_unsynced(self, purpose: str) -> bool:
        """After a failed sync nobody commits to that file any more. Returns False: look again."""
        if not self.page.sync_failed:
            return True
        if purpose != WRITE:
            self.page.dirty = True  # whoever writes next comes here
            return True
        try:
            written = self.compaction.vacuum(images.region_size(self.replica.journal.snapshot_end, 0, 0))
        except EditedMeanwhile:
            return False
        if not written:
            raise StateError(f"{self.path}: a sync failed, and the system refuses to replace the file; free the disk")
        return True

    # --- What somebody else put there ---------------------------------------------------------------------------------

    def _accept_edit(self, file: MappedFile, data: bytes, parts: content.Layout) -> bool:
        """Take over what somebody else put at the path, once it stands still. Returns False: look again."""
        replica = self.replica
        if not self._stands_still(file, data):
            return False
        self._keep_lost_bytes(data, parts)
        state = content.read(data, parts, self.path).state
        content.check(data, parts, state, replica.memory.schemas, self.path)
        superseded = self.keeper.supersede(parts)
        page = self.page
        page.dirty = True
        page.layout = UNKNOWN
        page.supersede(superseded)
        replica.replace_contents(state)
        journal = Journal.at_rest(file, images.new_generation(page.position.generation), parts.snapshot_crc)
        replica.stand_on(file, journal)
        if parts.marker is None and not parts.unborn and not parts.foreign:
            replica.announce(None)
            return True
        try:
            before = content.snapshot_in(data, parts)
            if self.compaction.vacuum(0, origin_known=False, expected=file.image, before=before):
                return True
        except EditedMeanwhile:
            replica.cursor.distrust()
            return False
        replica.cursor.distrust()
        raise StateFileError(
            f"{self.path}: was edited while it had a journal, and the system refuses to replace it; stop all programs "
            "that use it, and remove the lines from '--- # mmapstate journal' on"
        )

    def _keep_lost_bytes(self, data: bytes, parts: content.Layout) -> None:
        """Keep a copy of what an edit, or a file that lay there when the machine started, holds and nobody reads."""
        if parts.scan is not None and parts.scan.bad >= 0:
            if not self.fresh and any(self.replica.boot):
                self._damaged(data, parts.scan.bad)
            self.keeper.keep_damaged(data, parts.scan.bad)
        elif parts.scan is not None and not parts.scan.clean and self.fresh:
            self.keeper.keep_dropped(data, parts)
        elif parts.unborn and b"\0" in data[parts.snapshot_end :]:  # changes may have stood there
            self.keeper.keep_damaged(data, parts.snapshot_end)

    def _stands_still(self, file: MappedFile, data: bytes) -> bool:
        """Wait until size, inode, times and bytes have not changed for a while; return False when they have."""
        if system.may_be_young(file.image, SETTLING):
            time.sleep(SETTLING)
            if file.read(0) != data:
                return False
        return system.path_image(self.path) == file.image

    def _wait_for_editor(self, purpose: str, found: Image | None) -> bool:
        """The file is missing or empty: return True when that is over, False to look again."""
        replica = self.replica
        if purpose == OPEN and not replica.has_file():
            try:
                self._create()
            except FileExistsError:
                return False  # it appeared meanwhile
            return True
        if purpose != WRITE:
            return True  # what is read is the last state; close never writes the file anew
        if replica.missing_for() < PATIENCE:
            time.sleep(0.01)
            return False
        self._catch_up_with_deleted()
        try:
            written = self.compaction.vacuum(
                images.region_size(0, 0, 0), origin_known=False, expected=found or NOTHING_THERE
            )
        except EditedMeanwhile:
            return False
        if not written:
            raise StateFileError(f"{self.path}: the file was deleted and cannot be written anew; stop the program")
        log.warning("%s: was %s while in use; written anew", self.path, "emptied" if found else "deleted")
        replica.found_again()
        return True

    def _catch_up_with_deleted(self) -> None:
        """Follow what was committed to the file that is gone; raise `StateFileError` where that cannot be had."""
        replica, last = self.replica, self.page.position
        # The file that was deleted is still open here.
        if not replica.cursor.unsure and last.generation and replica.journal.generation != last.generation:
            replica.move_over(last)
        journal = replica.journal
        if not replica.cursor.unsure and journal.generation == last.generation and journal.tail < last.tail:
            replica.follow(last.tail)
        if replica.cursor.unsure or (last.generation and not replica.stood_at(last)):
            raise StateFileError(
                f"{self.path}: the file is gone, and this process has not seen all that others changed in it; let one "
                "of them write, or put the file back, or close the state and open it anew"
            )

    def _create(self) -> None:
        """Create the state file, empty: exclusively, never in place of one that appeared meanwhile."""
        replica, page = self.replica, self.page
        system.close(system.create(self.path))
        if self.compaction.power:
            system.sync_folder(self.path)
        file = MappedFile.open(self.path)
        with replica.closed_unless_used(file):
            page.dirty = True
            if page.start >= 0:
                page.supersede(page.position)  # it was deleted while others use it: they keep what it held
            crc = crc32(file.read(0, file.size))
            replica.stand_on(file, Journal.at_rest(file, images.new_generation(page.position.generation), crc))
            replica.announce(None)
