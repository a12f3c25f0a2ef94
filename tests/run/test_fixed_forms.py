"""Nodes that cannot be written anew take what fits them; the rest is kept beside them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_tiled_writer.run import AppendRows, Batch, ExtendArray, Plan, RunSettings, Stream
from bluesky_tiled_writer.run.batch import Page
from bluesky_tiled_writer.schema import TEXT, DeclaredKey

X = DeclaredKey("x", False, np.dtype("f8"), (), {"dtype": "number"})
KINDS = {
    "integer": DeclaredKey("k", False, np.dtype("i4"), (), {"dtype": "integer"}),
    "number": DeclaredKey("k", False, np.dtype("f8"), (), {"dtype": "number"}),
    "text": DeclaredKey("k", False, TEXT, (), {"dtype": "string"}),
    "array": DeclaredKey("k", True, np.dtype("i4"), (2,), {"dtype": "array"}),
    "array of text": DeclaredKey("k", True, np.dtype("U2"), (1,), {"dtype": "array"}),
    "ragged": DeclaredKey("k", True, np.dtype("f4"), (None,), {"dtype": "array"}),
    "untyped": DeclaredKey("k", True, None, None, {"dtype": "array"}),
}
FIRST: dict[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "text": "a",
    "array": [1, 2],
    "array of text": ["ab"],
    "ragged": [1.5],
    "untyped": [1.5, 2.5],
}
VALUES = [
    None,
    0,
    2**40,
    2**60 + 1,
    2**70,
    0.5,
    1e300,
    "text",
    b"bytes",
    [1, 2],
    [0.5, 1.5],
    [1, 2, 3],
    [[1, 2], [3, 4]],
    [[1], [2, 3]],
    ["abc"],
    {"a": 1},
    True,
    np.float32(0.1),
]


def batch(start: int, values: list[Any]) -> Batch:
    count = len(values)
    numbers = list(range(start + 1, start + count + 1))
    columns = {"x": [float(n) for n in numbers], "k": values}
    stamps = {key: [1.0] * count for key in columns}
    return Batch([Page(numbers, [float(n) for n in numbers], columns, stamps)])


def fixed_stream(kind: str) -> tuple[Stream, Plan, RunSettings]:
    """A stream with one row, whose nodes cannot be deleted; and the plan of that row."""
    settings = RunSettings()
    stream = Stream("run", "primary", settings)
    stream.declare([X, KINDS[kind]])
    plan = stream.plan(batch(0, [FIRST[kind]]))
    stream.commit(plan)
    settings.limits.learn("deletion")
    return stream, plan, settings


def form(step: Any) -> Any:
    if isinstance(step, AppendRows):
        return step.table.schema
    return (step.block.dtype, step.block.shape[1:]) if isinstance(step, ExtendArray) else None


def values_of(step: Any) -> list[Any]:
    if isinstance(step, AppendRows):
        return list(step.table["k"].to_pylist())
    return list(step.block) if isinstance(step, ExtendArray) else [...] * len(step.rows)


def is_held(value: Any, found: Any) -> bool:
    """Return True if a value is stored as it came, or cannot be looked at: in ragged rows."""
    if value is None or found is ...:
        return True
    try:
        one, other = np.asarray(found), np.asarray(value)
    except ValueError:  # lists of several lengths
        return False
    if one.size == other.size == 1:  # an array of one is a scalar, and the other way around
        one, other = one.reshape(()), other.reshape(())
    return np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@given(batches=st.lists(st.lists(st.sampled_from(VALUES), min_size=1, max_size=4), max_size=4))
def test_any_values_are_stored_or_noted_and_no_node_is_written_anew(
    kind: str, batches: list[list[Any]]
) -> None:
    stream, first, _ = fixed_stream(kind)
    forms = {step.node.name: form(step) for step in first.steps}
    stored: list[Any] = []
    for values in batches:
        start = stream.stored
        plan = stream.plan(batch(start, values))
        assert plan.rebuild is None
        rows = {step.node.name: step for step in plan.steps if step.start == start}
        assert rows.keys() >= forms.keys()
        for name, expected in forms.items():
            assert form(rows[name]) == expected
        stored += values_of(rows.get("k", rows["internal"]))
        stream.commit(plan)
    last = stream.plan(Batch([]), last=True)
    assert last.rebuild is None
    stream.commit(last)
    notes = "\n".join(stream.notes())
    came = [value for values in batches for value in values]
    for seq_num, (value, found) in enumerate(zip(came, stored, strict=True), 2):
        assert is_held(value, found) or f"seq_num {seq_num}: " in notes, (value, found)


def test_what_notes_cannot_hold_is_in_a_further_table() -> None:
    stream, _, _ = fixed_stream("integer")
    values = [n + 0.5 for n in range(101)]
    plan = stream.plan(batch(1, values))
    assert plan.rebuild is None
    further = [step for step in plan.steps if step.node.name == "internal_1"]
    stream.commit(plan)
    tables = [step.table for step in further if isinstance(step, AppendRows)]
    texts = [text for table in tables for text in table["ts_k_verbatim"].to_pylist()]
    assert [text and json.loads(text) for text in texts] == [None, *values]
    again = stream.plan(batch(stream.stored, [1, 0.25]))
    assert again.rebuild is None
    assert {step.node.name for step in again.steps} == {"internal", "internal_1"}


def test_a_further_table_takes_no_more_columns_either() -> None:
    stream, _, _ = fixed_stream("integer")
    late = [DeclaredKey(name, False, np.dtype("f8"), (), {}) for name in ("y", "z")]
    for i, declared in enumerate(late, 1):
        stream.declare([declared])
        plan = stream.plan(batch(i, [1]))
        assert plan.rebuild is None
        stream.commit(plan)
    assert sorted(stream.nodes) == ["internal", "internal_1", "internal_2"]


def test_a_node_of_a_failed_plan_that_cannot_be_deleted_is_kept_in_its_form() -> None:
    settings = RunSettings()
    stream = Stream("run", "primary", settings)
    stream.declare([X, KINDS["ragged"]])
    rows = batch(0, [[1.5], [2.5, 3.5]])
    failed = stream.plan(rows)
    settings.limits.learn("ragged")  # they have to be text in a column now
    second = stream.plan(rows)
    left = stream.left_behind(failed, second)
    assert {node.name for node in left} == {"internal", "k"}
    settings.limits.learn("deletion")
    assert stream.keep(failed, [node for node in left if node.name == "internal"])
    third = stream.plan(rows)
    assert stream.left_behind(second, third) == []
    by_name = {step.node.name: step for step in third.steps}
    assert form(by_name["internal"]) == form(failed.steps[-1])
    assert by_name["internal_1"].table["k"].to_pylist() == ["[1.5]", "[2.5, 3.5]"]


def test_a_node_whose_form_is_not_known_any_more_cannot_be_kept() -> None:
    stream, _, _ = fixed_stream("integer")
    assert not stream.keep(None, [stream._node("image")])
