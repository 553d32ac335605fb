"""The fast path, read and append: one class, which knows neither lists nor sums.

A sequence word in the header page tells all processes how far the journal has come. A cursor knows the word that memory
stands for (`applied`): while the two are equal, and it is not yet time to look at the file itself, a read needs no lock
and no system call.

Threads of one process read by a seqlock (as Linux has them): ``epoch`` is odd while memory goes from one state to the
next, and who finds it odd, or another one after the read than before, reads again the slow way.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any
from zlib import crc32

from mmapstate.file import system, validation
from mmapstate.file.filelock import FileLock
from mmapstate.file.format import UNCOMMITTED
from mmapstate.file.journal import COMMITTED, Journal
from mmapstate.file.mapped import MappedFile
from mmapstate.file.page import DIRTY, HeaderPage
from mmapstate.live.sentinels import SLOW

UNSEEN = -1
"""No sequence word: whoever has applied this looks again."""

WANTING = (MemoryError, RecursionError)  # made here, as to make it needs memory


class Cursor:
    """Where memory stands in the journal, and whether it may be trusted.

    ``unsure`` is set while memory and file may differ: found with nobody at work, memory is rebuilt from the file.
    ``copying`` says that a reader with the guard wants many values of one moment. ``next_check`` is the time, by the
    monotonic clock, from which on the file itself has to be looked at.
    """

    __slots__ = (
        "applied",
        "copying",
        "epoch",
        "file",
        "header",
        "journal",
        "lock",
        "next_check",
        "page",
        "unsure",
        "word",
    )

    word: Any
    header: Any
    applied: int
    unsure: bool
    page: HeaderPage

    def __init__(self, lock: FileLock, page: HeaderPage, file: MappedFile) -> None:
        self.lock = lock
        self.file = file
        self.journal = Journal.nowhere(file)
        self.epoch = 0
        self.unsure = True
        self.copying = False
        self.next_check = 0.0
        self.use_page(page)

    def read(self, items: Any, key: Any, default: Any) -> Any:
        """Return ``items[key]``, or `default` where there is none; `SLOW` where this has to be done the slow way."""
        if self.word[0] == self.applied and monotonic() < self.next_check:
            before = self.epoch
            try:
                value = items[key]
            except LookupError:  # or half-way without it
                value = default
            if self.epoch is before and not before & 1:
                return value
        return SLOW

    def fetch(self, function: Callable[[Any], Any], items: Any) -> Any:
        """Return ``function(items)``, which is one call of C such as `len` or `list`; or `SLOW`, likewise."""
        if self.word[0] == self.applied and monotonic() < self.next_check:
            before = self.epoch
            value = function(items)
            if self.epoch is before and not before & 1:
                return value
        return SLOW

    def token(self) -> int | None:
        """Return what stands for the state that memory holds now; None where that is not known to be the latest."""
        applied = self.applied
        return applied if self.word[0] == applied and not self.epoch & 1 else None

    def append(self, token: int, payload: bytes, publish: Callable[..., object], *args: Any) -> bool:
        """Commit a record that was decided on by what memory held at `token`, and publish it by ``publish(*args)``.

        Returns False where anything is in the way (locks taken, anything new in the file, a check of it due, no room):
        nothing has happened then. The order of the stores is told at `Writer.append`, which is the long way.
        """
        lock = self.lock
        # Not where this thread has the lock: a signal handler may. Nor where another one is about to free it.
        if lock.held != lock.kept or lock.owned():
            return False
        done = False
        try:
            try:
                if lock.take():
                    header, word = self.header, self.word
                    if (
                        word[0] == token == self.applied
                        and not header[DIRTY]
                        and monotonic() < self.next_check
                        and not self.copying
                    ):
                        journal, file = self.journal, self.file  # not before: a reader may have been moving over
                        stores, tail = file.bytes, journal.tail
                        crc = crc32(payload, journal.crc)
                        text = UNCOMMITTED % (payload, crc)
                        start, end = tail + 1, tail + len(text)
                        sequence = journal.base + end
                        if (  # as late as can be: another program may cut the file before the stores
                            journal.start >= 0
                            and end < file.size
                            and system.seek(file.descriptor, 0, system.END) == file.size
                            and stores[journal.end_start : start] == journal.end
                        ):
                            self.applied = UNSEEN
                            self.unsure = True
                            header[DIRTY] = 1
                            stores[start : end + 1] = text
                            stores[tail] = COMMITTED
                            done = True
                            journal.advance(start, text, crc, end)
                            publish(*args)
                            self.unsure = False
                            word[0] = sequence
                            header[DIRTY] = 0
                            self.applied = sequence
            except WANTING:
                if not done:  # else only memory is behind, and the next access rebuilds it
                    raise
            finally:
                if lock.owned():
                    lock.free()
        except BaseException:
            lock.release_all()  # an interrupt may have come before, or in, the release
            raise
        return done

    # Each of the following is one step of whoever changes memory, or where it stands.

    def use_page(self, page: HeaderPage) -> None:
        """Go by another header page from now on."""
        self.applied = UNSEEN
        self.page, self.header, self.word = page, page.bytes, page.word

    def wait_for_guard(self) -> None:
        """Have readers in other threads find that all is new, and wait for the guard."""
        self.applied, self.word = UNSEEN, (UNSEEN - 1,)

    def distrust(self) -> None:
        """From here on an interrupt leaves memory, or where it stands, in doubt: the next access must not trust it."""
        self.applied = UNSEEN
        self.unsure = True

    def trust(self) -> None:
        """Say that memory is what the position stands for."""
        self.unsure = False

    def stand(self, file: MappedFile, journal: Journal) -> None:
        """Stand in another file, or another journal."""
        self.file, self.journal = file, journal

    def mark_applied(self, sequence: int) -> None:
        """Say that memory is up to date with that sequence word."""
        self.applied = sequence

    def publish(self, sequence: int, publish: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Make a change in memory that was committed, by ``publish(*args)``."""
        self.epoch |= 1
        publish(*args)
        self.epoch += 1
        self.unsure = False
        self.applied = sequence

    def look_again(self) -> None:
        """Have the next access compare more than the sequence word."""
        self.applied = UNSEEN

    def begin_change(self) -> None:
        """Memory goes from one state to the next from here on; nothing happens where it does already."""
        self.epoch |= 1

    def end_change(self) -> None:
        """Memory is there; nothing happens where it was there already."""
        self.epoch += self.epoch & 1

    def check_now(self) -> None:
        """Have the next access look at the file itself."""
        self.next_check = 0.0

    def check_later(self) -> None:
        """Have the file itself be looked at in a while, as it was just now."""
        self.next_check = monotonic() + validation.CHECK_INTERVAL

    def copy(self, read: Callable[..., Any], *args: Any) -> Any:
        """Return ``read(*args)`` with no fast append meanwhile. A writer that is past its look changes one value."""
        self.copying = True
        try:
            return read(*args)
        finally:
            self.copying = False

    def forget(self) -> None:
        """In a forked child: no other thread is half-way through anything. Whether memory is whole tells `unsure`."""
        self.epoch += self.epoch & 1
        self.copying = False
        self.applied = UNSEEN

    def close(self) -> None:
        """Have nothing new, for ever: reads go on working on the last state."""
        self.page = HeaderPage.absent()
        self.header, self.word = self.page.bytes, (0,)
        self.applied, self.next_check = 0, float("inf")
