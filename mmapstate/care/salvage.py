"""The best state that a broken file's bytes allow, and what is lost by it. Pure: no I/O; the file's fate is `repairs`'.

Nothing is invented: what cannot be read is dropped, in pieces as small as the text lets one tell apart, and each is
told. Of the journal a prefix counts, as each checksum continues the one before.
"""

from __future__ import annotations

import copy
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from mmapstate import changes
from mmapstate.care.findings import NOTE, WARNING, Finding, examine, has_records, is_beyond_repair
from mmapstate.errors import BeyondRepair, StateFileError
from mmapstate.file import content
from mmapstate.file.format import DAMAGED, MARKER_START, Scan, find_marker, scan, seed
from mmapstate.text import patch, snapshot
from mmapstate.text.lenient import parse_leniently
from mmapstate.text.source import Leniency, line_end_of, split_bom
from mmapstate.values import Plain, same

__all__ = ["Mended", "mend"]

_LOOK = "it is in the copy of the file: look whether it can be written again by hand"
_NOTHING = "nothing: no value is lost by it"

_MOST_JOINED = 20  # lines that begin at the margin, and are yet one entry: brackets and quotes let that be
_LONGEST_MARKER = 512  # bytes, more than any has
_MOST_TRIES = 2000  # to join some, in a file; each costs a parse
_DEEPEST = 20  # levels of entries inside of entries that are told apart
_HEX = b"0123456789abcdef"
_NAME = re.compile(rb"[0-9a-f]{16}")
_RECORD_STARTS = (b"--- ", b"#-- ")
_AT_MARGIN = re.compile(rb"[^ \t\r\n#-]|---|-[^ \r\n]")  # what begins an entry of the top level
_KEY_ALONE = re.compile(rb"[^\n]*:[ \t]*(?:#[^\n]*)?\r?\n")
_COMMENTS = re.compile(rb"(?:(?:\A|(?<=\n))[ \t]*(?:#[^\n]*)?(?:\n|\Z))*\Z")
_SEPARATOR = re.compile(rb"(?:---|\.\.\.|%[^\n]*)[ \t]*(?:#[^\n]*)?\r?\n")


class Mended(NamedTuple):
    """What a broken file becomes: the text of its new snapshot, and what is no longer as it was."""

    text: bytes
    losses: list[Finding]


class _Journal(NamedTuple):
    """Where a journal begins, and its records; `lead` stands for the snapshot's bytes before `start`."""

    start: int
    end: int
    lead: bytes
    scan: Scan


def mend(data: bytes, file: str) -> Mended | None:
    """Return what a file with the bytes `data` can become; None where the library can open it, and lose nothing.

    Raises `StateFileError` for a journal of an unknown version, and where nothing in it can be read as a state.
    """
    examined = examine(data, file)
    if not examined.has_errors():
        return None
    parts = examined.parts
    if parts is not None and parts.foreign:
        content.read(data, parts, file, [])  # which raises: what is of persistedstate is not guessed at
    if parts is None:
        marker = find_marker(data)
        assert marker is not None
        if marker.version.isdecimal():
            raise StateFileError(str(examined.findings[0]))
        nothing = Scan([], marker.start, 0, marker.start, False)
        parts = content.Layout(marker.start, 0, marker._replace(version=DAMAGED), nothing, False, False, False)
    return _Salvage(data, file, parts).mend()


