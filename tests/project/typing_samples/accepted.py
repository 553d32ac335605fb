"""What type checkers must accept, in their strict modes. Checked by `test_typing`, never run."""

from __future__ import annotations

from typing import Any

import mmapstate
from mmapstate import PersistedState, State, StateDict


class Progress(State):
    last_id: int = 0
    queue: list[str] = []
    limits: dict[str, int] = {}
    note: str | None = None
    name: str


class More(Progress):
    extra: float = 0.5


def declared(path: str) -> None:
    with Progress(path, durability="power") as p:
        p.last_id += 1
        p.queue.append("a")
        p.limits["cpu"] = 2
        p.note = "text" if p.note is None else None
        total: int = p.last_id + len(p.queue)
        p["other"] = total
    with More(path, {"last_id": 4}, timeout=None, exclusive=True) as more:
        ratio: float = more.extra * more.last_id
        more.name = f"{ratio}"
        more.close()


def transactions(progress: Progress) -> int:
    with progress.transaction() as same:
        same.last_id += 1
        return same.last_id


def waiting(progress: Progress) -> list[str]:
    found: list[str] = progress.wait_for(lambda: progress.queue, timeout=1.5)
    answer: bool = progress.wait_for(lambda: progress.last_id > 3)
    return found if answer else []


def free(path: str) -> Any:
    with PersistedState(path, last_id=0, queue=[]) as state:
        state.last_id += 1
        state.anything = {"nested": 1}
        del state.anything
        count = state.increment("hits")
        state["hits"] = count + 1
        node: Any = state.setdefault("key", {})
        assert isinstance(node, StateDict)
        node.increment("x", by=2)
        with state.transaction() as same:
            same.queue.pop(0)
        return state.queue


def opened(path: str) -> PersistedState:
    return mmapstate.open(path, {"a": 1}, readonly=True)
