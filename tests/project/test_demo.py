"""``python -m mmapstate demo`` tells the truth: it says OK when nothing was lost, and FAILED when something was."""

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import independent_reader, probe
from support.runs import TESTS

import mmapstate
from mmapstate import command
from mmapstate.command import demo

IMPORTED_FROM = str(Path(mmapstate.__file__).resolve().parent.parent)

# A program that runs the demo with a fault in one of the workers. Those are spawned: each imports this file anew.
FAULTY = """
import multiprocessing
import os
import sys

from mmapstate import command

sys.path.append({tests!r})
from support import probe

appends = 0
append = probe.get(probe.APPEND)


def faulty(self, record, make_room, publish, *arguments):
    global appends
    appends += 1
    if multiprocessing.current_process().name == "cleo" and appends in (5, 10, 15):
        {fault}
        publish(*arguments)
    else:
        append(self, record, make_room, publish, *arguments)


probe.put(probe.APPEND, faulty)

if __name__ == "__main__":
    sys.exit(command.main(["demo", "--seconds", "0.6"]))
"""


def start(folder, *arguments):
    """Start Python in `folder` as a process group of its own; output in pipes, temporary files in that folder, too."""
    (folder / "temporary").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder / "temporary"))
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": IMPORTED_FROM, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def run(folder, *arguments):
    """Run Python in `folder`; return exit code, stdout and stderr, when no worker of it holds these any more."""
    with start(folder, *arguments) as process:
        output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def temporary_files(folder):
    """Return what a demo has left; not what a killed worker may, a file with which Python has tried the folder."""
    return [name for name in os.listdir(folder / "temporary") if name.startswith("mmapstate")]


def test_nothing_is_lost(tmp_path):
    """It exits with 0, in a folder whose name has spaces and other letters, and leaves nothing behind."""
    folder = tmp_path / "ein schöner Ordner, 日本"
    folder.mkdir()
    code, output, errors = run(folder, "-m", "mmapstate", "demo", "--seconds", "0.6")
    assert (code, errors) == (0, "")
    assert output.splitlines()[-1].startswith("OK: ")
    assert re.search(r"worker bob \(process \d+\) killed", output)
    assert re.search(r"^counter +([\d,]+) +[\d,]+$", output, re.M)
    assert "    running: false\n    counter: " in output
    assert "\x1b" not in output
    assert "\r" not in output
    assert temporary_files(folder) == []


def test_file_that_is_kept(tmp_path):
    """With --file the state file is there, at rest, and others can read it; a second run does not touch it."""
    call = ["-m", "mmapstate", "demo", "--seconds", "0.2", "--file", "kept.state"]
    code, output, errors = run(tmp_path, *call)
    assert (code, errors) == (0, "")
    content = (tmp_path / "kept.state").read_bytes()
    state = independent_reader.read_state(content)
    assert b"\n---" not in content
    assert f"{state['counter']:,}" in output
    assert sorted(state["done"]) == ["ada", "bob", "cleo", "dan"]
    (tmp_path / "temporary").rmdir()
    code, output, errors = run(tmp_path, *call)
    assert (code, output.strip()) == (1, "")
    assert "kept.state" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "kept.state").read_bytes() == content


@pytest.mark.parametrize("fault", ["pass", "os._exit(3)"], ids=["a commit is dropped", "a worker ends"])
def test_something_is_lost(tmp_path, fault):
    """It exits with 1, says so, and keeps the file."""
    (tmp_path / "faulty.py").write_text(FAULTY.format(fault=fault, tests=str(TESTS)), encoding="utf-8")
    code, output, _ = run(tmp_path, "faulty.py")
    assert code == 1
    assert re.search(r"^FAILED: ", output, re.M)
    assert "OK: " not in output
    assert output.splitlines()[-1].startswith("The file stays: ")
    assert len(temporary_files(tmp_path)) == 1


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize("to_all", [False, True])
def test_interrupt(tmp_path, interrupts, to_all):
    """Ctrl-C, which a terminal sends to workers too, ends them all; no traceback, no temporary file."""
    with start(tmp_path, "-m", "mmapstate", "demo", "--seconds", "30") as process:
        while "at work" not in process.stdout.readline():
            assert process.poll() is None
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)  # ends when no worker is left that could write there
    assert process.returncode == 130
    assert errors == "\ninterrupted\n"
    assert temporary_files(tmp_path) == []


def test_parent_killed(tmp_path):
    """No worker outlives a parent that was killed."""
    with start(tmp_path, "-m", "mmapstate", "demo", "--seconds", "30") as process:
        while "at work" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
        process.communicate(timeout=120)
    assert process.returncode != 0


