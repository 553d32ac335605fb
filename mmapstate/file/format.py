"""Every constant and byte of the state file. Pure: no I/O.

The same, at greater length, is told in ``docs/format.md`` for readers in other languages.

The state file
==============

::

    file       := snapshot [journal]
    snapshot   := one YAML document, or one JSON text, UTF-8, a mapping at its top
    journal    := marker record* slack
    marker     := "--- # mmapstate journal 1 " generation " from " (position | "-") " " snapshot-crc " " text LF
                                                               text: any without "--- "
    record     := "--- " payload " #" crc LF
    slack      := "#" [mark] then spaces to the end of the file
    mark       := "!" 8 hex digits                             the last record is not synced yet
    payload    := change | "[" change ("," change)* "]"        see `changes`
    generation := 16 hex digits                                64 random bits naming one journal
    position   := generation ":" tail                          tail: an offset in the file, decimal
    crc        := 8 hex digits                                 of the payload, seeded by the previous record's

At every moment the file is a valid YAML stream (but for half a character, which a killed writer can leave in the
comment at its end until the next one opens it). Its first document is the snapshot; each further one that is not empty
is a record. Whoever applies the changes of the records to the snapshot, in order, has the state.

**Committing.** The tail is the offset of the slack's ``#``. Behind it the record's text is stored, but for its first
byte and with a ``#`` where the next tail will be, then that first byte: ``-`` over the ``#``. Until this last store the
record is a comment. A writer killed before it leaves junk that is still comment; who takes the lock next blanks it.

**To survive loss of power** (durability "power") a record is synced before it is announced, and taken back if that
fails. Meanwhile a mark behind the next tail's ``#``, stored with the record's text, tells those who have no part in the
page to leave the record out; it is blanked before the announcement. The mark is the crc of the machine's boot id (16
bytes, zeros where unknown) and the file's inode (8 bytes, big-endian): a copy, or what loss of power left, is not
marked. Who has the lock takes a mark for junk: the record counts.

**Checksums.** The first record's crc is seeded with `seed` of the generation, each later one with its predecessor's.
So the crc after a run of records is one ``crc32`` over their payloads together, and records left from another journal
never fit. The snapshot's crc in the marker tells an edit by hand from our own writing.

**A journal is born** by one write that appends the marker with ``#`` in place of its first ``-``, the slack's ``#``
and spaces (real bytes, never a hole: a store into a hole on a full disk kills the process), and then by storing that
``-``. Until then it is a trailing comment, and no part of the snapshot.

**Odd bytes that readers accept**: NULs for spaces behind the last record (pages lost with the power), CR before LF,
slack that an editor cut short, and whole records (or the marker) still as comment behind which comes a committed one
that continues the chain through them (a copy made while a writer was at work).

A worked example: a snapshot of 11 bytes, and a journal of one record (the marker is one line)::

    last_id: 1
    --- # mmapstate journal 1 00000000000000aa from - f9df1cef newer changes follow; stop the programs before editing
    --- ["set", [], "last_id", 2] #1ddc1b43
    #
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

JOURNAL_VERSION = 1
DAMAGED = "1, damaged"
"""The version of a marker that is no longer as it was written."""

MARKER_START = b"--- # mmapstate journal "
MARKER_LENGTH = 256  # bytes, more than any marker of ours has
UNBORN_START = b"#" + MARKER_START[1:]
_UNBORN_SHORTEST = len(b"#-- #")  # less may be anybody's comment
_ADVICE = b"newer changes follow; stop the programs before editing"
_BARE = b"; the last line above had no end"
_MARKER = re.compile(
    rb"[#-]-- # mmapstate journal (?P<version>\S+)"
    rb"(?: (?P<generation>[0-9a-f]{16}) from (?:(?P<origin>[0-9a-f]{16}):(?P<tail>[0-9]{1,20})|-) (?P<crc>[0-9a-f]{8})"
    rb" (?:(?!--- )[^\n])*\n)?"  # a marker that holds the beginning of a record has lost its line end
)
_SECTOR = 512  # bytes
_BETWEEN = re.compile(rb" #[0-9a-f]{8}\n--- ")  # the payloads of two records
_SLACK_ONLY = re.compile(rb"\n# *\Z")
_STRAY_LINE = re.compile(rb"\n[ \r\x00]*([^#\x00 \r\n])")

RECORD = b"--- %b #%08x\n"  # payload, crc
UNCOMMITTED = RECORD[1:] + b"#"  # what is stored behind the tail before the commit

_MARK = b"!%08x"
MARK_LENGTH = 9  # bytes
_MARK_LEFT = re.compile(rb"!?[0-9a-f]{0,8}")

PAGE_SIZE = 4096  # bytes, of the header page (see `page`)


class Position(NamedTuple):
    """How far a process has seen: a journal and an offset in it."""

    generation: int
    tail: int


class Image(NamedTuple):
    """What the operating system says of a file: inode number, size in bytes, mtime and ctime in nanoseconds.

    The times tell when to look at the bytes, never that these are the same: some filesystems count in seconds, and any
    program may set an mtime. So the page has no ctime, and only inode and size of the page's are compared.
    """

    inode: int
    size: int
    mtime: int
    changed: int = 0

    @property
    def times(self) -> tuple[int, int]:
        """What differs after a change, once the filesystem's clock has ticked."""
        return self.mtime, self.changed


