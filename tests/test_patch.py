"""What people wrote stays: comments, order, layout. A text is changed only where the state has changed."""

import itertools
import logging
import os
import pathlib
import random
import shutil

import pytest
import yaml
from conftest import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from independent_reader import read_file

import mmapstate
from mmapstate import PersistedState, StateFileError, snapshot
from mmapstate.patch import patch
from mmapstate.values import same


class Entry:
    """An entry of a container: key (None in a list), node, and the comments that are its own."""

    def __init__(self, key, node, above=(), behind=None):
        self.key, self.node, self.above, self.behind = key, node, above, behind
        self.touched = False


class Container:
    def __init__(self, kind, entries, flow=False):
        self.kind, self.entries, self.flow = kind, entries, flow
        self.changes = 0
        self.lines = False  # in flow style, but for an entry a line

    def plain(self):
        if self.kind is dict:
            return {entry.key: plain(entry.node) for entry in self.entries}
        return [plain(entry.node) for entry in self.entries]


def plain(node):
    return node.plain() if isinstance(node, Container) else node[0]


class Writer:
    """Writes a document as a person might, with comments wherever YAML has room for them."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.numbers = itertools.count()
        self.step = self.dice.choice((2, 2, 3, 4))
        self.dash_in = self.dice.choice((0, self.step))

    def comment(self, chance=0.4):
        return (
            f"# c{next(self.numbers)}{self.dice.choice(('', ' - x: [', ' é', ' #', ': {'))};"
            if (self.dice.random() < chance)
            else None
        )

    def scalar(self, unique, flow):
        """Return a value and its text; a `unique` one stands nowhere else: one can tell what became of it in a list."""
        number = next(self.numbers)
        found = [
            (number, str(number)),
            (number, f"0x{number:X}"),
            (f"text {number}", f"text {number}"),
            (f"q{number}", f"'q{number}'"),
            (f"d\n{number}", f'"d\\n{number}"'),
            (number + 0.5, f"{number}.50"),
            (f"yes{number} # no", f"'yes{number} # no'"),
        ]
        if not flow and self.dice.random() < 0.1:
            return self.dice.choice([
                (f"lines {number}\n  of text\n", f"|\nlines {number}\n  of text"),
                (f"lines {number}\n# text", f"|-\nlines {number}\n# text"),
                (f"folded {number} text\n", f">\nfolded {number}\ntext"),
            ])  # fmt: skip
        return self.dice.choice(found if unique else [*found, (None, "~"), (None, ""), (True, "true"), ("", "''")])

    def container(self, depth, kind=None, flow=None):
        kind = kind or self.dice.choice((dict, list))
        lines = not flow and depth > 0 and self.dice.random() < 0.1
        flow = flow or lines or (depth > 0 and self.dice.random() < 0.25)
        entries = []
        for _ in range(self.dice.randrange(1, 5)):
            nested = depth < 4 and self.dice.random() < 0.4
            node = self.container(depth + 1, flow=flow) if nested else self.scalar(kind is list, flow)
            if flow and not isinstance(node, Container) and node[1] == "":
                node = (None, "~")
            key = f"k{next(self.numbers)}" if kind is dict else None
            above = [] if flow and not lines else [c for c in (self.comment(), self.comment()) if c]
            entries.append(Entry(key, node, above, None if flow and not lines else self.comment(0.3)))
        container = Container(kind, entries, flow)
        container.lines = lines
        return container

    def flow_text(self, node):
        if not isinstance(node, Container):
            return node[1]
        inside = ", ".join(
            (f"{entry.key}: " if node.kind is dict else "") + self.flow_text(entry.node) for entry in node.entries
        )
        return f"{{{inside}}}" if node.kind is dict else f"[{inside}]"

    def block(self, container, indent, first=""):
        """Yield lines, each with the entry whose own it is (None: set apart), `first` being what stands before all."""
        for number, entry in enumerate(container.entries):
            pad = " " * indent if number or not first else first
            if not (number == 0 and first):
                if self.dice.random() < 0.2:
                    apart = self.comment(0.5)
                    if apart:
                        yield " " * self.dice.choice((0, indent)) + apart, None
                    yield self.dice.choice(("", "  ")) if self.dice.random() < 0.2 else "", None
                for above in entry.above:
                    yield " " * indent + above, entry
            else:
                entry.above = []
            behind = f"{self.dice.choice((' ', '  '))}{entry.behind}" if entry.behind else ""
            head = pad + (f"{entry.key}:" if container.kind is dict else "-")
            node = entry.node
            if isinstance(node, Container) and node.lines:
                yield f"{head} {'{' if node.kind is dict else '['}{behind}", entry
                yield from self.flow_lines(node, indent)
            elif not isinstance(node, Container) or node.flow:
                text, *more = self.flow_text(node).split("\n")
                yield head + (f" {text}" if text else "") + behind, entry
                for line in more:
                    yield " " * (indent + self.step) + line, entry
            elif container.kind is list and not behind and self.dice.random() < 0.7:
                yield from self.block(node, indent + 2, head + " ")
            else:
                yield head + behind, entry
                inner = self.dash_in if container.kind is dict and node.kind is list else self.step
                yield from self.block(node, indent + inner)

    def flow_lines(self, container, indent):
        """Yield the lines of a container in flow style, behind the bracket that opens it."""
        pad = " " * (indent + self.step)
        for entry in container.entries:
            if self.dice.random() < 0.2:
                yield "", None
            yield from ((pad + above, entry) for above in entry.above)
            text = (f"{entry.key}: " if container.kind is dict else "") + self.flow_text(entry.node)
            comma = "," if entry is not container.entries[-1] or self.dice.random() < 0.3 else ""
            yield pad + text + comma + (f"  {entry.behind}" if entry.behind else ""), entry
        yield " " * (indent + 1) + ("}" if container.kind is dict else "]"), None


@st.composite
def documents(draw):
    writer = Writer(draw(st.integers(0, 2**32)))
    root = writer.container(0, dict)
    lines = []
    if draw(st.booleans()):
        lines += [(writer.comment(1), None), ("", None)]
    if draw(st.integers(0, 5)) == 0:
        lines += [("%YAML 1.1", None), ("---", None)] if draw(st.booleans()) else [("---", None)]
    lines += writer.block(root, 0)
    if draw(st.integers(0, 3)) == 0:
        lines += [("", None), (writer.comment(1), None)]
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    text = end.join(line for line, _ in lines) + (end if draw(st.booleans()) else "")
    return writer, root, lines, text.encode()


def all_entries(container):
    for entry in container.entries:
        yield container, entry
        if isinstance(entry.node, Container):
            yield from all_entries(entry.node)


def change(writer, root, dice):
    """Make one random change to the tree, as a program would; mark what is touched by it; return what is gone."""
    places = list(all_entries(root))
    if not places:
        return []
    container, entry = dice.choice(places)
    count_change(root, container)
    kind = dice.choice(("set", "set", "delete", "add", "insert", "replace"))
    gone = []
    if kind == "set" and not isinstance(entry.node, Container):
        entry.node = (f"new {next(writer.numbers)}", None)
        touch(root, entry)
    elif kind == "replace":
        entry.node = (next(writer.numbers), None) if isinstance(entry.node, Container) else bare(writer.container(4))
        touch(root, entry)
    elif kind == "delete":
        touch(root, entry)
        container.entries.remove(entry)
        gone = [(container, entry)]
        if not container.entries:  # it becomes {} or [], in the line of its own entry
            for _, owner in all_entries(root):
                if owner.node is container:
                    touch(root, owner)
    elif kind == "add" or container.kind is dict:
        last = container.entries[-1]
        touch(root, last, only_flow=not container.lines)  # which gets a comma
        container.entries.append(added(writer, container))
    else:
        touch(root, entry, only_flow=True)
        first = container.entries[0]
        while True:  # its line is parted where it begins with the dash of the item that the list is
            first.touched = True
            if not isinstance(first.node, Container) or first.node.flow or not first.node.entries:
                break
            first = first.node.entries[0]
        container.entries.insert(container.entries.index(entry), added(writer, container))
    return gone


def bare(container):
    """Return a container that is not in the text: without comments, and all touched."""
    for _, entry in all_entries(container):
        entry.above, entry.behind, entry.touched = [], None, True
    return container


def added(writer, container):
    key = f"k{next(writer.numbers)}" if container.kind is dict else None
    entry = Entry(key, (f"added {next(writer.numbers)}", None))
    entry.touched = True
    return entry


def touch(root, wanted, *, only_flow=False):
    """Mark the entries in whose lines something changes: in flow style that of the outermost container, too."""

    def walk(container, line):
        for entry in container.entries:
            own = line if line is not None else entry
            if entry is wanted and not (only_flow and line is None):
                own.touched = entry.touched = True
            if isinstance(entry.node, Container):
                walk(entry.node, own if entry.node.flow and not entry.node.lines else None)

    walk(root, None)


def count_change(root, changed):
    """Count a change for the container and all that it is in; return whether `root` is one of these."""
    below = [count_change(entry.node, changed) for entry in root.entries if isinstance(entry.node, Container)]
    inside = root is changed or any(below)
    root.changes += inside
    return inside


def sure_entries(container):
    """Yield the entries of which one can tell from the state what became of them.

    Not those of a list of which an item was removed and another one changed: no comparison tells which is which.
    """
    if container.kind is list and container.changes > 1:
        return
    for entry in container.entries:
        yield entry
        if isinstance(entry.node, Container):
            yield from sure_entries(entry.node)


def comments_of(container):
    for entry in sure_entries(container):
        yield from entry.above
        if entry.behind:
            yield entry.behind


@settings(deadline=None, max_examples=scaled(2000), suppress_health_check=list(HealthCheck))
@given(documents(), st.integers(0, 2**32), st.integers(1, 3))
def test_random_changes_of_random_commented_documents(document, seed, changes):
    writer, root, lines, text = document
    before = root.plain()
    assert same(snapshot.parse(text, ""), before), text.decode()
    assert patch(text, before) == text
    dice = random.Random(seed)
    gone = [each for _ in range(changes) for each in change(writer, root, dice)]
    after = root.plain()
    patched = patch(text, after)
    assert same(snapshot.parse(patched, ""), after)
    left = patched.decode()
    here = set(sure_entries(root))
    for comment in comments_of(root):
        assert comment in left, f"lost {comment}\n{text.decode()}\n{left}"
    for container, entry in gone:
        for comment in (*entry.above, entry.behind):
            if comment and (container.kind is dict or container.changes == 1):
                assert comment not in left, f"left behind {comment}\n{text.decode()}\n{left}"
    if b"\r\n" in text:
        assert left.count("\n") == left.count("\r\n")
    untouched = [line for line, entry in lines if entry is not None and entry in here and not entry.touched]
    found = iter(left.splitlines())
    for line in untouched:
        assert any(line == other for other in found), f"not there, or not in order: {line}\n{text.decode()}\n{left}"


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
