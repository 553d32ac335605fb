"""The logger of the library. Who imports it imports `logging`: those that seldom have to tell do it when they do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["log", "warnings_shown"]

log = logging.getLogger("mmapstate")
log.addHandler(logging.NullHandler())  # else Python prints warnings of a program that has not set up logging


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
