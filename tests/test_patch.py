"""What people wrote stays: comments, order, layout. A text is changed only where the state has changed."""

import itertools
import random

from conftest import scaled
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mmapstate import snapshot
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
        flow = flow or (depth > 0 and self.dice.random() < 0.25)
        entries = []
        for _ in range(self.dice.randrange(1, 5)):
            nested = depth < 4 and self.dice.random() < 0.4
            node = self.container(depth + 1, flow=flow) if nested else self.scalar(kind is list, flow)
            if flow and not isinstance(node, Container) and node[1] == "":
                node = (None, "~")
            key = f"k{next(self.numbers)}" if kind is dict else None
            above = [] if flow else [c for c in (self.comment(), self.comment()) if c]
            entries.append(Entry(key, node, above, None if flow else self.comment(0.3)))
        return Container(kind, entries, flow)

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
            if not isinstance(node, Container) or node.flow:
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
    """Make one random change to the tree, as a program would; mark what is touched by it."""
    places = list(all_entries(root))
    if not places:
        return
    container, entry = dice.choice(places)
    count_change(root, container)
    kind = dice.choice(("set", "set", "delete", "add", "insert", "replace"))
    if kind == "set" and not isinstance(entry.node, Container):
        entry.node = (f"new {next(writer.numbers)}", None)
        touch(root, entry)
    elif kind == "replace":
        entry.node = (next(writer.numbers), None) if isinstance(entry.node, Container) else bare(writer.container(4))
        touch(root, entry)
    elif kind == "delete":
        touch(root, entry)
        container.entries.remove(entry)
        if not container.entries:  # it becomes {} or [], in the line of its own entry
            for _, owner in all_entries(root):
                if owner.node is container:
                    touch(root, owner)
    elif kind == "add" or container.kind is dict:
        last = container.entries[-1]
        touch(root, last, only_flow=True)
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
                walk(entry.node, own if entry.node.flow else None)

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
    for _ in range(changes):
        change(writer, root, dice)
    after = root.plain()
    patched = patch(text, after)
    assert patched is not None, text.decode()
    assert same(snapshot.parse(patched, ""), after)
    left = patched.decode()
    here = set(sure_entries(root))
    for comment in comments_of(root):
        assert comment in left, f"lost {comment}\n{text.decode()}\n{left}"
    event("patched")
    if b"\r\n" in text:
        assert left.count("\n") == left.count("\r\n")
    untouched = [line for line, entry in lines if entry is not None and entry in here and not entry.touched]
    found = iter(left.splitlines())
    for line in untouched:
        assert any(line == other for other in found), f"not there, or not in order: {line}\n{text.decode()}\n{left}"
