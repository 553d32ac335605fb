"""`mmapstate.check` tells all that is odd about a file and nothing else, and changes nothing, of a live one neither."""

import contextlib
import os
import stat
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import probe
from support.broken_files import SEED, STEPS, harmed, live_file, put, read
from support.processes import Child, held_by_a_thread, not_on_windows
from support.runs import TESTS, on_an_open_file, scaled

import mmapstate
from mmapstate import PersistedState, command
from mmapstate.care import findings
from mmapstate.errors import StateFileError
from mmapstate.file import content, host, system
from mmapstate.file.filelock import EXCLUSIVE, file_lock
from mmapstate.file.format import MARKER_START, Position, record
from mmapstate.file.page import DIRTY, SYNC_FAILED

DATA = TESTS / "data"
JOURNAL = (
    b"last_id: 1\n"
    b"--- # mmapstate journal 1 00000000000000aa from - f9df1cef newer changes follow\n"
    b'--- ["set", [], "last_id", 2] #1ddc1b43\n'
    b"#   "
)
REST, MARKER, RECORD, SLACK = JOURNAL.splitlines(keepends=True)


def told(data):
    """Return what is found in the bytes of a file: severity, line and what it is."""
    return [(found.severity, found.line, found.what) for found in findings.examine(data, "a.state").findings]


def severities(path):
    return [found.severity for found in mmapstate.check(path)]


def only(path):
    """Return the one thing that is found about the file at `path`."""
    (found,) = mmapstate.check(path)
    return found


def opens(data):
    """Return the state that a reader gets; None where it is refused, or bytes of the journal are damaged."""
    try:
        parts = content.layout(data, "a.state")
        state = content.read(data, parts, "a.state", []).state
    except StateFileError:
        return None
    return None if parts.scan is not None and parts.scan.bad >= 0 else state


