"""Room for records: the first region, a larger one, a compacted image that is swapped in by an atomic rename."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any
from zlib import crc32

from mmapstate.file import content, images, system
from mmapstate.file.format import (
    DOUBTFUL,
    DUMPED,
    LAYOUT,
    LET_GO,
    UNKNOWN,
    WRITTEN,
    Image,
    Marker,
    Position,
    find_marker,
    marker,
    successor,
)
from mmapstate.file.journal import Journal
from mmapstate.file.locks import Presence
from mmapstate.file.mapped import EditedMeanwhile, MappedFile
from mmapstate.file.replica import UNSEEN, Picture
from mmapstate.live import tree
from mmapstate.logger import log
from mmapstate.text import patch, snapshot, source
from mmapstate.values import Plain

__all__ = ["NOTHING_THERE", "Vacuum", "new_generation"]

NOTHING_THERE = Image(0, -1, 0)

LONGEST_LET_GO = 0.5  # seconds that a vacuum waits, on Windows, until nobody has the file open any more
_MARKER_LENGTH = 256  # bytes, more than any marker of ours has


class Vacuum(Picture):
    """A picture that can make room. All of it under the locks, the file settled, and memory up to date."""

    synced_inode = 0
    warned_of_refusal = False

    def _make_room(self, need: int) -> None:
        """Have a region with room for `need` bytes: the first one, or a larger one. Under the locks."""
        with self.guard:
            before = self.mapping.size - self.journal.start
            if self.power and self.mapping.size == 0 and self._vacuum(images.region_size(0, 0, need)):
                return  # appended to nothing, it might be all NULs after loss of power: somebody's lost text
            if self.journal.start < 0 or before < images.GROWING_REGION:
                # Growing is cheaper than a vacuum by two syncs, and such a journal is still read in a moment.
                self._make_room_in_place(need)
                return
            capacity = images.region_size(self.journal.start, before, need)
            if not self._vacuum(capacity):
                self._grow(capacity)

    def _make_room_in_place(self, need: int) -> None:
        """Do the same whatever memory holds: without a new image."""
        with self.guard:
            if self.journal.start < 0:
                self._begin_journal(images.region_size(self.mapping.size, 0, need))
            else:
                before = self.mapping.size - self.journal.start
                self._grow(max(before * 7 if before < images.GROWING_REGION else 0, need + 4096))

    def _begin_journal(self, capacity: int) -> None:
        """Append marker and slack to a file at rest, as one write of real bytes, and give birth to it by one store."""
        file, before = self.mapping, self.journal
        if system.image_of(file.descriptor).times != self.times and not self._is_snapshot_intact():
            raise EditedMeanwhile  # in place, since the last look, and of the same size
        generation = new_generation(self.page.position.generation)
        lead = b"" if file.size == 0 or file.read(file.size - 1, file.size) == b"\n" else b"\n"
        if lead:
            text = self._snapshot()
            ended = content.followable(text, self.path)
            if ended != text and self._vacuum(capacity, text=ended):  # not of memory, which may be ahead
                return
        crc = crc32(lead, before.snapshot_crc)
        line = marker(generation, before.position, crc, bare=lead != b"")
        start = file.size + len(lead)
        self.page.unsettled = True
        self.page.pending = Position(generation, file.inode)  # else the journal of a writer that dies would be an edit
        try:
            file.append(b"%b#%b#%b" % (lead, line[1:], b" " * (capacity - 1)))
        except OSError:  # a full disk: the file is as it was, but for its mtime
            self.page.image = system.image_of(file.descriptor)
            self.page.pending = Position(0, 0)
            self.page.unsettled = False
            raise
        self._begin_unsure()
        file.map()
        file.bytes[start] = ord("-")
        if self.power:
            self._sync_region(file)
        born = Marker(start, start + len(line), "1", generation, before.position, crc, lead != b"")
        self.journal = Journal.begun(file, born)
        self.unsure = False  # before it is announced: from then on memory would be taken for what the file holds
        # Who stood where the file at rest was made from has seen what it held.
        self._announce(before.position, self.page.origin)

    def _sync_region(self, file: MappedFile) -> None:
        """Before a record is stored: loss of power could leave that without the marker, as anybody's damaged text."""
        try:
            file.sync()
        except OSError:
            self.page_bytes[DOUBTFUL] = 1
            raise

    def _grow(self, need: int) -> None:
        """Make the region larger where it is. Under the guard."""
        self.page.unsettled = True
        self.mapping.append(b" " * need)
        if not self.journal.is_untouched():  # what was cut, and written again, ends in slack, too
            raise EditedMeanwhile
        self.mapping.map()
        self.page.image = system.image_of(self.mapping.descriptor)
        self.page.unsettled = False

    def _vacuum_to_rest(self) -> bool:
        with self.guard:
            return self.journal.start < 0 or self._vacuum(0)

    def _rewrite(self, edit: Callable[[bytes, dict[Any, Plain]], bytes]) -> bool:
        """Put ``edit(snapshot, state)``, a text, in the snapshot's place, and what it holds in the state's; at rest.

        Under the locks, memory up to date. Returns False where the system refuses the swap: nothing has changed then.
        """
        with self.guard:
            text = edit(self._snapshot(), tree.plain_root(self.root))
            state = content.read_alone(text, self.file, [])  # of words that are no booleans, who edits is told
            parts = content.layout(text, self.file)
            content.check(text, parts, state, self.declared, self.file)
            self.page_bytes[LAYOUT] = UNKNOWN
            # If it does not come to the swap, memory is rebuilt from the file before anybody reads it.
            self._begin_unsure()
            self.applying |= 1
            tree.reconcile(self.root, state)
            self.applying += 1
            return self._vacuum(0, origin_known=False, before=text)

    def _vacuum(
        self,
        capacity: int,
        *,
        origin_known: bool = True,
        expected: Image | None = None,
        before: bytes | None = None,
        text: bytes | None = None,
    ) -> bool:
        """Write a compacted image beside the file and swap it in. Under the locks and the guard, memory up to date.

        `capacity` is the size of its append region in bytes, 0 for none. `expected` is what must stand at the path
        (default: what this process has open, unedited), `before` the snapshot whose layout is kept (default: the one
        that stands there), `text` the new one, where it is not memory's. Returns False where the system refuses the
        swap.
        """
        generation = new_generation(self.page.position.generation)
        origin = self.journal.position if origin_known else None
        layout_before = self.page_bytes[LAYOUT]
        layout = WRITTEN
        if text is None:
            text, layout = self._text(self._snapshot() if before is None else before)
        if capacity:
            text = content.followable(text, self.path)
        data, end = images.whole_image(text, generation, origin, capacity)
        temporary = images.temporary_path(self.path, generation)
        self.page.unsettled = True
        self.page.pending = Position(generation, 0)
        self.page_bytes[LAYOUT] = UNKNOWN
        file: MappedFile | None = None
        presence = Presence()
        try:
            try:
                file = self._write_image(temporary, data)
                if not presence.take(temporary, exclusively=self.exclusive):
                    raise EditedMeanwhile  # of another program, as it is ours alone
            except PermissionError as error:  # the folder, or the file, is another user's
                self._refused(error)
            else:
                self.page.pending = Position(generation, file.inode)
                self._check_still(expected)
            if file is None or not self._swap(temporary, file):
                if file is not None:
                    file.close()
                presence.leave()
                self.page.pending = Position(0, 0)
                self.page_bytes[LAYOUT] = layout_before
                self.page.unsettled = False
                return False
        except BaseException:
            # Unsettled it stays: an interrupt may have come when the rename was done. The next look finds out by what
            # is pending; that says no longer so only where there is nothing any more that could be swapped in.
            self.seen = UNSEEN
            if file is not None:
                file.close()
            presence.leave()
            system.remove(temporary)
            if file is None or not self._is_swapped_in(file):
                self.page.pending = Position(0, 0)
            raise
        self.page_bytes[LAYOUT] = layout
        # Present on the new file since before it had its name: a program that comes with another lock file, as this one
        # was deleted, finds either the old file in use, or this one.
        former, self.presence = self.presence, presence
        former.leave()
        with self._closed_unless_used(file):
            self._stand_on_own(file, generation, origin, end)
        self._sync_swap()
        return True

    def _snapshot(self) -> bytes:
        """Return the snapshot's bytes, without the line end that the journal behind it has added."""
        text = self.mapping.read(0, self.journal.snapshot_end)
        return text.removesuffix(b"\n") if self.journal.bare else text

    def _text(self, before: bytes) -> tuple[bytes, int]:
        """Return the text of the present state, in which what has not changed is as it was `before`; and its layout.

        Where that is what a dump gives, there is nothing in it to keep: it is dumped at once the next time.
        """
        state, layout = tree.plain_root(self.root), self.page_bytes[LAYOUT]
        as_json = snapshot.is_json(before, self.path)
        if layout != DUMPED:
            try:
                tell = partial(log.debug, "%s: %s", self.file)
                text = content.patched(before, state, self.path, tell)
                kept = layout == WRITTEN or text != snapshot.dump(state, self.file, as_json=as_json)
                return text, WRITTEN if kept else DUMPED
            except patch.CannotPatch as error:
                log.debug("%s: the whole text is written anew, without its comments: %s", self.file, error)
        line_end = source.line_end_of(before) if layout != DUMPED else b"\n"
        text = snapshot.dump(state, self.file, as_json=as_json, line_end=line_end)
        return text, DUMPED if line_end == b"\n" else WRITTEN

    def _is_swapped_in(self, file: MappedFile) -> bool:
        found = system.path_image(self.path)
        return found is not None and found.inode == file.inode

    def _write_image(self, temporary: str, data: bytes) -> MappedFile:
        return MappedFile(images.write_beside(temporary, data, system.status(self.path)), self.path)

    def _check_still(self, expected: Image | None) -> None:
        """Raise the internal error that somebody edited the file meanwhile, if so: a last look before the swap."""
        intact = expected is not None or self._is_snapshot_intact()  # first, as it takes longer
        found = system.path_image(self.path) or NOTHING_THERE
        if expected is not None:
            unchanged = found == expected
        else:
            unchanged = intact and found[:2] == (self.mapping.inode, self.mapping.size)
        if not unchanged:
            raise EditedMeanwhile

    def _swap(self, temporary: str, file: MappedFile) -> bool:
        try:
            if system.REPLACE_NEEDS_UNMAPPED:
                self._replace_when_free(temporary, file)
            else:
                system.replace(temporary, self.path)
        except OSError as error:
            if not system.is_refusal(error):
                raise
            self._refused(error)
            system.remove(temporary)
            if self.mapping.descriptor < 0:
                raise  # on Windows: another program has taken it for itself
            return False
        if file.descriptor < 0:
            raise EditedMeanwhile  # on Windows: the same, or put another file in its place
        return True

    def _replace_when_free(self, temporary: str, file: MappedFile) -> None:
        """On Windows: have all processes let go of the file, this one too, and replace it as soon as they have.

        A process that is stopped does not let go, nor does another program: then it is given up after a while.
        """
        try:
            file.close()
            self.mapping.close()
            self.page_bytes[LET_GO] = 1
            system.patiently(lambda: system.replace(temporary, self.path), system.is_refusal, LONGEST_LET_GO)
        finally:
            self.page_bytes[LET_GO] = 0
            if not file.take_up(mapped=False):
                self._take_up()

    def _refused(self, error: OSError) -> None:
        if not self.warned_of_refusal and not system.WINDOWS:
            log.warning("%s: the file cannot be replaced (%s); its journal grows in place", self.file, error)
        self.warned_of_refusal = True

    def _stand_on_own(self, file: MappedFile, generation: int, origin: Position | None, snapshot_end: int) -> None:
        """Go on with the image that this process has just swapped in, and announce it."""
        file.image = system.image_of(file.descriptor)
        if file.size == snapshot_end:
            journal = Journal.at_rest(file, generation, crc32(file.read(0, snapshot_end)))
        else:
            found = find_marker(file.read(snapshot_end, snapshot_end + _MARKER_LENGTH))
            assert found is not None
            journal = Journal.begun(file, found._replace(start=snapshot_end, end=snapshot_end + found.end))
        self._stand_on(file, journal)
        self.synced_inode = file.inode  # written, synced and named by us
        self.page_bytes[DOUBTFUL] = 0
        self._announce(origin)

    def _sync_swap(self) -> None:
        """Make the new image's name survive loss of power; until then the old image is what comes back."""
        try:
            system.sync_folder(self.path)
        except OSError as error:
            if self.power:
                self.page_bytes[DOUBTFUL] = 1
                self.page.unsettled = True
                raise
            log.warning(
                "%s: loss of power may bring back an older state, as its folder was not synced: %s", self.file, error
            )


def new_generation(before: int) -> int:
    """Return a new name for a journal that follows the generation `before`."""
    return successor(before, random.SystemRandom().getrandbits(48))  # of the system: no child repeats its parent's
