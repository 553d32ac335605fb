"""Room for records: the first region, a larger one, a compacted image that is swapped in by an atomic rename."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from zlib import crc32

from mmapstate.file import content, images, system
from mmapstate.file.format import MARKER_LENGTH, Image, Marker, Position, find_marker, marker
from mmapstate.file.journal import Journal
from mmapstate.file.mapped import EditedMeanwhile, MappedFile
from mmapstate.file.page import DUMPED, NOWHERE, UNKNOWN, WRITTEN, HeaderPage
from mmapstate.file.presence import Presence
from mmapstate.file.replica import Replica
from mmapstate.file.swap import Swap
from mmapstate.live.tree import plain_root
from mmapstate.logger import log
from mmapstate.text import patch, snapshot, source
from mmapstate.values import Plain

NOTHING_THERE = Image(0, -1, 0)

LONGEST_RELEASE = 0.5  # seconds that a vacuum waits, on Windows, until nobody has the file open any more


class Compaction:
    """Makes room in the file of a replica. All of it under the locks, nothing dirty, and memory up to date."""

    def __init__(self, replica: Replica, *, power: bool) -> None:
        self.replica = replica
        self.locks = replica.locks
        self.path = replica.path
        self.power = power
        self.synced_inode = 0  # of the file that is known to be synced, with its name
        self.warned_of_refusal = False

    @property
    def page(self) -> HeaderPage:
        """The header page in use."""
        return self.replica.page

    def require_power(self, power: bool) -> None:
        """Have what is written from now on survive loss of power, or not."""
        self.power = power

    def make_room(self, need: int) -> None:
        """Have a region with room for `need` bytes: the first one, or a larger one."""
        with self.locks.guard:
            file, journal = self.replica.file, self.replica.journal
            before = file.size - journal.start
            if self.power and file.size == 0 and self.vacuum(images.region_size(0, 0, need)):
                return  # appended to nothing, it might be all NULs after loss of power: somebody's lost text
            if journal.start < 0 or before < images.GROWING_REGION:
                # Growing is cheaper than a vacuum by two syncs, and such a journal is still read in a moment.
                self.make_room_in_place(need)
                return
            capacity = images.region_size(journal.start, before, need)
            if not self.vacuum(capacity):
                self._grow(capacity)

    def make_room_in_place(self, need: int) -> None:
        """Do the same whatever memory holds: without a new image."""
        with self.locks.guard:
            file, journal = self.replica.file, self.replica.journal
            if journal.start < 0:
                self._begin_journal(images.region_size(file.size, 0, need))
            else:
                before = file.size - journal.start
                self._grow(max(before * 7 if before < images.GROWING_REGION else 0, need + 4096))

    def to_rest(self) -> bool:
        """Have the file be its snapshot alone; return False where the system refuses to replace it."""
        with self.locks.guard:
            return self.replica.journal.start < 0 or self.vacuum(0)

    def rewrite(self, edit: Callable[[bytes, dict[Any, Plain]], bytes]) -> bool:
        """Put ``edit(snapshot, state)``, a text, in the snapshot's place, and what it holds in the state's; at rest.

        Returns False where the system refuses the swap: nothing has changed then.
        """
        replica = self.replica
        with self.locks.guard:
            text = edit(self._snapshot(), plain_root(replica.root))
            state = content.read_alone(text, self.path, [])  # of words that are no booleans, who edits is told
            content.check(text, content.layout(text, self.path), state, replica.memory.schemas, self.path)
            self.page.layout = UNKNOWN
            replica.replace_contents(state)  # if it does not come to the swap, it is rebuilt before anybody reads it
            return self.vacuum(0, origin_known=False, before=text)

    # --- In place -----------------------------------------------------------------------------------------------------

    def _begin_journal(self, capacity: int) -> None:
        """Append header and slack to a file at rest, as one write of real bytes, and give birth to it by one store."""
        replica, page = self.replica, self.page
        file, before = replica.file, replica.journal
        if not replica.checked.knows(system.image_of(file.descriptor)) and not replica.is_snapshot_intact():
            raise EditedMeanwhile  # in place, since the last look, and of the same size
        generation = images.new_generation(page.position.generation)
        lead = b"" if file.size == 0 or file.read(file.size - 1, file.size) == b"\n" else b"\n"
        if lead:
            text = self._snapshot()
            ended = content.followable(text, self.path)
            if ended != text and self.vacuum(capacity, text=ended):  # not of memory, which may be ahead
                return
        crc = crc32(lead, before.snapshot_crc)
        line = marker(generation, before.position, crc, bare=lead != b"")
        start = file.size + len(lead)
        page.dirty = True
        page.pending = Position(generation, file.inode)  # else the journal of a writer that dies would be an edit
        try:
            file.append(b"%b#%b#%b" % (lead, line[1:], b" " * (capacity - 1)))
        except OSError:  # a full disk: the file is as it was, but for its mtime
            page.image = system.image_of(file.descriptor)
            page.pending = NOWHERE
            page.dirty = False
            raise
        replica.cursor.distrust()
        file.map()
        file.bytes[start] = ord("-")
        if self.power:
            self._sync_region(file)
        born = Marker(start, start + len(line), "1", generation, before.position, crc, lead != b"")
        replica.cursor.stand(file, Journal.begun(file, born))
        replica.cursor.trust()  # before it is announced: from then on memory would be taken for what the file holds
        # Who stood where the file at rest was made from has seen what it held.
        replica.announce(before.position, page.origin)

    def _sync_region(self, file: MappedFile) -> None:
        """Before a record is stored: loss of power could leave that without the header, as anybody's damaged text."""
        try:
            file.sync()
        except OSError:
            self.page.sync_failed = True
            raise

    def _grow(self, need: int) -> None:
        """Make the region larger where it is. Under the guard."""
        page, file = self.page, self.replica.file
        page.dirty = True
        file.append(b" " * need)
        if not self.replica.journal.is_untouched():  # what was cut, and written again, ends in slack, too
            raise EditedMeanwhile
        file.map()
        page.image = system.image_of(file.descriptor)
        page.dirty = False

    # --- By a new image -----------------------------------------------------------------------------------------------

    def vacuum(
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
        generation = images.new_generation(self.page.position.generation)
        origin = self.replica.journal.position if origin_known else None
        layout = WRITTEN
        if text is None:
            text, layout = self._text(self._snapshot() if before is None else before)
        if capacity:
            text = content.followable(text, self.path)
        data, end = images.whole_image(text, generation, origin, capacity)
        file = self._swapped_in(data, generation, expected)
        if file is None:
            return False
        self.page.layout = layout
        with self.replica.closed_unless_used(file):
            self._stand_on_own(file, generation, origin, end)
        self._sync_swap()
        return True

    def _swapped_in(self, data: bytes, generation: int, expected: Image | None) -> MappedFile | None:
        """Swap in an image that holds `data`; return it, opened, or None where the system refuses that.

        This process is present on it since before it has its name: a program that comes with another lock file, as this
        one was deleted, finds either the old file in use, or this one.
        """
        presence = Presence()
        with Swap(self.page, self.path, generation) as swap:
            file: MappedFile | None = None
            try:
                try:
                    file = MappedFile(swap.write(data, system.status(self.path)), self.path)
                    if not presence.take(swap.temporary, exclusively=self.locks.exclusive):
                        raise EditedMeanwhile  # of another program, as it is ours alone
                except PermissionError as error:  # the folder, or the file, is another user's
                    self._refused(error)
                else:
                    swap.ready(file.inode)
                    self._check_still(expected)
                    if self._rename(swap.temporary, file):
                        self.locks.move_presence(presence)
                        return file
            except BaseException:  # first: Windows removes no file that is open
                self.replica.cursor.look_again()
                self._leave_image(file, presence)
                raise
            self._leave_image(file, presence)
            swap.withdraw()
            return None

    def _leave_image(self, file: MappedFile | None, presence: Presence) -> None:
        """Close an image that is not swapped in."""
        if file is not None:
            file.close()
        if self.locks.presence is not presence:
            presence.leave()

    def _snapshot(self) -> bytes:
        """Return the snapshot's bytes, without the line end that the journal behind it has added."""
        journal = self.replica.journal
        text = self.replica.file.read(0, journal.snapshot_end)
        return text.removesuffix(b"\n") if journal.bare else text

    def _text(self, before: bytes) -> tuple[bytes, int]:
        """Return the text of the present state, in which what has not changed is as it was `before`; and its layout.

        Where that is what a dump gives, there is nothing in it to keep: it is dumped at once the next time.
        """
        state, layout = plain_root(self.replica.root), self.page.layout
        as_json = snapshot.is_json(before, self.path)
        if layout != DUMPED:
            try:
                tell = partial(log.debug, "%s: %s", self.path)
                text = content.patched(before, state, self.path, tell)
                kept = layout == WRITTEN or text != snapshot.dump(state, self.path, as_json=as_json)
                return text, WRITTEN if kept else DUMPED
            except patch.CannotPatch as error:
                log.debug("%s: the whole text is written anew, without its comments: %s", self.path, error)
        line_end = source.line_end_of(before) if layout != DUMPED else b"\n"
        text = snapshot.dump(state, self.path, as_json=as_json, line_end=line_end)
        return text, DUMPED if line_end == b"\n" else WRITTEN

    def _check_still(self, expected: Image | None) -> None:
        """Raise the internal error that somebody edited the file meanwhile, if so: a last look before the swap."""
        replica = self.replica
        intact = expected is not None or replica.is_snapshot_intact()  # first, as it takes longer
        found = system.path_image(self.path) or NOTHING_THERE
        if expected is not None:
            unchanged = found == expected
        else:
            unchanged = intact and found[:2] == (replica.file.inode, replica.file.size)
        if not unchanged:
            raise EditedMeanwhile

    def _rename(self, temporary: str, file: MappedFile) -> bool:
        try:
            if system.REPLACE_NEEDS_UNMAPPED:
                self._rename_when_free(temporary, file)
            else:
                system.replace(temporary, self.path)
        except OSError as error:
            if not system.is_refusal(error):
                raise
            self._refused(error)
            if self.replica.file.descriptor < 0:
                raise  # on Windows: another program has taken it for itself
            return False
        if file.descriptor < 0:
            raise EditedMeanwhile  # on Windows: the same, or put another file in its place
        return True

    def _rename_when_free(self, temporary: str, file: MappedFile) -> None:
        """On Windows: have all processes release the file, this one too, and replace it as soon as they have.

        A process that is stopped does not release it, nor does another program: then it is given up after a while.
        """
        try:
            file.close()
            self.replica.file.close()
            self.page.release = True
            system.patiently(lambda: system.replace(temporary, self.path), system.is_refusal, LONGEST_RELEASE)
        finally:
            self.page.release = False
            if not file.reopen(mapped=False):
                self.replica.reopen()

    def _refused(self, error: OSError) -> None:
        if not self.warned_of_refusal and not system.WINDOWS:
            log.warning("%s: the file cannot be replaced (%s); its journal grows in place", self.path, error)
        self.warned_of_refusal = True

    def _stand_on_own(self, file: MappedFile, generation: int, origin: Position | None, snapshot_end: int) -> None:
        """Go on with the image that this process has just swapped in, and announce it."""
        if file.size == snapshot_end:
            journal = Journal.at_rest(file, generation, crc32(file.read(0, snapshot_end)))
        else:
            found = find_marker(file.read(snapshot_end, snapshot_end + MARKER_LENGTH))
            assert found is not None
            journal = Journal.begun(file, found._replace(start=snapshot_end, end=snapshot_end + found.end))
        self.replica.stand_on(file, journal)
        self.synced_inode = file.inode  # written, synced and named by us
        self.page.sync_failed = False
        self.replica.announce(origin)

    # --- Loss of power ------------------------------------------------------------------------------------------------

    def _sync_swap(self) -> None:
        """Make the new image's name survive loss of power; until then the old image is what comes back."""
        try:
            system.sync_folder(self.path)
        except OSError as error:
            if self.power:
                self.page.sync_failed = True
                self.page.dirty = True
                raise
            log.warning(
                "%s: loss of power may bring back an older state, as its folder was not synced: %s", self.path, error
            )

    def sync_first(self) -> None:
        """Before the first "power" commit on a file that others wrote to: what is in it may not be synced yet."""
        if self.synced_inode != self.replica.file.inode:
            self.sync_all()
            self.synced_inode = self.replica.file.inode

    def sync_all(self) -> None:
        """Make all that is in the file, and its name, survive loss of power."""
        self.replica.file.sync()
        system.sync_folder(self.path)
