"""A program written for persistedstate 26.1 runs with only the import changed, and its files open, crashed ones too.

The files in ``data/persistedstate`` were written by persistedstate itself (see ``tools/make_predecessor_files.py``);
what it had in memory then stands beside each. The kills at every byte are made here, as its vacuum writes them.
"""

import collections
import contextlib
import functools
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import independent_reader, probe
from support.runs import SEED, TESTS, on_an_open_file, scaled

import mmapstate
from mmapstate import PersistedState, StateError, StateFileError
from mmapstate.file import content
from mmapstate.file import persistedstate as predecessor

DATA = TESTS / "data" / "persistedstate"
GOLDEN = sorted(path.stem for path in DATA.glob("*.state"))
REFUSED = {
    "journal-keys-that-json-makes-text": "change 2 behind its snapshot names the key 1, and there is '1'",
    "journal-negative-indexes": "change 3 behind its snapshot is at an index from which on persistedstate confuses",
    "journal-refused-changes": "change 1 behind its snapshot does not fit",
    "journal-torn": "change 11 behind its snapshot cannot be read: it is torn",
    "vacuum-before-cut": "persistedstate was killed here while it compacted its file",
}
STRIDE = 10 // min(scaled(10), 10)  # of bytes to cut at
LINE_ENDS = pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])


def golden(name):
    """Return a file of persistedstate and what it had in memory."""
    memory = yaml.safe_load((DATA / f"{name}.yaml").read_text("utf-8"))
    if name == "rest":  # it writes such text without quotes, and YAML 1.2 takes it for a number
        memory["texts"][memory["texts"].index("1e3")] = 1000.0
    return (DATA / f"{name}.state").read_bytes(), memory


def read(data):
    """Return the state in the bytes of a file."""
    return content.read(data, content.layout(data, "a.state"), "a.state").state


def same(left, right):
    """Compare as YAML: types and NaN count, the order of keys does not."""
    return yaml.safe_dump(left) == yaml.safe_dump(right)


def put(path, data):
    """Write a file as if that were long ago: opening it need not wait for an editor."""
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (1, 1))


def dumped(state):
    return yaml.safe_dump(state, allow_unicode=True, sort_keys=True).encode()


def journaled(*change):
    return b"\n---\n" + json.dumps(change, ensure_ascii=False).encode()


def apply(state, verb, path, key, *value):
    """Apply a change as persistedstate itself does when it opens a file."""
    for step in path:
        state = state[step]
    if verb == "set":
        state[key] = value[0]
    elif verb == "delete":
        del state[key]
    else:
        state.insert(key, value[0])


def left_by_vacuum(before, text, line_end=b"\n"):
    """Yield what each byte that a vacuum writes leaves: `before` is the file, `text` the dump of the state."""
    appended = text + b"\n---\n### LAST VALID STATE ###\n".replace(b"\n", line_end) + text
    for count in range(len(appended) + 1):
        yield before + appended[:count]
    over = text + b"..." + line_end
    for count in range(1, len(over) + 1):
        yield over[:count] + (before + appended)[count:]
    yield over[: len(over) - 5]


