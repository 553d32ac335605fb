"""Small persistent state: one human-readable YAML file, mapped to live Python objects, shared by processes.

::

    from mmapstate import PersistedState

    STATE = PersistedState("example.state", last_id=0)
    for current_id in range(STATE.last_id + 1, 100_001):
        ...
        STATE.last_id = current_id  # in the file when the statement ends

Names are imported when they are first asked for: `mmapstate get` reads a value without all that writes one.
"""

import atexit as _atexit
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from mmapstate.care.check import check
    from mmapstate.care.findings import Finding
    from mmapstate.care.info import Info, Process, info
    from mmapstate.care.repair import Repair, repair
    from mmapstate.errors import (
        ClosedError,
        DamagedStateError,
        DetachedError,
        LockTimeout,
        ReadOnlyError,
        StateError,
        StateFileError,
        UnsupportedValueError,
    )
    from mmapstate.live.mapping import StateDict
    from mmapstate.live.sequence import StateList
    from mmapstate.live.state import PersistedState, State
    from mmapstate.live.state import open_state as open
    from mmapstate.values import plain

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "DamagedStateError",
    "DetachedError",
    "Finding",
    "Info",
    "LockTimeout",
    "PersistedState",
    "Process",
    "ReadOnlyError",
    "Repair",
    "State",
    "StateDict",
    "StateError",
    "StateFileError",
    "StateList",
    "UnsupportedValueError",
    "check",
    "info",
    "open",
    "plain",
    "repair",
]

# The module of each public name that is no error, and what it is called there if not so.
_ORIGINS = {
    "Finding": "care.findings",
    "Info": "care.info",
    "PersistedState": "live.state",
    "Process": "care.info",
    "Repair": "care.repair",
    "State": "live.state",
    "StateDict": "live.mapping",
    "StateList": "live.sequence",
    "check": "care.check",
    "info": "care.info",
    "open": "live.state",
    "plain": "values",
    "repair": "care.repair",
}

if not _TYPE_CHECKING:  # checkers would take it for a promise that there is any such name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        origin = import_module(f"{__name__}.{_ORIGINS.get(name, 'errors')}")
        value = globals()[name] = getattr(origin, "open_state" if name == "open" else name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@_atexit.register
def _rest_all() -> None:
    """At exit, after all that was registered since this import: put to rest what this process was the last to use."""
    registry = _sys.modules.get("mmapstate.live.registry")
    if registry is not None:
        registry.rest_all()
