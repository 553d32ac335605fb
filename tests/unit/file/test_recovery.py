"""What else can stand at the path: edits by hand, damage, deletion, refusal. Refused files keep their bytes."""

import errno
import glob
import itertools
import logging
import os
import subprocess
import sys
import threading
import time

import pytest
import yaml
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, not_on_windows
from support.runs import on_an_open_file, open_descriptors
from support.spawned import kill_myself

import mmapstate
from mmapstate import DamagedStateError, PersistedState, StateFileError
from mmapstate.file import host, images, system
from mmapstate.file.filelock import EXCLUSIVE, file_lock


def read(path):
    with open(path, "rb") as file:
        return file.read()


def put(path, data, *, settled=True):
    """Write a file as an editor does that truncates and writes; `settled`: as if that were long ago."""
    with on_an_open_file():
        with open(path, "wb") as file:
            file.write(data)
        if settled:
            os.utime(path, (1, 1))


def put_by_rename(path, data, *, settled=True):
    put(path + ".new", data, settled=settled)
    with on_an_open_file():
        os.replace(path + ".new", path)


def remove(path):
    with on_an_open_file():
        os.unlink(path)


def look(state):
    """Let the next access look at the path, as it does every 50 ms."""
    probe.check_next(state)


WRITERS = pytest.mark.parametrize("write", [put, put_by_rename])


class TestBadFiles:
    BAD = (
        (b"- 1\n- 2\n", "mapping"),
        (b"just text\n", "mapping"),
        (b"a: [1\nb: 2\n", "line"),
        (b"a: 1\na: 2\n", "twice"),
        (b"a: &x 1\nb: *x\n", "alias"),
        (b"a: !!python/object:os.system x\n", "tag"),
        (b"a: \xff\n", "UTF-8"),
        (b"a: 1\n---\nb: 2\n", "document"),
        (b"a: " + b"[" * 101 + b"]" * 101 + b"\n", "100"),
        (b"a: " + b"[" * 100_000, "100"),
        (b"a: 2001-99-99\n", "line 1"),
        (b"--- # mmapstate journal 2 whatever\n", "version 2"),
        (b"a: 1\n--- # mmapstate journal 7 x y z\n#\n", "version 7.*version 1"),
    )

    @pytest.mark.parametrize(("data", "problem"), BAD, ids=range(len(BAD)))
    def test_a_file_that_is_no_state_is_refused_and_keeps_its_bytes(self, broken_path, data, problem):
        put(broken_path, data)
        for options in ({}, {"readonly": True}, {"exclusive": True}):
            with pytest.raises(StateFileError, match=rf"(?s)example\.state.*{problem}"):
                mmapstate.open(broken_path, {"a": 1}, **options)
            assert read(broken_path) == data

    def test_a_file_mended_after_a_refusal_opens(self, path):
        put(path, b"a: [\n")
        with pytest.raises(StateFileError):
            PersistedState(path)
        put(path, b"a: []\n")
        with PersistedState(path) as state:
            assert state == {"a": []}

    @pytest.mark.parametrize("data", [b"", b"# nothing but a comment\n", b"\n\n", b"{}\n", b"---\n", b"\xef\xbb\xbf"])
    def test_nothing_but_comments_is_an_empty_state(self, path, data):
        put(path, data)
        with PersistedState(path) as state:
            assert state == {}
        assert read(path) == data
        with PersistedState(path) as state:
            state.a = 1
        assert on_disk(path) == {"a": 1}

    ODD = (b"a: 1", b"\xef\xbb\xbfa: 1\n", b"a: 1\r\n", b"---\na: 1\n...\n", b"%YAML 1.1\n---\na: 1\n")

    @pytest.mark.parametrize("data", ODD)
    def test_odd_but_valid_files_open_and_take_changes(self, path, data):
        put(path, data)
        with PersistedState(path) as state:
            state.b = 2
            assert state == {"a": 1, "b": 2}
            assert mmapstate.open(path, readonly=True) == {"a": 1, "b": 2}
        assert on_disk(path) == {"a": 1, "b": 2}

    def test_words_that_yaml_takes_for_booleans_are_text_and_warned_about_once(self, path, caplog):
        put(path, b"a: 1\nanswer: yes\n")
        for _ in range(2):
            with PersistedState(path) as state:
                assert state.answer == "yes"
        assert [record.getMessage() for record in caplog.records if "line 2: yes" in record.getMessage()] != []
        assert caplog.text.count("line 2: yes") == 1


