"""``mmapstate edit``: what somebody typed, and what programs changed meanwhile, are both in the file; or neither."""

import errno
import json
import os
import random
import shlex
import stat
import sys
import tempfile
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import probe
from support.commands import run, run_here, two_writers
from support.processes import Child, not_on_windows
from support.runs import SEED, on_an_open_file, scaled
from support.seam import STORES, between
from support.spawned import kill_myself
from support.strategies import mappings
from support.terminals import Terminal

import mmapstate
from mmapstate.command.merging import MISSING, Conflict, merge
from mmapstate.file import system
from mmapstate.values import same

TEXT = """\
# The mill
ada: 0
bob: 0
limit: 5  # sacks
jobs: []
hosts:
  # the old one
  mill: {port: 80}
"""

# The editor: a program that does the next of the steps, lines of Python that change `text`, each time it is called.
EDITOR = """\
import os
import sys

name = sys.argv[-1]
with open(name, encoding="utf-8", newline="") as file:
    text = file.read()
folder = os.path.dirname(os.path.abspath(__file__))
number = sum(found.startswith("seen-") for found in os.listdir(folder))
with open(os.path.join(folder, f"seen-{number}"), "w", encoding="utf-8", newline="") as file:
    file.write(text)
steps = %r
exec(steps[number])
with open(name, "w", encoding="utf-8", newline="") as file:
    file.write(text)
"""


class Desk:
    """A state, an editor that does what it is told, and somebody who runs ``mmapstate edit``."""

    def __init__(self, folder, path):
        self.path = path
        self.folder = folder / "desk"
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir(parents=True)
        self.write(TEXT)

    def write(self, text):
        with open(self.path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.utime(self.path, (1, 1))  # not just now: nobody has to wait until it stands still

    def read(self):
        with open(self.path, encoding="utf-8", newline="") as file:
            return file.read()

    def editor(self, *steps):
        """Return what VISUAL should be."""
        script = self.folder / "an editor.py"
        program = "import mmapstate, sys; path = " + repr(self.path)
        script.write_text(EDITOR % ([f"{program}\n{step}" for step in steps],), encoding="utf-8")
        return (
            f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
            if os.name != "nt"
            else (f'"{sys.executable}" "{script}"')
        )

    def edit(self, *steps, answers="", **variables):
        """Run the command with an editor that does these steps; return exit code, stdout, stderr."""
        with mock.patch.object(tempfile, "tempdir", str(self.temporary)):
            return run_here("edit", self.path, answers=answers, **{"VISUAL": self.editor(*steps), **variables})

    def edit_elsewhere(self, *steps):
        """Do the same in a process of its own."""
        folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.temporary))
        return run("edit", self.path, VISUAL=self.editor(*steps), **folders)

    def forget(self):
        """Have the editor begin with its first step again."""
        for seen in self.folder.glob("seen-*"):
            seen.unlink()

    def seen(self, number):
        """Return what the editor began with."""
        return (self.folder / f"seen-{number}").read_text(encoding="utf-8")

    def kept(self):
        """Return the texts that are kept."""
        return [found.read_text(encoding="utf-8") for found in self.temporary.glob("mmapstate-*/*")]


@pytest.fixture
def desk(tmp_path, path):
    return Desk(tmp_path, path)


# ---------------------------------------------------------------- what somebody does in the editor


def test_nothing_changed_writes_nothing(desk):
    with mmapstate.open(desk.path) as state:
        state["limit"] = 6
        before = desk.read()
        code, output, errors = desk.edit("pass")
        assert (code, output, errors) == (0, f"{desk.path}: nothing was changed\n", "")
        assert desk.read() == before
        assert desk.seen(0) == TEXT.replace("limit: 5", "limit: 6")
    assert desk.kept() == os.listdir(desk.temporary) == []