@pytest.mark.family("golden")
class TestGoldenFiles:
    def test_they_are_there(self):
        assert len(GOLDEN) == 6
        assert set(REFUSED) == {path.stem for path in DATA.glob("refused/*.state")}

    @pytest.mark.parametrize("name", GOLDEN)
    def test_opens_and_becomes_plain_yaml(self, path, name):
        data, expected = golden(name)
        put(path, data)
        for _ in range(2):
            with PersistedState(path) as state:
                assert same(state.copy(), expected)
            with open(path, "rb") as file:
                text = file.read()
            assert same(yaml.safe_load(text) or {}, yaml.safe_load((DATA / f"{name}.yaml").read_text("utf-8")))
            assert b"\n---" not in text

    @pytest.mark.parametrize("name", GOLDEN)
    def test_goes_on_where_it_stopped(self, path, name):
        data, expected = golden(name)
        put(path, data)
        with PersistedState(path, added=1) as state:
            state.added += 1
        assert same(PersistedState(path).copy(), expected | {"added": 2})

    @pytest.mark.parametrize("name", GOLDEN)
    def test_readonly_reads_it_and_changes_no_byte(self, tmp_path, name):
        data, expected = golden(name)
        path = tmp_path / "a.state"
        put(path, data)
        with mmapstate.open(path, readonly=True) as state:
            assert same(state.copy(), expected)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == ["a.state"]

    @pytest.mark.parametrize("name", GOLDEN)
    def test_a_hot_change_of_the_file_is_read_too(self, path, name):
        """A backup from the time of persistedstate, put in place of a file in use."""
        data, expected = golden(name)
        state = PersistedState(path, a=1)
        put(path + ".new", data)
        with on_an_open_file():
            os.replace(path + ".new", path)
        probe.check_next(state)
        assert same(state.copy(), expected)

    def test_persistedstate_makes_the_same_ones(self):
        pytest.importorskip("persistedstate")
        tool = DATA.parents[2] / "tools" / "make_predecessor_files.py"
        done = subprocess.run([sys.executable, str(tool)], check=False, capture_output=True, text=True, timeout=240)
        assert (done.returncode, done.stderr) == (0, "")

    def test_persistedstate_opens_what_we_leave(self, path):
        """There is a way back."""
        persistedstate = pytest.importorskip("persistedstate")
        for name in GOLDEN:
            put(path, golden(name)[0])
            PersistedState(path).close()
            with persistedstate.PersistedState(path) as state:
                found = persistedstate.types.convert_to_json_like(state)
            assert same(found, yaml.safe_load((DATA / f"{name}.yaml").read_text("utf-8"))), name


class TestWhatIsRefused:
    """With what it is and that persistedstate wrote it, by `check` and `repair`, too; and not a byte of it changes."""

    @pytest.mark.family("golden")
    @pytest.mark.parametrize("name", REFUSED)
    def test_a_file_that_holds_no_sure_state(self, broken_path, name):
        data = (DATA / "refused" / f"{name}.state").read_bytes()
        put(broken_path, data)
        for access in (mmapstate.open, functools.partial(mmapstate.open, readonly=True), mmapstate.repair):
            with pytest.raises(StateFileError, match=REFUSED[name]) as caught:
                access(broken_path)
            assert str(caught.value).endswith("The file is left as it is")
        assert pathlib.Path(broken_path).read_bytes() == data
        assert os.listdir(os.path.dirname(broken_path)).count("example.state") == 1
        (found,) = [found for found in mmapstate.check(broken_path) if found.severity == "error"]
        assert "persistedstate" in str(found)
        assert "mmapstate repair" not in str(found)

    @LINE_ENDS
    @pytest.mark.parametrize("name", ["journal", "journal-alone"])
    def test_one_cut_anywhere_within_a_change(self, name, line_end):
        """Where it ends with a whole one, the state is that of then; where nothing of a change is there yet, too."""
        data = golden(name)[0].replace(b"\n", line_end)
        boundary = line_end + b"---" + line_end
        front, *documents = data.split(boundary)
        state, data = yaml.safe_load(front) or {}, front
        for document in documents:
            for end in range(1 + SEED % STRIDE, len(boundary + document), STRIDE):
                try:
                    assert same(read(data + (boundary + document)[:end]), state)
                    assert end <= len(boundary)
                except StateFileError:
                    pass
            data += boundary + document
            apply(state, *json.loads(document))
            assert same(read(data), state)

    def test_one_of_which_the_power_took_the_end(self):
        data, _ = golden("journal")
        for end in (len(data), len(data) - 5):
            with pytest.raises(StateFileError, match="cannot be read: it is torn, or something else was written"):
                read(data[:end] + b"\0" * 100)


