"""Bugs of the kind that would lose somebody's state, planted on purpose: each must be caught by a family of tests.

Each is a broken variant of one function, put in its place in the process of the tests and in all children of it.
"""

import contextlib
import inspect
import itertools
import sys
import textwrap
from zlib import crc32

import mmapstate
from mmapstate import changes
from mmapstate.care import findings, repair
from mmapstate.file import (
    child,
    compaction,
    content,
    cursor,
    filelock,
    forks,
    format,
    images,
    journal,
    mapped,
    reading,
    readonly,
    recovery,
    refresh,
    replica,
    sidecar,
    swap,
    system,
    writer,
)
from mmapstate.live import json_changes, merge
from mmapstate.text import snapshot

__all__ = ["BUGS", "plant"]

# Name: the variant, the family that catches it, and where that has the tests that do, as arguments of pytest.
BUGS = {}


def bug(family, *tests):
    def register(function):
        BUGS[function.__name__] = (function, family, tests)
        return function

    return register


def plant(name):
    """Have the bug of this name in the library from now on."""
    BUGS[name][0]()


def instead(place, name, function):
    assert hasattr(place, name), f"{place} has no {name} any more"
    setattr(place, name, function)


def with_lines(place, name, *replaced):
    """Put a method in its own place with other lines: ``(before, after)``, each found once, indented as it is."""
    function = getattr(place, name)
    source = textwrap.dedent(inspect.getsource(function))
    for before, after in replaced:
        assert source.count(before) == 1, f"{name} has no {before!r} any more"
        source = source.replace(before, after)
    made = {}
    exec(source, vars(sys.modules[function.__module__]), made)
    instead(place, name, made[name])


@bug("every-byte", "tests/chaos/test_every_byte.py")
def crcs_are_not_checked():
    def record_at(data, start, crc):
        end = data.find(b"\n", start)
        beginning = data[start : start + 4]
        if end < 0 or beginning not in (b"--- ", b"#-- "):
            return None
        return format._Found(beginning == b"--- ", data[start + 4 : end - 10], end + 1, crc)

    instead(format, "_record_at", record_at)


@bug("kill9", "tests/chaos/test_kill9.py", "-k", "every_step")
def commit_byte_is_stored_first():
    text = "stores[stored] = stored_text"
    with_lines(writer.Writer, "append", (text, f"stores[tail] = COMMITTED; {text}"))


@bug("kill9", "tests/chaos/test_kill9.py", "-k", "every_step")
def commit_byte_of_the_fast_path_is_stored_first():
    text = "stores[start : end + 1] = text"
    with_lines(cursor.Cursor, "append", (text, f"stores[tail] = COMMITTED; {text}"))


@bug("editors", "tests/unit/file/test_writer.py", "-k", "TestInTheWay")
def fast_path_does_not_look_at_the_last_record():
    with_lines(cursor.Cursor, "append", ("and stores[journal.end_start : start] == journal.end", ""))


@bug("editors", "tests/unit/file/test_writer.py", "-k", "TestInTheWay")
def fast_path_looks_at_the_tail_alone_and_not_at_what_stands_before_it():
    with_lines(
        cursor.Cursor,
        "append",
        ("and stores[journal.end_start : start] == journal.end", "and stores[tail:start] == journal.end[-1:]"),
    )


@bug("interrupts", "tests/chaos/interrupts", "-k", "bytecode")
def fast_path_leaves_memory_behind_after_an_interrupt():
    with_lines(cursor.Cursor, "append", ("self.unsure = True", "pass"))


@bug("history", "tests/chaos/test_history.py")
def fast_path_does_not_look_for_what_is_new():
    with_lines(cursor.Cursor, "token", ("self.word[0] == applied and", ""))
    with_lines(
        cursor.Cursor,
        "append",
        ("word[0] == token == self.applied", "token == self.applied"),
        ("and stores[journal.end_start : start] == journal.end", ""),
    )


@bug("history", "tests/unit/file/test_writer.py", "-k", "TestInTheWay")
def fast_path_commits_what_was_decided_on_an_old_state():
    with_lines(cursor.Cursor, "append", ("word[0] == token == self.applied", "word[0] == self.applied"))


@bug("history", "tests/chaos/test_history.py")
def items_that_others_append_in_a_row_are_read_in_another_order():
    real = changes._splice_text
    instead(changes, "_splice_text", lambda payload, items: real(payload, items[::-1]))


@bug("kill9", "tests/chaos/test_kill9.py", "-k", "every_step")
def junk_is_left_in_the_slack():
    instead(journal.Journal, "blank", lambda self, start, stop: None)


@bug("editors", "tests/chaos/editors/test_editors.py")
def inode_is_not_looked_at():
    real = system.as_image
    instead(system, "as_image", lambda found: real(found)._replace(inode=1, mtime=0))


