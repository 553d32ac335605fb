"""The bytes of the state file and of the control page. The names of the tests are the facts about the format."""

import time
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.independent_reader import check, read_state
from support.runs import scaled
from support.strategies import records

from mmapstate import changes
from mmapstate.errors import StateFileError, UnsupportedValueError
from mmapstate.file import content, format
from mmapstate.file.format import (
    MARKER_START,
    Position,
    find_marker,
    is_blank,
    marker,
    read_batch,
    record,
    scan,
    seed,
    unborn_start,
    unsynced,
)

GENERATION = 0xAA
SNAPSHOT = b"last_id: 1\n"


class File:
    """A state file, to be written, torn and damaged in a test."""

    def __init__(self, snapshot=SNAPSHOT, origin=None):
        self.data = bytearray(snapshot + marker(GENERATION, origin, crc32(snapshot)))
        self.start = len(snapshot)
        self.first = self.tail = len(self.data)
        self.crc = seed(GENERATION)
        self.payloads = []
        self.slack(50)

    def write(self, *payloads):
        """Append committed records."""
        for payload in payloads:
            text, self.crc = record(payload, self.crc)
            self.data[self.tail : self.tail + len(text) + 1] = text + b"#"
            self.tail += len(text)
            self.payloads.append(payload)
        return self

    def comment(self, payload):
        """Append a record as it stands before its last store; return its text."""
        text, _ = record(payload, self.crc)
        self.write(payload)
        self.data[self.tail - len(text)] = ord("#")
        return text

    def slack(self, size):
        """Make the slack behind the tail `size` bytes long."""
        self.data[self.tail :] = b"#" + b" " * (size - 1)
        return self

    def scan(self, data=None):
        return scan(bytes(self.data if data is None else data), self.first, seed(GENERATION))

    def found(self, data=None):
        """Return how many records are found, and whether something bad is behind them."""
        result = self.scan(data)
        assert result.payloads == self.payloads[: len(result.payloads)]
        return len(result.payloads), result.bad


PIECES = [
    SNAPSHOT,
    MARKER_START,
    marker(1, None, 0),
    b"#-- # mmap",
    b"--- [1] #00000000\n",
    b"#",
    b"\n",
    b"\r",
    b"  ",
    b"\x00",
    b"x",
]
PAYLOADS = [b'["set", [], "last_id", 2]', b'["set", [], "b", [.inf, !!binary "eA=="]]', b'["delete", [], "b"]']


def judge(data):
    """Return "refused", "damaged" or "edited", or the state where the library sees nothing wrong with the bytes."""
    try:
        parts = content.layout(data, "example.state")
        state = content.read(data, parts, "example.state").state
    except StateFileError:
        return "refused"
    if parts.scan is not None and parts.scan.bad >= 0:
        return "damaged"
    return state if parts.intact else "edited"


def encodable(record_of_changes):
    try:
        return changes.encode([tuple(change) for change in record_of_changes])
    except (UnsupportedValueError, ValueError):
        return None


payload_lists = st.lists(records.map(encodable).filter(bool), max_size=6)


