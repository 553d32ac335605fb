"""What a class of states declares: its fields, their defaults, and which values fit them.

A field is an annotated name of the class: ``last_id: int = 0``. Annotations are read late (a string, a name that is
defined further down), and turned into `Kind`s, which judge plain data: exactly the types that `values` makes.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, Final, NamedTuple

from mmapstate.changes import Change, apply
from mmapstate.errors import UnsupportedValueError, place
from mmapstate.live.node import Node, copy_of
from mmapstate.values import Plain, normalise

__all__ = ["Declared", "Misfit"]

_NOTHING: Any = object()
_CONSTANT = re.compile(r"\s*(?:\w+\s*\.\s*)?(?:ClassVar|Final)\b")


class Misfit(NamedTuple):
    """A value that does not fit: the keys and indexes that lead to it, and what was expected and found there."""

    path: tuple[Any, ...]
    expected: str
    found: str


class Kind:
    """What an annotation allows; anything, in this base. `scalars` are the types that fit without a further look."""

    scalars: frozenset[type] = frozenset()
    several = False
    """Whether what is allowed in a container depends on what else is in it: it must be judged as a whole."""

    def __init__(self, text: str) -> None:
        self.text = text

    def misfit(self, value: Plain) -> Misfit | None:  # noqa: ARG002
        """Return how plain `value` does not fit, or None."""
        return None

    def below(self, key: Any) -> Kind | None:  # noqa: ARG002
        """Return what is allowed at `key` in a container of this kind; None: whatever it is."""
        return None

    def removal_misfit(self, key: Any) -> Misfit | None:  # noqa: ARG002
        """Return how a mapping of this kind would not fit without `key`, or None."""
        return None

    def key_misfit(self, key: Any) -> Misfit | None:  # noqa: ARG002
        """Return how `key` does not fit in a mapping of this kind, or None."""
        return None

    def _wrong(self, value: Plain) -> Misfit:
        return Misfit((), self.text, "None" if value is None else type(value).__name__)


class _Scalar(Kind):
    def __init__(self, text: str, *kinds: type) -> None:
        super().__init__(text)
        self.scalars = frozenset(kinds)

    def misfit(self, value: Plain) -> Misfit | None:
        return None if value.__class__ in self.scalars else self._wrong(value)


class _Literal(Kind):
    def __init__(self, text: str, values: Iterable[Any]) -> None:
        super().__init__(text)
        self.values = [(value.__class__, value) for value in values]

    def misfit(self, value: Plain) -> Misfit | None:
        return None if (value.__class__, value) in self.values else Misfit((), self.text, repr(value)[:40])


class _List(Kind):
    def __init__(self, text: str, item: Kind) -> None:
        super().__init__(text)
        self.item = item

    def misfit(self, value: Plain) -> Misfit | None:
        if not isinstance(value, list):
            return self._wrong(value)
        if self.item.__class__ is Kind:
            return None
        return next(_within(enumerate(map(self.item.misfit, value))), None)

    def below(self, key: Any) -> Kind | None:  # noqa: ARG002
        return self.item


class _Dict(Kind):
    def __init__(self, text: str, key: Kind, item: Kind) -> None:
        super().__init__(text)
        self.key = key
        self.item = item

    def misfit(self, value: Plain) -> Misfit | None:
        if not isinstance(value, dict):
            return self._wrong(value)
        wrong = next((key for key in value if self.key.misfit(key) is not None), _NOTHING)
        if wrong is not _NOTHING:
            return self.key_misfit(wrong)
        return next(_within((key, self.item.misfit(item)) for key, item in value.items()), None)

    def below(self, key: Any) -> Kind | None:  # noqa: ARG002
        return self.item

    def key_misfit(self, key: Any) -> Misfit | None:
        wrong = self.key.misfit(key)
        return None if wrong is None else Misfit((key,), f"{wrong.expected} as a key", wrong.found)


class _Record(Kind):
    """A TypedDict: a mapping of some keys with kinds of their own; other keys are left alone."""

    def __init__(self, text: str, items: dict[str, Kind], required: Iterable[str]) -> None:
        super().__init__(text)
        self.items = items
        self.required = sorted(required)

    def misfit(self, value: Plain) -> Misfit | None:
        if not isinstance(value, dict):
            return self._wrong(value)
        missing = next((key for key in self.required if key not in value), None)
        if missing is not None:
            return self.removal_misfit(missing)
        return next(_within((key, kind.misfit(value[key])) for key, kind in self.items.items() if key in value), None)

    def removal_misfit(self, key: Any) -> Misfit | None:
        return Misfit((), self.text, f"a mapping without {key!r}") if key in self.required else None

    def below(self, key: Any) -> Kind | None:
        return self.items.get(key)


class _Union(Kind):
    """One of several. `container` is the only one that is no scalar, if it is the only one."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        flat: list[Kind] = [each for kind in kinds for each in (kind.kinds if isinstance(kind, _Union) else [kind])]
        super().__init__(" | ".join(kind.text for kind in flat))
        self.kinds: list[Kind] = flat
        self.scalars = frozenset[type]().union(*(kind.scalars for kind in flat))
        containers = [kind for kind in flat if not isinstance(kind, _Scalar | _Literal)]
        self.container = containers[0] if len(containers) == 1 else None
        self.several = len(containers) > 1 and not any(kind.__class__ is Kind for kind in containers)

    def misfit(self, value: Plain) -> Misfit | None:
        misfits = []
        for kind in self.kinds:
            misfit = kind.misfit(value)
            if misfit is None:
                return None
            misfits.append(misfit)
        deeper = [misfit for misfit in misfits if misfit.path]
        return deeper[0] if len(deeper) == 1 else self._wrong(value)

    def below(self, key: Any) -> Kind | None:
        return self.container.below(key) if self.container is not None else None

    def key_misfit(self, key: Any) -> Misfit | None:
        return self.container.key_misfit(key) if self.container is not None else None

    def removal_misfit(self, key: Any) -> Misfit | None:
        return self.container.removal_misfit(key) if self.container is not None else None