class _Salvage:
    """Works on one file's bytes."""

    def __init__(self, data: bytes, file: str, parts: content.Layout) -> None:
        self.data = data
        self.file = file
        self.parts = parts
        self.losses: list[Finding] = []
        self.line_starts = [0, *(end.end() for end in re.finditer(rb"\n", data))]

    def mend(self) -> Mended:
        journal = self._journal()
        before = journal.lead if journal is not None else self.data[: self.parts.snapshot_end]
        before, state = self._snapshot(before, has_records=journal is not None and journal.scan.payloads != [])
        if journal is not None:
            self._replay(state, journal)
            self._tell_of_tail(journal)
        elif self.parts.marker is not None:
            start = self.parts.marker.start
            self._lose(start, f"the journal is dropped{self._lines_from(start)}")
        text = _text(before, state, self.file)
        if text is None:
            as_json = snapshot.is_json(before, self.file)
            text = snapshot.dump(state, self.file, as_json=as_json, line_end=line_end_of(before))
            if snapshot.is_json(b"", self.file):
                self._lose(0, "the text is written as JSON, as the file's name says that it is", _NOTHING, NOTE)
            if b"#" in before:
                what = "the document is laid out anew: comments in it are in the copy alone"
                self._lose(0, what, "put them back if they are missed", NOTE)
        if not same(content.read_alone(text, self.file, []), state):
            raise StateFileError(f"{self.file}: what is left of it cannot be written; mend it in an editor")
        return Mended(text, sorted(self.losses, key=lambda loss: loss.offset or 0))

    def _lose(self, offset: int, what: str, what_to_do: str = _LOOK, severity: str = WARNING) -> None:
        line = bisect_right(self.line_starts, offset)
        self.losses.append(Finding(severity, self.file, offset, line, what, what_to_do))

    def _lines_from(self, start: int) -> str:
        count = sum(line.startswith(_RECORD_STARTS) for line in self.data[start:].split(b"\n")[1:])
        return f", and with it {count} lines of changes" if count else ""

    # --- The journal ------------------------------------------------------------------------------------------------

    def _journal(self) -> _Journal | None:
        """Return the journal, found again if the line that begins it was changed; None if there is none any more."""
        marker, found, as_it_stands = self.parts.marker, self.parts.scan, None
        if marker is not None and marker.version != DAMAGED and found is not None:
            lead = self.data[: marker.start]
            lead = lead.removesuffix(b"\n") if marker.bare else lead
            as_it_stands = _Journal(marker.start, marker.end, lead, found)
            if found.payloads or found.bad != found.tail:
                return as_it_stands
        for at, generation in self._names():
            line, _, _ = self.data[at : at + _LONGEST_MARKER].partition(b"\n")
            starts = [begun.start() for begun in re.finditer(rb"[#-]-- ", line)]  # the line end before it was changed
            for end in (at + len(line) + 1, *(at + start for start in starts)):
                if self.data[end : end + 4] in _RECORD_STARTS:
                    found = scan(self.data, end, seed(generation))
                    if found.payloads:
                        return self._found_again(at, end, found)
        return as_it_stands

    def _names(self) -> Iterator[tuple[int, int]]:
        """Yield where a journal's name may stand, and which it may be; the first record tells whether it is."""
        if self.parts.marker is not None:
            at = self.parts.marker.start + len(MARKER_START) + 2
            for generation in _names_like(self.data[at : at + 16]):
                yield at, generation
        for name in _NAME.finditer(self.data):
            yield name.start(), int(name[0], 16)

    def _found_again(self, name: int, end: int, found: Scan) -> _Journal:
        """Tell that the journal's first line was changed, and where it begins."""
        start = self.data.rfind(b"\n", 0, name) + 1
        begun = self.data.find(MARKER_START, start, name)
        lead = self.data[:start]
        if begun > start:  # the line end before it was changed
            lead, start = self.data[: begun - 1] + b"\n", begun
            crc = re.search(rb" ([0-9a-f]{8}) ", self.data[name + 16 : end])
            if crc is None or int(crc[1], 16) != crc32(lead):
                cut = lead[:-1].rfind(b"\n") + 1
                self._lose(cut, "the last line of the snapshot runs into the journal, and is dropped")
                lead = lead[:cut]
        self._lose(start, "the line that begins the journal was changed; its changes are right", _NOTHING, NOTE)
        return _Journal(start, end, lead, found)

    def _tell_of_tail(self, journal: _Journal) -> None:
        """Tell of what stands behind the last good change, and goes."""
        tail, bad = journal.scan.tail, journal.scan.bad
        if bad < 0:
            return
        lines = [line for line in self.data[tail:].split(b"\n") if line.startswith(_RECORD_STARTS)]
        if lines:
            self._lose(
                bad, f"{len(lines)} lines of changes from there on are dropped: the first was changed since it was "
                "written, and those behind it cannot be checked, as each checksum continues the one before",
            )  # fmt: skip
        else:
            count = len(self.data[bad:].rstrip(b" \0\r\n"))
            self._lose(bad, f"{count} bytes of text behind the last change are dropped: they are no change")

    def _replay(self, state: dict[Any, Plain], journal: _Journal) -> None:
        """Apply the records to `state`; leave out, each as a whole, those that do not fit what is left of it."""
        misfits: list[int] = []
        for number, payload in enumerate(journal.scan.payloads, 1):
            try:
                record = changes.decode(payload)
                if len(record) > 1:  # all or nothing
                    names = [change[1][0] if change[1] else change[2] for change in record]
                    touched = {name: copy.deepcopy(state[name]) for name in names if name in state}
                    trial = {**state, **touched}
                    changes.apply(trial, record)
                    state.clear()
                    state.update(trial)
                else:
                    changes.apply(state, record)
            except (*changes.APPLY_ERRORS, StateFileError):
                misfits.append(number)
        first_line = bisect_right(self.line_starts, journal.end)
        for first, last in _runs(misfits):
            what = f"change {first} of the journal does not fit what is left, and is left out"
            if last > first:
                what = f"changes {first} to {last} of the journal do not fit what is left, and are left out"
            self._lose(self.line_starts[first_line + first - 2], what)

    # --- The snapshot -----------------------------------------------------------------------------------------------

    def _snapshot(self, text: bytes, *, has_records: bool) -> tuple[bytes, dict[Any, Plain]]:
        """Return what of a snapshot can be read, as text and as data."""
        whole = text.rstrip(b"\0")
        if len(whole) < len(text):
            self._lose(len(whole), f"{len(text) - len(whole)} zeros are dropped: what stood there is lost")
        for read in (_parse_strictly, snapshot.parse_leniently):
            told: list[Leniency] = []
            try:
                state = read(whole, told, self.file)
            except StateFileError as error:
                if is_beyond_repair(error, whole):
                    raise
                continue
            self._tell_of_leniencies(told, 0)
            return whole, state
        bom, body = split_bom(whole)
        kept, state = self._entries(body, len(bom), drops_items=not has_records)
        if not state and not has_records and body.strip():
            raise StateFileError(
                f"{self.file}: nothing in it can be read as a state; it is left as it is. If it should be one, look "
                "for a backup; or remove it, and programs begin with an empty state"
            )
        return kept, state

    def _entries(self, text: bytes, offset: int, *, drops_items: bool) -> tuple[bytes, dict[Any, Plain]]:
        """Return the entries of the top level that can be read; `text` begins at `offset` in the file."""
        state: dict[Any, Plain] = {}
        kept: list[bytes] = []
        begun, second = False, -1
        sifter = _Sifter(drops_items)
        pieces = _split(text, _AT_MARGIN)
        for start, piece in sifter.sift(pieces, offset, lambda piece: _is_separator(piece) or _entry_of(piece) != {}):
            if not _is_separator(piece):
                if second >= 0 and not _is_comment(piece) and not has_records(text):
                    raise self._stream(second)
                self._take(state, piece, start)
            elif not state and not begun:
                begun = piece.startswith(b"---")
            else:
                self._lose(start, "a second document begins, in which there is nothing", _NOTHING, NOTE)
                second = start
                continue
            kept.append(piece)
        for start, stop in sifter.lost:
            count = self.data.count(b"\n", start, stop - 1) + 1
            told = f"{count} lines from there on cannot be read, and are dropped"
            self._lose(start, told if count > 1 else "this line cannot be read, and is dropped")
        return re.sub(rb"(?:(?<=\n)|\A)# *\Z", b"", b"".join(kept)), state

    def _stream(self, start: int) -> BeyondRepair:
        """Return the error for a stream of documents: which of two entries of a name counts, nobody could say."""
        line = bisect_right(self.line_starts, start)
        return BeyondRepair(
            f"{self.file}, line {line}: a second document begins there: this is a stream of several documents, and a "
            "state is one. Nothing is repaired, the file is left as it is; keep each in its own file"
        )

    def _take(self, state: dict[Any, Plain], piece: bytes, start: int) -> None:
        """Add what `piece`, which begins at `start` in the file, holds to `state`."""
        told: list[Leniency] = []
        for key, value in parse_leniently(piece, told).items():
            if key in state:
                what = f"the key {key!r} stands twice in one mapping, the last of them counts"
                told.append(Leniency(1, what))
                del state[key]
            state[key] = value
        self._tell_of_leniencies(told, start)

    def _tell_of_leniencies(self, told: list[Leniency], start: int) -> None:
        first = bisect_right(self.line_starts, start)
        for each in told:
            offset = self.line_starts[min(first + each.line - 1, len(self.line_starts)) - 1]
            if each.loses:
                self._lose(offset, each.what)
            else:
                self._lose(offset, each.what, _NOTHING, NOTE)