def test_valid_change_is_there_with_all_that_two_programs_changed_meanwhile(desk):
    with two_writers(desk.path) as numbers:
        code, output, errors = desk.edit_elsewhere(
            "with mmapstate.open(path) as state:\n"
            "    before = state['ada'], state['bob']\n"
            "    state.wait_for(lambda: state['ada'] > before[0] + 20 and state['bob'] > before[1] + 20)\n"
            "text = text.replace('limit: 5', 'limit: 7').replace('  # the old', '  # new: mine\\n  # the old')\n"
        )
        assert (code, output, errors) == (0, f"{desk.path}: changed\n", "")
    assert numbers["ada"] >= 20
    with mmapstate.open(desk.path, readonly=True) as state:
        found = state.copy()
    assert {name: found[name] for name in numbers} == numbers
    assert found["limit"] == 7
    for name, number in numbers.items():
        assert [job["number"] for job in found["jobs"] if job["by"] == name] == [10, *range(500, number + 1, 500)]
    text = desk.read()
    assert text.startswith("# The mill\nada: ")
    assert "limit: 7  # sacks\n" in text
    assert text.endswith("hosts:\n  # new: mine\n  # the old one\n  mill: {port: 80}\n")
    assert os.listdir(desk.temporary) == []


def test_comments_and_layout_alone_are_a_change_too(desk):
    with mmapstate.open(desk.path) as state:
        hosts, seen = state["hosts"], state["limit"]
        state["limit"] = 6
        code, output, _ = desk.edit(
            "text = text.replace('# The mill', '# The mill at the brook').replace('{port: 80}', '{ port: 80 }')"
        )
        assert (code, output) == (0, f"{desk.path}: changed\n")
        assert state.copy() == {"ada": 0, "bob": 0, "limit": 6, "jobs": [], "hosts": {"mill": {"port": 80}}}
        assert (state["hosts"] is hosts, seen) == (True, 5)
        state["limit"] = 8
    expected = TEXT.replace("mill\n", "mill at the brook\n", 1).replace("{port: 80}", "{ port: 80 }")
    assert desk.read() == expected.replace("limit: 5", "limit: 8")


def test_comments_come_into_a_file_that_only_programs_have_written(desk):
    os.unlink(desk.path)
    with mmapstate.open(desk.path, {"a": 1}) as state:
        state["a"] = 2
        state.vacuum()  # what is there is what a dump gives, and need not be looked at again
        state["a"] = 3
        assert desk.edit("text = '# mine\\n' + text.replace('3', '4  # four')")[0] == 0
        state["b"] = 1
    assert desk.read() == "# mine\na: 4  # four\nb: 1\n"


def test_what_a_program_has_done_meanwhile_need_not_be_done_again(desk):
    with mmapstate.open(desk.path) as state:
        state["ada"] = 1
        code, output, _ = desk.edit(
            "with mmapstate.open(path) as state: state['limit'] = 7\ntext = text.replace('limit: 5', 'limit: 7')"
        )
        assert (code, output) == (0, f"{desk.path}: nothing was changed\n")
        assert '["set", [], "limit", 7]' in desk.read()  # still a record: nothing was written


def test_invalid_text_is_told_with_line_and_column_and_edited_again(desk):
    code, output, errors = desk.edit(
        "text = text.replace('limit: 5', 'limit: [5')", "text = text.replace('limit: [5', 'limit: 9')", answers="e\n"
    )
    assert (code, output) == (0, f"{desk.path}: changed\n")
    assert "is not a state, line 5, column 1: while parsing a flow sequence that begins in line 4, column 8" in errors
    assert "[e]dit again, or [q]uit?" in errors
    assert desk.seen(1) == TEXT.replace("limit: 5", "limit: [5")
    assert desk.read() == TEXT.replace("limit: 5", "limit: 9")
    assert desk.kept() == []


@pytest.mark.parametrize("answers", ["", "q\n", "what?\nq\n"])
def test_invalid_text_is_kept_and_named_where_nobody_edits_it_again(desk, answers):
    code, output, errors = desk.edit("text = text.replace('ada: 0', 'ada: 0\\nada: 1')", answers=answers)
    assert (code, output) == (1, "")
    assert "line 3, column 1: the key 'ada' stands twice" in errors
    assert desk.kept() == [TEXT.replace("ada: 0", "ada: 0\nada: 1")]
    assert str(next(desk.temporary.glob("*/*"))) in errors
    assert desk.read() == TEXT


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("text = ' \\n'", "it is empty; to remove all there is, write {}"),
        ("text += '--- # mmapstate journal 1 00\\n'", "line 9, column 1: a journal begins there"),
        ('text += \'---\\n["set", [], "limit", 9]\\n\'', "line 9, column 1: a journal begins there"),
        ("text = '- 1\\n'", "line 1, column 1: the top of the document is a sequence"),
        ("text += 'x: !!python/name:os.system\\n'", "line 9, column 4: the tag"),
    ],
)
def test_what_is_no_snapshot_alone_is_refused(desk, step, problem):
    code, _, errors = desk.edit(step)
    assert (code, problem in errors) == (1, True), errors
    assert desk.read() == TEXT


