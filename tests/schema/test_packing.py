from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.schema.notes import Deviations
from bluesky_tiled_writer.schema.packing import LEFT_OUT, Packer, is_blank
from bluesky_tiled_writer.schema.widening import all_fit

from .model import plain
from .values import any_numeric_types, arrays, quick

F8 = np.dtype("f8")


def packer(dtype, shape=(2,), fill=(2,)):
    return Packer("x", np.dtype(dtype), F8, shape, fill)


def noted_rows(deviations):
    return [int(note.split("seq_num ")[1].split(":")[0]) for note in deviations.notes("s", int)]


def test_blank_rows_are_those_without_a_value():
    assert is_blank(None)
    assert is_blank(LEFT_OUT)
    assert not is_blank(np.zeros(0))
    assert not is_blank([])


@quick
@given(values=arrays(max_size=4), dtype=any_numeric_types, start=st.integers(0, 5))
def test_a_block_and_its_rows_one_by_one_are_packed_alike(values, dtype, start):
    if values.dtype.kind == "c" and dtype.kind != "c":
        return  # types are wide enough for an imaginary part
    noted, noted_in_rows = Deviations(), Deviations()
    pack = packer(dtype, (), ())
    block = pack.block(values, start, noted)
    rows = pack.block(list(values), start, noted_in_rows) if len(values) else block
    assert block.dtype == rows.dtype == dtype
    if dtype.kind not in "iu" or all_fit(values, dtype):  # else it is up to the processor
        assert block.tobytes() == rows.tobytes()
    if values.dtype.kind != "c":
        expected = [start + i for i, v in enumerate(values) if not all_fit(np.atleast_1d(v), dtype)]
        assert noted_rows(noted) == noted_rows(noted_in_rows) == sorted(expected)


def test_integers_of_two_types_keep_their_digits():
    rows = [np.array([2**63 - 1], "i8"), np.array([2**63], "u8")]
    block = packer("u8", (1,), (1,)).block(rows, 0, Deviations())
    assert block.tolist() == [[2**63 - 1], [2**63]]


def test_no_rows_are_a_block_without_rows():
    assert packer("i4").block([], 0, Deviations()).shape == (0, 2)


def test_blank_rows_are_fill_values_empty_cells_or_null():
    rows = [np.array([1.5, 2.5]), None, LEFT_OUT]
    pack = packer("f8")
    assert plain(pack.block(rows, 0, Deviations()).tolist()) == [[1.5, 2.5], [None] * 2, [None] * 2]
    assert pack.lists(rows, 0, Deviations()).to_pylist() == [[1.5, 2.5], None, None]
    assert pack.json(rows, 0, Deviations()).to_pylist() == ["[1.5, 2.5]", None, None]
    ragged = packer("f8", (None,), (0,)).ragged(rows, 0, Deviations())
    assert [row.tolist() for row in ragged.rows] == [[1.5, 2.5], [], []]


def test_an_image_that_is_there_takes_no_memory_for_one_that_is_not():
    pack = packer("u1", (2,), (10**12,))  # would fail
    assert pack.block(np.zeros((1, 2), "u1"), 0, Deviations()).shape == (1, 2)


def test_lists_are_nested_as_deep_as_the_shape():
    assert packer("i4", (None, 2)).list_type == pa.list_(pa.list_(pa.int32()))
    assert packer("f8", ()).list_type == pa.list_(pa.float64())


@quick
@given(values=st.lists(arrays(st.sampled_from([F8, np.dtype("i8")])), max_size=4))
def test_json_of_a_row_does_not_depend_on_other_rows(values):
    pack, deviations = packer("f8", (None,), (0,)), Deviations()

    def json_of(rows, start):
        return pack.json(rows, start, deviations).to_pylist()

    together = json_of(values, 0)
    assert together == [json_of([value], i)[0] for i, value in enumerate(values)]
    notes = deviations.notes("s", int)
    for i, (value, text) in enumerate(zip(values, together, strict=True)):
        exact = plain(json.loads(text)) == plain(value.tolist())
        assert exact or any(f"seq_num {i}:" in note for note in notes)


def test_numbers_among_text_are_text_as_a_node_of_numbers_would_give():
    pack = packer("U32", (1,), (1,))
    rows = [np.array(["a"]), np.array([1]), np.array([2**53 + 1]), None]
    deviations = Deviations()
    assert pack.block(rows, 0, deviations).tolist() == [["a"], ["1.0"], [str(2.0**53)], [""]]
    assert "seq_num 2: [9007199254740993] has no exact form" in deviations.notes("s", int)[0]
