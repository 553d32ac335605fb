"""Declared state: fields, defaults and types of a class, checked at open, at an edit and at every write."""

import datetime
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import typing
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NewType, Optional, TypedDict, Union

import pytest
from support import probe
from support.independent_reader import read_file as on_disk

import mmapstate
from mmapstate import PersistedState, State, StateDict, StateFileError, StateList, UnsupportedValueError


class Progress(State):
    last_id: int = 0
    queue: list[str] = []
    rate: float = 1.0
    note: str | None = None
    limits: dict[str, int] = {}
    name: str


def write(path, text):
    Path(path).write_text(text, encoding="utf-8")


def leave_a_wrong_value(path):
    """Have a program that declares nothing set a field, and end without closing."""
    program = """
import os, sys, mmapstate
state = mmapstate.PersistedState(sys.argv[1])
state.last_id = "x"
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program, path], check=True)


class TestFields:
    def test_missing_defaults_are_in_the_file_after_the_open(self, path):
        state = Progress(path)
        assert on_disk(path) == {"last_id": 0, "queue": [], "rate": 1.0, "note": None, "limits": {}}
        assert (state.last_id, state.queue.plain(), state.note) == (0, [], None)

    def test_fields_are_attributes_and_keys(self, path):
        state = Progress(path)
        state.last_id += 1
        state["last_id"] += 1
        state.queue.append("a")
        state.limits["cpu"] = 3
        assert state.last_id == 2
        assert on_disk(path) == state.plain()
        del state.last_id
        assert "last_id" not in on_disk(path)

    def test_defaults_are_copied_for_each_file(self, path, tmp_path):
        with Progress(path) as first, Progress(str(tmp_path / "other.state")) as second:
            first.queue.append("a")
            first.limits["x"] = 1
            assert (second.queue.plain(), second.limits.plain()) == ([], {})
        with Progress(str(tmp_path / "third.state")) as third:
            assert (third.queue.plain(), third.limits.plain()) == ([], {})

    def test_what_the_file_holds_already_is_kept(self, path):
        write(path, "last_id: 7\nother: 1\n")
        with Progress(path) as state:
            assert (state.last_id, state["other"]) == (7, 1)
        assert on_disk(path)["last_id"] == 7

    def test_a_field_without_default_is_not_there_before_it_is_assigned(self, path):
        state = Progress(path)
        with pytest.raises(AttributeError, match=r"example\.state has no key 'name', which Progress declares without"):
            _ = state.name
        assert not hasattr(state, "name")
        state.name = "x"
        assert on_disk(path)["name"] == state.name == "x"

    def test_a_field_that_was_removed_since_has_its_default_again(self, path):
        state = Progress(path)
        state.queue.append("a")
        state.last_id = 5
        for key in ("queue", "last_id", "limits"):
            del state[key]
        assert state.last_id == 0
        state.queue.append("b")
        assert on_disk(path)["queue"] == ["b"]
        with pytest.raises(AttributeError, match=r"example\.state has no key 'last_id'"):
            del state.last_id

    @pytest.mark.parametrize(
        "access", [lambda s: s.last_di, lambda s: setattr(s, "last_di", 5), lambda s: delattr(s, "last_di")]
    )
    def test_an_attribute_that_is_not_declared_is_an_error_that_names_the_nearest_one(self, path, access):
        state = Progress(path)
        before = on_disk(path)
        with pytest.raises(AttributeError, match=r"Progress declares no 'last_di'; did you mean 'last_id'\?"):
            access(state)
        assert on_disk(path) == before

    def test_names_with_an_underscore_and_constants_are_no_fields(self, path):
        class Mine(State):
            LIMIT: ClassVar[int] = 3
            NAME: typing.Final = "x"
            _remark: int = 4
            used: int = 0

        state = Mine(path)
        assert on_disk(path) == {"used": 0}
        assert (state.LIMIT, Mine.LIMIT, state.NAME, state._remark) == (3, 3, "x", 4)
        state._remark = 5
        with pytest.raises(AttributeError):
            state.LIMIT = 4

    @pytest.mark.parametrize("name", ["items", "close", "transaction", "increment", "wait_for", "update"])
    def test_a_field_that_hides_a_method_is_refused_with_the_class(self, name):
        with pytest.raises(TypeError, match=rf"Wrong declares '{name}', which is a method"):
            type("Wrong", (State,), {"__annotations__": {name: int}, "__module__": __name__})

    def test_a_list_or_dict_without_annotation_is_refused_with_the_class(self):
        with pytest.raises(TypeError, match=r"Wrong\.queue has no annotation.*queue: list = \.\.\."):

            class Wrong(State):
                queue = []

        class Mine(State):
            CHOICES = ["a", "b"]
            limit = 3

        assert Mine.limit == 3

    def test_methods_and_properties_of_the_class_work(self, path):
        class Mine(State):
            done: int = 0
            total: int = 4

            @property
            def share(self):
                return self.done / self.total

            @share.setter
            def share(self, value):
                self.done = int(value * self.total)

            def step(self):
                self.done += 1

        state = Mine(path)
        state.step()
        assert state.share == 0.25
        state.share = 0.5
        assert on_disk(path) == {"done": 2, "total": 4}
        with pytest.raises(AttributeError, match="'step' is a method"):
            state.step = 1

    def test_the_editor_and_dir_know_the_fields(self, path):
        state = Progress(path)
        assert {"last_id", "queue", "name", "transaction", "items"} <= set(dir(state))

    def test_options_and_more_defaults_are_those_of_open(self, path):
        with Progress(path, {"last_id": 3, "extra": [1]}, durability="power", timeout=1) as state:
            assert (state.last_id, state["extra"].plain()) == (3, [1])
        with Progress(path, readonly=True) as reader:
            assert reader.last_id == 3
            with pytest.raises(mmapstate.ReadOnlyError):
                reader.last_id = 4

    def test_a_readonly_state_has_missing_defaults_in_memory_alone(self, path):
        write(path, "other: 1\n")
        with Progress(path, readonly=True) as reader:
            assert (reader.last_id, reader.queue.plain()) == (0, [])
        assert on_disk(path) == {"other": 1}

    def test_it_is_pickled_as_class_path_and_options(self, path):
        state = Progress(path, timeout=3)
        state.last_id = 4
        again = pickle.loads(pickle.dumps(state))
        assert type(again) is Progress
        assert again.last_id == 4
        again.close()

    def test_a_persisted_state_with_fields_has_free_attributes_as_well(self, path):
        class Mine(PersistedState):
            last_id: int = 0

        state = Mine(path, other=1)
        state.more = 2
        assert on_disk(path) == {"last_id": 0, "other": 1, "more": 2}
        with pytest.raises(UnsupportedValueError, match="expected int, found str"):
            state.last_id = "x"


class TestInheritance:
    def test_fields_and_defaults_are_inherited_and_replaced(self, path):
        class Base(State):
            a: int = 1
            b: list[int] = [1]
            c: str = "c"

        class Middle(Base):
            b = [2]  # the type stays
            d: int = 4

        class Mine(Middle):
            c: int = 3  # another type
            a: int

        with Mine(path) as state:
            assert state.plain() == {"a": 1, "b": [2], "c": 3, "d": 4}
            with pytest.raises(UnsupportedValueError):
                state.c = "text"
            with pytest.raises(UnsupportedValueError):
                state.b.append("text")
        os.remove(path)
        with Base(path) as state:
            assert state.plain() == {"a": 1, "b": [1], "c": "c"}

    def test_a_mixin_gives_fields_too(self, path):
        class Counted:
            count: int = 0

            def step(self):
                self.count += 1

        class Mine(State, Counted):
            a: int = 1

        with Mine(path) as state:
            state.step()
            assert state.plain() == {"count": 1, "a": 1}

    def test_a_method_in_place_of_an_inherited_field_is_refused_with_the_class(self):
        with pytest.raises(TypeError, match=r"Wrong\.last_id.*cannot be stored"):

            class Wrong(Progress):
                def last_id(self):
                    pass


Port = NewType("Port", int)


class Server(TypedDict):
    host: str
    port: int


class Partial(TypedDict, total=False):
    port: int


class Color(Enum):
    RED = 1


@dataclass
class Data:
    x: int


FITS = [
    (int, [0, -5, 10**30], ["x", 1.5, True, None, []]),
    (float, [0.5, 1, float("inf")], ["x", True, None]),
    (bool, [True, False], [0, "true", None]),
    (str, ["", "x"], [0, b"x", None]),
    (bytes, [b"x"], ["x"]),
    (datetime.date, [datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1)], ["2026-01-01"]),
    (datetime.datetime, [datetime.datetime(2026, 1, 1)], [datetime.date(2026, 1, 1), 0]),
    (None, [None], [0]),
    (list, [[], [1, "x"]], [{}, "x"]),
    (dict, [{}, {1: "x"}], [[], None]),
    (list[int], [[], [1, 2]], [[1, "x"], {}, [[1]]]),
    (dict[str, int], [{}, {"a": 1}], [{"a": "x"}, {1: 1}, []]),
    (dict[str, list[int]], [{"a": [1]}], [{"a": 1}, {"a": ["x"]}]),
    (typing.List[int], [[1]], [["x"]]),  # noqa: UP006
    (typing.Dict[str, int], [{"a": 1}], [{"a": "x"}]),  # noqa: UP006
    (Sequence[int], [[1]], [["x"]]),
    (MutableSequence[int], [[1]], [["x"]]),
    (Mapping[str, int], [{"a": 1}], [{"a": "x"}]),
    (StateList, [[1]], [{}]),
    (StateDict, [{}], [[]]),
    (Optional[int], [None, 1], ["x"]),  # noqa: UP045
    (Union[int, str], [1, "x"], [1.5, None]),  # noqa: UP007
    (int | list[str] | None, [1, None, ["x"]], ["x", [1]]),
    (Literal["a", 1], ["a", 1], ["b", True, 2]),
    (Annotated[int, "of bytes"], [1], ["x"]),
    (Port, [1], ["x"]),
    (Any, [None, 1, [{}]], []),
    (object, [None, 1, [{}]], []),
    (
        Server,
        [{"host": "x", "port": 1}, {"host": "x", "port": 1, "more": 2}],
        [{"host": "x"}, {"host": 1, "port": 1}, []],
    ),
    (Partial, [{}, {"port": 1}], [{"port": "x"}]),
    (list[Server], [[{"host": "x", "port": 1}]], [[{"host": "x", "port": "y"}]]),
]


class TestTypes:
    @pytest.mark.parametrize(("annotation", "good", "bad"), FITS, ids=lambda each: str(each)[:30])
    def test_what_fits_is_stored_and_what_does_not_is_refused(self, path, annotation, good, bad):
        kind = type("Mine", (State,), {"__annotations__": {"field": annotation}, "__module__": __name__})
        with kind(path) as state:
            for value in good:
                state.field = value
                assert on_disk(path)["field"] == value or value != value
            before = Path(path).read_bytes()
            for value in bad:
                with pytest.raises(UnsupportedValueError, match=r"example\.state: \['field'\].*Mine declares field"):
                    state.field = value
                assert Path(path).read_bytes() == before
        for value in bad:
            other = path + "-other"
            with PersistedState(other) as state:
                state["field"] = value
            before = Path(other).read_bytes()
            with pytest.raises(StateFileError, match=r"example\.state-other, line [123]: \['field'\].*expected"):
                kind(other)
            assert Path(other).read_bytes() == before
            os.remove(other)

    @pytest.mark.parametrize(
        ("annotation", "told"),
        [
            (tuple[int, int], "a state cannot hold tuple.*declare a list"),
            (set[int], "a state cannot hold set.*declare a list"),
            (Data, "a state cannot hold Data; declare a dict"),
            (Color, "a state cannot hold Color; declare what its members hold"),
            (complex, "a state cannot hold complex; declare int"),
            (list[complex], "a state cannot hold complex"),
            (Path, "a state cannot hold Path"),
        ],
    )
    def test_a_type_that_no_state_can_hold_is_refused_with_the_class(self, annotation, told):
        with pytest.raises(TypeError, match=rf"Wrong\.field: {told}"):
            type("Wrong", (State,), {"__annotations__": {"field": annotation}, "__module__": __name__})

    @pytest.mark.parametrize(
        ("default", "told"),
        [
            ("x", "expected int, and the default holds str"),
            (object(), "cannot be stored"),
            ({1, 2}, r"store sorted\(...\) of it"),
        ],
    )
    def test_a_default_that_does_not_fit_is_refused_with_the_class(self, default, told):
        with pytest.raises(TypeError, match=rf"Wrong\.field.*{told}"):
            type("Wrong", (State,), {"__annotations__": {"field": int}, "field": default, "__module__": __name__})

    def test_annotations_that_are_text_are_read_at_the_latest_at_the_open(self, tmp_path):
        """With ``from __future__ import annotations``, with names that are defined further down, or nowhere."""
        program = tmp_path / "program.py"
        program.write_text(
            textwrap.dedent(
                """
                from __future__ import annotations
                import sys
                from typing import ClassVar
                from mmapstate import State, UnsupportedValueError

                class Progress(State):
                    last_id: int = 0
                    ids: list[Id] = []
                    maybe: "Optional[str]" = None
                    LIMIT: ClassVar[int] = 3

                Id = int
                from typing import Optional

                class Wrong(State):
                    field: Nowhere = 1

                if sys.version_info >= (3, 11):
                    from typing import NotRequired, Required, TypedDict

                    class Server(TypedDict):
                        host: str
                        port: NotRequired[int]

                    class Less(TypedDict, total=False):
                        host: Required[str]
                        port: int

                    class Servers(State):
                        first: Server = {"host": "x"}
                        second: Less = {"host": "x"}

                    with Servers(sys.argv[1] + "-2") as servers:
                        servers.second = {"host": "y"}
                        for name in ("first", "second"):
                            try:
                                servers[name] = {"port": 1}
                            except UnsupportedValueError:
                                continue
                            print("accepted", name)

                with Progress(sys.argv[1]) as state:
                    state.ids.append(5)
                    for name, value in (("last_id", "x"), ("ids", ["x"]), ("maybe", 3)):
                        try:
                            setattr(state, name, value)
                        except UnsupportedValueError as error:
                            print(error)
                    print(state.plain())
                try:
                    Wrong(sys.argv[1])
                except TypeError as error:
                    print(error)
                """
            )
        )
        path = str(tmp_path / "x.state")
        done = subprocess.run([sys.executable, str(program), path], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert lines[0].endswith("['last_id']: expected int, found str; Progress declares last_id: int")
        assert lines[1].endswith("['ids'][0]: expected int, found str; Progress declares ids: list[int]")
        assert lines[2].endswith("['maybe']: expected str | None, found int; Progress declares maybe: str | None")
        assert lines[3] == "{'last_id': 0, 'ids': [5], 'maybe': None}"
        assert lines[4] == (
            "Wrong: an annotation cannot be read (name 'Nowhere' is not defined); define or import that name in the "
            "module of the class"
        )


WRONG_WRITES = {
    "attribute": lambda s: setattr(s, "last_id", "x"),
    "item": lambda s: s.__setitem__("last_id", "x"),
    "update": lambda s: s.update(other=1, last_id="x"),
    "|=": lambda s: s.__ior__({"last_id": "x"}),
    "setdefault": lambda s: s.setdefault("name", 5),
    "increment": lambda s: s.increment("last_id", 0.5),
    "increment of another type": lambda s: s.increment("name"),
    "append": lambda s: s.queue.append(5),
    "insert": lambda s: s["queue"].insert(0, 5),
    "extend": lambda s: s.queue.extend(["x", 5]),
    "+=": lambda s: s.queue.__iadd__([5]),
    "slice": lambda s: s.queue.__setitem__(slice(0, 0), [5]),
    "item of a list": lambda s: s.queue.__setitem__(0, 5),
    "item of a mapping": lambda s: s.limits.__setitem__("a", "x"),
    "key of a mapping": lambda s: s.limits.__setitem__(5, 1),
    "increment in a mapping": lambda s: s.limits.increment("a", 0.5),
    "update of a mapping": lambda s: s["limits"].update(b=1, a="x"),
    "list for a scalar": lambda s: setattr(s, "last_id", [1]),
    "node of another field": lambda s: setattr(s, "last_id", s.queue),
}


class TestWrites:
    @pytest.mark.parametrize("spelling", WRONG_WRITES)
    def test_every_spelling_of_a_write_is_checked_before_anything_changes(self, path, spelling):
        with Progress(path) as state:
            state.queue.append("a")
            before = on_disk(path)
            with pytest.raises(UnsupportedValueError, match=r"example\.state: \[.*expected .*Progress declares"):
                WRONG_WRITES[spelling](state)
            assert state.plain() == on_disk(path) == before

    @pytest.mark.parametrize("spelling", WRONG_WRITES)
    def test_inside_a_transaction_it_is_checked_when_it_is_made(self, path, spelling):
        with Progress(path) as state:
            state.queue.append("a")
            before = on_disk(path)
            with state.transaction(), pytest.raises(UnsupportedValueError, match="Progress declares"):
                WRONG_WRITES[spelling](state)
            assert state.plain() == on_disk(path) == before

    def test_writes_through_other_handles_of_the_process_are_checked_as_well(self, path):
        with Progress(path), PersistedState(path) as other:
            with pytest.raises(UnsupportedValueError, match="Progress declares last_id: int"):
                other.last_id = "x"
            with pytest.raises(UnsupportedValueError):
                other["queue"].append(5)
        with PersistedState(path) as other:
            other.last_id = "x"

    def test_two_classes_that_disagree_are_told_at_the_open(self, path):
        class Other(State):
            last_id: str = "x"

        with Progress(path):
            with pytest.raises(StateFileError, match=r"\['last_id'\]: expected str, found int; .*Other declares"):
                Other(path)
            with PersistedState(path) as plain:
                plain.last_id = 4  # what was refused checks no more

    def test_what_a_typed_dict_requires_cannot_be_removed(self, path):
        class Mine(State):
            server: Server = {"host": "x", "port": 1}
            servers: list[Server] = [{"host": "x", "port": 1}]

        with Mine(path) as state:
            state.server["more"] = 1
            del state.server["more"]
            for change in (
                lambda: state.server.pop("host"),
                state.server.clear,
                state.servers[0].popitem,
            ):
                with pytest.raises(UnsupportedValueError, match="expected Server, found a mapping without"):
                    change()
            assert on_disk(path) == {"server": {"host": "x", "port": 1}, "servers": [{"host": "x", "port": 1}]}

    @pytest.mark.parametrize(
        ("annotation", "start", "change"),
        [
            (dict[str, int] | None, {}, lambda node: node.__setitem__(1, 2)),
            (Optional[Server], {"host": "x", "port": 1}, lambda node: node.pop("host")),  # noqa: UP045
            (list[int] | list[str], [1], lambda node: node.append("x")),
            (list[int] | list[str], [1, 2], lambda node: node.__setitem__(0, "x")),
            (dict[str, int] | dict[int, str], {"a": 1}, lambda node: node.update(b="x")),
            (dict[str, list[int] | list[str]], {"a": [1]}, lambda node: node["a"].extend([2, "x"])),
            (list[int] | dict[str, int], [1], lambda node: node.insert(0, "x")),
        ],
    )
    def test_a_union_of_containers_is_judged_as_a_whole(self, path, annotation, start, change):
        kind = type("Mine", (State,), {"__annotations__": {"field": annotation}, "__module__": __name__})
        with kind(path) as state:
            state.field = start
            with pytest.raises(UnsupportedValueError, match=r"\['field'\].*Mine declares field"):
                change(state.field)
            assert on_disk(path) == {"field": start}
        kind(path).close()

    def test_a_union_of_containers_takes_what_fits(self, path):
        class Mine(State):
            field: list[int] | list[str] | dict[str, int] = [1]

        with Mine(path) as state:
            state.field.append(2)
            state.field = ["a"]
            state.field.append("b")
            state.field = {"a": 1}
            state.field["b"] = 2
            assert on_disk(path) == {"field": {"a": 1, "b": 2}}

    def test_increment_begins_at_the_default(self, path):
        class Ids(State):
            next_id: int = 1000

        with Ids(path) as state:
            del state.next_id
            assert state.increment("next_id") == 1001
            assert state.increment("next_id") == 1002
            with state.transaction():
                del state["next_id"]
                assert state.increment("next_id", 5) == 1005
            assert on_disk(path) == {"next_id": 1005}

    def test_increment_keeps_to_the_type(self, path):
        with Progress(path) as state:
            assert state.increment("last_id", 2) == 2
            assert state.increment("rate", 1) == 2.0
            assert state.limits.increment("a") == 1


class TestTheFile:
    def test_a_wrong_type_at_the_open_names_key_types_and_line_and_leaves_the_file(self, path):
        text = "# my state\nqueue:\n- a\n- b\n- 3   # wrong\nlast_id: 4\n"
        write(path, text)
        with pytest.raises(
            StateFileError,
            match=r"example\.state, line 5: \['queue'\]\[2\]: expected str, found int; .* declares queue: list\[str\]",
        ):
            Progress(path)
        assert Path(path).read_text() == text
        with pytest.raises(StateFileError, match="line 5"):
            Progress(path, readonly=True)
        write(path, "last_id: yes\n")
        with pytest.raises(StateFileError, match=r"line 1: \['last_id'\]: expected int, found str"):
            Progress(path)

    def test_a_value_that_a_record_has_set_is_told_without_a_line(self, path):
        write(path, "a: 1\nlast_id: 4\n")

        leave_a_wrong_value(path)
        before = Path(path).read_bytes()
        assert b"mmapstate journal" in before
        with pytest.raises(StateFileError, match=r"example\.state: \['last_id'\]: expected int, found str"):
            Progress(path)
        assert on_disk(path) == {"a": 1, "last_id": "x"}

    def test_an_edit_to_a_wrong_type_is_refused_until_it_is_mended(self, path):
        with Progress(path):
            pass
        state = Progress(path)
        state.last_id = 4
        state.vacuum()
        write(path, "last_id: many\nqueue: []\n")
        for _ in range(2):
            with pytest.raises(StateFileError, match=r"example\.state, line 1: \['last_id'\]: expected int, found str"):
                probe.check_next(state)
                _ = state.last_id
        with pytest.raises(StateFileError, match="line 1"):
            state.last_id = 5
        assert Path(path).read_text() == "last_id: many\nqueue: []\n"
        write(path, "last_id: 12\nqueue: []\n")
        assert state.last_id == 12

    def test_an_edit_that_removes_a_field_gives_the_default(self, path):
        state = Progress(path)
        state.last_id = 4
        state.vacuum()
        write(path, "queue: [a]\n")
        probe.check_next(state)
        assert state.last_id == 0
        assert state.queue.plain() == ["a"]

    def test_what_another_program_commits_is_followed(self, path):
        """It has not declared anything: at the next open, or edit, it is noticed."""
        state = Progress(path)
        leave_a_wrong_value(path)
        assert state.last_id == "x"
        probe.close_all()
        with pytest.raises(StateFileError):
            Progress(path)
        PersistedState(path).last_id = 1

    def test_an_edit_that_another_class_has_taken_up_is_noticed(self, path):
        state = Progress(path)
        state.vacuum()
        program = """