def test_word_that_is_no_boolean_is_told(desk):
    code, _, errors = desk.edit("text += 'on: yes\\n'")
    assert code == 0
    assert errors.splitlines() == [
        f"mmapstate: warning: line 9: {word} is text, not a boolean: that would be true or false"
        for word in ("on", "yes")
    ]
    desk.forget()
    assert desk.edit("text += 'more: 1\\n'")[::2] == (0, "")  # it is no news


def test_what_the_library_warns_of_is_told(desk):
    errors = desk.edit("open(path, 'w').write('ada: 0\\nnew: no\\n')\ntext = text.replace('bob: 0\\n', '')")[2]
    assert errors.startswith(f"mmapstate: warning: {desk.path}, line 2: no is read as text, not as a boolean; ")
    desk.forget()
    assert desk.edit("pass")[2] == ""


@pytest.mark.parametrize(("ours", "theirs"), [("\n", "\r\n"), ("\r\n", "\n")])
def test_an_editor_with_line_ends_of_its_own_changes_no_line_by_them(desk, ours, theirs):
    desk.write(TEXT.replace("\n", ours))
    saved = f"text = text.replace({ours!r}, {theirs!r})"
    assert desk.edit(saved)[1].endswith("nothing was changed\n")
    desk.forget()
    assert desk.edit(saved + "\ntext = text.replace('limit: 5', 'limit: 7')")[0] == 0
    assert desk.read() == TEXT.replace("limit: 5", "limit: 7").replace("\n", ours)


def test_line_ends_that_somebody_has_changed_here_and_there_are_theirs(desk):
    assert desk.edit("text = text.replace('sacks\\n', 'sacks\\r\\n')")[0] == 0
    assert desk.read() == TEXT.replace("sacks\n", "sacks\r\n")


def test_all_can_be_removed(desk):
    assert desk.edit("text = '# nothing\\n{}\\n'")[0] == 0
    assert desk.read() == "# nothing\n{}\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_a_last_line_without_one_stay(desk, end):
    desk.write("\ufeff# mine\na: 1\nb: 2".replace("\n", end))
    with open(desk.path, "rb") as file:
        before = file.read()
    # The editor of these tests reads and writes what Python makes of the line ends: bytes are changed here.
    step = "data = open(name, 'rb').read(); open(name, 'wb').write(data.replace(b'b: 2', b'b: 3')); os._exit(0)"
    assert desk.edit(step)[0] == 0
    with open(desk.path, "rb") as file:
        assert file.read() == before.replace(b"b: 2", b"b: 3")


# ---------------------------------------------------------------- the same key, changed by a program meanwhile

WITHOUT_MARKS = "text = ''.join(line + '\\n' for line in text.splitlines() if '# mmapstate:' not in line)\n"
CHANGED_BY_PROGRAM = "with mmapstate.open(path) as state: state['limit'] = {}\n"


def test_conflict_opens_the_editor_again_with_both_values_at_the_key(desk):
    code, output, errors = desk.edit(
        CHANGED_BY_PROGRAM.format("[6, 'a']")
        + "text = text.replace('limit: 5', 'limit: 7').replace('bob: 0', 'bob: 1')",
        "text = ''.join(line + '\\n' for line in text.splitlines() if '# mmapstate:' not in line)\n"
        "text = text.replace('limit:', 'limit: 8').replace('- 6\\n', '').replace('- a\\n', '')",
    )
    assert (code, output) == (0, f"{desk.path}: changed\n")
    assert errors == "mmapstate: programs have changed what you have changed, too: limit\n"
    told = '# mmapstate: theirs: "limit": [6, "a"]\n# mmapstate: yours:  limit: 7\nlimit:  # sacks\n- 6\n- a\n'
    assert told in desk.seen(1)
    assert "\nbob: 1\n# mmapstate: programs changed this, too" in desk.seen(1)
    assert desk.read() == TEXT.replace("limit: 5", "limit: 8").replace("bob: 0", "bob: 1")


