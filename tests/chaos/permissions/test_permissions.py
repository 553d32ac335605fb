"""Who may do what: modes, owners, folders, links, and what is no file at all. As another user too, where root runs it.

What the system does not allow is an error that names the state file and says what to do, or, for a vacuum, no error:
the journal grows where it is. What a vacuum writes has the mode and the owner that the file had.
"""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

import pytest
import yaml
from support import probe
from support.independent_reader import read_file as on_disk
from support.processes import Child, needs_fork, not_on_windows

import mmapstate
from mmapstate import PersistedState, StateError

pytestmark = [
    pytest.mark.family("permissions"),
    not_on_windows("there are no modes, owners and FIFOs, and links need a privilege: see test_windows"),
]

NOBODY = 65534
OTHER = 12345

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes somebody else, and gives files away"
)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def owner(path):
    found = os.stat(path)
    return found.st_uid, found.st_gid


def put(path, text="n: 1\n", **options):
    """Write a file, a while ago; `mode` and `owner` as given."""
    with open(path, "w") as file:
        file.write(text)
    if "owner" in options:
        os.chown(path, *options["owner"])
    if "mode" in options:
        os.chmod(path, options["mode"])
    os.utime(path, (1, 1))


def as_user(function, *arguments, user=NOBODY, groups=()):
    """Return what ``function(*arguments)`` returns in a process of another user."""

    def work(talk):
        os.setgroups(list(groups))
        os.setgid(user)
        os.setuid(user)
        return function(*arguments)

    with Child(work) as child:
        return child.result()


