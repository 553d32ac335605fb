"""The benchmarks measure what they say: each case runs, a wrong total disqualifies, what was found is written down.

With tiny counts: nothing here says how fast anything is. Contenders that are not installed are left out.
"""

import dataclasses
import json
import random
import re
import sys
from xml.etree import ElementTree

import pytest
from support.processes import needs_fork
from support.runs import ROOT, SEED, scaled

sys.path.append(str(ROOT))  # last: what is installed comes first

from perf import __main__ as program
from perf.case import Case, Goal, Sample
from perf.cases import CASES, opening
from perf.cases.growth import _Tree10 as Growing
from perf.chart import chart
from perf.contenders import OTHERS
from perf.contenders.lmdb import LmdbmJson
from perf.contenders.ours import Ours
from perf.contenders.sqlite import Sqlite
from perf.layout import state_of
from perf.processes import alone, killed, together
from perf.report import BEGIN, END, case_lines, into_readme, table
from perf.run import Effort, run

pytestmark = needs_fork  # where there is none they work, but take a new interpreter for each measurement

COUNT = 16
TINY = Effort(rounds=1, seconds=0.1, count=COUNT)
NAMED = {case.name: case for case in CASES}
CHOSEN = random.Random(SEED).sample(sorted(NAMED), min(len(NAMED), scaled(60)))


class Forgetful(Sqlite):
    """Forgets one of the changes it is asked for."""

    name = "forgetful"

    def count(self, times):
        super().count(times - 1)


class Failing(Sqlite):
    name = "failing"

    def count(self, times):
        raise OSError("no more")


