"""Small persistent state: one human-readable YAML file, mapped to live Python objects, shared by processes.

::

    from mmapstate import PersistedState

    STATE = PersistedState("example.state", last_id=0)
    for current_id in range(STATE.last_id + 1, 100_001):
        ...
        STATE.last_id = current_id  # in the file when the statement ends
"""

import logging as _logging

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
from mmapstate.findings import Finding
from mmapstate.inspection import check
from mmapstate.nodes import StateDict, StateList
from mmapstate.repairs import Repair, repair
from mmapstate.state import PersistedState, State
from mmapstate.state import open_state as open
from mmapstate.values import plain

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "DamagedStateError",
    "DetachedError",
    "Finding",
    "LockTimeout",
    "PersistedState",
    "ReadOnlyError",
    "Repair",
    "State",
    "StateDict",
    "StateError",
    "StateFileError",
    "StateList",
    "UnsupportedValueError",
    "check",
    "open",
    "plain",
    "repair",
]

_logging.getLogger("mmapstate").addHandler(_logging.NullHandler())
