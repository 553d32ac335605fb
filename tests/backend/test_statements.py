"""What each statement is: one record or none, what stays live, what is copied, what is refused; over each backend."""

import collections.abc
import copy
import json
import math
import pickle
import re
from datetime import date, datetime

import pytest
import yaml
from support import probe
from support.memory_tree import records, records_of

import mmapstate
from mmapstate import DetachedError, StateDict, UnsupportedValueError
from mmapstate.live.node import hint
from mmapstate.values import same


@pytest.fixture
def tree(make):
    return make(
        {
            "hosts": [{"port": 1}, {"port": 2}, {"port": 3}, {"port": 4}],
            "deep": {"er": {"est": [0]}},
            "n": 1,
            "s": [3, 1, 2],
        }
    )


class TestRecords:
    """Every writing method is one record, or none where nothing changes."""

    @pytest.mark.parametrize(
        ("statement", "record"),
        [
            ("root['n'] = 5", [("set", [], "n", 5)]),
            ("root['deep']['er']['x'] = {'y': ()}", [("set", ["deep", "er"], "x", {"y": []})]),
            ("del root['n']", [("delete", [], "n")]),
            ("root.pop('hosts')", [("delete", [], "hosts")]),
            ("root.popitem()", [("delete", [], "s")]),
            ("root.setdefault('m', [])", [("set", [], "m", [])]),
            ("root.update(a=1, n=2)", [("set", [], "a", 1), ("set", [], "n", 2)]),
            ("root['deep'].clear()", [("delete", ["deep"], "er")]),
            ("hosts[2]['port'] = 9", [("set", ["hosts", 2], "port", 9)]),
            ("hosts[-1] = 9", [("set", ["hosts"], 3, 9)]),
            ("del hosts[-1]", [("delete", ["hosts"], 3)]),
            ("hosts.pop()", [("delete", ["hosts"], 3)]),
            ("hosts.pop(0)", [("delete", ["hosts"], 0)]),
            ("hosts.remove({'port': 3})", [("delete", ["hosts"], 2)]),
            ("hosts.append(9)", [("insert", ["hosts"], 4, 9)]),
            ("hosts.insert(-1, 9)", [("insert", ["hosts"], 3, 9)]),
            ("hosts.insert(-99, 9)", [("insert", ["hosts"], 0, 9)]),
            ("hosts.insert(99, 9)", [("insert", ["hosts"], 4, 9)]),
            ("hosts.extend([8, 9])", [("splice", ["hosts"], 4, 4, [8, 9])]),
            ("hosts += (9,)", [("splice", ["hosts"], 4, 4, [9])]),
            ("root['hosts'] += (9,)", [("splice", ["hosts"], 4, 4, [9])]),
            ("hosts.clear()", [("splice", ["hosts"], 0, 4, [])]),
            ("hosts *= 0", [("splice", ["hosts"], 0, 4, [])]),
            ("del hosts[1:3]", [("splice", ["hosts"], 1, 3, [])]),
            ("del hosts[::2]", [("delete", ["hosts"], 2), ("delete", ["hosts"], 0)]),
            ("hosts[1:3] = [9]", [("splice", ["hosts"], 1, 3, [9])]),
            ("hosts[::3] = 'xy'", [("set", ["hosts"], 0, "x"), ("set", ["hosts"], 3, "y")]),
            ("hosts[:] = hosts[:3]", [("splice", ["hosts"], 3, 4, [])]),
            ("hosts[:] = hosts[1:]", [("splice", ["hosts"], 0, 1, [])]),
            ("hosts[:] = [*hosts, 9]", [("splice", ["hosts"], 4, 4, [9])]),
            ("root['s'].sort()", [("splice", ["s"], 0, 3, [1, 2, 3])]),
            ("root['s'].reverse()", [("splice", ["s"], 0, 3, [2, 1, 3])]),
            ("hosts[:2] = hosts[1::-1]", [("splice", ["hosts"], 0, 2, [{"port": 2}, {"port": 1}])]),
        ],
    )
    def test_one_statement_is_one_record(self, statement, record, tree):
        """With indexes as they are in the list, never negative."""
        with records(tree, 1):
            exec(statement, {"root": tree.root, "hosts": tree.root["hosts"]})
        assert tree.records == [record]

    @pytest.mark.parametrize(
        "statement",
        [
            "root.setdefault('n', 5)",
            "root.setdefault('n', object())",
            "root.pop('missing', None)",
            "root.update()",
            "root.update({})",
            "root |= {}",
            "root['deep'] = root['deep']",
            "root['hosts'] = root['hosts']",
            "root.update(root['deep'] and {'deep': root['deep'], 'hosts': root['hosts']})",
            "root['deep'] |= {}",
            "root['hosts'] += []",
            "root['hosts'] *= 1",
            "hosts[0] = hosts[0]",
            "hosts[-1] = hosts[-1]",
            "hosts[:] = hosts",
            "hosts[:] = list(hosts)",
            "hosts[1:3] = hosts[1:3]",
            "hosts[::2] = hosts[::2]",
            "hosts[::-1] = hosts[::-1]",
            "hosts.extend([])",
            "hosts[2:2] = []",
            "del hosts[9:]",
            "del hosts[3:1]",
            "del hosts[9::2]",
            "hosts[4::2] = []",
            "hosts.sort(key=lambda host: host['port'])",
            "hosts[:1].reverse()",
            "root['deep']['er']['est'].reverse()",
            "(root.setdefault('empty', {}), log.clear(), root['empty'].clear())",
            "(root.setdefault('empty', []), log.clear(), root['empty'].clear())",
        ],
    )
    def test_what_changes_nothing_writes_nothing(self, statement, tree):
        """A node assigned to its own place above all: that is how ``state.queue += [x]`` ends."""
        before = list(tree.root["hosts"])
        exec(statement, {"root": tree.root, "hosts": tree.root["hosts"], "log": tree.records})
        assert tree.records == []
        assert all(map(lambda one, other: one is other, tree.root["hosts"], before))

    @pytest.mark.parametrize(
        "statement",
        [
            "del root['missing']",
            "root.pop('missing')",
            "hosts[9] = 1",
            "hosts[-9] = 1",
            "hosts[9] = hosts[0]",
            "del hosts[9]",
            "hosts.pop(9)",
            "hosts.remove(9)",
            "hosts.sort()",
            "hosts.sort(key=lambda host: 1 / 0)",
            "hosts[::2] = [1]",
            "hosts[::0] = [1]",
            "hosts.extend(1 / (3 - i) for i in range(5))",
            "root.update((i, 1 / (3 - i)) for i in range(5))",
            "root['deep']['er']['est'].pop(1)",
            "root.update(None)",
        ],
    )
    def test_what_raises_writes_nothing(self, statement, tree):
        """And leaves all as it was."""
        before = tree.root.copy()
        with records(tree, 0), pytest.raises((LookupError, TypeError, ValueError, ZeroDivisionError)):
            exec(statement, {"root": tree.root, "hosts": tree.root["hosts"]})
        assert tree.root == before


