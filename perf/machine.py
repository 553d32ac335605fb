"""On what it ran: a figure without its machine says little."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

from perf.contenders import Contender

__all__ = ["load", "machine", "versions"]


def machine(folder: Path) -> dict[str, str]:
    """Return what to tell of this machine, and of the filesystem of a folder."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "filesystem": _filesystem(folder),
        "load at the start": load(),
        "time": time.strftime("%Y-%m-%d %H:%M %z"),
    }


def load() -> str:
    """Return the load of the last minute, which should be near 0."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def versions(kinds: Iterable[type[Contender]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in kinds:
        found.update(kind.versions())
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """Return the type of the filesystem, where the system tells: that of the longest mount point above the folder."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above)[1] if above else "unknown"
