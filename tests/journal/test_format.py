"""Reading a journal that is intact, torn, or damaged."""

from __future__ import annotations

import io

import pytest
from journals import HEADER, MARKER, encode_journal, read_journal

from bluesky_tiled_writer.errors import JournalError
from bluesky_tiled_writer.journal import format as format_
from bluesky_tiled_writer.journal import reader as reader_
from bluesky_tiled_writer.journal.codec import Encoder
from bluesky_tiled_writer.journal.format import Header, encode_frame
from bluesky_tiled_writer.journal.reader import Damage, JournalReader

PAIRS = [("start", {"uid": "a"}), ("event", {"seq_num": 1}), ("stop", {"exit_status": "success"})]
WHOLE, ENDS = encode_journal(PAIRS)


def test_an_intact_journal_is_read_without_damage():
    reader = JournalReader(io.BytesIO(WHOLE))
    assert reader.header == HEADER
    for _ in range(2):
        entries = list(reader)
        assert [(e.name, e.doc) for e in entries] == PAIRS
        assert [e.offset for e in entries] == ENDS[:-1]
        assert (reader.damage, reader.torn) == ([], 0)


def test_every_truncation_loses_only_what_was_cut():
    half = ENDS[0] // 2
    for size in range(len(WHOLE)):
        if size < half:
            with pytest.raises(JournalError, match="no readable header"):
                JournalReader(io.BytesIO(WHOLE[:size]))
            continue
        pairs, damage, torn = read_journal(WHOLE[:size])
        complete = [end for end in ENDS if end <= size]
        assert pairs == PAIRS[: max(0, len(complete) - 1)]
        assert damage == []
        assert torn == size - max(complete, default=half)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_loses_only_its_document(flip):
    for place in range(len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= flip
        pairs, damage, torn = read_journal(bytes(data))
        hit = sum(end <= place for end in ENDS) - 1  # -1: the header, of which there are two
        assert pairs == [pair for i, pair in enumerate(PAIRS) if i != hit]
        assert torn == 0
        assert len(damage) == 1
        assert damage[0].start <= place < damage[0].end
        if hit >= 0:
            assert (damage[0].start, damage[0].end) == (ENDS[hit], ENDS[hit + 1])


def test_zeros_at_the_end_are_a_torn_end():
    """Blocks that were reserved when the power failed."""
    pairs, damage, torn = read_journal(WHOLE + bytes(5000))
    assert (pairs, damage, torn) == (PAIRS, [], 5000)


def test_other_bytes_at_the_end_are_damage():
    pairs, damage, torn = read_journal(WHOLE + b"x" * 5000)
    assert (pairs, torn) == (PAIRS, 0)
    assert [(d.start, d.end) for d in damage] == [(len(WHOLE), len(WHOLE) + 5000)]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_next_document_is_found_wherever_it_begins(monkeypatch, chunk):
    monkeypatch.setattr(reader_, "_CHUNK", chunk)
    data = bytearray(WHOLE)
    data[ENDS[0]] ^= 1
    assert read_journal(bytes(data))[0] == PAIRS[1:]


def test_a_frame_within_a_document_is_not_read():
    """Not even in a damaged document, nor if it is a true frame of this or another journal."""
    inner = encode_frame(MARKER, 0, Encoder().encode(["event", {"seq_num": 666}]))
    pairs = [("start", {"data": WHOLE + inner}), *PAIRS]
    data, ends = encode_journal(pairs)
    for place in (ends[0], ends[0] + 9, ends[1] - 1):
        damaged = bytearray(data)
        damaged[place] ^= 1
        assert read_journal(bytes(damaged))[0] == PAIRS


def test_a_frame_at_another_offset_is_damage():
    """Blocks of a disk that were exchanged."""
    first, second = WHOLE[ENDS[1] : ENDS[2]], WHOLE[ENDS[2] :]
    pairs, damage, _ = read_journal(WHOLE[: ENDS[1]] + second + first)
    assert pairs == PAIRS[:1]
    assert len(damage) == 1


def test_an_intact_frame_without_a_document_is_damage():
    data = WHOLE + encode_frame(MARKER, len(WHOLE), b"\xc1")
    data += encode_frame(MARKER, len(data), Encoder().encode([1, 2, 3]))
    pairs, damage, _ = read_journal(data)
    assert pairs == PAIRS
    assert [d.reason for d in damage] == 2 * ["it does not hold a document"]


def test_damage_to_both_headers_is_an_error():
    data = bytearray(WHOLE)
    data[0] ^= 1
    data[ENDS[0] // 2] ^= 1
    with pytest.raises(JournalError, match="no readable header"):
        JournalReader(io.BytesIO(bytes(data)))


@pytest.mark.parametrize("data", [b"", b"\x00" * 1000, b"{}", format_.MAGIC, 50 * format_.MAGIC])
def test_another_file_is_refused(data):
    with pytest.raises(JournalError, match="no readable header"):
        JournalReader(io.BytesIO(data))


def test_a_later_version_of_the_format_is_refused(monkeypatch):
    monkeypatch.setattr(format_, "VERSION", 2)
    data, _ = encode_journal([])
    monkeypatch.undo()
    with pytest.raises(JournalError, match=r"format version 2; .* wrote it"):
        JournalReader(io.BytesIO(data))


def test_a_header_with_unknown_fields_is_refused(monkeypatch):
    monkeypatch.setattr(format_, "vars", lambda header: {"colour": "blue"}, raising=False)
    data, _ = encode_journal([])
    with pytest.raises(JournalError, match="cannot be decoded"):
        JournalReader(io.BytesIO(data))


def test_a_header_that_is_too_large_is_refused():
    with pytest.raises(JournalError, match="too large"):
        Header("a", "b" * 2**16).encode(MARKER)


def test_a_header_that_cannot_be_encoded_is_refused():
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(JournalError, match="recursion"):
        Header("a", deep).encode(MARKER)


def test_opening_an_absent_or_other_file_is_an_error(tmp_path):
    with pytest.raises(JournalError, match="No such file"):
        JournalReader.open(tmp_path / "a.journal")
    (tmp_path / "a.journal").write_bytes(b"no journal")
    with pytest.raises(JournalError, match=r"a\.journal: .* no readable header"):
        JournalReader.open(tmp_path / "a.journal")


class Unreadable(io.BytesIO):
    def read(self, size=-1):
        raise OSError(5, "Input/output error")


def test_a_disk_that_cannot_be_read_is_an_error():
    with pytest.raises(JournalError, match="Input/output error"):
        JournalReader(Unreadable(WHOLE))


def test_damage_tells_its_place():
    data = bytearray(WHOLE)
    data[-1] ^= 1
    damage = read_journal(bytes(data))[1]
    assert damage == [Damage(ENDS[-2], ENDS[-1], "a document is damaged")]
