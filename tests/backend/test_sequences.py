# ruff: noqa: PT009, PT027 - the classes are of unittest, as those that they extend
"""A live sequence behaves as ``list`` does: CPython's own tests, and what they leave out.

Where a node differs on purpose, the test is overridden here, and the docstring says why.
"""

import collections
import contextlib
import sys
from functools import cmp_to_key

import pytest
from support.backends import WRITABLE
from support.memory_tree import records

from mmapstate import StateError, StateList, UnsupportedValueError

try:
    from test import list_tests, seq_tests
    from test.support import ALWAYS_EQ, NEVER_EQ
except ImportError:  # a Python without its own tests
    list_tests = seq_tests = None

needs_cpython_tests = pytest.mark.skipif(list_tests is None, reason="this Python comes without the package `test`")


class Fresh:
    """Makes live sequences as ``list(...)`` makes plain ones: from contents, in the tree of the present test."""

    root = None

    def __new__(cls, *args, **kwargs):
        name = f"sequence {len(Fresh.root)}"
        Fresh.root[name] = list(*args, **kwargs)
        return Fresh.root[name]


PLAIN = [3, 1, 2, 1, [5], {"a": 6}]


class Exc(Exception):
    pass


class BadCmp:
    """Fails when it is compared with 2."""

    def __eq__(self, other):
        if other == 2:
            raise Exc
        return False

    __hash__ = None


