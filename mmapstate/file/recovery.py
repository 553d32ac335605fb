"""What else can stand at the path: after a death, an edit by hand, damage, a deletion. Settled under the lock.

The page is marked unsettled first. Whatever changes contents other than by appending ends in a new generation,
announced last: so a position never stands for two contents.
"""

from __future__ import annotations

import copy
import time
from typing import NoReturn
from zlib import crc32

from mmapstate.errors import DamagedStateError, StateError, StateFileError
from mmapstate.file import content, images, system
from mmapstate.file.compaction import NOTHING_THERE, Vacuum, new_generation
from mmapstate.file.format import DOUBTFUL, LAYOUT, LET_GO, MOVED_ON, UNKNOWN, Image, Marker, Position, is_blank
from mmapstate.file.journal import Journal
from mmapstate.file.locks import StoreLock
from mmapstate.file.mapped import ControlPage, EditedMeanwhile, MappedFile
from mmapstate.file.replica import OPEN, UNSEEN, WRITE
from mmapstate.live import tree
from mmapstate.logger import log
from mmapstate.text import snapshot

__all__ = ["Surprises"]

SETTLING = 0.2  # seconds that size, inode and mtime of an edited file must have stood still
PATIENCE = 2.0  # seconds for an editor that emptied or removed the file to write it again
LONGEST_MOVE = 1.0  # seconds after which nobody commits any more under a lock file that was deleted
ENDLESS_EDIT = 30.0  # seconds; some program that is none of ours writes to the file all the time


