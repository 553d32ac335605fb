"""The seam leaves nothing out: what strace sees of the state's files is what passes through it, and fails alike."""

import collections
import json
import os
import random
import re
import shutil
import subprocess
import sys

import pytest
from support.runs import ROOT, SEED, scaled

CHILD = """
import errno, json, os, sys
from support.lives import LIFE
from support import probe
from support.seam import between
import mmapstate
from mmapstate import StateError

path, fail, number, code = sys.argv[1:]
probe.check_always()  # the calls do not depend on the time
probe.put(probe.PATIENCE, 0.0)
probe.put(probe.GROWING_REGION, 0)
calls = []

def handle(name, arguments, do):
    calls.append(name)
    if name == fail and calls.count(name) == int(number):
        raise OSError(int(code), os.strerror(int(code)))
    return do(*arguments)

told = []
os.access("/the-life-begins", 0)
with between(handle):
    state = None
    for step in (lambda state: mmapstate.open(path, {"n": 0}, durability="power"), *LIFE):
        try:
            state = step(state) or state
            told.append("done")
        except (OSError, StateError) as error:
            told.append(f"{type(error).__name__} {getattr(error, 'errno', None)}")
            if state is None:
                break
    if state is not None:
        state.close()
        told.append(mmapstate.plain(state))
os.access("/the-life-ends", 0)
json.dump([calls, told], sys.stdout)
"""

# What the seam calls them; a Python of another version, or for another processor, uses others of the same sense.
NAMES = {
    "openat": "open", "open": "open", "pread64": "pread", "pwrite64": "pwrite", "ftruncate": "ftruncate",
    "rename": "replace", "renameat": "replace", "renameat2": "replace", "unlink": "unlink", "unlinkat": "unlink",
    "fsync": "fsync", "fdatasync": "fdatasync", "flock": "flock", "mmap": "mmap", "fchmod": "fchmod",
    "fchown": "fchown", "lseek": "lseek", "stat": "stat", "newfstatat": "stat", "fstat": "fstat",
}  # fmt: skip
CHANGING = {
    *("open", "pwrite", "ftruncate", "replace", "unlink", "fsync", "fdatasync", "flock", "mmap", "fchmod", "fchown"),
    "listdir",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace is there for Linux alone")


def traced(tmp_path, name, *inject, fail=("none", "0", "0")):
    """Live the life in `tmp_path`, under strace; return the calls it saw, those of the seam, and what was told."""
    folder = tmp_path / name
    folder.mkdir()
    log = tmp_path / f"{name}.strace"
    path = str(folder / "example.state")
    python = [sys.executable, "-c", CHILD, path, *fail]
    trace = "trace=?access,?faccessat,?faccessat2,?" + ",?".join(NAMES)
    strace = ["strace", "-f", "-y", "-o", str(log), "-e", trace]
    run = subprocess.run(
        [*strace, *inject, "--", *python] if fail[0] == "none" else python,
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["tests", "."])},
        cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    seam, told = json.loads(run.stdout)
    return (log.read_text() if log.exists() else "", seam, told, str(folder))


def lines_of(log):
    """Return the lines of strace's log, each a name and its arguments, that belong to the life; and those before."""
    lines = [match.groups() for match in re.finditer(r"^\d+ +(\w+)\((.*)", log, re.M)]
    begin, end = [number for number, (_, arguments) in enumerate(lines) if "/the-life-" in arguments]
    return lines[:begin], lines[begin + 1 : end]


@pytest.fixture(scope="module")
def strace():
    if shutil.which("strace") is None or subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode:
        pytest.skip("no strace, or it may not trace here")


def test_every_call_for_a_file_of_the_state_passes_through_it(tmp_path, strace):
    log, seam, told, folder = traced(tmp_path, "life")
    assert set(told[:-1]) == {"done"}
    seen = []
    for name, arguments in lines_of(log)[1]:
        kind = "fstat" if "AT_EMPTY_PATH" in arguments else "listdir" if "O_DIRECTORY" in arguments else NAMES[name]
        if folder in arguments and "AT_SYMLINK_NOFOLLOW" not in arguments:  # as realpath asks, once at open
            seen.append(kind)
    changes = [name for name in seam if name in CHANGING]
    assert [name for name in seen if name in CHANGING] == changes
    assert len(changes) > 60
    counts, expected = collections.Counter(seen), collections.Counter(seam)
    for name in ("pread", "stat", "lseek"):
        assert counts[name] == expected[name], name
    # Python asks for the size of what it maps, and the seam for its inode; the C library for a folder's kind.
    assert counts["fstat"] == expected["fstat"] + 2 * expected["mmap"] + expected["listdir"]


def test_a_call_that_fails_there_fails_as_if_the_system_had_failed_it(tmp_path, strace):
    dice = random.Random(SEED)
    log, seam, _, _ = traced(tmp_path, "life")
    before, life = lines_of(log)
    system = {"pwrite": "pwrite64", "fsync": "fsync", "fdatasync": "fdatasync", "ftruncate": "ftruncate"}
    system |= {"replace": next(name for name, _ in life if NAMES[name] == "replace")}
    codes = {"pwrite": 28, "fsync": 5, "fdatasync": 5, "ftruncate": 5, "replace": 28}
    places = [(name, number) for name in system for number in range(1, seam.count(name) + 1)]
    failed = 0
    for name, number in dice.sample(places, min(len(places), scaled(20))):
        when = number + sum(called == system[name] for called, _ in before)
        told = f"{name}-{number}"
        inject = ("-e", f"inject={system[name]}:error={codes[name]}:when={when}")
        by_system = traced(tmp_path, f"{told}-system", *inject)[2]
        by_seam = traced(tmp_path, f"{told}-seam", fail=(name, str(number), str(codes[name])))[2]
        assert by_system == by_seam, told
        failed += set(by_seam[:-1]) != {"done"}
    assert failed  # not all: what fails at close is logged