@pytest.mark.family("editors")
class TestEdits:
    @WRITERS
    def test_an_edit_at_rest_is_adopted(self, path, write):
        PersistedState(path, a=1, d={"x": 1}).close()
        state = PersistedState(path)
        node = state.d
        write(path, b"a: 5\nd: {x: 2, y: 3}\nnew: [1]\n")
        look(state)
        assert state == {"a": 5, "d": {"x": 2, "y": 3}, "new": [1]}
        node["x"] += 1
        assert on_disk(path)["d"] == {"x": 3, "y": 3}
        assert glob.glob(path + ".superseded*") == []

    @WRITERS
    def test_an_edit_of_a_live_file_is_adopted_and_what_it_supersedes_is_kept(self, path, write, caplog):
        state = PersistedState(path, a=1)
        edited = read(path)
        state.a = 2
        state.b = "committed after the editor read the file"
        write(path, b"c: 1\n" + edited)
        look(state)
        assert state == {"c": 1, "a": 1}
        (kept,) = glob.glob(path + ".superseded-*")
        assert yaml.safe_load(read(kept)) == {"a": 2, "b": "committed after the editor read the file"}
        assert "superseded" in caplog.text
        assert "committed after" not in caplog.text
        state.a = 3
        assert on_disk(path) == {"c": 1, "a": 3}

    @WRITERS
    def test_an_edit_of_what_was_read_before_a_vacuum_to_rest_supersedes_and_keeps_what_came_between(self, path, write):
        state = PersistedState(path, n=0)
        state.vacuum()
        text = read(path)
        state.n = 7
        state.vacuum()
        write(path, text.replace(b"0", b"1"))
        look(state)
        assert state.n == 1
        (kept,) = glob.glob(path + ".superseded-*")
        assert on_disk(kept) == {"n": 7}

    @WRITERS
    def test_an_edit_at_rest_of_a_state_in_which_nothing_was_changed_supersedes_nothing(self, path, write):
        PersistedState(path, n=0).close()
        state = PersistedState(path)
        for number in range(1, 4):
            write(path, b"n: %d\n" % 10**number)
            look(state)
            assert state.n == 10**number
        assert glob.glob(path + ".superseded-*") == []

    @WRITERS
    @pytest.mark.parametrize("reads", [True, False], ids=["reads", "writes"])
    def test_who_moves_over_to_a_vacuumed_file_notices_that_it_was_edited_since(self, path, write, reads):
        """The edit is a copy with its journal, so all that tells is its inode, or its text."""

        def move_over(talk):
            talk.receive()
            state = PersistedState(path)
            talk.send("stands")
            talk.receive()
            if not reads:
                state.n += 1
            time.sleep(0.06)
            return state.note, state.n

        PersistedState(path, note="a", n=0).close()
        with Child(move_over) as child:
            state = PersistedState(path)
            state.n = 1
            child.send("open")
            child.receive()
            state.vacuum()
            state.n = 2
            write(path, read(path).replace(b"note: a", b"note: b"))
            child.send("go")
            assert child.result() == ("b", 2 + (not reads))
        look(state)
        assert state.note == "b"

    def test_who_moves_over_does_so_to_the_file_that_was_announced_and_to_no_edited_copy_of_it(self, path):
        """Told by its inode at once: no look at the path is due that would find the text another one."""

        def move_over(talk):
            talk.receive()
            state = PersistedState(path)
            talk.send("stands")
            talk.receive()
            probe.check_later(state)
            return state.note

        PersistedState(path, note="a", n=0).close()
        with Child(move_over) as child, PersistedState(path) as state:
            state.n = 1
            child.send("open")
            child.receive()
            state.vacuum()
            state.n = 2
            put_by_rename(path, read(path).replace(b"note: a", b"note: b"))
            child.send("go")
            assert child.result() == "b"

    def test_an_edit_in_place_of_the_same_size_just_before_the_first_change_is_noticed(self, path):
        PersistedState(path, note="a", n=0).close()
        state = PersistedState(path)
        probe.check_later(state)
        put(path, read(path).replace(b"note: a", b"note: b"))
        state.n = 2
        assert state == {"note": "b", "n": 2}

    def test_an_edit_that_contains_everything_supersedes_nothing(self, path):
        state = PersistedState(path, a=1)
        state.a = 2
        put_by_rename(path, b"c: 1\n" + read(path))
        look(state)
        assert state == {"c": 1, "a": 2}
        assert glob.glob(path + ".superseded-*") == []

    @WRITERS
    def test_an_edit_is_adopted_by_the_next_write_too(self, path, write):
        state = PersistedState(path, a=1)
        write(path, b"a: 10\n")
        look(state)
        state.b = 1
        assert on_disk(path) == {"a": 10, "b": 1}

    @WRITERS
    def test_an_edit_that_does_not_parse_is_an_error_until_it_does_and_nothing_overwrites_it(self, path, write):
        state = PersistedState(path, a=1)
        state.a = 2
        write(path, b"a: [\n")
        look(state)
        for access in (lambda: state.a, lambda: state.update(a=3), lambda: len(state), state.vacuum):
            with pytest.raises(StateFileError, match="line"):
                access()
        state.close()
        assert read(path) == b"a: [\n"
        write(path, b"a: 7\n")
        with PersistedState(path) as state:
            assert state.a == 7

    @WRITERS
    def test_what_an_edit_that_does_not_parse_supersedes_is_kept_at_once(self, path, write, caplog):
        """And once: nobody may live to see it mended, and when it is, the copy is there."""
        state = PersistedState(path, a=1)
        state.a = 2
        write(path, b"a: [\n")
        look(state)
        for _ in range(2):
            with pytest.raises(StateFileError, match="line 2"):
                _ = state.a
        (kept,) = glob.glob(path + ".superseded-*")
        assert yaml.safe_load(read(kept)) == {"a": 2}
        assert caplog.text.count("superseded") == 1
        write(path, b"a: 77\n")
        assert state.a == 77
        state.a += 1
        assert on_disk(path) == {"a": 78}
        assert glob.glob(path + ".superseded-*") == [kept]

    def test_the_copy_of_what_is_superseded_fails_and_the_error_stays_that_of_the_edit(self, path, monkeypatch, caplog):
        state = PersistedState(path, a=1)
        put(path, b"a: [\n")
        look(state)

        def full(path, mode=0o666):
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(system, "create", full)
        with pytest.raises(StateFileError, match="line 2"):
            _ = state.a
        monkeypatch.undo()
        assert "cannot be kept beside it" in caplog.text
        put(path, b"a: 77\n")
        assert state.a == 77

    def test_a_copy_that_cannot_be_written_whole_is_not_there(self, path, monkeypatch):
        with PersistedState(path, n=0):
            pass
        write_all = system.write_all

        def full(descriptor, data, start):
            write_all(descriptor, data[:3], start)
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(system, "write_all", full)
        with pytest.raises(OSError):
            images.keep_copy(path, "superseded-1", b"n: 1\n")
        monkeypatch.undo()
        assert glob.glob(path + ".*") == []
        assert read(images.keep_copy(path, "superseded-1", b"n: 1\n")) == b"n: 1\n"
        assert images.keep_copy(path, "superseded-1", b"n: 2\n") is None

    def test_of_the_same_bytes_one_copy_of_a_kind_is_kept(self, path):
        with PersistedState(path, n=0):
            pass
        first = images.keep_copy(path, "superseded-1", b"n: 1\n")
        assert images.keep_copy(path, "superseded-2", b"n: 1\n") == first
        assert images.keep_copy(path, "superseded-3", b"n: 2\n") != first
        damaged = images.keep_damaged(path, b"n: 1\n")
        assert damaged != first
        assert images.keep_damaged(path, b"n: 1\n") == damaged
        assert len(glob.glob(path + ".*")) == 3

    def test_text_added_to_the_comment_at_the_end_is_told_of(self, path, caplog):
        """YAML takes it for a comment, as the slack's line has no end."""
        state = PersistedState(path, a=1)
        with open(path, "ab") as file:
            file.write(b"b: 2\n")
        state.a = 2
        assert on_disk(path) == state == {"a": 2}
        assert "removed what another program added" in caplog.text

    def test_a_line_added_behind_the_journal_is_refused_with_its_place(self, broken_path):
        state = PersistedState(broken_path, a=1)
        with open(broken_path, "ab") as file:
            file.write(b"\nb: 2\n")
        before = read(broken_path)
        with pytest.raises(DamagedStateError, match=r"line 4, offset \d+: .*text was added behind it"):
            state.a = 2
        assert read(broken_path) == before

    def test_a_running_program_goes_on_when_the_edit_is_mended(self, path):
        state = PersistedState(path, a=1)
        put(path, b"a: [\n")
        look(state)
        with pytest.raises(StateFileError):
            _ = state.a
        put_by_rename(path, b"a: [1]\n")
        assert state.a == [1]
        state.a.append(2)
        assert on_disk(path) == {"a": [1, 2]}

    def test_an_edit_under_way_is_waited_for(self, path):
        state = PersistedState(path, a=1)
        state.vacuum()
        put(path, b"", settled=False)
        look(state)
        assert state.a == 1  # what is read is the last state

        def write_slowly():
            for text in (b"a: 1", b"a: 10", b"a: 100\n"):
                time.sleep(0.1)
                put(path, text, settled=False)

        editor = threading.Thread(target=write_slowly)
        editor.start()
        look(state)
        state.b = 1
        editor.join()
        assert on_disk(path) == {"a": 100, "b": 1}

    def test_records_that_do_not_apply_to_an_edited_snapshot_are_an_error_that_says_so(self, broken_path):
        state = PersistedState(broken_path, d={"x": 1})
        state.vacuum()
        state.d["x"] = 2
        edited = read(broken_path).replace(b"d:\n  x: 1\n", b"e: 1\n")
        put(broken_path, edited)
        look(state)
        with pytest.raises(StateFileError, match="does not apply") as raised:
            _ = state.d
        assert "set at ['d']['x']" in str(raised.value), "what and where, and no values: states hold tokens"
        state.close()
        with pytest.raises(StateFileError, match="does not apply"):
            PersistedState(broken_path)
        assert read(broken_path) == edited

    @pytest.mark.parametrize(
        "trim", [lambda data: data.rstrip(b" "), lambda data: data.rstrip(b" #"), lambda data: data + b"\n\n"]
    )
    def test_slack_that_an_editor_cut_or_added_to_is_tolerated(self, path, trim):
        state = PersistedState(path, a=1)
        state.a = 2
        put_by_rename(path, trim(read(path)))
        look(state)
        assert state.a == 2
        state.a = 3
        assert on_disk(path) == {"a": 3}

    def test_crlf_in_the_whole_live_file_is_tolerated(self, path):
        state = PersistedState(path, a=1)
        state.a = 2
        put_by_rename(path, read(path).replace(b"\n", b"\r\n"))
        look(state)
        assert state.a == 2
        state.a = 3
        assert on_disk(path) == {"a": 3}

    def test_a_plain_copy_of_a_live_file_is_a_valid_backup(self, path, tmp_path):
        state = PersistedState(path, a=1)
        state.a = 2
        backup = str(tmp_path / "backup.state")
        put(backup, read(path))
        state.a = 3
        with PersistedState(backup) as copy:
            assert copy == {"a": 2}
        put(path, read(backup))
        look(state)
        assert state.a == 2

    def test_a_restored_backup_of_the_same_generation_is_not_mistaken_for_the_live_file(self, path):
        state = PersistedState(path, a=1, d={})
        backup = read(path)
        state.a = 2
        put(path, backup)
        look(state)
        assert state.a == 1
        state.b = 1
        assert on_disk(path) == {"a": 1, "d": {}, "b": 1}

    @not_on_windows("the time of a file that is open cannot be set there")
    def test_an_edit_of_the_same_size_with_the_old_mtime_is_found_at_the_vacuum(self, path):
        state = PersistedState(path, a=11)
        state.vacuum()
        state.b = 1
        found = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"a: 22")
        with on_an_open_file():
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        state.vacuum()
        assert on_disk(path) == {"a": 22, "b": 1}
        assert state.a == 22

    def test_idle_processes_follow_an_adoption(self, path):
        state = PersistedState(path, a=1, d={"x": 1})

        def follow(talk):
            node = state.d
            talk.send(state.a)
            talk.receive()
            return state.a, node["x"], state.d is node

        with Child.share(follow) as child:
            assert child.receive() == 1
            put(path, b"a: 2\nd: {x: 5}\n")
            look(state)
            assert state.a == 2
            child.send("now")
            assert child.result() == (2, 5, True)

    def test_the_idle_process_that_stood_at_the_last_position_keeps_what_was_superseded(self, path):
        state = PersistedState(path, a=1)

        def follow(talk):
            assert state.a == 2
            talk.send("read")
            talk.receive()
            return state.a

        state.a = 2
        with Child.share(follow) as child:
            child.receive()
            put(path, b"a: 9\n")

            def adopt(talk):
                with PersistedState(path) as fresh:
                    return fresh.a

            with Child(adopt) as opener:  # closes our own handle; the opener has no memory of the old state
                assert opener.result() == 9
            child.send("now")
            assert child.result() == 9
        (kept,) = glob.glob(path + ".superseded-*")
        assert yaml.safe_load(read(kept)) == {"a": 2}


