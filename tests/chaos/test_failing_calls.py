"""Each call of the system fails, once or for ever: an error before the change, nothing lost, and it goes on afterwards.

The calls are those of a short life: open, change, begin a journal, grow it, vacuum, change, close. They fail, too, in
the life of who finds what a killed process left.
"""

import errno
import os
import random
import shutil
import sys

import pytest
from support import independent_reader, probe
from support.lives import LIFE, Model, moved
from support.processes import not_on_windows
from support.runs import SEED, scaled
from support.seam import between

import mmapstate
from mmapstate import StateError
from mmapstate.file import filelock

SHORT = "short"  # no error: a write that writes less than it was asked to

FAILURES = {
    "open": (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.ENOMEM, errno.EROFS, errno.EIO, errno.EINTR),
    "fstat": (errno.EIO, errno.ENOMEM),
    "stat": (errno.EIO, errno.EACCES, errno.ENOMEM),
    "lstat": (errno.EIO,),
    "listdir": (errno.EIO, errno.EMFILE),
    "pread": (errno.EIO, errno.EINTR),
    "pwrite": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EINTR, SHORT),
    "ftruncate": (errno.EIO, errno.EINTR),
    "replace": (errno.ENOSPC, errno.EIO, errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS),
    "unlink": (errno.EACCES, errno.EBUSY, errno.EIO),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EDQUOT),
    "fdatasync": (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EDQUOT),
    "fchown": (errno.EPERM, errno.EIO),
    "fchmod": (errno.EPERM, errno.EIO),
    "dup": (errno.EMFILE,),
    "mmap": (errno.ENOMEM, errno.ENODEV, errno.EAGAIN),
    "flock": (errno.ENOLCK, errno.EINTR, errno.EIO),
    "close": (errno.EIO, errno.EINTR),
    "open_text": (errno.EMFILE, errno.EACCES),
}


