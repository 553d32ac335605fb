r"""Read the state files of ``persistedstate`` 26.1, those of a killed program too.

At rest such a file is one YAML document, keys sorted. While a program runs, each change is a document behind it::

    last_id: 1
    ---
    ["set", ["key"], "nested", 3]

A crash leaves four things, none of which persistedstate itself can open without loss:

- a last change that is torn;
- a change that was refused: it was written before it was checked;
- a change at a place that was wrong when it was written: a container in a list does not know where it stands after a
  negative index (``pop()`` is one), see `_Replay`;
- a vacuum that was killed. It dumps the state thrice: right behind the last document; behind the line `_MARK`; and over
  the beginning of the file, which is then cut. Such a file is refused, with what there is to know: which of the three
  is whole cannot always be told, and a wrong guess would be somebody's state.

Only what no hand would write is taken for one of its files: the beginning of a change behind ``---``, or the mark.
"""

from __future__ import annotations

import re
from typing import Any

from mmapstate import changes
from mmapstate.errors import BeyondRepair, StateFileError, UnsupportedValueError
from mmapstate.text import reader
from mmapstate.text.reader import Suspect
from mmapstate.values import Plain, normalise

_BOUNDARY = re.compile(rb"\r?\n---\r?\n")
_MARK = b"### LAST VALID STATE ###"
_HALF_WAY = re.compile(rb"^(?:---|\.\.\.(?:\r?\n)?)\r?\n%b(?:\r?\n|\Z)" % _MARK, re.M)
_VERBS = {"set": 3, "delete": 2, "insert": 3}
_HEADS = tuple(f'["{verb}", [' for verb in _VERBS)
_CHANGE = re.compile(rb"(?:\A|\n)---\r?\n\[\"(?:(?:set|delete|insert)\", \[|(?P<torn>[a-z]+\"?,? ?)\0*\Z)")
_TORN_SEPARATOR = re.compile(rb"\r?\n(?:-{1,2}|---\r?|---\r?\n)\Z")


def find_journal(data: bytes) -> bool:
    """Return whether `data` is a file of persistedstate with more behind (or over) its snapshot."""
    found = _CHANGE.search(data)
    if found is None:
        return _HALF_WAY.search(data) is not None
    torn = found["torn"]
    return torn is None or any(head.startswith('["' + torn.decode()) for head in _HEADS)


def refuse_half_way(data: bytes, file: str) -> None:
    """Raise `StateFileError` for a file that persistedstate was compacting when it was killed."""
    mark = _HALF_WAY.search(data)
    if mark is None:
        return
    offset = mark.end() - len(mark[0].partition(b"\n")[2])
    line = data.count(b"\n", 0, offset) + 1
    problem = (
        f"persistedstate was killed here while it compacted its file; behind '{_MARK.decode()}' stands its last state, "
        "whole or in part, and a state from before, if not written over, at the beginning"
    )
    error = BeyondRepair(
        f"{file}, line {line}: {problem}. Copy the file, look which of them is whole, and leave that alone in it; the "
        "file is left as it is"
    )
    error.line, error.offset, error.problem = line, offset, problem
    raise error


def read(data: bytes, file: str, suspects: list[Suspect] | None = None) -> dict[Any, Plain]:
    """Return the state that the file's bytes hold; raise `StateFileError` if they hold none.

    `suspects` is that of `reader.parse`.
    """
    refuse_half_way(data, file)
    try:
        state = normalise(_File(file, suspects).read(_TORN_SEPARATOR.sub(b"", data)))
    except UnsupportedValueError as error:
        raise StateFileError(f"{file}: persistedstate stored what cannot be stored here: {error}") from None
    assert isinstance(state, dict)
    return state


class _File:
    """Reads one file; knows its name for messages."""

    def __init__(self, file: str, suspects: list[Suspect] | None) -> None:
        self.file = file
        self.suspects = suspects

    def read(self, data: bytes) -> dict[Any, Plain]:
        if _CHANGE.match(data):  # an editor took away the empty line that was the front
            data = b"\n" + data
        front, *documents = _BOUNDARY.split(data)
        return self._replayed(reader.parse(front, self.file, self.suspects), documents)

    def _replayed(self, state: dict[Any, Plain], documents: list[bytes]) -> dict[Any, Plain]:
        replay = _Replay(state)
        for number, document in enumerate(documents, 1):
            change = self._change(document, number, last=number == len(documents))
            if change is None:
                continue
            try:
                replay.apply(*change)
            except (LookupError, TypeError, AttributeError, OverflowError):
                _warn("%s: change %d of persistedstate was refused there, and is left out", self.file, number)
            if replay.in_doubt:
                replay.in_doubt = False
                _warn(
                    "%s: change %d of persistedstate can belong to either of two containers of its list, as it took "
                    "note of both at one place; look whether it is right (under %s)", self.file, number, change[1],
                )  # fmt: skip
        return state

    def _change(self, document: bytes, number: int, *, last: bool) -> tuple[Any, ...] | None:
        """Return the change that a document holds; None for an empty or torn one. The last may be torn, or padded."""
        refusal = StateFileError(
            f"{self.file}: document {number} behind the first is no change that persistedstate writes; mend it in an "
            "editor, the file is left as it is"
        )
        document = document.strip(b"\0 \t\r\n")
        try:
            text = document.decode("utf-8")
        except UnicodeDecodeError as error:
            if not last or error.end != len(document):
                raise refusal from None
            text = document[: error.start].decode("utf-8")
        if not text:
            return None
        try:
            change, end = changes.decode_start(text)
        except (ValueError, RecursionError) as error:
            if not last or type(error) in (ValueError, RecursionError) or not _is_torn(text):
                raise refusal from None
            _warn("%s: the last change of persistedstate is torn, and left out", self.file)
            return None
        if text[end:] and (not last or text[end].isspace()):
            raise refusal
        if not (
            isinstance(change, list)
            and change
            and isinstance(change[0], str)
            and _VERBS.get(change[0]) == len(change) - 1
            and isinstance(change[1], list)
        ):
            raise refusal
        return tuple(normalise(part) for part in change)


