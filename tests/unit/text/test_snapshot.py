"""The snapshot: what is written is read back the same, here and by other readers; what people type, or break, is told.

Most tests run twice: with libyaml, and with the classes that PyYAML has where it was built without.
"""

import contextlib
import importlib
import math
import random
import re
import subprocess
import sys
import types
from datetime import date, datetime, timedelta, timezone
from unittest import mock

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import probe
from support.runs import scaled
from support.strategies import NASTY_TEXTS, drop_long_keys, mappings, nested, read_by_pyyaml, values

import mmapstate.text
from mmapstate.errors import StateFileError
from mmapstate.text import snapshot
from mmapstate.text.source import line_end_of
from mmapstate.values import MAX_DEPTH, MAX_INT_DIGITS, normalise, normalise_key, same

UTC = timezone.utc


STREAM = (
    "a second document begins: this is a stream of several documents, and a state is one; keep each in its own file"
)
OF_1_2 = re.compile(r"[-+]?(?=[0-9]*[.eE])(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")  # its core schema
SCALARS = [  # as they are typed, and as they are read
    ("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("FALSE", False),
    ("tRUE", "tRUE"), ("fALSE", "fALSE"), ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None),
    ("nULL", "nULL"), ("none", "none"), ("None", "None"), ("y", "y"), ("n", "n"), ("Y", "Y"), ("N", "N"), ("0", 0),
    ("-0", 0), ("+1", 1), ("-1", -1), ("012", 12), ("-012", -12), ("+012", 12), ("00", 0), ("09", 9),
    ("0o17", "0o17"), ("0x1F", 31), ("0X1F", "0X1F"), ("-0xff", -255), ("0x_f", 15), ("0x", "0x"), ("0b1", 1),
    ("0b1_0", 2), ("-0b11", -3), ("0b2", "0b2"), ("1_000", 1000), ("1__0", 10), ("_1", "_1"), ("1_", 1),
    ("1.5", 1.5), ("-1.5", -1.5), ("1.", 1.0), (".5", 0.5), ("-.5", -0.5), ("1_0.2_5", 10.25), ("01.5", 1.5),
    ("+.5", 0.5), ("-.5E-1", -0.05),
    ("1e3", 1000.0), ("1.0e3", 1000.0), ("1e-7", 1e-7), ("1E+22", 1e22), (".5e3", 500.0), ("-1e5", -100000.0),
    ("1.e2", 100.0), ("1e", "1e"), ("e1", "e1"), ("1_0e1", "1_0e1"), ("1e1_0", "1e1_0"), ("1e400", "1e400"),
    ("12e4567", "12e4567"), ("0x1e5", 0x1E5), ("1e5.0", "1e5.0"), ("1e5e5", "1e5e5"),
    ("1.0e+3", 1000.0), ("1.0E-3", 0.001), (".5e+1", 5.0), ("1.e+2", 100.0),
    (".inf", math.inf), ("-.inf", -math.inf), ("+.INF", math.inf), (".Inf", math.inf), (".nan", math.nan),
    (".NaN", math.nan), (".NAN", math.nan), ("-.nan", "-.nan"), ("inf", "inf"), ("nan", "nan"), (".iNF", ".iNF"),
    (".", "."), ("..", ".."), ("-x", "-x"), ("+", "+"), ("1,5", "1,5"), ("1 2", "1 2"),
    ("1/2", "1/2"), ("12:30", "12:30"), ("12:30:45", "12:30:45"), ("-1:30", "-1:30"), ("1:2.5", "1:2.5"),
    ("190:20:30.15", "190:20:30.15"), ("2001-02-03", date(2001, 2, 3)), ("2001-2-3", "2001-2-3"),
    ("20010203", 20010203), ("2001-02-03 04:05:06", datetime(2001, 2, 3, 4, 5, 6)),
    ("2001-02-03T04:05:06Z", datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)),
    ("2001-12-14t21:59:43.10-05:00", datetime(2001, 12, 14, 21, 59, 43, 100000, timezone(timedelta(hours=-5)))),
    ("2001-12-14 21:59:43.1 +5", datetime(2001, 12, 14, 21, 59, 43, 100000, timezone(timedelta(hours=5)))),
    ("2001-12-14 21:59:43.123456789", datetime(2001, 12, 14, 21, 59, 43, 123456)),
    ("2001-02-03 x", "2001-02-03 x"), ("'12'", "12"), ('"true"', "true"), ("|\n  1", "1\n"),
    (">\n  1\n  2", "1 2\n"), ("=", "="), ("a b", "a b"), ("a #b", "a"), ("a#b", "a#b"), ("'yes'", "yes"),
    ("[1, yes]", [1, "yes"]), ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
    ("\n- 1\n- a: 2\n  b: 3", [1, {"a": 2, "b": 3}]), ('"\\x41\\u00e9\\U0001f600"', "A\xe9\U0001f600"),
]  # fmt: skip

TAGGED = [
    ("!!str 12", "12"), ("!!str", ""), ("! 12", 12), ("!!int '12'", 12), ("!!int 0x1f", 31), ("!!int 012", 12),
    ("!!float 1", 1.0), ("!!float 1e3", 1000.0), ("!!float .inf", math.inf), ("!!float '-.INF'", -math.inf),
    ("!!bool true", True), ("!!bool 'no'", False), ("!!null ''", None), ("!!null null", None),
    ("!!binary aGk=", b"hi"), ("!!binary |\n  aG\n  k=\n", b"hi"), ("!!binary ''", b""),
    ("!!timestamp '2001-02-03'", date(2001, 2, 3)), ("!!map {a: 1}", {"a": 1}), ("!!seq [1]", [1]),
    ("! {a: 1}", {"a": 1}), ("! [1]", [1]),
    ("!<tag:yaml.org,2002:int> 5", 5), ("&anchor 5", 5),
]  # fmt: skip

