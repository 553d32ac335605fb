"""`mmapstate.repair` makes of a broken file the best state that its bytes allow, keeps it, and invents nothing."""

import contextlib
import errno
import glob
import os
import random
import stat
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import independent_reader, probe
from support.broken_files import SEED, SNAPSHOT, harmed, live_file, put, read
from support.lives import Tripwire
from support.processes import Child, not_on_windows
from support.runs import scaled
from support.seam import between

import mmapstate
from mmapstate import PersistedState, StateError, StateFileError, command
from mmapstate.care import findings, salvage
from mmapstate.file import content, images, system
from mmapstate.file.filelock import EXCLUSIVE, file_lock
from mmapstate.file.format import MARKER_START, record
from mmapstate.file.page import HeaderPage
from mmapstate.file.sidecar import open_sidecar


def state_of(text):
    """Return the state of a mended snapshot, which must be one for any reader."""
    parts = content.layout(text, "a.state")
    assert (parts.marker, parts.unborn, parts.foreign) == (None, False, False)
    state = content.read(text, parts, "a.state", []).state
    assert not salvage.mend(text, "a.state")
    return state


def mended(data):
    """Return what bytes become: text, lines and kinds of what is told."""
    done = salvage.mend(data, "a.state")
    assert done is not None, "there is nothing to mend"
    state_of(done.text)
    return done.text, [(loss.line, loss.severity) for loss in done.losses]


