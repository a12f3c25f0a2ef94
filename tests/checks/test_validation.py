"""A stored run is compared with the files that it was registered on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from detector_files import (
    AD_TIFF,
    FRAMES,
    external,
    legacy_run,
    simulated_detector,
    uri_of,
    write_hdf5,
    write_tiffs,
)
from documents import Document, RunBuilder, data_key, emit, scalar_run
from external_files import BYTES, CSV, HDF5, NPY, TIFF
from tiled.client import from_uri
from tiled.client.container import Container
from tree import clients_without, snapshot

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks import stored_files
from bluesky_tiled_writer.checks.validation import Problem, validate_run

Write = Callable[[Path], str]


def hdf5(frames: np.ndarray = FRAMES, **options: Any) -> Write:
    def write(directory: Path) -> str:
        with h5py.File(directory / "a.h5", "w") as file:
            file.create_dataset("x", data=frames, **options)
        return uri_of(directory / "a.h5")

    return write


def tiffs(frames: np.ndarray = FRAMES, missing: int = -1) -> Write:
    def write(directory: Path) -> str:
        for number, frame in enumerate(frames):
            if number != missing:
                tifffile.imwrite(directory / f"{number}.tif", frame)
        return uri_of(directory) + "/"

    return write


def npys(directory: Path) -> str:
    for number, frame in enumerate(FRAMES):
        np.save(directory / f"det_{number}.npy", frame)
    return uri_of(directory / "det")


def csv(rows: int = 6) -> Write:
    def write(directory: Path) -> str:
        (directory / "a.csv").write_text("1,2,3\n" * rows)
        return uri_of(directory / "a.csv")

    return write


def nothing(directory: Path) -> str:
    return uri_of(directory / "a.h5")


def detector_run(
    declared: Document, mimetype: str, uri: str, *, events: int = 6, **parameters: Any
) -> RunBuilder:
    """Six datums of one detector, beside a motor that was read at `events` of them."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "img": declared})
    resource = run.stream_resource("img", uri, mimetype, **parameters)
    for i in range(events):
        run.event("primary", {"x": i / 2})
    run.stream_datum("primary", resource, 0, 6)
    run.stop()
    return run


GOOD: dict[str, tuple[Document, str, Write, Document]] = {
    "HDF5": (external(), HDF5, hdf5(), {"dataset": "x"}),
    "chunks": (
        external(),
        HDF5,
        hdf5(chunks=(2, 2, 5)),
        {"dataset": "x", "chunk_shape": [2, 2, 5]},
    ),
    "chunks that are not declared": (external(), HDF5, hdf5(chunks=(1, 4, 5)), {"dataset": "x"}),
    "chunks of a file that has none": (
        external(),
        HDF5,
        hdf5(),
        {"dataset": "x", "chunk_shape": [1]},
    ),
    "a frame an event": (
        external((1, 4, 5)),
        HDF5,
        hdf5(chunks=(1, 4, 5)),
        {"dataset": "x", "chunk_shape": [1, 1, 4, 5]},
    ),
    "two frames an event": (
        external((2, 4, 5)),
        HDF5,
        hdf5(np.concatenate([FRAMES, FRAMES]), chunks=(2, 4, 5)),
        {"dataset": "x", "chunk_shape": [1, 2, 4, 5]},
    ),
    "one number an event": (external((1,)), HDF5, hdf5(FRAMES[:, 0, 0]), {"dataset": "x"}),
    "appended": (
        external((1, 4, 5)),
        HDF5,
        hdf5(),
        {"dataset": "x", "join_method": "concat"},
    ),
    "part of a dataset": (external((4,)), HDF5, hdf5(), {"dataset": "x", "slice": "(:,:,0)"}),
    "TIFF": (external(), TIFF, tiffs(), {"template": "{:d}.tif"}),
    "TIFF, two files a datum": (
        external((2, 4, 5)),
        TIFF,
        tiffs(np.concatenate([FRAMES, FRAMES])),
        {"template": "{:d}.tif", "multiplier": 2},
    ),
    "TIFF, two pages a file": (
        external((2, 4, 5)),
        TIFF,
        tiffs(np.stack([FRAMES, FRAMES], axis=1)),
        {"template": "{:d}.tif"},
    ),
    "NPY": (external(), NPY, npys, {}),
    "CSV": (external((1, 3), "<f8"), CSV, csv(), {}),
    "bytes": (external(), BYTES, hdf5(), {}),
    "dims": (external() | {"dims": ["y", "x"]}, HDF5, hdf5(), {"dataset": "x"}),
}