NO_SCALARS = [
    "!!int x", "!!int ''", "!!int 1.5", "!!int 12:30", "!!float x", "!!float ''", "!!float 1:30.5", "!!bool 1",
    "!!bool ''", "!!null x", "!!binary a", "!!binary '*'", "!!binary '\xe9'", "!!timestamp x", "2001-13-01",
    "2001-02-30", "2001-02-03 25:00:00", "2001-02-03 04:05:06 +99", "!!int " + "9" * 5000, "9" * 5000,
    "0x" + "f" * 4000, "-" + "1" * 4301, "0b" + "1" * 20000,
]  # fmt: skip

LOOKS = [  # of one state
    "a: 1\nb: [2]\n", "a: 1\nb: [2]", "\ufeffa: 1\nb: [2]\n", "a: 1\r\nb: [2]\r\n", "a: 1\r\nb: [2]",
    "a: 1\rb: [2]\r", "# x\n\na: 1\n  # y\nb:   [ 2 ]  # z\n\n\n", "---\na: 1\nb:\n- 2\n", "--- {a: 1, b: [2]}",
    "%YAML 1.1\n---\na: 1\nb: [2]\n...\n", "{a: 1, b: [2]}", "? a\n: 1\n? b\n: - 2\n", "a: 1\nb: [2]\n# end",
    "'a': 1\n\"b\": [2,]\n", "a: 1\nb: [2]\n   ",
]  # fmt: skip

PYTHON = "tag:yaml.org,2002:python/"
REFUSED = [  # with the words of this library, whole; `REFUSED_BY_YAML` has PyYAML's
    (b"a: \xff", 1, 4, "not UTF-8 (byte 3: invalid start byte); save the file as UTF-8"),
    (b"a: 1\nb: \xc3\xa9\xc3", 2, 5, "not UTF-8 (byte 10: unexpected end of data); save the file as UTF-8"),
    (b"\xef\xbb\xbfa: \xe9\n", 1, 4, "not UTF-8 (byte 6: invalid continuation byte); save the file as UTF-8"),
    (b"\xff\xfea\x00:\x00", 1, 1, "not UTF-8 (byte 0: invalid start byte); save the file as UTF-8"),
    ("a: 1\nb: \xe9\x00\n", 2, 5, "the control character U+0000 cannot stand there"),
    ("a: 1\x07\n", 1, 5, "the control character U+0007 cannot stand there"),
    ("a: 1\nb: 2\nc: \x07\n", 3, 4, "the control character U+0007 cannot stand there"),
    ("a: '\x1b'", 1, 5, "the control character U+001B cannot stand there"),
    ("a: \x7f", 1, 4, "the control character U+007F cannot stand there"),
    ("a: \x80", 1, 4, "the control character U+0080 cannot stand there"),
    ("# \ufffe", 1, 3, "the control character U+FFFE cannot stand there"),
    ("a: 1\n---\nb: 2\n", 2, 1, STREAM),
    ("a: 1\n...\n---\n", 3, 1, STREAM),
    ("---\n---\n", 2, 1, STREAM),
    ("a: 1\n--- # mmapstate journal 9\n", 2, 1, STREAM),
    ("\n- 1\n- 2\n", 2, 1, "the top of the document is a sequence; write a mapping, as 'key: value' lines"),
    ("[]", 1, 1, "the top of the document is a sequence; write a mapping, as 'key: value' lines"),
    ("x", 1, 1, "the top of the document is a scalar; write a mapping, as 'key: value' lines"),
    ("'a: 1'", 1, 1, "the top of the document is a scalar; write a mapping, as 'key: value' lines"),
    ("0", 1, 1, "the top of the document is a scalar; write a mapping, as 'key: value' lines"),
    ("a: 1\nb: 2\na: 3\n", 3, 1, "the key 'a' stands twice in one mapping: remove one"),
    ("k: {a: 1, 'a': 2}", 1, 11, "the key 'a' stands twice in one mapping: remove one"),
    ("1: a\ntrue: b\n", 2, 1, "the keys 1 and True are equal: rename one"),
    ("1: a\n1.0: b\n", 2, 1, "the keys 1 and 1.0 are equal: rename one"),
    ("a: &x [1]\nb: *x\n", 2, 4, "aliases (*name) are not supported: write the value out"),
    ("a: *x\n", 1, 4, "aliases (*name) are not supported: write the value out"),
    ("*x : 1\n", 1, 1, "aliases (*name) are not supported: write the value out"),
    ("a: &x [*x]", 1, 8, "aliases (*name) are not supported: write the value out"),
    ("a: &x {b: 1}\nc:\n  <<: {d: 1}\n", 3, 3, "merge keys (<<) are not supported: write the entries out"),
    ("a: !x 1\n", 1, 4, "the tag !x is not supported: a state holds plain data"),
    ("a: !x [1]\n", 1, 4, "the tag !x is not supported: a state holds plain data"),
    ("a: !!set {b}\n", 1, 4, "the tag tag:yaml.org,2002:set is not supported: a state holds plain data"),
    ("a: !!omap [b: 1]\n", 1, 4, "the tag tag:yaml.org,2002:omap is not supported: a state holds plain data"),
    ("!!python/object:x.Y {a: 1}\n", 1, 1, f"the tag {PYTHON}object:x.Y is not supported: a state holds plain data"),
    ("a: !!python/name:os.a ''\n", 1, 4, f"the tag {PYTHON}name:os.a is not supported: a state holds plain data"),
    ("a: !!map [1]\n", 1, 4, "the tag tag:yaml.org,2002:map is not supported: a state holds plain data"),
    ("%TAG !! tag:x,1:\n---\na: !!int 1\n", 3, 4, "the tag tag:x,1:int is not supported: a state holds plain data"),
    ("? [a]\n: 1\n", 1, 3, "a mapping or sequence cannot be a key"),
    ("{a: 1}: 1\n", 1, 1, "a mapping or sequence cannot be a key"),
    (".nan: 1\n", 1, 1, "NaN cannot be a key"),
]

