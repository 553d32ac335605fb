"""What stands behind a live state: the one protocol that the rest of `live` knows.

A file of this host fulfils it (`mmapstate.file`), and so do a file that is only read, and a state that is closed. What
is the same for all of them is in `tree`: transactions and their roll-back, schemas, the choice of the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from mmapstate.changes import Change
from mmapstate.errors import closed
from mmapstate.values import Plain

if TYPE_CHECKING:
    from mmapstate.live.undo import UndoLog

_T = TypeVar("_T")

SET, ADD, APPEND = "set", "add", "append"
"""Operations that may take the fast path: put a value at a key, add to the number there, put one at a list's end."""


class Options(NamedTuple):
    """How a state is opened (see `mmapstate.open`)."""

    readonly: bool = False
    durability: str = "process"
    timeout: float | None = 10.0
    exclusive: bool = False

    def checked(self) -> Options:
        """Return these; raise ValueError where they are none."""
        if self.durability not in ("process", "power"):
            raise ValueError(f"durability is {self.durability!r}; it can be 'process' or 'power'")
        if self.timeout is not None and not (isinstance(self.timeout, int | float) and self.timeout >= 0):
            raise ValueError(f"timeout is {self.timeout!r}; it can be None, 0 or seconds")
        if self.readonly and self.exclusive:
            raise ValueError("readonly=True and exclusive=True exclude each other")
        return self


class Memory(Protocol):
    """What a backend keeps up to date: the live tree of one state in this process."""

    root: Any
    """The mapping at the top (a `StateDict`)."""

    undo: UndoLog | None
    """Of the transaction that is open."""

    @property
    def schemas(self) -> Sequence[Any]:
        """What the classes of the state's handles declare: whatever is read has to fit them."""

    @property
    def defaults(self) -> dict[Any, Any]:
        """What a state that is only read has where the file has no such key."""

    def end_abandoned(self) -> None:
        """End what blocks of this thread began that are gone."""

    def forget(self) -> UndoLog | None:
        """In a forked child: have no part in the transaction of the parent; return its log, if one was open."""


class Cursor(Protocol):
    """The fast path of reads."""

    @property
    def epoch(self) -> int:
        """A seqlock: counts up when memory begins to go from one state to the next, and again when it is there."""

    @property
    def applied(self) -> int:
        """How far memory has come: another value after each change."""

    def read(self, items: Any, key: Any, default: Any) -> Any:
        """Return ``items[key]``, or `default` where there is none; `SLOW` where this has to be done the slow way."""

    def fetch(self, function: Callable[[Any], Any], items: Any) -> Any:
        """Return ``function(items)``, which is one call of C such as `len` or `list`; or `SLOW`, likewise."""


