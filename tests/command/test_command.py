"""The command reads and changes values of a file that programs use, for people and for scripts."""

import contextlib
import errno
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import probe
from support.commands import environment, run
from support.processes import Child, not_on_windows

import mmapstate
from mmapstate import command
from mmapstate.command.parser import COMMANDS
from mmapstate.file import system

STATE = """\
# what was done last
last_id: 5
hits: 2
hosts:
  mill: {port: 80}   # the old one
  db.local: {port: 1}
  8080: a number
queue: [a, {page: 7}, 3]
name: Zoë
nothing: null
ratio: 0.5
since: 2024-02-29
"""


@pytest.fixture
def state(path):
    """The path of a state file at rest, which no program has opened yet."""
    Path(path).write_text(STATE, encoding="utf-8")
    return path


@pytest.fixture
def call(capfd):
    """Call the command in this process, which is quicker; return exit code, output and errors."""

    def called(*arguments):
        try:
            code = command.main(arguments)
        except SystemExit as ended:
            code = ended.code
        return (code, *capfd.readouterr())

    return called


def look(path):
    """Return all by which a change of a file, or of its folder, would show."""
    status = os.stat(path)
    return Path(path).read_bytes(), status.st_ino, status.st_mtime_ns, sorted(os.listdir(os.path.dirname(path)))


class TestReading:
    @pytest.mark.parametrize(
        ("key_path", "text"),
        [
            ("last_id", "5"),
            ("name", "Zoë"),
            ("nothing", "null"),
            ("ratio", "0.5"),
            ("since", "2024-02-29"),
            ("hosts.mill.port", "80"),
            ('hosts."db.local".port', "1"),
            ("hosts.8080", "a number"),
            ("queue.0", "a"),
            ("queue.-1", "3"),
            ("queue.1.page", "7"),
            ("queue", "- a\n- page: 7\n- 3"),
            ("hosts.mill", "port: 80"),
        ],
    )
    def test_get_prints_a_scalar_as_it_is_and_a_container_as_yaml(self, state, call, key_path, text):
        assert call("get", state, key_path) == (0, text + "\n", "")

    def test_show_prints_all_as_yaml_that_is_the_state(self, state, call):
        code, output, errors = call("show", state)
        assert (code, errors) == (0, "")
        Path(state + ".copy").write_text(output, encoding="utf-8")
        assert mmapstate.open(state + ".copy").plain() == mmapstate.open(state).plain()

    def test_show_prints_a_part(self, state, call):
        assert call("show", state, "hosts.mill") == (0, "port: 80\n", "")
        assert call("show", state, "name") == (0, "Zoë\n", "")

    def test_json_is_for_other_programs(self, state, call):
        _, output, _ = call("show", state, "--json")
        assert json.loads(output) == {
            "last_id": 5, "hits": 2, "name": "Zoë", "nothing": None, "ratio": 0.5, "since": "2024-02-29",
            "hosts": {"mill": {"port": 80}, "db.local": {"port": 1}, "8080": "a number"},
            "queue": ["a", {"page": 7}, 3],
        }  # fmt: skip
        assert call("get", state, "name", "--json") == (0, '"Zoë"\n', "")

    def test_json_that_would_lose_something_is_refused(self, path, call):
        Path(path).write_text("a: {1: x, '1': y}\nb: [.inf, .nan, !!binary YWI=]\n")
        code, output, errors = call("show", path, "--json")
        assert (code, output) == (1, "")
        assert "two keys of a mapping are the same in JSON" in errors
        assert json.loads(call("get", path, "b", "--json")[1]) == [None, None, "YWI="]

    @pytest.mark.parametrize("arguments", [("show",), ("get", "last_id"), ("info",), ("show", "--json")])
    @pytest.mark.parametrize("journaled", [False, True])
    def test_a_look_changes_nothing(self, state, call, arguments, journaled):
        """Neither the file, nor its folder: no lock file is made, and no journal compacted."""
        if journaled:
            with Child(count_and_wait, state) as child:
                child.receive()
                child.kill()
            assert b"# mmapstate journal" in Path(state).read_bytes()
        before = look(state)
        code, _, errors = call(arguments[0], state, *arguments[1:])
        assert (code, errors) == (0, "")
        assert look(state) == before

    def test_a_look_waits_for_no_lock(self, state, call):
        with Child(hold_the_lock, state) as child:
            child.receive()
            assert call("get", state, "last_id") == (0, "5\n", "")
            assert call("info", state)[0] == 0
            child.send("go on")
            child.result()

    @pytest.mark.parametrize("first", [b"", b"hosts: {mill: {po"])
    def test_a_file_that_an_editor_is_writing_is_read_again(self, state, call, monkeypatch, first):
        """Many editors empty a file before they write it. The editor is played by what happens in the pause."""
        pauses = []

        def edit(seconds):
            pauses.append(seconds)
            if len(pauses) == 2:
                Path(state).write_text(STATE, encoding="utf-8")
            elif first:
                Path(state).write_bytes(first + b"r")  # goes on

        Path(state).write_bytes(first)
        clock = SimpleNamespace(sleep=edit, time_ns=time.time_ns, monotonic=time.monotonic)
        monkeypatch.setattr(probe.READING_CLOCK, clock)
        assert call("get", state, "last_id") == (0, "5\n", "")
        assert len(pauses) == 2

    def test_a_file_that_stays_empty_is_an_empty_state(self, path, call):
        Path(path).write_bytes(b"")
        os.utime(path, (1, 1))
        assert call("show", path) == (0, "{}\n", "")
        assert call("get", path, "a") == (1, "", "mmapstate: the state has no key a: it is empty\n")

    def test_what_a_program_has_just_committed_is_seen(self, state, call):
        with mmapstate.open(state) as opened:
            for number in range(20):
                opened.last_id = number
                assert call("get", state, "last_id")[1] == f"{number}\n"


