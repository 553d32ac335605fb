"""Windows: a thread that lets go of files that this process has open, for the sake of another process's vacuum.

Windows replaces no file that anybody has open. So who wants to replace one asks the others, in the header page, to let
go of it for a moment. A process that is at work would find that at its next access; one that sleeps finds it here. The
thread is started with the first state that is opened, and ends with the last. Elsewhere there is none.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol

from mmapstate.file import system
from mmapstate.logger import log

_PAUSE = 0.01  # seconds between two looks at the pages: a load that cannot be measured, and a short wait for a vacuum


class Watched(Protocol):
    """A store, as it is seen from here."""

    path: str

    def release_if_asked(self) -> None:
        """Release the file if another process asks for it; reopen it when it does no longer."""


class _Watch:
    """The stores to look at, and the thread that does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stores: set[Watched] = set()
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def add(self, store: Watched) -> None:
        with self.lock:
            self.stores.add(store)
            if self.thread is not None:
                return
            self.ended = threading.Event()
            thread = threading.Thread(target=self.run, args=(self.ended,), name="mmapstate idle", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: no time to be idle any more
                thread.start()
                self.thread = thread

    def remove(self, store: Watched) -> None:
        with self.lock:
            self.stores.discard(store)
            if self.stores or self.thread is None:
                return
            thread, self.thread = self.thread, None
            self.ended.set()
        if thread is not threading.current_thread():  # a finaliser can be run there
            thread.join()

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(_PAUSE):
            with self.lock:
                stores = list(self.stores)
            for store in stores:
                try:
                    store.release_if_asked()
                except Exception:
                    log.exception("%s: this process may keep it open, so that others cannot compact it", store.path)


_watch = _Watch()


def watch(store: Watched) -> None:
    """Have `store` let go of its file whenever it is asked to, from now on."""
    if system.REPLACE_NEEDS_UNMAPPED:
        _watch.add(store)


def unwatch(store: Watched) -> None:
    """Forget `store`, which is about to be closed."""
    if system.REPLACE_NEEDS_UNMAPPED:
        _watch.remove(store)