class TestBytes:
    FINE = (
        b"",
        b"# nothing\n",
        b"a: 1\n",
        b"a: 1",
        b"\xef\xbb\xbfa: 1\n",
        b"a: 1\r\n",
        JOURNAL,
        MARKER.replace(b"f9df1cef", b"00000000") + b"#",
    )

    @pytest.mark.parametrize("data", FINE, ids=range(len(FINE)))
    def test_where_all_is_well_nothing_is_told(self, data):
        assert told(data) == []

    ODD = {
        "trap": (b"a: 1\nb: yes\n", "warning", 2, "yes is read as text"),
        "no YAML": (b"a: 1\nb: [1\nc: 2\n", "error", 3, "flow sequence that begins in line 2, column 4"),
        "no mapping": (b"- 1\n", "error", 1, "the top of the document is a sequence"),
        "not UTF-8": (b"a: 1\nb: \xff\n", "error", 2, "not UTF-8 (byte 8"),
        "NULs in the snapshot": (b"a: 1\n\0\0\0\nb: 1\n", "error", 2, "U+0000"),
        "NULs behind it": (b"a: 1\n\0\0\0", "note", 2, "a journal was about to be begun"),
        "second document": (b"a: 1\n---\nb: 1\n", "error", 2, "second document"),
        "version to come": (b"a: 1\n--- # mmapstate journal 7 x\n#\n", "error", 2, "version 7, this mmapstate reads"),
        "marker": (JOURNAL.replace(b" from -", b" from"), "error", 2, "the journal was changed, and the 1 lines"),
        "edited under a journal": (JOURNAL.replace(b"last_id: 1", b"last_id: 9"), "warning", 1, "not the one that"),
        "record": (JOURNAL.replace(b"2]", b"3]"), "error", 3, "behind change 0 the journal was changed"),
        "record without its first byte": (JOURNAL.replace(b"--- [", b"x-- ["), "error", 3, "text that is no change"),
        "text behind": (JOURNAL + b"\nb: 2\n", "error", 5, "text that is no change stands behind the last one"),
        "junk": (JOURNAL.rstrip() + b'-- ["set", [], "x", 1] #00', "note", 4, "a comment stands behind the last"),
        "zeros": (JOURNAL.rstrip() + b"\0" * 9, "note", 4, "zeros stand behind the last change"),
        "slack cut off": (REST + MARKER + RECORD, "note", 4, "cut or changed by an editor"),
        "slack with a line end": (JOURNAL.rstrip() + b"\n\n", "note", 4, "cut or changed by an editor"),
        "unborn": (REST + b"#" + MARKER[1:] + b"#   ", "note", 2, "a journal was about to be begun"),
        "persistedstate": (b'a: 1\n---\n["set", [], "a", 2]', "note", 3, "changes of persistedstate"),
        "broken persistedstate": (b'a: 1\n---\n["set", [], "a", 2]\n---\n[5]\n---\n[6]', "error", 5, "change 2"),
    }  # fmt: skip

    @pytest.mark.parametrize("name", ODD)
    def test_what_is_odd_is_told_with_its_line(self, name):
        data, severity, line, what = self.ODD[name]
        found = told(data)
        assert [(each[0], each[1]) for each in found if what in each[2]] == [(severity, line)], found
        assert {"error", severity} >= {each[0] for each in found} - {"note"}

    def test_what_to_do_is_told_too_in_one_line(self):
        (found,) = findings.examine(JOURNAL + b"\nb: 2\n", "a.state").findings
        assert str(found).startswith(f"a.state, line 5, offset {len(JOURNAL) + 1}: error: text that is no change")
        assert "remove in an editor what was added" in str(found)
        assert "\n" not in str(found)

    def test_the_offset_is_in_bytes_and_counts_a_bom_and_letters_of_several_bytes(self):
        data = "\ufeffé: 日本\nb: [\nc: }\n".encode()
        (found,) = findings.examine(data, "a.state").findings
        assert (found.line, found.offset) == (3, data.index(b"}"))

    def test_a_record_that_does_not_fit_is_told_with_its_place(self):
        text, _ = record(b'["set", ["gone"], "x", 1]', 0x1DDC1B43)
        data = REST + MARKER + RECORD + text + b"# "
        (found,) = findings.examine(data, "a.state").findings
        assert (found.severity, found.line, found.offset) == ("error", 4, data.index(text))
        assert "record 2 of the journal (set at ['gone']['x']) does not apply" in found.what

    def test_a_record_of_another_program_is_told_with_its_place(self):
        text, _ = record(b'["rename", [], "a", "b"]', 0x1DDC1B43)
        (found,) = findings.examine(REST + MARKER + RECORD + text + b"# ", "a.state").findings
        assert (found.severity, found.line) == ("error", 4)
        assert "record 2 of the journal is none that this mmapstate reads" in found.what
        with pytest.raises(StateFileError, match=r"a\.state, line 4: record 2 of the journal"):
            data = REST + MARKER + RECORD + text + b"# "
            content.read(data, content.layout(data, "a.state"), "a.state")

    def test_a_copy_with_a_change_still_as_comment_is_told_as_one(self, tmp_path):
        data, states = live_file(tmp_path)
        lines = data.splitlines(keepends=True)
        second = next(number for number, line in enumerate(lines) if line.startswith(b"--- [")) + 1
        lines[second] = b"#" + lines[second][1:]
        copied = b"".join(lines)
        assert opens(copied) == states[-1]
        assert [(severity, line) for severity, line, _ in told(copied)] == [("note", second + 1)]

    @pytest.mark.parametrize("path", sorted(DATA.glob("*/*.state")), ids=lambda path: path.stem)
    def test_files_that_were_ever_written_have_no_errors(self, path):
        assert [found for found in told(path.read_bytes()) if found[0] == "error"] == []

    def test_a_harmed_file_has_an_error_or_reads_to_a_state_that_was(self, tmp_path):
        """An error is told where the library refuses the file, and nowhere else."""
        print(f"MMAPSTATE_TEST_SEED={SEED}")
        data, states = live_file(tmp_path)
        marker = data.index(MARKER_START)
        born = marker + len(MARKER_START)  # cut before that, it is a file at rest with something behind it
        for name, harm in harmed(data, share=10 // scaled(10)):
            examined = findings.examine(harm, "a.state")
            state = opens(harm)
            assert examined.has_errors() == (state is None), (name, examined.findings)
            if state is not None and harm.startswith(data[:born]):
                assert state in states, name
            elif state is not None and MARKER_START in harm and harm[:marker] != data[:marker]:
                assert "warning" in [found.severity for found in examined.findings], name

    @given(
        st.lists(
            st.sampled_from(
                [REST, MARKER, RECORD, SLACK, b"\n", b"---\n", b"\0", b"\xff", b"#", b"- 1", b"a: &x [*x]\n"]
            )
            | st.binary(max_size=9)
        ).map(b"".join)
    )
    @settings(max_examples=scaled(1000), deadline=None)
    def test_nothing_raises_whatever_the_bytes_are(self, data):
        examined = findings.examine(data, "a.state")
        assert examined.has_errors() == (opens(data) is None)
        for found in examined.findings:
            assert found.offset is None or 0 <= found.offset <= len(data) + 1
            assert "\n" not in str(found)


def picture(folder):
    """Return all that can be seen of a folder without reading a file: names, and for each size, times, mode, inode."""
    return {
        name: (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_ino)
        for name in sorted(os.listdir(folder))
        for status in [os.lstat(os.path.join(folder, name))]
    }


class TestFiles:
    @pytest.mark.parametrize("data", [b"a: 1\n", JOURNAL, JOURNAL + b"\nx", b"a: [", b"\0", b""], ids=range(6))
    def test_nothing_is_changed_or_created(self, tmp_path, data):
        path = tmp_path / "a.state"
        put(path, data)
        before = picture(tmp_path)
        mmapstate.check(path)
        assert picture(tmp_path) == before
        assert read(path) == data

    def test_nothing_is_changed_of_a_live_one(self, path, tmp_path):
        state = PersistedState(path, a=1)
        before, content_before, page = picture(tmp_path), read(path), bytes(probe.header_bytes(state)[:])
        assert mmapstate.check(path) == []
        assert (picture(tmp_path), read(path), bytes(probe.header_bytes(state)[:])) == (before, content_before, page)
        probe.header_bytes(state)[DIRTY] = 1  # now it takes the lock, too
        assert severities(path) == ["note"]
        assert (picture(tmp_path), read(path)) == (before, content_before)

    def test_plain_words_are_still_told_in_the_log_afterwards(self, path, caplog):
        put(path, b"a: 1\nb: no\n")
        assert severities(path) == ["warning"]
        assert caplog.text == ""
        PersistedState(path)
        assert "line 2: no" in caplog.text

    def test_one_that_is_not_there(self, tmp_path):
        assert only(tmp_path / "a.state")[0::4] == ("error", "is not there")
        assert os.listdir(tmp_path) == []

    def test_a_folder(self, tmp_path):
        (tmp_path / "a.state").mkdir()
        assert only(tmp_path / "a.state").severity == "error"

    @not_on_windows("it has none")
    def test_a_fifo_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.state")
        assert only(tmp_path / "a.state")[0::4] == ("error", "is no regular file")

    def test_one_that_cannot_be_read(self, path, monkeypatch):
        put(path, b"a: 1\n")

        def refuse(*arguments, **options):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(system, "open_regular", refuse)
        found = only(path)
        monkeypatch.undo()
        assert (found.severity, found.what) == ("error", "cannot be read (Permission denied)")

    def test_a_path_of_bytes_is_a_type_error(self):
        with pytest.raises(TypeError, match="must be text"):
            mmapstate.check(b"a.state")

    @not_on_windows("a link needs a privilege there")
    def test_a_symbolic_link_is_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        put(tmp_path / "real" / "a.state", b"a: [")
        os.symlink(tmp_path / "real" / "a.state", tmp_path / "link")
        put(tmp_path / "real" / "a.state.damaged-20200101T000000", b"")
        first, second = mmapstate.check(tmp_path / "link")
        assert first.file == str(tmp_path / "real" / "a.state")
        assert second.file.endswith("damaged-20200101T000000")

    def test_hard_links(self, path):
        put(path, b"a: 1\n")
        os.link(path, path + ".other")
        found = only(path)
        assert (found.severity, found.offset) == ("warning", None)
        assert "2 names" in found.what

    def test_what_stands_beside_it_and_is_of_another_file_is_nothing(self, tmp_path):
        put(tmp_path / "a.state", b"a: 1\n")
        for name in ("b.a.state.damaged-1", ".b.state.0123456789abcdef.tmp", ".a.state.0123.tmp", "a.state.damaged"):
            put(tmp_path / name, b"")
        assert mmapstate.check(tmp_path / "a.state") == []

    def test_images_and_copies_beside_it(self, path, tmp_path):
        put(path, b"a: 1\n")
        names = [".example.state.0123456789abcdef.tmp", "example.state.damaged-20260101T101010",
                 "example.state.damaged-20260101T101010-1", "example.state.superseded-0123456789abcdef"]  # fmt: skip
        for name in names:
            put(tmp_path / name, b"")
        found = mmapstate.check(path)
        assert [(each.severity, os.path.basename(each.file)) for each in found] == [("note", name) for name in names]
        os.unlink(tmp_path / names[0])

    def test_an_image_that_is_swapped_in_meanwhile_is_nothing(self, path, monkeypatch):
        put(path, b"a: 1\n")
        image = os.path.join(os.path.dirname(path), ".example.state.0123456789abcdef.tmp")
        put(image, b"a: 1\n")
        monkeypatch.setattr(time, "sleep", lambda seconds: os.unlink(image))
        assert mmapstate.check(path) == []

    def test_a_folder_that_cannot_be_listed(self, path, monkeypatch):
        put(path, b"a: 1\n")

        def refuse(folder):
            raise PermissionError(13, "Permission denied", folder)

        monkeypatch.setattr(os, "listdir", refuse)
        found = only(path)
        monkeypatch.undo()
        assert (found.severity, "cannot be listed" in found.what) == ("note", True)

    def test_errors_come_first_then_what_is_about_the_file_then_the_order_of_the_text(self, broken_path):
        put(broken_path, b"a: no\nb: yes\nc: [\n")
        os.link(broken_path, broken_path + ".other")
        assert [(found.severity, found.line) for found in mmapstate.check(broken_path)] == [
            ("error", 4), ("warning", None), ("warning", 1), ("warning", 2)
        ]  # fmt: skip


class TestLockFile:
    @pytest.fixture
    def rested(self, path):
        PersistedState(path, a=1).close()
        return path

    def test_as_it_should_be(self, rested):
        assert mmapstate.check(rested) == []

    def test_none_is_nothing(self, rested):
        os.unlink(rested + "-lock")
        assert mmapstate.check(rested) == []

    def test_a_folder_in_its_place(self, rested):
        os.unlink(rested + "-lock")
        os.mkdir(rested + "-lock")
        found = only(rested)
        assert (found.severity, found.file, found.what_to_do) == ("error", rested + "-lock", "remove it")
        os.rmdir(rested + "-lock")

    @not_on_windows("a link needs a privilege there")
    def test_a_link_in_its_place_is_not_followed(self, rested, tmp_path):
        os.unlink(rested + "-lock")
        os.symlink(tmp_path / "elsewhere", rested + "-lock")
        assert only(rested).severity == "error"
        assert not (tmp_path / "elsewhere").exists()
        os.unlink(rested + "-lock")

    @not_on_windows("modes are the folder's there")
    @pytest.mark.parametrize(("mode", "what"), [(0o644, "could hold its lock for ever"), (0o400, "cannot open it")])
    def test_its_mode(self, rested, mode, what):
        os.chmod(rested + "-lock", mode)
        found = only(rested)
        assert (found.severity, found.what_to_do) == ("warning", "set it to 600")
        assert what in found.what

    @not_on_windows("owners are the folder's there")
    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
    def test_its_owner(self, rested):
        os.chown(rested + "-lock", 65534, 65534)
        found = only(rested)
        assert (found.severity, found.file) == ("error", rested + "-lock")
        assert "belongs to user 65534, who may not write the state" in found.what
        os.chmod(rested, 0o660)
        os.chmod(rested + "-lock", 0o660)
        os.chown(rested, -1, 65534)  # now he may, by the group that both files have
        assert mmapstate.check(rested) == []
        os.chmod(rested, 0o600)
        os.chmod(rested + "-lock", 0o600)
        os.chown(rested + "-lock", 0, 65534)
        os.chown(rested, 65534, 65534)
        assert "another owner" in only(rested).what
        os.chmod(rested, 0o660)
        os.chmod(rested + "-lock", 0o660)
        assert mmapstate.check(rested) == []
        os.chown(rested + "-lock", 65534, 0)
        assert "another group" in only(rested).what
        os.chown(rested, 0, 0)
        os.chmod(rested, 0o666)
        os.chmod(rested + "-lock", 0o666)
        assert mmapstate.check(rested) == []

    @not_on_windows("a link needs a privilege there")
    def test_with_another_name(self, rested):
        os.link(rested + "-lock", rested + ".copy-of-lock")
        found = only(rested)
        assert (found.severity, found.file) == ("error", rested + "-lock")
        assert "has 2 names (hard links)" in found.what
        os.unlink(rested + ".copy-of-lock")

    @pytest.mark.parametrize("data", [b"x" * 10, b"x" * 4096], ids=["short", "foreign"])
    def test_what_is_none_of_the_librarys(self, rested, data):
        put(rested + "-lock", data)
        found = only(rested)
        assert (found.severity, "is none of this library" in found.what) == ("error", True)
        os.unlink(rested + "-lock")

    def test_cut(self, rested):
        put(rested + "-lock", b"mmapst\x00\x01")
        found = only(rested)
        assert (found.severity, "cut, or written to" in found.what) == ("warning", True)

    def test_empty_or_of_another_start_of_the_machine_is_nothing(self, rested, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(host, "boot_id", lambda: b"another boot....")
            assert mmapstate.check(rested) == []
        put(rested + "-lock", b"")
        assert mmapstate.check(rested) == []

    @not_on_windows("it has no users to become")
    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
    def test_who_may_only_read_the_state_is_told_all_the_same(self, path, tmp_path):
        data, _ = live_file(tmp_path)
        put(path, data + b"\nfoo")
        with open(path + "-lock", "wb") as file:
            file.write(bytes(4096))
        os.chmod(path + "-lock", 0o600)
        (tmp_path / "not-to-be-checked").touch()
        for folder in (tmp_path, *tmp_path.parents):
            with contextlib.suppress(PermissionError):
                os.chmod(folder, os.stat(folder).st_mode | stat.S_IXOTH)

        def look(talk):
            os.setgid(65534)
            os.setuid(65534)
            return [str(found) for found in mmapstate.check(path)]

        with Child(look) as child:
            found = child.result()
        assert len([each for each in found if "error: text that is no change" in each]) == 1


class TestPage:
    """What the programs that use a file have agreed on."""

    def test_a_change_that_its_writer_did_not_live_to_announce(self, path):
        state = PersistedState(path, a=1)
        before = probe.header_bytes(state)[probe.ANNOUNCED]
        state.a = 2
        probe.header_bytes(state)[probe.ANNOUNCED] = before
        found = only(path)
        assert (found.severity, found.offset) == ("note", probe.tail(state))
        assert "was not announced" in found.what

    def test_an_older_copy_in_its_place(self, path):
        state = PersistedState(path, a=1)
        backup = read(path)
        state.a = 2
        tail = probe.tail(state)
        with on_an_open_file(), open(path, "wb") as file:
            file.write(backup)
        found = only(path)
        assert (found.severity, found.line) == ("warning", 3)
        assert f"{tail - found.offset} bytes more" in found.what

    def test_replaced_while_it_had_changes(self, path):
        state = PersistedState(path, a=1)
        state.a = 2
        put(path + ".new", b"a: 5\n")
        with on_an_open_file():
            os.replace(path + ".new", path)
        assert "was replaced, or edited by hand, when programs had made changes" in only(path).what
        assert probe.mapped(state) is not None

    def test_edited_at_rest(self, path):
        PersistedState(path, a=1).close()
        put(path, b"a: 5\n")
        assert only(path)[0::4] == ("note", "was edited by hand since programs wrote it last")
        PersistedState(path).close()
        assert mmapstate.check(path) == []

    def test_a_program_that_died_in_a_change(self, path):
        state = PersistedState(path, a=1)
        probe.header_bytes(state)[DIRTY] = 1
        assert "a program ended in the middle of a change" in only(path).what
        assert state.a == 1

    def test_a_vacuum_that_was_killed_before_and_after_its_swap(self, path):
        state = PersistedState(path, a=1)
        probe.header(state).pending = Position(5, 0)
        assert "ended while it compacted the file" in only(path).what
        probe.header(state).pending = Position(5, probe.mapped(state).inode)
        probe.announce(state, Position(7, 7))
        assert "ended while it compacted the file" in only(path).what

    def test_a_sync_that_failed(self, path):
        state = PersistedState(path, a=1)
        probe.header_bytes(state)[SYNC_FAILED] = 1
        found = only(path)
        assert (found.severity, "syncing the file failed" in found.what) == ("warning", True)


class TestInUse:
    def test_by_two_writers_and_one_that_compacts_nothing_is_wrong_in_any_look(self, path):
        with PersistedState(path, n=0, queue=[]) as state, contextlib.ExitStack() as ended:
            writers = [ended.enter_context(Child.share(write, path)) for _ in range(2)]
            compactor = ended.enter_context(Child.share(compact, path))
            for child in (*writers, compactor):
                assert child.receive() == "ready"
            noted = 0
            for _ in range(scaled(200)):
                found = mmapstate.check(path)
                assert [each for each in found if each.severity != "note"] == [], [str(each) for each in found]
                noted += len(found)
            for child in (*writers, compactor):
                child.send("enough")
            changes = sum(child.result() for child in writers)
            vacuums = compactor.result()
            print(f"{changes} changes, {vacuums} vacuums, {noted} notes in {scaled(200)} looks")
            assert changes > scaled(200)
            assert state.n == changes

    def test_one_whose_lock_is_held_is_not_waited_for_for_ever(self, path):
        state = PersistedState(path, a=1)
        probe.header_bytes(state)[DIRTY] = 1
        with held_by_a_thread(held(path + "-lock")):
            began = time.monotonic()
            found = mmapstate.check(path)
            assert time.monotonic() - began < 5
        if not system.WINDOWS:  # who has the lock is the only one to read the page there
            (found,) = found
            assert "a program is in the middle of a change; or ended in the middle" in found.what

    def test_what_is_wrong_for_a_moment_is_not_told(self, path, monkeypatch):
        """The first look finds a torn file, the second one the whole."""
        state = PersistedState(path, a=1)
        whole = read(path)
        looks = []

        def torn(descriptor, start, stop):
            looks.append(start)
            return whole[: len(whole) // 200] if len(looks) == 2 else real(descriptor, start, stop)

        real = system.read
        monkeypatch.setattr(system, "read", torn)
        assert mmapstate.check(path) == []
        assert len(looks) == 4, "page and file, twice"
        assert state.a == 1


@contextlib.contextmanager
def held(path):
    """Have a file's lock, by a descriptor of its own."""
    descriptor = os.open(path, os.O_RDWR)
    file_lock(descriptor, EXCLUSIVE)
    try:
        yield
    finally:
        os.close(descriptor)


def write(talk, path):
    changes = 0
    with mmapstate.open(path, timeout=120) as state:
        talk.send("ready")
        while not talk.ready(0):
            with state.transaction():
                state.n += 1
                state.queue.append("x" * (changes % 50))
                if len(state.queue) > 20:
                    del state.queue[:10]
            changes += 1
    return changes


def compact(talk, path):
    vacuums = 0
    with mmapstate.open(path, timeout=120) as state:
        talk.send("ready")
        while not talk.ready(0.005):
            with contextlib.suppress(mmapstate.StateError) if sys.platform == "win32" else contextlib.nullcontext():
                state.vacuum()
                vacuums += 1
    return vacuums


class TestCommand:
    def run(self, capsys, *arguments):
        code = command.main(arguments)
        output, errors = capsys.readouterr()
        assert errors == ""
        return code, output

    def test_all_is_well(self, path, capsys):
        put(path, b"a: 1\n")
        assert self.run(capsys, "check", path) == (0, f"{path}: all is well\n")

    def test_notes_alone_are_a_success(self, path, capsys):
        put(path, JOURNAL.rstrip() + b"\n")
        code, output = self.run(capsys, "check", path)
        assert (code, output.count("\n"), ": note: " in output) == (0, 1, True)

    @pytest.mark.parametrize("data", [b"a: yes\n", b"a: [\n"])
    def test_warnings_and_errors_are_none(self, broken_path, capsys, data):
        put(broken_path, data)
        code, output = self.run(capsys, "check", broken_path)
        assert (code, output) == (1, "".join(f"{found}\n" for found in mmapstate.check(broken_path)))

    def test_nor_is_a_file_that_cannot_be_looked_at(self, tmp_path, capsys):
        code, output = self.run(capsys, "check", str(tmp_path / "none"))
        assert (code, "none: error: is not there" in output) == (1, True)

    @pytest.mark.parametrize("name", ["check", "repair"])
    def test_help_tells_an_example_and_all_exit_codes(self, capsys, name):
        with pytest.raises(SystemExit) as ended:
            command.main([name, "--help"])
        output, _ = capsys.readouterr()
        assert ended.value.code == 0
        assert f"\nexample:\n  mmapstate {name} example.state" in output
        assert "\nexit codes: 0 " in output

    @pytest.mark.parametrize("arguments", [["check"], ["repair"], ["check", "a", "b"], ["repair", "a", "b"]])
    def test_a_wrong_call_is_2(self, capsys, arguments):
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        output, errors = capsys.readouterr()
        assert (ended.value.code, output) == (2, "")
        assert errors.startswith(f"usage: mmapstate {arguments[0]} [-h] FILE\nmmapstate {arguments[0]}: ")


def test_the_steps_of_the_live_file_are_its_records(tmp_path):
    """What the tests above harm has a snapshot, a marker and a record for each step."""
    data, states = live_file(tmp_path)
    parts = content.layout(data, "a.state")
    assert len(parts.scan.payloads) == len(STEPS) == len(states) - 1
    assert parts.intact
    assert opens(data) == states[-1]