class TestSaneJournal:
    def test_an_editor_that_took_away_the_empty_line_at_the_beginning_took_nothing(self):
        data, expected = golden("journal-alone")
        assert same(read(data.lstrip()), expected)

    def test_all_json_that_yaml_does_not_read_alike_is_read(self):
        """With its own recovery persistedstate reads none of these back as it wrote them."""
        values = [1e16, float("inf"), "\u0085\u2028\ufeff\x7f", "a\u2029 b", {"a" * 500: 1}]
        data = b"a: 1" + b"".join(journaled("set", [], f"k{number}", value) for number, value in enumerate(values))
        assert read(data) == {"a": 1} | {f"k{number}": value for number, value in enumerate(values)}

    @pytest.mark.parametrize(
        ("front", "change", "expected"),
        [
            (b"l: [1, 2]", ("delete", ["l"], -1), {"l": [1]}),
            (b"l: [1, 2]", ("set", ["l"], -2, {}), None),
            (b"l: [{}, 2]", ("delete", ["l"], -1), None),
            (b"l: [{a: 1}]", ("set", ["l", -1], "a", 2), None),
            (b"l: [1]", ("insert", ["l"], 5, 2), {"l": [1, 2]}),
            (b"l: [1]", ("insert", ["l"], 5, []), None),
            (b"l: [1]", ("insert", ["l"], 1, []), {"l": [1, []]}),
            (b"d: {'1': 2}", ("set", ["d"], 1, 3), None),
            (b"d: {'1': {}}", ("set", ["d", 1], "a", 3), None),
            (b"d: {'null': 2}", ("delete", ["d"], None), None),
            (b"d: {1: 2}", ("set", ["d"], 1, 3), {"d": {1: 3}}),
            (b"d: {1: 2, '1': 4}", ("set", ["d"], 1, 3), {"d": {1: 3, "1": 4}}),
        ],
    )
    def test_a_change_is_read_where_it_cannot_have_been_meant_for_another_place(self, front, change, expected):
        data = front + journaled(*change)
        if expected is None:
            with pytest.raises(StateFileError, match="change 1 behind its snapshot"):
                read(data)
        else:
            assert same(read(data), expected)

    def test_a_plain_word_that_was_a_boolean_there_is_told(self):
        suspects = []
        assert predecessor.read(b"a: yes" + journaled("set", [], "b", "no"), "f", suspects) == {"a": "yes", "b": "no"}
        assert suspects == [(1, "yes")]


NUMBER = re.compile(r"[-+.0-9][-+.0-9eE_]*")  # it leaves 1e3 without quotes, and YAML 1.2 takes that for a number
texts = st.text(
    st.characters(exclude_characters="\x85", codec="utf-8"),
    max_size=30,  # PyYAML's dumper loses U+0085
).filter(lambda text: not NUMBER.fullmatch(text))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False), texts)
keys = texts | st.sampled_from(["a", "b", "- a", "a: b", "#", "k" * 130])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)


@st.composite
def killed_programs(draw):
    """A file at rest, some changes, and a vacuum cut somewhere: the file left and the state before the kill."""
    state = draw(st.dictionaries(keys, values, max_size=5))
    before = draw(st.sampled_from([dumped(state)[:-1], dumped(state), b""]))
    if not before:
        state = {}
    for _ in range(draw(st.integers(1, 4))):
        key = draw(keys)
        if key in state and draw(st.booleans()):
            del state[key]
            before += journaled("delete", [], key)
        else:
            state[key] = draw(values)
            before += journaled("set", [], key, state[key])
    line_end = draw(st.sampled_from([b"\n", b"\r\n"]))
    before, text = (part.replace(b"\n", line_end) for part in (before, dumped(state)))
    return draw(st.sampled_from(list(left_by_vacuum(before, text, line_end)))), state


