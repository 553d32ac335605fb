"""The exit codes of the command, and the error that ends it with one of them. No imports of the library."""

from __future__ import annotations

WELL = 0
FAILED = 1  # it did not go well: no such file, no such key, no lock in time; findings of `check`
MISUSED = 2  # it was called wrongly, as argparse has it
LOST = 3  # `repair` had to drop something
INTERRUPTED = 130  # Ctrl-C, as shells have it

WARNING = "mmapstate: warning: "  # what a line on stderr begins with that tells of no failure


class Failure(Exception):
    """Is raised where the command cannot do what it was asked; its text goes to stderr, `code` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
