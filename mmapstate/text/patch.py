"""Change the text of a snapshot only where the state has changed: comments, order and layout of the rest stay.

The YAML is composed (what is written where), compared with the state, and edited where the two differ. The result is
read back: if it does not hold the state, it is not used (see `patched`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mmapstate.errors import StateFileError
from mmapstate.text import reader
from mmapstate.text.between import Edit, edited
from mmapstate.text.block_style import Changer
from mmapstate.text.source import Written, split_bom, value_of
from mmapstate.text.spans import Text
from mmapstate.values import Plain, same

_BLOCK = re.compile(rb"[|>][-+0-9]*[ \t\r]*(?:#[^\n]*)?$", re.M)

Read = Callable[[bytes, str], dict[Any, Plain]]
"""What reads the snapshot of a file back, given the file's name: it raises `StateFileError` where an open would."""


class CannotPatch(Exception):
    """The whole text has to be rewritten; the message says why."""


def patched(text: bytes, state: dict[Any, Plain], file: str, tell: Callable[[str], None], read: Read) -> bytes:
    """Return the YAML `text` changed to hold `state`; the rest is as `snapshot.patch` says.

    Three tries: new text of several lines as a block scalar; in quotes, if a comment behind it would become part of it;
    as a block again, with whatever has become part of it taken out.
    """
    bom, utf8 = split_bom(text)
    source = utf8.decode()
    line_end = _line_end_of(source)
    source = _with_line_ends(source, line_end)
    bare = source != "" and not source.endswith("\n")
    why = ""
    for literal, mended in ((True, False), (False, False), (True, True)):
        told: list[str] = []
        try:
            whole, tail, bare_tail = _with_end(source) if bare else (source, "", "")
            changed = Changer(whole, literal=literal, tell=told.append).to(state)
            if mended:
                changed = _without_what_came_in(changed, state)
            if bare and changed.endswith(tail):
                without = changed.removesuffix(tail) + bare_tail
            else:
                without = changed.removesuffix("\n") if bare else changed
            for each in dict.fromkeys((without, changed)):  # without an end again, unless that is part of a text
                result = bom + _with_line_ends(each, line_end).encode()
                if same(read(result, file), state):
                    for sentence in told:
                        tell(sentence)
                    return result
            why = "what came of it holds another state"
        except (StateFileError, LookupError, ValueError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}"
    raise CannotPatch(why)


def ended(text: bytes, file: str, read: Read) -> bytes:
    """Return the YAML `text`, whose last line has no end, so that an end changes no value (`snapshot.followable`).

    An end does where the last of all is a block of text: the block is made one that takes none.
    """
    if not _BLOCK.search(text):
        return text
    bom, utf8 = split_bom(text)
    source, tail, _ = _with_end(utf8.decode())
    result = bom + (source.removesuffix("\n") if tail else source).encode()
    return result if same(read(result, file), read(text, file)) else text


def _with_end(source: str) -> tuple[str, str, str]:
    """Return a text whose last line has no end with one that changes no value; and how it ends then, and ended before.

    A block of text that is the last of all has no line end in its value then, as YAML says.
    """
    last, with_end = reader.compose(source), reader.compose(source + "\n")
    while last is not None and with_end is not None and last.entries and with_end.entries:
        last, with_end = value_of(last.entries[-1]), value_of(with_end.entries[-1])
    if last is None or with_end is None or last.value == with_end.value:
        return source + "\n", "\n", ""
    if source.rstrip(" ").endswith("\n"):  # blanks alone stand in that line
        return source.rstrip(" "), "", ""
    start, header_end = Text(source).content(last), Text(source).header_end(last)
    tail = source[start:header_end].replace("+", "") + "-" + source[header_end:] + "\n"
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


def _without_what_came_in(changed: str, state: dict[Any, Plain]) -> str:
    """Take out of blocks of text what stood behind something that is no longer between: comments, and blank lines.

    The comments begin their lines then, where they are none of the text; the blank lines go.
    """
    root = reader.compose(changed)
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
            edits.append(_edit_of_block(changed, written, wanted))
    return edited(changed, 0, len(changed), edits)


def _edit_of_block(changed: str, written: Written, wanted: str) -> Edit:
    """Return the edit that leaves in a block of text only what is wanted there."""
    stop = written.end
    while (start := changed.rfind("\n", 0, stop - 1) + 1) > written.start:
        line = changed[start:stop].strip()
        if line and not line.startswith("#"):
            break
        stop = start
        if reader.parse(b"k: " + changed[written.start : stop].encode(), "")["k"] == wanted:
            lines = [line.strip(" ") for line in changed[stop : written.end].split("\n")]
            return Edit(stop, written.end, "".join(f"{line}\n" for line in lines if line))
    raise ValueError("a block of text has become another one")
