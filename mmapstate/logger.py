"""The logger of the library. Who imports it imports `logging`: those that seldom have to tell do it when they do."""

from __future__ import annotations

import logging

__all__ = ["log"]

log = logging.getLogger("mmapstate")
log.addHandler(logging.NullHandler())  # else Python prints warnings of a program that has not set up logging
