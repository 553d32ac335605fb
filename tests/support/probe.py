"""The only door of the tests to private names: when one of them changes, nothing but this file has to.

Private is what begins with an underscore, and what stands behind a state: backend, lock, journal, header page. Tests
ask here, in words that outlive the names. They patch the library here, too: a place is the full name of something, for
``monkeypatch.setattr(probe.GROWING_REGION, 0)``. Public names of a module need no door in the tests of that module, nor
does `mmapstate.file.system`, which is the library's own door to the system.

Beside this file `seam` (every call and store) and `seeded_bugs` (broken variants of functions) hold private names, and
no other: `test_door` looks.
"""

import importlib
import os
from time import monotonic

from mmapstate.file import backend as backends
from mmapstate.file import cursor as cursors
from mmapstate.file import filelock, page, recovery, validation, windows
from mmapstate.file import mapped as mapped_files
from mmapstate.live import forks, registry
from mmapstate.live import state as states
from mmapstate.live import tree as trees
from mmapstate.live.backend import SET, Closed

# --- Nodes ------------------------------------------------------------------------------------------------------------


def items(node):
    """The dict or list in which a node keeps what it holds."""
    return node._items


def hint(node):
    """Where a node believes to stand in its parent: a key, or an index that may be out of date."""
    return node._key


def parent(node):
    return node._parent


def path(node):
    """Keys and indices from the root to a node."""
    return node._path()


def is_closed(state):
    """Whether this handle is."""
    return state._tree.backend.__class__ is Closed


NAMES_OF_A_NODE = ("_items", "_tree")  # attributes, of slots
NAMES_OF_A_STATE = (*NAMES_OF_A_NODE, "_options", "_place")


def sure_names(kind):
    """The keys that a class of states has learned to find as attributes without a look at the class."""
    return getattr(kind, "_sure_names", ())


# --- What stands behind a state ---------------------------------------------------------------------------------------


def backend(state):
    """To be compared, and handed to the library; what is in it is for this file alone."""
    return state._tree.backend


def tree(state):
    """The live tree, to be handed to the library."""
    return state._tree


def cursor(state):
    """The `Cursor`."""
    return state._tree.cursor


def replica(state):
    return state._tree.backend.replica


def root(state):
    return state._tree.root


def durability(state):
    """What this handle was opened with."""
    return state._options.durability


def syncs(state):
    """Whether each commit of the process is synced."""
    return state._tree.backend.compaction.power


def file_path(state):
    return state._place.name


def forked(state):
    """Whether the state is a forked child's that has not touched it yet."""
    return state._tree.backend.child.asleep


def journal(state):
    return replica(state).journal


def tail(state):
    """The offset at which the next record begins."""
    return replica(state).journal.tail


def room(state):
    """How many bytes of records the journal has preallocated space for."""
    return replica(state).journal.room()


def mapped(state):
    """The `MappedFile` that the process reads and writes."""
    its = state._tree.backend
    return its.replica.file if hasattr(its, "replica") else its.file


def stores_by_writing(state):
    """Whether what is stored goes to the file by calls, not through a map."""
    return replica(state).file.bytes.__class__ is mapped_files._Written


def store(state, offset, data):
    """Store bytes in the mapped file, as a writer does, or one that is killed in the middle."""
    replica(state).file.bytes[offset : offset + len(data)] = data


def header(state):
    """The header page of the lock file, as an object."""
    return replica(state).page


def header_bytes(state):
    """The header page as it is mapped, for the offsets in `mmapstate.file.page`."""
    return replica(state).cursor.header


ANNOUNCED = page._ANNOUNCED  # the bytes of the header page that announce a position


def announce(state, position):
    """Have the header page announce a position, and nothing that belongs to it."""
    header_bytes(state)[ANNOUNCED] = page._POSITION.pack(*position)


def rewrite(state, edit):
    """Have the file become the text that ``edit(snapshot, state)`` makes, as `mmapstate edit` does."""
    return states.rewrite_document(state, edit)


def accept_all(state):
    """Have it refuse no value, as a program that does not know that the file is JSON."""
    state._tree.backend.check = lambda _: None
    replica(state).is_json = False


