"""The four changes: their text is one line that JSON and YAML read alike; each does what it says to a plain tree."""

import json
import math
from datetime import date, datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import probe
from support.runs import scaled
from support.strategies import NASTY_TEXTS, drop_long_keys, json_texts_only, nested, read_by_pyyaml, records

from mmapstate.changes import (
    apply,
    decode,
    decode_each,
    decode_effect,
    decode_json,
    encode,
    encode_insert,
    encode_set,
    flow_text,
    text_of,
)
from mmapstate.errors import StateFileError
from mmapstate.values import MAX_DEPTH, MAX_INT_DIGITS, MAX_KEY_TEXT, normalise, same


def storable(record):
    """Return the record without what a state refuses: keys that are too long as text."""
    return [tuple(drop_long_keys(list(change))) for change in record]


def listed(record):
    return [list(change) for change in record]


def is_json(payload):
    """Return whether strict JSON takes the payload (Python's parser takes more)."""

    def refuse(name):
        raise ValueError(name)

    try:
        json.loads(payload, parse_constant=refuse)
    except ValueError:
        return False
    return True


class TestText:
    @given(record=records.map(storable))
    @settings(deadline=None, max_examples=scaled(300))
    def test_is_one_line_that_is_read_back_the_same(self, record):
        payload = encode(record)
        assert b"\n" not in payload
        assert b"\r" not in payload
        assert payload.startswith(b"[")
        assert same(listed(decode(payload)), listed(record))

    @given(record=records.map(storable))
    @settings(deadline=None, max_examples=scaled(200))
    def test_is_read_alike_by_plain_pyyaml_whatever_it_holds(self, record):
        payload = encode(record)
        expected = listed(record) if len(record) > 1 else list(record[0])
        assert same(read_by_pyyaml(payload), expected)
        assert same(list(yaml.safe_load_all(b"--- " + payload + b" #0123abcd\n#    ")), [expected])

    @given(value=json_texts_only.map(drop_long_keys))
    @settings(deadline=None, max_examples=scaled(300))
    def test_is_json_wherever_json_can_carry_it_and_yaml_reads_that_alike(self, value):
        payload = encode([("set", [], "k", value)])
        assert is_json(payload)
        assert same(json.loads(payload), ["set", [], "k", value])
        assert same(read_by_pyyaml(payload), ["set", [], "k", value])

    @pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML was built without libyaml")
    @given(record=records.map(storable))
    @settings(deadline=None, max_examples=scaled(100))
    def test_is_read_alike_by_libyaml(self, record):
        expected = listed(record) if len(record) > 1 else list(record[0])
        assert same(yaml.load(encode(record), Loader=yaml.CSafeLoader), expected)

    @pytest.mark.parametrize("place", [lambda text: text, lambda text: {text: 1}, lambda text: [{text: text}]])
    def test_holds_each_nasty_text_in_each_place(self, place):
        for text in NASTY_TEXTS:
            change = ["set", [text], text, place(text)]
            payload = encode([tuple(change)])
            assert is_json(payload), text
            assert same(json.loads(payload), change), text
            assert same(read_by_pyyaml(payload), change), text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "null"), (True, "true"), (False, "false"), (0, "0"), (-5, "-5"), (10** 20, "1"+"0" * 20),
            (1.0, "1.0"), (-0.0, "-0.0"), (1e16, "1.0e+16"), (-1e16, "-1.0e+16"), (1.5e-7, "1.5e-07"),
            (5e-324, "5.0e-324"), ("", '""'), ('"\\/', '"\\"\\\\/"'), ("\n\t\r\b\f", '"\\n\\t\\r\\b\\f"'),
            ("\x00\x1f", '"\\u0000\\u001f"'), ("\x7f", '"\\u007f"'),
            ("\x80\x85\x9f\xa0", '"\\u0080\\u0085\\u009f\xa0"'), ("\u2028\u2029\ufeff", '"\\u2028\\u2029\\ufeff"'),
            ("\ufffe\uffff\ufffd", '"\\ufffe\\uffff\ufffd"'), ("\xe9\u65e5\U0001f600", '"\xe9\u65e5\U0001f600"'),
            ([], "[]"), ({}, "{}"), ([1, [2]], "[1, [2]]"), ({"a":{"b":1}, "c":2}, '{"a": {"b": 1}, "c": 2}'),
            ("yes", '"yes"'), ("<<", '"<<"'),
        ],
    )  # fmt: skip
    def test_of_json_is_written_so_that_yaml_reads_it(self, value, text):
        assert text_of(value) == text
        assert same(read_by_pyyaml(f"[{text}]"), [value])

    @pytest.mark.parametrize(
        "value",
        [math.inf, math.nan, b"", date(2001, 1, 1), datetime(2001, 1, 1), {1: 1}, {None: 1}, {True: 1}, {0.5: 1}],
    )
    def test_is_yaml_where_json_has_no_such_value(self, value):
        for change in (("set", [], "k", value), ("splice", ["a", 0], 1, 2, [1, [value]])):
            payload = encode([change])
            assert not is_json(payload)
            assert same(listed(decode(payload)), [list(change)])

    def test_is_json_though_a_path_has_keys_that_are_no_text(self):
        assert encode([("set", [1, None, 0.5, True], 7, 8)]) == b'["set", [1, null, 0.5, true], 7, 8]'

    def test_of_several_changes_is_a_list_of_them(self):
        record = [("delete", [], "a"), ("insert", ["b"], 0, 1)]
        assert encode(record) == b'[["delete", [], "a"], ["insert", ["b"], 0, 1]]'
        assert decode(encode(record)) == record

    def test_of_the_longest_integer_is_read_by_both(self):
        for value in (10**MAX_INT_DIGITS - 1, -(10**MAX_INT_DIGITS) + 1):
            for other in (None, b""):  # as JSON, and as YAML
                payload = encode([("set", [], "k", [value, other])])
                assert decode(payload)[0][3] == [value, other]
                assert read_by_pyyaml(payload)[3] == [value, other]

    @pytest.mark.parametrize("character", ["a", "\xe9", "\U0001f600", "\n", "\x00", "\u2028"])
    @pytest.mark.parametrize("other", [None, b""], ids=["json", "yaml"])
    def test_of_the_longest_key_is_read_by_both(self, character, other):
        key = character
        while len(text_of(key + character)) <= MAX_KEY_TEXT:
            key += character
        change = ["set", [], "k", {"around": {key: {key: other}}}]
        payload = encode([tuple(change)])
        assert decode(payload) == [tuple(change)]
        assert read_by_pyyaml(payload) == change

    @pytest.mark.parametrize("other", [None, b""], ids=["json", "yaml"])
    @pytest.mark.parametrize("kind", [list, dict])
    def test_of_the_deepest_value_is_read_by_both_in_a_transaction_too(self, kind, other):
        value = {"k": nested(MAX_DEPTH - 2, kind), "l": other}
        normalise(value, 1)
        for change in (["set", [], "k", value], ["splice", ["l"], 0, 0, [value["k"], other]]):
            record = [tuple(change), ("delete", [], "k")]
            assert same(listed(decode(encode(record))), listed(record))
            assert same(read_by_pyyaml(encode(record)), listed(record))

    def test_that_cannot_be_is_a_value_error(self):
        with pytest.raises(ValueError, match="cannot carry"):
            encode([("set", [], "k", [nested(MAX_DEPTH + 5), b""])])