def count_and_wait(talk, path):
    with mmapstate.open(path) as state:
        state.increment("hits")
        talk.send("done")
        talk.receive()


def hold_the_lock(talk, path):
    with mmapstate.open(path) as state, state.transaction():
        state.last_id = 6
        talk.send("held")
        talk.receive()


class TestChanging:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("last_id", "6"), ("last_id", 6)),
            (("hosts.mill.port", "8080"), ("hosts", "mill", "port", 8080)),
            (('hosts."db.local".port', "true"), ("hosts", "db.local", "port", True)),
            (("queue.-1", "[1, {a: null}]"), ("queue", 2, [1, {"a": None}])),
            (("new", "{a: 1}"), ("new", {"a": 1})),
            (("new", "'5'"), ("new", "5")),
            (("new", "--string", "5"), ("new", "5")),
            (("new", "--string", ""), ("new", "")),
            (("new", "null"), ("new", None)),
            (("new", "-5"), ("new", -5)),
            (("new", "--", "-.inf"), ("new", float("-inf"))),
            (("new", "12:30"), ("new", "12:30")),
            (("new.key", "1", "--create"), ("new", {"key": 1})),
            (("new.key.under", "1", "--create"), ("new", {"key": {"under": 1}})),
            (("hosts.8080", "b"), ("hosts", 8080, "b")),
            (("hosts.80", "b"), ("hosts", "80", "b")),
        ],
    )
    def test_set_stores_a_value(self, state, call, arguments, expected):
        assert call("set", state, *arguments) == (0, "", "")
        value = mmapstate.open(state).plain()
        for key in expected[:-1]:
            value = value[key]
        assert (value, type(value)) == (expected[-1], type(expected[-1]))

    @pytest.mark.parametrize("word", ["no", "Yes", "on", "OFF"])
    def test_a_word_that_is_no_boolean_is_told(self, state, call, word):
        told = f"{word} is text, not a boolean: that would be true or false; --string takes it as text"
        told = f"mmapstate: warning: {told}\n"
        assert call("set", state, "hits", word) == (0, "", told)
        assert call("append", state, "queue", f"{{a: {word}}}") == (0, "", told)
        assert call("set", state, "name", word, "--string") == call("set", state, "name", f"'{word}'") == (0, "", "")
        found = mmapstate.open(state).plain()
        assert (found["hits"], found["queue"][-1], found["name"]) == (word, {"a": word}, word)

    @not_on_windows("there are no limits of that kind")
    def test_a_file_that_cannot_grow_is_named(self, state):
        """As on a full disk, of which the system tells no more than that it is full."""
        limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, "-m", "mmapstate"]
        done = subprocess.run(
            [*limited, "set", state, "name", "x" * 5000],
            env=environment(PYTHONDONTWRITEBYTECODE="1"),
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"mmapstate: {state}: {os.strerror(errno.EFBIG)}\n"
        assert Path(state).read_text(encoding="utf-8") == STATE

    def test_comments_stay(self, state, call):
        call("set", state, "hosts.mill.port", "81")
        text = Path(state).read_text(encoding="utf-8")
        assert text == STATE.replace("{port: 80}", "{port: 81}")

    @pytest.mark.parametrize("key_path", ["hosts.mill", "hosts.mill.port", "queue.0", "queue.1.page", "since"])
    def test_delete_removes_a_key_or_an_item(self, state, call, key_path):
        assert call("delete", state, key_path) == (0, "", "")
        assert len(mmapstate.open(state).queue) == 3 - (key_path == "queue.0")
        if key_path != "queue.0":
            assert call("get", state, key_path)[0] == 1

    def test_append_puts_a_value_at_the_end(self, state, call):
        assert call("append", state, "queue", "{page: 8}") == (0, "", "")
        assert call("append", state, "queue", "9", "--string") == (0, "", "")
        assert call("append", state, "new", "1") == (0, "", "")
        opened = mmapstate.open(state)
        assert (opened.queue[3:], opened.new) == ([{"page": 8}, "9"], [1])

    def test_increment_prints_the_sum(self, state, call):
        assert call("increment", state, "hits") == (0, "3\n", "")
        assert call("increment", state, "hits", "10") == (0, "13\n", "")
        assert call("increment", state, "hits", "-1") == (0, "12\n", "")
        assert call("increment", state, "hits", "0.5") == (0, "12.5\n", "")
        assert call("increment", state, "queue.2") == (0, "4\n", "")
        assert call("increment", state, "new") == (0, "1\n", "")

    def test_a_file_is_made_only_when_asked_for(self, path, call):
        """A path that is wrong is, in a script, more often a mistake than a wish."""
        for arguments in (("increment", path, "hits"), ("set", path, "a", "1"), ("append", path, "a", "1")):
            code, output, errors = call(*arguments)
            assert (code, output) == (1, "")
            assert errors == f"mmapstate: {path}: there is no such file (--create makes it)\n"
            assert os.listdir(os.path.dirname(path)) == []
        assert call("delete", path, "a") == (1, "", f"mmapstate: {path}: there is no such file\n")
        assert call("increment", path, "a.hits", "--create") == (0, "1\n", "")
        assert call("append", path, "a.queue", "x", "--create") == (0, "", "")
        assert Path(path).read_text() == "a:\n  hits: 1\n  queue:\n  - x\n"

    def test_a_change_that_fails_changes_nothing(self, state, call):
        """Not even the mappings on the way, which `--create` would have made."""
        before = Path(state).read_bytes()
        for arguments in (
            ("set", "a.b.c", "1"), ("increment", "x.y.name", "[1]", "--create"), ("append", "hits", "1"),
            ("append", "x.y.0", "1", "--create", "--string", "--timeout", "x"), ("delete", "hosts.mil"),
            ("increment", "name"), ("increment", "hits", "abc"), ("increment", "hits", "true"),
            ("set", "queue.3", "1"), ("set", "queue.x", "1"), ("set", "hits.x", "1", "--create"),
            ("increment", "queue.0"), ("set", "hits", "[1"),
        ):  # fmt: skip
            code, output, errors = call(arguments[0], state, *arguments[1:])
            assert code in (1, 2), arguments
            assert output == ""
            assert "Traceback" not in errors
        assert Path(state).read_bytes() == before

    def test_power_syncs_and_timeout_is_told(self, state, call, monkeypatch):
        synced = []
        sync = system.sync_data
        monkeypatch.setattr(system, "sync_data", lambda descriptor: synced.append(sync(descriptor)))
        with mmapstate.open(state):  # else the last one to close it syncs anyway
            call("set", state, "hits", "1")
            assert synced == []
            call("set", state, "hits", "2", "--power")
            assert synced
        with Child(hold_the_lock, state) as child:
            child.receive()
            code, _, errors = call("set", state, "hits", "3", "--timeout", "0.05")
            assert (code, "another process held the lock for more than 0.05 s" in errors) == (1, True)
            child.send("go on")
            child.result()

    def test_what_the_library_warns_of_goes_to_stderr(self, state):
        """A script's owner sees it, though nobody has set up logging."""
        Path(state).write_text("debug: yes\nhits: 1\n")
        told = f"mmapstate: warning: {state}, line 1: yes is read as text"
        for arguments, expected in (
            (("increment", state, "hits"), "2\n"),
            (("get", state, "hits"), "2\n"),
            (("show", state), "debug: 'yes'\nhits: 2\n"),
            (("journal", state), "# there are no changes since the last vacuum\n"),
        ):
            code, output, errors = run(*arguments)
            assert (code, output) == (0, expected)
            assert errors.startswith(told)
            assert errors.count("\n") == 1


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("get", "last"), 1, "the state has no key last: did you mean last_id?"),
            (("get", "hosts.mil.port"), 1, "hosts has no key mil: did you mean mill?"),
            (("get", "hosts.x"), 1, 'hosts has no key x: it has mill, "db.local", 8080'),
            (("get", "queue.3"), 1, "queue has no item 3: its indexes are 0 to 2"),
            (
                ("get", "queue.first"),
                1,
                "queue is a list, and 'first' is not an index: write 0 for its first item, -1 for its last",
            ),
            (("get", 'queue."0"'), 1, "queue is a list, and '0' is not an index"),
            (("get", "last_id.x"), 1, "last_id is not a mapping or list: there is no 'x' in it"),
            (("get", "hosts..x"), 2, "the path hosts..x, character 7: there is no key"),
            (("get", 'hosts."x'), 2, "character 7: the quote is not closed"),
            (("get", 'hosts."x"y'), 2, "character 10: a dot is missing behind the quote"),
            (("get", r'hosts."\q"'), 2, r"character 8: write \\ for a backslash in quotes"),
            (("set", "hits", ""), 2, "VALUE is empty, or a comment: write null, or --string for text"),
            (("set", "hits", "# 1"), 2, "VALUE is empty, or a comment"),
            (("set", "hits", "a: [1"), 2, "--string takes it as text"),
            (("set", "hits", "*alias"), 2, "VALUE, line 1, column 1: aliases (*name) are not supported"),
            (("append", "hits", "1"), 1, "hits is not a list: nothing can be appended to it"),
            (("increment", "name"), 1, "increment needs an int or a float to add to, not str"),
            (("increment", "hits", "x"), 2, "BY is 'x': it must be a number, such as 5, -1 or 0.5"),
            (("increment", "hits", "true"), 2, "BY is 'true': it must be a number"),
            (("increment", "hits", ""), 2, "BY is '': it must be a number"),
            (("increment", "hits", "[1"), 2, "BY is '[1': it must be a number"),
            (("set", "a.b", "1"), 1, "the state has no key a: it has last_id, hits, hosts, queue, name, nothing"),
            (("set", "hosts.mil.x", "1"), 1, "hosts has no key mil: did you mean mill? (--create makes it)"),
            (("delete", "hosts.mil.x"), 1, "hosts has no key mil: did you mean mill?"),
            (("set", "a", "1", "2"), 2, "unrecognized arguments: 2"),
            (("set", "a"), 2, "the following arguments are required: VALUE"),
            (("set", "a", "1", "--timeout", "-1"), 2, "-1 is not between 0 and 999999"),
            (("set", "a", "1", "--timeout", "1s"), 2, "argument --timeout: 1s is not a number"),
        ],
    )
    def test_each_has_its_exit_code_and_a_line_that_says_what_to_do(self, state, call, arguments, code, message):
        found, output, errors = call(arguments[0], state, *arguments[1:])
        assert (found, output) == (code, "")
        last = errors.splitlines()[-1]
        assert last.startswith("mmapstate")
        assert message in last

    def test_a_file_that_is_none(self, broken_path, call):
        for text, message in (
            (None, "No such file"),
            (b"a: [\n", "line 2, column 1"),
            (b"- 1\n", "the top of"),
        ):
            if text is not None:
                Path(broken_path).write_bytes(text)
            for arguments in (("get", broken_path, "a"), ("show", broken_path)):
                code, output, errors = call(*arguments)
                assert (code, output, errors.count("\n")) == (1, "", 1)
                assert errors.startswith(f"mmapstate: {broken_path}")
                assert message in errors

    def test_a_key_that_is_no_text_is_refused(self, state, call):
        code, output, errors = call("set", state, "\udcff", "1")
        assert (code, output) == (1, "")
        assert "lone surrogate" in errors


