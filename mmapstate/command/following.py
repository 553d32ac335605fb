"""A state file followed by reading it again and again: each record, and what else happens to the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmapstate import changes
from mmapstate.changes import Change
from mmapstate.errors import StateError, StateFileError
from mmapstate.file import content, system
from mmapstate.file.readonly import ReadonlyBackend
from mmapstate.live.tree import Tree
from mmapstate.values import Plain, same

VACUUM = "was compacted"
EDITED = "was written anew, by hand or by programs that came and went"
GONE = "is gone; what it held last is shown"
THERE_AGAIN = "is there again"
REFUSED = "cannot be read"

OnRecord = Callable[[int, Sequence[Change]], None]
"""Is called with a record and its number, counted from the last vacuum on."""
OnEvent = Callable[[str, Sequence[Change]], None]
"""Is called with one of the words above, or a text that begins with it, and with what is different since."""


class Followed:
    """A file that is read again and again, without its lock: each record is reported, and each other event.

    Raises as opening a state readonly does.
    """

    def __init__(self, path: str, on_record: OnRecord, on_event: OnEvent) -> None:
        self.path = path
        self.on_record, self.on_event = on_record, on_event
        self.number = 0
        self.there = self.is_first = True
        self.refused = ""
        self.tree = Tree(lambda tree: ReadonlyBackend(path, tree, self))

    def close(self) -> None:
        """Close the file."""
        self.tree.backend.close()

    def look(self) -> None:
        """Report what is new."""
        there = system.is_there(self.path)
        if there != self.there:
            self.there = there
            self.on_event(THERE_AGAIN if there else GONE, ())
        if not there:
            return
        try:
            self.tree.refresh()
            self.refused = ""
        except FileNotFoundError:
            pass  # removed just now; the next look reports it
        except StateError as error:
            if str(error) != self.refused:
                self.refused = str(error)
                place = f", line {error.line}" if isinstance(error, StateFileError) and error.line else ""
                self.on_event(f"{REFUSED}{place}: {getattr(error, 'problem', '') or error}", ())

    def replayed(self, records: list[list[Change]]) -> None:
        """Report records (see `readonly.Watcher`)."""
        for record in records:
            self.number += 1
            self.on_record(self.number, record)

    def rebuilt(self, before: dict[Any, Plain], generation: int, data: bytes, parts: content.Layout) -> None:
        """Report what else has happened (see `readonly.Watcher`)."""
        records = changes.decode_each(parts.scan.payloads) if parts.scan is not None else []
        continued = generation != 0 and parts.marker is not None and parts.marker.generation == generation
        if not self.is_first and not (continued and len(records) >= self.number):
            self.number = 0
            alone = parts if parts.foreign else parts._replace(scan=None)
            snapshot = content.read(data[: parts.snapshot_end], alone, self.path).state
            if not same(before, snapshot):
                self.on_event(EDITED, [*differences((), before, snapshot)])
            elif generation != 0:  # else programs have begun a journal behind the same text
                self.on_event(VACUUM, ())
        self.is_first = False
        self.replayed(records[self.number :])


def differences(path: tuple[Any, ...], before: Any, after: Any) -> Iterator[Change]:
    """Yield changes that turn one state into the other, but for key order; lists of another length as a whole."""
    for key in {**before, **after} if isinstance(before, dict) else range(len(before)):
        if isinstance(before, dict) and key not in after:
            yield ("delete", [*path], key)
        elif isinstance(before, dict) and key not in before:
            yield ("set", [*path], key, after[key])
        else:
            old, new = before[key], after[key]
            lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
            if lists or (isinstance(old, dict) and isinstance(new, dict)):
                yield from differences((*path, key), old, new)
            elif not same(old, new):
                yield ("set", [*path], key, new)