class TestTextOfASet:
    """`encode_set` is `encode` for one set of a plain value, made of what it has kept of the last one of the key."""

    KEYS = ["a", "b", "\xe9\u2028", "", "1", 1, True, None, 0.5]
    VALUES = [0, -1, 10**20, True, False, None, 1e16, "", "text", "\x7f\u65e5"]

    @pytest.fixture(autouse=True)
    def starts(self, monkeypatch):
        monkeypatch.setattr(probe.SET_STARTS, starts := {})
        return starts

    def test_is_that_of_any_set_whatever_has_been_kept(self):
        for _ in range(2):
            for path in ([], ["a"], [], ["b", 0], [1]):
                for key in self.KEYS:
                    for value in self.VALUES:
                        assert encode_set(path, key, value) == encode([("set", path, key, value)]), (path, key, value)

    def test_is_none_where_the_value_is_no_json(self):
        for value in (math.inf, math.nan, b"x", date(2001, 1, 1), datetime(2001, 1, 1)):
            assert encode_set([], "k", value) is None
            assert encode_set([], "k", value) is None

    def test_is_kept_for_texts_at_the_root_alone(self, starts):
        """A 1 would be found as True, too."""
        for path, key in (([], 1), ([], True), ([], None), (["a"], "k"), ([0], "k")):
            encode_set(path, key, 5)
        assert starts == {}
        encode_set([], "k", 5)
        assert starts == {"k": b'["set", [], "k", '}

    def test_begins_with_what_has_been_kept(self, starts):
        starts["k"] = b"kept "
        assert encode_set([], "k", 5) == b"kept 5]"
        assert encode_set(["a"], "k", 5) == b'["set", ["a"], "k", 5]'

    def test_is_kept_for_so_many_and_no_more(self, starts):
        for number in range(300):
            assert encode_set([], f"k{number}", number) == b'["set", [], "k%d", %d]' % (number, number)
        assert list(starts) == [f"k{number}" for number in range(256)]
        assert encode_set([], "k299", 1) == b'["set", [], "k299", 1]'


