"""Who only reads: sees what was committed before it looked, nothing that may still be taken back, and at a small price.

That holds for a state that is open with ``readonly=True``, and for `reading.read`, which `get` and `show` go by.
"""

import contextlib
import errno
import linecache
import logging
import os
import random
import sys
import time

import pytest
from support import probe
from support.lives import LIFE, Model
from support.processes import Child, held_by_a_thread, not_on_windows
from support.runs import SEED, on_an_open_file, scaled
from support.seam import between
from support.spawned import kill_myself

import mmapstate
from mmapstate import DamagedStateError, PersistedState, StateError, StateFileError
from mmapstate.care import check
from mmapstate.file import format, host, reading, system
from mmapstate.file import journal as journals

NEVER = 1e9  # seconds


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write_in_place(path, data):
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()


@pytest.fixture
def reader(path):
    """A function that opens the state for reading; closed at the end."""
    with contextlib.ExitStack() as opened:
        yield lambda **options: opened.enter_context(mmapstate.open(path, readonly=True, **options))


# --- What is committed is seen at once --------------------------------------------------------------------------------


def change_and_tell(talk, path, seed):
    """Change the state in all the ways in which a file can be another one, or the same, afterwards; tell the count."""
    dice = random.Random(seed)
    state = PersistedState(path)
    while talk.receive() == "go on":
        how = dice.random()
        if how < 0.2:
            state.vacuum()  # the next change is the first after a rest
        elif how < 0.3:
            state.close()
            state = PersistedState(path)
        probe.put(probe.GROWING_REGION, dice.choice((0, 40_000)))
        for _ in range(dice.choice((1, 1, 1, 2, 30))):
            with state.transaction():
                state.increment("n")
                state["text"] = "x" * dice.choice((0, 10, 10, 1000, 8000))
        if how > 0.9:
            state.vacuum()
        talk.send(state["n"])


@pytest.mark.family("history")
@not_on_windows("a program that compacts waits there until nobody has the file open, and gives up")
def test_a_reader_sees_what_was_committed_before_it_looked(path, reader, cases):
    PersistedState(path, n=0, text="", filler=["y" * 50] * 200).close()
    view, rounds = reader(), scaled(2000)
    with Child(change_and_tell, path, SEED) as child:
        for number in range(rounds):
            child.send("go on")
            told = child.receive()
            if number % 4:  # else it is further behind the next time
                assert view["n"] == told, SEED
            if number % 16 == 0:
                assert reading.read(path)["n"] == told
        child.send("end")
        child.result()
    cases(rounds)


@pytest.mark.family("history")
@not_on_windows("a reader has no file open there that it could read to its end")
def test_what_is_held_stays_the_same_and_nothing_is_parsed_when_a_region_that_is_full_is_compacted(
    path, reader, monkeypatch
):
    monkeypatch.setattr(probe.GROWING_REGION, 0)
    with PersistedState(path, n=0, jobs=[{"id": 0, "tags": ["a"]}], d={"e": {"f": 0}}) as state:
        state.n = 1
        view = reader()
        job, tags, e = view["jobs"][0], view["jobs"][0]["tags"], view["d"]["e"]
        probe.never_rebuild(view, monkeypatch.setattr)
        inodes = [0]
        for number in range(1000):
            state.n = number
            state["jobs"][0]["id"] = state["d"]["e"]["f"] = number
            state["jobs"][0]["tags"].append("b" * 50)
            del state["jobs"][0]["tags"][:-3]
            if number % 3 == 0:  # else it is further behind
                assert (view["n"], job["id"], e["f"], list(tags)) == (number, number, number, state["jobs"][0]["tags"])
            if (inode := os.stat(path).st_ino) != inodes[-1]:
                inodes.append(inode)
        assert view["jobs"][0] is job
        assert (job["tags"], view["d"]["e"]) == (tags, e)
        assert view["d"]["e"] is e
        assert len(inodes) > 3


@pytest.mark.family("history")
@not_on_windows("the file is not kept open there: what its last records were is read anew")
def test_what_is_held_stays_the_same_when_all_is_put_to_rest(path, reader):
    with PersistedState(path, jobs=[{"id": 0}], d={"e": [[1]]}) as state:
        view = reader()
        job, inner = view["jobs"][0], view["d"]["e"][0]
        for number in range(1, 20):
            state["jobs"][0]["id"] = state["d"]["e"][0][0] = number
            state.vacuum()
            assert (job["id"], inner[0]) == (number, number)
            state["jobs"][0]["id"] = -number
            assert (job["id"], view["jobs"][0] is job) == (-number, True)


