"""The header page: every field in the bytes that the table gives it, positions and generations as they are promised."""

import re
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.runs import scaled

from mmapstate.file import page
from mmapstate.file.format import PAGE_SIZE, Image, Position
from mmapstate.file.page import HeaderPage, sequence, successor

ALL = 2**64 - 1

FIELDS = {  # what the table calls it, and a value all of whose bits are set
    "dirty": 255,
    "release": 255,
    "sync failed": 255,
    "layout of the snapshot": 255,
    "waited for": 255,
    "moved on": 255,
    "the position the present image was made from": Position(ALL, ALL),
    "inode, size and mtime": Image(ALL, ALL, -1),
    "generation and inode of an image": Position(ALL, ALL),
    "offset of the journal's header": -1,
    "the position that the image at rest was made from": Position(ALL, ALL),
    "crc of the present image's snapshot": -1,
}
NAMES = ("dirty", "release", "sync_failed", "layout", "waited_for", "moved_on", "origin", "image", "pending", "start",
         "before", "snapshot_crc")  # fmt: skip


def blank():
    """Return a page that can be written to."""
    return HeaderPage(bytearray(PAGE_SIZE), None, 1)


def table():
    """Return offset and size of each line of the docstring's table, by how its text begins."""
    rows = re.findall(r"^(\d+) +(\d+) +(\S.*)$", page.__doc__, re.MULTILINE)
    return {text: (int(offset), int(size)) for offset, size, text in rows}


@pytest.mark.parametrize(("told", "name"), list(zip(FIELDS, NAMES, strict=True)))
def test_each_field_is_in_the_bytes_that_the_table_gives_it(told, name):
    ((offset, size),) = (place for text, place in table().items() if text.startswith(told))
    written = blank()
    setattr(written, name, FIELDS[told])
    assert {at for at, byte in enumerate(written.bytes) if byte} == set(range(offset, offset + size))
    assert getattr(written, name) == FIELDS[told]


def test_the_fields_of_the_table_do_not_overlap():
    places = table().values()
    assert sum(size for _, size in places) == len(set().union(*(range(at, at + size) for at, size in places)))
    assert max(at + size for at, size in places) <= PAGE_SIZE


@given(generation=st.integers(0, ALL), tail=st.integers(0, 2**48 - 1))
@settings(deadline=None, max_examples=scaled(50))
def test_what_is_announced_is_a_generation_and_the_sequence_word_of_both(generation, tail):
    position = Position(generation, tail)
    written = blank()
    written.announce(position, None, Image(1, 2, 3), -1, None, 0)
    assert written.position == position
    word = sequence(position)
    assert written.bytes[16:32] == generation.to_bytes(8, sys.byteorder) + word.to_bytes(8, sys.byteorder)
    assert word == sequence(Position(generation, 0)) + tail


@given(
    generation=st.integers(0, ALL),
    bits=st.lists(st.integers(0, 2**48 - 1) | st.just(0), min_size=1, max_size=50),
    tail=st.integers(0, 2**48 - 1),
)
@settings(deadline=None, max_examples=scaled(50))
@example(generation=ALL, bits=[0, 0], tail=5)
@example(generation=2**16 - 1, bits=[0, 0], tail=5)
def test_generations_in_a_row_have_sequence_words_of_their_own_at_one_tail(generation, bits, tail):
    generations = [generation]
    for some in bits:
        generations.append(successor(generations[-1], some))
        assert 0 < generations[-1] < 2**64
    assert len({sequence(Position(each, tail)) for each in generations}) == len(generations)


def test_successors_are_told_apart_by_all_their_bits():
    assert len({successor(7, 1 << bit) for bit in range(48)} | {successor(7, 0)}) == 49


def test_the_last_positions_that_were_superseded_are_kept_the_newest_first_and_once():
    written = blank()
    positions = [Position(number, 5) for number in range(1, 20)]
    for position in (*positions, positions[-1], Position(0, 0)):
        written.supersede(position)
    assert written.superseded == positions[:-17:-1]


def test_an_absent_page_is_dirty_and_can_be_closed():
    absent = HeaderPage.absent()
    assert absent.dirty
    assert absent.inode < 0
    absent.close()