class ListProtocol:
    """CPython's tests, with the deliberate differences."""

    type2test = Fresh

    def test_init(self):
        """There is no constructor: a node is part of a state."""
        a = self.type2test([1, 2, 3])
        self.assertRaises(TypeError, a.__init__)
        self.assertRaises(TypeError, a.__init__, [4, 5, 6])
        self.assertRaises(TypeError, StateList, [1, 2, 3])
        self.assertEqual(a, [1, 2, 3])
        self.assertIsNot(self.type2test(a), a)

    def test_repr(self):
        """The text names the type; a sequence cannot hold itself, only a copy of itself."""
        a = self.type2test([0, 1, 2])
        self.assertEqual(str(self.type2test()), "[]")
        self.assertEqual(str(a), "[0, 1, 2]")
        self.assertEqual(repr(a), "StateList([0, 1, 2])")
        a.append(a)
        a.append(3)
        self.assertEqual(repr(a), "StateList([0, 1, 2, [0, 1, 2], 3])")

    def test_repr_deep(self):
        """A state holds 100 levels, so no text of it recurses too deeply: deeper data is refused."""
        a = []
        for _ in range(sys.getrecursionlimit() + 1):
            a = [a]
        self.assertRaises(UnsupportedValueError, self.type2test, a)

    def test_contains_fake(self):
        """Arbitrary objects are refused as items; they are compared with items all the same."""
        self.assertNotIn(ALWAYS_EQ, self.type2test([]))
        self.assertIn(ALWAYS_EQ, self.type2test([1]))
        self.assertIn(ALWAYS_EQ, self.type2test([[1]]))
        self.assertNotIn(NEVER_EQ, self.type2test([1, []]))

    def test_contains_order(self):
        """Arbitrary objects are refused as items; items are compared in their order, up to the first that is equal."""
        self.assertRaises(Exc, self.type2test([1, 2, 3]).__contains__, BadCmp())
        self.assertIn(ALWAYS_EQ, self.type2test([1, 2, 3]))
        compared = []

        class Noted:
            def __eq__(self, other):
                compared.append(other)
                return other == 2

            __hash__ = None

        self.assertIn(Noted(), self.type2test([1, 2, 3]))
        self.assertEqual(compared, [1, 2])

    def test_count(self):
        """Arbitrary objects are refused as items."""
        a = self.type2test([0, 1, 2] * 3)
        self.assertEqual([a.count(0), a.count(1), a.count(3)], [3, 3, 0])
        self.assertEqual(a.count(ALWAYS_EQ), 9)
        self.assertEqual(a.count(NEVER_EQ), 0)
        self.assertEqual(self.type2test([[1], [1], {}]).count([1]), 2)
        self.assertRaises(TypeError, a.count)
        self.assertRaises(Exc, a.count, BadCmp())

    def test_index(self):
        """Arbitrary objects are refused as items, so none can change the list while it is compared."""
        a = self.type2test([-2, -1, 0, 0, 1, 2])
        self.assertEqual(a.index(-2), 0)
        self.assertEqual(a.index(0), 2)
        self.assertEqual(a.index(0, 2), 2)
        self.assertEqual(a.index(0, -4), 2)
        self.assertEqual(a.index(-2, -10), 0)
        self.assertEqual(a.index(0, 3), 3)
        self.assertEqual(a.index(0, -3), 3)
        self.assertEqual(a.index(0, 3, 4), 3)
        self.assertEqual(a.index(0, -3, -2), 3)
        self.assertEqual(a.index(0, -4 * sys.maxsize, 4 * sys.maxsize), 2)
        self.assertEqual(a.index(ALWAYS_EQ), 0)
        self.assertRaises(ValueError, a.index, NEVER_EQ)
        self.assertRaises(ValueError, a.index, 0, 4 * sys.maxsize, -4 * sys.maxsize)
        self.assertRaises(ValueError, a.index, 2, 0, -10)
        self.assertRaises(Exc, a.index, BadCmp())
        self.assertRaises(TypeError, a.index)
        self.assertRaises(TypeError, a.index, 0, None)
        a.remove(0)
        self.assertRaises(ValueError, a.index, 2, 0, 4)

    def test_remove(self):
        """Arbitrary objects are refused as items."""
        a = self.type2test([0, 0, 1])
        a.remove(1)
        a.remove(0)
        self.assertEqual(a, [0])
        a.remove(0)
        self.assertEqual(a, [])
        self.assertRaises(ValueError, a.remove, 0)
        self.assertRaises(TypeError, a.remove)
        a = self.type2test([1, 2])
        self.assertRaises(ValueError, a.remove, NEVER_EQ)
        self.assertEqual(a, [1, 2])
        a.remove(ALWAYS_EQ)
        self.assertEqual(a, [2])
        a = self.type2test([0, 1, 2, 3])
        self.assertRaises(Exc, a.remove, BadCmp())
        self.assertEqual(a, [0, 1, 2, 3])
        d = self.type2test("abcdefghcij")
        d.remove("c")
        self.assertEqual(d, list("abdefghcij"))

    def test_copy(self):
        """A copy is plain data, and deep."""
        u = self.type2test([1, 2, [3, 4], 5])
        v = u.copy()
        self.assertEqual(u, v)
        self.assertIs(type(v), list)
        self.assertIs(type(v[2]), list)
        v[2].append("i")
        self.assertEqual(u, [1, 2, [3, 4], 5])
        self.assertRaises(TypeError, u.copy, None)

    def test_sort(self):
        """A key or a comparison that changes the list gets the `StateError` of a write inside a write."""
        u = self.type2test([2, 1, 0, -1, -2])
        u.sort()
        self.assertEqual(u, [-2, -1, 0, 1, 2])
        self.assertRaises(TypeError, u.sort, 42)
        self.assertRaises(TypeError, u.sort, 42, 42)
        u.sort(key=cmp_to_key(lambda a, b: b - a))
        self.assertEqual(u, [2, 1, 0, -1, -2])
        z = self.type2test(range(12))
        z.sort(key=cmp_to_key(lambda x, y: (x % 3 > y % 7) - (x % 3 < y % 7)))
        before = z.copy()

        def changing(x, y):
            z.append(1)
            return 0

        self.assertRaises(StateError, z.sort, key=cmp_to_key(changing))
        self.assertEqual(z, before)

    def test_exhausted_iterator(self):
        """A walk goes over the items as they were when it began."""
        a = self.type2test([1, 2, 3])
        exhausted, begun = iter(a), iter(a)
        for _ in exhausted:
            next(begun)
        a.append(9)
        self.assertEqual(list(exhausted), [])
        self.assertEqual(list(begun), [])
        self.assertEqual(a, [1, 2, 3, 9])

    def test_free_after_iterating(self):
        """The state owns the node, so the end of a walk does not free it; but the iterator lets go of it."""
        a = self.type2test([1])
        before = sys.getrefcount(a)
        walk = iter(a)
        list(walk)
        self.assertEqual(sys.getrefcount(a), before)
        self.assertRaises(StopIteration, next, walk)