@pytest.mark.family("editors")
class TestSleepers:
    """A process that stood somewhere long ago takes nothing but the present state for it."""

    @staticmethod
    def work(talk, path):
        """Vacuum, begin a new journal, adopt what comes."""
        assert talk.receive(1000) == "go"
        state = PersistedState(path)
        state.n = 10
        state.vacuum()
        state.n = 11
        state.k = "acknowledged"
        talk.send("ready")
        while talk.receive(1000) == "look":
            probe.check_next(state)
            talk.send(state.copy())

    def test_one_that_stood_before_the_last_vacuum_reads_an_adopted_edit(self, path):
        with Child(self.work, path) as child:
            state = PersistedState(path, n=0)
            state.n = 1
            child.send("go")
            assert child.receive() == "ready"
            put_by_rename(path, b"n: 777\nedited: true\n")
            child.send("look")
            assert child.receive() == {"n": 777, "edited": True}
            look(state)
            assert state == {"n": 777, "edited": True}
            child.send("end")
            child.result()

    def test_one_that_stood_before_a_vacuum_whose_owner_died_reads_what_that_held(self, path):
        def die_in_a_vacuum(talk):
            self.work(talk, path)
            replace = system.replace

            def last(source, target):
                replace(source, target)
                kill_myself()

            system.replace = last
            PersistedState(path).vacuum()

        def come(talk):
            probe.forget_all()
            return PersistedState(path).copy()

        with Child(die_in_a_vacuum) as child:
            state = PersistedState(path, n=0)
            state.n = 1
            child.send("go")
            assert child.receive() == "ready"
            child.send("end")
            child.wait()
            assert child.was_killed()
        with Child.share(come) as child:  # it cleans up
            assert child.result() == {"n": 11, "k": "acknowledged"}
        assert state == {"n": 11, "k": "acknowledged"}
        state.m = 1
        assert on_disk(path) == state == {"n": 11, "k": "acknowledged", "m": 1}

    @pytest.mark.parametrize("kind", [os.unlink, lambda path: put_by_rename(path, b"")], ids=["deleted", "emptied"])
    def test_one_that_writes_a_file_anew_has_first_read_what_others_had_committed(self, path, kind):
        """Also where another has seen that it is gone, and called that unsettled, which comes before all following."""
        with Child(self.commit, path) as child:
            state = PersistedState(path, n=0)
            child.send("go")
            assert child.receive() == 12
            with on_an_open_file():
                kind(path)
            child.send("look")
            assert child.receive() == 12
            state.m = 1
            assert on_disk(path) == state == {"n": 12, "m": 1}
            child.send("end")
            child.result()

    def test_what_a_program_that_has_just_come_adopts_is_kept_by_those_that_had_what_it_supersedes(self, path):
        state = PersistedState(path, n=0)
        state.k = "acknowledged"
        put_by_rename(path, b"n: 5\n")

        def come(talk):
            probe.forget_all()
            return PersistedState(path).copy()

        with Child.share(come) as child:
            assert child.result() == {"n": 5}
        look(state)
        assert state == {"n": 5}
        (kept,) = glob.glob(path + ".superseded-*")
        assert yaml.safe_load(read(kept)) == {"n": 0, "k": "acknowledged"}

    def test_what_was_deleted_in_use_is_kept_when_a_program_comes_and_creates_it_anew(self, path):
        state = PersistedState(path, n=0)
        state.k = "acknowledged"
        remove(path)

        def come(talk):
            probe.forget_all()
            return PersistedState(path, new=1).copy()

        with Child.share(come) as child:
            assert child.result() == {"new": 1}
        look(state)
        assert state == {"new": 1}
        (kept,) = glob.glob(path + ".superseded-*")
        assert yaml.safe_load(read(kept)) == {"n": 0, "k": "acknowledged"}

    @staticmethod
    def commit(talk, path):
        assert talk.receive(1000) == "go"
        state = PersistedState(path)
        state.n = 12
        talk.send(state.n)
        assert talk.receive(1000) == "look"
        probe.check_next(state)
        talk.send(state.n)
        talk.receive(1000)