def test_json_is_edited_as_json_also_in_a_conflict(desk):
    text = '{\n  "lr": 1e-07,\n  "queue": ["a"],\n  "hosts": {"mill": {"port": 80}}\n}\n'
    desk.write(text)
    code, _, errors = desk.edit(
        "with mmapstate.open(path) as state:\n    state['lr'] *= 2\n    state['hosts']['mill']['port'] = 81\n"
        "text = text.replace('1e-07', '5e-07').replace('80', '82').replace('\"a\"', '\"a\", \"\\\\ud83d\\\\udc0d\"')",
        "assert name.endswith('.json'); text += ' '",
        WITHOUT_MARKS,
        answers="e\n",
    )
    assert code == 0, errors
    assert '  # mmapstate: theirs: lr: 2.0e-07\n  # mmapstate: yours:  lr: 5.0e-07\n  "lr": 2e-07,\n' in desk.seen(1)
    assert "there are lines left that begin with" in errors
    assert json.loads(desk.read()) == {"lr": 2e-7, "queue": ["a", "\U0001f40d"], "hosts": {"mill": {"port": 81}}}
    assert desk.read().startswith(text[: text.index("1e-07")])


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("text = text.replace('1', 'NaN')", "line 1, column 7: NaN is no JSON; write null, or text"),
        ("text = text.replace('}', ', \"a\": 2}')", "line 1, column 10: the key 'a' stands twice in one mapping"),
    ],
)
def test_what_is_no_json_any_more_is_told_with_its_place(desk, step, problem):
    desk.write('{"a": 1}\n')
    code, _, errors = desk.edit(step, answers="q\n")
    assert code == 1
    assert problem in errors
    assert desk.read() == '{"a": 1}\n'


def test_conflict_deep_inside_is_told_there_and_a_removal_is_one(desk):
    code, _, errors = desk.edit(
        "with mmapstate.open(path) as state:\n    state['hosts']['mill']['port'] = 81\n    del state['limit']\n"
        "text = text.replace('port: 80', 'port: 82').replace('limit: 5', 'limit: 6')",
        WITHOUT_MARKS,
    )
    assert code == 0
    assert "too: limit, hosts.mill.port\n" in errors
    assert "  # mmapstate: in hosts.mill\n  # mmapstate: theirs: port: 81\n  # mmapstate: yours:  port: 82\n" in (
        desk.seen(1)
    )
    assert "# mmapstate: theirs: removed\n# mmapstate: yours:  limit: 6\n" in desk.seen(1)
    assert desk.read() == TEXT.replace("limit: 5  # sacks\n", "").replace("port: 80", "port: 81")


@not_on_windows("there is no pty")
def test_on_a_terminal_it_asks_there(desk):
    step = "text = text.replace('limit: 5', 'limit: [5')"
    editor = desk.editor(step, "text = text.replace('limit: [5', 'limit: 6')")
    with Terminal("edit", desk.path, VISUAL=editor) as terminal:
        terminal.until(r"\[q\]uit\? ?$")
        os.write(terminal.descriptor, b"e\n")
        assert terminal.ended() == 0
    assert desk.read() == TEXT.replace("limit: 5", "limit: 6")


def test_comments_and_texts_like_those_of_a_conflict_are_nobodys_business(desk):
    step = "text += '# mmapstate: is here\\nhelp: \"# mmapstate: yours\"\\n'"
    assert desk.edit(step)[0] == 0
    assert desk.read() == TEXT + '# mmapstate: is here\nhelp: "# mmapstate: yours"\n'


@pytest.mark.parametrize(
    ("text", "told_above"),
    [
        ("a: {b: 1, c: 2}\n", "a: {"),
        ("a:\n  c: 1\n  b: 1\n", "  b: 2"),
        ("a: {c: 'x\n\n  y', b: 1}\n", "a: {c"),
        ("\ufeffa: {b: 1}\r\n", "a: {b"),
        ("? a\n: {b: 1}\n", ": {b"),
    ],
)
def test_both_values_are_told_as_near_to_the_key_as_can_be(desk, text, told_above):
    desk.write(text)
    step = "with mmapstate.open(path) as state: state['a']['b'] = 2\n"
    desk.edit(step + "text = text.replace('b: 1', 'b: 3')", "sys.exit(1)")
    lines = desk.seen(1).splitlines()
    place = max(number for number, line in enumerate(lines) if "# mmapstate:" in line)
    assert lines[place].endswith("# mmapstate: yours:  b: 3")
    assert lines[place + 1].startswith(told_above)


