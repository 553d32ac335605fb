"""README.md is true: its examples run and give what it says, its links lead somewhere, and it names all there is.

The examples and links of the pages in ``mmapstate/docs`` are looked at here, too; what else they claim in `test_docs`.

An example is a ``python`` block. It runs in a process and a folder of its own, or goes on with the one before where
``<!-- continues -->`` stands above it; where it says ``<!-- needs:name -->`` it is skipped if there is no such module.
What it claims is checked:

- ``expression    # -> text``: the expression's ``repr`` is that text;
- ``statement    # -> SomeError: text``: it raises that error with that message;
- a ``text`` block that follows: what the example printed. Names of journals and checksums are random, and not compared;
- a ``console`` block that follows: commands, behind ``$``, with what each prints, run in the example's folder.

``...`` in a claim stands for any text; a claim may have the line behind its statement to itself.
"""

import ast
import inspect
import io
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest
from support.families import FAMILIES
from support.runs import ROOT

import mmapstate
from mmapstate.command.parser import COMMANDS

IMPORTED_FROM = str(Path(mmapstate.__file__).resolve().parent.parent)
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "mmapstate" / "docs").glob("*.md")))
}

# What the examples import to have their claims checked. It keeps a list, so that none is left out unnoticed.
CLAIMS = r"""
import contextlib
import re


def check(line, claim, found):
    with open("claims.checked", "a", encoding="utf-8") as file:
        print(line, file=file)
    pattern = ".*".join(map(re.escape, claim.split("...")))
    assert re.fullmatch(pattern, found, re.DOTALL), f"line {line}: claims {claim!r}, but it is {found!r}"


def equal(line, claim, value):
    check(line, claim, repr(value))


@contextlib.contextmanager
def raises(line, claim):
    found = "nothing raised"
    try:
        yield
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    check(line, claim, found)
"""


class Block(NamedTuple):
    """A fenced block: its language, the comment above it, the number of its first line, and its text."""

    language: str
    comment: str
    line: int
    text: str


class Example(NamedTuple):
    """Blocks that run one after the other, each with the output claimed for it, and commands that come then."""

    line: int
    source: str
    output: str
    console: str = ""
    needs: str = ""


