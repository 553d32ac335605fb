"""The far end of `processes.Spawned`: a new interpreter that is sent a function, runs it, and tells what became of it.

Run as a script. It imports as little as it can: where there is no fork, tests start hundreds of these.
"""

import contextlib
import importlib
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Client

FAILED = 3  # an exit code that neither Python nor a kill gives


class Connected:
    """One end of a connection of multiprocessing."""

    def __init__(self, connection):
        self.connection = connection

    def send(self, message):
        self.connection.send(message)

    def receive(self, timeout=30):
        assert self.connection.poll(timeout), f"no message within {timeout} s"
        return self.connection.recv()

    def ready(self, timeout):
        """Return whether a message, or the end of the other process, has come within `timeout` seconds."""
        return self.connection.poll(timeout)

    def close(self):
        self.connection.close()


def serve(function, talk, arguments):
    """Run the child's function and tell what became of it; return whether it ended well."""
    try:
        talk.send(("result", function(talk, *arguments)))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            talk.send(("error", f"{error!r}\n{traceback.format_exc()}"))
        return False
    return True


def kill_myself():
    """End this process at once, as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)  # TerminateProcess there


if __name__ == "__main__":
    connection = Client(sys.argv[1])
    sys.path[:] = connection.recv()
    importlib.import_module("support.probe").be_patient()
    work = pickle.loads(connection.recv_bytes())
    if not serve(work[0], Connected(connection), work[1]):
        sys.exit(FAILED)
