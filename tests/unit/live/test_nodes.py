"""Live containers in a tree without any file: model, records, detachment, places, refusals, threads, plain copies."""

import collections.abc
import contextlib
import copy
import json
import math
import threading
import time
from datetime import date, timezone

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import probe
from support.memory_tree import MemoryTree, check_node, records, records_of
from support.runs import scaled

import mmapstate
from mmapstate import DetachedError, PersistedState, StateDict, StateError, StateList
from mmapstate.live import merge
from mmapstate.live import tree as nodes
from mmapstate.live.node import NODES, copy_of
from mmapstate.values import normalise, same

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, timezone.utc])),
)
KEYS = st.sampled_from(["a", "b", "c", "1", 1, True, 2.5, None, b"k", date(2020, 1, 2)])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
CONTAINERS = st.dictionaries(KEYS, VALUES, max_size=3) | st.lists(VALUES, max_size=4)
PLACES = st.lists(st.integers(0, 6), max_size=4)
INDEXES = st.integers(-6, 6)
SLICES = st.builds(slice, *[st.none() | INDEXES] * 2, st.sampled_from([None, None, 1, 2, -1, -2]))


def is_container(value):
    return isinstance(value, dict | list)


class Model(RuleBasedStateMachine):
    """Live nodes against plain containers, statement by statement.

    A plain container stays the same object for as long as its node must: what is held is compared for ever, and a
    write through it works just when the plain one is still part of the plain state.
    """

    @initialize(contents=st.dictionaries(KEYS, CONTAINERS, min_size=1, max_size=4))
    def begin(self, contents):
        self.tree = MemoryTree(contents)
        self.tree.follow()
        self.plain = normalise(contents)
        self.held = []

    def find(self, place, kind=None):
        """Walk down from the root by numbers; return a node and the plain container it stands for."""
        node, plain = self.tree.root, self.plain
        best = (node, plain) if kind in (None, dict) else None
        for number in place:
            entries = list(plain.items() if isinstance(plain, dict) else enumerate(plain))
            inner = [key for key, value in entries if is_container(value)]
            if not inner:
                break
            key = inner[number % len(inner)]
            node, plain = node[key], plain[key]
            if kind in (None, type(plain)):
                best = node, plain
        if best is None:  # a list is asked for, and there is none on this way
            self.tree.root["list"] = [1, [2], {"three": 3}]
            self.plain["list"] = [1, [2], {"three": 3}]
            best = self.tree.root["list"], self.plain["list"]
        return best

    def both(self, node, plain, of_node, of_plain):
        """Do the same to both; compare what is returned or raised, and count the records."""
        before = len(self.tree.records)
        contents, whole = copy.copy(plain), copy.deepcopy(self.plain)
        try:
            expected = of_plain(plain)
        except Exception as error:
            if isinstance(plain, dict):
                plain.clear()
                plain.update(contents)
            else:
                plain[:] = contents
            with pytest.raises(type(error)):
                of_node(node)
            assert len(self.tree.records) == before
            return
        result = of_node(node)
        assert type(result) not in NODES or is_container(expected)
        assert same(normalise(result), normalise(expected))
        written = len(self.tree.records) - before
        assert written <= 1
        if written == 0:
            assert same(self.plain, whole), "a change without a record"

    @rule(place=PLACES, key=KEYS, value=VALUES)
    def set_key(self, place, key, value):
        node, plain = self.find(place, dict)
        self.both(node, plain, lambda d: d.__setitem__(key, value), lambda d: d.__setitem__(key, normalise(value)))

    @rule(place=PLACES, index=INDEXES, value=VALUES)
    def set_index(self, place, index, value):
        node, plain = self.find(place, list)
        self.both(node, plain, lambda s: s.__setitem__(index, value), lambda s: s.__setitem__(index, normalise(value)))

    @rule(place=PLACES, key=KEYS | INDEXES, source=PLACES)
    def set_node(self, place, key, source):
        node, plain = self.find(place)
        value, plain_value = self.find(source)
        if len(place) + len(source) > 6:
            return

        def assign(container):
            if not (isinstance(container, dict) and container.get(key) is plain_value) and not (
                isinstance(container, list) and container[key] is plain_value
            ):
                container[key] = copy.deepcopy(plain_value)

        self.both(node, plain, lambda c: c.__setitem__(key, value), assign)

    @rule(place=PLACES, key=KEYS | INDEXES)
    def set_in_place(self, place, key):
        node, plain = self.find(place)
        try:
            value = node[key]
        except (LookupError, TypeError):
            return
        if is_container(plain[key]):
            with records(self.tree, 0):
                node[key] = value

    @rule(place=PLACES, key=KEYS | INDEXES)
    def delete(self, place, key):
        node, plain = self.find(place)
        self.both(node, plain, lambda c: c.__delitem__(key), lambda c: c.__delitem__(key))

    @rule(place=PLACES, key=KEYS | INDEXES, default=st.lists(SCALARS, max_size=2))
    def pop(self, place, key, default):
        node, plain = self.find(place)
        self.both(node, plain, lambda c: c.pop(key, *default), lambda c: c.pop(key, *default))

    @rule(place=PLACES)
    def pop_last(self, place):
        node, plain = self.find(place)
        self.both(
            node,
            plain,
            lambda c: (getattr(c, "popitem", None) or c.pop)(),
            lambda c: (getattr(c, "popitem", None) or c.pop)(),
        )

    @rule(place=PLACES)
    def clear(self, place):
        node, plain = self.find(place)
        if node is not self.tree.root:
            self.both(node, plain, lambda c: c.clear(), lambda c: c.clear())

    @rule(place=PLACES, key=KEYS, value=VALUES)
    def setdefault(self, place, key, value):
        node, plain = self.find(place, dict)
        self.both(node, plain, lambda d: d.setdefault(key, value), lambda d: d.setdefault(key, normalise(value)))

    @rule(
        place=PLACES,
        entries=st.dictionaries(KEYS, VALUES, max_size=3),
        words=st.dictionaries(st.sampled_from(["a", "self", "other"]), SCALARS, max_size=2),
        form=st.sampled_from(["mapping", "pairs", "or"]),
    )
    def update(self, place, entries, words, form):
        node, plain = self.find(place, dict)
        given = list(entries.items()) if form == "pairs" else entries
        if form == "or":
            self.both(node, plain, lambda d: d.__ior__(given), lambda d: d.__ior__(normalise(entries)))
        else:
            self.both(
                node,
                plain,
                lambda d: d.update(given, **words),
                lambda d: d.update(normalise(entries), **normalise(words)),
            )

    @rule(place=PLACES, index=INDEXES, value=VALUES, at_end=st.booleans())
    def insert(self, place, index, value, at_end):
        node, plain = self.find(place, list)
        if at_end:
            self.both(node, plain, lambda s: s.append(value), lambda s: s.append(normalise(value)))
        else:
            self.both(node, plain, lambda s: s.insert(index, value), lambda s: s.insert(index, normalise(value)))

    @rule(place=PLACES, values=st.lists(VALUES, max_size=3), in_place=st.booleans())
    def extend(self, place, values, in_place):
        node, plain = self.find(place, list)
        if in_place:
            self.both(node, plain, lambda s: s.__iadd__(iter(values)), lambda s: s.__iadd__(normalise(values)))
        else:
            self.both(node, plain, lambda s: s.extend(values), lambda s: s.extend(normalise(values)))

    @rule(place=PLACES, times=st.integers(-1, 2))
    def multiply(self, place, times):
        node, plain = self.find(place, list)
        if len(plain) > 10:
            return

        def multiply(sequence):
            if times <= 0:
                sequence.clear()
            elif times == 2:
                sequence.extend(copy.deepcopy(sequence))
            return sequence

        self.both(node, plain, lambda s: s.__imul__(times), multiply)

    @rule(place=PLACES, data=st.data())
    def remove(self, place, data):
        node, plain = self.find(place, list)
        value = data.draw(st.sampled_from(plain) if plain else SCALARS)
        if not has_nan(value):  # which is equal to itself alone
            self.both(node, plain, lambda s: s.remove(copy.deepcopy(value)), lambda s: s.remove(value))

    @rule(place=PLACES, reverse=st.booleans(), key=st.sampled_from([None, len, repr, str, "kind"]))
    def sort(self, place, reverse, key):
        node, plain = self.find(place, list)
        if key == "kind":
            key = is_container_of_either_kind
        if key in (repr, str):  # the text of a node has the name of its type

            def key(value):
                return repr(copy_of(value))

        self.both(node, plain, lambda s: s.sort(key=key, reverse=reverse), lambda s: s.sort(key=key, reverse=reverse))

    @rule(place=PLACES)
    def reverse(self, place):
        node, plain = self.find(place, list)
        self.both(node, plain, lambda s: s.reverse(), lambda s: s.reverse())

    @rule(place=PLACES, where=SLICES, data=st.data())
    def set_slice(self, place, where, data):
        """New values, and items of the same list, each once: they stay themselves if they stand in the slice."""
        node, plain = self.find(place, list)
        fitting = st.integers(len(plain[where]), len(plain[where])) if data.draw(st.booleans()) else st.integers(0, 4)
        count = data.draw(fitting)
        own = data.draw(st.permutations(range(len(plain))))[: data.draw(st.integers(0, count))]
        fresh = data.draw(st.lists(VALUES, min_size=count - len(own), max_size=count - len(own)))
        order = data.draw(st.permutations([*(("own", index) for index in own), *(("fresh", value) for value in fresh)]))
        step = where.indices(len(plain))[2]
        targets = range(*where.indices(len(plain)))

        def moved(position, index):
            value = plain[index]
            stays = index in targets if step == 1 else position < len(targets) and targets[position] == index
            return value if stays else copy.deepcopy(value)

        given = [node[value] if kind == "own" else value for kind, value in order]
        plain_given = [
            moved(position, value) if kind == "own" else normalise(value)
            for position, (kind, value) in enumerate(order)
        ]
        self.both(node, plain, lambda s: s.__setitem__(where, given), lambda s: s.__setitem__(where, plain_given))

    @rule(place=PLACES, where=SLICES)
    def delete_slice(self, place, where):
        node, plain = self.find(place, list)
        self.both(node, plain, lambda s: s.__delitem__(where), lambda s: s.__delitem__(where))

    @rule(place=PLACES)
    def hold(self, place):
        self.held.append(self.find(place))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), value=VALUES)
    def write_through_what_is_held(self, data, value):
        node, plain = data.draw(st.sampled_from(self.held))
        before = len(self.tree.records)
        attached = is_part(plain, self.plain)
        with contextlib.nullcontext() if attached else pytest.raises(DetachedError, match="read it again"):
            if isinstance(plain, dict):
                node["held"] = value
            else:
                node.append(value)
        assert len(self.tree.records) == before + attached
        if attached and isinstance(plain, dict):
            plain["held"] = normalise(value)
        elif attached:
            plain.append(normalise(value))

    @rule(key=KEYS, value=CONTAINERS, place=PLACES, at=st.integers(0, 4), order=st.randoms(use_true_random=False))
    def rebuild(self, key, value, place, at, order):
        """What an edit by hand, or a lost connection, does to memory: here to a list deep inside, and to a key."""
        _, edited = self.find(place, list)
        before = edited.copy()
        edited[at : order.randrange(6)] = normalise([value, order.randrange(9)][: order.randrange(3)])
        data = copy.deepcopy(self.plain)
        edited[:] = before
        if order.random() < 0.3:
            data[key] = normalise(value)
        entries = list(data.items())
        order.shuffle(entries)
        data = dict(entries)
        for tree in (self.tree, self.tree.follower):
            with tree.changing():
                merge.reconcile(tree.root, data)
        self.tree.plain = copy.deepcopy(data)
        reconcile_plain(self.plain, data)

    @invariant()
    def is_as_the_model(self):
        if "tree" in self.__dict__:
            assert same(nodes.plain_root(self.tree.root), self.plain)
            self.tree.check()
            for node, plain in self.held:
                assert same(node.copy(), plain)


