"""What a state that is kept as JSON cannot hold, of changes that are about to be made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmapstate.changes import Change
from mmapstate.errors import UnsupportedValueError
from mmapstate.text.json_text import mismatch, mismatch_of_key


def check(record: Iterable[Change], root: Any, file: str) -> None:
    """Raise `UnsupportedValueError` for the first of the changes below the node `root` that JSON cannot hold."""
    for operation, path, key, *values in record:
        found: UnsupportedValueError | None = None
        if operation == "splice":
            found = mismatch(values[1], tuple(path), key)
        elif operation == "set" and key.__class__ is not str and _is_mapping(root, path):
            found = mismatch_of_key(key, path)
        elif operation != "delete":
            found = mismatch(values[0], (*path, key))
        if found is not None:
            raise found.within((), file)


def _is_mapping(node: Any, path: Iterable[Any]) -> bool:
    for key in path:
        node = node._items[key]
    return isinstance(node._items, dict)
