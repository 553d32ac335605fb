"""A text to be read: decoded, with the places in it, and what stands where.

Both readers, of YAML and of JSON, refuse what they do not read through `Source.refusal`, and compose `Written`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from mmapstate.errors import StateFileError
from mmapstate.values import Plain

BOM = b"\xef\xbb\xbf"

_LINE_END = re.compile("\r\n?|\n")
SURROGATE = re.compile("[\ud800-\udfff]")


def split_bom(text: bytes) -> tuple[bytes, bytes]:
    """Return the BOM that a text begins with, ``b""`` if there is none, and what follows it."""
    behind = text.removeprefix(BOM)
    return text[: len(text) - len(behind)], behind


def line_end_of(text: bytes) -> bytes:
    """Return what ends the first line of `text`, LF or CRLF; LF if there is none."""
    first, found, _ = text.partition(b"\n")
    return b"\r\n" if found and first.endswith(b"\r") else b"\n"


class Source:
    """The text of a snapshot, UTF-8 with or without a BOM; `file` is its name in messages.

    Raises `StateFileError` if it is not UTF-8.
    """

    def __init__(self, data: bytes, file: str) -> None:
        self.file = file
        self.bom, self.utf8 = split_bom(data)
        try:
            self.text = self.utf8.decode()
        except UnicodeDecodeError as error:
            self.text = self.utf8[: error.start].decode()
            problem = f"not UTF-8 (byte {len(self.bom) + error.start}: {error.reason}); save the file as UTF-8"
            raise self.refusal(problem, len(self.text)) from None

    def place(self, index: int) -> tuple[int, int]:
        """Return line and column, from 1 on, of the character at `index`."""
        ends = [end.end() for end in _LINE_END.finditer(self.text, 0, index)]
        return len(ends) + 1, index - (ends[-1] if ends else 0) + 1

    def refusal(self, problem: str, index: int, kind: type[StateFileError] = StateFileError) -> StateFileError:
        """Return the error that says what is wrong with the character at `index`."""
        line, column = self.place(index)
        where = f"{self.file}, line {line}, column {column}"
        error = kind(f"{where}: {problem}; mend the file in an editor, it is left as it is")
        offset = len(self.bom) + len(self.text[:index].encode())
        return error.at(problem, line=line, column=column, offset=offset)


class Leniency(NamedTuple):
    """Something that a lenient reader reads and a strict one refuses, and whether something of it is lost by that."""

    line: int
    what: str
    loses: bool = True


class Written:
    """A value as it is written in a document: from where to where (characters of the text), and how.

    ``entries`` are pairs of key and value for a mapping, values for a sequence, None for a scalar. A block container
    ends where its last entry does; ``end`` is right for everything else. ``style`` is YAML's: ``|`` and ``>`` for
    blocks, quotes; ``{`` and ``[`` for containers in flow style.
    """

    __slots__ = ("end", "entries", "start", "style", "value")

    def __init__(self, value: Plain, start: int, end: int, style: str, entries: list[Any] | None = None) -> None:
        self.value = value
        self.start = start
        self.end = end
        self.style = style
        self.entries = entries


def parts_of(entry: Any) -> tuple[Written | None, Written]:
    """Return key (None in a sequence) and value of one of `Written.entries`."""
    return entry if isinstance(entry, tuple) else (None, entry)


def value_of(entry: Any) -> Written:
    """Return the value of one of `Written.entries`."""
    return parts_of(entry)[1]
