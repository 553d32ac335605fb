"""The state as its users hold it: attributes, defaults, options, the lock for several steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from mmapstate.errors import ClosedError, ReadOnlyError, closed
from mmapstate.live import registry
from mmapstate.live.attributes import (
    INTERNAL,
    has_setter,
    hidden_somewhere,
    is_sure,
    key_attribute,
    learn,
    names_in,
    own_names,
    refuse_hidden,
    sure_where_free,
    undeclared,
    what_hides,
)
from mmapstate.live.backend import SET, Closed, Options, Place, place_of
from mmapstate.live.mapping import StateDict
from mmapstate.live.node import use_tree
from mmapstate.live.schema import Schema, checked_defaults
from mmapstate.live.sentinels import MISSING
from mmapstate.live.transaction import Hold, Transaction
from mmapstate.live.tree import Tree, adopt_root, plain_root
from mmapstate.live.waiting import wait_for
from mmapstate.values import SURE_INT, normalise

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self, since 3.11; checkers bring this module along

_T = TypeVar("_T")


class State(StateDict):
    """A state file mapped to live objects: a mapping whose changes are in the file when their statement ends.

    Parameters and errors are those of `mmapstate.open`. What a write raises is told at `StateDict`. A ``with``
    statement closes it at the end of its block.

    A subclass declares what the file holds: ``last_id: int = 0`` makes an attribute of the key, with a type and with a
    default that is stored where the file has no such key. (A container is copied for each file. Without a default the
    attribute is an AttributeError until it is assigned.) What does not fit is a `StateFileError` at open and after an
    edit by hand, an `UnsupportedValueError` at a write. Keys that are not declared stay in the file, and are read and
    written in brackets: ``state["other"]``. Names with a leading underscore are attributes that are never stored.

    All states of one file in a process share one replica of it (a `readonly` one has its own); `durability` is each
    state's own (a
    change through a nested container is as durable as the strictest of them asks).
    """

    __slots__ = ("__dict__", "__weakref__")

    _options: Options
    _place: Place

    _free: ClassVar[bool] = False  # whether any name is an attribute, declared or not
    _declared: ClassVar[Schema]
    _hidden: ClassVar[frozenset[str]]
    _sure_names: ClassVar[set[str]]  # attributes that are keys, and need no further look at that

    def __init__(
        self,
        path: str | os.PathLike[str],
        /,
        defaults: Mapping[Any, Any] | None = None,
        *,
        readonly: bool = False,
        durability: str = "process",
        timeout: float | None = 10.0,
        exclusive: bool = False,
    ) -> None:
        options = Options(readonly, durability, timeout, exclusive).checked()
        if defaults is not None and not isinstance(defaults, Mapping):
            raise TypeError(f"defaults is a {type(defaults).__name__}; it can be a mapping of keys to values")
        place = place_of(path)
        schema = type(self)._declared.read()
        checked = {**schema.defaults, **checked_defaults(defaults or {}, place.name)}
        wrong = schema.mismatch(checked)
        if wrong is not None:
            raise schema.error(wrong, place.name)
        put = object.__setattr__
        put(self, "_options", options)
        put(self, "_place", place)
        tree = registry.opened(place, options, schema, checked) if readonly else registry.enter(place, self)
        try:
            adopt_root(self, tree)
            if not readonly:
                tree.refresh()  # where this process has it open already, it may not have looked for a while
                if schema.fields:
                    tree.backend.check_schemas()
                self._commit_defaults(checked)
        except BaseException:
            use_tree(self, tree)
            self._release()
            raise

    def close(self) -> None:
        """Close the file; the last process to do so leaves it as plain YAML, without a journal.

        Reads go on working on the last state; writes raise `ClosedError`. Can be called again. Raises `StateError`
        inside a transaction.
        """
        if self._is_closed():
            return
        self._tree.refuse_in_transaction("close the state")
        self._release()

    def _release(self) -> None:
        if self._options.readonly:
            self._tree.backend.close()
        else:
            registry.leave(self._place, self)
        use_tree(self, Tree.closed(self._place.name, self._tree.root))  # last: it needs memory

    def _is_closed(self) -> bool:
        return isinstance(self._tree.backend, Closed)

    def sync(self) -> None:
        """Make everything committed so far, by whomever, survive loss of power.

        With ``durability="power"`` each change does so by itself. Raises OSError if the system cannot, `LockTimeout`,
        `ClosedError`, `ReadOnlyError`.
        """
        self._tree.backend.sync()

    def vacuum(self) -> None:
        """Compact the file to its YAML document alone, at once: to look at it, to edit it, to copy it.

        It happens by itself now and then, and when the last process closes the file. Raises `StateError` inside a
        transaction, and where the system does not let the file be replaced (a mount point; on Windows a program of
        another kind that has it open); OSError, `LockTimeout`, `ClosedError`, `ReadOnlyError`.
        """
        self._tree.refuse_in_transaction("compact the file")
        self._tree.backend.vacuum()

    def transaction(self) -> Transaction[Self]:
        """Return a ``with`` block that yields this state and whose changes happen together: all of them, or none.

        The block has the state for itself: it begins with what others have committed, other threads wait until it ends
        (for `timeout` seconds: `LockTimeout`), other processes see nothing of it before it is whole. Its changes are
        in the file, as one record, when the block ends. When it raises anything, memory is what it was before: the same
        objects, in the same order; the file has never seen the changes. One transaction inside another is taken back
        alone when it raises, and committed with the outer one. Do not ``await`` inside: another asyncio task of the
        same thread that touches the state meanwhile gets a `StateError`.

        Beginning raises `LockTimeout`, `ClosedError`, `ReadOnlyError`, `StateFileError`. Ending raises, with all taken
        back, `StateError` if somebody edited the file by hand meanwhile (run the block again), OSError if the disk is
        full or a sync fails.
        """
        self._refuse_closed()
        return Transaction(self._tree, self)

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until `predicate`, called without arguments, returns something true, and return that.

        It is called at once and after each change: by this process, another one, or an edit by hand. It sees the state
        as it is then, and can be called for a change that came while it ran. With a `timeout` in seconds what it
        returned last is returned when that is over, as `threading.Condition.wait_for` does. While nothing changes,
        waiting takes less than a hundredth of a core; a change is seen within 20 ms (an edit when it has stood
        still for 0.2 s).

        Raises `StateError` where this thread holds the state's locks, since nobody else could change it; `ClosedError`;
        `DetachedError` where the variables of `predicate` show that it looks at nothing but containers that were
        removed; what `predicate` and reading raise.
        """
        return wait_for(self._tree, self._refuse_to_wait, predicate, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _schema(self) -> Schema:
        return type(self)._declared

    @property
    def _thread_lock(self) -> Hold:
        """A lock for several steps, against threads and processes; as `persistedstate` has it, without roll-back."""
        return Hold(self._tree)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._sure_names = set()
        bases = cls.__mro__[1:]
        cls._declared = declared = Schema(cls, State.__mro__, frozenset[str]().union(*map(own_names, bases)))
        cls._hidden = names_in(cls) - declared.fields
        hidden_somewhere.update(cls._hidden)
        sure_where_free.difference_update(cls._hidden)
        for base in bases:
            if issubclass(base, State):
                for name in base._sure_names & cls._hidden:  # it would hide a method of a base that comes later
                    base._sure_names.discard(name)
                    delattr(base, name)
        for name in declared.fields:
            setattr(cls, name, key_attribute(name))
        cls._sure_names.update(filter(is_sure, declared.fields))

    if not TYPE_CHECKING:  # checkers would take them for a promise that there is any such attribute

        def __getattr__(self, name: str) -> Any:
            if name[:1] == "_":
                raise AttributeError(
                    f"{name!r}: names with a leading underscore are no keys; write STATE[{name!r}] for a key"
                )
            if name in self._declared.fields:
                return self._missing_field(name)
            if not self._free:
                raise AttributeError(undeclared(type(self), name))
            value = self.get(name, MISSING)
            if value is MISSING:
                raise AttributeError(f"{self._name()} has no key {name!r}")
            learn(type(self), name, free=self._free)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            if (
                value.__class__ is int and name in self._sure_names and -SURE_INT < value < SURE_INT
            ):  # spares a counter a call
                self._tree.change(self, SET, name, value)
            elif name in INTERNAL:
                raise AttributeError(f"{name!r} is what a state keeps for itself; use another name")
            elif name[:1] == "_" or (name in self._hidden and has_setter(type(self), name)):
                object.__setattr__(self, name, value)
            elif name in self._hidden:
                raise AttributeError(
                    f"{name!r} is {what_hides(type(self), name)}; write STATE[{name!r}] = ... for a key of that name"
                )
            elif self._free or name in self._declared.fields:
                self[name] = value
                learn(type(self), name, free=self._free)
            else:
                raise AttributeError(undeclared(type(self), name))

        def __delattr__(self, name: str) -> None:
            if name[:1] == "_":
                object.__delattr__(self, name)
            elif name in self._hidden:
                raise AttributeError(
                    f"{name!r} is {what_hides(type(self), name)}; write del STATE[{name!r}] for a key of that name"
                )
            elif self._free or name in self._declared.fields:
                try:
                    del self[name]
                except KeyError:
                    raise AttributeError(f"{self._name()} has no key {name!r}") from None
            else:
                raise AttributeError(undeclared(type(self), name))

    def _start_of(self, key: Any) -> Any:
        return self._declared.defaults.get(key, 0)

    def _refuse_closed(self) -> None:
        if self._is_closed():
            raise closed(self._place.name)

    def _refuse_to_wait(self) -> None:
        self._refuse_closed()
        self._tree.refuse_to_wait()

    def _missing_field(self, name: str) -> Any:
        default = self._declared.defaults.get(name, MISSING)
        if default is MISSING:
            raise AttributeError(
                f"{self._name()} has no key {name!r}, which {type(self).__name__} declares without a default; assign it"
            )
        # Removed since it was opened. A container is stored again: what is done to it must not be lost.
        if not isinstance(default, dict | list):
            return default
        try:
            return self.setdefault(name, default)
        except (ReadOnlyError, ClosedError):
            return normalise(default)

    def _name(self) -> str:
        place = self.__dict__.get("_place")
        return "a state" if place is None else str(place.name)

    def __dir__(self) -> Iterable[str]:
        keys = {key for key in self._items if isinstance(key, str)}
        return sorted(
            {name for name in super().__dir__() if name.startswith("_")} | self._hidden | self._declared.fields | keys
        )

    def __repr__(self) -> str:
        self._tree.glance()
        closed = ", closed" if self._is_closed() else ""
        return f"<{type(self).__name__} {self._place.name!r}: {plain_root(self)!r}{closed}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _open_again, (type(self), self._place.name, self._options._asdict())

    def _commit_defaults(self, defaults: dict[Any, Any]) -> None:
        if any(key not in self for key in defaults):
            self._tree.write(self._add_missing, defaults)

    def _add_missing(self, defaults: dict[Any, Any]) -> None:
        missing = {key: value for key, value in defaults.items() if key not in self._items}
        if missing:
            self._update(missing)


State._hidden = names_in(State)
State._sure_names = set()
State._declared = Schema(State, State.__mro__)
hidden_somewhere.update(State._hidden)


class PersistedState(State):
    """A state whose keys are attributes, too: ``STATE.last_id = 5`` is ``STATE["last_id"] = 5``.

    `defaults` are stored where the file has no such key. For options, and for what is raised, see `mmapstate.open`; a
    default named like a method is an AttributeError, too.

    ``STATE.x += 1`` is a read and a write: another process can come in between. Where several write, use `increment`,
    or a `transaction` around it.
    """

    __slots__ = ()

    _free = True

    def __init__(self, path: str | os.PathLike[str], /, **defaults: Any) -> None:
        refuse_hidden(defaults, self._hidden)
        super().__init__(path, defaults)

    if TYPE_CHECKING:  # any name is a key

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
        def __delattr__(self, name: str) -> None: ...

    else:

        def __setattr__(self, name: str, value: Any) -> None:
            if (
                value.__class__ is int and name in sure_where_free and -SURE_INT < value < SURE_INT
            ):  # spares a counter a call
                self._tree.change(self, SET, name, value)
            else:
                State.__setattr__(self, name, value)


def open_state(
    path: str | os.PathLike[str],
    defaults: Mapping[Any, Any] | None = None,
    *,
    readonly: bool = False,
    durability: str = "process",
    timeout: float | None = 10.0,
    exclusive: bool = False,
) -> PersistedState:
    """Open the state file at `path`, or create it, and return it as a `PersistedState`.

    Parameters:
        path: the state file, made absolute now; symbolic links are followed. Its folder must exist.
        defaults: keys to store where the file has none, as one record.
        readonly: only read: nothing is created, repaired or locked, no write permission is needed, and missing
            defaults are in memory only. A missing file is FileNotFoundError.
        durability: "process": a change survives the death of the process; "power": that of the machine, too, at the
            price of a disk sync for each change.
        timeout: seconds to wait for the lock of another thread or process; None waits for ever, 0 tries once.
        exclusive: keep the lock until ``close()``: one process, fastest.

    Raises `StateFileError` (line and column) where the file is no state, `DamagedStateError` where committed bytes
    changed, `LockTimeout`, `UnsupportedValueError` for a default, OSError.
    """
    state = PersistedState.__new__(PersistedState)
    State.__init__(
        state, path, defaults, readonly=readonly, durability=durability, timeout=timeout, exclusive=exclusive
    )
    return state


def rewrite_document(state: State, edit: Callable[[bytes, dict[Any, Any]], bytes]) -> bool:
    """Have the document of a state become the text that ``edit(document, state)`` makes of it: one step, synced.

    For `mmapstate edit`. Returns False, with nothing changed, where the system refuses to replace the file. Raises what
    `edit` raises, with nothing changed, `StateFileError` where the text is no state, and what a write raises.
    """
    state._tree.refuse_in_transaction("edit the file")
    return cast("bool", state._tree.backend.rewrite(edit))


def _open_again(kind: type[State], path: str, options: dict[str, Any]) -> State:
    state = kind.__new__(kind)
    State.__init__(state, path, **options)
    return state
