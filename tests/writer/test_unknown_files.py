"""Files that cannot be described or are of an unknown type: each costs its key only, and a note."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import (
    DATASET,
    FRAMES,
    external,
    legacy_run,
    notes_of,
    uri_of,
    write_hdf5,
)
from documents import Document, RunBuilder, emit
from external_files import BYTES, HDF5, TIFF
from servers import Storage, in_process
from tiled.client import from_context
from tiled.client.container import Container
from tree import stream_of, table_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks.validation import validate_run

RAW = "application/x-own-raw"


@pytest.fixture(scope="module")
def knowing_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A client of a server with an adapter for the type `RAW`."""
    directory = tmp_path_factory.mktemp("knowing")
    storage = Storage("duckdb", directory, f"duckdb:///{directory / 'tables.db'}")
    adapters = {RAW: "own_adapter:RawAdapter"}
    readable = [tmp_path_factory.getbasetemp()]
    with in_process(storage, readable, adapters_by_mimetype=adapters) as context:
        yield from_context(context)


def raw_run(directory: Path, declared: Any = None, **parameters: Any) -> tuple[RunBuilder, str]:
    """A run with a motor and a detector whose files have the type `RAW`; and its resource."""
    FRAMES.tofile(directory / "a.raw")
    return two_keys(
        uri_of(directory / "a.raw"), RAW, external() if declared is None else declared, **parameters
    )


def two_keys(
    uri: str, mimetype: str, declared: Document | None, rows: int = 6, **parameters: Any
) -> tuple[RunBuilder, str]:
    run = RunBuilder()
    run.start()
    keys: dict[str, Any] = {"x": "number"}
    run.descriptor("primary", keys if declared is None else {**keys, "img": declared})
    resource = run.stream_resource("img", uri, mimetype, **parameters)
    for i in range(rows):
        run.event("primary", {"x": i / 2})
        run.stream_datum("primary", resource, i, i + 1)
    run.stop()
    return run, resource[1]["uid"]


def assert_the_rest_is_stored(client: Container, run: RunBuilder, rows: int = 6) -> None:
    columns = table_of(stream_of(client, run.uid)["internal"])["columns"]
    assert columns["x"][1] == [i / 2 for i in range(rows)]
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"


def assert_bytes(client: Container, run: RunBuilder, resource: str, mimetype: str) -> str:
    """Assert that the key is a node of bytes, whose note names key and resource."""
    stream = client.new_variation(include_data_sources=True)[run.uid]["primary"]
    node = getattr(stream, "base", stream)["img"]
    assert node.structure_family == "bytes"
    (source,) = node.data_sources()
    assert source.mimetype == BYTES
    (note,) = notes_of(client, run.uid)
    for name in ("'img'", repr(resource), mimetype, "bytes"):
        assert name in note
    return note


# -- unknown types --------------------------------------------------------------------------------


def test_files_that_the_server_cannot_read_are_bytes_with_a_note(
    client: Container, tmp_path: Path
) -> None:
    run, resource = raw_run(tmp_path)
    emit(run.docs, TiledWriter(client))

    assert_bytes(client, run, resource, RAW)
    assert_the_rest_is_stored(client, run)
    buffers: dict[str, Any] = {}
    stream_of(client, run.uid)["img"].raw_export(buffers)
    (content,) = buffers.values()
    assert content.getvalue() == FRAMES.tobytes()
    assert validate_run(client[run.uid]) == []


def test_files_that_only_the_server_can_read_are_arrays(
    knowing_client: Container, tmp_path: Path
) -> None:
    run, _ = raw_run(tmp_path)
    emit(run.docs, TiledWriter(knowing_client))

    node = knowing_client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read(), FRAMES)
    assert notes_of(knowing_client, run.uid) == []
    assert validate_run(knowing_client[run.uid]) == []