@pytest.mark.skipif(os.name != "posix", reason="Wine's locks tell the errno of the failed write")
def test_reader_of_the_output_leaves(tmp_path):
    """``... demo | head -1`` is no error worth a traceback."""
    with start(tmp_path, "-m", "mmapstate", "demo", "--seconds", "0.2") as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "mmapstate: a COMMAND is missing; mmapstate --help tells more"),
        (["--wrong"], "mmapstate: unrecognized arguments: --wrong;"),
        (["demo", "--wrong"], "mmapstate demo: unrecognized arguments: --wrong; mmapstate demo --help tells more"),
        (["dance"], "'dance'"),
        (["demo", "--seconds", "never"], "never is not a number"),
        (["demo", "--seconds", "0"], "0 is not between"),
        (["demo", "--fil", "x"], "--fil"),
    ],
)
def test_wrong_call(capsys, arguments, message):
    """A wrong call gets the usage of its command and what was wrong, on stderr, and exit code 2; not all the help."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert errors.startswith("usage: mmapstate demo [-h]" if arguments[:1] == ["demo"] else "usage: mmapstate [-h]")
    assert message in errors.splitlines()[-1]
    assert len(errors.splitlines()) <= 3


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help(capsys, arguments):
    """Help tells example and exit codes."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    output, _ = capsys.readouterr()
    assert ended.value.code == 0
    assert "\nexample:\n  mmapstate demo" in output
    assert "\nexit codes:" in output


def test_module_without_arguments(tmp_path):
    """``python -m mmapstate`` itself goes there."""
    code, output, errors = run(tmp_path, "-m", "mmapstate")
    assert (code, output) == (2, "")
    assert "usage: mmapstate" in errors


def compare(counter, **items):
    """Judge a file in which all is as acknowledged, but for what is given here."""
    acknowledged = {"ada": 3, "bob": 2, "cleo": 0, "dan": 1}
    workers = [SimpleNamespace(name=name, counted=10, appended=count) for name, count in acknowledged.items()]
    done = {name: list(range(1, count + 1)) for name, count in acknowledged.items()}
    return probe.compare(workers, {"counter": counter, "done": done | items})


@pytest.mark.parametrize(
    ("counter", "items"),
    [(40, {}), (41, {}), (41, {"bob": [1, 2, 3]})],
    ids=["as acknowledged", "a count in flight", "a count and an item in flight"],
)
def test_what_is_good(counter, items):
    """Everything acknowledged, and at most one step of the killed worker."""
    assert compare(counter, **items) == []


@pytest.mark.parametrize(
    ("counter", "items", "problem"),
    [
        (39, {}, "the counter is 39, and 40 counts"),
        (None, {}, "the counter is None"),
        (42, {}, "2 more than acknowledged"),
        (41, {"bob": [1, 2, 3, 4]}, "2 more than acknowledged"),
        (40, {"bob": [1, 2, 3]}, "1 more than acknowledged"),  # half a transaction
        (40, {"ada": [1, 2]}, "ada has 2 items, and 3 were"),
        (40, {"ada": []}, "ada has 0 items, and 3 were"),
        (40, {"ada": [1, 3, 2]}, "not 1, 2, 3 ... in order"),
        (40, {"ada": [1, 2, 2]}, "not 1, 2, 3 ... in order"),
        (40, {"dan": [1, 2]}, "dan has 2 items, and only 1 were"),
        (40, {"dan": None}, "dan has no items"),
    ],
)
def test_what_is_not_good(counter, items, problem):
    """Each kind of loss is named."""
    assert any(problem in message for message in compare(counter, **items))


def test_what_is_shown_is_what_is_done_and_is_public():
    """The lines of the loop that are printed are those that the workers run, in their order."""
    source = inspect.getsource(probe.demo_loop)
    shown = [line.split("#")[0].strip() for line in probe.DEMO_LOOP.splitlines()]
    places = [source.find(line) for line in shown if "counts %" not in line]
    assert -1 not in places
    assert places == sorted(places)
    assert "STATE._" not in probe.DEMO_LOOP


def test_long_sequences_are_shortened():
    """Short ones stay, nested ones keep their indent, and a file of many lines ends early."""
    text = "a:\n- 1\n- 2\n- 3\nb:\n  c:\n  - 1\n  - 2\n  - 3\n  - 4\n  - 5\nd: 1\n"
    assert demo.shortened(text).split("\n") == (
        "a:/- 1/- 2/- 3/b:/  c:/  - 1/  # ... 3 more/  - 5/d: 1".replace("/", "\n").split("\n")
    )
    assert demo.shortened("x: 1\n" * 100).endswith("x: 1\n# ... 60 more lines")
    assert demo.shortened("- 1") == "- 1"
    assert demo.shortened("") == ""


def test_progress_on_a_terminal(capsys, monkeypatch):
    """It is one line that is written over, by carriage returns alone."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress = probe.DemoProgress()
    progress.show("a long line")
    progress.due = time.monotonic()
    progress.show("short")
    progress.tell("stays")
    output, _ = capsys.readouterr()
    assert [part.strip() for part in output.split("\r")] == [
        "", "0.0 s  a long line", "0.0 s  short", "", "0.0 s  stays"
    ]  # fmt: skip
    assert "\x1b" not in output