class Declared:
    """The fields of `owner`, a class of states, and of the classes it comes from; those in `above` declare none.

    Raises TypeError for a field named like a method (in `hidden`), and where a default or a type cannot be stored.
    """

    def __init__(self, owner: type, above: Iterable[type] = (), hidden: Iterable[str] = ()) -> None:
        self.owner = owner
        self.own = _own_annotations(owner) if owner not in above else {}
        self.own_defaults: dict[str, Plain] = {}
        self.annotations: dict[str, tuple[type, Any]] = {}
        self.defaults: dict[str, Plain] = {}
        for base in reversed(owner.__mro__):
            if base not in above and base is not owner:
                self._inherit(base)
        for name, annotation in self.own.items():
            if name in hidden and name not in self.annotations and not _is_constant(annotation):
                raise TypeError(
                    f"{owner.__qualname__} declares {name!r}, which is a method of a state; give the field another name"
                )
        if owner not in above:
            self._refuse_forgotten()
            self.annotations |= {name: (owner, annotation) for name, annotation in self.own.items()}
            self.own_defaults = self._read_defaults(owner)
            self.defaults |= self.own_defaults
        self.fields = frozenset(name for name, found in self.annotations.items() if not _is_constant(found[1]))
        self._kinds: dict[Any, Kind] | None = None
        try:
            _ = self.kinds
        except NameError:  # of a class that is defined further down: read again at the first open
            self._kinds = None

    def read(self) -> Declared:
        """Read annotations that could not be read yet; raise TypeError where that fails. Returns itself."""
        try:
            _ = self.kinds
        except NameError as error:
            raise TypeError(
                f"{self.owner.__qualname__}: an annotation cannot be read ({error}); define or import that name in the "
                "module of the class"
            ) from None
        return self

    @property
    def kinds(self) -> dict[Any, Kind]:
        """What each field may hold, by name. Raises TypeError for a type that no state can hold, and NameError."""
        if self._kinds is None:
            kinds = {
                name: _Reading(base, name).kind(annotation)
                for name, (base, annotation) in self.annotations.items()
                if name in self.fields
            }
            for name, default in self.defaults.items():
                misfit = kinds[name].misfit(default)
                if misfit is not None:
                    raise TypeError(
                        f"{self.owner.__qualname__}.{name}: expected {misfit.expected}, and the default holds "
                        f"{misfit.found}{' at ' + place(misfit.path) if misfit.path else ''}"
                    )
            self._kinds = kinds
        return self._kinds

    def misfit(self, state: Mapping[Any, Plain]) -> Misfit | None:
        """Return the first value in `state`, plain data, that does not fit its field."""
        found = ((name, kind.misfit(state[name])) for name, kind in self.kinds.items() if name in state)
        return next(_within(found), None)

    def check(self, changes: Iterable[Change], root: Any, file: str) -> None:
        """Raise `UnsupportedValueError` for the first of `changes` below the node `root` that would not fit."""
        for change in changes:
            misfit = self._misfit_of(change, root)
            if misfit is not None:
                raise self.error(misfit, file)

    def error(self, misfit: Misfit, file: str) -> UnsupportedValueError:
        """Return what is raised for a value that does not fit, and is not stored."""
        return UnsupportedValueError(self.told(misfit), misfit.path, file)

    def told(self, misfit: Misfit) -> str:
        """Return what is wrong, and who declares it, for a message that tells the place."""
        name = misfit.path[0]
        declared = f"{self.owner.__qualname__} declares {name}: {self.kinds[name].text}"
        return f"expected {misfit.expected}, found {misfit.found}; {declared}"

    def _refuse_forgotten(self) -> None:
        """Raise TypeError for a list or dict without annotation, which would be the class's, and never be stored."""
        for name, value in vars(self.owner).items():
            if (
                isinstance(value, list | dict)
                and not (name.startswith("_") or name.isupper())
                and name not in self.own
                and name not in self.annotations
            ):
                raise TypeError(
                    f"{self.owner.__qualname__}.{name} has no annotation, and would not be stored; write "
                    f"{name}: {type(value).__name__} = ..., or {name}: ClassVar[{type(value).__name__}] = ..."
                )

    def _inherit(self, base: type) -> None:
        known: Declared | None = vars(base).get("_declared")
        if known is not None:
            own, defaults = known.own, known.own_defaults
            self.annotations |= {name: (base, annotation) for name, annotation in own.items()}
        else:  # no class of states: a mixin
            self.annotations |= {name: (base, annotation) for name, annotation in _own_annotations(base).items()}
            defaults = self._read_defaults(base)
        self.defaults |= defaults

    def _read_defaults(self, base: type) -> dict[str, Plain]:
        """Return the values that a class gives to fields, its own or inherited ones, copied."""
        defaults: dict[str, Plain] = {}
        for name, value in vars(base).items():
            if name in self.annotations and not _is_constant(self.annotations[name][1]):
                try:
                    defaults[name] = normalise(value, 1)
                except UnsupportedValueError as error:
                    told = f" at {place(error.path)}" if error.path else ""
                    raise TypeError(f"{base.__qualname__}.{name}{told}: {error.problem}") from None
        return defaults

    def _misfit_of(self, change: Change, root: Any) -> Misfit | None:
        operation, path = change[0], (*change[1], change[2])
        kind: Kind | None = self.kinds.get(path[0])
        for level, key in enumerate(path[1:], 1):
            if kind is not None and kind.several:
                return _misfit_after(change, level, kind, root)
            if kind is None or level == len(path) - 1:
                break
            kind = kind.below(key)
        if kind is None or (operation == "delete" and len(path) == 1):
            return None
        if operation == "delete":
            wrong = kind.removal_misfit(path[-1])
            return wrong._replace(path=path[:-1]) if wrong is not None else None
        if len(path) > 1:
            wrong = kind.key_misfit(path[-1])
            if wrong is not None:
                return wrong._replace(path=path)
            kind = kind.below(path[-1])
            if kind is None:
                return None
        if operation == "splice":
            values = enumerate(change[4], change[2])
            return next(_within(((index, kind.misfit(value)) for index, value in values), path[:-1]), None)
        return next(_within([(path[-1], kind.misfit(change[3]))], path[:-1]), None)


