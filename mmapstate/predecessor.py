r"""Read the state files of ``persistedstate`` 26.1, crashed ones too.

At rest such a file is one YAML document, keys sorted. While a program runs, each change is a document behind it::

    last_id: 1
    ---
    ["set", ["key"], "nested", 3]

A crash leaves four things, none of which persistedstate itself can open without loss:

- a last change that is torn;
- a change that was refused: it was written before it was checked;
- a change at a place that was wrong when it was written: a container in a list does not know where it stands after a
  negative index (``pop()`` is one), see `_Replay`;
- a vacuum that was killed. It dumps the state thrice, in this order: right behind the last document (without a line
  end between: padding, so that the third does not reach the second); behind ``\n---\n### LAST VALID STATE ###\n``; and
  with ``...`` behind it over the beginning of the file, which is then cut there.

So until the third has begun the old front and journal hold all, and once it has, the second is whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mmapstate import changes, snapshot
from mmapstate.errors import StateFileError, UnsupportedValueError
from mmapstate.values import Plain, normalise, same

__all__ = ["find_journal", "read"]

_BOUNDARY = re.compile(rb"\r?\n---\r?\n")
_MARK = re.compile(rb"### LAST VALID STATE ###(\r?\n)")
_JOURNAL = re.compile(rb"\n---\r?\n(?:\[|### LAST VALID STATE ###\r?\n)")
_JOURNAL_ALONE = (b"---\n[", b"---\r\n[")  # an editor took away the empty line that was the front
_TORN = re.compile(rb"\r?\n(?:-{1,2}|---\r?|---\r?\n(?:#{0,3}|### [A-Z ]{0,16}|### LAST VALID STATE #{0,3}\r?))\Z")
_LONGEST_TORN = 34
_FIRST_KEY = re.compile(rb"[^\n]*?:(?=[ \r\n])")
_VERBS = {"set": 3, "delete": 2, "insert": 3}
_HEADS = ('["set", [', '["delete", [', '["insert", [')
_MOST_PLACES = 64  # to look at where padding may begin; each costs a parse


def find_journal(data: bytes) -> bool:
    """Return whether `data` is a file of persistedstate with more behind (or over) its snapshot."""
    if _JOURNAL.search(data) or data.startswith(_JOURNAL_ALONE):
        return True
    # "\n-" can be an item that somebody is about to type, too.
    torn = _TORN.search(data, len(data) - _LONGEST_TORN)
    if torn:
        return b"---" in torn[0] or not _parses(data) or _padded_front(data[: torn.start()]) is not None
    return _last_mark(data) is not None or _padded_front(data) is not None


def read(data: bytes, file: str, suspects: list[snapshot.Suspect] | None = None) -> dict[Any, Plain]:
    """Return the state that the file's bytes hold; raise `StateFileError` if they hold none.

    `suspects` is that of `snapshot.parse`.
    """
    try:
        state = normalise(_File(file, suspects).read(_TORN.sub(_completed, data)))
    except UnsupportedValueError as error:
        raise StateFileError(f"{file}: persistedstate stored what cannot be stored here: {error}") from None
    assert isinstance(state, dict)
    return state


def _completed(torn: re.Match[bytes]) -> bytes:
    """Return a torn separator whole if it is that of the last valid state; before a change it is none."""
    if b"#" not in torn[0]:
        return b""
    line_end = b"\r\n" if torn[0].startswith(b"\r") else b"\n"
    return line_end + b"---" + line_end + b"### LAST VALID STATE ###" + line_end


class _Mark(NamedTuple):
    """The line before the last valid state; `before` is the offset where its separator begins."""

    before: int
    end: int
    overlaid: bool


def _last_mark(data: bytes) -> _Mark | None:
    for mark in reversed(list(_MARK.finditer(data))):
        separator = mark[1] + b"---" + mark[1]
        before = mark.start() - len(separator)
        overlaid = not data.endswith(separator, 0, mark.start())
        if not overlaid or (
            data[mark.start() - 1 : mark.start()] in (b"", b"\n") and _is_whole(data, before, mark.end(), separator)
        ):
            return _Mark(before, mark.end(), overlaid)
    return None


def _is_whole(data: bytes, before: int, end: int, separator: bytes = b"") -> bool:
    """Return whether the state behind the mark can be whole by what stands before it: padding, maybe overwritten.

    What overwrites is the same text; it begins at 0, and can reach the separator where there was hardly a front.
    """
    text = data[end:]
    start = before - len(text)
    if start < 0 or not text.strip():
        return False
    over = text + (b"...\r\n" if text.endswith(b"\r\n") else b"...\n")
    length = next((at for at, byte in enumerate(over) if data[at] != byte), len(over))
    reach = max(length, start)
    return data[reach : before + len(separator)] == (text + separator)[reach - start :]


def _padded_front(data: bytes) -> bytes | None:
    """Return the front of a file without a journal if padding follows: nothing but the front's own text again.

    That is what a vacuum leaves that changes nothing and is killed at once. The front has no line end on POSIX, so the
    padding's first key runs into the last value.
    """
    data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if data.endswith(b"\n\n"):
        data = data[:-1]  # the separator behind the padding has begun
    first = _FIRST_KEY.match(data)
    head = first[0] if first else data[:1]
    for start in itertools.islice(_repetitions(data, head), _MOST_PLACES if head.strip(b" \t\r\n\0") else 0):
        joined = data[start - 1 : start] not in b" \t\n#"
        if not joined and (data[start - 1 : start] != b"\n" or len(data) - start < len(head)):
            continue
        if _parses(data[:start]) and ((first and joined and len(data) - start >= len(head)) or not _parses(data)):
            return data[:start]
    return None


def _repetitions(data: bytes, head: bytes) -> Iterator[int]:
    """Yield where `data` begins anew, and ends before it says more than its first part."""
    size = len(data)
    start = max((size - 1) // 2, 1)
    while (start := data.find(head, start)) >= 0:
        # First its two ends, which is cheap: a list of mappings begins anew with every item, a run of one letter with
        # every letter.
        length = min(size - start, start)
        if (
            data.startswith(data[start : start + min(length, 256)])
            and data.endswith(data[max(length - 256, 0) : length], start, start + length)
            and data[start:] == (data[:start] + b"\n")[: size - start]
        ):
            yield start
        start += 1
    for rest in range(min(len(head), size // 2 + 1) - 1, 0, -1):
        if data.endswith(head[:rest]):
            yield size - rest


def _parses(text: bytes) -> bool:
    try:
        snapshot.parse(text, "")
    except StateFileError:
        return False
    return True


class _File:
    """Reads one file; knows its name for messages."""

    def __init__(self, file: str, suspects: list[snapshot.Suspect] | None) -> None:
        self.file = file
        self.suspects = suspects

    def read(self, data: bytes) -> dict[Any, Plain]:
        mark = _last_mark(data)
        if mark is None:
            return self._front_and_journal(data)
        before = data[: mark.before]
        text, *documents = _BOUNDARY.split(data[mark.end :])
        if documents:  # persistedstate opened the file like this, and went on with this state
            return self._replayed(self._front(text) if text.strip() else self.read(before), documents)
        if mark.overlaid:
            return self._last_valid(text)  # looked at already
        change = max((boundary.end() for boundary in _BOUNDARY.finditer(before)), default=0)
        killed_before = _MARK.match(before, change)
        if not change or killed_before:
            return self._without_journal(data, mark, before[killed_before.end() if killed_before else 0 :], text)
        # The padding begins in the line of the last change, which was not overwritten then, nor were those before it.
        line_end = before.find(b"\n", change)
        if text.strip() and before.endswith(text) and change <= len(before) - len(text) <= line_end:
            return self._last_valid(text)
        if not change <= before.find(text, change) <= line_end:
            raise self._neither()
        return self.read(before)  # the last valid state is torn

    def _without_journal(self, data: bytes, mark: _Mark, before: bytes, text: bytes) -> dict[Any, Plain]:
        """Read a killed vacuum without changes before it: there were none, or they were overwritten."""
        place = before.find(text) if text.strip() else -1
        for _ in range(_MOST_PLACES):
            if place < 0:
                break
            if _parses(before[:place]) and _parses(before[place:]):
                state = self._parsed(before[:place])
                if _alike(state, snapshot.parse(before[place:], self.file)):
                    return state  # front and padding agree: nothing was overwritten, the last valid state may be torn
            place = before.find(text, place + 1)
        if place < 0 and _is_whole(data, mark.before, mark.end):
            return self._last_valid(text)
        if _padded_front(before) is None and before.strip() != b"{}":
            raise self._neither()
        return self._front(before)  # an empty front has nothing before its padding

    def _last_valid(self, text: bytes) -> dict[Any, Plain]:
        _warn("%s: persistedstate was killed in its vacuum; using its last valid state", self.file)
        return self._front(text)  # it may have been killed again, with nothing changed

    def _front_and_journal(self, data: bytes) -> dict[Any, Plain]:
        if data.startswith(_JOURNAL_ALONE):
            data = b"\n" + data
        front, *documents = _BOUNDARY.split(data)
        return self._replayed(self._front(front) if not documents else self._parsed(front), documents)

    def _front(self, text: bytes) -> dict[Any, Plain]:
        front = _padded_front(text)
        if front is None:
            return self._parsed(text)
        _warn("%s: persistedstate was killed in its vacuum, before it changed anything", self.file)
        return self._parsed(front)

    def _parsed(self, text: bytes) -> dict[Any, Plain]:
        return snapshot.parse(text, self.file, self.suspects)

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

    def _neither(self) -> StateFileError:
        return StateFileError(
            f"{self.file}: what persistedstate calls the last valid state fits neither the text before it nor the "
            "journal; mend the file in an editor, it is left as it is"
        )


def _is_torn(text: str) -> bool:
    return any(text.startswith(head) or head.startswith(text) for head in _HEADS)


def _alike(left: dict[Any, Plain], right: dict[Any, Plain]) -> bool:
    return same(_sorted(left), _sorted(right))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=repr)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


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
