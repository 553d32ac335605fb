"""What can be said of a state file's bytes: everything that is not as programs leave it. Pure: no I/O.

It asks the parser that opens the files, `content`. An *error* is what keeps the file from being opened, or costs a part
of it; a *warning* is what somebody should look at; a *note* is what the next to open the file puts right by itself.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from mmapstate.errors import BeyondRepair, StateFileError
from mmapstate.file import content
from mmapstate.file.format import DAMAGED, is_blank
from mmapstate.text.reader import Suspect

ERROR, WARNING, NOTE = "error", "warning", "note"


class Finding(NamedTuple):
    """What was found in or about a file, and what to do now. As text it is one line.

    `severity` is "error", "warning" or "note". `offset`, in bytes, and `line`, from 1 on, say where in `file`; they are
    None where it is about the file as a whole.
    """

    severity: str
    file: str
    offset: int | None
    line: int | None
    what: str
    what_to_do: str

    def __str__(self) -> str:
        where = "" if self.line is None else f", line {self.line}"
        if self.offset is not None:
            where += f", offset {self.offset}"
        return f"{self.file}{where}: {self.severity}: {self.what}; {self.what_to_do}"


class Examined(NamedTuple):
    """What was found, and what the file's parts are; None where there is no telling."""

    findings: list[Finding]
    parts: content.Layout | None

    def has_errors(self) -> bool:
        """Return whether the file cannot be opened, or not without a loss."""
        return any(found.severity == ERROR for found in self.findings)


_RECORD = re.compile(rb"^[#-]-- (?:# mmapstate |\[.* #[0-9a-f]{8}\r?$)", re.M)
_SEPARATOR = re.compile(rb"---[ \t\r]*(?:#|\Z)")
RECORD_STARTS = (b"--- ", b"#-- ")
_REPAIR = "run 'mmapstate repair FILE'"
BY_ITSELF = "nothing: the next program that opens the file puts it right"


class Report:
    """Gathers findings about a file with the bytes `data`, each with the line of its offset."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data = data
        self.file = file
        self.findings: list[Finding] = []
        self.line_starts = [0, *(end.end() for end in re.finditer(rb"\n", data))]

    def add(self, severity: str, offset: int, what: str, what_to_do: str) -> None:
        """Add what was found at `offset`."""
        self.findings.append(Finding(severity, self.file, offset, self.line_at(offset), what, what_to_do))

    def add_error(self, error: StateFileError, what_to_do: str) -> None:
        """Add an error of the parser."""
        what = error.problem or str(error)
        self.findings.append(Finding(ERROR, self.file, error.offset, error.line, what, what_to_do))

    def line_at(self, offset: int) -> int:
        """Return the line, from 1 on, that an offset is in."""
        return bisect_right(self.line_starts, offset)

    def line_start(self, line: int) -> int:
        """Return the offset at which a line begins; the last one's, where there are fewer."""
        return self.line_starts[min(line, len(self.line_starts)) - 1]


def examine(data: bytes, file: str) -> Examined:
    """Return what is to be said of a file with the bytes `data`; `file` is its name in the findings."""
    report = Report(data, file)
    try:
        parts = content.layout(data, file)
    except StateFileError as error:  # a version to come
        report.add_error(error, "open it with the mmapstate that wrote it; an older one cannot judge it")
        return Examined(report.findings, None)
    if _examine_state(report, parts) and parts.foreign:
        report.add(NOTE, parts.snapshot_end, "changes of persistedstate follow the snapshot", BY_ITSELF)
    if parts.unborn:
        report.add(NOTE, parts.snapshot_end, "a journal was about to be begun, and was not", BY_ITSELF)
    if parts.marker is not None:
        _examine_journal(report, parts)
    return Examined(sorted(report.findings, key=lambda found: found.offset or 0), parts)


def is_beyond_repair(error: StateFileError, text: bytes) -> bool:
    """Return whether the snapshot `text`, which was refused, is such that a repair would keep a part of it at will.

    Not so where the documents of a stream are but the records behind a journal's broken first line, or empty.
    """
    if not isinstance(error, BeyondRepair) or has_records(text):
        return False
    first, *lines = text[error.offset or 0 :].split(b"\n")
    is_empty = _SEPARATOR.match(first) and not any(line.strip() and line.lstrip()[:1] != b"#" for line in lines)
    return not is_empty


def has_records(text: bytes) -> bool:
    """Return whether lines of a journal stand in a text."""
    return _RECORD.search(text) is not None


def count_records(text: bytes) -> int:
    """Return how many lines of a text begin as records do, committed or not."""
    return sum(line.startswith(RECORD_STARTS) for line in text.split(b"\n"))


def _examine_state(report: Report, parts: content.Layout) -> bool:
    """Tell of the snapshot, and of records that do not fit it; return whether the state can be read."""
    suspects: list[Suspect] = []
    try:
        content.read(report.data, parts, report.file, suspects)
        return True
    except StateFileError as error:
        mend = "mend the line in an editor" if error.line is not None else "mend the file in an editor"
        if not is_beyond_repair(error, report.data):
            mend += f", or {_REPAIR}"
        report.add_error(error, mend)
        return False
    finally:
        for suspect in suspects:
            what = f"{suspect.text} is read as text, not as a boolean"
            what_to_do = "write true or false, or put it in quotes"
            report.add(WARNING, report.line_start(suspect.line), what, what_to_do)


def _examine_journal(report: Report, parts: content.Layout) -> None:
    data, marker, scan = report.data, parts.marker, parts.scan
    assert marker is not None
    assert scan is not None
    if marker.version == DAMAGED:
        lines = data.count(b"\n--- ", marker.start)
        behind = f", and the {lines} lines of changes behind it cannot be checked" if lines else ""
        report.add(ERROR, marker.start, f"the line that begins the journal was changed{behind}", _REPAIR)
        return
    if not parts.intact:
        what = "the snapshot is not the one that the journal was begun with: edited by hand, or damaged"
        what_to_do = "look whether it is as it should be; the journal's changes are applied to it"
        report.add(WARNING, 0, what, what_to_do)
    texts = data[marker.start : scan.tail].split(b"\n")
    comments = [number for number, text in enumerate(texts[:-1]) if text.startswith(b"#")]
    if comments:
        what = (
            f"{len(comments)} whole lines of the journal are still comments, and count, as the one behind them "
            "continues their checksum: the file is a copy, made while a program wrote"
        )
        report.add(NOTE, report.line_start(report.line_at(marker.start) + comments[0]), what, BY_ITSELF)
    if scan.bad >= 0:
        lost = count_records(data[scan.tail :])
        what = (
            f"behind change {len(scan.payloads)} the journal was changed since programs wrote it; {lost} lines of "
            "changes from there on cannot be checked, as each checksum continues the one before"
        )
        if not lost:
            what = "text that is no change stands behind the last one"
        report.add(ERROR, scan.bad, what, f"remove in an editor what was added by hand, or {_REPAIR}")
    elif not scan.clean:
        report.add(NOTE, scan.tail, _described(data[scan.tail :]), BY_ITSELF)


def _described(slack: bytes) -> str:
    """Return what a tail is like that is harmless, and not as it should be."""
    if not slack.strip(b" #\r\n"):
        return "the room behind the last change was cut or changed by an editor"
    if not slack.strip(b" #\r\n\0"):
        return "zeros stand behind the last change: pages lost with the power"
    if is_blank(slack[1:]):
        return "the last change is not synced yet, or its writer was killed before it was"
    return "a comment stands behind the last change: what a killed writer had not finished, or text added by hand"