UNDESCRIBED = {
    "chunks": (external(), {"chunk_shape": [-1]}),
    "dimensions of chunks": (external(), {"chunk_shape": [1, 1, 1, 1]}),
    "shape": (external((None, 5)), {}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("declared", "parameters"), UNDESCRIBED.values(), ids=UNDESCRIBED)
@pytest.mark.parametrize("server", ["client", "knowing_client"])
def test_files_of_an_unknown_type_that_are_no_array_are_bytes_with_a_note(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server: str,
    declared: Document,
    parameters: Document,
) -> None:
    client = request.getfixturevalue(server)
    run, resource = raw_run(tmp_path, declared, **parameters)
    emit(run.docs, TiledWriter(client))
    assert_bytes(client, run, resource, RAW)
    assert_the_rest_is_stored(client, run)


def test_files_of_an_old_resource_with_an_unknown_spec_are_bytes_with_a_note(
    client: Container, tmp_path: Path
) -> None:
    write_hdf5(tmp_path / "a.h5", FRAMES)
    for number in range(2):
        run = legacy_run("UNKNOWN", tmp_path / "a.h5", late=bool(number), paged=False)
        emit(run.docs, TiledWriter(client))
        note = assert_bytes(client, run, f"res-{run.uid}", "UNKNOWN")
        assert "spec_to_mimetype" in note
        assert_the_rest_is_stored(client, run)


# -- known types, in documents that make no sense -------------------------------------------------

TEMPLATE: Document = {"template": "img_{:03d}.tif"}
BAD: dict[str, tuple[str, Document | None, Document, str]] = {
    "no dataset": (HDF5, external(), {}, "which dataset"),
    "chunk of size -1": (HDF5, external(), {**DATASET, "chunk_shape": [-1]}, "chunk_shape is"),
    "chunk of too many dimensions": (
        HDF5,
        external(),
        {**DATASET, "chunk_shape": [1, 1, 1, 1]},
        "more dimensions",
    ),
    "no template": (TIFF, external(), {}, "no template"),
    "template without a number": (TIFF, external(), {"template": "a.tif"}, "no number"),
    "template that cannot be filled in": (TIFF, external(), {"template": "{a}"}, "cannot be made"),
    "TIFF, chunk of size -1": (
        TIFF,
        external(),
        {**TEMPLATE, "chunk_shape": [-1]},
        "chunk_shape is",
    ),
    "a key that is not declared": (HDF5, None, DATASET, "no such data key"),
    "an unknown type of a key that is not declared": (RAW, None, {}, "no such data key"),
}


@pytest.mark.parametrize(("mimetype", "declared", "parameters", "text"), BAD.values(), ids=BAD)
def test_documents_that_make_no_sense_are_noted_with_key_and_resource(
    client: Container,
    tmp_path: Path,
    mimetype: str,
    declared: Document | None,
    parameters: Document,
    text: str,
) -> None:
    uri = write_hdf5(tmp_path / "a.h5", FRAMES)
    run, resource = two_keys(uri, mimetype, declared, **parameters)
    emit(run.docs, TiledWriter(client))

    assert list(stream_of(client, run.uid)) == ["internal"]
    assert_the_rest_is_stored(client, run)
    (note,) = notes_of(client, run.uid)
    for name in ("'img'", repr(resource), "'primary'", text):
        assert name in note


# -- files that are not as the documents say: seen only when they are read ------------------------


@pytest.mark.parametrize(
    ("rows", "parameters", "text"),
    [
        pytest.param(6, {"dataset": "/nowhere"}, "nowhere", id="dataset"),
        pytest.param(8, DATASET, "8 rows, but its files hold 6 only", id="beyond"),
    ],
)
def test_what_the_file_lacks_costs_only_its_key_and_shows_in_the_validation(
    client: Container, tmp_path: Path, rows: int, parameters: Document, text: str
) -> None:
    uri = write_hdf5(tmp_path / "a.h5", FRAMES)
    run, _ = two_keys(uri, HDF5, external(), rows, **parameters)
    emit(run.docs, TiledWriter(client))

    assert_the_rest_is_stored(client, run, rows)
    (problem,) = validate_run(client[run.uid])
    assert (problem.stream, problem.key) == ("primary", "img")
    assert text in problem.text
    assert uri in problem.text
