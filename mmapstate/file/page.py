"""The header page: the first page of the lock file, mapped by every process; through it they agree. Pure: no I/O.

It is in the byte order of the host:

======  =====  ===========================================================================================
offset  bytes
======  =====  ===========================================================================================
0       8      magic, version in its last byte
8       1      dirty: 1 while a holder of the lock changes anything; found set, its owner has died
9       1      release: 1 while a vacuum waits for the other processes to unmap the file (Windows)
10      1      sync failed: 1 after a sync of the image failed; who writes next writes a new file
11      1      layout of the snapshot: 0 unknown, 1 what a dump of the state gives, 2 written otherwise, to be kept
12      1      waited for: 1 while somebody waits for the lock for long; who wants it again pauses before
13      1      moved on: 1 when a process has gone on to the page of another lock file, as this one was deleted
16      16     generation announced last; sequence word, the one word that readers compare
32      16     the position the present image was made from (zeros: made from none)
48      24     inode, size and mtime (nanoseconds) of the image as we last wrote it
72      16     generation and inode of an image about to be swapped in
104     16     boot id of the machine (zeros: unknown)
120     8      offset of the journal's header in the present image (-1: at rest)
128     16     the position that the image at rest was made from, in which the present journal was begun
144     8      crc of the present image's snapshot, at rest or before the journal's header
256     256    the last positions before external edits were accepted, the newest first (zeros: none)
======  =====  ===========================================================================================

A position is a generation and an offset behind its journal's last record, its tail, of 8 bytes each. The sequence word
is the announced tail, with the generation's last 16 bits above it: one word to load, compare and store. A new
generation's last 16 bits are one more than those announced before, so none comes again while anybody has not looked.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from mmapstate.file.format import PAGE_SIZE, Image, Position

MAGIC = b"mmapst\x00\x03"

# For those in a hurry: ``page.bytes[DIRTY]`` is ``page.dirty``.
DIRTY, RELEASE, SYNC_FAILED, LAYOUT, WAITED_FOR, MOVED_ON = range(8, 14)
UNKNOWN, DUMPED, WRITTEN = 0, 1, 2  # layouts

SEQUENCE = 3  # counted in words of 8 bytes
BOOT = slice(104, 120)
_ANNOUNCED = slice(16, 32)
_SUPERSEDED = slice(256, 512)

_POSITION = Struct("=QQ")
_IMAGE = Struct("=QQq")
_OFFSET = Struct("=q")
NOWHERE = Position(0, 0)

_GENERATION = 2**64 - 1
_GENERATION_PART = 2**16 - 1
_TAIL_BITS = 48
_TAIL = 2**_TAIL_BITS - 1


def sequence(position: Position) -> int:
    """Return the sequence word of a position."""
    return (position.generation & _GENERATION_PART) << _TAIL_BITS | position.tail


def successor(generation: int, bits: int) -> int:
    """Return a generation to follow `generation`, made unique by `bits`, of which it takes 48."""
    return ((bits << 16 & _GENERATION) | (generation + 1 & _GENERATION_PART)) or 1


def _byte(offset: int) -> Any:
    return property(lambda page: page.bytes[offset], lambda page, value: page.bytes.__setitem__(offset, int(value)))


def _field(offset: int, packing: Struct, kind: Callable[..., Any]) -> Any:
    place = slice(offset, offset + packing.size)
    length = len(packing.unpack(bytes(packing.size)))

    def store(page: HeaderPage, value: Any) -> None:
        page.bytes[place] = packing.pack(value) if kind is int else packing.pack(*value[:length])

    return property(lambda page: kind(*packing.unpack(page.bytes[place])), store)


class HeaderPage:
    """The mapped page. `bytes` are its contents and `word` its sequence word, for those in a hurry."""

    dirty = _byte(DIRTY)
    release = _byte(RELEASE)
    sync_failed = _byte(SYNC_FAILED)
    layout = _byte(LAYOUT)
    waited_for = _byte(WAITED_FOR)
    moved_on = _byte(MOVED_ON)
    origin = _field(32, _POSITION, Position)
    image = _field(48, _IMAGE, Image)
    pending = _field(72, _POSITION, Position)
    start = _field(120, _OFFSET, int)
    before = _field(128, _POSITION, Position)
    snapshot_crc = _field(144, _OFFSET, int)

    def __init__(self, contents: Any, word: Any, inode: int) -> None:
        self.bytes = contents
        self.word = word
        self.inode = inode

    @classmethod
    def of_bytes(cls, data: bytes) -> HeaderPage:
        """Return what `data`, the bytes of a page, say: to be looked at alone."""
        words = memoryview(data[:PAGE_SIZE].ljust(PAGE_SIZE, b"\0")).cast("Q")
        return cls(data, words[SEQUENCE : SEQUENCE + 1], -1)

    @classmethod
    def absent(cls) -> HeaderPage:
        """Return the page of who has none, yet or any more: dirty, so that nothing is done by the fast path."""
        return cls.of_bytes(bytes(DIRTY) + b"\1" + bytes(PAGE_SIZE - DIRTY - 1))

    def is_usable(self, boot: bytes) -> bool:
        """Return whether the page is of this version and was written since the machine started."""
        return bool(self.bytes[: len(MAGIC)] == MAGIC and self.bytes[BOOT] == boot)

    def initialise(self, boot: bytes) -> None:
        """Make the page a valid one that announces nothing yet: dirty."""
        self.dirty = True
        self.bytes[DIRTY + 1 : PAGE_SIZE] = bytes(PAGE_SIZE - DIRTY - 1)
        self.bytes[BOOT] = boot
        self.bytes[: len(MAGIC)] = MAGIC

    def take_over(self, other: HeaderPage) -> None:
        """Say what `other`, the page of a lock file that is gone, has said."""
        self.bytes[:PAGE_SIZE] = other.bytes[:PAGE_SIZE]

    @property
    def position(self) -> Position:
        """The position announced last."""
        generation, word = _POSITION.unpack(self.bytes[_ANNOUNCED])
        return Position(generation, word & _TAIL)

    @property
    def superseded(self) -> list[Position]:
        """The last positions before external edits were accepted, the newest first."""
        return [Position(*each) for each in _POSITION.iter_unpack(self.bytes[_SUPERSEDED]) if each[0]]

    def supersede(self, position: Position) -> None:
        """Add to them, in the place of the oldest."""
        if position.generation and position not in self.superseded:
            self.bytes[_SUPERSEDED] = _POSITION.pack(*position) + self.bytes[_SUPERSEDED][: -_POSITION.size]

    def announce(
        self,
        position: Position,
        origin: Position | None,
        image: Image,
        start: int,
        before: Position | None,
        snapshot_crc: int,
    ) -> None:
        """Announce a new generation; who reads the new position reads what belongs to it."""
        announced = _POSITION.pack(position.generation, sequence(position))
        self.snapshot_crc = snapshot_crc
        self.before = before or NOWHERE
        self.origin = origin or NOWHERE
        self.image = image
        self.start = start
        self.bytes[_ANNOUNCED] = announced
        self.pending = NOWHERE  # last: who dies before is found out by it

    def close(self) -> None:
        """Unmap it."""
        self.word.release()
        if self.inode >= 0:
            self.bytes.close()