REFUSED_BY_YAML = [  # line and column where they are the same for both readers
    ("a: [1", None, None, ""),
    ("a: 'x\n", None, None, ""),
    ("a: b: c\n", 1, 5, "mapping values are not allowed"),
    ("\ta: 1\n", 1, 1, "cannot start any token"),
    ("a: 1\n\tb: 1\n", 2, None, ""),
    ("a: 1\n b: 2\n", 2, None, ""),
    ("a: 1\nb\n", None, None, ""),
    ("a: @x\n", 1, 4, "cannot start any token"),
    ("a: %x\n", 1, 4, "cannot start any token"),
    ("a: }\n", 1, 4, ""),
    ('a: "\\q"\n', 1, None, "escape"),
    ('a: "\\ud800"\n', 1, None, ""),
    ('a: "\\ud83d\\ude00"\n', 1, None, ""),
    ('a: "\\UFFFFFFFF"\n', 1, None, ""),
    ("%YAML 9.9\n---\na: 1\n", 1, None, ""),
    ("%YAML 1.1\n%YAML 1.1\n---\na: 1\n", 2, 1, "duplicate"),
    ("a: !y!x 1\n", 1, 4, "tag handle"),
]

MEND = "; mend the file in an editor, it is left as it is"


def yaml_modules():
    """Return the modules that read and write YAML, imported now, and what they offer, as one."""
    names = ("scalars", "reader", "lenient", "writer")
    found = {name: importlib.import_module(f"mmapstate.text.{name}") for name in names}
    offered = {
        "reader": ("parse", "parse_flow", "compose"),
        "lenient": ("parse_leniently",),
        "writer": ("dump", "flow", "represent_as_plain"),
    }
    functions = {name: getattr(found[module], name) for module, inner in offered.items() for name in inner}
    return types.SimpleNamespace(**found, **functions)


def import_without_libyaml():
    """Return a second copy of them, made where PyYAML has no libyaml."""
    with contextlib.ExitStack() as undo:
        for name in ("CSafeLoader", "CSafeDumper"):
            if hasattr(yaml, name):
                undo.enter_context(mock.patch.object(yaml, name))
                delattr(yaml, name)
        undo.enter_context(mock.patch.dict(sys.modules))
        undo.enter_context(mock.patch.dict(vars(mmapstate.text)))  # where a second import puts the second copy
        for name in [name for name in sys.modules if name.startswith("mmapstate.text.")]:
            del sys.modules[name]
        return yaml_modules()


AS_IT_IS = yaml_modules()
PURE = import_without_libyaml()
both = pytest.mark.parametrize("module", [AS_IT_IS, PURE], ids=["libyaml", "pure"])


def read(module, text, suspects=None):
    return module.parse(text.encode() if isinstance(text, str) else text, "example.state", suspects)


def value_of(module, text):
    return read(module, f"key: {text}\n")["key"]


def refusal(module, text):
    """Return line, column and problem of the error that reading the text raises."""
    with pytest.raises(StateFileError) as caught:
        read(module, text)
    file, line, column = str(caught.value).split(":")[0].split(", ")
    assert file == "example.state"
    assert str(caught.value).endswith(MEND)
    return int(line.removeprefix("line ")), int(column.removeprefix("column ")), str(caught.value).split(": ", 1)[1]


def test_the_package_works_where_pyyaml_was_built_without_libyaml(tmp_path):
    program = """if True:
        import sys
        sys.modules["yaml._yaml"] = None  # what is missing then
        import yaml, mmapstate
        assert not hasattr(yaml, "CSafeLoader")
        for _ in range(2):
            with mmapstate.PersistedState(sys.argv[1], n=0, text="a\\u0085b") as state:
                state.n += 1
                state.d = {"e": [1, None, "yes"]}
        with mmapstate.PersistedState(sys.argv[1]) as state:
            assert state == {"n": 2, "text": "a\\u0085b", "d": {"e": [1, None, "yes"]}}
            assert yaml.safe_dump(state.d) == "e:\\n- 1\\n- null\\n- 'yes'\\n"
    """
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.state")], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        (
            'a: 1\nb: "c\nd: 3\n',
            (4, 1),
            "scanning a quoted scalar that begins in line 2, column 4, found unexpected end of",
        ),
        ("a: !y!x 1\n", (1, 4), "parsing a node, found undefined tag handle"),
    ],
)
def test_what_yaml_was_reading_is_told_with_its_beginning_where_that_is_in_another_line(text, where, problem):
    line, column, told = refusal(AS_IT_IS, text)
    assert (line, column) == where
    assert told.startswith(f"while {problem}")


def test_what_python_says_of_a_text_that_breaks_the_reader_is_told():
    line, column, problem = refusal(PURE, 'a: "\\UFFFFFFFF"\n')
    assert (line, column) == (1, 2)
    assert problem.startswith("no YAML that can be read (")  # what follows depends on Python's version
    assert problem.endswith(f"){MEND}")


def test_half_of_a_surrogate_pair_is_no_text_where_libyaml_does_not_say_so():
    for text in ('"\\ud800"', '"\\udfff"', '"\xe9\\ud83d\\ude00"'):
        assert refusal(PURE, f"a: 1\nb: {text}\n") == (2, 4, f"half of a surrogate pair is no text{MEND}")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a:\n\tb: 1\n", "a tab; indent with spaces"),
        ("a: @b\n", "@; put the text in quotes"),
        ("a: `b", "`; put the text in quotes"),
        ("\ufeff\xe9: \U0001f600\r\na: %b\n", "%; put the text in quotes"),
        ("a: 1\rb: @x\n", "@; put the text in quotes"),  # to YAML a CR alone ends a line
    ],
)
def test_characters_that_yaml_keeps_for_itself_are_named(text, hint):
    _, _, problem = refusal(AS_IT_IS, text)
    assert problem == f"while scanning for the next token, found character that cannot start any token: {hint}{MEND}"


def test_where_yaml_s_own_words_tell_there_is_nothing_behind_them():
    assert refusal(AS_IT_IS, "a: b: c\n") == (1, 5, f"mapping values are not allowed in this context{MEND}")


def test_the_copy_without_libyaml_is_without_libyaml():
    loader, dumper = probe.yaml_classes(PURE)
    assert loader is yaml.SafeLoader
    assert issubclass(dumper, yaml.SafeDumper)
    assert probe.yaml_classes(AS_IT_IS)[0] is getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@both
