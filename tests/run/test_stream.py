"""What a stream stores does not depend on how its rows were batched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, data_key
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_run import MemoryRun

from bluesky_tiled_writer.run import (
    AppendRows,
    Batch,
    ExtendArray,
    ExtendRagged,
    RunSettings,
    Stream,
)
from bluesky_tiled_writer.run.batch import Page
from bluesky_tiled_writer.schema import DeclaredKey

F8 = np.dtype("f8")

DECLARED = {
    "number": data_key(),
    "integer": data_key("integer"),
    "text": data_key("string"),
    "array": data_key("array", [2]),
    "ragged": data_key("array", [None]),
    "open": data_key("array"),
    "files": data_key("array", [2], external="FILES:"),
    "det/x": data_key(),
}

VALUES: dict[str, list[Any]] = {
    "number": [1.5, -2, None, "text", float("nan"), [1.0], 2**70],
    "integer": [1, 2.5, None, 2**63, True],
    "text": ["a", "", None, 5, b"bytes"],
    "array": [[1.0, 2.0], [1.0], [[1.0, 2.0]], None, "text", [1, "a"]],
    "ragged": [[], [1], [1.5, 2.5], [[1], [2]], None],
    "open": [None, [1.0, 2.0], [1.0], []],
    "files": [[1.0, 2.0], [3.0], None],
    "det/x": [1.5, None],
}

row = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(values) for key, values in VALUES.items()}
)


def run_of(rows: list[dict[str, Any]], later: int) -> RunBuilder:
    """A run whose key `det/x` is declared by a second descriptor, before row `later`."""
    run = RunBuilder()
    run.uid = "run"
    run.start()
    first = {key: spec for key, spec in DECLARED.items() if key != "det/x"}
    run.descriptor("primary", first, uid="first")
    for number, data in enumerate(rows):
        if number == later:
            run.descriptor("primary", DECLARED, uid="second")
        if number < later:
            data = {key: value for key, value in data.items() if key != "det/x"}
        run.event("primary", data)
    run.stop()
    return run


def stored(run: RunBuilder, cuts: set[int], **options: Any) -> MemoryRun:
    """The run in memory; what waits is delivered after the documents whose numbers are cuts."""
    memory = MemoryRun(**options)
    for number, pair in enumerate(run.docs):
        memory.emit([pair])
        if number in cuts:
            memory.deliver()
    memory.deliver()
    return memory


@settings(max_examples=40, deadline=None)
@given(
    st.lists(row, min_size=1, max_size=8),
    st.sets(st.integers(0, 12)),
    st.integers(0, 8),
    st.sampled_from([0, 2, -1]),
)
def test_what_is_stored_does_not_depend_on_batches(
    rows: list[dict[str, Any]], cuts: set[int], later: int, max_array_size: int
) -> None:
    run = run_of(rows, later)
    at_once = stored(run, set(), max_array_size=max_array_size)
    in_parts = stored(run, cuts, max_array_size=max_array_size)
    assert in_parts.contents() == at_once.contents()
    assert in_parts.metadata == at_once.metadata
    assert sorted(in_parts.notes) == sorted(at_once.notes)
    for content in at_once.nodes.values():
        assert len(content) == len(rows)
    assert at_once.columns()["seq_num"] == list(range(1, len(rows) + 1))


def test_notes_do_not_depend_on_batches_where_a_column_becomes_a_node() -> None:
    run = run_of([{"integer": "text"}, {"integer": 2**63}], 99)
    assert sorted(stored(run, {2}).notes) == sorted(stored(run, set()).notes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1.5, -2, None, "text", 0.0]), min_size=1, max_size=6))
def test_a_value_is_in_its_cell_or_in_a_note(values: list[Any]) -> None:
    rows = [{"number": value, "integer": i} for i, value in enumerate(values)]
    memory = stored(run_of(rows, 99), set())
    cells = [None if isinstance(value, str) else value for value in values]
    assert memory.columns()["number"] == cells
    assert memory.columns()["integer"] == list(range(len(values)))
    for number, value in enumerate(values, 1):
        about = [note for note in memory.notes if f"'number', seq_num {number}: 'text'" in note]
        assert len(about) == isinstance(value, str)


# -- plan and commit ------------------------------------------------------------------------------


def new_stream(*keys: DeclaredKey) -> Stream:
    stream = Stream("run", "primary", RunSettings())
    stream.declare(keys)
    return stream


def batch(start: int, **columns: list[Any]) -> Batch:
    count = len(next(iter(columns.values())))
    numbers = list(range(start + 1, start + count + 1))
    stamps = {key: [1.0] * count for key in columns}
    return Batch([Page(numbers, [1.0] * count, columns, stamps)])


X = DeclaredKey("x", False, F8, (), {"dtype": "number"})
IMAGE = DeclaredKey("image", True, F8, (2,), {"dtype": "array"})


def test_a_plan_that_is_dropped_changes_nothing() -> None:
    stream = new_stream(X, IMAGE)
    rows = batch(0, x=[1.0, 2.0], image=[[1.0, 2.0], [3.0, 4.0]])
    first = stream.plan(rows)
    assert (stream.stored, stream.nodes) == (0, [])
    second = stream.plan(rows)
    assert [step.node for step in first.steps] == [step.node for step in second.steps]
    stream.commit(second)
    assert (stream.stored, sorted(stream.nodes)) == (2, ["image", "internal"])
    assert [step.start for step in stream.plan(rows).steps] == [2, 2]


def test_a_plan_knows_which_nodes_of_a_failed_one_it_does_not_have_in_that_form() -> None:
    stream = new_stream(X, IMAGE)
    rows = batch(0, x=[1.0], image=[[1.0, 2.0]])
    failed = stream.plan(rows)
    assert stream.left_behind(failed, stream.plan(rows)) == []
    ragged = stream.plan(batch(0, x=[1.0], image=[[1.0, 2.0, 3.0]]))
    assert [node.name for node in stream.left_behind(failed, ragged)] == ["image"]
    stream.commit(ragged)
    widened = stream.plan(batch(1, x=["text"], image=[[1.0, 2.0]]))
    assert stream.left_behind(failed, widened) == []  # a rebuild is for those


def test_only_the_first_rows_of_a_node_carry_its_metadata() -> None:
    stream = new_stream(X, IMAGE)
    plan = stream.plan(batch(0, x=[1.0], image=[[1.0, 2.0]]))
    by_name = {step.node.name: step.node for step in plan.steps}
    assert by_name["internal"].metadata == {"x": {"dtype": "number"}}
    assert by_name["image"].metadata == {"dtype": "array", "dtype_numpy": "float64"}
    assert by_name["image"].dims == ("time", "dim_int_1")
    stream.commit(plan)
    again = stream.plan(batch(1, x=[1.0], image=[[1.0, 2.0]]))
    assert all(step.node.metadata == {} for step in again.steps)


def test_a_wider_type_rebuilds_its_node_and_no_other() -> None:
    stream = new_stream(X, IMAGE)
    stream.commit(stream.plan(batch(0, x=[1.0], image=[[1.0, 2.0]])))
    plan = stream.plan(batch(1, x=[2.0], image=[[1.0, 2.0, 3.0]]))
    assert plan.rebuild is not None
    assert [node.name for node in plan.rebuild.nodes] == ["image"]
    assert plan.rebuild.rows == 1
    (step,) = plan.rebuild.remake({"image": np.array([[1.0, 2.0]])})
    assert isinstance(step, ExtendRagged)
    assert [row.tolist() for row in step.rows.rows] == [[1.0, 2.0]]
    kinds = {step.node.name: (type(step), step.start) for step in plan.steps}
    assert kinds == {"image": (ExtendRagged, 1), "internal": (AppendRows, 1)}


def test_a_rebuild_stays_though_the_steps_after_it_are_refused() -> None:
    stream = new_stream(X, IMAGE)
    stream.commit(stream.plan(batch(0, x=[1.0], image=[[1.0, 2.0]])))
    wider = batch(1, x=[2.0], image=[[1.0, 2.0, 3.0]])
    stream.commit_rebuild(stream.plan(wider))
    again = stream.plan(wider)
    assert again.rebuild is None
    assert {step.start for step in again.steps} == {1}


def test_a_key_that_comes_later_gets_the_rows_before_it() -> None:
    stream = new_stream(X)
    stream.commit(stream.plan(batch(0, x=[1.0, 2.0])))
    stream.declare([IMAGE])
    plan = stream.plan(batch(2, x=[3.0], image=[[1.0, 2.0]]))
    steps = [step for step in plan.steps if step.node.name == "image"]
    assert [(type(step), step.start) for step in steps] == [(ExtendArray, 0), (ExtendArray, 2)]
    assert isinstance(steps[0], ExtendArray)
    assert steps[0].block.shape == (2, 2)
    stream.commit(plan)
    assert any("2 more" in n or "seq_num 1" in n for n in stream.notes())


def test_a_key_without_any_value_gets_its_node_with_the_last_plan() -> None:
    unknown = DeclaredKey("unknown", True, None, None, {})
    stream = new_stream(X, unknown)
    stream.commit(stream.plan(batch(0, x=[1.0])))
    assert stream.nodes == ["internal"]
    plan = stream.plan(Batch([]), last=True)
    assert [step.node.name for step in plan.steps] == ["unknown"]
    stream.commit(plan)
    assert sorted(stream.nodes) == ["internal", "unknown"]


class Hostile:
    """An object of a device whose every use raises."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no array")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __iter__(self) -> Any:
        raise RuntimeError("no items")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("key", [X, IMAGE], ids=["number", "array"])
