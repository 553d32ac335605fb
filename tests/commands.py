"""Run the command, beside programs that use the same state: for the tests of its subcommands."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from processes import Child

import mmapstate
from mmapstate.command import main

__all__ = ["call", "environment", "run", "run_here", "two_writers"]

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
