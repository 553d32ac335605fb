"""The changes of a transaction that is open: made in memory already, not yet in the file, and how to roll them back.

Every change is preceded by its inverse in an undo log; where there is none that is cheap (a key deleted from the middle
of a mapping would lose its place), the container's entries are copied, once. Each step of the log can be done twice, or
without its change having been made: so an interrupt may come anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmapstate.changes import Change
from mmapstate.live.node import KINDS, Node, Step


class UndoLog:
    """What an open transaction has changed. `holder` began it, in the asyncio task `task` if in any.

    ``torn`` says that an interrupt came in the middle of a change: what is to be committed, and memory, may differ.
    """

    def __init__(self, holder: int, task: Any) -> None:
        self.holder = holder
        self.task = task
        self.changes: list[Change] = []
        self.torn = False
        self._inner: list[tuple[int, int, int, bool]] = []  # holder, and how far changes and log were when it began
        self._steps: list[Step] = []
        self._whole: dict[int, int] = {}  # containers that a step restores whatever comes after it: its number, by id
        self._last: dict[int, int] = {}  # mappings whose last change sets a scalar: its number in `changes`, by id

    def add(self, node: Node, changes: tuple[Change, ...], publish: Callable[..., object], *args: Any) -> None:
        """Make `changes` of `node` in memory by ``publish(*args)``, to be committed later.

        A set replaces the earlier set of the same key where nothing else touched that mapping in between.
        """
        torn, self.torn = self.torn, True
        change = changes[0]
        here = id(node._items)  # the steps refer to it, so it lives as long as they do: nobody else gets its id
        if len(changes) == 1 and node._items.__class__ is dict and change[-1].__class__ not in KINDS:
            before = self._last.pop(here, None)
            if change[0] == "set" and before is not None and self.changes[before][2] == change[2]:
                self.changes[before] = (*self.changes[before][:3], change[3])
                self._last[here] = before
            else:
                self._remember(node, changes)
                if change[0] == "set":
                    self._last[here] = len(self.changes)
                self.changes.append(change)
        else:
            self._last.clear()  # containers may have moved: what was set in them before belongs before that
            self._remember(node, changes)
            self.changes += changes
        publish(*args)
        self.torn = torn

    def begin_inner(self, holder: int) -> None:
        """Begin a transaction inside: what it changes can be rolled back alone."""
        self._last.clear()
        self._inner.append((holder, len(self.changes), len(self._steps), self.torn))

    def end_inner(self, holder: int, *, commit: bool) -> None:
        """End the transaction inside that `holder` began, if there is one."""
        for place, (name, changes, steps, torn) in enumerate(self._inner):
            if name == holder:
                if not commit:
                    self._roll_back_to(changes, steps)
                    self.torn = torn
                del self._inner[place:]  # with those that an interrupt kept from ending
                return

    def roll_back(self) -> None:
        """Make memory what it was: the same objects, in the same order. Can be called again after an interrupt."""
        self._roll_back_to(0, 0)

    def forget(self) -> None:
        """Have nothing to roll back any more: it is in the file."""
        self.changes.clear()
        self._steps.clear()

    def _roll_back_to(self, changes: int, steps: int) -> None:
        self.torn = True
        self._last.clear()
        while len(self._steps) > steps:
            function, *args = self._steps[-1]
            function(*args)
            self._steps.pop()
        self._whole = {container: number for container, number in self._whole.items() if number < steps}
        del self.changes[changes:]

    def _remember(self, node: Node, changes: tuple[Change, ...]) -> None:
        since = self._inner[-1][2] if self._inner else 0  # what an inner transaction can be rolled back to
        if self._whole.get(id(node._items), -1) >= since:
            return
        if len(changes) > 1 and changes[0][0] == "delete":
            steps: list[Step | None] = [None]
        else:
            steps = [node._inverse(change) for change in changes]
        if None in steps:
            self._whole[id(node._items)] = len(self._steps)
            steps = [node._whole()]
        self._steps += steps  # type: ignore[arg-type] # mypy does not see that None is not among them
