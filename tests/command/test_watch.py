"""``mmapstate watch``: values as programs change them, and how fast; in place on a terminal, line by line in a pipe."""

import io
import os
import re
import signal
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console
from support import probe
from support.commands import Running, call, deserted, environment, run_here, two_writers
from support.processes import not_on_windows
from support.terminals import Terminal, plain

import mmapstate
from mmapstate.command import main, screen
from mmapstate.command.watched import MISSING, Row, Watched
from mmapstate.file.sidecar import sidecar_path

on_a_terminal = not_on_windows("there is no pty, nor such a signal for one process")

TEXT = """\
ada: 0
bob: 0
name: "Müller 日本"
ratio: 0.5
jobs: []
hosts: {mill: {port: 80}, "db.local": 1}
"""

OTHER_SCREEN, USUAL_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def file(path):
    """A state file that has stood still for long."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(TEXT)
    os.utime(path, (1, 1))
    return path


@on_a_terminal
def test_values_of_two_programs_are_shown_in_place_with_their_rates(file, interrupts):
    with Terminal("watch", file, "-n", "0.1") as terminal:
        while "hosts" not in plain(terminal.text):
            assert terminal.read(30)
        assert terminal.text.startswith(f"{OTHER_SCREEN}\x1b[H\x1b[?25l")
        terminal.until(
            r" 0 changes/s\n\nada +0\nbob +0\nname +"
            r'"Müller 日本"\nratio +0\.5\njobs +\(0 items\)\nhosts +\(2 keys\)'
        )
        with two_writers(file) as numbers:
            terminal.until(r" [1-9][0-9,]* changes/s\n\nada +[1-9]\d* +\+[0-9,]+/s$")
            terminal.until(r"^jobs +\([1-9]\d* items?\) +\+[0-9.]+/s$")
        last = r"^ada +{ada}( .*)?\nbob +{bob}( .*)?$".format(**numbers)
        terminal.until(last)
        terminal.signal(signal.SIGINT)
        assert terminal.ended() == 130
    assert "interrupted" not in terminal.text
    _, _, left = terminal.text.rpartition(USUAL_SCREEN)
    assert left.startswith("\x1b[?25h")
    assert re.search(last, plain(left), re.MULTILINE)


@on_a_terminal
def test_what_happens_to_the_file_is_told(file, interrupts):
    with Terminal("watch", file, "ada", "hosts.mill.port", "-n", "0.05") as terminal, mmapstate.open(file) as state:
        state["ada"] = 1
        terminal.until(r"^ada +1\b")
        state.vacuum()
        terminal.until(r" was compacted$")
        state["hosts"].pop("mill")
        terminal.until(r"^hosts.mill.port +\(missing\)$")
        os.unlink(file)
        terminal.until(r"^ada +1\n(.*\n)+.* is gone; ")
        with open(file, "w") as new:
            new.write("ada: five\nhosts:\n  mill: {port: 81}\n")
        terminal.until(r'^ada +"five"\nhosts.mill.port +81\b')
        with open(file, "w") as new:
            new.write("ada: [\n")
        terminal.until(r" cannot be read, line 2: ")
        with open(file, "w") as new:
            new.write("ada: {a: 1}\n")
        terminal.until(r"^ada +\(1 key\)$")
        terminal.signal(signal.SIGINT)
        assert terminal.ended() == 130


@on_a_terminal
def test_it_is_drawn_again_when_the_window_has_another_size(file):
    sizes = {"COLUMNS": "80", "LINES": "24"}  # as readline leaves them in the environment
    with Terminal("watch", file, "-n", "3600", columns=80, lines=24, **sizes) as terminal:
        terminal.until(r"^hosts ")
        terminal.resize(30, 5)  # it looks at the size more often than at the file
        terminal.until(r"^bob .*\n\.\.\. and 4 more$")
        terminal.resize(200, 50)
        terminal.until(r"^hosts ")
        terminal.signal(signal.SIGTERM)
        assert terminal.ended() == 128 + signal.SIGTERM
    assert f"{USUAL_SCREEN}\x1b[?25h" in terminal.text


@on_a_terminal
def test_ctrl_z_gives_the_usual_screen_back_until_it_goes_on(file):
    with Terminal("watch", file, "-n", "3600") as terminal:
        terminal.until(r"^hosts ")
        while terminal.text:  # the rest of the picture
            terminal.text = ""
            terminal.read(0.2)
        terminal.signal(signal.SIGTSTP)  # nobody could wake it here: it is told to go on at once
        while "hosts" not in terminal.text:
            assert terminal.read(30)
        assert terminal.text.startswith(f"{USUAL_SCREEN}\x1b[?25h{OTHER_SCREEN}\x1b[H\x1b[?25l\x1b[1;1H")


@on_a_terminal
@pytest.mark.parametrize(
    ("variables", "styles", "in_place"),
    [({}, r"\x1b\[1;32m", True), ({"NO_COLOR": "1"}, r"\x1b\[1m", True), ({"TERM": "dumb"}, None, False)],
)
def test_colors_and_the_terminal_only_where_they_are_wanted(file, variables, styles, in_place):
    with Terminal("watch", file, "ada", "-n", "0.05", **variables) as terminal, mmapstate.open(file) as state:
        while not re.search(styles or " = [1-9]", terminal.text):
            state["ada"] += 1
            assert terminal.read(30)
        assert ("\x1b" in terminal.text) == in_place
        assert not re.search(r"\x1b\[([0-9]+;)*[34][0-7]m", terminal.text) or not variables


@on_a_terminal
def test_without_rich_a_terminal_gets_lines_and_is_told_once_how_to_have_more(file):
    program = "import sys; sys.modules['rich'] = None; from mmapstate.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "watch", file, "ada", "-n", "0.02"]
    with Terminal(command=command) as terminal, mmapstate.open(file) as state:
        shown = terminal.until(r"^mmapstate: .*pip install 'mmapstate\[watch\]'\n\d\d:\d\d:\d\d ada = 0$")
        assert shown.start() == 0
        state["ada"] = 1
        terminal.until(r" ada = 1  \+")
        assert "pip" not in terminal.text
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as piped:
        assert b" ada = " in piped.stdout.readline()
        piped.terminate()
        assert b"pip" not in piped.stderr.read()


def picture(columns, lines, *rows, file="example.state", message=""):
    """Return the lines that are drawn of values on a terminal of that size."""
    watched = Watched(file, [], 1.0)
    watched.rows, watched.message = [*rows], message
    console = Console(file=io.StringIO(), width=columns, height=lines, color_system=None, legacy_windows=False)
    console.print(screen.Picture(watched))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


ROWS = (
    Row("ada", "12", "+3/s", True),
    Row("name", '"Müller 日本"', "", False),
    Row("long", '"' + "日本" * 500 + '"', "", False),
    Row("n" * 100, "1", "-100/s", False),
    Row("no", MISSING, "", False),
)


def test_values_stand_below_each_other_and_are_cut_where_there_is_no_room():
    shown = [re.split(" {2,}", line) for line in picture(40, 24, *ROWS)[2:]]
    long, name = shown[2].pop(), shown[3].pop(0)
    assert shown == [["ada", "12", "+3/s"], ["name", '"Müller 日本"'], ["long"], ["1", "-100/s"], ["no", "(missing)"]]
    assert re.fullmatch('"日(本|日)+ ?…', long)
    assert re.fullmatch("n{9,}…", name)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (30, 5), (12, 24), (200, 50), (1, 1), (7, 3)])
@pytest.mark.parametrize("message", ["", "12:00:00 was compacted"])
def test_picture_fits_on_any_terminal(columns, lines, message):
    shown = picture(columns, lines, *ROWS, message=message)
    room = max(lines, 3 + bool(message))
    assert len(shown) == min(2 + len(ROWS) + bool(message), room)
    assert max(map(cell_len, shown)) <= columns
    if lines < 7:
        told = shown[-2 if message else -1]
        assert told.startswith("... and"[: max(columns - 1, 0)])


def test_name_of_a_file_moves_no_cursor():
    assert picture(80, 24, file="a\x1b[2J\nb")[0].startswith("a [2J b ")


def test_in_a_pipe_each_change_is_a_line(file):
    with Running("watch", file, "ada", "name", 'hosts."db.local"', "jobs", "no.such", "-n", "0.02") as watching:
        watching.until(lambda line: line.endswith(" no.such = (missing)"))
        texts = [line.partition(" ")[2] for line in watching.lines]
        assert texts == [
            "ada = 0",
            'name = "Müller 日本"',
            'hosts."db.local" = 1',
            "jobs = (0 items)",
            "no.such = (missing)",
        ]
        assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in watching.lines)
        with mmapstate.open(file) as state:
            state["ada"] = 1000
            watching.until(lambda line: re.search(r" ada = 1000  \+[0-9,]+/s$", line))
            state["no"] = {"such": [1]}
            watching.until(lambda line: line.endswith("no.such = (1 item)"))
            state["jobs"].append("x")
            watching.until(lambda line: " jobs = (1 item)" in line)
            state.vacuum()
            watching.until(f"# {file} was compacted")
            del state["no"]
            watching.until(lambda line: line.endswith(" no.such = (missing)"))
    assert len(watching.lines) == 10


def test_two_programs_in_a_pipe(file):
    with Running("watch", file, "-n", "0.02") as watching:
        watching.until(lambda line: " hosts = " in line)
        with two_writers(file) as numbers:
            watching.until(lambda line: " ada = " in line)
            watching.until(lambda line: " bob = " in line)
        for name, last in numbers.items():
            if not any(f" {name} = {last} " in line + " " for line in watching.lines):
                watching.until(lambda line, name=name, last=last: f" {name} = {last} " in line + " ")
        for name in numbers:
            found = [int(line.split()[3]) for line in watching.lines if f" {name} = " in line]
            assert found == sorted(set(found))


def test_key_that_goes_is_missing_and_one_that_comes_is_shown(file):
    with Running("watch", file, "-n", "0.02") as watching, mmapstate.open(file) as state:
        watching.until(lambda line: " hosts = " in line)
        del state["ratio"]
        watching.until(lambda line: line.endswith(" ratio = (missing)"))
        state["ratio"] = 1
        watching.until(lambda line: line.endswith(" ratio = 1"))


def test_nothing_is_written_or_made_beside_the_file(file):
    before = os.stat(file).st_mtime_ns
    with Running("watch", file, "-n", "0.02") as watching:
        watching.until(lambda line: " hosts = " in line)
    assert os.stat(file).st_mtime_ns == before
    assert not os.path.exists(sidecar_path(file))


def test_reader_that_goes_away_is_no_error(file):
    reading, writing = os.pipe()
    watching = subprocess.Popen(
        call("watch", file, "-n", "0.01"), env=environment(), stdout=writing, stderr=subprocess.PIPE, encoding="utf-8"
    )
    os.close(writing)
    with watching, mmapstate.open(file) as state:
        assert os.read(reading, 10)
        os.close(reading)
        while watching.poll() is None:
            state["ada"] += 1
        assert (watching.wait(), watching.stderr.read()) == (1, "")


@not_on_windows("there it is found when something is written")
def test_reader_that_goes_away_is_missed_though_nothing_changes(file):
    assert deserted("watch", file, "-n", "0.01") == (1, b"")


def test_wrong_calls(file, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["watch", file, "-n", "0"])
    assert "0 is not between" in capsys.readouterr().err
    assert main(["watch", file, 'a."b']) == 2
    assert "quote is not closed" in capsys.readouterr().err


def test_file_that_is_not_there(path):
    code, output, errors = run_here("watch", path)
    assert (code, output, "there is no state file" in errors) == (1, "", True)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.0, ""),
        (12345.6, "+12,346/s"),
        (-99.7, "-100/s"),
        (9.97, "+10/s"),
        (1.26, "+1.3/s"),
        (0.05, "+0.05/s"),
    ],
)
def test_rate_has_two_digits_or_is_whole(rate, text):
    assert probe.rate_text(rate) == text


@pytest.mark.parametrize("value", ["x" * 5_000_000, b"x" * 5_000_000], ids=["text", "bytes"])
def test_no_line_is_longer_than_a_terminal_needs(value):
    assert len(probe.short_text(value)) < 1500
    assert probe.short_text(value).endswith("...")
