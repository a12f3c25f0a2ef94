"""However the rows of a run are batched, Tiled holds the same: tree, types, values, notes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from documents import RunBuilder, data_key
from faults import LONG
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import Storage
from tiled.client.container import Container
from tree import snapshot

from bluesky_tiled_writer import TiledWriter

MISSING = object()

integers = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**31, -(2**31), 2**53 + 1, 2**60 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1]),
)
floats = st.one_of(
    st.floats(allow_nan=False, width=32),
    st.sampled_from([0.1, float("nan"), float("inf"), 2.0, 1e300]),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
deviations = st.sampled_from(["text", {"a": 1}, [1, 2], True, 2**70])
nothing = st.sampled_from([None, MISSING])

SCALARS: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "number": (data_key("number"), floats | integers | deviations | nothing),
    "integer": (data_key("integer"), integers | floats | nothing),
    "int8": (data_key("integer", dtype_numpy="|i1"), integers | nothing),
    "uint8": (data_key("integer", dtype_numpy="|u1"), integers | floats | nothing),
    "uint64": (data_key("integer", dtype_numpy="<u8"), integers | floats | nothing),
    "float32": (data_key("number", dtype_numpy="<f4"), floats | nothing),
    "boolean": (data_key("boolean"), st.booleans() | integers | nothing),
    "string": (data_key("string"), texts | deviations | nothing),
    "1 string": (data_key("string"), texts | nothing),
}


def array_values(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    regular = st.lists(elements, min_size=2, max_size=2)
    any_length = st.lists(elements, max_size=4)
    as_array = st.lists(st.integers(-9, 9), min_size=2, max_size=2).map(np.array)
    return st.one_of(regular, regular, as_array, any_length, nothing)


ARRAYS: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "array": (data_key("array", [2], dtype_numpy="<f8"), array_values(floats | integers)),
    "ints": (data_key("array", [2], dtype_numpy="<i4"), array_values(integers)),
    "words": (data_key("array", [2], dtype_numpy="<U3"), array_values(texts)),
    "open": (data_key("array", []), array_values(st.integers(-9, 9) | floats)),
    "ragged": (data_key("array", [None], dtype_numpy="<i8"), array_values(integers)),
}
KEYS = SCALARS | ARRAYS


@st.composite
def rows_of_a_stream(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    names = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True))
    values = {name: KEYS[name][1] for name in names}
    rows = draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=7))
    return {name: KEYS[name][0] for name in names}, rows


Cuts = list[tuple[int, bool]]
cuts = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=7)
"""How rows are sent: so many at a time, as a page or not."""


def write(
    client: Container,
    data_keys: dict[str, Any],
    rows: list[dict[str, Any]],
    sent: Cuts,
    batch_size: int,
) -> dict[str, Any]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", data_keys)
    left = list(rows)
    while left:
        for count, as_page in sent:
            part, left = left[:count], left[count:]
            if as_page and part:
                full = [{k: None if row[k] is MISSING else row[k] for k in row} for row in part]
                run.event_page("primary", full)
                continue
            for row in part:
                run.event("primary", {k: v for k, v in row.items() if v is not MISSING})
    run.stop()
    writer = TiledWriter(client, batch_size=batch_size)
    for name, doc in run.docs:
        writer(name, copy.deepcopy(doc))
    assert writer.wait_for(run.uid, timeout=60.0)
    return comparable(snapshot(client[run.uid]))


def comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run, or by design: uids, and a missing time stamp."""
    stream = tree["children"]["primary"]
    nodes = copy.deepcopy(stream["children"])
    for node in nodes.values():
        for name in list(node.get("columns", ())):
            if name.startswith("ts_"):
                del node["columns"][name]
    return {
        "nodes": {name: node for name, node in nodes.items() if not name.startswith("ts_")},
        "notes": sorted(tree["metadata"].get("notes", [])),
        "specs": stream["specs"],
    }


ONE_BY_ONE: Cuts = [(1, False)]


def check(client: Container, stream: tuple[Any, Any], sent: Cuts, batch_size: int) -> None:
    data_keys, rows = stream
    reference = write(client, data_keys, rows, ONE_BY_ONE, 10_000)
    assert write(client, data_keys, rows, sent, batch_size) == reference


WIDENING = (
    {name: KEYS[name][0] for name in ("integer", "array", "ints", "words", "open")},
    [
        {"integer": 1, "array": [1, 2], "ints": [1, 2], "words": ["a", "b"], "open": None},
        {"integer": None, "array": [0.5, 2], "ints": None, "words": ["abcd", "b"], "open": [1, 2]},
        {"integer": 2**63, "array": [], "ints": [2**63, 0], "words": ["a"], "open": [1, 2, 3]},
        {"integer": -1, "array": [1], "ints": [-1, 0.5], "words": MISSING, "open": [0.5]},
    ],
)
NULL_BEFORE_WIDE = (
    {name: KEYS[name][0] for name in ("boolean", "int8")},
    [
        {"boolean": True, "int8": 1},
        {"boolean": None, "int8": None},
        {"boolean": 2**53 + 1, "int8": 2**53 + 1},
    ],
)
"""Integers that pandas cannot read beside an empty cell, and the cell comes first."""
NEGATIVE_BEFORE_WIDE = (
    {name: KEYS[name][0] for name in ("int8", "array")},
    [
        {"int8": -1, "array": [0, 0]},
        {"int8": None, "array": [0, 0]},
        {"int8": 2**63, "array": []},
    ],
)
"""A negative number that the declared type had room for rules out an unsigned one later."""


@settings(
    max_examples=100 if LONG else 6,
    deadline=None,
    derandomize=not LONG,  # the long run looks elsewhere each time
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(stream=WIDENING, sent=ONE_BY_ONE, batch_size=1)
@example(stream=WIDENING, sent=ONE_BY_ONE, batch_size=2)
@example(stream=WIDENING, sent=ONE_BY_ONE, batch_size=3)
@example(stream=WIDENING, sent=[(4, True)], batch_size=10_000)
@example(stream=NULL_BEFORE_WIDE, sent=ONE_BY_ONE, batch_size=1)
@example(stream=NEGATIVE_BEFORE_WIDE, sent=ONE_BY_ONE, batch_size=1)
@given(stream=rows_of_a_stream(), sent=cuts, batch_size=st.sampled_from([1, 2, 3, 10_000]))
def test_batching_makes_no_difference(
    client: Container, stream: tuple[Any, Any], sent: Cuts, batch_size: int
) -> None:
    check(client, stream, sent, batch_size)


@settings(
    max_examples=20 if LONG else 1,
    deadline=None,
    derandomize=not LONG,  # the long run looks elsewhere each time
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.differing_executors,
    ],
)
@example(stream=WIDENING, sent=ONE_BY_ONE, batch_size=3)
@example(stream=NEGATIVE_BEFORE_WIDE, sent=ONE_BY_ONE, batch_size=1)
@given(stream=rows_of_a_stream(), sent=cuts, batch_size=st.sampled_from([1, 2, 3]))
def test_batching_makes_no_difference_on_any_database(
    storage_client: Container,
    storage: Storage,
    stream: tuple[Any, Any],
    sent: Cuts,
    batch_size: int,
) -> None:
    check(storage_client, stream, sent, batch_size)
