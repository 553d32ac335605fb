"""The logger of the library. Who imports it imports `logging`: those that seldom have to tell do it when they do."""

from __future__ import annotations

import logging

__all__ = ["log", "show_warnings"]

log = logging.getLogger("mmapstate")
log.addHandler(logging.NullHandler())  # else Python prints warnings of a program that has not set up logging


def show_warnings(prefix: str) -> None:
    """Have warnings go to stderr, as lines that begin with `prefix`: for programs of which the library is all."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(prefix + "%(message)s"))
    log.addHandler(handler)
    log.propagate = False