def _misfit_after(change: Change, level: int, kind: Kind, root: Any) -> Misfit | None:
    """Return how the container at the first `level` keys of the change's path would not fit once it is made."""
    node = root
    for key in change[1][:level]:
        node = node._items[key]
    after = {"": copy_of(node)}
    apply(after, [(change[0], ["", *change[1][level:]], *change[2:])])
    misfit = kind.misfit(after[""])
    return misfit._replace(path=(*change[1][:level], *misfit.path)) if misfit is not None else None


def _within(found: Iterable[tuple[Any, Misfit | None]], above: tuple[Any, ...] = ()) -> Iterator[Misfit]:
    """Yield the misfits of some children, told from their container, which stands at `above`."""
    for key, misfit in found:
        if misfit is not None:
            yield misfit._replace(path=(*above, key, *misfit.path))


def _own_annotations(kind: type) -> dict[str, Any]:
    """Return the annotations of the class itself, but for private names; as they are now: some may be text yet."""
    if sys.version_info >= (3, 14):  # evaluated when asked for; here without an error for what is not defined yet
        import annotationlib

        found = annotationlib.get_annotations(kind, format=annotationlib.Format.FORWARDREF)
    else:
        found = vars(kind).get("__annotations__", {})
    return {name: annotation for name, annotation in found.items() if not name.startswith("_")}