class TestAnyFile:
    @settings(max_examples=scaled(400), deadline=None)
    @given(killed_programs())
    def test_any_kill_of_any_program_loses_nothing_in_silence(self, killed):
        data, state = killed
        with contextlib.suppress(StateFileError):
            assert same(read(data), state)

    @settings(max_examples=scaled(300), deadline=None)
    @given(st.dictionaries(keys, values, max_size=5))
    def test_any_file_at_rest_is_none_with_a_journal(self, state):
        assert not content.layout(dumped(state)[:-1], "").foreign

    FRAGMENTS = (
        *(b"\n---\n", b"\r\n---\r\n", b"### LAST VALID STATE ###\n", b"...\n", b"a: 1\n", b"a: 1", b"b:\n- x\n", b"{}"),
        *(
            b'["set", [], "a", 2]',
            b'["delete", ["b"], -1]',
            b'["insert", ["b"], 0, {"c": 1}]',
            b'["set", [',
            b"[[1], 2]",
        ),
        *(b'["set", ["b", 0], "c", [[]]]', b'["set", [[1]], {}, 2]', b'["frob", 1, 2]', b'["set", "ab", 0, 1]'),
        *(b'["set", null, 0, 1]', b'["insert", ["b"], 1e400, 1]', b'["insert", ["b"], 99999999999999999999999, 1]'),
        *(b'["set", [NaN], NaN, NaN]', b'["set", [], "\\ud800", 1]', b'["set", [], ' + b"9" * 5000 + b", 1]"),
        *(b'["set", [], "x", ' + b"[" * 120 + b"]" * 120 + b"]", b"[" * 5000, b"\xef\xbb\xbf", b"\xc3", b"\0\0"),
        *(b"- ", b"#", b"{", b"[", b"]", b'"', b"\n", b"\r", b" ", b"-", b"? ", b": "),
    )

    @settings(max_examples=scaled(1500), deadline=None)
    @given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join))
    def test_any_bytes_give_a_state_or_our_error(self, data):
        try:
            state = read(data)
        except StateError:
            return
        assert isinstance(state, dict)

    @settings(max_examples=scaled(800), deadline=None)
    @given(st.sampled_from(GOLDEN), st.data())
    def test_a_damaged_file_gives_a_state_or_our_error(self, name, draw):
        data, _ = golden(name)
        for _ in range(draw.draw(st.integers(1, 3))):
            start = draw.draw(st.integers(0, len(data)))
            stop = draw.draw(st.integers(start, min(len(data), start + 20)))
            data = data[:start] + draw.draw(st.sampled_from(self.FRAGMENTS) | st.binary(max_size=5)) + data[stop:]
        try:
            state = read(data)
        except StateError:
            return
        assert isinstance(state, dict)


class TestRefusedFiles:
    NEITHER = (
        *(
            b"a: 1\n---\nb: 2\n",
            b"a: 1\n---\n[x, y]\n",
            b"a: 1\n---\n- x\n",
            b'a: 1\n---\n{"b": 2}\n',
            b"- 1\n---\n[1]",
        ),
        *(
            b"a: 1\n...\n---\nb: 2\n",
            b"a: 1\n---\n[]",
            b'a: 1\n---\n["frob", [], "a", 2]',
            b'a: 1\n---\n["set", [], "a"]',
        ),
        *(b'a: 1\n---\n["set", "a", "b", 1]', b'a: 1\n---\n[["set"], [], "a", 2]', b'a: 1\n---\n["se', b"a: 1\n---\n"),
        *(b'a: 1\n---\n["set", [], "a", 2]\n' + behind for behind in (b"b: 3\n", b"---\nb: 3\n", b" garbage", b"\0")),
        b'a: 1\n---\n["set", [], "a", 2]\n---\n["set", [], \n---\n["set", [], "a", 3]',
        b'a: 1\n---\n["set", [], "a", "\xff"]\n---\n["set", [], "b", 1]',
        b"a: 1\n---\n### LAST VALID STATE ###\nb: 2\n",
        b"a: 1\na: 2\n\n---\n### LAST VALID STATE ###\nc: 3\n",
        b'a: [1\n---\n["set", [], "a", 2]',
        b'a: 1\n---\n["set", [], "deep", ' + b"[" * 101 + b"]" * 101 + b"]",
        b'a: 1\n---\n["set", [], "' + b"k" * 2000 + b'", 1]',
    )

    @pytest.mark.parametrize("data", NEITHER, ids=range(len(NEITHER)))
    def test_what_is_neither_is_refused_and_keeps_its_bytes(self, broken_path, data):
        put(broken_path, data)
        for options in ({}, {"readonly": True}):
            with pytest.raises(StateFileError, match=r"example\.state"):
                mmapstate.open(broken_path, {"x": 1}, **options)
            assert pathlib.Path(broken_path).read_bytes() == data