@bug("power-cut", "tests/chaos/test_power_cut.py")
def folder_is_not_synced():
    instead(system, "sync_folder", lambda path: None)


@bug("power-cut", "tests/chaos/test_power_cut.py")
def image_is_not_synced_before_the_rename():
    real = images.write_beside

    def write(*arguments, **options):
        sync, system.sync_file = system.sync_file, lambda descriptor: None
        try:
            return real(*arguments, **options)
        finally:
            system.sync_file = sync

    instead(images, "write_beside", write)


@bug("power-cut", "tests/chaos/test_power_cut.py")
def commit_is_not_synced():
    instead(writer.Writer, "_sync_commit", lambda self, journal, text: None)


@bug("power-cut", "tests/chaos/test_power_cut.py")
def journal_is_begun_without_a_sync():
    instead(compaction.Compaction, "_sync_region", lambda self, file: None)


@bug("failing-calls", "tests/chaos/test_failing_calls.py")
def failed_sync_is_taken_for_a_success():
    real = system.sync_data

    def sync(descriptor):
        with contextlib.suppress(OSError):
            real(descriptor)

    instead(system, "sync_data", sync)


@bug("failing-calls", "tests/unit/file/test_readonly.py")
def reader_takes_a_record_before_it_is_synced():
    for place in (journal, reading):
        instead(place, "is_lasting", lambda file, last, tail: True)


@bug("power-cut", "tests/unit/file/test_readonly.py", "tests/chaos/test_power_cut.py")
def mark_of_a_record_is_the_same_after_a_restart():
    real = format.unsynced
    for place in (journal, writer):
        instead(place, "unsynced", lambda boot, inode: real(bytes(16), inode))


@bug("history", "tests/unit/file/test_readonly.py")
def reader_judges_what_does_not_fit_together_at_once():
    def settled(opened, judge, leave):
        file = opened()
        try:
            return judge(file, file.read())
        finally:
            leave(file)

    instead(reading, "settled", settled)


@bug("history", "tests/unit/file/test_readonly.py")
def reader_looks_at_the_path_now_and_then():
    turns = itertools.count()

    def catch_up(self):
        if next(turns) % 5 == 0 or self.cursor.is_half_way():
            real(self)
        elif not self._is_quiet():
            self._follow()

    real = readonly.ReadonlyBackend._catch_up
    instead(readonly.ReadonlyBackend, "_catch_up", catch_up)


@bug("history", "tests/unit/file/test_readonly.py")
def reader_keeps_memory_over_a_vacuum_made_from_another_position():
    def follow_vacuum(self, parts):
        return self._apply(parts.scan.payloads if parts.scan else [])

    instead(readonly.ReadonlyBackend, "_follow_vacuum", follow_vacuum)


@bug("editors", "tests/unit/file/test_readonly.py")
def reader_trusts_the_mtime():
    class ByMtime(readonly.ByteCheck):
        pass

    with_lines(ByMtime, "passed", ("found.times if system.is_settled(found) else None", "(found.mtime, 0)"))
    with_lines(ByMtime, "is_needed", ("found.times != self._times", "(found.mtime, 0) != self._times"))
    instead(readonly, "ByteCheck", ByMtime)


@bug("failing-calls", "tests/chaos/test_failing_calls.py")
def memory_is_changed_before_the_file():
    def append(self, record, make_room, publish, args=()):
        with self.locks.guard:
            publish(*args)
        real(self, record, make_room, lambda: None)

    real = writer.Writer.append
    instead(writer.Writer, "append", append)


@bug("failing-calls", "tests/chaos/test_failing_calls.py")
def descriptor_is_left_open_after_an_error():
    instead(replica.Replica, "closed_unless_used", lambda self, file: contextlib.nullcontext())


@bug("fork", "tests/chaos/fork/test_processes.py", "-k", "fork")
def lock_is_released_in_the_child():
    real = filelock.FileLock.forget

    def forget(self):
        filelock.file_lock(self.descriptor, filelock.UNLOCK)
        real(self)

    instead(filelock.FileLock, "forget", forget)


@bug("fork", "tests/chaos/fork/test_forks.py", "-k", "any_step or opened_again")
def child_may_have_a_file_that_it_does_not_know_of():
    def alone(open_file):
        descriptor = open_file()
        system.unshared.add(descriptor)
        return descriptor

    instead(forks, "alone", alone)


@bug("fork", "tests/chaos/fork/test_forks.py", "-k", "by_itself")
def child_takes_half_a_change_for_all_of_it():
    with_lines(child.Child, "forget", ("cursor.distrust()", "cursor.trust()"))


@bug("history", "tests/chaos/test_history.py")
def lock_is_not_taken():
    instead(filelock, "file_lock", lambda descriptor, operation: None)


