"""What type checkers must refuse: each line marked so, and no other. Checked by `test_typing`, never run."""

from __future__ import annotations

from mmapstate import State, StateDict, StateList


class Progress(State):
    last_id: int = 0
    queue: list[str] = []


def wrong(progress: Progress, node: StateDict, items: StateList) -> None:
    progress.last_id = "x"  # refused
    progress.last_di = 5  # refused
    print(progress.last_di)  # refused
    progress.queue.append(5)  # refused
    progress.queue = 3  # refused
    node.port = 1  # refused
    print(node.port)  # refused
    items.first = 1  # refused
    Progress("x.state", durable=True)  # refused
    Progress()  # refused
    with progress.transaction() as same:
        same.last_id = None  # refused
    text: str = progress.wait_for(lambda: progress.last_id)  # refused
    print(text)