class TestStreams:
    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
    def test_output_is_utf8_whatever_the_terminal_is_said_to_be(self, state, encoding):
        variables = {"LC_ALL": "C", "PYTHONIOENCODING": encoding}
        assert run("get", state, "name", **variables) == (0, "Zoë\n", "")
        code, _, errors = run("get", state, "Zoé€", PYTHONUTF8="1", **variables)
        assert (code, "has no key Zoé€" in errors) == (1, True)

    @pytest.mark.parametrize("arguments", [("show",), ("--help",)])
    @pytest.mark.parametrize("buffered", ["", "1"])
    def test_a_pipe_that_nobody_reads_is_silent(self, state, arguments, buffered):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "mmapstate", *arguments, *[state][: arguments == ("show",)]],
                env=environment(PYTHONUNBUFFERED=buffered),
                stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.close(writer)
        assert done.stderr == b""
        assert done.returncode == 1 or arguments == ("--help",)  # of which argparse, for one, heeds no failure

    @not_on_windows("there is no shell that closes streams")
    @pytest.mark.parametrize(
        ("closed", "arguments", "code"),
        [
            ("2", ("get", "last_id"), 0),
            ("2", ("get", "nope"), 1),
            ("1", ("get", "last_id"), 0),
            ("1", ("increment", "hits"), 0),
            ("0", ("get", "last_id"), 0),
        ],
    )
    def test_a_closed_stream_gets_nothing_and_no_other_one_in_its_place(self, state, closed, arguments, code):
        name, *rest = arguments
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-m", "mmapstate", name, state, *rest],
            env=environment(),
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, b"")
        assert done.stdout == (b"5\n" if closed != "1" and code == 0 else b"")

    @not_on_windows("there is no shell that closes streams")
    @pytest.mark.parametrize("arguments", [("watch",), ("journal", "-f")])
    def test_a_closed_stdout_does_not_end_what_follows(self, state, arguments):
        program = "from mmapstate.command import following, main; look = following.Followed.look; looks = []\n"
        program += "def looked(self):\n looks.append(look(self))\n if len(looks) == 3: raise KeyboardInterrupt\n"
        program += "following.Followed.look = looked\n"
        program += "import sys; sys.exit(main(sys.argv[1:]))"
        name, *rest = arguments
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", program, name, state, *rest],
            env=environment(),
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (130, b"")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
    def test_a_full_disk_behind_stdout_is_told(self, state):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "mmapstate", "show", state],
                env=environment(),
                stdout=full, stderr=subprocess.PIPE, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert b"No space left" in done.stderr
        assert b"Traceback" not in done.stderr


