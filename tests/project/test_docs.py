"""The pages in ``mmapstate/docs`` are true: the format's worked example and reader, its tables, and the reference."""

import contextlib
import itertools
import os
import pathlib
import re
import runpy
import sys
import types
from datetime import date
from unittest import mock
from zlib import crc32

import pytest
import yaml
from support import independent_reader, probe
from support.golden import NAMES, assert_same, golden
from support.processes import Child
from support.runs import ROOT
from test_readme import PAGES, blocks

import mmapstate
from mmapstate import PersistedState, StateError
from mmapstate.file import content, format
from mmapstate.text import snapshot, writer
from mmapstate.text.reader import parse_flow

FORMAT = PAGES["mmapstate/docs/format.md"]
REFERENCE = PAGES["mmapstate/docs/reference.md"]


def shown(name):
    """Return the block of the format's page below ``<!-- example:name -->``."""
    (text,) = (block.text for block in blocks(FORMAT) if block.comment == f"example:{name}")
    return text


def table(text, first):
    """Return the rows of the table whose head begins with `first`: a list of cells for each."""
    lines = text[text.index(f"| {first} |") :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def code(cell):
    """Return what stands as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def undump(text):
    """Return the bytes that ``hexdump -C`` shows so, after a look at its column of characters."""
    data, repeats = b"", False
    for line in text.splitlines():
        offset, *_ = line.split()
        if offset == "*":
            repeats = True
            continue
        offset = int(offset, 16)
        while repeats and len(data) < offset:
            data += data[-16:]
        assert len(data) == offset
        repeats = False
        row = bytes.fromhex(line[8:58].replace(" ", ""))
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        assert row == b"" or line[60:] == f"|{characters}|", line
        data += row
    return data


EXAMPLE = undump(shown("bytes"))
STATE = yaml.safe_load(shown("state"))


# --- The worked example ---------------------------------------------------------------------------------------------


def test_library_reads_the_example():
    assert_same(content.read(EXAMPLE, content.layout(EXAMPLE, ""), "").state, STATE)


def test_a_program_that_opens_the_example_has_the_state_that_the_page_states(path):
    pathlib.Path(path).write_bytes(EXAMPLE)
    with mmapstate.open(path, readonly=True) as state:
        assert_same(state.plain(), STATE)
    with mmapstate.open(path) as state:
        assert_same(state.plain(), STATE)


def test_an_independent_reader_reads_the_example():
    independent_reader.check(EXAMPLE)
    assert_same(independent_reader.read_state(EXAMPLE), STATE)


def test_each_checksum_of_the_example_is_what_its_row_says():
    rows = table(FORMAT, "of")
    assert len(rows) == 5
    for _, span, what, continues, crc, place in rows:
        start, stop = map(int, re.findall(r"\d+", span))
        (continued,), (told,) = code(continues), code(crc)
        assert f"{crc32(EXAMPLE[start:stop], int(continued, 16)):08x}" == told
        if code(what):
            assert EXAMPLE[start:stop].decode() == code(what)[0]
        if place != "-":
            assert EXAMPLE[int(place) :].startswith(told.encode())
    crcs = [code(row[4])[0] for row in rows]
    assert [code(row[3])[0] for row in rows[2:]] == crcs[1:4]  # each continues the one before
    assert rows[0][1] == f"0 to {format.find_marker(EXAMPLE).start}"


def test_the_sizes_and_offsets_in_the_words_around_the_example():
    marker = format.find_marker(EXAMPLE)
    found = format.scan(EXAMPLE, marker.end, format.seed(marker.generation))
    assert f"Its {len(EXAMPLE)} bytes" in FORMAT
    assert f"The tail is {found.tail}," in FORMAT


def test_the_library_writes_the_example_byte_for_byte(path):
    """But for the third record, which a killed writer has left."""
    pathlib.Path(path).write_bytes(EXAMPLE[: format.find_marker(EXAMPLE).start])
    os.utime(path, (1, 1))  # not just edited
    names = itertools.count(0xA9)
    with (
        mock.patch(probe.NEW_GENERATION, side_effect=names),
        mock.patch(probe.NEW_GENERATION_AFTER_AN_EDIT, side_effect=names),
        mock.patch(probe.REGION_SIZE, return_value=384),
        mmapstate.open(path) as state,
    ):
        state["last_id"] = 2
        with state.transaction():
            state["queue"].append("dépôt")
            state["size"] = float("inf")
        written = pathlib.Path(path).read_bytes()
    tail = written.index(b"\n# ") + 1
    assert written[:tail] == EXAMPLE[:tail]
    assert written[tail:] == b"#" + b" " * (len(EXAMPLE) - tail - 1)


# --- The reader in the page -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    """The module that the page shows."""
    module = types.ModuleType("reader")
    exec(compile(shown("reader"), "format.md", "exec"), vars(module))
    return module


def test_the_reader_is_short_and_needs_little():
    lines = [line for line in shown("reader").splitlines() if line.strip()]
    assert len(lines) < 75
    assert [line.split()[1] for line in lines if line.startswith(("import", "from"))] == [
        "json",
        "math",
        "re",
        "zlib",
        "yaml",
    ]


def test_the_reader_reads_the_example(reader):
    assert_same(reader.state_in(EXAMPLE), STATE)


@pytest.mark.parametrize("name", NAMES)
def test_the_reader_reads_golden_files(reader, name):
    """All of them alike, those with words and numbers typed by hand included."""
    data, expected = golden(name)
    assert_same(reader.state_in(data), expected)


def test_the_reader_reads_what_a_killed_writer_left_of_a_journal(reader):
    line = format.marker(1, None, 0)
    for end in range(1, len(line) + 1):
        assert reader.state_in(b"a: 1\n#" + line[1:end]) == {"a": 1}


def test_the_reader_takes_zeros_for_slack(reader):
    """Pages that were lost with the power: the slack's `#` can be on one of them."""
    tail = EXAMPLE.index(b"#-- [")
    for kept in (tail, tail + 1, tail + 30):
        data = EXAMPLE[:kept] + bytes(len(EXAMPLE) - kept)
        assert_same(reader.state_in(data), STATE)
        assert_same(content.read(data, content.layout(data, ""), "").state, STATE)


def test_the_reader_refuses_damage(reader):
    """Any bit of a committed record, each marker of another version."""
    start, stop = EXAMPLE.index(b"--- ["), EXAMPLE.index(b"#-- [")
    for offset in range(start, stop):
        for bit in range(8):
            data = bytearray(EXAMPLE)
            data[offset] ^= 1 << bit
            try:
                found = reader.state_in(bytes(data))
            except ValueError:
                continue
            # The first byte of a line is what tells a comment: of the last one it undoes the commit. The bit that makes
            # NULs of spaces, or CR of LF, is none that anybody would notice: such are no other state.
            assert found in ({"last_id": 2, "queue": ["mill"]}, STATE), (offset, bit)
    with pytest.raises(AssertionError, match="another version"):
        reader.state_in(EXAMPLE.replace(b"journal 1", b"journal 2"))


def test_what_is_read_while_programs_write_is_a_state_that_was_or_is_read_again(reader, path):
    """Old bytes up to anywhere, newer ones behind: by as many commits as there are."""
    images, states = [], []
    with mmapstate.open(path, {"count": 0, "names": []}) as state:
        for number in range(6):
            with state.transaction():
                state["count"] = number
                state["names"].append("x" * number)
            images.append(pathlib.Path(path).read_bytes())
            states.append(state.plain())
    assert {len(image) for image in images} == {len(images[0])}
    again = 0
    for old, new in itertools.combinations(range(len(images)), 2):
        for cut in range(images[0].index(b"\n# ") - 100, images[-1].index(b"\n# ") + 5):
            try:
                found = reader.state_in(images[old][:cut] + images[new][cut:])
            except ValueError:
                again += 1
            else:
                assert found in states[old : new + 1]
    assert again  # and so it is known


def test_the_reader_follows_a_live_file(reader, path):
    """Two programs write and compact it: what is read is whole, and only goes forward."""

    def write(talk, path):
        with mmapstate.open(path) as state:
            for number in range(1500):
                with state.transaction():
                    count = state.increment("count")
                    state["last"].append(count)
                    if len(state["last"]) > 20:
                        del state["last"][:10]
                if number % 100 == 0:
                    with contextlib.suppress(StateError):  # on Windows, where the reader has the file open
                        state.vacuum()
                if number == 0:
                    talk.send("at work")

    with mmapstate.open(path, {"count": 0, "last": [0]}):
        pass
    with Child(write, path) as one, Child(write, path) as other:
        for child in (one, other):
            assert child.receive() == "at work"
        seen, reads = 2, 0
        while seen < 3000:
            try:
                state = reader.read(path)
            except PermissionError:
                if sys.platform != "win32":
                    raise
                continue  # in the moment of a vacuum, which can be longer than the reader's patience
            assert state["last"][-1] == state["count"] >= seen
            seen = state["count"]
            reads += 1
        one.result()
        other.result()
    assert reads > 1
    assert reader.read(path)["count"] == 3000


# --- Tables and words of the page about the format -----------------------------------------------------------------


KINDS = {"text": str, "booleans": bool, "a date": date, "null": type(None)}


def typed():
    """Return each text of the table of traps, what it is here, and what PyYAML takes it for."""
    for words, here, pyyaml, _ in table(FORMAT, "typed"):
        texts = code(words)
        for number, text in enumerate(texts):
            ours, theirs = ((cell.split(", ") * len(texts))[number] for cell in (here, pyyaml))
            yield text, ours, ours if theirs == "the same" else theirs


@pytest.mark.parametrize(("text", "here", "pyyaml"), list(typed()))
def test_words_typed_by_hand_are_read_as_the_table_says(reader, text, here, pyyaml):
    data = f"a: {text}\n".encode()
    for told, value in (
        (here, snapshot.parse(data, "")["a"]),
        (here, reader.state_in(data)["a"]),
        (pyyaml, yaml.safe_load(data)["a"]),
    ):
        kind = KINDS.get(told.partition(" (")[0])
        assert type(value) is kind if kind else repr(value) == told


@pytest.mark.parametrize("row", table(FORMAT, "value"), ids=lambda row: row[0])
def test_values_are_written_as_the_table_says(row):
    """What it shows as code is what the library writes for the value that it reads there."""
    _, in_snapshot, in_payload = row
    for text in code(in_snapshot):
        if text != "!!binary":
            read = snapshot.parse(f"a: {text}\n".encode(), "")["a"]
            assert writer.dump({"a": read}) == f"a: {text}\n".encode()
    for text in code(in_payload):
        assert mmapstate.changes.text_of(parse_flow(text.encode())) == text


def test_the_four_changes_are_told():
    rows = [code(row[0])[0] for row in table(FORMAT, "change")]
    lengths = {re.match(r'\["(\w+)"', text)[1]: text.count(",") + 1 for text in rows}
    assert lengths == probe.CHANGE_LENGTHS


def test_page_and_docstring_agree():
    """The grammar is the same in both; the page tells more of changes."""

    def rules(text):
        found = re.findall(r"^ *(\w+) +:= (.*)$", text, re.M)
        return {name: re.split(r" {3,}", rule)[0].strip() for name, rule in found}

    page, docstring = rules(FORMAT), rules(format.__doc__)
    assert docstring.keys() - page.keys() == set()
    assert {name: page[name] for name in docstring} == docstring


# --- The notes ------------------------------------------------------------------------------------------------------

NOTES = PAGES["mmapstate/docs/notes.md"]


def test_the_notes_are_short_and_tell_of_each_tool():
    """Files and modules that they name are there."""
    assert len(NOTES.splitlines()) < 180
    assert [tool.name for tool in (ROOT / "tools").glob("*.py") if f"tools/{tool.name}" not in NOTES] == []
    named = re.findall(r"\b(?:tests|tools)/[\w/]+(?:\.py)?", NOTES)
    assert [name for name in named if not (ROOT / name).exists() and name != "tests/test_x.py"] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z]\w+\.\w+)`", NOTES))))
def test_the_methods_that_the_notes_name_are_there(name):
    kind, method = name.split(".")
    folder = ROOT / "mmapstate"
    names = (".".join(part.relative_to(folder.parent).with_suffix("").parts) for part in folder.rglob("*.py"))
    modules = (sys.modules.get(name) for name in names)
    assert any(hasattr(getattr(module, kind, None), method) for module in modules)


# --- The reference --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maker():
    """The names of the tool that makes the page."""
    with mock.patch.object(sys, "path", [*sys.path]):
        return runpy.run_path(str(ROOT / "tools" / "make_reference.py"))


def test_the_reference_is_what_the_docstrings_say_now(maker, tmp_path):
    """Else run ``python tools/make_reference.py``. Each version of Python makes the same page, whatever ran before."""
    with PersistedState(tmp_path / "a.state", some_key=1) as state:
        assert state.some_key == 1  # learned by the class
    assert maker["reference"]() == REFERENCE


@pytest.mark.parametrize("name", mmapstate.__all__)
def test_each_public_name_has_an_entry_in_the_reference(name):
    assert re.search(rf"^### (?:mmapstate\.)?{name}$", REFERENCE, re.M)


def test_the_tree_in_the_reference_names_each_error_and_what_else_it_is():
    for name in mmapstate.__all__:
        error = getattr(mmapstate, name)
        if isinstance(error, type) and issubclass(error, Exception):
            (line,) = re.findall(rf"^[├│└─ ]*{name} .*", REFERENCE, re.M)
            others = [base.__name__ for base in error.__bases__ if base.__module__ == "builtins"]
            assert all(f"(also {other})" in line for other in others if other != "Exception")


@pytest.mark.parametrize("kind", [mmapstate.State, mmapstate.PersistedState, mmapstate.StateDict, mmapstate.StateList])
def test_each_method_is_in_the_reference(kind):
    """By an entry of its own, or by name in the line of those that are as `dict` and `list` have them."""
    same = "".join(re.findall(r"^As a `.*?\n\n", REFERENCE, re.M | re.S))
    own = set(re.findall(r"^#### \w+\.(\w+)$", REFERENCE, re.M))
    learned = probe.sure_names(kind)  # keys that other tests have used
    public = [name for name in dir(kind) if not name.startswith("_") and name not in learned]
    assert [name for name in public if name not in own and f"`{name}`" not in same] == []


def test_each_option_is_in_the_reference(maker):
    options = maker["parameters"](maker["definition"](mmapstate.open).args)
    names = {option.partition(":")[0] for option in options} - {"*"}
    told = REFERENCE[REFERENCE.index("### mmapstate.open") :].partition("\n### ")[0]
    assert names == set(re.findall(r"^- `(\w+)`: ", told, re.M))


def test_the_reference_is_refused_where_a_docstring_is_missing(maker):
    def bare():
        pass

    class Told:
        """It is told."""

        def method(self):
            pass

    for each in (bare, Told):
        with pytest.raises(LookupError, match=r"(bare|Told\.method) has no docstring"):
            list(maker["entry"](each.__name__, each))


def test_signatures_are_shown_as_they_are_written(maker):
    def call(a, b: int = 1, /, *others: str, c, d: "list[int] | None" = None, **rest: bool) -> "int":
        """Call."""

    expected = "call(a, b: int = 1, /, *others: str, c, d: 'list[int] | None' = None, **rest: bool) -> 'int'"
    assert expected in maker["signature"]("call", call)
