"""The copy of a state that somebody edits, the editor, and the question whether to edit again."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mmapstate.command.outcome import Failure
from mmapstate.file.system import WINDOWS

_EDITORS = ("notepad",) if WINDOWS else ("sensible-editor", "editor", "nano", "vi")


class Draft:
    """The file that the editor gets, in a private folder: states hold tokens, and editors keep copies beside a file."""

    def __init__(self, name: str, text: bytes) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mmapstate-"))
        self.file = self.folder / name
        self.first = text
        self.file.touch(0o600)
        self.offer(text)

    def offer(self, text: bytes) -> None:
        """Have the next run of the editor start from this text."""
        self.file.write_bytes(text)

    def edited(self) -> bytes:
        """Run the editor; return the text it leaves. Raises `Failure` unless it exits with 0."""
        variable = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name, "").strip()), "")
        try:
            default = next(filter(shutil.which, _EDITORS), _EDITORS[-1])
            command = _split(os.environ[variable]) if variable else [default]
        except ValueError as error:
            raise Failure(f"${variable} is not a command: {error}; nothing was changed") from None
        told = f"the editor, {command[0]}{f' (of ${variable})' if variable else ''},"
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the editor's, which does not inherit this
        try:
            code = subprocess.run([*command, self.file], check=False).returncode
        except OSError as error:
            problem = f"{told} cannot be run: {error.strerror}; set VISUAL or EDITOR; nothing was changed"
            raise Failure(problem) from None
        finally:
            signal.signal(signal.SIGINT, before)
        if code:
            ended = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
            raise Failure(f"{told} {ended}; nothing was changed")
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            raise Failure("the editor has removed the file that it was given; nothing was changed") from None

    def keep(self) -> None:
        """Keep what somebody typed, and say where; remove the rest."""
        left = set(self.folder.iterdir()) if self.folder.is_dir() else set()  # removed under the editor
        if self.file in left and self.file.read_bytes() != self.first:
            print(f"mmapstate: what you edited is kept in {self.file}", file=sys.stderr)
        elif left - {self.file}:  # of an editor that was killed: what was typed
            print(f"mmapstate: what the editor has left is kept in {self.folder}", file=sys.stderr)
        elif left:
            self.remove()

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder)


def _split(command: str) -> list[str]:
    if not WINDOWS:
        return shlex.split(command)
    return [part.strip('"') for part in shlex.split(command, posix=False)]  # a backslash is part of a path there


def ask_to_edit_again(problem: str) -> None:
    """Say what is wrong, and ask whether to edit again; raise `Failure` if not, or if nobody answers.

    The answer is a line of stdin: a script can give it, too.
    """
    print(f"mmapstate: {problem}", file=sys.stderr)
    while True:
        print("[e]dit again, or [q]uit? ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            print(file=sys.stderr)
        if answer.strip().lower() in ("e", "edit"):
            return
        if not answer or answer.strip().lower() in ("q", "quit"):
            raise Failure("nothing was changed")
