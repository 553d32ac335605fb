"""A state in one process: attributes, defaults, options, what is in the file when."""

import copy
import json
import logging
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import yaml
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, not_on_windows
from support.runs import on_an_open_file, open_descriptors, scaled

import mmapstate
from mmapstate import PersistedState


def run(program, *arguments, **options):
    """Run a Python program to its end and return what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestAttributes:
    def test_a_change_is_in_the_file_when_its_statement_ends(self, path):
        state = PersistedState(path, last_id=0)
        for last_id in range(1, 50):
            state.last_id = last_id
            assert on_disk(path) == {"last_id": last_id}

    def test_keys_are_attributes_and_attributes_keys(self, path):
        state = PersistedState(path)
        state.a = 1
        state["b"] = 2
        assert state["a"] == 1
        assert state.b == 2
        del state.a
        assert "a" not in state
        assert not hasattr(state, "a")

    def test_a_missing_attribute_is_an_attribute_error_that_names_file_and_key(self, path):
        state = PersistedState(path)
        with pytest.raises(AttributeError, match=r"example\.state has no key 'missing'"):
            _ = state.missing
        with pytest.raises(AttributeError, match="missing"):
            del state.missing

    @pytest.mark.parametrize("name", ["items", "close", "update", "pop", "sync", "transaction", "increment"])
    def test_setting_an_attribute_that_a_method_hides_says_what_to_write(self, path, name):
        state = PersistedState(path)
        with pytest.raises(AttributeError, match=rf"STATE\['{name}'\]"):
            setattr(state, name, 5)
        state[name] = 5
        assert on_disk(path) == {name: 5}

    def test_str_shows_what_was_good_while_an_edit_is_wrong(self, path):
        PersistedState(path, a=1).close()
        state = PersistedState(path)
        with open(path, "w") as file:
            file.write("a: [\n")
        probe.check_next(state)
        with pytest.raises(mmapstate.StateFileError):
            _ = state.a
        assert str(state) == "{'a': 1}"
        with open(path, "w") as file:
            file.write("a: 2\n")
        assert state.a == 2

    @pytest.mark.parametrize("readonly", [False, True])
    def test_a_wrong_edit_is_told_at_each_access_until_it_is_mended(self, path, readonly):
        PersistedState(path, a=1).close()
        with mmapstate.open(path, readonly=readonly) as state:
            with open(path, "w") as file:
                file.write("a: [\n")
            probe.check_next(state)
            for _ in range(3):
                with pytest.raises(mmapstate.StateFileError):
                    _ = state.a
            with open(path, "w") as file:
                file.write("a: 2\n")
            assert state.a == 2

    def test_a_class_learns_the_names_of_keys_and_other_states_of_it_do_not_have_them(self, path, tmp_path):
        state = PersistedState(path, learned=1)
        assert (state.learned, state.learned) == (1, 1)
        assert "learned" in probe.sure_names(PersistedState), "the shorter way was not taken"
        with PersistedState(str(tmp_path / "other.state")) as other:
            assert "learned" not in dir(other)
            assert not hasattr(other, "learned")
            with pytest.raises(AttributeError, match=r"other\.state has no key 'learned'"):
                _ = other.learned
            other.learned = 2
            assert (state.learned, other.learned) == (1, 2)
        del state.learned
        assert not hasattr(state, "learned")
        assert "learned" not in dir(state)

    def test_what_a_subclass_defines_is_never_hidden_by_a_key_of_that_name(self, path, tmp_path):
        state = PersistedState(path, run=1, walk=2)
        assert (state.run, state.walk) == (1, 2)

        class Mixin:
            def run(self):
                return "method"

        class Runner(PersistedState, Mixin):
            def walk(self):
                return "method"

        with Runner(str(tmp_path / "other.state")) as runner:
            runner["run"] = 3
            assert (runner.run(), runner.walk()) == ("method", "method")
            with pytest.raises(AttributeError, match=r"STATE\['run'\]"):
                runner.run = 4
            assert {"run", "walk"} <= set(dir(runner))
        state.run = 5
        assert (state.run, state.walk, Runner.run(runner)) == (5, 2, "method")

    def test_a_default_named_like_a_method_is_refused_at_open(self, path):
        with pytest.raises(AttributeError, match="items"):
            PersistedState(path, items=[])
        assert not os.path.exists(path)

    def test_an_attribute_with_a_leading_underscore_is_never_stored(self, path):
        state = PersistedState(path)
        state._remark = 1
        state["_x"] = 2
        assert state._remark == 1
        assert on_disk(path) == {"_x": 2}

    def test_names_with_an_underscore_tell_that_they_are_no_keys(self, path):
        state = PersistedState(path, _x=1)
        assert state["_x"] == 1
        with pytest.raises(AttributeError, match=r"leading underscore are no keys; write STATE\['_x'\]"):
            _ = state._x
        for name in (*probe.NAMES_OF_A_STATE, "_thread_lock"):
            with pytest.raises(AttributeError, match="use another name"):
                setattr(state, name, 5)
        assert state == {"_x": 1}

    def test_what_a_subclass_defines_hides_keys_as_a_method_does(self, path):
        class Mine(PersistedState):
            @property
            def up(self):
                return "a property"

            def down(self):
                return "a method"

        plain = PersistedState(path, up=0)
        plain.up = 1
        plain.up = 2
        state = Mine(path)
        with pytest.raises(AttributeError, match="'up' is what the class Mine defines, and no field"):
            state.up = 3
        with pytest.raises(AttributeError, match="'down' is named like a method"):
            Mine(path, down=1)
        assert (state.up, state["up"], state.down()) == ("a property", 2, "a method")

    def test_dir_lists_the_keys(self, path):
        state = PersistedState(path, last_id=0)
        assert {"last_id", "close", "update"} <= set(dir(state))


class TestDefaults:
    def test_missing_defaults_are_committed_at_open_as_one_record(self, path):
        PersistedState(path, b=1, a=[])
        with open(path, "rb") as file:
            assert file.read().count(b"\n--- [") == 1
        assert list(on_disk(path)) == ["b", "a"]

    def test_defaults_do_not_overwrite(self, path):
        with PersistedState(path, a=1) as state:
            state.a = 5
        assert PersistedState(path, a=1, b=2) == {"a": 5, "b": 2}

    def test_a_default_that_cannot_be_stored_creates_nothing(self, path):
        with pytest.raises(mmapstate.UnsupportedValueError, match="places"):
            PersistedState(path, places={1, 2})
        assert not os.path.exists(path)

    def test_defaults_are_copied(self, path):
        shared = []
        PersistedState(path, queue=shared).queue.append(1)
        assert shared == []


class TestOpen:
    def test_open_gives_a_persisted_state_with_options(self, path):
        with mmapstate.open(path, {"a": 1}, durability="power", timeout=None) as state:
            assert isinstance(state, PersistedState)
            state.a += 1
        assert on_disk(path) == {"a": 2}

    @pytest.mark.parametrize(
        "options",
        [
            {"durability": "paper"},
            {"timeout": -1},
            {"timeout": float("nan")},
            {"timeout": "5"},
            {"readonly": True, "exclusive": True},
        ],
    )
    def test_nonsense_options_are_value_errors(self, path, options):
        with pytest.raises(ValueError):
            mmapstate.open(path, **options)
        assert not os.path.exists(path)

    def test_defaults_that_are_no_mapping_are_a_type_error(self, path):
        with pytest.raises(TypeError, match="defaults is a list"):
            mmapstate.open(path, [1])

    def test_errors_of_the_system_name_the_state_file_and_what_to_do(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="the folder of the state file does not exist; create it") as caught:
            PersistedState(tmp_path / "missing" / "x.state")
        assert caught.value.filename == str(tmp_path / "missing" / "x.state")

    def test_a_broken_file_is_an_error_at_open_though_it_was_open_before(self, broken_path):
        state = PersistedState(broken_path, n=1)
        state.close()
        first = PersistedState(broken_path)
        with open(broken_path, "wb") as file:
            file.write(b"n: [\n")
        os.utime(broken_path, (1, 1))
        probe.check_next(first)
        with pytest.raises(mmapstate.StateFileError):
            PersistedState(broken_path)

    def test_a_folder_in_place_of_the_file_is_refused(self, tmp_path):
        with pytest.raises((mmapstate.StateError, OSError)):
            PersistedState(tmp_path)
        assert os.listdir(tmp_path) == []

    def test_the_path_is_made_absolute_at_open(self, path, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        state = PersistedState("example.state", a=1)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        state.a = 2
        state.vacuum()
        assert on_disk(path) == {"a": 2}

    def test_all_handles_of_a_process_share_one_store(self, path, tmp_path):
        first = PersistedState(path, a={})
        second = PersistedState(tmp_path / "." / "example.state")
        first.a["x"] = 1
        assert second.a is first.a
        first.close()
        second.a["y"] = 2
        assert on_disk(path) == {"a": {"x": 1, "y": 2}}

    def test_exclusive_and_not_exclusive_in_one_process_is_an_immediate_error(self, path):
        with mmapstate.open(path, exclusive=True) as state, pytest.raises(mmapstate.StateError, match="exclusively"):
            PersistedState(path)
        assert state == {}
        with PersistedState(path), pytest.raises(mmapstate.StateError, match="without exclusive"):
            mmapstate.open(path, exclusive=True)


class TestClose:
    def test_the_file_at_rest_is_plain_yaml(self, path):
        with PersistedState(path, last_id=0, queue=[]) as state:
            state.queue.append({"name": "x"})
        with open(path, "rb") as file:
            assert file.read() == b"last_id: 0\nqueue:\n- name: x\n"

    def test_after_close_reads_go_on_and_writes_raise(self, path):
        state = PersistedState(path, a={"b": 1})
        node = state.a
        state.close()
        state.close()
        assert state.a["b"] == 1
        assert state == {"a": {"b": 1}}
        with pytest.raises(mmapstate.ClosedError, match=r"example\.state"):
            state.a = 2
        with pytest.raises(mmapstate.ClosedError):
            node["b"] = 2
        with pytest.raises(ValueError):
            del state["a"]

    def test_a_process_that_only_read_leaves_bytes_and_mtime(self, path):
        with open(path, "w") as file:
            file.write("# mine\na:   1\n")
        os.utime(path, ns=(10**18, 10**18))
        with PersistedState(path, a=5) as state:
            assert state.a == 1
        with open(path) as file:
            assert file.read() == "# mine\na:   1\n"
        assert os.stat(path).st_mtime_ns == 10**18

    def test_a_function_that_never_closes_leaves_plain_yaml_at_exit(self, path):
        run(
            """
            import sys, mmapstate
            def change():
                state = mmapstate.PersistedState(sys.argv[1], count=0)
                state.count += 1
            for _ in range(100):
                change()
            """,
            path,
        )
        with open(path) as file:
            assert yaml.safe_load(file) == {"count": 100}

    def test_writes_of_later_exit_handlers_still_work(self, path):
        run(
            """
            import atexit, sys
            atexit.register(lambda: state.update(last="words"))
            import mmapstate
            state = mmapstate.PersistedState(sys.argv[1], count=0)
            """,
            path,
        )
        assert on_disk(path) == {"count": 0, "last": "words"}

    def test_thousands_of_unclosed_opens_keep_descriptors_flat(self, path):
        PersistedState(path, count=0)
        before = sorted((open_descriptors() or {}).values())  # the numbers may be others after a vacuum
        times = scaled(10_000)
        for _ in range(times):
            PersistedState(path).count += 1
        assert sorted((open_descriptors() or {}).values()) == before
        assert on_disk(path) == {"count": times}

    def test_a_close_inside_of_an_open_or_close_of_the_same_thread_waits_for_nobody(self, path):
        """As a finaliser or a signal handler does that comes in between."""
        first, second = PersistedState(path, n=0), PersistedState(path)
        backend = probe.backend(first)
        with probe.opening(path):
            first.close()
            second.close()
        assert probe.is_over(backend)
        with PersistedState(path) as state:
            assert state.n == 0

    def test_opening_and_closing_keeps_descriptors_and_bookkeeping_flat(self, path):
        with PersistedState(path, count=0):
            pass
        before = open_descriptors()
        times = scaled(300)
        for _ in range(times):
            with PersistedState(path) as state:
                state.count += 1
        assert open_descriptors() == before
        assert on_disk(path) == {"count": times}


class TestReadOnly:
    def test_a_missing_file_is_file_not_found_and_nothing_is_created(self, path, tmp_path):
        with pytest.raises(FileNotFoundError):
            mmapstate.open(path, readonly=True)
        assert os.listdir(tmp_path) == []

    def test_it_reads_and_refuses_to_write(self, path):
        with PersistedState(path, a={"b": [1]}):
            pass
        state = mmapstate.open(path, {"c": 3}, readonly=True)
        assert state == {"a": {"b": [1]}, "c": 3}
        for change in (lambda: state.update(a=1), lambda: state.a.b.append(1) if False else state["a"]["b"].append(1)):
            with pytest.raises(mmapstate.ReadOnlyError, match="readonly"):
                change()
        for method in (state.sync, state.vacuum):
            with pytest.raises(mmapstate.ReadOnlyError):
                method()
        state.close()
        assert on_disk(path) == {"a": {"b": [1]}}

    def test_it_follows_commits_vacuums_and_edits(self, path):
        writer = PersistedState(path, a={"n": 0})
        reader = mmapstate.open(path, readonly=True)
        held = reader["a"]
        for n in range(1, 300):
            writer.a["n"] = n
            assert held["n"] == n
        writer.vacuum()
        writer.a["n"] = "after"
        deadline = time.monotonic() + 10
        while held["n"] != "after" and time.monotonic() < deadline:
            pass
        assert held["n"] == "after"
        reader.close()

    def test_a_file_that_an_editor_has_just_emptied_is_no_empty_state(self, path, monkeypatch):
        """What comes in the pause is the rest of the editor's work: it writes what it has."""
        put = pathlib.Path(path).write_text
        put("")
        monkeypatch.setattr(time, "sleep", lambda _: put("a: 2\n"))
        with mmapstate.open(path, readonly=True) as state:
            assert state == {"a": 2}
            with on_an_open_file():
                put("")
            probe.check_next(state)
            assert state == {"a": 2}  # the last one, as long as there is none

    def test_it_needs_no_write_permission_and_leaves_nothing_behind(self, path, tmp_path):
        with open(path, "w") as file:
            file.write("a: 1\n")
        before = sorted(os.listdir(tmp_path))
        os.chmod(path, 0o444)
        os.chmod(tmp_path, 0o555)
        try:
            state = mmapstate.open(path, readonly=True)
            assert state.a == 1
            state.close()
        finally:
            os.chmod(tmp_path, 0o755)
        assert sorted(os.listdir(tmp_path)) == before


