"""The main job in about five seconds: workers share one state file, one is killed, and nothing is lost.

Four worker processes count and append. After each transaction that ended, a worker tells the parent over a pipe: it
acknowledges its changes. Half-way the parent kills one worker outright, and a new one goes on from what the file says.
At the end the parent reads the file afresh and compares it with what was acknowledged.

Workers are spawned, as everywhere on Windows and macOS: they import this module anew, and get only what is passed to
them. They end when they read in the state that they should, and when the parent is gone: their pipe breaks then.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

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

# What a worker sends, behind which comes a message or nothing.
_READY, _COUNTED, _APPENDED, _FAILED = b"r", b"c", b"a", b"f"  # who has appended has counted, too


def demo(options: Any) -> int:
    """The subcommand."""
    return run(options.seconds, options.file, options.keep)


def run(seconds: float, path: str | None = None, keep: bool = False) -> int:
    """Run the demo, telling on stdout; return 0 if the file held all that was acknowledged, else 1.

    The workers work for so many `seconds`. The file is made at `path`, and stays; by default in a temporary folder,
    which stays if `keep` is true, and whenever something was lost. Raises FileExistsError, and what opening raises.
    """
    if path is not None:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "the demo makes a new file; remove this one, or choose another", path)
        folder = ""
    else:
        folder = tempfile.mkdtemp(prefix="mmapstate-demo-")
        path = os.path.join(folder, "demo.state")
    try:
        print(f"{len(WORKERS)} processes share the state in one file, {path}. Each runs:\n")
        print(textwrap.indent(_LOOP, "    "))
        held = _Demo(path, seconds, _Progress()).run()
        keep |= not held
    finally:
        if folder and not keep:
            shutil.rmtree(folder, ignore_errors=True)  # Windows, while a virus scanner looks at it
    if keep or not folder:
        print(f"The file stays: {path}")
    return 0 if held else 1


# ---------------------------------------------------------------- a worker


def _work(name: str, path: str, pipe: Connection) -> None:
    """Be a worker process: count, append, and acknowledge both behind the transaction that made them."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    try:
        with open_state(path) as STATE:  # noqa: N806 - as in the text that is shown
            pipe.send_bytes(_READY)
            _loop(STATE, name, pipe)
    except BrokenPipeError:
        pass  # the parent is gone
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send_bytes(_FAILED + f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        sys.exit(1)


def _loop(STATE: PersistedState, name: str, pipe: Connection) -> None:  # noqa: N803
    counts = 0
    item = len(STATE.done[name])  # a worker that follows a killed one goes on where the file says
    while STATE.running:
        counts += 1
        appends = counts % COUNTS_FOR_ONE_ITEM == 0
        item += appends
        with STATE.transaction():
            STATE.counter += 1
            if appends:
                STATE.done[name].append(item)
        pipe.send_bytes(_APPENDED if appends else _COUNTED)


# ---------------------------------------------------------------- the parent


@dataclass
class _Worker:
    """One worker process as the parent sees it; what it acknowledged, and what it reported last."""

    name: str
    process: Any
    pipe: Connection
    ready: bool = False
    counted: int = 0
    appended: int = 0
    ended: bool = False
    problem: str = ""
    killed: bool = False

    def receive(self) -> None:
        """Take in what has come through the pipe; its end is the worker's end."""
        try:
            for _ in range(1000):  # then the others
                message = self.pipe.recv_bytes()
                kind = message[:1]
                self.counted += kind in (_COUNTED, _APPENDED)
                self.appended += kind == _APPENDED
                self.ready |= kind == _READY
                if kind == _FAILED:
                    self.problem = message[1:].decode("utf-8", "replace")
                if not self.pipe.poll():
                    return
        except (EOFError, OSError):  # the latter for a message that a kill cut in two
            self.ended = True


class _GaveUp(Exception):
    """The demo cannot go on; says why."""


@dataclass
class _Demo:
    """The parent: starts the workers, kills one, stops them, compares."""

    path: str
    seconds: float
    progress: _Progress
    workers: list[_Worker] = field(default_factory=list)

    def run(self) -> bool:
        """Return whether the file held what was acknowledged."""
        try:
            self._let_them_work()
        except (StateError, _GaveUp) as error:
            self.progress.end()
            print(f"FAILED: {error}")
            return False
        finally:
            self._end_all()
        return self._judge()

    def _let_them_work(self) -> None:
        defaults = {"running": True, "counter": 0, "done": {name: [] for name in WORKERS}}
        with open_state(self.path, defaults) as state:
            for name in WORKERS:
                self._start(name)
            self._follow(PATIENCE, until_ready=True)
            self.progress.tell(f"{len(WORKERS)} workers at work")
            self._follow(self.seconds / 2)
            self._kill(KILLED)
            self._start(KILLED)
            self._follow(PATIENCE, until_ready=True)
            self._follow(self.seconds / 2)
            state.running = False
            self._follow(PATIENCE, until_ended=True)
            self.progress.tell(f"all have ended, after {self._acknowledged():,} changes")

    def _start(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, self.path, sender), name=name, daemon=True)
        with _interrupts_ignored():  # inherited: a worker that still imports would print a traceback at Ctrl-C
            process.start()
        sender.close()  # else the pipe would not end with the worker
        self.workers.append(_Worker(name, process, receiver))

    def _follow(self, seconds: float, *, until_ready: bool = False, until_ended: bool = False) -> None:
        """Take in acknowledgements for so long; with a condition, fail if it is not met by then."""
        deadline = time.monotonic() + seconds
        while True:
            alive = [worker for worker in self.workers if not worker.ended]
            if (until_ready and all(worker.ready for worker in alive)) or (until_ended and not alive):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                break
            waiting = wait([worker.pipe for worker in alive], min(left, 0.1))
            for worker in alive:
                if worker.pipe in waiting:
                    worker.receive()
                if worker.ended and not until_ended:
                    self._explain(worker)
            self.progress.show(f"{self._acknowledged():,} changes acknowledged")
        if until_ready or until_ended:
            names = ", ".join(worker.name for worker in alive if until_ended or not worker.ready)
            raise _GaveUp(f"{names} did not {'start' if until_ready else 'end'} within {seconds:g} s")

    def _explain(self, worker: _Worker) -> None:
        """Raise the internal error that a worker ended of its own accord."""
        worker.process.join(PATIENCE)
        reason = worker.problem or f"exit code {worker.process.exitcode}"
        raise _GaveUp(f"the worker {worker.name} ended too early: {reason}")

    def _kill(self, name: str) -> None:
        worker = next(worker for worker in self.workers if worker.name == name)
        worker.process.kill()  # SIGKILL, on Windows TerminateProcess: no clean-up, not even its lock is released
        worker.killed = True
        worker.process.join(PATIENCE)
        while not worker.ended:
            worker.receive()  # what it had acknowledged before
        self.progress.tell(
            f"worker {name} (process {worker.process.pid}) killed, after {worker.counted + worker.appended:,} changes; "
            "a new one goes on"
        )

    def _end_all(self) -> None:
        """Leave no worker behind, whatever happened."""
        for worker in self.workers:
            worker.process.join(0 if not worker.ended else 5)
            if worker.process.is_alive():
                worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()

    def _acknowledged(self) -> int:
        return sum(worker.counted + worker.appended for worker in self.workers)

    # ------------------------------------------------------------ the comparison

    def _judge(self) -> bool:
        """Compare the file, read afresh, with what was acknowledged, and tell."""
        problems = [
            f"the worker {worker.name} failed: {worker.problem or f'exit code {worker.process.exitcode}'}"
            for worker in self.workers
            if not worker.killed and (worker.problem or worker.process.exitcode != 0)
        ]
        try:
            with open_state(self.path, readonly=True) as state:
                found = state.copy()
        except (StateError, OSError) as error:
            print(f"FAILED: the file cannot be read: {error}")
            return False
        problems += self._compare(found)
        print("\nThe file, at rest:\n")
        with open(self.path, encoding="utf-8", errors="replace") as file:
            print(textwrap.indent(shortened(file.read()), "    "), end="\n\n")
        for problem in problems:
            print(f"FAILED: {problem}")
        if not problems:
            print("OK: everything that was acknowledged is in the file, in order and once.")
        return not problems

    def _compare(self, found: dict[str, Any]) -> list[str]:
        """Print the table, and return what is wrong with it."""
        problems = []
        counted = sum(worker.counted for worker in self.workers)
        counter, done = found.get("counter"), found.get("done")
        print(f"\n{'':8}{'acknowledged':>14}{'in the file':>14}")
        print(f"{'counter':8}{counted:>14,}{counter or 0:>14,}")
        in_flight = [max(0, (counter or 0) - counted)]
        if counter is None or counter < counted:
            problems.append(f"the counter is {counter}, and {counted} counts were acknowledged")
        for name in WORKERS:
            items = done.get(name) if done else None
            if items is None:
                problems.append(f"{name} has no items")
                continue
            appended = sum(worker.appended for worker in self.workers if worker.name == name)
            print(f"{name:8}{appended:>14,}{len(items):>14,}")
            in_flight.append(max(0, len(items) - appended))
            if items != list(range(1, len(items) + 1)):
                problems.append(f"the items of {name} are not 1, 2, 3 ... in order and once")
            if len(items) < appended:
                problems.append(f"{name} has {len(items)} items, and {appended} were acknowledged")
            elif len(items) > appended and name != KILLED:
                problems.append(f"{name} has {len(items)} items, and only {appended} were acknowledged")
        count, *items_more = in_flight
        if count == 1 >= sum(items_more):
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


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for a moment; what is started meanwhile ignores it for good."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