def lose_sight(state, seconds):
    """Have the file be missing for so long already."""
    replica(state).missing_since = monotonic() - seconds


# --- Its locks --------------------------------------------------------------------------------------------------------


def lock(state):
    """The `FileLock`."""
    return state._tree.backend.locks.lock


def guard(state):
    """The lock of threads under which memory changes."""
    its = state._tree.backend
    return its.locks.guard if hasattr(its, "locks") else its.guard


def is_free(state):
    """Whether no thread of this process has any lock, or is inside of a write."""
    its = lock(state)
    return not (its.owned() or its.held or its.whole or its.busy)


def is_whole(state):
    """Whether a statement inside would join the lock that is held, instead of taking it."""
    return lock(state).whole


def holders(state):
    """How many ``with`` blocks hold the lock, or a transaction."""
    return len(state._tree.backend.locks.holders)


def is_nothing_left(state):
    """Whether nothing is held, pending, or watched for a ``with`` block that has not ended."""
    tree = state._tree
    return is_free(state) and not tree.backend.locks.guarded() and tree.undo is None and not trees.entered


def forget_blocks():
    """In a child: know nothing of the blocks that the parent is in."""
    trees.entered.clear()


def hold(state):
    """Take both locks, for good."""
    state._tree.hold(0)


def leave_taken(state, what):
    """Take locks as two interrupts leave them, of which the second cut the release: "thread", "file", "guard"."""
    its = lock(state)
    if "thread" in what:
        its.thread.acquire()
        its.busy = True
    if "file" in what:
        filelock.file_lock(its.descriptor, filelock.EXCLUSIVE)
        its.held = True
    if "guard" in what:
        guard(state).acquire()
        check_next(state)


def just_before_the_lock(state, call):
    """Have `call` be made when the next write asks whether its thread has the lock."""
    its = lock(state)

    def owned():
        its.owned = its.thread._is_owned
        call()
        return False

    its.owned = owned


# --- Reading, writing, transactions -----------------------------------------------------------------------------------


def check_next(state):
    """Have the next access check file and path, as if 50 ms had passed."""
    its = state._tree.backend
    if hasattr(its, "checked"):  # one that only reads
        its.checked.forget()
    else:
        its.cursor.next_check = 0.0


def check_later(state):
    """Have no access check file and path for a while: what is seen is by the header page alone."""
    state._tree.backend.cursor.next_check = monotonic() + 1000


def check_always(set=setattr):
    """Have each access check file and path; `set` may be that of `monkeypatch`."""
    set(validation, "CHECK_INTERVAL", 0.0)
    set(recovery, "SETTLING", 0.0)


def refresh(backend):
    """Do what an access does first, with a backend whose state may be closed."""
    backend._refresh()


def close_again(state):
    state._tree.backend.close()


def consistently(state, read):
    """Return what `read` does, made of one moment of memory."""
    return state._tree.steady(read)


def begin_change(state):
    """Have memory be half-way in a change, as seen by all other threads."""
    state._tree.cursor.epoch |= 1


def end_change(state):
    state._tree.cursor.epoch += 1


def doubt(state):
    """Have memory not be trusted, as after an interrupt."""
    state._tree.cursor.distrust()


def hold_back_for_a_copy(state):
    """Have a thread be about to read many values of one moment."""
    state._tree.cursor.copying = True


def never_rebuild(state, set):
    """Have an error come of it when memory is made anew from the whole file."""
    its = state._tree.backend
    set(
        its.writer.recovery if hasattr(its, "writer") else its,
        "rebuild" if hasattr(its, "writer") else "_rebuild",
        None,
    )


def on_each_long_write(state, call):
    """Have `call` be made at each write that does not take the fast path."""
    its = state._tree.backend
    write = its.write

    def count(decide, *arguments):
        call()
        return write(decide, *arguments)

    its.write = count


def write(state, decide):
    """Write as the nodes do: with what `decide` says under the locks."""
    return state._tree.write(decide)


def set_item(state, key, value):
    """Set it in a state that may be closed a moment before."""
    state._tree.change(state, SET, key, value)