class TestMoved:
    """A container that only moves stays live, and a write through it goes to where it is now."""

    @pytest.mark.parametrize(
        "move",
        [
            "l.insert(0, 'new')",
            "l.insert(3, 'new')",
            "del l[0]",
            "l.pop(0)",
            "del l[:3]",
            "del l[0:6:2]",
            "l.reverse()",
            "l.sort(key=lambda item: (item['n'] * 7) % 10)",
            "l.sort(key=lambda item: item['n'], reverse=True)",
            "l[0:0] = [{'n': -1}, {'n': -2}]",
            "l[:] = [item for item in l if item['n'] % 3]",
            "l[:] = sorted(l, key=lambda item: -item['n'])",
            "l[2:8] = l[7:1:-1]",
            "l.extend([{'n': 5}])",
            "l *= 2",
            "l += l",
            "l[5] = {'n': 5}",
            "(l.reverse(), l.insert(0, 1), l.pop(), l.insert(5, l[3]))",
        ],
    )
    def test_in_a_list(self, move, tree):
        """As with a list of dicts."""
        tree.root["l"] = [{"n": n} for n in range(10)]
        node = tree.root["l"]
        plain = [{"n": n} for n in range(10)]
        held, plain_held = list(node), list(plain)
        exec(move, {"l": node})
        exec(move.replace("l[3]", "dict(l[3])").replace("l += l", "l += [*map(dict, l)]"), {"l": plain})
        if move == "l *= 2":
            plain = [dict(item) if index >= 10 else item for index, item in enumerate(plain)]
        assert node == plain
        for number, (item, plain_item) in enumerate(zip(held, plain_held, strict=True)):
            if any(plain_item is other for other in plain):
                assert any(item is other for other in node)
                with records(tree, 1):
                    item["seen"] = number
                plain_item["seen"] = number
                assert node == plain
            else:
                with pytest.raises(DetachedError):
                    item["seen"] = number

    def test_what_comes_in_is_told_its_index(self, tree):
        """However it comes: no write has to look for it first."""
        hosts = tree.root["hosts"]
        hosts.append({})
        hosts.insert(5, {})
        hosts.extend([{}, {}])
        hosts[2:2] = []
        hosts[8:] = [{}, {}]
        hosts[3] = {}
        hosts[::9] = [{}, {}]
        assert [probe.hint(host) for host in hosts] == list(range(10))

    def test_a_hint_may_point_anywhere(self, tree):
        """Before the list, behind it, or to an item that is no container."""
        hosts = tree.root["hosts"]
        for wrong in (-1, -5, 4, 10**6, 0, 3):
            hint(hosts[1], wrong)
            with records_of(tree, [("set", ["hosts", 1], "port", wrong)]):
                hosts[1]["port"] = wrong

    def test_a_detached_container_can_be_put_back(self, tree):
        """It is copied then, and stays detached."""
        node = tree.root["deep"]
        del tree.root["deep"]
        tree.root["again"] = node
        assert tree.root["again"] == {"er": {"est": [0]}}
        with pytest.raises(DetachedError):
            node["er"] = 1

    def test_swapping_items_copies(self, tree):
        """Two statements of their own; the contents are right."""
        hosts = tree.root["hosts"]
        with records(tree, 2):
            hosts[0], hosts[3] = hosts[3], hosts[0]
        assert hosts == [{"port": 4}, {"port": 2}, {"port": 3}, {"port": 1}]

    def test_an_item_given_twice_is_moved_once_and_copied_once(self, tree):
        """One place, one node."""
        hosts = tree.root["hosts"]
        first = hosts[0]
        hosts[1:] = [hosts[1], first, hosts[1]]
        assert hosts == [{"port": 1}, {"port": 2}, {"port": 1}, {"port": 2}]
        assert hosts[0] is first
        hosts[:] = [hosts[1], hosts[1], hosts[3], hosts[2]]
        assert hosts == [{"port": 2}, {"port": 2}, {"port": 2}, {"port": 1}]
        assert len({id(host) for host in hosts}) == 4
        tree.check()