class TestWhatIsWritten:
    @given(data=mappings.map(drop_long_keys))
    @settings(deadline=None, max_examples=scaled(150))
    def test_is_read_back_the_same(self, module, data):
        assert same(read(module, module.dump(normalise(data))), data)

    @given(data=mappings.map(drop_long_keys))
    @settings(deadline=None, max_examples=scaled(100))
    def test_is_read_the_same_by_plain_pyyaml(self, module, data):
        assert same(read_by_pyyaml(module.dump(data)), data)

    @pytest.mark.parametrize("place", ["value", "key", "item"])
    def test_holds_each_nasty_text_in_each_place(self, module, place):
        for text in NASTY_TEXTS:
            data = {"value": {"k": text}, "key": {text: 1}, "item": {"k": [text, text]}}[place]
            for name, item in data.items():
                normalise_key(name)
                written = module.dump({name: item})
                assert same(read(module, written), data), text
                assert same(read_by_pyyaml(written), data), text

    @given(data=mappings.map(drop_long_keys))
    @settings(deadline=None, max_examples=scaled(50))
    def test_is_read_the_same_by_the_other_of_the_two_readers(self, module, data):
        other = AS_IT_IS if module is PURE else PURE
        assert same(read(other, module.dump(data)), data)

    @given(data=mappings.map(drop_long_keys))
    @settings(deadline=None, max_examples=scaled(50))
    def test_ends_with_a_line_end_and_never_looks_like_a_journal(self, module, data):
        written = module.dump(data)
        assert written.endswith(b"\n")
        assert b"\n---" not in written
        assert b"\n#" not in written
        assert not written.startswith((b"---", b"#"))

    def test_is_utf_8_that_people_can_read(self, module):
        written = module.dump(
            {"name": "Zo\xeb", "notes": "first\nsecond\n", "hosts": [{"port": 80}], "none": None, "e": []}
        )
        assert written.decode() == (
            "name: Zo\xeb\nnotes: |\n  first\n  second\nhosts:\n- port: 80\nnone: null\ne: []\n"
        )

    @pytest.mark.parametrize(
        "text", ["a\n b", "a\n\n", "a\n\tb", " a\nb", "a\r\nb", "a \nb", "\x85", "a\u2028b", "\n", "a\n\n\n"]
    )
    def test_that_makes_no_readable_block_stays_on_one_line(self, module, text):
        """A block that ends with blank lines, say, would change when an editor trims the end of the file."""
        assert module.dump({"k": text, "l": 1}).count(b"\n") == 2

    @given(
        st.text(st.sampled_from("\ue000\ue7ff\ue800\uebff\uec00\uf8ff\U00010000\U0001f40d\U0010ffff a:'\"\\U0#\n\xe9"))
    )
    @settings(deadline=None, max_examples=scaled(1000))
    def test_no_letter_is_taken_for_what_stands_in_for_another_while_it_is_dumped(self, module, text):
        data = {text: [text]}
        for dumped in (module.dump(data), module.dump(data, literal=False), module.flow([data])):
            assert dumped.decode().count("\U0001f40d") == 2 * text.count("\U0001f40d")
            assert yaml.safe_load(dumped) in (data, [data])

    def test_has_the_keys_in_their_own_order(self, module):
        data = {"b": 1, "a": 2, 3: 4, None: 5}
        assert list(read(module, module.dump(data))) == ["b", "a", 3, None]

    def test_has_no_aliases(self, module):
        twice = [1, 2]
        assert module.dump({"a": twice, "b": twice}) == b"a:\n- 1\n- 2\nb:\n- 1\n- 2\n"

    def test_may_have_a_hundred_levels(self, module):
        for kind in (list, dict):
            data = {"k": nested(MAX_DEPTH - 1, kind)}
            assert same(read(module, module.dump(normalise(data))), data)

    def test_may_have_very_long_lines(self, module):
        data = {"k": "word " * 20_000 + "end", "l": ["x" * 100_000], "m": b"x" * 100_000}
        assert module.dump(data).count(b"\n") == 4
        assert same(read(module, module.dump(data)), data)

    def test_of_nothing_is_an_empty_mapping(self, module):
        assert module.dump({}) == b"{}\n"
        assert read(module, b"{}\n") == {}


@both
class TestFlow:
    @given(value=st.lists(values.map(drop_long_keys), max_size=3))
    @settings(deadline=None, max_examples=scaled(150))
    def test_is_one_line_that_is_read_back_the_same_here_and_by_plain_pyyaml(self, module, value):
        text = module.flow(value)
        assert b"\n" not in text
        assert b"\r" not in text
        assert same(module.parse_flow(text), value)
        assert same(read_by_pyyaml(text), value)
        assert same(read_by_pyyaml(b"--- " + text + b" #0123abcd\n#   "), value)

    def test_writes_text_in_double_quotes(self, module):
        assert module.flow(["set", ["a"], "b", b"x"]) == b'["set", ["a"], "b", !!binary "eA=="]'

    def test_writes_what_json_lacks(self, module):
        value = [math.inf, -math.inf, date(2001, 2, 3), datetime(2001, 2, 3, 4, 5), {None: 1, 2: 3, True: 4, 0.5: b""}]
        times = '!!timestamp "2001-02-03", !!timestamp "2001-02-03 04:05:00"'
        keys = '{null: 1, 2: 3, true: 4, 0.5: !!binary ""}'
        assert module.flow(value).decode() == f"[.inf, -.inf, {times}, {keys}]"

    def test_holds_a_state_of_a_hundred_levels_in_a_transaction(self, module):
        record = [["set", [], "k", [nested(MAX_DEPTH - 2), math.inf]], ["delete", [], "k"]]
        assert same(module.parse_flow(module.flow(record)), record)

    def test_words_without_quotes_are_read_as_in_a_snapshot(self, module):
        assert module.parse_flow(b"[yes, true, 012]") == ["yes", True, 12]

    def test_refuses_what_yaml_cannot_carry(self, module):
        with pytest.raises(ValueError, match=r"^YAML cannot carry this value$"):
            module.flow([nested(MAX_DEPTH + 10)])

    @pytest.mark.parametrize("text", [b'["a",\n "b"]', b'["a",\r "b"]', b'["a", "c"]', b'["a", "b"'])
    def test_refuses_what_a_dumper_writes_in_two_lines_or_as_something_else(self, module, monkeypatch, text):
        """A line end in a record would be the end of the record."""
        monkeypatch.setattr(module.writer, probe.DUMP, lambda *_, **__: b'["a", "b"]\n')
        assert module.flow(["a", "b"]) == b'["a", "b"]'
        monkeypatch.setattr(module.writer, probe.DUMP, lambda *_, **__: text + b"\n")
        with pytest.raises(ValueError):
            module.flow(["a", "b"])

    @pytest.mark.parametrize("text", [b"[1, 2", b"", b"\xff", b"[*a]", b"[!x 1]", b"'"])
    def test_that_is_broken_is_a_state_file_error(self, module, text):
        if text:
            with pytest.raises(StateFileError, match=r"^a record, line [12], column "):
                module.parse_flow(text)
        else:
            assert module.parse_flow(text) is None


