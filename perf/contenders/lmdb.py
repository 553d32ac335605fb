"""lmdb, plain and through lmdbm."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

from perf.contenders.base import Contender
from perf.contenders.mappings import MappingContender

__all__ = ["Lmdb", "LmdbInOne", "LmdbPower", "LmdbWritemap", "LmdbmJson"]


class Lmdb(Contender):
    """Sync off. A step is one write transaction."""

    name = "lmdb"
    modules = distributions = ("lmdb",)
    shared = True
    options: ClassVar[dict[str, Any]] = {"sync": False}

    def __init__(self, path: Path) -> None:
        import lmdb

        self.db: Any = lmdb.open(str(path), subdir=False, map_size=1 << 28, **self.options)
        with self.db.begin(write=True) as transaction:
            transaction.put(b"counter", b"0", overwrite=False)

    def close(self) -> None:
        self.db.close()

    def count(self, times: int) -> None:
        begin = self.db.begin
        for _ in repeat(None, times):
            with begin(write=True) as transaction:
                transaction.put(b"counter", b"%d" % (int(transaction.get(b"counter")) + 1))

    def read(self, times: int) -> int:
        begin, value = self.db.begin, 0
        for _ in repeat(None, times):
            with begin() as transaction:
                value = int(transaction.get(b"counter"))
        return value

    def get(self, key: str = "counter") -> int:
        with self.db.begin() as transaction:
            return int(transaction.get(key.encode()))

    def put(self, value: int) -> None:
        with self.db.begin(write=True) as transaction:
            transaction.put(b"counter", b"%d" % value)

    def increment(self, key: str) -> None:
        name = key.encode()
        with self.db.begin(write=True) as transaction:
            transaction.put(name, b"%d" % (int(transaction.get(name, b"0")) + 1))

    def append(self, item: int) -> None:
        with self.db.begin(write=True) as transaction:
            transaction.put(b"list%08d" % transaction.stat()["entries"], b"%d" % item, append=True)

    def length(self) -> int:
        with self.db.begin() as transaction:
            return int(transaction.stat()["entries"]) - 1

    def fill(self, entries: Mapping[str, Any]) -> None:
        with self.db.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti([(b"/" + key.encode(), json.dumps(value).encode()) for key, value in entries.items()])

    def values(self) -> Iterable[Any]:
        with self.db.begin() as transaction, transaction.cursor() as cursor:
            yield from (json.loads(value) for key, value in cursor if key.startswith(b"/"))


class LmdbWritemap(Lmdb):
    """With a writable map: faster still; the documentation warns of stray stores that damage the file."""

    name = "lmdb (writemap)"
    options: ClassVar[dict[str, Any]] = {"sync": False, "writemap": True, "map_async": True}


class LmdbPower(Lmdb):
    options: ClassVar[dict[str, Any]] = {}


class LmdbInOne(Lmdb):
    def count(self, times: int) -> None:
        with self.db.begin(write=True) as transaction:
            for _ in repeat(None, times):
                transaction.put(b"counter", b"%d" % (int(transaction.get(b"counter")) + 1))


class LmdbmJson(MappingContender):
    """lmdb as a `dict` of JSON, as its README has it. Sync off. It has no step that reads and writes at once."""

    name = "lmdbm (JSON)"
    modules = distributions = ("lmdbm",)
    shared = True

    def __init__(self, path: Path) -> None:
        import lmdbm

        class JsonLmdb(lmdbm.Lmdb):  # type: ignore[misc]
            def _pre_key(self, value: str) -> bytes:
                return value.encode()

            def _post_key(self, value: bytes) -> str:
                return value.decode()

            def _pre_value(self, value: Any) -> bytes:
                return json.dumps(value).encode()

            def _post_value(self, value: bytes) -> Any:
                return json.loads(value)

        self.db = JsonLmdb.open(str(path), "c", map_size=1 << 28, autogrow=False, sync=False)
        self.db.setdefault("counter", 0)

    def increment(self, key: str) -> None:
        self.db[key] = self.db.get(key, 0) + 1

    def fill(self, entries: Mapping[str, Any]) -> None:
        self.db.update(entries)

    def values(self) -> Iterable[Any]:
        return (value for key, value in self.db.items() if key != "counter")
