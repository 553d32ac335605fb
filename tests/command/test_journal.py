"""``mmapstate journal``: each change since the last vacuum is a line; with ``-f`` those that come are, too."""

import os
import re
import subprocess

import pytest
from hypothesis import given, settings
from support import probe
from support.commands import Running, call, deserted, environment, run, run_here, two_writers
from support.processes import Child, not_on_windows
from support.runs import scaled
from support.strategies import mappings

import mmapstate
from mmapstate import changes
from mmapstate.command.following import EDITED, VACUUM, Followed, differences
from mmapstate.command.records import text_of
from mmapstate.file.mapped import MappedFile
from mmapstate.file.sidecar import sidecar_path
from mmapstate.text import snapshot


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.utime(path, (1, 1))  # not just now: nobody has to wait until it stands still


def test_each_change_is_a_line_and_those_of_a_transaction_have_one_number(path):
    write(path, "a: 1\njobs: []\nhosts: {}\n")
    with mmapstate.open(path) as state:
        state["a"] = 2
        with state.transaction():
            state["jobs"].append({"id": 1, "done": False})
            state["jobs"][0]["done"] = True
            state["hosts"]["db.local"] = {"port": 80}
        state["jobs"].extend([1, 2])
        del state["jobs"][0]
        state["jobs"].insert(0, "a\x1b\n")
        state[5] = float("nan")
        assert run_here("journal", path) == (
            0,
            "1       a = 2\n"
            '2.1     insert jobs.0 = {"id": 1, "done": false}\n'
            "2.2     jobs.0.done = true\n"
            '2.3     hosts."db.local" = {"port": 80}\n'
            "3       splice jobs 1:1 = [1, 2]\n"
            "4       delete jobs.0\n"
            '5       insert jobs.0 = "a\\u001b\\n"\n'
            "6       5 = .nan\n",
            "",
        )


def test_file_at_rest_has_none_and_nothing_is_made_beside_it(path):
    write(path, "a: 1\n")
    before = os.stat(path)
    assert run_here("journal", path) == (0, "# there are no changes since the last vacuum\n", "")
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert not os.path.exists(sidecar_path(path))


def test_file_that_is_not_there_or_is_damaged_is_an_error(path, tmp_path):
    code, output, errors = run_here("journal", path)
    assert (code, output, "there is no state file" in errors) == (1, "", True)
    (tmp_path / "not-to-be-checked").touch()
    with mmapstate.open(path) as state:
        state["a"], state["b"] = 1, 2
        with open(path, "rb") as file:
            data = file.read()
    with open(path, "wb") as file:
        file.write(data.replace(b'"a", 1]', b'"a", 7]'))
    code, output, errors = run_here("journal", path)
    assert (code, output, "offset" in errors) == (1, "", True)


def test_lock_of_another_program_is_not_waited_for(path):
    with mmapstate.open(path) as state, state.transaction():
        state["a"] = 1
        assert run("journal", path)[0] == 0


@not_on_windows("there is no such signal for one process")
def test_following_two_programs_across_vacuums_misses_nothing(path, interrupts):
    write(path, "ada: 0\nbob: 0\njobs: []\n")
    with Running("journal", path, "-f") as journal:
        with two_writers(path) as numbers, mmapstate.open(path) as state:
            for _ in range(3):
                journal.until(lambda line: re.search(r"ada = \d+$", line))
                journal.until(lambda line: re.search(r"bob = \d+$", line))
                state.vacuum()
                journal.until("# ")
        with mmapstate.open(path) as state:
            state["end"] = True
            journal.until(lambda line: line.endswith(" end = true"))
        assert journal.interrupt() == (130, "")
    assert {line for line in journal.lines if line.startswith("# ")} == {f"# {path} was compacted"}
    for name, last in numbers.items():
        found = [int(line.rpartition(" ")[2]) for line in journal.lines if f" {name} = " in line]
        assert found == [*range(found[0], last + 1)]
    counted = [int(line.partition(" ")[0]) for line in journal.lines if not line.startswith("# ")]
    assert sum(number == 1 for number in counted) <= 1 + sum(line.startswith("# ") for line in journal.lines)


@pytest.fixture
def followed(path):
    """A followed file, and what was told of it, in this process; call it to have it told what is new."""
    write(path, "a: 1\n")
    told = []
    following = Followed(
        path,
        lambda number, record: told.append((number, *map(text_of, record))),
        lambda what, changes: told.append((what, *map(text_of, changes))),
    )

    def new():
        following.due = 0.0  # do not wait until the next look at the path
        following.look()
        news = list(told)
        del told[:]
        return news

    new.following = following
    yield new
    following.close()


def test_journal_that_is_begun_or_made_larger_is_none_of_the_events(path, followed):
    with mmapstate.open(path) as state:
        state["a"] = 2
        assert followed() == [(1, "a = 2")]
        state["text"] = "x" * 20_000  # more than there was room for
        state["a"] = 3
        assert followed() == [(2, f'text = "{"x" * 20_000}"'), (3, "a = 3")]
        del state["text"]
        assert followed() == [(4, "delete text")]