@pytest.mark.parametrize(("declared", "mimetype", "write", "parameters"), GOOD.values(), ids=GOOD)
def test_a_run_as_it_should_be_has_no_problem(
    client: Container,
    tmp_path: Path,
    declared: Document,
    mimetype: str,
    write: Write,
    parameters: Document,
) -> None:
    run = detector_run(declared, mimetype, write(tmp_path), **parameters)
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []


DATASET: Document = {"dataset": "x"}
TEMPLATE: Document = {"template": "{:d}.tif"}
WRONG: dict[str, tuple[Document, str, Write, Document, str]] = {
    "shape": (external((4, 6)), HDF5, hdf5(), DATASET, r"shape .*\(6, 4, 6\).*\(4, 5\)"),
    "transposed": (external((5, 4)), HDF5, hdf5(), DATASET, r"shape .*\(6, 5, 4\).*\(4, 5\)"),
    "TIFF, shape": (external((4, 6)), TIFF, tiffs(), TEMPLATE, r"shape .*\(6, 4, 6\).*\(4, 5\)"),
    "TIFF, transposed": (external((5, 4)), TIFF, tiffs(), TEMPLATE, r"\(6, 5, 4\).*\(4, 5\)"),
    "too few rows": (external(), HDF5, hdf5(FRAMES[:4]), DATASET, "6 rows, .*hold 4 only"),
    "more rows": (
        external(),
        HDF5,
        hdf5(np.concatenate([FRAMES, FRAMES])),
        DATASET,
        "12 rows, of which 6",
    ),
    "type": (external(dtype="<i2"), HDF5, hdf5(), DATASET, "data type is <u2 .* as <i2"),
    "TIFF, type": (external(dtype="<i2"), TIFF, tiffs(), TEMPLATE, "data type is <u2 .* as <i2"),
    "chunks": (
        external(),
        HDF5,
        hdf5(chunks=(1, 4, 5)),
        {**DATASET, "chunk_shape": [2, 2]},
        r"chunks are \(1, 4, 5\) .* \(2, 2, 5\)",
    ),
    "TIFF, chunks": (
        external(),
        TIFF,
        tiffs(),
        {**TEMPLATE, "chunk_shape": [1, 2, 5]},
        r"chunks .* \(1, 2, 5\)",
    ),
    "dims": (
        external() | {"dims": ["y"]},
        HDF5,
        hdf5(),
        DATASET,
        r"dims .*\('y',\), do not fit the shape \(6, 4, 5\)",
    ),
    "dims of one name": (
        external() | {"dims": ["y", "y"]},
        HDF5,
        hdf5(),
        DATASET,
        r"dims .*\('y', 'y'\), do not fit",
    ),
    "dataset": (external(), HDF5, hdf5(), {"dataset": "y"}, "cannot be read: KeyError: .*a.h5"),
    "group": (external(), HDF5, hdf5(), {"dataset": "/"}, "cannot be read: .*no dataset"),
    "missing": (external(), HDF5, nothing, DATASET, "1 of its 1 files are missing: .*/a.h5"),
    "TIFF, missing": (
        external(),
        TIFF,
        tiffs(missing=3),
        TEMPLATE,
        "1 of its 6 files are missing: .*/3.tif",
    ),
    "bytes, missing": (external(), BYTES, nothing, {}, "files are missing: .*/a.h5"),
    "CSV, columns": (external((1, 4), "<f8"), CSV, csv(), {}, "cannot be read: .*reshape"),
    "CSV, rows": (external((1, 3), "<f8"), CSV, csv(5), {}, "last row cannot be read"),
}