@pytest.mark.family("history")
def test_a_first_change_after_rest_is_followed_without_parsing(path, reader, monkeypatch):
    for text in ("n: 1\nheld: {m: 1}\n", "n: 1\nheld: {m: 1}"):  # in the latter a line end is put before the journal
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.utime(path, (1, 1))
        view = reader()
        held = view["held"]
        with PersistedState(path) as state, monkeypatch.context() as patch:
            probe.never_rebuild(view, patch.setattr)
            state["held"]["m"] = 2
            assert (view["n"], held["m"]) == (1, 2)
            state["text"] = "x" * 20_000  # more room, behind the same file
            state["held"]["m"] = 3
            assert (len(view["text"]), held["m"]) == (20_000, 3)


# --- What may be taken back is not seen -------------------------------------------------------------------------------


class Syncs:
    """Lets a look happen before each sync of a file's bytes, and some of these fail."""

    def __init__(self, look, fails=lambda: False):
        self.look, self.fails, self.count, self.failed = look, fails, 0, 0

    def handle(self, name, arguments, do):
        if name != "fdatasync":
            return do(*arguments)
        self.count += 1
        self.look()
        if self.fails():
            self.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return None  # a real one takes its time


@pytest.mark.family("failing-calls")
@not_on_windows("another call syncs there")
@pytest.mark.parametrize("fails", [False, True], ids=["synced", "some fail"])
def test_a_change_that_is_not_synced_yet_is_seen_by_no_reader(path, reader, fails, monkeypatch, cases):
    """Nor is what a failing sync takes back; who opens the file, and who has it open, sees the state before."""
    dice = random.Random(SEED)
    monkeypatch.setattr(probe.GROWING_REGION, 0)
    with PersistedState(path, n=0):
        pass
    view, seen = reader(), []
    with mmapstate.open(path, durability="power") as state:
        model = Model(state.copy())

        def look():
            fresh = mmapstate.open(path, readonly=True)
            seen.append((view.copy(), fresh.copy(), reading.read(path)))
            fresh.close()
            assert seen[-1] == (model,) * 3, SEED

        syncs = Syncs(look, lambda: fails and dice.random() < 0.3)
        with between(syncs.handle):
            for step in LIFE * 3:
                with contextlib.suppress(OSError):
                    step(state)
                    step(model)
                look()
        assert model == state
    assert syncs.count > 10
    assert (syncs.failed > 0) == fails
    cases(len(seen))


@pytest.mark.family("sizes")
@pytest.mark.parametrize("less", range(-12, 4))
def test_a_change_to_survive_loss_of_power_fits_with_its_mark_or_makes_room(path, less, reader):
    with PersistedState(path, n=0):
        pass
    view = reader()
    overhead = len(b'--- ["set", [], "t", ""] #01234567\n')
    with mmapstate.open(path, durability="power") as state:
        state.n = 1
        state.t = "x" * (probe.room(state) - overhead + less)
        assert (view["n"], view["t"]) == (1, state.t)
        assert set(read(path)[probe.tail(state) + 1 :]) <= {32}


def die_in_a_sync(talk, path):
    state = mmapstate.open(path, durability="power")
    state.n = 1
    talk.send("opened")
    talk.receive()
    with between(lambda name, arguments, do: kill_myself() if name == "fdatasync" else do(*arguments)):
        state.n = 2


@pytest.mark.family("kill9")
@not_on_windows("another call syncs there")
def test_a_writer_killed_in_its_sync_leaves_the_state_before_until_another_one_comes(path, reader):
    PersistedState(path, n=0).close()
    with Child(die_in_a_sync, path) as child:
        child.receive()
        view = reader()
        child.send("go on")
        child.wait()
        assert child.was_killed()
    for _ in range(2):
        assert (view["n"], reading.read(path)["n"], reader()["n"]) == (1, 1, 1)
    (found,) = [each for each in check.check(path) if each.line is not None and "synced" in each.what]
    assert found.severity == "note"
    with PersistedState(path) as state:  # who has the lock takes it for committed, as the statement has not ended
        assert (state.n, view["n"], reading.read(path)["n"]) == (2, 2, 2)
        state.n = 3
        assert view["n"] == 3