class Fault:
    """Counts the calls that can fail, and fails the `at`-th one; with `lasting` all others of that name as well."""

    def __init__(self, at=0, kind=0, lasting=False):
        self.at, self.kind, self.lasting = at, kind, lasting
        self.names = []
        self.name = None
        self.hits = 0
        self.errors = 0
        self.told = "nothing fails"
        self.handle_now = self.fail

    def lift(self):
        """Have nothing fail, nor count, any more."""
        self.handle_now = lambda name, arguments, do: do(*arguments)

    def spared(self, read, state):
        """Return ``read(state)``, whose calls do not fail, nor count."""
        before = self.handle_now
        self.lift()
        try:
            return read(state)
        finally:
            self.handle_now = before

    def handle(self, name, arguments, do):
        return self.handle_now(name, arguments, do)

    def fail(self, name, arguments, do):
        if name not in FAILURES or (name == "flock" and arguments[1] == filelock.UNLOCK):
            return do(*arguments)
        self.names.append(name)
        if len(self.names) == self.at:
            self.name = name
        elif not (self.lasting and name == self.name):
            return do(*arguments)
        self.hits += 1
        failure = FAILURES[name][self.kind % len(FAILURES[name])]
        self.told = (
            f"{name} fails {'for ever' if self.lasting else 'once'} with {errno.errorcode.get(failure, failure)}"
        )
        if failure == SHORT:
            descriptor, data, offset = arguments
            return do(descriptor, data[: max(len(data) // 2, 1)], offset)
        if name == "close":
            do(*arguments)  # Linux closes it all the same
        raise OSError(failure, os.strerror(failure))


def live(path, durability, fault):
    """Live a short life through the fault; return what the state should be at its end."""
    options = {"durability": durability, "timeout": 1.0}
    try:
        state = mmapstate.open(path, {"n": 0}, **options)
    except (OSError, StateError):
        fault.errors += 1
        fault.lift()
        state = mmapstate.open(path, {"n": 0}, **options)
    model = Model(fault.spared(mmapstate.plain, state))
    for step in LIFE:
        try:
            step(state)
        except (OSError, StateError) as error:
            told = f"{step}: {error!r}"
            assert fault.spared(mmapstate.plain, state) == model, told
            fault.errors += 1
        else:
            step(model)
    fault.lift()
    assert mmapstate.plain(state) == model
    moved(state)
    moved(model)
    assert mmapstate.plain(state) == model
    state.close()
    return dict(model)


def check(path, model):
    """Look at what is there afterwards, as another process would."""
    probe.close_all()
    with open(path, "rb") as file:
        data = file.read()
    independent_reader.check(data)
    assert independent_reader.read_state(data) == model
    for _ in range(2):
        with mmapstate.open(path) as state:
            assert state.copy() == model
    leftovers = [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")]
    assert leftovers == []


def faults(names, dice, count):
    """Return so many of the faults of a life that makes these calls; all of them if they are no more."""
    every = [
        (at, kind, lasting)
        for at, name in enumerate(names, 1)
        for kind in range(len(FAILURES[name]))
        for lasting in (False, True)
    ]
    return every if len(every) <= count else dice.sample(every, count)


def descriptors():
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


@pytest.fixture
def same_calls(monkeypatch):
    """Have a life make the same calls at whatever speed: it looks at the path each time, and waits for nobody."""
    probe.check_always(monkeypatch.setattr)
    monkeypatch.setattr(probe.PATIENCE, 0.05)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (1, 1))


def crash(path):
    """Leave a journal behind, and junk of a killed writer in its slack."""
    state = mmapstate.open(path, {"n": 0})
    state.n = 5
    probe.header(state).dirty = True
    probe.store(state, probe.tail(state) + 1, b"-- [junk of a writer] #0000\n ")
    probe.abandon(state)


def kill_vacuum(path):
    """Leave a vacuum half-way: an image beside the file, announced, and not yet swapped in."""
    state = mmapstate.open(path, {"n": 0})
    state.n = 5
    folder = os.path.dirname(path)

    def stop(name, arguments, do):
        if name == "replace":
            shutil.copyfile(arguments[0], os.path.join(folder, "kept"))
            shutil.copyfile(path + "-lock", os.path.join(folder, "page"))
            kept.append(arguments[0])
        return do(*arguments)

    kept = []
    with open(path, "rb") as file:
        before = file.read()
    inode = os.open(path, os.O_RDONLY)  # keeps its number taken, so that the file written back is another one
    with between(stop):
        state.vacuum()
    probe.abandon(state)
    os.close(inode)
    write(path, before)
    os.replace(os.path.join(folder, "kept"), kept[0])
    os.replace(os.path.join(folder, "page"), path + "-lock")


# What stands at the path when the life begins, and the marks of the test with it.
FAILING, RECOVERY = pytest.mark.family("failing-calls"), pytest.mark.family("recovery")
STARTS = {
    "nothing": (lambda path: None, FAILING),
    "text": (lambda path: write(path, b"# mine\nn: 0 # a number\n"), FAILING),
    "a crash": (crash, RECOVERY),
    "a killed vacuum": (kill_vacuum, RECOVERY, not_on_windows("a lock file cannot be copied there while it is locked")),
}


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("start", [pytest.param(start, marks=marks) for start, (_, *marks) in STARTS.items()])
def test_a_call_that_fails_is_an_error_before_the_change_and_nothing_is_lost(
    tmp_path, start, durability, same_calls, monkeypatch, cases
):
    dice = random.Random(SEED)
    monkeypatch.setattr(probe.GROWING_REGION, 0)  # a region that is full is replaced by a vacuum

    def run(name, fault):
        folder = tmp_path / name
        folder.mkdir()
        path = str(folder / "example.state")
        STARTS[start][0](path)
        before = descriptors()
        with between(fault.handle):
            model = live(path, durability, fault)
        probe.close_all()
        assert descriptors() == before
        check(path, model)
        shutil.rmtree(folder)

    counted = Fault()
    run("counted", counted)
    chosen = faults(
        counted.names, dice, max(80, scaled(500)) if sys.platform != "win32" else scaled(100)
    )  # Wine is slow
    hits = 0
    for number, (at, kind, lasting) in enumerate(chosen):
        fault = Fault(at, kind, lasting)
        try:
            run(str(number), fault)
        except BaseException:
            print(f"at call {at} of {len(counted.names)}, {fault.told}, seed {SEED}")
            raise
        hits += fault.hits > 0
        if fault.name == "fdatasync":
            assert fault.errors, f"{fault.told} at call {at}, and nobody is told, seed {SEED}"
    cases(len(chosen))
    print(f"{len(chosen)} failing calls, of {len(counted.names)} in a life")
    assert hits > 0.7 * len(chosen)  # a life can be some calls shorter: when a file's mtime has not moved on