def results_of(case):
    return {"machine": {"python": "a <b>", "processor": "c & d"}, "cases": [case]}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A case with ours, one that is right, one that is wrong, and one that fails."""
    case = dataclasses.replace(
        NAMED["count"], goals=(Goal("beside one that is wrong", "forgetful", least=1), Goal("", Sqlite.name, least=0))
    )
    return run(case, [Sqlite, Forgetful, Failing], tmp_path_factory.mktemp("perf"), TINY)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case.name in CHOSEN else pytest.mark.skip("not drawn"))
        for case in CASES
    ],
)
def test_case(case, tmp_path, monkeypatch):
    """Ours, and whoever is installed, end it with the total they should, and tell the figures that a goal is about."""
    monkeypatch.setattr(opening, "_ENTRIES", state_of(1_000))
    for number, kind in enumerate([case.ours, *case.others]):
        if issubclass(kind, Growing):
            monkeypatch.setattr(kind, "entries", min(kind.entries, 1_000))
        if kind.missing():
            continue
        (folder := tmp_path / str(number)).mkdir()
        sample = alone(case.measure, kind, folder, COUNT)
        assert sample.value >= 0
        assert sample.count > 0
        # lmdbm has no step that reads and writes at once: several processes lose counts, which is what is to be shown.
        assert sample.total == sample.expected or (kind is LmdbmJson and case.name.endswith("-one"))
        if kind is case.ours:
            about = {goal.of for goal in case.goals} - {kind.name for kind in case.others} - {""}
            assert about <= set(sample.figures)


def test_nobody_is_twice_in_a_case():
    for case in CASES:
        names = [kind.name for kind in (case.ours, *case.others)]
        assert len(set(names)) == len(names)


def test_names_are_unique():
    assert len(NAMED) == len(CASES)
    assert len({kind.name for kind in OTHERS}) == len(OTHERS)


def test_wrong_total_disqualifies(judged):
    """It is shown, has no ratio, and no goal counts as met beside it."""
    ours, right, wrong, failing = judged["contenders"]
    assert ours["failed"] == right["failed"] == ""
    assert len(right["ratios"]) == 1
    assert wrong["failed"] == "DISQUALIFIED: total 0 instead of 1"
    assert failing["failed"] == "DISQUALIFIED: OSError: no more"
    assert wrong["ratios"] == failing["ratios"] == []
    beside_wrong, beside_right = judged["goals"]
    assert (beside_wrong["found"], beside_wrong["met"], beside_wrong["nearly"]) == (None, None, None)
    assert beside_right["met"] is True
    text = "\n".join(case_lines(judged))
    assert re.search(r"^  forgetful .* DISQUALIFIED: total 0 instead of 1$", text, re.M)
    assert "not measured: beside one that is wrong" in text
    assert "forgetful: wrong, failing: wrong" in table(results_of(judged))


def test_total_that_goes_wrong_later_disqualifies(tmp_path):
    """Also when the warm-up was right."""

    class Overflowing(Sqlite):
        name = "overflowing"

        def count(self, times):
            super().count(min(times, 10))

    result = run(NAMED["count"], [Overflowing], tmp_path, TINY)
    wrong = result["contenders"][1]
    assert wrong["failed"] == "DISQUALIFIED: total 10 instead of 16"
    assert len(wrong["values"]) == 1
    assert wrong["ratios"] == []


def test_chart_has_a_bar_for_each_that_is_right(judged):
    """It is well-formed, and says who is wrong."""
    text = chart(results_of(judged))
    root = ElementTree.fromstring(text)
    bars = [element for element in root.iter("{http://www.w3.org/2000/svg}rect") if "class" in element.attrib]
    assert [bar.get("class") for bar in bars if float(bar.get("width")) > 0].count("ours") == 1
    assert len(bars) == 2
    assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")].count("wrong") == 2


def test_goal_is_judged_by_what_was_found():
    at_least, at_most = Goal("", "x", least=3), Goal("", "x", most=2)
    assert [at_least.is_met(found) for found in (2.9, 3.0)] == [False, True]
    assert [at_most.is_met(found) for found in (2.0, 2.1)] == [True, False]
    assert [at_least.is_met(found, 0.8) for found in (2.3, 2.5)] == [False, True]
    assert [at_most.is_met(found, 0.8) for found in (2.5, 2.6)] == [True, False]


def _slow(kind, folder, count):
    """Ours takes 1 second an operation, the other 2; both only say so."""
    return Sample(count * (1.0 if kind is Ours else 2.0), count, varying=0 if count == 1 else None)


def test_ratio_is_that_of_an_operation(tmp_path):
    """Whatever the counts: a contender that takes long counts less far, in fewer rounds."""
    case = Case("", "", _slow, Ours, [Sqlite], 20, goals=(Goal("", Sqlite.name, least=2),), least=10)
    ours, other = run(case, [Sqlite], tmp_path, Effort(rounds=3, seconds=100))["contenders"]
    assert (ours["count"], len(ours["values"]), other["ratios"]) == (20, 3, [2.0, 2.0, 2.0])
    case = dataclasses.replace(case, measure=_slow_and_honest)
    ours, other = run(case, [Sqlite], tmp_path, Effort(rounds=3, seconds=60))["contenders"]
    assert (ours["count"], len(ours["values"])) == (20, 3)
    assert (other["count"], len(other["values"]), other["ratios"]) == (10, 3, [2.0, 2.0, 2.0])
    ours, other = run(case, [Sqlite], tmp_path, Effort(rounds=3, seconds=21))["contenders"]
    assert (ours["count"], len(ours["values"])) == (10, 2)
    assert (other["count"], len(other["values"]), other["ratios"]) == (10, 1, [2.0])


def _slow_and_honest(kind, folder, count):
    return Sample(count * (1.0 if kind is Ours else 2.0), count)


def test_run_is_printed_and_written(tmp_path, capsys):
    """The program prints a table with machine and versions, and writes results and chart."""
    arguments = [
        "--case",
        "count",
        "--contender",
        "sqlite3",
        "--rounds",
        "2",
        "--count",
        "40",
        "--output",
        str(tmp_path),
    ]
    assert program.main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^python: CPython 3\..*; load at the start: ", printed, re.M)
    assert re.search(r"^mmapstate [\d.]+; .*SQLite 3", printed, re.M)
    assert re.search(r"^  mmapstate +[\d.]+ .*closing, ms: ", printed, re.M)
    assert re.search(r"^  sqlite3 \(WAL\) +[\d.,]+( +[\d.,]+){3}  closing", printed, re.M)
    assert re.search(r"^\d of \d goals met$", printed, re.M)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [line["name"] for line in results["cases"][0]["contenders"]] == ["mmapstate", "sqlite3 (WAL)"]
    assert [len(line["values"]) for line in results["cases"][0]["contenders"]] == [2, 2]
    assert results["versions"]["mmapstate"]
    ElementTree.parse(tmp_path / "chart.svg")


def test_program_fails_where_ours_is_wrong(capsys, monkeypatch):
    monkeypatch.setattr(Ours, "count", lambda self, times: None)
    assert program.main(["--case", "count", "--contender", "sqlite3", "--rounds", "1", "--count", "20"]) == 1
    assert capsys.readouterr().out.endswith("FAILED: count\n")


@pytest.mark.parametrize(("least", "status"), [(2.4, 0), (2.6, 1)])
def test_check_fails_below_80_percent_of_a_goal(least, status, capsys, monkeypatch):
    """Found is 2."""
    case = Case("two", "", _slow, Ours, [Sqlite], 10, goals=(Goal("faster", Sqlite.name, least=least),), quick=1)
    left_out = dataclasses.replace(case, name="not quick", quick=0)
    monkeypatch.setattr(program, "CASES", (case, left_out))
    assert program.main(["--check"]) == status
    printed = capsys.readouterr().out
    assert ("FAILED: two: faster" in printed) == bool(status)
    assert "MISSED: faster (2.00 times ours)" in printed
    assert "not quick" not in printed


def test_unknown_case(capsys):
    with pytest.raises(SystemExit):
        program.main(["--case", "no such"])
    assert "there are: count," in capsys.readouterr().err


def test_readme_has_the_table_of_the_results():
    """What README.md shows is what the file beside the chart holds."""
    results = json.loads((ROOT / "perf" / "results.json").read_text(encoding="utf-8"))
    assert f"{BEGIN}{table(results)}{END}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "perf" / "chart.svg").read_text(encoding="utf-8") == chart(results)


def test_table_goes_between_its_comments(tmp_path, judged):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}old\n{END}after\n")
    into_readme(results_of(judged), readme)
    assert readme.read_text() == f"before\n{BEGIN}{table(results_of(judged))}{END}after\n"


def _fail(ready, number):
    if number == 1:
        raise ValueError("number 1")
    ready()


class TestProcesses:
    def test_one_that_fails_is_told_and_ends_the_others(self):
        with pytest.raises(RuntimeError, match="ValueError: number 1"):
            together([(_fail, number) for number in range(3)])

    def test_one_that_dies_is_told(self):
        with pytest.raises(RuntimeError, match="died"):
            alone(sys.exit, 3)

    def test_one_that_fails_before_it_is_killed_is_told(self, capfd):
        with pytest.raises(RuntimeError, match="ended with"):
            killed(int, "x")