class TestTextOfAnInsert:
    """`encode_insert` is `encode` for one insert of a plain value, made of what it has kept of the last one there."""

    @pytest.fixture(autouse=True)
    def starts(self, monkeypatch):
        monkeypatch.setattr(probe.INSERT_STARTS, starts := {})
        return starts

    def test_is_that_of_any_insert_whatever_has_been_kept(self):
        for _ in range(2):
            for path in (*([key] for key in TestTextOfASet.KEYS), ["a", 0], ["a", "b"], [0, "a"]):
                for index in (0, 1, 1_000_000):
                    for value in TestTextOfASet.VALUES:
                        assert encode_insert(path, index, value) == encode([("insert", path, index, value)]), path

    def test_is_none_where_the_value_or_the_way_there_is_no_json(self):
        for path, value in ((["a"], math.inf), (["a"], b"x"), (["a"], date(2001, 1, 1)), ([b"a"], 1), ([math.inf], 1)):
            assert encode_insert(path, 0, value) is None
            assert encode_insert(path, 0, value) is None

    def test_is_kept_for_texts_at_the_root_alone(self, starts):
        for path in ([1], [True], [None], ["a", "b"], ["a", 0]):
            encode_insert(path, 0, 5)
        assert starts == {}
        encode_insert(["k"], 0, 5)
        assert starts == {"k": b'["insert", ["k"], '}

    def test_begins_with_what_has_been_kept(self, starts):
        starts["k"] = b"kept "
        assert encode_insert(["k"], 3, 5) == b"kept 3, 5]"
        assert encode_insert(["k", "k"], 3, 5) == b'["insert", ["k", "k"], 3, 5]'

    def test_is_kept_for_so_many_and_no_more(self, starts):
        for number in range(300):
            assert encode_insert([f"k{number}"], 0, number) == b'["insert", ["k%d"], 0, %d]' % (number, number)
        assert list(starts) == [f"k{number}" for number in range(256)]


class TestFlowText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (5, "5"), ("no", '"no"'), ({"a": [1, None]}, '{"a": [1, null]}'), (math.inf, ".inf"),
            (date(2024, 5, 6), '!!timestamp "2024-05-06"'), ([b"ab"], '[!!binary "YWI="]'), ({1: 2}, "{1: 2}"),
        ],
    )  # fmt: skip
    def test_is_one_line_that_reads_back(self, value, text):
        assert flow_text(value) == text
        assert read_by_pyyaml(text.encode()) == value


VALUES = st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just({"d": {}, "k": 1})
DATES = st.just(date(2001, 2, 3))  # no JSON


def appended(path, start, values):
    return [encode([("insert", path, start + offset, value)]) for offset, value in enumerate(values)]