@pytest.fixture
def shared():
    """A folder to which everybody may go, and in which everybody may write."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        yield folder
        os.chmod(folder, 0o777)


@pytest.fixture
def shared_path(shared):
    return os.path.join(shared, "example.state")


def told(path, **options):
    """Open a state; return its content, or the error that comes of it."""
    try:
        with mmapstate.open(path, **options) as state:
            return state.plain()
    except OSError as error:
        return type(error).__name__, str(error), error.filename
    except StateError as error:
        return type(error).__name__, str(error), None


def write_much(path):
    """Write more than the first regions hold, compact it, close it; return what is read then, and who refused."""
    state = PersistedState(path)
    refused = False
    for number in range(40):
        state.n = number
        state.text = str(number) * 30_000
    try:
        state.vacuum()
    except StateError as error:
        refused = "the system refused to replace the file" in str(error)
    state.n = 40
    expected = state.plain()
    state.close()
    assert on_disk(path) == expected
    with PersistedState(path) as state:
        assert state == expected
    leftovers = [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")]
    assert leftovers == []
    return refused


class TestModes:
    MODES = (0o600, 0o640, 0o644, 0o660, 0o664, 0o666, 0o604, 0o755, 0o620)

    @pytest.mark.parametrize("given", MODES, ids=oct)
    def test_that_of_the_file_stays_and_its_lock_is_for_who_may_write(self, path, given):
        put(path, mode=given)
        with PersistedState(path) as state:
            state.n = 2
            state.vacuum()
            state.n = 3
            assert mode(path) == given
        assert mode(path) == given
        writers = given & 0o222
        assert mode(path + "-lock") == writers | writers << 1

    @pytest.mark.parametrize("mask", [0, 0o002, 0o022, 0o027, 0o077], ids=oct)
    def test_a_new_file_has_what_the_umask_leaves(self, path, mask):
        before = os.umask(mask)
        try:
            with PersistedState(path, n=1) as state:
                state.vacuum()
        finally:
            os.umask(before)
        assert mode(path) == 0o666 & ~mask
        writers = 0o222 & ~mask
        assert mode(path + "-lock") == writers | writers << 1  # of whom the file tells alone when it is there
        assert mmapstate.check(path) == []

    def test_the_lock_follows_when_that_of_the_file_changes(self, path):
        put(path, mode=0o600)
        for given, expected in ((0o600, 0o600), (0o664, 0o660), (0o666, 0o666), (0o644, 0o600)):
            os.chmod(path, given)
            PersistedState(path).close()
            assert mode(path + "-lock") == expected
            assert mmapstate.check(path) == []

    @needs_fork
    def test_a_lock_made_anew_while_the_file_is_open_has_it(self, path):
        put(path, mode=0o664)
        with PersistedState(path) as state:
            os.unlink(path + "-lock")
            probe.check_next(state)
            state.n = 2
            assert mode(path + "-lock") == 0o660

    def test_one_changed_while_the_file_is_open_stays(self, path):
        with PersistedState(path, n=1) as state:
            os.chmod(path, 0o640)
            state.vacuum()
            assert mode(path) == 0o640
            os.chmod(path, 0o604)
            state.n = 2
        assert mode(path) == 0o604

    def test_a_copy_kept_beside_has_it(self, path):
        put(path, mode=0o640)
        with PersistedState(path) as state:
            state.n = 2
            put(path + ".new", "n: 7\n", mode=0o640)
            os.replace(path + ".new", path)
            probe.check_next(state)
            assert state.n == 7
        (kept,) = [name for name in os.listdir(os.path.dirname(path)) if ".superseded-" in name]
        assert mode(f"{os.path.dirname(path)}/{kept}") == 0o640


@as_root
class TestOwners:
    @pytest.mark.parametrize("given", [0o600, 0o664])
    def test_root_leaves_a_file_to_whom_it_belongs(self, path, given):
        put(path, mode=given, owner=(OTHER, 54321))
        with PersistedState(path) as state:
            state.n = 2
            state.vacuum()
            state.n = 3
        assert (owner(path), mode(path)) == ((OTHER, 54321), given)
        assert owner(path + "-lock") == (OTHER, 54321)

    def test_a_file_that_root_creates_in_the_folder_of_another_is_roots(self, path, tmp_path):
        os.chown(tmp_path, OTHER, OTHER)
        with PersistedState(path, n=1):
            pass
        assert owner(path) == owner(path + "-lock") == (0, 0)

    def test_a_folder_with_setgid_gives_its_group_and_a_vacuum_keeps_it(self, shared, shared_path):
        os.chown(shared, 0, 54321)
        os.chmod(shared, 0o2777)
        with PersistedState(shared_path, n=1) as state:
            state.vacuum()
        assert owner(shared_path) == owner(shared_path + "-lock") == (0, 54321)
        os.chown(shared_path, 0, 1)  # another than the folder gives
        with PersistedState(shared_path) as state:
            state.vacuum()
            state.n = 3
        assert owner(shared_path) == (0, 1)

    def test_whoever_is_in_the_group_writes_the_file_of_another_whose_it_stays(self, shared, shared_path):
        put(shared_path, mode=0o664, owner=(0, 54321))
        assert as_user(write_much, shared_path, groups=[54321])
        assert (owner(shared_path), mode(shared_path)) == ((0, 54321), 0o664)
        assert mode(shared_path + "-lock") == 0o660

    def test_the_next_one_who_may_compacts_what_another_left_with_its_journal(self, shared, shared_path):
        put(shared_path, mode=0o666)
        assert as_user(write_much, shared_path)
        with PersistedState(shared_path) as state:
            assert state.n == 40
        with open(shared_path) as file:
            assert yaml.safe_load(file) == {"n": 40, "text": "39" * 30_000}
        assert owner(shared_path) == (0, 0)

    def test_a_lock_that_a_member_of_the_group_makes_is_for_the_group(self, shared, shared_path):
        """Also where the one there was has been deleted, before or while the state is open."""
        put(shared_path, mode=0o664, owner=(OTHER, 54321))
        for how in ("new", "anew"):
            assert as_user(delete_the_lock_and_write, shared_path, how, groups=[54321])
            assert (os.stat(shared_path + "-lock").st_uid, os.stat(shared_path + "-lock").st_gid) == (NOBODY, 54321)
            assert mode(shared_path + "-lock") == 0o660
            assert mmapstate.check(shared_path) == []
            assert as_user(write_and_read, shared_path, user=OTHER, groups=[54321])
            os.unlink(shared_path + "-lock")

    @pytest.mark.parametrize("mask", [0o002, 0o022])
    def test_a_state_that_a_member_creates_in_the_folder_of_a_group_is_for_whom_the_umask_says(
        self, shared, shared_path, mask
    ):
        def create(path):
            os.umask(mask)
            PersistedState(path, n=1).close()

        os.chown(shared, 0, 54321)
        os.chmod(shared, 0o2770)
        os.chmod(os.path.dirname(shared), 0o1777)
        as_user(create, shared_path, groups=[54321])
        assert mmapstate.check(shared_path) == []
        if mask == 0o002:
            assert as_user(write_and_read, shared_path, user=OTHER, groups=[54321]) == 2
        else:
            assert as_user(told, shared_path, user=OTHER, groups=[54321])[0] == "PermissionError"

    def test_a_lock_of_another_group_is_not_for_that(self, shared, shared_path):
        """Its maker is in no group of the file's: then those of his own may do what everybody may."""
        for given, user, expected in ((0o664, NOBODY, 0o600), (0o666, OTHER, 0o666)):
            put(shared_path, mode=given, owner=(NOBODY, 54321))
            as_user(delete_the_lock_and_write, shared_path, "new", user=user)
            assert owner(shared_path + "-lock") == (user, user)
            assert mode(shared_path + "-lock") == expected
            os.unlink(shared_path + "-lock")

    def test_root_puts_the_lock_right_when_the_file_was_given_away(self, shared, shared_path):
        PersistedState(shared_path, n=1).close()
        os.chown(shared_path, NOBODY, NOBODY)
        kind, text, _ = as_user(told, shared_path)
        assert kind == "PermissionError"
        assert f"it belongs to user 0 and group 0 with mode 600, and this process is user {NOBODY}" in text
        PersistedState(shared_path).close()
        assert owner(shared_path + "-lock") == (NOBODY, NOBODY)
        assert as_user(write_and_read, shared_path) == 2

    def test_a_child_that_becomes_another_user_is_told_why_it_may_not_write_and_what_to_do(self, shared, shared_path):
        """As the workers of gunicorn with --preload and --user."""

        def work(talk):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            for _ in range(2):
                with pytest.raises(PermissionError) as caught:
                    state.n = 2
            assert caught.value.filename == shared_path
            return str(caught.value)

        with PersistedState(shared_path, n=1) as state:
            with Child.share(work) as child:
                text = child.result()
            assert f"has become user {NOBODY} since user 0 opened the state" in text
            assert "gunicorn" in text
            assert "open the state afterwards, in each worker, or give the state file and its lock file to" in text
            assert "example.state-lock" in text
            for name in (shared_path, shared_path + "-lock"):
                os.chown(name, NOBODY, NOBODY)
            with Child.share(lambda talk: become_and_write(state)) as child:
                assert child.result() == 2
            assert state.n == 2

    def test_two_users_share_a_file_that_both_may_write(self, shared, shared_path):
        def count(path):
            with PersistedState(path) as state:
                for _ in range(100):
                    state.increment("n")

        put(shared_path, "n: 0\n", mode=0o666)
        as_user(count, shared_path)
        as_user(count, shared_path, user=OTHER)
        count(shared_path)
        assert on_disk(shared_path) == {"n": 300}

    def test_what_an_edit_supersedes_is_kept_for_its_owner_alone_where_that_is_another(self, shared, shared_path):
        def work(path):
            state = PersistedState(path)
            state.n = 2
            put(path + ".new", "n: 7\n", mode=0o666)
            os.replace(path + ".new", path)
            probe.check_next(state)
            return state.n

        put(shared_path, mode=0o666)
        assert as_user(work, shared_path) == 7
        (kept,) = [name for name in os.listdir(shared) if ".superseded-" in name]
        assert on_disk(os.path.join(shared, kept)) == {"n": 2}