class Backend(Protocol):
    """What stands behind one state in this process, for all its handles."""

    name: str
    """What the state is called in messages: a path, or a URL without its password."""

    @property
    def cursor(self) -> Cursor:
        """The fast path of reads."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    # Reads: none of these is called by a thread that has a transaction open.

    def refresh(self) -> None:
        """Bring memory up to date with what others committed; fast when there is nothing new."""

    def glance(self) -> None:
        """Do what `refresh` does, as far as that raises nothing and waits for nobody: for `repr`."""

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)`` with memory up to date and nobody changing it meanwhile."""

    def wait(self, timeout: float) -> None:
        """Wait for news for `timeout` seconds at most; it may come back earlier without any."""

    # Writes. Each raises `LockTimeout`, `ClosedError`, `ReadOnlyError`, `StateFileError`, OSError.

    def write(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Return ``decide(*args)``, run under the locks with memory up to date; it may call `append`.

        Raises `StateError` inside a change of the same thread, as a signal handler or a sort key can try. May call
        `decide` again where an external edit came in between.
        """

    def change(self, node: Any, operation: str, key: Any, value: Any) -> Any:
        """Make one change by the fast path, and return what stands there then; `SLOW` where nothing has happened."""

    def append(self, record: Sequence[Change], publish: Callable[..., object], *args: Any) -> None:
        """Commit `record`, then make its changes in memory by ``publish(*args)``. Inside `write` only.

        Nothing has changed where it raises; nothing is raised once it is committed.
        """

    # Several steps in one. What is held is held by a number, and nests.

    def hold(self, holder: int) -> None:
        """Take the locks for `holder`, and keep them until `unhold`; memory is up to date then."""

    def held(self, holder: int) -> int:
        """Return how many times this thread has taken the locks for `holder`, and not released them."""

    def last_holder(self) -> int | None:
        """Return for whom this thread has taken the locks last; None where it has not got them."""

    def unhold(self, holder: int) -> bool:
        """Release what `hold` took for `holder`; return whether this thread had taken it, and not released it yet."""

    def prepare(self) -> None:
        """Make room, under the locks, for as much as the last transaction changed."""

    def run_held(self, decide: Callable[..., _T], *args: Any) -> _T:
        """Do what `write` does, where this thread holds the locks and memory may be ahead of what is stored."""

    def check(self, record: Sequence[Change]) -> None:
        """Raise `UnsupportedValueError` where what is stored cannot hold what `record` puts there."""

    def owned(self) -> bool:
        """Return whether this thread has the locks."""

    def begin_work(self) -> None:
        """Be in the middle of a change, with the locks: a signal handler's change is refused until `end_work`."""

    def end_work(self) -> None:
        """Be so no longer."""

    def go_ahead(self) -> None:
        """Have memory be ahead of what is stored from now on: all but the thread with the locks wait."""

    def is_ahead(self) -> bool:
        """Return whether it is."""

    def append_held(self, record: Sequence[Change], publish: Callable[..., object]) -> bool:
        """Commit what memory is ahead by; return False, with nothing committed, where an external edit came meanwhile.

        To be followed by `fall_back` then, and by `accept_edit`.
        """

    def fall_back(self, undo: Callable[[], object]) -> None:
        """Have memory be what is stored again, by ``undo()``."""

    def accept_edit(self) -> None:
        """Bring memory up to date with an external edit. Under the locks."""

    # Its life.

    def adjust(self, options: Options, *, power: bool) -> None:
        """Go by the options of the newest handle; `power`: as any of the handles wants it."""

    def check_schemas(self) -> None:
        """Raise `StateFileError` where the state does not fit what the classes of its handles declare."""

    def rewrite(self, edit: Callable[[bytes, dict[Any, Plain]], bytes]) -> bool:
        """Have the document become the text that ``edit(document, state)`` makes of it, as one step, synced.

        `edit` is called under the locks, again where an external edit comes in between; with what it raises nothing has
        changed. Returns False where the system refuses that. Raises `StateFileError` where the text is none, OSError.
        """

    def sync(self) -> None:
        """Make everything committed so far survive loss of power."""

    def vacuum(self) -> None:
        """Compact what is stored to its document alone."""

    def rest(self) -> None:
        """Do so at the end of the process, where this is the last one that uses it; later writes still work."""

    def close(self) -> None:
        """Close it; reads go on working on the last state, writes raise `ClosedError`. Can be called again."""


class Still:
    """The cursor of what nobody else changes: reads go straight to memory."""

    epoch, applied = 0, 0

    def read(self, items: Any, key: Any, default: Any) -> Any:
        """Return ``items[key]``, or `default` where there is none."""
        try:
            return items[key]
        except LookupError:
            return default

    def fetch(self, function: Callable[[Any], Any], items: Any) -> Any:
        """Return ``function(items)``."""
        return function(items)


class Unwritable:
    """What backends that cannot be written to have in common: no locks, and an `error` for each write."""

    def __init__(self, name: str, error: Callable[[str], Exception]) -> None:
        self.name = name
        self.error = error

    def refuse(self, *_: Any, **__: Any) -> Any:
        """Raise the error."""
        raise self.error(self.name)

    write = change = check = append = prepare = run_held = go_ahead = append_held = fall_back = accept_edit = refuse
    hold = sync = vacuum = rewrite = refuse

    def owned(self) -> bool:
        """Have no locks."""
        return False

    is_ahead = owned

    def held(self, holder: int) -> int:  # noqa: ARG002
        """Hold nothing."""
        return 0

    def unhold(self, holder: int) -> bool:  # noqa: ARG002
        """Have nothing to release."""
        return False

    def last_holder(self) -> int | None:
        """Hold nothing."""
        return None

    def nothing(self, *_: Any, **__: Any) -> None:
        """Have nothing to do."""

    begin_work = end_work = adjust = rest = check_schemas = nothing


class Closed(Unwritable):
    """Behind a handle that was closed: reads work on the last state, writes raise `ClosedError`."""

    closed = True

    def __init__(self, name: str) -> None:
        super().__init__(name, closed)
        self.cursor = Still()

    refresh = glance = close = Unwritable.nothing
    wait = Unwritable.refuse

    def steady(self, read: Callable[..., _T], *args: Any) -> _T:
        """Return ``read(*args)``."""
        return read(*args)


class Place(NamedTuple):
    """Where a state is: what the kind of path that it was given by makes of that.

    Two handles with one `key` share one backend in this process, unless they only read.
    """

    name: str
    key: str
    open: Callable[[Memory, Options], Backend]


KINDS_OF_PATHS = ["mmapstate.file.place"]
"""The modules that know a kind of path, imported when they are first asked; the last one takes any path.

Each has a ``place_of(path)``, which returns a `Place`, or None for a path of another kind.
"""


def place_of(path: Any) -> Place:
    """Return the place that a path means; raise TypeError, or what the module of its kind raises."""
    for name in KINDS_OF_PATHS:
        place: Place | None = import_module(name).place_of(path)
        if place is not None:
            return place
    raise TypeError(f"{path!r} is no path of a state")
