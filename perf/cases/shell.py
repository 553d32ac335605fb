"""What a shell waits for when it asks for one value: a fresh process that starts, answers and ends."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from perf.case import Case, Clock, Sample
from perf.contenders import Contender

__all__ = ["CASES"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_VALUE = 41
_SELECT = "select value from state where key = 'counter'"
_READ = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"


class _Program(Contender):
    """A program that prints "counter". Its file is made before."""

    program: ClassVar[tuple[str, ...]]
    shown: ClassVar[int] = _VALUE

    def __init__(self, path: Path) -> None:
        path.write_text(f"counter: {_VALUE}\nname: mill\n")

    @classmethod
    def arguments(cls, path: Path) -> list[str]:
        return [*cls.program, str(path), "counter"]


class _Get(_Program):
    name = "mmapstate get"
    program = (sys.executable, "-m", "mmapstate", "get")


class _Pass(_Program):
    name = "python -c pass"
    program = (sys.executable, "-c", "pass")
    shown = 0


class _Sqlite(_Program):
    """A database with a table of two columns."""

    def __init__(self, path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute("create table state (key text primary key, value)")
            database.execute("insert into state values ('counter', ?)", (_VALUE,))
        database.close()

    @classmethod
    def arguments(cls, path: Path) -> list[str]:
        return [*cls.program, str(path), _SELECT]


class _SqliteInPython(_Sqlite):
    name = "python -c, sqlite3 module"
    program = (sys.executable, "-c", _READ)


class _SqliteBinary(_Sqlite):
    name = "sqlite3 file select"
    program = ("sqlite3",)

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("sqlite3") else "there is no program sqlite3 here"


def _ask(kind: Any, folder: Path, count: int) -> Sample:
    path = folder / "state"
    kind(path)
    # Compiled once and kept, as in an installation.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def ask() -> int:
        done = subprocess.run(
            kind.arguments(path), cwd=_ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=60
        )
        return int(done.stdout or 0)

    ask()
    clock, total = Clock(), 0
    with clock.running():
        for _ in range(count):
            total += ask()
    return Sample(clock.seconds, count, total, count * kind.shown)


CASES = (
    Case(
        "shell",
        "a shell asks for one value: start, answer, end",
        _ask,
        _Get,
        (_Pass, _SqliteInPython, _SqliteBinary),
        20,
        least=5,
        unit="ms",
        scale=1e3,
    ),
)
