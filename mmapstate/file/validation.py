"""When the bytes of a file have to be compared again with those known: the one rule, for writers and for readers."""

from __future__ import annotations

from time import monotonic

from mmapstate.file import system
from mmapstate.file.format import Image

CHECK_INTERVAL = 0.05  # seconds between two checks of the path; what is edited meanwhile is superseded at most so long
_SHARE = 100  # a check of all bytes is due again after so many times what it took: a hundredth of the time, at most


class ByteCheck:
    """The last comparison of a file's bytes: the times that the file had then, and when the next one is due.

    An mtime that is not known says that the bytes have to be looked at; a known one is believed only once the
    filesystem's clock has ticked since.
    """

    def __init__(self) -> None:
        self._times: tuple[int, int] | None = None
        self._due = 0.0

    def now(self) -> float:
        """Return the time by the clock that this goes by."""
        return monotonic()

    def is_needed(self, found: Image, *, often: bool) -> bool:
        """Return whether to compare a file that looks like `found`; one that is not changing `often` each time."""
        return found.times != self._times and (not often or monotonic() >= self._due)

    def passed(self, found: Image, began: float, *, at_least: float = 0.0) -> None:
        """Note that the bytes are those known; the comparison `began` then. `at_least` are seconds until the next."""
        now = monotonic()
        self._due = now + max(at_least, _SHARE * (now - began))
        self._times = found.times if system.is_settled(found) else None

    def put_off(self, seconds: float) -> None:
        """Have the next one be due in so many seconds, whatever the file's times are."""
        self._times, self._due = None, monotonic() + seconds

    def knows(self, found: Image) -> bool:
        """Return whether the bytes are still those known, by the times alone."""
        return found.times == self._times

    def forget(self) -> None:
        """Have the next one be due now."""
        self._times, self._due = None, 0.0
