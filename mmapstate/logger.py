"""The logger of the library. Who imports it imports `logging`: those that seldom have to tell do it when they do.

It has no handler of its own: where a program has not set up logging, Python prints warnings to stderr. They tell of
what somebody would lose, or has lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("mmapstate")


@contextmanager
def warnings_shown(prefix: str) -> Iterator[None]:
    """Have warnings go to stderr meanwhile, as lines that begin with `prefix`: for programs that have no other log."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(prefix + "%(message)s"))
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(handler)