def write_until_told(talk, path, name):
    """Increment two counters together, one of them shared, and append, until told to stop."""
    count = 0
    with mmapstate.open(path, timeout=60) as state:
        talk.send("ready")
        while not talk.ready(0.002):  # else the list grows so long that to read it is all the test does
            with state.transaction():
                state.increment("hits")
                state["items"].append(f"{name}{count}")
            count += 1
    return count


@contextlib.contextmanager
def two_writers(path):
    """Have two processes write until the end; give a list in which their counts are then."""
    mmapstate.open(path, {"items": []}).close()
    counts = []
    with Child(write_until_told, path, "a") as one, Child(write_until_told, path, "b") as other:
        one.receive()
        other.receive()
        yield counts
        for child in (one, other):
            child.send("stop")
        counts += [one.result(), other.result()]


class TestBesideWriters:
    """Each subcommand on a file that two processes write to all the time: they lose nothing, nor does it."""

    def check(self, path, counts, added=0):
        with mmapstate.open(path) as state:
            assert state.hits == 2 + sum(counts) + added
            for name, count in zip("ab", counts, strict=True):
                assert [item for item in state["items"] if item[0] == name] == [f"{name}{n}" for n in range(count)]
            return state.plain()

    def test_show_and_get_see_whole_transactions_in_order(self, state, call):
        seen = []
        with two_writers(state) as counts:
            for _ in range(10):
                code, output, errors = call("show", state, "--json")
                assert (code, errors) == (0, "")
                found = json.loads(output)
                assert found["hits"] == 2 + len(found["items"])
                seen.append(found["hits"])
                seen.append(int(call("get", state, "hits")[1]))
        assert seen == sorted(seen)
        self.check(state, counts)

    def test_increment_in_processes_of_its_own_gives_each_sum_once(self, state):
        with two_writers(state) as counts:
            sums = [int(run("increment", state, "hits")[1]) for _ in range(4)]
            mine = [int(run("increment", state, "mine", "2")[1]) for _ in range(2)]
        assert sums == sorted(set(sums))
        assert mine == [2, 4]
        self.check(state, counts, added=4)

    def test_set_append_delete_and_vacuum(self, state, call):
        with two_writers(state) as counts:
            for number in range(10):
                assert call("set", state, f"mine.{number}", str(number), "--create") == (0, "", "")
                assert call("append", state, "mine.items", f"{{n: {number}}}") == (0, "", "")
                assert call("append", state, "items", f"c{number}") == (0, "", "")
                assert call("increment", state, "hits")[0] == 0
                if number % 3 == 2:
                    assert call("delete", state, f"mine.{number}") == (0, "", "")
                    code, output, errors = call("vacuum", state)
                    if sys.platform != "win32":  # refused there while others have the file mapped
                        assert (code, errors) == (0, "")
                        assert output.startswith(f"{state}: ")
        found = self.check(state, counts, added=10)
        assert found["mine"]["items"] == [{"n": number} for number in range(10)]
        assert sorted(found["mine"]) == ["0", "1", "3", "4", "6", "7", "9", "items"]
        assert [item for item in found["items"] if item[0] == "c"] == [f"c{number}" for number in range(10)]

    def test_info_and_check(self, state, call):
        with two_writers(state) as counts:
            for _ in range(5):
                code, output, errors = call("info", state, "--json")
                assert (code, errors) == (0, "")
                found = json.loads(output)
                assert found["size"] == found["snapshot"] + found["journal"] + found["slack"]
                assert len(found["users"] or "ab") == 2
                code, output, errors = call("check", state)
                assert (code, errors) == (0, ""), output
        self.check(state, counts)

    def test_repair_leaves_a_good_file_to_its_programs(self, state, call):
        with two_writers(state) as counts:
            for _ in range(3):
                assert call("repair", state) == (0, f"{state}: there is nothing to repair\n", "")
        self.check(state, counts)

    def test_doctor_tries_the_folder_and_leaves_the_file_alone(self, state, call):
        with two_writers(state) as counts:
            code, output, errors = call("doctor", state)
            assert (code, errors, output.count("ok ")) == (0, "", 5)
        self.check(state, counts)