def _is_torn(text: str) -> bool:
    return any(text.startswith(head) or head.startswith(text) for head in _HEADS)


class _Replay:
    """Applies changes to a plain tree, in place, at the places that persistedstate meant.

    Each of its containers keeps the path it was put at, and takes note when something moves it. After a negative index
    it moves the wrong ones, or by the wrong number; changes of these containers are written with a wrong path, and its
    own recovery applies them to wrong items. So for such a list the place is kept that each item believes to be at.

    JSON makes the keys of a mapping text, so ``{1: 2}`` comes as ``{"1": 2}``; a later change at 1 tells.
    """

    def __init__(self, state: dict[Any, Plain]) -> None:
        self.state = state
        self.in_doubt = False
        self.places: dict[int, tuple[list[Any], list[int]]] = {}  # by id; the list is kept, so that no other gets it
        self.vague: dict[int, tuple[dict[Any, Any], set[Any]]] = {}  # the same; keys that came inside a JSON value

    def apply(self, verb: str, path: list[Any], key: Any, value: Any = None) -> None:
        """Raises LookupError, TypeError, AttributeError or OverflowError where persistedstate refused the change."""
        container = self._container(path, verb, key)
        self._note(value)
        if isinstance(container, list):
            self._apply_to_list(verb, container, key, value)
        elif verb == "set":
            container[self._key(container, key)] = value
            self.vague.get(id(container), (None, set()))[1].discard(key)
        elif verb == "delete":
            del container[self._key(container, key)]
        else:
            raise AttributeError("a mapping has no insert")

    def _container(self, path: list[Any], verb: str, key: Any) -> Any:
        """Return the container that wrote the change: of those that believe to be at `path`, one that could do it."""
        found: list[Any] = [self.state]
        for step in path:
            found = [child for container in found for child in self._children(container, step)]
        able = [container for container in found if self._can(container, verb, key)] if len(found) > 1 else found
        self.in_doubt = len(able) > 1 or (len(found) > 1 and verb == "delete")  # which may have been refused
        return (able or found)[0]  # IndexError: it had been removed

    def _apply_to_list(self, verb: str, items: list[Any], index: Any, value: Any) -> None:
        size = len(items)
        places = self._places(items, odd=isinstance(index, int) and not 0 <= index <= size)
        if verb == "set":
            items[index] = value
            if places is not None:
                places[index] = index
        elif verb == "delete":
            del items[index]
            if places is not None:
                del places[index]
                _shift(places, index, -1)
        else:
            items.insert(index, value)
            if places is not None:
                _shift(places, index, 1)
                places.insert(index, index)

    def _places(self, items: list[Any], *, odd: bool) -> list[int] | None:
        """Return where the items of a list believe to be; None while that is where they are."""
        if odd:
            self.places.setdefault(id(items), (items, list(range(len(items)))))
        known = self.places.get(id(items))
        return known[1] if known else None

    def _children(self, container: Any, step: Any) -> list[Any]:
        """Return the containers in `container` that believe to be at `step`; first the one that is."""
        if isinstance(container, dict):
            children = [container.get(self._key(container, step))]
        else:
            there = container[step] if isinstance(step, int) and -len(container) <= step < len(container) else None
            places = self._places(container, odd=False)
            if places is None:
                children = [there]
            else:
                believers = [item for item, place in zip(container, places, strict=True) if place == step]
                children = sorted(believers, key=lambda item: item is not there)
        return [child for child in children if isinstance(child, dict | list)]

    def _can(self, container: Any, verb: str, key: Any) -> bool:
        if isinstance(container, list):
            return isinstance(key, int) and (verb == "insert" or -len(container) <= key < len(container))
        return verb == "set" or (verb == "delete" and self._key(container, key) in container)

    def _key(self, container: dict[Any, Any], key: Any) -> Any:
        """Return `key`, after the key of a mapping that it shows to be this one was made it."""
        _, vague = self.vague.get(id(container), (None, ()))
        if vague and key not in container and (key is None or isinstance(key, int)):
            text = changes.text_of(key)
            if text in vague and text in container:
                container[key] = container.pop(text)
        return key

    def _note(self, value: Any) -> None:
        """Remember the keys of mappings that came as JSON."""
        if isinstance(value, dict):
            self.vague[id(value)] = (value, set(value))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            if isinstance(item, dict | list):
                self._note(item)


def _shift(places: list[int], start: int, by: int) -> None:
    """Move places as persistedstate does: a negative start makes it count through the end, and fail where that ends."""
    try:
        for index in range(start, len(places)):
            places[index] += by
    except IndexError:
        pass


def _warn(text: str, *arguments: Any) -> None:
    from mmapstate.logger import log  # seldom needed, and what it imports takes a while

    log.warning(text, *arguments)
