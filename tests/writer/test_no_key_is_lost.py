"""Keys that a server cannot hold as they come first, and keys that come late: all are stored.

On each database, over HTTP: a server in a process of its own closes the connection after an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import TOGETHER_OR_NOT, RunBuilder, Send, data_key
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter

ARRAYS: dict[str, tuple[list[int | None], list[Any]]] = {
    "shape None": ([None], [[0.0], [0.0, 1.0], [2.0, 3.0, 4.0], [5.0]]),
    "varying lengths": ([2], [[0.0, 1.0], [2.0, 3.0, 4.0], [5.0], [6.0, 7.0]]),
    "empty arrays": ([None], [[], [], [], []]),
    "some empty arrays": ([2], [[0.0, 1.0], [], [2.0], []]),
}


def assert_has(client: Container, uid: str, key: str, values: list[Any]) -> None:
    run = client[uid]
    assert run.metadata["stop"]["exit_status"] == "success"
    stream = stream_of(client, uid)
    assert len(run["primary"].read()["time"]) == len(values)
    if key in stream:
        found = stream[key].read().tolist()
    else:
        found = [json.loads(cell) for cell in stream["internal"].read()[key]]
        assert any(f"key {key!r}: its arrays are text" in note for note in run.metadata["notes"])
    assert found == values


@pytest.mark.filterwarnings("ignore:Failed to convert ragged")  # Tiled's, where xarray reads it
@TOGETHER_OR_NOT
@pytest.mark.parametrize(("shape", "values"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_any_length_are_stored_on_any_database(
    storage_client: Container,
    tmp_path: Path,
    shape: list[int | None],
    values: list[Any],
    send: Send,
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "a": data_key("array", shape, dtype_numpy="<f8")})
    for i, value in enumerate(values):
        run.event("primary", {"x": i, "a": value})
    run.stop()
    with TiledWriter(storage_client, journal_directory=tmp_path, batch_size=4) as writer:
        send(run.docs, writer)
        assert writer.wait_for(run.uid, timeout=30.0)
    assert_has(storage_client, run.uid, "a", values)


LATE: dict[str, tuple[Any, Any, Any]] = {
    "array": (data_key("array", [2], dtype_numpy="<i8"), [1, 2], [0, 0]),
    "array of text": (data_key("array", [2], dtype_numpy="<U3"), ["a", "b"], ["", ""]),
    "complex": (data_key(dtype_numpy="<c16"), 1 + 2j, complex("nan")),
    "name that SQL refuses": (data_key(), 1.5, np.nan),
    "column": (data_key(), 1.5, np.nan),
}


@TOGETHER_OR_NOT
@pytest.mark.parametrize("kind", LATE)
def test_a_key_of_a_later_descriptor_has_fill_values_before(
    storage_client: Container, kind: str, send: Send
) -> None:
    declared, value, fill = LATE[kind]
    key = "c(d)" if "name" in kind else "c"
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for i in range(2):
        run.event("primary", {"x": i})
    run.descriptor("primary", {"x": "number", key: declared})
    for i in range(2):
        run.event("primary", {"x": 2 + i, key: value})
    run.stop()
    with TiledWriter(storage_client) as writer:
        send(run.docs, writer)
    stream = storage_client[run.uid]["primary"]
    np.testing.assert_array_equal(stream[key].read(), [fill, fill, value, value])
    np.testing.assert_array_equal(stream["x"].read(), [0, 1, 2, 3])
    metadata = storage_client[run.uid].metadata
    assert metadata["stop"]["exit_status"] == "success"
    assert kind == "column" or any(repr(key) in note for note in metadata["notes"])
