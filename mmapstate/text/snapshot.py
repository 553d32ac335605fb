"""The text of a snapshot, be it YAML or JSON: read, written, and changed in part.

Here alone it is chosen between the two. Nothing is known of files but a name, which messages have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmapstate.errors import StateFileError, place
from mmapstate.text import json_style, json_text, lenient, reader, writer
from mmapstate.text.patch import CannotPatch, Read, ended, patched
from mmapstate.text.reader import Suspect
from mmapstate.text.source import Leniency, Source, Written, split_bom
from mmapstate.values import Plain, same


def is_json(text: bytes, file: str) -> bool:
    """Return whether the snapshot `text` of `file` is JSON: by the file's name, or by its text.

    This is all that tells. A text that is blank, or ``{}``, is JSON by the name alone.
    """
    return file.lower().endswith(".json") or json_text.is_object(text)


def parse(text: bytes, file: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the data of a snapshot, read by the rules of what it is; raise `StateFileError` if it is none.

    Plain words such as ``yes`` are appended to `suspects`.
    """
    return json_text.parse(text, file) if is_json(text, file) else reader.parse(text, file, suspects)


def parse_leniently(text: bytes, told: list[Leniency], file: str) -> dict[Any, Plain]:
    """Return the data of a snapshot that `parse` refuses; what was unusual goes to `told`.

    The file's name does not count. Raises `StateFileError` for what nobody could read.
    """
    if json_text.is_object(text):
        return json_text.parse_leniently(text, told)
    return lenient.parse_leniently(text, told, file)


def compose(text: bytes, *, as_json: bool) -> Written | None:
    """Return the root of a snapshot, which `parse` reads, with the places of all that is in it; None if it is blank.

    The places are those in the text without its BOM.
    """
    source = split_bom(text)[1].decode()
    return json_text.compose(source) if as_json else reader.compose(source)


def line_of(text: bytes, file: str, path: tuple[Any, ...], value: Plain) -> int | None:
    """Return the line, from 1 on, in which `value` begins at `path` in a snapshot; None if it does not stand there."""
    found = compose(text, as_json=is_json(text, file))
    for key in path:
        entries = [] if found is None or found.entries is None else found.entries
        if found is not None and isinstance(found.value, dict):
            found = next((inner for name, inner in entries if name.value == key), None)
        else:
            found = entries[key] if key in range(len(entries)) else None
    if found is None or not same(found.value, value):
        return None
    return Source(text, file).place(found.start)[0]


def dump(state: dict[Any, Plain], file: str, *, as_json: bool, line_end: bytes = b"\n") -> bytes:
    """Return `state` as the text of a snapshot of `file`; raise `StateFileError` where JSON cannot hold it."""
    if not as_json:
        return writer.dump(state, line_end=line_end)
    check_json(state, file)
    return json_style.dump(state, line_end=line_end)


def check_json(state: dict[Any, Plain], file: str) -> None:
    """Raise `StateFileError` where changes that another program wrote have put into a JSON file what it cannot hold."""
    found = json_text.mismatch(state)
    if found is not None:
        raise StateFileError(
            f"{file}: {place(found.path)}: {found.problem}. Another program has changed it to that: make YAML of the "
            "snapshot, or remove the journal: all lines from '--- # mmapstate journal' on. The file is left as it is"
        )


def patch(
    text: bytes,
    state: dict[Any, Plain],
    tell: Callable[[str], None] = lambda _: None,
    *,
    file: str = "",
    read: Read = parse,
) -> bytes:
    """Return the snapshot `text` changed to hold `state`: what stays the same stays as it is written.

    What comes of it is read back, by `read`. `tell` is called with a sentence about each
    container that had to be written anew. Raises `CannotPatch` where the layout is not understood.
    """
    if not is_json(text, file):
        return patched(text, state, file, tell, read)
    try:
        result = json_style.patch(text, state)
        if same(read(result, file), state):
            return result
    except (StateFileError, LookupError, ValueError, TypeError) as error:
        raise CannotPatch(f"{type(error).__name__}: {error}") from None
    raise CannotPatch("what came of it holds another state")


def followable(text: bytes, file: str, read: Read = parse) -> bytes:
    """Return the snapshot `text` so that a line end behind it changes no value, for whatever reader.

    `read` is that of `patch`.
    """
    return text if text.endswith(b"\n") or is_json(text, file) else ended(text, file, read)