def _is_constant(annotation: Any) -> bool:
    """Return whether a name is declared as what belongs to the class, by ClassVar or Final: no field."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return _CONSTANT.match(annotation) is not None
    return any(each in (ClassVar, Final) for each in (annotation, typing.get_origin(annotation)))


_SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),  # as type checkers see it; a bool is an int to them, and here it is none
    str: (str,),
    bytes: (bytes,),
    date: (date, datetime),
    datetime: (datetime,),
    None: (type(None),),
    type(None): (type(None),),
}
_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)


class _Reading:
    """Turns the annotation of one field into a `Kind`. Raises TypeError where no state can hold what it says."""

    def __init__(self, owner: type, name: str) -> None:
        self.owner = owner
        self.name = name

    def kind(self, annotation: Any) -> Kind:
        if isinstance(annotation, typing.ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            return self.kind(self._evaluated(annotation))
        text = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
        if annotation in (Any, object):
            return Kind(text)
        if annotation.__hash__ is not None and annotation in _SCALARS:
            return _Scalar("None" if annotation in (None, type(None)) else text, *_SCALARS[annotation])
        found = self._special(annotation) or self._container(annotation, text)
        if found is not None:
            return found
        raise TypeError(f"{self.owner.__qualname__}.{self.name}: a state cannot hold {text}{_way_out(annotation)}")

    def _evaluated(self, text: str) -> Any:
        module = sys.modules.get(self.owner.__module__)
        try:
            return eval(text, dict(vars(module)) if module is not None else {}, dict(vars(self.owner)))
        except NameError:
            raise
        except Exception as error:
            raise TypeError(
                f"{self.owner.__qualname__}.{self.name}: its annotation {text!r} cannot be read ({error})"
            ) from error

    def _special(self, annotation: Any) -> Kind | None:
        """Read what is no class: a union, a literal, another name for something."""
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return _Union([self.kind(part) for part in parts])
        if origin is typing.Literal:
            return _Literal(" | ".join(map(repr, parts)), parts)
        if origin is typing.Annotated or _qualifier(annotation):
            return self.kind(parts[0])
        for other in ("__supertype__", "__value__"):  # NewType; the `type` statement
            if not isinstance(annotation, type) and hasattr(annotation, other):
                return self.kind(getattr(annotation, other))
        return None

    def _container(self, annotation: Any, text: str) -> Kind | None:
        origin, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if not isinstance(origin, type):
            return None
        if typing.is_typeddict(origin):
            return self._record(origin, text)
        live = origin.__name__ if issubclass(origin, Node) else ""
        if origin in _LISTS or live == "StateList":
            item = self.kind(parts[0]) if parts else Kind("Any")
            return _List(f"list[{item.text}]" if parts else "list", item)
        if origin in _DICTS or live == "StateDict":
            key, item = (self.kind(part) for part in parts) if parts else (Kind("Any"), Kind("Any"))
            return _Dict(f"dict[{key.text}, {item.text}]" if parts else "dict", key, item)
        return None

    def _record(self, origin: Any, text: str) -> Kind:
        inside = _Reading(origin, self.name)
        items: dict[str, Kind] = {}
        required = set(origin.__required_keys__)  # what is told in text, it does not know of
        for key, found in _own_annotations_of_all(origin).items():
            annotation = found.__forward_arg__ if isinstance(found, typing.ForwardRef) else found
            if isinstance(annotation, str):
                annotation = inside._evaluated(annotation)
            if _qualifier(annotation) == "Required":
                required.add(key)
            elif _qualifier(annotation) == "NotRequired":
                required.discard(key)
            items[key] = inside.kind(annotation)
        return _Record(text, items, required)


def _qualifier(annotation: Any) -> str:
    """Return ``NotRequired`` of ``NotRequired[int]``, in a TypedDict, and so on; in whichever module it is defined."""
    name = str(typing.get_origin(annotation)).rpartition(".")[2]
    return name if name in ("Required", "NotRequired", "ReadOnly") else ""


def _own_annotations_of_all(kind: type) -> dict[str, Any]:
    """Return the annotations of a TypedDict; it collects those of its bases by itself."""
    if sys.version_info >= (3, 14):
        return _own_annotations(kind)
    return dict(vars(kind)["__annotations__"])


def _way_out(annotation: Any) -> str:
    """Return what to declare in place of a type that no state can hold, as the end of a sentence."""
    origin = typing.get_origin(annotation) or annotation
    if origin in (tuple, set, frozenset, abc.Set):
        return "; declare a list"
    if hasattr(origin, "__dataclass_fields__") or hasattr(origin, "model_fields"):
        return "; declare a dict, or a TypedDict"
    if hasattr(origin, "__members__"):
        return "; declare what its members hold, such as str, or a Literal"
    return "; declare int, float, str, bool, bytes, date, datetime, None, a list or dict of them, or Any"