def test_conflict_that_nobody_resolves_changes_nothing(desk):
    step = CHANGED_BY_PROGRAM.format(6) + "text = text.replace('limit: 5', 'limit: 7')"
    code, output, errors = desk.edit(step, "pass", answers="q\n")
    assert (code, output) == (1, "")
    assert "lines left" in errors
    assert "yours:  limit: 7" in desk.kept()[0]
    assert desk.read() == TEXT.replace("limit: 5", "limit: 6")


def test_key_that_changes_all_the_time_is_asked_about_once(desk):
    code, output, errors = desk.edit(
        CHANGED_BY_PROGRAM.format(6) + "text = text.replace('limit: 5', 'limit: 7')",
        CHANGED_BY_PROGRAM.format(66) + WITHOUT_MARKS + "text = text.replace('limit: 6', 'limit: 7')",
    )
    assert (code, output) == (0, f"{desk.path}: changed\n")
    assert errors.count("\n") == 1
    assert desk.read() == TEXT.replace("limit: 5", "limit: 7")


def test_theirs_kept_in_a_conflict_is_nothing_changed(desk):
    code, output, _ = desk.edit(
        CHANGED_BY_PROGRAM.format(6) + "text = text.replace('limit: 5', 'limit: 7')",
        WITHOUT_MARKS,
    )
    assert (code, output) == (0, f"{desk.path}: nothing was changed\n")
    assert desk.read() == TEXT.replace("limit: 5", "limit: 6")


# ---------------------------------------------------------------- what else can happen meanwhile


def test_file_that_is_vacuumed_meanwhile(desk):
    with mmapstate.open(desk.path) as state:
        state["limit"] = 6
        code, output, errors = desk.edit(
            "with mmapstate.open(path) as state:\n    state['ada'] += 1\n    state.vacuum()\n    state['ada'] += 1\n"
            "text = text.replace('bob: 0', 'bob: 5  # mine')"
        )
        assert (code, output, errors) == (0, f"{desk.path}: changed\n", "")
        assert (state["ada"], state["bob"], state["limit"]) == (2, 5, 6)
    expected = TEXT.replace("ada: 0", "ada: 2").replace("bob: 0", "bob: 5  # mine")
    assert desk.read() == expected.replace("limit: 5", "limit: 6")


def test_comments_that_another_person_changed_meanwhile_stay_beside_changed_values(desk):
    by_hand = "other = open(path).read().replace('# sacks', '# bags').replace('bob: 0', 'bob: 3')\n"
    by_hand += "open(path, 'w', newline='').write(other)\n"
    code, _, errors = desk.edit(by_hand + "text = text.replace('ada: 0', 'ada: 1')")
    assert (code, errors) == (0, "")
    expected = TEXT.replace("# sacks", "# bags").replace("bob: 0", "bob: 3").replace("ada: 0", "ada: 1")
    assert desk.read() == expected


def test_file_that_another_person_broke_meanwhile_is_left_and_the_text_is_kept(desk):
    code, _, errors = desk.edit("open(path, 'w').write('a: [')\ntext = text.replace('ada: 0', 'ada: 1')")
    assert code == 1
    assert "line 1, column 5" in errors
    assert desk.read() == "a: ["
    assert desk.kept() == [TEXT.replace("ada: 0", "ada: 1")]
    desk.write(TEXT)


def test_file_that_is_removed_meanwhile_is_not_made_anew(desk):
    code, _, errors = desk.edit("os.unlink(path); text = text.replace('ada: 0', 'ada: 1')")
    assert (code, "was removed meanwhile" in errors) == (1, True)
    assert not os.path.exists(desk.path)
    assert desk.kept() == [TEXT.replace("ada: 0", "ada: 1")]


def test_file_that_is_not_there_is_not_created(desk):
    os.unlink(desk.path)
    code, _, errors = desk.edit("pass")
    assert (code, "No such file" in errors) == (1, True)
    assert os.listdir(os.path.dirname(desk.path)) == ["desk"]


