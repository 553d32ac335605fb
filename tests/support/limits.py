"""Stack, memory and unlocks that end at a given point: each limit is called with what is left, and with a call."""

import errno
import functools
import gc
import os
import sys

from mmapstate.file.filelock import UNLOCK
from support.seam import between

try:
    import _testcapi
except ImportError:  # a CPython built without its tests, or none
    _testcapi = None

__all__ = ["Allocations", "Frames", "FramesOfC", "Unlocks", "can_fail_allocations"]

can_fail_allocations = _testcapi is not None


class Frames:
    """So many frames are left."""

    errors = ("RecursionError",)
    widths = (None,)
    dense = 1000  # numbers up to which each is tried in a full run

    def __init__(self):
        sys.setrecursionlimit(600)

    def __call__(self, left, _, call):
        """Do `call` with `left` frames left, its own among them. How many there are, only trying tells."""

        def deepest(depth):
            try:
                return deepest(depth + 1)
            except RecursionError:
                return depth

        def sink(depth):
            return sink(depth - 1) if depth > 0 else call()

        return sink(deepest(0) - left)


class FramesOfC(Frames):
    """The same for what CPython 3.12 and 3.13 count apart: calls by C of what may call C again."""

    def __init__(self):
        sys.setrecursionlimit(200_000)

    def __call__(self, left, _, call):
        def deepest(depth):
            try:
                return functools.partial(deepest, depth + 1)()
            except RecursionError:
                return depth

        def sink(depth):
            return functools.partial(sink, depth - 1)() if depth > 0 else call()

        return sink(deepest(0) - left)


class Allocations:
    """So many allocations succeed, and then `width` of them fail.

    Not all for ever: where a handler of exceptions begins behind its function's 256th instruction, CPython 3.11 and
    later tries for ever to have memory for its number.
    """

    errors = ("MemoryError", "RuntimeError", "SystemError")  # locks, and CPython's own mistakes, raise the others
    dense = 80
    widths = (1, 3, 1000)

    def __call__(self, left, width, call):
        gc.disable()
        try:
            _testcapi.set_nomemory(left, left + width)
            return call()
        finally:
            _testcapi.remove_mem_hooks()
            gc.enable()


class Unlocks:
    """The unlock of this number fails, and `width` of them in all, without having unlocked anything."""

    errors = ("OSError",)
    dense = 1000
    widths = (1, 1000)

    def __call__(self, number, width, call):
        """Do `call`; that unlocks fail is over at its end."""
        unlocks = 0

        def handle(name, arguments, do):
            nonlocal unlocks
            if name == "flock" and arguments[1] == UNLOCK:
                unlocks += 1
                if number <= unlocks < number + width:
                    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
            return do(*arguments)

        with between(handle):
            return call()
