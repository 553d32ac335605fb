"""The command: ``python -m mmapstate``. What it does is told by ``--help``.

Exit codes: 0 it went well, 1 it did not (for `demo`: a promise did not hold; for `check`: something is wrong), 2 it was
called wrongly, 3 `repair` had to drop something, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mmapstate import demo, inspection, repairs
from mmapstate.errors import StateError
from mmapstate.findings import NOTE

__all__ = ["main"]

_EXIT_CODES = """\
exit codes: 0 it went well, 1 it did not (for demo: something that was acknowledged is not in the file),
2 it was called wrongly, 130 it was interrupted with Ctrl-C
"""
_EXIT_CODES_OF_CHECK = """\
exit codes: 0 nothing was found, or notes alone, 1 there are warnings or errors, or the file could not be read,
2 it was called wrongly, 130 it was interrupted with Ctrl-C
"""
_EXIT_CODES_OF_REPAIR = """\
exit codes: 0 there was nothing to repair, or it was repaired and nothing is lost, 1 it could not be repaired, and is as
it was, 2 it was called wrongly, 3 it was repaired, and something is lost, 130 it was interrupted with Ctrl-C
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
        epilog=f"example:\n  python -m mmapstate demo --keep\n\n{_EXIT_CODES}\n"
        "check and repair have some of their own: see the help of each, as of: python -m mmapstate check --help\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_check(commands)
    _add_repair(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], **texts: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **texts
    )
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Any) -> None:
    shown = _command(
        commands, "demo", _demo,
        help="show in about five seconds that processes share a state, and that a kill loses nothing",
        description="Four processes count and append to one state file. One of them is killed and replaced. At the\n"
        "end the file is compared with what the processes acknowledged, change by change.",
        epilog=f"example:\n  python -m mmapstate demo --file demo.state\n\n{_EXIT_CODES}",
    )  # fmt: skip
    shown.add_argument("--file", metavar="PATH", help="make the state file here (there must be none yet), and keep it")
    shown.add_argument("--keep", action="store_true", help="keep the temporary folder with the state file")
    shown.add_argument(
        "--seconds", type=_seconds, default=4.0, metavar="N", help="how long the processes work (default: %(default)g)"
    )


def _demo(options: argparse.Namespace) -> int:
    return demo.run(options.seconds, options.file, options.keep)


def _add_check(commands: Any) -> None:
    checked = _command(
        commands, "check", _check,
        help="say what is wrong with a state file, without changing it",
        description="Looks at a state file, which programs may be using, and at what stands beside it. Prints a line\n"
        "for each finding: an error keeps the file from being opened, or costs a part of what it holds; a\n"
        "warning is what somebody should look at; a note is what the next program to open it puts right.",
        epilog=f"example:\n  python -m mmapstate check example.state\n\n{_EXIT_CODES_OF_CHECK}",
    )  # fmt: skip
    checked.add_argument("file", metavar="FILE", help="the state file")


def _check(options: argparse.Namespace) -> int:
    found = inspection.check(options.file)
    for finding in found:
        print(finding)
    if not found:
        print(f"{options.file}: all is well")
    return 1 if any(finding.severity != NOTE for finding in found) else 0


def _add_repair(commands: Any) -> None:
    repaired = _command(
        commands, "repair", _repair,
        help="make a state file that cannot be opened one that can, and keep a copy of it",
        description="Stop the programs that use the state first. If the file can be opened, nothing is done. Else it\n"
        "is copied to FILE.damaged-<time>, and what can be read of it is put in its place. Prints a line\n"
        "for each thing that is no longer as it was.",
        epilog=f"example:\n  python -m mmapstate repair example.state\n\n{_EXIT_CODES_OF_REPAIR}",
    )  # fmt: skip
    repaired.add_argument("file", metavar="FILE", help="the state file")


def _repair(options: argparse.Namespace) -> int:
    done = repairs.repair(options.file)
    for finding in done.findings:
        print(finding)
    if done.copy is None:
        print(f"{options.file}: there is nothing to repair")
    else:
        print(f"{options.file}: repaired; as it was before it is in {done.copy}")
    return 3 if done.lost_something else 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return seconds
