"""YAML text to plain data and back, the flow form of a value too; the only user of ``yaml``.

Scalars typed by hand are read as PyYAML reads them (YAML 1.1), with four traps taken out: only ``true`` and ``false``
are booleans, ``12:30`` is text and not a number in base 60, ``012`` is 12 and not an octal number, ``1e-7`` is a number
as in YAML 1.2 and in JSON. What is written is quoted wherever YAML 1.1 or 1.2, or the rules here, would take text for
something else.

Reading builds the data from libyaml's events, on a stack of its own: its loader recurses, and before PyYAML 6.0.4
crashes the interpreter at some 30,000 levels of nesting.
"""

from __future__ import annotations

import base64
import math
import re
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import yaml

from mmapstate.errors import BeyondRepair, StateFileError
from mmapstate.values import MAX_DEPTH, MAX_INT_DIGITS, Plain, is_storable_int, same

__all__ = [
    "Leniency",
    "Suspect",
    "Written",
    "compose",
    "dump",
    "flow",
    "line_end_of",
    "line_of",
    "parse",
    "parse_flow",
    "parse_leniently",
    "represent_as_plain",
]

_HAS_LIBYAML = hasattr(yaml, "CSafeLoader") and hasattr(yaml, "CSafeDumper")
_Loader: Any = yaml.CSafeLoader if _HAS_LIBYAML else yaml.SafeLoader
_BaseDumper: Any = yaml.CSafeDumper if _HAS_LIBYAML else yaml.SafeDumper

_HASH_MODULUS = sys.hash_info.modulus
_MOST_ALIKE = 100
_LEVELS_OF_RECORD = 2  # a list of changes, and a change, around a value
_WIDE = 1 << 30  # columns: never fold a long line, a line of the file is a line of the state