@bug("model", "tests/unit/live/test_nodes.py", "tests/chaos/test_model.py")
def journal_is_written_before_the_index_is_checked():
    real = changes.encode

    def encode(record):
        return real([(verb, path, 10**6 if isinstance(key, int) else key, *rest) for verb, path, key, *rest in record])

    instead(changes, "encode", encode)


@bug("editors", "tests/unit/file/test_recovery.py", "-k", "TestDamage")
def tail_is_not_looked_at_before_a_store():
    instead(journal.Journal, "is_untouched", lambda self: True)


@bug("editors", "tests/chaos/editors/test_editors.py")
def objects_are_kept_after_a_foreign_image():
    for place in (replica, readonly):
        instead(place, "reconcile", lambda root, state: None)


@bug("editors", "tests/chaos/editors/test_editors.py", "tests/unit/file/test_recovery.py")
def generation_is_used_again_after_an_adoption():
    instead(images, "new_generation", lambda _: 170)


@bug("editors", "tests/unit/file/test_recovery.py", "-k", "TestEdits or TestSleepers")
def what_an_edit_supersedes_is_not_kept():
    instead(images, "keep_copy", lambda path, suffix, data: None)


@bug("kill9", "tests/chaos/test_kill9.py", "-k", "every_step")
def page_is_not_marked_dirty():
    for place in (writer, cursor):
        instead(place, "DIRTY", 200)  # some other byte of it is


@bug("kill9", "tests/chaos/test_kill9.py", "-k", "every_step")
def transaction_is_several_records():
    real = writer.Writer.append

    def append(self, record, make_room, publish, args=()):
        for change in record[:-1]:
            real(self, [change], make_room, lambda: None)
        real(self, record[-1:], make_room, publish, args)

    instead(writer.Writer, "append", append)


@bug("kill9", "tests/chaos/test_kill9.py", "-k", "every_step")
def leftover_images_are_not_swept():
    instead(images, "sweep", lambda path: None)
    instead(system, "remove", lambda path: None)


@bug("interrupts", "tests/chaos/interrupts", "-k", "rename")
def image_is_swapped_in_before_the_page_says_which_inode_it_has():
    instead(swap.Swap, "ready", lambda self, inode: None)


@bug("editors", "tests/unit/file/test_opening.py", "tests/unit/file/test_recovery.py", "-k", "edit")
def no_last_look_before_the_swap():
    instead(compaction.Compaction, "_check_still", lambda self, expected: None)


@bug("editors", "tests/unit/file/test_recovery.py", "-k", "TestEdits")
def crc_of_the_snapshot_is_not_checked():
    real = content.layout

    def layout(data, file):
        parts = real(data, file)
        return parts._replace(intact=True)

    instead(content, "layout", layout)
    instead(replica.Replica, "is_snapshot_intact", lambda self: True)


@bug("history", "tests/chaos/test_history.py")
def reader_takes_what_does_not_check_out():
    def read_batch(data, crc):
        lines = data.split(b"\n")[:-1]
        payloads = [line[4:-10] for line in lines]
        return payloads[:-1], crc32(b"".join(payloads), crc)  # drops the last one

    instead(journal, "read_batch", read_batch)


@bug("editors", "tests/unit/text/test_patch.py", "-k", "random")
def comment_goes_to_the_neighbour():
    from mmapstate.text import snapshot

    real = snapshot.patch
    turns = itertools.count()
    instead(snapshot, "patch", lambda *given: real(*given).replace(b"# c", b"# d", next(turns) % 2))


@bug("editors", "tests/unit/text/test_siblings.py", "-k", "records")
def records_that_are_alike_change_places():
    from mmapstate.text import alignment

    real = alignment._aligned  # of pairings that have as much in common it takes one that drops the first item

    def aligned(old, new):
        shifted = [(number + 1, number) for number in range(len(new) - 1)]
        common = [alignment._in_common(old[row], new[column], set()) for row, column in shifted]
        return shifted if len(old) == len(new) and all(common) else real(old, new)

    instead(alignment, "_aligned", aligned)


@bug("editors", "tests/unit/text/test_siblings.py", "-k", "block")
def block_text_is_written_anew():
    from mmapstate.text import lines as text_lines

    instead(text_lines, "_is_read_as", lambda *_: False)


@bug("editors", "tests/unit/text/test_siblings.py", "-k", "files")
def header_goes_with_the_first_key():
    from mmapstate.text import spans

    instead(spans, "_ONLY_MARKS", spans.re.compile("(?!)"))


@bug("dirty-tail", "tests/unit/file/test_format.py", "tests/chaos/test_dirty_tail.py")
def comment_counts_as_a_record():
    real = format.scan

    def scan(data, start, crc):
        found = real(data, start, crc)
        record = format._record_at(data, found.tail, found.crc)
        if record is None:
            return found
        return found._replace(payloads=[*found.payloads, record.payload], tail=record.end, crc=record.crc)

    for place in (format, content):
        instead(place, "scan", scan)


