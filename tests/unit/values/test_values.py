"""What a state can hold becomes plain data; everything else is refused with its place and the usual way out."""

import array
import collections
import dataclasses
import enum
import fractions
import ipaddress
import math
import numbers
import pickle
import types
import uuid
import zoneinfo
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from support.runs import scaled
from support.strategies import keys, nested, values

from mmapstate.changes import text_of
from mmapstate.errors import UnsupportedValueError
from mmapstate.values import MAX_DEPTH, MAX_INT_DIGITS, MAX_KEY_TEXT, Live, normalise, normalise_key, plain, same

UTC = timezone.utc


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Name(str, enum.Enum):
    ADA = "ada"


class Text(str):
    pass


class Number(int):
    pass


class Ratio(float):
    pass


class Day(date):
    pass


class Moment(datetime):
    pass


@dataclasses.dataclass
class Point:
    x: int = 1


class Model:
    def model_dump(self):
        return {}


Pair = collections.namedtuple("Pair", "left right")


class NumpyInteger:
    """Follows the protocol of numpy.int64, and is no int."""

    shape = ()

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def item(self):
        return self.value


class NumpyFloat:
    """Follows the protocol of numpy.float32."""

    shape = ()

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value

    def item(self):
        return self  # as numpy.longdouble does


numbers.Real.register(NumpyFloat)


class NumpyScalar:
    """Follows the protocol of numpy.bool_ and numpy.datetime64: no numbers, they only have an item."""

    shape = ()

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value

    tolist = item


class NumpyArray:
    """Has the method __index__, as numpy.ndarray has, and refuses it."""

    def __init__(self, *shape):
        self.shape = shape

    def __index__(self):
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    def __iter__(self):
        return iter(())

    def tolist(self):
        return []


class Tensor(NumpyScalar):
    """Has the method __index__ though its one number may be no integer, as torch.Tensor has."""

    def __index__(self):
        raise TypeError("only integer tensors of a single element can be converted to an index")


class LiveList(Live):
    __slots__ = ("items",)

    def __init__(self, *items):
        self.items = items

    def plain(self):
        return list(self.items)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (-(10**MAX_INT_DIGITS) + 1, -(10**MAX_INT_DIGITS) + 1),
        (2.5, 2.5),
        (-0.0, -0.0),
        (math.inf, math.inf),
        (math.nan, math.nan),
        ("\xe9\U0001f600\x00", "\xe9\U0001f600\x00"),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abc")[::2], b"ac"),
        (date(2001, 2, 3), date(2001, 2, 3)),
        (datetime(2001, 2, 3, 4, 5, 6, 7), datetime(2001, 2, 3, 4, 5, 6, 7)),
        (datetime(2001, 2, 3, tzinfo=UTC), datetime(2001, 2, 3, tzinfo=UTC)),
        ([], []),
        ({}, {}),
        ((1, (2, 3)), [1, [2, 3]]),
        ({"a": (1,), 2: {None: b""}}, {"a": [1], 2: {None: b""}}),
        (range(3), [0, 1, 2]),
        (collections.deque([1, 2]), [1, 2]),
        (array.array("i", [1, 2]), [1, 2]),
        (Pair(1, "x"), [1, "x"]),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.UserList([1]), [1]),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Level.HIGH, 3),
        (Name.ADA, "ada"),
        (Text("x"), "x"),
        (Number(5), 5),
        (Ratio(0.5), 0.5),
        (Ratio(math.nan), math.nan),
        (Day(2001, 2, 3), date(2001, 2, 3)),
        (Moment(2001, 2, 3, 4), datetime(2001, 2, 3, 4)),
        (NumpyInteger(5), 5),
        (NumpyFloat(0.5), 0.5),
        (NumpyScalar(True), True),
        (NumpyScalar(date(2001, 2, 3)), date(2001, 2, 3)),
        (NumpyScalar(datetime(2001, 2, 3)), datetime(2001, 2, 3)),
        (Tensor(0.5), 0.5),
        (LiveList(1, LiveList(2)), [1, [2]]),
        ({"a": LiveList(1)}, {"a": [1]}),
        ({Level.HIGH: 1, Name.ADA: 2}, {3: 1, "ada": 2}),
    ],
)
def test_what_can_be_stored_becomes_plain_data_of_exact_types(value, expected):
    assert same(normalise(value), expected)
    assert same(plain([value]), [expected])