@as_root
class TestReaders:
    @pytest.mark.parametrize("given", [0o644, 0o444, 0o664])
    @pytest.mark.parametrize("options", [{}, {"exclusive": True}, {"durability": "power"}], ids=str)
    def test_who_may_not_write_is_told_of_readonly_and_leaves_nothing(self, shared, shared_path, given, options):
        put(shared_path, mode=given)
        kind, text, name = as_user(lambda: told(shared_path, **options))
        assert kind == "PermissionError"
        assert "to read it alone, open it with readonly=True" in text
        assert name == shared_path
        assert os.listdir(shared) == ["example.state"]

    @pytest.mark.parametrize("given", [0o644, 0o444])
    def test_who_may_read_reads_with_readonly_and_follows(self, shared, shared_path, given):
        def follow(talk, path):
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with mmapstate.open(path, readonly=True) as state:
                while (wanted := talk.receive()) != "end":
                    state.wait_for(lambda: state.n == wanted, timeout=20)
                    talk.send(state.n)

        put(shared_path, mode=given)
        with Child(follow, shared_path) as child, PersistedState(shared_path) as state:
            for number in range(2, 6):
                state.n = number
                if number % 2:
                    state.vacuum()
                child.send(number)
                assert child.receive() == number
            child.send("end")
            child.result()
        assert sorted(os.listdir(shared)) == ["example.state", "example.state-lock"]

    @pytest.mark.parametrize("options", [{}, {"readonly": True}], ids=str)
    def test_who_may_not_even_read_is_refused(self, shared, shared_path, options):
        put(shared_path, mode=0o600)
        kind, _, name = as_user(lambda: told(shared_path, **options))
        assert (kind, name) == ("PermissionError", shared_path)
        assert os.listdir(shared) == ["example.state"]

    def test_who_may_not_write_may_not_hold_the_lock_either(self, shared, shared_path):
        def take(path):
            with contextlib.suppress(PermissionError):
                return os.open(path, os.O_RDONLY)

        put(shared_path, mode=0o644)
        PersistedState(shared_path).close()
        assert as_user(take, shared_path + "-lock") is None

    def test_a_readonly_attribute_is_one_for_whoever_is_not_root(self, shared, shared_path):
        put(shared_path, owner=(NOBODY, NOBODY))
        os.chmod(shared_path, stat.S_IREAD)
        kind, text, _ = as_user(told, shared_path)
        assert kind == "PermissionError"
        assert "readonly=True" in text
        assert as_user(lambda: told(shared_path, readonly=True)) == {"n": 1}

    def test_on_a_disk_mounted_readonly_it_is_told_of_readonly_too(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True, check=False)
        if mount.returncode:
            pytest.skip(f"nothing can be mounted here: {mount.stderr.decode().strip()}")
        try:
            path = str(disk / "example.state")
            put(path)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            kind, text, name = told(path)
            assert kind == "OSError"
            assert "to read it alone, open it with readonly=True" in text
            assert name == path
            assert told(path, readonly=True) == {"n": 1}
            assert told(str(disk / "new.state"))[2] == str(disk / "new.state")
        finally:
            subprocess.run(["umount", str(disk)], check=True)


