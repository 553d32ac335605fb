"""YAML text to plain data, strictly: one document, a mapping, nothing but plain data in it.

The data is built from libyaml's events, on a stack of its own: PyYAML's loader recurses, and before 6.0.4 crashes the
interpreter at some 30,000 levels of nesting. There is one loop over the events, in `Reader`; the lenient reader
(`lenient`) only answers differently where this one refuses, and `compose` keeps the events, which have the places.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from mmapstate.errors import BeyondRepair, StateFileError
from mmapstate.text.scalars import CONSTANTS, CONVERT_ERRORS, NUMERIC_START, TAGS, TRAPS, WORDS, number
from mmapstate.text.source import SURROGATE, Source, Written
from mmapstate.values import MAX_DEPTH, Plain

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_HASH_MODULUS = sys.hash_info.modulus
_MOST_ALIKE = 100
_LEVELS_OF_RECORD = 2  # a list of changes, and a change, around a value
_NOT_YAML = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_KEY: Any = object()


class Suspect(NamedTuple):
    """A word that YAML 1.1 takes for a boolean, and this library for text."""

    line: int
    text: str


def parse(text: bytes, file: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the data of the YAML document `text`: the mapping at its top, ``{}`` if it is blank.

    `file` names the source in messages; plain words such as ``yes`` are appended to `suspects`. Raises
    `StateFileError`, with line and column, for anything that is not one document of plain data.
    """
    return Reader(Source(text, file), suspects).mapping()


def parse_flow(text: bytes, suspects: list[Suspect] | None = None) -> Plain:
    """Return one value of any kind, such as a record of the journal (see `writer.flow`); None if the text is blank.

    `suspects` is that of `parse`. Raises `StateFileError`.
    """
    return Reader(Source(text, "a record"), suspects, MAX_DEPTH + _LEVELS_OF_RECORD).read()


def compose(text: str) -> Written | None:
    """Return the root of a document, without a BOM, with the places of all that is in it; None if it is blank.

    `text` is one that `parse` reads: what is refused there may raise `StateFileError` here, or be composed to anything.
    """
    composer = _Composer(Source(text.encode(), "the snapshot"))
    composer.read()
    return composer.root


