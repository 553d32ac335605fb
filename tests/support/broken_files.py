"""A live file with everything in it, to be broken in tests: its bytes, and the state after each of its changes."""

import os
import random

from mmapstate import PersistedState

SNAPSHOT = b"""\
# mine
n: 0  # a number
name: 'x y'

# of hosts
hosts:
  mill: {port: 80}
  barn:
    port: 90
queue:
- a
- b
"""

STEPS = (
    lambda state: state.update(n=1),
    lambda state: state["queue"].append("\u00e9\u65e5"),
    lambda state: state["hosts"]["barn"].update(port=91, up=True),
    lambda state: state["queue"].pop(0),
)

SEED = int(os.environ.get("MMAPSTATE_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def put(path, data):
    """Write a file as if that were long ago: opening it need not wait for an editor."""
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (1, 1))


def live_file(folder, slack=40):
    """Return the bytes of a live file with little slack, and the states that were committed, one after the other."""
    path = os.path.join(folder, "live.state")
    put(path, SNAPSHOT)
    with PersistedState(path) as state:
        states = [state.plain()]
        for step in STEPS:
            step(state)
            states.append(state.plain())
        data = read(path)
    os.unlink(path)
    os.unlink(path + "-lock")
    return data.rstrip(b" ") + b" " * slack, states


def harmed(data, share=1):
    """Yield name and bytes of what a flipped bit, a cut and a blanked sector make of `data`; one in `share` of them."""
    dice = random.Random(SEED)
    for offset in range(len(data)):
        for bit in range(8):
            if dice.randrange(share) == 0:
                yield (
                    f"bit {bit} of byte {offset}",
                    data[:offset] + bytes((data[offset] ^ 1 << bit,)) + data[offset + 1 :],
                )
        if dice.randrange(share) == 0:
            yield f"cut at {offset}", data[:offset]
            for size in (8, 64):
                for blank in (b"\0", b" "):
                    blanked = data[:offset] + (blank * size)[: len(data) - offset] + data[offset + size :]
                    yield f"{size} times {blank} at {offset}", blanked