class TestRecords:
    def test_the_crc_of_the_first_continues_the_generation_and_each_later_one_its_predecessor(self):
        first, crc = record(b"[1]", seed(GENERATION))
        assert first == b"--- [1] #%08x\n" % crc32(b"[1]", crc32(b"00000000000000aa"))
        second, crc = record(b"[2]", crc)
        assert second == b"--- [2] #%08x\n" % crc32(b"[1][2]", seed(GENERATION))
        assert crc == crc32(b"[1][2]", seed(GENERATION))

    def test_all_are_found_up_to_the_tail(self):
        file = File().write(*PAYLOADS)
        assert file.scan() == (PAYLOADS, file.tail, file.crc, -1, True)

    def test_none_are_found_behind_a_bare_marker(self):
        file = File()
        assert file.scan() == ([], file.first, seed(GENERATION), -1, True)

    @given(payloads=payload_lists)
    @settings(deadline=None, max_examples=scaled(80))
    def test_reading_as_a_batch_equals_scanning_one_by_one(self, payloads):
        file = File().write(*payloads)
        found = file.scan()
        assert found.payloads == payloads
        if payloads:
            assert read_batch(bytes(file.data[file.first : file.tail]), seed(GENERATION)) == (found.payloads, found.crc)

    @given(payloads=payload_lists, split=st.integers(0, 6))
    @settings(deadline=None, max_examples=scaled(40))
    def test_a_batch_continues_wherever_the_one_before_it_ended(self, payloads, split):
        front = File().write(*payloads[:split])
        whole = File().write(*payloads)
        rest = bytes(whole.data[front.tail : whole.tail])
        if rest:
            assert read_batch(rest, front.crc) == (payloads[split:], whole.crc)

    def test_a_batch_that_is_anything_else_than_whole_committed_records_is_none(self):
        file = File().write(*PAYLOADS)
        good = bytes(file.data[file.first : file.tail])
        crc = seed(GENERATION)
        assert read_batch(good, crc) == (PAYLOADS, file.crc)
        for bad in (
            b"",
            b"\n",
            good[:-1],
            good[1:],
            good + b"#",
            good + b"\n",
            b"#" + good[1:],
            good + good,
            good.replace(b" #", b" !", 1),
        ):
            assert read_batch(bad, crc) is None, bad
        second = good.index(b"\n") + 1
        assert read_batch(good[:second] + b"#" + good[second + 1 :], crc) is None
        assert read_batch(good[second:], crc) is None
        assert read_batch(good, crc + 1) is None

    def test_no_flipped_bit_lets_a_batch_give_other_payloads(self):
        file = File().write(*PAYLOADS)
        good = bytes(file.data[file.first : file.tail])
        for place in range(len(good)):
            for bit in range(8):
                damaged = bytearray(good)
                damaged[place] ^= 1 << bit
                batch = read_batch(bytes(damaged), seed(GENERATION))
                assert batch is None or batch == (PAYLOADS, file.crc), place

    def test_those_of_another_journal_never_fit(self):
        other = File().write(*PAYLOADS)
        assert scan(bytes(other.data), other.first, seed(GENERATION + 1)).payloads == []

    def test_one_that_is_missing_ends_the_chain(self):
        file = File().write(*PAYLOADS)
        second = file.data.index(b"\n", file.first) + 1
        del file.data[file.first : second]
        assert file.found() == (0, file.first)

    def test_an_empty_payload_is_a_record_and_a_line_too_short_is_none(self):
        assert File().write(b"").found() == (1, -1)
        for text in (b"--- \n", b"--- #\n", b"--- 1234\n", b"--- [1]\n", b"---\n", b"--- #00000000\n"):
            file = File()
            file.data[file.first :] = text + b"#  "
            assert file.found() == (0, file.first), text


@pytest.mark.family("dirty-tail")
class TestTornTails:
    """What a writer leaves that is killed between its stores is ignored, wherever it was killed."""

    LONG = b'["set", [], "key", "' + b"x" * 40 + b'"]'

    def test_a_record_without_its_last_store_is_ignored(self):
        file = File().write(*PAYLOADS)
        file.comment(self.LONG)
        assert file.found() == (3, -1)
        assert not file.scan().clean

    def test_a_text_torn_at_any_byte_is_ignored(self):
        file = File().write(*PAYLOADS).slack(200)
        text, _ = record(self.LONG, file.crc)
        end = file.tail + len(text)
        file.data[end] = ord("#")
        for torn in range(1, len(text) + 1):
            data = bytearray(file.data)
            data[file.tail + 1 : file.tail + torn] = text[1:torn]
            assert file.found(data) == (3, -1)
            data = bytearray(file.data)  # the last bytes are there, the first are not
            data[file.tail + torn : end] = text[torn:]
            assert file.found(data) == (3, -1)

    def test_stores_in_any_order_are_ignored(self):
        file = File().write(*PAYLOADS).slack(200)
        text, _ = record(self.LONG, file.crc)
        end = file.tail + len(text)
        file.data[end] = ord("#")
        for step in range(2, 12):
            for first in range(step):
                data = bytearray(file.data)
                for place in range(first + 1, len(text), step):
                    data[file.tail + place] = text[place]
                assert file.found(data) == (3, -1)

    def test_the_junk_of_several_killed_writers_is_ignored(self):
        for lengths in ((60, 40, 20), (20, 40, 60), (40, 40), (1, 60, 1)):
            file = File().write(*PAYLOADS).slack(300)
            for length in lengths:
                text, _ = record(b'["set", [], "k", "%s"]' % (b"x" * length), file.crc)
                end = file.tail + len(text)
                file.data[end] = ord("#")
                file.data[file.tail + 1 : end] = text[1:]
                assert file.found() == (3, -1)

    def test_a_file_cut_at_any_byte_gives_the_records_that_are_whole(self):
        """A cut inside a committed record is no crash of a program: it is told."""
        file = File().write(*PAYLOADS)
        ends = [file.first]
        for payload in PAYLOADS:
            ends.append(ends[-1] + len(payload) + 15)
        for cut in range(file.first, len(file.data) + 1):
            whole = sum(end <= cut for end in ends) - 1
            assert file.found(file.data[:cut]) == (whole, -1 if cut in ends or cut > file.tail else ends[whole])


