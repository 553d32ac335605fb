"""A file that is JSON, by its text or its name, is read by JSON's rules, and stays strict JSON at rest, layout kept."""

import datetime
import json
import math
import os
import pathlib
import random

import pytest
import yaml
from support import probe
from support.independent_reader import read_state
from support.processes import Child
from support.runs import SEED, on_an_open_file, scaled

import mmapstate
from mmapstate import PersistedState, StateFileError, UnsupportedValueError, command
from mmapstate.file import content
from mmapstate.text import snapshot
from mmapstate.text.snapshot import patch
from mmapstate.values import same

pytestmark = pytest.mark.family("editors")


def put(path, text):
    """Write a file as if that were long ago."""
    pathlib.Path(path).write_bytes(text.encode())
    os.utime(path, (1, 1))


def read(path):
    return pathlib.Path(path).read_bytes().decode()


def strictly(text):
    """Return what a JSON text holds, by the letter of JSON: no NaN, and no key twice."""

    def refuse(name):
        raise AssertionError(name)

    def unique(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


@pytest.fixture(params=["example.json", "example.state"], ids=["by name", "by text"])
def file(request, tmp_path):
    """The path of a JSON file: its name says so, or not."""
    return str(tmp_path / request.param)


ODD = {
    '{"lr": 1e-07, "n": 1e5, "big": 1e+22, "z": -0.0}': {"lr": 1e-7, "n": 1e5, "big": 1e22, "z": -0.0},
    '{"snake": "\\ud83d\\udc0d", "\\u00e9": "\\/\\b\\u0000"}': {"snake": "\U0001f40d", "é": "/\b\0"},
    json.dumps({"k" * 1100: {"l" * 5000: 1}}): {"k" * 1100: {"l" * 5000: 1}},
    '{"yes": "no", "12:30": "012", "~": null, "t": true, "d": "2001-02-03"}': {
        "yes": "no", "12:30": "012", "~": None, "t": True, "d": "2001-02-03"
    },
    '\ufeff\r\n\t{"a"\t:\r\n1}\r\n': {"a": 1},
    '{"x": "\x7f\u0085\u2028\ufeff"}': {"x": "\x7f\u0085\u2028\ufeff"},
    '{"a":{"b":[{"c":[]},{}]},"d":""}\n': {"a": {"b": [{"c": []}, {}]}, "d": ""},
}  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_it_is_read_by_the_rules_of_json_and_not_touched_where_nothing_changes(file, text):
    put(file, text)
    with PersistedState(file) as state:
        assert same(state.copy(), ODD[text])
    assert read(file) == text
    assert mmapstate.check(file) == []
    with mmapstate.open(file, readonly=True) as state:
        assert same(state.copy(), ODD[text])


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_a_change_leaves_strict_json_and_what_was_not_changed_as_it_was(file, text):
    put(file, text)
    with PersistedState(file) as state:
        state["new"] = [1e-7, 1e22, "\U0001f40d", {"a": None}]
        expected = {**ODD[text], "new": [1e-7, 1e22, "\U0001f40d", {"a": None}]}
        assert same(read_state(pathlib.Path(file).read_bytes()), expected)
        with mmapstate.open(file, readonly=True) as reader:
            assert same(reader.copy(), expected)
        assert mmapstate.check(file) == []
    at_rest = read(file)
    assert same(strictly(at_rest.removeprefix("\ufeff")), expected)
    assert at_rest.startswith(text.rstrip().removesuffix("}").rstrip())
    with PersistedState(file) as state:
        assert same(state.copy(), expected)
        del state["new"]
    assert read(file) == text


def test_a_number_is_multiplied_as_a_number(file):
    put(file, '{"lr": 1e-07}')
    with PersistedState(file) as state:
        state["lr"] *= 2
    assert read(file) == '{"lr": 2e-07}'


def test_the_value_at_a_long_key_can_be_changed_and_removed(file):
    key = "k" * 1100
    put(file, json.dumps({key: {"n": 1}, "a": 1}))
    with PersistedState(file) as state:
        state[key]["n"] += 1
        state[key] = 3
        state.increment(key)
        state.update({key: 5})
    assert read(file) == json.dumps({key: 5, "a": 1})
    with PersistedState(file) as state:
        del state[key]
    assert read(file) == '{"a": 1}'


LAYOUTS = [
    ('{"a": 1, "b": [1]}', {"a": 2, "b": [1, 2], "c": {"d": "é"}}, '{"a": 2, "b": [1, 2], "c": {"d": "é"}}'),
    ('{"a":1,"b":[1]}\n', {"a": 2, "b": [1, 2], "c": {"d": 1}}, '{"a":2,"b":[1,2],"c":{"d":1}}\n'),
    ('{\n\t"a": 1\n}\n', {"a": 1, "b": {"c": 2}}, '{\n\t"a": 1,\n\t"b": {\n\t\t"c": 2\n\t}\n}\n'),
    ('{\r\n    "a": 1\r\n}', {"b": [1]}, '{\r\n    "b": [\r\n        1\r\n    ]\r\n}'),
    ('{"a": "\\u00e9"}', {"a": "\\u00e9", "b": "\U0001f40d"}, '{"a": "\\\\u00e9", "b": "\\ud83d\\udc0d"}'),
    ('{"a": "é", "b": "\\u00e8"}', {"a": "è", "b": "è"}, '{"a": "è", "b": "\\u00e8"}'),
    ('{"a": "x"}', {"a": "é\x7f\u2028"}, '{"a": "é\\u007f\\u2028"}'),
    ('{\n  "a": 1.50,\n  "b": 1E3,\n  "c": 0\n}\n', {"b": 1e3, "a": 1.5}, '{\n  "b": 1E3,\n  "a": 1.50\n}\n'),
    ('{\n  "q": [1, 2],\n  "r": {}\n}\n', {"q": [2, 3], "r": {"x": [4]}},
     '{\n  "q": [2, 3],\n  "r": {\n    "x": [4]\n  }\n}\n'),
    ('{ "a" : 1 , "b" : 2 }', {"b": 2, "c": 3}, '{ "b" : 2 , "c" : 3 }'),
    ('{\n  "a": 1\n, "b": 2\n}\n', {"a": 1, "b": 3, "c": 4}, '{\n  "a": 1\n, "b": 3\n, "c": 4\n}\n'),
    ('{\n  "a": {\n    "b": 1\n  }\n}\n', {"a": {}}, '{\n  "a": {}\n}\n'),
    ('{\n  "q": [\n    {"id": 1, "n": 1},\n    {"id": 2, "n": 2}\n  ]\n}\n',
     {"q": [{"id": 2, "n": 5}, {"id": 3, "n": 3}]},
     '{\n  "q": [\n    {"id": 2, "n": 5},\n    {"id": 3, "n": 3}\n  ]\n}\n'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "state", "expected"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_layouts(text, state, expected):
    assert patch(text.encode(), state, pytest.fail).decode() == expected
    assert strictly(expected) == state


def random_value(dice, level=0):
    kind = dice.random()
    if kind < 0.25 and level < 3:
        return {dice.choice('abcdé\U0001f40d"\\'): random_value(dice, level + 1) for _ in range(dice.randint(0, 4))}
    if kind < 0.5 and level < 3:
        return [random_value(dice, level + 1) for _ in range(dice.randint(0, 4))]
    return dice.choice(
        [1, -2, 1.5, 1e-7, 1e22, True, False, None, "x", "é", "\U0001f40d", "\u2028\x7f", '"\\u1234', ""]
    )


def mutated(dice, value):
    """Return a value of which a part is changed."""
    if isinstance(value, dict):
        found = {key: mutated(dice, item) if dice.random() < 0.4 else item for key, item in value.items()}
        if found and dice.random() < 0.3:
            del found[dice.choice([*found])]
        if dice.random() < 0.4:
            found[dice.choice("xyz")] = random_value(dice, 1)
        return dict(reversed(found.items())) if dice.random() < 0.1 else found
    if isinstance(value, list) and dice.random() < 0.8:
        found = [mutated(dice, item) if dice.random() < 0.4 else item for item in value]
        if found and dice.random() < 0.3:
            found.pop(dice.randrange(len(found)))
        if dice.random() < 0.3:
            found.insert(dice.randint(0, len(found)), random_value(dice, 1))
        return found
    return random_value(dice, 1)


def test_random_changes_of_random_documents_leave_strict_json_in_all_layouts(cases):
    dice = random.Random(SEED)
    for _ in range(scaled(10_000)):
        state = {"top": 1, **{dice.choice("abcdef"): random_value(dice) for _ in range(dice.randint(0, 5))}}
        indent = dice.choice([None, None, 0, 1, 2, 4, "\t"])
        separators = dice.choice([None, (",", ":"), (" , ", " : ")])
        text = json.dumps(state, indent=indent, ensure_ascii=dice.random() < 0.5, separators=separators)
        text = (text.replace("\n", "\r\n") if dice.random() < 0.2 else text) + dice.choice(("", "\n", " \n\n"))
        assert same(content.read_alone(text.encode(), "a", []), state)
        assert patch(text.encode(), state) == text.encode()
        after = {"top": 1, **mutated(dice, state)}
        patched = patch(text.encode(), after, pytest.fail)
        assert same(strictly(patched.decode()), after), (text, patched)
        if indent:
            for key in after:
                name = (indent if isinstance(indent, str) else " " * indent) + json.dumps(key)
                if key.isalpha() and key.isascii() and key in state and same(after[key], state[key]):
                    before = next(line for line in text.splitlines() if line.startswith(name))
                    assert before.rstrip(" ,[{") in patched.decode()
    cases(scaled(10_000))


# --- What JSON cannot hold -------------------------------------------------------------------------------------------

REFUSED = {
    "nan": (math.nan, ("x",), "has no number nan"),
    "inf": ([1, -math.inf], ("x", 1), "has no number -inf"),
    "bytes": ({"a": b"b"}, ("x", "a"), "has no bytes"),
    "date": (datetime.date(2001, 2, 3), ("x",), "has no date"),
    "datetime": ([[datetime.datetime(2001, 2, 3)]], ("x", 0, 0), "has no datetime"),
    "key": ({"a": [{1: 2}]}, ("x", "a", 0, 1), "a key is text, and this is int"),
    "null as key": ({None: 2}, ("x", None), "a key is text, and this is NoneType"),
}


def in_transaction(state, value):
    with state.transaction():
        state["before"] = 1
        state["x"] = value


WAYS = {
    "set": lambda state, value: state.__setitem__("x", value),
    "update": lambda state, value: state.update(x=value),
    "setdefault": lambda state, value: state.setdefault("x", value),
    "transaction": in_transaction,
    "attribute": lambda state, value: setattr(state, "x", value),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_hold_is_refused_at_the_write_before_anything_changes(file, name, way):
    value, place, problem = REFUSED[name]
    put(file, '{"a": 1}')
    with PersistedState(file) as state:
        state["b"] = 2
        before = read(file)
        with pytest.raises(UnsupportedValueError, match=problem) as caught:
            WAYS[way](state, value)
        assert caught.value.path == place
        assert os.path.realpath(file) in str(caught.value)
        assert state == {"a": 1, "b": 2}
        assert read(file) == before
    assert read(file) == '{"a": 1, "b": 2}'


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_nothing_gets_in_by_a_list_a_key_or_a_sum(file, inside):
    put(file, '{"q": [1], "f": 1e308, "d": {}, "i": 1}')

    def refuse(change, *arguments):
        with pytest.raises(UnsupportedValueError, match="the file is JSON"):
            change(*arguments)

    with PersistedState(file) as state:
        state.i += 1

        def tries():
            refuse(state["q"].append, math.nan)
            refuse(state["q"].extend, [1, b"x"])
            refuse(state["q"].insert, 0, {1: 1})
            refuse(state["q"].__setitem__, 0, math.inf)
            refuse(state["q"].__setitem__, slice(0, 1), [1, math.inf])
            refuse(state.__setitem__, 5, 1)
            refuse(state["d"].__setitem__, None, 1)
            refuse(state["d"].increment, 7)
            refuse(state.increment, "f", 1e308)
            refuse(state.increment, "f", 10**308)

        if inside:
            with state.transaction():
                tries()
        else:
            tries()
        assert state == {"q": [1], "f": 1e308, "d": {}, "i": 2}
    assert strictly(read(file)) == {"q": [1], "f": 1e308, "d": {}, "i": 2}


def test_a_default_that_it_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "new.json"
    with pytest.raises(UnsupportedValueError, match=r"new\.json: \['when'\]: the file is JSON"):
        mmapstate.open(path, {"when": datetime.date(2001, 2, 3)})


def test_a_change_that_another_program_has_put_in_is_told(file, caplog):
    put(file, '{"a": 1}')
    state = PersistedState(file)
    state.b = 1
    probe.accept_all(state)  # as a program that does not know that it is JSON
    state["x"] = math.nan
    data = pathlib.Path(file).read_bytes()
    with pytest.raises(StateFileError, match=r"\['x'\]: the file is JSON, which has no number nan"):
        content.read(data, content.layout(data, file), file, [])
    state.close()
    assert "left without compacting it" in caplog.text
    assert pathlib.Path(file).read_bytes() == data


# --- What is JSON ----------------------------------------------------------------------------------------------------


def test_a_new_file_of_that_name_is_empty_until_something_is_stored_and_then_it_is_json(tmp_path):
    path = str(tmp_path / "new.json")
    PersistedState(path).close()
    assert read(path) == ""
    with PersistedState(path, a=1, b=["é"]) as state:
        assert state == {"a": 1, "b": ["é"]}
    assert read(path) == '{\n  "a": 1,\n  "b": [\n    "é"\n  ]\n}\n'
    with PersistedState(path) as state:
        state.clear()
    assert read(path) == "{}\n"
    with PersistedState(path) as state:
        state["c"] = 1e-7
    assert read(path) == '{\n  "c": 1e-07\n}\n'


def test_an_empty_object_says_nothing_so_the_name_tells(path):
    put(path, '{"a": 1}')
    with PersistedState(path) as state:
        state.clear()
    assert read(path) == "{}"
    with PersistedState(path) as state:
        state["x"] = math.inf
    assert read(path) == "x: .inf"


@pytest.mark.parametrize("text", ["{a: 1}", '{"a": 1,}', '{"a": 1} # c', "{'a': 1}", '# c\n{"a": 1}', '{"a": 1} {}'])
def test_text_that_is_nearly_json_is_yaml_or_nothing(tmp_path, text):
    path = str(tmp_path / "a.state")
    put(path, text)
    try:
        with PersistedState(path) as state:
            assert state == yaml.safe_load(text)
            state["x"] = math.inf
        assert yaml.safe_load(read(path)) == {"a": 1, "x": math.inf}
    except StateFileError:
        assert text == '{"a": 1} {}'
    path = str(tmp_path / "a.JSON")
    put(path, text)
    with pytest.raises(StateFileError, match="by its name the file is JSON, and its text is not"):
        PersistedState(path)
    assert read(path) == text


BROKEN = [
    ('{"a": 1,\n "b": {"c": 1,\n  "c": 2}}', 3, 3, "the key 'c' stands twice in one mapping: remove one",
     {"a": 1, "b": {"c": 2}}),
    ('{"a": 1,\n "é": NaN}', 2, 7, "NaN is no JSON; write null, or text", {"a": 1, "é": None}),
    ('{"a": [-Infinity]}', 1, 8, "-Infinity is no JSON; write null, or text", {"a": [None]}),
    ('{"a": 1, "b": "x\\ud800"}', 1, 15, "half of a surrogate pair is no text", {"a": 1, "b": "x?"}),
    ('{"a": 1, "n": %s}' % ("9" * 4301), 1, 15, "an integer of more than 4300 digits", {"a": 1, "n": "9" * 4301}),
    ('{"a": %s}' % ("[" * 100 + "]" * 100), 1, 106, "more than 100 containers inside each other", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "problem", "left"), BROKEN, ids=range(len(BROKEN)))
def test_what_no_state_can_hold_is_refused_with_line_and_column_and_repaired(
    tmp_path, text, line, column, problem, left
):
    for name in ("a.json", "a.state"):
        path = str(tmp_path / name)
        put(path, text)
        with pytest.raises(StateFileError) as caught:
            PersistedState(path)
        assert (caught.value.line, caught.value.column, caught.value.problem) == (line, column, problem)
        assert read(path) == text
        (found,) = [found for found in mmapstate.check(path) if found.severity == "error"]
        assert (found.line, found.what) == (line, problem)
        if left is None:
            with pytest.raises(StateFileError):
                mmapstate.repair(path)
            continue
        assert mmapstate.repair(path).lost_something
        assert strictly(read(path)) == left
        with PersistedState(path) as state:
            assert state == left


def test_absurd_nesting_is_refused(file):
    put(file, '{"a": ' + "[" * 200_000)
    with pytest.raises(StateFileError):
        PersistedState(file)


def test_a_hundred_levels_are_read(file):
    put(file, '{"a": %s}' % ("[" * 99 + "]" * 99))
    with PersistedState(file) as state:
        state["b"] = 1
    assert strictly(read(file))["b"] == 1


# --- A file in use ---------------------------------------------------------------------------------------------------


def test_an_edit_makes_a_live_file_json_or_yaml_and_what_may_be_stored_follows(path):
    with PersistedState(path, a=1) as state:
        state["x"] = math.inf
        put(path + ".new", '{"a": 1}')
        with on_an_open_file():
            os.replace(path + ".new", path)
        probe.check_next(state)
        assert state == {"a": 1}
        with pytest.raises(UnsupportedValueError, match="the file is JSON"):
            state["x"] = math.inf
        state["b"] = 2
        put(path + ".new", "a: 1\n")
        with on_an_open_file():
            os.replace(path + ".new", path)
        probe.check_next(state)
        assert state == {"a": 1}
        state["x"] = math.inf
    assert read(path) == "a: 1\nx: .inf\n"


def vacuum_and_be_refused(line, file):
    with PersistedState(file) as state:
        while line.receive() != "end":
            with pytest.raises(UnsupportedValueError, match="the file is JSON"):
                state["x"] = math.nan
            state.vacuum()
            state["m"] = [state["n"]]
            line.send(None)
    line.send(None)


def test_another_process_knows_that_it_is_json_before_and_after_a_vacuum(file):
    put(file, '{"a": 1}')
    with Child(vacuum_and_be_refused, file) as other, PersistedState(file) as state:
        for number in range(3):
            state["n"] = number
            other.send("go on")
            other.receive()
            with pytest.raises(UnsupportedValueError, match="the file is JSON"):
                state["x"] = math.nan
            assert state == {"a": 1, "n": number, "m": [number]}
        other.send("end")
        other.receive()
    assert strictly(read(file)) == {"a": 1, "n": 2, "m": [2]}


def test_what_an_edit_supersedes_is_kept_as_json(path, tmp_path):
    put(path, '{"a": 1e5}')
    state = PersistedState(path)
    state["b"] = 1e-7
    put(path + ".new", '{"a": 2}')
    with on_an_open_file():
        os.replace(path + ".new", path)
    probe.check_next(state)
    assert state == {"a": 2}
    (kept,) = tmp_path.glob("*.superseded-*")
    assert strictly(kept.read_text()) == {"a": 1e5, "b": 1e-7}


def test_the_command_sets_shows_checks_and_repairs_it_alike(file, capsys):
    put(file, '{\n    "lr": 1e-07\n}\n')
    assert command.main(["set", file, "lr", "2e-7"]) == 0
    assert command.main(["set", file, "name", "\U0001f40d"]) == 0
    assert read(file) == '{\n    "lr": 2e-07,\n    "name": "\U0001f40d"\n}\n'
    assert command.main(["set", file, "lr", ".nan"]) == 1
    assert "the file is JSON, which has no number nan" in capsys.readouterr().err
    assert command.main(["check", file]) == 0
    assert command.main(["repair", file]) == 0
    assert command.main(["get", file, "lr"]) == 0
    assert float(capsys.readouterr().out.splitlines()[-1]) == 2e-7
    assert strictly(read(file)) == {"lr": 2e-7, "name": "\U0001f40d"}


def test_no_reader_of_yaml_has_a_part_in_it(file, monkeypatch):
    monkeypatch.setattr(probe.READ_YAML, None)
    monkeypatch.setattr(probe.DUMP_YAML, None)
    put(file, '{"a": 1}')
    with PersistedState(file) as state:
        state["b"] = [1]
    assert read(file) == '{"a": 1, "b": [1]}'


def test_values_have_the_lines_in_which_they_stand():
    text = b'\xef\xbb\xbf{"a": 1,\n "b": [1,\n  {"c": 2}]}'
    values = {("a",): (1, 1), ("b",): ([1, {"c": 2}], 2), ("b", 1): ({"c": 2}, 3), ("b", 1, "c"): (2, 3)}
    for path, (value, line) in values.items():
        assert snapshot.line_of(text, "", path, value) == line
    assert [snapshot.line_of(text, "", path, None) for path in (("x",), ("b", 9), ("a",))] == [None] * 3