def blocks(text):
    """Return the fenced blocks of a Markdown text."""
    pattern = re.compile(r"(?:<!-- ([^\n]*?) -->\s*\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
    return [
        Block(found[2], found[1] or "", text.count("\n", 0, found.start(3)) + 1, found[3])
        for found in pattern.finditer(text)
    ]


def examples(text):
    """Return the examples of a Markdown text; each line of their source has the number that it has there."""
    found = []
    before = None
    for block in blocks(text):
        if block.language == "python":
            if block.comment != "continues":
                needs = block.comment.removeprefix("needs:") if block.comment.startswith("needs:") else ""
                found.append(Example(block.line, "", "", needs=needs))
            assert not found[-1].console, "commands come last"
            source = found[-1].source
            source += "\n" * (block.line - 1 - source.count("\n")) + block.text
            found[-1] = found[-1]._replace(source=source)
        elif block.language == "console":
            found[-1] = found[-1]._replace(console=found[-1].console + block.text)
        elif block.language == "text" and before is not None and before.language == "python":
            found[-1] = found[-1]._replace(output=found[-1].output + block.text)
        before = block
    return found


def claims(source):
    """Return the claims in a source: by the last line of the statement meant, their own line and their text."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.string.startswith("# -> "):
            line = token.start[0]
            alone = token.line.strip() == token.string.strip()
            found[line - alone] = (line, token.string.removeprefix("# -> "))
    return found


class Checked(ast.NodeTransformer):
    """Puts a check in place of each statement for which something is claimed."""

    def __init__(self, claimed):
        self.claimed = claimed
        self.used = []

    def visit(self, node):
        node = self.generic_visit(node)
        if not isinstance(node, ast.stmt) or hasattr(node, "body") or node.end_lineno not in self.claimed:
            return node
        line, claim = self.claimed[node.end_lineno]
        self.used.append(line)
        if re.match(r"\w+(?:Error|Timeout): ", claim):
            check = ast.parse(f"with claims.raises({line}, {claim!r}):\n    pass").body[0]
            check.body = [node]
            return check
        assert isinstance(node, ast.Expr), f"line {line}: a claim about something that has no value"
        check = ast.parse(f"claims.equal({line}, {claim!r}, None)").body[0]
        check.value.args[2] = node.value
        return check


def with_checks(source):
    """Return the source with its claims as code, and the lines they stand in."""
    checker = Checked(claims(source))
    tree = checker.visit(ast.parse(source))
    assert checker.used == [line for line, _ in checker.claimed.values()], "a claim about nothing"
    return "import claims\n" + ast.unparse(ast.fix_missing_locations(tree)), checker.used


def without_random(text):
    """Return an output without what differs each time: names of journals, checksums, slack at the end."""
    text = re.sub(r"\b[0-9a-f]{16}\b", "<name>", text)
    return re.sub(r"\b[0-9a-f]{8}\b", "<crc>", text).rstrip()


def run(folder, source):
    """Run an example, as a file in `folder`; return its output."""
    checked, lines = with_checks(source)
    (folder / "claims.py").write_text(CLAIMS, encoding="utf-8")
    (folder / "example.py").write_text(checked, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": IMPORTED_FROM, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    proved = folder / "claims.checked"
    assert (proved.read_text().split() if lines else []) == [str(line) for line in lines]
    return done.stdout


def check_console(folder, console):
    """Run the commands of a ``console`` block in `folder`; each prints what stands below it."""
    for command, claim in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console, re.M):
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [sys.executable, *{"python": (), "mmapstate": ("-m", "mmapstate")}[program], *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": IMPORTED_FROM, "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=240,
            check=False,
        )
        pattern = ".*".join(map(re.escape, claim.split("...")))
        if sys.platform == "win32":  # a line of a file that an example has written is longer there, by a CR
            pattern = re.sub(r"offset\\ \d+", r"offset\\ \\d+", pattern)
        assert re.fullmatch(pattern, done.stdout, re.DOTALL), f"README.md: `{command}` prints\n{done.stdout}"


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{page}, line {example.line}")
        for page, text in PAGES.items()
        for example in examples(text)
    ],
)
def test_example(tmp_path, example):
    """It runs, prints what the text behind it says, and all that it claims is so."""
    if example.needs:
        pytest.importorskip(example.needs)
    assert without_random(run(tmp_path, example.source)) == without_random(example.output)
    check_console(tmp_path, example.console)


def test_console_claim_that_is_not_so(tmp_path):
    """The check of commands does fail."""
    (tmp_path / "a.state").write_text("a: 1\n")
    check_console(tmp_path, "$ mmapstate check a.state\na.state: all is well\n")
    with pytest.raises(AssertionError, match="all is well"):
        check_console(tmp_path, "$ mmapstate check a.state\na.state: all is ill\n")


def test_loop_goes_on_where_it_was(tmp_path):
    """The first example, run again, does nothing twice; behind a kill it goes on."""
    source = examples(README)[0].source
    run(tmp_path, source)
    state = tmp_path / "example.state"
    assert state.read_text() == "last_id: 1000\n"
    killed = source.replace("...", "import os; print(current_id); current_id == 7 and os._exit(0)", 1)
    assert killed != source
    state.unlink()
    assert run(tmp_path, killed).split() == [str(number) for number in range(1, 8)]
    assert run(tmp_path, killed.replace("== 7", "== 9")).split() == ["7", "8", "9"]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("number", [0, 1, 2])
def test_processes_however_they_are_started(tmp_path, method, number):
    """The examples with several processes hold with each way to start them."""
    found = [example for example in examples(README) if "multiprocessing" in example.source]
    assert len(found) == 3
    guard = 'if __name__ == "__main__":\n'
    assert guard in found[number].source
    source = found[number].source.replace(guard, f"{guard}    multiprocessing.set_start_method({method!r})\n")
    assert run(tmp_path, source) == found[number].output


def test_set_up_commands():
    """They are the two blocks that the gate looks for, and there is no other to confuse them with."""
    found = [block for block in blocks(README) if block.language == "sh"]
    assert [block.comment for block in found] == ["setup:demo", "setup:test"]
    assert all(f"<!-- {block.comment} -->\n```sh\n" in README for block in found)
    assert "-m mmapstate demo" in found[0].text
    assert "-m pytest" in found[1].text


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language(page):
    """Else nobody would notice that an example is never run."""
    assert {block.language for block in blocks(PAGES[page])} <= {"python", "sh", "text", "diff", "console"}
    assert PAGES[page].count("```") == 2 * len(blocks(PAGES[page]))


@pytest.mark.parametrize("name", mmapstate.__all__)
def test_public_name_is_told(name):
    """Each public name stands in the README as code; functions with the module's name."""
    shown = f"mmapstate.{name}" if inspect.isfunction(getattr(mmapstate, name)) else name
    assert re.search(rf"`{re.escape(shown)}\b", README)


def test_git_shows_the_line_that_changed_and_no_other(tmp_path):
    """The diff in the README is what git shows of the file before and after the example above it."""
    (example,) = (each for each in examples(README) if "mill.state" in each.source)
    (shown,) = (block.text for block in blocks(README) if block.language == "diff")
    written = example.source[: example.source.index("with PersistedState")]
    if shutil.which("git") is None:
        pytest.skip("git is not here")

    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
        return done.stdout

    git("init", "-q")
    run(tmp_path, written)
    git("add", "mill.state")
    run(tmp_path, example.source)
    diff = git("diff", "-U0", "mill.state").splitlines()
    assert [line for line in diff if re.match(r"[-+](?![-+]{2} )", line)] == shown.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_is_told(name):
    """Each stands in the table of the command, and is tried in a test of its own."""
    assert re.search(rf"^\| .*`{name}[ `].* \|", README, re.M)


def test_every_option_is_told():
    """Each option of `mmapstate.open` stands in the table."""
    parameters = inspect.signature(mmapstate.open).parameters.values()
    options = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    assert options
    assert [name for name in options if not re.search(rf"^\| `{name}=.*` \|", README, re.M)] == []


def test_every_method_is_told():
    """What a state can do beyond a `dict` stands in the README."""
    own = set(dir(mmapstate.live.state.State)) - set(dir(mmapstate.StateDict))
    assert [name for name in sorted(own) if not name.startswith("_") and f"`{name}()`" not in README] == []


def test_every_module_is_told():
    """The tour of the source passes each module."""
    told = re.findall(r"\[([\w/]+)\]\(mmapstate/\1\.py\)", README[README.index("## Reading the source") :])
    folder = ROOT / "mmapstate"
    modules = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")}
    modules -= {path for path in modules if path.endswith("__init__")} | {"__main__"}
    assert set(told) == modules


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Relative links name files of the repository, or headings of a page."""

    def anchors(text):
        headings = re.findall(r"^#+ (.*)$", text, re.M)
        return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}

    relative = [target for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]) if "://" not in target]
    assert relative
    for target in relative:
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("kind", [mmapstate.live.state.State, mmapstate.StateDict, mmapstate.StateList])
def test_every_method_has_a_docstring(kind):
    """What is public of the live objects is documented where it is."""
    assert kind.__doc__
    assert [name for name in dir(kind) if not name.startswith("_") and not getattr(kind, name).__doc__] == []


@pytest.mark.parametrize("name", ["check", "info", "open", "plain", "repair"])
def test_every_function_has_a_docstring(name):
    """So are the functions of the package."""
    assert getattr(mmapstate, name).__doc__


def test_claim_that_is_not_so(tmp_path):
    """The checks above do fail: on another value, on another error, and on none."""
    for number, statement in enumerate(["1 + 1    # -> 3", "{}[1]    # -> KeyError: 2", "1    # -> KeyError: ..."]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(AssertionError, match="line 2: claims"):
            run(folder, f"\n{statement}\n")


def test_claims_that_are_so(tmp_path):
    """In a block, with a line of its own, and with an ellipsis."""
    source = 'if True:\n    "abc"  # -> \'a...c\'\n[\n    1,\n]\n# -> [1]\nint("x")\n# -> ValueError: invalid ...\n'
    run(tmp_path, source)
    assert (tmp_path / "claims.checked").read_text().split() == ["2", "6", "8"]


def test_each_family_of_tests_is_in_the_table():
    table = README.partition("<!-- families -->")[2].partition("\n\n")[0]
    told = re.findall(r"^\| ([a-z0-9-]+) \| .* \| ([\d,]+) \| [\d,]+ \|", table, re.M)
    assert [name for name, _ in told] == [*FAMILIES]
    assert all(cases != "0" for _, cases in told)
