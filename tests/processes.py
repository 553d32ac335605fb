"""Processes for tests: fork a child, talk to it over pipes, kill it, end it. Each is ended by its own id."""

import contextlib
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
import traceback

import pytest
from conftest import close_all_stores

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


def not_on_windows(reason):
    """Mark a test that is about POSIX alone, and say why."""
    return pytest.mark.skipif(sys.platform == "win32", reason=reason)


@contextlib.contextmanager
def held_by_a_thread(context):
    """Have another thread inside of ``with context`` until the end, or until the event that this gives is set."""
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with context:
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    try:
        yield let_go
    finally:
        let_go.set()
        thread.join()


class Child:
    """A forked child that runs ``function(talk, *arguments)``; `talk` is its end of the line to the parent."""

    def __init__(self, function, *arguments):
        close_all_stores()  # it shall open what it uses by itself; test forking an open state with `share`
        self._start(function, arguments)

    @classmethod
    def share(cls, function, *arguments):
        """Fork with the states of this process open."""
        child = cls.__new__(cls)
        child._start(function, arguments)
        return child

    def _start(self, function, arguments):
        up_read, up_write = os.pipe()
        down_read, down_write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(up_read)
            os.close(down_write)
            status = 1
            try:
                talk = Line(down_read, up_write)
                result = function(talk, *arguments)
                talk.send(("result", result))
                status = 0
            except BaseException as error:
                with contextlib.suppress(BaseException):
                    talk.send(("error", f"{error!r}\n{traceback.format_exc()}"))
            finally:
                os._exit(status)
        os.close(up_write)
        os.close(down_read)
        self.line = Line(up_read, down_write)
        self.status = None

    def send(self, message):
        self.line.send(message)

    def receive(self, timeout=30):
        """Return the child's next message; raise AssertionError with its traceback if it failed."""
        message = self.line.receive(timeout)
        if isinstance(message, tuple) and message and message[0] == "error":
            raise AssertionError(f"child failed: {message[1]}")
        return message

    def result(self, timeout=60):
        """Wait for the child to end and return what its function returned."""
        while True:
            message = self.receive(timeout)
            if isinstance(message, tuple) and message and message[0] == "result":
                self.wait()
                return message[1]

    def kill(self):
        """Kill the child as ``kill -9`` does and return all messages it had sent."""
        os.kill(self.pid, signal.SIGKILL)
        messages = list(self.line.drain())
        self.wait()
        return messages

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def wait(self):
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
            self.line.close()
        return self.status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()


class Line:
    """One end of two pipes that carry pickled messages."""

    def __init__(self, read, write):
        self.read, self.write = read, write
        self.buffer = b""

    def send(self, message):
        data = pickle.dumps(message)
        os.write(self.write, struct.pack("<I", len(data)) + data)

    def receive(self, timeout=30):
        deadline = time.monotonic() + timeout
        while True:
            message = self._next()
            if message is not None:
                return message[0]
            left = deadline - time.monotonic()
            assert left > 0, f"no message within {timeout} s"
            if select.select([self.read], [], [], left)[0]:
                data = os.read(self.read, 65536)
                assert data, "the other end is gone"
                self.buffer += data

    def ready(self, timeout):
        """Return whether a message, or the end of the other process, has come within `timeout` seconds."""
        return bool(self.buffer or select.select([self.read], [], [], timeout)[0])

    def drain(self):
        """Yield all messages up to the end of the other process."""
        while data := os.read(self.read, 1 << 20):
            self.buffer += data
        while (message := self._next()) is not None:
            yield message[0]

    def _next(self):
        if len(self.buffer) < 4:
            return None
        (length,) = struct.unpack_from("<I", self.buffer)
        if len(self.buffer) < 4 + length:
            return None
        data, self.buffer = self.buffer[4 : 4 + length], self.buffer[4 + length :]
        return (pickle.loads(data),)

    def close(self):
        os.close(self.read)
        os.close(self.write)
