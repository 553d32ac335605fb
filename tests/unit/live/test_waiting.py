"""Waiting for a state: what wakes it, what it returns, what it costs."""

import functools
import threading
import time

import pytest
from support.processes import Child

import mmapstate
from mmapstate import ClosedError, PersistedState, StateError


class TestWhatItReturns:
    def test_what_is_true_already_is_returned_at_once(self, path):
        state = PersistedState(path, jobs=["a"])
        assert state.wait_for(state.jobs.copy, timeout=0) == ["a"]

    def test_after_the_timeout_the_last_value_is_returned_as_a_condition_does(self, path):
        state = PersistedState(path, jobs=[])
        calls = []

        def predicate():
            calls.append(1)
            return state.jobs.copy()

        began = time.monotonic()
        assert state.wait_for(predicate, timeout=0.1) == []
        assert time.monotonic() >= began + 0.1  # the same sum as there: a difference may be rounded down
        assert len(calls) == 1, "called again although nothing has changed"

    def test_what_the_predicate_raises_comes_out(self, path):
        state = PersistedState(path)
        with pytest.raises(KeyError, match="missing"):
            state.wait_for(lambda: state["missing"])


class TestWhatWakesIt:
    def test_a_change_of_another_thread(self, path):
        state = PersistedState(path, a=0)
        thread = threading.Thread(target=lambda: [state.increment("a") for _ in range(100)])
        thread.start()
        assert state.wait_for(lambda: state.a >= 100, timeout=30)
        thread.join()

    def test_a_change_that_comes_while_the_predicate_runs(self, path):
        state = PersistedState(path, a=0)

        def predicate():
            found = state.a
            if not found:
                thread = threading.Thread(target=state.increment, args=("a",))
                thread.start()
                thread.join()
            return found

        assert state.wait_for(predicate, timeout=30) == 1

    def test_a_transaction_of_another_thread_when_it_is_whole(self, path):
        state = mmapstate.open(path, {"a": 0, "b": 0}, timeout=60)
        begun = threading.Event()

        def change():
            with state.transaction():
                state.a = 1
                begun.set()
                state.b = 1

        seen = []
        thread = threading.Thread(target=change)
        thread.start()
        begun.wait(30)
        assert state.wait_for(lambda: seen.append((state.a, state.b)) or state.a, timeout=30) == 1
        thread.join()
        assert (1, 0) not in seen

    def test_a_change_of_another_process(self, path):
        PersistedState(path, a=0, b=0).close()

        def answer(talk):
            state = PersistedState(path)
            for number in range(1, 51):
                assert state.wait_for(lambda: state.a == number, timeout=30)  # noqa: B023
                state.b = number

        with Child(answer) as child:
            state = PersistedState(path)
            for number in range(1, 51):
                state.a = number
                assert state.wait_for(lambda: state.b == number, timeout=30)  # noqa: B023
            child.result()

    @pytest.mark.parametrize("readonly", [False, True])
    def test_a_vacuum_and_what_comes_after(self, path, readonly):
        PersistedState(path, a=0).close()

        def change(talk):
            state = PersistedState(path)
            talk.receive()
            state.a = 1
            state.vacuum()
            state.a = 2

        with Child(change) as child:
            state = mmapstate.open(path, readonly=readonly)
            child.send("go on")
            assert state.wait_for(lambda: state.a == 2, timeout=30)
            child.result()
            state.close()

    def test_an_edit_by_hand(self, path):
        PersistedState(path, level="info").close()
        state = PersistedState(path)

        def edit():
            with open(path, "w") as file:
                file.write("level: debug\n")

        thread = threading.Thread(target=edit)
        thread.start()
        assert state.wait_for(lambda: state.level == "debug", timeout=30)
        thread.join()

    def test_an_edit_that_does_not_parse_is_told(self, path):
        PersistedState(path, level="info").close()
        state = PersistedState(path)
        with open(path, "w") as file:
            file.write("level: [\n")
        with pytest.raises(mmapstate.StateFileError, match=r"example\.state.*line"):
            state.wait_for(lambda: state.level == "debug", timeout=30)
        with open(path, "w") as file:
            file.write("level: debug\n")
        assert state.wait_for(lambda: state.level == "debug", timeout=30)


def finish(talk, path):
    with PersistedState(path) as state:
        for _ in range(3):
            state.other += 1
            state.vacuum()
        talk.send("compacted")
        talk.receive()
        state["jobs"][1]["done"] = True
        state.vacuum()


@pytest.mark.parametrize("readonly", [False, True])
def test_a_held_item_of_a_list_is_waited_for_across_vacuums_and_edits(path, readonly):
    PersistedState(path, other=0, jobs=[{"done": False}, {"done": False}]).close()
    state = mmapstate.open(path, readonly=readonly)
    job = state.jobs[1]
    with open(path, "w") as file:
        file.write("other: 0\nmore: 1\njobs:\n- new: 1\n- done: false\n- done: false\n- {}\n")
    assert state.wait_for(lambda: state.get("more"), timeout=30)
    with open(path, "w") as file:
        file.write("other: 0\njobs:\n- done: false\n- done: false\n")
    assert state.wait_for(lambda: "more" not in state, timeout=30)
    with Child.share(finish, path) as child:
        assert child.receive() == "compacted"
        assert not state.wait_for(lambda: job["done"], timeout=0.1)
        child.send("go on")
        assert state.wait_for(lambda: job["done"], timeout=30)
        assert job is state.jobs[1]
        child.result()