# ---------------------------------------------------------------- the editor


def test_editor_that_fails_changes_nothing_and_what_was_typed_is_kept(desk):
    code, output, errors = desk.edit("open(name, 'a').write('more: 1\\n'); sys.exit(3)")
    assert (code, output) == (1, "")
    assert "ended with exit code 3; nothing was changed" in errors
    assert desk.kept() == [TEXT + "more: 1\n"]
    assert desk.read() == TEXT


def test_editor_that_fails_at_once_leaves_nothing(desk):
    assert desk.edit("sys.exit(1)")[0] == 1
    assert os.listdir(desk.temporary) == []


def test_editor_that_is_not_there_is_named(desk):
    code, _, errors = desk.edit(VISUAL="", EDITOR="no-such-editor --wait")
    assert code == 1
    assert "no-such-editor (of $EDITOR), cannot be run: " in errors
    assert os.listdir(desk.temporary) == []


@not_on_windows("there all is a command")
def test_variable_that_is_no_command_is_named(desk):
    code, _, errors = desk.edit(VISUAL="'vi")
    assert (code, errors) == (1, "mmapstate: $VISUAL is not a command: No closing quotation; nothing was changed\n")
    assert os.listdir(desk.temporary) == []


@not_on_windows("there are no signals")
def test_what_a_killed_editor_has_beside_the_file_is_kept(desk):
    step = "open(name + '.swp', 'w').write('typed, not saved'); import signal; os.kill(os.getpid(), signal.SIGKILL)"
    code, output, errors = desk.edit(step)
    assert (code, output, "was killed by signal 9; nothing was changed" in errors) == (1, "", True)
    (folder,) = desk.temporary.iterdir()
    assert f"what the editor has left is kept in {folder}\n" in errors
    assert sorted(desk.kept()) == [TEXT, "typed, not saved"]


def test_folder_that_is_removed_under_the_editor_is_told(desk):
    code, _, errors = desk.edit("import shutil; shutil.rmtree(os.path.dirname(name)); os._exit(0)")
    assert (code, "the editor has removed the file that it was given; nothing was changed" in errors) == (1, True)


def test_visual_comes_before_editor(desk):
    assert desk.edit("text += 'more: 1\\n'", EDITOR="no-such-editor")[0] == 0


@not_on_windows("modes are not what protects a file there")
def test_nobody_else_can_read_what_is_edited(desk):
    step = "text += f'modes: [{os.stat(name).st_mode:o}, {os.stat(os.path.dirname(name)).st_mode:o}]\\n'"
    assert desk.edit(step + "\ntext += f'name: {os.path.basename(name)}\\n'")[0] == 0
    assert desk.read() == TEXT + "modes: [100600, 40700]\nname: example.state.yaml\n"
    assert stat.S_IMODE(os.stat(desk.path).st_mode) != 0o600


@not_on_windows("there a program can be sent no interrupt alone, without its parent")
def test_ctrl_c_in_the_editor_is_the_editors(desk, interrupts):
    step = "import signal\nos.kill(os.getppid(), signal.SIGINT)\n"
    step += "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    assert desk.edit_elsewhere(step + "text += 'more: 1\\n'")[0] == 0
    assert desk.read() == TEXT + "more: 1\n"


# ---------------------------------------------------------------- the file


CHANGE = (
    "with mmapstate.open(path) as state: state['ada'] += 1\n"
    "text = text.replace('limit: 5', 'limit: 7').replace('# The', '# Our')"
)
CHANGED = TEXT.replace("ada: 0", "ada: 1")
EDITED = CHANGED.replace("limit: 5", "limit: 7").replace("# The", "# Our")


def test_refused_rename_writes_the_values_and_says_that_comments_are_not_there(desk, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EBUSY, "is mounted", desk.path)

    with mmapstate.open(desk.path) as state:
        monkeypatch.setattr(system, "replace", refuse)
        code, _, errors = desk.edit(CHANGE)
        monkeypatch.undo()
        assert (state["ada"], state["limit"]) == (1, 7)
    assert desk.read() == CHANGED.replace("limit: 5", "limit: 7")
    assert code == 1
    assert "values alone are changed, not comments" in errors
    assert desk.kept() == [TEXT.replace("limit: 5", "limit: 7").replace("# The", "# Our")]


