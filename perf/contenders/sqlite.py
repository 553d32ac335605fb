"""sqlite3, from the standard library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

from perf.contenders.base import Contender

__all__ = ["Sqlite", "SqliteInOne", "SqlitePower"]

_RAISE = "INSERT INTO counters VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET value = value + 1"


class Sqlite(Contender):
    """WAL, synchronous off, autocommit: a step is one statement, and SQLite keeps it prepared."""

    name = "sqlite3 (WAL)"
    modules = ("sqlite3",)
    shared = True
    synchronous: ClassVar[str] = "OFF"

    def __init__(self, path: Path) -> None:
        import sqlite3

        self.db: Any = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(f"PRAGMA synchronous = {self.synchronous}")
        for table in ("counters (key TEXT PRIMARY KEY, value)", "entries (key TEXT PRIMARY KEY, value)"):
            self.db.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
        self.db.execute("CREATE TABLE IF NOT EXISTS list (number INTEGER PRIMARY KEY, value)")
        self.db.execute("INSERT OR IGNORE INTO counters VALUES ('counter', 0)")

    def close(self) -> None:
        self.db.close()

    def count(self, times: int) -> None:
        execute = self.db.execute
        for _ in repeat(None, times):
            execute("UPDATE counters SET value = value + 1 WHERE key = 'counter'")

    def read(self, times: int) -> int:
        execute, value = self.db.execute, 0
        for _ in repeat(None, times):
            value = execute("SELECT value FROM counters WHERE key = 'counter'").fetchone()[0]
        return value

    def get(self, key: str = "counter") -> int:
        return int(self.db.execute("SELECT value FROM counters WHERE key = ?", [key]).fetchone()[0])

    def put(self, value: int) -> None:
        self.db.execute("UPDATE counters SET value = ? WHERE key = 'counter'", [value])

    def increment(self, key: str) -> None:
        self.db.execute(_RAISE, [key])

    def append(self, item: int) -> None:
        self.db.execute("INSERT INTO list (value) VALUES (?)", [item])

    def length(self) -> int:
        return int(self.db.execute("SELECT count(*) FROM list").fetchone()[0])

    def fill(self, entries: Mapping[str, Any]) -> None:
        rows = ((key, json.dumps(value)) for key, value in entries.items())
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO entries VALUES (?, ?)", rows)
        self.db.execute("COMMIT")

    def values(self) -> Iterable[Any]:
        return (json.loads(value) for (value,) in self.db.execute("SELECT value FROM entries"))

    @classmethod
    def versions(cls) -> dict[str, str]:
        import sqlite3

        return {"SQLite": sqlite3.sqlite_version}


class SqlitePower(Sqlite):
    synchronous = "FULL"


class SqliteInOne(Sqlite):
    def count(self, times: int) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        super().count(times)
        self.db.execute("COMMIT")
