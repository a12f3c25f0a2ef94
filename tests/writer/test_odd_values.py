"""Values in another form than declared, read back as users read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import FRAMES, hdf5_run, notes_of, uri_of, write_hdf5
from documents import (
    TOGETHER_OR_IN_BATCHES,
    TOGETHER_OR_NOT,
    RunBuilder,
    Send,
    data_key,
    emit,
    emit_one_by_one,
    run_of_rows,
)
from tiled.client.container import Container
from tree import snapshot, stream_of

from bluesky_tiled_writer import TiledWriter

S40 = {"dtype_numpy": "|S40"}


def written(client: Container, run: RunBuilder, send: Send = emit, **options: Any) -> Any:
    """Write a run; return the client of its stream."""
    send(run.docs, TiledWriter(client, **options))
    return client[run.uid]["primary"]


@TOGETHER_OR_IN_BATCHES
def test_text_that_is_declared_as_bytes_is_text_for_every_reader(
    storage_client: Container, send: Send
) -> None:
    texts = [f"{i} µm" for i in range(150)]
    names = [[f"é{i}", "b"] for i in range(150)]
    keys = {"unit": data_key("string", **S40), "names": data_key("array", [2], **S40)}
    rows = [{"unit": text, "names": name} for text, name in zip(texts, names, strict=True)]

    stream = written(storage_client, run := run_of_rows(keys, rows), send)

    assert list(stream.read()["unit"].values) == texts
    assert stream.read()["names"].values.tolist() == names
    base = stream_of(storage_client, run.uid)
    assert base["internal"].read()["unit"].tolist() == texts
    assert base["names"].read().tolist() == names
    assert notes_of(storage_client, run.uid) == []


@TOGETHER_OR_NOT
def test_scalars_among_waveforms_are_arrays_of_one(client: Container, send: Send) -> None:
    values = [np.arange(4.0), 4.5, np.array(5.5), [6.5]]
    keys = {"wave": data_key("array", [4], dtype_numpy="<f8"), "x": "number"}

    stream = written(client, run_of_rows(keys, [{"wave": v, "x": [1.5]} for v in values]), send)

    assert stream["wave"].read().tolist() == [[0.0, 1.0, 2.0, 3.0], [4.5], [5.5], [6.5]]
    assert list(stream["x"].read()) == [1.5] * 4


@pytest.mark.parametrize("shape", [[8, 6, 0], [48], [6, 8]], ids=str)
def test_images_are_an_array_node_whatever_their_shape_is_declared(
    storage_client: Container, shape: list[int]
) -> None:
    images = [np.full((6, 8), i, "u2") for i in range(3)]
    keys = {"image": data_key("array", shape, dtype_numpy="<u2"), "x": "number"}

    stream = written(storage_client, run_of_rows(keys, [{"image": i, "x": 0.5} for i in images]))

    node = stream["image"]
    assert (node.shape, node.dtype) == ((3, 6, 8), np.dtype("u2"))
    np.testing.assert_array_equal(node.read(), images)
    np.testing.assert_array_equal(stream.read()["image"].values, images)


def test_rows_that_are_ragged_inside_are_a_ragged_node(client: Container) -> None:
    rows = [[[1, 2], [3]], [[], [4]]]
    keys = {"x": data_key("array", [2, None], dtype_numpy="<i4")}

    stream = written(client, run_of_rows(keys, [{"x": row} for row in rows]))

    node = stream["x"]
    assert node.shape == (2, 2, None)
    assert node.read().tolist() == rows
    assert node.dims == ("time", "dim_int_1", "dim_rgd_2")
    assert node[1].tolist() == rows[1]


def test_files_whose_shape_is_declared_with_minus_1_are_registered_as_bytes(
    client: Container, tmp_path: Path
) -> None:
    path = tmp_path / "img.h5"
    write_hdf5(path, FRAMES)
    run = hdf5_run(uri_of(path))
    run.docs[1][1]["data_keys"]["img"]["shape"] = [1, -1, -1]

    written(client, run)

    base = stream_of(client, run.uid)
    assert base["img"].item["attributes"]["structure_family"] == "bytes"
    assert any("its shape varies" in note for note in notes_of(client, run.uid))
    assert len(base["internal"].read()) == 6


def ophyd_async_table() -> Any:
    """A table as ophyd-async has it, and what it declares."""
    core = pytest.importorskip("ophyd_async.core")

    columns = {"x": core.Array1D[np.float64], "n": core.Array1D[np.int32], "label": Sequence[str]}
    Moves = type("Moves", (core.Table,), {"__annotations__": columns})
    return Moves(x=[1.5, 2.5], n=[1, 2], label=["µm", "b"])


TABLE = {"x": [1.5, 2.5], "n": [1, 2], "label": ["µm", "b"]}
FIELDS = [["x", "<f8"], ["n", "<i4"], ["label", "|S40"]]


@TOGETHER_OR_NOT
def test_a_table_of_ophyd_async_is_an_array_of_its_rows(
    storage_client: Container, tmp_path: Path, send: Send
) -> None:
    table = ophyd_async_table()
    keys = {"moves": data_key("array", [2], dtype_numpy=FIELDS), "x": "number"}
    run = run_of_rows(keys, [{"moves": table, "x": 0.5}] * 2)

    stream = written(storage_client, run, send, journal_directory=tmp_path)

    rows = stream["moves"].read()
    assert rows.dtype == np.dtype([("x", "<f8"), ("n", "<i4"), ("label", "<U40")])
    assert rows.tolist() == [[(1.5, 1, "µm"), (2.5, 2, "b")]] * 2
    assert stream.read()["x"].values.tolist() == [0.5, 0.5]
    assert notes_of(storage_client, run.uid) == []


def test_a_table_in_a_configuration_is_its_columns(client: Container) -> None:
    run = RunBuilder()
    run.start(moves=ophyd_async_table())
    _, descriptor = run.descriptor("primary", {"x": "number"})
    configuration = {"data": {"moves": ophyd_async_table()}, "timestamps": {}, "data_keys": {}}
    descriptor["configuration"] = {"motor": configuration}
    run.event("primary", {"x": 0.5})
    run.stop()

    stream = written(client, run)

    assert stream.metadata["configuration"]["motor"]["data"]["moves"] == TABLE
    assert client[run.uid].metadata["start"]["moves"] == TABLE
    assert notes_of(client, run.uid) == []


def test_a_run_that_is_sent_again_stays_as_it_is(storage_client: Container, tmp_path: Path) -> None:
    keys = {
        "x": "number",
        "wave": data_key("array", [2], dtype_numpy="<f8"),
        "unit": data_key("string", **S40),
        "image": data_key("array", [6]),
    }
    odd = [1.5, [1.0, 2.0], "text", None]
    rows = [
        {"x": f"text {i}", "wave": odd[i % 4], "unit": "µm", "image": np.eye(2, 3) * i}
        for i in range(104)
    ]
    run = run_of_rows(keys, rows)
    written(storage_client, run, emit_one_by_one, journal_directory=tmp_path / "first")
    before = snapshot(storage_client[run.uid])

    written(storage_client, run, emit_one_by_one, journal_directory=tmp_path / "second")

    assert snapshot(storage_client[run.uid]) == before
    columns = before["children"]["primary"]["children"]["internal"]["columns"]
    assert columns["ts_x_verbatim"][1] == [f'"text {i}"' for i in range(104)]
