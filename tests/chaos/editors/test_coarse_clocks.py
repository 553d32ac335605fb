"""An edit in place, of the same size, that no time tells of: it is noticed by all, soon, and never lost.

On filesystems whose times are those of a whole second or two (ext4 with small inodes, vfat), within that time; and
anywhere, by a program that puts the time back, as some editors and `touch -r` do.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest
from support.others import SOON, Other, on_disk
from support.processes import needs_fork, not_on_windows

import mmapstate

pytestmark = [
    pytest.mark.family("editors"),
    needs_fork,
    not_on_windows("a mapped file cannot be written to there"),
]

# Name: size of the image, what makes the filesystem.
DISKS = {
    "ext4": (16 << 20, ["mkfs.ext4", "-q", "-F", "-I", "128"]),
    "vfat": (16 << 20, ["mkfs.vfat"]),
}
NOTICED = 3.0  # seconds within which all have noticed
BEFORE, AFTER = b"limit: 10\n", b"limit: 99\n"


@pytest.fixture(scope="module", params=["here", *DISKS])
def folder(request, tmp_path_factory):
    """A folder whose filesystem has the usual times, or coarse ones."""
    base = tmp_path_factory.mktemp(request.param)
    if request.param == "here":
        yield base
        return
    size, make = DISKS[request.param]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root mounts a disk, and here it is how Linux does")
    if shutil.which(make[0]) is None:
        pytest.skip(f"{make[0]} is not installed")
    disk, image = base / "disk", base / "image"
    disk.mkdir()
    image.touch()
    os.truncate(image, size)
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    command = ["mount", "-t", request.param, "-o", "loop", str(image), str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{request.param} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        if subprocess.run(["umount", str(disk)], check=False).returncode:
            subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def state_path(folder):
    path = os.path.join(folder, "example.state")
    yield path
    for name in os.listdir(folder):
        if name.startswith("example.state"):
            os.unlink(os.path.join(folder, name))


def edit(path, *, put_back):
    """Write another number in place."""
    before = os.stat(path)
    with open(path, "r+b", buffering=0) as file:
        at = file.read().index(BEFORE)
        file.seek(at)
        file.write(AFTER)
    if put_back:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def limit_of(other, how):
    told = other.ask(how)
    return told if isinstance(told, str) else told["limit"]


def soon(ask):
    """Return what `ask` says, asked until it is what was edited, or the time is over."""
    end = time.monotonic() + NOTICED
    while (told := ask()) != 99 and time.monotonic() < end:
        time.sleep(0.01)
    return told


@pytest.mark.parametrize("first", ["a reader", "the writer", "another writer", "a newcomer", "a view"])
@pytest.mark.parametrize("journal", [False, True], ids=["at-rest", "with-a-journal"])
@pytest.mark.parametrize("put_back", [False, True], ids=["", "put-back"])
def test_an_edit_of_the_same_size_that_no_time_tells_of_is_noticed_by_all(state_path, put_back, journal, first):
    path = state_path
    with Other(path) as writer, Other(path) as another, Other(path) as reader, Other(path) as view:
        with open(path, "wb") as file:
            file.write(BEFORE + b"n: 0\n")
        for number in range(20):
            for each in (another, writer):
                assert each.ask("write", "n", number) is None
            if not journal:
                assert writer.ask("vacuum") is None
            assert limit_of(reader, "read") == limit_of(view, "read_view") == 10
            if put_back or time.time() % 1 < 0.5:
                break  # what is written now has the time of what was written just now, where that is coarse
            time.sleep(0.1)
        edit(path, put_back=put_back)
        looks = {
            "a reader": lambda: limit_of(reader, "read"),
            "a view": lambda: limit_of(view, "read_view"),
            "the writer": lambda: (writer.ask("write", "n", 2), limit_of(writer, "read"))[1],
            "another writer": lambda: (another.ask("write", "m", 3), limit_of(another, "read"))[1],
            "a newcomer": lambda: newcomer(path),
        }
        order = [first, *(each for each in looks if each != first)]
        told = {who: soon(looks[who]) for who in order}
        assert told == dict.fromkeys(order, 99)
        assert on_disk(path)["limit"] == 99


def newcomer(path):
    with mmapstate.open(path, timeout=SOON) as state:
        return state["limit"]