@both
class TestScalarsTypedByHand:
    def test_are_read_as_pyyaml_does_but_for_four_traps(self, module):
        for text, expected in SCALARS:
            assert same(value_of(module, text), expected), text

    @pytest.mark.parametrize("word", ["yes", "no", "on", "off"])
    def test_the_booleans_of_yaml_1_1_are_text_and_reported(self, module, word):
        for text in (word, word.capitalize(), word.upper()):
            suspects = []
            assert read(module, f"a: 1\n\nb: {text}\n{text}: [1, {text}]\n", suspects) == {
                "a": 1,
                "b": text,
                text: [1, text],
            }
            assert suspects == [(3, text), (4, text), (4, text)]

    def test_nothing_else_is_reported(self, module):
        suspects = []
        read(module, "a: 'yes'\nb: \"no\"\nc: y\nd: oN\ne: true\nf: |\n  on\ng: !!str off\n", suspects)
        assert suspects == []

    def test_explicit_tags_of_plain_data_are_followed(self, module):
        for text, expected in TAGGED:
            assert same(value_of(module, text), expected), text

    def test_those_that_are_none_are_refused_where_they_stand(self, module):
        for text in NO_SCALARS:
            line, column, problem = refusal(module, f"a: 1\nkey: {text}\n")
            assert (line, column) == (2, 6), text
            assert "cannot be read" in problem, text

    def test_those_that_are_none_are_told_with_their_first_40_characters_and_what_is_wrong(self, module):
        digits = f"it has more than {MAX_INT_DIGITS} digits"
        for text, told in (
            ("9" * 5000, f"'{'9' * 40}' cannot be read ({digits})"),
            ("0x" + "f" * 4000, f"'0x{'f' * 38}' cannot be read ({digits})"),
            ("2001-02-30", "'2001-02-30' cannot be read (day "),
            ("!!int x", "'x' cannot be read (invalid literal for int() with base 10: 'x')"),
        ):
            line, column, problem = refusal(module, f"key: {text}\n")
            assert (line, column) == (1, 6)
            assert problem.startswith(told), text

    def test_an_integer_may_have_4300_digits(self, module):
        value = 10**MAX_INT_DIGITS - 1
        for text in (str(value), f"-{value}", f"{value:#x}"):
            assert abs(value_of(module, text)) == value

    @given(text=st.text("0123456789+-._eE:xXbBoO", max_size=8))
    @settings(deadline=None, max_examples=scaled(300))
    def test_numbers_are_pyyaml_s_wherever_no_trap_is_near(self, module, text):
        """The traps are a colon between digits, a 0 in front, and a number of YAML 1.2."""
        digits = text.lstrip("+-")
        if OF_1_2.fullmatch(text) and math.isfinite(float(text)):
            assert same(value_of(module, f"[{text}]"), [float(text)])
        elif ":" not in text and not (digits[:1] == "0" and digits[1:2] in set("0123456789_")):
            found = value_of(module, f"[{text}]")
            try:
                assert same(found, read_by_pyyaml(f"[{text}]"))
            except ValueError:  # as of "0b_", which it takes for a number, and then finds that it is none
                assert found == [text]


@both
class TestOddFiles:
    def test_those_that_hold_nothing_are_an_empty_state(self, module):
        comments = ["# comment", "# comment\n# another\n", "\ufeff# x\n"]
        for text in [
            "",
            "\n",
            "\n\n",
            "   \n",
            *comments,
            "\ufeff",
            "\ufeff\n",
            "---",
            "---\n",
            "~",
            "--- null\n...\n",
        ]:
            assert read(module, text) == {}, text

    def test_are_read_whatever_their_looks(self, module):
        for text in LOOKS:
            assert same(read(module, text), {"a": 1, "b": [2]}), text

    def test_blocks_of_text_end_where_the_file_does(self, module):
        """As YAML says, and all its readers."""
        for text in ("a: |\n  x", "a: |+\n  x", "a: >\n  x", "a:\n- b: |2\n    x", "a: |\r\n  x", "a: |\n  x\n  "):
            assert read(module, text) == yaml.safe_load(text), text

    def test_those_that_are_no_state_are_refused_with_line_and_column(self, module):
        for text, line, column, problem in REFUSED:
            assert refusal(module, text) == (line, column, problem + MEND), text
            with pytest.raises(StateFileError) as caught:
                read(module, text)
            error = caught.value
            assert (error.line, error.column, error.problem) == (line, column, problem)
            data = text if isinstance(text, bytes) else text.encode()
            bom = 3 * data.startswith(b"\xef\xbb\xbf")
            before = b"\n".join([*data[bom:].split(b"\n")[: line - 1], b""])
            in_line = data[bom + len(before) :].decode("utf-8", "surrogateescape")[: column - 1]
            assert error.offset == bom + len(before) + len(in_line.encode("utf-8", "surrogateescape")), text

    def test_those_that_are_no_yaml_are_refused_in_the_words_of_the_reader(self, module):
        for text, line, column, problem in REFUSED_BY_YAML:
            found_line, found_column, told = refusal(module, text)
            assert line in (None, found_line), text
            assert column in (None, found_column), text
            assert problem in told, text

    def test_a_hundred_levels_are_read_and_one_more_is_refused(self, module):
        assert same(read(module, "a: " + "[" * 99 + "]" * 99), {"a": nested(99)})
        line, column, problem = refusal(module, "a: " + "[" * 100 + "]" * 100)
        assert (line, column, problem.split(";")[0]) == (1, 103, "more than 100 containers inside each other")
        refusal(module, "{a: " * 101)
        refusal(module, "\n".join(" " * level + "a:" for level in range(101)) + " {}")
        refusal(module, "a:\n" + "- " * 100 + "1")

    @pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "{", "? ", "[[", "&a [", "!!seq [", "- - ", "[{a: "])
    def test_absurd_nesting_is_refused_early_and_crashes_nothing(self, module, opening):
        """At the level that is one too many, not after all of them, of which each costs more than the last."""
        for text in (opening * 1_000_000, "a: " + opening * 1_000_000):
            line, column, _ = refusal(module, text)
            assert (line or 1) == 1
            assert (column or 1) < 10_000  # of millions: libyaml reads ahead for what may be a key