class TestPlainFilesThatLookSimilar:
    SIMILAR = (
        b'a:\n- ["set", [], "a", 2]\n- [\'set\', [], a, 2]\n',
        b'a: |\n  ---\n  ["set", [], "a", 2]\n  ---\n  ### LAST VALID STATE ###\n  b: 2\n',
        b"a: >\n  x\n\n  ---\n\n  [y]\nb: 1\n",
        b'a: "x\n  ---\n  [\n  y"\n',
        b"# mine\n---\na: 1\n",
        b"---\na: 1\n",
        b"--- # [\na: 1\n",
        b"# mine\n---\n{a: 1}\n",
        b'# mine\n---\n{"a": [1, 2]}\n',
        b"%YAML 1.1\n---\na: 1\n",
        b"a: 1\n### LAST VALID STATE ###\nb: 2\n",
        b"### LAST VALID STATE ###\nb: 2\n",
        b"a: 1\n...\n",
        b"a: 1 # a: 1",
        b"a: 1 #a: 1",
        b"a: 'a: '",
        b'a: "a: 1"',
        b"a: b\nc: 'a: b\n\n  c'\n",
        b"a:\n- a:\n  - a:\n    - a: a\n",
        b"a: 1\nb:\n  a: 1\n",
        b"a: 1\nb:\n  a: 1",
        b"a: aa",
        b"name: bobname",
        b"a: [b, {a: [b]}]",
        b"\n\n\na: 1\n\n\n",
        b"a:\n- ---\n- '---'\n",
        b"-: 1\n--: 2\n",
        b"[1]: 2\n".replace(b"[1]", b"'[1]'"),
        b"{}\n",
        b"{}",
        b"{a: 1}",
        b"# only a comment\n",
        b"#",
    )

    @pytest.mark.parametrize("data", SIMILAR, ids=range(len(SIMILAR)))
    def test_it_is_read_as_yaml_and_stays_as_it_is(self, path, data):
        put(path, data)
        expected = yaml.safe_load(data) or {}
        assert not content.layout(data, "").foreign
        with PersistedState(path) as state:
            assert state.copy() == expected
        assert pathlib.Path(path).read_bytes() == data
        with mmapstate.open(path, readonly=True) as state:
            assert state.copy() == expected

    STREAMS = (
        (b"# mine\na: 1\n---\n", "line 3, column 1: a second document begins: this is a stream of several documents"),
        (b"---\na: 1\n---\n", "line 3, column 1: a second document begins: this is a stream of several documents"),
        (b"# mine\na: 1 # a\nb:\n- 2\n-", None),
        (b"# mine\na: 1 # a\n-", "line 3"),
        (b"# mine\na: 1\nb: 2\na: 1\n", "line 4, column 1: the key 'a' stands twice in one mapping"),
        (b"a: 1\na: 1\n", "line 2, column 1: the key 'a' stands twice in one mapping"),
        (b"kind: A\n---\nkind: B\n", "line 2, column 1: a second document begins: this is a stream"),
        (b"a: x\na: x", "line 2, column 1: the key 'a' stands twice"),
    )

    @pytest.mark.family("editors")
    @pytest.mark.parametrize(("data", "problem"), STREAMS, ids=range(len(STREAMS)))
    def test_what_ends_like_one_of_its_crashed_files_is_refused_or_kept_as_it_is(self, broken_path, data, problem):
        put(broken_path, data)
        if problem is None:
            with PersistedState(broken_path) as state:
                assert state.copy() == yaml.safe_load(data)
        else:
            with pytest.raises(StateFileError, match=problem):
                PersistedState(broken_path)
        assert pathlib.Path(broken_path).read_bytes() == data


