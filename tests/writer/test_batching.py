"""Tiled holds the same tree, types, values and notes however the rows of a run are batched."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, data_key, emit
from faults import LONG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


Parts = list[tuple[int, bool]]
parts = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=7)
"""Batches, as (number of rows, whether as a page); begun again while there are rows left."""
ROW_BY_ROW: Parts = [(1, False)]
AS_A_PAGE: Parts = [(10_000, True)]
TOGETHER: Parts = [(10_000, False)]


def write(
    client: Container, data_keys: dict[str, Any], rows: list[dict[str, Any]], sent: Parts
) -> dict[str, Any]:
    """Write rows in batches, and return what Tiled holds of the run, as far as it compares."""
    run = RunBuilder()
    writer = TiledWriter(client)
    emit([run.start(), run.descriptor("primary", data_keys)], writer)
    left = list(rows)
    for count, as_page in itertools.cycle(sent):
        part, left = left[:count], left[count:]
        if as_page:
            full = [{k: None if row[k] is MISSING else row[k] for k in row} for row in part]
            docs = [run.event_page("primary", full)]
        else:
            given = [{k: v for k, v in row.items() if v is not MISSING} for row in part]
            docs = [run.event("primary", row) for row in given]
        emit(docs, writer)
        if not left:
            break
        assert writer.flush(timeout=60.0)
    emit([run.stop()], writer)
    assert writer.wait_for(run.uid, timeout=60.0)
    return comparable(snapshot(client[run.uid]))


def comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Drop what differs from run to run (uids) or by design (missing time stamps)."""
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


def check(client: Container, stream: tuple[Any, Any], *ways: Parts) -> None:
    reference = write(client, *stream, TOGETHER)
    for sent in ways:
        assert write(client, *stream, sent) == reference, sent


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
"""Integers that pandas cannot read beside an empty cell, where the empty cell comes first."""
NEGATIVE_BEFORE_WIDE = (
    {name: KEYS[name][0] for name in ("int8", "array")},
    [
        {"int8": -1, "array": [0, 0]},
        {"int8": None, "array": [0, 0]},
        {"int8": 2**63, "array": []},
    ],
)
"""A negative number, which fits the declared type, rules out an unsigned type later."""


HARD = pytest.mark.parametrize(
    ("stream", "ways"),
    [
        pytest.param(WIDENING, [ROW_BY_ROW, [(2, False)], [(3, False)], AS_A_PAGE], id="widening"),
        pytest.param(NULL_BEFORE_WIDE, [ROW_BY_ROW], id="null before wide"),
        pytest.param(NEGATIVE_BEFORE_WIDE, [ROW_BY_ROW], id="negative before wide"),
    ],
)


@HARD
def test_batching_makes_no_difference_to_nodes_that_are_widened(
    client: Container, stream: tuple[Any, Any], ways: list[Parts]
) -> None:
    check(client, stream, *ways)


@pytest.mark.parametrize("stream", [WIDENING, NEGATIVE_BEFORE_WIDE], ids=["widening", "negative"])
def test_nodes_are_widened_alike_on_any_database(
    storage_client: Container, stream: tuple[Any, Any]
) -> None:
    check(storage_client, stream, ROW_BY_ROW)


@settings(
    max_examples=100 if LONG else 6,
    deadline=None,
    derandomize=not LONG,  # the long run looks elsewhere each time
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stream=rows_of_a_stream(), sent=parts)
def test_batching_makes_no_difference(
    client: Container, stream: tuple[Any, Any], sent: Parts
) -> None:
    check(client, stream, sent)


@pytest.mark.skipif(not LONG, reason="nox -s faults tries random rows on every database")
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.differing_executors,
    ],
)
@given(stream=rows_of_a_stream(), sent=parts)
def test_batching_makes_no_difference_on_any_database(
    storage_client: Container, stream: tuple[Any, Any], sent: Parts
) -> None:
    check(storage_client, stream, sent)