CALLS = {"open", "write", "pwrite", "ftruncate", "replace", "unlink", "fsync", "fdatasync", "fchmod", "mmap", "flock"}


def edit_and_die(talk, desk, at):
    """Run the command, and die at the `at`-th step of what it does to the file."""
    left = at

    def handle(name, arguments, do):
        nonlocal left
        if name in CALLS or name in STORES:
            left -= 1
            if left == 0:
                kill_myself()
        return do(*arguments)

    with between(handle):
        desk.edit("text = text.replace('limit: 5', 'limit: 7').replace('# The', '# Our')")
    return left


@pytest.mark.family("kill9")
def test_a_kill_at_any_step_leaves_the_old_or_the_new(desk, cases):
    stride = max(1, 3 // scaled(3)) if hasattr(os, "fork") else 7
    at, killed, found = random.Random(SEED).randrange(stride) + 1 - stride, 0, set()
    hosts = limit = None
    while True:
        at += stride
        probe.close_all()
        for name in os.listdir(os.path.dirname(desk.path)):
            if name != "desk":
                os.unlink(os.path.join(os.path.dirname(desk.path), name))
        desk.forget()
        desk.write(TEXT)
        with Child(edit_and_die, desk, at) as child, mmapstate.open(desk.path) as state:  # which lives through it
            hosts = state["hosts"]
            state["ada"] += 1
            list(child.drain())
            child.wait()
            assert state["ada"] == 1, at
            assert state["hosts"] is hosts, at
            state["ada"] += 1  # goes on, and finds out what became of the edit: a reader need not know yet
            limit = state["limit"]
        text = desk.read()
        old = TEXT.replace("ada: 0", "ada: 2")
        assert text == {5: old, 7: old.replace("limit: 5", "limit: 7").replace("# The", "# Our")}[limit], at
        leftovers = [name for name in os.listdir(os.path.dirname(desk.path)) if name.endswith((".tmp", "superseded"))]
        assert leftovers == [], at
        found.add(limit)
        if not child.was_killed():
            break
        killed += 1
    cases(killed)
    assert killed * stride > 20
    assert found == {5, 7}


def rewritten(text, state):
    """Make the text another one, with another state."""
    return text.replace(b"limit: 5", b"limit: 7\nmore: [1]").replace(b"# The", b"# Our")


@pytest.mark.family("failing-calls")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_call_that_fails_leaves_the_old_or_the_new_in_memory_and_file(desk, error, cases):
    old = mmapstate.open(desk.path, readonly=True).copy()
    new = old | {"limit": 7, "more": [1]}
    at, results = 0, []
    while True:
        at += 1
        probe.close_all()
        desk.write(TEXT)
        failed, told = False, error

        def handle(name, arguments, do, at=at):
            nonlocal failed
            handle.left -= name in CALLS - {"flock"}
            if handle.left == 0 and not failed and name in CALLS:
                failed = True
                raise OSError(error, os.strerror(error))
            return do(*arguments)

        handle.left = at
        with mmapstate.open(desk.path) as state:
            state["ada"] = 0
            with between(handle):
                try:
                    probe.rewrite(state, rewritten)
                except OSError as raised:
                    told = raised.errno
            assert not failed or told == error
            found = state.copy()
            assert found in (old, new), at
            with mmapstate.open(desk.path, readonly=True) as other:
                assert other.copy() == found, at
            assert state.increment("bob") == 1
        results.append(found == new)
        if not failed:
            break
    cases(at)
    assert at > 5
    assert results[0] is False
    assert results[-1] is True


def test_text_that_is_no_snapshot_changes_nothing(desk):
    with mmapstate.open(desk.path) as state:
        before = state.copy()
        with pytest.raises(mmapstate.StateFileError, match="line 1, column 1"):
            probe.rewrite(state, lambda *_: b"- 1\n")
        with pytest.raises(mmapstate.StateError, match="a transaction is open"), state.transaction():
            probe.rewrite(state, rewritten)
        assert state.copy() == before
        assert desk.read() == TEXT


def test_edit_by_hand_while_it_is_rewritten_is_taken_up_first(desk):
    texts = []

    def edit(text, state):
        texts.append(text)
        if len(texts) == 1:
            with on_an_open_file():
                desk.write(TEXT.replace("bob: 0", "bob: 4"))
        return rewritten(text, state)

    with mmapstate.open(desk.path) as state:
        assert probe.rewrite(state, edit)
        assert len(texts) == 2
        assert (state["bob"], state["limit"]) == (4, 7)
    assert desk.read() == rewritten(TEXT.replace("bob: 0", "bob: 4").encode(), None).decode()


def test_declared_fields_are_kept_to(desk):
    class Mill(mmapstate.State):
        limit: int = 0

    with Mill(desk.path) as state:
        with pytest.raises(mmapstate.StateFileError, match=r"line 4: \['limit'\]: expected int"):
            probe.rewrite(state, lambda text, _: text.replace(b"limit: 5", b"limit: five"))
        assert state.limit == 5


# ---------------------------------------------------------------- three states to one


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "merged"),
    [
        ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
        ({"a": 1}, {"a": 1, "t": 1}, {"m": 1, "a": 1}, {"m": 1, "a": 1, "t": 1}),
        ({"a": 1, "b": 1}, {"b": 1}, {"a": 1}, {}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "y": 1}}, {"a": {"y": 1}}, None),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "y": 1}}, {"a": {"x": 1}}, {"a": {"x": 2}}),
        ({}, {"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"y": 1, "x": 1}}),
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": 1}, {"a": 1.0}, {"a": 1.0}),
        ({"a": 1}, {"a": 2}, {}, None),
        ({"a": 1}, {}, {"a": 2}, None),
        ({"a": 1}, {"a": [1]}, {"a": {"x": 1}}, None),
        ({"a": [1, 2, 3]}, {"a": [2, 3, 4]}, {"a": [1, 20, 3]}, {"a": [20, 3, 4]}),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [1, 2, 4]}, {"a": [1, 2, 3, 4]}),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [1, 2, 3]}, {"a": [1, 2, 3]}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 4]}, None),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1, 4]}, None),
        ({"a": [1, 2, 3]}, {"a": [3, 1, 2]}, {"a": [1, 2, 4]}, None),
        ({"a": [{"n": 1, "d": 0}]}, {"a": [{"n": 1, "d": 1}]}, {"a": [{"n": 2, "d": 0}]}, {"a": [{"n": 2, "d": 1}]}),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, {}, None),
        ({"a": [0.0]}, {"a": [-0.0]}, {"a": [0.0, 1]}, {"a": [-0.0, 1]}),
    ],
)
def test_merge(base, theirs, mine, merged):
    """Changes at different places come together; None: a conflict, and theirs stands there."""
    found, conflicts = merge(base, theirs, mine)
    if merged is None:
        assert [conflict.path[0] for conflict in conflicts] == ["a"]
        assert same(found.get("a", MISSING), theirs.get("a", MISSING)) or "y" in theirs["a"]
    else:
        assert conflicts == []
        assert same(found, merged)