PIECES = [
    SNAPSHOT, b"a: 1\n", b"b:\n  c: [\n", b"--- # mmapstate journal 1 00000000000000aa from - 00000000 x\n", b"#",
    b"\n", b'--- ["set", [], "last_id", 2] #1ddc1b43\n', b"---\n", b"\0", b"\xff", b"- 1\n", b"a: &x [*x]\n",
    b"\n---\n[", b"? [a]\n: 1\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    return live_file(tmp_path_factory.mktemp("live"))


class TestDocument:
    CASES = {
        "bracket": (b"a: 1\nb: [1\nc: 2\n", b"a: 1\nc: 2\n", [2]),
        "quote": (b"a: 1\nb: 'x\nc: 2\n", b"a: 1\nc: 2\n", [2]),
        "no colon": (b"a: 1\nb\nc: 2\n", b"a: 1\nc: 2\n", [2]),
        "tab": (b"a: 1\nb:\n\t- 1\nc: 2\n", b"a: 1\nc: 2\n", [2]),
        "several": (b"a: [\nb: 1\nc: ]\nd: }\ne: 2\n", b"b: 1\ne: 2\n", [1, 3]),
        "indent": (b"a: 1\n b: 2\nc: 3\n", b"c: 3\n", [1]),
        "not UTF-8": (b"a: 1\nb: \xff\nc: \xc3\xa9\n", b"a: 1\nc: \xc3\xa9\n", [2]),
        "control": (b"a: 1\nb: \x07\nc: 2\n", b"a: 1\nc: 2\n", [2]),
        "zeros inside": (b"a: 1\nb: 2\0\0\0\0: 4\ne: 5\n", b"a: 1\ne: 5\n", [2]),
        "torn last line": (b"a: 1\nb: 2\nc: [1,", b"a: 1\nb: 2\n", [3]),
        "torn key": (b"a: 1\nb: 2\nlast", b"a: 1\nb: 2\n", [3]),
        "only zeros": (b"\0\0\0\0\na", b"", None),
        "nested": (b"a: 1\nb:\n  x: 1\n  y: 'o\n  z: {}\nc: 3\n", b"a: 1\nb:\n  x: 1\n  z: {}\nc: 3\n", [4]),
        "deeper": (b"b:\n  x:\n    p: 1\n    q: [\n  y: 2\n", b"b:\n  x:\n    p: 1\n  y: 2\n", [4]),
        "nothing left in it": (b"a: 1\nb:\n  x: [\nc: 3\n", b"a: 1\nc: 3\n", [2]),
        "item": (b"q:\n- id: 1\n- id: 2\n  n: [\n- id: 3\nz: 5\n", b"q:\n- id: 1\n- id: 3\nz: 5\n", [3]),
        "indented items": (b"q:\n  - 1\n  - ]\n  - 3\n", b"q:\n  - 1\n  - 3\n", [3]),
        "comments": (b"# top\na: 1 # a\n# of b\nb: [\n# of c\nc: 2\n", b"# top\na: 1 # a\n# of b\n# of c\nc: 2\n", [4]),
        "entry over lines": (b"a: [1,\n2]\nb: '\n'\nc: @\n", b"a: [1,\n2]\nb: '\n'\n", [5]),
        "entry over lines that look like others": (b"a: [1,\nb: 2,\nc]\nd: 'x\ne: y'\nf: @\n",
                                                   b"a: [1,\nb: 2,\nc]\nd: 'x\ne: y'\n", [6]),
        "quote left open": (b"a: 'x\nb: 'y'\nc: it's\nd: [1\ne: [2]\n", b"b: 'y'\nc: it's\ne: [2]\n", [1, 4]),
        "windows": (b"a: 1\r\nb: [\r\nc: 2\r\n", b"a: 1\r\nc: 2\r\n", [2]),
        "BOM": (b"\xef\xbb\xbfa: 1\nb: [\n", b"a: 1\n", [2]),
        "directives": (b"%YAML 1.1\n---\na: 1\nb: [\n", b"%YAML 1.1\n---\na: 1\n", [4]),
        "complex key": (b"a: 1\n[1]: 2\n", b"a: 1\n", [2]),
        "depth": (b"a: 1\nb: " + b"[" * 101 + b"]" * 101 + b"\n", b"a: 1\n", [2]),
        "too deep to tell": (b"a: 1\nb: " + b"[" * 100_000, b"a: 1\n", [2]),
    }  # fmt: skip

    @pytest.mark.parametrize("name", CASES)
    def test_what_cannot_be_read_is_dropped_and_nothing_else(self, name):
        data, text, lines = self.CASES[name]
        if lines is None:
            with pytest.raises(StateFileError, match="nothing in it can be read"):
                salvage.mend(data, "a.state")
            return
        assert mended(data) == (text, [(line, "warning") for line in lines])

    OTHERS = {
        "alias": (b"a: &x [1]\nb: *x\nc: 3\n", {"a": [1], "b": [1], "c": 3}, "copy of what it stands for"),
        "merge": (b"a: &b {x: 1, y: 2}\nc:\n  <<: *b\n  y: 3\n", {"a": {"x": 1, "y": 2}, "c": {"y": 3, "x": 1}}, "<<"),
        "several merged": (b"a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n",
                           {"a": {"x": 1}, "b": {"x": 2, "y": 2}, "c": {"x": 1, "y": 2}}, "<<"),
        "twice": (b"a: 1\nb: 2\na: 3\n", {"b": 2, "a": 3}, "the key 'a' stands twice"),
        "twice, and a line that cannot be read": (b"a: 1\na: 3\nb: [\n", {"a": 3}, "the key 'a' stands twice"),
        "tag": (b"a: !secret x\nb: !!python/tuple [1]\n", {"a": "x", "b": [1]}, "is left out"),
        "no date": (b"a: 2001-13-45\n", {"a": "2001-13-45"}, "it is text now"),
        "a block without an end": (b"a: &x 1\nb: *x\nc: |\n  x", {"a": 1, "b": 1, "c": "x"}, "copy of"),
    }  # fmt: skip

    @pytest.mark.parametrize("name", OTHERS)
    def test_what_other_programs_would_have_read_is_kept_as_they_read_it(self, name):
        data, state, what = self.OTHERS[name]
        done = salvage.mend(data, "a.state")
        assert state_of(done.text) == state
        assert what in " ".join(loss.what for loss in done.losses)

    def test_each_is_told_with_its_line_and_whether_something_is_lost(self):
        told = mended(b"a: &a 1\nb: *a\na: 2\nc: !t x\nd: 2001-99-99\ne: *a\n")[1]
        assert told == [(2, "note"), (3, "warning"), (4, "warning"), (5, "warning"), (6, "note")]
        told = mended(b"a: 1\nx: [\nb: &a 1\na: 2\nc: !t x\n\nd:\n  q: 2001-99-99\n")[1]
        assert told == [(2, "warning"), (4, "warning"), (5, "warning"), (8, "warning")]

    SLOW = {
        "brackets": b"x[ y: [\n" * 20_000,
        "letters and digits": b"0123456789abcdef" * 30_000,
        "names": b"a: 0123456789abcdef --- [\n" * 20_000,
        "binary": random.Random(1).randbytes(300_000),
        "zeros": b"a: 1\n" + b"\0" * 1_000_000 + b"\nb: 2\n",
        "deep": b"".join(b" " * level + b"k:\n" for level in range(300)) + b"x: [",
        "list": b"q:\n" + b"- a\n- [\n" * 10_000,
        "keys": b"a: 1\n" * 20_000 + b"b: [\n",
    }

    @pytest.mark.parametrize("name", SLOW)
    def test_large_ones_take_no_more_than_seconds(self, name):
        began = time.process_time()
        with contextlib.suppress(StateFileError):
            salvage.mend(self.SLOW[name], "a.state")
        assert time.process_time() - began < 20

    STREAMS = (
        (b"a: 1\n---\nb: 2\n", 2),
        (b"kind: A\nmeta: {n: 1}\n---\n# b\nkind: B\n---\nkind: C\n", 3),
        (b"---\n---\na: 1\n", 2),
        (b"\xef\xbb\xbfa: 1\n...\n--- {b: 2}\n", 3),
        (b"a: 1\nx: [\n---\nb: 2\n", 3),
        (b"a: &x 1\nc: *x\n---\na: 2\n", 3),
    )

    @pytest.mark.parametrize(("data", "line"), STREAMS, ids=range(len(STREAMS)))
    def test_a_stream_of_documents_is_refused_and_none_is_merged_into_another(self, data, line):
        with pytest.raises(StateFileError, match=rf"a\.state, line {line}\D.*this is a stream of several documents"):
            salvage.mend(data, "a.state")

    @pytest.mark.parametrize("data", [data for data, _ in STREAMS[:4]], ids=range(4))
    def test_a_look_at_a_stream_sends_nobody_to_a_repair_that_refuses_it(self, data):
        (found,) = findings.examine(data, "a.state").findings
        assert "stream of several documents" in str(found)
        assert "mmapstate repair" not in str(found)

    def test_a_second_document_in_which_there_is_nothing_goes(self):
        assert mended(b"a: 1\n---\n") == (b"a: 1\n", [(2, "note")])
        assert mended(b"# mine\na: 1\n--- # end\n# of it\n\n")[0].startswith(b"# mine\na: 1\n")

    def test_aliases_of_aliases_without_end_are_dropped(self):
        lines = [b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"]
        lines += [b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 10)) for c in range(98, 110)]
        text, told = mended(b"".join(lines))
        assert state_of(text) == {"a": [1] * 10}
        assert told == [(2, "warning")]

    def test_aliases_of_aliases_that_go_too_deep_are_dropped(self):
        lines = [b"x0: &x0 [1]\n", *(b"x%d: &x%d [*x%d]\n" % (each, each, each - 1) for each in range(1, 150))]
        text, told = mended(b"".join(lines))
        assert state_of(text) == {"x0": [1]}
        assert told == [(2, "warning")]

    def test_a_container_that_is_a_key_by_an_alias_is_dropped(self):
        assert mended(b"a: &x [1]\n*x : 2\nb: 3\n") == (b"a: &x [1]\nb: 3\n", [(2, "warning")])

    BLANK = (b"", b"# nothing\n", b"\n", b"a: 1\n", b"a: yes\n", b"a: 1", SNAPSHOT)

    @pytest.mark.parametrize("data", BLANK, ids=range(len(BLANK)))
    def test_what_can_be_opened_is_not_touched(self, data):
        assert salvage.mend(data, "a.state") is None

    NO_STATE = (b"- 1\n- 2\n", b"x", b"{a: 1, b: [}", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"hello world\nthis is text\n")

    @pytest.mark.parametrize("data", NO_STATE, ids=range(len(NO_STATE)))
    def test_what_was_never_a_state_is_refused(self, data):
        with pytest.raises(
            StateFileError, match=r"a\.state: nothing in it can be read as a state; it is left as it is"
        ):
            salvage.mend(data, "a.state")

    def test_nothing_but_zeros_is_an_empty_state(self):
        assert mended(b"\0" * 512) == (b"", [(1, "warning")])

    def test_comments_that_are_lost_with_the_layout_are_told_of(self):
        done = salvage.mend(b"# mine\na: &x 1\nb: *x\n", "a.state")
        assert done.text == b"a: 1\nb: 1\n"
        assert [loss.severity for loss in done.losses] == ["note", "note"]
        assert "comments in it are in the copy alone" in done.losses[0].what

    def test_what_is_dropped_is_told_by_line_and_not_by_its_text(self):
        (loss,) = salvage.mend(b"a: 1\npassword: [hunter2\n", "a.state").losses
        assert str(loss).startswith("a.state, line 2, offset 5: warning: this line cannot be read, and is dropped")
        assert "hunter2" not in str(loss)


