"""A whole state file's bytes: which part is what, and the state that they hold. Pure: no I/O.

Opening, recovery and accepting an external edit all go through `read`: there is one parser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from mmapstate import changes
from mmapstate.errors import StateFileError, place
from mmapstate.file import persistedstate
from mmapstate.file.format import DAMAGED, JOURNAL_VERSION, Marker, Scan, find_marker, is_bare, scan, seed, unborn_start
from mmapstate.text import snapshot
from mmapstate.text.reader import Suspect
from mmapstate.values import Plain

if TYPE_CHECKING:
    from mmapstate.live.schema import Schema  # who has no class of states need not wait for it


class Layout(NamedTuple):
    """Where the parts of a state file stand.

    ``intact`` says that the snapshot is the one the marker was written for (at rest: always). ``foreign`` says that it
    is a file of persistedstate, with changes behind its snapshot.
    """

    snapshot_end: int
    snapshot_crc: int
    marker: Marker | None
    scan: Scan | None
    intact: bool
    unborn: bool
    foreign: bool


class Content(NamedTuple):
    """The state that a file holds; `records` were applied to its snapshot."""

    state: dict[Any, Plain]
    records: int


def layout(data: bytes, file: str) -> Layout:
    """Return the parts of a state file; raise `StateFileError` for a journal of an unknown version."""
    marker = find_marker(data)
    if marker is None:
        unborn = unborn_start(data)
        end = len(data) if unborn < 0 else unborn
        foreign = persistedstate.is_its_own(data[:end])
        return Layout(end, crc32(data[:end]), None, None, True, unborn >= 0 and not foreign, foreign)
    if marker.version == DAMAGED:
        nothing = Scan([], marker.start, 0, marker.start, False)
        return Layout(marker.start, crc32(data[: marker.start]), marker, nothing, False, False, False)
    if marker.version != str(JOURNAL_VERSION):
        problem = f"the journal is of version {marker.version}, this mmapstate reads version {JOURNAL_VERSION}"
        error = StateFileError(f"{file}: {problem}; open it with the mmapstate that wrote it")
        raise error.at(problem, line=data.count(b"\n", 0, marker.start) + 1, offset=marker.start)
    crc = crc32(data[: marker.start])
    found = scan(data, marker.end, seed(marker.generation))
    return Layout(marker.start, crc, marker, found, crc == marker.snapshot_crc, False, False)


def read(data: bytes, parts: Layout, file: str, suspects: list[Suspect] | None = None) -> Content:
    """Return the state in `data`, whose parts are known; raise `StateFileError` (line and column) if it is none.

    Plain words such as ``yes`` are appended to `suspects`; without it they are logged, once.
    """
    if parts.foreign:
        state = persistedstate.read(data, file, suspects)
        if snapshot.is_json(b"", file):
            snapshot.check_json(state, file)
        return Content(state, 0)
    words: list[Suspect] = [] if suspects is None else suspects
    text = snapshot_in(data, parts)
    state = snapshot.parse(text, file, words)
    if suspects is None:
        _warn_of(words, file)
    if parts.scan is None:
        return Content(state, 0)
    records = _decoded(data, parts, file)
    for number, record in enumerate(records, 1):
        try:
            changes.apply(state, record)
        except changes.APPLY_ERRORS as error:
            problem = (
                f"record {number} of the journal ({_described(record[0])}) does not apply to the edited snapshot "
                f"({type(error).__name__}: {error})"
            )
            raise _refusal(data, parts, file, number, problem) from None
    if records and snapshot.is_json(text, file):
        snapshot.check_json(state, file)
    return Content(state, len(records))


def without_last(parts: Layout, last: int) -> Layout:
    """Return the parts as they are without the last record of the journal, which begins at the offset `last`."""
    assert parts.scan is not None
    assert parts.marker is not None
    payloads = parts.scan.payloads[:-1]
    crc = crc32(b"".join(payloads), seed(parts.marker.generation))
    return parts._replace(scan=parts.scan._replace(payloads=payloads, tail=last, crc=crc))


def patched(text: bytes, state: dict[Any, Plain], file: str, tell: Callable[[str], None] = lambda _: None) -> bytes:
    """Return the snapshot `text` of `file` changed to hold `state`, as the next open reads it (`snapshot.patch`)."""
    return snapshot.patch(text, state, tell, file=file, read=_read_back)


def followable(text: bytes, file: str) -> bytes:
    """Return the snapshot `text` of `file` so that a line end behind it changes no value (`snapshot.followable`)."""
    return snapshot.followable(text, file, _read_back)


def _read_back(text: bytes, file: str) -> dict[Any, Plain]:
    return read_alone(text, file, [])


def snapshot_in(data: bytes, parts: Layout) -> bytes:
    """Return the snapshot's text, as it was before a journal behind it needed an end of its last line.

    Of a file of persistedstate there is none.
    """
    if parts.foreign:
        return b""
    text = data[: parts.snapshot_end]
    if parts.unborn:
        bare = is_bare(data[parts.snapshot_end :].partition(b"\n")[0])
    else:
        bare = parts.marker is not None and parts.marker.bare
    return text.removesuffix(b"\n") if bare else text


def read_alone(text: bytes, file: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the state in `text`, a snapshot alone; raise `StateFileError` (line and column) if it is none.

    It is what the next open reads, too: neither the marker of a journal nor changes of persistedstate may stand in
    it. `suspects` is that of `read`.
    """
    parts = layout(text, file)
    if parts.marker is not None or parts.unborn or parts.foreign:
        start = text.find(b"\n---") + 1 if parts.foreign else parts.snapshot_end
        line, problem = text.count(b"\n", 0, start) + 1, "a journal begins there: remove that line and what follows"
        raise StateFileError(f"{file}, line {line}, column 1: {problem}").at(problem, line=line, column=1)
    return read(text, parts, file, suspects).state


