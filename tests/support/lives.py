"""A short life of a program, for tests that cut it short: what it does to a state, and to a plain dict beside it."""

__all__ = ["LIFE", "Model", "moved"]


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