@as_root
class TestFolders:
    def test_where_nothing_can_be_created_a_new_state_is_an_error_that_names_its_lock(self, shared):
        os.chmod(shared, 0o755)
        new = os.path.join(shared, "new.state")
        kind, text, name = as_user(told, new)
        assert kind == "PermissionError"
        assert "new.state-lock, which must be beside it" in text
        assert name == new
        assert os.listdir(shared) == []

    def test_where_a_file_but_no_lock_is_that_is_missed(self, shared, shared_path):
        put(shared_path, mode=0o666)
        os.chmod(shared, 0o755)
        kind, text, _ = as_user(told, shared_path)
        assert kind == "PermissionError"
        assert "example.state-lock, which must be beside it" in text
        assert os.listdir(shared) == ["example.state"]

    def test_where_both_are_it_is_written_and_never_compacted(self, shared, shared_path):
        put(shared_path, mode=0o666, owner=(NOBODY, NOBODY))
        as_user(told, shared_path)
        os.chmod(shared, 0o755)
        assert as_user(write_much, shared_path)

    def test_readonly_needs_no_right_to_write_the_folder_and_leaves_nothing_behind(self, shared, shared_path):
        put(shared_path, mode=0o444)
        os.chmod(shared, 0o555)
        assert as_user(lambda: told(shared_path, readonly=True)) == {"n": 1}
        assert os.listdir(shared) == ["example.state"]

    def test_in_a_sticky_folder_the_file_of_another_is_written_and_not_replaced(self, shared, shared_path):
        put(shared_path, mode=0o666)
        os.chmod(shared, 0o1777)
        inode = os.stat(shared_path).st_ino
        assert as_user(write_much, shared_path)
        assert os.stat(shared_path).st_ino == inode
        assert owner(shared_path) == (0, 0)

    def test_in_a_sticky_folder_the_own_file_is_replaced(self, shared, shared_path):
        put(shared_path, mode=0o666, owner=(NOBODY, NOBODY))
        os.chmod(shared, 0o1777)
        assert not as_user(write_much, shared_path)
        assert owner(shared_path) == (NOBODY, NOBODY)

    def test_a_folder_that_is_closed_meanwhile_ends_no_change(self, shared, shared_path):
        def work(talk, path):
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            state = PersistedState(path, n=0)
            talk.send("open")
            talk.receive()
            probe.check_next(state)
            for number in range(3):
                state.n = number
                state.text = "x" * 100_000 * number
            with pytest.raises(StateError, match="refused"):
                state.vacuum()
            state.n = 7
            return state.plain()

        with Child(work, shared_path) as child:
            child.receive()
            os.chmod(shared, 0o755)
            child.send("go on")
            expected = child.result()
        assert on_disk(shared_path) == expected

    def test_in_a_sticky_folder_what_a_killed_vacuum_of_another_left_is_no_hindrance(self, shared, shared_path):
        leftover = os.path.join(shared, ".example.state.0123456789abcdef.tmp")
        put(leftover, "half")
        put(shared_path, mode=0o666, owner=(NOBODY, NOBODY))
        os.chmod(shared, 0o1777)
        assert as_user(write_and_read, shared_path) == 2
        assert os.path.exists(leftover)

    def test_a_folder_that_cannot_be_listed_is_no_hindrance_to_writing(self, shared, shared_path):
        put(shared_path, mode=0o666, owner=(NOBODY, NOBODY))
        os.chmod(shared, 0o733)
        assert as_user(write_and_read, shared_path) == 2