def test_conflicts_are_told_with_their_place_and_decided_ones_are_none():
    base, theirs, mine = ({"a": {"x": n, "y": [n]}, "b": n} for n in (1, 2, 3))
    found, conflicts = merge(base, theirs, mine)
    assert found == theirs
    expected = [Conflict(("a", "x"), 2, 3), Conflict(("a", "y"), [2], [3]), Conflict(("b",), 2, 3)]
    assert conflicts == expected
    assert merge(base, theirs, mine, {conflict.path for conflict in expected}) == (mine, [])
    assert merge({"a": 1}, {}, {"a": 2}) == ({}, [Conflict(("a",), MISSING, 2)])


@settings(max_examples=scaled(60), deadline=None)
@given(mappings, mappings)
def test_who_changes_nothing_has_no_part_in_it(base, other):
    """Whatever the states: where one side has changed nothing, it is as the other has it; two alike make one."""
    for theirs, mine in ((base, other), (other, base), (other, other)):
        found, conflicts = merge(base, theirs, mine)
        assert conflicts == []
        assert found == other or same(found, other)


@settings(max_examples=scaled(200), deadline=None)
@given(st.lists(st.integers(0, 9)), st.lists(st.integers(10, 19)), st.lists(st.integers(20, 29)))
def test_what_both_append_is_all_there(base, theirs, mine):
    assert merge({"a": base}, {"a": base + theirs}, {"a": base + mine}) == ({"a": base + theirs + mine}, [])