class TestDecodeEffect:
    @given(
        batch=st.lists(
            st.one_of(
                st.tuples(
                    st.just("set"),
                    st.sampled_from([[], ["d"], ["d", "d"], ["a], "], ["d", "l", 0]]),
                    st.sampled_from(["k", "d", ",", ", x", ", y"]),
                    VALUES,
                ),
                st.tuples(
                    st.just("set"), st.just([]), st.sampled_from(["k", 1, "\n", 'a", ', "[", "]"]), st.integers()
                ),
                st.tuples(st.just("delete"), st.just([]), st.just("k")),
                st.tuples(
                    st.just("insert"), st.sampled_from([["l"], ["d", "l"], ["d"]]), st.integers(0, 4), VALUES | DATES
                ),
            ),
            max_size=20,
        )
    )
    @settings(deadline=None, max_examples=scaled(500))
    def test_is_the_effect_of_all_of_them(self, batch):
        payloads = [encode([change]) for change in batch]
        outcomes = []
        for each in (map(decode, payloads), decode_effect(payloads)):
            root = {"d": {"d": {}, "l": [{}]}, "l": [1, 2], "k": 0, "a], ": {}}
            try:
                for record in each:
                    apply(root, record)
                outcomes.append(root)
            except (LookupError, TypeError):  # then what was left out does not fit either, and all is read anew
                outcomes.append("does not fit")
        assert same(*outcomes)

    def test_of_a_run_of_sets_of_one_key_the_last_is_left(self):
        payloads = [encode([("set", ["d"], "k", value)]) for value in (1, "text, with a comma", {"a": [2, 3]}, 4)]
        other = [
            encode([("set", ["d"], "j", 1)]),
            encode([("delete", ["d"], "k")]),
            encode([("set", ["d"], "k", 1)] * 2),
        ]
        for between in other:
            last = decode(payloads[-1])
            assert decode_effect([*payloads, between, *payloads]) == [last, decode(between), last]

    def test_a_key_with_brackets_on_the_way_is_not_taken_for_the_end_of_the_path(self):
        for pair in (
            [("set", ["a], "], ", x", 1), ("set", ["a], "], ", y", 2)],
            [("insert", ["a], 3, ", "l"], 0, 1), ("insert", ["a], 3, ", "m"], 1, 2)],
        ):
            assert decode_effect([encode([each]) for each in pair]) == [[each] for each in pair]

    def test_a_run_of_items_for_one_list_is_one_splice(self):
        values = [1, "], [", {"a": [2, 3]}, [], None, math.inf, date(2001, 2, 3), b"x", "\u2028", 4]
        start = [("splice", ["l"], 7, 7, [1])]
        for count in range(2, len(values) + 1):
            payloads = appended(["l"], 7, values[:count])
            if all(map(is_json, payloads)):
                assert decode_effect(payloads) == [[(*start[0][:4], values[:count])]]
            else:  # of what only YAML can carry each is a record of its own
                assert same(apart(decode_effect(payloads)), apart(map(decode, payloads)))

    def test_runs_end_where_another_list_or_place_or_change_comes(self):
        first, again = appended(["l"], 0, [1, 2]), appended(["l"], 2, [3, 4])
        spliced = [("splice", ["l"], 0, 0, [1, 2])], [("splice", ["l"], 2, 2, [3, 4])]
        for between in (
            encode([("insert", ["m"], 2, 5)]), encode([("insert", ["l"], 0, 5)]), encode([("set", ["l"], 2, 5)]),
            encode([("insert", ["l"], 2, 5)] * 2),
        ):  # fmt: skip
            assert decode_effect([*first, between, *again]) == [spliced[0], decode(between), spliced[1]]
        assert decode_effect([*first, *again]) == [[("splice", ["l"], 0, 0, [1, 2, 3, 4])]]

    @pytest.mark.parametrize(
        "payloads",
        [
            [b'["set", [], "k",1]', b'["set", [], "j",1]'],  # as others may write them
            [b'["set", [], "a, 1", 1]', b'["set", [], "a, 2", 1]'],
            [b'["set", ["a"], "k", 1]', b'["set", ["b"], "k", 1]'],
            [b'["set", [], 1, 1]', b'["set", [], 2, 1]'],
            [b'["insert", ["a"], 0, 1]', b'["insert", ["a"], 0, 2]'],
            [b'["insert", ["a"], 0, 1]', b'["insert", ["b"], 1, 2]'],
            [b'["insert", ["a"], 0, 1]'],
            [],
        ],
    )
    def test_all_others_are_left(self, payloads):
        assert decode_effect(payloads) == [decode(payload) for payload in payloads]

    @pytest.mark.parametrize(
        "odd", [b'["insert", ["l"], 1, 2, 3]', b'["insert", ["l"], 1, ]', b'["insert", ["l"], 1, 2']
    )
    def test_what_is_no_change_by_itself_is_none_among_others(self, odd):
        payloads = [*appended(["l"], 0, [1]), b'["insert", ["l"], 1, ' + odd, *appended(["l"], 2, [3])]
        with pytest.raises(StateFileError):
            decode_effect(payloads)