@pytest.mark.family("editors")
class TestDamage:
    def damaged(self, path):
        """Leave a live file with three records, the second of which has a flipped bit; return its offset."""
        with Child(self.leave_live, path) as child:
            child.receive()
            child.kill()
        data = bytearray(read(path))
        offset = data.index(b'"a", 2')
        data[offset + 5] ^= 1
        with open(path, "r+b") as file:
            file.write(data)
        return data.rindex(b"\n", 0, offset) + 1

    @staticmethod
    def leave_live(talk, path):
        state = PersistedState(path)
        for number in range(1, 4):
            state.a = number
        talk.send("done")
        talk.receive(1000)

    def test_bad_bytes_in_the_same_boot_are_a_damaged_state_error_with_the_offset(self, broken_path):
        offset = self.damaged(broken_path)
        before = read(broken_path)
        for _ in range(2):
            with pytest.raises(DamagedStateError, match=f"offset {offset}"):
                PersistedState(broken_path)
            assert read(broken_path) == before
        with pytest.raises(DamagedStateError):
            mmapstate.open(broken_path, readonly=True)

    def test_bad_bytes_of_another_boot_give_the_good_prefix_and_keep_the_file(self, path, monkeypatch, caplog):
        self.damaged(path)
        before = read(path)
        monkeypatch.setattr(host, "boot_id", lambda: b"another boot....")
        with PersistedState(path) as state:
            assert state == {"a": 1}
        (kept,) = glob.glob(path + ".damaged-*")
        assert read(kept) == before
        assert "offset" in caplog.text
        assert on_disk(path) == {"a": 1}

    @pytest.mark.parametrize("harm", [lambda marker: marker[:30], lambda marker: marker.replace(b" from", b"0 from")])
    def test_a_marker_that_changed_is_damage_like_a_record(self, broken_path, monkeypatch, caplog, harm):
        with Child(self.leave_live, broken_path) as child:
            child.receive()
            child.kill()
        whole = read(broken_path)
        start, end = whole.index(b"--- # mmapstate"), whole.index(b"\n", whole.index(b"--- # mmapstate"))
        harmed = b"n: 1\n" + harm(whole[start:end])
        harmed += whole[end:] if len(harmed) > 40 else b""
        put(broken_path, harmed)
        for options in ({}, {"readonly": True}):
            with pytest.raises(DamagedStateError, match="offset 5"):
                mmapstate.open(broken_path, **options)
        assert read(broken_path) == harmed
        monkeypatch.setattr(host, "boot_id", lambda: b"another boot....")
        with PersistedState(broken_path) as state:
            assert state == {"n": 1}
        (kept,) = glob.glob(broken_path + ".damaged-*")
        assert read(kept) == harmed
        assert on_disk(broken_path) == {"n": 1}

    def test_a_program_that_is_started_again_and_again_leaves_one_copy(self, broken_path, monkeypatch, caplog):
        """Where nobody tells one start of the machine from another, and where the lock file is made anew each time."""
        put(broken_path, b"n: 1\n")
        with Child(self.leave_live, broken_path) as child:
            child.receive()
            child.kill()
        harmed = read(broken_path).replace(b"n: 1\n", b"n: [\n", 1).replace(b'"set"', b'"sot"', 1)
        put(broken_path, harmed)
        monkeypatch.setattr(host, "boot_id", lambda: bytes(16))
        times = itertools.count()
        monkeypatch.setattr(time, "strftime", lambda form: f"2026010{next(times)}T101010")
        for _ in range(3):
            with pytest.raises(StateFileError):
                mmapstate.open(broken_path)
        (kept,) = glob.glob(broken_path + ".damaged-*")
        assert read(kept) == harmed
        assert caplog.text.count(f"as it was is in {kept}") == 3

    def test_a_running_process_notices_damage_before_it_writes_behind_it(self, broken_path):
        state = PersistedState(broken_path, a=1)
        state.a = 2
        data = bytearray(read(broken_path))
        tail = data.rindex(b"\n#")
        data[tail - 1] ^= 1
        with open(broken_path, "r+b") as file:
            file.write(data)
        with pytest.raises(DamagedStateError):
            state.a = 3
        with pytest.raises(DamagedStateError):
            _ = state.a

    def test_nuls_behind_the_last_record_count_as_slack(self, path):
        state = PersistedState(path, a=1)
        state.a = 2
        data = read(path)
        slack = data.rindex(b"\n#") + 2
        state.close()
        put(path, data[:slack] + bytes(len(data) - slack))
        with PersistedState(path) as state:
            assert state.a == 2
            state.a = 3
        assert on_disk(path) == {"a": 3}