def delete_the_lock_and_write(path, how):
    if how == "anew":
        with PersistedState(path) as state:
            os.unlink(path + "-lock")
            probe.check_next(state)
            state.n = 6
            assert os.path.exists(path + "-lock")
    else:
        PersistedState(path).close()
    return True


def become_and_write(state):
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    state.n = 2
    return state.n


def write_and_read(path):
    with PersistedState(path) as state:
        state.n += 1
    with PersistedState(path) as state:
        return state.n


class TestLinks:
    @pytest.mark.parametrize("relative", [False, True])
    @pytest.mark.parametrize("length", [1, 2, 5])
    def test_a_chain_of_them_is_followed_and_stays(self, tmp_path, relative, length):
        folders = [tmp_path / str(number) for number in range(length + 1)]
        for folder in folders:
            folder.mkdir()
        target = folders[0] / "example.state"
        put(target)
        link = target
        for folder in folders[1:]:
            new = folder / "link"
            new.symlink_to(os.path.relpath(link, folder) if relative else link)
            link = new
        with PersistedState(link) as state:
            state.n = 2
            state.vacuum()
            state.n = 3
            with PersistedState(target) as same:
                assert probe.backend(same) is probe.backend(state)
        assert link.is_symlink()
        assert on_disk(target) == {"n": 3}
        assert sorted(os.listdir(folders[0])) == ["example.state", "example.state-lock"]
        assert os.listdir(folders[-1]) == ["link"]

    def test_one_to_nothing_yet_creates_what_it_leads_to(self, path, tmp_path):
        link = tmp_path / "link"
        link.symlink_to("example.state")
        with PersistedState(link, n=1):
            pass
        assert link.is_symlink()
        assert on_disk(path) == {"n": 1}

    def test_one_that_is_turned_elsewhere_while_open_moves_nobody(self, path, tmp_path):
        put(path)
        put(tmp_path / "other.state", "n: 50\n")
        link = tmp_path / "link"
        link.symlink_to(path)
        with PersistedState(link) as state:
            link.unlink()
            link.symlink_to(tmp_path / "other.state")
            probe.check_next(state)
            state.n += 1
            with PersistedState(link) as other:
                assert (state.n, other.n) == (2, 50)

    def test_one_to_the_folder_is_followed(self, path, tmp_path):
        (tmp_path / "folder").symlink_to(".")
        with PersistedState(tmp_path / "folder" / "example.state", n=1) as state, PersistedState(path) as same:
            assert probe.backend(same) is probe.backend(state)

    def test_one_to_itself_is_an_error_of_the_system(self, tmp_path):
        (tmp_path / "link").symlink_to("link")
        with pytest.raises(OSError):
            PersistedState(tmp_path / "link")
        assert os.listdir(tmp_path) == ["link"]

    def test_a_hard_link_is_another_file_after_a_vacuum(self, path, tmp_path):
        put(path)
        other = tmp_path / "other"
        os.link(path, other)
        with PersistedState(path) as state:
            state.n = 2
        assert on_disk(path) == {"n": 2}
        assert not os.path.samefile(path, other)

    @needs_fork
    def test_two_programs_on_two_hard_links_do_not_both_open(self, path, tmp_path):
        put(path)
        other = str(tmp_path / "other.state")
        os.link(path, other)
        with PersistedState(path) as state:

            def open_other(talk):
                with pytest.raises(StateError, match="under another lock file"):
                    mmapstate.open(other, timeout=0.1)

            with Child.share(open_other) as child:
                child.result()
            state.n = 2
        assert on_disk(path) == {"n": 2}


