"""Detector files that the documents name are nodes that Tiled serves; nothing is read here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RequestLog
from detector_files import (
    AD_TIFF,
    BATCH_SIZES,
    DATASET,
    FRAMES,
    assert_only_the_good_one_is_stored,
    emit_with_flushes,
    external,
    frames_in,
    hdf5_run,
    legacy_run,
    notes_of,
    put_requests,
    registered,
    simulated_detector,
    two_detectors,
    uri_of,
    write_hdf5,
    write_jpegs,
    write_npys,
    write_tiffs,
)
from documents import Document, Pair, RunBuilder, data_key, emit
from external_files import BYTES, HDF5, JPEG, NPY, TIFF
from request_lists import closings, gets
from tiled.client.container import Container
from tree import stream_of, table_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter
from bluesky_tiled_writer.consolidators import CONSOLIDATOR_REGISTRY, HDF5Consolidator
from bluesky_tiled_writer.errors import UnknownReference

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


# -- what goes wrong costs only its key -----------------------------------------------------------


@BATCH_SIZES
@pytest.mark.parametrize(
    ("mimetype", "parameters"),
    [
        pytest.param(TIFF, {"template": "no number"}, id="template"),
        pytest.param(HDF5, {**DATASET, "chunk_shape": [0]}, id="chunks"),
        pytest.param(HDF5, {**DATASET, "chunk_shape": [1, 1, 1, 1]}, id="chunks, found late"),
    ],
)
def test_files_that_cannot_be_described_cost_only_their_key(
    client: Container, tmp_path: Path, batch_size: int, mimetype: str, parameters: Document
) -> None:
    good = write_hdf5(tmp_path / "a.h5", FRAMES)
    run = two_detectors(good, good, mimetype, **parameters)
    emit(run.docs, TiledWriter(client, batch_size=batch_size))
    note = assert_only_the_good_one_is_stored(client, run)
    resource = next(
        doc["uid"] for _, doc in run.docs if doc.get("data_key") == "bad" and "uri" in doc
    )
    assert resource in note


class Broken(HDF5Consolidator):
    """The class of a beamline, with a mistake."""

    supported_mimetypes = {"application/x-broken"}  # noqa: RUF012
    where = "init"

    def __new__(cls, *args: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any) -> None:
        self.fail("init")
        super().__init__(*args)

    def fail(self, where: str) -> None:
        if where == self.where:
            raise ZeroDivisionError(f"in {where}")

    def consume_stream_datum(self, doc: Any) -> Any:
        self.fail("consume")
        if doc["indices"]["start"] == 3:
            self.fail("consume later")
        return super().consume_stream_datum(doc)

    def get_data_source(self) -> Any:
        self.fail("get")
        return super().get_data_source()


@BATCH_SIZES
@pytest.mark.parametrize("where", ["init", "consume", "get"])
def test_a_consolidator_of_a_beamline_that_fails_costs_only_its_key(
    client: Container,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    where: str,
) -> None:
    monkeypatch.setitem(CONSOLIDATOR_REGISTRY, "application/x-broken", Broken)
    monkeypatch.setattr(Broken, "where", where)
    good = write_hdf5(tmp_path / "a.h5", FRAMES)
    run = two_detectors(good, good, "application/x-broken", **DATASET)
    emit(run.docs, TiledWriter(client, batch_size=batch_size))
    assert f"ZeroDivisionError: in {where}" in assert_only_the_good_one_is_stored(client, run)


@pytest.mark.parametrize(("every", "rows"), [(1, 3), (2, 2), (10_000, 3)])
def test_a_key_that_is_given_up_keeps_what_came_before(
    client: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, rows: int
) -> None:
    monkeypatch.setitem(CONSOLIDATOR_REGISTRY, HDF5, Broken)
    monkeypatch.setattr(Broken, "where", "consume later")
    monkeypatch.setattr(Broken, "supported_mimetypes", {HDF5})
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    emit_with_flushes(run.docs, TiledWriter(client), every)
    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read(), FRAMES[:rows])
    (note,) = notes_of(client, run.uid)
    assert f"{rows} of its rows" in note
    assert "ZeroDivisionError" in note


@BATCH_SIZES
def test_files_of_a_type_that_the_server_does_not_know_are_bytes(
    client: Container, tmp_path: Path, request_log: RequestLog, batch_size: int
) -> None:
    contents = [bytes([i] * 10) for i in range(4)]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    for part in (0, 2):
        directory = tmp_path / str(part)
        directory.mkdir()
        for i in range(2):
            (directory / f"{i}.own").write_bytes(contents[part + i])
        uri = uri_of(directory) + "/"
        resource = run.stream_resource("img", uri, "application/x-own", template="{:d}.own")
        run.stream_datum("primary", resource, 0, 1)
        run.stream_datum("primary", resource, 1, 2)
    run.stop()
    with request_log(client) as requests:
        emit(run.docs, TiledWriter(client, batch_size=batch_size))
    assert gets(requests) == []

    stream = client.new_variation(include_data_sources=True)[run.uid]["primary"]
    item = stream_of(client, run.uid)["img"].item
    assert item["attributes"]["structure_family"] == "bytes"
    assert stream["img"].metadata["mimetype"] == "application/x-own"
    (source,) = stream["img"].data_sources()
    assert source.mimetype == BYTES
    uris = [asset.data_uri for asset in sorted(source.assets, key=lambda asset: asset.num)]
    expected = [uri_of(tmp_path / f"{part}" / f"{i}.own") for part in (0, 2) for i in (0, 1)]
    assert uris == expected
    notes = notes_of(client, run.uid)
    assert any("'img'" in note and "application/x-own" in note for note in notes)


def test_files_of_varying_shape_are_bytes(client: Container, tmp_path: Path) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": data_key("array", [None, 5], external="STREAM:")})
    for name in "ab":
        uri = write_hdf5(tmp_path / f"{name}.h5", FRAMES)
        run.stream_datum("primary", run.stream_resource("img", uri, **DATASET), 0, 1)
    run.stop()
    emit(run.docs, TiledWriter(client))
    node = client.new_variation(include_data_sources=True)[run.uid]["primary"]["img"]
    assert len(node.data_sources()[0].assets) == 2
    assert any("'img'" in note for note in notes_of(client, run.uid))


def test_a_stream_datum_of_an_unknown_resource_is_refused(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    run.stream_datum("primary", ("stream_resource", {"uid": "nobody"}), 0, 1)
    run.stop()
    writer = TiledWriter(client)
    emit(run.docs[:2], writer)
    with pytest.raises(UnknownReference, match="nobody"):
        writer(*run.docs[2])
    emit(run.docs[3:], writer)


def test_a_resource_that_no_datum_refers_to_makes_no_node(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "img": external()})
    run.stream_resource("img", "file://localhost/a.h5", **DATASET)
    run.event("primary", {"x": 1.0})
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert list(stream_of(client, run.uid)) == ["internal"]
    assert notes_of(client, run.uid) == []


def test_a_resource_without_a_run_is_only_for_those_whose_datums_refer_to_it(
    client: Container, tmp_path: Path
) -> None:
    uri = write_hdf5(tmp_path / "a.h5", FRAMES)
    runs = [hdf5_run(uri) for _ in range(2)]
    shared = next(doc for name, doc in runs[0].docs if name == "stream_resource")
    del shared["run_start"]
    writer = TiledWriter(client)
    other = [pair for pair in runs[1].docs if pair[0] not in ("stream_resource", "stream_datum")]
    emit(other[:2], writer)
    emit(runs[0].docs, writer)
    emit(other[2:], writer)
    np.testing.assert_array_equal(client[runs[0].uid]["primary"]["img"].read(), FRAMES)
    assert list(stream_of(client, runs[1].uid)) == ["internal"]


def test_frames_that_come_with_events_and_in_files_have_nodes_of_their_own(
    client: Container, tmp_path: Path
) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
    events = [doc for name, doc in run.docs if name == "event"]
    events[5]["data"]["img"], events[5]["filled"] = FRAMES[5].tolist(), {"img": True}
    emit(run.docs, TiledWriter(client, batch_size=1))
    stream = stream_of(client, run.uid)
    np.testing.assert_array_equal(stream["img"].read().reshape(5, 4, 5), FRAMES[:5])
    np.testing.assert_array_equal(stream["img_"].read()[5], FRAMES[5])
    assert any("'img_'" in note for note in notes_of(client, run.uid))


def test_a_key_that_cannot_be_the_name_of_a_node_is_stored_under_another(
    client: Container, tmp_path: Path
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES), key="det?img")
    emit(run.docs, TiledWriter(client))
    np.testing.assert_array_equal(stream_of(client, run.uid)["det_img"].read(), FRAMES)
    (note,) = notes_of(client, run.uid)
    assert "'det?img'" in note
    assert "'det_img'" in note


@BATCH_SIZES
@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
def test_a_datum_of_no_rows_is_no_trouble(
    client: Container, tmp_path: Path, batch_size: int, mimetype: str
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    if mimetype == HDF5:
        uri, parameters = write_hdf5(tmp_path / "a.h5", FRAMES), DATASET
    else:
        uri, parameters = write_tiffs(tmp_path, FRAMES), {"template": "img_{:03d}.tif"}
    resource = run.stream_resource("img", uri, mimetype, **parameters)
    for start, stop in ((0, 0), (0, 6), (6, 6)):
        run.stream_datum("primary", resource, start, stop)
    run.stop()
    emit(run.docs, TiledWriter(client, batch_size=batch_size))
    np.testing.assert_array_equal(client[run.uid]["primary"]["img"].read(), FRAMES)


def test_a_failure_of_the_server_leaves_the_rows_to_be_registered(
    client: Container, tmp_path: Path
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    writer = TiledWriter(client)
    emit(run.docs[:-1], writer)
    failed: list[str] = []

    def fail_once(request: Any) -> None:
        if request.method == "PUT" and not failed:
            failed.append(str(request.url))
            raise httpx.ReadError("refused by the test")

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(fail_once)
    try:
        emit(run.docs[-1:], writer)
    finally:
        hooks.remove(fail_once)
    assert failed
    np.testing.assert_array_equal(client[run.uid]["primary"]["img"].read(), FRAMES)
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"


def test_a_failure_of_the_server_loses_no_datum_of_the_other_keys(
    client: Container, tmp_path: Path
) -> None:
    write_hdf5(tmp_path / "a.h5", FRAMES)
    run = legacy_run("AD_HDF5", tmp_path / "a.h5", late=False, paged=False)
    second = copy.deepcopy([pair for pair in run.docs if pair[0] in ("resource", "datum")])
    for name, doc in second:
        doc["uid" if name == "resource" else "datum_id"] += "-2"
        if name == "datum":
            doc["resource"] += "-2"
    for name, doc in run.docs:
        if name == "descriptor":
            doc["data_keys"]["two"] = external(kind="FILESTORE:")
        elif name == "event":
            doc["data"]["two"] = doc["data"]["img"] + "-2"
            doc["timestamps"]["two"] = doc["timestamps"]["img"]
    docs = [*run.docs[:3], *second, *run.docs[3:]]
    failed: list[str] = []

    def fail_once(request: Any) -> None:
        if "data_source" in request.url.path and not failed:
            failed.append(request.url.path)
            raise httpx.ReadError("refused by the test")

    writer = TiledWriter(client, batch_size=1)
    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(fail_once)
    try:
        emit(docs, writer)
    finally:
        hooks.remove(fail_once)
    assert failed
    for key in ("img", "two"):
        frames = client[run.uid]["primary"][key].read()
        np.testing.assert_array_equal(frames.reshape(FRAMES.shape), FRAMES)


def test_the_errors_of_files_are_backed_up_like_others(client: Container, tmp_path: Path) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    backup: dict[str, Any] = {}

    def fail(request: Any) -> None:
        if "/register/" in request.url.path:
            raise RuntimeError("refused by the test")

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(fail)
    try:
        emit(run.docs, TiledWriter(client, backup_dictionary=backup))
    finally:
        hooks.remove(fail)
    assert len(backup[run.uid]) == len(run.docs)


def test_a_normalizer_of_a_beamline_may_add_specs(client: Container, tmp_path: Path) -> None:
    class Own(RunNormalizer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.spec_to_mimetype["OWN_TIFF"] = TIFF

    write_tiffs(tmp_path, FRAMES)
    options: list[Any] = [{"normalizer": Own}, {"spec_to_mimetype": {"OWN_TIFF": TIFF}}]
    for option in options:
        run = legacy_run("OWN_TIFF", f"{tmp_path}/", late=False, paged=False, **AD_TIFF)
        emit(run.docs, TiledWriter(client, **option))
        frames = client[run.uid]["primary"]["img"].read().reshape(FRAMES.shape)
        np.testing.assert_array_equal(frames, FRAMES)


# -- requests -------------------------------------------------------------------------------------


def test_a_key_costs_one_create_and_one_update_a_flush(
    client: Container, tmp_path: Path, request_log: RequestLog
) -> None:
    uri = write_hdf5(tmp_path / "a.h5", FRAMES)
    for every, flushes in ((10_000, 1), (2, 3), (1, 6)):
        run = hdf5_run(uri)
        with request_log(client) as requests:
            emit_with_flushes(run.docs, TiledWriter(client), every)
        node = f"{run.uid}/primary/img"
        assert gets(requests) == []
        assert [path.strip("/") for path in put_requests(requests, "POST register")] == [
            f"register/{run.uid}/primary"
        ]
        assert [path.strip("/") for path in put_requests(requests, "PUT")] == [
            f"data_source/{node}"
        ] * flushes
        assert put_requests(requests, f"PATCH metadata/{node}") == []
        np.testing.assert_array_equal(client[run.uid]["primary"]["img"].read(), FRAMES)


def test_nodes_of_external_keys_are_closed_before_their_stream(
    client: Container, tmp_path: Path, request_log: RequestLog
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    with request_log(client) as requests:
        emit(run.docs, TiledWriter(client))
    stream = f"{run.uid}/primary"
    assert closings(requests) == [f"{stream}/internal", f"{stream}/img", stream, run.uid]


def test_only_new_files_are_sent(client: Container, tmp_path: Path) -> None:
    uri = write_tiffs(tmp_path, FRAMES)
    bodies: list[tuple[list[str], str]] = []

    def record(request: Any) -> None:
        if request.method == "PUT":
            assets = json.loads(request.content)["data_source"]["assets"]
            names = [asset["data_uri"].rpartition("/")[2] for asset in assets]
            params = request.url.params
            bodies.append((names, f"{params['patch_shape']} at {params['patch_offset']}"))

    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    resource = run.stream_resource("img", uri, TIFF, template="img_{:03d}.tif")
    for i in range(0, 6, 2):
        run.stream_datum("primary", resource, i, i + 2)
    run.stop()
    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(record)
    try:
        emit_with_flushes(run.docs, TiledWriter(client), 1)
    finally:
        hooks.remove(record)
    assert bodies == [
        ([], "2,4,5 at 0,0,0"),
        (["img_002.tif", "img_003.tif"], "2,4,5 at 2,0,0"),
        (["img_004.tif", "img_005.tif"], "2,4,5 at 4,0,0"),
    ]


# -- where the server has the files ---------------------------------------------------------------


@BATCH_SIZES
def test_paths_of_the_detector_become_those_of_the_server(
    client: Container, tmp_path: Path, batch_size: int
) -> None:
    write_hdf5(tmp_path / "a.h5", FRAMES[:3])
    write_hdf5(tmp_path / "b.h5", FRAMES[3:])
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    originals = ["file://localhost/Z:/data/a.h5", "file://localhost/Z:/data/b.h5"]
    for number, uri in enumerate(originals):
        resource = run.stream_resource("img", uri, **DATASET)
        run.stream_datum("primary", resource, 3 * number, 3 * number + 3)
    run.stop()
    before = copy.deepcopy(run.docs)
    path_map = {"Z:/data": str(tmp_path)}
    emit(run.docs, TiledWriter(client, batch_size=batch_size, path_map=path_map))

    assert run.docs == before
    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read(), FRAMES)
    assert node.metadata["original_uris"] == originals


def test_a_path_that_is_not_mapped_is_not_noted(client: Container, tmp_path: Path) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    emit(run.docs, TiledWriter(client, path_map={"/elsewhere": "/nowhere"}))
    assert client[run.uid]["primary"]["img"].metadata == {}


def test_a_path_map_that_makes_no_sense_is_refused(client: Container) -> None:
    with pytest.raises(ValueError, match="absolute"):
        TiledWriter(client, path_map={"data": "/mnt/data"})


# -- as bluesky-tiled-plugins does ----------------------------------------------------------------


@pytest.mark.plugins
@BATCH_SIZES
@pytest.mark.parametrize("case", ["HDF5", "TIFF", "AD_HDF5", "AD_TIFF"])
def test_what_is_registered_is_as_bluesky_tiled_plugins_does_it(
    client: Container, tmp_path: Path, batch_size: int, case: str
) -> None:
    plugins = pytest.importorskip("bluesky_tiled_plugins")
    hdf5 = write_hdf5(tmp_path / "a.h5", FRAMES)
    tiffs = write_tiffs(tmp_path, FRAMES)
    if case == "HDF5":
        run = hdf5_run(hdf5)
    elif case == "TIFF":
        run = RunBuilder()
        run.start()
        run.descriptor("primary", {"x": "number", "img": external()})
        parameters = {"template": "img_{:03d}.tif", "chunk_shape": [1, 4, 5]}
        resource = run.stream_resource("img", tiffs, TIFF, **parameters)
        for i in range(6):
            run.event("primary", {"x": i / 2})
            run.stream_datum("primary", resource, i, i + 1)
        run.stop()
    elif case == "AD_HDF5":
        path = tmp_path / "a.h5"
        run = legacy_run(case, path, late=False, paged=False, frame_per_point=1)
    else:
        # Without the slash, they do not find the directory.
        run = legacy_run(case, f"{tmp_path}/", late=False, paged=False, **AD_TIFF)
    emit(run.docs, TiledWriter(client, batch_size=batch_size))
    own = registered(client, run.uid)
    frames = client[run.uid]["primary"]["img"].read()
    client.delete_contents([run.uid], recursive=True, external_only=False)

    emit(run.docs, plugins.TiledWriter(client, batch_size=batch_size))
    theirs = registered(client, run.uid)
    assert own["img"][:3] == theirs["img"][:3]
    for name, value in own["img"][3].items():
        assert value == theirs["img"][3][name], name
    assert own.keys() == theirs.keys()
    np.testing.assert_array_equal(frames, client[run.uid]["primary"]["img"].read())


# -- ophyd-async under the RunEngine --------------------------------------------------------------


@pytest.fixture
def tiled_writer(client: Container) -> TiledWriter:
    """What the fixture `RE` subscribes: it writes where the server may read."""
    return TiledWriter(client)


def test_a_step_scan_with_a_detector_of_ophyd_async(
    RE: Any, client: Container, tmp_path: Path
) -> None:
    import bluesky.plans as bp
    from ophyd.sim import motor

    det = simulated_detector(tmp_path)
    (uid,) = RE(bp.scan([det], motor, 0, 1, 4))

    stream = client[uid]["primary"]
    frames = frames_in(tmp_path)
    assert len(frames) == 4
    # ophyd-async declares one frame an event, not a frame.
    np.testing.assert_array_equal(stream["det"].read(), frames[:, np.newaxis])
    sums = frames.sum(axis=(1, 2), dtype=np.int64)
    np.testing.assert_array_equal(np.ravel(stream["det-sum"].read()), sums)
    columns = table_of(stream_of(client, uid)["internal"])["columns"]
    np.testing.assert_allclose(columns["motor"][1], np.linspace(0, 1, 4))
    assert notes_of(client, uid) == []


def test_a_fly_scan_with_a_detector_of_ophyd_async(
    RE: Any, client: Container, tmp_path: Path
) -> None:
    import bluesky.plan_stubs as bps
    import bluesky.preprocessors as bpp
    from ophyd_async.core import TriggerInfo

    det = simulated_detector(tmp_path)

    @bpp.stage_decorator([det])
    @bpp.run_decorator()
    def fly() -> Any:
        yield from bps.prepare(det, TriggerInfo(number_of_events=5, livetime=0.001), wait=True)
        yield from bps.declare_stream(det, name="fly")
        yield from bps.kickoff(det, wait=True)
        yield from bps.collect_while_completing([det], [det], flush_period=0.05, stream_name="fly")

    (uid,) = RE(fly())

    frames = frames_in(tmp_path)
    assert len(frames) == 5
    np.testing.assert_array_equal(client[uid]["fly"]["det"].read(), frames[:, np.newaxis])
    assert notes_of(client, uid) == []
