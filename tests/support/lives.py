"""A short life of a program, for tests that cut it short: what it does to a state, and to a plain dict beside it."""

from support.seam import STORES
from support.spawned import kill_myself

__all__ = ["LIFE", "Model", "Tripwire", "moved"]


def moved(state):
    with state.transaction():
        state["n"] += 1
        state["jobs"] = state["jobs"] + [state["n"]] if "jobs" in state else [state["n"]]


def forgotten(state):
    state.pop("text", None)


LIFE = (
    lambda state: state.update(n=state["n"] + 1),
    lambda state: state.__setitem__("n", state["n"] + 1),
    moved,
    lambda state: state.update(text="é" * 9000),  # a larger region
    lambda state: state.vacuum(),
    forgotten,
    moved,
)


class Model(dict):
    def vacuum(self):
        pass

    def transaction(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


CHANGES = {"open", "write", "pwrite", "ftruncate", "replace", "unlink", "fsync", "fdatasync"}


class Tripwire:
    """Counts the stores and the calls that change anything; kills its process at one, before or half-way through."""

    def __init__(self, at, torn):
        self.left = at
        self.torn = torn

    def handle(self, name, arguments, do):
        if name in STORES or name in CHANGES:
            self.left -= 1
            if self.left == 0:
                if self.torn:
                    self.half(name, arguments, do)
                kill_myself()
        return do(*arguments)

    @staticmethod
    def half(name, arguments, do):
        """Do half of it: of a store into a map the second half, as stores are not in order; a word is never torn."""
        if name in ("write", "pwrite"):
            descriptor, data, *offset = arguments
            do(descriptor, data[: len(data) // 2], *offset)
        elif name == "store" and isinstance(arguments[1], slice) and len(arguments[2]) > 1:
            watched, key, value = arguments
            middle = len(value) // 2
            do(watched, slice((key.start or 0) + middle, key.stop), value[middle:])