class TestCopiedIn:
    """A value is copied when it is stored."""

    def test_changing_the_original_changes_nothing(self, tree):
        """However it came in."""
        value = {"list": [1], "dict": {"a": 1}}
        root, hosts = tree.root, tree.root["hosts"]
        root["a"] = value
        root.update(b=value)
        root.setdefault("c", value)
        root |= {"d": value}
        hosts.append(value)
        hosts.insert(0, value)
        hosts.extend([value])
        hosts[1] = value
        hosts[2:3] = [value]
        hosts += [value]
        before = root.copy()
        value["list"].append(2)
        value["dict"].clear()
        assert root == before
        assert root["a"]["list"] is not root["b"]["list"]

    def test_a_node_assigned_elsewhere_is_copied(self, tree):
        """Both are live then, and know nothing of each other."""
        root = tree.root
        root["other"] = root["deep"]
        root["hosts"].append(root["deep"])
        root["hosts"][0] = root["hosts"][1]
        root["inside"] = [root["deep"], {"d": root["deep"]}]
        root["deep"]["er"]["est"].append(1)
        assert root["other"] == root["hosts"][-1] == root["inside"][0] == root["inside"][1]["d"] == {"er": {"est": [0]}}
        root["hosts"][0]["port"] = 22
        assert root["hosts"][1] == {"port": 2}

    def test_a_state_can_hold_a_copy_of_itself(self, tree):
        """And a container one of itself."""
        before = tree.root.copy()
        with records(tree, 1):
            tree.root["a"] = tree.root
        assert tree.root == {**before, "a": before}
        with records(tree, 1):
            tree.root["deep"]["er"]["self"] = tree.root["deep"]
        assert tree.root["deep"] == {"er": {"est": [0], "self": {"er": {"est": [0]}}}}
        with records(tree, 1):
            tree.root.update(tree.root["a"], b=tree.root)

    def test_what_is_read_from_pop_and_popitem_is_plain(self, tree):
        """It is no part of the state any more."""
        assert type(tree.root["hosts"].pop()) is dict
        assert type(tree.root.pop("hosts")) is list
        assert type(tree.root.pop("missing", tree.root["deep"])) is StateDict
        key, value = tree.root.popitem()
        assert (key, type(value)) == ("s", list)


