"""The table of subcommands, from which argparse and `--help` are made. Imports of the library only its version."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from mmapstate import __version__
from mmapstate.command.outcome import FAILED, INTERRUPTED, LOST, MISUSED, WELL

# ---------------------------------------------------------------- arguments


class Argument:
    """What `ArgumentParser.add_argument` is given, and a note for the end of the help."""

    def __init__(self, *names: str, note: str = "", **options: Any) -> None:
        self.names, self.note, self.options = names, note, options


def _flag(*names: str, help: str, note: str = "") -> Argument:
    return Argument(*names, action="store_true", help=help, note=note)


def _path(help: str, name: str = "path", **options: Any) -> Argument:
    return Argument(name, metavar="PATH", help=help, note=_PATHS, **options)


def _value(help: str) -> Argument:
    return Argument("value", metavar="VALUE", help=help, note=_VALUES)


def _seconds(*names: str, help: str, default: float, least: float, most: float) -> Argument:
    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not a number") from None
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return found

    return Argument(*names, type=number, default=default, metavar="N", help=f"{help} (default: %(default)g)")


_PATHS = """\
PATH is the keys that lead to a value, joined by dots: hosts.mill.port
  queue.0           in a list, a whole number is an index; -1 is the last item
  hosts."db.local"  in double quotes, dots are part of the key; \\" and \\\\ stand for " and \\