@pytest.mark.parametrize(
    ("value", "way_out"),
    [
        ({1, 2}, "sorted(...)"),
        (frozenset({1}), "sorted(...)"),
        (Path("x"), "str(...)"),
        (collections.UserString("x"), "str(...)"),
        (uuid.UUID(int=1), "str(...)"),
        (ipaddress.ip_address("127.0.0.1"), "str(...)"),
        (NumpyArray(3), ".tolist()"),
        (NumpyArray(), ".tolist()"),
        (NumpyScalar(978307200000000000), ".tolist()"),  # numpy.datetime64 in nanoseconds: no integer
        (NumpyScalar(None), ".tolist()"),  # numpy.datetime64("NaT")
        (Point(), "dataclasses.asdict(...)"),
        (Model(), ".model_dump()"),
        (Color.RED, ".value"),
        (Decimal("1.5"), "str(...), or float(...)"),
        (fractions.Fraction(1, 3), "str(...), or float(...)"),
        (1j, "[value.real, value.imag]"),
        (timedelta(1), ".total_seconds()"),
        (time(1, 2), ".isoformat()"),
        ({}.keys(), "list(...)"),
        (iter([]), "list(...)"),
        (object(), "text, numbers, lists and mappings"),
        (len, "text, numbers, lists and mappings"),
        (int, "text, numbers, lists and mappings"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_place_type_and_way_out(value, way_out):
    with pytest.raises(UnsupportedValueError) as caught:
        normalise({"hosts": [1, {"port": value}]})
    assert isinstance(caught.value, TypeError)
    assert caught.value.path == ("hosts", 1, "port")
    assert str(caught.value) == f"['hosts'][1]['port']: {caught.value.problem}"
    assert type(value).__qualname__ in caught.value.problem
    assert f"; store {way_out}" in caught.value.problem.replace("its ", "")


def test_the_scalars_of_the_real_numpy_become_plain_types():
    numpy = pytest.importorskip("numpy")
    expected = {
        numpy.bool_(True): True,
        numpy.int64(5): 5,
        numpy.uint64(2**64 - 1): 2**64 - 1,
        numpy.float32(0.5): 0.5,
        numpy.float64(-0.0): -0.0,
        numpy.longdouble("1.5"): 1.5,
        numpy.str_("x"): "x",
        numpy.bytes_(b"x"): b"x",
        numpy.datetime64("2001-02-03"): date(2001, 2, 3),
        numpy.datetime64("2001-02-03T04:05:06.000007"): datetime(2001, 2, 3, 4, 5, 6, 7),
    }
    for value, plain_value in expected.items():
        assert same(normalise(value), plain_value)
    for value in (
        numpy.array([1]),
        numpy.datetime64("2001-02-03", "ns"),
        numpy.timedelta64(1, "s"),
        numpy.complex64(1),
    ):
        with pytest.raises(UnsupportedValueError, match="tolist"):
            normalise(value)


class TestTimes:
    def test_a_zone_becomes_its_offset(self):
        moment = datetime(2001, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("UTC"))
        assert type(normalise(moment).tzinfo) is timezone
        moment = datetime(2001, 7, 1, 12, tzinfo=Zone(timedelta(hours=5, minutes=30)))
        assert same(normalise(moment), datetime(2001, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))))

    def test_an_offset_with_seconds_becomes_utc(self):
        """YAML has hours and minutes only."""
        moment = datetime(1930, 1, 1, 12, tzinfo=timezone(timedelta(minutes=19, seconds=32)))
        assert same(normalise(moment), datetime(1930, 1, 1, 11, 40, 28, tzinfo=UTC))

    def test_an_offset_with_seconds_at_the_end_of_the_calendar_is_refused(self):
        with pytest.raises(UnsupportedValueError, match="isoformat"):
            normalise([datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=1)))])

    def test_a_time_that_is_none_is_refused(self):
        """The NaT of pandas is a datetime whose year is NaN."""

        class NaT(datetime):
            year = math.nan

        with pytest.raises(UnsupportedValueError, match="NaT cannot be stored"):
            normalise(NaT(2001, 1, 1))

    def test_a_fold_is_dropped(self):
        assert normalise(datetime(2001, 1, 1, fold=1)).fold == 0