class TestRefused:
    """A value that cannot be stored: nothing changes, and the error names file and place."""

    @pytest.mark.parametrize(
        ("statement", "place"),
        [
            ("root['x'] = bad", "['x']"),
            ("root['x'] = {'y': [0, bad]}", "['x']['y'][1]"),
            ("root['deep']['er']['x'] = bad", "['deep']['er']['x']"),
            ("root.update(a=1, x=bad)", "['x']"),
            ("root['deep'].update([('a', 1), ('x', [bad])])", "['deep']['x'][0]"),
            ("root['deep'] |= {'x': bad}", "['deep']['x']"),
            ("root.setdefault('x', bad)", "['x']"),
            ("hosts[3] = {'port': bad}", "['hosts'][3]['port']"),
            ("hosts[-1] = bad", "['hosts'][-1]"),
            ("hosts[3]['port'] = bad", "['hosts'][3]['port']"),
            ("hosts.append({'a': bad})", "['hosts'][4]['a']"),
            ("hosts.insert(1, bad)", "['hosts'][1]"),
            ("hosts.extend([1, [bad]])", "['hosts'][5][0]"),
            ("hosts += [1, bad]", "['hosts'][5]"),
            ("hosts[1:3] = [1, bad]", "['hosts'][2]"),
            ("hosts[::2] = [1, bad]", "['hosts'][2]"),
            ("hosts[::-1] = [1, bad, 3, 4]", "['hosts'][2]"),
        ],
    )
    def test_with_file_and_place(self, statement, place, tree):
        """From the root of the state, with the way out."""
        before = tree.root.copy()
        with records(tree, 0), pytest.raises(UnsupportedValueError) as raised:
            exec(statement, {"root": tree.root, "hosts": tree.root["hosts"], "bad": {1, 2}})
        assert str(raised.value) == f"{tree.file}: {place}: set cannot be stored; store sorted(...) of it"
        assert isinstance(raised.value, TypeError)
        assert tree.root == before

    def test_after_a_move_the_place_is_the_present_one(self, tree):
        """Not that of the hint."""
        host = tree.root["hosts"][0]
        tree.root["hosts"].insert(0, 1)
        with pytest.raises(UnsupportedValueError, match=r"\['hosts'\]\[1\]\['port'\]"):
            host["port"] = object()

    def test_levels_are_counted_from_the_root(self, tree):
        """A hundred, the state itself included; copies of nodes count, too."""
        node = tree.root
        for _ in range(98):
            node["d"] = {}
            node = node["d"]
        node["l"] = []
        with records(tree, 0), pytest.raises(UnsupportedValueError, match="more than 100"):
            node["l"].append([])
        with records(tree, 0), pytest.raises(UnsupportedValueError, match="more than 100"):
            node["l"] = {"a": []}
        with records(tree, 0), pytest.raises(UnsupportedValueError, match="more than 100"):
            tree.root["d"]["copy"] = tree.root["d"]
        with records(tree, 0), pytest.raises(UnsupportedValueError, match="more than 100"):
            tree.root["d"].update(copy=tree.root["d"])
        with records(tree, 0), pytest.raises(UnsupportedValueError, match="more than 100"):
            tree.root["hosts"][:1] = [tree.root["d"]]
        with records(tree, 1):
            node["l"].append(1)
        copy.deepcopy(tree.root)
        repr(tree.root)

    def test_a_cycle(self, tree):
        """A state holds trees only."""
        value = [1]
        value.append({"again": value})
        with records(tree, 0), pytest.raises(UnsupportedValueError, match="inside itself"):
            tree.root["a"] = value

    def test_through_a_detached_container_the_place_is_told_from_there(self, tree):
        """There is no path to it any more."""
        deep = tree.root["deep"]
        del tree.root["deep"]
        with pytest.raises(UnsupportedValueError, match=rf"^{re.escape(tree.file)}: \['x'\]: set"):
            deep["x"] = set()