OVER = {}

if list_tests is not None:
    for name, backend in WRITABLE.items():

        class OverABackend(ListProtocol, list_tests.CommonTest):
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
    """The classes above have what they are for, those of `seq_tests` too."""
    assert len([test for test in dir(OVER[name]) if test.startswith("test_")]) > 35
    assert issubclass(OVER[name], seq_tests.CommonTest)


@pytest.fixture
def tree(make):
    return make({"l": PLAIN})


@pytest.fixture
def node(tree):
    return tree.root["l"]


class Three:
    def __index__(self):
        return 3


class Times:
    """Has a say in ``node * times``, as numpy's numbers do."""

    def __rmul__(self, other):
        return "mine"


def outcome(expression, sequence):
    """What an expression of `l` gives or raises, and what `l` is afterwards."""
    names = {"collections": collections, "PLAIN": PLAIN, "Three": Three, "Times": Times}
    try:
        result = eval(expression, names, {"l": sequence})
    except Exception as error:
        message = str(error).replace("StateDict", "dict").replace("StateList", "list")
        message = message.replace("must assign iterable to extended slice", "can only assign an iterable")  # since 3.13
        result = type(error), message
    return result, list(sequence)


EXPRESSIONS = [
    "l[6]",
    "l[-7]",
    "l[-1]['a']",
    "l['x']",
    "l[None]",
    "l[1.0]",
    "l[10**30]",
    "l[True]",
    "l[Three()]",
    "l[::0]",
    "l['x':]",
    "l.__setitem__(6, 1)",
    "l.__setitem__(-7, 1)",
    "l.__setitem__(-1, 1)",
    "l.__setitem__('x', 1)",
    "l.__setitem__(1.0, 1)",
    "l.__setitem__(10**30, 1) if False else None",
    "l.__setitem__(Three(), 1)",
    "l.__setitem__(slice(0, 2), 5)",
    "l.__setitem__(slice(0, 2), None)",
    "l.__setitem__(slice(0, 4, 2), 5)",
    "l.__setitem__(slice(0, 4, 2), [1])",
    "l.__setitem__(slice(0, 4, 2), [])",
    "l.__setitem__(slice(4, 0, 2), [])",
    "l.__setitem__(slice(0, 4, 0), [1])",
    "l.__setitem__(slice(4, 1), 'xy')",
    "l.__setitem__(slice(0, 2), {'k': 1})",
    "l.__setitem__(slice(0, 2), (i for i in range(3)))",
    "l.__setitem__(slice('x', None), [1])",
    "l.__delitem__(6)",
    "l.__delitem__(-7)",
    "l.__delitem__(-1)",
    "l.__delitem__('x')",
    "l.__delitem__(slice(None, None, 0))",
    "l.append(4)",
    "l.append([4, (5,)][0])",
    "l.extend('xy')",
    "l.extend({'k': 1})",
    "l.extend(i for i in l[:2])",
    "l.extend(5)",
    "l.extend([])",
    "l.insert(0, 9)",
    "l.insert(-1, 9)",
    "l.insert(-9, 9)",
    "l.insert(9, 9)",
    "l.insert('x', 9)",
    "l.insert(1.0, 9)",
    "l.insert(Three(), 9)",
    "l.pop()",
    "l.pop(0)",
    "l.pop(-6)",
    "l.pop(6)",
    "l.pop(-7)",
    "l.pop('x')",
    "l.pop(1.0)",
    "(l.clear(), l.pop())",
    "(l.clear(), l.pop(0))",
    "l.remove(1)",
    "l.remove([5])",
    "l.remove({'a': 6})",
    "l.remove(True)",
    "l.remove(9)",
    "l.index(1)",
    "l.index(1, 2)",
    "l.index(1, -3, -1)",
    "l.index(9)",
    "l.index([5])",
    "l.index(3, 1)",
    "l.index(1, 'x')",
    "l.count(1)",
    "l.count([5])",
    "l.reverse()",
    "l[:4].sort()",
    "l.sort(key=str)",
    "l.sort(key=str, reverse=True)",
    "l.sort(key=len)",
    "l.sort(key=5)",
    "l.sort(reverse='x')",
    "l.clear()",
    "l.__iadd__('xy')",
    "l.__iadd__(i for i in (1, 2))",
    "l.__iadd__(5)",
    "l.__imul__(2)",
    "l.__imul__(0)",
    "l.__imul__(-1)",
    "l.__imul__(1)",
    "l.__imul__(Three())",
    "l.__imul__(10**30)",
    "l * 2",
    "2 * l",
    "l * Three()",
    "l * Times()",
    "l * -1",
    "l * 10**30",
    "l + [1]",
    "[1] + l",
    "l + l",
    "l + []",
    "sum([[1], l], [])",
    "l == PLAIN",
    "PLAIN == l",
    "l != PLAIN",
    "l == tuple(PLAIN)",
    "l == [1]",
    "l == 5",
    "l < [4]",
    "[4] > l",
    "l < PLAIN",
    "l <= PLAIN",
    "PLAIN >= l",
    "l > l",
    "l >= l",
    "l < ['x']",
    "l < 5",
    "l < (1,)",
    "1 in l",
    "[5] in l",
    "{'a': 6} in l",
    "{'a': 7} in l",
    "9 in l",
    "list(reversed(l))",
    "[*l]",
    "len(l)",
    "bool(l)",
    "hash(l)",
    "{l}",
    "max(l[:4])",
    "list(enumerate(l))",
    "list(zip(l, l))",
    "','.join(map(str, l))",
    "str(l)",
    "'%s' % l",
    "collections.deque(l, 2)",
    "collections.Counter(l[:4])",
    "tuple(l)",
    "set(l[:4])",
    "dict(enumerate(l))",
    "sorted(l[:4])",
    "(lambda a, *b: b)(*l)",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_as_list_does(expression, node):
    """What list returns and raises, and what it is afterwards, the same of a node: types, messages, order."""
    result, contents = outcome(expression, node)
    if result is node:
        result = node.copy()  # as list's own result is here, which goes on to be compared
    assert (result, contents) == outcome(expression, [3, 1, 2, 1, [5], {"a": 6}])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("l + (1,)", "unsupported operand"),
        ("(1,) + l", "concatenate|unsupported operand"),
        ("l + 5", "unsupported operand"),
        ("l * 1.5", "unsupported operand|can't multiply"),
        ("l * [1]", "unsupported operand|can't multiply"),
        ("l * l", "unsupported operand|can't multiply"),
        ("l.__imul__(1.5)", ""),
    ],
)
def test_operands_that_list_refuses_are_type_errors(expression, message, node):
    """Only the words differ: they name the type."""
    if "__imul__" in expression:
        assert node.__imul__(1.5) is NotImplemented
        with pytest.raises(TypeError, match="unsupported operand"):
            node *= 1.5
    else:
        with pytest.raises(TypeError, match=message):
            eval(expression, {"l": node})
    assert node == PLAIN


