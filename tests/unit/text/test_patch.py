"""What people wrote stays: comments, order, layout. A text is changed only where the state has changed."""

import contextlib
import json
import logging
import os
import random
import shutil
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import probe
from support.commented import TABS, Container, all_entries, change, document, sure_containers
from support.independent_reader import read_file, read_state
from support.runs import TESTS, scaled

import mmapstate
from mmapstate import PersistedState, StateFileError, command
from mmapstate.file import content
from mmapstate.text import snapshot
from mmapstate.text.snapshot import patch
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


def family_of(entry):
    """Return an entry and all that are in it."""
    inside = all_entries(entry.node) if isinstance(entry.node, Container) else ()
    return {entry, *(inner for _, inner in inside)}


def contains(lines, block):
    """Return whether the lines of a block follow each other somewhere."""
    return any(lines[start : start + len(block)] == block for start in range(len(lines)))


@pytest.mark.family("editors")
@settings(deadline=None, max_examples=scaled(2000), suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_random_changes_of_random_commented_documents(seed, changes):
    """What a comment belongs to is said in `commented`, and in `mmapstate.text.spans`.

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
    # Beside a block of text a comment may have to begin elsewhere, and above an entry that comes to a dash.
    has_compact = any(getattr(entry.node, "compact", False) for _, entry in all_entries(root))
    strip = str.strip if any(sign in text.decode() for sign in "|>") or has_compact else str
    there = [strip(line) for line in left.splitlines()]
    for line in untouched:
        assert strip(line.text) in there, f"not there: {line.text}{story}"
    if not any(entry.is_moved for _, entry in all_entries(root)):
        found = iter(there)
        for line in untouched:
            assert any(strip(line.text) == other for other in found), f"not in order: {line.text}{story}"
    for container in sure:
        for entry in container.entries:
            family = family_of(entry)
            changed = any(each.touched or getattr(each.node, "changes", 0) for each in family)
            if entry.is_moved and not (changed or container.flow or container.compact):
                own = [number for number, line in enumerate(lines) if line.owners and line.owners <= family]
                block = [strip(line.text) for line in lines[own[0] : own[-1] + 1]]
                assert "|+" in text.decode() or contains(there, block), f"not together: {block}{story}"


WRITTEN = TESTS / "data" / "written"


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
        monkeypatch.setattr(probe.GROWING_REGION, 0)
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
            probe.check_next(state)
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
            monkeypatch.setattr(probe.PATCH_TEXT, lambda *_: 1 / 0)
            state.n = 2
            state.vacuum()
            state.n = 3
        assert read(path) == b"'n': 3\nqueue:\n- a\n"

    def test_a_text_that_cannot_be_changed_in_part_is_written_anew_with_a_message(self, path, monkeypatch, caplog):
        caplog.set_level(logging.DEBUG, "mmapstate")
        put(path, self.TEXT)
        monkeypatch.setattr(probe.COMPOSE_YAML, lambda _: None)  # as if it were blank: what comes of it is wrong
        with PersistedState(path) as state:
            state.n = 1
        assert read(path) == b"'n': 1\nqueue:\n- a\n- b\n"
        assert "the whole text is written anew, without its comments: StateFileError: " in caplog.text
        assert "stands twice" in caplog.text

    def test_the_end_that_the_last_line_had_not_comes_only_with_a_journal(self, path, monkeypatch):
        monkeypatch.setattr(probe.GROWING_REGION, 0)
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
        ("1: a  # c\nb: 2  # b\n", {True: "a", "b": 2}, "true: a  # c\nb: 2  # b\n"),
        ("1: a  # c\n2.5: b\n", {1: "c", 2.5: "b"}, "1: c  # c\n2.5: b\n"),
    ],
)
def test_edges(text, state, expected):
    assert patch(text.encode(), state).decode() == expected


MOVED = [  # what is moved takes along its comments, and how its numbers and texts are written
    (
        "q:\n- 0x1 # one\n# two\n- 2 # 2\n  # more\n- 3\n",
        {"q": [3, 2, 1]},
        "q:\n- 3\n# two\n- 2 # 2\n  # more\n- 0x1 # one\n",
    ),
    ("q:\n- b # b\n\n# c\n- c\n- a # a\n", {"q": ["a", "b", "c"]}, "q:\n- a # a\n- b # b\n\n# c\n- c\n"),
    (
        "\n# x\n\n# a\na: 1_000 # b\nb: 2\n\nc: 'x'\n",
        {"b": 2, "c": "x", "a": 1000},
        "\n# x\n\nb: 2\n\nc: 'x'\n# a\na: 1_000 # b\n",
    ),
    ("# x\n\n# a\na: 1_000 # b\nb: 2\n", {"b": 2, "a": 1001}, "# x\n\nb: 2\n# a\na: 1001 # b\n"),
    ("a: 1\n# b\nb: 2", {"b": 2, "a": 1}, "# b\nb: 2\na: 1"),
    ("q:\n- x: 1 # x\n  y: 2\n- z: 3\n", {"q": [{"z": 3}, {"x": 1, "y": 2}]}, "q:\n- z: 3\n- x: 1 # x\n  y: 2\n"),
    ("q:\n- x: 1 # x\n  y: 2 # y\n", {"q": [{"y": 2, "x": 1}]}, "q:\n- y: 2 # y\n  x: 1 # x\n"),
    ("q:\n- x: 1 # x\n  # y\n  y: 2\n", {"q": [{"y": 2, "x": 1}]}, "q:\n# y\n- y: 2\n  x: 1 # x\n"),
    ("q:\n- - 1 # x\n  - 2\n  - 3\n", {"q": [[3, 1, 2]]}, "q:\n- - 3\n  - 1 # x\n  - 2\n"),
    ("q: [0x1, 2,  3]\n", {"q": [2, 3, 1]}, "q: [2,  3, 0x1]\n"),
    ("q: [\n  # one\n  0x1, # 1\n  2 # 2\n]\n", {"q": [2, 1]}, "q: [\n  2, # 2\n  # one\n  0x1, # 1\n]\n"),
    ("a: |\n  x\nb: |+\n  x\n\nc: 1", {"c": 1, "b": "x\n\n", "a": "x\n"}, "c: 1\nb: |+\n  x\n\na: |\n  x\n"),
    ("? a # a\n: 1\n? b\n# b\n: - 2\n", {"b": [2], "a": 1}, "? b\n# b\n: - 2\n? a # a\n: 1\n"),
    ("q:\n- 1 # m\n- 2\n- 5\n", {"q": [3, 2, 5, 1]}, "q:\n- 3\n- 2\n- 5\n- 1 # m\n"),  # no new one takes its place
]

BELOW_BLOCKS_OF_TEXT = [  # what would become part of the text above it begins its line then; blank lines go
    ("t: |\n  x\nb: 1\n  # b\nc: 1\n", {"t": "x\n", "c": 1}, "t: |\n  x\nc: 1\n"),
    ("t: |\n  x\nb: 1\n\n  # x\nc: 1\n", {"t": "x\n", "c": 1}, "t: |\n  x\n\n# x\nc: 1\n"),
    ("t: >\n  x\nb: 1\n\n  # x\n\n  # y\n\nc: 1\n", {"t": "x\n", "c": 1}, "t: >\n  x\n\n# x\n# y\nc: 1\n"),
    ("t: |+\n  x\nb: 1\n\n\nc: 1\n", {"t": "x\n", "c": 1}, "t: |+\n  x\nc: 1\n"),
    ("t: |+\n  x\nb: 1\n\n # x\n\nc: 1\n", {"t": "x\n", "c": 1}, "t: |+\n  x\n # x\n\nc: 1\n"),
    (
        "q:\n- b: 1\n  t: |\n   # t\n  c: 1\n\n   # x\n",
        {"q": [{"b": 1, "t": "# t\n"}]},
        "q:\n- b: 1\n  t: |\n   # t\n\n# x\n",
    ),
    ("a: 1 # a\n  # more\nb: 2\n", {"a": "x\ny", "b": 2}, 'a: "x\\ny" # a\n  # more\nb: 2\n'),
]

WHOSE = [  # comments of what is removed go, others stay
    ("a:\n  b: 1\n    # b\nc: 1\n", {"a": 5, "c": 1}, "a: 5\nc: 1\n"),
    ("a: 1 # a\n     # more\nb: 1\n", {"b": 1}, "b: 1\n"),
    ("a: 1\n# b\n    # deep\nb: 1\nc: 1\n", {"a": 1, "c": 1}, "a: 1\nc: 1\n"),
    ("a: 1\n   # a\n# b\nb: 1\nc: 1\n", {"a": 1, "c": 1}, "a: 1\n   # a\nc: 1\n"),
    ("a:\n  x: 1\n# shallow\n  y: 1\n  z: 1\n", {"a": {"x": 1, "z": 1}}, "a:\n  x: 1\n  z: 1\n"),
    ("a: # a\n   # more\n  # x\n  x: 1\n  y: 1\n", {"a": {"y": 1}}, "a: # a\n   # more\n  y: 1\n"),
    ("a: # a\n   # more\n  # x\n  x: 1\nb: 1\n", {"a": 7, "b": 1}, "a: # a\n   # more\n  7\nb: 1\n"),
    ("a: # a\n   # more\n  # x\n  x: 1\nb: 1\n", {"a": "x\ny", "b": 1}, "a: # a\n   # more\n  |-\n  x\n  y\nb: 1\n"),
    ("a:\n  x: 1\n  # y: 2\nb: 1\n", {"a": {"x": 1, "z": 1}, "b": 1}, "a:\n  x: 1\n  z: 1\n  # y: 2\nb: 1\n"),
    ("a:\n  x: 1\n  # y: 2\nb: 1\n", {"b": 1}, "b: 1\n"),
    ("a: # a\n  # x\n\n  - 1 # one\n  # y\nb: 1\n", {"a": [], "b": 1}, "a: [] # a\n  # x\n\n  # y\nb: 1\n"),
    ("a: [] # a\n  # x\nb: 1\n", {"a": [1], "b": 1}, "a: # a\n- 1\n  # x\nb: 1\n"),
    ("a: [ # a\n  # x\n]\n", {"a": [1]}, "a: [ # a\n  1\n  # x\n]\n"),
    ("# top\n---\n   # start\n# a\na: 1\nb: 1\n", {"b": 1}, "# top\n---\n   # start\nb: 1\n"),
    ("# top\n\n   # a\na: 1\nb: 1\n", {"b": 1}, "# top\n\nb: 1\n"),
    ("a:\n\n# x\n\n  - 1\nb: 1\n", {"a": {"c": 1}, "b": 1}, "a:\n\n# x\n\n  c: 1\nb: 1\n"),
    ("q:\n- # why\n  1 # one\n- 2\n", {"q": [[[1], 3], 2]}, "q:\n- # why\n  # one\n  - - 1\n  - 3\n- 2\n"),
]

FLOW = [
    *([("x: [1,\t# one\n  2]\n", {"x": [1]}, "x: [1,\t# one\n ]\n")] if TABS else []),
    ('x: {\n  "a": 1,# a\n  "b": 2}\n', {"x": {"a": 1}}, 'x: {\n  "a": 1 # a\n }\n'),
    ("? a # b: c\nd: 1\n", {"a": 2, "d": 1}, "? a # b: c\n: 2\nd: 1\n"),
    ("a: !!str # a\n# b\nb: 1\n", {"a": 5, "b": 1}, "a: 5 # a\n# b\nb: 1\n"),
    ("q:\n- &a x: 1\n", {"q": [{}]}, "q:\n- {}\n"),
    ("x: [\n  a # a\n  , b # b\n  , c # c\n]\n", {"x": ["a", "c", "d"]}, "x: [\n  a # a\n  , c # c\n  , d\n]\n"),
    ("x: [\n    a # a\n  , b # b\n  , c # c\n]\n", {"x": ["c", "b"]}, "x: [\n    c # c\n  , b # b\n]\n"),
    ("x: [\n  a # a, b\n  , # b\n  b\n]\n", {"x": ["a"]}, "x: [\n  a # a, b\n]\n"),
    ("x: [1,# one\n  2,# two\n  3]\n", {"x": [1, 2]}, "x: [1,# one\n  2,# two\n ]\n"),
    ("x: [1,# one\n  2]\n", {"x": [2, 1]}, "x: [\n  2, 1,# one\n ]\n"),
    ("x: {? a : 1, b: 2 , c}\n", {"x": {"b": 3, "c": 5}}, "x: {b: 3 , c: 5}\n"),
    ("x: {\n  a, # a\n  b: , # b\n  ? c : 1\n}\n", {"x": {"a": 1, "b": 2}}, "x: {\n  a: 1, # a\n  b: 2, # b\n}\n"),
    ("x: {\n  a:\n}\n", {"x": {"a": None, "b": 1}}, "x: {\n  a: ,\n  b: 1\n}\n"),
    ("x: [\n  a: 1, # a\n  b: 2, # b\n  c\n]\n", {"x": [{"a": 5}, "c"]}, "x: [\n  a: 5, # a\n  c\n]\n"),
    ("x: [a: 1, b]\n", {"x": [{"a": 1, "c": 2}, "b"]}, "x: [{a: 1, c: 2}, b]\n"),
    ("x: [1, 2,\n    3, 4]\n", {"x": [1, 3, 4]}, "x: [1,\n    3, 4]\n"),
    ("x: &a {b: 1}\ny: !!seq [1] # y\n", {"x": {"b": 2}, "y": [1, 2]}, "x: &a {b: 2}\ny: !!seq [1, 2] # y\n"),
    ("x: !!seq # x\n# one\n- 1\n- 2\n", {"x": [2, 3]}, "x: !!seq # x\n- 2\n- 3\n"),
    ("x: &a # x\n  b: 1\n", {"x": {}}, "x: {} # x\n"),
    ("x: !!map # x\n  b: 1\n", {"x": 5}, "x: 5 # x\n"),
    ("x: !!str # x\n  # y\n  b\n", {"x": 5}, "x: # x\n  # y\n  5\n"),
]

DOCUMENTS = [
    ("b: |+\n  x\n\nc: 1", {"b": "x\n\n"}, "b: |+\n  x\n\n"),
    ("--- {} # c\n", {"a": 1, "b": 2}, "--- # c\na: 1\nb: 2\n"),
    ("--- {a: 1} # c\n", {"a": 1, "b": 2}, "--- {a: 1, b: 2} # c\n"),
    ("--- {a: 1} # c\n", {}, "--- {} # c\n"),
    ("---\n# c\n... # d\n# e\n", {"a": 1}, "---\n# c\na: 1\n... # d\n# e\n"),
    ("# a\n\na: 1\n# c\n... # d\n", {}, "# a\n\n{}\n# c\n... # d\n"),
    ("a: 1\n...", {"a": 1, "b": 2}, "a: 1\nb: 2\n..."),
    ("--- !!map # c\na: 1\n", {}, "--- {}\n"),
    ("# a\ra: 1 # b\r# c\rc: 1\r", {"a": 2, "d": 1}, "# a\ra: 2 # b\rd: 1\r"),
    (
        "a: 1\r\n# b\nb: 1 # b\nc: 1\r\nd: 1\r\n",
        {"a": 2, "b": 1, "c": 1, "d": [1]},
        "a: 2\r\n# b\nb: 1 # b\nc: 1\r\nd:\r\n- 1\r\n",
    ),
    ("a: 1\n# b\r\nb: 1 # b\r\nc: 1\nd: 1\n", {"b": 2, "c": 1, "d": 1}, "# b\r\nb: 2 # b\r\nc: 1\nd: 1\n"),
]

JSON = """{
  "a": 1,
  "b": [
    "x",
    "y"
  ],
  "c": []
}
"""
LIKE_JSON = [
    ({"a": 1, "b": ["x"], "c": []}, '{\n  "a": 1,\n  "b": [\n    "x"\n  ],\n  "c": []\n}\n'),
    (
        {"a": "z", "b": ["y", "x", "z"], "c": []},
        '{\n  "a": "z",\n  "b": [\n    "y",\n    "x",\n    "z"\n  ],\n  "c": []\n}\n',
    ),
    (
        {"a": 1, "c": ["x", {"y": None}]},
        '{\n  "a": 1,\n  "c": [\n    "x",\n    {\n      "y": null\n    }\n  ]\n}\n',
    ),
    ({"b": [], "c": [], "d": "x y"}, '{\n  "b": [],\n  "c": [],\n  "d": "x y"\n}\n'),
    ({}, "{}\n"),
]


@pytest.mark.parametrize(
    ("text", "state", "expected"),
    [*MOVED, *BELOW_BLOCKS_OF_TEXT, *WHOSE, *FLOW, *DOCUMENTS],
    ids=lambda each: repr(each)[:60],
)
def test_layouts(text, state, expected):
    assert patch(text.encode(), state, pytest.fail).decode() == expected


@pytest.mark.parametrize(("state", "expected"), LIKE_JSON)
def test_json_stays_json(state, expected):
    found = patch(JSON.encode(), state, pytest.fail).decode()
    assert found == expected
    assert json.loads(found) == state


def test_quotes_are_those_of_the_siblings():
    text = "ports: ['80', '90'] # ports\nhosts: {\"a\": \"b\"}\nwords: [a b]\n"
    state = {"ports": ["80", "it's"], "hosts": {"a": "b", "c d": 1, "e": ["f"]}, "words": ["a b", "c: d"]}
    expected = 'ports: [\'80\', \'it\'\'s\'] # ports\nhosts: {"a": "b", "c d": 1, "e": ["f"]}\nwords: [a b, "c: d"]\n'
    assert patch(text.encode(), state).decode() == expected


def test_a_container_whose_layout_is_not_understood_is_written_anew_alone_and_a_message_says_so():
    told = []
    text = "# a\na:\n  !!map\n  b: 1 # b\nc: 1 # c\n"
    assert patch(text.encode(), {"a": {}, "c": 2}, told.append).decode() == "# a\na:\n  {}\nc: 2 # c\n"
    assert told == ["what begins in line 3 is written anew, without its comments: its tag stands in a line of its own"]


def test_messages_name_the_file(path, caplog):
    caplog.set_level(logging.DEBUG, "mmapstate")
    put(path, b"# a\na:\n  !!map\n  b: 1 # b\n")
    with PersistedState(path) as state:
        state.a.clear()
    assert f"{path}: what begins in line 3 is written anew" in caplog.text


ITEMS = list(range(20_000))
MIXED = random.Random(5).sample(ITEMS, len(ITEMS))


@pytest.mark.parametrize(
    "items",
    [
        ITEMS[::-1],
        ITEMS[1:],
        ITEMS[-1:],
        ITEMS[::2],
        MIXED,
        ITEMS[10_000:] + ITEMS[:10_000],
        [-1 - item for item in ITEMS],
        [item % 2 for item in ITEMS],
    ],
    ids=["reversed", "one less", "all but one gone", "every second", "mixed", "halves", "changed", "alike"],
)
@pytest.mark.parametrize("lines", [True, False], ids=["block", "flow"])
def test_long_lists_take_the_time_of_sorting(items, lines):
    """As measured in times of reading the text, of which it takes two; what looks at each pair takes hundreds."""
    text = "q:\n" + "".join(f"- {item} # c\n" for item in ITEMS) if lines else f"q: {ITEMS} # c\n"
    began = time.process_time()
    snapshot.parse(text.encode(), "")
    read_at = time.process_time()
    found = patch(text.encode(), {"q": items})
    assert time.process_time() - read_at < 40 * (read_at - began)
    assert found.count(b"# c") == (min(len(items), len(ITEMS)) if lines else 1)


def test_flags_that_change_keep_their_comments():
    text = "flags:\n- 0 # a\n- 0 # b\n- 0 # c\n- 0 # d\n- 0 # e\n"
    expected = "flags:\n- 0 # a\n- 1 # b\n- 0 # c\n- 1 # d\n- 0 # e\n"
    assert patch(text.encode(), {"flags": [0, 1, 0, 1, 0]}).decode() == expected


def test_many_keys_take_no_time():
    text = "".join(f"k{number}: {number:#x} # c{number}\n" for number in range(20_000))
    state = {f"k{number}": number for number in reversed(range(20_000))}
    assert patch(text.encode(), state).decode() == "".join(reversed(text.splitlines(keepends=True)))


def test_a_queue_that_goes_on_keeps_the_comments_with_their_items():
    text = "q:\n# A\n- name: a # aa\n  n: 1\n# B\n- name: b # bb\n  k: 1\n"
    after = "q:\n# B\n- name: b # bb\n  k: 2\n- name: c\n  k: 1\n"
    assert patch(text.encode(), {"q": [{"name": "b", "k": 2}, {"name": "c", "k": 1}]}).decode() == after


def test_an_item_that_was_removed_does_not_take_along_the_comments_of_one_that_was_changed():
    text = "- id: 1\n  at: x  # one\n# about two\n- id: 2\n  at: x  # two\n"
    text = "jobs:\n" + text
    after = "jobs:\n# about two\n- id: 2\n  at: z  # two\n"
    assert patch(text.encode(), {"jobs": [{"id": 2, "at": "z"}]}).decode() == after


BARE_BLOCKS = (
    "a: 1\nk: |\n  text",
    "a: 1\nk: |+\n  text",
    "a: 1\nk: >2  # c\n   x\n  y",
    "a: 1\nq:\n- !!str |\n x\n y",
)


@pytest.mark.family("editors")
@pytest.mark.parametrize("text", BARE_BLOCKS)
def test_a_block_of_text_at_the_end_of_a_file_without_a_line_end_is_read_as_yaml_says(path, text):
    """What comes behind it, an entry or a journal, changes its value for no reader: its first line says so then."""
    put(path, text.encode())
    state = yaml.safe_load(text)
    with PersistedState(path) as opened:
        assert opened.copy() == state
    assert read(path) == text.encode()
    for inside in (False, True):
        put(path, text.encode())
        opened = PersistedState(path)
        with opened.transaction() if inside else contextlib.nullcontext():
            opened["a"] = 2
        first, *_ = yaml.safe_load_all(read(path))
        assert first == state
        assert read_state(read(path)) == {**state, "a": 2}
        opened.close()
        assert yaml.safe_load(read(path)) == {**state, "a": 2}
        assert len(read(path)) <= len(text) + 1
    with PersistedState(path) as opened:
        opened["z"] = "new\nlines\n"
    assert yaml.safe_load(read(path)) == {**state, "a": 2, "z": "new\nlines\n"}
    assert read(path).decode().splitlines()[2:].index("z: |") == len(text.splitlines()) - 2  # lines of it as they were


DIRECTIVES = [
    f"{head}{mark}{body}{end}"
    for head in ("%YAML 1.1\n", "%TAG !e! tag:example.com,2000:\n", "%YAML 1.1\n%TAG ! !x\n", "# c\n%YAML 1.1\n", "")
    for mark in ("---\n", "--- # c\n")
    for body in ("a: 1\n", "a: 1\n# c\n", "# c\na: 1", "a: 1 # c\n\n")
    for end in ("", "...\n")
    if body.endswith("\n") or not end
]


@pytest.mark.family("editors")
@pytest.mark.parametrize("text", DIRECTIVES)
def test_a_file_with_directives_whose_last_entry_is_deleted_can_be_opened_again(path, text):
    """What is swapped in was read back by the function that an open uses."""
    put(path, text.encode())
    for _ in range(2):
        with PersistedState(path) as state:
            state.clear()
            state["b"] = 1
            state.vacuum()
            del state["b"]
        with PersistedState(path) as state:
            assert state.copy() == {}


@pytest.mark.family("editors")
def test_what_an_open_would_not_read_so_is_not_swapped_in(path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "mmapstate")
    put(path, b"# c\na: 1\nb: 2\n")
    layout = content.layout
    monkeypatch.setattr(  # as if this text were the file of another program
        probe.LAYOUT, lambda data, file: layout(data, file)._replace(foreign=data == b"# c\na: 1\n")
    )
    with PersistedState(path) as state:
        del state["b"]
    assert read(path) == b"a: 1\n"
    assert "the whole text is written anew" in caplog.text


@pytest.mark.family("editors")
def test_emoji_are_written_as_they_are_in_the_file_and_by_show(path, capsys):
    state = {"\U0001f40d": "\U0001f600 \U0010ffff", "q": ["'\U0001f40d", "a\n\U0001f40d\n", {"\\U0001F40D": 1}]}
    for before in (None, b"# c\nq: []\n", b"q: ['x', \"y\"]  # c\n", b"q: |\n  a\n"):
        if before is not None:
            put(path, before)
        with PersistedState(path) as opened:
            opened.update(state)
            assert opened.copy() == state
        text = read(path).decode()
        assert text.count("\U0001f40d") == 3, text
        assert "\\U0001F600" not in text
        assert yaml.safe_load(text) == state
        assert command.main(["show", path]) == 0
        shown = capsys.readouterr().out
        assert yaml.safe_load(shown) == state
        assert shown.count("\U0001f40d") == 3
        os.unlink(path)
