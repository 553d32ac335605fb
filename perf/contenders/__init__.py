"""The contenders: each is one small class, and says how it uses its library."""

from perf.contenders.base import Contender
from perf.contenders.documents import JsonFile, TinyDb
from perf.contenders.floor import Floor, Prometheus
from perf.contenders.lmdb import Lmdb, LmdbmJson, LmdbWritemap
from perf.contenders.mappings import DiskCache, RocksDict, Shelve, SqliteDict
from perf.contenders.ours import Predecessor
from perf.contenders.pickledb import PickleDb
from perf.contenders.sqlite import Sqlite

__all__ = ["OTHERS", "Contender", "those"]

# Ours is no part of it: each case says which way to use it.
OTHERS: tuple[type[Contender], ...] = (
    Predecessor,
    Floor,
    Prometheus,
    Lmdb,
    LmdbWritemap,
    LmdbmJson,
    Sqlite,
    SqliteDict,
    DiskCache,
    RocksDict,
    Shelve,
    JsonFile,
    PickleDb,
    TinyDb,
)


def those(*steps: str, shared: bool = False) -> tuple[type[Contender], ...]:
    """Return the others that offer these steps; with `shared` those that several processes may write to at once."""
    return tuple(kind for kind in OTHERS if kind.offers(*steps) and (kind.shared or not shared))
