"""Detector files that the documents name are nodes that Tiled serves; nothing is read here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from conftest import RequestLog
from documents import Document, Pair, RunBuilder, data_key, emit
from external_files import BYTES, HDF5, JPEG, NPY, TIFF
from PIL import Image
from test_requests import closings, gets
from tiled.client.container import Container
from tree import stream_of, table_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter
from bluesky_tiled_writer.consolidators import CONSOLIDATOR_REGISTRY, HDF5Consolidator
from bluesky_tiled_writer.errors import UnknownReference

BATCH_SIZES = pytest.mark.parametrize("batch_size", [1, 2, 10_000])

FRAMES = np.arange(6 * 4 * 5, dtype="<u2").reshape(6, 4, 5)


def external(shape: tuple[int, ...] = (4, 5), dtype: str = "<u2", kind: str = "STREAM:") -> Any:
    return data_key("array", shape, dtype_numpy=dtype, external=kind)


def uri_of(path: Path) -> str:
    return f"file://localhost{path}"


def write_hdf5(path: Path, frames: np.ndarray) -> str:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = frames
    return uri_of(path)


def write_tiffs(directory: Path, frames: np.ndarray, template: str = "img_{:03d}.tif") -> str:
    for number, frame in enumerate(frames):
        tifffile.imwrite(directory / template.format(number), frame)
    return uri_of(directory) + "/"


def write_npys(directory: Path, frames: np.ndarray) -> str:
    for number, frame in enumerate(frames):
        np.save(directory / f"det_{number}.npy", frame)
    return uri_of(directory / "det")


def write_jpegs(directory: Path, frames: np.ndarray) -> str:
    for number, frame in enumerate(frames):
        Image.fromarray(frame.astype("u1")).save(directory / f"img_{number}.jpeg", quality=95)
    return uri_of(directory) + "/"


DATASET = {"dataset": "/entry/data/data", "chunk_shape": [1, 4, 5]}


def hdf5_run(uri: str, rows: int = 6, key: str = "img") -> RunBuilder:
    """A run with a motor and a detector that says after each event where its frame is."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", key: external()})
    resource = run.stream_resource(key, uri, **DATASET)
    for i in range(rows):
        run.event("primary", {"x": i / 2})
        run.stream_datum("primary", resource, i, i + 1)
    run.stop()
    return run


def notes_of(client: Container, uid: str) -> list[str]:
    return list(client[uid].metadata.get("notes", ()))


def put_requests(requests: list[tuple[str, str]], kind: str) -> list[str]:
    return [path for method, path in requests if f"{method} {path.strip('/')}".startswith(kind)]


# -- formats --------------------------------------------------------------------------------------


