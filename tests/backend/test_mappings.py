# ruff: noqa: PT009, PT027 - the classes are of unittest, as those that they extend
"""A live mapping behaves as ``dict`` does: CPython's own tests, and what they leave out.

Where a node differs on purpose, the test is overridden here, and the docstring says why.
"""

import collections
import contextlib
import re
import sys

import pytest
from support import probe
from support.backends import WRITABLE
from support.memory_tree import MemoryTree, records

from mmapstate import StateDict, StateError, UnsupportedValueError

try:
    from test import mapping_tests
except ImportError:  # a Python without its own tests
    mapping_tests = None

needs_cpython_tests = pytest.mark.skipif(mapping_tests is None, reason="this Python comes without the package `test`")


class Fresh:
    """Makes live mappings as ``dict(...)`` makes plain ones: from contents, in the tree of the present test."""

    root = None

    def __new__(cls, *args, **kwargs):
        name = f"mapping {len(Fresh.root)}"
        Fresh.root[name] = dict(*args, **kwargs)
        return Fresh.root[name]


PLAIN = {"a": 1, "b": [1, 2], "c": {"x": 1}}


class Exc(Exception):
    pass


class BadHash:
    def __hash__(self):
        raise Exc


class BadCmp:
    def __eq__(self, other):
        raise Exc

    def __hash__(self):
        return hash("key")


class DictProtocol:
    """CPython's tests, with the deliberate differences."""

    type2test = Fresh

    def _reference(self):
        """A tuple becomes a list: the reference has none."""
        return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}

    def test_fromkeys(self):
        """There is no constructor: a node is part of a state."""
        with self.assertRaises(AttributeError):
            _ = self._empty_mapping().fromkeys
        with self.assertRaises(TypeError):
            StateDict({"a": 1})

    def test_copy(self):
        """A copy is plain data."""
        d = self._full_mapping({1: 1, 2: 2, 3: 3})
        self.assertEqual(d.copy(), {1: 1, 2: 2, 3: 3})
        self.assertIs(type(d.copy()), dict)
        self.assertEqual(self._empty_mapping().copy(), {})
        self.assertRaises(TypeError, d.copy, None)

    def test_getitem(self):
        """Arbitrary objects are refused as keys; what they raise when compared or hashed comes through all the same."""
        mapping_tests.TestMappingProtocol.test_getitem(self)
        d = self._full_mapping({"key": 1})
        self.assertRaises(UnsupportedValueError, d.__setitem__, object(), 42)
        self.assertRaises(Exc, d.__getitem__, BadCmp())
        self.assertRaises(Exc, d.__getitem__, BadHash())
        self.assertRaises(Exc, d.__setitem__, BadHash(), 1)
        self.assertRaises(Exc, d.__delitem__, BadHash())
        self.assertRaises(Exc, d.__contains__, BadCmp())
        self.assertRaises(Exc, d.get, BadHash())
        self.assertEqual(d, {"key": 1})

    def test_pop(self):
        """Arbitrary objects are refused as keys."""
        mapping_tests.TestMappingProtocol.test_pop(self)
        d = self._full_mapping({"key": 1})
        self.assertRaises(Exc, d.pop, BadHash())
        self.assertRaises(Exc, d.pop, BadHash(), None)
        self.assertRaises(Exc, d.pop, BadCmp())
        self.assertEqual(d, {"key": 1})

    def test_setdefault(self):
        """Arbitrary objects are refused as keys."""
        mapping_tests.TestMappingProtocol.test_setdefault(self)
        d = self._full_mapping({"key": 1})
        self.assertRaises(Exc, d.setdefault, BadHash(), [])
        self.assertRaises(UnsupportedValueError, d.setdefault, object(), [])

    def test_mutatingiteration(self):
        """A walk goes over the keys as they were when it began; a change meanwhile neither appears nor raises."""
        d = self._full_mapping({1: 1})
        seen = []
        for i in d:
            seen.append(i)
            d[i + 1] = 1
        self.assertEqual(seen, [1])
        self.assertEqual(d, {1: 1, 2: 1})

    def test_repr(self):
        """The text names the type; a mapping cannot hold itself, only a copy of itself; there are no bad values."""
        d = self._empty_mapping()
        self.assertEqual(repr(d), "StateDict({})")
        d[1] = 2
        self.assertEqual(repr(d), "StateDict({1: 2})")
        self.assertEqual(str(d), "{1: 2}")
        self.assertEqual(f"{d}", "{1: 2}")
        d[1] = d
        self.assertEqual(repr(d), "StateDict({1: {1: 2}})")

    def test_repr_deep(self):
        """A state holds 100 levels, so no text of it recurses too deeply: deeper data is refused."""
        d = {}
        for _ in range(sys.getrecursionlimit() + 1):
            d = {1: d}
        self.assertRaises(UnsupportedValueError, self._full_mapping, d)

    def test_eq(self):
        """Arbitrary objects are refused as keys."""
        self.assertEqual(self._empty_mapping(), self._empty_mapping())
        self.assertEqual(self._full_mapping({1: 2}), self._full_mapping({1: 2}))
        d = self._full_mapping({"key": 1})
        self.assertRaises(Exc, lambda: d == {BadCmp(): 1})
        self.assertRaises(Exc, lambda: {BadCmp(): 1} == d)


