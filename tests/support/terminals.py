"""A terminal for a program that a test runs: a pty, and the pictures that the program has drawn on it."""

import os
import re
import select
import signal
import time

try:
    import fcntl
    import pty
    import struct
    import termios
except ImportError:  # Windows has none
    pty = None

from support.commands import call, environment

__all__ = ["Terminal"]

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_END_OF_PICTURE = "\x1b[J"


class Terminal:
    """A subcommand in a terminal of so many columns and lines."""

    def __init__(self, *arguments, columns=80, lines=24, **variables):
        self.text = ""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.execve(call()[0], call(*arguments), environment(TERM="xterm") | variables)
            finally:
                os._exit(127)
        self.status = None
        self.resize(columns, lines)

    def resize(self, columns, lines):
        """Make the window larger or smaller; what was drawn until now is forgotten."""
        self.text = ""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, found, timeout=30):
        """Read until ``found(picture)`` is true of one that was drawn, and return that: its lines, without colors."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            pictures = self.text.split("\x1b[H")[1:]
            for text in pictures[seen:-1] + [text for text in pictures[-1:] if text.endswith(_END_OF_PICTURE)]:
                picture = _STYLE.sub("", text.partition(_END_OF_PICTURE)[0]).replace("\x1b[K", "").split("\r\n")
                if found(picture):
                    return picture
            seen = max(len(pictures) - 1, 0)
            left = deadline - time.monotonic()
            assert left > 0, self.text[-2000:]
            self.read(left)

    def read(self, seconds):
        """Read what comes within so many seconds; return False at the end."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # so Linux tells the end
            return False
        self.text += data.decode()
        return data != b""

    def signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def ended(self):
        """Wait for its end; return exit code, and what it has drawn outside of its own screen last."""
        while self.read(30):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status, self.text.rpartition("\x1b[?1049l")[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)