class Marker(NamedTuple):
    """The line that begins a journal: where it stands, and what it says.

    ``bare`` says that the snapshot's last line had no end, before the journal was begun.
    """

    start: int
    end: int
    version: str
    generation: int
    origin: Position | None
    snapshot_crc: int
    bare: bool = False


class Run(NamedTuple):
    """Records found from some offset on, up to `tail`; `crc` is the last one's.

    `last` and `last_crc` are what `tail` and `crc` would be without that one.
    """

    payloads: list[bytes]
    tail: int
    crc: int
    last: int
    last_crc: int

    def without_last(self) -> Run:
        """Return the records but for the last one."""
        return Run(self.payloads[:-1], self.last, self.last_crc, self.last, self.last_crc)


class Scan(NamedTuple):
    """The records found from some offset on, up to `tail`; `crc` is the last one's.

    `bad` is the offset of the first byte that belongs to no record and no slack, or -1. `clean` says that the slack
    is one ``#`` and spaces to the end of the file.
    """

    payloads: list[bytes]
    tail: int
    crc: int
    bad: int
    clean: bool


def seed(generation: int) -> int:
    """Return what the crc of a journal's first record continues."""
    return crc32(b"%016x" % generation)


def marker(generation: int, origin: Position | None, snapshot_crc: int, *, bare: bool = False) -> bytes:
    """Return the line that begins a journal, LF included."""
    came_from = b"%016x:%d" % origin if origin else b"-"
    return b"%s%d %016x from %s %08x %s%s\n" % (
        MARKER_START, JOURNAL_VERSION, generation, came_from, snapshot_crc, _ADVICE, _BARE if bare else b""
    )  # fmt: skip


def find_marker(data: bytes) -> Marker | None:
    """Return the marker in a file's bytes: the first line that begins a journal, of whatever version."""
    start = _find_line(data, MARKER_START)
    if start >= 0:
        return _read_marker(data, start)
    # A copy made while a journal was born may hold the marker still as comment, its first record committed.
    start = _find_line(data, UNBORN_START)
    if start >= 0:
        found = _read_marker(data, start)
        first = _record_at(data, found.end, seed(found.generation))
        if first is not None and first.committed:
            return found
    start = data.rfind(MARKER_START)
    if start >= 0 and _SLACK_ONLY.match(data, data.find(b"\n", start)):
        return Marker(start, len(data), DAMAGED, 0, None, 0)  # the line end before it was changed
    return None


def is_bare(line: bytes) -> bool:
    """Return whether a marker says that the snapshot's last line had no end before it."""
    return line.rstrip().endswith(_BARE)


def unborn_start(data: bytes) -> int:
    """Return where a journal that was appended, but not yet begun, starts at the end of `data`; -1 if there is none.

    A killed write may have left only some first bytes of it, a loss of power NULs in place of any. NULs alone in a
    whole file are none: that is somebody's lost text.
    """
    start = _find_line(data, UNBORN_START)
    if start >= 0:
        slack = data[start:].partition(b"\n")[2]
        return -1 if slack.strip(b"# \x00\r\n") else start
    nul = data.find(b"\x00")
    written = data if nul < 0 else data[:nul]
    start = written.rfind(b"\n") + 1
    begun = UNBORN_START.startswith(written[start:])
    if nul < 0:
        return start if begun and len(written) - start >= _UNBORN_SHORTEST else -1
    if (nul == 0 and not data.strip(b"\x00")) or not _is_lost_journal(data[nul:]):
        return -1
    # A line that was cut by the loss ends where a sector does: one that ends elsewhere is whole.
    return start if begun else nul if nul % _SECTOR else -1


def _is_lost_journal(data: bytes) -> bool:
    """Return whether this is NULs, maybe the last part of a marker, and slack."""
    data = data.rstrip(b"\x00 ").removesuffix(b"#")
    blank, _, piece = data.rpartition(b"\x00")
    if blank.strip(b"\x00 "):
        return False
    line = piece.strip(b" ")
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    is_of_marker = any(text.endswith(end) or end.endswith(text) for end in (_ADVICE, _ADVICE + _BARE))
    return not line or (is_of_marker and line != text)