class TestHelp:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_each_has_an_example_and_exit_codes(self, call, name):
        code, output, errors = call(name, "--help")
        assert (code, errors) == (0, "")
        assert output.startswith(f"usage: mmapstate {name} ")
        assert output.count(f"\nexample:\n  mmapstate {name} ") == 1
        assert "\nexit codes: 0 " in output
        assert max(map(len, output.split("example:")[1].splitlines())) <= 120

    # The others run on, or ask a person; they are tried by tests of their own.
    @pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"edit", "watch", "demo", "journal"}])
    def test_the_example_works(self, tmp_path, monkeypatch, call, name):
        _, output, _ = call(name, "--help")
        example = output.split("\nexample:\n  mmapstate ")[1].splitlines()[0]
        monkeypatch.chdir(tmp_path)
        Path("example.state").write_text(STATE, encoding="utf-8")
        code, _, errors = call(*shlex.split(example))
        assert (code, errors) == (0, "")

    def test_all_of_them_are_listed(self, call):
        code, output, _ = call("--help")
        assert code == 0
        for name in COMMANDS:
            assert re.search(rf"\n    {name}\s", output)

    def test_version(self, call):
        assert call("--version") == (0, f"mmapstate {mmapstate.__version__}\n", "")

    def test_nothing_is_coloured_in_a_pipe(self):
        assert "\x1b" not in "".join(run("--help", NO_COLOR="1")[1:])