@pytest.mark.parametrize("step", [None, 1, 2, -1, -2, 7])
def test_slices_as_list_does(step, tree):
    """Reading, deleting and assigning a slice, fitting and not: as list does it, and one record or none."""
    plain = [0, 1, [2], 3, {"four": 4}, 5]
    for where in (slice(i, j, step) for i in (None, -9, -2, 0, 1, 4, 9) for j in (None, -9, -3, 0, 2, 6, 9)):
        tree.root["l"] = plain
        assert tree.root["l"][where] == plain[where]
        fitting = ["x", [2], {}, "y", [1, [2]], "z"][: len(plain[where])]
        for values in (fitting, [*fitting, "more"], fitting[1:], []):
            expected = plain.copy()
            tree.root["l"] = plain
            node = tree.root["l"]
            try:
                expected[where] = values
            except ValueError as error:
                with pytest.raises(ValueError, match=str(error)), records(tree, 0):
                    node[where] = iter(values)
            else:
                with records(tree, int(expected != plain)):
                    node[where] = iter(values)
            assert node == expected
        expected = plain.copy()
        tree.root["l"] = plain
        del expected[where]
        with records(tree, int(expected != plain)):
            del tree.root["l"][where]
        assert tree.root["l"] == expected


def test_in_place_operators_keep_the_node(tree, node):
    """``+=`` and ``*=`` are one record each, and give the same node."""
    kept = node
    with records(tree, 1):
        node += (7, 8)
    with records(tree, 1):
        node *= 2
    with records(tree, 0):
        node += []
    with records(tree, 0):
        node *= 1
    assert node is kept
    assert node == [*PLAIN, 7, 8] * 2
    with records(tree, 1):
        node *= 0
    with records(tree, 0):
        node *= 0
    with records(tree, 1):
        tree.root["l"] += [1]
    assert tree.root["l"] is kept
    plain = [0]
    plain += node
    assert plain == [0, 1]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("l.extend(l)", PLAIN * 2),
        ("l += l", PLAIN * 2),
        ("l[:0] = l", PLAIN * 2),
        ("l[2:2] = l", PLAIN[:2] + PLAIN + PLAIN[2:]),
        ("l[1:3] = l", PLAIN[:1] + PLAIN + PLAIN[3:]),
        ("l[:-1] = l", [*PLAIN, PLAIN[-1]]),
        ("l[::-1] = l", PLAIN[::-1]),
        ("l.append(l)", [*PLAIN, PLAIN]),
        ("l.insert(0, l)", [PLAIN, *PLAIN]),
        ("l[0] = l", [PLAIN, *PLAIN[1:]]),
        ("l[4:] = [l, l]", [*PLAIN[:4], PLAIN, PLAIN]),
    ],
)
def test_a_list_put_into_itself_is_copied(statement, expected, tree, node):
    """As one record, with the list as it was before."""
    with records(tree, 1):
        exec(statement, {"l": node})
    assert node == expected


