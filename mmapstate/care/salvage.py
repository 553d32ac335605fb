"""The best state that a broken file's bytes allow, and what is lost by it. Pure: no I/O.

Nothing is invented: what cannot be read is dropped, in pieces as small as the text lets one tell apart, and each is
told. Of the journal a prefix counts, as each checksum continues the one before.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

from mmapstate import changes
from mmapstate.care.entries import Sifter, entries_in, is_comment, is_separator
from mmapstate.care.findings import (
    NOTE,
    RECORD_STARTS,
    WARNING,
    Finding,
    Report,
    count_records,
    examine,
    has_records,
    is_beyond_repair,
)
from mmapstate.errors import BeyondRepair, StateFileError
from mmapstate.file import content
from mmapstate.file.format import DAMAGED, MARKER_START, Scan, find_marker, scan, seed
from mmapstate.text import patch, snapshot
from mmapstate.text.source import Leniency, line_end_of, split_bom
from mmapstate.values import Plain, same

_LOOK = "it is in the copy of the file: look whether it can be written again by hand"
_NOTHING = "nothing: no value is lost by it"

_LONGEST_MARKER = 512  # bytes, more than any has
_HEX = b"0123456789abcdef"
_NAME = re.compile(rb"[0-9a-f]{16}")


class Mended(NamedTuple):
    """What a broken file becomes: the text of its new snapshot, and what is no longer as it was."""

    text: bytes
    losses: list[Finding]


class _Journal(NamedTuple):
    """A journal's records, and where the line that begins it ends; `lead` stands for the snapshot's bytes before it."""

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
        self.report = Report(data, file)

    def mend(self) -> Mended:
        journal = self._journal()
        before = journal.lead if journal is not None else self.data[: self.parts.snapshot_end]
        before, state = self._snapshot(before, has_records=journal is not None and journal.scan.payloads != [])
        if journal is not None:
            self._replay(state, journal)
            self._tell_of_tail(journal)
        elif self.parts.marker is not None:
            start = self.parts.marker.start
            count = count_records(self.data[start:].partition(b"\n")[2])
            behind = f", and with it {count} lines of changes" if count else ""
            self._lose(start, f"the journal is dropped{behind}")
        text = self._text(before, state)
        if not same(content.read_alone(text, self.file, []), state):
            raise StateFileError(f"{self.file}: what is left of it cannot be written; mend it in an editor")
        return Mended(text, sorted(self.report.findings, key=lambda loss: loss.offset or 0))

    def _text(self, before: bytes, state: dict[Any, Plain]) -> bytes:
        """Return `state` as a snapshot that is laid out as `before` is, if that can be."""
        try:
            return content.patched(before, state, self.file)
        except (patch.CannotPatch, UnicodeDecodeError):
            pass
        if snapshot.is_json(b"", self.file):
            self._note(0, "the text is written as JSON, as the file's name says that it is")
        if b"#" in before:
            what = "the document is laid out anew: comments in it are in the copy alone"
            self._note(0, what, "put them back if they are missed")
        as_json = snapshot.is_json(before, self.file)
        return snapshot.dump(state, self.file, as_json=as_json, line_end=line_end_of(before))

    def _lose(self, offset: int, what: str) -> None:
        self.report.add(WARNING, offset, what, _LOOK)

    def _note(self, offset: int, what: str, what_to_do: str = _NOTHING) -> None:
        self.report.add(NOTE, offset, what, what_to_do)

    # --- The journal ------------------------------------------------------------------------------------------------

    def _journal(self) -> _Journal | None:
        """Return the journal, found again if the line that begins it was changed; None if there is none any more."""
        marker, found, as_it_stands = self.parts.marker, self.parts.scan, None
        if marker is not None and marker.version != DAMAGED and found is not None:
            lead = self.data[: marker.start]
            lead = lead.removesuffix(b"\n") if marker.bare else lead
            as_it_stands = _Journal(marker.end, lead, found)
            if found.payloads or found.bad != found.tail:
                return as_it_stands
        for at, generation in self._names():
            line, _, _ = self.data[at : at + _LONGEST_MARKER].partition(b"\n")
            starts = [begun.start() for begun in re.finditer(rb"[#-]-- ", line)]  # the line end before it was changed
            for end in (at + len(line) + 1, *(at + start for start in starts)):
                if self.data[end : end + 4] in RECORD_STARTS:
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
        self._note(start, "the line that begins the journal was changed; its changes are right")
        return _Journal(end, lead, found)

    def _tell_of_tail(self, journal: _Journal) -> None:
        """Tell of what stands behind the last good change, and goes."""
        tail, bad = journal.scan.tail, journal.scan.bad
        if bad < 0:
            return
        if lines := count_records(self.data[tail:]):
            self._lose(
                bad, f"{lines} lines of changes from there on are dropped: the first was changed since it was "
                "written, and those behind it cannot be checked, as each checksum continues the one before",
            )  # fmt: skip
        else:
            count = len(self.data[bad:].rstrip(b" \0\r\n"))
            self._lose(bad, f"{count} bytes of text behind the last change are dropped: they are no change")

    def _replay(self, state: dict[Any, Plain], journal: _Journal) -> None:
        """Apply the records to `state`; leave out, each as a whole, those that do not fit what is left of it."""
        unfit: list[int] = []
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
                unfit.append(number)
        first_line = self.report.line_at(journal.end)
        for first, last in _runs(unfit):
            what = f"change {first} of the journal does not fit what is left, and is left out"
            if last > first:
                what = f"changes {first} to {last} of the journal do not fit what is left, and are left out"
            self._lose(self.report.line_start(first_line + first - 1), what)

    # --- The snapshot -----------------------------------------------------------------------------------------------

    def _snapshot(self, text: bytes, *, has_records: bool) -> tuple[bytes, dict[Any, Plain]]:
        """Return what of a snapshot can be read, as text and as data."""
        whole = text.rstrip(b"\0")
        if len(whole) < len(text):
            self._lose(len(whole), f"{len(text) - len(whole)} zeros are dropped: what stood there is lost")
        for leniently in (False, True):
            told: list[Leniency] = []
            try:
                if leniently:
                    state = snapshot.parse_leniently(whole, told, self.file)
                else:
                    state = snapshot.parse(whole, self.file)
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
        sifter = Sifter(drops_items)
        for start, piece in sifter.sift_document(text, offset):
            if not is_separator(piece):
                if second >= 0 and not is_comment(piece) and not has_records(text):
                    line = self.report.line_at(second)
                    raise BeyondRepair(  # which of two entries of a name counts, nobody could say
                        f"{self.file}, line {line}: a second document begins there: this is a stream of several "
                        "documents, and a state is one. Nothing is repaired, the file is left as it is; keep each in "
                        "its own file"
                    )
                self._take(state, piece, start)
            elif not state and not begun:
                begun = piece.startswith(b"---")
            else:
                self._note(start, "a second document begins, in which there is nothing")
                second = start
                continue
            kept.append(piece)
        for start, stop in sifter.lost:
            count = self.data.count(b"\n", start, stop - 1) + 1
            told = f"{count} lines from there on cannot be read, and are dropped"
            self._lose(start, told if count > 1 else "this line cannot be read, and is dropped")
        return re.sub(rb"(?:(?<=\n)|\A)# *\Z", b"", b"".join(kept)), state

    def _take(self, state: dict[Any, Plain], piece: bytes, start: int) -> None:
        """Add what `piece`, which begins at `start` in the file, holds to `state`."""
        told: list[Leniency] = []
        for key, value in entries_in(piece, told).items():
            if key in state:
                what = f"the key {key!r} stands twice in one mapping, the last of them counts"
                told.append(Leniency(1, what))
                del state[key]
            state[key] = value
        self._tell_of_leniencies(told, start)

    def _tell_of_leniencies(self, told: list[Leniency], start: int) -> None:
        first = self.report.line_at(start)
        for each in told:
            tell = self._lose if each.loses else self._note
            tell(self.report.line_start(first + each.line - 1), each.what)


def _names_like(name: bytes) -> list[int]:
    """Return the generation that `name` is, and those that it can be with one letter changed."""
    changed = [name[:at] + bytes((digit,)) + name[at + 1 :] for at in range(len(name)) for digit in _HEX]
    return [int(like, 16) for like in (name, *changed) if _NAME.fullmatch(like)]


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of numbers that follow each other."""
    for _, group in itertools.groupby(enumerate(numbers), lambda placed: placed[1] - placed[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]
