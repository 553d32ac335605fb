"""Junk of killed writers behind the tail is no record, and the file is YAML after each store."""

import random

import pytest
from support import independent_reader
from support.runs import SEED, scaled
from support.state_bytes import GENERATION, read, written

from mmapstate.file.format import record, seed


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
