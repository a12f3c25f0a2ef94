"""Descriptors whose declarations have nothing to do with the values: all is found again.

Types, shapes, `dtype_numpy`, `dims` and names are drawn independently of the values. Always
the run is stored to its stop, each value is in its cell, beside it, or in the notes; each node
opens by its name; and the result depends neither on batches nor on faults.
"""

from __future__ import annotations

import copy
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, emit, emit_one_by_one, run_of_rows
from faults import LONG
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks import RunInTiled, verify
from bluesky_tiled_writer.delivery import Settings
from bluesky_tiled_writer.delivery.pipeline import Pipeline
from bluesky_tiled_writer.errors import RunComplete, StorageError
from bluesky_tiled_writer.normalizer import RunNormalizer
from bluesky_tiled_writer.run import RunSettings
from bluesky_tiled_writer.testing import MemoryServer

Row = dict[str, Any]

NAMES = ["x", "y_1", "det/x", "a?b", "x%41", "X", "time", "ts_x", "internal", "k" * 70, "µ", "1a"]
SHAPES: list[Any] = [[], [1], [2], [2, 3], [None], [-1], [2, None], [None, 3], [0], [3, 2, 0], [5]]
TYPES: list[Any] = [
    *(None, "<f8", "<f4", "<i4", "|u1", "<u8", "|b1", "|S40", "<U3", "<c16", "nonsense"),
    [["a", "<i4"], ["b", "<f8"]],
]
DIMS: list[Any] = [None, ["time", "x"], ["x"], ["a", "a"], ["x", "y", "z"], "ab", [None]]
declarations = st.fixed_dictionaries(
    {
        "source": st.just("test"),
        "dtype": st.sampled_from(["number", "integer", "boolean", "string", "array"]),
        "shape": st.sampled_from(SHAPES),
    },
    optional={"dtype_numpy": st.sampled_from(TYPES), "dims": st.sampled_from(DIMS)},
)
SCALARS: list[Any] = [
    *(0, 1, -3, 2**40, 2**53 + 1, 2**63, 2**70, 0.5, -1e300, float("nan"), float("inf"), True),
    *("text", "µm", "", b"bytes", None, np.float32(1.5), np.int8(-2), np.bool_(True), np.str_("s")),
    *(Decimal("1.5"), Fraction(1, 4), np.longdouble(2.5), 1 + 2j, {"a": 1}),
]
ARRAYS: list[Any] = [
    *([], [1.5], [1, 2], [1, 2, 3], ["a", "bµ"], [[1, 2, 3], [4, 5, 6]], [[1], [2, 3]], [[]]),
    *(np.arange(2), np.zeros((2, 3)), np.array(7.5), np.array([1, 2**62]), np.array([True, False])),
    *(
        np.array(["a", "long text"]),
        np.array([1.5 + 1j]),
        (1, 2),
        np.ma.array([1.0, 2], mask=[0, 1]),
    ),
    np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
]
scalars, arrays = st.sampled_from(SCALARS), st.sampled_from(ARRAYS)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Row, list[Row]]:
    """Draw data keys, and rows of values that have nothing to do with them."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    kinds = {name: draw(st.sampled_from([scalars, arrays, scalars | arrays])) for name in names}
    rows = draw(st.lists(st.fixed_dictionaries({}, optional=kinds), min_size=1, max_size=5))
    return {name: draw(declarations) for name in names}, rows


# -- in Tiled, on any database --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Failed to convert ragged")  # Tiled's, where xarray reads it
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@settings(
    max_examples=300 if LONG else 8,
    deadline=None,
    derandomize=not LONG,  # the long run looks elsewhere each time
    phases=[Phase.explicit, Phase.generate],  # to shrink an example takes minutes over HTTP
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.differing_executors,
    ],
)
@given(stream=streams(), together=st.booleans())
def test_every_value_is_found_again_and_every_node_opens(
    storage_client: Container, stream: tuple[Row, list[Row]], together: bool
) -> None:
    run = run_of_rows(*stream)
    with TiledWriter(storage_client, journal_directory=None) as writer:
        (emit if together else emit_one_by_one)(run.docs, writer)
        assert writer.wait_for(run.uid, timeout=60.0)
    stored = storage_client[run.uid]
    assert stored.metadata["stop"]["exit_status"] == "success"
    assert list(map(str, verify(run.docs, RunInTiled.find(storage_client, run.uid)))) == []
    primary = stored["primary"]
    for name in primary:
        primary[name].read()
    primary.read()


# -- in memory ------------------------------------------------------------------------------------


def held(run: RunBuilder, parts: list[int], faults: list[str], unsupported: list[str]) -> Row:
    """Return what a server in memory holds, after a run in these batches that met these faults."""
    server = MemoryServer(unsupported=unsupported)
    runs = Settings(run=RunSettings(), normalizer=RunNormalizer)

    def begin() -> Pipeline:
        pipeline = Pipeline(runs, server.new_sink(runs.run.limits))
        for name, doc in given_so_far:
            pipeline.feed(name, copy.deepcopy(doc))
        return pipeline

    given_so_far: list[Any] = []
    pipeline = begin()
    server.faults = list(faults)
    left = list(run.docs)
    for count in [*parts, len(left)]:
        part, left = left[:count], left[count:]
        for name, doc in part:
            given_so_far.append((name, doc))
            pipeline.feed(name, copy.deepcopy(doc))
        for _ in range(2 * len(faults) + 4):
            try:
                pipeline.deliver()
                break
            except RunComplete:
                break
            except StorageError:
                if server.steps % 2:  # now and then a new process finds what was left
                    pipeline = begin()
        else:
            raise AssertionError("it is not delivered")
    nodes = {
        path[2]: (node.form, [repr(row) for row in node]) for path, node in server.nodes.items()
    }
    notes = sorted(server.metadata(run.uid).get("notes", ()))
    assert "stop" in server.metadata(run.uid)
    return {"nodes": nodes, "notes": notes}


@settings(max_examples=2000 if LONG else 60, deadline=None)
@given(
    stream=streams(),
    parts=st.lists(st.integers(1, 4), max_size=6),
    faults=st.lists(st.sampled_from(["before", "after", ""]), max_size=6),
    unsupported=st.lists(st.sampled_from(["ragged", "u8", "ragged u8", "lists"]), max_size=3),
)
def test_neither_batches_nor_faults_make_a_difference(
    stream: tuple[Row, list[Row]], parts: list[int], faults: list[str], unsupported: list[str]
) -> None:
    run = run_of_rows(*stream)
    assert held(run, parts, faults, unsupported) == held(run, [], [], unsupported)
