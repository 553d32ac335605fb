"""Files of JSON that are read and written as a whole: under filelock, and tinydb."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

from perf.contenders.base import Contender

__all__ = ["JsonFile", "TinyDb"]


class JsonFile(Contender):
    """A JSON file, rewritten by rename under `filelock`, which keeps its lock file. What is there is read anew."""

    name = "JSON file, filelock"
    modules = distributions = ("filelock",)
    shared = True

    def __init__(self, path: Path) -> None:
        import filelock

        self.path, self.temporary = path, path.with_name(f"{path.name}.tmp")
        self.lock = filelock.FileLock(f"{path}.lock", poll_interval=0.001, preserve_lock_file=True)
        with self.lock:
            if not path.exists():
                self._write({"counter": 0, "list": [], "entries": {}})

    def _read(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.path.read_bytes())
        return data

    def _write(self, data: dict[str, Any]) -> None:
        self.temporary.write_text(json.dumps(data), encoding="utf-8")
        os.replace(self.temporary, self.path)

    def count(self, times: int) -> None:
        for _ in repeat(None, times):
            self.increment("counter")

    def read(self, times: int) -> int:
        value = 0
        for _ in repeat(None, times):
            value = self._read()["counter"]
        return value

    def get(self, key: str = "counter") -> int:
        return int(self._read()[key])

    def put(self, value: int) -> None:
        with self.lock:
            self._write({**self._read(), "counter": value})

    def increment(self, key: str) -> None:
        with self.lock:
            data = self._read()
            data[key] = data.get(key, 0) + 1
            self._write(data)

    def append(self, item: int) -> None:
        with self.lock:
            data = self._read()
            data["list"].append(item)
            self._write(data)

    def length(self) -> int:
        return len(self._read()["list"])

    def fill(self, entries: Mapping[str, Any]) -> None:
        with self.lock:
            self._write({**self._read(), "entries": dict(entries)})

    def values(self) -> Iterable[Any]:
        values: Iterable[Any] = self._read()["entries"].values()
        return values


class TinyDb(Contender):
    """The counter is a document, found by its number. It syncs each write: it has no option not to."""

    name = "tinydb (syncs)"
    modules = distributions = ("tinydb",)

    def __init__(self, path: Path) -> None:
        import tinydb

        self.db = tinydb.TinyDB(path)
        if not self.db.contains(doc_id=1):
            self.db.insert({"counter": 0})

    def close(self) -> None:
        self.db.close()

    def count(self, times: int) -> None:
        from tinydb.operations import increment

        for _ in repeat(None, times):
            self.db.update(increment("counter"), doc_ids=[1])

    def read(self, times: int) -> int:
        value = 0
        for _ in repeat(None, times):
            value = self.db.get(doc_id=1)["counter"]
        return value

    def get(self, key: str = "counter") -> int:
        return int(self.db.get(doc_id=1)[key])

    def put(self, value: int) -> None:
        self.db.update({"counter": value}, doc_ids=[1])

    def fill(self, entries: Mapping[str, Any]) -> None:
        self.db.insert_multiple([{"key": key, "value": value} for key, value in entries.items()])

    def values(self) -> Iterable[Any]:
        return (document["value"] for document in self.db.all() if "value" in document)
