"""Where the entries of containers stand in a text, and which comments are whose.

An entry owns, besides its own lines: the comment behind it; comments directly below it that are indented deeper than it
is, as they continue what is above them; and other comments directly above it. A comment set apart by a blank line
belongs to no entry. The first block of comments in a file belongs to the file, blank line or not: it may be a licence.
It cannot be told from a comment on the first key; a comment too many is seen, one that is gone is not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mmapstate.text.source import Written, parts_of

_BEFORE_THE_FIRST = frozenset(" -:?")  # what stands in its line before the first entry of an entry that is a container

_COLON = re.compile(r"(?:[ \t\r\n]|#[^\n]*\n)*:")
_COMMENT = re.compile(r"[ \t]*#[^\n]*")
_HEADER = re.compile(r"[|>][-+0-9]*")
_LINE = re.compile(r"[^\n]*\n")
_MARK = re.compile(r"\?\s")
_NOTHING = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")  # between two tokens
_PROPERTIES = re.compile(r"(?:[&!]\S*(?:[ \t\r\n]|#[^\n]*\n)+)*")  # anchor and tag before a value
_PROPERTIES_OF_LINE = re.compile(r"(?:[ \t]*[&!]\S*)+")
_ONLY_MARKS = re.compile(r"(?:%[^\n]*\n|[ \t]*\n)*(?:---[ \t]*(?:#[^\n]*)?\n)?(?:[ \t]*\n)*\Z")  # above a document
_REST_OF_LINE = re.compile(r"[ \t]*(?:#[^\n]*)?$", re.MULTILINE)


class NotUnderstood(Exception):
    """The layout of a container does not let it be changed in part: that container is rewritten."""


class Place(NamedTuple):
    """Where an entry in block style stands: its first character (key, ``?`` or ``-``), and the lines that it owns."""

    start: int
    top: int
    bottom: int


class Text:
    """A YAML text whose last line has an end."""

    def __init__(self, source: str) -> None:
        self.source = source

    def behind(self, pattern: re.Pattern[str], position: int) -> int:
        """Return where what a pattern finds at the position ends; the position itself if it finds nothing there."""
        found = pattern.match(self.source, position)
        return position if found is None else found.end()

    # --- Lines ------------------------------------------------------------------------------------------------------

    def line_start(self, position: int) -> int:
        """Return where the line begins."""
        return self.source.rfind("\n", 0, position) + 1

    def line_end(self, position: int) -> int:
        """Return where the line's end stands."""
        return self.source.index("\n", position)

    def column(self, position: int) -> int:
        """Return how many characters stand before the position in its line."""
        return position - self.line_start(position)

    def before(self, position: int) -> str:
        """Return what stands before the position in its line."""
        return self.source[self.line_start(position) : position]

    def before_blanks(self, position: int) -> int:
        """Return where the blanks before the position begin."""
        return position - len(self.before(position)) + len(self.before(position).rstrip(" "))

    def begins_line(self, position: int) -> bool:
        """Return whether only blanks stand before the position in its line."""
        return not self.before(position).strip(" ")

    def is_blank(self, line: int) -> bool:
        """Return whether the line that begins there is blank, or the text ends there."""
        return line == len(self.source) or not self.source[line : self.line_end(line)].strip(" ")

    def comment(self, position: int) -> str | None:
        """Return the comment from there to the end of the line, "" if nothing is there, None if it is something else.

        It includes the blanks before it, at least one and no tabs, so that it can follow any token.
        """
        found = _REST_OF_LINE.match(self.source, position)
        if found is None:
            return None
        comment = found[0].strip()
        blanks = found[0][: found[0].find("#")]
        return (blanks if blanks.strip("\t") and "\t" not in blanks else " ") + comment if comment else ""

    # --- Values -----------------------------------------------------------------------------------------------------

    def content(self, written: Written) -> int:
        """Return where a value begins behind its anchor and tag."""
        if self.source[written.start : written.start + 1] not in ("&", "!"):
            return written.start
        return min(self.behind(_PROPERTIES, written.start), written.end)  # of one that is not written, nothing follows

    def properties_end(self, position: int) -> int:
        """Return where anchor and tag end that stand in the same line, behind a colon or dash; `position` if none."""
        return self.behind(_PROPERTIES_OF_LINE, position)

    def in_brackets(self, written: Written) -> bool:
        """Return whether a value is a container in flow style, and not a single pair in one, which has no brackets."""
        return written.style in ("{", "[") and self.source[self.content(written)] == written.style

    def colon(self, key: Written, value: Written) -> int | None:
        """Return where the colon between key and value ends, None if there is none."""
        found = _COLON.match(self.source, key.end)
        return found.end() if found is not None and found.end() <= value.start else None

    def end(self, written: Written, key: Written | None = None) -> int:
        """Return where a value's text ends, without the blank lines and the line end that a block takes along.

        Of one that is not written that is where its `key`, or the colon behind it, ends.
        """
        while written.entries and not self.in_brackets(written):
            key, written = parts_of(written.entries[-1])
        if written.start == written.end and key is not None:
            return self.colon(key, written) or self.end(key)
        if written.style not in ("|", ">"):
            return written.end
        header = self.source[written.start : self.line_end(written.start)].partition("#")[0]
        text = self.source[written.start : written.end]
        kept = text.removesuffix("\n").removesuffix("\r") if "+" in header else text.rstrip("\r\n")
        return written.start + len(kept)

    def header_end(self, written: Written) -> int:
        """Return where the header of a block scalar (``|-``) ends."""
        return self.behind(_HEADER, self.content(written))

    def next_token(self, position: int) -> int:
        """Return where the next token begins: blanks and comments are skipped."""
        return self.behind(_NOTHING, position)

    # --- Entries in block style -------------------------------------------------------------------------------------

    def key_start(self, key: Written) -> int:
        """Return where a key begins, with the question mark before it, as a very long one has."""
        before = self.before(key.start)
        return key.start - len(before) + before.rindex("?") if before.rstrip(" ").endswith("?") else key.start

    def places(self, container: Written) -> list[Place]:
        """Return where the entries of a container in block style stand."""
        starts, ends = [], []
        position = self.content(container)
        has_mark = _MARK.match(self.source, position) is not None
        for number, entry in enumerate(container.entries or ()):
            key, value = parts_of(entry)
            if key is not None and number == 0:
                start = position if has_mark else key.start
            else:
                start = self.next_token(position) if number else position
                if self.source[start] != ("-" if key is None else "?") and (key is None or start != key.start):
                    raise NotUnderstood("its entries do not follow each other")
            before = self.before(start)
            if before.strip(" ") and (number or not set(before) <= _BEFORE_THE_FIRST):
                raise NotUnderstood("an entry begins behind something else")
            position = self.end(value, key)
            starts.append(start)
            ends.append(self.line_end(position) + 1)
        column = self.column(starts[0])
        if self.begins_line(starts[0]):
            highest = self.line_start(starts[0])
            while highest and self.is_comment(self.line_start(highest - 1)):
                highest = self.line_start(highest - 1)
            apart = not highest or not self.before(highest - 1).strip()
            tops = [self._parted(highest, self.line_start(starts[0]), 1 << 30 if apart else column)[1]]
            if _ONLY_MARKS.match(self.source, 0, highest):
                tops = [self.line_start(starts[0])]
        else:
            tops = [starts[0]]
        bottoms = []
        for end, start in zip(ends, starts[1:], strict=False):
            bottom, top = self._parted(end, self.line_start(start), column)
            bottoms.append(bottom)
            tops.append(top)
        lowest = ends[-1]
        while lowest < len(self.source) and self.is_comment(lowest):
            lowest = self.line_end(lowest) + 1
        bottoms.append(self._parted(ends[-1], lowest, column)[0])
        return [Place(*each) for each in zip(starts, tops, bottoms, strict=True)]

    def is_comment(self, line: int) -> bool:
        """Return whether the line that begins there is a comment alone."""
        return _COMMENT.match(self.source, line) is not None

    def _parted(self, top: int, bottom: int, column: int) -> tuple[int, int]:
        """Return where, between two entries, the lines of the upper one end and those of the lower one begin."""
        if top == bottom:
            return top, top
        lines = _LINE.findall(self.source, top, bottom)
        below, above = parted(lines, column)
        return top + sum(map(len, lines[:below])), bottom - sum(map(len, lines[len(lines) - above :]))


def parted(lines: list[str], column: int) -> tuple[int, int]:
    """Return how many of the lines between two entries that begin in `column` belong to the upper and to the lower."""
    below = 0
    while below < len(lines) and (found := _COMMENT.match(lines[below])) and found[0].index("#") > column:
        below += 1
    above = 0
    while above < len(lines) - below and _COMMENT.match(lines[-1 - above]):
        above += 1
    return below, above