def record_start(data: bytes, parts: Layout, number: int) -> int:
    """Return the offset at which a record of the journal begins; `number` is 1 for the first."""
    assert parts.marker is not None
    start = parts.marker.end
    for _ in range(number - 1):
        start = data.index(b"\n", start) + 1
    return start


def _decoded(data: bytes, parts: Layout, file: str) -> list[list[changes.Change]]:
    assert parts.scan is not None
    try:
        return changes.decode_each(parts.scan.payloads)
    except StateFileError:  # the checksum is right, so another program wrote it: which record, and where?
        for number, payload in enumerate(parts.scan.payloads, 1):
            try:
                changes.decode(payload)
            except StateFileError as error:
                problem = f"record {number} of the journal is none that this mmapstate reads ({error.problem or error})"
                raise _refusal(data, parts, file, number, problem) from None
        raise


def _refusal(data: bytes, parts: Layout, file: str, number: int, problem: str) -> StateFileError:
    start = record_start(data, parts, number)
    line = data.count(b"\n", 0, start) + 1
    error = StateFileError(
        f"{file}, line {line}: {problem}; put back what it changes, or remove the journal: all lines from "
        "'--- # mmapstate journal' on. The file is left as it is"
    )
    return error.at(problem, line=line, offset=start)


def check(data: bytes, parts: Layout, state: dict[Any, Plain], schemas: Iterable[Schema], file: str) -> None:
    """Raise `StateFileError` where `state`, which `data` holds, does not fit what classes of states declare."""
    for schema in schemas:
        wrong = schema.mismatch(state)
        if wrong is not None:
            value: Any = state
            for key in wrong.path:
                value = value[key]
            line = None if parts.foreign else snapshot.line_of(snapshot_in(data, parts), file, wrong.path, value)
            where = f", line {line}" if line is not None else ""
            raise StateFileError(
                f"{file}{where}: {place(wrong.path)}: {schema.explained(wrong)}; mend the file in an editor, it is "
                "left as it is"
            )


def _described(change: changes.Change) -> str:
    """Return what a change does and where. Not the value: states hold tokens."""
    where = (*change[1], change[2])
    return f"{change[0]} at {place(where)}"


def warning_of(suspect: Suspect, file: str) -> str:
    """Return what there is to say of a plain word such as ``yes``."""
    return (
        f"{file}, line {suspect.line}: {suspect.text} is read as text, not as a boolean; write true or false, or put "
        "it in quotes"
    )


_warned: set[tuple[str, int, str]] = set()
_MOST_WARNED = 1000


def _warn_of(suspects: list[Suspect], file: str) -> None:
    for suspect in suspects:
        if (file, *suspect) not in _warned:
            if len(_warned) >= _MOST_WARNED:
                _warned.clear()  # better told twice than remembered for ever
            _warned.add((file, *suspect))
            from mmapstate.logger import log  # seldom needed, and what it imports takes a while

            log.warning("%s", warning_of(suspect, file))