OVER = {}

if mapping_tests is not None:
    for name, backend in WRITABLE.items():

        class OverABackend(DictProtocol, mapping_tests.TestHashMappingProtocol):
            backend = staticmethod(backend)

            def setUp(self):
                stack = contextlib.ExitStack()
                self.addCleanup(stack.close)
                Fresh.root = stack.enter_context(self.backend({})).root

            def tearDown(self):
                Fresh.root = None

        OVER[name] = globals()[f"TestOver{name.capitalize()}"] = type(name, (OverABackend,), {})
    del OverABackend


@needs_cpython_tests
@pytest.mark.parametrize("name", WRITABLE)
def test_cpythons_tests_are_there(name):
    """The classes above have what they are for."""
    assert len([test for test in dir(OVER[name]) if test.startswith("test_")]) > 20


@pytest.fixture
def tree(make):
    return make({"d": PLAIN})


@pytest.fixture
def node(tree):
    return tree.root["d"]


def outcome(expression, mapping):
    """What an expression of `d` gives or raises, and what `d` is afterwards."""
    try:
        result = eval(expression, {"collections": collections, "PLAIN": PLAIN}, {"d": mapping})
    except Exception as error:
        message = str(error).replace("StateDict", "dict").replace("StateList", "list").replace(probe.KEYS, "dict_keys")
        result = type(error), message
    return result, list(mapping.items())