@bug("fuzz", "tests/chaos/test_fuzz.py")
def error_of_a_record_that_does_not_apply_is_let_out():
    instead(changes, "APPLY_ERRORS", ())


@bug("recovery", "tests/unit/care/test_repair.py")
def repair_keeps_no_copy():
    instead(repair.images, "keep_damaged", lambda path, data: path)


@bug("interrupts", "tests/chaos/interrupts")
def lock_is_kept_after_an_interrupt():
    instead(filelock.FileLock, "release_all", lambda self: None)


@bug("disks", "tests/chaos/test_disks.py")
def region_is_a_hole():
    def append(self, data):
        system.truncate(self.descriptor, self.size + len(data))
        system.write_all(self.descriptor, data.rstrip(b" "), self.size)
        self.size += len(data)

    instead(mapped.MappedFile, "append", append)


@bug("permissions", "tests/chaos/permissions/test_permissions.py")
def mode_is_not_kept():
    instead(system, "set_mode", lambda descriptor, mode: None)


@bug("permissions", "tests/chaos/permissions/test_permissions.py")
def any_file_is_taken_for_the_lock():
    instead(sidecar, "may_be_page", lambda data: True)
    instead(sidecar, "fault_of", lambda *_: None)


@bug("sizes", "tests/chaos/test_sizes.py", "tests/unit/file/test_opening.py")
def room_is_one_byte_more_than_there_is():
    real = journal.Journal.room
    instead(journal.Journal, "room", lambda self: real(self) + (self.start >= 0))


@bug("golden", "tests/chaos/test_golden.py")
def format_1_is_no_longer_read():
    instead(content, "JOURNAL_VERSION", 2)


@bug("model", "tests/unit/live/test_nodes.py", "tests/chaos/test_model.py")
def slice_is_replayed_one_item_too_short():
    real = merge.replay

    def replay(root, changes):
        for change in changes:
            verb, path, start, *rest = change
            shorter = (verb, path, start, rest[0] - 1, rest[1]) if verb == "splice" and rest[0] > start else change
            real(root, [shorter])

    for place in (merge, replica, readonly):
        instead(place, "replay", replay)


@bug("history", "tests/chaos/test_history.py", "-k", "detached")
def lists_are_rebuilt_with_new_containers():
    instead(merge, "_reconcile_list", lambda node, data: node._put_slice(0, sys.maxsize, data))


@bug("editors", "tests/unit/text/test_json.py")
def json_is_read_as_yaml():
    instead(snapshot, "is_json", lambda text, file: False)


@bug("editors", "tests/unit/text/test_json.py", "-k", "refused_at_the_write or nothing_gets_in")
def what_json_cannot_hold_is_stored():
    instead(json_changes, "check", lambda record, root, file: None)


@bug("editors", "tests/unit/text/test_patch.py", "-k", "open_would_not_read")
def text_is_read_back_otherwise_than_by_an_open():
    instead(content, "read_alone", lambda text, file, suspects=None: snapshot.parse(text, file))


@bug("fuzz", "tests/unit/care/test_repair.py", "-k", "and_no_more")
def line_is_counted_anew_for_each_finding():
    def add(self, severity, offset, what, what_to_do):
        line = self.data.count(b"\n", 0, offset) + 1
        self.findings.append(findings.Finding(severity, self.file, offset, line, what, what_to_do))

    instead(findings.Report, "add", add)


@bug("memory", "tests/chaos/test_memory.py", "-k", "stack_ends")
def release_of_the_lock_takes_many_frames():
    real = filelock.FileLock.free

    def free(self, depth=30):
        return free(self, depth - 1) if depth else real(self)

    instead(filelock.FileLock, "free", free)


@bug("two-processes", "tests/chaos/test_two_processes.py")
def guard_is_kept_by_an_interrupt_just_behind_its_acquire():
    def unless_guarded(self, look):
        if self.locks.guard.acquire(False):
            try:
                with contextlib.suppress(mmapstate.StateError, OSError):
                    look()
            finally:
                self.locks.guard.release()

    instead(refresh.Refresh, "unless_guarded", unless_guarded)
    instead(writer.Writer, "_is_under_way", lambda self: True)  # nor is it made up for by the next access


@bug("lock-file", "tests/chaos/lock_file/test_lock_file_deleted.py")
def new_lock_file_is_not_looked_for():
    instead(recovery, "check_lock_file", lambda replica, timeout: None)


@bug("stops", "tests/chaos/test_stops.py")
def readers_wait_for_the_lock():
    instead(refresh.Refresh, "go_on", lambda self: False)
