"""The main job in about five seconds: workers share one state file, one is killed, and nothing is lost.

Four worker processes count and append. After each transaction that ended, a worker acknowledges its changes: it stores
how many there were in memory that the parent sees. Half-way the parent kills one worker outright, and a new one goes on
from what the file says. At the end the parent reads the file afresh and compares it with what was acknowledged.

Workers are spawned, as everywhere on Windows and macOS: they import this module anew, and get only what is passed to
them. They end when they read in the state that they should, and when the parent is gone.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmapstate.command.outcome import FAILED, WELL, Failure
from mmapstate.errors import StateError
from mmapstate.live.state import PersistedState, open_state

WORKERS = ("ada", "bob", "cleo", "dan")
KILLED = "bob"
COUNTS_FOR_ONE_ITEM = 10
_MOST_LINES, _MOST_COLUMNS = 40, 100  # of the file, when it is shown
PATIENCE = 20.0  # seconds, beyond those asked for, until workers that do not come or go are a failure

_LOOP = """\
while STATE.running:                         # until this process says otherwise
    with STATE.transaction():                # one step: nobody comes in between, and no half of it stays
        STATE.counter += 1
        if counts % 10 == 0:
            STATE.done[name].append(item)    # 1, 2, 3 ...
"""


def demo(options: Any) -> int:
    """Run the demo, telling on stdout; the file stays where it was asked for, and whenever something was lost."""
    path, folder = options.file, ""
    if path is None:
        folder = tempfile.mkdtemp(prefix="mmapstate-demo-")
        path = os.path.join(folder, "demo.state")
    elif os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "the demo makes a new file; remove this one, or choose another", path)
    keep = options.keep or not folder
    try:
        print(f"{len(WORKERS)} processes share the state in one file, {path}. Each runs:\n")
        print(textwrap.indent(_LOOP, "    "))
        problems = _Demo(path, options.seconds).run()
        keep |= bool(problems)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)  # Windows, while a virus scanner looks at it
    for problem in problems:
        print(f"FAILED: {problem}")
    if not problems:
        print("OK: everything that was acknowledged is in the file, in order and once.")
    if keep:
        print(f"The file stays: {path}")
    return FAILED if problems else WELL


# ---------------------------------------------------------------- a worker


def _work(name: str, path: str, counts: ctypes.c_int64) -> None:
    """Be a worker process: acknowledge each transaction by the number of its counts; none yet is 0, not open is -1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    with open_state(path) as STATE:  # noqa: N806 - as in the text that is shown
        counts.value = 0
        _loop(STATE, name, counts)


def _loop(STATE: PersistedState, name: str, acknowledged: ctypes.c_int64) -> None:  # noqa: N803
    counts = 0
    item = len(STATE.done[name])  # a worker that follows a killed one goes on where the file says
    parent = multiprocessing.parent_process()
    while STATE.running:
        counts += 1
        appends = counts % COUNTS_FOR_ONE_ITEM == 0
        item += appends
        with STATE.transaction():
            STATE.counter += 1
            if appends:
                STATE.done[name].append(item)
        acknowledged.value = counts
        if appends and parent is not None and not parent.is_alive():
            break


# ---------------------------------------------------------------- the parent


@dataclass
class _Worker:
    """One worker process as the parent sees it, and what it acknowledges."""

    name: str
    process: Any
    counts: ctypes.c_int64
    killed: bool = False

    @property
    def counted(self) -> int:
        return max(0, self.counts.value)

    @property
    def appended(self) -> int:
        return self.counted // COUNTS_FOR_ONE_ITEM


