"""Reading a journal that is damaged in any way never fails, and yields only what was written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from journals import Pair, encode_journal, read_journal

names = st.sampled_from(["start", "descriptor", "event", "event_page", "stop"])
values = (
    st.none() | st.integers() | st.text() | st.binary(max_size=200) | st.floats(allow_nan=False)
)
documents = st.dictionaries(st.text(max_size=5), values, max_size=4)
journals = st.lists(st.tuples(names, documents), max_size=6)


def number(pairs: list[Pair]) -> list[Pair]:
    """Make documents that differ from each other."""
    return [(name, {**doc, "number": i}) for i, (name, doc) in enumerate(pairs)]


def assert_part_of(found: list[Pair], written: list[Pair]) -> None:
    """Assert that each document was written, and that they are in order."""
    remaining = iter(written)
    assert all(pair in remaining for pair in found)


@given(journals, st.data())
def test_any_truncation_loses_only_the_end(pairs, data):
    pairs = number(pairs)
    journal, ends = encode_journal(pairs)
    size = data.draw(st.integers(ends[0], len(journal)))
    found, damage, torn = read_journal(journal[:size])
    complete = [end for end in ends if end <= size]
    assert found == pairs[: len(complete) - 1]
    assert damage == []
    assert torn == size - complete[-1]


@given(journals, st.data())
def test_any_flipped_byte_loses_only_its_document(pairs, data):
    pairs = number(pairs)
    journal, ends = encode_journal(pairs)
    place = data.draw(st.integers(0, len(journal) - 1))
    damaged = bytearray(journal)
    damaged[place] ^= data.draw(st.integers(1, 255))
    found, damage, torn = read_journal(bytes(damaged))
    hit = sum(end <= place for end in ends) - 1
    assert found == [pair for i, pair in enumerate(pairs) if i != hit]
    assert torn == 0
    assert [d.start <= place < d.end for d in damage] == [True]


edits = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.integers(1, 100)),
    st.tuples(st.just("insert"), st.floats(0, 1, exclude_max=True), st.binary(max_size=100)),
    st.tuples(st.just("repeat"), st.floats(0, 1, exclude_max=True), st.integers(1, 500)),
    st.tuples(st.just("zero"), st.floats(0, 1, exclude_max=True), st.integers(1, 500)),
    st.tuples(st.just("end"), st.floats(0, 1, exclude_max=True), st.none()),
)


def edit(data: bytes, kind: str, place: float, what: object) -> bytes:
    i = int(place * len(data))
    match kind, what:
        case "flip", int(mask) if data:
            return data[:i] + bytes([data[i] ^ mask]) + data[i + 1 :]
        case "cut", int(size):
            return data[:i] + data[i + size :]
        case "insert", bytes(more):
            return data[:i] + more + data[i:]
        case "repeat", int(size):
            return data[:i] + data[i : i + size] + data[i:]
        case "zero", int(size):
            return data[:i] + bytes(min(size, len(data) - i)) + data[i + size :]
        case "end", _:
            return data[:i]
    return data


@given(journals, st.lists(edits, max_size=5))
def test_any_damage_after_the_header_yields_only_what_was_written(pairs, changes):
    pairs = number(pairs)
    journal, ends = encode_journal(pairs)
    header, frames = journal[: ends[0]], journal[ends[0] :]
    for kind, place, what in changes:
        frames = edit(frames, kind, place, what)
    found, damage, torn = read_journal(header + frames)
    assert_part_of(found, pairs)
    if header + frames == journal:
        assert (found, damage, torn) == (pairs, [], 0)


@given(journals, journals)
def test_a_journal_within_a_document_is_not_read(pairs, others):
    inner, _ = encode_journal(number(others))
    pairs = [("event", {"number": -1, "data": inner}), *number(pairs)]
    journal, ends = encode_journal(pairs)
    for place in (ends[0], ends[0] + 10, ends[1] - 1):
        damaged = bytearray(journal)
        damaged[place] ^= 1
        assert read_journal(bytes(damaged))[0] == pairs[1:]
