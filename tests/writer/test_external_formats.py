"""Detector files that the documents name become nodes that Tiled serves; none is opened here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import (
    AD_TIFF,
    DATASET,
    FRAMES,
    external,
    frames_in,
    hdf5_run,
    legacy_run,
    notes_of,
    registered,
    simulated_detector,
    write_hdf5,
    write_jpegs,
    write_npys,
    write_tiffs,
)
from documents import TOGETHER_OR_NOT, Document, RunBuilder, Send, emit
from external_files import HDF5, JPEG, NPY, TIFF
from tiled.client.container import Container
from tree import stream_of, table_of

from bluesky_tiled_writer import TiledWriter


@TOGETHER_OR_NOT
def test_frames_in_an_hdf5_file_are_read_back(
    client: Container, tmp_path: Path, send: Send
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    send(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    assert node.read().dtype == np.dtype("<u2")
    np.testing.assert_array_equal(node.read(), FRAMES)
    np.testing.assert_array_equal(node[2], FRAMES[2])
    assert node.metadata == {}
    internal = table_of(stream_of(client, run.uid)["internal"])["columns"]
    assert internal["x"][1] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert sorted(internal) == ["seq_num", "time", "ts_x", "x"]
    assert notes_of(client, run.uid) == []


def test_several_resources_of_one_key_are_joined(client: Container, tmp_path: Path) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    for number, part in enumerate(np.split(FRAMES, 3)):
        uri = write_hdf5(tmp_path / f"{number}.h5", part)
        resource = run.stream_resource("img", uri, **DATASET)
        run.stream_datum("primary", resource, 2 * number, 2 * number + 2)
    run.stop()
    emit(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read(), FRAMES)
    (source,) = client.new_variation(include_data_sources=True)[run.uid]["primary"][
        "img"
    ].data_sources()
    assert [
        asset.data_uri.rpartition("/")[2] for asset in sorted(source.assets, key=lambda a: a.num)
    ] == ["0.h5", "1.h5", "2.h5"]


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
    emit(run.docs, TiledWriter(client))

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


@pytest.mark.parametrize("mimetype", [HDF5, TIFF])
def test_a_datum_of_no_rows_changes_nothing(
    client: Container, tmp_path: Path, mimetype: str
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
    emit(run.docs, TiledWriter(client))
    np.testing.assert_array_equal(client[run.uid]["primary"]["img"].read(), FRAMES)


# -- names and paths ------------------------------------------------------------------------------


def test_an_external_key_with_a_reserved_name_is_renamed_with_its_files(
    client: Container, tmp_path: Path
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES), key="time")
    emit(run.docs, TiledWriter(client))
    np.testing.assert_array_equal(client[run.uid]["primary"]["time_"].read(), FRAMES)


def test_a_key_that_cannot_be_the_name_of_a_node_is_stored_under_another(
    client: Container, tmp_path: Path
) -> None:
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES), key="det?img")
    emit(run.docs, TiledWriter(client))
    np.testing.assert_array_equal(stream_of(client, run.uid)["det_img"].read(), FRAMES)
    (note,) = notes_of(client, run.uid)
    assert "'det?img'" in note
    assert "'det_img'" in note


def test_paths_of_the_detector_become_those_of_the_server(
    client: Container, tmp_path: Path
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
    emit(run.docs, TiledWriter(client, path_map=path_map))

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
@pytest.mark.parametrize("case", ["HDF5", "TIFF", "AD_HDF5", "AD_TIFF"])
def test_files_are_registered_as_bluesky_tiled_plugins_does_it(
    client: Container, tmp_path: Path, case: str
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
    emit(run.docs, TiledWriter(client))
    own = registered(client, run.uid)
    frames = client[run.uid]["primary"]["img"].read()
    client.delete_contents([run.uid], recursive=True, external_only=False)

    emit(run.docs, plugins.TiledWriter(client))
    theirs = registered(client, run.uid)
    assert own["img"][:3] == theirs["img"][:3]
    if case in ("HDF5", "AD_HDF5"):
        # If the file has more frames, as after a scan that was aborted, theirs cannot be read, or
        # has more rows after it was validated.
        assert own["img"][3]["parameters"].pop("slice") == ":6"
    for name, value in own["img"][3].items():
        assert value == theirs["img"][3][name], name
    assert own.keys() == theirs.keys()
    np.testing.assert_array_equal(frames, client[run.uid]["primary"]["img"].read())


# -- ophyd-async under the RunEngine --------------------------------------------------------------


@pytest.fixture
def tiled_writer(client: Container) -> TiledWriter:
    """The writer that the fixture `RE` subscribes, to a server that may read the files."""
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
