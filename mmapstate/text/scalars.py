"""What a scalar without quotes is, or one with a tag: text, a number, a date ...

Scalars typed by hand are read as PyYAML reads them (YAML 1.1), with four traps taken out: only ``true`` and ``false``
are booleans, ``12:30`` is text and not a number in base 60, ``012`` is 12 and not an octal number, ``1e-7`` is a number
as in YAML 1.2 and in JSON.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from typing import Any

import yaml

from mmapstate.values import MAX_INT_DIGITS, Plain, is_storable_int

CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
TRAPS = frozenset(
    casing for word in ("yes", "no", "on", "off") for casing in (word, word.capitalize(), word.upper())
)  # booleans to YAML 1.1, text here
WORDS = frozenset({*CONSTANTS, *TRAPS, "<<"})
"""All that is, or may be taken for, something else than text, and does not begin as a number does."""

NUMERIC_START = frozenset("0123456789+-.")
AMBIGUOUS = re.compile(  # text that some reader of YAML 1.1 or 1.2 takes for something else: quoted
    r"(?:[-+]?0[bBoOxX][0-9a-fA-F_]*|[-+]?[0-9][0-9_]*|[-+]?\.?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]*)?"
    r"|[-+]?\.(?:inf|nan)|[-+]?[0-9][0-9_]*(?::[0-9_.]*)+|y|n|yes|no|on|off|true|false|null|~|<<|=|nan|inf)\Z",
    re.IGNORECASE,
)

_INT = re.compile(r"[-+]?(?:0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"(?:(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_FLOAT_OF_1_2 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_TIMESTAMP: re.Pattern[str] = next(
    pattern for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers["2"] if tag.endswith(":timestamp")
)

CONVERT_ERRORS = (ValueError, LookupError, AttributeError, OverflowError)
"""What `number` and the converters in `TAGS` raise for a text that is none of theirs."""


def number(text: str) -> Plain:
    """Return what a text is that begins as a number does: a number, a date, or text after all.

    Raises one of `CONVERT_ERRORS` for an integer of too many digits and a date that is none.
    """
    if _INT.match(text):
        return _read_int(text)
    if _FLOAT.match(text):
        return _read_float(text)
    if _FLOAT_OF_1_2.match(text) and math.isfinite(found := float(text)):  # 12e4567 is no number, and a hash is
        return found
    if _TIMESTAMP.match(text):
        return _read_timestamp(text)
    return text


def _read_int(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign = -1 if digits[:1] == "-" else 1
    digits = digits.lstrip("+-")
    base = {"0x": 16, "0b": 2}.get(digits[:2], 10)
    if (base == 10 and len(digits) > MAX_INT_DIGITS) or not is_storable_int(value := int(digits, base)):
        raise ValueError(f"it has more than {MAX_INT_DIGITS} digits")
    return sign * value


def _read_float(text: str) -> float:
    text = text.replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _read_timestamp(text: str) -> Plain:
    node = yaml.ScalarNode("tag:yaml.org,2002:timestamp", text)
    return yaml.constructor.SafeConstructor().construct_yaml_timestamp(node)


TAGS: dict[str, Callable[[str], Plain]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": _read_int,
    "tag:yaml.org,2002:float": _read_float,
    "tag:yaml.org,2002:bool": lambda text: yaml.constructor.SafeConstructor.bool_values[text.lower()],
    "tag:yaml.org,2002:null": lambda text: CONSTANTS[text],
    "tag:yaml.org,2002:timestamp": _read_timestamp,
    "tag:yaml.org,2002:binary": lambda text: base64.b64decode("".join(text.split()), validate=True),
}