import sys, mmapstate
open(sys.argv[1], "w").write("last_id: many\\n")
state = mmapstate.open(sys.argv[1])
state["other"] = 1
state.close()
"""
        subprocess.run([sys.executable, "-c", program, path], check=True)
        with pytest.raises(StateFileError, match=r"\['last_id'\]: expected int, found str"):
            _ = state.last_id
        write(path, "last_id: 5\n")
        assert state.last_id == 5

    def test_a_failed_open_inside_a_transaction_tells_why_and_leaves_nothing(self, path):
        state = mmapstate.open(path, {"last_id": "text"})
        with state.transaction():
            with pytest.raises(StateFileError, match=r"\['last_id'\]: expected int, found str"):
                Progress(path)
            state["last_id"] = "other"
        assert on_disk(path) == {"last_id": "other"}

    @pytest.mark.parametrize("how", ["readonly", "closed"])
    def test_a_removed_container_has_its_default_where_nothing_can_be_stored(self, path, how):
        state = Progress(path)
        reader = Progress(path, readonly=True)
        del state["queue"]
        probe.check_next(reader)
        state.close()
        assert {"readonly": reader, "closed": state}[how].queue == []
        reader.close()

    def test_defaults_given_at_the_open_are_checked_before_there_is_a_file(self, path):
        with pytest.raises(UnsupportedValueError, match=r"\['last_id'\]: expected int, found str"):
            Progress(path, {"last_id": "x"})
        assert not os.path.exists(path)


def test_threads_count_on_a_field_without_loss(path):
    state = Progress(path)

    def count():
        for _ in range(200):
            state.increment("last_id")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert on_disk(path)["last_id"] == state.last_id == 800