def apart(batch):
    """Return records as one list of changes, in which a splice into nothing is the inserts that it stands for."""
    found = []
    for change in (change for record in batch for change in record):
        if change[0] == "splice":
            assert change[2] == change[3]
            found += [["insert", change[1], change[2] + offset, value] for offset, value in enumerate(change[4])]
        else:
            found.append(list(change))
    return found


class TestDecode:
    @given(batch=st.lists(records.map(storable), max_size=6))
    @settings(deadline=None, max_examples=scaled(100))
    def test_of_many_at_once_is_that_of_each(self, batch):
        payloads = [encode(record) for record in batch]
        expected = [decode(payload) for payload in payloads]
        assert same([listed(each) for each in decode_each(payloads)], [listed(each) for each in expected])

    def test_of_many_is_one_parse_where_all_are_json(self, monkeypatch):
        payloads = [
            b'["set", [], "a", 1]',
            b'[["delete", [], "a"], ["insert", ["b"], 0, "XX"]]',
            b'["delete", [], "b"]',
        ]
        expected = [decode(payload) for payload in payloads]
        monkeypatch.setattr(probe.DECODE, None)
        assert decode_each(payloads) == expected
        assert decode_each([]) == []

    def test_of_many_does_not_take_two_broken_ones_for_a_whole_one(self):
        with pytest.raises(StateFileError):
            decode_each([b'["set", [], "k", [1', b"2]]"])

    @pytest.mark.parametrize(
        "payload",
        [
            b"", b"1", b'"set"', b"{}", b"[]", b"[[]]", b'["set"]', b'["set", [], "k"]', b'["set", {}, "k", 1]',
            b'["set", "p", "k", 1]', b'["move", [], "k", 1]', b'["delete", [], "k", 1]', b'["insert", [], 0]',
            b'["splice", [], 0, 1, 2]', b'["splice", [], 0, 1]', b'[1, [], "k", 1]', b'[["set", [], "k", 1], 5]',
            b'[["set", [], "k", 1], ["x"]]', b'[["set", [], "k", 1], []]', b'["set", [], "k", 1',
            b'["set", [], "k", 1] x', b'["set", [], "k", *x]', b'["set", [], "k", "\xff"]',
            b'["set", [], "k", "\x00"]', b"[" * 100_000, b'["set", [], "k", !x 1]', b'{"set": 1}', b"\xff",
            b'[["set"], [], "k", 1]', b'[null, [], "k", 1]',
        ],
        ids=range(30),  # pytest, given a name with a backslash, does not find it
    )  # fmt: skip
    def test_of_what_is_no_change_is_a_state_file_error(self, payload):
        with pytest.raises(StateFileError):
            decode(payload)
        with pytest.raises(StateFileError):
            decode_each([payload])
        with pytest.raises(StateFileError):
            decode_each([b'["delete", [], "k"]', payload])

    @given(payload=st.one_of(st.binary(max_size=30), st.text('[]"set,{}:!* ', max_size=30).map(str.encode)))
    @settings(deadline=None, max_examples=scaled(300))
    def test_of_anything_raises_nothing_but_our_errors(self, payload):
        try:
            found = decode(payload)
        except StateFileError:
            return
        assert same(listed(decode(encode(found))), listed(found))

    def test_takes_the_constants_that_python_adds_to_json_for_no_numbers(self):
        assert decode(b'["set", [], "k", NaN]') == [("set", [], "k", "NaN")]
        assert decode(b'["set", [], "k", [Infinity, -Infinity]]') == [("set", [], "k", ["Infinity", "-Infinity"])]

        assert decode_each([b'["set", [], "k", NaN]'] * 2) == [[("set", [], "k", "NaN")]] * 2

    def test_tells_how_the_record_begins_and_no_more(self):
        with pytest.raises(StateFileError) as caught:
            decode(b'["move", [], "k", 1]')
        assert str(caught.value) == "a record begins with \"['move', [],\": that is no change of a state"

    def test_tells_no_value_in_the_error(self):
        """States hold tokens, and errors get into logs."""
        with pytest.raises(StateFileError) as caught:
            decode(b'["set", [], "password", "secret", 5]')
        assert "secret" not in str(caught.value)
        assert "password" not in str(caught.value)

    def test_of_another_program_may_be_json_with_infinities_and_is_one_change(self):
        assert decode_json(b'["set", [], "a", -Infinity]') == ("set", [], "a", -math.inf)
        for payload, error in ((b"x", ValueError), (b"[[1]]", StateFileError), (b'["set"] x', ValueError)):
            with pytest.raises(error):
                decode_json(payload)


