"""What the command can be asked, and its help: argparse, and of the library its version alone.

Each subcommand has a function here that adds its arguments, and says, as ``module:function``, what runs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mmapstate import __version__

__all__ = ["COMMANDS", "parse"]

_EXIT_CODES = """\
exit codes: 0 it went well, 1 it did not (no such file, no such key, no lock in time), 2 it was called wrongly,
130 it was interrupted with Ctrl-C
"""
_EXIT_CODES_OF_DEMO = """\
exit codes: 0 it went well, 1 it did not (something that was acknowledged is not in the file), 2 it was called wrongly,
130 it was interrupted with Ctrl-C
"""
_EXIT_CODES_OF_CHECK = """\
exit codes: 0 nothing was found, or notes alone, 1 there are warnings or errors, or the file could not be read,
2 it was called wrongly, 130 it was interrupted with Ctrl-C
"""
_EXIT_CODES_OF_REPAIR = """\
exit codes: 0 there was nothing to repair, or it was repaired and nothing is lost, 1 it could not be repaired, and is as
it was, 2 it was called wrongly, 3 it was repaired, and something is lost, 130 it was interrupted with Ctrl-C
"""
_EXIT_CODES_OF_DOCTOR = """\
exit codes: 0 all works, 1 something does not, or the folder cannot be written to, 2 it was called wrongly,
130 it was interrupted with Ctrl-C
"""
_PATHS = """\
PATH leads to a value, key by key, with dots in between: hosts.mill.port
  queue.0           a whole number is an index in a list; -1 is the last one
  hosts."db.local"  in double quotes dots are part of a key; \\" and \\\\ stand for " and \\
A key is text; where there is no such text, the number, true or date that is written so.
"""
_VALUES = """\
VALUE is YAML: 5, 1.5, true, null, text, "5" (text), [1, 2], {port: 80}; with --string it is text as it stands.
As in the file, yes, no, on, off, 12:30 and 1e5 are text: write true or false, and 1.0e+5.
Put -- before one that begins with a hyphen and is no number.
"""
_CREATING = """\
A program that uses the state has its changes and these one after the other: nothing is lost. The last key of PATH may
be new. With --create the file, and mappings on the way to the key, may be missing, too; without it, that is an error,
as it is most often a mistake.
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what `arguments` ask for; ``run`` names the function that does it. Ends the process after help."""
    if arguments is None:
        arguments = sys.argv[1:]
    parser = _Parser(
        prog="mmapstate",
        description="Small persistent state in one YAML file, shared by processes.",
        epilog=f"example:\n  mmapstate demo --keep\n\n{_EXIT_CODES}\n"
        "check, repair, doctor and demo say more in the help of each, as of: mmapstate check --help\n",
        formatter_class=_Unmeasured,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mmapstate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog="mmapstate")
    known = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    for name in known:  # to set up all of them takes longer than to answer one
        COMMANDS[name](commands, name)
    options, rest = parser.parse_known_args(arguments)
    if rest:  # told by the command's own parser: argparse leaves them to the main one, which has another usage
        getattr(options, "parser", parser).error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(options, "run"):
        parser.error("a COMMAND is missing")
    return options


class _Unmeasured(argparse.RawDescriptionHelpFormatter):
    """Formats without asking for the terminal's width: argparse checks each argument with one, and imports `shutil`."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": 80} | options)


class _Parser(argparse.ArgumentParser):
    """Answers a wrong call with the usage and what was wrong, on stderr."""

    def format_help(self) -> str:
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help tells more\n")


def _command(
    commands: Any, name: str, run: str, help: str, description: str, example: str, *notes: str
) -> argparse.ArgumentParser:
    epilog = "\n".join((f"example:\n  {example}\n", *(notes or (_EXIT_CODES,))))
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description, epilog=epilog,
        formatter_class=_Unmeasured, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=run, parser=parser)
    return parser


# ---------------------------------------------------------------- arguments that several have


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the state file")


def _add_path(parser: argparse.ArgumentParser, help: str, **options: Any) -> None:
    parser.add_argument("path", metavar="PATH", help=help, **options)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_string(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--string", action="store_true", help="take VALUE as text, whatever it looks like")


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--create", action="store_true", help="make the file, and mappings on the way, where missing")


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="N",
        help="seconds to wait for the lock of another program (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--power", action="store_true", help="the change survives loss of power, too")


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not 0 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no number") from None


# ---------------------------------------------------------------- look


