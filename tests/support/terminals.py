"""A terminal for a program that a test runs: a pty, and the text that the program has drawn on it."""

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

__all__ = ["Terminal", "plain"]


class Terminal:
    """A subcommand in a terminal of so many columns and lines."""

    def __init__(self, *arguments, command=None, columns=80, lines=24, **variables):
        self.text = ""
        command = command or call(*arguments)
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.execve(command[0], command, environment(TERM="xterm") | variables)
            finally:
                os._exit(127)
        self.status = None
        self.resize(columns, lines)

    def resize(self, columns, lines):
        """Make the window larger or smaller; what was drawn until now is forgotten."""
        self.text = ""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, pattern, timeout=30):
        """Read until `pattern` is found in what was drawn, as lines without styles; forget that, return the match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, plain(self.text), re.MULTILINE)
            if match:
                self.text = ""
                return match
            left = deadline - time.monotonic()
            assert left > 0, self.text[-2000:]
            assert self.read(left), self.text[-2000:]

    def read(self, seconds):
        """Read what comes within so many seconds; return False at the end."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # so Linux tells the end
            return False
        self.text += data.decode(errors="ignore")  # a read may end within a character
        return data != b""

    def signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def ended(self):
        """Wait for its end; return its exit code."""
        while self.read(30):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)


def plain(text):
    """Return what was drawn as lines, each without the blanks at its end, styles or other escapes."""
    lines = re.sub(r"\r\n|\x1b\[\d+;1H", "\n", text).split("\n")
    return "\n".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in lines)
