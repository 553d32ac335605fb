"""What a case has a fresh interpreter do: ``python -m perf.once once MODULE KIND PATH``, or ``memory``.

It prints its answer as JSON: how often it called fsync, as far as Python knows; bytes, and a sum to check.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from perf.contenders import Contender


def once(module: str, name: str, path: str) -> int:
    kind, calls = _kind(module, name), 0

    def counted(sync: Any) -> Any:
        def call(descriptor: int) -> Any:
            nonlocal calls
            calls += 1
            return sync(descriptor)

        return call

    for function in ("fsync", "fdatasync"):
        if hasattr(os, function):
            setattr(os, function, counted(getattr(os, function)))
    opened = kind(Path(path))
    opened.count(1)
    opened.close()
    return calls


def memory(module: str, name: str, path: str) -> tuple[int, int]:
    kind = _kind(module, name)
    gc.collect()
    before = _resident()
    opened = kind(Path(path))
    total = sum(opened.values())
    gc.collect()
    taken = _resident() - before
    opened.close()
    return taken, total


def _resident() -> int:
    """Return the bytes of memory that this process has; at most so far, where the system tells no more."""
    import resource  # Windows has none

    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kind(module: str, name: str) -> type[Contender]:
    kind: type[Contender] = getattr(importlib.import_module(module), name)
    missing = kind.missing()
    assert not missing, missing
    return kind


if __name__ == "__main__":
    json.dump({"once": once, "memory": memory}[sys.argv[1]](*sys.argv[2:]), sys.stdout)