def repaired(path):
    """Break a state, and have it repaired; return the error that comes of it."""
    put(path, "n: 1\nm: [\n")
    try:
        return mmapstate.repair(path)
    except StateError as error:
        return type(error).__name__, str(error), None


def read_page(path):
    put(path)
    PersistedState(path).close()
    with open(path + "-lock", "rb") as file:
        return file.read()


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        folder, name = os.path.split(path)
        before = os.getcwd()
        os.chdir(folder)  # its path may be 108 characters long
        try:
            listener.bind(name)
        finally:
            os.chdir(before)


def make_device(path):
    if os.geteuid() != 0:
        pytest.skip("only root makes a device")
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # /dev/null


def make_link_to_nothing(path):
    os.symlink(path + ".elsewhere", path)


def make_link_to_a_file(path):
    put(path + ".elsewhere", "precious\n")
    os.symlink(path + ".elsewhere", path)


class TestNoFiles:
    @pytest.mark.parametrize("make", [make_fifo, make_socket, make_device, os.mkdir])
    @pytest.mark.parametrize("options", [{}, {"readonly": True}], ids=str)
    def test_in_place_of_the_state_it_is_refused_at_once(self, tmp_path, make, options):
        path = str(tmp_path / "example.state")
        make(path)
        kind, text, _ = told(path, **options)
        assert kind in ("StateError", "OSError", "IsADirectoryError")
        assert path in text
        assert os.listdir(tmp_path) == ["example.state"]

    @pytest.mark.parametrize(
        "make", [make_fifo, make_socket, make_device, os.mkdir, make_link_to_nothing, make_link_to_a_file]
    )
    @pytest.mark.parametrize("present", [False, True], ids=["new state", "state"])
    def test_in_place_of_the_lock_it_is_refused_at_once_and_left_alone(self, tmp_path, make, present):
        path = str(tmp_path / "example.state")
        if present:
            put(path)
        make(path + "-lock")
        before = {name: os.lstat(tmp_path / name) for name in os.listdir(tmp_path)}
        kind, text, _ = told(path)
        assert kind in ("StateError", "OSError", "IsADirectoryError")
        assert "example.state-lock" in text
        after = {name: os.lstat(tmp_path / name) for name in os.listdir(tmp_path)}
        assert {name: found.st_mtime_ns for name, found in after.items()} == {
            name: found.st_mtime_ns for name, found in before.items()
        }
        if make is make_link_to_a_file:
            with open(path + "-lock.elsewhere") as file:
                assert file.read() == "precious\n"

    @pytest.mark.parametrize(
        "text", ["precious\n", "x", "x" * 4096, "\0" * 4097, "\0" * 200 + "x", "mmap", "mmapst", "MMAPST\0\2" * 600]
    )
    @pytest.mark.parametrize("present", [False, True], ids=["new state", "state"])
    def test_a_file_of_somebody_in_place_of_the_lock_is_refused_and_left_alone(self, broken_path, text, present):
        if present:
            put(broken_path)
        put(broken_path + "-lock", text, mode=0o644)
        if text in ("mmap", "mmapst"):  # that, and no more, a killed program can have left
            assert told(broken_path) == ({"n": 1} if present else {})
            return
        for use in (told, lambda path: told(path, exclusive=True), repaired):
            if use is repaired and not present:
                continue
            kind, error, _ = use(broken_path)
            assert kind == "StateError"
            assert f"{broken_path}-lock, is none of this library; move it away, or remove it" in error
            with open(broken_path + "-lock") as file:
                assert file.read() == text
            assert mode(broken_path + "-lock") == 0o644
        assert os.path.exists(broken_path) == present

    def test_what_a_program_that_was_killed_has_left_of_a_lock_is_used(self, path):
        whole = read_page(path)
        for size in (0, 1, 8, 100, 4096):
            for first in range(3):
                head = (b"", whole[:5].ljust(8, b"\0"), whole[5:8].rjust(8, b"\0"))[first]
                with open(path + "-lock", "wb") as file:
                    file.write(
                        head.ljust(8, b"\0")[:size]
                        + (b"\1" + bytes(95) + whole[104:120]).ljust(4088, b"\0")[: max(size - 8, 0)]
                    )
                assert told(path) == {"n": 1}

    def test_a_lock_with_another_name_is_refused_and_that_is_left_alone(self, path, tmp_path):
        put(path)
        put(tmp_path / "other", "")
        os.link(tmp_path / "other", path + "-lock")
        kind, text, _ = told(path)
        assert kind == "StateError"
        assert f"{path}-lock, has 2 names (hard links)" in text
        assert "remove this name" in text
        assert os.path.getsize(tmp_path / "other") == 0
        os.unlink(path + "-lock")
        assert told(path) == {"n": 1}

    @as_root
    @pytest.mark.parametrize("given", [0o600, 0o644, 0o660])
    def test_a_lock_of_a_stranger_is_refused(self, path, given):
        put(path, mode=given)
        put(path + "-lock", "", mode=0o666, owner=(OTHER, OTHER))
        kind, text, _ = told(path)
        assert kind == "StateError"
        assert f"belongs to user {OTHER}, who may not write the state" in text
        assert "remove it, or give it to the owner of the state" in text
        assert (owner(path + "-lock"), mode(path + "-lock")) == ((OTHER, OTHER), 0o666)
        os.unlink(path + "-lock")

    @as_root
    @pytest.mark.parametrize("folder", [0o755, 0o1777, 0o777])
    def test_a_lock_that_a_stranger_made_before_there_is_a_state_is_refused(self, shared, shared_path, folder):
        """Unless the folder lets him make the state, too, or put another in its place."""
        os.chmod(shared, folder)
        put(shared_path + "-lock", "", mode=0o666, owner=(OTHER, OTHER))
        found = told(shared_path)
        assert found == {} if folder == 0o777 else found[0] == "StateError"
        assert os.path.exists(shared_path) == (folder == 0o777)

    @as_root
    def test_a_lock_of_root_or_of_who_may_write_is_used(self, shared, shared_path):
        for given, of_lock in ((0o666, (0, 0)), (0o666, (OTHER, OTHER)), (0o664, (OTHER, 54321)), (0o664, (NOBODY, 0))):
            put(shared_path, mode=given, owner=(NOBODY, 54321))
            put(shared_path + "-lock", "", mode=0o666, owner=of_lock)
            assert as_user(told, shared_path, groups=[54321]) == {"n": 1}, (given, of_lock)
            os.unlink(shared_path + "-lock")

    @as_root
    def test_a_lock_of_another_that_is_private_is_an_error_that_names_it(self, shared, shared_path):
        put(shared_path, mode=0o666)
        put(shared_path + "-lock", "", mode=0o600)
        kind, text, name = as_user(told, shared_path)
        assert kind == "PermissionError"
        assert "example.state-lock" in text
        assert name == shared_path


@pytest.mark.skipif(shutil.which("chattr") is None or sys.platform != "linux", reason="there is no chattr here")
@as_root
def test_an_immutable_file_is_told_of_readonly(path):
    put(path)
    if subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode:
        pytest.skip("this filesystem has no immutable files")
    try:
        kind, text, name = told(path)
        assert (kind, name) == ("PermissionError", path)
        assert "readonly=True" in text
        assert told(path, readonly=True) == {"n": 1}
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
