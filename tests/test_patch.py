"""What people wrote stays: comments, order, layout. A text is changed only where the state has changed."""

import logging
import os
import pathlib
import random
import shutil

import pytest
import yaml
from commented import Container, all_entries, change, document, sure_containers
from conftest import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from independent_reader import read_file

import mmapstate
from mmapstate import PersistedState, StateFileError, snapshot
from mmapstate.patch import patch
from mmapstate.values import same


def sure_comments(root):
    """Return the comments that must still be there."""
    found = []
    for container in sure_containers(root):
        found += container.apart
        for entry in container.entries:
            found += entry.comments
    return found


def gone_comments(entry):
    """Return the comments of an entry that was removed, and of all that was in it."""
    found = list(entry.comments)
    if isinstance(entry.node, Container):
        found += entry.node.apart
        for container, inner in all_entries(entry.node):
            found += [*inner.comments, *(inner.node.apart if isinstance(inner.node, Container) else ())]
            del container
    return found


@settings(deadline=None, max_examples=scaled(2000), suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_random_changes_of_random_commented_documents(seed, changes):
    """What a comment belongs to is said in `commented`, and in `mmapstate.places`.

    The result holds the state. No comment is lost but those of what was removed or replaced, and these are. Lines in
    which nothing has changed are there as they were, in their order; what was moved has its lines together.
    """
    writer, root, lines, text = document(seed)
    before = root.plain()
    assert same(snapshot.parse(text, ""), before), text.decode()
    assert patch(text, before) == text
    dice = random.Random(seed)
    gone = [each for _ in range(changes) for each in change(writer, root, dice)]
    after = root.plain()
    patched = patch(text, after)
    assert same(snapshot.parse(patched, ""), after)
    left = patched.decode()
    story = f"\n{text.decode()}\n=====\n{left}\n====={before}\n{after}"
    sure = set(sure_containers(root))
    for comment in sure_comments(root):
        assert left.count(comment) == 1, f"lost, or twice: {comment}{story}"
    for container, entry in gone:
        if container in sure and (container.kind is dict or container.changes == 1):
            for comment in gone_comments(entry):
                assert comment not in left, f"left behind: {comment}{story}"
    for end in ("\r\n", "\r"):
        if end.encode() in text:
            assert not {"\r", "\n"} & set(left.replace(end, "")), f"another line end: {story}"
            break
    sure_ones = {entry for container in sure for entry in container.entries}
    untouched = [
        line
        for line in lines
        if line.owners
        and line.owners <= sure_ones
        and (line.comment or not any(owner.touched for owner in line.owners))
    ]
    has_block = any(sign in text.decode() for sign in "|>")  # beside which a comment may have to begin elsewhere
    strip = str.strip if has_block else str
    there = [strip(line) for line in left.splitlines()]
    for line in untouched:
        assert strip(line.text) in there, f"not there: {line.text}{story}"
    if not any(entry.is_moved for _, entry in all_entries(root)):
        found = iter(there)
        for line in untouched:
            assert any(strip(line.text) == other for other in found), f"not in order: {line.text}{story}"


WRITTEN = pathlib.Path(__file__).parent / "data" / "written"


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (1, 1))


