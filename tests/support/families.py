"""The families of tests that show what the library promises: choose one, count its cases, tell at the end of a run.

A test belongs to a family by ``@pytest.mark.family("kill9")``, and tells by the fixture `cases` how many it has run;
without that it is one. ``pytest --family kill9`` runs that one alone, ``pytest --family all`` all of them;
`tools/torture.py` runs one for longer.
"""

import collections

import pytest

__all__ = ["cases", "pytest_addoption", "pytest_collection_modifyitems", "pytest_configure", "pytest_terminal_summary"]

FAMILIES = {
    "kill9": "processes killed at random, and at every store and call",
    "power-cut": "every disk that a loss of power can leave",
    "failing-calls": "each call of the system fails, once or for ever",
    "recovery": "the same while what a killed process left is cleaned up",
    "every-byte": "every bit flipped, every byte cut, every sector blanked",
    "dirty-tail": "junk of killed writers behind the tail",
    "fuzz": "arbitrary bytes as a state file",
    "model": "random operations beside plain data, with reopening and crashes",
    "history": "many processes at once, each number once, reads only go forward",
    "interrupts": "Ctrl-C at every bytecode, and in storms",
    "memory": "the stack, or the memory, ends anywhere",
    "two-processes": "interrupts in one of two that wait for each other",
    "lock-file": "the lock file deleted at each step, with others at work",
    "stops": "processes stopped at each step, with others at work",
    "fork": "fork, spawn and threads, at rest and in the middle",
    "editors": "editors, real ones, on a file in use",
    "disks": "disks that are full, real ones",
    "permissions": "files, folders and lock files of others",
    "sizes": "records that just fit, depth, thousands of opens",
    "seeded-bugs": "bugs planted on purpose, each caught by a family",
    "golden": "files of each kind and version, read identically",
}


def pytest_configure(config):
    config.addinivalue_line("markers", "family(name): belongs to this family of tests (see tests/support/families.py)")


def pytest_addoption(parser):
    parser.addoption("--family", choices=[*FAMILIES, "all"], help="run the tests of this family alone, or of all")


def pytest_collection_modifyitems(config, items):
    """Note each test's family where its report shows it; with ``--family`` leave out those of others."""
    chosen = config.getoption("--family")
    left_out = []
    for item in items:
        marker = item.get_closest_marker("family")
        family = marker.args[0] if marker else None
        assert family is None or family in FAMILIES, f"{item.nodeid}: there is no family {family}"
        item.user_properties.append(("family", family))
        if chosen and (family is None if chosen == "all" else family != chosen):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def cases(request):
    """A function that takes how many cases the test has run, for the table of families."""
    return lambda count: request.node.user_properties.append(("cases", count))


def pytest_terminal_summary(terminalreporter):
    """Write a table: family, cases, seconds, and what failed in it."""
    counts, seconds, failed = collections.Counter(), collections.Counter(), collections.Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(report.user_properties)
            family = properties.get("family")
            if family is not None and report.when == "call":
                counts[family] += properties.get("cases", 1)
                seconds[family] += report.duration
                failed[family] += outcome == "failed"
    if counts:
        terminalreporter.section("families")
        for family, what in FAMILIES.items():
            if counts[family]:
                told = f", {failed[family]} FAILED" if failed[family] else ""
                line = f"{family:14}{counts[family]:9,} cases {seconds[family]:7.1f} s  {what}{told}"
                terminalreporter.write_line(line)
