"""The command: ``python -m mmapstate``. What it does is told by ``--help``.

Exit codes: 0 it went well, 1 it did not (for `demo`: a promise did not hold), 2 it was called wrongly, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mmapstate import demo
from mmapstate.errors import StateError

__all__ = ["main"]

_EXIT_CODES = """\
exit codes: 0 it went well, 1 it did not (for demo: something that was acknowledged is not in the file),
2 it was called wrongly, 130 it was interrupted with Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process); return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except (StateError, OSError) as error:
        if not _is_read():
            return 1  # nobody waits for the rest, as in `... | head`
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return code


def _is_read() -> bool:
    """Return whether somebody still reads stdout, by ending its line; if not, the rest goes nowhere.

    Else Python would complain at exit that it cannot write it.
    """
    try:
        print(flush=True)
    except OSError:  # a broken pipe, on Windows an invalid argument
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


class _Parser(argparse.ArgumentParser):
    """Answers a wrong call with the help and what was wrong, on stderr."""

    def error(self, message: str) -> NoReturn:
        self.print_help(sys.stderr)
        self.exit(2, f"\n{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mmapstate",
        description="Small persistent state in one YAML file, shared by processes.",
        epilog=f"example:\n  python -m mmapstate demo --keep\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    shown = commands.add_parser(
        "demo",
        help="show in about five seconds that processes share a state, and that a kill loses nothing",
        description="Four processes count and append to one state file. One of them is killed and replaced. At the\n"
        "end the file is compared with what the processes acknowledged, change by change.",
        epilog=f"example:\n  python -m mmapstate demo --file demo.state\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    shown.add_argument("--file", metavar="PATH", help="make the state file here (there must be none yet), and keep it")
    shown.add_argument("--keep", action="store_true", help="keep the temporary folder with the state file")
    shown.add_argument(
        "--seconds", type=_seconds, default=4.0, metavar="N", help="how long the processes work (default: %(default)g)"
    )
    shown.set_defaults(run=_demo)
    return parser


def _demo(options: argparse.Namespace) -> int:
    return demo.run(options.seconds, options.file, options.keep)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return seconds
