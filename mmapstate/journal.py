"""Append and replay over a mapped file; owns the tail.

A journal is where this process stands in one file: the generation, the offset behind the last record it knows, and
that record's crc. It moves forward only: by `advance`, under the lock, and by `follow`, which reads what others did.
"""

from __future__ import annotations

from zlib import crc32

from mmapstate.format import UNCOMMITTED, Marker, Position, read_batch, seed, stamp
from mmapstate.mapping import MappedFile

__all__ = ["COMMITTED", "SLACK", "Journal"]

SLACK = ord("#")
COMMITTED = ord("-")


class Journal:
    """The position of a process in the journal of `file`; at rest (`start` is -1) there is none to append to."""

    __slots__ = ("bare", "base", "crc", "end", "end_start", "file", "generation", "snapshot_crc", "start", "tail")

    def __init__(self, file: MappedFile, generation: int, start: int, tail: int, crc: int, snapshot_crc: int) -> None:
        self.bare = False  # whether the snapshot's last line has an end only because of the journal behind it
        self.file = file
        self.generation = generation
        self.base = stamp(Position(generation, 0))  # a tail's stamp is so much more
        self.start = start
        self.tail = tail
        self.crc = crc
        self.snapshot_crc = snapshot_crc
        # The bytes from `end_start` to the tail, and the slack's first: the last crc and its LF, or the last record.
        self.end, self.end_start = b"", tail

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
    def stamp(self) -> int:
        """How far this process has seen, in the form in which it is announced."""
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