class Reader:
    """Builds plain data from the events of one document."""

    def __init__(self, source: Source, suspects: list[Suspect] | None = None, max_depth: int = MAX_DEPTH) -> None:
        self.source = source
        self.suspects = [] if suspects is None else suspects
        self.max_depth = max_depth
        self.top: int | None = None  # where the document begins
        self.mark: Any = None  # where the last event ended
        self.alike: dict[tuple[int, int], int] = {}  # how many large numbers of a hash are keys of a mapping

    def mapping(self) -> dict[Any, Plain]:
        """Return the mapping at the document's top; ``{}`` if it is blank."""
        data = self.read()
        if data is None:
            return {}
        if not isinstance(data, dict):
            kind = "a sequence" if isinstance(data, list) else "a scalar"
            problem = f"the top of the document is {kind}; write a mapping, as 'key: value' lines"
            raise self.source.refusal(problem, self.top or 0)
        return data

    def read(self) -> Plain:
        """Return the document's data, None if it is blank."""
        odd = _NOT_YAML.search(self.source.text)  # PyYAML's two readers refuse it each in its own words, without a line
        if odd is not None:
            problem = f"the control character U+{ord(odd[0]):04X} cannot stand there"
            raise self.source.refusal(problem, odd.start())
        try:
            loader = _Loader(self.source.utf8)
            try:
                return self._build(loader.get_event)
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:  # always with a problem and its place
            raise self._told(error) from None
        except (yaml.YAMLError, *CONVERT_ERRORS) as error:
            at = 0 if self.mark is None else self.mark.index
            raise self.source.refusal(f"no YAML that can be read ({error})", at) from error

    def _told(self, error: yaml.MarkedYAMLError) -> StateFileError:
        """Return PyYAML's error as one of ours, with what a person may have done where its own words do not tell."""
        begun: Any = error.context_mark
        mark: Any = error.problem_mark
        context = error.context
        if begun is not None and begun.line != mark.line:
            line, column = self.source.place(begun.index)
            context = f"{context} that begins in line {line}, column {column}"
        told = ", ".join(part for part in (context, error.problem) if part)
        if "cannot start any token" in told:
            character = self.source.text[mark.index]
            told += ": a tab; indent with spaces" if character == "\t" else f": {character}; put the text in quotes"
        return self.source.refusal(told, mark.index)

    def _build(self, next_event: Callable[[], Any]) -> Plain:
        root: list[Any] = []
        container: Any = root
        key: Any = _NO_KEY
        around: list[tuple[Any, Any]] = []
        while True:
            event = next_event()
            self.mark = event.end_mark
            kind = event.__class__
            if kind is yaml.ScalarEvent:
                value = self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                if container.__class__ is dict and key is _NO_KEY:
                    raise self._refusal("a mapping or sequence cannot be a key", event)
                around.append((container, key))
                container, key = self._opened(event, len(around)), _NO_KEY
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._closed(container)
                value = container
                container, key = around.pop()
            elif kind is yaml.AliasEvent:
                value = self._alias(event, len(around) + 1)
            elif kind is yaml.StreamEndEvent:
                return root[0] if root else None
            else:
                self._check_document(event)
                continue
            if container.__class__ is list:
                container.append(value)
            elif key is _NO_KEY:
                self._check_key(value, container, event)
                key = value
            else:
                container[key] = value
                key = _NO_KEY

    def _refusal(self, problem: str, event: Any, kind: type[StateFileError] = StateFileError) -> StateFileError:
        return self.source.refusal(problem, event.start_mark.index, kind)

    def _check_document(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            if self.top is not None:
                problem = (
                    "a second document begins: this is a stream of several documents, and a state is one; keep each "
                    "in its own file"
                )
                raise self._refusal(problem, event, BeyondRepair)
            self.top = self.mark.index

    # --- Scalars ----------------------------------------------------------------------------------------------------

    def _scalar(self, event: Any) -> Plain:
        text: str = event.value
        if event.tag is not None and event.tag != "!":
            convert = TAGS.get(event.tag)
            if convert is None:
                self._unknown_tag(event, "its text")
                return text
        elif not event.implicit[0]:  # quoted, or a block
            if not text.isascii() and SURROGATE.search(text):  # libyaml refuses them itself
                raise self._refusal("half of a surrogate pair is no text", event)
            return text
        elif text[:1] in NUMERIC_START:
            convert = number
        else:
            return self._word(text, event) if text in WORDS else text
        try:
            return convert(text)
        except CONVERT_ERRORS as error:
            return self._misread(error, event)

    def _word(self, text: str, event: Any) -> Any:
        if text == "<<":
            return self._merge_key(event)
        if text in TRAPS:
            self.suspects.append(Suspect(event.start_mark.line + 1, text))
            return text
        return CONSTANTS[text]

    # --- Containers -------------------------------------------------------------------------------------------------

    def _opened(self, event: Any, level: int) -> dict[Any, Any] | list[Any]:
        """Return the container that begins there, of so many around each other."""
        self._check_level(level, event)
        is_mapping = event.__class__ is yaml.MappingStartEvent
        if event.tag is not None and event.tag not in ("!", f"tag:yaml.org,2002:{'map' if is_mapping else 'seq'}"):
            self._unknown_tag(event, "what it stands at")
        return {} if is_mapping else []

    def _closed(self, container: Any) -> None:
        """Finish a container, before it is put where it belongs."""

    def _check_level(self, level: int, event: Any) -> None:
        if level > self.max_depth:
            raise self._refusal(f"more than {self.max_depth} containers inside each other", event)

    def _check_key(self, key: Any, container: dict[Any, Any], event: Any) -> None:
        if key.__class__ is int and not -_HASH_MODULUS < key < _HASH_MODULUS:  # else none collides with many others
            place = id(container), hash(key)
            self.alike[place] = self.alike.get(place, 0) + 1
            if self.alike[place] > _MOST_ALIKE:  # a mapping of n of them would take the time of n * n
                problem = f"more than {_MOST_ALIKE} keys of one mapping are numbers with the same hash"
                raise self._refusal(problem, event, BeyondRepair)
        if key in container:
            first = next(other for other in container if other == key)
            problem = f"the key {key!r} stands twice in one mapping: remove one"
            if type(first) is not type(key):
                problem = f"the keys {first!r} and {key!r} are equal: rename one"
            raise self._refusal(problem, event)
        if key.__class__ is float and math.isnan(key):
            raise self._refusal("NaN cannot be a key", event)

    # --- What a lenient reader reads --------------------------------------------------------------------------------

    def _alias(self, event: Any, level: int) -> Any:  # noqa: ARG002
        raise self._refusal("aliases (*name) are not supported: write the value out", event)

    def _merge_key(self, event: Any) -> Any:
        raise self._refusal("merge keys (<<) are not supported: write the entries out", event)

    def _unknown_tag(self, event: Any, kept: str) -> None:  # noqa: ARG002
        raise self._refusal(f"the tag {event.tag} is not supported: a state holds plain data", event)

    def _misread(self, error: Exception, event: Any) -> Plain:
        raise self._refusal(f"{event.value[:40]!r} cannot be read ({error})", event) from None


class _Composer(Reader):
    """Notes what is written where, beside the data."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.root: Written | None = None
        self.around: list[tuple[Written, list[Any]]] = []  # containers, and what has been found in each: keys, too

    def _found(self, found: Written) -> None:
        if self.around:
            self.around[-1][1].append(found)
        else:
            self.root = found

    def _scalar(self, event: Any) -> Plain:
        value = super()._scalar(event)
        self._found(Written(value, event.start_mark.index, event.end_mark.index, event.style or ""))
        return value

    def _opened(self, event: Any, level: int) -> dict[Any, Any] | list[Any]:
        container = super()._opened(event, level)
        style = "" if not event.flow_style else "{" if isinstance(container, dict) else "["
        start = event.start_mark.index
        self.around.append((Written(container, start, start, style), []))
        return container

    def _closed(self, container: Any) -> None:
        found, inside = self.around.pop()
        found.end = self.mark.index if found.style else inside[-1].end
        found.entries = list(zip(inside[::2], inside[1::2], strict=True)) if isinstance(container, dict) else inside
        self._found(found)

    def _check_key(self, key: Any, container: dict[Any, Any], event: Any) -> None:
        """Those that stand twice are told apart by their places: a repair takes the first away."""