@pytest.mark.family("power-cut")
@not_on_windows("another call syncs there")
@pytest.mark.parametrize("lost", [0, 1, 4, 8, 9], ids=lambda lost: f"{lost} bytes of the mark lost")
@pytest.mark.parametrize("from_end", [False, True])
def test_after_loss_of_power_readers_see_a_change_though_its_mark_is_on_the_disk(
    path, monkeypatch, caplog, lost, from_end
):
    """It was synced with the change; that the mark was blanked was not. Programs that come are told of nothing."""
    boot = bytes(range(16))
    monkeypatch.setattr(host, "boot_id", lambda: boot)
    disks = []
    state = mmapstate.open(path, {"n": 0}, durability="power")
    with between(Syncs(lambda: disks.append(read(path))).handle):
        state.n = 1
    probe.abandon(state)
    disk = disks[-1]
    mark = disk.rindex(b"#!") + 1
    start = mark if not from_end else mark + format.MARK_LENGTH - lost
    disk = disk[:start] + b" " * lost + disk[start + lost :]
    write_in_place(path, disk)
    os.utime(path, (1, 1))
    if lost == 0:
        assert reading.read(path) == {"n": 0}  # the machine is as it was: the statement is under way
    boot = bytes(range(1, 17))
    assert reading.read(path) == {"n": 1}
    with mmapstate.open(path, readonly=True) as view:
        assert view["n"] == 1
    with caplog.at_level(logging.WARNING), PersistedState(path) as state:
        assert state.n == 1
    assert caplog.records == []
    assert not [name for name in os.listdir(os.path.dirname(path)) if "damaged" in name]


@not_on_windows("nobody tells of restarts of the machine there, and a copy's mark is as good")
def test_of_a_copy_the_mark_tells_nothing(path, tmp_path):
    """It is what was committed, and no sync can fail any more that would take it back."""
    copies = []
    state = mmapstate.open(path, {"n": 0}, durability="power")
    with between(Syncs(lambda: copies.append(read(path))).handle):
        state.n = 1
    copy = tmp_path / "copy.state"
    copy.write_bytes(copies[-1])
    if b"#!" in copies[-1]:  # not on Windows, where another call syncs
        assert reading.read(str(copy)) == {"n": 1}
    state.close()


# --- What does not fit together is read again -------------------------------------------------------------------------


class PutAside:
    """A large reading is put aside after so many bytes, once, and `meanwhile` happens."""

    def __init__(self, meanwhile, after=24576, least=30_000):
        self.meanwhile, self.after, self.least, self.done = meanwhile, after, least, False

    def handle(self, name, arguments, do):
        if name != "pread" or self.done or arguments[1] < self.least:
            return do(*arguments)
        self.done = True
        data = do(arguments[0], self.after, arguments[2])
        self.meanwhile()
        return data


@pytest.mark.family("history")
@not_on_windows("there is no pread")
@pytest.mark.parametrize("how", ["opened", "read", "held"])
def test_a_reading_that_was_put_aside_between_two_pages_is_made_again(path, how, reader, monkeypatch, cases):
    """Also where neither size nor mtime tell that anything was written, as on ramfs."""
    rounds, torn = scaled(300), 0
    image = probe.get(probe.IMAGE)
    monkeypatch.setattr(probe.IMAGE, lambda found: image(found)._replace(mtime=1))
    with PersistedState(path, n=0, filler="x" * 20_000) as state:
        view = reader()

        def write():
            for number in range(16):
                state.n = "y" * 900 + str(number)

        for number in range(rounds):
            if number % 4 == 0:
                state.vacuum()
                state.n = number
            state.m = number
            aside = PutAside(write)
            if how == "held":
                probe.begin_change(view)  # as an interrupt leaves it: the whole file is read
            with between(aside.handle):
                if how == "opened":
                    found = reader().copy()
                elif how == "held":
                    found = view.copy()
                else:
                    found = reading.read(path)
            assert aside.done
            assert found["m"] == number
            assert found["n"] in (number, *(state.n[:900] + str(each) for each in range(16))), number
            torn += found["n"] != number
    assert torn
    cases(rounds)