class TestSlack:
    def test_is_clean_when_it_is_one_number_sign_and_spaces(self):
        for size in (1, 2, 1000):
            assert File().write(*PAYLOADS).slack(size).scan()[3:] == (-1, True)

    def test_is_not_clean_with_anything_else_behind_the_number_sign(self):
        file = File().write(*PAYLOADS)
        for end in (b"#x", b"#X", b"##", b"#\n", b"#\x00", b"#\t", b"# x", b"#" + b" " * 50 + b"x"):
            assert file.scan(file.data[: file.tail] + end)[3:] == (-1, False), end

    def test_cut_short_by_an_editor_is_accepted(self):
        file = File().write(*PAYLOADS)
        for end in (b"", b"#", b"# ", b"#\n", b"#   \n", b"#\r\n", b"\n", b"\r\n", b"   "):
            found = file.scan(file.data[: file.tail] + end)
            assert (found.payloads, found.tail, found.bad) == (PAYLOADS, file.tail, -1), end

    def test_may_be_nuls_which_are_pages_lost_with_the_power(self):
        file = File().write(*PAYLOADS)
        for end in (b"\x00" * 60, b"#\x00\x00", b"#  \x00 \x00", b"\x00\x00   ", b"\x00" * 20 + b"#   "):
            found = file.scan(file.data[: file.tail] + end)
            assert (found.payloads, found.bad, found.clean) == (PAYLOADS, -1, False), end

    def test_may_have_comments_but_no_other_line(self):
        file = File().write(*PAYLOADS)
        tail = file.tail
        for end, bad in (
            (b"# x\n# y\n#", -1),
            (b"# x\n\n  \n  # y\n", -1),
            (b"# x\ny\n", 4),
            (b"# x\n  y\n", 6),
            (b"# x\n# y\n--- []\n#", 8),
            (b"--- []\n#  ", 0),
            (b"-", 0),
            (b"x", 0),
            (b"  x", 2),
            (b"\n\nx", 2),
            (b"\x00\x00x", 2),
            (b"\x00\x00\n\r\nx #1234\n", 5),
        ):
            assert file.found(file.data[:tail] + end) == (3, bad if bad < 0 else tail + bad), end