EXPRESSIONS = [
    'd["missing"]',
    "d[[]]",
    "d[{}]",
    'd.get("missing")',
    'd.get("missing", 5)',
    "d.get([])",
    "[] in d",
    "d.__setitem__([], 1)",
    'd.__setitem__(bytearray(b"x"), 1)',
    'd.__delitem__("missing")',
    "d.__delitem__([])",
    'd.pop("missing")',
    'd.pop("missing", 5)',
    'd.pop("missing", 5, 6)',
    "d.pop([])",
    'd.pop("a")',
    'd.pop("a", 5)',
    "d.popitem()",
    "(d.popitem(), d.popitem(), d.popitem(), d.popitem())",
    "d.clear()",
    'd.setdefault("a", 9)',
    'd.setdefault("new")',
    'd.setdefault("new", 5)',
    "d.setdefault([], 5)",
    "d.update()",
    'd.update({"z": 1}, a=2)',
    'd.update([("z", 1), ("a", 2), ("z", 3)])',
    'd.update(iter([["z", 1]]))',
    'd.update(["xy", "zw"])',
    "d.update(self=1, other=2, key=3)",
    'd.update({"a": 2}.items(), b=3)',
    "d.update(None)",
    "d.update(5)",
    "d.update([1])",
    "d.update(collections.UserDict(u=1))",
    "d.update(d)",
    "list(reversed(d))",
    "list(reversed(d.keys()))",
    "list(reversed(d.items()))",
    "list(reversed(d.values()))",
    "list(d)",
    "dict(d)",
    "{**d}",
    "dict(d, a=5)",
    "len(d)",
    "bool(d)",
    'd | {"a": 5, "y": 6}',
    '{"a": 5, "y": 6} | d',
    "d | d",
    'd.__or__([("a", 5)])',
    "d.__ror__(5)",
    "d == PLAIN",
    "PLAIN == d",
    "d != PLAIN",
    "d == collections.OrderedDict(reversed(PLAIN.items()))",
    'd == {"a": 1}',
    "d == []",
    "d == 5",
    "d.__eq__(5)",
    'd.__eq__([("a", 1)])',
    'd.keys() == {"a", "b", "c"}',
    '{"a", "b", "c"} == d.keys()',
    "d.keys() == PLAIN.keys()",
    "PLAIN.keys() == d.keys()",
    'd.keys() & {"a", "z"}',
    'd.keys() & ["a", "z"]',
    '["a", "z"] & d.keys()',
    'd.keys() | {"z"}',
    'd.keys() - {"a"}',
    '{"a", "z"} - d.keys()',
    'd.keys() ^ {"a", "z"}',
    'd.keys() <= {"a", "b", "c", "z"}',
    'd.keys() > {"a"}',
    'd.keys() <= ["a"]',
    'd.keys().isdisjoint(["z"])',
    "d.keys() - d.keys()",
    'd.items() & {("a", 1), ("a", 2)}',
    'd.items() >= {("a", 1)}',
    'd.items() - {("z", 1)}',
    '("a", 1) in d.items()',
    '("a", 2) in d.items()',
    '("c", {"x": 1}) in d.items()',
    '["a", 1] in d.items()',
    '("a", 1, 2) in d.items()',
    "5 in d.items()",
    '("z", 1) in d.items()',
    "d.items() == PLAIN.items()",
    "PLAIN.items() == d.items()",
    '{"x": 1} in d.values()',
    "2 in d.values()",
    "d.values() == d.values()",
    "len(d.values())",
    'd.keys().mapping["a"]',
    "d.keys().mapping.__setitem__",
    "hash(d)",
    "hash(d.keys())",
    "{d}",
    "d < {}",
    "d <= d",
    "d + d",
    "sorted(d.values(), key=str)",
    "sorted(d.items())",
    "repr(d.keys())",
    '"{a} {c[x]}".format_map(d)',
    "[*d]",
    "max(d)",
    "list(zip(d, d.values(), strict=True))",
    "next(iter(d.items()))",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_as_dict_does(expression, node):
    """What dict returns and raises, and what it is afterwards, the same of a node: types, messages, order."""
    assert outcome(expression, node) == outcome(expression, {"a": 1, "b": [1, 2], "c": {"x": 1}})


@pytest.mark.parametrize(
    "pairs", [[("a", 2), (1, 2, 3)], [("a", 2), ([], 3)], [("a", 2), ("b", object())], [("a", 2), 5]]
)
def test_an_update_that_fails_changes_nothing(pairs, tree, node):
    """A dict is left half-way there; a node raises the same, or that the value cannot be stored."""
    with records(tree, 0), pytest.raises((TypeError, ValueError)):
        node.update(pairs)
    assert node == PLAIN


def test_or_assigns_pairs_mappings_and_nodes_as_one_record(tree, node):
    """``|=`` takes what ``dict.__ior__`` takes."""
    kept = node
    with records(tree, 1):
        node |= [("y", 1), ("z", 2)]
    with records(tree, 1):
        node |= {"y": 3}
    with records(tree, 1):
        node |= tree.root["d"]["c"]
    assert node is kept
    assert node == {**PLAIN, "y": 3, "z": 2, "x": 1}
    with pytest.raises(TypeError):
        node |= 5
    plain = {"a": 0}
    plain |= node
    assert plain == node


def test_what_is_built_from_the_entries_is_plain_outside_and_live_inside(tree, node):
    """``dict(node)``, ``{**node}`` and ``|`` are shallow, as with a dict; ``copy`` is deep."""
    for built in (dict(node), {**node}, node | {}, {} | node):
        assert type(built) is dict
        assert built["c"] is node["c"]
    assert type(node.copy()["c"]) is dict
    assert type(node.pop("c")) is dict
    assert type(node.popitem()[1]) is list


def test_keys_of_other_types_are_found_removed_and_overwritten_as_in_dict(tree, node):
    """A key that equals one that is there is that one, whatever its type; the record has what can be stored."""
    from decimal import Decimal
    from fractions import Fraction

    class Name(str):
        __slots__ = ()

    node.update({1: "one", 2: "two", 3.5: "x"})
    assert node[Decimal(1)] == node[True] == node[1.0] == "one"
    node[True] = "yes"
    assert list(node)[-3:] == [1, 2, 3.5]
    assert type(list(node)[-3]) is int
    with records(tree, 1):
        del node[Decimal(1)]
    with records(tree, 1):
        assert node.pop(Fraction(7, 2)) == "x"
    with records(tree, 1):
        assert node.pop(2.0) == "two"
    with records(tree, 1):
        del node[Name("a")]
    with records(tree, 1):
        node[Name("n")] = 1
    assert type(list(node)[-1]) is str
    with pytest.raises(KeyError), records(tree, 0):
        del node[Decimal(9)]
    with pytest.raises(KeyError), records(tree, 0):
        del node[()]


@pytest.mark.parametrize(
    "key", [(1, 2), float("nan"), frozenset(), object(), "\ud800", "x" * 2000], ids=lambda key: type(key).__name__
)
def test_a_key_that_cannot_be_stored_is_refused_with_file_and_place(key, tree, node):
    """Nothing changes, and the error tells where."""
    for write in (
        lambda: node.__setitem__(key, 1),
        lambda: node.setdefault(key, 1),
        lambda: node.update({"a": 5, key: 1}),
        lambda: node.update([("a", 5), (key, 1)]),
        lambda: node.__setitem__("a", {key: 1}),
    ):
        with records(tree, 0), pytest.raises(UnsupportedValueError, match=rf"^{re.escape(tree.file)}: \['d'\]"):
            write()
    assert node == PLAIN


def test_update_with_a_node_reads_it_in_one_look():
    """Between the keys and the values of another node nobody else comes."""
    tree = MemoryTree({"d": PLAIN})
    reads = []
    steady = tree.steady
    tree.steady = lambda read, *args: (reads.append(read), steady(read, *args))[1]
    tree.root.update(tree.root["d"])
    assert reads.count(dict) == 1
    assert tree.root["a"] == 1


def test_a_mapping_of_another_state_is_copied(tree, node):
    """Its nodes belong to it."""
    other = MemoryTree({"m": {"n": {"o": 1}}})
    with records(tree, 1):
        node["a"] = other.root["m"]
    with records(tree, 1):
        node.update(other.root)
    assert node["m"] == node["a"] == {"n": {"o": 1}}
    other.root["m"]["n"]["o"] = 2
    assert node["m"]["n"]["o"] == node["a"]["n"]["o"] == 1


def test_matching_of_patterns(node):
    """``match`` takes a node for a mapping."""
    match node:
        case {"a": 1, "c": {"x": x}, "b": [first, *rest], **others}:
            assert (x, first, rest, others) == (1, 1, [2], {})
        case _:
            pytest.fail("no match")
    match node:
        case {"missing": _}:
            pytest.fail("matches what is not there")
        case [*_]:
            pytest.fail("a mapping is no sequence")
        case {}:
            pass


def test_views_are_live_and_walks_are_not(tree, node):
    """A view shows what is there when it is asked; an iterator what was there when it began."""
    keys, values, items = node.keys(), node.values(), node.items()
    walk = iter(items)
    next(walk)
    node["z"] = 26
    del node["b"]
    assert list(keys) == ["a", "c", "z"]
    assert list(values) == [1, {"x": 1}, 26]
    assert len(items) == 3
    assert [key for key, _ in walk] == ["b", "c"]
    assert list(values)[1] is node["c"]
    assert isinstance(keys, collections.abc.KeysView)
    assert isinstance(keys, collections.abc.Set)
    assert isinstance(values, collections.abc.ValuesView)
    assert isinstance(items, collections.abc.ItemsView)
    with pytest.raises(TypeError, match="does not support item assignment"):
        keys.mapping["a"] = 2


def test_a_write_inside_a_write_is_an_error(tree, node):
    with pytest.raises(StateError):
        tree.write(node.clear)
