"""Which values a field may hold: validators of plain data, exactly of the types that `values` makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mmapstate.changes import Change
from mmapstate.values import Plain


class Mismatch(NamedTuple):
    """A value of the wrong type: the keys and indexes that lead to it, and what was expected and found there."""

    path: tuple[Any, ...]
    expected: str
    found: str

    def below(self, path: Iterable[Any]) -> Mismatch:
        """Return the same mismatch as seen from further up, where `path` leads to what it was found in."""
        return self._replace(path=(*path, *self.path))


class Validator:
    """Accepts anything; subclasses accept what an annotation says. `text` is that annotation, for messages.

    `scalars` are the types that are accepted without a further look.
    """

    scalars: frozenset[type] = frozenset()
    item: Validator
    """What judges all that is in a container."""

    as_a_whole = False
    """Whether what may change in a container depends on what else is in it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def mismatch(self, value: Plain) -> Mismatch | None:  # noqa: ARG002
        """Return what is wrong with plain `value`, or None."""
        return None

    def at(self, key: Any) -> Validator:  # noqa: ARG002
        """Return the validator of what stands at `key` in a container."""
        return self.item

    def mismatch_of(self, change: Change) -> Mismatch | None:  # noqa: ARG002
        """Return what would be wrong with a container, right so far, after `change` of its own entries; or None."""
        return None

    def _wrong(self, value: Plain) -> Mismatch:
        return Mismatch((), self.text, "None" if value is None else type(value).__name__)


ANYTHING = Validator.item = Validator("Any")


class ScalarValidator(Validator):
    """Accepts scalars of some types."""

    def __init__(self, text: str, *scalars: type) -> None:
        super().__init__(text)
        self.scalars = frozenset(scalars)

    def mismatch(self, value: Plain) -> Mismatch | None:
        return None if value.__class__ in self.scalars else self._wrong(value)


class LiteralValidator(Validator):
    """Accepts a few values."""

    def __init__(self, text: str, values: Iterable[Any]) -> None:
        super().__init__(text)
        self.values = [(value.__class__, value) for value in values]

    def mismatch(self, value: Plain) -> Mismatch | None:
        return None if (value.__class__, value) in self.values else Mismatch((), self.text, repr(value)[:40])


class ListValidator(Validator):
    """Accepts lists whose items `item` accepts."""

    def __init__(self, text: str, item: Validator) -> None:
        super().__init__(text)
        self.item = item

    def mismatch(self, value: Plain) -> Mismatch | None:
        if not isinstance(value, list):
            return self._wrong(value)
        return None if self.item.__class__ is Validator else self._first(enumerate(value))

    def mismatch_of(self, change: Change) -> Mismatch | None:
        match change:
            case ("splice", _, start, _, values):
                return self._first(enumerate(values, start))
            case (_, _, index, value):
                return self._first([(index, value)])
        return None

    def _first(self, items: Iterable[tuple[int, Plain]]) -> Mismatch | None:
        return _first((index, self.item.mismatch(value)) for index, value in items)


class DictValidator(Validator):
    """Accepts mappings whose keys and values `key` and `item` accept."""

    def __init__(self, text: str, key: Validator, item: Validator) -> None:
        super().__init__(text)
        self.key = key
        self.item = item

    def mismatch(self, value: Plain) -> Mismatch | None:
        if not isinstance(value, dict):
            return self._wrong(value)
        return next((wrong for key in value if (wrong := self._mismatch_of_key(key)) is not None), None) or _first(
            (key, self.item.mismatch(item)) for key, item in value.items()
        )

    def mismatch_of(self, change: Change) -> Mismatch | None:
        match change:
            case ("set", _, key, value):
                return self._mismatch_of_key(key) or _first([(key, self.item.mismatch(value))])
        return None

    def _mismatch_of_key(self, key: Any) -> Mismatch | None:
        wrong = self.key.mismatch(key)
        return None if wrong is None else Mismatch((key,), f"{wrong.expected} as a key", wrong.found)


class RecordValidator(Validator):
    """Accepts mappings some of whose keys have validators of their own (a TypedDict); other keys are left alone."""

    def __init__(self, text: str, items: dict[Any, Validator], required: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.items = items
        self.required = sorted(required)

    def mismatch(self, value: Plain) -> Mismatch | None:
        if not isinstance(value, dict):
            return self._wrong(value)
        missing = next((key for key in self.required if key not in value), None)
        if missing is not None:
            return self._without(missing)
        return _first((key, item.mismatch(value[key])) for key, item in self.items.items() if key in value)

    def at(self, key: Any) -> Validator:
        return self.items.get(key, ANYTHING)

    def mismatch_of(self, change: Change) -> Mismatch | None:
        match change:
            case ("delete", _, key):
                return self._without(key) if key in self.required else None
            case (_, _, key, value) if key in self.items:
                return _first([(key, self.items[key].mismatch(value))])
        return None

    def _without(self, key: Any) -> Mismatch:
        return Mismatch((), self.text, f"a mapping without {key!r}")


class UnionValidator(Validator):
    """Accepts what one of several accepts. `container` judges changes below: the only one that is no scalar, if any."""

    def __init__(self, parts: Sequence[Validator]) -> None:
        flat = [each for part in parts for each in (part.parts if isinstance(part, UnionValidator) else [part])]
        super().__init__(" | ".join(part.text for part in flat))
        self.parts: list[Validator] = flat
        self.scalars = frozenset[type]().union(*(part.scalars for part in flat))
        containers = [part for part in flat if not isinstance(part, ScalarValidator | LiteralValidator)]
        self.container = containers[0] if len(containers) == 1 else ANYTHING
        self.as_a_whole = len(containers) > 1 and not any(part.__class__ is Validator for part in containers)

    def mismatch(self, value: Plain) -> Mismatch | None:
        found = []
        for part in self.parts:
            wrong = part.mismatch(value)
            if wrong is None:
                return None
            found.append(wrong)
        deeper = [wrong for wrong in found if wrong.path]
        return deeper[0] if len(deeper) == 1 else self._wrong(value)

    def at(self, key: Any) -> Validator:
        return self.container.at(key)

    def mismatch_of(self, change: Change) -> Mismatch | None:
        return self.container.mismatch_of(change)


def _first(found: Iterable[tuple[Any, Mismatch | None]]) -> Mismatch | None:
    """Return the first mismatch of some children, as seen from their container."""
    return next((wrong.below((key,)) for key, wrong in found if wrong is not None), None)
