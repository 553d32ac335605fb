"""After every operation the file is a YAML stream from which a program that knows only the format reads the state."""

import itertools
import os

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import independent_reader, probe
from support.runs import scaled
from support.strategies import NASTY_TEXTS, drop_long_keys, keys, nested, storable, values

import mmapstate
from mmapstate.values import same

storable_keys = keys.filter(storable)
storable_values = values.map(drop_long_keys)
names = st.one_of(st.sampled_from(["a", "b", "c"]), storable_keys)

_serial = itertools.count()


def read(file):
    """Return what the independent reader makes of the file, which it also checks."""
    with open(file, "rb") as stream:
        data = stream.read()
    independent_reader.check(data)
    for _ in yaml.safe_load_all(data):
        pass
    return independent_reader.read_state(data)


def containers(state):
    """Return all containers of the live state, itself first."""
    found = [state]
    for node in found:
        items = node.values() if isinstance(node, mmapstate.StateDict) else node
        found.extend(item for item in items if isinstance(item, mmapstate.StateDict | mmapstate.StateList))
    return found


def operate(draw, state):
    """Do one random thing to the state, at a random place."""
    node = draw(st.sampled_from(containers(state)))
    if isinstance(node, mmapstate.StateDict):
        operate_on_mapping(draw, state, node)
    else:
        operate_on_sequence(draw, node)


def operate_on_mapping(draw, state, node):
    kind = draw(
        st.sampled_from(["set", "set", "set", "delete", "update", "clear", "setdefault", "popitem", "transaction"])
    )
    present = st.sampled_from(list(node)) if len(node) else storable_keys
    if kind == "set":
        node[draw(st.one_of(names, present))] = draw(storable_values)
    elif kind == "delete":
        node.pop(draw(present), None)
    elif kind == "update":
        node.update(draw(st.dictionaries(names, storable_values, max_size=3)))
    elif kind == "clear":
        node.clear()
    elif kind == "setdefault":
        node.setdefault(draw(names), draw(storable_values))
    elif kind == "popitem":
        if len(node):
            node.popitem()
    else:
        operate_in_transaction(draw, state, node)


def operate_in_transaction(draw, state, node):
    with state._thread_lock:
        node["t"] = draw(storable_values)
        node["u"] = [draw(storable_values)]
        node["u"].append(draw(storable_values))


def operate_on_sequence(draw, node):
    kind = draw(
        st.sampled_from(["append", "insert", "set", "delete", "splice", "stride", "extend", "reverse", "double"])
    )
    index = draw(st.integers(0, max(len(node) - 1, 0)))
    start, stop = sorted((index, draw(st.integers(0, len(node)))))
    several = st.lists(storable_values, max_size=3)
    if kind == "append" or not len(node):
        node.append(draw(storable_values))
    elif kind == "insert":
        node.insert(index, draw(storable_values))
    elif kind == "set":
        node[index] = draw(storable_values)
    elif kind == "delete":
        del node[index]
    elif kind == "splice":
        node[start:stop] = draw(several)
    elif kind == "stride":
        del node[start::2]
    elif kind == "extend":
        node.extend(draw(several))
    elif kind == "reverse":
        node.reverse()
    elif len(node) < 20:
        node *= 2


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=scaled(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_after_every_operation_the_file_read_by_others_is_the_state(path, data):
    file = f"{path}-{next(_serial)}"
    state = mmapstate.PersistedState(file)
    try:
        for _ in range(data.draw(st.integers(1, 12))):
            operate(data.draw, state)
            assert same(read(file), state.copy())
            if data.draw(st.integers(0, 9)) == 0:
                state.vacuum()
                assert same(read(file), state.copy())
        expected = state.copy()
        state.close()
        assert same(read(file), expected)
        with open(file, "rb") as stream:
            assert b"\n--- " not in stream.read()
        state = mmapstate.PersistedState(file)
        assert same(state.copy(), expected)
    finally:
        state.close()
        probe.close_all()


def test_every_nasty_text_is_read_by_others_as_value_key_and_item(path):
    state = mmapstate.PersistedState(path)
    state["items"] = []
    expected = {"items": []}
    for text in NASTY_TEXTS:
        state[text] = {text: text}
        state["items"].append(text)
        expected[text] = {text: text}
        expected["items"].append(text)
        assert same(state.copy(), expected)
    assert same(read(path), expected)
    state.vacuum()
    assert same(read(path), expected)
    state.close()
    assert same(mmapstate.PersistedState(path).copy(), expected)


@pytest.mark.parametrize("kind", [list, dict])
def test_a_state_of_a_hundred_levels_is_read_by_others(path, kind):
    state = mmapstate.PersistedState(path)
    state["k"] = nested(98, kind)
    deepest = containers(state)[-1]
    add(deepest, [])
    with pytest.raises(mmapstate.UnsupportedValueError, match="more than 100 containers"):
        add(containers(state)[-1], {})
    expected = state.copy()
    assert len(containers(state)) == 100
    assert same(read(path), expected)
    state.close()
    assert same(mmapstate.PersistedState(path).copy(), expected)


def add(node, value):
    if isinstance(node, mmapstate.StateList):
        node.append(value)
    else:
        node["added"] = value


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (b"", {}),
        (b"\xef\xbb\xbf", {}),
        (b"\xef\xbb\xbfa: 1\n", {"a": 1}),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        (b"# only a comment", {}),
        (b"# only a comment\n", {}),
        (b"a: 1", {"a": 1}),
        (b"a: 1 # note", {"a": 1}),
        (b"a: |\n  x", {"a": "x"}),
        (b"b: 1\na:\n- |+  # c\n  x", {"b": 1, "a": ["x"]}),
        (b"a: |+\n  x\n\n\n", {"a": "x\n\n\n"}),
        (b"a: >\n  x\n  y\n\n# end\n", {"a": "x y\n"}),
        (b"a: 1\r\nb:\r\n- 2\r\n", {"a": 1, "b": [2]}),
        (b"a: 1\r\nb: 2", {"a": 1, "b": 2}),
        (b"a: 1\rb: 2\r", {"a": 1, "b": 2}),
        (b"---\na: 1\n...\n", {"a": 1}),
        (b"%YAML 1.1\n---\na: 1\n", {"a": 1}),
        (b"--- {a: 1,\n  b: [2]}", {"a": 1, "b": [2]}),
        (b"a: 1\n#-- # mmapstate journal 1 00", {"a": 1}),
        (b"a: 1\n#", {"a": 1}),
        (b"{}", {}),
        (b"---\n", {}),
    ],
)
def test_a_file_written_by_hand_is_a_stream_with_every_change_of_a_program_behind_it(path, text, held):
    with open(path, "wb") as stream:
        stream.write(text)
    os.utime(path, (1, 1))
    state = mmapstate.PersistedState(path)
    assert same(state.copy(), held)
    for value in (1, b"x", "\u2028"):
        state["new"] = value
        assert same(read(path), {**held, "new": value})
    state.close()
    assert same(read(path), {**held, "new": "\u2028"})