class TestJournal:
    def test_a_damaged_change_and_all_behind_it_are_dropped_and_counted(self, live):
        data, states = live
        damaged = data.replace(b'["hosts", "barn"]', b'["hosts", "born"]')
        done = salvage.mend(damaged, "a.state")
        assert state_of(done.text) == states[2]
        (loss,) = done.losses
        assert loss.offset == damaged.rindex(b"\n", 0, damaged.index(b"born")) + 1
        assert loss.what.startswith("2 lines of changes from there on are dropped")

    def test_comments_and_layout_stay(self, live):
        data, _ = live
        text, _ = mended(data.replace(b'["hosts", "barn"]', b'["hosts", "born"]'))
        assert text == SNAPSHOT.replace(b"n: 0", b"n: 1").replace(b"- b\n", "- b\n- é日\n".encode())

    def test_text_behind_it_costs_no_change(self, live):
        data, states = live
        done = salvage.mend(data + b"\nforeign: text\n", "a.state")
        assert state_of(done.text) == states[-1]
        assert [loss.what for loss in done.losses] == [
            "13 bytes of text behind the last change are dropped: they are no change"
        ]

    MARKERS = (
        lambda line: b"x" + line[1:],
        lambda line: line.replace(b"mmapstate", b"mmaqstate"),
        lambda line: line.replace(b"journal 1 ", b"journal \xff "),
        lambda line: line.replace(b" from ", b" frim "),
        lambda line: line[:30] + bytes((line[30] ^ 1,)) + line[31:],
        lambda line: line[:30] + b"?" + line[31:],
        lambda line: line.replace(b"\n", b"x"),
        lambda line: line[:-30],
        lambda line: line[:45] + b"\0" * 20 + line[65:],
    )

    @pytest.mark.parametrize("harm", MARKERS, ids=range(len(MARKERS)))
    def test_the_line_that_begins_it_is_damaged_and_costs_no_change(self, live, harm):
        data, states = live
        start = data.index(MARKER_START)
        end = data.index(b"\n", start) + 1
        done = salvage.mend(data[:start] + harm(data[start:end]) + data[end:], "a.state")
        assert state_of(done.text) == states[-1]
        assert [loss.severity for loss in done.losses] == ["note"]

    def test_the_line_end_before_it_is_damaged_and_costs_nothing(self, live):
        data, states = live
        start = data.index(MARKER_START)
        done = salvage.mend(data[: start - 1] + b"\x0b" + data[start:], "a.state")
        assert state_of(done.text) == states[-1]

    def test_its_name_is_gone_and_so_are_its_changes(self, live):
        data, states = live
        start = data.index(MARKER_START)
        done = salvage.mend(data[: start + 26] + b"\0" * 16 + data[start + 42 :], "a.state")
        assert state_of(done.text) == states[0]
        assert "and with it 4 lines of changes" in done.losses[0].what

    def test_an_entry_of_the_document_is_lost_and_changes_of_others_are_not(self, live):
        data, states = live
        done = salvage.mend(data.replace(b"queue:\n", b"queue:[\n"), "a.state")
        expected = {key: value for key, value in states[-1].items() if key != "queue"}
        assert state_of(done.text) == expected
        left_out = [loss for loss in done.losses if "does not fit what is left, and is left out" in loss.what]
        assert [loss.line for loss in left_out] == [
            data[: data.index(text)].count(b"\n") + 1 for text in (b'["insert", ["queue"]', b'["delete", ["queue"]')
        ]

    def test_items_of_a_list_are_not_dropped_one_by_one_as_changes_would_go_to_others(self, live):
        data, states = live
        done = salvage.mend(data.replace(b"- a\n", b"- [\n"), "a.state")
        assert state_of(done.text) == {key: value for key, value in states[-1].items() if key != "queue"}

    def test_changes_that_do_not_fit_are_told_in_runs(self):
        data, crc = b"a: 1\nq: [\n" + mmapstate.file.format.marker(5, None, 0), content.seed(5)
        for payload in [b'["insert", ["q"], 0, 1]'] * 3 + [b'["set", [], "a", 2]', b'["delete", ["q"], 0]']:
            text, crc = record(payload, crc)
            data += text
        told = [(loss.line, loss.what.partition(" of")[0]) for loss in salvage.mend(data + b"#", "a.state").losses]
        assert told == [(2, "this line cannot be read, and is dropped"), (4, "changes 1 to 3"), (8, "change 5")]

    def test_a_transaction_that_does_not_fit_is_left_out_as_a_whole(self):
        snapshot = b"a: 1\nb: {x: 1}\n"
        text, crc = record(b'[["set", [], "a", 2], ["set", ["b"], "x", 2], ["set", ["gone"], "x", 2]]', content.seed(5))
        text += record(b'["set", [], "a", 3]', crc)[0]
        data = snapshot + mmapstate.file.format.marker(5, None, 0) + text + b"#"
        assert state_of(salvage.mend(data, "a.state").text) == {"a": 3, "b": {"x": 1}}

    def test_of_an_unknown_version_it_is_refused(self):
        with pytest.raises(StateFileError, match="version 2"):
            salvage.mend(b"a: 1\n--- # mmapstate journal 2 whatever\n", "a.state")

    def test_whatever_is_harmed_a_prefix_of_the_commits_is_left(self, live):
        """Of the snapshot, too, if it is intact; what is harmed there is lost alone."""
        print(f"MMAPSTATE_TEST_SEED={SEED}")
        data, states = live
        marker = data.index(MARKER_START)
        refused, prefixes = [], 0
        for number, (name, harm) in enumerate(harmed(data, share=10 // scaled(10))):
            try:
                done = salvage.mend(harm, "a.state")
            except StateFileError as error:
                refused.append((name, str(error)))
                continue
            if done is None:
                continue
            state = state_of(done.text)
            if number % 10 == 0:  # it is slow
                assert independent_reader.read_state(done.text).keys() == state.keys()
            assert done.losses, name
            if harm.startswith(data[: marker + len(MARKER_START)]):
                assert state in states, name
                prefixes += 1
                first = next((at for at, byte in enumerate(harm) if byte != data[at]), len(harm))
                whole = data[marker:first].count(b"\n--- ") - 1  # changes that end before the harm
                assert states.index(state) >= min(max(whole, 0), len(states) - 1), name
        assert prefixes > scaled(1000)
        for name, error in refused:
            assert "of version" in error or "nothing in it can be read" in error, (name, error)
        assert len([name for name, error in refused if "of version" in error]) <= 8

    @given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=9)).map(b"".join))
    @settings(max_examples=scaled(1000), deadline=None)
    def test_whatever_the_bytes_are_it_is_mended_or_refused(self, data):
        try:
            done = salvage.mend(data, "a.state")
        except StateFileError:
            return
        if done is not None:
            state_of(done.text)
            assert done.losses


