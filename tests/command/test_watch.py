"""``mmapstate watch``: values as programs change them, and how fast; in place on a terminal, line by line in a pipe."""

import os
import re
import signal
import subprocess

import pytest
from support import probe
from support.commands import Running, call, deserted, environment, run_here, two_writers
from support.processes import not_on_windows
from support.terminals import Terminal

import mmapstate
from mmapstate.command import main
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


@pytest.fixture
def file(path):
    """A state file that has stood still for long."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(TEXT)
    os.utime(path, (1, 1))
    return path


def row(picture, name):
    """Return what stands behind the name of a value."""
    return next((line.removeprefix(name).strip() for line in picture if line.startswith(f"{name} ")), None)


def number(picture, name):
    return int((row(picture, name) or "0").split()[0].lstrip("("))


@on_a_terminal
def test_values_of_two_programs_are_shown_with_their_rates(file, interrupts):
    with Terminal("watch", file, "-n", "0.1") as terminal:
        picture = terminal.until(lambda picture: number(picture, "ada") == 0)
        assert [line.split() for line in picture[2:]] == [
            ["ada", "0"],
            ["bob", "0"],
            ["name", '"Müller', '日本"'],
            ["ratio", "0.5"],
            ["jobs", "(0", "items)"],
            ["hosts", "(2", "keys)"],
        ]
        with two_writers(file) as numbers:
            shown = terminal.until(lambda picture: re.search(r" \+[0-9,]+/s$", row(picture, "ada")))
            assert number(shown, "ada") > 0
            assert int(re.search(r"([0-9,]+) changes/s", shown[0])[1].replace(",", "")) > 0
            terminal.until(lambda picture: "/s" in row(picture, "jobs") and number(picture, "jobs") > 0)
        last = terminal.until(lambda picture: all(number(picture, name) == numbers[name] for name in numbers))
        terminal.signal(signal.SIGINT)
        code, left = terminal.ended()
    assert code == 130
    assert "interrupted" not in terminal.text
    assert terminal.text.startswith("\x1b[?1049h\x1b[?25l")
    assert "\x1b[?25h" in terminal.text
    assert re.sub(r"\x1b\[[0-9;]*m", "", left).split("\r\n")[2].split()[:2] == ["ada", row(last, "ada").split()[0]]


@on_a_terminal
def test_what_happens_to_the_file_is_told(file, interrupts):
    with Terminal("watch", file, "ada", "hosts.mill.port", "-n", "0.05") as terminal, mmapstate.open(file) as state:
        state["ada"] = 1
        terminal.until(lambda picture: row(picture, "ada") == "1" or (row(picture, "ada") or "").startswith("1 "))
        state.vacuum()
        terminal.until(lambda picture: picture[-1].endswith(" was compacted"))
        state["hosts"].pop("mill")
        terminal.until(lambda picture: row(picture, "hosts.mill.port") == "(missing)")
        os.unlink(file)
        picture = terminal.until(lambda picture: "is gone" in picture[-1])
        assert row(picture, "ada").startswith("1")
        with open(file, "w") as new:
            new.write("ada: five\nhosts:\n  mill: {port: 81}\n")
        terminal.until(lambda picture: row(picture, "ada") == '"five"' and row(picture, "hosts.mill.port") == "81")
        with open(file, "w") as new:
            new.write("ada: [\n")
        terminal.until(lambda picture: "cannot be read, line 2: " in picture[-1])
        with open(file, "w") as new:
            new.write("ada: {a: 1}\n")
        terminal.until(lambda picture: row(picture, "ada") == "(1 key)")
        terminal.signal(signal.SIGINT)
        assert terminal.ended()[0] == 130


@on_a_terminal
def test_picture_fits_on_the_terminal_whose_size_may_change(file):
    with Terminal("watch", file, "-n", "3600", columns=80, lines=24) as terminal:
        terminal.until(lambda picture: len(picture) == 8)
        for columns, lines in ((30, 5), (12, 24), (200, 50), (1, 1), (7, 3)):
            terminal.resize(columns, lines)  # it looks at the size more often than at the file
            room = max(lines, 3)
            picture = terminal.until(
                lambda picture, room=room, columns=columns: (
                    len(picture) == min(8, room) and max(map(probe.width, picture)) <= columns
                )
            )
            if lines < 8:
                assert picture[-1].startswith("... and"[: max(columns - 1, 0)])
        terminal.signal(signal.SIGTERM)
        assert terminal.ended()[0] == 128 + signal.SIGTERM
    assert "\x1b[?25h\x1b[?1049l" in terminal.text


@on_a_terminal
def test_ctrl_z_gives_the_usual_screen_back_until_it_goes_on(file):
    with Terminal("watch", file, "-n", "3600") as terminal:
        terminal.until(lambda picture: len(picture) == 8)
        terminal.text = ""
        terminal.signal(signal.SIGTSTP)  # nobody could wake it here: it is told to go on at once
        terminal.until(lambda picture: len(picture) == 8)
        assert terminal.text.startswith("\x1b[?25h\x1b[?1049l\x1b[?1049h\x1b[?25l\x1b[H")


@on_a_terminal
@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colors_only_where_they_are_wanted(file, variables):
    with Terminal("watch", file, "nothing", "ada", "-n", "0.05", **variables) as terminal:
        while not ("nothing" in terminal.text and "ada" in terminal.text and "\n" in terminal.text):
            assert terminal.read(30)
        assert bool(re.search(r"\x1b\[[0-9;]+m", terminal.text)) == (variables == {})
        assert ("\x1b" in terminal.text) == ("TERM" not in variables)


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
        (None, ""),
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


@pytest.mark.parametrize(
    ("text", "columns", "fitted"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("e\u0301e\u0301e", 3, "e\u0301e\u0301e"),
        ("a\x1b[2Jb", 80, "a?[2Jb"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_text_is_cut_to_the_columns_it_takes(text, columns, fitted):
    assert probe.fitted(text, columns) == fitted
    assert probe.width(probe.padded(text, columns)) == max(columns, probe.width(fitted))


@pytest.mark.parametrize("value", ["x" * 5_000_000, b"x" * 5_000_000], ids=["text", "bytes"])
def test_no_line_is_longer_than_a_terminal_needs(value):
    assert len(probe.short_text(value)) < 1500
    assert probe.short_text(value).endswith("...")
