"""What a contender is: a library's file, opened, with those of the steps below that the library can do."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["Contender"]


class Contender:
    """A file of some library, kept open. Each step is in the file, for the kernel to keep, when it returns.

    A library is used as its documentation says is fastest, without fsync, as ours is by default. A subclass overrides
    the steps that its library can do; a case leaves out who does not offer what it needs.
    """

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()  # what must be importable
    distributions: ClassVar[tuple[str, ...]] = ()  # whose versions are told
    shared: ClassVar[bool] = False  # whether several processes may write to its file at once

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""

    def count(self, times: int) -> None:
        """Raise "counter" by one, so many times, in the fastest way for one process: each a step of its own."""
        raise NotImplementedError

    def read(self, times: int) -> int:
        """Read "counter" so many times; return what came last."""
        raise NotImplementedError

    def get(self, key: str = "counter") -> int:
        raise NotImplementedError

    def put(self, value: int) -> None:
        """Store "counter"."""
        raise NotImplementedError

    def increment(self, key: str) -> None:
        """Raise a counter by one, whoever else does. One that is not there begins at 0."""
        raise NotImplementedError

    def append(self, item: int) -> None:
        """Append to the list, whoever else does."""
        raise NotImplementedError

    def length(self) -> int:
        """Return how long the list is."""
        raise NotImplementedError

    def fill(self, entries: Mapping[str, Any]) -> None:
        """Store all of these."""
        raise NotImplementedError

    def values(self) -> Iterable[Any]:
        """Read the values of all that `fill` stored."""
        raise NotImplementedError

    @classmethod
    def offers(cls, *steps: str) -> bool:
        return all(getattr(cls, step) is not getattr(Contender, step) for step in steps)

    @classmethod
    def missing(cls) -> str:
        """Import what it needs; return what is not there, or nothing."""
        try:
            for module in cls.modules:
                importlib.import_module(module)
        except ImportError as error:
            return str(error)
        return ""

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {name: metadata.version(name) for name in cls.distributions}
