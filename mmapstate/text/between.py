"""The lines between two entries that stay: others are removed and inserted there, and blank lines do not pile up."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from mmapstate.text.spans import Place, Text

_BLANK_ABOVE = re.compile(r"(?:^ *\n)*\Z", re.MULTILINE)
_BLANK_BELOW = re.compile(r"(?: *\n)*")
_COMMENTS = re.compile(r"(?: *(?:#[^\n]*)?\n)+")
_HEAPS = re.compile(r"\n(?: *\n)+")


class Edit(NamedTuple):
    """The text from `start` to `stop` becomes another one."""

    start: int
    stop: int
    text: str


def edited(source: str, start: int, stop: int, edits: list[Edit]) -> str:
    """Return the text from `start` to `stop` with edits, of which no two are of one place."""
    pieces = []
    for edit in sorted(edits, key=lambda edit: edit[:2]):
        if edit.start < start:
            raise ValueError("two edits of one place")
        pieces += [source[start : edit.start], edit.text]
        start = edit.stop
    return "".join([*pieces, source[start:stop]])


def between(text: Text, places: list[Place], before: int, behind: int, lines: str) -> list[Edit]:
    """Return the edits that insert lines between two entries that stay, and remove those that stood there.

    The entries are told by their numbers: -1 where the container begins, as many as there are where it ends. Of the
    blank lines above and below what goes the longer run stays; where the container begins the one above, at its end the
    one below, which part it from others.
    """
    gone = places[before + 1 : behind]
    if not gone and not lines:
        return []
    if before < 0 and not text.begins_line(places[0].start):
        return _behind_sign(text, gone, places[behind] if behind < len(places) else None, places[0], lines)
    if not gone:
        at = places[before].bottom if before >= 0 else places[0].top
        return [Edit(at, at, lines)]
    start, stop = gone[0].top, gone[-1].bottom
    left = _left(text, gone)
    above = _BLANK_ABOVE.search(text.source, places[before].bottom if before >= 0 else start, start)
    below = _BLANK_BELOW.match(text.source, stop, places[behind].top if behind < len(places) else stop)
    assert above is not None
    assert below is not None
    if left:
        left = ("" if above[0] or lines else "\n") + left + ("" if below[0] or behind == len(places) else "\n")
    elif not lines and (before < 0 or (behind < len(places) and below[0].count("\n") <= above[0].count("\n"))):
        stop = below.end()
    elif not lines and (
        behind < len(places)
        or text.is_blank(stop)
        or not text.is_comment(text.line_start(above.start() - 1))  # which a blank line sets apart
    ):
        start = above.start()
    return [Edit(start, stop, lines + left)]


def emptied(text: Text, places: list[Place], after: int | None = None) -> list[Edit]:
    """Return the edits that remove all entries of a container, but no comment that was set apart from them.

    The container begins in the line of `after`, or below it.
    """
    first, last = places[0], places[-1]
    left = _left(text, places)
    if not text.begins_line(first.start):
        return [Edit(text.before_blanks(first.start), last.bottom - 1, f"\n{left}"[:-1] if left else "")]
    if after is None:
        return [Edit(first.top, last.bottom, left)]
    start = text.line_end(after) + 1
    above = _HEAPS.sub("\n\n", _BLANK_BELOW.sub("", text.source[start : first.top], count=1))
    if not above.strip():
        above = ""
    elif left or text.is_comment(last.bottom):
        above += left
    else:
        above = above.rstrip("\n") + "\n"
    return [Edit(start, last.bottom, above)]


def _left(text: Text, gone: list[Place]) -> str:
    """Return the comments that were set apart between removed entries, with the blank lines between them."""
    found = "".join(text.source[place.bottom : other.top] for place, other in pairwise(gone))
    found = _BLANK_BELOW.sub("", found, count=1).rstrip(" \n")
    return _HEAPS.sub("\n\n", found) + "\n" if found else ""


def _behind_sign(text: Text, gone: list[Place], stays: Place | None, first: Place, lines: str) -> list[Edit]:
    """Return the edits where the first entry stands behind the dash of an item: the next one comes to stand there.

    Comments above that one come to stand above the dash.
    """
    column = text.column(first.start)
    above = _left(text, gone)
    if not lines and stays is not None:
        above += _BLANK_BELOW.sub("", text.source[gone[-1].bottom : text.line_start(stays.start)], count=1)
        stop = stays.start
    elif gone:
        stop = gone[-1].bottom
    else:
        stop, lines = first.start, lines + " " * column
    comments = _COMMENTS.match(lines)
    if comments is not None:
        above, lines = above + comments[0], lines[comments.end() :]
    lines = lines[column:]
    if not above:
        return [Edit(first.start, stop, lines)]
    line = text.line_start(first.start)
    if text.before(first.start).strip(" ") != "-":  # there is no room above it
        return [Edit(text.before_blanks(first.start), stop, f"\n{above}{' ' * column}{lines}")]
    pad = " " * text.before(first.start).index("-")
    above = "".join(f"{pad}{each.strip()}\n" if each.strip() else "\n" for each in above.strip("\n").split("\n"))
    return [Edit(line, line, above), Edit(first.start, stop, lines)]