def has_nan(value):
    if isinstance(value, dict | list):
        return any(map(has_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isnan(value)


def is_container_of_either_kind(value):
    return isinstance(value, collections.abc.Mapping | list | StateList)


def is_part(container, whole):
    """Whether a container is this very one, or inside of it."""
    inner = whole.values() if isinstance(whole, dict) else whole
    return container is whole or any(is_part(container, each) for each in inner if is_container(each))


def reconcile_plain(plain, data):
    """Do to plain containers what `merge.reconcile` promises: what is still there stays the same object."""
    merged = {key: become_plain(plain.get(key), value) for key, value in data.items()}
    plain.clear()
    plain.update(merged)


def become_plain(old, value):
    if isinstance(old, dict) and isinstance(value, dict):
        reconcile_plain(old, value)
        return old
    if isinstance(old, list) and isinstance(value, list):
        front = next((i for i, (one, other) in enumerate(zip(old, value)) if not same(one, other)), None)  # noqa: B905
        front = min(len(old), len(value)) if front is None else front
        most = min(len(old), len(value)) - front
        back = next((i for i in range(most) if not same(old[-1 - i], value[-1 - i])), most)
        here, there = old[front : len(old) - back], value[front : len(value) - back]
        old[front : len(old) - back] = [
            become_plain(here[number] if number >= 0 else None, item)
            for number, item in zip(probe.origins(here, there), there, strict=True)
        ]
        return old
    return copy.deepcopy(value)


TestModel = pytest.mark.family("model")(Model.TestCase)
TestModel.settings = settings(
    max_examples=scaled(120), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def tree():
    made = MemoryTree(
        {
            "hosts": [{"port": 1}, {"port": 2}, {"port": 3}, {"port": 4}],
            "deep": {"er": {"est": [0]}},
            "n": 1,
            "s": [3, 1, 2],
        }
    )
    made.follow()
    yield made
    made.check()


class TestRecords:
    """Every writing method is one record, or none where nothing changes."""

    def test_when_the_commit_fails_nothing_has_changed(self, tree, monkeypatch):
        """No method changes memory before the file."""

        def fail(record, publish, *args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tree, "commit", fail)
        before = tree.root.copy()
        hosts = tree.root["hosts"]
        for write in (
            lambda: tree.root.update(a=1, n=2),
            tree.root.popitem,
            lambda: tree.root.setdefault("new", 1),
            tree.root.clear,
            lambda: hosts.sort(key=lambda host: -host["port"]),
            hosts.reverse,
            hosts.pop,
            lambda: hosts.append(1),
            lambda: hosts.__imul__(2),
            lambda: hosts.__setitem__(slice(None, None, 2), "xy"),
            lambda: hosts.__delitem__(slice(None)),
        ):
            with pytest.raises(OSError, match="No space"):
                write()
            assert tree.root == before
        check_node(tree.root, [])


class TestDetached:
    """What was removed or replaced still reads; writing to it, or to what is in it, raises."""

    REMOVALS = {
        "deleted": lambda root: root.__delitem__("c"),
        "popped": lambda root: root.pop("c"),
        "last popped": lambda root: root.popitem(),
        "cleared": lambda root: root.clear(),
        "replaced": lambda root: root.__setitem__("c", {"l": [{"x": 1}]}),
        "replaced by an equal copy": lambda root: root.__setitem__("c", root["c"].copy()),
        "updated": lambda root: root.update(c=5),
        "replayed": lambda root: merge.replay(root, [("set", [], "c", {"l": [{"x": 1}]})]),
        "deleted elsewhere": lambda root: merge.replay(root, [("delete", [], "c")]),
        "reconciled away": lambda root: merge.reconcile(root, {"a": 1}),
        "reconciled to a list": lambda root: merge.reconcile(root, {"c": []}),
    }

    @pytest.mark.parametrize("removal", REMOVALS)
    def test_from_a_mapping(self, removal):
        """With all that is below it."""
        tree = MemoryTree({"a": 1, "c": {"l": [{"x": 1}]}})
        outer = tree.root["c"]
        middle, inner = outer["l"], outer["l"][0]
        self.REMOVALS[removal](tree.root)
        before = tree.root.copy(), len(tree.records)
        assert (outer, middle, inner) == ({"l": [{"x": 1}]}, [{"x": 1}], {"x": 1})
        for write in (
            lambda: outer.__setitem__("l", 1),
            lambda: outer.update(l=1),
            lambda: outer.setdefault("new", 1),
            lambda: outer.pop("l"),
            outer.clear,
            lambda: middle.append(1),
            lambda: middle.sort(key=id, reverse=True) or middle.extend([1]),
            lambda: middle.__setitem__(0, 1),
            lambda: middle.__delitem__(0),
            middle.clear,
            lambda: inner.__setitem__("x", 2),
            lambda: inner.__delitem__("x"),
        ):
            with pytest.raises(DetachedError, match=r"^memory\.state: .*read it again from the state"):
                write()
        assert (tree.root, len(tree.records)) == before
        assert inner.pop("missing", 5) == 5

    @pytest.mark.parametrize("removal", REMOVALS)
    def test_its_repr_says_so_and_its_text_is_its_contents(self, removal):
        """So does that of what is in it; what is part of the state says nothing, however it moved."""
        tree = MemoryTree({"a": 1, "c": {"l": [{"x": 1}]}})
        outer = tree.root["c"]
        inner = outer["l"][0]
        outer["l"].insert(0, 5)
        assert repr(inner) == "StateDict({'x': 1})"
        self.REMOVALS[removal](tree.root)
        assert repr(inner) == "StateDict({'x': 1}, removed from the state)"
        assert repr(outer) == "StateDict({'l': [5, {'x': 1}]}, removed from the state)"
        assert repr(outer["l"]) == "StateList([5, {'x': 1}], removed from the state)"
        assert str(inner) == "{'x': 1}"

    @pytest.mark.parametrize(
        "removal",
        [
            "del l[1]",
            "l.pop(1)",
            "l.remove({'n': 1})",
            "l[1] = {'n': 1}",
            "l[1] = 5",
            "l[1:2] = [{'n': 1}]",
            "l[::2], l[1::2] = 'xy', 'x'",
            "l[1::2] = [{'n': 1}]",
            "del l[1::2]",
            "l.clear()",
            "l *= 0",
            "l[:] = [l[0], l[2]]",
            "l[:] = l.copy()",
        ],
    )
    def test_from_a_list(self, removal):
        """Items that stay are still live, wherever they are now."""
        tree = MemoryTree({"l": [{"n": 0}, {"n": 1}, {"n": 2}]})
        held = list(tree.root["l"])
        exec(removal, {"l": tree.root["l"]})
        before = tree.root.copy()
        with pytest.raises(DetachedError, match="read it again"):
            held[1]["n"] = 9
        assert held[1] == {"n": 1}
        assert tree.root == before
        for node in (held[0], held[2]):
            if any(node is item for item in tree.root["l"]):
                with records(tree, 1):
                    node["n"] = 9
        tree.check()


class TestMoved:
    """A container that only moves stays live, and a write through it goes to where it is now."""

    def test_in_another_process_inserts_and_deletes_keep_what_moves(self, tree):
        """Followed change by change; in a slice that is written anew (sort, reverse), what was there before."""
        follower = tree.follower
        held = list(follower.root["hosts"])
        tree.root["hosts"].insert(0, 0)
        del tree.root["hosts"][2]
        with records_of(follower, [("set", ["hosts", 3], "port", 44)]):
            held[3]["port"] = 44
        assert follower.root["hosts"] == [0, {"port": 1}, {"port": 3}, {"port": 44}]
        with pytest.raises(DetachedError):
            held[1]["port"] = 22
        tree.root["hosts"].reverse()
        assert follower.root["hosts"][1] is held[2]
        with pytest.raises(DetachedError):
            held[3]["port"] = 55

    @pytest.mark.parametrize(
        ("statement", "now"),
        [
            ("l.reverse()", [3, 2, 1, 0]),
            ("l.sort(key=lambda item: -item['port'])", [3, 2, 1, 0]),
            ("l[1:] = [l[3], 7, l[1]]", [0, 3, None, 1]),
            ("l[:] = [{'port': 2}, {'port': 3}, {'port': 3}, 8, {'port': 1}]", [1, 2, None, None, 0]),
            ("l[:] = l.copy()[::-1]", [3, 2, 1, 0]),
        ],
    )
    def test_in_another_process_a_slice_keeps_what_was_there_before(self, statement, now, tree):
        """Each container once, wherever it was: the record of a sort does not tell more than that."""
        held = list(tree.follower.root["hosts"])
        exec(statement, {"l": tree.root["hosts"]})
        found = list(tree.follower.root["hosts"])
        assert [next((i for i, one in enumerate(held) if one is other), None) for other in found] == now
        tree.check()

    def test_an_insert_at_the_front_of_a_long_list_touches_no_child(self):
        """What each remembers of its place stays as it was; a later write finds its index."""
        tree = MemoryTree({"l": [{"n": n} for n in range(100_000)]})
        node = tree.root["l"]
        items = probe.items(node).copy()
        hints = [probe.hint(item) for item in items]
        for number in range(5):
            node.insert(0, number)
        assert [probe.hint(item) for item in items] == hints
        assert all(probe.parent(item) is node for item in items)
        with records_of(tree, [("set", ["l", 50_005], "n", "here")]):
            items[50_000]["n"] = "here"
        assert probe.hint(items[50_000]) == 50_005
        del node[:10]
        with records_of(tree, [("set", ["l", 49_995], "n", "there")]):
            items[50_000]["n"] = "there"
        assert [probe.hint(items[number]) for number in (49_999, 50_000, 50_001)] == [49_999, 49_995, 50_001]

    def test_a_child_that_moved_far_is_found_and_its_siblings_with_it(self):
        """One walk through the list tells all of them where they are: the next write looks no further."""
        tree = MemoryTree({"l": [{"n": n} for n in range(5_000)]})
        items = list(tree.root["l"])
        del tree.root["l"][:2_000]
        with records_of(tree, [("set", ["l", 1_000], "n", -1)]):
            items[3_000]["n"] = -1
        assert [probe.hint(item) for item in items[2_000:]] == list(range(3_000))
        tree.root["l"].extend([0] * 10)
        tree.root["l"].reverse()
        assert [probe.hint(item) for item in items[2_000:]] == list(range(3_009, 9, -1))


class TestReconcile:
    """A rebuild keeps what it can the same object."""

    def test_containers_at_paths_of_keys_stay_the_same(self, tree):
        """With the contents and the order of the file; so does what is in a list, unless others came or went there."""
        root = tree.root
        deep, er, est, hosts, host = (
            root["deep"],
            root["deep"]["er"],
            root["deep"]["er"]["est"],
            root["hosts"],
            root["hosts"][0],
        )
        data = {
            "z": [1],
            "hosts": [{"port": 7}, {"port": 8}],
            "deep": {"new": {}, "er": {"b": 1, "est": [1, [2]], "a": 2}},
        }
        merge.reconcile(root, copy.deepcopy(data))
        assert json.dumps(nodes.plain_root(root)) == json.dumps(data)
        assert root["deep"] is deep
        assert deep["er"] is er
        assert er["est"] is est
        assert root["hosts"] is hosts
        assert hosts[0] is not host  # of four hosts, two: nobody knows which
        check_node(root, [])
        with pytest.raises(DetachedError):
            host["port"] = 1
        tree.plain = copy.deepcopy(data)
        merge.reconcile(tree.follower.root, copy.deepcopy(data))
        with records(tree, 1):
            est.append("written")

    STILL_THERE = (
        ([{"n": 0}], [{"n": 1}], {0: 0}),
        ([{"n": 0}, {"n": 0}], [{"n": 0}, {"n": 0}], {0: 0, 1: 1}),
        ([{"done": False}, {"done": False}], [{"done": True}, {"done": False}], {0: 0, 1: 1}),
        ([{"done": False}] * 3, [{"done": True}, {"done": False}, {"done": True}], {0: 0, 1: 1, 2: 2}),
        ([[], [], []], [[], [[1]], []], {0: 0, 1: 1, 2: 2}),
        ([[1, 2], [3, 4]], [[1, 5], [6, 7]], {0: 0, 1: 1}),
        ([{"n": 0}, {"n": 1}], [5, {"n": 0}, {"n": 1}], {0: 1, 1: 2}),
        ([{"n": 0}, {"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}], {1: 0, 2: 1}),
        ([{"n": 0}, {"n": 1}, {"n": 2}], [{"n": 2}, {"n": 1}, {"n": 0}], {0: 2, 1: 1, 2: 0}),
        ([{"n": 0}, {"id": 1, "t": 0}], [{"new": 0}, {"n": 0}, {"id": 1, "t": 5}], {0: 1, 1: 2}),
        ([{"a": 1}, {"n": 0}], [{"new": 0}, {"a": 1}, {"n": 5}], {0: 1, 1: 2}),
        (
            [{"id": 1, "t": 0}, {"id": 2, "t": 0}, {"id": 3, "t": 0}],
            [{"id": 2, "t": 7}, {"id": 3, "t": 8}],
            {1: 0, 2: 1},
        ),
        ([{"id": 1, "t": 0}, {"id": 2, "t": 0}], [{"id": 2, "t": 7}, {"id": 1, "t": 8}], {0: 1, 1: 0}),
        ([{"n": 0}, 7], [{"n": 0}, 8], {0: 0}),
        ([{"l": [{"n": 0}, {"n": 1}]}], [{"l": [{"n": 0}, {"n": 2}, {"n": 3}]}], {0: 0}),
        # Who would it be? Better nobody than another one: what is written through it would go astray.
        ([{"n": 0}, {"n": 1}], [{"n": 5}], {}),
        ([{"n": 0}], [{"n": 5}, {"n": 6}], {}),
        ([{"n": 0}, {"n": 1}], [{"n": 0}, {"n": 5}, {"n": 6}], {0: 0}),
        ([{"n": 0}], [[0]], {}),
    )

    @pytest.mark.parametrize(("old", "new", "kept"), STILL_THERE, ids=range(len(STILL_THERE)))
    def test_in_a_list_what_is_still_there_stays_the_same(self, old, new, kept):
        """Changed inside, or moved, or both; and all that is not is detached."""
        tree = MemoryTree({"list": old})
        items = tree.root["list"]
        held = list(items)
        merge.reconcile(tree.root, {"list": copy.deepcopy(new)})
        assert tree.root["list"] is items
        assert items == new
        check_node(tree.root, [])
        found = {
            before: after
            for before, one in enumerate(held)
            for after, other in enumerate(items)
            if one is other and type(one) in NODES
        }
        assert found == kept

    def test_in_a_list_what_is_inside_of_what_is_still_there_stays_too(self):
        tree = MemoryTree({"list": [{"name": "a", "inner": [{"n": 1}, [2, {"x": 3}]]}, {"name": "b"}]})
        inner, deepest = tree.root["list"][0]["inner"], tree.root["list"][0]["inner"][1][1]
        data = {"list": [{"name": "new"}, {"name": "a", "more": 1, "inner": [0, {"n": 1}, [2, {"x": 4}]]}]}
        merge.reconcile(tree.root, copy.deepcopy(data))
        tree.plain = data
        assert (inner, deepest) == ([0, {"n": 1}, [2, {"x": 4}]], {"x": 4})
        with records_of(tree, [("set", ["list", 1, "inner", 2, 1], "x", 5)]):
            deepest["x"] = 5

    @pytest.mark.parametrize("count", [30, 3000])
    def test_in_a_list_of_any_length_whoever_has_an_id_is_no_other_one(self, count):
        """Where one went, one came, and all others were changed: many more than are compared with each other."""
        old = [{"id": number, "seen": 0, "kind": "host"} for number in range(count)]
        new = [{"id": number, "seen": number, "kind": "host"} for number in range(1, count + 1)]
        tree = MemoryTree({"list": old})
        held = list(tree.root["list"])
        merge.reconcile(tree.root, {"list": new})
        assert [item["id"] for item in held] == list(range(count))
        assert all(one is other for one, other in zip(held[1:], tree.root["list"], strict=False))
        with pytest.raises(DetachedError):
            held[0]["seen"] = 1

    @pytest.mark.parametrize("change", ["nothing", "one", "ends", "all", "moved"])
    @pytest.mark.parametrize("kind", [lambda number: {"n": 1}, lambda number: {"id": number}, lambda number: 1])
    def test_a_long_list_is_reconciled_in_about_the_time_that_it_takes_to_make_it(self, kind, change):
        old = [kind(number) for number in range(20_000)]
        new = copy.deepcopy(old)
        for index in {"one": [9_000], "ends": [0, -1], "all": range(20_000)}.get(change, ()):
            new[index] = {**new[index], "x": index} if isinstance(new[index], dict) else 2
        if change == "moved":
            new.insert(0, new.pop())
            del new[-1]
        tree = MemoryTree({"list": old})
        items = [*tree.root["list"]]
        began = time.process_time()
        MemoryTree({"list": old})
        made = time.process_time()
        merge.reconcile(tree.root, {"list": new})
        assert time.process_time() - made < 3 * (made - began) + 0.05
        if change == "nothing":
            assert all(one is other for one, other in zip(items, tree.root["list"], strict=True))

    def test_a_table_in_which_each_number_has_changed_takes_no_longer(self):
        """Hundred rows have ten thousand pairs: to compare each of them entry by entry took ten seconds."""
        tree = MemoryTree({"table": [[number + row for number in range(1000)] for row in range(0, 200_000, 2000)]})
        rows = list(tree.root["table"])
        began = time.process_time()
        merge.reconcile(tree.root, {"table": [[-number - row for number in range(1000)] for row in range(1, 101)]})
        assert time.process_time() - began < 3
        assert all(one is other for one, other in zip(rows, tree.root["table"], strict=True))

    def test_a_container_of_the_other_kind_is_another_object(self, tree):
        """And the old one is detached."""
        deep, hosts = tree.root["deep"], tree.root["hosts"]
        data = {"deep": [], "hosts": {}}
        merge.reconcile(tree.root, data)
        tree.plain, tree.follower = copy.deepcopy(data), None
        for node in (deep["er"], deep, hosts, hosts[0]):
            with pytest.raises(DetachedError):
                node.clear()

    def test_a_tree_that_an_interrupt_left_half_way_is_mended(self, tree):
        """Whatever is in it."""
        deep = tree.root["deep"]
        data = nodes.plain_root(tree.root)
        items, inner = probe.items(tree.root), probe.items(deep)
        items["rest"] = items.pop("hosts")
        inner["er"] = probe.items(inner["er"])["est"]
        merge.reconcile(tree.root, data)
        assert same(nodes.plain_root(tree.root), data)
        assert tree.root["deep"] is deep
        check_node(tree.root, [])


class TestReplay:
    @pytest.mark.parametrize(
        "change",
        [
            ("set", ["missing"], "a", 1),
            ("set", ["n"], "a", 1),
            ("set", ["hosts", 9], "a", 1),
            ("set", ["hosts"], 9, 1),
            ("set", ["hosts"], "a", 1),
            ("set", [], [], 1),
            ("set", [[]], "a", 1),
            ("delete", [], "missing"),
            ("delete", ["hosts"], 9),
            ("delete", ["hosts", 0, "port"], 0),
            ("insert", [], 0, 1),
            ("insert", ["n"], 0, 1),
            ("splice", [], 0, 1, []),
            ("splice", ["n"], 0, 1, []),
        ],
    )
    def test_a_change_that_does_not_fit_raises(self, change, tree):
        """What the store takes for a reason to read the file anew."""
        with pytest.raises((LookupError, TypeError, AttributeError)):
            merge.replay(tree.follower.root, [change])


class TestObjects:
    """Nodes as objects: types, attributes, text."""

    def test_a_node_equals_itself_whatever_others_write_meanwhile(self, tree):
        """It is read once for that, not twice."""
        reads = []
        steady = tree.steady
        tree.steady = lambda read, *args: (reads.append(read), steady(read, *args))[1]
        for node in (tree.root["deep"], tree.root["hosts"]):
            reads.clear()
            assert node == node
            assert len(reads) == 1

    def test_no_constructor(self):
        """A node without a state would be of no use."""
        for kind, contents in ((StateDict, {"a": 1}), (StateList, [1])):
            for arguments in ((), (contents,)):
                with pytest.raises(TypeError, match=f"a {kind.__name__} is part of a state"):
                    kind(*arguments)
            with pytest.raises(AttributeError):
                repr(kind.__new__(kind))

    def test_repr_and_str(self, tree):
        """The one names the type, and shows memory as it is; the other reads the contents, and shows those."""
        node = tree.root["deep"]
        tree.steady = tree.refresh = None
        assert repr(node) == "StateDict({'er': {'est': [0]}})"
        del tree.steady, tree.refresh
        assert str(node) == f"{node}" == "{'er': {'est': [0]}}"

    def test_a_node_of_a_state_in_a_file_is_the_same_object_each_time(self, path):
        """So it can be compared with ``is``, and costs nothing to read."""
        state = PersistedState(path, a={"b": [{}]})
        assert state["a"]["b"][0] is state.a["b"][0]
        assert state.a["b"].index({}) == 0

    def test_a_child_keeps_no_dropped_handle_alive(self, path):
        """Whoever made it: else that handle's options would count for ever."""
        import gc
        import weakref

        keeper = PersistedState(path)
        handle = mmapstate.open(path, durability="power")
        handle["made"] = {"by": ["it"]}
        handle.setdefault("also", [])
        handle.update(too={})
        gone = weakref.ref(handle)
        child = keeper["made"]
        del handle
        gc.collect()
        assert gone() is None
        child["by"].append("still live")
        assert keeper == {"made": {"by": ["it", "still live"]}, "also": [], "too": {}}


class TestStates:
    """Nodes of two states."""

    def test_a_node_of_another_state_is_read_before_the_locks(self):
        """Never under both: two threads that copy both ways would wait for each other."""
        here, there = MemoryTree({"d": {}, "l": [1, 2, 3]}), MemoryTree({"d": {"x": [1]}})
        steady = there.steady

        def checked(read, *args):
            assert not here.backend.busy
            return steady(read, *args)

        there.steady = checked
        node = there.root["d"]
        here.root["a"] = node
        here.root["d"].update(b=node)
        here.root["d"] |= node
        here.root.setdefault("s", node)
        items = here.root["l"]
        items.append(node)
        items.insert(0, node)
        items[1] = node
        items[1:2] = [node, node]
        items[::2] = [node] * len(items[::2])
        items.extend([node])
        items += node["x"]
        items.remove(node)
        assert here.root["a"] == node
        here.check()


class TestThreads:
    """A read never gives what another thread's change, or its transaction, was half-way through."""

    def test_readers_see_whole_records_while_a_writer_works(self, path):
        """In a state file, with several threads: no read is half-way, none raises."""
        state = PersistedState(path, d={"a": 0, "b": 0}, l=[{"n": 0}] * 4)
        stop = threading.Event()
        failures = []

        def read():
            mapping, sequence = state["d"], state["l"]
            while not stop.is_set():
                try:
                    both = mapping.copy()
                    assert both["a"] == both["b"]
                    values = list(mapping.values())
                    assert values[0] == values[1]
                    assert len(mapping) == 2
                    assert len(sequence) == 4
                    assert len({item["n"] for item in sequence.copy()}) == 1
                    assert "a" in mapping
                    assert mapping.get("b") is not None
                    assert repr(sequence).startswith("StateList(")
                    assert sequence[3]["n"] >= 0
                    assert mapping == mapping
                    assert mapping.setdefault("a", "none") != "none"
                except BaseException as error:
                    failures.append(error)
                    raise

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(scaled(300)):
            state["d"].update(a=number, b=number)
            state["l"][:] = [{"n": number}] * 4
            state["l"].sort(key=lambda item: -item["n"])
            state["l"].reverse()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures

    def test_racing_calls_of_setdefault_and_pop_have_one_winner(self, path):
        """Each writing method is one step."""
        state = PersistedState(path, jobs=list(range(200)))
        first, popped = [], []
        barrier = threading.Barrier(4)

        def race(number):
            barrier.wait()
            first.extend([(key, state.setdefault(f"key {key}", number)) for key in range(50)])
            while True:
                try:
                    popped.append(state["jobs"].pop(0))
                except IndexError:
                    return

        threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(first)) == 50
        assert sorted(popped) == list(range(200))

    def test_a_sort_key_that_writes_is_told_so(self, path):
        """Also in a state file; nothing has changed."""
        state = PersistedState(path, jobs=[3, 1, 2])
        with pytest.raises(StateError, match="under way"):
            state["jobs"].sort(key=state["jobs"].append)
        assert state["jobs"] == [3, 1, 2]
        state["jobs"].sort(key=state["jobs"].index, reverse=True)
        assert state["jobs"] == [2, 1, 3]