class Surprises(Vacuum):
    """A picture that can find out what stands at the path, whatever happened, and agree with it."""

    refused: tuple[Image, StateFileError] | None = None
    joined_at = Position(0, 0)  # where this process stood when it had opened the file

    def _settle(self, purpose: str) -> None:
        """Find out what stands at the path, whatever happened, and agree with it. Under the locks and the guard."""
        self._look_at_sidecar()
        self.page_bytes[LET_GO] = 0  # whoever asked for that has died: this thread has the lock
        if self.page.pending.generation:  # a vacuum's owner died: what it had not swapped in goes first
            system.remove(images.temporary_path(self.path, self.page.pending.generation))
        deadline = time.monotonic() + ENDLESS_EDIT
        while True:
            if time.monotonic() > deadline:
                raise StateFileError(f"{self.file}: keeps changing; stop the program that writes to it")
            found = system.path_image(self.path)
            if found is None or (found.size == 0 and self._has_state()):
                if self._wait_for_editor(purpose, found):
                    return
                continue
            self.missing_since = None
            self._refuse_again(found)
            try:
                file = MappedFile.open(self.path)
            except FileNotFoundError:
                continue  # deleted since
            with self._closed_unless_used(file):
                try:
                    data = file.read(0, file.size)
                    if len(data) != file.size:
                        continue
                    parts = content.layout(data, self.file)
                    if self._is_unborn_only(file, data, parts) and self._cut(file):
                        continue
                    if self._is_ours(file, parts):
                        settled = self._settle_own(file, data, parts)
                    else:
                        settled = self._adopt(file, data, parts)
                    if settled and self._vacuum_if_doubtful(purpose):
                        return
                except EditedMeanwhile:
                    continue
                except StateFileError as error:
                    self.page.unsettled = True  # the others look closely too
                    self.seen, self.due = UNSEEN, 0.0  # each access looks again, until it is mended
                    self.refused = (file.image, error)
                    if self._has_file() and self.page.start >= 0:
                        try:
                            self._keep_superseded(self.page.position)  # now: nobody may live to see it mended
                        except OSError as failure:
                            log.warning("%s: the state before cannot be kept beside it: %s", self.file, failure)
                    raise
                except OSError:  # as where what an edit supersedes finds no room: memory has it, and is not in doubt
                    self.page.unsettled = True
                    self.seen = UNSEEN
                    raise
                except BaseException:
                    self.page.unsettled = True
                    self._begin_unsure()
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
        known = self.page.position
        return self._has_file() and (self.mapping.size > 0 or known.tail > 0)

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
        return pending.generation != 0 and pending.tail == file.inode != self.page.image.inode

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

    def _settle_own(self, file: MappedFile, data: bytes, parts: content.Layout) -> bool:
        """Go on with our own file: replay what a dead writer committed, clear what it left. False: look again."""
        page, found, scan = self.page, parts.marker, parts.scan
        if found is None or scan is None:
            swapped = self._is_swapped(file)  # and its owner died then
            generation = page.pending.generation if swapped else page.position.generation
            journal = Journal.at_rest(file, generation, parts.snapshot_crc)
            page.unsettled = True
            if self.unsure or not self._stood_at(journal.position):
                self._rebuild(data, parts)
            self._stand_on(file, journal)
            self._announce(None if swapped or page.origin.generation == 0 else page.origin)
            return True
        announced = page.position if page.position.generation == found.generation else None
        if scan.bad >= 0 or (announced is not None and scan.tail < announced.tail):
            if scan.bad < 0 or not any(self.boot):
                # The tail went back: an older copy was put in its place. Or nobody tells whether the power failed.
                return self._adopt(file, data, parts)
            self._damaged(data, scan.bad)
        if not scan.clean and data[scan.tail : scan.tail + 1] != b"#":
            return self._adopt(file, data, parts)  # slack cut short by an editor, or NULs
        page.unsettled = True
        journal = Journal.begun(file, found)
        keep = self._can_keep(found)
        if keep is None:
            self._rebuild(data, parts)
            journal.stand(scan.tail, scan.crc)
        elif keep.generation == found.generation:
            journal.stand(keep.tail, self.journal.crc)
        self._stand_on(file, journal)
        if journal.tail != scan.tail and not self._follow(scan.tail):
            self.unsure = True
            return False
        if not scan.clean:
            if file.size > page.image.size and file.inode == page.image.inode:
                log.warning("%s: removed what another program added to the comment at its end", self.file)
            journal.blank(scan.tail + 1, file.size)
        self._announce(found.origin)
        return True

    def _can_keep(self, found: Marker) -> Position | None:
        """Return the position from which memory can follow the journal that `found` begins; None: rebuild."""
        if self.unsure or self.applying & 1 or not self._has_file():
            return None
        journal = self.journal
        if journal.generation == found.generation:
            return journal.position
        origin = found.origin
        if origin is not None and origin.generation == journal.generation and origin.tail > journal.tail:
            self._follow(origin.tail)
        return journal.position if journal.position == origin else None

    def _rebuild(self, data: bytes, parts: content.Layout) -> None:
        """Read the state from the file's bytes into the live tree; containers that are still there stay the same."""
        state = content.read(data, parts, self.file).state
        content.check(data, parts, state, self.declared, self.file)
        self._keep_what_was_superseded()
        self._begin_unsure()
        self.applying |= 1
        tree.reconcile(self.root, state)
        self.applying += 1

    def _read_anew(self) -> bool:
        """Rebuild memory from the file at the path, without the lock, if programs of this library have written that.

        Under the guard. What a vacuum has swapped in and not announced is what was announced, in another form.
        """
        page = self.page
        try:
            file = MappedFile.open(self.path)
        except (OSError, StateError):
            return False
        with self._closed_unless_used(file):
            data = file.read(0, file.size)
            try:
                parts = content.layout(data, self.file)
                if len(data) != file.size or not self._is_ours(file, parts):
                    return False
                if parts.scan is None:
                    generation = (page.pending if self._is_swapped(file) else page.position).generation
                    journal = Journal.at_rest(file, generation, parts.snapshot_crc)
                elif parts.marker is None or parts.scan.bad >= 0:
                    return False
                else:
                    journal = Journal.begun(file, parts.marker)
                    if page.position.generation == journal.generation:  # what is not announced may yet be taken back
                        data = data[: page.position.tail]
                        parts = content.layout(data, self.file)
                self._rebuild(data, parts)
            except StateFileError:
                return False
            if parts.scan is not None:
                journal.stand(parts.scan.tail, parts.scan.crc)
            self._stand_on(file, journal)
        return True

    def _damaged(self, data: bytes, offset: int) -> NoReturn:
        line = data.count(b"\n", 0, offset) + 1
        error = DamagedStateError(
            f"{self.file}, line {line}, offset {offset}: the journal was changed there since programs wrote it, or "
            "text was added behind it; no crash of a program does that. Nothing was overwritten. Stop the programs, "
            "then put back a good copy, or run 'mmapstate repair', which keeps the file as it is now"
        )
        error.line, error.offset, error.problem = line, offset, "the journal was changed there"
        raise error

    def _adopt(self, file: MappedFile, data: bytes, parts: content.Layout) -> bool:
        """Take over what somebody else put at the path, once it stands still. Returns False: look again."""
        if not self._stands_still(file, data):
            return False
        if parts.scan is not None and parts.scan.bad >= 0:
            if not self.fresh_page and any(self.boot):
                self._damaged(data, parts.scan.bad)
            self._keep_damaged(data, parts.scan.bad)
        elif parts.scan is not None and not parts.scan.clean and self.fresh_page:
            self._report_dropped(data, parts)
        elif parts.unborn and b"\0" in data[parts.snapshot_end :]:  # changes may have stood there
            self._keep_damaged(data, parts.snapshot_end)
        state = content.read(data, parts, self.file)
        content.check(data, parts, state.state, self.declared, self.file)
        superseded = self._supersede(parts)
        self.page.unsettled = True
        self.page_bytes[LAYOUT] = UNKNOWN
        self.page.supersede(superseded)
        self._begin_unsure()
        self.applying |= 1
        tree.reconcile(self.root, state.state)
        self.applying += 1
        journal = Journal.at_rest(file, new_generation(self.page.position.generation), parts.snapshot_crc)
        self._stand_on(file, journal)
        if parts.marker is not None or parts.unborn or parts.foreign:
            try:
                before = content.snapshot_in(data, parts)
                if not self._vacuum(0, origin_known=False, expected=file.image, before=before):
                    self.unsure = True
                    raise StateFileError(
                        f"{self.file}: was edited while it had a journal, and the system refuses to replace it; stop "
                        "all programs that use it, and remove the lines from '--- # mmapstate journal' on"
                    )
            except EditedMeanwhile:
                self.unsure = True
                return False
            return True
        self._announce(None)
        return True

    def _stands_still(self, file: MappedFile, data: bytes) -> bool:
        """Wait until size, inode, times and bytes have not changed for a while; return False when they have."""
        if system.may_be_young(file.image, SETTLING):
            time.sleep(SETTLING)
            if file.read(0) != data:
                return False
        return system.path_image(self.path) == file.image

    def _supersede(self, parts: content.Layout) -> Position:
        """Keep what was committed and is not in the edit; return the old position for the others to do the same."""
        last = self.page.position
        self._keep_what_was_superseded()
        if self.page.start < 0 and self.page.origin.generation == 0:
            return Position(0, 0)  # programs had changed nothing since it was created, or edited
        if not self._has_file():
            return last  # this one has just come: the others keep it
        if not self.unsure and self.journal.generation == last.generation and self.journal.tail < last.tail:
            self._follow(last.tail)  # the file that was replaced is still open here
        if parts.scan is not None and self._stood_at(last) and parts.scan.crc == self.journal.crc:
            return Position(0, 0)
        self._keep_superseded(last)
        return last  # one that was not up to date leaves it to those that were

    def _keep_what_was_superseded(self) -> None:
        """Write memory beside the file if an earlier edit, which others took up, has superseded it."""
        for last in self.page.superseded:
            self._keep_superseded(last)

    def _keep_superseded(self, last: Position) -> None:
        """Write memory beside the file if this process stood at the last position before an edit. One of all does."""
        if self.unsure or not self._stood_at(last):
            return
        if self.journal.start < 0 and last == self.joined_at:
            return  # nothing was changed, and put to rest, since this process came: an edit as most are
        text = snapshot.dump(tree.plain_root(self.root), self.file, as_json=self.is_json)
        target = images.keep_copy(self.path, f"superseded-{last.generation:016x}", text)
        if target is not None:
            log.warning(
                "%s: was changed by another program while programs of this library used it; the state before is in %s",
                self.file, target,
            )  # fmt: skip

    def _keep_damaged(self, data: bytes, offset: int) -> None:
        target = images.keep_damaged(self.path, data)
        log.warning(
            "%s: records from offset %d on are lost (with the power?), the state before them is used; the file as it "
            "was is in %s", self.file, offset, target,
        )  # fmt: skip

    def _report_dropped(self, data: bytes, parts: content.Layout) -> None:
        assert parts.scan is not None
        if not is_blank(data[parts.scan.tail + 1 :]):
            self._keep_damaged(data, parts.scan.tail)

    def _wait_for_editor(self, purpose: str, found: Image | None) -> bool:
        """The file is missing or empty: return True when that is settled, False to look again."""
        if purpose == OPEN and not self._has_file():
            try:
                self._create()
            except FileExistsError:
                return False  # it appeared meanwhile
            return True
        if purpose != WRITE:
            return True  # what is read is the last state; close never writes the file anew
        now = time.monotonic()
        if self.missing_since is None:
            self.missing_since = now
        if now - self.missing_since < PATIENCE:
            time.sleep(0.01)
            return False
        last = self.page.position
        # The file that was deleted is still open here.
        if not self.unsure and last.generation and self.journal.generation != last.generation:
            self._move_over(last)
        if not self.unsure and self.journal.generation == last.generation and self.journal.tail < last.tail:
            self._follow(last.tail)
        if self.unsure or (last.generation and not self._stood_at(last)):
            raise StateFileError(
                f"{self.file}: the file is gone, and this process has not seen all that others changed in it; let one "
                "of them write, or put the file back, or close the state and open it anew"
            )
        try:
            written = self._vacuum(images.region_size(0, 0, 0), origin_known=False, expected=found or NOTHING_THERE)
        except EditedMeanwhile:
            return False
        if not written:
            raise StateFileError(f"{self.file}: the file was deleted and cannot be written anew; stop the program")
        log.warning("%s: was %s while in use; written anew", self.file, "emptied" if found else "deleted")
        self.missing_since = None
        return True

    def _create(self) -> None:
        """Create the state file, empty: exclusively, never in place of one that appeared meanwhile."""
        system.close(system.create(self.path))
        if self.power:
            system.sync_folder(self.path)
        file = MappedFile.open(self.path)
        with self._closed_unless_used(file):
            self.page.unsettled = True
            if self.page.start >= 0:
                self.page.supersede(self.page.position)  # it was deleted while others use it: they keep what it held
            self._stand_on(
                file,
                Journal.at_rest(file, new_generation(self.page.position.generation), crc32(file.read(0, file.size))),
            )
            self._announce(None)

    def _vacuum_if_doubtful(self, purpose: str) -> bool:
        """After a failed sync nobody commits to that file any more. Returns False: look again."""
        if not self.page_bytes[DOUBTFUL]:
            return True
        if purpose != WRITE:
            self.page.unsettled = True  # whoever writes next comes here
            return True
        try:
            written = self._vacuum(images.region_size(self.journal.snapshot_end, 0, 0))
        except EditedMeanwhile:
            return False
        if not written:
            raise StateError(f"{self.file}: a sync failed, and the system refuses to replace the file; free the disk")
        return True

    def _look_at_sidecar(self) -> None:
        """Go on with a new sidecar where somebody removed or replaced the one in use."""
        lock, old = self.lock, self.page
        if old.inode == lock.inode and lock.is_in_place():
            return
        if old.inode != lock.inode:  # opened anew, as an unlock failed, and locked: what the old page says may be old
            self._use_page(self._started(self._page_of_lock()))
        else:
            new, page = self._successor(old)
            # Not before the new page can be used: others would wait for that in vain. And before anybody else can have
            # the old lock: who gets that looks closely, and comes here.
            old.bytes[MOVED_ON] = 1
            old.unsettled = True
            self._use_page(page)
            lock.replace_by(new)
        lock.attend(exclusively=self.exclusive)
        old.close()  # not before: readers in other threads ask it

    def _successor(self, old: ControlPage) -> tuple[StoreLock, ControlPage]:
        """Return the lock and the page of the sidecar that stands at the path, locked, and a page that can be used.

        The first to leave the old page has its lock, and takes along what that says: no newcomer was let in since, as
        this one is present. Whoever comes later may find that the new sidecar is gone, too: then the others, who may be
        committing under that, have to be the first to leave it. They look every 50 ms.
        """
        deadline = time.monotonic() + LONGEST_MOVE
        while True:
            new = self.lock.successor(self.timeout)
            try:
                page = ControlPage.behind(new.path, new.descriptor, new.inode)
                if page is not None:
                    if page.is_usable(self.boot):
                        return new, page
                    if not old.bytes[MOVED_ON] and old.is_usable(self.boot):
                        page.take_over(old)
                        return new, page
                    if time.monotonic() >= deadline:
                        return new, self._started(page)
                    page.close()
            except BaseException:
                new.close()
                raise
            new.close()
            time.sleep(0.01)

    def _started(self, page: ControlPage) -> ControlPage:
        if not page.is_usable(self.boot):
            page.initialise(self.boot)
        return page

    def _page_of_lock(self) -> ControlPage:
        """Return the page of the sidecar that stands at its path; the lock that this thread has is that file's then."""
        lock = self.lock
        while True:
            page = ControlPage.behind(lock.path, lock.descriptor, lock.inode)
            if page is not None:
                return page
            lock.replace_by(lock.successor(self.timeout))