class TestMarks:
    """Of a record that is not synced yet."""

    def test_it_is_a_comment_and_names_boot_and_file(self):
        boot = bytes(range(16))
        assert unsynced(boot, 0x1234) == b"!%08x" % crc32(boot + bytes(6) + b"\x12\x34")
        assert len({unsynced(b, i) for b in (boot, bytes(16)) for i in (0, 1, 2**64 - 1)}) == 6
        file = File().write(*PAYLOADS)
        file.data[file.tail + 1 : file.tail + 10] = unsynced(boot, 1)
        assert file.scan()[:4] == (PAYLOADS, file.tail, file.crc, -1)
        assert not file.scan().clean
        check(bytes(file.data))
        assert read_state(bytes(file.data)) == read_state(bytes(File().write(*PAYLOADS).data))

    def test_whatever_loss_of_power_leaves_of_it_is_no_change_that_was_lost(self):
        mark = unsynced(bytes(16), 1)
        for start in range(len(mark) + 1):
            for blank in (b" ", b"\0"):
                assert is_blank(mark[:start] + blank * 9 + blank * 100)
                assert is_blank(blank * start + mark[start:] + b" " * 100)
        for slack in (b"-", b"-- [", b"!0123456g", b"!012345678", b"! 1", b"1 1", b"!!"):
            assert not is_blank(slack + b" " * 100)


class TestOddBytes:
    def test_a_cr_before_each_lf_is_accepted(self):
        file = File().write(*PAYLOADS)
        data = bytes(file.data).replace(b"\n", b"\r\n")
        found = find_marker(data)
        assert (found.start, found.version, found.generation) == (12, "1", GENERATION)
        result = scan(data, found.end, seed(GENERATION))
        assert (result.payloads, result.crc, result.bad) == (PAYLOADS, file.crc, -1)
        assert judge(data) == "edited"

    def test_a_record_still_as_comment_counts_when_its_successor_is_committed(self):
        file = File().write(PAYLOADS[0])
        file.comment(PAYLOADS[1])
        file.write(PAYLOADS[2])
        assert file.scan() == (PAYLOADS, file.tail, file.crc, -1, True)

    def test_so_does_the_first_and_every_second_one(self):
        file = File()
        for _ in range(4):
            file.comment(PAYLOADS[0])
            file.write(PAYLOADS[1])
        assert file.found() == (8, -1)

    def test_so_do_several_in_a_row(self):
        """A copy is made page by page: a record may be committed and followed by the next between two of them."""
        file = File().write(PAYLOADS[0])
        for _ in range(3):
            file.comment(PAYLOADS[1])
        assert file.found() == (1, -1)
        file.write(PAYLOADS[2])
        assert file.found() == (5, -1)

    def test_it_does_not_count_without_a_committed_successor(self):
        file = File().write(PAYLOADS[0])
        before = file.tail, file.crc
        file.comment(PAYLOADS[1])
        found = file.scan()
        assert (found.payloads, found.tail, found.crc, found.bad, found.clean) == (PAYLOADS[:1], *before, -1, False)

    def test_it_does_not_count_when_the_chain_does_not_go_on_through_it(self):
        file = File().write(PAYLOADS[0])
        tail, crc = file.tail, file.crc
        file.comment(PAYLOADS[1])
        after = file.tail
        file.crc = crc  # the successor continues the record before the comment
        file.write(PAYLOADS[2])
        assert file.scan()[:2] == (PAYLOADS[:1], tail)
        assert file.scan().bad == after

    def test_it_does_not_count_when_it_is_torn(self):
        file = File().write(PAYLOADS[0])
        tail = file.tail
        text = file.comment(PAYLOADS[1])
        file.write(PAYLOADS[2])
        for place in range(1, len(text) - 1):
            data = bytearray(file.data)
            data[tail + place] ^= 1
            found = file.scan(data)
            assert (found.payloads, found.tail, found.bad >= 0) == (PAYLOADS[:1], tail, True)


