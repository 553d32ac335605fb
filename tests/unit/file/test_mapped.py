"""The mapped file and the journal over it: failing to grow, following what is not there yet, pwrite for maps."""

import errno
import os
import signal

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, not_on_windows
from support.runs import on_an_open_file

import mmapstate
from mmapstate import PersistedState
from mmapstate.file import host
from mmapstate.file.journal import Journal
from mmapstate.file.mapped import MappedFile


class TestJournal:
    def test_what_is_no_whole_record_yet_is_not_followed(self, path):
        state = PersistedState(path, n=0)
        journal = probe.journal(state)
        before = (journal.tail, journal.crc, journal.end)
        assert journal.follow(journal.tail + 20) is None  # spaces
        assert journal.follow(os.path.getsize(path) + 20) is None  # behind the end of the file
        assert (journal.tail, journal.crc, journal.end) == before

    def test_it_follows_records_as_one_batch(self, path):
        state = PersistedState(path, n=0)
        journal = probe.journal(state)
        file = MappedFile.open(path)
        follower = Journal(file, journal.generation, journal.start, journal.tail, journal.crc, 0)
        for number in range(1, 4):
            state.n = number
        assert follower.follow(journal.tail) == [b'["set", [], "n", %d]' % number for number in (1, 2, 3)]
        assert (follower.position, follower.crc) == (journal.position, journal.crc)
        assert follower.is_in_file()
        file.close()


class TestMapping:
    def test_a_map_that_is_refused_leaves_the_former_one(self, path, monkeypatch):
        state = PersistedState(path, n=0)

        class NoMemory:
            @staticmethod
            def mmap(*arguments):
                raise OSError(errno.ENOMEM, "no memory")

        monkeypatch.setattr(probe.MMAP, NoMemory)
        with pytest.raises(OSError):
            state.text = "x" * 100_000
        monkeypatch.undo()
        state.n = 1
        state.n += 1
        assert on_disk(path) == state == {"n": 2}


@not_on_windows("there is no such filesystem there")
class TestWhereStoresIntoAMapWouldBeUnsafe:
    """btrfs and bcachefs: all stores go through pwrite. Here on any filesystem, as if it were one of them."""

    @pytest.fixture(autouse=True)
    def as_if(self, monkeypatch):
        monkeypatch.setattr(host, "writes_copies", lambda path, descriptor: True)

    def test_all_that_a_map_does_is_done(self, path):
        with mmapstate.open(path, {"n": 0, "queue": []}) as state:
            for number in range(200):
                state.n = number
                state.queue.append("é" * number)
            assert probe.stores_by_writing(state)
            state.vacuum()
            state.n += 1
            assert on_disk(path) == state
        with mmapstate.open(path, durability="power") as state:
            state.n += 1
            assert (state.n, len(state.queue)) == (201, 200)

    def test_a_writer_killed_in_the_middle_is_cleaned_up_after(self, path):
        state = PersistedState(path, n=0)

        def write(talk):
            for number in range(1, 100_000):
                state.n = number
                talk.send(number)

        with Child.share(write) as child:
            child.receive()
            acknowledged = child.kill()
        last = acknowledged[-1] if acknowledged else 1
        state.m = 1
        assert state.n in (last, last + 1)
        assert on_disk(path) == state


@not_on_windows("there are no limits on the size of a file")
class TestARegionThatCannotGrow:
    def test_the_change_is_an_os_error_and_nothing_of_it_stays(self, path):
        """The system writes what is below the limit, and refuses the rest: it is taken back."""
        state = PersistedState(path, n=0)

        def fill(talk):
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            size = os.path.getsize(path)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, size + 1000))
            done = 0
            with pytest.raises(OSError) as caught:
                while True:
                    state.n = done + 1
                    done += 1
            assert caught.value.errno == errno.EFBIG
            assert state.n == done
            assert os.path.getsize(path) == size
            return done

        with Child.share(fill) as child:
            done = child.result()
        assert done > 100
        assert state.n == done
        state.n += 1
        assert on_disk(path) == {"n": done + 1}


def test_file_that_another_program_cut_reads_as_nothing_there(path):
    with open(path, "wb") as file:
        file.write(b"a: 1\n")
    mapped = MappedFile.open(path)
    with on_an_open_file():
        os.truncate(path, 2)
        assert mapped.read(4) == b""
        assert mapped.read(1) == b":"
    mapped.close()