@pytest.mark.family("editors")
def test_damage_that_stands_still_is_told_at_each_access_and_by_each_reader(broken_path):
    with PersistedState(broken_path, n=0) as state, mmapstate.open(broken_path, readonly=True) as view:
        state.n = 1
        assert view["n"] == 1
        data, tail = read(broken_path), probe.tail(state)
        probe.abandon(state)
    with mmapstate.open(broken_path, readonly=True) as view:
        write_in_place(broken_path, data[:tail] + b"--- no record\n#" + data[tail + 15 :])
        for _ in range(2):
            for look in (lambda: view["n"], lambda: reading.read(broken_path)):
                with pytest.raises(DamagedStateError, match="offset"):
                    look()
        write_in_place(broken_path, data)
        assert view["n"] == 1


def test_a_file_that_never_fits_together_is_told_of(broken_path, monkeypatch):
    with open(broken_path, "w", encoding="utf-8") as file:
        file.write("a: [\n")
    clock = iter(range(10_000))

    class Time:
        time_ns = time.time_ns

        @staticmethod
        def monotonic():
            return next(clock)

        @staticmethod
        def sleep(_):
            with open(broken_path, "a", encoding="utf-8") as file:
                file.write("\n")

    monkeypatch.setattr(probe.READING_CLOCK, Time)
    with pytest.raises(StateFileError, match="keeps changing"):
        reading.read(broken_path)


# --- Edits that leave inode and size ----------------------------------------------------------------------------------


def edited_in_place(path, before, after):
    """As an editor does it on a filesystem whose mtimes are seconds: inode, size and mtime stay."""
    status = os.stat(path)
    data = read(path)
    assert data.count(before) == 1
    write_in_place(path, data.replace(before, after))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.family("editors")
@pytest.mark.parametrize("journaled", [False, True])
def test_an_edit_of_the_same_size_in_the_same_tick_of_the_clock_is_noticed(path, reader, journaled, monkeypatch):
    for place in (probe.CHECK_INTERVAL, probe.CHECK_SHARE):  # whatever else the machine does
        monkeypatch.setattr(place, 0)
    PersistedState(path, n=0, word="aaaa").close()
    with PersistedState(path) as state:
        if journaled:
            state.n = 1
        view = reader()
        assert view["word"] == "aaaa"
        with on_an_open_file():
            edited_in_place(path, b"word: aaaa", b"word: bbbb")
        assert (view["word"], view["n"]) == ("bbbb", journaled)


@pytest.mark.family("editors")
def test_an_older_copy_written_back_in_place_is_taken_up_by_readers(path, reader):
    with PersistedState(path, n=0) as state:
        state.n = 1
        older = read(path)
        state.n = 2
        view = reader()
        assert view["n"] == 2
        with on_an_open_file():
            write_in_place(path, older)
        assert view["n"] == 1
        probe.abandon(state)


# --- What it costs ----------------------------------------------------------------------------------------------------


class Counted:
    """Counts the calls, and the bytes that are read."""

    def __init__(self):
        self.calls, self.bytes = [], 0

    def handle(self, name, arguments, do):
        result = do(*arguments)
        self.calls.append(name)
        if name == "pread":
            self.bytes += len(result)
        return result


@not_on_windows("there is no pread, and the file is opened for each look")
def test_a_look_reads_what_is_new_and_not_the_file(path, reader, monkeypatch):
    monkeypatch.setattr(probe.CHECK_INTERVAL, NEVER)
    with PersistedState(path, n=0, filler=["x" * 60] * 5000) as state:
        state.n = 1
        view = reader()
        for number in range(50):
            state.n = number
            counted = Counted()
            with between(counted.handle):
                assert view["n"] == number
            assert counted.bytes < 1500
        with between((idle := Counted()).handle):
            assert view["n"] == 49
        assert idle.calls == ["stat", "pread"]
        assert idle.bytes == 1
        for number in range(3000):
            state.n = number
        assert os.stat(path).st_ino == probe.mapped(view).inode
        with between((many := Counted()).handle):
            assert view["n"] == 2999
        assert many.bytes < 3 * 3000 * len('--- ["set", [], "n", 2999] #01234567\n')
        state.vacuum()
        view = reader()
        with between((rested := Counted()).handle):
            assert view["n"] == 2999
        assert rested.calls == ["stat"]


