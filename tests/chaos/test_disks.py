"""Disks that are full, real ones: tmpfs, and ext4 in an image; from ``tools/torture.py disks`` xfs and btrfs, too.

A change that finds no room is an OSError before it is made in memory; the state stays usable, and when there is room
again it goes on. No process ends by SIGBUS, and the file is whole all the time. Each case runs in a process of its
own, on a disk that holds what it did before, filled with real data.

It takes root to mount a disk. What is mounted is unmounted at the end, and the loop device goes with it.
"""

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
from functools import partial

import pytest
from support import probe
from support.independent_reader import check, read_state
from support.independent_reader import read_file as on_disk
from support.processes import Child, needs_fork

import mmapstate
from mmapstate import PersistedState

pytestmark = [
    pytest.mark.family("disks"),
    needs_fork,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts a disk, and here it is how Linux does"
    ),
]

MEGABYTE = 1 << 20

# Name: size of the image in bytes (0: no image), command that makes the filesystem, options of mount.
DISKS = {
    "tmpfs": (0, [], "size=16m,nr_inodes=200"),
    "ext4": (24 * MEGABYTE, ["mkfs.ext4", "-q", "-F", "-m", "0", "-N", "200"], "loop"),
    "xfs": (320 * MEGABYTE, ["mkfs.xfs", "-q"], "loop"),
    "btrfs": (128 * MEGABYTE, ["mkfs.btrfs", "-q"], "loop"),
}
COUNT = int(os.environ.get("MMAPSTATE_TEST_DISKS", "0"))  # rounds of each case; with a number, all kinds of disks
TOO_MUCH = errno.ENOSPC


class Disk:
    """A mounted disk, and the file that fills it."""

    def __init__(self, kind, folder):
        self.kind = kind
        self.folder = str(folder)
        self.path = os.path.join(self.folder, "example.state")
        self.filler = os.path.join(self.folder, "filler")

    def fill(self, *, leave=0):
        """Leave so many bytes of room, about."""
        os.sync()
        with open(self.filler, "wb", buffering=0) as file:
            for size in (MEGABYTE, 65536, 4096, 512, 16):
                data = random.randbytes(size)
                with contextlib.suppress(OSError):
                    while True:
                        file.write(data)
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())
        if leave:
            os.truncate(self.filler, os.path.getsize(self.filler) - leave)
        os.sync()

    def free(self):
        os.unlink(self.filler)
        os.sync()

    def use_up_inodes(self):
        """Have no room for one more file, though there is for bytes."""
        os.mkdir(self.filler)
        with contextlib.suppress(OSError):
            for number in range(100_000):
                os.close(os.open(os.path.join(self.filler, str(number)), os.O_CREAT | os.O_WRONLY))

    def clear(self):
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def content(self):
        """Return the state that the file holds, whose every checksum is right."""
        with open(self.path, "rb") as file:
            data = file.read()
        check(data)
        return read_state(data)