def end_transaction(state):
    """Commit the transaction that is open, whatever thread or process this is."""
    state._tree.end(state._tree.undo.holder, commit=True)


def steps_to_undo(state):
    return len(state._tree.undo._steps)


# --- All states of the process ----------------------------------------------------------------------------------------


def opened():
    """The paths that this process has open."""
    return list(registry._entries)


def is_over(backend):
    """Whether a backend was closed, with the last of its handles."""
    return backend.closed


def backend_at(path):
    return registry._entries[os.path.normcase(path)].tree.backend


def opening(path):
    """The lock under which the state at `path` is opened and closed."""
    return registry._entries[os.path.normcase(path)].lock


def close_all():
    """Close every backend of this process, as if all states had been closed."""
    for place in list(registry._entries.values()):
        if place.tree is not None:
            place.tree.backend.close()
        place.handles.clear()
    registry._entries.clear()


def forget_all():
    """Be, in a forked child, a stranger that opens a state by itself."""
    registry._entries.clear()


def rest_all():
    """Do what is done at the exit of the interpreter."""
    registry.rest_all()


def abandon(state):
    """End a state as a kill does: nothing is compacted, nothing is said."""
    its = state._tree.backend
    windows.unwatch(
        its.refresher
    )  # else its thread says all the time, on Windows, that it cannot look at what is closed
    its.replica.close()
    its.locks.lock.close()
    its.locks.close()
    registry._entries.clear()


def heirs():
    """How many objects are told of a fork."""
    return len(forks._heirs)


def watched():
    """What the thread that Windows needs looks at."""
    return windows._watch.watched


def watcher():
    return windows._watch.thread


def at_each_turn_of_the_watcher(state, call, set):
    """Have the thread that Windows needs `call` this when it is the turn of the state."""
    set(state._tree.backend.refresher, "release_if_asked", call)


def be_patient():
    """Wait longer than usual until others let go of a file: a busy machine takes its time, under Wine above all."""
    put(LONGEST_RELEASE, 20)


# --- Places to patch --------------------------------------------------------------------------------------------------

GROWING_REGION = "mmapstate.file.images.GROWING_REGION"  # bytes up to which a region that is full grows where it is
REGION_SIZE = "mmapstate.file.images.region_size"
NEW_GENERATION = NEW_GENERATION_AFTER_AN_EDIT = "mmapstate.file.images.new_generation"
LONGEST_RELEASE = "mmapstate.file.compaction.LONGEST_RELEASE"  # seconds that others have to release a file
ENDLESS_EDIT = "mmapstate.file.recovery.ENDLESS_EDIT"  # seconds after which a file that keeps changing is an error
PATIENCE = "mmapstate.file.recovery.PATIENCE"  # seconds that a file which does not fit together has
SLEEP = "mmapstate.file.writer.sleep"  # for those that wait for the lock
PAUSE = "mmapstate.file.writer._PAUSE"  # how long
FORK_TRIES = "mmapstate.file.forks._TRIES"
FORKS_UNDER_WAY = "mmapstate.file.forks._under_way"
SET_STARTS = "mmapstate.changes.SET_STARTS"  # beginnings of records that were made before
FAST_CRC = "mmapstate.file.cursor.crc32"  # between look and store
WRITE_ALL = "mmapstate.file.system.write_all"
ENCODE = "mmapstate.changes.encode"
DECODE_EACH = "mmapstate.changes.decode_each"
DECODE = "mmapstate.changes.decode"
INSERT_STARTS = "mmapstate.changes._INSERT_STARTS"
WARNED_OF = "mmapstate.file.place._warned_of"  # kinds of filesystems
KINDS_OF_FILESYSTEMS = "mmapstate.file.host._kinds"  # by device
KIND_OF_FILESYSTEM = "mmapstate.file.host._kind_of_filesystem"
MOUNTS = "mmapstate.file.host._mounts"
IMAGE = "mmapstate.file.system.as_image"  # what an `os.stat_result` says of a file
FILE_LOCK = "mmapstate.file.filelock.file_lock"
FILE_LOCK_OF_DOCTOR = "mmapstate.command.doctor.file_lock"
MMAP = "mmapstate.file.mapped.mmap"
MAP = "mmapstate.file.mapped.MappedFile.map"
UNMAP = "mmapstate.file.mapped.MappedFile.unmap"
CLOSE_HEADER = "mmapstate.file.page.HeaderPage.close"
RELEASE = "mmapstate.file.filelock.FileLock.release"
FITS = "mmapstate.live.tree.Tree._fits"  # asked between look and lock
APPEND = "mmapstate.file.writer.Writer.append"  # writes a record, and changes memory
ACCEPT_EDIT = "mmapstate.file.recovery.Recovery._accept_edit"
REFUSE_IN_USE = "mmapstate.care.repair._refuse_in_use"
READ_YAML = "mmapstate.text.reader.Reader"  # the class that all reading of YAML makes use of
DUMP_YAML = "mmapstate.text.writer.dump"
COMPOSE_YAML = "mmapstate.text.reader.compose"
LAYOUT = "mmapstate.file.content.layout"  # finds the parts of a file
PATCH_TEXT = "mmapstate.text.snapshot.patched"
PUT_IN = "mmapstate.StateList._put_in"
ADD_UNDO = "mmapstate.live.undo.UndoLog.add"
READING_CLOCK = "mmapstate.file.reading.time"
CHECK_INTERVAL = "mmapstate.file.validation.CHECK_INTERVAL"
CHECK_SHARE = "mmapstate.file.validation._SHARE"  # of the time, for checks of the snapshot
CHECK_CLOCK = "mmapstate.file.validation.monotonic"
READER_CRC = "mmapstate.file.readonly.crc32"


