"""What a class of states declares: its fields, their defaults, and which values fit them.

A field is an annotated name of the class: ``last_id: int = 0``. Annotations are read late: they may be text, or name
what is defined further down.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from mmapstate.changes import Change, apply
from mmapstate.errors import UnsupportedValueError, place
from mmapstate.live.annotations import annotations_of, is_constant, validator_of
from mmapstate.live.node import copy_of
from mmapstate.live.validators import Mismatch, RecordValidator, Validator
from mmapstate.values import Plain, normalise, normalise_key


class Schema:
    """The fields of `owner`, a class of states, and of the classes it comes from; those in `above` have none.

    Raises TypeError for a field named like a method (in `hidden`), and where a default or a type cannot be stored.
    """

    def __init__(self, owner: type, above: Iterable[type] = (), hidden: Iterable[str] = ()) -> None:
        self.owner = owner
        self.annotations: dict[str, tuple[type, Any]] = {}
        self.defaults: dict[str, Plain] = {}
        self.own_defaults: dict[str, Plain] = {}  # kept, as attributes take their place in the class
        for base in reversed(owner.__mro__):  # the owner last
            if base in above:
                continue
            own = {name: each for name, each in annotations_of(base).items() if not name.startswith("_")}
            if base is owner:
                self._refuse_methods(own, hidden)
                self._refuse_forgotten(own)
            self.annotations |= {name: (base, annotation) for name, annotation in own.items()}
            known: Schema | None = vars(base).get("_declared")  # none of a mixin
            self.own_defaults = known.own_defaults if known is not None else self._defaults_in(base)
            self.defaults |= self.own_defaults
        self.fields = frozenset(
            name for name, (_, annotation) in self.annotations.items() if not is_constant(annotation)
        )
        with contextlib.suppress(NameError):  # of a class that is defined further down: read again at the first open
            _ = self.record

    def read(self) -> Schema:
        """Read annotations that could not be read yet; raise TypeError where that fails. Returns itself."""
        try:
            _ = self.record
        except NameError as error:
            raise TypeError(
                f"{self.owner.__qualname__}: an annotation cannot be read ({error}); define or import that name in the "
                "module of the class"
            ) from None
        return self

    @functools.cached_property
    def record(self) -> RecordValidator:
        """The validator of a whole state. Raises TypeError for a type that no state can hold, and NameError."""
        validators: dict[Any, Validator] = {
            name: validator_of(annotation, base, name)
            for name, (base, annotation) in self.annotations.items()
            if name in self.fields
        }
        for name, default in self.defaults.items():
            wrong = validators[name].mismatch(default)
            if wrong is not None:
                raise TypeError(
                    f"{self.owner.__qualname__}.{name}: expected {wrong.expected}, and the default holds {wrong.found}"
                    f"{' at ' + place(wrong.path) if wrong.path else ''}"
                )
        return RecordValidator(self.owner.__qualname__, validators)

    def mismatch(self, state: dict[Any, Plain]) -> Mismatch | None:
        """Return the first value in `state`, plain data, that does not fit its field."""
        return self.record.mismatch(state)

    def check(self, changes: Iterable[Change], root: Any, file: str) -> None:
        """Raise `UnsupportedValueError` for the first of `changes` below the node `root` that would not fit."""
        for change in changes:
            wrong = self._mismatch_after(change, root)
            if wrong is not None:
                raise self.error(wrong, file)

    def error(self, wrong: Mismatch, file: str) -> UnsupportedValueError:
        """Return what is raised for a value that does not fit, and is not stored."""
        return UnsupportedValueError(self.explained(wrong), wrong.path, file)

    def explained(self, wrong: Mismatch) -> str:
        """Return what is wrong, and who declares it, for a message that tells the place."""
        name = wrong.path[0]
        declaration = f"{self.owner.__qualname__} declares {name}: {self.record.items[name].text}"
        return f"expected {wrong.expected}, found {wrong.found}; {declaration}"

    def _refuse_methods(self, own: dict[str, Any], hidden: Iterable[str]) -> None:
        for name in own:
            if name in hidden and name not in self.annotations and not is_constant(own[name]):
                raise TypeError(
                    f"{self.owner.__qualname__} declares {name!r}, which is a method of a state; give the field "
                    "another name"
                )

    def _refuse_forgotten(self, own: Iterable[str]) -> None:
        """Raise TypeError for a list or dict without annotation, which would be the class's, and never be stored."""
        for name, value in vars(self.owner).items():
            if (
                isinstance(value, list | dict)
                and not (name.startswith("_") or name.isupper())
                and name not in own
                and name not in self.annotations
            ):
                raise TypeError(
                    f"{self.owner.__qualname__}.{name} has no annotation, and would not be stored; write "
                    f"{name}: {type(value).__name__} = ..., or {name}: ClassVar[{type(value).__name__}] = ..."
                )

    def _defaults_in(self, base: type) -> dict[str, Plain]:
        """Return the values that a class gives to fields, its own or inherited ones, copied."""
        defaults: dict[str, Plain] = {}
        for name, value in vars(base).items():
            if name in self.annotations and not is_constant(self.annotations[name][1]):
                try:
                    defaults[name] = normalise(value, 1)
                except UnsupportedValueError as error:
                    where = f" at {place(error.path)}" if error.path else ""
                    raise TypeError(f"{base.__qualname__}.{name}{where}: {error.problem}") from None
        return defaults

    def _mismatch_after(self, change: Change, root: Any) -> Mismatch | None:
        """Return what would be wrong with the state of `root` once `change` is made."""
        path: list[Any] = change[1]
        validator: Validator = self.record
        for level, key in enumerate(path, 1):
            validator = validator.at(key)
            if validator.as_a_whole:
                wrong = validator.mismatch(_changed(root, change, level))
                return wrong and wrong.below(path[:level])
        wrong = validator.mismatch_of(change)
        return wrong and wrong.below(path)


def _changed(root: Any, change: Change, level: int) -> Plain:
    """Return a copy of the container at the first `level` keys of the change's path, with the change made."""
    node = root
    for key in change[1][:level]:
        node = node._items[key]
    copy: dict[Any, Plain] = {"": copy_of(node)}
    apply(copy, [(change[0], ["", *change[1][level:]], *change[2:])])
    return copy[""]


def checked_defaults(defaults: Mapping[Any, Any], file: str) -> dict[Any, Any]:
    """Return plain copies of defaults that were given at an open; raise `UnsupportedValueError`."""
    checked: dict[Any, Any] = {}
    for key, value in defaults.items():
        try:
            name = normalise_key(key)
            checked[name] = normalise(value, 1)
        except UnsupportedValueError as error:
            raise error.within((key,), file) from None
    return checked