class TestDeletion:
    def test_a_file_deleted_while_running_is_written_anew_by_the_next_commit(self, path, caplog):
        state = PersistedState(path, a=1)
        remove(path)
        look(state)
        assert state.a == 1
        assert not os.path.exists(path)
        started = time.monotonic()
        state.b = 2
        assert time.monotonic() - started >= 1.9, "an editor gets two seconds to write it again"
        assert on_disk(path) == {"a": 1, "b": 2}
        assert "written anew" in caplog.text

    @pytest.mark.parametrize("remove", [os.unlink, lambda path: open(path, "wb").close()], ids=["deleted", "emptied"])
    def test_close_never_recreates_it_and_says_so(self, path, caplog, remove):
        state = PersistedState(path, a=1)
        with on_an_open_file():
            remove(path)
        state.close()
        assert not os.path.exists(path) or read(path) == b""
        assert "while in use; left so" in caplog.text

    def test_deleted_and_created_by_an_editor_is_an_edit(self, path):
        state = PersistedState(path, a=1)
        remove(path)
        put(path, b"a: 2\n")
        look(state)
        state.b = 1
        assert on_disk(path) == {"a": 2, "b": 1}

    def test_a_file_emptied_for_good_is_written_anew(self, path, caplog):
        state = PersistedState(path, a=1)
        put(path, b"")
        look(state)
        state.b = 2
        assert on_disk(path) == {"a": 1, "b": 2}
        assert "emptied" in caplog.text

    def test_a_file_truncated_to_its_half_is_refused_or_read_but_never_crashes(self, path):
        for cut in range(0, 400, 7):
            state = PersistedState(path, a=1)
            state.update({f"k{n}": "v" * 10 for n in range(5)})
            with on_an_open_file():
                os.truncate(path, max(1, os.path.getsize(path) - 16000 - cut))
                os.utime(path, (1, 1))
            try:
                state.c = 1
            except StateFileError:
                pass
            state.close()
            remove(path)

    def test_a_sidecar_deleted_while_running_is_made_again(self, path):
        state = PersistedState(path, a=1)
        remove(path + "-lock")
        look(state)
        state.a = 2
        assert os.path.exists(path + "-lock")
        with Child(lambda talk: _read_and_write(path)) if hasattr(os, "fork") else PersistedState(path) as other:
            if hasattr(other, "result"):
                assert other.result() == 2
        assert on_disk(path)["a"] == 3

    def test_a_new_sidecar_that_is_locked_costs_no_descriptor_and_no_lock(self, path):
        state = mmapstate.open(path, {"n": 0}, timeout=0.02)
        remove(path + "-lock")

        def hold(talk):
            descriptor = os.open(path + "-lock", os.O_RDWR | os.O_CREAT, 0o600)
            file_lock(descriptor, EXCLUSIVE)
            talk.send("held")
            talk.receive()
            remove(path + "-lock")

        with Child.share(hold) as child:
            assert child.receive() == "held"
            before = open_descriptors()
            for _ in range(5):
                look(state)
                with pytest.raises(mmapstate.LockTimeout):
                    state.n = 1
            assert len(open_descriptors()) == len(before)
            assert not probe.lock(state).owned()
            child.send("end")
            child.result()
        look(state)
        state.n = 2
        assert on_disk(path) == {"n": 2}

    def test_two_processes_agree_on_the_new_sidecar_when_it_was_deleted_under_both(self, path):
        state = PersistedState(path, n=0)

        def count(talk):
            talk.send("ready")
            talk.receive()
            for _ in range(200):
                with state._thread_lock:
                    state.n += 1
            return

        with Child.share(count) as child:
            child.receive()
            remove(path + "-lock")
            time.sleep(0.06)
            child.send("go")
            for _ in range(200):
                with state._thread_lock:
                    state.n += 1
            child.result()
        assert state.n == 400
        assert on_disk(path) == {"n": 400}


