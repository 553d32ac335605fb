r"""Read the state files of ``persistedstate`` (26.1 and before), crashed ones too.

At rest such a file is one YAML document. While a program runs, each change is a document behind it::

    last_id: 1
    ---
    ["set", ["key"], "nested", 3]

Three things of a crash are found there: a last document that is torn; a change that was journaled and then refused
(it was written before it was checked: a bad index makes the file unreadable for persistedstate itself); and what its
vacuum leaves when it is killed: the new text as padding behind the last document, then ``\n---\n### LAST VALID STATE
###\n`` and the new text again, then the new text over the beginning of the file.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from mmapstate import changes, snapshot
from mmapstate.errors import StateFileError
from mmapstate.values import Plain, normalise

__all__ = ["find_journal", "read"]

_log = logging.getLogger("mmapstate")

_BOUNDARY = re.compile(rb"\r?\n---\r?\n")
_LAST_STATE = re.compile(rb"\r?\n---\r?\n### LAST VALID STATE ###\r?\n")
_TORN_BOUNDARY = re.compile(rb"\r?\n--(?:-\r?)?\Z")
_DOCUMENT = re.compile(rb"\s*(?:\[|### LAST VALID STATE ###|\{|\Z)")
_VERBS = {"set": 3, "delete": 2, "insert": 3}


def find_journal(data: bytes) -> bool:
    """Return whether `data` is a file that persistedstate left with changes behind its snapshot."""
    if _TORN_BOUNDARY.search(data):
        return True
    return any(_DOCUMENT.match(data, boundary.end()) for boundary in _BOUNDARY.finditer(data))


def read(data: bytes, file: str) -> dict[Any, Plain]:
    """Return the state that the file's bytes hold; raise `StateFileError` if they hold none."""
    last = None
    for last in _LAST_STATE.finditer(data):
        pass
    if last is not None:
        state = _last_valid_state(data, last.start(), last.end(), file)
        if state is not None:
            return state
        data = data[: last.start()]
    pieces = _BOUNDARY.split(_TORN_BOUNDARY.sub(b"", data))
    front, documents = pieces[0], pieces[1:]
    state = snapshot.parse(front, file)
    for number, document in enumerate(documents, 1):
        _apply_document(state, document, file, number, torn=number == len(documents))
    return _checked(state, file)


def _last_valid_state(data: bytes, padding_end: int, start: int, file: str) -> dict[Any, Plain] | None:
    """Return the state behind the last mark; None if the kill came before it was whole (the front is untouched then)."""
    text = data[start:]
    whole = text.strip() and data[:padding_end].endswith(text.rstrip(b"\r\n"))
    if not whole:
        return None
    _log.warning("%s: persistedstate was killed in its vacuum; using its last valid state", file)
    return _checked(snapshot.parse(text, file), file)


def _apply_document(state: dict[Any, Plain], document: bytes, file: str, number: int, *, torn: bool) -> None:
    text = document.decode("utf-8", "replace").strip()
    if not text:
        return
    try:
        change, end = changes.decode_start(text)
    except ValueError:
        if torn:
            _log.warning("%s: the last change of persistedstate is torn, and left out", file)
            return
        raise StateFileError(
            f"{file}: change {number} behind the snapshot cannot be read; mend it in an editor, the file is left as it is"
        ) from None
    if text[end:].strip() and not torn:  # the last may have the padding of a killed vacuum behind it
        raise StateFileError(f"{file}: change {number} behind the snapshot has text behind it; mend it in an editor")
    if isinstance(change, dict):
        state.clear()
        state.update(change)
        return
    if not isinstance(change, list) or not change or _VERBS.get(change[0]) != len(change) - 1:
        raise StateFileError(f"{file}: change {number} behind the snapshot is none of persistedstate's; mend it in an editor")
    try:
        changes.apply(state, [tuple(change)])
    except (LookupError, TypeError, AttributeError):
        _log.warning("%s: change %d of persistedstate did not apply there either, and is left out", file, number)


def _checked(state: dict[Any, Plain], file: str) -> dict[Any, Plain]:
    checked = normalise(state)
    assert isinstance(checked, dict)
    return checked
