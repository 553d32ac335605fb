"""What no state can hold: answers of reads that have none."""

from __future__ import annotations

from typing import Any


class Sentinel:
    """Stands for what no state can hold."""

    __slots__ = ()


SLOW: Any = Sentinel()
"""What the fast path returns where it does not do."""
MISSING: Any = Sentinel()
"""What stands for a key that is not there."""
