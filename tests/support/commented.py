"""Random documents with comments wherever YAML has room for them, and random changes of what they hold.

Each comment knows whose it is, by the rule that `mmapstate.text.spans` follows: an entry's are those behind it, those
between its key and its value, those directly below it that begin deeper than it, and the others directly above it.
What a blank line sets apart belongs to the container, and to no entry of it; the first block of comments of a file,
with nothing above it, belongs to the outermost one.
"""

import itertools
import random

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TABS = hasattr(yaml, "CSafeLoader")  # PyYAML's own reader has none before a comment


class Entry:
    """An entry of a container: key (None in a list), node, and the comments that are its own."""

    def __init__(self, key, node):
        self.key, self.node = key, node
        self.comments = []
        self.touched = False  # its lines other than comments may have changed
        self.is_moved = False


class Container:
    def __init__(self, kind, entries, flow=False):
        self.kind, self.entries, self.flow = kind, entries, flow
        self.apart = []  # comments
        self.changes = 0
        self.lines = False  # in flow style, but in lines
        self.compact = False  # its first entry stands behind a dash

    def plain(self):
        if self.kind is dict:
            return {entry.key: plain(entry.node) for entry in self.entries}
        return [plain(entry.node) for entry in self.entries]


def plain(node):
    return node.plain() if isinstance(node, Container) else node[0]


class Line:
    """A line: its text, the entries that have part in it, and whether it is nothing but a comment."""

    def __init__(self, text, owners=(), *, comment=False):
        self.text, self.owners, self.comment = text, set(owners), comment


