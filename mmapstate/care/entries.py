"""The entries of a YAML text that nobody can read as a whole: which can be read, and which cannot. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from mmapstate.errors import StateFileError
from mmapstate.text.lenient import parse_leniently
from mmapstate.text.source import Leniency
from mmapstate.values import Plain

_MOST_JOINED = 20  # lines that begin at the margin, and are yet one entry: brackets and quotes let that be
_MOST_TRIES = 2000  # to join some, in a file; each costs a parse
_DEEPEST = 20  # levels of entries inside of entries that are told apart
_AT_MARGIN = re.compile(rb"[^ \t\r\n#-]|---|-[^ \r\n]")  # what begins an entry of the top level
_KEY_ALONE = re.compile(rb"[^\n]*:[ \t]*(?:#[^\n]*)?\r?\n")
_COMMENTS = re.compile(rb"(?:(?:\A|(?<=\n))[ \t]*(?:#[^\n]*)?(?:\n|\Z))*\Z")
_SEPARATOR = re.compile(rb"(?:---|\.\.\.|%[^\n]*)[ \t]*(?:#[^\n]*)?\r?\n")


class Sifter:
    """Parts a text's entries into those that can be read and those that cannot: `lost`, offsets from and to."""

    def __init__(self, drops_items: bool) -> None:
        self.drops_items = drops_items  # else changes that come later would go to other items of the list
        self.tries = _MOST_TRIES
        self.lost: list[tuple[int, int]] = []

    def sift_document(self, text: bytes, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and text of what can be read of a document, its separators too; it begins at `start`."""
        return self._sift(_split(text, _AT_MARGIN), start, lambda piece: is_separator(piece) or entries_in(piece) != {})

    def _sift(
        self, pieces: list[bytes], start: int, reads: Callable[[bytes], bool], level: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """Yield offset and text of what can be read of `pieces`, the first of which begins at `start`."""
        good = [_is(reads, piece) or is_comment(piece) for piece in pieces]
        at = 0
        while at < len(pieces):
            count, piece = 1, pieces[at]
            if not good[at]:
                count = self._joined(pieces, at, reads)
                piece = b"".join(pieces[at : at + count])
            size = len(piece)
            if not good[at] and count == 1:
                piece = self._inside(piece, start, reads, level)
            yield start, piece
            start += size
            at += count

    def _joined(self, pieces: list[bytes], at: int, reads: Callable[[bytes], bool]) -> int:
        """Return how many pieces from `at` on are one entry, as brackets or quotes that are open let that be.

        Also where those behind the first could stand alone: that is what YAML makes of them. Brackets and quotes that
        were left open by mistake find no other end that fits, but by chance.
        """
        joined = pieces[at]
        if re.search(rb"[\"'\[{]", joined):
            for count in range(2, min(_MOST_JOINED, len(pieces) - at) + 1):
                if self.tries == 0:
                    break
                self.tries -= 1
                joined += pieces[at + count - 1]
                if _is(reads, joined):
                    return count
        return 1

    def _inside(self, piece: bytes, start: int, reads: Callable[[bytes], bool], level: int) -> bytes:
        """Return a piece without what in it cannot be read: without some entries, or all of it but for comments."""
        before = len(self.lost)
        head = _KEY_ALONE.match(piece)
        if head is not None and level < _DEEPEST:
            body = piece[head.end() :]
            first = re.search(rb"^( *)(?:(-)[ \r\n]|[^ \r\n#])", body, re.M)
            if first is not None and (self.drops_items or first[2] is None):
                begins = re.compile(re.escape(first[1]) + (rb"-[ \r\n]" if first[2] else rb"[^ \t\r\n#]"))
                inside = self._sift(
                    _split(body, begins), start + head.end(), lambda part: entries_in(b"k:\n" + part) != {"k": None},
                    level + 1,
                )  # fmt: skip
                kept = b"".join(part for _, part in inside)
                if not _COMMENTS.match(kept) and _is(reads, head[0] + kept):
                    return head[0] + kept
        del self.lost[before:]
        comments = re.search(rb"(?:^(?:#[^\n]*)?\r?\n)*\Z", piece, re.M)
        behind = comments[0] if comments is not None and is_comment(comments[0]) else b""
        stop = start + len(piece) - len(behind)
        if self.lost and self.lost[-1][1] == start:
            start = self.lost.pop()[0]
        self.lost.append((start, stop))
        return behind


def _is(reads: Callable[[bytes], bool], piece: bytes) -> bool:
    try:
        return reads(piece)
    except StateFileError:
        return False


def is_comment(piece: bytes) -> bool:
    """Return whether a piece is comments and blank lines alone."""
    return _COMMENTS.match(piece) is not None and _is(lambda text: entries_in(text) == {}, piece)


def is_separator(piece: bytes) -> bool:
    """Return whether a piece is a line between documents, or a directive, with comments behind it."""
    found = _SEPARATOR.match(piece)
    return found is not None and _COMMENTS.match(piece[found.end() :]) is not None


def entries_in(piece: bytes, told: list[Leniency] | None = None) -> dict[Any, Plain]:
    """Return what a piece of a text holds, read leniently; what that took is appended to `told`."""
    return parse_leniently(piece, [] if told is None else told)


def _split(text: bytes, begins: re.Pattern[bytes]) -> list[bytes]:
    """Return the pieces of a text of which each starts with a line that `begins` matches; the first may be none."""
    pieces: list[list[bytes]] = [[]]
    for line in text.splitlines(keepends=True):
        if begins.match(line):
            pieces.append([])
        pieces[-1].append(line)
    return [b"".join(lines) for lines in pieces if lines]
