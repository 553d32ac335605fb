"""Changes the code of the pure modules in small ways, and tells which changes no test notices: mutation testing.

    pip install mutmut                                     (the extra "mutate"), beside what the tests need
    python tools/mutate.py                                 all mutants of `MODULES`
    python tools/mutate.py format --jobs 2
    python tools/mutate.py --sample 300 --seed 1           so many of them, the same for the same seed

Prints the share that the tests of these modules kill, by module, and each survivor: file, line and what was changed.
The exit code is 1 where the share is below ``--at-least``, 2 where mutmut does not run.

It works on a copy of the checkout in a temporary folder. What mutmut changes is inside of functions: constants and
regular expressions at the top of a module are not among it. A test that takes half a minute hangs, and has noticed.
"""

from __future__ import annotations

import argparse
import ast
import collections
import importlib.util
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
MODULES = ("file/format", "changes", "text/scalars", "text/reader", "text/writer")
TESTS = (
    "unit/values",
    "unit/care",
    *(f"unit/text/test_{name}.py" for name in ("snapshot", "patch")),
    *(f"unit/file/test_{name}.py" for name in ("format", "stream")),
    *(f"chaos/test_{name}.py" for name in ("every_byte", "dirty_tail", "fuzz")),
)
LEFT_OUT = (  # slow, and of speed, recursion and kills
    "unit/file/test_format.py::TestTime",
    "unit/text/test_patch.py::test_long_lists_take_the_time_of_sorting",
    "unit/care/test_repair.py::TestDocument::test_large_ones_take_no_more_than_seconds",
    "unit/care/test_repair.py::TestInterrupted",
    "unit/text/test_snapshot.py::test_everything_works_at_the_default_recursion_limit",
)
NOTICED = {"killed", "timeout", "segfault"}

PROFILE = """# The same examples for each mutant, and no search for a smaller one once an example has failed.
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "mutate",
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.differing_executors],  # mutmut runs the tests several times in one process
)
settings.load_profile("mutate")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=MODULES, help="names in mmapstate (default: those of `MODULES`)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many at once (default: %(default)s)")
    parser.add_argument("--sample", type=int, metavar="N", help="how many, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, metavar="N", help="what draws them (default: drawn, and told)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone: names that an earlier run told")
    parser.add_argument("--at-least", type=float, default=90, metavar="N", help="per cent (default: %(default)s)")
    options = parser.parse_args()
    for module in options.modules:
        if not (CHECKOUT / "mmapstate" / f"{module}.py").exists():
            parser.error(f"there is no module {module}")
    if sys.platform == "win32" or importlib.util.find_spec("mutmut") is None:
        print("this needs mutmut, which runs on Linux and macOS: pip install mutmut", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = Path(folder)
        prepare(copy, options.modules)
        chosen = options.only or draw(copy, options.modules, options.sample, options.seed)
        arguments = ["run", "--max-children", str(options.jobs), *chosen]
        code = mutmut(copy, *arguments, stdout=None).returncode
        if code != 0:
            print(f"mutmut ended early, with exit code {code}", file=sys.stderr)
            return 2
        outcomes = dict(re.findall(r"^ +(\S+): (.*)$", mutmut(copy, "results", "--all", "true").stdout, re.MULTILINE))
        outcomes = {name: outcome for name, outcome in outcomes.items() if outcome != "not checked"}
        for name, outcome in outcomes.items():
            if outcome not in NOTICED:
                print(f"\n{describe(copy, name)}\n    {outcome}: {name}")
    return 0 if tell(outcomes) >= options.at_least else 1


def prepare(copy: Path, modules: list[str]) -> None:
    """Copy what is mutated and its tests, and write what mutmut and Hypothesis are to do."""
    for part in ("mmapstate", "tests"):
        shutil.copytree(CHECKOUT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    (copy / "mutation_profile.py").write_text(PROFILE)
    (copy / "mutants").mkdir()  # mutmut fills it, but Python looks at it before: it is in PYTHONPATH
    settings = {
        "source_paths": ["mmapstate"],
        "only_mutate": [f"mmapstate/{module}.py" for module in modules],
        "also_copy": ["mutation_profile.py"],
        # Never: mutmut (3.8) signals the process id of a mutant then, though it has long ended and the id is another's.
        "timeout_constant": ["1000000"],  # seconds
        "pytest_add_cli_args": ["-p", "mutation_profile", "-p", "no:cacheprovider", "-o", "timeout=30"],
        "pytest_add_cli_args_test_selection": [
            *(f"tests/{test}" for test in TESTS),
            *(f"--deselect=tests/{test}" for test in LEFT_OUT),
        ],
    }
    lines = "".join(f"{name} =\n    " + "\n    ".join(values) + "\n" for name, values in settings.items())
    (copy / "setup.cfg").write_text(f"[mutmut]\n{lines}")


def draw(copy: Path, modules: list[str], count: int | None, seed: int | None) -> list[str]:
    """Return the names of `count` mutants; of none where all are to be run."""
    if count is None:
        return []
    from mutmut.mutation.file_mutation import mutate_file_contents

    os.chdir(copy)  # where mutmut looks for its settings
    names = []
    for module in modules:
        path = Path(f"mmapstate/{module}.py")
        names += [
            f"mmapstate.{module.replace('/', '.')}.{name}"
            for name in mutate_file_contents(str(path), path.read_text()).mutant_names
        ]
    os.chdir(CHECKOUT)
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"{count} of {len(names)} mutants, seed {seed}", flush=True)
    return random.Random(seed).sample(names, min(count, len(names)))


def mutmut(copy: Path, *arguments: str, stdout: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    variables = {"MMAPSTATE_TEST_COUNTS": "tenth", "MMAPSTATE_TEST_SEED": "1", "PYTHONPATH": str(copy / "mutants")}
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=copy, env=os.environ | variables, stdout=stdout, text=True, check=False)


def describe(copy: Path, name: str) -> str:
    """Return file, line and lines changed of a mutant."""
    path, _, function = name.partition("__mutmut_")[0].removeprefix("mmapstate.").rpartition(".")
    path = path.replace(".", "/")
    names = function.removeprefix("x_").removeprefix("xǁ").split("ǁ")
    text = mutmut(copy, "show", name).stdout
    changed = [line for line in text.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    start = text.partition("@@ -")[2]
    before = start.partition("\n")[2].splitlines().index(changed[0])
    node: ast.AST = ast.parse((copy / f"mmapstate/{path}.py").read_text())
    for part in names:
        node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part)
    assert isinstance(node, ast.FunctionDef)
    line = node.lineno + int(start.split(",")[0]) - 1 + before
    return "\n".join([f"mmapstate/{path}.py:{line}", *(f"    {change}" for change in changed)])


def tell(outcomes: dict[str, str]) -> float:
    """Print a table by module; return the share of mutants that were noticed, in per cent."""
    tested, noticed = collections.Counter[str](), collections.Counter[str]()
    for name, outcome in outcomes.items():
        for module in (name.split(".")[1], "all"):
            tested[module] += 1
            noticed[module] += outcome in NOTICED
    print(f"\n{'module':10} mutants  killed   share")
    for module in sorted(tested, key=lambda module: (module == "all", module)):
        share = 100 * noticed[module] / tested[module]
        print(f"{module:10} {tested[module]:7} {noticed[module]:7} {share:6.1f} %")
    return 100 * noticed["all"] / tested["all"]


if __name__ == "__main__":
    sys.exit(main())
