"""Values that are not stored as they came are kept beside their key, however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, data_key
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_run import MemoryRun

NOTES = 2
"""Notes of a key in these tests, instead of 100."""


@pytest.fixture(autouse=True, scope="module")
def few_notes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bluesky_tiled_writer.schema.notes.MAX_NOTES", NOTES)
        yield


DECLARED = {
    "x": data_key(),
    "n": data_key("integer"),
    "wave": data_key("array", [1], dtype_numpy="<f8"),
    "x(y)": data_key(),
    "text": data_key("string"),
    "texts": data_key("array", [2], dtype_numpy="<U8"),
    "counts": data_key("array", [2], dtype_numpy="<i8"),
    "pair": data_key("array", [2], dtype_numpy="<f8"),
}


def stored(rows: list[dict[str, Any]], cuts: set[int], later: int = 99) -> MemoryRun:
    """The run in memory; `x_verbatim` is declared before row `later`."""
    run = RunBuilder()
    run.uid = "run"
    run.start()
    run.descriptor("primary", DECLARED, uid="first")
    for number, data in enumerate(rows):
        if number == later:
            run.descriptor("primary", DECLARED | {"x_verbatim": data_key()}, uid="second")
        run.event("primary", data)
    run.stop()
    return emitted(run, cuts)


def emitted(run: RunBuilder, cuts: set[int]) -> MemoryRun:
    memory = MemoryRun()
    for number, pair in enumerate(run.docs):
        memory.emit([pair])
        if number in cuts:
            memory.deliver()
    memory.deliver()
    return memory


def column(memory: MemoryRun, name: str) -> list[Any]:
    return [None if text is None else json.loads(text) for text in memory.columns()[name]]


@pytest.mark.parametrize("cuts", [set(), {3}, {2, 4, 6}, set(range(20))], ids=str)
def test_more_values_than_notes_are_all_kept(cuts: set[int]) -> None:
    values = ["a", 1.5, {"b": [1]}, "µ\0\udc80", None, b"c", 2.5]

    memory = stored([{"x": value} for value in values], cuts)

    assert column(memory, "ts_x_verbatim") == [
        *("a", None, {"b": [1]}, "µ\0\udc80", None, "c", None),
    ]
    assert memory.columns()["x"] == [None, 1.5, None, None, None, None, 2.5]
    assert sum("does not fit" in note and "seq_num" in note for note in memory.notes) == NOTES
    assert any("are in 'ts_x_verbatim', as JSON" in note for note in memory.notes)


def test_as_many_values_as_there_are_notes_need_no_column() -> None:
    memory = stored([{"x": "a"}, {"x": "b"}, {"x": 1}], set())
    assert "ts_x_verbatim" not in memory.columns()
    assert len([note for note in memory.notes if "does not fit" in note]) == NOTES


@pytest.mark.parametrize("cuts", [set(), {2}], ids=str)
def test_a_value_that_is_too_long_for_a_note_is_kept_whole(cuts: set[int]) -> None:
    memory = stored([{"x": 1.5}, {"x": "a" * 30_000}], cuts)
    assert column(memory, "ts_x_verbatim") == [None, "a" * 30_000]


def test_the_column_has_another_name_if_a_data_key_has_it() -> None:
    rows: list[dict[str, Any]] = [{"x": "a", "x_verbatim": i} for i in range(4)]
    memory = stored(rows, set(), later=0)
    assert memory.columns()["x_verbatim"] == [0.0, 1.0, 2.0, 3.0]
    assert column(memory, "ts_x_verbatim_") == ["a"] * 4


@pytest.mark.parametrize("cuts", [set(), set(range(20))], ids=["at once", "row by row"])
def test_values_of_a_key_with_a_node_of_its_own_are_kept_in_a_node(cuts: set[int]) -> None:
    memory = stored([{"x(y)": "a" * n} for n in (20, 1, 2, 40)], cuts)
    (name,) = [path[-1] for path in memory.nodes if "verbatim" in path[-1]]
    texts: np.ndarray = memory.nodes["run", "primary", name]
    assert [json.loads(text) for text in texts.tolist()] == ["a" * n for n in (20, 1, 2, 40)]


TWO = np.array([1, 2])
CHANGED = {
    "a decimal number": ("x", Decimal("0.1234567890123456789"), "0.1234567890123456789"),
    "an integer among floats": ("x", 2**60 + 1, 2**60 + 1),
    "integers that no type holds together": ("n", 2**64 + 1, 2**64 + 1),
    "a number in a column of text": ("text", 5, 5),
    "numbers in arrays of text": ("texts", [1.5, 2.5], [1.5, 2.5]),
    "a masked array of integers": (
        "counts",
        np.ma.MaskedArray(TWO, [False, True]),
        {"masked": [[1, 2]]},
    ),
    "an array of integers beyond float64": ("pair", [2**60 + 1, 0.5], [2**60 + 1, 0.5]),
    "text that ends in NUL": ("texts", ["a", "b\0"], ["a", "b\0"]),
}


@pytest.mark.parametrize("cuts", [set(), {4}, set(range(20))], ids=["at once", "2", "by row"])
@pytest.mark.parametrize("case", CHANGED)
def test_values_that_are_stored_otherwise_are_kept(case: str, cuts: set[int]) -> None:
    key, value, kept = CHANGED[case]
    memory = stored([{key: value}] * (NOTES + 1) + [{}], cuts)
    assert column(memory, f"ts_{key}_verbatim") == [kept] * (NOTES + 1) + [None]


@pytest.mark.parametrize("cuts", [set(), {3}, {6}, set(range(20))], ids=str)
@pytest.mark.parametrize("key", ["n", "counts"])
def test_values_that_a_later_one_changes_are_kept(key: str, cuts: set[int]) -> None:
    """The integers are exact, until a fraction makes floats of all of them."""
    values: list[Any] = [2**60 + i for i in range(1, NOTES + 2)] + [0.5]
    values = values if key == "n" else [[value, 1] for value in values]

    memory = stored([{key: value} for value in values], cuts)

    assert column(memory, f"ts_{key}_verbatim") == [*values[:-1], None]


@pytest.mark.parametrize("cuts", [set(), set(range(20))], ids=["at once", "row by row"])
def test_what_is_changed_later_joins_what_is_kept_already(cuts: set[int]) -> None:
    values: list[Any] = ["a", 2**60 + 1, "b", "c", 0.5]
    memory = stored([{"n": value} for value in values], cuts)
    assert column(memory, "ts_n_verbatim") == [*values[:-1], None]


@pytest.mark.parametrize("cuts", [set(), set(range(20))], ids=["at once", "row by row"])
def test_time_stamps_are_kept_apart_from_the_values(cuts: set[int]) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": data_key()})
    for _ in range(NOTES + 1):
        run.event("primary", {"x": "text"})
        run.docs[-1][1]["timestamps"]["x"] = 2**60 + 1
    run.stop()
    memory = emitted(run, cuts)
    assert column(memory, "ts_x_verbatim") == ["text"] * (NOTES + 1)
    assert column(memory, "ts_ts_x_verbatim") == [2**60 + 1] * (NOTES + 1)


@pytest.mark.parametrize("cuts", [set(), set(range(20))], ids=["at once", "row by row"])
def test_rows_of_a_node_without_a_value_are_told(cuts: set[int]) -> None:
    rows: list[dict[str, Any]] = [{"counts": TWO}, {}, {}, {"counts": TWO}]

    memory = stored(rows, cuts)
    assert "ts_counts_verbatim" not in memory.columns()
    (note,) = [note for note in memory.notes if "'counts'" in note]
    assert "'counts', seq_num 2 to 3: no value" in note

    memory = stored(rows * NOTES + rows, cuts)
    texts = memory.columns()["ts_counts_verbatim"]
    assert texts == [None, "null", "null", None] * (NOTES + 1)
    assert any("'counts': 2 more values: no value" in note for note in memory.notes)


VALUES: dict[str, list[Any]] = {
    "x": ["text", b"bytes", {"a": 1}, 1.5, None, [1.0, 2.0], "a" * 30_000, Decimal(1) / 3],
    "n": ["text", 1, 2**63, 2**60 + 1, -1, 0.5, None],
    "wave": [["a"], [1.0], [1.0, 2.0], "text", None],
    "x(y)": ["text", "longer text" * 3, 1.5, None],
    "text": ["text", 1, "1", None],
    "counts": [[1, 2], [2**60 + 1, 2], [0.5, 1], np.ma.MaskedArray(TWO, TWO == 1), None],
    "pair": [[0.5, 2**60 + 1], [2**60 + 1, 1], None],
}
row = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(values) for key, values in VALUES.items()}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=9), st.sets(st.integers(0, 12)))
def test_what_is_kept_does_not_depend_on_batches(rows: list[Any], cuts: set[int]) -> None:
    at_once, in_parts = stored(rows, set()), stored(rows, cuts)
    assert in_parts.contents() == at_once.contents()
    assert sorted(in_parts.notes) == sorted(at_once.notes)
