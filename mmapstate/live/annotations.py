"""The annotations of a class, and the validators that they stand for."""

from __future__ import annotations

import re
import sys
import types
import typing
from collections import abc
from datetime import date, datetime
from typing import Any, ClassVar, Final

from mmapstate.live.node import Node
from mmapstate.live.validators import (
    DictValidator,
    ListValidator,
    LiteralValidator,
    RecordValidator,
    ScalarValidator,
    UnionValidator,
    Validator,
)

_CONSTANT = re.compile(r"\s*(?:\w+\s*\.\s*)?(?:ClassVar|Final)\b")
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


def annotations_of(owner: type) -> dict[str, Any]:
    """Return the annotations of the class itself as they are now: some may still be text."""
    if sys.version_info >= (3, 14):  # evaluated when asked for; here without an error for what is not defined yet
        import annotationlib

        return dict(annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF))
    return dict(vars(owner).get("__annotations__", {}))


def is_constant(annotation: Any) -> bool:
    """Return whether a name is annotated as what belongs to the class, by ClassVar or Final: no field."""
    annotation = _unwrapped(annotation)
    if isinstance(annotation, str):
        return _CONSTANT.match(annotation) is not None
    return any(each in (ClassVar, Final) for each in (annotation, typing.get_origin(annotation)))


def validator_of(annotation: Any, owner: type, field: str) -> Validator:
    """Return the validator for the annotation of a field of `owner`.

    Raises TypeError where no state can hold what it says, and NameError for a name that is not defined (yet).
    """
    return _Reader(owner, f"{owner.__qualname__}.{field}").validator(annotation)


class _Reader:
    """Reads annotations in the namespace of a class; `field` is what messages name."""

    def __init__(self, owner: type, field: str) -> None:
        self.owner = owner
        self.field = field

    def validator(self, annotation: Any) -> Validator:
        annotation = self._evaluated(annotation)
        text = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
        if annotation in (Any, object):
            return Validator(text)
        if annotation.__hash__ is not None and annotation in _SCALARS:
            return ScalarValidator("None" if annotation in (None, type(None)) else text, *_SCALARS[annotation])
        found = self._special(annotation) or self._container(annotation, text)
        if found is None:
            raise TypeError(f"{self.field}: a state cannot hold {text}{_way_out(annotation)}")
        return found

    def _evaluated(self, annotation: Any) -> Any:
        annotation = _unwrapped(annotation)
        if not isinstance(annotation, str):
            return annotation
        module = sys.modules.get(self.owner.__module__)
        try:
            found = eval(annotation, dict(vars(module)) if module is not None else {}, dict(vars(self.owner)))
        except NameError:
            raise
        except Exception as error:
            raise TypeError(f"{self.field}: its annotation {annotation!r} cannot be read ({error})") from error
        return self._evaluated(found)

    def _special(self, annotation: Any) -> Validator | None:
        """Read what is no class: a union, a literal, another name for something."""
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return UnionValidator([self.validator(part) for part in parts])
        if origin is typing.Literal:
            return LiteralValidator(" | ".join(map(repr, parts)), parts)
        if origin is typing.Annotated or _qualifier(annotation):
            return self.validator(parts[0])
        for other in ("__supertype__", "__value__"):  # NewType; the `type` statement
            if not isinstance(annotation, type) and hasattr(annotation, other):
                return self.validator(getattr(annotation, other))
        return None

    def _container(self, annotation: Any, text: str) -> Validator | None:
        origin, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if not isinstance(origin, type):
            return None
        if typing.is_typeddict(origin):
            return self._record(origin, text)
        live = origin.__name__ if issubclass(origin, Node) else ""
        if origin in _LISTS or live == "StateList":
            item = self.validator(parts[0] if parts else Any)
            return ListValidator(f"list[{item.text}]" if parts else "list", item)
        if origin in _DICTS or live == "StateDict":
            key, item = map(self.validator, parts or (Any, Any))
            return DictValidator(f"dict[{key.text}, {item.text}]" if parts else "dict", key, item)
        return None

    def _record(self, origin: Any, text: str) -> Validator:
        items: dict[Any, Validator] = {}
        required = set(origin.__required_keys__)  # what is annotated by text, it does not know of
        for key, found in annotations_of(origin).items():  # those of its bases, too: a TypedDict collects them
            reader = _Reader(origin, f"{origin.__qualname__}.{key}")
            annotation = reader._evaluated(found)
            if _qualifier(annotation) == "Required":
                required.add(key)
            elif _qualifier(annotation) == "NotRequired":
                required.discard(key)
            items[key] = reader.validator(annotation)
        return RecordValidator(text, items, required)


def _unwrapped(annotation: Any) -> Any:
    return annotation.__forward_arg__ if isinstance(annotation, typing.ForwardRef) else annotation


def _qualifier(annotation: Any) -> str:
    """Return ``NotRequired`` of ``NotRequired[int]``, in a TypedDict, and so on; in whichever module it is defined."""
    name = str(typing.get_origin(annotation)).rpartition(".")[2]
    return name if name in ("Required", "NotRequired", "ReadOnly") else ""


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