def test_what_comes_while_the_file_is_read_whole_is_told_once(path, followed):
    with mmapstate.open(path) as state:
        state["a"] = 2
        assert followed() == [(1, "a = 2")]
        file = MappedFile.open(path, write=False)  # as a journal is that was made larger
        data = file.read(0)
        state["a"] = 3
        probe.accept(followed.following, file, data)
        assert followed() == [(2, "a = 3")]


@not_on_windows("a file that is kept open is not replaced there: what its last records were is told as a difference")
def test_what_was_changed_before_a_vacuum_is_told_before_it(path, followed):
    with mmapstate.open(path) as state:
        state["a"] = 2
        followed()
        state["a"] = 3
        state.vacuum()
        state["a"] = 4
        assert followed() == [(2, "a = 3"), (VACUUM,), (1, "a = 4")]


def test_what_cannot_be_seen_between_two_vacuums_is_told_by_what_is_different(path, followed):
    with mmapstate.open(path) as state:
        state["a"] = 2
        followed()
        state.vacuum()
        state["a"] = 3
        state.vacuum()
        assert followed() == [(EDITED, "a = 3")]


@not_on_windows("there is no such signal for one process, and a file in use is not removed")
def test_following_tells_what_else_happens_to_the_file(path, interrupts):
    write(path, "a: 1\nb: {x: [1, 2], y: 1}\nc: 1\n")
    with Running("journal", path, "-f") as journal, mmapstate.open(path) as state:
        state["a"] = 2
        journal.until("1       a = 2")
        write(path, "a: 3\nb: {x: [1, 3], z: 1}\nnew:\n")
        journal.until("#       new = null")
        assert journal.lines[-7:] == [
            f"# {path} was written anew, by hand or by programs that came and went",
            "#       a = 3",
            "#       b.x.1 = 3",
            "#       delete b.y",
            "#       b.z = 1",
            "#       delete c",
            "#       new = null",
        ]
        state["a"] = 4
        journal.until(lambda line: line.endswith("a = 4"))
        write(path, "a: [\n")
        journal.until(f"# {path} cannot be read, line 2: ")
        os.unlink(path)
        journal.until(f"# {path} is gone")
        write(path, "a: 5\n")
        journal.until(f"# {path} is there again")
        journal.until("#       a = 5")
        assert journal.interrupt() == (130, "")
    assert [line for line in journal.lines if "cannot be read" in line][1:] == []


@not_on_windows("a file in use is not removed")
def test_what_stands_in_place_of_the_file_is_told_once(path, followed):
    with mmapstate.open(path):
        os.unlink(path)
    os.mkdir(path)
    assert "cannot be read" in followed()[0][0]
    followed.following.look()  # too early for the next look at the path
    assert followed() == []
    os.rmdir(path)


def test_reader_that_goes_away_is_no_error(path):
    write(path, "a: 1\n")
    reading, writing = os.pipe()
    journal = subprocess.Popen(
        call("journal", path, "-f"), env=environment(), stdout=writing, stderr=subprocess.PIPE, encoding="utf-8"
    )
    os.close(writing)
    with journal, mmapstate.open(path) as state:
        state["a"] = 2
        assert os.read(reading, 100).startswith(b"1 ")
        os.close(reading)
        while journal.poll() is None:
            state["a"] += 1
        assert (journal.wait(), journal.stderr.read()) == (1, "")


@not_on_windows("there it is found when something is written")
def test_reader_that_goes_away_is_missed_though_nothing_changes(path):
    write(path, "a: 1")
    assert deserted("journal", path, "-f") == (1, b"")


def append_until_told(talk, path):
    with mmapstate.open(path) as state:
        state["jobs"] = []
        talk.send("begun")
        while not talk.ready(0):
            state["jobs"].append("x" * 50)


def test_journal_that_a_program_writes_just_now_is_read_whole(path):
    with Child(append_until_told, path) as child:
        assert child.receive() == "begun"
        for _ in range(3):
            code, output, errors = run_here("journal", path)
            assert (code, errors) == (0, "")
            assert set(output.splitlines()[1:]) <= {
                line for line in output.splitlines() if re.fullmatch(r'\d+ +insert jobs\.\d+ = "x{50}"', line)
            }
        child.send("end")
        child.result()


@settings(max_examples=scaled(100), deadline=None)
@given(mappings, mappings)
def test_differences_lead_from_one_state_to_the_other(before, after):
    found = [*differences((), before, after)]
    changes.apply(before, found)
    assert repr(sorted(before.items(), key=repr)) == repr(sorted(after.items(), key=repr)) or before == after
    assert all(re.fullmatch("[^\x00-\x1f\x7f-\x9f]*", text_of(change)) for change in found)


@pytest.mark.parametrize("value", [1, [1, {"a": None}], "x\n", b"\0", 1e300])
def test_value_in_a_line_is_yaml(value):
    line = text_of(("set", ["a"], "b", value))
    assert line.startswith("a.b = ")
    assert snapshot.parse(f"v: {line[6:]}\n".encode(), "")["v"] == value
