"""Whatever the bytes are, a file is read or refused, and soon. By the library's own parser, not `open`."""

import random
import re
import time
from zlib import crc32

import pytest
from support import independent_reader
from support.runs import SEED, scaled
from support.state_bytes import FILES, NASTY, PAYLOADS, read, written

from mmapstate.file.format import find_marker, marker


def made_up(dice, pool):
    """Return the bytes of a file: pieces of state files; or a journal with checksums that are right, and guard junk."""
    if dice.random() < 0.7:
        return mutated(dice, pool, dice.randrange(1, 6))
    payloads = [mutated(dice, PAYLOADS, dice.randrange(3)).replace(b"\n", b" ") for _ in range(dice.randrange(1, 5))]
    return written(mutated(dice, SNAPSHOTS, dice.randrange(2)).rstrip(b"\n") + b"\n", payloads)


def mutated(dice, pool, times):
    """Return one of the pool, cut, doubled, swapped and salted so many times."""
    data = bytearray(dice.choice(pool))
    for _ in range(times):
        kind = dice.randrange(6)
        start = dice.randrange(len(data) + 1)
        stop = min(len(data), start + dice.choice((1, 2, 8, 40, 200)))
        if kind == 0:
            del data[start:stop]
        elif kind == 1:
            data[start:start] = data[start:stop]
        elif kind == 2:
            data[start:stop] = dice.choice(NASTY) * dice.choice((1, 1, 3, 60))
        elif kind == 3:
            data[start:start] = dice.choice(WORDS)
        elif kind == 4:
            other = dice.choice(pool)
            place = dice.randrange(len(other) + 1)
            data[start:stop] = other[place : place + dice.choice((4, 30, 300))]
        else:
            data[start:stop] = dice.randbytes(stop - start)
    return bytes(data)


SNAPSHOTS = [b"n: 1\n", b"", b"n: 1\nlist: [1, {x: 2}]\nb: {c: {d: []}}\n", b"list: text\n"]
WORDS = [
    marker(1, None, 0),
    b"--- # mmapstate journal 2 x\n",
    b"--- ",
    b"...\n",
    b"\n---\n",
    b"--- [1] #00000000\n",
    b"#-- # mmap",
    b"&a ",
    b"*a",
    b"!!python/object ",
    b"<<: ",
    b"? ",
    b"- " * 120,
    b"[" * 120,
    b"{a: " * 110,
    b"\xef\xbb\xbf",
    b"%YAML 9.9\n",
    b"!!binary ====\n",
    b"2026-99-99",
    b"0x" + b"F" * 5000,
    b"1" * 5000,
    b"'" + b"k" * 1100 + b"': 1\n",
    b"### LAST VALID STATE ###\n",
    b'\n---\n["set", [], "a", 1]\n',
]


def survives(data):
    """Check one file of arbitrary bytes: read or refused, soon, and as the independent reader reads it."""
    began = time.process_time()
    parts, state = read(data)
    assert time.process_time() - began < 5, "took long"
    if parts is None:
        return False
    assert isinstance(state, dict)
    own = find_marker(data)
    if own is not None and parts.intact and parts.scan.clean and SURE.fullmatch(data) and crc32(data) % 8 == 0:
        assert independent_reader.read_state(data) == state
    return True


# Where both readers agree on what YAML 1.1 takes for a boolean, a number of base 60, or an octal.
SURE = re.compile(rb"(?!.*(?:\b(?:yes|no|on|off)\b|\d:\d|\b0\d|\x00))[\x00-\x7f]*", re.I | re.S)


@pytest.mark.family("fuzz")
def test_whatever_the_bytes_are_a_file_is_read_or_refused_and_soon(cases):
    dice = random.Random(SEED)
    pool = [*FILES.values()]
    read_ones = 0
    for number in range(scaled(50_000)):
        data = made_up(dice, pool)
        try:
            read_ones += survives(data)
        except BaseException:
            print(f"case {number}: {data!r}")
            raise
        if len(pool) < 300 and dice.random() < 0.02:
            pool.append(data[:2000])  # goes on from what came out
    cases(scaled(50_000))
    assert read_ones > scaled(2000)