class TestMarker:
    def test_says_generation_origin_and_crc_of_the_snapshot(self):
        for origin in (None, Position(0xBB, 11), Position(2**64 - 1, 2**63 - 1)):
            line = marker(GENERATION, origin, 5)
            assert line.count(b"\n") == 1
            assert find_marker(b"a: 1\n" + line) == (5, 5 + len(line), "1", GENERATION, origin, 5, False)
            bare = marker(GENERATION, origin, 5, bare=True)
            assert find_marker(b"a: 1\n" + bare) == (5, 5 + len(bare), "1", GENERATION, origin, 5, True)

    def test_may_stand_at_offset_0_behind_an_empty_snapshot(self):
        file = File(b"").write(PAYLOADS[0])
        assert find_marker(bytes(file.data)).start == 0
        assert judge(bytes(file.data)) == {"last_id": 2}

    def test_may_stand_behind_an_empty_line(self):
        assert find_marker(b"\n" + marker(1, None, 0)).start == 1

    def test_is_the_first_line_that_begins_so(self):
        inner = b'--- ["set", [], "k", "\\n--- # mmapstate journal 1 x"] #12345678\n'
        data = SNAPSHOT + marker(1, None, 0) + inner + marker(2, None, 0)
        assert find_marker(data).generation == 1

    def test_is_not_where_the_words_are_no_line_of_their_own(self):
        for text in (
            b"",
            b"a: 1\n",
            b"a: '--- # mmapstate journal 1 x'\n",
            b"a: |\n  --- # mmapstate journal 1 x\n",
            b"# " + MARKER_START,
        ):
            assert find_marker(text) is None

    @pytest.mark.parametrize("version", [b"2", b"10", b"1.1", b"x", b"\xff"])
    def test_of_an_unknown_version_is_told_and_refused(self, version):
        line = marker(GENERATION, None, 0).replace(b"journal 1", b"journal " + version)
        assert find_marker(b"a: 1\n" + line).version == version.decode("ascii", "replace")
        with pytest.raises(StateFileError, match=r"^example\.state: the journal is of version .*reads version 1"):
            content.layout(b"a: 1\n" + line, "example.state")

    def test_of_a_version_to_come_may_say_what_it_likes(self):
        assert find_marker(b"--- # mmapstate journal 2\n").version == "2"
        assert find_marker(b"--- # mmapstate journal 2 anything at all\n").version == "2"

    def test_may_give_any_advice(self):
        line = marker(GENERATION, None, 5).split(b" newer")[0]
        for advice in (b" ", b" see the manual", " \xe4nderungen folgen".encode(), b" a --- b"):
            found = find_marker(line + advice + b"\n")
            assert (found.version, found.snapshot_crc) == (("1", 5) if b"--- " not in advice else ("1, damaged", 0))

    def test_whose_line_has_no_end_is_damaged_and_so_is_one_that_says_no_more_than_its_version(self):
        line = marker(GENERATION, Position(1, 2), 5)
        for text, version in (
            (line[:-1], "1, damaged"),
            (b"--- # mmapstate journal 1", "1, damaged"),
            (b"--- # mmapstate journal 1\n", "1, damaged"),
            (b"--- # mmapstate journal 2", "2"),
            (b"--- # mmapstate journal 2\n", "2"),
            (b"--- # mmapstate journal ", "?"),
            (b"--- # mmapstate journal \n", "?"),
            (b"--- # mmapstate journal \n#  ", "?"),
        ):
            end = len(SNAPSHOT) + (text + b"\n").index(b"\n") + text.count(b"\n")
            assert find_marker(SNAPSHOT + text) == (len(SNAPSHOT), end, version, 0, None, 0, False), text

    def test_says_that_the_last_line_had_no_end_though_its_own_ends_are_others(self):
        bare, line = marker(1, None, 0, bare=True), marker(1, None, 0)
        for end in (b"\n", b"\r\n"):
            assert find_marker(bare[:-1] + end).bare
            assert not find_marker(line[:-1] + end).bare

    def test_that_is_damaged_is_no_version_1(self):
        good = marker(GENERATION, Position(1, 2), 5)
        for end in range(len(MARKER_START), len(good)):
            assert find_marker(good[:end]).version != "1"
        for bad in (
            good.replace(b"aa", b"ag"),
            good.replace(b"from", b"form"),
            good.replace(b":2 ", b":x "),
            good.replace(b":2 ", b":" + b"9" * 20 + b" "),  # more than the control page has room for
            good.replace(b":2 ", b":" + b"2" * 5000 + b" "),  # more digits than Python makes a number of
            good.replace(b"\n", b"J--- x\n"),
        ):
            assert find_marker(bad).version != "1"
            assert judge(bad + b"#  ") == "damaged"

    def test_whose_line_end_before_it_is_gone_is_no_snapshot(self):
        """Only where no record follows; else YAML finds a second document."""
        data = bytes(File().data).replace(b"1\n---", b"1*---")
        assert find_marker(data) == (data.index(b"---"), len(data), "1, damaged", 0, None, 0, False)
        assert judge(data) == "damaged"
        words = b"a: '--- # mmapstate journal 1 x'\n"
        assert find_marker(words + data).start == len(words) + data.index(b"---")
        assert find_marker(bytes(File().write(PAYLOADS[0]).data).replace(b"1\n---", b"1*---", 1)) is None
        assert find_marker(words + b"# end\n") is None

    def test_still_as_comment_counts_when_its_first_record_is_committed(self):
        """In a copy made while the journal was born."""
        file = File()
        file.data[file.start] = ord("#")
        assert find_marker(bytes(file.data)) is None
        file.write(PAYLOADS[0])
        assert find_marker(bytes(file.data)).start == file.start
        assert judge(bytes(file.data)) == {"last_id": 2}
        file.data[file.first] = ord("#")
        assert find_marker(bytes(file.data)) is None

    def test_still_as_comment_may_stand_at_offset_0_too(self):
        file = File(b"").write(PAYLOADS[0])
        file.data[0] = ord("#")
        assert find_marker(bytes(file.data)) == (0, file.first, "1", GENERATION, None, crc32(b""), False)
        assert judge(bytes(file.data)) == {"last_id": 2}


