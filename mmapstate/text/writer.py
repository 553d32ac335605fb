"""Plain data to YAML text: a whole document in block style, or one value as a line in flow style.

What is written is quoted wherever YAML 1.1 or 1.2, or the rules of `scalars`, would take text for something else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import yaml

from mmapstate.errors import StateFileError
from mmapstate.text.reader import parse_flow
from mmapstate.text.scalars import AMBIGUOUS
from mmapstate.values import Plain, same

_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_WIDE = 1 << 30  # columns: never fold a long line, a line of the file is a line of the state
_BREAK = re.compile("[\n\r\x85\u2028\u2029]")  # YAML 1.1 folds lines at all of them, and reads U+0085 as LF
_LITERAL = re.compile(  # text of several lines that reads well, and safely, as a YAML block
    r"[!-~\u00a1-\u1fff][ -~\u00a1-\u1fff]*(?<! )(?:\n+[!-~\u00a1-\u1fff][ -~\u00a1-\u1fff]*(?<! ))*\n?\Z"
)


def dump(
    data: dict[Any, Plain] | list[Plain], *, line_end: bytes = b"\n", step: int = 2, literal: bool = True
) -> bytes:
    """Return `data` as one YAML document in UTF-8: block style, keys in their own order, each line with its end.

    `step` is by how many columns what is inside of something is indented; with `literal`, text of several lines is a
    block of them.
    """
    text = _dump(data, _BlockDumper if literal else _LineDumper, default_flow_style=False, indent=step)
    return text.replace(b"\n", line_end)


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

    literal = True

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML asks for each value
        return True


class _LineDumper(_BlockDumper):
    """The same, with each text in one line."""

    literal = False


class _FlowDumper(_BlockDumper):
    """The same for one line: text always in double quotes."""


def _represent_text(dumper: Any, text: str) -> Any:
    style, text = None, _stand_ins(text)
    if _BREAK.search(text):  # left alone, it would come in single quotes, folded; U+0085 raw in pure Python
        style = "|" if dumper.literal and _LITERAL.match(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _scalar(tag: str, text_of: Callable[[Any], str], style: str | None = '"') -> Callable[[Any, Any], Any]:
    """Return what represents a value as a scalar with that tag."""
    tag = f"tag:yaml.org,2002:{tag}"
    return lambda dumper, value: dumper.represent_scalar(tag, text_of(value), style=style)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_BlockDumper.add_representer(str, _represent_text)
_BlockDumper.add_representer(bytes, _scalar("binary", _base64, style=None))
_BlockDumper.add_implicit_resolver("!ambiguous", AMBIGUOUS, list("0123456789+-.ynotfYNOTF~<=iI"))
_FlowDumper.add_representer(str, _scalar("str", _stand_ins))
_FlowDumper.add_representer(bytes, _scalar("binary", _base64))
_FlowDumper.add_representer(date, _scalar("timestamp", date.isoformat))
_FlowDumper.add_representer(datetime, _scalar("timestamp", lambda time: time.isoformat(" ")))
# A time has colons, and must be quoted there. Where the dumper knows its tag from the text alone, libyaml writes it
# with the tag "!", which PyYAML takes for a time, and the other readers for text.
_FlowDumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _BlockDumper.yaml_implicit_resolvers.items()
}
