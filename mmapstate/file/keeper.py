"""Keep beside the file what would be lost: a state that an external edit has superseded, and bytes that are damaged."""

from __future__ import annotations

from mmapstate.file import content, images
from mmapstate.file.format import Position, is_blank
from mmapstate.file.page import NOWHERE
from mmapstate.file.replica import Replica
from mmapstate.live.tree import plain_root
from mmapstate.logger import log
from mmapstate.text import snapshot


class Keeper:
    """Keeps copies of what one process knows, as far as it is the one who does."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.joined_at = NOWHERE  # where this process stood when it had opened the file

    def joined(self) -> None:
        """Note that this process has opened the file, and stands where it stands now."""
        self.joined_at = self.replica.journal.position

    def supersede(self, parts: content.Layout) -> Position:
        """Keep what was committed and is not in the edit; return the old position for the others to do the same."""
        replica = self.replica
        page, cursor = replica.page, replica.cursor
        last = page.position
        self.keep_earlier()
        if page.start < 0 and page.origin.generation == 0:
            return NOWHERE  # programs had changed nothing since it was created, or edited
        if not replica.has_file():
            return last  # this one has just come: the others keep it
        if not cursor.unsure and replica.journal.generation == last.generation and replica.journal.tail < last.tail:
            replica.follow(last.tail)  # the file that was replaced is still open here
        if parts.scan is not None and replica.stood_at(last) and parts.scan.crc == replica.journal.crc:
            return NOWHERE
        self.keep(last)
        return last  # one that was not up to date leaves it to those that were

    def keep_earlier(self) -> None:
        """Write memory beside the file if an earlier edit, which others accepted, has superseded it."""
        for last in self.replica.page.superseded:
            self.keep(last)

    def keep(self, last: Position) -> None:
        """Write memory beside the file if this process stood at the last position before an edit. One of all does."""
        replica = self.replica
        if replica.cursor.unsure or not replica.stood_at(last):
            return
        if replica.journal.start < 0 and last == self.joined_at:
            return  # nothing was changed, and put to rest, since this process came: an edit as most are
        text = snapshot.dump(plain_root(replica.root), replica.path, as_json=replica.is_json)
        target = images.keep_copy(replica.path, f"superseded-{last.generation:016x}", text)
        if target is not None:
            log.warning(
                "%s: was changed by another program while programs of this library used it; the state before is in %s",
                replica.path, target,
            )  # fmt: skip

    def keep_damaged(self, data: bytes, offset: int) -> None:
        """Keep the whole file, of which the records from `offset` on are not used."""
        target = images.keep_damaged(self.replica.path, data)
        log.warning(
            "%s: records from offset %d on are lost (with the power?), the state before them is used; the file as it "
            "was is in %s", self.replica.path, offset, target,
        )  # fmt: skip

    def keep_dropped(self, data: bytes, parts: content.Layout) -> None:
        """Keep the whole file where anything but blanks stands behind its last record."""
        assert parts.scan is not None
        if not is_blank(data[parts.scan.tail + 1 :]):
            self.keep_damaged(data, parts.scan.tail)