def test_a_hostile_value_costs_its_cell_and_a_note(key: DeclaredKey) -> None:
    other = DeclaredKey("other", False, np.dtype("i8"), (), {})
    stream = new_stream(key, other)
    good = 1.0 if key is X else [1.0, 2.0]
    plan = stream.plan(batch(0, **{key.key: [good, Hostile()], "other": [1, 2]}))
    stream.commit(plan)
    table = next(step.table for step in plan.steps if isinstance(step, AppendRows))
    assert table["other"].to_pylist() == [1, 2]
    assert any(f"{key.key!r}, seq_num 2" in note for note in stream.notes())


@pytest.mark.parametrize(
    "seq_nums", [["one", "two"], [None, None], [[1, 2], [3, 4]], [Hostile(), Hostile()], [2**80, 1]]
)
def test_notes_count_rows_where_seq_num_is_no_number(seq_nums: list[Any]) -> None:
    stream = new_stream(X)
    stamps = {"x": [1.0, 1.0]}
    page = Page(seq_nums, [1.0, 1.0], {"x": ["text", 1.0]}, stamps)
    stream.commit(stream.plan(Batch([page])))
    assert any("'x', seq_num 1: 'text'" in note for note in stream.notes())


# -- names --------------------------------------------------------------------------------------


def test_keys_of_one_spelling_go_to_nodes_of_different_names() -> None:
    keys = [DeclaredKey(key, False, F8, (), {}) for key in ("x", "X", 1, "1", 1.5, None)]  # type: ignore[arg-type]
    stream = new_stream(*keys)
    columns = {key.key: [float(i)] for i, key in enumerate(keys)}
    page = Page([1], [1.0], columns, {key: [1.0] for key in columns})
    plan = stream.plan(Batch([page]))
    names = [step.node.name for step in plan.steps]
    assert len(names) == len(set(names))
    found = {}
    for step in plan.steps:
        if isinstance(step, ExtendArray) and not step.node.name.startswith("ts_"):
            found[step.node.name] = step.block.tolist()
    stream.commit(plan)
    assert found["1"] == [2.0]
    assert found["1_"] == [3.0]
    assert any("key 1: stored under the name '1'" in note for note in stream.notes())
    assert any("key None: stored under the name 'None'" in note for note in stream.notes())
