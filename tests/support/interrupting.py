"""Interrupts at each place of a statement: where CPython handles signals, or at every bytecode of the fast path."""

import dis
import functools
import os
import sys

import mmapstate
from support import probe

LIBRARY = os.path.dirname(mmapstate.__file__) + os.sep


def interrupt():
    raise KeyboardInterrupt


def at_bytecode(number, statement, action):
    """Do `statement`, and `action` before the `number`-th bytecode of the fast path; return whether there is one."""
    left = number
    fast_path = {getattr(place, name).__code__ for place, name in probe.FAST_PATH}
    outer = sys.gettrace()  # that of coverage

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code not in fast_path:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                frame.f_trace = None
                action()
                return None
        return trace

    sys.settrace(trace)
    try:
        statement()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(outer)
    return left <= 0


@functools.lru_cache(None)
def places(code):
    """Return the offsets in `code` before which CPython handles signals: after calls, at entry, at jumps back.

    It does so at the end of the call itself; where the next instruction is under another handler (a ``with`` block has
    ended), an interrupt there would be one that cannot be.
    """

    def handler(offset):
        return next((each.target for each in handlers if each.start <= offset < each.end), None)

    handlers = dis._parse_exception_table(code)
    found, before = set(), None
    for each in dis.get_instructions(code):
        if each.opname == "JUMP_BACKWARD" or (
            before is not None
            and before.opname in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME")
            and handler(before.offset) == handler(each.offset)
        ):
            found.add(each.offset)
        before = each
    return found


def interrupted_at(place, call, error=KeyboardInterrupt):
    """Raise an error at the place of this number (from 1) in our code where signals are handled.

    Return how many of these it came to, and where it was raised.
    """
    passed, where = 0, ""

    def trace(frame, event, argument):
        nonlocal passed, where
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in places(frame.f_code):
            passed += 1
            if passed == place:
                where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except error:
        pass
    finally:
        sys.settrace(before)
    return passed, where
