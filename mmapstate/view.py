"""A state file that is only read (``readonly=True``): no lock, no sidecar, no write permission needed.

What stands behind the nodes is a `View` in place of a `Store`. It follows the file by its bytes: the one at its own
tail turns from ``#`` to ``-`` when a record is committed. Everything else (a vacuum, an edit by hand) is read anew.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar
from zlib import crc32

from mmapstate import changes, content, forks, nodes, platform, reading
from mmapstate.declared import Declared
from mmapstate.errors import ClosedError, ReadOnlyError, StateError, StateFileError
from mmapstate.format import Image, scan
from mmapstate.mapping import MappedFile

__all__ = ["View"]

_T = TypeVar("_T")

LOOK_INTERVAL = 0.05  # seconds between two looks at the path


class View:
    """One state file as a reader sees it (see `nodes.Tree`)."""

    exclusive = False
    stamp, seen, due = (0,), -1, 0.0  # there is no page to tell whether something is new: `refresh` looks

    def __init__(self, path: str, defaults: dict[Any, Any], declared: Declared) -> None:
        self.path = path
        self.file = path
        self.defaults = defaults
        self.declared = declared
        self.root = nodes.new_root(self)
        self.guard: Any = threading.RLock()
        forks.inherit(self)
        self.applying = 0
        self.closed = False
        self.due = 0.0
        self.mapping: MappedFile | None = None
        self.open_files: list[MappedFile] = []
        weakref.finalize(self, _close_all, self.open_files)  # of a state that is dropped without close()
        self.image = Image(0, 0, 0)
        self.tail = self.crc = 0
        self.journaled = False
        self.snapshot = (0, 0)
        if platform.status(path) is None:
            raise FileNotFoundError(2, "there is no state file to read", path)
        with self.guard, self._taken_up():
            self._load()

    def refresh(self) -> None:
        """Bring memory up to date with what was committed; one byte is read for it."""
        if self.closed or self.guard._is_owned():
            return
        with self.guard:
            try:
                self._refresh()
            except StateFileError:
                self.due = 0.0  # each access looks again, until it is mended
                raise

    def _refresh(self) -> None:
        with self.guard:
            if platform.REPLACE_NEEDS_UNMAPPED:
                with self._taken_up():
                    self._look_or_follow()
            else:
                self._look_or_follow()

    def _look_or_follow(self) -> None:
        if time.monotonic() >= self.due or self.applying & 1:
            self._look()
        elif self.mapping is not None and self.mapping.read(self.tail, self.tail + 1) not in (b"#", b""):
            self._follow()

    @contextlib.contextmanager
    def _taken_up(self) -> Iterator[None]:
        """On Windows, where nobody can replace a file that is open, have it open while it is read, and no longer."""
        try:
            if platform.REPLACE_NEEDS_UNMAPPED and self.mapping is not None and not self.mapping.take_up(mapped=False):
                self.due = 0.0  # another file is there now
            yield
        finally:
            if platform.REPLACE_NEEDS_UNMAPPED and self.mapping is not None:
                self.mapping.close()

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""
        self.refresh()
        with self.guard:
            return read(*args)

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
        if self.guard.acquire(False):
            try:
                with contextlib.suppress(StateError, OSError):
                    self.refresh()
            finally:
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
        if self.applying & 1:
            self.due = 0.0

    def close(self) -> None:
        """Let go of the file; reads go on working on the last state."""
        with self.guard:
            self.closed = True
            if self.mapping is not None:
                self.mapping.close()

    def _look(self) -> None:
        found = platform.path_image(self.path)
        self.due = time.monotonic() + LOOK_INTERVAL
        if found is None or (found.size == 0 != self.image.size):
            return  # deleted, or an editor half-way: what is read is the last state
        if self.applying & 1 or found[:2] != self.image[:2] or (found != self.image and not self._is_snapshot_intact()):
            self._load()
        else:
            self.image = found
            self._follow()

    def _is_snapshot_intact(self) -> bool:
        assert self.mapping is not None
        end, crc = self.snapshot
        return crc32(self.mapping.read(0, end)) == crc

    def _follow(self) -> None:
        """Apply the records behind the own tail; one that does not check out is not visible yet."""
        if not self.journaled or self.mapping is None:
            return
        found = scan(self.mapping.read(self.tail), 0, self.crc)
        if not found.payloads:
            return
        records = changes.decode_each(found.payloads)
        self.applying |= 1
        self._replay(records)
        self.tail += found.tail
        self.crc = found.crc
        self.applying += 1

    def _replay(self, records: list[list[changes.Change]]) -> None:
        for record in records:
            nodes.replay(self.root, record)

    def _load(self) -> None:
        """Read the whole file. What is caught half-way through an edit is read again, until it stands still."""
        for left in reversed(range(reading.TRIES)):
            file = MappedFile.open(self.path, write=False)
            try:
                data = file.read(0)
                if left == 0 or not reading.is_half_way(data, file.image):
                    self._accept(file, data)
                    return
            except StateFileError:
                if left == 0 or platform.path_image(self.path) == file.image:
                    file.close()
                    raise
            file.close()
            time.sleep(reading.PAUSE)

    def _accept(self, file: MappedFile, data: bytes) -> None:
        parts, state = reading.parsed(data, self.file)
        content.check(data, parts, state, (self.declared,), self.file)
        for key, value in self.defaults.items():
            state.setdefault(key, value)
        self.applying |= 1
        nodes.reconcile(self.root, state)
        old, self.mapping = self.mapping, file
        self.open_files[:] = [file]
        if old is not None:
            old.close()
        self.image = file.image
        self.journaled = parts.scan is not None
        self.tail, self.crc = (parts.scan.tail, parts.scan.crc) if parts.scan else (len(data), 0)
        self.snapshot = (parts.snapshot_end, parts.snapshot_crc)
        self.due = time.monotonic() + LOOK_INTERVAL
        self.applying += 1


def _close_all(files: list[MappedFile]) -> None:
    for file in files:
        file.close()
