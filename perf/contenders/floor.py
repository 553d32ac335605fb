"""What nothing that does this can be faster than: a store into a map, with a lock, with a sync, with neither."""

from __future__ import annotations

import mmap
import os
from itertools import repeat
from pathlib import Path
from typing import ClassVar

from perf.contenders.base import Contender

__all__ = ["Floor", "FloorPower", "Prometheus"]

_RECORD = b'--- ["set", [], "counter", 1] #12345678'[:38]


class Floor(Contender):
    """A loop of nothing but flock, a store of 38 bytes into a map, and unlock. It keeps no total."""

    name = "the floor: flock, store, unlock"
    modules: ClassVar[tuple[str, ...]] = ("fcntl",)

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")
        self.file.write(b" " * 4096)
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), 4096)
        self.counted = 0

    def count(self, times: int) -> None:
        from fcntl import LOCK_EX, LOCK_UN, flock

        descriptor, data, record = self.file.fileno(), self.map, _RECORD
        for _ in repeat(None, times):
            flock(descriptor, LOCK_EX)
            data[100:138] = record
            flock(descriptor, LOCK_UN)

    def close(self) -> None:
        self.map.close()
        self.file.close()


class FloorPower(Floor):
    """A loop of nothing but a store and fdatasync."""

    name = "the floor: store, fdatasync"
    modules = ()

    def count(self, times: int) -> None:
        descriptor, data, record = self.file.fileno(), self.map, _RECORD
        for _ in repeat(None, times):
            data[100:138] = record
            os.fdatasync(descriptor)

    @classmethod
    def missing(cls) -> str:
        return "" if hasattr(os, "fdatasync") else "this system has no fdatasync"


class Prometheus(Contender):
    """The map in which prometheus_client keeps a process's metrics: no locks, and nothing but numbers."""

    name = "prometheus_client (no locks)"
    modules = ("prometheus_client.mmap_dict",)
    distributions = ("prometheus_client",)

    def __init__(self, path: Path) -> None:
        from prometheus_client.mmap_dict import MmapedDict

        self.dict = MmapedDict(str(path))

    def count(self, times: int) -> None:
        read, write = self.dict.read_value, self.dict.write_value
        for _ in repeat(None, times):
            write("counter", read("counter")[0] + 1, 0)

    def read(self, times: int) -> int:
        read, value = self.dict.read_value, 0.0
        for _ in repeat(None, times):
            value = read("counter")[0]
        return int(value)

    def get(self, key: str = "counter") -> int:
        return int(self.dict.read_value(key)[0])

    def put(self, value: int) -> None:
        self.dict.write_value("counter", value, 0)

    def close(self) -> None:
        self.dict.close()