def _read_and_write(path):
    with PersistedState(path) as state:
        before = state.a
        state.a = 3
        return before


class TestRefusal:
    @pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM])
    def test_where_the_system_refuses_to_replace_the_file_its_region_grows_in_place(self, path, monkeypatch, number):
        state = PersistedState(path, queue=[])

        def refuse(source, target):
            raise OSError(number, os.strerror(number), source, None, target)

        monkeypatch.setattr(system, "replace", refuse)
        monkeypatch.setattr(probe.LONGEST_RELEASE, 0.01)
        for item in range(2000):
            state.queue.append(item)
        assert on_disk(path) == {"queue": list(range(2000))}
        with pytest.raises(mmapstate.StateError, match="refused"):
            state.vacuum()
        state.close()
        monkeypatch.undo()
        with PersistedState(path) as state:
            assert state.queue == list(range(2000))
        with open(path) as file:
            assert yaml.safe_load(file) == {"queue": list(range(2000))}

    def test_the_others_follow_a_region_that_grew_in_place(self, path, monkeypatch):
        state = PersistedState(path, n=0)

        def follow(talk):
            for _ in range(3):
                talk.send(state.n)
                talk.receive()
                state.m = talk
            return

        def refuse(source, target):
            raise OSError(errno.EBUSY, "busy")

        def count(talk):
            while (step := talk.receive()) != "end":
                with state._thread_lock:
                    state.n += 1
                talk.send((step, state.n))

        monkeypatch.setattr(system, "replace", refuse)
        monkeypatch.setattr(probe.LONGEST_RELEASE, 0.01)
        with Child.share(count) as child:
            for step in range(5):
                state.text = "x" * 20_000 * (step + 1)
                with state._thread_lock:
                    state.n += 1
                child.send(step)
                assert child.receive() == (step, 2 * step + 2)
            child.send("end")
            child.result()
        assert state.n == 10

    @pytest.mark.parametrize("call", ["write_all", "sync_file", "create"])
    def test_a_full_disk_is_an_os_error_and_the_old_state_stays_usable(self, path, monkeypatch, call):
        state = PersistedState(path, a=1)
        state.filler = "x" * 1_500_000  # a region so large that the next one comes with a new image
        before = state.copy()

        def fail(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(system, call, fail)
        with pytest.raises(OSError, match="No space"):
            state.big = "x" * 12_000_000
        assert state == before
        state.b = 2
        monkeypatch.undo()
        state.big = "x" * 12_000_000
        del state.filler
        assert on_disk(path) == {"a": 1, "b": 2, "big": "x" * 12_000_000}

    def test_a_failed_sync_takes_the_record_back_and_the_next_commit_goes_to_a_new_file(self, path, monkeypatch):
        state = mmapstate.open(path, {"a": 1}, durability="power")
        inode = system.path_image(path).inode

        def fail(descriptor):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(system, "sync_data", fail)
        with pytest.raises(OSError, match="Input/output"):
            state.a = 2
        assert state.a == 1
        assert on_disk(path) == {"a": 1}
        monkeypatch.undo()
        state.a = 3
        assert on_disk(path) == {"a": 3}
        assert system.path_image(path).inode != inode


def test_messages_go_to_the_logger_of_the_package(path, caplog):
    caplog.set_level(logging.DEBUG)
    state = PersistedState(path, a=1)
    put(path, b"a: 2\n")
    look(state)
    assert state.a == 2
    assert {record.name for record in caplog.records} == {"mmapstate"}


def test_warnings_are_seen_where_nobody_has_set_up_logging_and_go_to_the_log_where_somebody_has(path, tmp_path):
    put(path, b"debug: yes\n")
    program = "import logging, sys, mmapstate; {}; mmapstate.open(sys.argv[1]).close()"
    found = {}
    for setup in (
        "0",
        "logging.basicConfig(filename=sys.argv[1] + '.log')",
        "logging.getLogger('mmapstate').setLevel(40)",
    ):
        run = subprocess.run(
            [sys.executable, "-c", program.format(setup), path],
            capture_output=True, encoding="utf-8", check=True, timeout=60,
        )  # fmt: skip
        assert run.stdout == ""
        found[setup[:14]] = run.stderr
    told = f"{path}, line 1: yes is read as text, not as a boolean; write true or false, or put it in quotes\n"
    assert found == {"0": told, "logging.basicC": "", "logging.getLog": ""}
    assert told in read(path + ".log").decode().replace("\r\n", "\n")
