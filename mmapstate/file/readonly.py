"""A state file that is only read (``readonly=True``): no lock, no sidecar, no write permission needed.

What stands behind the nodes is a `View` in place of a `Store`. It is the same replica, of the same parts, but for what
it goes by: not by the page, which is for those who may write, but by the file itself. Each access asks which file
stands at the path, and how large it is, and looks at the one byte at its own tail, which turns from ``#`` to ``-`` when
a record is committed. So what was committed before is seen, be it the first change after a rest or behind a vacuum.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, NoReturn, TypeVar
from zlib import crc32

from mmapstate import changes
from mmapstate.errors import ClosedError, ReadOnlyError, StateError, StateFileError
from mmapstate.file import content, forks, reading, system
from mmapstate.file.format import JOURNAL_VERSION, MARKER_LENGTH, UNBORN_START, Image, find_marker
from mmapstate.file.journal import Journal
from mmapstate.file.mapped import MappedFile
from mmapstate.live import tree
from mmapstate.live.schema import Declared
from mmapstate.values import same

__all__ = ["View"]

_T = TypeVar("_T")

LOOK_INTERVAL = 0.05  # seconds between two looks at the snapshot's bytes, at least
SHARE = 100  # times as long as such a look has taken is waited until the next: it takes a hundredth of the time
_END = 1024  # bytes of a file that has become larger, which are looked at


class View:
    """One state file as a reader sees it (see `nodes.Tree`)."""

    mapping: MappedFile  # the file that memory was read from, and where memory stands in it
    journal: Journal

    exclusive = False
    stamp, seen, due = (0,), -1, 0.0  # there is no page to tell whether something is new: `refresh` looks

    def __init__(self, path: str, defaults: dict[Any, Any], declared: Declared) -> None:
        self.path = path
        self.file = path
        self.defaults = defaults
        self.declared = declared
        self.root = tree.new_root(self)
        self.guard: Any = threading.RLock()
        forks.inherit(self)
        self.applying = 0
        self.closed = False
        self.due = 0.0
        self.slack = b""  # the byte at the tail while nothing has come
        self.times: tuple[int, int] | None = None  # of the file, when its snapshot was found to be the one known here
        self.open_files: list[MappedFile] = []  # `mapping`, from the first look on
        if system.status(path) is None:
            raise FileNotFoundError(2, "there is no state file to read", path)
        try:
            with self.guard, self._taken_up():
                self._load()
        except BaseException:
            _close_all(self.open_files)
            raise

    def refresh(self) -> None:
        """Bring memory up to date with what was committed."""
        self.steady(_nothing)

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
                with self._taken_up():
                    self._catch_up()
            else:
                self._catch_up()
        except StateFileError:
            self.due, self.times = 0.0, None  # each access looks again, until it is mended
            raise

    @contextlib.contextmanager
    def _taken_up(self) -> Iterator[None]:
        """On Windows, where nobody can replace a file that is open, have it open while it is read, and no longer."""
        try:
            if system.REPLACE_NEEDS_UNMAPPED:
                for file in self.open_files:
                    file.take_up(mapped=False)  # if another file is there now, that shows
            yield
        finally:
            if system.REPLACE_NEEDS_UNMAPPED:
                _close_all(self.open_files)

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:  # noqa: ARG002
        """Refuse to write."""
        raise ReadOnlyError(f"{self.file}: is open readonly; open it without readonly=True to change it")

    def commit_one(self, node: Any, key: Any, value: Any, how: str = "") -> Any:  # noqa: ARG002
        """Refuse to write."""
        self.write(node.plain)

    def commit(self, node: Any, record: tuple[changes.Change, ...], publish: Callable[..., None], *args: Any) -> None:  # noqa: ARG002
        """Refuse to write."""
        self.write(publish, *args)

    def hold(self, holder: int = 0) -> NoReturn:  # noqa: ARG002
        """Refuse to lock: there is nothing to write."""
        raise ReadOnlyError(f"{self.file}: is open readonly; open it without readonly=True to lock, sync or compact it")

    def unhold(self, holder: int = 0) -> bool:  # noqa: ARG002
        """Have nothing to release."""
        return False

    begin = hold

    def held(self, holder: int = 0) -> int:  # noqa: ARG002
        """Hold nothing."""
        return 0

    def end(self, holder: int, *, commit: bool) -> None:
        """Have nothing to end."""

    def check_declared(self) -> None:
        """Have nothing to check: it is done whenever the file is read."""

    def refuse_to_wait(self) -> None:
        """Raise `ClosedError` when closed: nothing changes any more."""
        if self.closed:
            raise ClosedError(f"{self.file}: the state was closed; open it again")

    def is_in_transaction(self) -> bool:
        """Be in none."""
        return False

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

    def sync(self) -> None:
        """Refuse to write."""
        self.hold()

    def vacuum(self) -> None:
        """Refuse to write."""
        self.hold()

    def rest(self) -> None:
        """Leave the file as it is."""

    def forget(self) -> None:
        """In a forked child: start with a fresh lock. What another thread was at work on is read anew."""
        self.guard = threading.RLock()

    def close(self) -> None:
        """Let go of the file; reads go on working on the last state."""
        with self.guard:
            self.closed = True
            _close_all(self.open_files)

    def _catch_up(self) -> None:
        found = system.path_image(self.path)
        file = self.mapping
        if found is None or (found.size == 0 != file.size):
            return  # deleted, or an editor half-way: what is read is the last state
        if self.applying & 1:
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
            is_due = found.times != self.times and monotonic() >= self.due
            if not (self._is_quiet() or self._follow()) or (is_due and not self._is_intact(found)):
                self._load()

    def _is_quiet(self) -> bool:
        """Return whether nothing has come at the tail; at rest there is none."""
        tail = self.journal.tail
        return self.journal.start < 0 or self.mapping.read(tail, tail + 1) == self.slack

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
            self.applying += 1
        return True

    def _apply(self, payloads: list[bytes]) -> bool:
        """Apply records; memory is half-way then. Return False where it is not what they were made for."""
        try:
            records = changes.decode_each(payloads)
            self.applying |= 1
            self._replay(records)
        except (*changes.APPLY_ERRORS, StateFileError):
            return False  # a look at the whole file tells more
        return True

    def _replay(self, records: list[list[changes.Change]]) -> None:
        for record in records:
            tree.replay(self.root, record)

    def _has_grown(self, size: int) -> bool:
        """Return whether the open file, of another size now, is what it was, with a journal or more room behind it."""
        file, journal = self.mapping, self.journal
        if size < file.size:
            return False
        if journal.start >= 0:
            if not journal.is_in_file() or not (self._is_quiet() or self._follow()):
                return False
            end = file.read(max(journal.tail + 1, file.size, size - _END), size)
            file.size = size
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
        file.size, self.slack = size, b"#"
        return True

    def _is_intact(self, found: Image) -> bool:
        """Return whether no editor has changed the open file in place, and left its size."""
        began = monotonic()
        journal = self.journal
        intact = crc32(self.mapping.read(0, journal.snapshot_end)) == journal.snapshot_crc and journal.is_in_file()
        self.times = found.times if system.is_settled(found) else None
        ended = monotonic()
        self.due = ended + max(LOOK_INTERVAL, SHARE * (ended - began))
        return intact

    def _load(self) -> None:
        """Read the whole file, as soon as it stands still."""
        try:
            reading.settled(lambda: MappedFile.open(self.path, write=False), self._accept, self._leave)
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
        self.applying += 1

    def _follow_vacuum(self, parts: content.Layout) -> bool:
        """Apply the records behind an image that was made from what memory is; return False where it is another."""
        if not self.open_files or self.applying & 1 or self.journal.start < 0:
            return False
        if parts.marker is None or parts.scan is None or not parts.intact:
            return False
        return parts.marker.origin == self.journal.position and self._apply(parts.scan.payloads)

    def _rebuild(self, data: bytes, parts: content.Layout) -> None:
        state = content.read(data, parts, self.file).state
        content.check(data, parts, state, (self.declared,), self.file)
        for key, value in self.defaults.items():
            state.setdefault(key, value)
        self.applying |= 1
        if not same(state, tree.plain_root(self.root)):  # as it is after a vacuum to rest, in which all stay the same
            tree.reconcile(self.root, state)

    def _stand_on(self, file: MappedFile, data: bytes, parts: content.Layout) -> None:
        if parts.marker is None or parts.scan is None:
            file.size = parts.snapshot_end  # what stands behind it is a journal that is not begun yet
            journal = Journal.at_rest(file, 0, parts.snapshot_crc)
        else:
            journal = Journal.begun(file, parts.marker._replace(snapshot_crc=parts.snapshot_crc))
            journal.stand(parts.scan.tail, parts.scan.crc)
        old = self.open_files
        self.mapping, self.open_files = file, [file]
        _close_all(old)
        self.journal = journal
        self.slack = data[journal.tail : journal.tail + 1].replace(b"-", b"#")  # of a record that was left out
        self.due, self.times = monotonic() + LOOK_INTERVAL, None


def _nothing() -> None:
    """Read nothing: to be up to date is all that is wanted."""


def _close_all(files: list[MappedFile]) -> None:
    for file in files:
        file.close()