class TestCopies:
    def test_copies_are_plain_data(self, path):
        state = PersistedState(path, a={"b": [1, {"c": 2}]})
        for copied in (copy.copy(state), copy.deepcopy(state), state.copy(), mmapstate.plain(state)):
            assert type(copied) is dict
            assert copied == {"a": {"b": [1, {"c": 2}]}}
            assert type(copied["a"]["b"][1]) is dict
        assert json.loads(json.dumps(state, default=mmapstate.plain)) == state
        assert yaml.safe_load(yaml.safe_dump(state)) == state

    def test_a_pickled_state_opens_the_same_file_with_the_same_options(self, path):
        state = mmapstate.open(path, {"a": 1}, durability="power", timeout=3)
        again = pickle.loads(pickle.dumps(state))
        assert type(again) is PersistedState
        again.a = 2
        assert state.a == 2
        assert probe.durability(again) == "power"

    def test_a_pickled_node_is_plain_data(self, path):
        state = PersistedState(path, a={"b": [1]})
        assert type(pickle.loads(pickle.dumps(state.a))) is dict

    def test_repr_shows_what_another_process_has_committed(self, path):
        state = PersistedState(path, n=0, d={"n": 0})

        def change(talk):
            state.n = 5
            state.d["n"] = 6

        with Child.share(change) as child:
            child.result()
        assert "'n': 5" in repr(state)
        assert repr(state.d) == "StateDict({'n': 6})"

    @not_on_windows("a file that is mapped cannot be written anew there")
    def test_repr_never_raises_or_waits(self, broken_path):
        state = PersistedState(broken_path, a=1)
        with open(broken_path, "w") as file:
            file.write("a: [")
        assert "'a': 1" in repr(state)
        state.close()
        assert "closed" in repr(state)