def copies(path):
    return sorted(glob.glob(path + ".damaged-*"))


@pytest.fixture
def damaged(path, tmp_path):
    """Leave a file at `path` of which two of four changes are good; return its bytes and the good state."""
    data, states = live_file(tmp_path)
    data = data.replace(b'["hosts", "barn"]', b'["hosts", "born"]')
    put(path, data)
    return data, states[2]


class TestFile:
    def test_it_opens_and_the_copy_is_the_file_as_it_was(self, path, damaged):
        data, good = damaged
        done = mmapstate.repair(path)
        assert copies(path) == [done.copy]
        assert read(done.copy) == data
        assert done.lost_something
        assert independent_reader.read_file(path) == good
        with PersistedState(path) as state:
            assert state == good
        assert mmapstate.repair(path) == (None, [])
        assert [found.severity for found in mmapstate.check(path)] == ["note"], "the copy alone is told of"

    def test_one_that_is_fine_is_not_touched_and_nothing_is_created(self, path, tmp_path):
        put(path, b"a: yes\n")
        before = os.stat(path)
        assert mmapstate.repair(path) == (None, [])
        assert os.listdir(tmp_path) == ["example.state"]
        assert (os.stat(path).st_mtime_ns, os.stat(path).st_ino) == (before.st_mtime_ns, before.st_ino)

    def test_one_in_use_that_is_fine_is_not_touched_either(self, path):
        state = PersistedState(path, a=1)
        before = read(path)
        assert mmapstate.repair(path) == (None, [])
        assert read(path) == before
        assert state.a == 1

    def test_one_in_use_is_refused_and_nothing_is_changed(self, broken_path):
        state = PersistedState(broken_path, a=1)
        with open(broken_path, "ab") as file:
            file.write(b"\nb: 2\n")
        before = read(broken_path)
        with pytest.raises(StateError, match="programs have the state open; stop them, then repair it"):
            mmapstate.repair(broken_path)
        assert (read(broken_path), copies(broken_path)) == (before, [])
        state.close()
        mmapstate.repair(broken_path)
        with PersistedState(broken_path) as state:
            assert state == {"a": 1}

    def test_one_whose_lock_is_held_is_a_timeout(self, path, damaged):
        held = open_sidecar(path + "-lock")
        file_lock(held, EXCLUSIVE)
        with pytest.raises(mmapstate.LockTimeout):
            mmapstate.repair(path, timeout=0.05)
        system.close(held)
        assert (read(path), copies(path)) == (damaged[0], [])
        mmapstate.repair(path)

    def test_two_repairs_in_a_second_keep_two_copies(self, path, monkeypatch):
        monkeypatch.setattr(time, "strftime", lambda form: "20260101T101010")
        for data in (b"a: 1\nb: [\n", b"a: 1\nc: [\n", b"a: 1\nd: [\n"):
            put(path, data)
            assert read(mmapstate.repair(path).copy) == data
        assert [copy.removeprefix(path) for copy in copies(path)] == [
            ".damaged-20260101T101010", ".damaged-20260101T101010-1", ".damaged-20260101T101010-2"
        ]  # fmt: skip
        assert len(mmapstate.check(path)) == 3

    def test_one_that_is_no_state_at_all_is_left_as_it_is(self, broken_path):
        put(broken_path, b"- 1\n")
        with pytest.raises(StateFileError, match="nothing in it can be read"):
            mmapstate.repair(broken_path)
        assert (read(broken_path), copies(broken_path)) == (b"- 1\n", [])

    def test_one_that_is_not_there_is_an_error_and_is_not_made(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            mmapstate.repair(tmp_path / "a.state")
        assert os.listdir(tmp_path) == []

    def test_a_path_of_bytes_is_a_type_error(self):
        with pytest.raises(TypeError, match="must be text"):
            mmapstate.repair(b"a.state")

    @not_on_windows("modes are the folder's there")
    def test_mode_and_owner_are_those_of_the_file(self, path, damaged):
        os.chmod(path, 0o640)
        done = mmapstate.repair(path)
        for name in (path, done.copy):
            assert stat.S_IMODE(os.stat(name).st_mode) == 0o640
            assert os.stat(name).st_uid == os.geteuid()

    @not_on_windows("a link needs a privilege there")
    def test_a_symbolic_link_stays_one(self, tmp_path, path, damaged):
        os.symlink(path, tmp_path / "link")
        mmapstate.repair(tmp_path / "link")
        assert os.path.islink(tmp_path / "link")
        assert independent_reader.read_file(path) == damaged[1]

    def test_what_another_program_has_repaired_meanwhile_is_left_alone(self, path, damaged, monkeypatch):
        """Between the first look and the lock."""

        def repaired(*arguments):
            put(path, b"a: 1\n")

        monkeypatch.setattr(probe.REFUSE_IN_USE, repaired)
        assert mmapstate.repair(path) == (None, [])
        assert read(path) == b"a: 1\n"

    def test_a_reader_follows(self, path, damaged):
        put(path + ".broken", damaged[0])
        put(path, b"n: 5\n")
        reader = mmapstate.open(path, readonly=True)
        assert reader.n == 5
        os.replace(path + ".broken", path)
        mmapstate.repair(path)
        probe.check_next(reader)
        assert reader == damaged[1]

    @not_on_windows("a file that is open is not replaced there")
    def test_a_program_that_was_not_seen_follows_and_keeps_what_it_had(self, path, monkeypatch):
        """It has the old file mapped, and knows more than is left in it."""
        state = PersistedState(path, n=0)
        state.n = 1

        def follow(talk):
            state.n = 2
            talk.send(state.n)
            talk.receive()
            probe.check_next(state)
            return state.increment("n", by=10)

        with Child.share(follow) as child:
            assert child.receive() == 2
            state.close()
            data = read(path)
            with open(path, "r+b") as file:
                file.write(data.replace(b'"n", 2', b'"n", 3'))
            monkeypatch.setattr(probe.REFUSE_IN_USE, lambda *arguments: None)
            mmapstate.repair(path)
            child.send("now")
            assert child.result() == 11
        (kept,) = glob.glob(path + ".superseded-*")
        assert independent_reader.read_file(kept) == {"n": 2}
        assert independent_reader.read_file(path) == {"n": 11}

    def test_at_the_swap_the_page_says_what_is_under_way(self, path, damaged, monkeypatch):
        """So that who gets the lock next takes the file for ours, and a program that was not seen looks at once."""
        pages = []

        def replace(source, target, real=system.replace):
            if target == path:
                page = HeaderPage.of_bytes(read(path + "-lock")) if not system.WINDOWS else None
                pages.append((page, system.path_image(source).inode, source))
            real(source, target)

        def edited(*_):
            raise AssertionError("taken for an edit by hand")

        monkeypatch.setattr(system, "replace", replace)
        monkeypatch.setattr(probe.ACCEPT_EDIT, edited)
        mmapstate.repair(path)
        ((page, inode, source),) = pages
        if page is not None:  # who has the lock is the only one to read the page there
            assert page.dirty
            assert page.pending.tail == inode
            assert source == images.temporary_path(path, page.pending.generation)

    def test_a_new_generation_stands_in_the_page(self, path):
        state = PersistedState(path, n=0)
        state.n = 1
        before = probe.header(state).position
        with open(path, "ab") as file:
            file.write(b"\nfoo")
        state.close()
        mmapstate.repair(path)
        with PersistedState(path) as state:
            page = probe.header(state)
            assert page.position.generation not in (0, before.generation)
            assert not page.dirty
            assert page.pending == (0, 0)


def repair_and_die(talk, path, at, torn):
    """Repair the file, and die at the `at`-th step of it."""
    tripwire = Tripwire(at, torn)
    with between(tripwire.handle):
        mmapstate.repair(path)
    return tripwire.left


@pytest.mark.family("recovery")
class TestInterrupted:
    @pytest.mark.parametrize("torn", [False, True])
    def test_a_kill_at_every_step_loses_nothing_and_a_second_try_does_it(self, path, tmp_path, torn):
        data, states = live_file(tmp_path)
        data = data.replace(b'["hosts", "barn"]', b'["hosts", "born"]')
        stride = 1 if hasattr(os, "fork") else 7
        at = 1 - stride
        while True:
            at += stride
            for name in os.listdir(tmp_path):
                os.unlink(tmp_path / name)
            put(path, data)
            with Child(repair_and_die, path, at, torn) as child:
                messages = list(child.drain())
                child.wait()
            if not child.was_killed():
                assert messages[-1][0] == "result", messages[-1]
                break
            found = read(path)
            assert found == data or data in [read(copy) for copy in copies(path)], at
            if found != data:
                with mmapstate.open(path, readonly=True) as state:
                    assert state == states[2], at
            mmapstate.repair(path)
            for _ in range(2):
                with PersistedState(path) as state:
                    assert state == states[2], at
            probe.close_all()
            assert data in [read(copy) for copy in copies(path)], at
            for left in glob.glob(os.path.join(tmp_path, ".*.tmp")):  # of a copy: the next start of the machine sweeps
                os.unlink(left)
        assert at > 20

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    @pytest.mark.parametrize(
        "call",
        [
            "open",
            "write",
            "replace",
            pytest.param("fsync", marks=not_on_windows("a folder is not synced there")),
            pytest.param("fchmod", marks=not_on_windows("there are no modes")),
        ],
    )
    def test_a_call_that_fails_leaves_the_file_or_the_state_and_a_second_try_does_it(self, path, damaged, call, number):
        data, good = damaged
        failed = []
        for nth in range(1, 30):
            put(path, data)
            left = nth

            def fail(name, arguments, do):
                nonlocal left
                left -= name.removeprefix("p") == call
                if left == 0:
                    left = -1
                    raise OSError(number, os.strerror(number))
                return do(*arguments)

            try:
                with between(fail):
                    mmapstate.repair(path)
            except OSError as error:
                failed.append(error.errno)
            if left > 0:
                break
            assert read(path) == data or (independent_reader.read_file(path) == good and copies(path)), nth
            mmapstate.repair(path)
            with PersistedState(path) as state:
                assert state == good
            assert glob.glob(os.path.join(os.path.dirname(path), ".*.tmp")) == []
            for copy in copies(path):
                os.unlink(copy)
        assert set(failed) == {number}


class TestCommand:
    def test_nothing_to_repair_is_0(self, path, capsys):
        put(path, b"a: 1\n")
        assert command.main(["repair", path]) == 0
        assert capsys.readouterr().out == f"{path}: there is nothing to repair\n"

    def test_a_repair_without_a_loss_is_0(self, path, capsys):
        put(path, b"a: 1\n---\n")
        assert command.main(["repair", path]) == 0
        output = capsys.readouterr().out.splitlines()
        assert "note: a second document begins" in output[0]
        assert output[1] == f"{path}: repaired; as it was before it is in {copies(path)[0]}"

    def test_a_repair_with_a_loss_is_3(self, path, capsys):
        put(path, b"a: 1\nb: [\n")
        assert command.main(["repair", path]) == 3
        assert "line 2, offset 5: warning: this line cannot be read" in capsys.readouterr().out

    @pytest.mark.parametrize("data", [b"- 1\n", None], ids=["no state", "not there"])
    def test_one_that_cannot_be_is_1(self, broken_path, capsys, data):
        if data is not None:
            put(broken_path, data)
        assert command.main(["repair", broken_path]) == 1
        output, errors = capsys.readouterr()
        assert output.strip() == ""
        assert errors.startswith("mmapstate: ")
        assert "example.state" in errors


class Counted(bytes):
    """Bytes that count how many of them are looked over, by what looks for something in them."""

    looked = 0

    def count(self, sub, start=0, stop=None):
        stop = len(self) if stop is None else stop
        Counted.looked += max(stop - start, 0)
        return super().count(sub, start, stop)

    def find(self, sub, start=0, stop=None):
        found = super().find(sub, start, len(self) if stop is None else stop)
        Counted.looked += (found if found >= 0 else len(self)) - start
        return found


def work(function, data):
    """Return how many calls `function` makes, and how many bytes of its `data` it looks over to find something."""
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    Counted.looked = 0
    sys.setprofile(count)
    try:
        with contextlib.suppress(StateFileError):
            function(Counted(data), "a.state")
    finally:
        sys.setprofile(None)
    return calls, Counted.looked


@pytest.mark.family("fuzz")
class TestWorkGrowsWithTheFile:
    """Four times the file is four times the work, for `check` and for `repair`, however hostile the file is."""

    MADE = {
        "words": lambda count: b"".join(b"k%d: yes\n" % number for number in range(count)),
        "words in a list": lambda count: b"a:\n" + b"- on\n" * count,
        "words of a broken file": lambda count: b"".join(b"k%d: no\n" % number for number in range(count)) + b"x: [\n",
        "a key again and again": lambda count: b"a: 1\n" * count,
        "a key again and again, and a broken line": lambda count: b"a: 1\n" * count + b"x: [\n",
        "keys that are equal": lambda count: b"".join(b"%d: 1\n%d.0: 1\n" % (each, each) for each in range(count // 2)),
        "no dates": lambda count: b"".join(b"k%d: 2001-99-99\n" % number for number in range(count)),
    }

    @pytest.mark.parametrize("made", MADE)
    @pytest.mark.parametrize("function", [findings.examine, salvage.mend], ids=["check", "repair"])
    def test_and_no_more(self, function, made):
        make = self.MADE[made]
        small, large = (work(function, make(count)) for count in (500, 2000))
        assert large[0] < 5 * small[0] + 1000
        assert large[1] < 5 * small[1] + 5 * len(make(2000))

    @pytest.mark.parametrize("function", [findings.examine, salvage.mend], ids=["check", "repair"])
    def test_numbers_of_one_hash_are_refused_before_a_mapping_of_them_grows_large(self, function):
        """Each is compared with all before it: 120 KB of them took 7 s to repair, and as long to open."""
        modulus = sys.hash_info.modulus
        data = b"".join(b"%d: 1\n" % (number * modulus) for number in range(1, 2000))
        try:
            (found,) = function(data, "a.state").findings
            told = found.what
        except StateFileError as error:
            told = str(error)
        assert "more than 100 keys of one mapping are numbers with the same hash" in told
        few = b"".join(b"%d: 1\n" % (number * modulus) for number in range(1, 101))
        assert findings.examine(few, "a.state").findings == []
