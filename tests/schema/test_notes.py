from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.notes import (
    MAX_NOTES,
    MAX_TEXT,
    Deviation,
    Deviations,
    verbatim,
)

from .values import in_batches, quick


def test_a_note_names_stream_key_and_seq_num_and_holds_the_value():
    deviations = Deviations()
    deviations.add("x", Deviation.LEFT_OUT, 4, "abc")
    deviations.add_missing("y", [range(1), range(2, 9)])
    assert deviations.notes("primary", lambda row_number: row_number + 1) == [
        "Stream 'primary', key 'x', seq_num 5: 'abc' does not fit the type of the key;"
        " the cell is empty, or holds fill values.",
        "Stream 'primary', key 'y', seq_num 1: no value; the row of the node holds fill values.",
        "Stream 'primary', key 'y', seq_num 3 to 9: no value; the row of the node holds fill"
        " values.",
    ]


def test_beyond_the_first_hundred_values_are_counted_and_kept():
    deviations = Deviations()
    for row_number in reversed(range(MAX_NOTES + 7)):
        deviations.add("x", Deviation.AS_TEXT, row_number, row_number)
    *notes, count = deviations.notes("s", int)
    assert [int(note.split("seq_num ")[1].split(":")[0]) for note in notes] == list(
        range(MAX_NOTES)
    )
    assert count == "Stream 's', key 'x': 7 more values: is not text; it is stored as text."
    assert deviations.beyond_notes("x")
    assert deviations.kept("x") == {i: str(i) for i in range(MAX_NOTES + 7)}


@quick
@given(
    rows=st.permutations(range(MAX_NOTES + 20)),
    sizes=st.lists(st.integers(1, MAX_NOTES), max_size=4),
)
def test_notes_do_not_depend_on_order_nor_on_batches(rows, sizes):
    at_once, merged = Deviations(), Deviations()
    for row_number in range(len(rows)):
        at_once.add("x", Deviation.NEAREST, row_number, row_number)
    for _, batch in in_batches(rows, sizes):
        part = Deviations()
        for row_number in batch:
            part.add("x", Deviation.NEAREST, row_number, row_number)
        merged.update(part)
    assert merged.notes("s", int) == at_once.notes("s", int)
    assert merged.kept("x") == at_once.kept("x")


def test_a_value_is_written_as_it_is_typed():
    assert verbatim(np.float32(0.5)) == "0.5"
    assert verbatim(np.array([[1, 2]])) == "[[1, 2]]"
    assert verbatim({"a": 1}) == "{'a': 1}"


def test_a_long_value_is_cut_and_says_so():
    text = verbatim("x" * (MAX_TEXT + 10))
    assert text.endswith("... (12 characters more)")  # the quotes count, too
    assert len(text) < MAX_TEXT + 100


def test_a_value_whose_repr_fails_is_named_by_its_type():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert "Broken object at" in verbatim(Broken())


def test_where_an_array_is_masked_is_kept_in_ranges():
    deviations = Deviations()
    value = np.ma.MaskedArray([[1, 2, 3], [4, 5, 6]], [[0, 1, 1], [1, 0, 1]])
    deviations.add("x", Deviation.MASKED, 0, value)
    assert deviations.kept("x") == {0: '{"masked": [[1, 4], [5, 6]]}'}