def test_sort_is_stable_takes_key_and_reverse_and_writes_nothing_when_sorted(tree):
    """As list.sort; `key` gets live nodes."""
    jobs = [{"n": n % 3, "id": n} for n in range(9)]
    tree.root["jobs"] = jobs
    node = tree.root["jobs"]
    held = list(node)
    for reverse in (False, True):
        with records(tree, 1):
            node.sort(key=lambda job: job["n"], reverse=reverse)
        jobs.sort(key=lambda job: job["n"], reverse=reverse)
        assert node == jobs
        with records(tree, 0):
            node.sort(key=lambda job: job["n"], reverse=reverse)
    assert all(any(job is other for other in held) for job in node)
    with pytest.raises(TypeError, match="not supported between"), records(tree, 0):
        node.sort()
    with pytest.raises(KeyError), records(tree, 0):
        node.sort(key=lambda job: job["missing"])
    with pytest.raises(StateError), records(tree, 0):
        node.sort(key=lambda job: job.setdefault("new", 1))
    with pytest.raises(TypeError), records(tree, 0):
        node.sort(str)
    assert node == jobs


def test_matching_of_patterns(node):
    """``match`` takes a node for a sequence."""
    match node:
        case [3, *_, [five], {"a": six}]:
            assert (five, six) == (5, 6)
        case _:
            pytest.fail("no match")
    match node:
        case [_, _]:
            pytest.fail("of another length")
        case {}:
            pytest.fail("a sequence is no mapping")
        case _:
            pass