def get(place):
    """What stands at a place."""
    owner, _, name = place.rpartition(".")
    return getattr(_owner(owner), name)


def put(place, value):
    """Put something there, for good: in a child."""
    owner, _, name = place.rpartition(".")
    setattr(_owner(owner), name, value)


def _owner(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:  # a class
        return get(name)


# --- Code to interrupt ------------------------------------------------------------------------------------------------

TAKE_LOCK = filelock.FileLock.take.__code__
FAST_PATH = (  # functions, by class: a seeded bug puts another one in the place of some
    (backends.FileBackend, "change"), (cursors.Cursor, "append"), (filelock.FileLock, "take"),
    (filelock.FileLock, "free"),
)  # fmt: skip
MAKING_ROOM = ("_begin_journal", "_grow", "announce", "make_room_in_place")  # functions
READING_FILES = ("readonly.py", "reading.py", "journal.py", "merge.py")  # modules of a reader's look

# --- Functions that are tested alone ----------------------------------------------------------------------------------

KEYS = "_Keys"  # the class of the keys of a mapping, which messages of Python name

ALONE = {
    "ATTEMPTS": "mmapstate.command.doctor._ATTEMPTS",
    "CHANGE_LENGTHS": "mmapstate.changes._LENGTHS",
    "DEMO_LOOP": "mmapstate.command.demo._LOOP",
    "DemoProgress": "mmapstate.command.demo._Progress",
    "demo_loop": "mmapstate.command.demo._loop",
    "named": "mmapstate.command.reports._named",
    "origins": "mmapstate.live.merge._origins",
    "rate_text": "mmapstate.command.watched._rate_text",
    "set_items": "mmapstate.live.node._set_items",
    "short_text": "mmapstate.command.watched._text",
}


def __getattr__(name):
    """Import only what is asked for: where there is no fork, each child of a test imports this file anew."""
    if name not in ALONE:
        raise AttributeError(name)
    return get(ALONE[name])


def compare(workers, found):
    """What the demo objects to in a file, after workers that have acknowledged so much."""
    return get("mmapstate.command.demo._compare")(workers, found)


def accept(followed, file, data):
    """Have the command's `journal` take what it has read of a whole file."""
    followed.tree.backend._accept(file, data)


# Of the modules in `mmapstate.text`, which tests load a second time, without libyaml.
DUMP = "_dump"  # in writer
MOST_COPIES = "_MOST_COPIES"  # in lenient


def yaml_classes(modules):
    """The classes of PyYAML that read and write, in a copy of the modules."""
    return modules.reader._Loader, modules.writer._FlowDumper