@pytest.mark.parametrize(
    ("declared", "mimetype", "write", "parameters", "text"), WRONG.values(), ids=WRONG
)
def test_what_was_declared_otherwise_than_the_files_are_is_named_with_its_key(
    client: Container,
    tmp_path: Path,
    declared: Document,
    mimetype: str,
    write: Write,
    parameters: Document,
    text: str,
) -> None:
    run = detector_run(declared, mimetype, write(tmp_path), **parameters)
    emit(run.docs, TiledWriter(client))

    (problem,) = validate_run(client[run.uid])

    assert (problem.stream, problem.key) == ("primary", "img")
    assert re.search(text, problem.text), problem.text
    assert str(problem).startswith("Stream 'primary', key 'img': ")


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_TIFF"])
def test_a_run_of_old_documents_has_no_problem(
    client: Container, tmp_path: Path, spec: str
) -> None:
    if spec == "AD_HDF5":
        write_hdf5(tmp_path / "a.h5", FRAMES)
        run = legacy_run(spec, tmp_path / "a.h5", late=False, paged=False, frame_per_point=1)
    else:
        write_tiffs(tmp_path, FRAMES)
        run = legacy_run(spec, tmp_path, late=False, paged=False, **AD_TIFF)
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []


def test_files_of_several_resources_are_taken_together(client: Container, tmp_path: Path) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    for number, part in enumerate(np.split(FRAMES, 3)):
        uri = write_hdf5(tmp_path / f"{number}.h5", part)
        resource = run.stream_resource("img", uri, dataset="/entry/data/data", chunk_shape=[1])
        run.stream_datum("primary", resource, 2 * number, 2 * number + 2)
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []
    plain = client.new_variation(structure_clients=clients_without("bluesky_tiled_plugins"))
    assert validate_run(plain[run.uid]) == []
    (tmp_path / "1.h5").unlink()
    for reader in (client, plain):
        (problem,) = validate_run(reader[run.uid])
        assert "1 of its 3 files are missing" in problem.text


def test_nothing_is_changed(client: Container, tmp_path: Path) -> None:
    run = detector_run(external((5, 4)), HDF5, hdf5()(tmp_path), **DATASET)
    emit(run.docs, TiledWriter(client))
    before = snapshot(client[run.uid])
    assert validate_run(client[run.uid])
    assert snapshot(client[run.uid]) == before


def test_files_of_a_key_may_differ_among_themselves(client: Container, tmp_path: Path) -> None:
    tiffs()(tmp_path)
    tifffile.imwrite(tmp_path / "5.tif", FRAMES[5].astype("<u4"))
    run = detector_run(external(), TIFF, uri_of(tmp_path) + "/", **TEMPLATE)
    emit(run.docs, TiledWriter(client))
    (problem,) = validate_run(client[run.uid])
    assert re.search("files differ: .*0.tif .*<u2, .*5.tif .*<u4", problem.text)


