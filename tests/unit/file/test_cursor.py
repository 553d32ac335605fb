"""The fast path: what it reads, when it says that something has to be done the slow way, what it commits."""

import pytest
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, needs_fork

from mmapstate import PersistedState
from mmapstate.live.sentinels import SLOW

SET = b'["set", [], "n", 5]'


@pytest.fixture
def state(path):
    opened = PersistedState(path, n=0)
    opened.n = 1  # from here on there is a journal
    return opened


def changing(kind, cursor, when):
    """Return a class of storage that is half-way through a change when something is fetched from it."""

    class Storage(kind):
        def __getitem__(self, key):
            cursor.begin_change()
            if when == "ended since":
                cursor.end_change()
            return kind.__getitem__(self, key)

    return Storage


class TestRead:
    def test_what_is_there_or_the_default(self, state):
        cursor = probe.cursor(state)
        assert cursor.read({"k": 5}, "k", None) == 5
        assert cursor.read({"k": 5}, "m", None) is None
        assert cursor.read([1, 2], -1, None) == 2
        assert cursor.read([1, 2], 2, "none") == "none"

    @pytest.mark.parametrize("when", ["still under way", "ended since"])
    @pytest.mark.parametrize("key", ["k", "not there"])
    def test_a_fetch_in_the_middle_of_a_change_is_done_the_slow_way(self, state, when, key):
        """Also when that change has ended by the time the reader looks: it may have been rolled back."""
        cursor = probe.cursor(state)
        assert cursor.read(changing(dict, cursor, when)(k=5), key, None) is SLOW
        cursor.end_change()
        assert cursor.read({"k": 5}, "k", None) == 5

    @pytest.mark.parametrize("when", ["still under way", "ended since"])
    def test_so_is_one_from_a_list(self, state, when):
        cursor = probe.cursor(state)
        assert cursor.read(changing(list, cursor, when)([5]), 0, None) is SLOW
        cursor.end_change()

    @needs_fork
    def test_so_is_one_when_anything_is_new(self, state):
        def write(talk):
            state.n = 2

        with Child.share(write) as child:
            child.result()
        assert probe.cursor(state).read({"k": 5}, "k", None) is SLOW
        assert state.n == 2

    @pytest.mark.parametrize("at_rest", [False, True])
    def test_what_an_interrupt_left_half_way_is_rebuilt(self, state, at_rest):
        """Also where all else is as it was: else readers would wait for ever."""
        if at_rest:
            state.vacuum()
        cursor = probe.cursor(state)
        cursor.look_again()
        cursor.begin_change()
        probe.items(state)["n"] = "half-way"
        assert state.copy() == {"n": 1}

    def test_so_is_one_when_a_check_of_the_file_is_due(self, state):
        probe.check_next(state)
        assert probe.cursor(state).read({"k": 5}, "k", None) is SLOW


class TestAppend:
    def test_what_was_decided_on_the_latest_state_is_committed_and_published(self, state, path):
        cursor, published = probe.cursor(state), []
        assert cursor.append(cursor.token(), SET, published.append, 5)
        assert published == [5]
        assert on_disk(path)["n"] == 5
        probe.items(state)["n"] = 5  # as the record says
        assert probe.is_free(state)

    def test_what_was_decided_on_an_older_state_is_not(self, state, path):
        """Compare and swap: who decided on 1 is told that there is 2."""
        cursor, published = probe.cursor(state), []
        token = cursor.token()
        state.n = 2
        assert not cursor.append(token, SET, published.append, 5)
        assert published == []
        assert on_disk(path) == state == {"n": 2}
        assert probe.is_free(state)

    def test_nor_what_has_no_room(self, state, path):
        cursor, published = probe.cursor(state), []
        payload = b'["set", [], "n", "%b"]' % (b"x" * probe.room(state))
        assert not cursor.append(cursor.token(), payload, published.append, 5)
        assert (published, on_disk(path)) == ([], {"n": 1})

    def test_nor_where_the_record_before_is_not_as_it_was(self, state, path):
        cursor, published = probe.cursor(state), []
        tail = probe.tail(state)
        probe.store(state, tail, b"!")
        try:
            assert not cursor.append(cursor.token(), SET, published.append, 5)
        finally:
            probe.store(state, tail, b"#")
        assert (published, on_disk(path)) == ([], {"n": 1})

    @pytest.mark.parametrize("error", [MemoryError, RecursionError])
    def test_what_wants_memory_after_the_commit_has_memory_rebuilt(self, state, path, error):
        def publish():
            raise error

        cursor = probe.cursor(state)
        assert cursor.append(cursor.token(), SET, publish)
        assert on_disk(path) == state == {"n": 5}
        assert probe.is_free(state)

    def test_while_memory_is_between_two_states_there_is_no_token(self, state):
        cursor = probe.cursor(state)
        cursor.begin_change()
        assert cursor.token() is None
        cursor.end_change()
        assert cursor.token() is not None