class TestStart:
    UNUSED = (
        "mmapstate.file.locks", "mmapstate.live.state", "mmapstate.live.tree", "mmapstate.file.readonly",
        "mmapstate.file.mapped", "mmapstate.live.schema", "mmapstate.care.check",
        "mmapstate.command.reports", "portalocker",
        "logging", "mmap", "random", "importlib.metadata", "dataclasses", "inspect", "difflib", "shutil", "subprocess",
        "tempfile", "multiprocessing", "rich",
    )  # fmt: skip

    @pytest.mark.parametrize("journaled", [False, True])
    def test_get_imports_nothing_that_writes(self, state, journaled):
        """Its start is most of its time."""
        if journaled:
            with Child(count_and_wait, state) as child:
                child.receive()
                child.kill()
        program = (
            "import sys; before = set(sys.modules); from mmapstate.command import main\n"
            f"assert main(['get', {state!r}, 'last_id']) == 0\n"
            f"print([name for name in {self.UNUSED!r} if name in sys.modules and name not in before])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment(),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("5\n[]\n", "")

    def test_public_names_are_there_though_they_are_imported_late(self):
        program = (
            "import sys, mmapstate\n"
            "assert 'mmapstate.state' not in sys.modules\n"
            "assert set(mmapstate.__all__) <= set(dir(mmapstate))\n"
            "assert not hasattr(mmapstate, 'nothing')\n"
            "from mmapstate import *\n"
            "assert all(globals()[name] is getattr(mmapstate, name) for name in mmapstate.__all__)\n"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", program],
                       env=environment(), timeout=60, check=True)  # fmt: skip

    def test_at_exit_the_file_is_put_to_rest_after_what_was_registered_since_the_import(self, path):
        program = (
            "import atexit, mmapstate\n"
            "atexit.register(lambda: STATE.update(last='words'))\n"
            f"STATE = mmapstate.open({path!r}, dict(a=1))\n"
        )
        subprocess.run([sys.executable, "-c", program],
                       env=environment(), timeout=60, check=True)  # fmt: skip
        assert Path(path).read_text() == "a: 1\nlast: words\n"