def record(payload: bytes, crc: int) -> tuple[bytes, int]:
    """Return the text of a record, LF included, and its crc; `crc` is its predecessor's."""
    crc = crc32(payload, crc)
    return RECORD % (payload, crc), crc


def read_batch(data: bytes, crc: int) -> tuple[list[bytes], int] | None:
    """Return payloads and last crc of `data`, which should be whole records that continue `crc`; None if it is not."""
    if data[:4] != b"--- " or data[-11:-9] != b" #" or data[-1:] != b"\n":
        return None
    payloads = _BETWEEN.split(data[4:-11])
    crc = crc32(b"".join(payloads), crc)
    if data[-9:-1] != b"%08x" % crc or data.count(b"\n") != len(payloads):
        return None
    return payloads, crc


def run(data: bytes, start: int, crc: int) -> Run:
    """Return the records in `data` from `start` on, each checked against the chain that `crc` begins."""
    payloads: list[bytes] = []
    comments: list[bytes] = []  # a copy made while a writer was at work may hold some whose successor is committed
    tail, tail_crc, last, last_crc = start, crc, start, crc
    while (found := _record_at(data, start, crc)) is not None:
        comments.append(found.payload)
        if found.committed:
            payloads += comments
            comments.clear()
            last, last_crc, tail, tail_crc = start, crc, found.end, found.crc
        start, crc = found.end, found.crc
    return Run(payloads, tail, tail_crc, last, last_crc)


def scan(data: bytes, start: int, crc: int) -> Scan:
    """Return the same of a whole file's `data`, and what it is like behind them."""
    payloads, tail, crc, _, _ = run(data, start, crc)
    return Scan(payloads, tail, crc, *_judge_slack(data, tail))


def unsynced(boot: bytes, inode: int) -> bytes:
    """Return the mark that stands behind the slack's ``#`` while the last record of a file is not synced."""
    return _MARK % crc32(boot + inode.to_bytes(8, "big"))


def is_blank(slack: bytes) -> bool:
    """Return whether nothing stands behind the slack's ``#``, or no more than loss of power may have left of a mark."""
    return _MARK_LEFT.fullmatch(slack.strip(b" \x00")) is not None


class _Found(NamedTuple):
    committed: bool
    payload: bytes
    end: int
    crc: int


def _find_line(data: bytes, beginning: bytes) -> int:
    """Return the offset of the first line that starts with `beginning`; -1 if there is none."""
    if data.startswith(beginning):
        return 0
    before = data.find(b"\n" + beginning)
    return before if before < 0 else before + 1


def _read_marker(data: bytes, start: int) -> Marker:
    line_end = data.find(b"\n", start)
    end = line_end + 1 if line_end >= 0 else len(data)
    match = _MARKER.match(data, start)
    if match is None:  # the words alone, without a version
        return Marker(start, end, "?", 0, None, 0)
    version = match["version"].decode("ascii", "replace")
    if match["generation"] is None or int(match["tail"] or 0) >> 64:
        return Marker(start, end, version if version != "1" else DAMAGED, 0, None, 0)
    origin = Position(int(match["origin"], 16), int(match["tail"])) if match["origin"] else None
    bare = is_bare(data[start:end])
    return Marker(start, end, version, int(match["generation"], 16), origin, int(match["crc"], 16), bare)


def _record_at(data: bytes, start: int, crc: int) -> _Found | None:
    """Return the whole record at `start`, committed or still a comment, that continues `crc`; None if there is none."""
    beginning = data[start : start + 4]
    if beginning not in (b"--- ", b"#-- "):
        return None
    end = data.find(b"\n", start)
    if end < 0:
        return None
    line_end = end - 1 if data[end - 1 : end] == b"\r" else end
    payload = data[start + 4 : line_end - 10]
    crc = crc32(payload, crc)
    if data[line_end - 10 : line_end] != b" #%08x" % crc:
        return None
    return _Found(beginning == b"--- ", payload, end + 1, crc)


def _judge_slack(data: bytes, tail: int) -> tuple[int, bool]:
    """Return the offset of the first byte from `tail` on that cannot be slack (or -1), and whether it is clean."""
    if data[tail : tail + 1] == b"#" and not data[tail + 1 :].strip(b" "):
        return -1, True
    stray = _STRAY_LINE.search(b"\n" + data[tail:])
    return tail + stray.start(1) - 1 if stray is not None else -1, False
