"""Files that look like a `dict`: diskcache, sqlitedict, rocksdict, shelve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

from perf.contenders.base import Contender

__all__ = ["DiskCache", "MappingContender", "RocksDict", "Shelve", "SqliteDict"]


class MappingContender(Contender):
    """Used as a `dict`. The keys of what `fill` stores are its own."""

    db: Any

    def close(self) -> None:
        self.db.close()

    def count(self, times: int) -> None:
        db = self.db
        for _ in repeat(None, times):
            db["counter"] += 1

    def read(self, times: int) -> int:
        db, value = self.db, 0
        for _ in repeat(None, times):
            value = db["counter"]
        return value

    def get(self, key: str = "counter") -> int:
        return int(self.db[key])

    def put(self, value: int) -> None:
        self.db["counter"] = value

    def fill(self, entries: Mapping[str, Any]) -> None:
        for key, value in entries.items():
            self.db[key] = value

    def values(self) -> Iterable[Any]:
        return (self.db[key] for key in self.db if key != "counter")


class Shelve(MappingContender):
    name = "shelve"

    def __init__(self, path: Path) -> None:
        import shelve

        self.db = shelve.DbfilenameShelf(str(path))
        self.db.setdefault("counter", 0)

    @classmethod
    def versions(cls) -> dict[str, str]:
        import dbm

        backends: list[str] = dbm._names  # type: ignore[attr-defined]
        return {"shelve": next(name for name in backends if _importable(name))}


class RocksDict(MappingContender):
    name = "rocksdict"
    modules = distributions = ("rocksdict",)

    def __init__(self, path: Path) -> None:
        import rocksdict

        self.db = rocksdict.Rdict(str(path))
        if "counter" not in self.db:
            self.db["counter"] = 0

    def values(self) -> Iterable[Any]:
        return (value for key, value in self.db.items() if key != "counter")


class DiskCache(MappingContender):
    """As fast as its settings allow: nothing is synced, evicted or counted. `incr` is faster than ``+=``."""

    name = "diskcache"
    modules = distributions = ("diskcache",)
    shared = True

    def __init__(self, path: Path) -> None:
        import diskcache

        self.db = diskcache.Cache(str(path), timeout=60, sqlite_synchronous=0, eviction_policy="none", cull_limit=0)
        self.db.add("counter", 0)

    def count(self, times: int) -> None:
        increment = self.db.incr
        for _ in repeat(None, times):
            increment("counter")

    def increment(self, key: str) -> None:
        self.db.incr(key)

    def append(self, item: int) -> None:
        self.db.push(item)

    def length(self) -> int:
        return len(self.db) - 1

    def fill(self, entries: Mapping[str, Any]) -> None:
        with self.db.transact():
            super().fill(entries)


class SqliteDict(MappingContender):
    """Committed after each step: what `autocommit` has only queued would be lost in a kill."""

    name = "sqlitedict"
    modules = distributions = ("sqlitedict",)

    def __init__(self, path: Path) -> None:
        import sqlitedict

        self.db = sqlitedict.SqliteDict(str(path), journal_mode="WAL", outer_stack=False)
        if "counter" not in self.db:
            self.put(0)

    def count(self, times: int) -> None:
        db = self.db
        for _ in repeat(None, times):
            db["counter"] += 1
            db.commit()

    def put(self, value: int) -> None:
        self.db["counter"] = value
        self.db.commit()

    def fill(self, entries: Mapping[str, Any]) -> None:
        self.db.update(entries)
        self.db.commit()

    def values(self) -> Iterable[Any]:
        return (value for key, value in self.db.items() if key != "counter")


def _importable(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True
