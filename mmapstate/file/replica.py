"""What one process believes of a state file: memory, and the file, journal and offset that memory stands for.

Here is how that replica follows what others commit in good order: further records, a region that grew, a vacuum. What
else can happen to a file is told in `recovery`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from zlib import crc32

from mmapstate import changes
from mmapstate.errors import StateFileError
from mmapstate.file import host, system
from mmapstate.file.cursor import UNSEEN, Cursor
from mmapstate.file.format import MARKER_LENGTH, Image, Position, find_marker
from mmapstate.file.journal import Journal
from mmapstate.file.locks import Locks
from mmapstate.file.mapped import EditedMeanwhile, MappedFile
from mmapstate.file.page import DIRTY, HeaderPage
from mmapstate.file.validation import ByteCheck
from mmapstate.live.backend import Memory
from mmapstate.live.merge import reconcile, replay
from mmapstate.text import json_text, snapshot
from mmapstate.values import Plain

READ, WRITE, OPEN, CLOSE = "read", "write", "open", "close"  # what a look at the file is for

_HEAD = 64  # bytes of a snapshot that mostly tell that it is no JSON


class Replica:
    """The replica of one state file; `cursor` says how far it can be trusted.

    Changed under the guard; but for `Cursor.append`, which has the locks, and changes one value.
    """

    def __init__(self, path: str, memory: Memory, locks: Locks) -> None:
        self.path = path
        self.memory = memory
        self.root = memory.root
        self.locks = locks
        self.cursor = Cursor(locks.lock, HeaderPage.absent(), MappedFile.absent(path))
        self.is_json = snapshot.is_json(b"", path)
        self.checked = ByteCheck()
        self.missing_since: float | None = None
        self.boot = host.boot_id()
        self.left = False  # has released the file at its end: only an access reopens it

    @property
    def file(self) -> MappedFile:
        """The file that this process reads and writes."""
        return self.cursor.file

    @property
    def journal(self) -> Journal:
        """Where memory stands in it."""
        return self.cursor.journal

    @property
    def page(self) -> HeaderPage:
        """The header page that this process goes by."""
        return self.cursor.page

    def has_file(self) -> bool:
        """Return whether there is a file that this process stands on, as is always so after opening."""
        return self.file.inode != 0

    def is_present(self) -> bool:
        """Return whether others find this process on the file that it stands on."""
        return self.locks.is_present(self.file.inode)

    def be_present(self) -> bool:
        """Be so. Under the guard."""
        if not self.is_present():
            self.cursor.check_now()
        return self.locks.be_present(self.path, self.file.inode)

    def reopen(self) -> bool:
        """Open again what was released for another process's vacuum (Windows); return False if it is not there."""
        self.left = False
        return self.file.reopen(mapped=self.journal.start >= 0)

    def leave(self) -> None:
        """Release the file at the end of the process (Windows): only an access reopens it."""
        self.file.close()
        self.left = True

    # --- From one state of memory to the next -------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Change memory inside, by more than one commit of this process. Under the guard.

        Readers wait, or read again; where this is cut short, by an interrupt or an error, the next access rebuilds.
        """
        cursor = self.cursor
        cursor.distrust()
        cursor.begin_change()
        yield
        cursor.end_change()

    def follow(self, until: int) -> bool:
        """Read the records up to the offset `until` and apply them. Under the guard.

        Returns False where that does not do: memory is rebuilt from the file then, which tells more.
        """
        self.cursor.distrust()
        payloads = self.journal.follow(until)
        if payloads:
            try:
                records = changes.decode_effect(payloads)
                with self.changing():
                    for record in records:
                        replay(self.root, record)
            except (LookupError, TypeError, AttributeError, StateFileError):
                return False  # memory is not what the records were made for
        self.cursor.trust()
        return payloads is not None

    def replace_contents(self, state: dict[object, Plain]) -> None:
        """Make memory equal `state`; containers that are still there stay the same. Under the guard."""
        with self.changing():
            reconcile(self.root, state)

    def move_over(self, position: Position) -> bool:
        """Follow a vacuum of another process without parsing: possible for who stood where its image was made from.

        Under the guard; works with and without the lock. Returns False where memory must be rebuilt.
        """
        page, journal = self.page, self.journal
        origin, start, before = page.origin, page.start, page.before
        for earlier in (before, origin):
            behind = earlier.generation == journal.generation and earlier.tail > journal.tail
            if behind and not self.follow(earlier.tail):
                return False
        if journal.position not in (before, origin):
            return False
        try:
            if page.image.inode == self.file.inode:  # begun in the file that is open here
                file = MappedFile(system.duplicate(self.file.descriptor), self.path)
            else:
                file = MappedFile.open(self.path)
        except OSError:
            return False
        with self.closed_unless_used(file), contextlib.suppress(EditedMeanwhile):
            moved = self.journal_of(file, position, start)
            if (
                moved is None
                or file.inode != page.image.inode  # an edit can be a copy of it, header and all
                or (start < 0 and page.image.size != file.size)
                or page.position.generation != position.generation
            ):
                return False
            self.stand_on(file, moved)
            return True
        return False

    def journal_of(self, file: MappedFile, position: Position, start: int) -> Journal | None:
        """Return where the journal of `position` begins in `file`, if this is its file."""
        if start < 0:
            crc = crc32(file.read(0, file.size))
            return Journal.at_rest(file, position.generation, crc) if crc == self.page.snapshot_crc else None
        found = find_marker(file.read(start, start + MARKER_LENGTH))
        if found is None or found.start != 0 or found.generation != position.generation:
            return None
        return Journal.begun(file, found._replace(start=start, end=start + found.end))

    def stand_on(self, file: MappedFile, journal: Journal) -> None:
        """Make `file` the one this process reads and writes. Under the guard."""
        if journal.start >= 0:
            file.map()
        is_json = self._has_json(file, journal.snapshot_end)  # first: it can fail
        old = self.file
        self.cursor.distrust()
        self.cursor.stand(file, journal)
        self.is_json = is_json
        self.cursor.trust()
        self.checked.forget()
        if old is not file:
            old.close()

    def _has_json(self, file: MappedFile, end: int) -> bool:
        """Return whether the snapshot of `file`, which ends there, is JSON: the page does not tell, the bytes do."""
        may_be = json_text.may_begin(file.read(0, min(end, _HEAD)))
        return snapshot.is_json(file.read(0, end) if may_be else b"", self.path)

    @contextlib.contextmanager
    def closed_unless_used(self, file: MappedFile) -> Iterator[None]:
        """Close `file` at the end unless this process stands on it by then."""
        try:
            yield
        finally:
            if file is not self.file:
                file.close()

    def stood_at(self, position: Position) -> bool:
        """Return whether memory stands at `position`."""
        return self.has_file() and self.journal.position == position

    # --- Is the file as this process knows it? ------------------------------------------------------------------------

    def is_as_left(self) -> bool:
        """Return whether all is as this process left it, by what costs little. Under the file lock."""
        cursor = self.cursor
        journal, file = cursor.journal, cursor.file
        return not (
            cursor.header[DIRTY]
            or cursor.word[0] != journal.base + journal.tail
            or system.seek(file.descriptor, 0, system.END) != file.size
            or (journal.start >= 0 and not journal.is_untouched())
        )

    def is_path_unchanged(self, purpose: str) -> bool:
        """Look at path and lock file as the system has them. Under the guard."""
        if not self.is_file_unchanged(purpose):
            return False
        if self.missing_since is not None:  # its folder, too, maybe
            return True
        return self.page.inode == self.locks.lock.inode and self.locks.lock.is_in_place()

    def is_file_unchanged(self, purpose: str) -> bool:
        """Look at the path, and at the bytes where it is time for that. Under the guard."""
        found = system.path_image(self.path)
        if found is None or found.size == 0 != self.file.size:
            # Deleted, or an editor half-way. What is read is the last state; the next commit recovers.
            self.missing_since = self.missing_since or time.monotonic()
            self.page.dirty = True  # so that it looks closely, and does not wait for the next check
            return purpose == READ
        if found.inode != self.file.inode or found.size != self.file.size:
            return False
        if self.checked.is_needed(found, often=self.journal.start >= 0) and not self._are_bytes_unchanged(found):
            return False
        self.missing_since = None
        return True

    def found_again(self) -> None:
        """Note that there is a file at the path."""
        self.missing_since = None

    def missing_for(self) -> float:
        """Return for how many seconds the file has been missing, or empty."""
        now = time.monotonic()
        if self.missing_since is None:
            self.missing_since = now
        return now - self.missing_since

    def _are_bytes_unchanged(self, found: Image) -> bool:
        """Look whether the snapshot is still the one known, and the last record in its place."""
        began = self.checked.now()
        if not self.is_snapshot_intact() or not self.journal.is_in_file():
            return False
        self.checked.passed(found, began)
        return True

    def is_snapshot_intact(self) -> bool:
        """Return whether the snapshot's bytes are those known."""
        journal = self.journal
        return crc32(self.file.read(0, journal.snapshot_end)) == journal.snapshot_crc

    # --- Telling the others -------------------------------------------------------------------------------------------

    def announce(self, origin: Position | None, before: Position | None = None) -> None:
        """Announce the present image and this process's position in it as everybody's; nothing is dirty then.

        Who stood at `origin`, or at `before`, has the state that the image was made from.
        """
        cursor, journal, page = self.cursor, self.journal, self.page
        image = system.image_of(self.file.descriptor)
        page.announce(journal.position, origin, image, journal.start, before, journal.snapshot_crc)
        page.dirty = False
        # In a transaction memory is ahead of it.
        cursor.mark_applied(UNSEEN if cursor.epoch & 1 else cursor.word[0])

    def close(self) -> None:
        """Have no file any more: reads go on working on the last state. Can be called again."""
        page = self.page
        self.cursor.close()
        self.locks.presence.leave()
        self.file.close()
        page.close()