_CONSTANTS: dict[str, Any] = {
    text: value
    for texts, value in ((("", "~", "null", "Null", "NULL"), None), (("true", "True", "TRUE"), True))
    for text in texts
} | dict.fromkeys(("false", "False", "FALSE"), False)
_TRAPS = frozenset(
    casing for word in ("yes", "no", "on", "off") for casing in (word, word.capitalize(), word.upper())
)  # booleans to YAML 1.1, text here
_NUMERIC_START = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"(?:(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_FLOAT_OF_1_2 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_TIMESTAMP: re.Pattern[str] = next(
    pattern for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers["2"] if tag.endswith(":timestamp")
)
_AMBIGUOUS = re.compile(  # text that some reader of YAML 1.1 or 1.2 takes for something else: quoted
    r"(?:[-+]?0[bBoOxX][0-9a-fA-F_]*|[-+]?[0-9][0-9_]*|[-+]?\.?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]*)?"
    r"|[-+]?\.(?:inf|nan)|[-+]?[0-9][0-9_]*(?::[0-9_.]*)+|y|n|yes|no|on|off|true|false|null|~|<<|=|nan|inf)\Z",
    re.IGNORECASE,
)
_BREAK = re.compile("[\n\r\x85\u2028\u2029]")  # YAML 1.1 folds lines at all of them, and reads U+0085 as LF
_LITERAL = re.compile(  # text of several lines that reads well, and safely, as a YAML block
    r"[!-~\u00a1-\u1fff][ -~\u00a1-\u1fff]*(?<! )(?:\n+[!-~\u00a1-\u1fff][ -~\u00a1-\u1fff]*(?<! ))*\n?\Z"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_YAML = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Suspect(NamedTuple):
    """A word that YAML 1.1 takes for a boolean, and this library for text."""

    line: int
    text: str


class _Place:
    """A place in a text, counted from 0, as PyYAML's marks tell it; `index` is that of the character."""

    def __init__(self, line: int, column: int, index: int) -> None:
        self.line, self.column, self.index = line, column, index


def parse(text: bytes, file: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the data of the snapshot `text` (UTF-8, a BOM is accepted): the mapping at its top, ``{}`` if it is blank.

    `file` names the source in messages; plain words such as ``yes`` are appended to `suspects`. Raises
    `StateFileError`, with line and column, for anything that is not one YAML document of plain data.
    """
    reader = _Reader(text.removeprefix(b"\xef\xbb\xbf"), file, suspects if suspects is not None else [])
    data = reader.read()
    if data is None:
        return {}
    if not isinstance(data, dict):
        kind = "a sequence" if isinstance(data, list) else "a scalar"
        raise reader.refusal(f"the top of the document is {kind}; write a mapping, as 'key: value' lines", reader.top)
    return data


def line_of(text: bytes, path: Sequence[Any]) -> int | None:
    """Return the line, from 1 on, in which the value at `path` begins in the snapshot `text`, which `parse` reads."""
    data: Any = parse(text, "")
    node: Any = yaml.compose(text.decode("utf-8-sig"), Loader=_Loader)
    for key in path:
        if isinstance(data, dict) and key in data:  # the keys of both are in the order of the text
            node = node.value[list(data).index(key)][1]
        elif isinstance(data, list) and key in range(len(data)):
            node = node.value[key]
        else:
            return None
        data = data[key]
    return int(node.start_mark.line) + 1


def parse_flow(text: bytes, suspects: list[Suspect] | None = None) -> Plain:
    """Return the data of one value in flow form, as `flow` writes it; raise `StateFileError` if it is none.

    What is to be warned of is added to `suspects`.
    """
    return _Reader(text, "a record", [] if suspects is None else suspects, MAX_DEPTH + _LEVELS_OF_RECORD).read()


def dump(
    data: dict[Any, Plain] | list[Plain], *, line_end: bytes = b"\n", step: int = 2, literal: bool = True
) -> bytes:
    """Return `data` as one YAML document in UTF-8: block style, keys in their own order, each line with its end.

    `step` is by how many columns what is inside of something is indented; with `literal`, text of several lines is a
    block of them.
    """
    text = _dump(data, _BlockDumper if literal else _LineDumper, default_flow_style=False, indent=step)
    return text.replace(b"\n", line_end)


def line_end_of(text: bytes) -> bytes:
    """Return what ends the first line of `text`, LF or CRLF; LF if there is none."""
    first, found, _ = text.partition(b"\n")
    return b"\r\n" if found and first.endswith(b"\r") else b"\n"


def flow(value: list[Plain]) -> bytes:
    """Return the list `value` as one line of YAML in flow style, strings in double quotes.

    The text is read back and compared. Raises ValueError if YAML cannot carry the value.
    """
    text = _dump(value, _FlowDumper, default_flow_style=True).rstrip()
    try:
        if b"\n" not in text and b"\r" not in text and same(parse_flow(text), value):
            return text
    except StateFileError:
        pass
    raise ValueError("YAML cannot carry this value")


def represent_as_plain(kind: type, plain: Callable[[Any], Plain]) -> None:
    """Teach PyYAML's dumpers to write objects of `kind` (subclasses too) as the plain data that `plain` returns."""
    dumpers: list[Any] = [yaml.representer.SafeRepresenter, yaml.representer.Representer]
    for name in ("SafeDumper", "Dumper", "CSafeDumper", "CDumper"):
        dumper = getattr(yaml, name, None)  # two of them come with libyaml only
        # Where somebody has registered a type, the dumper has a table of its own.
        if dumper is not None and "yaml_multi_representers" in vars(dumper):
            dumpers.append(dumper)
    for dumper in dumpers:
        dumper.add_multi_representer(kind, lambda self, data: self.represent_data(plain(data)))


class _Reader:
    """Builds plain data from the events of one document."""

    def __init__(self, text: bytes, file: str, suspects: list[Suspect], max_depth: int = MAX_DEPTH) -> None:
        self.text = text
        self.file = file
        self.suspects = suspects
        self.max_depth = max_depth
        self.top: Any = None  # where the document begins
        self.mark: Any = _Place(0, 0, 0)  # where the last event ended
        self.alike: dict[tuple[int, int], int] = {}  # how many large numbers of a hash are keys of a mapping

    def read(self) -> Plain:
        """Return the document's data, None if it is blank."""
        self._check_characters()
        try:
            loader = _Loader(self.text)
            try:
                return self._build(loader.get_event)
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:  # always with a problem and its place
            context, begun = error.context, error.context_mark
            mark: Any = error.problem_mark
            if begun is not None and begun.line != mark.line:
                context = f"{context} that begins in line {begun.line + 1}, column {begun.column + 1}"
            told = ", ".join(part for part in (context, error.problem) if part)
            raise self.refusal(told + self._hint(told, mark), mark) from None
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise self.refusal(f"no YAML that can be read ({error})", self.mark) from error

    def _hint(self, problem: str, mark: Any) -> str:
        """Return what a person may have done, where YAML's own words do not tell."""
        if "cannot start any token" not in problem:
            return ""
        character = self.text.decode()[mark.index]
        return ": a tab; indent with spaces" if character == "\t" else f": {character}; put the text in quotes"

    def _check_characters(self) -> None:
        """Refuse what is no text, which PyYAML's two readers refuse each in its own words, and without a line."""
        try:
            found = _NOT_YAML.search(self.text.decode())
        except UnicodeDecodeError as error:
            before = self.text[: error.start].decode()
            problem = f"not UTF-8 (byte {error.start}: {error.reason}); save the file as UTF-8"
        else:
            if found is None:
                return
            before = found.string[: found.start()]
            problem = f"the control character U+{ord(found[0]):04X} cannot stand there"
        column = len(before) - before.rfind("\n") - 1
        raise self.refusal(problem, _Place(before.count("\n"), column, len(before)))

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
                self._check_start(event, len(around), container, key)
                around.append((container, key))
                container = {} if kind is yaml.MappingStartEvent else []
                key = _NO_KEY
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                value = container
                container, key = around.pop()
            elif kind is yaml.AliasEvent:
                raise self.refusal("aliases (*name) are not supported: write the value out", event.start_mark)
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

    def _scalar(self, event: Any) -> Plain:
        if event.tag is not None and event.tag != "!":
            return self._tagged(event)
        text: str = event.value
        if not event.implicit[0]:  # quoted, or a block
            if not text.isascii() and _SURROGATE.search(text):  # libyaml refuses them itself
                raise self.refusal("half of a surrogate pair is no text", event.start_mark)
            return text
        if text[:1] in _NUMERIC_START:
            return self._number(text, event)
        value = _CONSTANTS.get(text, _NO_KEY)
        if value is not _NO_KEY:
            return value  # type: ignore[no-any-return]
        if text in _TRAPS:
            self.suspects.append(Suspect(event.start_mark.line + 1, text))
        elif text == "<<":
            raise self.refusal("merge keys (<<) are not supported: write the entries out", event.start_mark)
        return text

    def _number(self, text: str, event: Any) -> Plain:
        if _INT.match(text):
            return self._convert(_read_int, text, event) if len(text) > 18 else _read_int(text)
        if _FLOAT.match(text):
            return _read_float(text)
        if _FLOAT_OF_1_2.match(text) and math.isfinite(number := float(text)):  # 12e4567 is no number, and a hash is
            return number
        if _TIMESTAMP.match(text):
            return self._convert(_read_timestamp, text, event)
        return text

    def _tagged(self, event: Any) -> Plain:
        convert = _TAGS.get(event.tag)
        if convert is None:
            raise self.refusal(f"the tag {event.tag} is not supported: a state holds plain data", event.start_mark)
        return self._convert(convert, event.value, event)

    def _convert(self, convert: Callable[[str], Plain], text: str, event: Any) -> Plain:
        try:
            return convert(text)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:
            return self._misread(f"{text[:40]!r} cannot be read ({error})", text, event)

    def _misread(self, problem: str, text: str, event: Any) -> Plain:  # noqa: ARG002
        raise self.refusal(problem, event.start_mark) from None

    def _check_start(self, event: Any, level: int, container: Any, key: Any) -> None:
        self._check_level(level, event)
        if container.__class__ is dict and key is _NO_KEY:
            raise self.refusal("a mapping or sequence cannot be a key", event.start_mark)
        kind = "map" if event.__class__ is yaml.MappingStartEvent else "seq"
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
            raise self.refusal(f"the tag {event.tag} is not supported: a state holds plain data", event.start_mark)

    def _check_level(self, level: int, event: Any) -> None:
        if level >= self.max_depth:
            raise self.refusal(f"more than {self.max_depth} containers inside each other", event.start_mark)

    def _check_document(self, event: Any) -> None:
        if event.__class__ is yaml.DocumentStartEvent:
            if self.top is not None:
                problem = (
                    "a second document begins: this is a stream of several documents, and a state is one; keep each "
                    "in its own file"
                )
                raise self.refusal(problem, event.start_mark, BeyondRepair)
            self.top = event.end_mark

    def _check_key(self, key: Any, container: dict[Any, Any], event: Any) -> None:
        if key.__class__ is int and not -_HASH_MODULUS < key < _HASH_MODULUS:  # else none collides with many others
            place = id(container), hash(key)
            self.alike[place] = self.alike.get(place, 0) + 1
            if self.alike[place] > _MOST_ALIKE:  # a mapping of n of them would take the time of n * n
                problem = f"more than {_MOST_ALIKE} keys of one mapping are numbers with the same hash"
                raise self.refusal(problem, event.start_mark, BeyondRepair)
        if key in container:
            first = next(other for other in container if other == key)
            problem = f"the key {key!r} stands twice in one mapping: remove one"
            if type(first) is not type(key):
                problem = f"the keys {first!r} and {key!r} are equal: rename one"
            raise self.refusal(problem, event.start_mark)
        if key.__class__ is float and math.isnan(key):
            raise self.refusal("NaN cannot be a key", event.start_mark)

    def refusal(self, problem: str, mark: Any, kind: type[StateFileError] = StateFileError) -> StateFileError:
        line, column = mark.line + 1, mark.column + 1
        where = f"{self.file}, line {line}, column {column}"
        error = kind(f"{where}: {problem}; mend the file in an editor, it is left as it is")
        error.problem, error.line, error.column = problem, line, column
        before = self.text.decode("utf-8", "surrogateescape")[: mark.index]
        error.offset = len(before.encode("utf-8", "surrogateescape"))
        return error


class Leniency(NamedTuple):
    """What `parse_leniently` read though `parse` refuses it, and whether something of it is lost by that."""

    line: int
    what: str
    loses: bool = True


def parse_leniently(text: bytes, told: list[Leniency], file: str = "") -> dict[Any, Plain]:
    """Return the data of a snapshot that `parse` refuses though its YAML is whole; what was unusual goes to `told`.

    An alias or a merge key becomes a copy, the last of equal keys counts, a tag that is not known here is left out, a
    date that is none (or a number) is text. Raises `StateFileError` for anything else.
    """
    reader = _LenientReader(text.removeprefix(b"\xef\xbb\xbf"), file, [])
    data = reader.read()
    told += reader.told
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise reader.refusal("the top of the document is no mapping", reader.top)
    return data


class _LenientReader(_Reader):
    """Builds data from what only other programs would have written."""

    def __init__(self, text: bytes, file: str, suspects: list[Suspect]) -> None:
        super().__init__(text, file, suspects)
        self.told: list[Leniency] = []
        self.copied = 0

    def _build(self, next_event: Callable[[], Any]) -> Plain:
        root: list[Any] = []
        anchors: dict[str, Any] = {}
        container: Any = root
        key: Any = _NO_KEY
        merged: list[dict[Any, Any]] = []
        around: list[tuple[Any, Any, list[dict[Any, Any]], str | None]] = []
        while True:
            event = next_event()
            self.mark = event.end_mark
            kind = event.__class__
            anchor: str | None = getattr(event, "anchor", None)
            if kind is yaml.ScalarEvent:
                is_merge = event.value == "<<" and event.implicit[0] and container.__class__ is dict and key is _NO_KEY
                value = _MERGE if is_merge else self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._check_start(event, len(around), container, key)
                around.append((container, key, merged, anchor))
                container, key, merged = {} if kind is yaml.MappingStartEvent else [], _NO_KEY, []
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                value = container
                for source in merged:
                    value.update({name: item for name, item in source.items() if name not in value})
                container, key, merged, anchor = around.pop()
            elif kind is yaml.AliasEvent:
                value, anchor = self._alias(event, anchors, len(around)), None
            elif kind is yaml.StreamEndEvent:
                result: Plain = root[0] if root else None
                return result
            else:
                self._check_document(event)
                continue
            if anchor is not None:
                anchors[anchor] = value
            if container.__class__ is list:
                container.append(value)
            elif key is _NO_KEY:
                if value is not _MERGE:
                    self._check_key(value, container, event)
                key = value
            elif key is _MERGE:
                merged += self._sources(value, event)
                key = _NO_KEY
            else:
                container[key] = value
                key = _NO_KEY

    def _tell(self, event: Any, what: str, *, loses: bool = True) -> None:
        self.told.append(Leniency(event.start_mark.line + 1, what, loses))

    def _alias(self, event: Any, anchors: dict[str, Any], level: int) -> Any:
        if event.anchor not in anchors:
            raise self.refusal(f"the alias *{event.anchor} is of nothing that is whole", event.start_mark)
        self._tell(event, f"the alias *{event.anchor} is now a copy of what it stands for", loses=False)
        return self._copy(anchors[event.anchor], event, level)

    def _copy(self, value: Any, event: Any, level: int) -> Any:
        self.copied += 1
        if self.copied > _MOST_COPIES:
            raise self.refusal("aliases of aliases without end", event.start_mark)
        if not isinstance(value, dict | list):
            return value
        self._check_level(level, event)  # what stands for itself is not too deep, its copy may be
        if isinstance(value, dict):
            return {key: self._copy(item, event, level + 1) for key, item in value.items()}
        return [self._copy(item, event, level + 1) for item in value]

    def _sources(self, value: Any, event: Any) -> list[dict[Any, Any]]:
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise self.refusal("a merge key (<<) of what is no mapping", event.start_mark)
        self._tell(event, "what the merge key (<<) stands for is now written out", loses=False)
        return sources

    def _tagged(self, event: Any) -> Plain:
        if event.tag in _TAGS:
            return super()._tagged(event)
        self._tell(event, f"the tag {event.tag} is left out, its text is kept")
        return str(event.value)

    def _misread(self, problem: str, text: str, event: Any) -> Plain:
        self._tell(event, f"{problem}: it is text now")
        return text

    def _check_start(self, event: Any, level: int, container: Any, key: Any) -> None:
        kind = "map" if event.__class__ is yaml.MappingStartEvent else "seq"
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
            self._tell(event, f"the tag {event.tag} is left out, what it stands at is kept")
            event.tag = None
        super()._check_start(event, level, container, key)

    def _check_key(self, key: Any, container: dict[Any, Any], event: Any) -> None:
        if isinstance(key, dict | list):  # by an alias
            raise self.refusal("a mapping or sequence cannot be a key", event.start_mark)
        if key in container:
            self._tell(event, f"the key {key!r} stands twice in one mapping, the last of them counts")
            del container[key]
        super()._check_key(key, container, event)


class Written:
    """A value as it is written in a document: from where to where (characters of the text), and how.

    ``entries`` are pairs of key and value for a mapping, values for a sequence, None for a scalar. A block container
    ends where its last entry does; ``end`` is right for everything else. ``style`` is YAML's: ``|`` and ``>`` for
    blocks, quotes; ``{`` and ``[`` for containers in flow style.
    """

    __slots__ = ("end", "entries", "start", "style", "value")

    def __init__(self, value: Plain, start: int, style: str, entries: list[Any] | None = None) -> None:
        self.value = value
        self.start = self.end = start
        self.style = style
        self.entries = entries


class _Composer(_Reader):
    """Builds what is written where."""

    def compose(self) -> Written | None:
        """Return the document's root, None if it is blank."""
        self.root: Written | None = None
        self.read()
        return self.root

    def _build(self, next_event: Callable[[], Any]) -> Plain:
        around: list[Any] = []
        container: Any = None
        key: Any = None
        while True:
            event = next_event()
            kind = event.__class__
            if kind is yaml.ScalarEvent:
                found = Written(self._scalar(event), event.start_mark.index, event.style or "")
                found.end = event.end_mark.index
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                is_map = kind is yaml.MappingStartEvent
                style = "" if not event.flow_style else "{" if is_map else "["
                around.append((container, key))
                container, key = Written({} if is_map else [], event.start_mark.index, style, []), None
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                found = container
                found.end = event.end_mark.index if found.style else _end_of_last(found)
                container, key = around.pop()
            elif kind is yaml.StreamEndEvent:
                return None
            else:
                continue
            if container is None:
                self.root = found
            elif container.value.__class__ is list:
                container.entries.append(found)
                container.value.append(found.value)
            elif key is None:
                key = found
            else:
                container.entries.append((key, found))
                container.value[key.value] = found.value
                key = None


def _end_of_last(container: Written) -> int:
    assert container.entries
    last = container.entries[-1]
    end: int = (last[1] if isinstance(last, tuple) else last).end
    return end


def compose(text: str) -> Written | None:
    """Return the root of a snapshot, without a BOM, with the places of all that is in it; None if it is blank.

    `text` is one that `parse` reads: what is refused there may raise `StateFileError` here, or be composed to anything.
    """
    return _Composer(text.encode(), "the snapshot", []).compose()


_NO_KEY: Any = object()
_MERGE: Any = object()
_MOST_COPIES = 100_000  # of values, for aliases: their number can double with each line
_TOO_LONG = f"it has more than {MAX_INT_DIGITS} digits"


def _read_int(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign = -1 if digits[:1] == "-" else 1
    digits = digits.lstrip("+-")
    base = {"0x": 16, "0b": 2}.get(digits[:2], 10)
    if base == 10 and len(digits) > MAX_INT_DIGITS:
        raise ValueError(_TOO_LONG)
    value = int(digits, base)
    if not is_storable_int(value):
        raise ValueError(_TOO_LONG)
    return sign * value


def _read_float(text: str) -> float:
    text = text.replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _read_timestamp(text: str) -> Plain:
    node = yaml.ScalarNode("tag:yaml.org,2002:timestamp", text)
    return yaml.constructor.SafeConstructor().construct_yaml_timestamp(node)


def _read_binary(text: str) -> bytes:
    return base64.b64decode("".join(text.split()), validate=True)


_TAGS: dict[str, Callable[[str], Plain]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": _read_int,
    "tag:yaml.org,2002:float": _read_float,
    "tag:yaml.org,2002:bool": lambda text: yaml.constructor.SafeConstructor.bool_values[text.lower()],
    "tag:yaml.org,2002:null": lambda text: _CONSTANTS[text],
    "tag:yaml.org,2002:timestamp": _read_timestamp,
    "tag:yaml.org,2002:binary": _read_binary,
}


def _dump(data: Plain, dumper: Any, *, default_flow_style: bool, indent: int | None = None) -> bytes:
    text: bytes = yaml.dump(
        data,
        Dumper=dumper,
        default_flow_style=default_flow_style,
        indent=indent,
        allow_unicode=True,
        sort_keys=False,
        width=_WIDE,
        encoding="utf-8",
    )
    if b"\xee" in text:  # the first byte of what stands for others
        text = _STAND_INS.sub(_stood_for, text.decode()).encode()
    return text


# PyYAML's dumpers write astral characters as escapes, which nobody can read. So they are given two of the private use
# area for each, which they take as any letter; and two for one of that area, so that none is taken for half of a pair.
_NOT_AS_IT_IS = re.compile("[\U00010000-\U0010ffff\ue000-\uf8ff]")
_STAND_INS = re.compile("[\ue000-\ue7ff][\ue800-\uebff]")


def _stand_ins(text: str) -> str:
    return text if text.isascii() else _NOT_AS_IT_IS.sub(_two_for_one, text)


def _two_for_one(found: re.Match[str]) -> str:
    code = ord(found[0])
    number = code - 0x10000 if code >= 0x10000 else code - 0xE000 + 0x100000
    return chr(0xE000 + (number >> 10)) + chr(0xE800 + (number & 0x3FF))


def _stood_for(found: re.Match[str]) -> str:
    pair = found[0]
    number = (ord(pair[0]) - 0xE000) << 10 | ord(pair[1]) - 0xE800
    return chr(number + 0x10000 if number < 0x100000 else number - 0x100000 + 0xE000)


class _BlockDumper(_BaseDumper):  # type: ignore[misc]
    """libyaml's dumper, which quotes all that could be misread, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML asks for each value
        return True


class _LineDumper(_BlockDumper):
    """The same, with each text in one line."""


class _FlowDumper(_BlockDumper):
    """The same for one line: text always in double quotes."""


def _represent_block_text(dumper: Any, text: str) -> Any:
    style, text = None, _stand_ins(text)
    if _BREAK.search(text):  # left alone, it would come in single quotes, folded; U+0085 raw in pure Python
        style = "|" if _LITERAL.match(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_text_in_a_line(dumper: Any, text: str) -> Any:
    style = '"' if _BREAK.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", _stand_ins(text), style=style)


def _represent_flow_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", _stand_ins(text), style='"')


def _represent_bytes(dumper: Any, data: bytes) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:binary", base64.b64encode(data).decode())


def _represent_flow_bytes(dumper: Any, data: bytes) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:binary", base64.b64encode(data).decode(), style='"')


def _represent_flow_time(dumper: Any, time: date) -> Any:
    text = time.isoformat(" ") if isinstance(time, datetime) else time.isoformat()
    return dumper.represent_scalar("tag:yaml.org,2002:timestamp", text, style='"')


_BlockDumper.add_representer(str, _represent_block_text)
_BlockDumper.add_representer(bytes, _represent_bytes)
_BlockDumper.add_implicit_resolver("!ambiguous", _AMBIGUOUS, list("0123456789+-.ynotfYNOTF~<=iI"))
_LineDumper.add_representer(str, _represent_text_in_a_line)
_FlowDumper.add_representer(str, _represent_flow_text)
_FlowDumper.add_representer(bytes, _represent_flow_bytes)
_FlowDumper.add_representer(date, _represent_flow_time)
_FlowDumper.add_representer(datetime, _represent_flow_time)
# A time has colons, and must be quoted there. Where the dumper knows its tag from the text alone, libyaml writes it
# with the tag "!", which PyYAML takes for a time, and the other readers for text.
_FlowDumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _BlockDumper.yaml_implicit_resolvers.items()
}
