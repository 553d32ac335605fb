"""A process that has the state open is known to be there, whatever it did since another one compacted the file.

On that rest `exclusive`, `repair`, who is the last and compacts, and what a newcomer does when the lock file is gone.
"""

import os
import time

import pytest
from support.others import Other
from support.processes import needs_fork, not_on_windows

import mmapstate
from mmapstate import LockTimeout, StateError

pytestmark = [
    pytest.mark.family("lock-file"),
    needs_fork,
    not_on_windows("there the system itself knows who has the file open"),
]

START = {"n": 0, "items": []}
MANY = 2000

SINCE = {
    "nothing": lambda state: None,
    "reads": lambda state: [state["n"] for _ in range(3)],
    "reads for a while": lambda state: [(time.sleep(0.03), state["n"]) for _ in range(4)],
    "reads, then writes": lambda state: (state["n"], state.increment("n"), state.increment("n")),
    "writes": lambda state: state.increment("n"),
}


@pytest.fixture(params=SINCE)
def followed(request, broken_path):
    """Another process that has the state open, which a third one has compacted since, and closed; and what it did."""
    mmapstate.open(broken_path, START).close()
    with Other(broken_path) as other, Other(broken_path) as third:
        for each in (other, third):
            assert isinstance(each.ask("increment", "n"), list)
        for order in (("vacuum",), ("increment", "n")):
            assert not isinstance(third.ask(*order), str)
        assert other.ask("do", since, request.param) is None
        third.ask("close")
        yield broken_path, other


def since(state, how):
    SINCE[how](state)


def test_info_names_a_process_that_has_followed_a_vacuum(followed):
    path, other = followed
    users = mmapstate.info(path).users
    if users is None:
        pytest.skip("the system does not tell")
    assert [user.pid for user in users] == [other.pid]


def test_exclusive_is_not_given_beside_a_process_that_has_followed_a_vacuum(followed):
    path, _ = followed
    with pytest.raises(LockTimeout):
        mmapstate.open(path, exclusive=True, timeout=0.2)


def test_one_that_closes_beside_a_process_that_has_followed_a_vacuum_is_not_the_last(followed):
    path, _ = followed
    assert not mmapstate.info(path).at_rest


def test_repair_is_refused_beside_a_process_that_has_followed_a_vacuum(followed):
    path, _ = followed
    with open(path, "r+b") as file:
        file.write(b"[")
    with pytest.raises(StateError, match="programs have the state open"):
        mmapstate.repair(path, timeout=1)


def test_a_newcomer_after_the_lock_file_is_gone_does_not_go_on_beside_one_that_has_followed_a_vacuum(followed):
    path, other = followed
    assert other.ask("do", since, "reads for a while") is None  # so that its next look is far
    os.unlink(path + "-lock")
    try:
        state = mmapstate.open(path, timeout=0.3)
    except StateError:
        return  # it is told that a program uses the state under another lock file
    other.tell("increment", "n", MANY)
    numbers = [state.increment("n") for _ in range(10)]
    state.vacuum()
    numbers += [state.increment("n") for _ in range(MANY)]
    told = other.receive()
    assert not isinstance(told, str), told
    assert len({*numbers, *told}) == len(numbers) + len(told), "numbers are given out twice"
    assert state["n"] == max(numbers + told)