@pytest.mark.parametrize("most", [2, 100])
def test_of_very_many_hdf5_files_the_first_and_the_last_are_opened(
    client: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(stored_files, "MAX_OPENED", most)
    for number, frame in enumerate(FRAMES):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["x"] = frame[np.newaxis]
    parameters = {**DATASET, "template": "{:d}.h5"}
    run = detector_run(external(), HDF5, uri_of(tmp_path) + "/", **parameters)
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []


# -- where the files are seen by the server only --------------------------------------------------


@pytest.fixture(params=["HTTP", "in-process"])
def far_client(
    request: pytest.FixtureRequest,
    http_server: str,
    client: Container,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Container]:
    """A client on a computer without the disks of the detectors."""
    monkeypatch.setattr(stored_files, "is_visible", lambda uri: False)
    if request.param == "in-process":
        yield client
        return
    over_http = from_uri(http_server)
    yield over_http
    over_http.context.close()


FAR = ["shape", "TIFF, shape", "too few rows", "type", "dataset", "missing", "TIFF, chunks"]


@pytest.mark.parametrize("case", [*FAR, "CSV, columns", "CSV, rows"])
def test_what_the_server_cannot_read_is_named_with_its_key(
    far_client: Container, tmp_path: Path, case: str
) -> None:
    declared, mimetype, write, parameters, _ = WRONG[case]
    run = detector_run(declared, mimetype, write(tmp_path), **parameters)
    good = scalar_run()
    writer = TiledWriter(far_client)
    emit(run.docs, writer)

    (problem,) = validate_run(far_client[run.uid])

    assert (problem.stream, problem.key) == ("primary", "img")
    assert re.search("(first|last) row cannot be read: ", problem.text)
    # An error of the server leaves the client fit for further runs.
    emit(good.docs, writer)
    assert validate_run(far_client[good.uid]) == []


def test_another_size_of_elements_shows_from_afar(far_client: Container, tmp_path: Path) -> None:
    run = detector_run(external(dtype="<f8"), TIFF, tiffs()(tmp_path), **TEMPLATE)
    emit(run.docs, TiledWriter(far_client))
    (problem,) = validate_run(far_client[run.uid])
    assert "2 bytes, but its data type <f8 has 8" in problem.text


@pytest.mark.parametrize("case", ["HDF5", "chunks", "TIFF", "TIFF, two files a datum", "NPY"])
def test_files_that_only_the_server_has_are_no_problem(
    far_client: Container, tmp_path: Path, case: str
) -> None:
    declared, mimetype, write, parameters = GOOD[case]
    run = detector_run(declared, mimetype, write(tmp_path), **parameters)
    emit(run.docs, TiledWriter(far_client))
    assert validate_run(far_client[run.uid]) == []


# -- rows -----------------------------------------------------------------------------------------


def test_a_key_with_fewer_rows_than_there_were_events_is_named(
    client: Container, tmp_path: Path
) -> None:
    run = detector_run(external(), HDF5, hdf5()(tmp_path), events=8, **DATASET)
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == [
        Problem("primary", "img", "it has 6 rows, but the stream has 8.")
    ]


def test_a_key_that_is_called_like_a_table_does_not_say_how_many_rows_there_are(
    client: Container, tmp_path: Path
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "internal_img": external()})
    resource = run.stream_resource("internal_img", hdf5()(tmp_path), HDF5, **DATASET)
    run.stream_datum("primary", resource, 0, 6)
    for i in range(8):
        run.event("primary", {"x": i / 2})
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == [
        Problem("primary", "internal_img", "it has 6 rows, but the stream has 8.")
    ]


def test_appended_rows_are_counted_by_datum(client: Container, tmp_path: Path) -> None:
    write = hdf5(np.concatenate([FRAMES, FRAMES]))
    parameters = {**DATASET, "join_method": "concat"}
    run = detector_run(external((2, 4, 5)), HDF5, write(tmp_path), events=6, **parameters)
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []


def test_all_kinds_of_nodes_have_the_rows_of_the_stream(client: Container) -> None:
    run = RunBuilder()
    run.start()
    keys = {"wave": data_key("array", [2]), "trace": data_key("array", [None]), "x": "number"}
    run.descriptor("primary", keys)
    run.descriptor("empty", {"y": "number"})
    for i in range(3):
        run.event("primary", {"x": 1.0, "wave": [1.0, i], "trace": [0.5] * i})
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []


def test_rows_that_a_scan_took_again_are_no_problem(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for seq_num in (1, 2, 3, 2, 3, 4):
        run.event("primary", {"x": 0.5}, seq_num=seq_num)
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert validate_run(client[run.uid]) == []


def test_a_stop_document_that_counts_other_events_is_a_problem_of_the_stream(
    client: Container,
) -> None:
    run = scalar_run(events=3)
    run.docs[-1][1]["num_events"] = {"primary": 5}
    emit(run.docs, TiledWriter(client))
    (problem,) = validate_run(client[run.uid])
    assert str(problem) == (
        "Stream 'primary': the stop document counts 5 events, but 3 are stored."
    )


def test_a_run_without_stop_is_a_problem_of_the_run(client: Container) -> None:
    run = scalar_run()
    with TiledWriter(client) as writer:
        emit(run.docs[:-1], writer)
    assert [str(problem) for problem in validate_run(client[run.uid])] == [
        "Run: it has no stop document."
    ]


# -- real devices ---------------------------------------------------------------------------------


@pytest.fixture
def tiled_writer(client: Container) -> TiledWriter:
    """What the fixture `RE` subscribes: it writes where the server may read."""
    return TiledWriter(client)


def test_scans_with_a_detector_of_ophyd_async_have_no_problem(
    RE: Any, client: Container, tmp_path: Path
) -> None:
    import bluesky.plan_stubs as bps
    import bluesky.plans as bp
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

    for plan in (bp.count([det], 3), fly()):
        (uid,) = RE(plan)
        assert validate_run(client[uid]) == []
