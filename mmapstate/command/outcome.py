"""The exit codes of the command, and the error that ends it with one of them. No imports of the library."""

from __future__ import annotations

WELL = 0
FAILED = 1  # no such file, no such key, lock not free in time; findings of `check`
MISUSED = 2  # wrong usage; argparse's own code
LOST = 3  # `repair` had to drop something
INTERRUPTED = 130  # Ctrl-C, as shells have it

WARNING = "mmapstate: warning: "  # starts a line on stderr that is not about a failure


class Failure(Exception):
    """The command cannot do what it was asked; the message goes to stderr, `code` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