@BATCH_SIZES
def test_frames_in_an_hdf5_file_are_read_back(
    client: Container, tmp_path: Path, batch_size: int
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    node = client[run.uid]["primary"]["img"]
    assert node.read().dtype == np.dtype("<u2")
    np.testing.assert_array_equal(node.read(), FRAMES)
    np.testing.assert_array_equal(node[2], FRAMES[2])
    assert node.metadata == {}
    internal = table_of(stream_of(client, run.uid)["internal"])["columns"]
    assert internal["x"][1] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert sorted(internal) == ["seq_num", "time", "ts_x", "x"]
    assert notes_of(client, run.uid) == []


@BATCH_SIZES
def test_several_resources_of_one_key_are_joined(
    client: Container, tmp_path: Path, batch_size: int
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    for number, part in enumerate(np.split(FRAMES, 3)):
        uri = write_hdf5(tmp_path / f"{number}.h5", part)
        resource = run.stream_resource("img", uri, **DATASET)
        run.stream_datum("primary", resource, 2 * number, 2 * number + 2)
    run.stop()
    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read(), FRAMES)
    (source,) = client.new_variation(include_data_sources=True)[run.uid]["primary"][
        "img"
    ].data_sources()
    assert [
        asset.data_uri.rpartition("/")[2] for asset in sorted(source.assets, key=lambda a: a.num)
    ] == ["0.h5", "1.h5", "2.h5"]


@BATCH_SIZES
@pytest.mark.parametrize(
    ("write", "mimetype", "parameters"),
    [
        (write_tiffs, TIFF, {"template": "img_{:03d}.tif", "chunk_shape": [1, 4, 5]}),
        (write_npys, NPY, {}),
    ],
    ids=["TIFF", "NPY"],
)
def test_sequences_of_files_are_read_back(
    client: Container,
    tmp_path: Path,
    batch_size: int,
    write: Callable[[Path, np.ndarray], str],
    mimetype: str,
    parameters: Document,
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    resource = run.stream_resource("img", write(tmp_path, FRAMES), mimetype, **parameters)
    run.stream_datum("primary", resource, 0, 1)
    run.stream_datum("primary", resource, 1, 4)
    run.stream_datum("primary", resource, 4, 6)
    run.stop()
    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    np.testing.assert_array_equal(client[run.uid]["primary"]["img"].read(), FRAMES)
    assert notes_of(client, run.uid) == []


def test_jpegs_are_read_back(client: Container, tmp_path: Path) -> None:
    frames = np.stack([np.full((8, 16), 40 * i) for i in range(3)])
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external((8, 16), "|u1")})
    uri = write_jpegs(tmp_path, frames)
    parameters = {"template": "img_{:d}.jpeg", "chunk_shape": [1, 8, 16]}
    run.stream_datum("primary", run.stream_resource("img", uri, JPEG, **parameters), 0, 3)
    run.stop()
    emit(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_allclose(node.read().astype(int), frames, atol=2)


def test_each_detector_of_each_stream_has_its_node(client: Container, tmp_path: Path) -> None:
    run = RunBuilder()
    run.start()
    expected = {}
    for stream in ("primary", "fly"):
        run.descriptor(stream, {"a": external(), "b": external(), "x": "number"})
        for key in "ab":
            frames = FRAMES + len(expected)
            expected[stream, key] = frames
            path = tmp_path / f"{stream}-{key}.h5"
            resource = run.stream_resource(key, write_hdf5(path, frames), **DATASET)
            run.stream_datum(stream, resource, 0, 6)
    run.stop()
    emit(run.docs, TiledWriter(client))
    for (stream, key), frames in expected.items():
        np.testing.assert_array_equal(client[run.uid][stream][key].read(), frames)


# -- documents of old -----------------------------------------------------------------------------


def legacy_run(
    spec: str, directory: Path, *, late: bool, paged: bool, missing: bool = False, **kwargs: Any
) -> RunBuilder:
    """Six events whose values are ids of datums, which come before or after them."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "img": external(kind="FILESTORE:")})
    uid = f"res-{run.uid}"
    ids = [f"{uid}/{i}" for i in range(6)]

    def resource() -> None:
        run.add(
            "resource",
            {
                "uid": uid,
                "run_start": run.uid,
                "spec": spec,
                "root": "/",
                "resource_path": str(directory).lstrip("/"),
                "resource_kwargs": kwargs,
                "path_semantics": "posix",
            },
        )

    def datums() -> None:
        sent = range(6) if not missing else (0, 1, 2, 4, 5)
        for i in sent:
            doc = {"datum_id": ids[i], "resource": uid, "datum_kwargs": {"point_number": i}}
            run.add("datum", doc)

    resource()
    if not late:
        datums()
    rows = [{"x": i / 2, "img": ids[i]} for i in range(6)]
    if paged:
        run.event_page("primary", rows)
        run.docs[-1][1]["filled"] = {"img": [False] * 6}
    else:
        for row in rows:
            run.event("primary", row, filled={"img": False})
    if late:
        datums()
    run.stop()
    return run


AD_TIFF = {"template": "%s%s_%3.3d.tif", "filename": "img", "frame_per_point": 1}
LATE = pytest.mark.parametrize("late", [False, True], ids=["before", "late"])
PAGED = pytest.mark.parametrize("paged", [False, True], ids=["events", "page"])


@LATE
@PAGED
def test_the_datums_of_ad_hdf5_are_registered(
    client: Container, tmp_path: Path, late: bool, paged: bool
) -> None:
    write_hdf5(tmp_path / "a.h5", FRAMES)
    run = legacy_run("AD_HDF5", tmp_path / "a.h5", late=late, paged=paged, frame_per_point=1)
    emit(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read().reshape(FRAMES.shape), FRAMES)
    assert node.metadata["spec"] == "AD_HDF5"
    assert node.metadata["frame_per_point"] == 1
    assert notes_of(client, run.uid) == []
    table = table_of(stream_of(client, run.uid)["internal"])["columns"]
    assert table["x"][1] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert "img" not in table


@LATE
@PAGED
def test_the_datums_of_ad_tiff_are_registered(
    client: Container, tmp_path: Path, late: bool, paged: bool
) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=late, paged=paged, **AD_TIFF)
    emit(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read().reshape(FRAMES.shape), FRAMES)
    assert notes_of(client, run.uid) == []


def test_datum_pages_and_overridden_datums_are_registered(
    client: Container, tmp_path: Path
) -> None:
    class Own(RunNormalizer):
        seen = 0

        def datum(self, doc: Any) -> None:
            Own.seen += 1
            super().datum(doc)

    def with_page(run: RunBuilder) -> list[Pair]:
        datums = [doc for name, doc in run.docs if name == "datum"]
        page = {
            "resource": datums[0]["resource"],
            "datum_id": [doc["datum_id"] for doc in datums],
            "datum_kwargs": {"point_number": list(range(6))},
        }
        docs = [pair for pair in run.docs if pair[0] != "datum"]
        return [*docs[:3], ("datum_page", page), *docs[3:]]

    write_tiffs(tmp_path, FRAMES)
    options: list[Any] = [{}, {"normalizer": Own}, {"patches": {"datum": lambda doc: doc}}]
    for option in options:
        run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
        emit(with_page(run), TiledWriter(client, **option))
        node = client[run.uid]["primary"]["img"]
        np.testing.assert_array_equal(node.read().reshape(FRAMES.shape), FRAMES)
    assert Own.seen == 6


def test_a_datum_that_never_comes_costs_only_its_own_row(client: Container, tmp_path: Path) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, missing=True, **AD_TIFF)
    emit(run.docs, TiledWriter(client))

    stream = client[run.uid]["primary"]
    np.testing.assert_array_equal(stream["img"].read().reshape(5, 4, 5), FRAMES[[0, 1, 2, 4, 5]])
    assert len(table_of(stream_of(client, run.uid)["internal"])["columns"]["x"][1]) == 6
    (note,) = notes_of(client, run.uid)
    assert "'img'" in note
    assert f"res-{run.uid}/3" in note
    assert "seq_num 4" in note


def test_events_with_only_external_keys_have_rows_and_frames(
    client: Container, tmp_path: Path
) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
    for name, doc in run.docs:
        if name == "descriptor":
            del doc["data_keys"]["x"]
            doc["object_keys"] = {"device": ["img"]}
        if name == "event":
            del doc["data"]["x"], doc["timestamps"]["x"]
    emit(run.docs, TiledWriter(client))

    stream = stream_of(client, run.uid)
    np.testing.assert_array_equal(stream["img"].read().reshape(FRAMES.shape), FRAMES)
    columns = table_of(stream["internal"])["columns"]
    assert sorted(columns) == ["seq_num", "time"]
    assert columns["seq_num"][1] == [1, 2, 3, 4, 5, 6]


def test_a_value_that_is_neither_filled_nor_a_datum_is_noted_once(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "img": external((2,), kind="OLD:")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "img": [1, 2]})
    run.stop()
    emit(run.docs, TiledWriter(client))
    (note,) = notes_of(client, run.uid)
    assert "'img'" in note
    assert "seq_num 1 the first" in note


def test_a_datum_that_makes_no_sense_costs_only_itself(client: Container, tmp_path: Path) -> None:
    write_tiffs(tmp_path, FRAMES)
    for late in (False, True):
        run = legacy_run("AD_TIFF", tmp_path, late=late, paged=False, **AD_TIFF)
        for name, doc in run.docs:
            if name == "datum" and doc["datum_id"].endswith("/2"):
                doc["datum_kwargs"] = {"point_number": "two"}
        emit(run.docs, TiledWriter(client))
        frames = client[run.uid]["primary"]["img"].read().reshape(5, 4, 5)
        np.testing.assert_array_equal(frames, FRAMES[[0, 1, 3, 4, 5]])
        (note,) = notes_of(client, run.uid)
        assert f"res-{run.uid}/2" in note


def test_without_a_normalizer_old_resources_are_noted(client: Container, tmp_path: Path) -> None:
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
    emit(run.docs, TiledWriter(client, normalizer=None))
    (note,) = notes_of(client, run.uid)
    assert f"res-{run.uid}" in note
    assert list(stream_of(client, run.uid)) == ["internal"]


def test_an_external_key_with_a_reserved_name_is_renamed_with_its_files(
    client: Container, tmp_path: Path
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES), key="time")
    emit(run.docs, TiledWriter(client))
    np.testing.assert_array_equal(client[run.uid]["primary"]["time_"].read(), FRAMES)
