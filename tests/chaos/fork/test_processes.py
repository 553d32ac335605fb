"""Several processes on one file: no update lost, races have one winner, nodes and iteration survive the others."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, held_by_a_thread, needs_fork
from support.runs import TESTS, open_descriptors, scaled

import mmapstate
from mmapstate import PersistedState

pytestmark = pytest.mark.family("fork")

METHODS = multiprocessing.get_all_start_methods()


def count_under_the_lock(state_or_path, times):
    state = PersistedState(state_or_path) if isinstance(state_or_path, str) else state_or_path
    for _ in range(times):
        with state._thread_lock:
            state.counter += 1
    if isinstance(state_or_path, str):
        state.close()


@pytest.mark.parametrize("method", METHODS)
def test_four_processes_counting_under_the_lock_total_exactly(path, method):
    context = multiprocessing.get_context(method)
    times = scaled(2500)
    state = PersistedState(path, counter=0)
    # One gets the state itself: inherited by fork, pickled by the others.
    workers = [context.Process(target=count_under_the_lock, args=(state if n == 0 else path, times)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert state.counter == 4 * times
    state.close()
    with open(path) as file:
        assert yaml.safe_load(file) == {"counter": 4 * times}


def increment_in_a_pool(path):
    with PersistedState(path) as state, state._thread_lock:
        state.counter += 1
        return state.counter


@pytest.mark.parametrize("method", METHODS)
def test_pool_workers_see_each_others_changes(path, method):
    with PersistedState(path, counter=0):
        pass
    with multiprocessing.get_context(method).Pool(2) as pool:
        seen = pool.map(increment_in_a_pool, [path] * 40)
    assert sorted(seen) == list(range(1, 41))


def race(talk, path, how, rounds):
    state = PersistedState(path)
    won = []
    for number in range(rounds):
        talk.send("ready")
        talk.receive()
        if how == "setdefault":
            if state["places"].setdefault(str(number), os.getpid()) == os.getpid():
                won.append(number)
        elif how == "pop":
            won.append(state["queue"].pop(0))
        elif how == "remove":
            try:
                state["queue"].remove(number)
                won.append(number)
            except ValueError:
                pass
    state.close()
    return won


@pytest.mark.parametrize("how", ["setdefault", "pop", "remove"])
def test_of_two_racing_processes_never_both_win(path, how):
    rounds = scaled(200)
    with PersistedState(path, places={}, queue=list(range(2 * rounds))):
        pass
    with Child(race, path, how, rounds) as one, Child(race, path, how, rounds) as two:
        for _ in range(rounds):
            assert one.receive() == two.receive() == "ready"
            one.send("go")
            two.send("go")
        won = one.result() + two.result()
    assert len(won) == len(set(won)), "both won"
    assert sorted(won) == list(range(2 * rounds if how == "pop" else rounds))


def end_together(talk, path, how, rounds):
    for number in range(rounds):
        state = PersistedState(path)
        state.increment("counter")
        talk.send("ready")
        talk.receive()
        if how == "close":
            state.close()
        else:
            probe.rest_all()  # what the interpreter does at its exit
            talk.send("ended")
            talk.receive()
            assert state.counter >= number  # a later handler at exit still reads and writes
            state.close()


@pytest.mark.parametrize("how", ["close", "exit"])
def test_of_two_that_end_at_the_same_time_one_leaves_the_file_at_rest(path, how):
    PersistedState(path, counter=0).close()
    rounds = scaled(100)
    with Child(end_together, path, how, rounds) as one, Child(end_together, path, how, rounds) as two:
        for number in range(1, rounds + 1):
            assert one.receive() == two.receive() == "ready"
            one.send("end")
            two.send("end")
            if how == "exit":
                assert one.receive() == two.receive() == "ended"
                with open(path) as file:
                    assert file.read() == f"counter: {2 * number}\n"
                one.send("go on")
                two.send("go on")
        one.result()
        two.result()
    with open(path) as file:
        assert file.read() == f"counter: {2 * rounds}\n"


def add_and_delete(talk, path):
    state = PersistedState(path)
    talk.send("open")
    number = 0
    while True:
        number += 1
        state["d"][f"new{number}"] = {"n": number}
        del state["d"][f"new{number}"]
        state["l"].append([number])
        state["l"].pop(3)


def test_iteration_goes_on_while_another_process_adds_and_deletes(path):
    state = PersistedState(path, d={f"k{n}": {"n": n} for n in range(20)}, l=[[n] for n in range(20)])
    with Child.share(add_and_delete, path) as child:
        assert child.receive() == "open"
        for _ in range(scaled(200)):
            keys = list(state.d)
            assert keys[:20] == [f"k{n}" for n in range(20)]
            assert len(keys) in (20, 21)
            assert len(list(state.d.items())) in (20, 21)
            assert [value["n"] for value in state.d.values()][:20] == list(range(20))
            assert len(list(state.l)) in (20, 21)
            assert [item[0] for item in state.l][:3] == [0, 1, 2]
            assert list(reversed(state.l))[-1] == [0]
        child.kill()
    with state._thread_lock:  # a change that the child had committed, and not yet announced, is found under the lock
        assert on_disk(path) == state


def vacuum_often(talk, path):
    state = PersistedState(path)
    for _ in range(3):
        state["other"] = state.get("other", 0) + 1
        state.vacuum()
        state["other"] += 1
        talk.send("vacuumed")
        talk.receive()
    return


def test_a_held_node_still_writes_after_three_vacuums_an_edit_and_a_fork(path):
    state = PersistedState(path, a={"b": {"count": 0}}, jobs=[{"id": 1}])
    node, job = state.a["b"], state.jobs[0]
    with Child.share(vacuum_often, path) as child:
        for number in range(3):
            assert child.receive() == "vacuumed"
            node["count"] = number
            job["id"] = number  # below a list: this process followed change by change
            child.send("go on")
        child.result()
    state.close()
    state = PersistedState(path)
    node = state.a["b"]
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("count: 2", "count: 70"))
    os.utime(path, (1, 1))
    time.sleep(0.06)  # the path is looked at every 50 ms
    assert node["count"] == 70
    node["count"] += 1

    def write(talk):
        node["count"] += 1
        return state.a["b"] is node

    if not hasattr(os, "fork"):
        assert on_disk(path)["a"]["b"] == {"count": 71}
        return
    with Child.share(write) as child:
        assert child.result() is True
    node["count"] += 1
    assert on_disk(path)["a"]["b"] == {"count": 73}


@needs_fork
def test_a_child_forked_from_a_threaded_process_works_by_the_child_hook_alone(path):
    state = PersistedState(path, counter=0, queue=[])
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with state._thread_lock:
                state.counter += 1
            state.queue.append([1])
            state.queue.copy()
            if len(state.queue) > 50:
                state.queue.clear()

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(scaled(60)):

            def in_child(talk):
                before = state.counter
                with state._thread_lock:
                    state.counter += 1000
                assert isinstance(state.queue.copy(), list)
                return state.counter - before

            with (
                pytest.warns(DeprecationWarning, match="fork")
                if sys.version_info >= (3, 12)
                else contextlib.nullcontext()
            ):
                child = Child.share(in_child)
            with child:
                assert child.result() >= 1000
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert on_disk(path) == state


@needs_fork
def test_a_child_forked_inside_the_lock_does_not_hold_it_and_does_not_unlock_its_parent(path):
    state = mmapstate.open(path, {"n": 0}, timeout=0.2)

    def in_child(talk):
        with pytest.raises(mmapstate.LockTimeout):
            state.n = 5
        return "refused"

    with state._thread_lock:
        with Child.share(in_child) as child:
            assert child.result() == "refused"
        state.n = 1
    assert on_disk(path) == {"n": 1}


@needs_fork
def test_the_lock_is_free_when_its_owner_is_killed_while_a_forked_child_of_it_lives(path):
    def hold(talk):
        state = PersistedState(path, n=0)
        probe.hold(state)
        grandchild = os.fork()
        if grandchild == 0:
            talk.close()
            signal.pause()
        talk.send(grandchild)
        signal.pause()

    with Child(hold) as owner:
        grandchild = owner.receive()
        owner.kill()
    try:
        state = mmapstate.open(path, timeout=5)
        state.n = 1
        assert on_disk(path) == {"n": 1}
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_an_exclusive_state_keeps_others_out_until_close(path):
    state = mmapstate.open(path, {"n": 0}, exclusive=True)

    assert "LockTimeout" in _in_a_new_process(path)
    for number in range(100):
        state.n = number
    state.close()
    with mmapstate.open(path, timeout=0) as state:
        assert state.n == 99


@needs_fork
def test_a_forked_child_may_not_use_an_exclusive_state_of_its_parent(path):
    state = mmapstate.open(path, {"n": 0}, exclusive=True)

    def inherit(talk):
        with pytest.raises(mmapstate.StateError, match="exclusively in the parent"):
            state.n = 1
        return "refused"

    with Child.share(lambda talk: _in_a_new_process(path)) as child:
        assert "LockTimeout" in child.result()
    with Child.share(inherit) as child:
        assert child.result() == "refused"
    state.n = 1


def _in_a_new_process(path):
    program = (
        "import sys, mmapstate\n"
        "try:\n    mmapstate.open(sys.argv[1], timeout=0)\n"
        "except mmapstate.LockTimeout as error:\n    print('LockTimeout', error)\n"
    )
    return subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True).stdout


def test_a_reader_sees_a_commit_that_it_was_told_of(path):
    state = PersistedState(path, n=0)

    def tell(talk):
        for number in range(1, scaled(1000)):
            state.n = number
            if number % 97 == 0:
                state.vacuum()
            talk.send(number)
            talk.receive()
        return

    with Child.share(tell) as child:
        while True:
            message = child.receive()
            if isinstance(message, tuple):
                break
            assert state.n == message
            child.send("next")


@needs_fork
def test_threads_of_a_forked_child_wake_its_state_once(path):
    state = PersistedState(path, n=0, d={})
    state.n = 1

    def write(talk):
        def one(number):
            barrier.wait()
            state.d[f"k{number}"] = number

        barrier = threading.Barrier(4)
        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [target for target in open_descriptors().values() if target == path + "-lock"]

    sidecars = [target for target in open_descriptors().values() if target == path + "-lock"]
    for _ in range(scaled(50)):
        with Child.share(write) as child:
            assert child.result() == sidecars
    assert state.d == {f"k{number}": number for number in range(4)}


@needs_fork
def test_a_readonly_state_forked_while_a_thread_reads_it_is_read_in_the_child(path):
    PersistedState(path, n=5).close()
    view = mmapstate.open(path, readonly=True)
    with held_by_a_thread(probe.guard(view)):
        probe.begin_change(view)  # as that thread leaves it in the middle of its work
        with Child.share(lambda talk: (view["n"], view.copy())) as child:
            assert child.result() == (5, {"n": 5})
        probe.end_change(view)
    view.close()


@needs_fork
def test_a_fork_does_not_wait_for_a_thread_that_remaps(path):
    state = PersistedState(path, n=0)
    with held_by_a_thread(probe.guard(state)), Child.share(lambda talk: state.n) as child:
        assert child.result() == 0
    state.n = 1


def test_a_reader_stays_off_the_lock(path):
    state = mmapstate.open(path, {"n": 0}, timeout=0.2)

    def hold_and_write(talk):
        with state._thread_lock:
            state.n = 1
            talk.send("held")
            talk.receive()
        return

    with Child.share(hold_and_write) as child:
        child.receive()
        assert state.n == 1  # committed already; the lock is still theirs
        with pytest.raises(mmapstate.LockTimeout):
            state.n = 2
        child.send("release")
        child.result()
    state.n = 3


def test_between_its_looks_at_the_path_a_read_makes_no_system_call(path, tmp_path):
    log = tmp_path / "calls"
    strace = ["strace", "-f", "-o", str(log)]
    program = (
        "import sys, os, mmapstate\n"
        f"sys.path.append({str(TESTS)!r})\n"
        "from support import probe\n"
        "state = mmapstate.PersistedState(sys.argv[1], a={'b': 1})\n"
        "node = state.a\n"
        "probe.check_later(state)\n"
        "os.getppid()\n"
        "for _ in range(1000): state.a; node['b']; 'b' in node; len(node); list(node)\n"
        "os.getppid()\n"
    )
    try:
        subprocess.run(["strace", "-V"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("strace is not here; the seam is counted in the next test")
    subprocess.run([*strace, sys.executable, "-c", program, path], check=True, timeout=120)
    lines = log.read_text().splitlines()
    first, last = (number for number, line in enumerate(lines) if "getppid" in line)
    of_the_allocator = ("mmap(NULL", "munmap", "brk")
    calls = [line for line in lines[first + 1 : last] if not any(word in line for word in of_the_allocator)]
    assert calls == []


def test_between_its_looks_at_the_path_a_read_calls_nothing_of_the_seam(path, monkeypatch):
    from mmapstate.file import system

    state = PersistedState(path, a={"b": 1})
    node = state.a
    probe.check_later(state)
    calls = []
    for name in ("read", "file_size", "image_of", "path_image", "open_regular"):
        monkeypatch.setattr(system, name, lambda *a, name=name, **k: calls.append(name))
    for _ in range(1000):
        assert state.a is node
        assert node["b"] == 1
    assert calls == []
    monkeypatch.undo()