class TestUnbornJournals:
    """A killed process may leave any first part of the write that appends a journal: all are ignored."""

    def test_at_every_byte_of_the_write_the_snapshot_alone_is_the_state(self):
        for snapshot in (b"a: 1\n", b"", b"a: |\n  x\n", b"a:\n- b: [1,\n  2]\n", b"# only a comment\n"):
            file = File(snapshot)
            written = b"#" + bytes(file.data[file.start + 1 :])
            expected = judge(snapshot)
            for end in range(len(written) + 1):
                assert judge(snapshot + written[:end]) == expected, written[:end]
                if snapshot or end:
                    assert judge(snapshot + written[:end] + b"\x00" * 60) == expected, written[:end]

    def test_its_start_is_found_from_the_fifth_byte_on(self):
        """Shorter ones are comments like any other."""
        file = File()
        written = b"#" + bytes(file.data[file.start + 1 :])
        for end in range(len(written) + 1):
            assert unborn_start(SNAPSHOT + written[:end]) == (len(SNAPSHOT) if end >= 5 else -1), written[:end]
            assert unborn_start(written[:end]) == (0 if end >= 5 else -1), written[:end]

    def test_its_start_is_that_of_the_last_line(self):
        several = b"a: 1\nb:\n- 2\n"
        assert unborn_start(several + b"#-- # mmap") == len(several)
        assert unborn_start(several + b"#-- # mmap" + b"\x00" * 9) == len(several)
        assert unborn_start(several + b"#-- # mmap\n") == -1

    def test_nuls_for_all_of_it_are_ignored(self):
        assert unborn_start(SNAPSHOT + b"\x00" * 100) == len(SNAPSHOT)
        assert unborn_start(SNAPSHOT[:-1] + b"\x00" * 100) == len(SNAPSHOT) - 1

    def test_nuls_alone_are_somebodys_lost_text(self):
        assert unborn_start(b"\x00" * 100) == -1

    def test_nuls_behind_a_line_that_ends_where_a_sector_does_may_be_the_rest_of_that_line(self):
        assert unborn_start(b"a: ".ljust(512, b"x") + b"\x00" * 100) == -1
        assert unborn_start(b"a: ".ljust(511, b"x") + b"\n" + b"\x00" * 100) == 512

    @pytest.mark.parametrize("snapshot", [b"", SNAPSHOT, SNAPSHOT[:-1]], ids=["empty", "lines", "bare"])
    def test_nuls_for_any_bytes_of_it_are_ignored(self, snapshot):
        """A loss of power can take some sectors and leave others."""
        lead = b"\n" * (not snapshot.endswith(b"\n") and snapshot != b"")
        line = marker(GENERATION, None, crc32(snapshot + lead), bare=lead != b"")
        written = lead + b"#" + line[1:] + b"#" + b" " * 200
        ends = [*range(len(lead + line) + 3), len(written) - 1]
        for start in ends:
            for end in ends[ends.index(start) + 1 :]:
                data = snapshot + written[:start] + b"\x00" * (end - start) + written[end:]
                found = unborn_start(data)
                assert data[:found].rstrip(b"\n") == snapshot.rstrip(b"\n"), data

    @pytest.mark.parametrize(
        "rest",
        [
            b"b: 1\n",
            b"#\n- 1",
            b"b: 1",
            b"#" + b" " * 9 + b"x",
            b"x\x00",
            b"my note; stop it\n#  ",
            b"X",
            b"X#",
            b"x\x00#",
            b"X\x00#",
            b"note\x00\x00editing\n#",
        ],
    )
    def test_nuls_before_anything_else_are_somebodys_lost_text(self, rest):
        assert unborn_start(SNAPSHOT + b"\x00" * 9 + rest) == -1

    def test_nuls_may_be_at_several_places_and_a_line_end_of_two_bytes(self):
        for rest in (
            b"diting\n# \x00\x00",
            b"diting\n# \x00  \x00 ",
            b"  \x00 diting\n#",
            b"\n#",
            b"diting\r\n#",
            b"\r\n#",
        ):
            assert unborn_start(SNAPSHOT + b"\x00" * 9 + rest) == len(SNAPSHOT), rest

    def test_what_looks_like_one_further_up_is_a_comment(self):
        for data in (
            b"#-- # mmapstate journal 1 x\na: 1\n",
            b"#-- # mmapstate journal 1 x\n#   \n- 1",
            b"#-- # mmapstate journal 1 x\nX",
            b"a: 1\n#-- # my own\n",
            b"a: 1\n#-- # mmapstate\n",
            b"a: 1 #-- # mmapstate journal 1 x",
            b"a: 1\n #-- # mmapstate journal 1 x",
            b"a: 1\n#--",
            b"a: 1\n",
            b"",
        ):
            assert unborn_start(data) == -1, data