class _Demo:
    """The parent: starts the workers, kills one, stops them, compares."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self.progress = _Progress()
        self.workers: list[_Worker] = []

    def run(self) -> list[str]:
        """Return what went wrong: nothing, if the file held what was acknowledged."""
        try:
            self._let_them_work()
        except (StateError, Failure) as error:
            self.progress.end()
            return [str(error)]
        finally:
            self._end_all()
        failed = [worker for worker in self.workers if not worker.killed and worker.process.exitcode]
        problems = [f"the worker {worker.name} failed: exit code {worker.process.exitcode}" for worker in failed]
        try:
            with open_state(self.path, readonly=True) as state:
                found = state.copy()
        except (StateError, OSError) as error:
            return [*problems, f"the file cannot be read: {error}"]
        problems += _compare(self.workers, found)
        print("\nThe file, at rest:\n")
        with open(self.path, encoding="utf-8", errors="replace") as file:
            print(textwrap.indent(shortened(file.read()), "    "), end="\n\n")
        return problems

    def _let_them_work(self) -> None:
        defaults = {"running": True, "counter": 0, "done": {name: [] for name in WORKERS}}
        with open_state(self.path, defaults) as state:
            for name in WORKERS:
                self._start(name)
            self._follow(PATIENCE, until="start")
            self.progress.tell(f"{len(WORKERS)} workers at work")
            self._follow(self.seconds / 2)
            self._kill(self.workers[WORKERS.index(KILLED)])
            self._start(KILLED)
            self._follow(PATIENCE, until="start")
            self._follow(self.seconds / 2)
            state.running = False
            self._follow(PATIENCE, until="end")
            self.progress.tell(f"all have ended, after {self._acknowledged():,} changes")

    def _start(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        counts = context.RawValue(ctypes.c_int64, -1)
        process = context.Process(target=_work, args=(name, self.path, counts), name=name, daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()  # inherits that: while it still imports, it would print a traceback at Ctrl-C
        finally:
            signal.signal(signal.SIGINT, before)
        self.workers.append(_Worker(name, process, counts))

    def _follow(self, seconds: float, until: str = "") -> None:
        """Show how far the workers are for so long; or until all "start", or "end", and fail if not by then."""
        deadline = time.monotonic() + seconds
        while True:
            working = [worker for worker in self.workers if not worker.killed]
            ended = [worker for worker in working if not worker.process.is_alive()]
            if ended and until != "end":
                name, code = ended[0].name, ended[0].process.exitcode
                raise Failure(f"the worker {name} ended too early: exit code {code}")
            awaited = [each.name for each in working if each not in ended and (until == "end" or each.counts.value < 0)]
            left = deadline - time.monotonic()
            if left <= 0 if not until else not awaited:
                return
            if left <= 0:
                raise Failure(f"{', '.join(awaited)} did not {until} within {seconds:g} s")
            self.progress.show(f"{self._acknowledged():,} changes acknowledged")
            time.sleep(min(left, 0.02))

    def _kill(self, worker: _Worker) -> None:
        worker.process.kill()  # SIGKILL, on Windows TerminateProcess: no clean-up, not even its lock is released
        worker.process.join()
        worker.killed = True
        self.progress.tell(
            f"worker {worker.name} (process {worker.process.pid}) killed, after "
            f"{worker.counted + worker.appended:,} changes; a new one goes on"
        )

    def _end_all(self) -> None:
        """Leave no worker behind, whatever happened."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()

    def _acknowledged(self) -> int:
        return sum(worker.counted + worker.appended for worker in self.workers)


def _compare(workers: Sequence[_Worker], found: dict[str, Any]) -> list[str]:
    """Print a table of what was acknowledged and what is in the file, and return what is wrong with it."""
    counted, counter, done = sum(worker.counted for worker in workers), found.get("counter"), found.get("done") or {}
    problems = []
    print(f"\n{'':8}{'acknowledged':>14}{'in the file':>14}")
    print(f"{'counter':8}{counted:>14,}{counter or 0:>14,}")
    in_flight = [max(0, (counter or 0) - counted)]
    if counter is None or counter < counted:
        problems.append(f"the counter is {counter}, and {counted} counts were acknowledged")
    for name in WORKERS:
        items = done.get(name)
        if items is None:
            problems.append(f"{name} has no items")
            continue
        appended = sum(worker.appended for worker in workers if worker.name == name)
        print(f"{name:8}{appended:>14,}{len(items):>14,}")
        in_flight.append(max(0, len(items) - appended))
        if items != list(range(1, len(items) + 1)):
            problems.append(f"the items of {name} are not 1, 2, 3 ... in order and once")
        if len(items) < appended or (len(items) > appended and name != KILLED):
            only = "only " if len(items) > appended else ""
            problems.append(f"{name} has {len(items)} items, and {only}{appended} were acknowledged")
    if in_flight[0] == 1 >= sum(in_flight[1:]):
        print(f"\nOne step more than acknowledged: {KILLED} was killed between making it and telling.")
    elif any(in_flight):
        problems.append(f"{max(in_flight)} more than acknowledged: the killed {KILLED} explains only one step")
    return problems


class _Progress:
    """Lines on stdout; on a terminal with one at the bottom that is written over. No escape codes."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.live = sys.stdout.isatty()
        self.width = 0
        self.due = 0.0

    def tell(self, text: str) -> None:
        """Print a line that stays."""
        line = f"{time.monotonic() - self.begin:5.1f} s  {text}"
        self.end()
        print(line, flush=True)

    def show(self, text: str) -> None:
        """Show how far things are: on a terminal alone, some times a second."""
        now = time.monotonic()
        if not self.live or now < self.due:
            return
        self.due = now + 0.1
        line = f"{now - self.begin:5.1f} s  {text}"
        print("\r" + line.ljust(self.width), end="", flush=True)
        self.width = len(line)

    def end(self) -> None:
        """Blank the line that is written over."""
        if self.width:
            print("\r" + " " * self.width + "\r", end="")
            self.width = 0


def shortened(text: str) -> str:
    """Return `text` (YAML in block style) cut short: the middle of each long sequence, long lines, many lines."""
    lines: list[str] = []
    for indent, group in itertools.groupby(text.splitlines(), _item_indent):
        found = list(group)
        if indent is not None and len(found) > 3:
            found[1:-1] = [f"{indent}# ... {len(found) - 2:,} more"]
        lines += found
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"# ... {len(lines) - _MOST_LINES:,} more lines"]
    return "\n".join(line[:_MOST_COLUMNS] for line in lines)


def _item_indent(line: str) -> str | None:
    """Return the spaces before the hyphen of a sequence's item; None if the line is something else."""
    spaces, hyphen, _ = line.partition("- ")
    return spaces if hyphen and not spaces.strip() else None