A segment is a text key; if there is none, the number, boolean or date that is written like it.
"""
_VALUES = """\
VALUE is YAML: 5, 1.5, true, null, text, "5" (text), [1, 2], {port: 80}; with --string it is text as it stands.
As in the file, yes, no, on, off and 12:30 are text: write true or false.
Put -- before a VALUE that starts with a hyphen and is not a number.
"""
_CREATING = """\
Programs may use the state meanwhile: nothing of theirs is lost. The last key of PATH may be new. The file, and
mappings on the way to the key, may be missing only with --create, since a missing one is most often a mistake.
"""
_FILE = Argument("file", metavar="FILE", help="the state file")
_JSON = _flag("--json", help="print JSON")
_STRING = _flag("--string", help="take VALUE as text, whatever it looks like")
_CREATE = _flag("--create", help="create the file, and mappings on the way, where missing", note=_CREATING)
_WRITING = (
    _seconds("--timeout", help="seconds to wait for another program's lock", default=10.0, least=0, most=999_999),
    _flag("--power", help="the change survives a power cut, too"),
)

# ---------------------------------------------------------------- commands


class Command(NamedTuple):
    """A subcommand: `run` is ``module:function`` beside this module, `help` a line, `about` what its own help says."""

    run: str
    help: str
    about: str
    example: str
    arguments: tuple[Argument, ...]
    exits: Mapping[int, str] = {}


_EXITS = {
    WELL: "success",
    FAILED: "failure (no such file, no such key, lock not free in time)",
    MISUSED: "wrong usage",
    INTERRUPTED: "interrupted with Ctrl-C",
}

COMMANDS = {
    "show": Command(
        "access:show", "print a state, or a part of it, as YAML or JSON",
        "Prints the state as it is now, as YAML. Only reads: no lock, nothing is created, compacted or written, and\n"
        "programs that use the state do not notice. In JSON, dates are text, bytes are base64, and keys are text.",
        "show example.state hosts.mill",
        (_FILE, _path("show this part of it", nargs="?"), _JSON)),
    "get": Command(
        "access:get", "print one value, for scripts",
        "Prints a value: text as it is, without quotes, a number, true, false or null; a mapping or list as YAML.\n"
        "Only reads, as show does.",
        "get example.state last_id",
        (_FILE, _path("where the value stands"), _JSON)),
    "set": Command(
        "access:set_value", "store a value",
        "Stores VALUE at PATH, in one step.",
        "set example.state hosts.mill.port 8080",
        (_FILE, _path("where to store it"), _value("what to store"), _STRING, _CREATE, *_WRITING)),
    "delete": Command(
        "access:delete", "remove a key, or an item of a list",
        "Removes what stands at PATH, in one step.",
        "delete example.state hosts.mill",
        (_FILE, _path("what to remove"), *_WRITING)),
    "append": Command(
        "access:append", "put a value at the end of a list",
        "Appends VALUE to the list at PATH, in one step; where there is no such key, to an empty list.",
        "append example.state queue '{page: 7}'",
        (_FILE, _path("where the list is"), _value("what to append"), _STRING, _CREATE, *_WRITING)),
    "increment": Command(
        "access:increment", "add to a number, and print the sum: a counter for scripts",
        "Adds BY to the number at PATH, in one step, and prints the sum; where there is no such key, to 0. However\n"
        "many programs count, no two of them get the same sum.",
        "increment example.state hits",
        (_FILE, _path("where the number is"),
         Argument("by", metavar="BY", nargs="?", default="1", help="what to add (default: %(default)s)"),
         _CREATE, *_WRITING)),
    "edit": Command(
        "edit:edit", "change the state in your editor, while programs use it",
        "Opens the state, with its comments, in $VISUAL or $EDITOR. What you changed is checked, and becomes one\n"
        "change; what programs changed meanwhile is kept.",
        "edit example.state",
        (_FILE,)),
    "journal": Command(
        "records:journal", "print the changes since the last vacuum, and follow them",
        "Prints each record of the journal: what was changed, oldest first. Only reads.",
        "journal example.state",
        (_FILE, _flag("-f", "--follow", help="keep printing changes as they come, until Ctrl-C"))),
    "watch": Command(
        "watch:watch", "show values live, with their rates of change",
        "Shows values as programs change them, and how fast numbers change: on a terminal in place, which takes\n"
        "pip install 'mmapstate[watch]', else a line for each change. Only reads. Ctrl-C ends it.",
        "watch example.state last_id",
        (_FILE, _path("watch these values (default: all at the top)", "paths", nargs="*"),
         _seconds("-n", "--interval", help="seconds between two looks", default=1.0, least=0.01, most=86400))),
    "info": Command(
        "reports:info", "print sizes, changes since the last vacuum, and who uses the file",
        "Looks at a state file without its lock, and changes nothing. Where the system tells (Linux), it names the\n"
        "processes that hold the lock, and those that have the file open.",
        "info example.state",
        (_FILE, _JSON)),
    "check": Command(
        "reports:check", "say what is wrong with a state file, without changing it",
        "Looks at a state file, which programs may be using, and at what stands beside it. Prints a line\n"
        "for each finding: an error keeps the file from being opened, or costs a part of what it holds; a\n"
        "warning is what somebody should look at; a note is what the next program to open it puts right.",
        "check example.state",
        (_FILE,),
        {WELL: "nothing found, or only notes",
         FAILED: "warnings or errors, or the file could not be read"}),
    "repair": Command(
        "reports:repair", "make a state file that cannot be opened one that can, and keep a copy of it",
        "Stop the programs that use the state first. If the file can be opened, nothing is done. Else it\n"
        "is copied to FILE.damaged-<time>, and what can be read of it is put in its place. Prints a line\n"
        "for each thing that is no longer as it was.",
        "repair example.state",
        (_FILE,),
        {WELL: "nothing to repair, or repaired without loss",
         FAILED: "could not be repaired; the file is as it was",
         LOST: "repaired, but something is lost"}),
    "vacuum": Command(
        "access:vacuum", "compact a state file to its YAML document alone",
        "Writes the file anew, without a journal, and swaps it in. Programs may be using it. Happens by itself, too.",
        "vacuum example.state",
        (_FILE, *_WRITING)),
    "doctor": Command(
        "doctor:doctor", "try whether a folder is a good place for a state",
        "Tries for real, with temporary files that it removes, what a state needs of the folder: locks, renaming over\n"
        "a file, maps that processes share, syncs. Says what kind of filesystem it is, and what to do.",
        "doctor .",
        (Argument("path", metavar="PATH", help="a folder, or a state file in it"),),
        {WELL: "all works", FAILED: "something does not, or the folder is not writable"}),
    "demo": Command(
        "demo:demo", "show in about five seconds that processes share a state, and that a kill loses nothing",
        "Four processes count and append to one state file. One of them is killed and replaced. At the\n"
        "end the file is compared with what the processes acknowledged, change by change.",
        "demo --file demo.state",
        (Argument("--file", metavar="PATH", help="create the state file here (there must be none yet), and keep it"),
         _flag("--keep", help="keep the temporary folder with the state file"),
         _seconds("--seconds", help="how long the processes work", default=4.0, least=0.01, most=3600)),
        {FAILED: "failure (an acknowledged change is not in the file)"}),
}  # fmt: skip

# ---------------------------------------------------------------- argparse


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what `arguments` ask for; ``run`` names the function that does it. Ends the process after help."""
    if arguments is None:
        arguments = sys.argv[1:]
    parser = _Parser(
        prog="mmapstate",
        description="Small persistent state in one YAML file, shared by processes.",
        epilog=f"example:\n  mmapstate demo --keep\n\n{_told(_EXITS)}\n"
        "mmapstate COMMAND --help tells more about a command.\n",
        formatter_class=_Unmeasured,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mmapstate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog="mmapstate")
    known = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    for name in known:  # to set up all of them takes longer than to answer one
        _add(commands.add_parser, name, COMMANDS[name])
    options, rest = parser.parse_known_args(arguments)
    if rest:  # told by the command's own parser: argparse leaves them to the main one, which has another usage
        getattr(options, "parser", parser).error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(options, "run"):
        parser.error("a COMMAND is missing")
    return options


def _add(add_parser: Callable[..., argparse.ArgumentParser], name: str, command: Command) -> None:
    notes = [argument.note for argument in command.arguments if argument.note]
    epilog = "\n".join([f"example:\n  mmapstate {command.example}\n", *notes, _told({**_EXITS, **command.exits})])
    parser = add_parser(
        name, help=command.help, description=command.about, epilog=epilog,
        formatter_class=_Unmeasured, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=command.run, parser=parser)
    for argument in command.arguments:
        parser.add_argument(*argument.names, **argument.options)


def _told(exits: dict[int, str]) -> str:
    return "exit codes: " + "\n            ".join(f"{code:<3} {exits[code]}" for code in sorted(exits)) + "\n"


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
        self.exit(MISUSED, f"{self.prog}: {message}; {self.prog} --help tells more\n")