class TestApply:
    @pytest.fixture
    def tree(self):
        return {"a": {"b": [1, 2, 3]}, 5: [{"c": 1}], None: {}}

    @pytest.mark.parametrize(
        ("change", "place", "expected"),
        [
            (("set", [], "x", 1), ["x"], 1),
            (("set", ["a"], "b", {}), ["a", "b"], {}),
            (("set", ["a", "b"], 1, "x"), ["a", "b"], [1, "x", 3]),
            (("set", [5, 0], "c", [2]), [5, 0, "c"], [2]),
            (("set", [None], 7, 8), [None], {7: 8}),
            (("delete", ["a"], "b"), ["a"], {}),
            (("delete", ["a", "b"], 0), ["a", "b"], [2, 3]),
            (("insert", ["a", "b"], 0, 0), ["a", "b"], [0, 1, 2, 3]),
            (("insert", ["a", "b"], 3, 4), ["a", "b"], [1, 2, 3, 4]),
            (("splice", ["a", "b"], 1, 2, []), ["a", "b"], [1, 3]),
            (("splice", ["a", "b"], 1, 1, [8, 9]), ["a", "b"], [1, 8, 9, 2, 3]),
            (("splice", ["a", "b"], 0, 3, [9]), ["a", "b"], [9]),
            (("splice", ["a", "b"], 3, 3, [4]), ["a", "b"], [1, 2, 3, 4]),
        ],
    )
    def test_does_what_the_change_says(self, tree, change, place, expected):
        apply(tree, decode(encode([change])))
        for key in place:
            tree = tree[key]
        assert same(tree, expected)

    def test_does_several_in_order(self, tree):
        apply(tree, [("set", [], "x", []), ("insert", ["x"], 0, 1), ("insert", ["x"], 0, 2), ("delete", ["x"], 1)])
        assert tree["x"] == [2]

    def test_tells_what_needs_a_list(self, tree):
        for change in (("insert", ["a"], 0, 1), ("splice", [], 0, 0, [])):
            with pytest.raises(TypeError, match=f"^{change[0]} needs a list$"):
                apply(tree, [change])

    @pytest.mark.parametrize(
        "change",
        [
            ("set", ["missing"], "k", 1),
            ("set", ["a", "b", 3], "k", 1),
            ("set", ["a", "b"], 3, 1),
            ("set", ["a", "b"], "k", 1),
            ("set", ["a", "b", 0], "k", 1),
            ("set", [], [], 1),
            ("delete", [], "missing"),
            ("delete", ["a", "b"], 3),
            ("delete", [[]], 0),
            ("insert", [], 0, 1),
            ("insert", ["a"], 0, 1),
            ("insert", ["a", "b"], "k", 1),
            ("splice", [], 0, 0, []),
            ("splice", ["a"], 0, 0, [1]),
            ("splice", ["a", "b"], "x", 0, [1]),
        ],
    )
    def test_refuses_what_does_not_fit_and_changes_nothing(self, tree, change):
        before = normalise(tree)
        with pytest.raises((LookupError, TypeError)):
            apply(tree, [change])
        assert same(tree, before)
