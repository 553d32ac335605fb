"""Bytes that are not what was written: a state that was, or a clear error. By the library's own parser, not `open`.

A change of the snapshot's bytes cannot be told from an edit by hand: where its crc is that of no marker, nothing is
claimed but that it is either read or refused.
"""

import random
import re
import time
from zlib import crc32

import pytest
from support import independent_reader
from support.runs import SEED, scaled

from mmapstate import StateFileError
from mmapstate.file import content
from mmapstate.file.format import Position, find_marker, marker, record, seed

GENERATION = 0xAA
SLACK = b"#" + b" " * 40
PAYLOADS = [
    b'["set", [], "n", 2]',
    b'[["set", [], "list", []], ["splice", ["list"], 0, 0, [1, "\xc3\xa9"]]]',
    b'["insert", ["list"], 1, {"x": .inf}]',
    b'["delete", [], "n"]',
]


def written(snapshot, payloads=PAYLOADS, slack=SLACK, line_end=b"\n"):
    """Return the bytes of a state file as it is after these commits."""
    data = snapshot + marker(GENERATION, Position(0xBB, 11), crc32(snapshot))
    crc = seed(GENERATION)
    for payload in payloads:
        text, crc = record(payload, crc)
        data += text
    return (data + slack).replace(b"\n", line_end)


FILES = {
    "at rest": b"n: 1\ntext: 'x'\n",
    "a journal": written(b"n: 1\n"),
    "an empty snapshot": written(b"", PAYLOADS[:2]),
    "comments": written(b"# mine\nn: 1  # yours\nb: |\n  x\n", PAYLOADS[:2]),
    "junk": written(b"n: 1\n", PAYLOADS[:1], b'#-- ["set", [], "n", 9] #0000' + b" " * 20),
    "an unborn journal": b"n: 1\n#" + written(b"n: 1\n", [])[6:],
    "CRLF": written(b"n: 1\r\n", PAYLOADS[:2], line_end=b"\n").replace(b"#", b"#"),
}
NASTY = [b"\n", b"\r", b"-", b"#", b"\x00", b" ", b'"', b":", b"\xff", b"0", b"[", b"\xc3"]


def read(data):
    """Return the parts of a file and the state in it, or None and None where it is refused."""
    try:
        parts = content.layout(data, "it")
        return parts, content.read(data, parts, "it").state
    except StateFileError:
        return None, None


def states_of(data):
    """Return all states that were in the file: as of its snapshot, and after each record."""
    parts, last = read(data)
    if parts.scan is None:
        return [last]
    return [
        content.read(data, parts._replace(scan=parts.scan._replace(payloads=parts.scan.payloads[:count])), "it").state
        for count in range(len(parts.scan.payloads) + 1)
    ]


def harmed(data):
    """Yield the file with each bit flipped, each byte lost, doubled or changed, each sector blank, and cut anywhere."""
    for place in range(len(data)):
        before, byte, behind = data[:place], data[place : place + 1], data[place + 1 :]
        yield before
        yield before + behind
        yield before + byte + byte + behind
        for bit in range(8):
            yield before + bytes((byte[0] ^ 1 << bit,)) + behind
        for other in NASTY:
            yield before + other + behind
            yield before + other + byte + behind
        for size in (8, 32, 128):
            if place % size == 0:
                blank = len(data[place : place + size])
                for filler in (b"\x00", b" ", b"\xff"):
                    yield before + filler * blank + data[place + blank :]


@pytest.mark.family("every-byte")
@pytest.mark.parametrize("name", FILES)
def test_no_harm_to_any_byte_makes_a_state_that_never_was(name, cases):
    data = FILES[name]
    states = states_of(data)
    count, stride = 0, max(1, 10 // scaled(10))
    for found in harmed(data):
        count += 1
        if count % stride:
            continue
        parts, state = read(found)
        if parts is not None and parts.intact and parts.marker is not None:
            assert state in states, found
    cases(count // stride)


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


def stored(data, start, text):
    return data[:start] + text + data[start + len(text) :]


@pytest.mark.family("dirty-tail")
def test_junk_of_killed_writers_is_no_record_and_the_file_is_yaml_after_each_store(cases):
    """One to three writers are killed in their stores; then shorter, equal and longer records are written over it."""
    dice = random.Random(SEED)
    rounds = scaled(2000)
    for _ in range(rounds):
        data = written(b"n: 1\n", [], b"#" + b" " * 500)
        tail, crc = data.rindex(b"\n") + 1, seed(GENERATION)
        state = {"n": 1}
        for killed in (*[True] * dice.randrange(1, 4), False, *dice.choices((True, False), k=2)):
            value = "y" * dice.choice((0, 1, 5, 40, 40, 100))
            text, next_crc = record(b'["set", [], "n", "%b"]' % value.encode(), crc)
            text = text[1:] + b"#"
            if killed:  # with any part of the text stored: stores are not in order
                for _ in range(dice.randrange(3)):
                    start = dice.randrange(len(text))
                    data = stored(data, tail + 1 + start, text[start : start + dice.randrange(1, len(text))])
                    assert independent_reader.read_state(data, quick=True) == state, data
                # The next one that has the lock finds the page unsettled, and blanks what is behind the tail.
                junk = data[tail + 1 :]
                assert read(data)[1] == state
                data = data[: tail + 1] + b" " * len(junk)
            else:
                data = stored(data, tail + 1, text)
                assert independent_reader.read_state(data, quick=True) == state, data
                data = stored(data, tail, b"-")
                state = {"n": value}
                tail, crc = tail + len(text), next_crc
            parts, found = read(data)
            assert found == state
            assert independent_reader.read_state(data, quick=True) == state, data
            assert parts.scan.tail == tail
    cases(rounds)