def run(program, folder, *arguments):
    """Run a program written for persistedstate with only the import changed; return what it printed."""
    program = textwrap.dedent(program).replace("from persistedstate import", "from mmapstate import")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(mmapstate.__file__))},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestReadmeOfPersistedstate:
    """Its examples, word for word (where a tenth of the counts is asked for, with a shorter loop)."""

    LAST = scaled(100_000)
    LOOP = """
        from persistedstate import PersistedState

        STATE = PersistedState("example.state", last_id=0)

        for current_id in range(STATE.last_id + 1, 100_001):
            print(f"Processing item #{current_id}")
            STATE.last_id = current_id

        print("Processing DONE.")
        """.replace("100_001", str(LAST + 1))

    def test_simple_and_fast_solution_for_persisting_small_states(self, tmp_path):
        lines = run(self.LOOP, tmp_path).splitlines()
        assert len(lines) == self.LAST + 1
        assert lines[-2:] == [f"Processing item #{self.LAST}", "Processing DONE."]
        assert yaml.safe_load((tmp_path / "example.state").read_text()) == {"last_id": self.LAST}
        assert run(self.LOOP, tmp_path) == "Processing DONE.\n"

    def test_you_can_interrupt_this_script(self, tmp_path):
        killed = self.LOOP.replace(
            "STATE.last_id = current_id", "STATE.last_id = current_id; current_id < 5000 or exit()"
        )
        killed = killed.replace("exit()", "__import__('os')._exit(0)")
        run(killed, tmp_path)
        assert run(self.LOOP, tmp_path).splitlines()[0] == "Processing item #5001"

    def test_mapped_yaml_state_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        STATE = PersistedState("state.yaml", processed_items=[])
        STATE.setdefault("key", {})
        STATE["key"].setdefault("nested", 2)

        STATE.processed_items.append("<some item>")
        STATE["key"]["nested"] += 1

        on_disk = independent_reader.read_state((tmp_path / "state.yaml").read_bytes())
        assert on_disk == {"processed_items": ["<some item>"], "key": {"nested": 3}}

    def test_thread_safe(self, path):
        STATE = PersistedState(path, counter=0)

        def atomic_increment():
            with STATE._thread_lock:
                STATE.counter += 1

        threads = [threading.Thread(target=lambda: [atomic_increment() for _ in range(200)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert STATE.counter == 1600

    def test_performance(self, path):
        COUNT_TO = 1000
        state = PersistedState(path)
        state.counter = 0
        for _ in range(COUNT_TO):
            state.counter += 1
        assert state.counter == COUNT_TO


class TestProgramsForPersistedstate:
    def test_paths_of_each_sort(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for number, place in enumerate(
            ("a.state", tmp_path / "b.state", str(tmp_path / "c.state"), pathlib.Path("d.state"))
        ):
            with PersistedState(place, number=number) as state:
                assert state.number == number
        assert sorted(path.name for path in tmp_path.glob("*.state")) == ["a.state", "b.state", "c.state", "d.state"]

    def test_the_parameter_can_be_called_what_it_is_there(self, path):
        """``_filepath`` is no key, as attributes that begin with an underscore are none."""
        state = PersistedState(path, a=1)
        state._filepath = "x"
        state._private = {"any": object()}
        assert state._filepath == "x"
        assert list(state) == ["a"]

    def test_defaults_are_stored_where_the_file_has_none(self, path):
        with PersistedState(path, num=42, text="Hello") as state:
            state.text = "Ahoi"
        with PersistedState(path, num=1, text="1", more=[]) as state:
            assert dict(state) == {"num": 42, "text": "Ahoi", "more": []}

    def test_a_missing_attribute_is_an_attribute_error(self, path):
        state = PersistedState(path, a=1)
        assert not hasattr(state, "b")
        assert getattr(state, "b", 5) == 5
        with pytest.raises(AttributeError):
            _ = state._thread_lok
        with pytest.raises(KeyError):
            _ = state["b"]

    def test_it_is_a_mutable_mapping_and_its_lists_are_mutable_sequences(self, path):
        state = PersistedState(path, l=[1, {"a": 2}], d={"x": 1})
        assert isinstance(state, collections.abc.MutableMapping)
        assert isinstance(state.d, collections.abc.MutableMapping)
        assert isinstance(state["l"], collections.abc.MutableSequence)
        assert list(state) == ["l", "d"]
        assert len(state) == 2
        assert "d" in state
        assert state.get("none") is None
        assert state.pop("d") == {"x": 1}
        assert state.pop("d", None) is None
        assert state.setdefault("n", 1) == 1
        state.update({"m": 2}, k=3)
        assert {**state} == {"l": [1, {"a": 2}], "n": 1, "m": 2, "k": 3}
        assert sorted(state.keys()) == ["k", "l", "m", "n"]
        assert list(state.values())[1:] == [1, 2, 3]
        assert state.popitem() in [("k", 3), ("n", 1)]
        numbers = state["l"]
        numbers.append(3)
        numbers.extend([4, 5])
        numbers += [6]
        numbers.insert(0, 0)
        numbers.remove(4)
        assert numbers.pop() == 6
        assert numbers.index(3) == 3
        assert numbers.count(5) == 1
        numbers.reverse()
        assert list(numbers) == [5, 3, {"a": 2}, 1, 0]
        assert next(reversed(numbers)) == 0
        del numbers[0]
        numbers[0] = "first"
        assert list(numbers) == ["first", {"a": 2}, 1, 0]
        numbers.clear()
        state.clear()
        assert dict(state) == {}

    def test_a_held_item_goes_on_when_items_before_it_come_and_go(self, path):
        state = PersistedState(path, entries=[{"id": 0}, {"id": 1}, {"id": 2}])
        held = state.entries[2]
        del state.entries[0]
        held["modified"] = True
        state.entries.insert(0, {"id": 99})
        held["again"] = True
        probe.close_all()
        assert PersistedState(path).entries == [{"id": 99}, {"id": 1}, {"id": 2, "modified": True, "again": True}]

    def test_a_copy_of_the_file_in_use_holds_the_state(self, path, tmp_path):
        state = PersistedState(path, index=0, items_=[])
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda number: [state.items_.append(number) for _ in range(10)], range(20)))
        copy = tmp_path / "copy.state"
        put(copy, pathlib.Path(path).read_bytes())
        assert len(PersistedState(copy).items_) == 200

    def test_closing_twice_is_fine(self, path):
        state = PersistedState(path, a=1)
        state.close()
        state.close()
        with pytest.raises(ValueError):  # what writing to a closed file raises
            state.a = 2

    def test_a_subclass_opens_too(self, path):
        class Progress(PersistedState):
            def __init__(self, path):
                super().__init__(path, done=0)
                self._step = 2

            def advance(self):
                self.done += self._step

        with Progress(path) as state:
            state.advance()
            assert state.done == 2

    def test_logging_can_be_switched_on(self, path, caplog):
        caplog.set_level(logging.DEBUG)
        PersistedState(path, a=1).close()
        logging.getLogger("mmapstate").setLevel(logging.NOTSET)