class TestPlain:
    """Copies are plain data, whoever makes them."""

    EXPECTED = {
        "hosts": [{"port": 1}, {"port": 2}, {"port": 3}, {"port": 4}],
        "deep": {"er": {"est": [0]}},
        "n": 1,
        "s": [3, 1, 2],
    }

    @pytest.mark.parametrize(
        "copied",
        [
            lambda node: node.copy(),
            copy.copy,
            copy.deepcopy,
            mmapstate.plain,
            *(lambda node, protocol=protocol: pickle.loads(pickle.dumps(node, protocol)) for protocol in range(6)),
            lambda node: json.loads(json.dumps(node, default=mmapstate.plain)),
            lambda node: yaml.safe_load(yaml.safe_dump(node, sort_keys=False)),
            lambda node: yaml.safe_load(yaml.dump(node, sort_keys=False)),
            lambda node: yaml.safe_load(yaml.dump(node, sort_keys=False, Dumper=yaml.Dumper)),
            lambda node: yaml.safe_load(yaml.dump({"x": [node]}, sort_keys=False, Dumper=yaml.SafeDumper))["x"][0],
            lambda node: yaml.safe_load(
                yaml.dump(node, sort_keys=False, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
            ),
            lambda node: yaml.safe_load(yaml.dump(node, sort_keys=False, Dumper=getattr(yaml, "CDumper", yaml.Dumper))),
            lambda node: eval(str(node)),
        ],
    )
    def test_deep_plain_and_equal(self, copied, tree):
        """Of both kinds; changing the copy changes nothing."""
        for node, expected in ((tree.root, self.EXPECTED), (tree.root["hosts"], self.EXPECTED["hosts"])):
            made = copied(node)
            assert same(made, expected)
        made.append(1)
        made[0]["port"] = "changed"
        tree.check()
        assert tree.records == []

    def test_a_pickle_needs_no_mmapstate(self, tree):
        """Whoever reads it gets dict and list."""
        assert b"mmapstate" not in pickle.dumps([tree.root, tree.root["hosts"]])

    def test_a_copy_of_a_container_around_a_node_is_plain_too(self, tree):
        """As ``multiprocessing`` sends it."""
        assert type(pickle.loads(pickle.dumps({"a": tree.root["deep"]}))["a"]) is dict
        assert type(copy.deepcopy([tree.root["hosts"]])[0]) is list


class TestObjects:
    """Nodes as objects: types, attributes."""

    def test_abstract_base_classes(self, tree):
        """They are mappings and sequences; not dicts and lists, whose storage C code would read behind our back."""
        mapping, sequence = tree.root, tree.root["hosts"]
        assert isinstance(mapping, collections.abc.MutableMapping)
        assert isinstance(sequence, collections.abc.MutableSequence)
        assert not isinstance(mapping, dict)
        assert not isinstance(sequence, list)
        for node in (mapping, sequence):
            assert isinstance(node, collections.abc.Collection)
            assert isinstance(node, collections.abc.Reversible)
            assert not isinstance(node, collections.abc.Hashable)
            assert not hasattr(node, "__dict__")

    @pytest.mark.parametrize("use", ["node.port", "node.port = 1", "del node.port"])
    def test_an_attribute_is_an_error_that_says_what_to_write(self, use, tree):
        """A typo must not be lost."""
        with pytest.raises(AttributeError, match=r'"port"\]') as raised:
            exec(use, {"node": tree.root["deep"]})
        assert raised.value.name == "port"
        with pytest.raises(AttributeError, match=r"\[0\]"):
            exec(use, {"node": tree.root["hosts"]})
        assert tree.records == []

    def test_methods_cannot_be_overwritten(self, tree):
        """Nor the slots."""
        for name in (*probe.NAMES_OF_A_NODE, "items", "__class__"):
            with pytest.raises(AttributeError):
                setattr(tree.root, name, 1)
            with pytest.raises(AttributeError):
                delattr(tree.root, name)

    def test_dir_and_the_methods_of_dict_and_list(self, tree):
        """All that these have, but for the constructors."""
        assert {name for name in dir(dict) if not name.startswith("_")} - set(dir(tree.root)) == {"fromkeys"}
        assert {name for name in dir(list) if not name.startswith("_")} <= set(dir(tree.root["hosts"]))
        own = {"plain", "increment"}
        assert {name for name in dir(tree.root) if not name.startswith("_")} - set(dir(dict)) <= own
        assert {name for name in dir(tree.root["hosts"]) if not name.startswith("_")} - set(dir(list)) <= own

    def test_unhashable(self, tree):
        """As dict and list are."""
        for node in (tree.root, tree.root["hosts"]):
            with pytest.raises(TypeError, match="unhashable type: 'State"):
                hash(node)


def test_the_types_of_what_is_stored_stay(tree):
    """Through memory, record and both followers."""
    values = [None, True, 1, 1.5, -0.0, math.inf, "x", b"y", date(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5, 6), [], {}]
    with records(tree, 1):
        tree.root["v"] = values
    assert same(tree.root["v"].copy(), values)
