"""Declared names of dimensions are kept where xarray can read them; the rest get others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import write_hdf5
from documents import TOGETHER_OR_NOT, RunBuilder, Send, data_key
from hypothesis import given
from hypothesis import strategies as st
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks.validation import validate_run
from bluesky_tiled_writer.consolidators import usable_dims

SHAPE = (6, 2, 3)


@pytest.mark.parametrize(
    ("declared", "dims"),
    [
        (["y", "x"], ("time", "y", "x")),
        (["time", "y", "x"], ("time", "y", "x")),
        (["time", "x"], ("time", "k_dim1", "x")),
        (["y", "time"], ("time", "y", "k_dim2")),
        (["y", "y"], ("time", "y", "k_dim2")),
        (["dim_2", "dim_3", "extra"], ("time", "dim_2", "dim_3")),
        (["y"], ("time", "y", "k_dim2")),
        (["", "x"], ("time", "k_dim1", "x")),
        ([None, 1], None),
        ([], None),
    ],
)
def test_declared_names_are_kept_where_they_can_be(declared: list[Any], dims: Any) -> None:
    assert usable_dims(["time", *declared], SHAPE, "k", {}) == dims


def test_a_name_has_one_size_in_a_stream() -> None:
    sizes: dict[str, int] = {}
    assert usable_dims(["time", "y", "x"], (6, 2, 3), "a", sizes) == ("time", "y", "x")
    assert usable_dims(["time", "y", "x"], (6, 2, 4), "b", sizes) == ("time", "y", "b_dim2")


@given(
    st.lists(st.sampled_from(["time", "x", "y", "", " ", None, 3]), max_size=5),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_names_are_distinct_and_one_for_each_dimension(
    declared: list[Any], shape: list[int]
) -> None:
    dims = usable_dims(["time", *declared], shape, "k", {})
    if dims is not None:
        assert len(set(dims)) == len(shape) == len(dims)


DECLARED: list[Any] = [
    *(["time", "y"], ["y", "time"], ["a"], ["a", "b", "c"], ["a", "a"], ["", ""], ["a", 1]),
    *(["x", "y"], ["x", "x0"], "ab", None, [], ["seq_num", "y"]),
]


@TOGETHER_OR_NOT
@pytest.mark.parametrize("declared", DECLARED, ids=map(str, DECLARED))
def test_a_stream_can_be_read_whatever_dims_are_declared(
    client: Container, tmp_path: Path, declared: Any, send: Send
) -> None:
    frames = np.arange(36.0).reshape(SHAPE)
    others = np.arange(48.0).reshape(6, 2, 4)
    uris = {
        "k": write_hdf5(tmp_path / "k.h5", frames),
        "other": write_hdf5(tmp_path / "other.h5", others),
    }
    run = RunBuilder()
    run.start()
    keys = {
        "k": data_key("array", [2, 3], dtype_numpy="<f8", dims=declared, external="STREAM:"),
        "other": data_key("array", [2, 4], dtype_numpy="<f8", dims=declared, external="STREAM:"),
        "x": "number",
    }
    run.descriptor("primary", keys)
    resources = {
        key: run.stream_resource(key, uri, dataset="entry/data/data", chunk_shape=[1])
        for key, uri in uris.items()
    }
    for i in range(6):
        for resource in resources.values():
            run.stream_datum("primary", resource, i, i + 1)
        run.event("primary", {"x": i})
    run.stop()
    with TiledWriter(client) as writer:
        send(run.docs, writer)
    read = client[run.uid]["primary"].read()
    np.testing.assert_array_equal(read["k"], frames)
    np.testing.assert_array_equal(read["other"], others)
    problems = [str(problem) for problem in validate_run(client[run.uid])]
    assert bool(problems) == bool(declared)  # both arrays cannot have the same names
