"""The tree of errors. Every message names the file and says what to do.

StateError                      anything this library refuses or cannot do
├── StateFileError              the file at the path is no usable state file
│   └── DamagedStateError       committed bytes changed: not what a crash can do
├── UnsupportedValueError       a value that cannot be stored        (also TypeError)
├── DetachedError               a removed or replaced container is written to
├── LockTimeout                 the lock stayed with somebody else   (also TimeoutError)
├── ClosedError                 a write after close()                (also ValueError)
└── ReadOnlyError               a write through a readonly state
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self, since 3.11; checkers bring this module along


class StateError(Exception):
    """Base of all errors of this library."""


class StateFileError(StateError):
    """Is raised at open, or at an access after an edit by hand, while the file is no usable state file.

    The file is left as it is. The message has line and column where they are known; so have `line`, `column` (both from
    1 on) and `offset` (in bytes), else None. `problem` is what is wrong, without file and place.
    """

    line: int | None = None
    column: int | None = None
    offset: int | None = None
    problem: str = ""

    def at(
        self, problem: str, *, line: int | None = None, column: int | None = None, offset: int | None = None
    ) -> Self:
        """Return this error, with what is wrong, and where."""
        self.problem, self.line, self.column, self.offset = problem, line, column, offset
        return self


class BeyondRepair(StateFileError):
    """Is raised for a file of which a repair would keep a part at will: to the library's users a `StateFileError`."""


class DamagedStateError(StateFileError):
    """Is raised when bytes that were committed have changed in a way no crash of a program explains.

    Nothing is overwritten. The message has the offset of the first bad byte.
    """


class UnsupportedValueError(StateError, TypeError):
    """Is raised before anything changes, when a value (or a key) cannot be stored.

    ``path`` is the place of the offending value, a tuple of keys and indexes; ``problem`` says what is wrong with it.
    """

    def __init__(self, problem: str, path: tuple[Any, ...] = (), file: str = "") -> None:
        self.problem = problem
        self.path = path
        self.file = file
        prefix = f"{file}: " if file else ""
        super().__init__(f"{prefix}{place(path)}: {problem}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.path, self.file)

    def within(self, path: tuple[Any, ...], file: str) -> UnsupportedValueError:
        """Return the same error, told from the root of the state in `file` when its value goes to `path`."""
        return type(self)(self.problem, path + self.path, file)


class DetachedError(StateError):
    """Is raised by a write to a container that was removed from the state, or replaced in it: read it again.

    Such a container still reads: it keeps what it held last, and its ``repr`` says that it was removed. Where nothing
    else is looked at, `wait_for` raises this, too, as it would wait for ever.
    """


class LockTimeout(StateError, TimeoutError):
    """Is raised when another thread or process kept the lock for longer than ``timeout`` seconds."""


class ClosedError(StateError, ValueError):
    """Is raised by a write after ``close()``; reads go on working on the last state."""


def closed(name: str) -> ClosedError:
    """Return the error of a write to a state that was closed."""
    return ClosedError(f"{name}: the state was closed; open it again")


class ReadOnlyError(StateError):
    """Is raised by a write through a state opened with ``readonly=True``."""


def place(path: tuple[Any, ...]) -> str:
    """Return `path` as Python would spell it behind the state's name: ``["hosts"][3]["port"]``."""
    return "".join(f"[{key!r}]" for key in path) or "the state itself"