@pytest.mark.family("every-byte")
class TestDamage:
    """A bit that changes by itself is told, or does no harm: never is another state read."""

    @pytest.mark.parametrize("snapshot", [SNAPSHOT, b"", b"{}\n", b"a: 1\nb: |\n  x\n  y\n"])
    @pytest.mark.parametrize(
        "payloads",
        [[], PAYLOADS[:2], [b'[["set", [], "k", [1, 2]], ["insert", ["k"], 0, 5]]']],
        ids=["no record", "two records", "a transaction"],
    )
    def test_no_flipped_bit_makes_another_state(self, snapshot, payloads):
        file = File(snapshot, Position(0xBB, 11)).write(*payloads)
        expected = judge(bytes(file.data))
        assert expected == read_state(bytes(file.data))
        for place in range(len(file.data)):
            for bit in range(8):
                damaged = bytearray(file.data)
                damaged[place] ^= 1 << bit
                found = judge(bytes(damaged))
                assert found == expected or isinstance(found, str), (place, bytes(damaged))

    def test_no_cut_makes_a_state_that_never_was(self):
        file = File().write(*PAYLOADS[:2])
        states = [{"last_id": 1}, {"last_id": 2}, judge(bytes(file.data))]
        for cut in range(file.start, len(file.data)):
            found = judge(bytes(file.data[:cut]))
            assert found in states or isinstance(found, str), cut

    @given(data=st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)))
    @settings(deadline=None, max_examples=scaled(200))
    def test_nothing_raises_whatever_the_bytes_are(self, data):
        found = find_marker(data)
        assert unborn_start(data) <= len(data)
        result = scan(data, found.end if found else 0, 0)
        assert (found.end if found else 0) <= result.tail <= len(data)
        assert -1 <= result.bad < max(len(data), 1)


