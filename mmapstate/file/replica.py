"""What one process believes of a state file: memory, and the file, journal and offset that memory stands for.

Here is how that picture follows what others commit in good order: further records, a region that grew, a vacuum. What
else can happen to a file is told in `surprises`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

from mmapstate import changes
from mmapstate.errors import StateFileError
from mmapstate.file import system
from mmapstate.file.format import Image, Position, find_marker
from mmapstate.file.journal import Journal
from mmapstate.file.locks import Presence, StoreLock, new_thread_lock
from mmapstate.file.mapped import ControlPage, EditedMeanwhile, MappedFile
from mmapstate.live import tree
from mmapstate.live.schema import Declared
from mmapstate.text import json_text, snapshot

__all__ = ["CLOSE", "LOOK_INTERVAL", "OPEN", "READ", "UNSEEN", "WRITE", "Picture"]

LOOK_INTERVAL = 0.05  # seconds between two looks at the path; what is edited meanwhile is superseded at most so long
READ, WRITE, OPEN, CLOSE = "read", "write", "open", "close"  # what a look at the file is for

UNSEEN = -1
"""No stamp: whoever has seen this looks again."""

_BYTES_SHARE = 100  # a check of all bytes is due again after so many times what it took
_HEAD = 64  # bytes of a snapshot that mostly tell that it is no JSON
_MARKER_LENGTH = 256  # bytes, more than any marker of ours has


class Picture:
    """The picture of one state file. Changed under ``guard`` only.

    Three flags tell how far a thread came that was interrupted (a signal handler that raises), or is at work:
    ``applying`` is odd while memory is half-way (other threads wait); ``unsure`` is set while file and memory may
    differ (found with nobody at work: rebuilt from the file); ``busy`` says that the thread with the locks is inside a
    write, which must not start another one. ``seen`` is what the page announced when memory was last up to date with
    it, and `UNSEEN`, which it never is, whenever memory is unsure. ``copying`` says that a reader with the guard wants
    many values of one moment.
    """

    # What each access asks for; an attribute in a large __dict__ takes several times as long.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "applying",
        "busy",
        "checks",
        "copying",
        "due",
        "guard",
        "guarded",
        "journal",
        "lock",
        "mapping",
        "page_bytes",
        "power",
        "seen",
        "stamp",
        "unsure",
    )

    lock: StoreLock
    page: ControlPage
    page_bytes: Any
    stamp: Any
    mapping: MappedFile
    journal: Journal

    def __init__(
        self, path: str, *, timeout: float | None, exclusive: bool, power: bool, declared: tuple[Declared, ...] = ()
    ) -> None:
        self.path = path
        self.is_json = snapshot.is_json(b"", path)
        self.declared = declared
        self.file = path
        self.timeout = timeout
        self.exclusive = exclusive
        self.power = power
        self.root = tree.new_root(self)
        self._renew_guard()
        self.applying = 0
        self.unsure = True
        self.busy = False
        self.copying = False
        self.seen = UNSEEN
        self.due = 0.0
        self.read_on = 0.0  # until then reads go on with what was announced, as the lock was not to be had
        self.times: tuple[int, int] | None = None  # of the file, when its bytes were found to be those known here
        self.bytes_due = 0.0
        self.missing_since: float | None = None
        self.boot = system.boot_id()
        self.fresh_page = False
        self.presence = Presence()
        self.left = False  # has let go of the file at its end: only an access takes it up again

    def _renew_guard(self) -> None:
        self.guard = new_thread_lock()
        self.guarded: Callable[[], bool] = self.guard._is_owned

    @property
    def declared(self) -> tuple[Declared, ...]:
        """What classes of states declare of this one."""
        return self._declared

    @declared.setter
    def declared(self, declared: tuple[Declared, ...]) -> None:
        self._declared = declared
        self._renew_checks()

    def _renew_checks(self) -> None:
        """Have each change checked before it is made, where not any value will do."""
        self.checks: tuple[Any, ...] = (*self._declared, json_text) if self.is_json else self._declared

    def _has_json(self, file: MappedFile, end: int) -> bool:
        """Return whether the snapshot of `file`, which ends there, is JSON: the page does not tell, the bytes do."""
        may_be = json_text.may_begin(file.read(0, min(end, _HEAD)))
        return snapshot.is_json(file.read(0, end) if may_be else b"", self.path)

    def _has_file(self) -> bool:
        """Return whether there is a file that this process stands on, as is always so after opening."""
        return hasattr(self, "journal")

    def _use_page(self, page: ControlPage) -> None:
        self.seen = UNSEEN  # what it is compared with is another page's from now on
        self.page, self.page_bytes, self.stamp = page, page.bytes, page.stamp

    def _is_present(self) -> bool:
        """Return whether others find this process on the file that it stands on."""
        return system.REPLACE_NEEDS_UNMAPPED or (self.lock.attended and self.presence.inode == self.mapping.inode)

    def _be_present(self) -> bool:
        """Be present on the file that this process stands on. Under the guard.

        Whoever comes with another lock file, as this one's was deleted, has made that before it looks who is present.
        So this one looks at the lock file after it is present, and writes nothing before: one finds the other.
        """
        if not self._is_present():
            self.due = 0.0
            self.lock.attend(exclusively=self.exclusive)
            self.presence.take(self.path, exclusively=self.exclusive)
        return self._is_present()

    def _take_up(self) -> bool:
        """Open again what was let go of for another process's vacuum (Windows); return False if it is not there."""
        self.left = False
        return self.mapping.take_up(mapped=self.journal.start >= 0)

    def _begin_unsure(self) -> None:
        """From here on an interrupt leaves memory, or where it stands, in doubt: the next access must not trust it."""
        self.seen = UNSEEN
        self.unsure = True

    def _follow(self, until: int) -> bool:
        """Read the records up to the offset `until` and apply them. Under the guard."""
        self._begin_unsure()
        payloads = self.journal.follow(until)
        if payloads:
            try:
                records = changes.decode_effect(payloads)
                self.applying |= 1
                for record in records:
                    tree.replay(self.root, record)
            except (LookupError, TypeError, AttributeError, StateFileError):
                return False  # memory is not what the records were made for: rebuilt from the file, which tells more
            self.applying += 1
        self.unsure = False
        return payloads is not None

    def _move_over(self, position: Position) -> bool:
        """Follow a vacuum of another process without parsing: possible for who stood where its image was made from.

        Under the guard; works with and without the lock. Returns False where memory must be rebuilt.
        """
        origin, start, before = self.page.origin, self.page.start, self.page.before
        journal = self.journal
        for earlier in (before, origin):
            behind = earlier.generation == journal.generation and earlier.tail > journal.tail
            if behind and not self._follow(earlier.tail):
                return False
        if journal.position not in (before, origin):
            return False
        try:
            if self.page.image.inode == self.mapping.inode:  # begun in the file that is open here
                file = MappedFile(system.duplicate(self.mapping.descriptor), self.path)
            else:
                file = MappedFile.open(self.path)
        except OSError:
            return False
        with self._closed_unless_used(file), contextlib.suppress(EditedMeanwhile):
            moved = self._journal_of(file, position, start)
            if (
                moved is None
                or file.inode != self.page.image.inode  # an edit can be a copy of it, marker and all
                or (start < 0 and self.page.image.size != file.size)
                or self.page.position.generation != (position.generation)
            ):
                return False
            self._stand_on(file, moved)
            return True
        return False

    def _journal_of(self, file: MappedFile, position: Position, start: int) -> Journal | None:
        """Return where the journal of `position` begins in `file`, if this is its file."""
        if start < 0:
            crc = crc32(file.read(0, file.size))
            return Journal.at_rest(file, position.generation, crc) if crc == self.page.snapshot_crc else None
        found = find_marker(file.read(start, start + _MARKER_LENGTH))
        if found is None or found.start != 0 or found.generation != position.generation:
            return None
        return Journal.begun(file, found._replace(start=start, end=start + found.end))

    def _stand_on(self, file: MappedFile, journal: Journal) -> None:
        """Make `file` the one this process reads and writes. Under the guard."""
        if journal.start >= 0:
            file.map()
        is_json = self._has_json(file, journal.snapshot_end)  # first: it can fail
        old: MappedFile | None = getattr(self, "mapping", None)
        self._begin_unsure()
        self.mapping, self.journal = file, journal
        self.is_json = is_json
        self._renew_checks()
        self.unsure = False
        self.times, self.bytes_due = None, 0.0
        if old is not None and old is not file:
            old.close()

    @contextlib.contextmanager
    def _closed_unless_used(self, file: MappedFile) -> Iterator[None]:
        """Close `file` at the end unless this process stands on it by then."""
        try:
            yield
        finally:
            if file is not getattr(self, "mapping", None):
                file.close()

    def _stood_at(self, position: Position) -> bool:
        return self._has_file() and self.journal.position == position

    def _is_path_unchanged(self, purpose: str) -> bool:
        """Look at path and sidecar as the system has them. Under the guard."""
        if not self._is_file_unchanged(purpose):
            return False
        if self.missing_since is not None:  # its folder, too, maybe
            return True
        return self.page.inode == self.lock.inode and self.lock.is_in_place()

    def _is_file_unchanged(self, purpose: str) -> bool:
        found = system.path_image(self.path)
        if found is None or found.size == 0 != self.mapping.size:
            # Deleted, or an editor half-way. What is read is the last state; the next commit settles it.
            self.missing_since = self.missing_since or time.monotonic()
            self.page.unsettled = True  # so that it looks closely, and does not wait for the next look
            return purpose == READ
        if found.inode != self.mapping.inode or found.size != self.mapping.size:
            return False
        if found.times != self.times and not self._are_bytes_unchanged(found):
            return False
        self.missing_since = None
        return True

    def _are_bytes_unchanged(self, found: Image) -> bool:
        """Look whether the snapshot is still the one known, and the last record in its place.

        A journal's times change all the time: there it takes at most a hundredth of the time, however large the file.
        """
        begun = time.monotonic()
        if self.journal.start >= 0 and begun < self.bytes_due:
            return True
        if not self._is_snapshot_intact() or not self.journal.is_in_file():
            return False
        now = time.monotonic()
        self.bytes_due = now + _BYTES_SHARE * (now - begun)
        self.times = found.times if system.is_settled(found) else None
        return True

    def _is_snapshot_intact(self) -> bool:
        journal = self.journal
        return crc32(self.mapping.read(0, journal.snapshot_end)) == journal.snapshot_crc

    def _announce(self, origin: Position | None, before: Position | None = None) -> None:
        """Announce the present image and this process's position in it as everybody's; all is settled then.

        Who stood at `origin`, or at `before`, has the state that the image was made from.
        """
        image = system.image_of(self.mapping.descriptor)
        journal = self.journal
        self.page.announce(journal.position, origin, image, journal.start, before, journal.snapshot_crc)
        self.page.unsettled = False
        self.seen = UNSEEN if self.applying & 1 else self.stamp[0]  # in a transaction memory is ahead of it

    def _let_go(self) -> None:
        self.presence.leave()
        if self._has_file():
            self.mapping.close()
        if "page" in self.__dict__:
            self.page.close()
