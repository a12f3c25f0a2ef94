"""Files are registered in few requests, in the right order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from conftest import RequestLog
from detector_files import (
    FRAMES,
    emit_with_flushes,
    external,
    hdf5_run,
    put_requests,
    write_hdf5,
    write_tiffs,
)
from documents import RunBuilder, emit
from external_files import TIFF
from request_lists import closings, gets
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter


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
