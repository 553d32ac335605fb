"""The families assert something: each of the seeded bugs makes the family that is named with it fail."""

import os
import random
import re
import subprocess
import sys

import pytest
from support.families import FAMILIES
from support.processes import not_on_windows
from support.runs import ROOT, SEED, scaled
from support.seeded_bugs import BUGS

CHOSEN = random.Random(SEED).sample(sorted(BUGS), min(len(BUGS), scaled(15)))


@pytest.mark.family("seeded-bugs")
@not_on_windows("Wine takes a minute to start the tests anew")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in CHOSEN else pytest.mark.skip("not drawn")) for n in BUGS]
)
def test_each_seeded_bug_is_caught_by_its_family(name, tmp_path):
    _, family, tests = BUGS[name]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    # Which cases are drawn for a tenth of the counts is chance: what they pass by, all of them must catch.
    for counts, timeout in (("tenth", 60), ("full", 200)):
        run = subprocess.run(
            [*command, f"--basetemp={tmp_path / 'inner'}", "-o", f"timeout={timeout}", "--family", family, *tests],
            cwd=ROOT, env=os.environ | {"MMAPSTATE_TEST_COUNTS": counts, "MMAPSTATE_SEEDED_BUG": name},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        print(run.stdout[-2000:])
        if run.returncode:
            break
    assert run.returncode == 1, f"{name}: the tests say {run.returncode}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    assert re.search(r"\b1 (failed|error)", run.stdout)


def test_each_family_catches_one():
    assert {family for _, family, _ in BUGS.values()} == {*FAMILIES} - {"seeded-bugs"}