def read(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("name", sorted(path.stem for path in WRITTEN.glob("*.edit")))
def test_files_as_people_write_them(path, name):
    """NAME.yaml, changed by the statements in NAME.edit, is NAME.after to the last byte; all three are to be read."""
    put(path, (WRITTEN / f"{name}.yaml").read_bytes())
    with mmapstate.open(path) as state:
        exec((WRITTEN / f"{name}.edit").read_text(encoding="utf-8"), {"STATE": state})
        expected = state.plain()
    assert read(path) == (WRITTEN / f"{name}.after").read_bytes()
    assert yaml.safe_load(read(path)) is not None
    with mmapstate.open(path) as state:
        assert same(state.plain(), expected)


def test_a_file_with_anchors_is_refused_with_line_and_column_and_stays_as_it_is(broken_path):
    shutil.copyfile(WRITTEN / "anchors.yaml", broken_path)
    os.utime(broken_path, (1, 1))
    for options in ({}, {"readonly": True}):
        with pytest.raises(StateFileError, match=r"line 5, column 3.*merge keys"):
            mmapstate.open(broken_path, **options)
    assert read(broken_path) == (WRITTEN / "anchors.yaml").read_bytes()


class TestVacuums:
    TEXT = b"# mine\nn: 0x0A  # ten\n\n# a list\nqueue: [a,  b]\n"

    def test_each_keeps_the_comments_that_of_a_full_region_too(self, path, monkeypatch):
        monkeypatch.setattr(mmapstate.beside, "GROWING_REGION", 0)
        put(path, self.TEXT)
        with PersistedState(path) as state:
            for number in range(2000):
                state.n = number
            assert read(path).startswith(b"# mine\nn: ")
            state.vacuum()
            assert read(path) == self.TEXT.replace(b"0x0A", b"1999")
            state.queue.append("c")
        assert read(path) == self.TEXT.replace(b"0x0A", b"1999").replace(b"[a,  b]", b"[a,  b, c]")

    def test_values_set_to_what_they_were_change_no_byte(self, path):
        put(path, self.TEXT)
        with PersistedState(path) as state:
            state.n = 5
            state.n = 10
            state.queue.append("c")
            del state.queue[2]
        assert read(path) == self.TEXT

    def test_what_others_wrote_and_a_running_program_adopted_is_kept_as_well(self, path):
        PersistedState(path, n=1).close()
        with PersistedState(path) as state:
            put(path, b"# by hand\nn: 2  # two\n")
            state._store.due = 0.0
            assert state.n == 2
            state.n += 1
        assert read(path) == b"# by hand\nn: 3  # two\n"

    def test_another_process_goes_on_with_the_comments(self, path):
        put(path, self.TEXT)
        first = PersistedState(path)
        first.n = 1
        first.close()
        with mmapstate.open(path) as state:
            state.n += 1
        assert read(path) == self.TEXT.replace(b"0x0A", b"2")

    def test_a_file_that_is_what_a_dump_gives_is_dumped_without_a_look_at_its_text(self, path, monkeypatch):
        with PersistedState(path, n=1, queue=["a"]) as state:
            state.vacuum()
            monkeypatch.setattr(mmapstate.vacuum.patch, "patch", lambda *_: 1 / 0)
            state.n = 2
            state.vacuum()
            state.n = 3
        assert read(path) == b"'n': 3\nqueue:\n- a\n"

    def test_a_text_that_cannot_be_changed_in_part_is_written_anew_with_a_message(self, path, monkeypatch, caplog):
        caplog.set_level(logging.DEBUG, "mmapstate")
        put(path, self.TEXT)
        monkeypatch.setattr(snapshot, "compose", lambda _: None)  # as if it were blank: what comes of it is wrong
        with PersistedState(path) as state:
            state.n = 1
        assert read(path) == b"'n': 1\nqueue:\n- a\n- b\n"
        assert "the whole text is written anew, without its comments: StateFileError: " in caplog.text
        assert "stands twice" in caplog.text

    def test_the_end_that_the_last_line_had_not_comes_only_with_a_journal(self, path, monkeypatch):
        monkeypatch.setattr(mmapstate.beside, "GROWING_REGION", 0)
        put(path, b"a: 1\n# c\nn: 1")
        with PersistedState(path) as state:
            state.n = 2
            assert read(path).startswith(b"a: 1\n# c\nn: 1\n---")
            with mmapstate.open(path, readonly=True) as reader:
                assert reader.n == 2
            for number in range(2000):  # more than a region holds: it is compacted to one with a larger region
                state.n = number
            assert b"\n--- # mmapstate journal" in read(path)
            assert read_file(path) == {"a": 1, "n": 1999}
        assert read(path) == b"a: 1\n# c\nn: 1999"


@pytest.mark.parametrize(
    ("text", "state", "expected"),
    [
        ("", {"a": 1}, "a: 1\n"),
        ("# c\n", {"a": 1}, "# c\na: 1\n"),
        ("---\n", {"a": 1}, "---\na: 1\n"),
        ("# c\n{}\n# d\n", {"a": 1}, "# c\na: 1\n# d\n"),
        ("{a: 1}  # c\n", {}, "{}  # c\n"),
        ("# c\n\na: 1\n# d\n", {}, "# c\n\n# d\n"),
        ("a: 1", {"a": 1, "b": 2}, "a: 1\nb: 2"),
        ("a:\n- 1\nb: 2\n", {"b": 2, "a": [1]}, "b: 2\na:\n- 1\n"),
        ("? a\n: 1\n# c\nb: 1\n", {"a": 2, "b": 1}, "? a\n: 2\n# c\nb: 1\n"),
        ("# s\n? b\n# t\nc: 1\n", {"b": None, "c": 2}, "# s\n? b\n# t\nc: 2\n"),
        ("# h\nnull # c\n", {"a": 1}, "# h\na: 1 # c\n"),
        ("n: 1 # n\nt: |+ # t\n  x\n\n", {"n": 2, "t": "x\n\n"}, "n: 2 # n\nt: |+ # t\n  x\n\n"),
        ("b: 1 # b\n  # more\n", {"b": "x\ny"}, 'b: "x\\ny" # b\n  # more\n'),
        ("t: # t\n  # why\n  x # x\n", {"t": [1]}, "t: # t\n  # why\n  # x\n- 1\n"),
        ("x: [\n  1, # a\n  2\n]\n", {"x": [1, 3, 4]}, "x: [\n  1, # a\n  3,\n  4\n]\n"),
        ("\ufeffa: 1  # c\n", {"a": 2}, "\ufeffa: 2  # c\n"),
        ("a: &x 1  # c\nb: !!str 2\n", {"a": 1, "b": "3"}, "a: &x 1  # c\nb: '3'\n"),
        ("a: {b: 1,\n  c: 2}\n", {"a": {"b": 5, "c": 2}}, "a: {b: 5,\n  c: 2}\n"),
        ("a: [1, 2, ]\n", {"a": [1, 2, 3]}, "a: [1, 2, 3, ]\n"),
        ("a: [{b: 1}]\n", {"a": [{"b": 1, "c": {"d": []}}]}, "a: [{b: 1, c: {d: []}}]\n"),
        ("a: |+\n  x\n\n\nb: 1\n", {"a": "x\n\n\n", "b": 2}, "a: |+\n  x\n\n\nb: 2\n"),
        ("k: [  # c\n  1,\n]\nb: 1\n", {"k": 5, "b": 1}, "k: 5  # c\nb: 1\n"),
        ("k: {  # c\n  a: 1,\n}  # d\n", {"k": {}}, "k: {  # c\n}  # d\n"),
        ("k: {  # c\n  a: 1\n}  # d\n", {"k": {"a": 1, "b": [2]}}, "k: {  # c\n  a: 1,\n  b: [2]\n}  # d\n"),
        ("1: a  # c\n2.5: b\n", {1: "c", 2.5: "b"}, "1: c  # c\n2.5: b\n"),
    ],
)
def test_edges(text, state, expected):
    assert patch(text.encode(), state).decode() == expected


def test_items_that_are_alike_take_no_time():
    """Difflib's grows with the cube of their number."""
    text = b"# c\nflags:\n" + b"- 0\n" * 3000
    state = {"flags": [number % 2 for number in range(3000)]}
    assert same(snapshot.parse(patch(text, state), ""), state)


def test_a_queue_that_goes_on_keeps_the_comments_with_their_items():
    text = "q:\n# A\n- name: a # aa\n  n: 1\n# B\n- name: b # bb\n  k: 1\n"
    after = "q:\n# B\n- name: b # bb\n  k: 2\n- name: c\n  k: 1\n"
    assert patch(text.encode(), {"q": [{"name": "b", "k": 2}, {"name": "c", "k": 1}]}).decode() == after


def test_an_item_that_was_removed_does_not_take_along_the_comments_of_one_that_was_changed():
    text = "- id: 1\n  at: x  # one\n# about two\n- id: 2\n  at: x  # two\n"
    text = "jobs:\n" + text
    after = "jobs:\n# about two\n- id: 2\n  at: z  # two\n"
    assert patch(text.encode(), {"jobs": [{"id": 2, "at": "z"}]}).decode() == after
