"""Trouble with the files of a key costs that key only."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import RequestLog
from detector_files import (
    DATASET,
    FRAMES,
    assert_only_the_good_one_is_stored,
    emit_with_flushes,
    external,
    hdf5_run,
    legacy_run,
    notes_of,
    two_detectors,
    uri_of,
    write_hdf5,
)
from documents import RunBuilder, data_key, emit
from external_files import BYTES, HDF5
from request_lists import gets
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.consolidators import CONSOLIDATOR_REGISTRY, HDF5Consolidator
from bluesky_tiled_writer.errors import UnknownReference


class Broken(HDF5Consolidator):
    """A beamline's class, with a mistake."""

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


@pytest.mark.parametrize("where", ["init", "consume", "get"])
def test_a_consolidator_of_a_beamline_that_fails_costs_only_its_key(
    client: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setitem(CONSOLIDATOR_REGISTRY, "application/x-broken", Broken)
    monkeypatch.setattr(Broken, "where", where)
    good = write_hdf5(tmp_path / "a.h5", FRAMES)
    run = two_detectors(good, good, "application/x-broken", **DATASET)
    emit(run.docs, TiledWriter(client))
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


def test_files_of_a_type_that_the_server_does_not_know_are_bytes(
    client: Container, tmp_path: Path, request_log: RequestLog
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
        emit(run.docs, TiledWriter(client))
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
    run.stream_datum("primary", ("stream_resource", {"uid": "unknown"}), 0, 1)
    run.stop()
    writer = TiledWriter(client)
    emit(run.docs[:2], writer)
    with pytest.raises(UnknownReference, match="unknown"):
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


# -- failures of the server -----------------------------------------------------------------------


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