class Writer:
    """Writes a document as a person might."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.numbers = itertools.count()
        self.step = self.dice.choice((2, 2, 3, 4))
        self.dash_in = self.dice.choice((0, self.step))
        self.busy = self.dice.choice((0.1, 0.3, 0.6))  # how many comments

    def by_chance(self, chance):
        return self.dice.random() < chance

    def comment(self, owner):
        """Return a new comment, of an entry or container."""
        text = f"# c{next(self.numbers)}{self.dice.choice(('', ' - x: [', ' é', ' #', ': {', ', ]', '- |'))};"
        (owner.comments if isinstance(owner, Entry) else owner.apart).append(text)
        return text

    def behind(self, owner, *, tight=False, tab=False):
        """Return perhaps a comment behind something, with the blanks before it, if it needs some; perhaps a tab."""
        if not self.by_chance(self.busy):
            return ""
        return self.dice.choice((" ", " ", "  ", "\t" if tab and TABS else " ", "" if tight else " ")) + self.comment(
            owner
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
            (f"t{number}", f"!!str t{number}"),
            (number, f"&a{number} {number}"),
        ]
        if not flow and self.by_chance(0.1):
            return self.dice.choice([
                (f"lines {number}\n  of text\n", f"|\nlines {number}\n  of text"),
                (f"lines {number}\n# text", f"|-\nlines {number}\n# text"),
                (f"folded {number} text\n", f">\nfolded {number}\ntext"),
                (f"kept {number}\n\n", f"|+\nkept {number}\n"),
                (f"plain {number} text", f"plain {number}\ntext"),
                (f"quoted {number}\ntext", f'"quoted {number}\n\ntext"'),
            ])  # fmt: skip
        return self.dice.choice(found if unique else [*found, (None, "~"), (None, ""), (True, "true"), ("", "''")])

    def container(self, depth, kind=None, flow=None):
        kind = kind or self.dice.choice((dict, list))
        container = Container(kind, [], flow or (depth > 0 and self.by_chance(0.3)))
        container.lines = container.flow and self.by_chance(0.6)
        for _ in range(self.dice.randrange(1, 5)):
            nested = depth < 4 and self.by_chance(0.4)
            if nested:
                node = self.container(depth + 1, flow=container.flow)
                container.lines = container.lines or (node.flow and node.lines and container.flow)
            else:
                node = self.scalar(kind is list, container.flow)
                if node[1] == "" and container.flow and kind is list:
                    node = (None, "~")
            container.entries.append(Entry(f"k{next(self.numbers)}" if kind is dict else None, node))
        return container

    def key(self, entry):
        return self.dice.choice((entry.key, entry.key, f"'{entry.key}'", f'"{entry.key}"'))

    # --- Flow style -------------------------------------------------------------------------------------------------

    def flow_text(self, node):
        """Return a value in flow style in one line."""
        if not isinstance(node, Container):
            return node[1]
        if node.kind is list:
            texts = [self.flow_text(entry.node) for entry in node.entries]
        else:
            texts = []
            for entry in node.entries:
                text = self.flow_text(entry.node)
                mark = "? " if self.by_chance(0.1) else ""
                texts.append(f"{mark}{self.key(entry)}: {text}" if text or self.by_chance(0.5) else self.key(entry))
        inside = self.dice.choice((", ", ", ", " , ", ",\t" if TABS else ", ", ",  ")).join(texts)
        padding = self.dice.choice(("", "", " "))
        last = "," if self.by_chance(0.1) and (node.entries[-1].node is not None) else ""
        return f"{'{' if node.kind is dict else '['}{padding}{inside}{last}{padding}{'}' if node.kind is dict else ']'}"

    def flow(self, container, indent):
        """Return the lines of a container in flow style; the first one goes on with a line, the last one is gone on."""
        mark, end = "{}" if container.kind is dict else "[]"
        if not container.lines:
            return [Line(self.flow_text(container), (entry for _, entry in all_entries(container)))]
        out = [Line(mark)]
        commas_first = self.by_chance(0.2)
        column = 0  # of the entry before, 0 if that does not begin a line
        for number, entry in enumerate(container.entries):
            comma = "," if number else ""
            if comma and not commas_first:
                out[-1].text += self.dice.choice((",", ",", " ,"))
                comma = ""
            tight = out[-1].text[-1] in ",[{"
            behind = self.behind(container if number == 0 else container.entries[number - 1], tight=tight, tab=True)
            out[-1].text += behind
            pad = indent + self.dice.choice((1, self.step, self.step))
            if behind or number == 0 or self.by_chance(0.8):
                before = number and container.entries[number - 1]
                if before and column:
                    while self.by_chance(self.busy / 3):
                        lead = " " * (column + self.dice.choice((1, 3)))
                        out.append(Line(lead + self.comment(before), (before,), comment=True))
                directly = number > 0
                if self.by_chance(0.2):
                    if self.by_chance(self.busy):
                        lead = " " * self.dice.randrange(column + 1 if number else pad + 3)
                        out.append(Line(lead + self.comment(container), comment=True))
                    out.append(Line(self.dice.choice(("", "", "  "))))
                    directly = False
                if comma and self.by_chance(0.2):
                    out.append(Line(","))
                    if self.by_chance(self.busy) and column:
                        out[-1].text += " " + self.comment(entry)
                        out[-1].owners = {before, entry}
                        directly = False
                    else:
                        directly = column == 0
                    comma = ""
                while self.by_chance(self.busy / 2):
                    lead = " " * (self.dice.randrange(column + 1) if directly else self.dice.randrange(pad + 3))
                    out.append(Line(lead + self.comment(entry), (entry,), comment=True))
                    directly = False
                out.append(Line(" " * pad + (comma + self.dice.choice((" ", "")) if comma else "")))
            else:
                out[-1].text += comma + self.dice.choice((" ", "  "))
            at_beginning = not out[-1].text.strip(" ,")
            column = len(out[-1].text) if at_beginning else 0
            self.flow_entry(entry, container.kind, out, pad)
        if self.by_chance(0.3) and not commas_first:
            out[-1].text += ","
        last = container.entries[-1]
        behind = self.behind(last, tight=out[-1].text.endswith(","), tab=True)
        out[-1].text += behind
        if behind or self.by_chance(0.7):
            if self.by_chance(0.2):
                lead = " " * self.dice.randrange(column + 1)
                if self.by_chance(self.busy):
                    out.append(Line(lead + self.comment(container), comment=True))
                out.append(Line(""))
            out.append(Line(" " * (indent + 1) + end))
        else:
            out[-1].text += self.dice.choice(("", " ")) + end
        return out

    def flow_entry(self, entry, kind, out, pad):
        """Add an entry of a container of lines."""
        out[-1].owners.add(entry)
        if kind is dict:
            mark = self.by_chance(0.1)
            out[-1].text += ("? " if mark else "") + self.key(entry)
            if isinstance(entry.node, tuple) and entry.node[1] == "" and self.by_chance(0.5):
                return
            if mark and self.by_chance(0.3):
                self.line_between(entry, out, pad + 1)
            out[-1].text += ":"
            if self.by_chance(0.15) and (isinstance(entry.node, Container) or entry.node[1]):
                self.line_between(entry, out, pad + 1)
            else:
                out[-1].text += " "
        if isinstance(entry.node, Container):
            self.go_on(out, self.flow(entry.node, pad), entry)
        else:
            out[-1].text += entry.node[1]

    def line_between(self, entry, out, pad):
        """Go on in another line, with comments of the entry before it."""
        out[-1].text += self.behind(entry)
        while self.by_chance(self.busy / 2):
            out.append(Line(" " * self.dice.randrange(pad + 3) + self.comment(entry), (entry,), comment=True))
        out.append(Line(" " * pad, (entry,)))

    def go_on(self, out, lines, *owners):
        first, *more = lines
        out[-1].text += first.text
        out[-1].owners |= first.owners
        out += more
        for line in (out[-1], first):
            line.owners |= set(owners)
        for line in more:
            if not line.comment:
                line.owners |= set(owners)

    # --- Block style ------------------------------------------------------------------------------------------------

    after_text = after_kept = False  # a block of text stands directly above; one that takes blank lines along

    def block(self, container, indent, out, *, compact=False):
        """Add the lines of a container; `compact`: its first entry goes on with the last one."""
        container.compact = compact
        for number, entry in enumerate(container.entries):
            if number or not compact:
                self.above(container, entry, indent, out)
                out.append(Line(" " * indent))
            out[-1].owners.add(entry)
            self.block_entry(container, entry, indent, out)

    def above(self, container, entry, indent, out):
        """Add what stands above an entry. Directly below something, what begins deeper would belong to that."""
        directly = bool(out)
        if self.by_chance(0.2):
            if self.by_chance(self.busy):
                out.append(Line(" " * self.dice.choice((0, indent)) + self.comment(container), comment=True))
                self.after_text = self.after_kept = False
            if not self.after_kept:
                out.append(Line(self.dice.choice(("", "", "", "  "))))
                directly = self.after_text
                if not directly and self.by_chance(self.busy / 3):
                    lead = " " * self.dice.randrange(indent + 5)
                    out += [Line(lead + self.comment(container), comment=True), Line("")]
        while self.by_chance(self.busy / 1.5):
            lead = self.dice.choice((indent, indent, self.dice.randrange(indent + (1 if directly else 5))))
            out.append(Line(" " * lead + self.comment(entry), (entry,), comment=True))
            directly = False
        self.after_text = self.after_kept = False

    def block_entry(self, container, entry, indent, out):
        """Add an entry, with which the last line goes on."""
        node = entry.node
        inner = indent + self.step
        if container.kind is dict:
            key = self.key(entry)
            if self.by_chance(0.05):
                out[-1].text += f"? {key}"
                if isinstance(node, tuple) and node[1] == "" and self.by_chance(0.5):
                    out[-1].text += self.behind(entry)
                    return
                self.line_between(entry, out, indent)
                out[-1].text += ":"
            else:
                out[-1].text += key + self.dice.choice(("", "", " ")) + ":"
            if isinstance(node, Container) and node.kind is list and not node.flow:
                inner = indent + self.dash_in
        else:
            out[-1].text += "-"
        below = inner  # how deep a comment below it may begin, and yet not belong to an entry of it
        if isinstance(node, Container) and not node.flow:
            if container.kind is list and self.by_chance(0.6):
                out[-1].text += " " * self.dice.choice((1, 1, 3))
                below = len(out[-1].text)
                self.block(node, below, out, compact=True)
            else:
                kind = "!!map" if node.kind is dict else "!!seq"
                out[-1].text += self.dice.choice(("", "", "", "", "", f" {kind}", f" &b{next(self.numbers)}"))
                out[-1].text += self.behind(entry)
                if self.by_chance(0.2) and "!!" not in out[-1].text and "&b" not in out[-1].text:
                    while self.by_chance(self.busy):
                        lead = " " * (inner + self.dice.choice((1, 4)))
                        out.append(Line(lead + self.comment(entry), (entry,), comment=True))
                self.block(node, inner, out)
        else:
            text = None if isinstance(node, Container) else node[1]
            if text != "" and self.by_chance(0.12):
                self.line_between(entry, out, inner)
            elif text != "":
                out[-1].text += self.dice.choice((" ", " ", " ", "  ", "   "))
            if text is None:
                if self.by_chance(0.1):
                    out[-1].text += f"!!{'map' if node.kind is dict else 'seq'} "
                self.go_on(out, self.flow(node, indent + self.step - 1), entry)
            else:
                head, *more = text.split("\n")
                out[-1].text += head
                if head[:1] in ("|", ">"):
                    out[-1].text += self.behind(entry)
                    self.after_text, self.after_kept = True, head == "|+"
                out += [Line(" " * (indent + self.step) + line if line else "", (entry,)) for line in more]
            if not self.after_text:
                out[-1].text += self.behind(entry, tab=text != "")
        while self.by_chance(self.busy / 3) and below > indent + self.after_text:
            lead = self.dice.randrange(indent + 1, below + 1 - self.after_text)
            out.append(Line(" " * lead + self.comment(entry), (entry,), comment=True))
            self.after_text = self.after_kept = False
            if not isinstance(node, Container) or node.flow:
                below = indent + 8


def document(seed):
    """Return a random document: its writer, root, lines and bytes."""
    writer = Writer(seed)
    dice, by_chance = writer.dice, writer.by_chance
    around = Container(dict, [])  # to which the comments above and below it belong
    lines = [Line(writer.comment(around), comment=True), Line("")] if by_chance(0.4) else []
    if by_chance(0.25):
        lines += [Line("%YAML 1.1")] if by_chance(0.3) else []
        lines.append(Line("---" + writer.behind(around)))
    if by_chance(0.1):  # all in flow style
        root = writer.container(1, dict, flow=True)
        lines += writer.flow(root, 0)
    else:
        root = writer.container(0, dict)
        writer.block(root, 0, lines)
    give_first_block(lines, around)
    for chance in (0.3, 0.2):
        if by_chance(chance):
            lines += [] if writer.after_kept else [Line("")]
            lines.append(Line(writer.comment(around), comment=True))
            writer.after_kept = False
        if by_chance(0.06) and not lines[-1].text.startswith("..."):
            lines.append(Line("..." + writer.behind(around)))
            writer.after_kept = False
    root.apart += around.apart
    end = dice.choice(("\n", "\n", "\n", "\r\n", "\r"))
    text = end.join(line.text for line in lines)
    if writer.after_kept or by_chance(0.7):
        text += end
    elif yaml.load(text, LOADER) != yaml.load(text + end, LOADER):  # a block of text, whose last line has no end
        *_, (_, last) = all_entries(root)
        last.node = last.node[0].removesuffix("\n"), *last.node[1:]
        last.touched = True  # its first line may have to say so
    return writer, root, lines, text.encode()


def give_first_block(lines, around):
    """Give the comments that begin the file, of whichever entry they were, to what is around all."""
    marks = itertools.takewhile(
        lambda line: not line.text.strip() or line.text[:1] == "%" or line.text[:3] == "---", lines
    )
    for line in itertools.takewhile(lambda line: line.comment, lines[len(list(marks)) :]):
        for owner in line.owners:
            own = [comment for comment in owner.comments if comment in line.text]
            owner.comments = [comment for comment in owner.comments if comment not in own]
            around.apart += own
        line.owners = set()


def all_entries(container):
    for entry in container.entries:
        yield container, entry
        if isinstance(entry.node, Container):
            yield from all_entries(entry.node)


# --- Changes --------------------------------------------------------------------------------------------------------


def change(writer, root, dice):
    """Make one random change to the tree, as a program would; mark what is touched by it; return what is gone."""
    places = list(all_entries(root))
    if not places:
        return []
    container, entry = dice.choice(places)
    count_change(root, container)
    kind = dice.choice(("set", "set", "delete", "add", "insert", "replace", "move", "move"))
    index = container.entries.index(entry)
    if kind in ("set", "replace"):
        if isinstance(entry.node, Container):
            entry.node = bare(writer.container(4)) if kind == "replace" else (next(writer.numbers), None)
        else:
            entry.node = bare(writer.container(4)) if kind == "replace" else (f"new {next(writer.numbers)}", None)
        touch(root, entry)
        return []
    touch_neighbours(root, container, index)
    if kind == "delete":
        container.entries.pop(index)
        if not container.entries:  # it becomes {} or [], in the line of its own entry
            for _, owner in all_entries(root):
                if owner.node is container:
                    touch(root, owner)
        return [(container, entry)]
    if kind == "move":
        container.entries.pop(index)
        index = dice.randrange(len(container.entries) + 1)
        touch_neighbours(root, container, index)
        container.entries.insert(index, entry)
        touch_neighbours(root, container, index)
        for other in container.entries:  # of two that change places, who can tell which was moved
            other.is_moved = True
        if container.flow:
            for other in container.entries:
                touch(root, other)
    elif kind == "add" or container.kind is dict:
        touch_neighbours(root, container, len(container.entries))
        container.entries.append(added(writer, container))
    else:
        container.entries.insert(index, added(writer, container))
    return []


def touch_neighbours(root, container, index):
    """Mark what may change where an entry comes or goes: commas in flow style; behind a dash the first one."""
    if container.flow:
        for entry in container.entries[max(index - 1, 0) : index + 2]:
            touch(root, entry)
        return
    while container.compact and container.entries:  # where the first one goes, the next one comes to its dash
        for each in container.entries[:2] if index < 2 else container.entries[:1]:
            touch(root, each)
        first = container.entries[0]
        if not isinstance(first.node, Container):
            break
        container = first.node


def bare(container):
    """Return a container that is not in the text: without comments, and all touched."""
    for _, entry in all_entries(container):
        entry.touched = True
    return container


def added(writer, container):
    entry = Entry(
        f"k{next(writer.numbers)}" if container.kind is dict else None, (f"added {next(writer.numbers)}", None)
    )
    entry.touched = True
    return entry


def touch(root, wanted):
    """Mark an entry, and what is in the same line of a container in flow style that is all in one."""

    def walk(container, around):
        for entry in container.entries:
            if entry is wanted:
                for each in (*around, entry):
                    each.touched = True
            if isinstance(entry.node, Container):
                walk(entry.node, [*around, entry] if entry.node.flow else [])

    walk(root, [])


def count_change(root, changed):
    """Count a change for the container and all that it is in; return whether `root` is one of these."""
    below = [count_change(entry.node, changed) for entry in root.entries if isinstance(entry.node, Container)]
    inside = root is changed or any(below)
    root.changes += inside
    return inside


def sure_containers(container):
    """Yield the containers, and their entries, of which one can tell from the state what became of them.

    Not the entries of a list of which an item was removed and another one changed: no comparison tells which is which.
    """
    if container.kind is list and container.changes > 1:
        return
    yield container
    for entry in container.entries:
        if isinstance(entry.node, Container):
            yield from sure_containers(entry.node)
