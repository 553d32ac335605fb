"""What comes is written as what stands beside it; what goes leaves nothing behind, and takes nothing along."""

import random
import subprocess
import sys

import pytest
from support.runs import ROOT, SEED, scaled

from mmapstate.text import snapshot
from mmapstate.text.snapshot import patch
from mmapstate.values import same

pytestmark = pytest.mark.family("editors")


def patched(text, change):
    """Return what becomes of a text when its state is changed."""
    state = snapshot.parse(text.encode(), "")
    change(state)
    after = patch(text.encode(), state, pytest.fail).decode()
    assert same(snapshot.parse(after.encode(), ""), state)
    return after


HEADERS = [
    "# Licence: free.\n",
    "# yaml-language-server: $schema=x\n# Licence: free.\n",
    "%YAML 1.1\n---\n# Licence: free.\n",
    "\n---  # begins\n\n# Licence: free.\n  # deeper\n",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("blank", ["", "\n"], ids=["directly", "apart"])
def test_a_block_of_comments_at_the_very_top_is_the_files(header, blank):
    text = f"{header}{blank}a: 1  # a\n# b\nb: 2\n"
    assert patched(text, lambda state: state.pop("a")) == f"{header}{blank}# b\nb: 2\n"
    assert patched(text, dict.clear) == f"{header}{blank}"
    moved = patched(text, lambda state: state.update(a=state.pop("a")))
    assert moved == f"{header}{blank}# b\nb: 2\na: 1  # a\n"


def test_below_that_block_and_a_blank_line_comments_are_those_of_the_first_key():
    assert patched("# top\n\n# a\na: 1\nb: 2\n", lambda state: state.pop("a")) == "# top\n\nb: 2\n"
    assert patched("# top\n---\n# a\na: 1\nb: 2\n", lambda state: state.pop("a")) == "# top\n---\nb: 2\n"


SCRIPT = """\
run: |   # shell
  if test -e x; then
      rm x{trailing}

    # a comment of the script
      exit 1
  fi
after: 1
"""


@pytest.mark.parametrize("header", ["|", "|-", "|2", "|+", "|2-", "|-2"])
@pytest.mark.parametrize("trailing", ["", "  ", "\t"], ids=["", "blanks", "tab"])
def test_one_changed_line_of_a_literal_block_changes_one_line(header, trailing):
    text = SCRIPT.format(trailing=trailing).replace("|", header, 1)
    for old, new in (
        ("rm x", "rm -f 'x': y"),
        ("  exit 1\n", "  exit 2\n"),
        ("fi", "fi  # done"),
        ("    # a comment of the script\n", ""),
        ("  if test", "  pwd\n  if test"),
        ("  fi\n", "  fi\n  pwd\n"),
        ("x; then", "🐍; then"),
    ):
        right = text.replace(old, new)
        wanted = snapshot.parse(right.encode(), "")
        assert patch(text.encode(), wanted, pytest.fail).decode() == right


def test_a_literal_block_that_comes_to_begin_with_blanks_stays_one():
    text = "a:\n    - |  # c\n      x\n      y\n"
    assert patched(text, lambda state: state.update(a=["  x\ny\n"])) == "a:\n    - |2  # c\n        x\n      y\n"
    text = "a: |-\n   x\n\n   y\n"
    assert patched(text, lambda state: state.update(a="x\n\nz\n")) == "a: |\n   x\n\n   z\n"
    assert patched(text, lambda state: state.update(a="z")) == "a: |-\n   z\n"


FOLDED = """\
about: >-  # long
    The first line of a text that is folded,
    and the second one, of which a word may change;

    a paragraph of its own
      - with an item
      - and another one

    and the last line.
after: 1
"""


def test_one_changed_word_of_a_folded_text_changes_one_line():
    for header in (">-", ">", ">+", ">4-"):
        text = FOLDED.replace(">-", header)
        for old, new in (
            ("first", "1st"),
            ("may change", "has changed"),
            ("another one", "one more"),
            ("a paragraph", "two paragraphs"),
            ("last line.", "end."),
            ("    and the second one, of which a word may change;\n", ""),
            ("      - and another one\n", "      - and another one\n      - a third\n"),
        ):
            right = text.replace(old, new)
            wanted = snapshot.parse(right.encode(), "")
            assert patch(text.encode(), wanted, pytest.fail).decode() == right


def test_one_changed_word_of_a_text_in_lines_changes_one_line():
    for quote in ("", "'", '"'):
        text = f"a:\n  - {quote}The first line\n    goes on in the second,\n\n    and a third one.{quote}  # c\nb: 1\n"
        for old, new in (("first", "1st"), ("goes on", "ends"), ("a third", "one more")):
            right = text.replace(old, new)
            assert patch(text.encode(), snapshot.parse(right.encode(), ""), pytest.fail).decode() == right


def test_any_change_of_a_block_keeps_its_style_and_the_lines_that_have_not_changed():
    dice = random.Random(SEED)
    words = ["echo", "  if", "#", "x: y", "'", '"', "- a", "", "\ttab", "end  ", "ä 🐍"]
    for _ in range(scaled(3000)):
        lines = [dice.choice(words) + str(number) for number in range(dice.randrange(1, 8))]
        style, step = dice.choice("||>"), dice.choice((1, 2, 4))
        block = "".join(f"{' ' * step}{line}\n" for line in ["begin", *lines])
        text = f"a: {style}{dice.choice(('', '-'))} # c\n{block}\n# d\nb: 1\n"
        state = snapshot.parse(text.encode(), "")
        parts = state["a"].split("\n")
        parts[dice.randrange(len(parts))] += dice.choice(("more", " more words", "\nline", "\n  deeper"))
        state["a"] = "\n".join(parts)
        after = patch(text.encode(), state, pytest.fail).decode()
        assert after.startswith(f"a: {style}"), f"{text}\n{after}"
        assert after.endswith("\n# d\nb: 1\n")
        if style == "|":
            kept = [line for line in block.splitlines() if line[step:] in parts]
            assert [line for line in after.splitlines() if line in kept] == kept, f"{text}\n{after}"


DASHES = [
    ("q:\n  - name: x\n    uses: y  # u\n", "q:\n  - uses: y  # u\n"),
    ("q:\n- name: x # x\n\n  # why\n  uses: y\n- z\n", "q:\n# why\n- uses: y\n- z\n"),
    ("q:\n# item\n-   name: x\n\n    uses: y\n", "q:\n# item\n-   uses: y\n"),
    ("q:\n- name:\n    a: 1\n  # apart\n\n  uses:\n  - y\n", "q:\n# apart\n- uses:\n  - y\n"),
]


@pytest.mark.parametrize(("text", "expected"), DASHES)
def test_where_the_first_key_goes_the_next_one_comes_to_the_dash(text, expected):
    assert patched(text, lambda state: state["q"][0].pop("name")) == expected


def test_where_the_first_item_goes_the_next_one_comes_to_the_dash():
    assert patched("q:\n- - a\n  - b\n", lambda state: state["q"][0].pop(0)) == "q:\n- - b\n"
    assert patched("q:\n- - n: 1\n    m: 2\n", lambda state: state["q"][0][0].pop("n")) == "q:\n- - m: 2\n"


COMES = {
    "lists are indented as lists are": (
        "a:\n    - 1\nb:\n    c: 1\n",
        lambda state: state.update(d=[1, {"e": [2], "f": {"g": 3}}]),
        "a:\n    - 1\nb:\n    c: 1\nd:\n    - 1\n    - e:\n          - 2\n      f:\n          g: 3\n",
    ),
    "or are not": (
        "a:\n- 1\nb:\n   c: 1\n",
        lambda state: state["b"].update(d=[1], e={"f": 1}),
        "a:\n- 1\nb:\n   c: 1\n   d:\n   - 1\n   e:\n      f: 1\n",
    ),
    "a list that was empty as well": (
        "a:\n  - 1\nb: []  # b\n",
        lambda state: state["b"].append(2),
        "a:\n  - 1\nb:  # b\n  - 2\n",
    ),
    "quotes in a list": (
        'a:\n  - "x"\n  - "y"\n',
        lambda state: state["a"].append("z"),
        'a:\n  - "x"\n  - "y"\n  - "z"\n',
    ),
    "quotes that some need": (
        "a:\n  - x\n  - 'yes'\n",
        lambda state: state["a"].append("z"),
        "a:\n  - x\n  - 'yes'\n  - z\n",
    ),
    "quotes in a record": (
        'q:\n- name: a\n  at: "x y"\n',
        lambda state: state["q"].append({"name": "b", "at": "z"}),
        'q:\n- name: a\n  at: "x y"\n- name: b\n  at: "z"\n',
    ),
    "brackets in a record": (
        "q:\n- name: a\n  tags: [x]\n  at: { k: 1 }\n",
        lambda state: state["q"].append({"name": "b", "tags": ["c", "d"], "at": {"k": 2}}),
        "q:\n- name: a\n  tags: [x]\n  at: { k: 1 }\n- name: b\n  tags: [c, d]\n  at: { k: 2 }\n",
    ),
    "a record in brackets": (
        "q:\n  - {name: a, tags: [x]}\n",
        lambda state: state["q"].append({"name": "b", "tags": []}),
        "q:\n  - {name: a, tags: [x]}\n  - {name: b, tags: []}\n",
    ),
    "a record of another kind beside": (
        "q:\n- run: x\n- uses: y\n  with:\n      a: 1\n- run: z\n",
        lambda state: state["q"].append({"uses": "u", "with": {"a": 2}}),
        "q:\n- run: x\n- uses: y\n  with:\n      a: 1\n- run: z\n- uses: u\n  with:\n      a: 2\n",
    ),
    "a key that a sibling has": (
        "s:\n  a:\n    ports: ['80']\n    more: 1\n  b:\n    more: 2\n",
        lambda state: state["s"]["b"].update(ports=["90"]),
        "s:\n  a:\n    ports: ['80']\n    more: 1\n  b:\n    more: 2\n    ports: ['90']\n",
    ),
    "the distance from the dash": (
        "q:\n-   a\n-   k: 1\n",
        lambda state: state["q"].extend(["b", {"k": 2, "m": 3}]),
        "q:\n-   a\n-   k: 1\n-   b\n-   k: 2\n    m: 3\n",
    ),
    "a block of text as in a record": (
        "q:\n- name: a\n  run: >- # c\n      x\n      y\n",
        lambda state: state["q"].append({"name": "b", "run": "x z"}),
        "q:\n- name: a\n  run: >- # c\n      x\n      y\n- name: b\n  run: >-\n      x\n      z\n",
    ),
    "what was put in place of another value": (
        "a:\n  b:\n      c: 1\n  d: 1\n",
        lambda state: state["a"].update(d={"c": 2}),
        "a:\n  b:\n      c: 1\n  d:\n      c: 2\n",
    ),
}


@pytest.mark.parametrize("name", COMES)
def test_what_comes_is_written_as_its_siblings_are(name):
    text, change, expected = COMES[name]
    assert patched(text, change) == expected


GOES = [
    ("a: 1\n\nb: 2\n\nc: 3\n", lambda state: state.pop("b"), "a: 1\n\nc: 3\n"),
    ("a: 1\nb: 2\n\nc: 3\n", lambda state: state.pop("b"), "a: 1\n\nc: 3\n"),
    ("a: 1\n\nb: 2\nc: 3\n", lambda state: state.pop("b"), "a: 1\n\nc: 3\n"),
    ("a: 1\n\n\nb: 2\n\nc: 3\n", lambda state: state.pop("b"), "a: 1\n\n\nc: 3\n"),
    ("a: 1\n\nb: 2\n\nc: 3\n\nd: 4\n", lambda state: [state.pop(key) for key in "bc"], "a: 1\n\nd: 4\n"),
    ("a: 1\n\n# apart\n\nb: 2\n\nc: 3\n", lambda state: state.pop("b"), "a: 1\n\n# apart\n\nc: 3\n"),
    ("a: 1\n\nb: 2\n\n# apart\n\nc: 3\n\nd: 4\n", lambda state: [state.pop(key) for key in "bc"],
     "a: 1\n\n# apart\n\nd: 4\n"),
    ("a:\n  x: 1\n\n  y: 2\n\nb: 3\n", lambda state: state["a"].pop("y"), "a:\n  x: 1\n\nb: 3\n"),
    ("a:\n  x: 1\n\n  y: 2\nb: 3\n", lambda state: state["a"].pop("x"), "a:\n  y: 2\nb: 3\n"),
    ("a: 1\n\nb: 2\n", lambda state: state.pop("b"), "a: 1\n"),
    ("a: 1\n\nb: 2\n", lambda state: state.update(c=state.pop("b") + 1), "a: 1\n\nc: 3\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "change", "expected"), GOES)
def test_what_goes_leaves_no_heap_of_blank_lines(text, change, expected):
    assert patched(text, change) == expected


@pytest.mark.parametrize("blank", ["\n", "\n\n", "  \n"], ids=["one", "two", "spaces"])
def test_a_container_that_is_cleared_leaves_no_blank_lines(blank):
    steps = "".join(f"{blank}  - name: {number}\n{blank}    at: 1\n" for number in range(9))
    text = f"jobs:\n  steps:  # s\n{steps}\nafter: 1\n"
    assert patched(text, lambda state: state["jobs"]["steps"].clear()) == "jobs:\n  steps: []  # s\n\nafter: 1\n"
    expected = "jobs:\n  steps:  # s\n"
    assert patched(text, lambda state: state["jobs"]["steps"][0].clear()).startswith(f"{expected}{blank}  - {{}}\n")


def test_comments_that_were_set_apart_stay_when_a_container_is_cleared():
    text = "a:\n\n  # one\n\n\n  - 1\n\n  # two\n\n  - 2\n\nb: 1\n"
    assert patched(text, lambda state: state["a"].clear()) == "a: []\n  # one\n\n  # two\n\nb: 1\n"


RENAMED = [
    ("a: 1 # a\nb: 2\n", {"c": 1, "b": 2}, "c: 1 # a\nb: 2\n"),
    ("# x\n\n# a\n'a':   0x10 # a\nb: 2\n", {"it's": 16, "b": 3}, "# x\n\n# a\n'it''s':   0x10 # a\nb: 3\n"),
    ("a: {x: 1 , y: 2}\n", {"a": {"z": 1, "y": 2}}, "a: {z: 1 , y: 2}\n"),
    ("a:\n- 1 # one\nb: 1\n", {"b": 1, "c": [1]}, "b: 1\nc:\n- 1 # one\n"),  # as state["c"] = state.pop("a") does
    ("b: 1\na: text # a\n", {"b": 1, "c": "text"}, "b: 1\nc: text # a\n"),
]


@pytest.mark.parametrize(("text", "state", "expected"), RENAMED)
def test_a_key_that_was_renamed_keeps_its_comments_and_its_text(text, state, expected):
    assert patch(text.encode(), state, pytest.fail).decode() == expected


def test_a_key_that_came_last_is_no_other_one_renamed_where_its_value_is_one_that_many_have():
    assert patch(b"b: 1\na: true # a\n", {"b": 1, "c": True}).decode() == "b: 1\nc: true\n"
    assert patch(b"a: 7 # a\nb: 1\n", {"b": 1, "c": 7}).decode() == "b: 1\nc: 7\n"


def test_comments_stay_with_their_records_when_several_change_and_none_is_removed():
    """What tells records from each other may stand anywhere in them."""
    dice = random.Random(SEED)
    for _ in range(scaled(2000)):
        keys = dice.sample(["up", "n", "host"], 3)
        kinds = {"up": lambda _: dice.random() < 0.5, "n": lambda _: dice.randrange(3), "host": "h{}".format}
        records = [{key: kinds[key](number) for key in keys} for number in range(dice.randrange(2, 7))]
        lines = []
        for record in records:
            first, *more = [f"{key}: {str(value).lower()}\n" for key, value in record.items()]
            lines += [f"# {record['host']}\n", f"- {first}", *(f"  {line}" for line in more)]
        for record in dice.sample(records, dice.randrange(1, len(records) + 1)):
            record[dice.choice(("up", "n"))] = dice.choice((0, 1, 2, True, False))
        after = patch(f"q:\n{''.join(lines)}".encode(), {"q": records}, pytest.fail).decode().splitlines()
        told = [line[2:] for line in after if line.startswith("#")]
        assert told == [line.split()[-1] for line in after if "host:" in line], "\n".join(after)


def test_the_tool_that_changes_real_files_finds_nothing_needless_in_ours():
    command = [sys.executable, "-m", "tools.real_files", str(ROOT / "tests" / "data" / "written")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    last = run.stdout.splitlines()[-1].split()
    assert last[0] == "all"
    assert float(last[2]) > 95, run.stdout
    assert last[-1] == "0", run.stdout