class Zone(tzinfo):
    """A time zone that only knows its offset."""

    def __init__(self, offset):
        self.offset = offset

    def utcoffset(self, moment):
        return self.offset

    def __reduce__(self):
        return Zone, (self.offset,)


class TestTexts:
    @pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00", Text("\ud800")])
    def test_lone_surrogates_are_refused(self, text):
        with pytest.raises(UnsupportedValueError, match=r"surrogatepass.*store the bytes") as caught:
            normalise({"a": [text]})
        assert caught.value.path == ("a", 0)

    def test_lone_surrogates_are_refused_in_keys(self):
        with pytest.raises(UnsupportedValueError, match="as a key: text with a lone surrogate") as caught:
            normalise({"a": {"\ud800": 1}})
        assert caught.value.path == ("a", "\ud800")


class TestIntegers:
    def test_those_of_more_digits_than_text_may_have_are_refused(self):
        for value in (10**MAX_INT_DIGITS, -(10**MAX_INT_DIGITS), Number(10**5000)):
            with pytest.raises(UnsupportedValueError, match="4300 digits"):
                normalise(value)

    def test_those_of_numpy_s_protocol_too(self):
        with pytest.raises(UnsupportedValueError, match="4300 digits"):
            normalise(NumpyInteger(10**MAX_INT_DIGITS))


