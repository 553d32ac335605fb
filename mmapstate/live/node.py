"""What the two kinds of live container have in common.

A node holds its children in a plain ``dict`` or ``list``: scalars as they are, containers as nodes. It knows its parent
and its key there (in a list a hint, searched outward when stale), not its path: an insert at the front of a long list
touches no child. It is part of the state for as long as its parent holds it.

Every writing method is one atomic step: `Tree.write` takes the locks and catches up, then the method's inner half
(named with an underscore) decides on what is there, and hands changes to `Tree.commit`, which publishes them in memory
when they are in the file. The inner halves named ``_put...`` and ``_take...`` change memory only; replay uses the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from mmapstate.changes import Change
from mmapstate.errors import DetachedError, StateFileError, UnsupportedValueError
from mmapstate.live.sentinels import SLOW
from mmapstate.text import writer
from mmapstate.values import Live, Plain, normalise

Step = tuple[Any, ...]
"""What takes back a change in memory: a function and its arguments. Harmless where the change was not made."""

KINDS: dict[Any, Any] = {}
"""The node for each plain container; the modules of the two kinds enter theirs."""

NODES: set[Any] = set()
"""All classes of nodes: a look here is many times faster than isinstance, which asks the abstract base classes."""

_FLAT = frozenset({int, str, float, bool, bytes, type(None)})  # the types that are no container


class Node(Live):
    """One live container.

    A read tries the cursor of what stands behind the state. Where that says `SLOW`, as anything is new, or another
    thread is half-way through a change, the read is done steadily: with memory up to date and nobody changing it.
    """

    __slots__ = ("_items", "_key", "_parent", "_tree")

    _items: Any
    _tree: Any  # a `tree.Tree`
    _parent: Node | None
    _key: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        NODES.add(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"a {type(self).__name__} is part of a state: store a container there and read it back")

    if not TYPE_CHECKING:  # checkers would take them for a promise that there is any such attribute

        def __setattr__(self, name: str, value: Any) -> None:
            self._refuse(name, f"a {type(self).__name__} has no attribute {name!r} to set")

        def __delattr__(self, name: str) -> None:
            self._refuse(name, f"a {type(self).__name__} has no attribute {name!r} to delete")

        def __getattr__(self, name: str) -> NoReturn:
            self._refuse(name, f"a {type(self).__name__} has no attribute {name!r}")

    def __len__(self) -> int:
        return self._fetch(len)  # type: ignore[no-any-return]

    def _fetch(self, function: Callable[[Any], Any]) -> Any:
        """Return what `function`, one call of C, makes of what is here."""
        value = self._tree.cursor.fetch(function, self._items)
        return value if value is not SLOW else self._tree.steady(function, self._items)

    def __repr__(self) -> str:
        """Return what can be told at once: never raises, and waits neither for a lock nor for an editor."""
        self._tree.glance()
        removed = "" if self._is_part() else ", removed from the state"
        return f"{type(self).__name__}({copy_of(self._items)!r}{removed})"

    def __str__(self) -> str:
        """Return the contents as plain data has them; the last good ones while an edit by hand is refused."""
        try:
            return str(self.plain())
        except StateFileError:
            return str(copy_of(self._items))

    def __copy__(self) -> Any:
        return self.plain()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.plain()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        plain = self.plain()
        return type(plain), (plain,)

    def plain(self) -> Any:
        """Return the contents as plain data: a deep, consistent copy."""
        return self._tree.steady(copy_of, self._items)

    def _refuse(self, name: str, problem: str) -> NoReturn:
        raise AttributeError(f"{problem}; {self._instead(name)}", name=name, obj=self)

    def _instead(self, name: str) -> str:
        raise NotImplementedError

    def _inverse(self, change: Change) -> Step | None:
        """Return what would take back `change`, which is about to be made here; None: only `_whole` does."""
        raise NotImplementedError

    def _whole(self) -> Step:
        """Return what would make the entries here what they are now."""
        raise NotImplementedError

    def _key_of(self, child: Node) -> Any:
        """Return where `child` stands in this container, or raise `DetachedError` if it does not."""
        raise NotImplementedError

    def _holds(self, child: Node) -> bool:
        """Return whether `child` stands in this container, asked at any moment."""
        raise NotImplementedError

    def _is_part(self) -> bool:
        """Return whether this container is part of the state. Needs no lock: half-way through a change it says yes."""
        cursor = self._tree.cursor
        before = cursor.epoch
        node, parent = self, self._parent
        while parent is not None and parent._holds(node):
            node, parent = parent, parent._parent
        return parent is None or bool(before & 1) or cursor.epoch is not before

    def _path(self) -> list[Any]:
        """Return the keys from the root to this container. Needs the locks: an index may move."""
        keys: list[Any] = []
        node = self
        parent = node._parent
        while parent is not None:
            keys.append(parent._key_of(node))
            node = parent
            parent = node._parent
        keys.reverse()
        return keys

    def _detached(self) -> DetachedError:
        return DetachedError(
            f"{self._tree.name}: this container was removed from the state, or replaced in it; "
            "read it again from the state"
        )

    def _level(self) -> int:
        """Return how many containers stand around this one's children."""
        level = 1
        parent = self._parent
        while parent is not None:
            level += 1
            parent = parent._parent
        return level

    def _checked(self, value: Any, key: Any) -> Plain:
        """Return a plain copy of `value`, which is to stand at `key`; an error tells its place from the root."""
        try:
            return normalise(value, 0 if value.__class__ in _FLAT else self._level())
        except UnsupportedValueError as error:
            raise self._placed(error, key) from None

    def _placed(self, error: UnsupportedValueError, *key: Any) -> UnsupportedValueError:
        try:
            path = self._path()
        except (DetachedError, LookupError):
            path = []
        return error.within((*path, *key), self._tree.name)

    def _is_own(self, value: Any) -> bool:
        """Return whether `value` is a node of this state: whether it stands in its place already, a write finds out."""
        return value.__class__ in NODES and value._tree is self._tree


