"""Editors and type checkers know declared fields: mypy and pyright accept and refuse what they must."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parent / "typing_samples"
ROOT = SAMPLES.parent.parent
REFUSED = {
    number
    for number, line in enumerate((SAMPLES / "refused.py").read_text().splitlines(), 1)
    if line.endswith("# refused")
}


def installed(name):
    return pytest.mark.skipif(
        importlib.util.find_spec(name) is None,
        reason=f"{name} comes with the extra `test` on CPython 3.12 and newer",
    )


@installed("mypy")
def test_mypy_strict_accepts_and_refuses_what_it_must(tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path)]
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\n")
    done = subprocess.run(
        [*command, "--config-file", str(config), "accepted.py", "refused.py"],
        cwd=SAMPLES, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    errors = re.findall(r"^(\w+)\.py:(\d+): error:", done.stdout, re.M)
    assert {name for name, _ in errors} == {"refused"}, done.stdout + done.stderr
    assert {int(line) for _, line in errors} == REFUSED, done.stdout


@installed("pyright")
def test_pyright_strict_accepts_and_refuses_what_it_must(tmp_path):
    for name in ("accepted.py", "refused.py"):
        (tmp_path / name).write_text((SAMPLES / name).read_text())
    settings = {"typeCheckingMode": "strict", "reportPrivateUsage": False, "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    told = json.loads(done.stdout)["generalDiagnostics"]
    errors = [
        (Path(each["file"]).stem, each["range"]["start"]["line"] + 1) for each in told if each["severity"] == "error"
    ]
    shown = "\n".join(f"{each['file']}:{each['range']['start']['line'] + 1}: {each['message']}" for each in told)
    assert {line for name, line in errors if name == "refused"} == REFUSED, shown
    assert [line for name, line in errors if name == "accepted"] == [], shown
