"""No harm to any byte makes a state that never was: one that was, or a clear error.

A change of the snapshot's bytes cannot be told from an edit by hand: where its crc is that of no marker, nothing is
claimed but that it is either read or refused.
"""

import pytest
from support.runs import scaled
from support.state_bytes import FILES, NASTY, read

from mmapstate.file import content


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