@pytest.fixture(scope="module", params=["tmpfs", "ext4", *(["xfs", "btrfs"] if COUNT else [])])
def mounted(request, tmp_path_factory):
    kind = request.param
    size, make, options = DISKS[kind]
    folder = tmp_path_factory.mktemp(kind)
    disk, image = folder / "disk", folder / "image"
    disk.mkdir()
    source = kind
    if make:
        if shutil.which(make[0]) is None:
            pytest.skip(f"{make[0]} is not installed")
        image.touch()
        os.truncate(image, size)
        subprocess.run([*make, str(image)], check=True, capture_output=True)
        source = str(image)
    done = subprocess.run(
        ["mount", "-t", kind, "-o", options, source, str(disk)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(kind, disk)
    finally:
        probe.close_all()
        if subprocess.run(["umount", str(disk)], check=False).returncode:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
    with open("/proc/self/mountinfo") as file:
        assert str(disk) not in file.read()
    if make:
        assert subprocess.run(["losetup", "-j", source], capture_output=True, check=True).stdout == b""
        image.unlink()


@pytest.fixture
def disk(mounted):
    mounted.clear()
    yield mounted
    probe.close_all()
    leftovers = [name for name in os.listdir(mounted.folder) if name.endswith(".tmp")]
    assert not leftovers


@contextlib.contextmanager
def no_room():
    """What is done inside finds no room, and says so."""
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == TOO_MUCH


def is_refused(change):
    """Make a change, and return whether there was no room for it."""
    try:
        change()
    except OSError as error:
        if error.errno != TOO_MUCH:
            raise
        return True
    return False


def is_usable(disk, state):
    """Change a little where that needs no new room, and compare file and memory."""
    before = state.plain()
    assert disk.content() == before
    needs_room = probe.room(state) < 100 or disk.kind == "btrfs"  # which writes to new places only
    if not is_refused(lambda: state.increment("n")):
        before["n"] += 1
    elif not needs_room:
        raise AssertionError("a change was refused that needs no new room")
    assert state.plain() == before
    assert disk.content() == state.plain()


def goes_on(disk, state):
    """Change much now that there is room, and find it again."""
    state.text = "y" * 200_000
    state.vacuum()
    state.n += 1
    expected = state.plain()
    assert disk.content() == expected
    state.close()
    with PersistedState(disk.path) as again:
        assert again == expected


# --- The cases: each gets a disk with room, and leaves it with room ---------------------------------------------------


def a_value(disk, durability):
    state = mmapstate.open(disk.path, {"n": 0, "list": [1]}, durability=durability)
    disk.fill()
    before = state.plain()
    for _ in range(3):
        with no_room():
            state.text = "x" * 300_000
        assert state == before
        with no_room():
            state["list"].extend(["x" * 1000] * 100)
        assert state == before
        is_usable(disk, state)
        before = state.plain()
    disk.free()
    goes_on(disk, state)


def a_transaction(disk, durability):
    state = mmapstate.open(disk.path, {"n": 0, "list": [1]}, durability=durability)
    held = state["list"]
    disk.fill()
    for _ in range(3):
        before = state.plain()
        with no_room(), state.transaction():
            state.n += 1
            state["list"].append("x" * 300_000)
        assert state == before
        assert state["list"] is held
        is_usable(disk, state)
    disk.free()
    with state.transaction():
        state["list"].append("x" * 300_000)
    goes_on(disk, state)


def a_vacuum(disk, durability):
    state = mmapstate.open(disk.path, {"n": 0, "text": "x" * 100_000}, durability=durability)
    state.n += 1
    disk.fill()
    for _ in range(3):
        with no_room():
            state.vacuum()
        is_usable(disk, state)
    disk.free()
    goes_on(disk, state)


def a_vacuum_for_a_larger_region(disk, durability):
    state = mmapstate.open(disk.path, {"n": 0, "text": ""}, durability=durability)
    state.text = "x" * 300_000
    disk.fill()
    with no_room():
        for _ in range(100):
            state.text = state.text[::-1]
    is_usable(disk, state)
    disk.free()
    goes_on(disk, state)


def a_creation(disk, durability):
    PersistedState(disk.path, n=1).close()
    other = disk.path + ".other"
    disk.fill()
    with no_room():
        mmapstate.open(other, {"n": 0, "text": "x" * 300_000}, durability=durability)
    disk.free()
    with mmapstate.open(other, {"n": 0, "text": "x" * 300_000}, durability=durability) as state:
        assert state == {"n": 0, "text": "x" * 300_000}
    goes_on(disk, PersistedState(disk.path))


def a_close(disk, durability):
    state = mmapstate.open(disk.path, {"n": 0, "text": "x" * 100_000}, durability=durability)
    for _ in range(100):
        state.n += 1
    disk.fill()
    state.close()
    assert disk.content()["n"] == 100
    with mmapstate.open(disk.path, durability=durability) as state:  # there is room for that
        assert state.n == 100
        is_usable(disk, state)
    disk.free()
    goes_on(disk, PersistedState(disk.path))


def the_first_change_of_a_file_at_rest(disk, durability):
    PersistedState(disk.path, n=0, text="x" * 100_000).close()
    disk.fill()
    state = mmapstate.open(disk.path, durability=durability)
    before = state.plain()
    size = os.path.getsize(disk.path)
    for _ in range(3):
        with no_room():
            state.n += 1
        assert state == before == disk.content()
        assert os.path.getsize(disk.path) == size
    disk.free()
    goes_on(disk, state)


def room_for_a_part(disk, durability):
    """The system writes a part of what is appended, and refuses the rest: that is taken back."""
    for leave in (4096, 8192, 40_000, 200_000):
        state = mmapstate.open(disk.path, {"n": 0, "text": ""}, durability=durability)
        disk.fill(leave=leave)
        before, length = state.plain(), 1000
        with no_room():
            while True:
                state.text = "x" * length
                before = state.plain()
                length *= 2
        assert state == before
        is_usable(disk, state)
        disk.free()
        goes_on(disk, state)


def an_edit_by_hand(disk, durability):
    """What it supersedes has no room beside it: it is taken up when there is, and nothing is lost."""
    state = mmapstate.open(disk.path, {"n": 0, "text": "x" * 100_000}, durability=durability)
    state.n = 5
    with open(disk.path + ".new", "w") as file:
        file.write("n: 70\n")
    os.utime(disk.path + ".new", (1, 1))
    state.n = 6
    disk.fill()
    os.replace(disk.path + ".new", disk.path)
    probe.check_next(state)
    with no_room():
        state.n += 1
    disk.free()
    state.n += 1
    assert state == {"n": 71}
    kept = [name for name in os.listdir(disk.folder) if ".superseded-" in name]
    assert len(kept) == 1
    assert on_disk(os.path.join(disk.folder, kept[0]))["n"] == 6
    goes_on(disk, state)


def a_disk_that_fills_under_two_writers(disk, durability):
    """Both are told of each change that it is there, or that it is not."""

    def add(state, name, number):
        with state.transaction():
            state[name] = number
            state.texts.append("x" * 2000)

    def work(talk, name):
        state = mmapstate.open(disk.path, durability=durability, timeout=60)
        talk.send("ready")
        talk.receive()
        made, refused = 0, 0
        while refused < 5 and made < 100_000:
            if is_refused(partial(add, state, name, made + 1)):
                refused += 1
            else:
                made += 1
        assert refused
        return made

    state = mmapstate.open(disk.path, {"n": 0, "texts": [], "a": 0, "b": 0}, durability=durability)
    state.close()
    disk.fill(leave=500_000)
    with Child(work, "a") as first, Child(work, "b") as second:
        for child in (first, second):
            child.receive()
        for child in (first, second):
            child.send("go")
        made = (first.result(), second.result())
    held = disk.content()
    assert (held["a"], held["b"]) == made
    assert len(held["texts"]) == sum(made)
    disk.free()
    state = PersistedState(disk.path)
    assert state == held
    goes_on(disk, state)


def no_more_files(disk, durability):
    """Of inodes there is none: what is appended has room, a vacuum and a new state have not."""
    if disk.kind in ("xfs", "btrfs"):
        return  # they make inodes as they need them
    state = mmapstate.open(disk.path, {"n": 0}, durability=durability)
    disk.use_up_inodes()
    for _ in range(1000):
        state.n += 1
    with no_room():
        state.vacuum()
    with no_room():
        PersistedState(disk.path + ".other", n=1)
    is_usable(disk, state)
    state.close()
    shutil.rmtree(disk.filler)
    state = PersistedState(disk.path)
    assert state.n == 1001
    goes_on(disk, state)


CASES = (
    a_value,
    a_transaction,
    a_vacuum,
    a_vacuum_for_a_larger_region,
    a_creation,
    a_close,
    the_first_change_of_a_file_at_rest,
    room_for_a_part,
    an_edit_by_hand,
    a_disk_that_fills_under_two_writers,
    no_more_files,
)


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_refuses_and_the_state_goes_on(disk, case, durability):
    for _ in range(COUNT or 1):
        disk.clear()
        with Child(lambda talk: case(disk, durability)) as child:
            child.result(250)
