"""Files of format 1 are read identically for ever: one of each kind that a program, a kill, an editor or a copy leaves.

They are in ``data/format1`` (made by ``tools/make_golden_files.py``), each with the state that it holds. None of them
is ever changed or removed: a version of the library that reads one otherwise would lose what somebody stored.
"""

import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from support import independent_reader
from support.broken_files import put
from support.golden import DATA, NAMES, assert_same, golden
from support.processes import not_on_windows
from support.runs import ROOT

import mmapstate
from mmapstate import PersistedState
from mmapstate.care import findings, salvage
from mmapstate.file import content

pytestmark = pytest.mark.family("golden")


# Of these the checksums do not tell that all is as it was written: somebody else wrote to them.
CHANGED = {"saved-with-crlf", "edited-under-a-journal", "slack-cut"}

# Words and numbers that YAML 1.1 takes for something else than this library does.
OURS_ALONE = {"rest-typed-by-hand"}


def test_they_are_all_there():
    """A file that is missing is a kind that nobody looks at any more. Their number only grows."""
    assert len(NAMES) >= 37
    assert sorted(path.stem for path in DATA.glob("*.yaml")) == NAMES
    assert {path.suffix for path in DATA.iterdir()} == {".state", ".yaml"}


@pytest.mark.parametrize("name", NAMES)
def test_the_parser_reads_it(name):
    data, expected = golden(name)
    parts = content.layout(data, name)
    assert_same(content.read(data, parts, name).state, expected)
    assert parts.scan is None or parts.scan.bad == -1
    assert not parts.foreign


@pytest.mark.parametrize("name", NAMES)
def test_an_independent_reader_reads_it(name):
    data, expected = golden(name)
    whole = independent_reader.as_written(data)
    if name not in OURS_ALONE:
        assert_same(independent_reader.read_state(whole), expected)
    if name not in CHANGED:
        independent_reader.check(whole)


@pytest.mark.parametrize("name", NAMES)
def test_any_yaml_reader_reads_it_as_a_stream(name):
    """At every moment: for who only wants the document at its front."""
    data, _ = golden(name)
    if b"\0" not in data:
        assert len(list(yaml.safe_load_all(data))) >= 1 or data == b""


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_reads_it_and_changes_no_byte(tmp_path, name):
    data, expected = golden(name)
    path = tmp_path / "a.state"
    put(path, data)
    with mmapstate.open(path, readonly=True) as state:
        assert_same(state.plain(), expected)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.state"]


@pytest.mark.parametrize("name", NAMES)
def test_a_program_opens_it_goes_on_with_it_and_leaves_it_at_rest(path, name):
    data, expected = golden(name)
    put(path, data)
    with PersistedState(path) as state:
        assert_same(state.plain(), expected)
        state["added"] = 1
    with PersistedState(path) as state:
        assert_same(state.plain(), {**expected, "added": 1})
        del state["added"]
    with open(path, "rb") as file:
        assert_same(content.read(text := file.read(), content.layout(text, name), name).state, expected)
    assert b"mmapstate journal" not in text


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wrong_with_it_that_would_have_to_be_repaired(name):
    data, _ = golden(name)
    found = {finding.severity for finding in findings.examine(data, name).findings}
    assert found <= ({"note", "warning"} if name in CHANGED | OURS_ALONE else {"note"})
    assert salvage.mend(data, name) is None


@pytest.mark.skipif(not hasattr(yaml, "CSafeDumper"), reason="PyYAML without libyaml escapes more letters")
@not_on_windows("the tool makes crashes by putting files back that are open")
def test_the_library_still_writes_the_same_ones():
    """Not for ever: the tool says what to do where it is meant to write others."""
    tool = ROOT / "tools" / "make_golden_files.py"
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(mmapstate.__file__).resolve().parent.parent)}
    done = subprocess.run(
        [sys.executable, str(tool)], check=False, capture_output=True, text=True, timeout=120, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
