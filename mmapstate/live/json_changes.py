"""What a state that is kept as JSON cannot hold, of changes that are about to be made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmapstate.changes import Change
from mmapstate.errors import UnsupportedValueError
from mmapstate.text.json_text import Mismatch, mismatch, mismatch_of_key


def check(record: Iterable[Change], root: Any, file: str) -> None:
    """Raise `UnsupportedValueError` for the first of the changes below the node `root` that JSON cannot hold."""
    for operation, path, key, *values in record:
        where = tuple(path)
        found: Mismatch | None = None
        if operation == "splice":
            found = mismatch(values[1])
            if found is not None:
                found = Mismatch((key + found.path[0], *found.path[1:]), found.problem)
        elif operation != "delete":
            if operation == "set" and key.__class__ is not str and _is_mapping(root, path):
                found = mismatch_of_key(key, ())
            else:
                found = mismatch(values[0])
                found = found and Mismatch((key, *found.path), found.problem)
        if found is not None:
            raise UnsupportedValueError(found.problem, where + found.path, file)


def _is_mapping(node: Any, path: Iterable[Any]) -> bool:
    for key in path:
        node = node._items[key]
    return isinstance(node._items, dict)
