"""Run the command, beside programs that use the same state: for the tests of its subcommands."""

import contextlib
import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import mmapstate
from mmapstate.command import main
from support.processes import Child

__all__ = ["Running", "call", "deserted", "environment", "run", "run_here", "two_writers"]

IMPORTED_FROM = str(Path(mmapstate.__file__).resolve().parent.parent)


def environment(**variables):
    """Return the environment of this process, for one that imports the same library."""
    own = {name: value for name, value in os.environ.items() if name not in ("VISUAL", "EDITOR", "NO_COLOR")}
    return own | {"PYTHONPATH": IMPORTED_FROM, "PYTHONIOENCODING": "utf-8"} | variables


def call(*arguments):
    """Return the command line that runs a subcommand."""
    return [sys.executable, "-W", "error", "-m", "mmapstate", *arguments]


def run(*arguments, **variables):
    """Run a subcommand to its end, in a process of its own; return exit code, stdout and stderr."""
    done = subprocess.run(
        call(*arguments),
        env=environment(**variables),
        input="",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def run_here(*arguments, answers="", **variables):
    """Run a subcommand in this process; return exit code, stdout and stderr."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(**variables)),
        mock.patch.object(sys, "stdin", io.StringIO(answers)),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = main(arguments)
    return code, output.getvalue(), errors.getvalue()


def deserted(*arguments):
    """Run a subcommand whose output nobody reads any more; return exit code and stderr."""
    with subprocess.Popen(
        call(*arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        running.stdout.close()
        try:
            return running.wait(30), running.stderr.read()
        finally:
            running.kill()


class Running:
    """A subcommand that runs until it is ended, and whose lines are read as they come."""

    def __init__(self, *arguments, **variables):
        self.process = subprocess.Popen(
            call(*arguments),
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.lines = []
        self.coming = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.coming.put(line.rstrip("\n"))
        self.coming.put(None)

    def until(self, found):
        """Return the first line for which ``found(line)`` is true, or that begins with it; all are kept in `lines`."""
        while True:
            line = self.coming.get(timeout=30)
            assert line is not None, (self.lines, self.process.stderr.read())
            self.lines.append(line)
            if line.startswith(found) if isinstance(found, str) else found(line):
                return line

    def interrupt(self):
        """Do what Ctrl-C does; return exit code and stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self):
        """Wait for the end; return exit code and stderr."""
        code = self.process.wait(30)
        self.reader.join()
        while (line := self.coming.get()) is not None:
            self.lines.append(line)
        return code, self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


def write_until_told(talk, path, name):
    """Count up, and append some of the numbers to a list; return the last number."""
    with mmapstate.open(path) as state:
        number = 0
        while not talk.ready(0) or number < 20:
            number = state.increment(name)
            if number == 10 or number % 500 == 0:
                state["jobs"].append({"by": name, "number": number})
                if number == 10:
                    talk.send(number)
            time.sleep(2e-4)  # the command needs some of the processor, too
        return number


@contextlib.contextmanager
def two_writers(path):
    """Have two processes, ada and bob, write to a state; yields a dict that has their last numbers at the end."""
    numbers = {}
    with contextlib.ExitStack() as ended:
        writers = {name: ended.enter_context(Child(write_until_told, path, name)) for name in ("ada", "bob")}
        for writer in writers.values():
            assert writer.receive() == 10
        yield numbers
        for writer in writers.values():
            writer.send("end")
        for name, writer in writers.items():
            numbers[name] = writer.result()