class TestTime:
    """Five megabytes of the worst kind take time in proportion: were it with the square, it would be hours."""

    SIZE = 5_000_000
    PROPORTIONATE = 20  # seconds; a fraction of one on a machine that is not busy

    @pytest.mark.parametrize(
        "make",
        [
            lambda size: b" " * size,
            lambda size: b"\n" * size,
            lambda size: b"\n " * (size // 2),
            lambda size: b"\n#" * (size // 2),
            lambda size: b"\x00" * size,
            lambda size: b"\x00" + b" " * size + b"x",
            lambda size: b"\x00 " * (size // 2) + b"x",
            lambda size: b"#" * size,
            lambda size: b"#-- " * (size // 4),
            lambda size: b"\n#-- #" * (size // 6),
            lambda size: b"\n#-- # mmapstate journal " * (size // 25),
            lambda size: b"\n--- # mmapstate journal" * (size // 24),
            lambda size: b"--- # mmapstate journal " * (size // 24),
            lambda size: MARKER_START + b"1 " * (size // 2),
            lambda size: marker(1, None, 0)[:-1] + b"x-- " * (size // 4),
            lambda size: b"#-- x #00000000\n" * (size // 16),
            lambda size: b"#" + b"\r\n" * (size // 2),
            lambda size: (b"\n" + b" " * 999) * (size // 1000),
        ],
        ids=range(18),
    )
    def test_of_junk(self, make):
        data = make(self.SIZE)
        behind = b"#" + data
        for read, *arguments in [
            (find_marker, data), (unborn_start, data), (scan, data, 0, 0), (scan, behind, 0, 0), (read_batch, data, 0),
            (is_blank, data), (is_blank, data + b" " * self.SIZE + b"x"),
        ]:  # fmt: skip
            started = time.process_time()
            read(*arguments)
            assert time.process_time() - started < self.PROPORTIONATE, read

    @pytest.mark.parametrize(
        "make",
        [
            lambda size: b"\x00" * size,
            lambda size: b"\x00" * (size // 2) + b" " * (size // 2),
            lambda size: b"a" * size + b"b",
            lambda size: b"a" * (size // 2) + b"b" + b"a" * (size // 2),
            lambda size: b"a: " * (size // 3) + b"b",
            lambda size: b"- a\n" * (size // 4) + b"b",
        ],
        ids=range(6),
    )
    def test_of_what_might_be_padding_of_persistedstate(self, make):
        data = make(self.SIZE // 5)
        started = time.process_time()
        content.layout(data, "it")
        assert time.process_time() - started < self.PROPORTIONATE

    @pytest.mark.parametrize("committed", [True, False, None], ids=["committed", "comments", "mixed"])
    def test_of_records(self, committed):
        texts = []
        crc = seed(GENERATION)
        payload = b'["set", [], "last_id", 123456]'
        for number in range(self.SIZE // 45):
            text, crc = record(payload, crc)
            texts.append(text if committed or (committed is None and number % 3 == 0) else b"#" + text[1:])
        data = b"".join(texts) + b"#   "
        started = time.process_time()
        found = scan(data, 0, seed(GENERATION))
        assert time.process_time() - started < self.PROPORTIONATE
        last = len(texts) - (0 if committed else (len(texts) - 1) % 3)
        assert len(found.payloads) == (0 if committed is False else last)


class TestSpecification:
    """The docstring of the module is the specification: it must be true."""

    def test_the_worked_example_is_right_to_the_last_byte(self):
        lines = format.__doc__.split("(the marker is one line)::\n\n")[1].split("\n\n")[0].splitlines()
        data = "\n".join(line.removeprefix("    ") for line in lines).encode()
        found = find_marker(data)
        assert found == (11, data.index(b"\n", 11) + 1, "1", 0xAA, None, crc32(data[:11]), False)
        assert data[11 : found.end] == marker(0xAA, None, crc32(data[:11]))
        payload = b'["set", [], "last_id", 2]'
        text, crc = record(payload, seed(0xAA))
        assert data[found.end :] == text + b"#"
        assert scan(data, found.end, seed(0xAA)) == ([payload], len(data) - 1, crc, -1, True)
        assert judge(data) == read_state(data) == {"last_id": 2}
        check(data)
