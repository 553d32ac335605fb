r"""Read the state files of ``persistedstate`` 26.1: at rest, and with changes behind the snapshot.

At rest such a file is one YAML document, keys sorted. While a program runs, each change is a document behind it::

    last_id: 1
    ---
    ["set", ["key"], "nested", 3]

Where each change is whole and fits, they are read. All else that a kill leaves is refused as what it is: a torn change;
one that persistedstate itself refused, as it writes before it checks; one at a place that it may have been wrong about
(see `_check`); a file that it was compacting. It dumps the state thrice then: right behind the last document, behind
the line `_MARK`, and over the beginning of the file, which is then cut. Which of the three is whole cannot always be
told, and a wrong guess would be somebody's state.

Only what no hand would write is taken for one of its files: the beginning of a change behind ``---``, or the mark.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from mmapstate import changes
from mmapstate.errors import BeyondRepair, StateFileError, UnsupportedValueError
from mmapstate.text import reader
from mmapstate.text.reader import Suspect
from mmapstate.values import Plain, normalise

_CHANGE = re.compile(rb"(?:\A|\n)---\r?\n\[\"(?:set|delete|insert)\", \[")
_BOUNDARY = re.compile(rb"(?:\A|\r?\n)---\r?\n(?=\[)|\Z")
_MARK = b"### LAST VALID STATE ###"
_HALF_WAY = re.compile(rb"^(?:---|\.\.\.(?:\r?\n)?)\r?\n(?=%b(?:\r?\n|\Z))" % _MARK, re.M)


def is_its_own(data: bytes) -> bool:
    """Return whether `data` is a file of persistedstate with more behind (or over) its snapshot."""
    return _CHANGE.search(data) is not None or _HALF_WAY.search(data) is not None


def read(data: bytes, file: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the state that the bytes of such a file hold; raise `BeyondRepair` if that cannot surely be told.

    `suspects` is that of `reader.parse`.
    """
    mark = _HALF_WAY.search(data)
    if mark is not None:
        problem = (
            f"persistedstate was killed here while it compacted its file; behind '{_MARK.decode()}' stands its last "
            "state, whole or in part, and a state from before, if not written over, at the beginning"
        )
        what_to_do = "copy the file, look which of them is whole, and leave that alone in it"
        raise _refusal(data, file, mark.end(), problem, what_to_do)
    boundaries = list(_BOUNDARY.finditer(data))
    try:
        state = reader.parse(data[: boundaries[0].start()], file, suspects)
    except StateFileError as error:
        problem = f"persistedstate wrote this file, and before its changes stands no state ({error.problem})"
        raise _refusal(data, file, error.offset or 0, problem, "mend that in an editor") from None
    for number, (boundary, following) in enumerate(pairwise(boundaries), 1):
        problem = _apply(state, data[boundary.end() : following.start()])
        if problem:
            problem = f"persistedstate wrote this file, and change {number} behind its snapshot {problem}"
            what_to_do = "put it right in an editor, or remove it with the line '---' above it"
            raise _refusal(data, file, boundary.end(), problem, what_to_do)
    try:
        return normalise(state)  # type: ignore[return-value]
    except UnsupportedValueError as error:
        problem = f"persistedstate wrote this file, and stored what cannot be stored here ({error})"
        raise _refusal(data, file, 0, problem, "take it out in an editor") from None


def _apply(state: dict[Any, Plain], document: bytes) -> str:
    """Apply the change in a document; return what is wrong with it, ``""`` if nothing is."""
    try:
        change = changes.decode_json(document)
    except (StateFileError, ValueError, RecursionError):
        return "cannot be read: it is torn, or something else was written there"
    try:
        problem = _check(state, change)
        if not problem:
            changes.apply(state, [change])
    except changes.APPLY_ERRORS as error:
        return f"does not fit, as persistedstate writes changes down before it checks them ({type(error).__name__})"
    return problem


def _check(state: dict[Any, Plain], change: changes.Change) -> str:
    """Return why a change may have been meant for another place than it names, ``""`` if that cannot be.

    Each container of persistedstate keeps the path that it was put at. After a negative index it loses count of those
    in the list. JSON makes the keys of a mapping text, so ``{1: 2}`` came as ``{"1": 2}``, and a change names 1.
    """
    _, path, key, *values = change
    container: Any = state
    for number, step in enumerate([*path, key]):
        if isinstance(container, list):
            inside = container if number < len(path) else [*container, *values]
            if not 0 <= step <= len(container) and any(isinstance(item, dict | list) for item in inside):
                return "is at an index from which on persistedstate confuses the containers of a list"
        elif step.__class__ is not str and step not in container and changes.flow_text(step) in container:
            return f"names the key {step!r}, and there is {changes.flow_text(step)!r}, which may have been the same"
        if number < len(path):
            container = container[step]
    return ""


def _refusal(data: bytes, file: str, offset: int, problem: str, what_to_do: str) -> BeyondRepair:
    line = data.count(b"\n", 0, offset) + 1
    error = BeyondRepair(f"{file}, line {line}: {problem}; {what_to_do}. The file is left as it is")
    return error.at(problem, line=line, offset=offset)