class TestThreads:
    def test_no_append_of_several_threads_is_lost(self, path):
        state = PersistedState(path, queue=[])

        def append(number):
            for index in range(200):
                state.queue.append([number, index])

        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(state.queue.copy()) == [[number, index] for number in range(4) for index in range(200)]
        assert on_disk(path) == state

    def test_the_thread_lock_makes_several_steps_one(self, path):
        state = PersistedState(path, count=0)

        def count():
            for _ in range(300):
                with state._thread_lock, state._thread_lock:
                    state.count += 1

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state.count == 1200

    def test_releasing_what_this_thread_does_not_hold_is_an_error(self, path):
        state = PersistedState(path, n=0)
        with pytest.raises(RuntimeError, match="does not hold the lock"):
            state._thread_lock.release()
        state._thread_lock.acquire()
        state._thread_lock.acquire()
        state._thread_lock.release()
        state._thread_lock.release()
        with pytest.raises(RuntimeError):
            state._thread_lock.release()
        state.n = 1


class TestLogging:
    @not_on_windows("a file that is open cannot be deleted there")
    def test_values_never_appear_in_log_messages(self, path, caplog):
        caplog.set_level(logging.DEBUG, logger="mmapstate")
        state = PersistedState(path, token="s3cret")
        os.unlink(path)
        probe.lose_sight(state, seconds=10)
        probe.check_next(state)
        state.token = "s3cret2"
        state.close()
        assert "written anew" in caplog.text
        assert "s3cret" not in caplog.text


def test_the_registry_forgets_closed_stores(path):
    state = PersistedState(path)
    state.close()
    assert probe.opened() == []
    probe.close_all()