@not_on_windows("the file is opened for each look, and the clock of the test stands still")
def test_the_snapshot_is_checked_for_a_hundredth_of_the_time_and_not_at_all_when_it_has_stood_for_long(
    path, reader, monkeypatch
):
    now, checks = [1000.0], []
    monkeypatch.setattr(probe.CHECK_CLOCK, lambda: now[0])

    real = probe.get(probe.READER_CRC)

    def slow(data, crc=0):
        checks.append(now[0])
        now[0] += 0.02  # seconds
        return real(data, crc)

    with PersistedState(path, n=0):
        pass
    view = reader()
    monkeypatch.setattr(probe.READER_CRC, slow)
    ended = now[0] + 100
    while now[0] < ended:
        assert view["n"] == 0
        now[0] += 0.005
    assert 40 < len(checks) <= 51
    monkeypatch.setattr(system, "is_settled", lambda image: True)
    now[0] += 100
    del checks[:]
    for _ in range(100):
        assert view["n"] == 0
        now[0] += 100
    assert len(checks) == 1


@pytest.mark.family("failing-calls")
def test_a_reader_is_right_again_after_any_call_of_it_that_failed(path, monkeypatch, cases):
    """And nothing is left open: see the fixture that looks after each test."""
    monkeypatch.setattr(probe.GROWING_REGION, 0)
    steps = (*LIFE, lambda state: state.close())
    errors, at = 0, 0
    while True:
        at += 1
        calls = 0

        def handle(name, arguments, do, at=at):
            nonlocal calls
            calls += 1
            if calls == at and name != "close":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return do(*arguments)

        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        state, model = PersistedState(path, n=0), Model(n=0)
        view = mmapstate.open(path, readonly=True)
        for step in steps:
            step(state)
            if step is not steps[-1]:
                step(model)
            try:
                with between(handle):
                    assert view.copy() == model
            except (OSError, StateError):
                errors += 1
                assert view.copy() == model
        view.close()
        if calls < at:
            break
    cases(at)
    assert errors > 15


def interrupted_at_line(left, call):
    """Return whether `call` was interrupted, as by Ctrl-C, before it came to so many lines of what looks at a file."""

    def trace(frame, event, _):
        nonlocal left
        if os.path.basename(frame.f_code.co_filename) not in probe.READING_FILES:
            return trace
        # No signal is handled at these places: see the same in `test_writer`.
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and source != "try:" and not source.startswith("with "):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    outer = sys.gettrace()  # that of coverage
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(outer)
    return False


CHANGES = {
    "one": lambda state, number: state.update(n=number),
    "many": lambda state, number: [state.update(n=each) for each in range(number - 3, number + 1)],
    "room": lambda state, number: state.update(n=number, text="x" * 5000 * number),
    "a vacuum": lambda state, number: (state.update(n=number - 1), state.vacuum(), state.update(n=number)),
    "a region that is full": lambda state, number: [state.update(n=number, m="y" * 900 * each) for each in range(9)],
}


@pytest.mark.family("interrupts")
@pytest.mark.parametrize("how", CHANGES)
def test_a_reader_that_is_interrupted_at_any_line_of_its_look_is_right_at_the_next(path, how, monkeypatch, cases):
    if how == "a region that is full":
        monkeypatch.setattr(probe.GROWING_REGION, 0)
    hit, line = True, 0
    with PersistedState(path, n=0, held={"jobs": [1]}) as state, mmapstate.open(path, readonly=True) as view:
        while hit:
            line += 1
            CHANGES[how](state, line)
            if line % 50 == 0:
                state.vacuum()
            hit = interrupted_at_line(line, lambda: view["n"])
            with held_by_a_thread(probe.guard(view)):
                pass  # it is free
            assert view.copy() == state, line
    cases(line)
    assert line > 12


def test_a_record_is_lasting_only_while_its_commit_byte_stands(path):
    """Of a record that is taken back this goes before the mark: who looks at the mark first is not deceived."""
    with PersistedState(path, n=0) as state:
        state.n = 1
        tail, file = probe.tail(state), probe.mapped(state)
        last = read(path).rindex(b"--- ")
        assert journals.is_lasting(file, last, tail)
        mark = format.unsynced(host.boot_id(), file.inode)
        probe.store(state, tail + 1, mark)
        assert not journals.is_lasting(file, last, tail)
        probe.store(state, tail + 1, b" " * 9)
        probe.store(state, last, b"#")
        assert not journals.is_lasting(file, last, tail)
        probe.store(state, last, b"-")