class TestContainers:
    @pytest.mark.parametrize("kind", [list, dict])
    def test_a_hundred_inside_each_other_are_fine_and_one_more_is_refused(self, kind):
        value = nested(MAX_DEPTH, kind)
        assert same(normalise(value), value)
        with pytest.raises(UnsupportedValueError, match="more than 100 containers") as caught:
            normalise(nested(MAX_DEPTH + 1, kind))
        assert len(caught.value.path) == MAX_DEPTH

    def test_those_around_the_value_count(self):
        normalise(nested(97), 3)
        with pytest.raises(UnsupportedValueError):
            normalise(nested(98), 3)

    def test_a_scalar_may_stand_at_the_deepest_level(self):
        normalise(1, MAX_DEPTH)

    def test_a_container_inside_itself_is_refused(self):
        around = {"a": [0]}
        around["a"].append({"b": around})
        with pytest.raises(UnsupportedValueError, match="inside itself") as caught:
            normalise(around)
        assert caught.value.path == ("a", 1, "b")

    def test_a_sequence_of_itself_is_refused(self):
        class Turtles(collections.UserList):
            def __iter__(self):
                yield Turtles()

        with pytest.raises(UnsupportedValueError, match="more than 100 containers"):
            normalise(Turtles())

    def test_the_same_container_twice_is_two_copies(self):
        twice = [1]
        copy = normalise([twice, twice, {"a": twice}])
        assert copy == [[1], [1], {"a": [1]}]
        assert copy[0] is not copy[1]

    def test_the_copy_shares_nothing_with_the_original(self):
        original = {"a": [{"b": [1]}]}
        copy = normalise(original)
        original["a"][0]["b"].append(2)
        assert copy == {"a": [{"b": [1]}]}

    def test_keys_that_become_one_are_refused(self):
        """A subclass may hash as it likes: both get into a dict, and one would vanish from the file."""

        class Odd(str):
            __eq__ = object.__eq__
            __hash__ = object.__hash__

        with pytest.raises(UnsupportedValueError, match="twice") as caught:
            normalise({"x": {Odd("ada"): 1, "ada": 2}})
        assert caught.value.path == ("x", "ada")

    def test_an_error_of_the_container_itself_comes_through(self):
        class Broken(collections.UserList):
            def __iter__(self):
                raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            normalise([Broken()])


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [None, True, 0, -1, 2**70, 0.5, -0.0, math.inf, "", "a", "\n", b"", b"\xff", date(1, 1, 1), datetime(1, 1, 1)],
    )
    def test_every_plain_scalar_may_be_one(self, key):
        assert same(normalise_key(key), key)
        assert same(normalise({key: key}), {key: key})

    @pytest.mark.parametrize(("key", "expected"), [(Level.HIGH, 3), (Text("x"), "x"), (NumpyInteger(4), 4)])
    def test_its_subclass_becomes_plain(self, key, expected):
        assert same(normalise_key(key), expected)

    @pytest.mark.parametrize(
        ("key", "problem"),
        [
            ((1, 2), "tuple cannot be a key; use a scalar"),
            (frozenset(), "as a key: frozenset cannot be stored"),
            (math.nan, "NaN cannot be a key"),
            (Color.RED, "as a key: Color cannot be stored; store its .value"),
        ],
    )
    def test_others_are_refused(self, key, problem):
        with pytest.raises(UnsupportedValueError) as caught:
            normalise_key(key)
        assert problem.replace("Color", f"{Color.__module__}.Color") in caught.value.problem

    @pytest.mark.parametrize("character", ["a", "\xe9", "\U0001f600", "\n", "\x00", '"', "\u2028"])
    def test_the_longest_that_is_accepted_has_at_most_a_thousand_characters_as_text(self, character):
        longest = max(length for length in range(1, 1001) if accepts(character * length))
        assert len(text_of(character * longest)) <= MAX_KEY_TEXT
        assert longest >= 166
        assert not accepts(character * 2000)

    @pytest.mark.parametrize("key", [b"x" * 2000, 10**2000, "x" * 2000], ids=type)
    def test_too_long_ones_are_refused_with_their_beginning(self, key):
        with pytest.raises(UnsupportedValueError, match=r"the key .{40}\.\.\. has more than 1000") as caught:
            normalise({"a": {key: 1}})
        assert caught.value.path == ("a",)


def accepts(key):
    try:
        normalise_key(key)
    except UnsupportedValueError:
        return False
    return True


class TestSame:
    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (1, True), (1, 1.0), (0.0, -0.0), (0.5, math.nan), ("1", 1), (b"a", "a"), (None, False), ([], {}),
            ([1], [1, 2]), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1: 0}, {True: 0}), ({"a": 0}, {"a": -0.0}),
            ([[0.0]], [[-0.0]]), ({"a": 1}, {"a": 1, "b": 2}), (date(2001, 1, 1), datetime(2001, 1, 1)),
            (datetime(2001, 1, 1), datetime(2001, 1, 1, tzinfo=UTC)),
            (datetime(2001, 1, 1, 12, tzinfo=UTC), datetime(2001, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))),
        ],
    )  # fmt: skip
    def test_tells_apart_what_equality_does_not(self, left, right):
        assert not same(left, right)
        assert not same(right, left)

    @given(values)
    @settings(deadline=None, max_examples=scaled(200))
    def test_every_value_is_the_same_as_its_copy(self, value):
        assert same(normalise(value), value)
        assert same(normalise(normalise(value)), value)


@given(keys)
@settings(deadline=None, max_examples=scaled(200))
def test_every_key_is_the_same_as_its_copy(key):
    if accepts(key):
        assert same(normalise_key(key), key)


def test_the_error_can_be_pickled_and_told_from_the_root():
    error = UnsupportedValueError("a problem", (1, "x"))
    told = pickle.loads(pickle.dumps(error.within(("hosts",), "/tmp/example.state")))
    assert str(told) == "/tmp/example.state: ['hosts'][1]['x']: a problem"
    assert told.path == ("hosts", 1, "x")


def test_a_live_container_must_say_what_it_holds():
    with pytest.raises(NotImplementedError):
        Live().plain()
