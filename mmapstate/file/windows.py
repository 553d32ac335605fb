"""Windows: a thread that releases the files of this process, so that another process can replace them.

Windows replaces no file that anybody has open. So a process that wants to replace one asks the others, in the header
page, to release it for a moment. A process at work notices that at its next access; for one that sleeps this thread
does. It is started with the first state that is opened, and ends with the last. On other systems there is none.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol

from mmapstate.file import system
from mmapstate.logger import log

_PAUSE = 0.01  # seconds between two looks at the pages: a load that cannot be measured, and a short wait for a vacuum


class Watched(Protocol):
    """What this thread looks after."""

    path: str

    def release_if_asked(self) -> None:
        """Release the file if another process asks for it; reopen it once none does."""


class _Watch:
    """The open stores, and the thread that looks after them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.watched: set[Watched] = set()
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def add(self, watched: Watched) -> None:
        with self.lock:
            self.watched.add(watched)
            if self.thread is not None:
                return
            self.ended = threading.Event()
            thread = threading.Thread(target=self.run, args=(self.ended,), name="mmapstate idle", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: no time to be idle any more
                thread.start()
                self.thread = thread

    def remove(self, watched: Watched) -> None:
        with self.lock:
            self.watched.discard(watched)
            if self.watched or self.thread is None:
                return
            thread, self.thread = self.thread, None
            self.ended.set()
        if thread is not threading.current_thread():  # a finaliser can be run there
            thread.join()

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(_PAUSE):
            with self.lock:
                watched = list(self.watched)
            for each in watched:
                try:
                    each.release_if_asked()
                except Exception:
                    log.exception("%s: this process may keep it open, so that others cannot compact it", each.path)


_watch = _Watch()


def watch(watched: Watched) -> None:
    """Have `watched` release its file whenever that is asked for, from now on."""
    if system.REPLACE_NEEDS_UNMAPPED:
        _watch.add(watched)


def unwatch(watched: Watched) -> None:
    """Forget `watched`, which is about to be closed."""
    if system.REPLACE_NEEDS_UNMAPPED:
        _watch.remove(watched)
