"""What others of a state find: another process and another thread that read and write it, and what is left open.

A test that breaks one process does so in a child, which `Other` and `Helper` then ask: nothing that hangs, hangs here.
"""

import collections
import gc
import os
import queue
import threading
import time

import mmapstate
from mmapstate.file import system
from support.independent_reader import read_state
from support.processes import Child

__all__ = ["SOON", "Helper", "Other", "descriptors", "on_disk", "outcome", "settle", "stuck"]

SOON = 2  # seconds; a lock that is not to be had so long is nobody's any more
PATIENTLY = 600  # seconds that another process waits for its next order


def outcome(call, *arguments):
    """Return what the call returns; of what it raises a text that begins with its type."""
    try:
        return call(*arguments)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def on_disk(path):
    """Return the state in the file, as the independent reader reads it, as quickly as it can."""
    with open(path, "rb") as file:
        return read_state(file.read(), quick=True)


def descriptors(path):
    """Return how many descriptors and maps this process has of each file beside `path`, deleted ones included."""
    folder = os.path.dirname(os.path.realpath(path)) + os.sep
    found = collections.Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith(folder):
            found["open", target.removeprefix(folder)] += 1
    with open("/proc/self/maps") as file:
        for line in file:
            _, here, name = line.rstrip("\n").partition(folder)
            if here:
                found["mapped", name] += 1
    return found


class Other(Child):
    """Another process that has the state open, or not, and does what it is told.

    `ask` returns what the order returned, or the text of the error that it raised. Any process can ask that was forked
    from the one that started this, one at a time.
    """

    def __init__(self, path, timeout=SOON):
        super().__init__(_serve, path, timeout)

    def ask(self, order, *arguments, within=30):
        """Have `order` done, the name of a method of `_Orders`; or go on with the one that waits for a message."""
        self.tell(order, *arguments)
        return self.receive(within)

    def tell(self, order, *arguments):
        """Have it done, and do not wait; the answer is to be received."""
        self.send((order, arguments))


class _Orders:
    def __init__(self, talk, path, timeout):
        self.talk, self.path, self.timeout = talk, path, timeout
        self.state = self.view = None

    def opened(self):
        if self.state is None:
            self.state = mmapstate.open(self.path, timeout=self.timeout)
        return self.state

    def open(self):
        self.opened()

    def close(self):
        state, self.state = self.state, None
        if state is not None:
            state.close()

    def open_anew(self):
        self.close()
        self.opened()

    def write(self, key, value):
        self.opened()[key] = value

    def increment(self, key, times=1):
        return [self.opened().increment(key) for _ in range(times)]

    def append(self, key, item):
        self.opened()[key].append(item)

    def read(self):
        return self.opened().plain()

    def read_only(self):
        with mmapstate.open(self.path, readonly=True) as view:
            return view.plain()

    def read_view(self):
        """Read by a readonly state that stays open."""
        if self.view is None:
            self.view = mmapstate.open(self.path, readonly=True)
        return self.view.plain()

    def vacuum(self):
        self.opened().vacuum()

    def hold(self, news=None):
        """Have the lock, which is told, until the next message; write before, or compact the file."""
        state = self.opened()
        with state._thread_lock:
            if news is not None:
                state["news"] = news
                if news % 4 == 0:
                    state.vacuum()
            self.talk.send("held")
            self.talk.receive(PATIENTLY)
        return "free"

    def contend(self, key):
        """Count in `key`, with a vacuum now and then, until the next message; return up to which number."""
        state = self.opened()
        number = 0
        while not self.talk.ready(2e-4):
            for _ in range(5):
                number = state.increment(key)
            if number % 100 == 0:
                state.vacuum()
        self.talk.receive()
        return number

    def descriptors(self):
        return descriptors(self.path)

    def do(self, function, *arguments):
        return function(self.opened(), *arguments)


def _serve(talk, path, timeout):
    system.sync_file = id  # no test of others is about power, and a sync takes longer than all else
    orders = _Orders(talk, path, timeout)
    while (order := talk.receive(PATIENTLY)) is not None:
        talk.send(outcome(getattr(orders, order[0]), *order[1]))


def left_since(path, clean):
    """Return what is open, or mapped, that was not, and take it for clean from now on.

    What an interrupt left in a cycle, which the collector finds some time, is not.
    """
    left = descriptors(path) - clean
    if left:
        gc.collect()
        left = descriptors(path) - clean
    clean.update(left)
    return left


class Helper:
    """Another thread of this process, for as long as that lives, that does what it is given; a daemon: it may hang."""

    def __init__(self):
        self.work, self.done = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            self.done.put(outcome(*self.work.get()))

    def ask(self, call, *arguments):
        """Return the outcome of the call, or the text that it hangs."""
        self.work.put((call, *arguments))
        deadline = time.monotonic() + 2 * SOON
        while self.done.empty():  # `get` with a timeout is a lock with one, and that is what hangs when all goes wrong
            if time.monotonic() > deadline:
                return "hangs"
            time.sleep(1e-4)
        return self.done.get()


def stuck(state, other, helper, number):
    """Return who cannot write at once: this thread, another one, another process; and what it gets."""
    told = {
        "another thread": helper.ask(state.__setitem__, "thread", number),
        "this thread": outcome(state.__setitem__, "this", number),
        "another process": other.ask("write", "other", number),
    }
    return [f"stuck: {who}: {what.split(':')[0]}" for who, what in told.items() if what is not None]


def settle(state):
    """Have it open what it opens: a map of the journal, and its presence, on the file of this moment."""
    state.vacuum()
    state["settled"] = True