class _Sifter:
    """Parts a text's entries into those that can be read and those that cannot: `lost`, offsets from and to."""

    def __init__(self, drops_items: bool) -> None:
        self.drops_items = drops_items  # else changes that come later would go to other items of the list
        self.tries = _MOST_TRIES
        self.lost: list[tuple[int, int]] = []

    def sift(
        self, pieces: list[bytes], start: int, reads: Callable[[bytes], bool], level: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """Yield offset and text of what can be read of `pieces`, the first of which begins at `start`."""
        good = [_is(reads, piece) or _is_comment(piece) for piece in pieces]
        at = 0
        while at < len(pieces):
            count, piece = 1, pieces[at]
            if not good[at]:
                count = self._joined(pieces, at, reads)
                piece = b"".join(pieces[at : at + count])
            size = len(piece)
            if not good[at] and count == 1:
                piece = self._inside(piece, start, reads, level)
            yield start, piece
            start += size
            at += count

    def _joined(self, pieces: list[bytes], at: int, reads: Callable[[bytes], bool]) -> int:
        """Return how many pieces from `at` on are one entry, as brackets or quotes that are open let that be.

        Also where those behind the first could stand alone: that is what YAML makes of them. Brackets and quotes that
        were left open by mistake find no other end that fits, but by chance.
        """
        joined = pieces[at]
        if re.search(rb"[\"'\[{]", joined):
            for count in range(2, min(_MOST_JOINED, len(pieces) - at) + 1):
                if self.tries == 0:
                    break
                self.tries -= 1
                joined += pieces[at + count - 1]
                if _is(reads, joined):
                    return count
        return 1

    def _inside(self, piece: bytes, start: int, reads: Callable[[bytes], bool], level: int) -> bytes:
        """Return a piece without what in it cannot be read: without some entries, or all of it but for comments."""
        before = len(self.lost)
        head = _KEY_ALONE.match(piece)
        if head is not None and level < _DEEPEST:
            body = piece[head.end() :]
            first = re.search(rb"^( *)(?:(-)[ \r\n]|[^ \r\n#])", body, re.M)
            if first is not None and (self.drops_items or first[2] is None):
                begins = re.compile(re.escape(first[1]) + (rb"-[ \r\n]" if first[2] else rb"[^ \t\r\n#]"))
                inside = self.sift(
                    _split(body, begins), start + head.end(), lambda part: _entry_of(b"k:\n" + part) != {"k": None},
                    level + 1,
                )  # fmt: skip
                kept = b"".join(part for _, part in inside)
                if not _COMMENTS.match(kept) and _is(reads, head[0] + kept):
                    return head[0] + kept
        del self.lost[before:]
        comments = re.search(rb"(?:^(?:#[^\n]*)?\r?\n)*\Z", piece, re.M)
        behind = comments[0] if comments is not None and _is_comment(comments[0]) else b""
        stop = start + len(piece) - len(behind)
        if self.lost and self.lost[-1][1] == start:
            start = self.lost.pop()[0]
        self.lost.append((start, stop))
        return behind


def _is(reads: Callable[[bytes], bool], piece: bytes) -> bool:
    try:
        return reads(piece)
    except StateFileError:
        return False


def _is_comment(piece: bytes) -> bool:
    return _COMMENTS.match(piece) is not None and _is(lambda text: _entry_of(text) == {}, piece)


def _is_separator(piece: bytes) -> bool:
    found = _SEPARATOR.match(piece)
    return found is not None and _COMMENTS.match(piece[found.end() :]) is not None


def _entry_of(piece: bytes) -> dict[Any, Plain]:
    return parse_leniently(piece, [])


def _parse_strictly(text: bytes, _: list[Leniency], file: str) -> dict[Any, Plain]:
    return snapshot.parse(text, file)


def _split(text: bytes, begins: re.Pattern[bytes]) -> list[bytes]:
    """Return the pieces of a text of which each starts with a line that `begins` matches; the first may be none."""
    pieces: list[list[bytes]] = [[]]
    for line in text.splitlines(keepends=True):
        if begins.match(line):
            pieces.append([])
        pieces[-1].append(line)
    return [b"".join(lines) for lines in pieces if lines]


def _names_like(name: bytes) -> Iterator[int]:
    """Yield the generation that `name` is, and those that it can be with one letter changed."""
    if _NAME.fullmatch(name):
        yield int(name, 16)
    for at in range(len(name)):
        for digit in _HEX:
            like = name[:at] + bytes((digit,)) + name[at + 1 :]
            if _NAME.fullmatch(like):
                yield int(like, 16)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of numbers that follow each other."""
    for place, number in enumerate(numbers):
        if place == 0 or numbers[place - 1] != number - 1:
            first = number
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            yield first, number


def _text(before: bytes, state: dict[Any, Plain], file: str) -> bytes | None:
    """Return `state` as a snapshot that is laid out as `before` is; None where that cannot be."""
    try:
        return content.patched(before, state, file)
    except (patch.CannotPatch, UnicodeDecodeError):
        return None