def _show(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "access:show",
        "print a state, or a part of it, as YAML or JSON",
        "Prints the state as it is now, as YAML. Only reads: no lock, nothing is created, compacted or written, and\n"
        "programs that use the state do not notice. In JSON, dates are text, bytes are base64, and keys are text.",
        "mmapstate show example.state hosts.mill", _PATHS, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    _add_path(parser, "show this part of it", nargs="?")
    _add_json(parser)


def _get(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "access:get",
        "print one value, for scripts",
        "Prints a value: text as it is, without quotes, a number, true, false or null; a mapping or list as YAML.\n"
        "Only reads, as show does.",
        "mmapstate get example.state last_id", _PATHS, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    _add_path(parser, "where the value stands")
    _add_json(parser)


def _info(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "reports:info",
        "tell sizes, changes since the last vacuum, and who uses the file",
        "Looks at a state file without its lock, and changes nothing. Where the system tells (Linux), it names the\n"
        "processes that hold the lock, and those that have the file open.",
        "mmapstate info example.state",
    )  # fmt: skip
    _add_file(parser)
    _add_json(parser)


def _journal(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "records:journal",
        "print the changes since the last vacuum, and follow them",
        "Prints each record of the journal: what was changed, oldest first. Only reads.",
        "mmapstate journal example.state",
    )  # fmt: skip
    _add_file(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what programs change, until Ctrl-C")


def _watch(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "watch:watch",
        "show values live, with their rates of change",
        "Shows values as programs change them, and how fast numbers change; on a terminal in place, in a pipe a line\n"
        "for each change. Only reads. Ctrl-C ends it.",
        "mmapstate watch example.state last_id", _PATHS, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="watch these values (default: all at the top)")
    parser.add_argument(
        "-n", "--interval", type=_interval, default=1.0, metavar="SECONDS",
        help="time between two looks (default: %(default)g)",
    )  # fmt: skip


def _interval(text: str) -> float:
    seconds = _number(text)
    if not 0.01 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 86400")
    return seconds


# ---------------------------------------------------------------- change


def _set(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "access:set_value",
        "store a value",
        "Stores VALUE at PATH, in one step.",
        "mmapstate set example.state hosts.mill.port 8080", _CREATING, _PATHS, _VALUES, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    _add_path(parser, "where to store it")
    parser.add_argument("value", metavar="VALUE", help="what to store")
    _add_string(parser)
    _add_create(parser)
    _add_writing(parser)


def _delete(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "access:delete",
        "remove a key, or an item of a list",
        "Removes what stands at PATH, in one step.",
        "mmapstate delete example.state hosts.mill", _PATHS, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    _add_path(parser, "what to remove")
    _add_writing(parser)


def _append(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "access:append",
        "put a value at the end of a list",
        "Appends VALUE to the list at PATH, in one step; where there is no such key, to an empty list.",
        "mmapstate append example.state queue '{page: 7}'", _CREATING, _PATHS, _VALUES, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    _add_path(parser, "where the list is")
    parser.add_argument("value", metavar="VALUE", help="what to append")
    _add_string(parser)
    _add_create(parser)
    _add_writing(parser)


def _increment(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "access:increment",
        "add to a number, and print the sum: a counter for scripts",
        "Adds BY to the number at PATH, in one step, and prints the sum; where there is no such key, to 0. However\n"
        "many programs count, no two of them get the same sum.",
        "mmapstate increment example.state hits", _CREATING, _PATHS, _EXIT_CODES,
    )  # fmt: skip
    _add_file(parser)
    _add_path(parser, "where the number is")
    parser.add_argument("by", metavar="BY", nargs="?", default="1", help="what to add (default: %(default)s)")
    _add_create(parser)
    _add_writing(parser)


def _edit(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "edit:edit",
        "change the state in your editor, while programs use it",
        "Opens the state, with its comments, in $VISUAL or $EDITOR. What you changed is checked, and becomes one\n"
        "change; what programs changed meanwhile is kept.",
        "mmapstate edit example.state",
    )  # fmt: skip
    _add_file(parser)


# ---------------------------------------------------------------- care


def _check(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "reports:check",
        "say what is wrong with a state file, without changing it",
        "Looks at a state file, which programs may be using, and at what stands beside it. Prints a line\n"
        "for each finding: an error keeps the file from being opened, or costs a part of what it holds; a\n"
        "warning is what somebody should look at; a note is what the next program to open it puts right.",
        "mmapstate check example.state", _EXIT_CODES_OF_CHECK,
    )  # fmt: skip
    _add_file(parser)


def _repair(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "reports:repair",
        "make a state file that cannot be opened one that can, and keep a copy of it",
        "Stop the programs that use the state first. If the file can be opened, nothing is done. Else it\n"
        "is copied to FILE.damaged-<time>, and what can be read of it is put in its place. Prints a line\n"
        "for each thing that is no longer as it was.",
        "mmapstate repair example.state", _EXIT_CODES_OF_REPAIR,
    )  # fmt: skip
    _add_file(parser)


def _vacuum(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "reports:vacuum",
        "compact a state file to its YAML document alone",
        "Writes the file anew, without a journal, and swaps it in. Programs may be using it. Happens by itself, too.",
        "mmapstate vacuum example.state",
    )  # fmt: skip
    _add_file(parser)
    _add_writing(parser)


def _doctor(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "doctor:doctor",
        "try whether a folder is a good place for a state",
        "Tries for real, with temporary files that it removes, what a state needs of the folder: locks, renaming over\n"
        "a file, maps that processes share, syncs. Says what kind of filesystem it is, and what to do.",
        "mmapstate doctor .", _EXIT_CODES_OF_DOCTOR,
    )  # fmt: skip
    parser.add_argument("path", metavar="PATH", help="a folder, or a state file in it")


def _demo(commands: Any, name: str) -> None:
    parser = _command(
        commands, name, "demo:demo",
        "show in about five seconds that processes share a state, and that a kill loses nothing",
        "Four processes count and append to one state file. One of them is killed and replaced. At the\n"
        "end the file is compared with what the processes acknowledged, change by change.",
        "mmapstate demo --file demo.state", _EXIT_CODES_OF_DEMO,
    )  # fmt: skip
    parser.add_argument("--file", metavar="PATH", help="make the state file here (there must be none yet), and keep it")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with the state file")
    parser.add_argument(
        "--seconds", type=_duration, default=4.0, metavar="N", help="how long the processes work (default: %(default)g)"
    )


def _duration(text: str) -> float:
    seconds = _number(text)
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return seconds


COMMANDS = {
    "show": _show, "get": _get, "set": _set, "delete": _delete, "append": _append, "increment": _increment,
    "edit": _edit, "journal": _journal, "watch": _watch, "info": _info, "check": _check, "repair": _repair,
    "vacuum": _vacuum, "doctor": _doctor, "demo": _demo,
}  # fmt: skip