def test_everything_works_at_the_default_recursion_limit_from_a_stack_that_is_deep_already():
    program = """if True:
        import sys
        from mmapstate import changes, values
        from mmapstate.text import reader, writer
        value = b""
        for _ in range(99):
            value = [value]
        def work():
            data = values.normalise({"k": value})
            assert reader.parse(writer.dump(data), "x") == data
            record = [("set", [], "k", data["k"]), ("delete", [], "k")]
            assert changes.decode(changes.encode(record)) == record
            while isinstance(data, (list, dict)):
                inner, data = data, data["k"] if isinstance(data, dict) else data[0]
            inner[0] = "text"
        def down(levels):
            return down(levels - 1) if levels else work()
        assert sys.getrecursionlimit() == 1000
        down(300)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


class TestNothingButOurErrorsLeavesTheReader:
    """Whatever the bytes are, the answer is a mapping or a `StateFileError` with line and column."""

    def judge(self, module, data):
        try:
            state = module.parse(data, "example.state")
        except StateFileError as error:
            if str(error).startswith("example.state, line "):
                return
            raise
        storable_part = drop_long_keys(state)
        assert same(module.parse(module.dump(normalise(storable_part)), "x"), storable_part)

    @both
    @given(data=st.binary(max_size=60))
    @settings(deadline=None, max_examples=scaled(200))
    def test_for_any_bytes(self, module, data):
        self.judge(module, data)

    @both
    @given(
        pieces=st.lists(
            st.sampled_from(NASTY_TEXTS + list("abc01 \n\n\n\t:-,[]{}#&*!|>'\"%@`?") + ["\n- ", ": ", "\n  "])
        )
    )
    @settings(deadline=None, max_examples=scaled(300))
    def test_for_any_mixture_of_yaml(self, module, pieces):
        self.judge(module, "".join(pieces).encode())

    @both
    def test_for_mutated_documents(self, module):
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        document = bytearray(
            module.dump(
                {"a": [1, {"b": "x\ny\n"}], "c": {"d": date(2001, 2, 3), 5: b"xyz"}, "e": "\U0001f600", "f": "no"}
            )
            + b"g: !!int '5' # comment\nh: &x 0x1F\ni: \"\\u0041\\x00\"\n"
        )
        for _ in range(scaled(1500)):
            mutated = bytearray(document)
            for _ in range(chance.randint(1, 3)):
                place = chance.randrange(len(mutated))
                kind = chance.randrange(4)
                if kind == 0:
                    mutated[place] = chance.randrange(256)
                elif kind == 1:
                    del mutated[place : place + chance.randint(1, 5)]
                elif kind == 2:
                    mutated[place:place] = chance.choice(
                        [b"\n", b" ", b"- ", b": ", b"[", b"{", b"'", b'"', b"*x", b"\t", b"\r"]
                    )
                else:
                    mutated[place] ^= 1 << chance.randrange(8)
            try:
                self.judge(module, bytes(mutated))
            except BaseException:
                print(f"seed {seed}: {bytes(mutated)!r}")
                raise


COPY = "the alias *x is now a copy of what it stands for"
MERGED = "what the merge key (<<) stands for is now written out"
TWICE = "the key 'a' stands twice in one mapping, the last of them counts"
LENIENT = [  # as others have written it, what becomes of it, and what is told
    ("a: &x [1, {b: 2}]\nb: *x\n", {"a": [1, {"b": 2}], "b": [1, {"b": 2}]}, [(2, COPY, False)]),
    ("a: &x b\nc: {*x : 1}\n", {"a": "b", "c": {"b": 1}}, [(2, COPY, False)]),
    ("a: &x 1\nb: &x 2\nc: *x\n", {"a": 1, "b": 2, "c": 2}, [(3, COPY, False)]),
    (
        "a: &x {b: 1, c: [2]}\nd:\n  b: 3\n  <<: *x\n  e: *x\n",
        {"a": {"b": 1, "c": [2]}, "d": {"b": 3, "e": {"b": 1, "c": [2]}, "c": [2]}},
        [(4, MERGED, False), (4, COPY, False), (5, COPY, False)],
    ),
    (
        "a: {<<: [{b: 1, c: 1},\n {b: 2, d: 2}], d: 3}\n",
        {"a": {"d": 3, "b": 1, "c": 1}},
        [(1, MERGED, False)],
    ),
    ("a: {<<: {b: 1}, <<: {c: 2}}\nd: {e: 1}\n", {"a": {"b": 1, "c": 2}, "d": {"e": 1}}, [(1, MERGED, False)] * 2),
    ("a: {'<<': 1}\nb: ['<<']\n", {"a": {"<<": 1}, "b": ["<<"]}, []),
    ("a: 1\nb: 2\na: 3\n", {"b": 2, "a": 3}, [(3, TWICE, True)]),
    ("a: !x 1\n", {"a": "1"}, [(1, "the tag !x is left out, its text is kept", True)]),
    ("a: !x [1]\n", {"a": [1]}, [(1, "the tag !x is left out, what it stands at is kept", True)]),
    ("a: !x {b: !!seq [1]}\n", {"a": {"b": [1]}}, [(1, "the tag !x is left out, what it stands at is kept", True)]),
    ("a: !!int '5'\n", {"a": 5}, []),
    (
        "a: 2001-02-30\n",
        {"a": "2001-02-30"},
        [(1, "'2001-02-30' cannot be read (day is out of range for month): it is text now", True)],
    ),
    ("", {}, []),
    ("# x\n", {}, []),
    ("\ufeffa: |\n  x", {"a": "x"}, []),
]  # fmt: skip
NOT_EVEN_LENIENTLY = [
    ("a: 1\nb: *x\n", 2, 4, "the alias *x is of nothing that is whole"),
    ("a: &x [*x]\n", 1, 8, "the alias *x is of nothing that is whole"),
    ("a: 1\n<<: 5\n", 2, 1, "a merge key (<<) of what is no mapping"),
    ("a: 1\n<<: [{b: 1}, 5]\n", 2, 1, "a merge key (<<) of what is no mapping"),
    ("a: &x [1]\n*x : 2\n", 2, 1, "a mapping or sequence cannot be a key"),
    ("a: &x {b: 1}\n*x : 2\n", 2, 1, "a mapping or sequence cannot be a key"),
    ("a: &x .nan\n*x : 2\n", 2, 1, "NaN cannot be a key"),
    ("a: <<\n", 1, 4, "merge keys (<<) are not supported: write the entries out"),
    ("a: [<<]\n", 1, 5, "merge keys (<<) are not supported: write the entries out"),
    ("- a\n", 1, 1, "the top of the document is a sequence; write a mapping, as 'key: value' lines"),
    ("a: 1\n---\n", 2, 1, STREAM),
    ("a: [" + "[" * 99, 1, 103, "more than 100 containers inside each other"),
]


@both
class TestLenientReading:
    """What only other programs would have written is read where nothing, or little, is lost by it."""

    def read(self, module, text):
        told = []
        return module.parse_leniently(text.encode(), told), [tuple(each) for each in told]

    def test_tells_what_it_has_made_of_it(self, module):
        for text, data, told in LENIENT:
            found, found_told = self.read(module, text)
            assert same(found, data), text
            assert list(found) == list(data), text
            if sys.version_info < (3, 14) or "day is" not in str(told):  # a later Python says more of a day
                assert found_told == told, text

    def test_of_what_is_no_state_at_all_is_refused_with_line_and_column(self, module):
        for text, line, column, problem in NOT_EVEN_LENIENTLY:
            with pytest.raises(StateFileError) as caught:
                self.read(module, text)
            assert (caught.value.line, caught.value.column, caught.value.problem) == (line, column, problem), text

    def test_is_that_of_a_state_where_there_is_nothing_to_be_lenient_about(self, module):
        for text in LOOKS:
            assert self.read(module, text) == (read(module, text), []), text
        for text, expected in SCALARS:
            found, told = self.read(module, f"key: {text}\n")
            assert same(found, {"key": expected}), text
            assert told == [], text

    def test_copies_share_nothing(self, module):
        found, _ = self.read(module, "a: &x [[1]]\nb: *x\nc: {<<: {d: &y [2]}, e: *y}\n")
        assert found["a"] is not found["b"]
        assert found["a"][0] is not found["b"][0]
        assert found["c"]["d"] is not found["c"]["e"]

    def test_a_copy_is_no_deeper_than_a_state_may_be(self, module):
        """A chain of aliases goes one level deeper with each line."""
        lines = ["x0: &x0 []", *(f"x{number}: &x{number} [*x{number - 1}]" for number in range(1, 120))]
        found, _ = self.read(module, "\n".join(lines[:99]))
        assert same(found["x98"], nested(99))
        with pytest.raises(StateFileError) as caught:
            self.read(module, "\n".join(lines))
        assert (caught.value.line, caught.value.problem) == (100, "more than 100 containers inside each other")
        assert same(read(module, module.dump(found)), found)

    def test_copies_are_bounded_in_number(self, module, monkeypatch):
        """Each line of an alias bomb doubles them."""
        monkeypatch.setattr(module.lenient, probe.MOST_COPIES, 10)
        text = "a: &x [1, {b: 2}]\nb: *x\nc: *x\n"  # four values each
        assert len(self.read(module, text)[1]) == 2
        assert len(self.read(module, text + "d: &y 1\ne: *y\nf: *y\n")[1]) == 4
        with pytest.raises(StateFileError) as caught:
            self.read(module, text + "d: &y 1\ne: *y\nf: *y\ng: *y\n")
        assert (caught.value.line, caught.value.problem) == (7, "aliases of aliases without end")


@both
class TestHowALayoutIsKept:
    def test_each_line_ends_as_is_asked_for(self, module):
        data = {"a": [1], "b": "x\ny\n"}
        assert module.dump(data) == b"a:\n- 1\nb: |\n  x\n  y\n"
        assert module.dump(data, line_end=b"\r\n") == b"a:\r\n- 1\r\nb: |\r\n  x\r\n  y\r\n"

    def test_what_is_inside_is_indented_by_as_much_as_is_asked_for(self, module):
        assert module.dump({"a": {"b": {"c": 1}}}) == b"a:\n  b:\n    c: 1\n"
        assert module.dump({"a": {"b": {"c": 1}}}, step=4) == b"a:\n    b:\n        c: 1\n"

    def test_text_of_several_lines_is_a_block_or_in_one_line(self, module):
        data = {"a": "x\ny\n", "b": "x"}
        assert module.dump(data) == b"a: |\n  x\n  y\nb: x\n"
        assert module.dump(data, literal=False) == b'a: "x\\ny\\n"\nb: x\n'


@pytest.mark.parametrize(
    ("text", "end"),
    [(b"", b"\n"), (b"a: 1", b"\n"), (b"a: 1\r", b"\n"), (b"a: 1\n", b"\n"), (b"a: 1\r\n", b"\r\n"),
     (b"\r\na: 1\n", b"\r\n"), (b"a: 1\nb: 2\r\n", b"\n"), (b"a: 1\r\nb: 2\n", b"\r\n"), (b"X\r\nX\n", b"\r\n")],
)  # fmt: skip
def test_lines_end_as_the_first_one_does(text, end):
    assert line_end_of(text) == end


class TestLines:
    TEXT = b"\xef\xbb\xbfa: 1\nb:\n- x\n- c: 2\n  d:\n    e: 3\n1: {f: 4,\n  g: [5,\n  6]}\n~: 7"

    @pytest.mark.parametrize(
        ("path", "line"),
        [([], 1), (["a"], 1), (["b"], 3), (["b", 0], 3), (["b", 1], 4), (["b", 1, "c"], 4), (["b", 1, "d"], 6),
         (["b", 1, "d", "e"], 6), ([1], 7), ([1, "f"], 7), ([1, "g"], 8), ([1, "g", 0], 8), ([1, "g", 1], 9),
         ([None], 10)],
    )  # fmt: skip
    def test_a_value_stands_in_the_line_in_which_it_begins(self, path, line):
        value = snapshot.parse(self.TEXT, "")
        for key in path:
            value = value[key]
        assert snapshot.line_of(self.TEXT, "", path, value) == line
        assert snapshot.line_of(self.TEXT, "", path, "another") is None

    @pytest.mark.parametrize(
        "path", [["c"], ["b", 2], ["b", -1], ["b", "c"], ["a", 0], ["b", 0, 0], ["b", 1, "c", "x"]]
    )
    def test_what_is_not_there_has_no_line(self, path):
        assert snapshot.line_of(self.TEXT, "", path, None) is None


@both
class TestPlaces:
    def test_of_nothing_there_is_nothing_composed(self, module):
        for text in ("", "\n", "# x", "---\n# x\n"):
            root = module.compose(text)
            assert root is None or (root.value is None and root.start == root.end)

    def test_all_is_composed_from_where_to_where_and_how_it_is_written(self, module):
        text = "a: 1\n'b': [2, \"x\"]  # y\nc:\n- |\n  z\n- {d: ~}  # z\n\n# z\ne: >-\n  f\n  g\nh: {}"

        def told(written):
            if written.entries is None:
                entries = None
            elif isinstance(written.value, dict):
                entries = {text[key.start : key.end]: told(value) for key, value in written.entries}
                assert [key.value for key, _ in written.entries] == list(written.value)
                assert [value.value for _, value in written.entries] == list(written.value.values())
            else:
                entries = [told(value) for value in written.entries]
                assert [value.value for value in written.entries] == written.value
            return text[written.start : written.end].rstrip("\n"), written.style, entries

        root = module.compose(text)
        assert root.value == read(module, text)
        assert told(root) == (
            text,
            "",
            {
                "a": ("1", "", None),
                "'b'": ('[2, "x"]', "[", [("2", "", None), ('"x"', '"', None)]),
                "c": (
                    "- |\n  z\n- {d: ~}",
                    "",
                    [("|\n  z", "|", None), ("{d: ~}", "{", {"d": ("~", "", None)})],
                ),
                "e": (">-\n  f\n  g", ">", None),
                "h": ("{}", "{", {}),
            },
        )

    def test_the_last_line_is_composed_as_it_is_read_though_it_has_no_end(self, module):
        assert module.compose("a: |\n  x").value == read(module, "a: |\n  x") == {"a": "x"}

    def test_what_is_no_yaml_is_refused_when_it_is_composed(self, module):
        with pytest.raises(StateFileError, match=r"^the snapshot, line 1, column 5: mapping values"):
            module.compose("a: b: c\n")


class TestOtherDumpers:
    def test_represent_as_plain_serves_every_dumper_of_pyyaml(self):
        class Live:
            def __init__(self, items):
                self.items = items

        class Sub(Live):
            pass

        AS_IT_IS.represent_as_plain(Live, lambda live: live.items)
        for dumper in ("SafeDumper", "Dumper", "CSafeDumper", "CDumper"):
            if hasattr(yaml, dumper):
                written = yaml.dump({"a": Live([1]), "b": [Sub({"c": 2})]}, Dumper=getattr(yaml, dumper))
                assert yaml.safe_load(written) == {"a": [1], "b": [{"c": 2}]}

    @pytest.mark.parametrize("name", ["SafeDumper", "Dumper", "CSafeDumper", "CDumper"])
    def test_represent_as_plain_serves_a_dumper_that_has_a_table_of_its_own(self, monkeypatch, name):
        class Live:
            pass

        if not hasattr(yaml, name):
            pytest.skip("PyYAML was built without libyaml")
        monkeypatch.setattr(getattr(yaml, name), "yaml_multi_representers", {}, raising=False)
        AS_IT_IS.represent_as_plain(Live, lambda live: "text")
        assert yaml.dump([Live()], Dumper=getattr(yaml, name)) == "- text\n"

    def test_represent_as_plain_gives_no_dumper_a_table_of_its_own(self):
        """What others teach PyYAML's representers later would not get there."""
        dumpers = [
            getattr(yaml, name) for name in ("SafeDumper", "Dumper", "CSafeDumper", "CDumper") if hasattr(yaml, name)
        ]
        before = ["yaml_multi_representers" in vars(dumper) for dumper in dumpers]
        AS_IT_IS.represent_as_plain(type("Live", (), {}), lambda live: "text")
        assert ["yaml_multi_representers" in vars(dumper) for dumper in dumpers] == before
        assert not all(before)

    def test_represent_as_plain_works_where_pyyaml_was_built_without_libyaml(self, monkeypatch):
        class Live:
            pass

        for name in ("CSafeDumper", "CDumper"):
            monkeypatch.delattr(yaml, name, raising=False)
        AS_IT_IS.represent_as_plain(Live, lambda live: "text")
        assert yaml.safe_dump([Live()]) == "- text\n"
