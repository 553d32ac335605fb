"""What is measured in a fresh interpreter: imports, memory, the calls that sync; and what a file takes on the disk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from perf.case import Case, Clock, Sample
from perf.contenders import Contender, those
from perf.contenders.documents import JsonFile
from perf.contenders.floor import Floor
from perf.contenders.lmdb import Lmdb, LmdbWritemap
from perf.contenders.mappings import DiskCache
from perf.contenders.ours import Ours, Predecessor
from perf.contenders.sqlite import Sqlite

__all__ = ["CASES"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_CHANGES = 100  # before a live file is looked at
_SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs")


def _told(command: list[str]) -> bytes:
    return subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, timeout=300).stdout


def _fresh(before: list[str], *arguments: Any) -> Any:
    """Run `perf.once` in a fresh interpreter, and return what it tells."""
    return json.loads(_told([*before, sys.executable, "-m", "perf.once", *map(str, arguments)]))


def _imports(kind: type[Contender], _folder: Path, _count: int) -> Sample:
    imports = "\n".join(f"import {module}" for module in kind.modules)
    script = f"import time\nbegan = time.perf_counter()\n{imports}\nprint(time.perf_counter() - began)"
    return Sample(float(_told([sys.executable, "-c", script])), 1)


def _filled(kind: type[Contender], path: Path, count: int) -> None:
    opened = kind(path)
    opened.fill({f"entry{number}": number for number in range(count)})
    opened.close()


def _memory(kind: type[Contender], folder: Path, count: int) -> Sample:
    began = time.perf_counter()
    _filled(kind, folder / "state", count)
    told, total = _fresh([], "memory", kind.__module__, kind.__name__, folder / "state")
    return Sample(told, count, total, sum(range(count)), varying=time.perf_counter() - began)


def _taken(folder: Path) -> int:
    """Return how many bytes the files of a folder take: of the disk, where the system tells."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size for status in found)


def _size(kind: type[Contender], folder: Path, count: int) -> Sample:
    clock = Clock()
    with clock.running():
        _filled(kind, folder / "state", count)
        opened = kind(folder / "state")
        opened.count(_CHANGES)
        live = _taken(folder)
        opened.close()
    return Sample(_taken(folder), count, figures={"live, bytes an entry": live / count}, varying=clock.seconds)


def _syncs(kind: type[Contender], folder: Path, _count: int) -> Sample:
    path, trace = folder / "state", folder / "trace"
    kind(path).close()
    strace = shutil.which("strace")
    command = [strace, "-f", "-qq", "-e", f"trace={','.join(_SYNCS)}", "-o", str(trace)] if strace else []
    counted = _fresh(command, "once", kind.__module__, kind.__name__, path)
    if strace:
        counted = len(re.findall(rf"\b(?:{'|'.join(_SYNCS)})\(", trace.read_text()))
    return Sample(counted, 1, varying=0)


_LIBRARIES = [kind for kind in those() if kind.modules and kind not in (Floor, LmdbWritemap)]
_FULL = those("fill", "values")

CASES = (
    Case("import", "import the library", _imports, Ours, _LIBRARIES, 1, unit="ms", scale=1e3),
    Case(
        "syncs",
        "calls that sync, in: open, one increment, close",
        _syncs,
        Ours,
        (Predecessor, Sqlite, DiskCache, Lmdb, JsonFile),
        1,
        rounds=1,
        unit="calls",
        scale=1,
    ),
    Case(
        "memory",
        "memory of a state of 100,000 entries, read once",
        _memory,
        Ours,
        _FULL,
        100_000,
        least=20_000,
        rounds=2,
        unit="bytes an entry",
        scale=1,
    ),
    Case(
        "size",
        "file of 100,000 entries at rest; live: after 100 changes",
        _size,
        Ours,
        _FULL,
        100_000,
        least=20_000,
        rounds=2,
        unit="bytes an entry",
        scale=1,
    ),
)
