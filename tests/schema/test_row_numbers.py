from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.row_numbers import RowRanges, SeqNums

from .values import quick

ascending = st.lists(st.integers(0, 30), unique=True).map(sorted)


@quick
@given(rows=ascending, batches=st.lists(st.integers(1, 4), max_size=5))
def test_row_ranges_hold_the_rows_that_were_added(rows, batches):
    ranges = RowRanges()
    start = 0
    for size in [*batches, len(rows)]:
        ranges.extend(rows[start : start + size])
        start += size
    assert list(ranges) == rows


@quick
@given(rows=ascending, again=st.integers(0, 30))
def test_rows_that_are_added_again_count_once(rows, again):
    ranges = RowRanges()
    ranges.extend(rows)
    ranges.extend(rows[:again])
    ranges.extend(rows)
    assert list(ranges) == rows


def test_consecutive_rows_take_one_range():
    ranges = RowRanges()
    ranges.extend(range(1_000_000 - 1))
    ranges.extend([1_000_000 - 1])
    assert len(ranges._ranges) == 1
    assert sum(1 for _ in ranges) == 1_000_000


@quick
@given(batches=st.lists(st.lists(st.integers(-5, 9), max_size=6), max_size=5))
def test_seq_nums_give_back_what_was_added(batches):
    seq_nums = SeqNums()
    for batch in batches:
        seq_nums.extend(batch)
    expected = [number for batch in batches for number in batch]
    assert [seq_nums[i] for i in range(len(expected))] == expected


def test_seq_nums_that_count_up_take_one_entry_a_rewind():
    seq_nums = SeqNums()
    seq_nums.extend(range(1, 501))
    seq_nums.extend(range(501, 1001))
    seq_nums.extend(range(700, 900))  # resumed from a checkpoint
    assert (seq_nums[999], seq_nums[1000], seq_nums[1199]) == (1000, 700, 899)
    assert seq_nums._row_numbers == [0, 1000]
