"""Processes for tests: start a child, talk to it over a pipe, kill it, end it. Each is ended by its own id.

`Child` forks where there is a fork. On Windows it starts a new interpreter and sends it the function by cloudpickle,
closures included; a state that the function refers to is opened there anew.
"""

import contextlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Listener

import pytest

from support import probe, spawned
from support.spawned import Connected, serve

__all__ = ["Child", "held_by_a_thread", "needs_fork", "not_on_windows"]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="it is about fork, which this system has not")


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


class _Child:
    """A child process that runs ``function(talk, *arguments)``; `talk` is its end of the line to the parent."""

    def __init__(self, function, *arguments):
        probe.close_all()  # it shall open what it uses by itself; test forking an open state with `share`
        self._launch(function, arguments)

    @classmethod
    def share(cls, function, *arguments):
        """Start it with the states of this process open."""
        child = cls.__new__(cls)
        child._launch(function, arguments)
        return child

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
        self._kill()
        messages = list(self.drain())
        self.wait()
        return messages

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                self._kill()
            self.wait()


class Forked(_Child):
    def _launch(self, function, arguments):
        up_read, up_write = os.pipe()
        down_read, down_write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(up_read)
            os.close(down_write)
            status = 1
            try:
                status = 0 if serve(function, Line(down_read, up_write), arguments) else 1
            finally:
                os._exit(status)
        os.close(up_write)
        os.close(down_read)
        self.line = Line(up_read, down_write)
        self.status = None

    def drain(self):
        """Yield all messages up to the end of the child."""
        return self.line.drain()

    def _kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def was_killed(self):
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)  # each of its threads has to come to it
        assert os.WIFSTOPPED(status)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def wait(self):
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
            self.line.close()
        return self.status


def _started(command):
    """Start a process; try again where Wine, on a busy machine, fails to (error 1359, an internal one)."""
    for tries_left in reversed(range(5)):
        try:
            return subprocess.Popen(command)
        except OSError as error:
            if getattr(error, "winerror", None) != 1359 or not tries_left:
                raise
            time.sleep(1)
    raise AssertionError("not reached")


class Spawned(_Child):
    def _launch(self, function, arguments):
        import cloudpickle

        module = sys.modules[function.__module__]
        if module.__name__.startswith("test_"):  # sent along, as to import it there takes longer than the test
            cloudpickle.register_pickle_by_value(module)
        with Listener() as listener:
            self.process = _started([sys.executable, spawned.__file__, listener.address])
            connection = listener.accept()
        self.pid = self.process.pid
        self.line = Connected(connection)
        self.status = None
        connection.send(sys.path)
        connection.send_bytes(cloudpickle.dumps((function, arguments)))

    def drain(self):
        """Yield all messages up to the end of the child."""
        with contextlib.suppress(EOFError, OSError):
            alive = True
            while alive:
                alive = self.process.poll() is None  # Wine does not always end a recv that waits for a killed child
                while self.line.ready(0.1):
                    yield self.line.connection.recv()

    def _kill(self):
        self.process.kill()  # TerminateProcess

    def was_killed(self):
        return self.status in (1, signal.SIGTERM)  # by `kill`, by `kill_myself`

    def stop(self):
        self._of_the_kernel("NtSuspendProcess")

    def resume(self):
        self._of_the_kernel("NtResumeProcess")

    def _of_the_kernel(self, call):
        import ctypes

        kernel = ctypes.windll.kernel32
        kernel.OpenProcess.restype = ctypes.c_void_p
        handle = ctypes.c_void_p(kernel.OpenProcess(0x0800, False, self.pid))  # PROCESS_SUSPEND_RESUME
        assert getattr(ctypes.windll.ntdll, call)(handle) == 0
        kernel.CloseHandle(handle)

    def wait(self):
        if self.status is None:
            self.status = self.process.wait()
            self.line.close()
        return self.status


Child = Forked if hasattr(os, "fork") else Spawned


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
