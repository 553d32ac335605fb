"""Live containers, and what is done to a whole tree of them: begin, copy, replay, reconcile. Knows nothing of files.

What both kinds have in common, and what must stand behind them, is told in `tree`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, cast

from mmapstate.changes import Change
from mmapstate.state_dict import StateDict
from mmapstate.state_list import StateList
from mmapstate.tree import KINDS, NODES, Tree, copy_of, fill, live, new_node, use_tree
from mmapstate.values import Plain

__all__ = ["StateDict", "StateList", "Tree", "adopt_root", "new_root", "plain_root", "reconcile", "replay", "use_tree"]


def new_root(tree: Any) -> StateDict:
    """Return an empty mapping that is the top of `tree`."""
    return cast("StateDict", new_node(StateDict, tree, None, None, {}))


def adopt_root(node: StateDict, root: StateDict) -> None:
    """Make `node` another face of `root`: the same entries, the same tree."""
    fill(node, root._tree, None, None, root._items)


def plain_root(root: StateDict) -> dict[Any, Plain]:
    """Return a plain, deep copy of the tree below `root` as memory has it now."""
    return cast("dict[Any, Plain]", copy_of(root._items))


def replay(root: StateDict, changes: Iterable[Change]) -> None:
    """Apply `changes`, which are in the file, to the live tree below `root`.

    Raises LookupError, TypeError or AttributeError when one does not fit the tree; those before it are applied then.
    """
    for change in changes:
        operation = change[0]
        node: Any = root
        for key in change[1]:
            node = node._items[key]
        if node.__class__ not in NODES:
            raise TypeError(f"{operation} of something that is no container")
        if operation == "set":
            node._put(change[2], change[3])
        elif operation == "delete":
            node._take(change[2])
        elif operation == "insert":
            node._put_in(change[2], change[3])
        else:
            node._put_slice(change[2], change[3], change[4])


def reconcile(node: StateDict, data: dict[Any, Plain]) -> None:
    """Make the contents of `node` equal `data`; a container whose path is mapping keys only stays the same object."""
    entries: dict[Any, Any] = {}
    for key, value in data.items():
        kept = node._items.get(key)
        if value.__class__ in KINDS and kept.__class__ is KINDS[value.__class__]:
            if kept.__class__ is StateDict:
                reconcile(kept, cast("dict[Any, Plain]", value))
            else:
                cast("StateList", kept)._put_slice(0, sys.maxsize, cast("list[Plain]", value))
            entries[key] = kept
        else:
            entries[key] = live(value, node, key) if value.__class__ in KINDS else value
    node._items.clear()
    node._items.update(entries)
