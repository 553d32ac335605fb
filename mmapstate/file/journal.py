"""Append and replay over a mapped file; owns the tail.

A journal is where this process stands in one file: the generation, the offset behind the last record it knows, and
that record's crc. It moves forward only: by `advance`, under the lock, and by `follow`, which reads what others did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from mmapstate.file import host
from mmapstate.file.format import (
    MARK_LENGTH,
    UNCOMMITTED,
    Image,
    Marker,
    Position,
    Run,
    read_batch,
    run,
    seed,
    unsynced,
)
from mmapstate.file.page import sequence

if TYPE_CHECKING:
    from mmapstate.file.mapped import MappedFile  # who only reads need not wait for it

SLACK = ord("#")
COMMITTED = ord("-")
_PIECE = 1024  # bytes, to be read at first of what may be new


class Readable(Protocol):
    """A file that is open, as far as it is only read."""

    path: str
    image: Image
    inode: int

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from `start` to `stop` (default: to the end of the file), or to where the file ends."""


class Journal:
    """The position of a process in the journal of `file`; at rest (`start` is -1) there is none to append to."""

    __slots__ = ("bare", "base", "crc", "end", "end_start", "file", "generation", "snapshot_crc", "start", "tail")

    def __init__(self, file: MappedFile, generation: int, start: int, tail: int, crc: int, snapshot_crc: int) -> None:
        self.bare = False  # whether the snapshot's last line has an end only because of the journal behind it
        self.file = file
        self.generation = generation
        self.base = sequence(Position(generation, 0))  # the sequence word of a tail is so much more
        self.start = start
        self.tail = tail
        self.crc = crc
        self.snapshot_crc = snapshot_crc
        # The bytes from `end_start` to the tail, and the slack's first: the last crc and its LF, or the last record.
        self.end, self.end_start = b"", tail

    @classmethod
    def nowhere(cls, file: MappedFile) -> Journal:
        """Return the position of who has no file yet."""
        return cls(file, 0, -1, 0, 0, 0)

    @classmethod
    def at_rest(cls, file: MappedFile, generation: int, snapshot_crc: int) -> Journal:
        """Return the position in a file that is its snapshot alone."""
        return cls(file, generation, -1, file.size, 0, snapshot_crc)

    @classmethod
    def begun(cls, file: MappedFile, marker: Marker) -> Journal:
        """Return the position just behind the marker, before the first record."""
        journal = cls(file, marker.generation, marker.start, marker.end, seed(marker.generation), marker.snapshot_crc)
        journal.bare = marker.bare
        journal.stand(marker.end, journal.crc)
        return journal

    @property
    def position(self) -> Position:
        """How far this process has seen."""
        return Position(self.generation, self.tail)

    @property
    def sequence(self) -> int:
        """How far this process has seen, as the sequence word that announces it."""
        return self.base + self.tail

    @property
    def snapshot_end(self) -> int:
        """Where the snapshot ends."""
        return self.tail if self.start < 0 else self.start

    def room(self) -> int:
        """Return how many bytes of records fit; the slack's ``#`` behind them needs one more."""
        return 0 if self.start < 0 else self.file.size - self.tail - 1

    def encode(self, payload: bytes) -> tuple[bytes, int]:
        """Return the next record, which holds `payload`, and its crc.

        The record is its text without the first byte, and with the slack's ``#`` behind it: as long as the record.
        """
        crc = crc32(payload, self.crc)
        return UNCOMMITTED % (payload, crc), crc

    def advance(self, start: int, end: bytes, crc: int, tail: int) -> None:
        """Stand behind the record just appended; `end` are its last bytes, from `start` on, and the slack's first."""
        self.end_start, self.end, self.crc, self.tail = start, end, crc, tail

    def unmark(self, text: bytes) -> None:
        """Blank the mark behind the record just appended: it is synced."""
        end = self.tail + 1 + len(text)
        self.file.bytes[end : end + MARK_LENGTH] = b" " * MARK_LENGTH

    def is_untouched(self) -> bool:
        """Return whether the end of the last record (or marker) stands before the tail, and no record at it.

        Not by the mapping: where another program has cut the file, to read that would end the process.
        """
        return self.file.read(self.end_start, self.tail + 1) == self.end

    def is_in_file(self) -> bool:
        """Return whether the last record's end stands where it should. By the file, not the mapping."""
        return self.start < 0 or self.file.read(self.end_start, self.tail) == self.end[:-1]

    def follow(self, until: int) -> list[bytes] | None:
        """Move on to the offset `until` and return the payloads on the way; None if they do not check out (yet)."""
        data = self.file.read(self.tail, until)
        if len(data) != until - self.tail:
            return None
        batch = read_batch(data, self.crc)
        if batch is None:
            return None
        payloads, crc = batch
        self._move(until, crc, data[-9:] + b"#")
        return payloads

    def ahead(self) -> Run | None:
        """Return what is committed behind the tail by what the file alone says; None if it does not check out.

        The tail stays. No more is read than a piece behind it, and twice as much each time that all of it is records.
        """
        found, size = Run([], self.tail, self.crc, self.tail, self.crc), _PIECE
        while True:
            data = self.file.read(found.tail, found.tail + size)
            more = run(data, 0, found.crc)
            if more.payloads:
                start = found.tail
                found = Run(
                    found.payloads + more.payloads, start + more.tail, more.crc, start + more.last, more.last_crc
                )
            if data[more.tail : more.tail + 1] not in (b"-", b"") or len(data) < size:
                break
            size *= 2
        if not found.payloads:
            return None
        return found if is_lasting(self.file, found.last, found.tail) else found.without_last()

    def stand(self, tail: int, crc: int) -> None:
        """Stand behind records that were read otherwise, of which the last has this crc."""
        self._move(tail, crc, self.file.read(tail - 9, tail) + b"#")

    def _move(self, tail: int, crc: int, end: bytes) -> None:
        self.tail, self.crc, self.end, self.end_start = tail, crc, end, tail - 9

    def blank(self, start: int, stop: int) -> None:
        """Make junk between two offsets of the slack into spaces; line ends first: it stays one comment throughout."""
        stores = self.file.bytes
        junk = self.file.read(start, stop)
        for offset, byte in enumerate(junk):
            if byte in b"\n\r":
                stores[start + offset] = 32
        stores[start:stop] = b" " * (stop - start)


def is_lasting(file: Readable, last: int, tail: int) -> bool:
    """Return whether the record from `last` to `tail`, just read as committed, is one that no failing sync takes back.

    It may have been taken back since it was read. Then it lost its commit byte before its mark, so that comes first.
    """
    mark = file.read(tail + 1, tail + 1 + MARK_LENGTH)
    if mark[:1] == b"!" and mark == unsynced(host.boot_id(), file.inode):
        return False
    return file.read(last, last + 1) == b"-"
