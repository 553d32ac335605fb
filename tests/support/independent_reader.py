"""A second reader of the state file, written from its specification alone: it imports nothing from the package.

It reads the file as any program could, with plain ``yaml.safe_load_all``, and applies the documents behind the first
one as changes. Who doubts the library can check a file with it:
``python tests/support/independent_reader.py example.state``.
"""

import json
import re
import sys
import time
import zlib

import yaml

_RECORD = re.compile(rb"--- (.*) #([0-9a-f]{8})\r?\n")
_MARKER = re.compile(rb"^--- # mmapstate journal 1 ([0-9a-f]{16}) from (?:[0-9a-f]{16}:\d+|-) ([0-9a-f]{8}) .*\n", re.M)


def as_written(data):
    """Return the bytes of a copy, or of a file that lost pages, as they were before: for `read_state`.

    A copy that was made while a program wrote may hold a line of the journal still as comment, and the next one behind
    it whole. It counts: the checksum of the next continues its own. Zeros behind the journal were spaces.
    """
    data = re.sub(rb"\0+\Z", lambda zeros: b" " * len(zeros[0]), data)
    whole = re.sub(rb"^#(-- # mmapstate journal .*\n)(?=[#-]-- )", rb"-\1", data, flags=re.M)
    marker = _MARKER.search(whole)
    if marker is None:
        return data
    crc, end, comments = zlib.crc32(marker[1]), marker.end(), []
    while line := re.compile(rb"([#-])-- (.*) #([0-9a-f]{8})\r?\n").match(whole, end):
        crc = zlib.crc32(line[2], crc)
        if int(line[3], 16) != crc:
            break
        comments.append(end)
        if line[1] == b"-":
            for start in comments:
                whole = whole[:start] + b"-" + whole[start + 1 :]
            comments = []
        end = line.end()
    return whole


def read_state(data, *, quick=False):
    """Return the state that the bytes of a state file hold; if `quick`, by libyaml, which reads alike."""
    loader = _loader(data, quick)
    marker = _MARKER.search(data)
    text, journal = (data[: marker.start()], data[marker.start() :]) if marker else (data, b"")
    if marker and marker[0].rstrip().endswith(b"; the last line above had no end"):
        text = text[:-1]
    state = _snapshot(text, loader)
    for document in yaml.load_all(journal, Loader=loader):
        if document is not None:  # the marker, and nothing else, is an empty document
            for change in document if isinstance(document[0], list) else [document]:
                _apply(state, *change)
    return state


def _snapshot(text, loader):
    if text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        try:
            return json.loads(text)
        except ValueError:
            pass  # YAML in flow style
    documents = [document for document in yaml.load_all(text, Loader=loader) if document is not None]
    assert len(documents) <= 1
    return documents[0] if documents else {}


def read_file(path):
    """Return the state that the file at `path` holds. On Windows it cannot be opened in the moment of a vacuum."""
    for patience in reversed(range(100)):
        try:
            with open(path, "rb") as file:
                return read_state(file.read())
        except PermissionError:
            if sys.platform != "win32" or not patience:
                raise
            time.sleep(0.01)
    raise AssertionError("not reached")


def check(data):
    """Raise AssertionError if a checksum of the file is wrong."""
    marker = _MARKER.search(data)
    if marker is None:
        return
    assert int(marker[2], 16) == zlib.crc32(data[: marker.start()]), "the snapshot is not what the marker says"
    crc = zlib.crc32(marker[1])
    end = marker.end()
    while record := _RECORD.match(data, end):
        crc = zlib.crc32(record[1], crc)
        assert int(record[2], 16) == crc, f"the record at {end} does not continue the chain"
        end = record.end()
    assert data[end : end + 1] == b"#", f"no slack at {end}"
    assert b"\n-" not in data[end:], "something that is no comment behind the last record"


def _loader(data, quick):
    """Return that of ``yaml.safe_load_all``; for a large file libyaml's, which reads alike, and much faster."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader) if quick or len(data) > 10_000 else yaml.SafeLoader


def _apply(state, verb, path, *arguments):
    container = state
    for key in path:
        container = container[key]
    if verb == "set":
        container[arguments[0]] = arguments[1]
    elif verb == "delete":
        del container[arguments[0]]
    elif verb == "insert":
        container.insert(arguments[0], arguments[1])
    elif verb == "splice":
        container[arguments[0] : arguments[1]] = arguments[2]
    else:
        raise AssertionError(f"no such change: {verb}")


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        content = file.read()
    check(content)
    sys.stdout.write(yaml.safe_dump(read_state(content), allow_unicode=True, sort_keys=False))
