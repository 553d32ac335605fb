"""Change the text of a snapshot only where the state has changed: comments, order and layout of the rest stay.

The text is composed to what is written where, compared with the state, and edited at the places that differ. What is
changed so is read back: if it is not the state, nothing of this is used (see `patch`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mmapstate.errors import StateFileError
from mmapstate.text import json_style, json_text, snapshot
from mmapstate.text.between import Edit, edited
from mmapstate.text.block_style import Changer
from mmapstate.text.snapshot import Written
from mmapstate.text.spans import Text
from mmapstate.values import Plain, same

__all__ = ["CannotPatch", "followable", "patch"]


_BLOCK = re.compile(rb"[|>][-+0-9]*[ \t\r]*(?:#[^\n]*)?$", re.M)
_HEADER = re.compile(r"[|>][-+0-9]*")


Read = Callable[[bytes], dict[Any, Plain]]
"""What reads a snapshot back: it raises `StateFileError` where an open of the file would."""


class CannotPatch(Exception):
    """The text as a whole has to be written anew; the message says why."""


def read_snapshot(text: bytes) -> dict[Any, Plain]:
    """Return what a snapshot holds, by the rules of what it is; raise `StateFileError` if it is none."""
    return json_text.parse(text, "") if json_text.is_object(text) else snapshot.parse(text, "")


def patch(
    text: bytes,
    state: dict[Any, Plain],
    tell: Callable[[str], None] = lambda _: None,
    *,
    as_json: bool | None = None,
    read: Read = read_snapshot,
) -> bytes:
    """Return the snapshot `text` changed to hold `state`; raise `CannotPatch` where its layout is not understood.

    What comes of it is read back by `read`. `as_json` says that it is JSON; None: whether it is, its text says.

    `tell` is called with a sentence about each container that had to be written anew. Three tries: new text of several
    lines as a block of them; in quotes, where a comment behind it would become part of it; a block again, and whatever
    has become part of one taken out.
    """
    if json_text.is_object(text) if as_json is None else as_json:
        return _patched_json(text, state, read)
    source = text.decode("utf-8-sig")
    bom = b"\xef\xbb\xbf" if text.startswith(b"\xef\xbb\xbf") else b""
    line_end = _line_end_of(source)
    source = _with_line_ends(source, line_end)
    bare = source != "" and not source.endswith("\n")
    source, tail, bare_tail = _with_end(source) if bare else (source, "", "")
    why = ""
    for literal, mended in ((True, False), (False, False), (True, True)):
        told: list[str] = []
        try:
            patched = Changer(source, literal=literal, tell=told.append).to(state)
            if mended:
                patched = _without_what_came_in(patched, state)
            if bare and patched.endswith(tail):
                without = patched.removesuffix(tail) + bare_tail
            else:
                without = patched.removesuffix("\n") if bare else patched
            for each in dict.fromkeys((without, patched)):  # without an end again, unless that is part of a text
                result = bom + _with_line_ends(each, line_end).encode()
                if same(read(result), state):
                    for sentence in told:
                        tell(sentence)
                    return result
            why = "what came of it holds another state"
        except (StateFileError, LookupError, ValueError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}"
    raise CannotPatch(why)


def followable(text: bytes, *, as_json: bool, read: Read) -> bytes:
    """Return the snapshot `text` so that a line end behind it changes no value, for whatever reader.

    One does where the last of all is a block of text whose last line has none: the block is made one that takes none.
    """
    if text.endswith(b"\n") or not _BLOCK.search(text) or as_json:
        return text
    bom = b"\xef\xbb\xbf" if text.startswith(b"\xef\xbb\xbf") else b""
    ended, tail, _ = _with_end(text.decode("utf-8-sig"))
    result = bom + (ended.removesuffix("\n") if tail else ended).encode()
    return result if same(read(result), read(text)) else text


def _patched_json(text: bytes, state: dict[Any, Plain], read: Read) -> bytes:
    try:
        result = json_style.patch(text, state)
        if same(read(result), state):
            return result
    except (StateFileError, LookupError, ValueError, TypeError) as error:
        raise CannotPatch(f"{type(error).__name__}: {error}") from None
    raise CannotPatch("what came of it holds another state")


def _with_end(source: str) -> tuple[str, str, str]:
    """Return a text whose last line has no end with one that changes no value; and how it ends then, and ended before.

    A block of text that is the last of all has no line end in its value then, as YAML says.
    """
    last, ended = snapshot.compose(source), snapshot.compose(source + "\n")
    while last is not None and ended is not None and last.entries and ended.entries:
        last, ended = last.entries[-1], ended.entries[-1]
        if isinstance(last, tuple):
            last, ended = last[1], ended[1]
    if last is None or ended is None or last.value == ended.value:
        return source + "\n", "\n", ""
    if source.rstrip(" ").endswith("\n"):  # blanks alone stand in that line
        return source.rstrip(" "), "", ""
    start = Text(source).content(last)
    header = _HEADER.match(source, start)
    assert header is not None
    tail = header[0].replace("+", "") + "-" + source[header.end() :] + "\n"
    return source[:start] + tail, tail, source[start:]


def _line_end_of(source: str) -> str:
    """Return the line end of most lines."""
    crlf = source.count("\r\n")
    counts = {"\n": source.count("\n") - crlf, "\r\n": crlf, "\r": source.count("\r") - crlf}
    return max(counts, key=lambda end: counts[end])


def _with_line_ends(source: str, line_end: str) -> str:
    """Return the text with LF for its line end and the other way round; others stay what they are."""
    if line_end == "\n" or not source:
        return source
    return re.sub(r"\r\n|\n|\r", lambda found: {line_end: "\n", "\n": line_end}.get(found[0], found[0]), source)


def _without_what_came_in(patched: str, state: dict[Any, Plain]) -> str:
    """Take out of blocks of text what stood behind something that is no longer between: comments, and blank lines.

    The comments begin their lines then, where they are none of the text; the blank lines go.
    """
    root = snapshot.compose(patched)
    edits: list[Edit] = []
    todo: list[tuple[Written | None, Any]] = [(root, state)]
    while todo:
        written, wanted = todo.pop()
        if written is None or type(written.value) is not type(wanted):
            continue
        if isinstance(wanted, dict):
            todo += [(value, wanted[key.value]) for key, value in written.entries or () if key.value in wanted]
        elif isinstance(wanted, list):
            todo += zip(written.entries or (), wanted, strict=False)
        elif isinstance(wanted, str) and written.style in ("|", ">") and written.value != wanted:
            edits.append(_edit_of_block(patched, written, wanted))
    return edited(patched, 0, len(patched), edits)


def _edit_of_block(patched: str, written: Written, wanted: str) -> Edit:
    """Return the edit that leaves in a block of text only what is wanted there."""
    stop = written.end
    while (start := patched.rfind("\n", 0, stop - 1) + 1) > written.start:
        line = patched[start:stop].strip()
        if line and not line.startswith("#"):
            break
        stop = start
        if snapshot.parse(b"k: " + patched[written.start : stop].encode(), "")["k"] == wanted:
            lines = [line.strip(" ") for line in patched[stop : written.end].split("\n")]
            return Edit(stop, written.end, "".join(f"{line}\n" for line in lines if line))
    raise ValueError("a block of text has become another one")
