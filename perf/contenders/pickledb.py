"""pickledb: a `dict` in memory, written as a whole."""

from __future__ import annotations

import asyncio
from itertools import repeat
from pathlib import Path

from perf.contenders.base import Contender

__all__ = ["PickleDb"]


class PickleDb(Contender):
    """Written after each step, in one event loop: its methods without one begin and end a loop at each call."""

    name = "pickledb"
    modules = distributions = ("pickledb",)

    def __init__(self, path: Path) -> None:
        import pickledb

        self.db = pickledb.PickleDB(str(path))
        self.db.load()
        if self.db.get("counter") is None:
            self.put(0)

    def count(self, times: int) -> None:
        async def count() -> None:
            db = self.db
            for _ in repeat(None, times):
                await db.set("counter", await db.get("counter") + 1)
                await db.save()

        asyncio.run(count())

    def read(self, times: int) -> int:
        async def read() -> int:
            db, value = self.db, 0
            for _ in repeat(None, times):
                value = await db.get("counter")
            return value

        return asyncio.run(read())

    def get(self, key: str = "counter") -> int:
        return int(self.db.get(key))

    def put(self, value: int) -> None:
        self.db.set("counter", value)
        self.db.save()
