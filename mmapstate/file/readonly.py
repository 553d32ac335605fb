"""A state file that is only read (``readonly=True``): no lock, no lock file, no write permission needed.

It goes by what a writer goes by, journal and mapped file, but not by the header page, which is for those who may write:
by the file itself. Each access asks which file stands at the path, and how large it is, and looks at the one
byte at its own tail, which turns from ``#`` to ``-`` when a record is committed. So what was committed before is seen,
be it the first change after a rest or behind a vacuum.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar
from zlib import crc32

from mmapstate import changes
from mmapstate.errors import ReadOnlyError, StateError, StateFileError, closed
from mmapstate.file import content, reading, system, validation
from mmapstate.file.format import JOURNAL_VERSION, MARKER_LENGTH, UNBORN_START, Image, find_marker
from mmapstate.file.journal import Journal
from mmapstate.file.mapped import MappedFile
from mmapstate.file.validation import ByteCheck
from mmapstate.live.backend import Memory, Unwritable
from mmapstate.live.forks import inherit
from mmapstate.live.merge import reconcile, replay
from mmapstate.live.sentinels import SLOW
from mmapstate.live.tree import plain_root
from mmapstate.values import Plain, same

_T = TypeVar("_T")

_END = 1024  # bytes of a file that has become larger, which are looked at


class _Always:
    """The cursor of who has no page that tells whether something is new: each read looks."""

    def __init__(self) -> None:
        self.epoch = 0
        self.applied = 0

    def begin_change(self) -> None:
        """Memory goes from one state to the next from here on."""
        self.epoch |= 1

    def end_change(self) -> None:
        """Memory is there."""
        self.epoch += self.epoch & 1
        self.applied += 1

    def is_half_way(self) -> bool:
        """Return whether an interrupt came in between."""
        return bool(self.epoch & 1)

    def read(self, *_: Any) -> Any:
        """Have it be done the slow way."""
        return SLOW

    fetch = read


class Watcher(Protocol):
    """Who is told what comes to a file, and not only what it holds then."""

    def replayed(self, records: list[list[changes.Change]]) -> None:
        """Be told of records that were applied."""

    def rebuilt(self, before: dict[Any, Plain], generation: int, data: bytes, parts: content.Layout) -> None:
        """Be told that memory was read anew: what it was before, and in which journal (0: at rest, or nowhere yet)."""


def _refusal(name: str) -> ReadOnlyError:
    return ReadOnlyError(f"{name}: is open readonly; open it without readonly=True to change, lock, sync or compact it")


class ReadonlyBackend(Unwritable):
    """One state file as a reader sees it (see `live.backend.Backend`)."""

    def __init__(self, path: str, memory: Memory, watcher: Watcher | None = None) -> None:
        super().__init__(path, _refusal)
        self.memory = memory
        self.watcher = watcher
        self.root = memory.root
        self.cursor = _Always()
        self.guard: Any = threading.RLock()
        inherit(self)
        self.closed = False
        self.slack = b""  # the byte at the tail while nothing has come
        self.checked = ByteCheck()
        self.file = MappedFile.absent(path)  # that memory was read from, and where memory stands in it
        self.journal = Journal.nowhere(self.file)
        self.open_files: list[MappedFile] = []  # `file`, from the first look on
        if system.status(path) is None:
            raise FileNotFoundError(2, "there is no state file to read", path)
        try:
            with self.guard, self._reopened():
                self._load()
        except BaseException:
            _close_all(self.open_files)
            raise

    def refresh(self) -> None:
        """Bring memory up to date with what was committed."""
        self.steady(bool)

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""
        guard = self.guard
        inside = guard._is_owned()  # a signal handler or finaliser inside this thread's own look
        with guard:
            if not inside and not self.closed:
                self._look()
            return read(*args)

    def _look(self) -> None:
        """Bring memory up to date. Under the guard."""
        try:
            if system.REPLACE_NEEDS_UNMAPPED:
                with self._reopened():
                    self._catch_up()
            else:
                self._catch_up()
        except StateFileError:
            self.checked.forget()  # each access looks again, until it is mended
            raise

    @contextlib.contextmanager
    def _reopened(self) -> Iterator[None]:
        """On Windows, where nobody can replace a file that is open, have it open while it is read, and no longer."""
        try:
            if system.REPLACE_NEEDS_UNMAPPED:
                for file in self.open_files:
                    file.reopen(mapped=False)  # if another file is there now, that shows
            yield
        finally:
            if system.REPLACE_NEEDS_UNMAPPED:
                _close_all(self.open_files)

    def wait(self, timeout: float) -> None:
        """Wait."""
        if self.closed:
            raise closed(self.name)
        time.sleep(timeout)

    def glance(self) -> None:
        """Bring memory up to date if that raises nothing and waits for nobody."""
        if self.guard._is_owned():
            return
        try:
            if self.guard.acquire(False) and not self.closed:
                with contextlib.suppress(StateError, OSError):
                    self._look()
        finally:
            if self.guard._is_owned():
                self.guard.release()

    def forget(self) -> None:
        """In a forked child: start with a fresh lock. What another thread was at work on is read anew."""
        self.guard = threading.RLock()

    def close(self) -> None:
        """Close the file; reads go on working on the last state."""
        with self.guard:
            self.closed = True
            _close_all(self.open_files)

    def _catch_up(self) -> None:
        found = system.path_image(self.name)
        file = self.file
        if found is None or (found.size == 0 != file.size):
            return  # deleted, or an editor half-way: what is read is the last state
        if self.cursor.is_half_way():
            self._load()
        elif found.inode != file.inode:
            if file.descriptor >= 0:  # what was committed last to the file that is still open
                size = system.file_size(file.descriptor)
                if (size == file.size or self._has_grown(size)) and not self._is_quiet():
                    self._follow()
            self._load()
        elif found.size != file.size and not self._has_grown(found.size):
            self._load()
        else:
            is_due = self.checked.is_needed(found, often=True)
            if not (self._is_quiet() or self._follow()) or (is_due and not self._is_intact(found)):
                self._load()

    def _is_quiet(self) -> bool:
        """Return whether nothing has come at the tail; at rest there is none."""
        tail = self.journal.tail
        return self.journal.start < 0 or self.file.read(tail, tail + 1) == self.slack

    def _follow(self) -> bool:
        """Apply the records behind the own tail; return False if there is something else."""
        run = self.journal.ahead()
        if run is None:
            return False
        if run.payloads:
            if not self._apply(run.payloads):
                return False
            self.journal.stand(run.tail, run.crc)
            self.slack = b"#"
            self.cursor.end_change()
        return True

    def _apply(self, payloads: list[bytes]) -> bool:
        """Apply records; memory is half-way then. Return False where it is not what they were made for."""
        try:
            records = changes.decode_each(payloads)
            self.cursor.begin_change()
            self._replay(records)
        except (*changes.APPLY_ERRORS, StateFileError):
            return False  # a look at the whole file tells more
        return True

    def _replay(self, records: list[list[changes.Change]]) -> None:
        for record in records:
            replay(self.root, record)
        if self.watcher is not None:
            self.watcher.replayed(records)

    def _has_grown(self, size: int) -> bool:
        """Return whether the open file, of another size now, is what it was, with a journal or more room behind it."""
        file, journal = self.file, self.journal
        if size < file.size:
            return False
        if journal.start >= 0:
            if not journal.is_in_file() or not (self._is_quiet() or self._follow()):
                return False
            end = file.read(max(journal.tail + 1, file.size, size - _END), size)
            file.expect_size(size)
            return not end.strip(b" ")  # else an editor has appended to it
        head = file.read(journal.tail, journal.tail + 1 + MARKER_LENGTH)
        lead = b"\n" if head.startswith(b"\n") else b""  # for a last line that had no end
        head = head.removeprefix(lead)
        marker = find_marker(head)
        if marker is None:
            return head.startswith(UNBORN_START)
        crc = crc32(lead, journal.snapshot_crc)
        if marker.start != 0 or marker.version != str(JOURNAL_VERSION) or marker.snapshot_crc != crc:
            return False
        start = journal.tail + len(lead)
        self.journal = Journal.begun(file, marker._replace(start=start, end=start + marker.end))
        file.expect_size(size)
        self.slack = b"#"
        return True

    def _is_intact(self, found: Image) -> bool:
        """Return whether no editor has changed the open file in place, and left its size."""
        began = self.checked.now()
        journal = self.journal
        intact = crc32(self.file.read(0, journal.snapshot_end)) == journal.snapshot_crc and journal.is_in_file()
        self.checked.passed(found, began, at_least=validation.CHECK_INTERVAL)
        return intact

    def _load(self) -> None:
        """Read the whole file, as soon as it stands still."""
        try:
            reading.settled(lambda: MappedFile.open(self.name, write=False), self._accept, self._leave)
        except FileNotFoundError:  # deleted a moment ago
            if not self.open_files:
                raise

    def _leave(self, file: MappedFile) -> None:
        if file not in self.open_files:
            file.close()

    def _accept(self, file: MappedFile, data: bytes) -> None:
        """Stand on `file`, which holds `data`. Raises `StateFileError`, and then nothing has changed."""
        parts = reading.layout(file, data)
        if not self._follow_vacuum(parts):
            self._rebuild(data, parts)
        self._stand_on(file, data, parts)
        self.cursor.end_change()

    def _follow_vacuum(self, parts: content.Layout) -> bool:
        """Apply the records behind an image that was made from what memory is; return False where it is another."""
        if self.watcher is not None:
            return False  # it is told of, with what is different besides
        if not self.open_files or self.cursor.is_half_way() or self.journal.start < 0:
            return False
        if parts.marker is None or parts.scan is None or not parts.intact:
            return False
        return parts.marker.origin == self.journal.position and self._apply(parts.scan.payloads)

    def _rebuild(self, data: bytes, parts: content.Layout) -> None:
        state = content.read(data, parts, self.name).state
        content.check(data, parts, state, self.memory.schemas, self.name)
        for key, value in self.memory.defaults.items():
            state.setdefault(key, value)
        self.cursor.begin_change()
        before = plain_root(self.root)
        if not same(state, before):  # as it is after a vacuum to rest, in which all stay the same
            reconcile(self.root, state)
        if self.watcher is not None:
            self.watcher.rebuilt(before, self.journal.generation, data, parts)

    def _stand_on(self, file: MappedFile, data: bytes, parts: content.Layout) -> None:
        if parts.marker is None or parts.scan is None:
            file.expect_size(parts.snapshot_end)  # what stands behind it is a journal that is not begun yet
            journal = Journal.at_rest(file, 0, parts.snapshot_crc)
        else:
            journal = Journal.begun(file, parts.marker._replace(snapshot_crc=parts.snapshot_crc))
            journal.stand(parts.scan.tail, parts.scan.crc)
        old = self.open_files
        self.file, self.open_files = file, [file]
        _close_all(old)
        self.journal = journal
        self.slack = data[journal.tail : journal.tail + 1].replace(b"-", b"#")  # of a record that was left out
        self.checked.put_off(validation.CHECK_INTERVAL)


def _close_all(files: list[MappedFile]) -> None:
    for file in files:
        file.close()