class TestWhatWasRemoved:
    """It still reads, so it would be waited for in vain, without an end."""

    def removed(self, path):
        state = PersistedState(path, closed=False, jobs=[{"done": False}, {"done": True}])
        return state, state.jobs[0], state.jobs[1]

    def test_an_item_that_is_removed_meanwhile_ends_the_waiting(self, path):
        state, job, _ = self.removed(path)
        threading.Timer(0.05, lambda: state.jobs.pop(0)).start()
        with pytest.raises(
            mmapstate.DetachedError, match=r"example\.state: what wait_for looks at was removed.*STATE\["
        ):
            state.wait_for(lambda: job["done"], timeout=30)

    def test_a_key_that_is_replaced_by_another_process_ends_it_too(self, path):
        state = PersistedState(path, job={"done": False})

        def replace(talk):
            talk.receive()
            with PersistedState(path) as other:
                other.job = {"done": False}

        with Child(replace) as child:
            state = PersistedState(path)
            job = state.job
            child.send("replace it")
            with pytest.raises(mmapstate.DetachedError):
                state.wait_for(lambda: job["done"], timeout=30)
            child.result()

    def test_whatever_form_the_predicate_has(self, path):
        state, job, _ = self.removed(path)
        state.jobs.clear()

        def is_done(one, *, last=job):
            return one["done"] and last["done"]

        for predicate in (
            lambda: is_done(job),
            lambda job=job: job["done"],
            lambda: any(one["done"] for one in (job,)),
            functools.partial(is_done, job),
            functools.partial(job.get, "done"),
        ):
            with pytest.raises(mmapstate.DetachedError):
                state.wait_for(predicate, timeout=30)

    def test_what_is_true_of_it_already_is_returned(self, path):
        state, _, job = self.removed(path)
        state.jobs.clear()
        assert state.wait_for(lambda: job["done"], timeout=30)

    def test_a_predicate_that_may_look_at_more_is_waited_for(self, path):
        state, job, _ = self.removed(path)
        state.jobs.clear()
        holder = type("Holder", (), {"state": state})()

        def more():
            return state.closed

        for number, predicate in enumerate(
            (
                lambda: job["done"] or state.closed,
                lambda: job["done"] or more(),
                lambda: job["done"] or holder.state.closed,
                lambda: job["done"] or [state][0].closed,
            )
        ):
            assert not state.wait_for(predicate, timeout=0.01), number


class TestRefusals:
    def test_a_timeout_that_is_no_number_and_an_asynchronous_predicate_are_type_errors(self, path):
        state = PersistedState(path, a=0)

        async def predicate():
            return state.a

        with pytest.raises(TypeError, match="timeout is '1'"):
            state.wait_for(lambda: state.a, timeout="1")
        with pytest.raises(TypeError, match="asynchronous"):
            state.wait_for(predicate)

    def test_waiting_where_nobody_else_could_change_anything_is_refused(self, path):
        state = PersistedState(path, a=0)
        with state.transaction(), pytest.raises(StateError, match=r"example\.state.*wait outside"):
            state.wait_for(lambda: state.a)
        with state._thread_lock, pytest.raises(StateError, match="wait outside"):
            state.wait_for(lambda: state.a)

    def test_a_state_that_is_closed_meanwhile_ends_it_though_another_keeps_the_file_open(self, path):
        with PersistedState(path, a=0):
            state = PersistedState(path)
            threading.Timer(0.05, state.close).start()
            with pytest.raises(ClosedError):
                state.wait_for(lambda: state.a, timeout=30)

    def test_a_transaction_that_lasts_longer_than_the_timeout_of_the_lock_is_waited_for(self, path):
        state = mmapstate.open(path, {"a": 0}, timeout=0.02)
        begun = threading.Event()

        def change():
            with state.transaction():
                state.a = 1
                begun.set()
                time.sleep(0.2)

        called = []
        thread = threading.Thread(target=change)

        def predicate():
            if not called:
                called.append(1)
                thread.start()
                begun.wait(30)
                return False
            return state.a

        assert state.wait_for(predicate, timeout=30) == 1
        thread.join()

    @pytest.mark.parametrize("readonly", [False, True])
    def test_a_state_that_is_closed_meanwhile_ends_the_waiting(self, path, readonly):
        PersistedState(path, a=0).close()
        state = mmapstate.open(path, readonly=readonly)
        threading.Timer(0.05, state.close).start()
        with pytest.raises(ClosedError):
            state.wait_for(lambda: state.a, timeout=30)
        with pytest.raises(ClosedError):
            state.wait_for(lambda: state.a)


def test_waiting_is_no_busy_loop(path):
    state = PersistedState(path, a=0)
    began, used = time.monotonic(), time.thread_time()
    state.wait_for(lambda: state.a, timeout=2)
    share = (time.thread_time() - used) / (time.monotonic() - began)
    print(f"{share:.2%} of a core")
    assert share < 0.1, "a loop without pauses takes all of a core; how much less it is, perf tells"
