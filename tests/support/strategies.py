"""Hypothesis strategies: values that a state can hold, among them what YAML and JSON are known to get wrong."""

from datetime import datetime, timedelta, timezone

import yaml
from hypothesis import strategies as st

from mmapstate.errors import UnsupportedValueError
from mmapstate.values import normalise_key

NASTY_TEXTS = [
    "", " ", "  x", "x  ", "\t", "\tx", "x\t", "a\tb", "\n", "\n\n", "a\n", "a\n\n", "\na", "a\nb", "a\n b",
    "a \nb", "a\n\nb\n", "\r", "a\rb", "a\r\nb", "\x00", "a\x00b", "\x07", "\x1b[0m", "\x7f", "\x80", "\x85",
    "a\x85b", "\x9f", "\xa0", "\xad", "\u2028", "a\u2028b", "\u2029", "\ufeff", "\ufeffa", "a\ufeff", "\ufffd",
    "\ufffe", "\uffff", "\ud7ff", "\ue000", "\U0001f600", "\U0001f600\n\U0001f600", "\U0001fffe", "\U0010ffff",
    "e\u0301", "\u202e", "\u200b", "\xfc\n\xdf", "\u65e5\u672c", "y", "n", "Y", "N", "yes", "Yes", "YES", "no",
    "No", "on", "On", "off", "OFF", "true", "True", "TRUE", "tRUE", "false", "null", "Null", "NULL", "nULL", "~",
    "none", "nan", "NaN", "inf", ".inf", "-.inf", "+.inf", ".Inf", ".nan", ".NaN", "NAN", "0", "-0", "+1", "012",
    "09", "-012", "0o17", "0O17", "0b1", "0b_1", "0B1", "0x1F", "0X1f", "-0x1F", "0x", "1_000", "_1", "1e3", "1E3",
    "1e+3", "1.e3", "1.5", ".5", "-.5", "+.5", "5.", "1.0e+16", "1e", "e1", ".", "-", "+", "..", "...", "1_0.5",
    "12:30", "12:30:45", "-1:2", "190:20:30.15", "1:2:3:4", "12:", ":30", "2001-01-01", "2001-1-1",
    "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "2001-99-99", "20010101", "---", "--- x",
    "--- # mmapstate journal 1 ", "\n--- # mmapstate journal 1 x", "\n#-- # mmapstate journal 1 x", "...", "-- -",
    "# x", "#", " #", "x #y", "x#y", "- x", "-x", "-", "? x", "?", "?x", ": x", ":", "a: b", "a:", "a:b", "a : b",
    "[", "]", "{", "}", "[a]", "{a: b}", ",", "a, b", "&a", "*a", "!a", "!!int 1", "|", "|-", ">", "%",
    "%YAML 1.1", "@", "`", "=", "<<", "<", "'", "''", "it's", '"', '""', '\\', '\\n', "\\u0041", "a\\", '"a"',
    "'a'", "a'b\"c", "line one\nline two\n", "# not a comment\n", "- a\n- b\n", "key: value\n",
    "  indented\nless\n", "a\n\n\n\nb", "a\n\tb\n", "x" * 200, "x " * 200, "\xe9" * 200, "\U0001f600" * 200,
    "a\n" * 50,
]  # fmt: skip

_PIECES = [
    "a", "b", " ", "  ", "\n", "\t", "\r", "\x85", "\u2028", "\ufeff", "\x00", "\x1f", "\x7f", "\U0001f600",
    "\xe9", "0", "1", "9", "_", ".", "-", "+", ":", ": ", " #", "#", "'", '"', "\\", "?", "!", "&", "*", "[", "]",
    "{", "}", ",", "|", ">", "%", "@", "=", "~", "e", "x", "---", "...", "\ufffe",
]  # fmt: skip

texts = st.one_of(
    st.sampled_from(NASTY_TEXTS),
    st.lists(st.sampled_from(_PIECES), max_size=12).map("".join),
    st.text(max_size=20),
)

integers = st.one_of(
    st.integers(-10, 10),
    st.integers(),
    st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**18, 10**100, 10**4300 - 1, -(10**4300) + 1]),
)

_FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.1, 1e15, 1e16, 1e17, -1e16, 1e22, 1e-5, 1.5e-7, 5e-324, -5e-324, 2.2250738585072014e-308,
    1.7976931348623157e308, 1e100, 123456789012345680.0, float("inf"), float("-inf"), float("nan"),
]  # fmt: skip

floats = st.one_of(st.sampled_from(_FLOATS), st.floats())

dates = st.dates()

zones = st.one_of(
    st.none(),
    st.just(timezone.utc),
    st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)

# A time zone may carry it over the ends of the calendar, where it can be neither compared nor written.
datetimes = st.builds(
    lambda moment, zone: moment.replace(tzinfo=zone, fold=0),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    zones,
)

scalars = st.one_of(
    st.none(), st.booleans(), integers, floats, texts, st.binary(max_size=40), dates, datetimes
)  # all that a state can hold, but for containers

keys = st.one_of(
    texts,
    texts,
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    floats.filter(lambda number: number == number),
    st.binary(max_size=20),
    dates,
    datetimes,
)

values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=10,
)

mappings = st.dictionaries(keys, values, max_size=5)

json_texts_only = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, floats.filter(lambda number: abs(number) < float("inf")), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=10,
)

paths = st.lists(st.one_of(keys, st.integers(0, 9)), max_size=3)
indexes = st.integers(0, 9)

changes = st.one_of(
    st.tuples(st.just("set"), paths, keys, values),
    st.tuples(st.just("delete"), paths, keys),
    st.tuples(st.just("insert"), paths, indexes, values),
    st.tuples(st.just("splice"), paths, indexes, indexes, st.lists(values, max_size=3)),
)

records = st.lists(changes, min_size=1, max_size=3)


def nested(levels, kind=list):
    """Return `levels` containers inside each other."""
    value = kind()
    for level in range(levels - 1):
        value = [value] if (kind is list or level % 2) else {"k": value}
    return value


def storable(key):
    """Whether it can be a key of a state: most texts can, very long ones cannot."""
    try:
        normalise_key(key)
    except UnsupportedValueError:
        return False
    return True


def drop_long_keys(value):
    if isinstance(value, dict):
        return {key: drop_long_keys(item) for key, item in value.items() if storable(key)}
    return [drop_long_keys(item) for item in value] if isinstance(value, list) else value


def read_by_pyyaml(text):
    """Return what a program that knows nothing of this library reads."""
    return yaml.load(text, Loader=yaml.SafeLoader)