# `Node.__setattr__` refuses all names; the slots are set by their descriptors.
_set_items: Any = Node.__dict__["_items"].__set__
_set_parent: Any = Node.__dict__["_parent"].__set__
use_tree: Callable[[Any, Any], None] = Node.__dict__["_tree"].__set__
"""Send the writes of one node elsewhere: ``use_tree(node, tree)``."""
hint: Callable[[Any, Any], None] = Node.__dict__["_key"].__set__
"""Tell a node its key in its parent: ``hint(node, key)``."""


def fill(node: Any, tree: Any, parent: Node | None, key: Any, items: Any) -> None:
    """Give `node` its place and its contents."""
    use_tree(node, tree)
    _set_parent(node, parent)
    hint(node, key)
    _set_items(node, items)


def new_node(kind: Any, tree: Any, parent: Node | None, key: Any, items: Any) -> Any:
    """Return a node that holds `items`."""
    node = kind.__new__(kind)
    fill(node, tree, parent, key, items)
    return node


def live(value: Any, parent: Node, key: Any) -> Node:
    """Return a node for the plain container `value` in `parent`, with nodes for the containers in it."""
    if parent._parent is None:
        parent = parent._tree.root  # not one of its other faces: a child must not keep a dropped state alive
    tree = parent._tree
    items: Any = value.__class__()
    made = new_node(KINDS[value.__class__], tree, parent, key, items)
    if value.__class__ is dict:
        for name, item in value.items():
            items[name] = live(item, made, name) if item.__class__ in KINDS else item
    else:
        for index, item in enumerate(value):
            items.append(live(item, made, index) if item.__class__ in KINDS else item)
    return made  # type: ignore[no-any-return]


def copy_of(value: Any) -> Any:
    """Return a deep copy of what a node holds, or of one item of it, as plain data.

    Never raises; while another thread changes what is copied, the copy can be of a moment that never was.
    """
    if value.__class__ in NODES:
        value = value._items
    if value.__class__ is dict:
        copy = value.copy()
        for key, item in copy.items():
            if item.__class__ in NODES:
                copy[key] = copy_of(item)
        return copy
    if value.__class__ is list:
        return [copy_of(item) if item.__class__ in NODES else item for item in value.copy()]
    return value


def comparable(value: Any) -> Any:
    """Return `value`, a node as plain data: it is compared many times then, and read once."""
    return value.plain() if value.__class__ in NODES else value


writer.represent_as_plain(Node, Node.plain)
