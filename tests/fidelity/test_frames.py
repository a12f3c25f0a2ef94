"""Every row of an external key is the frame of its event, or it is said which one is not.

Files are written with frames that carry their number, registered, and read back through Tiled.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np
import pytest
import tifffile
from detector_files import emit_with_flushes, external, notes_of, uri_of
from documents import RunBuilder, emit
from external_files import CSV, HDF5, NPY, TIFF
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks import validate_run
from bluesky_tiled_writer.consolidators import EVENT_ROWS, opening

HEIGHT, WIDTH = 3, 7

Datum = tuple[int, int, int]
"""A file, and the range of its frames."""


def frames_of(file: int, number: int) -> np.ndarray:
    """Return the frames of a file: every pixel of a frame carries its number, and its file's."""
    values = 100 * file + np.arange(number, dtype="<u2")
    return np.broadcast_to(values[:, np.newaxis, np.newaxis], (number, HEIGHT, WIDTH)).copy()


@dataclass(frozen=True)
class Layout:
    """How a detector writes its files, and what its documents say of them."""

    mimetype: str
    shape: tuple[int, ...]  # of an event
    parameters: dict[str, Any] = field(default_factory=dict)
    per_index: int = 1

    def write(self, directory: Path, file: int, number: int) -> str:
        """Write a file, or as many as it has frames, and return the URI."""
        frames = frames_of(file, number * self.per_index)
        if self.mimetype == TIFF:
            for i, frame in enumerate(frames):
                tifffile.imwrite(directory / f"{file}_{i}.tif", frame)
            return uri_of(directory) + "/"
        if self.mimetype == NPY:
            for i, frame in enumerate(frames):
                np.save(directory / f"{file}_{i}.npy", frame)
            return uri_of(directory / f"{file}")
        if self.mimetype == CSV:
            np.savetxt(directory / f"{file}.csv", frames[:, 0], delimiter=",", fmt="%d")
            return uri_of(directory / f"{file}.csv")
        in_file = frames.reshape(number, *self.shape) if self.rows_in_file else frames
        with h5py.File(directory / f"{file}.h5", "w") as h5:
            h5.create_dataset("x", data=in_file)
        return uri_of(directory / f"{file}.h5")

    @property
    def rows_in_file(self) -> bool:
        return len(self.parameters.get("chunk_shape", ())) == len(self.shape) + 1

    def resource(self, file: int) -> dict[str, Any]:
        template = {"template": f"{file}_{{:d}}.tif"} if self.mimetype == TIFF else {}
        return {**self.parameters, **template}


H5: dict[str, Any] = {"dataset": "/x"}
FLAT = [1, HEIGHT, WIDTH]
LAYOUTS = {
    "HDF5, a frame": Layout(HDF5, (HEIGHT, WIDTH), {**H5, "chunk_shape": FLAT}),
    "HDF5, a frame, no chunks": Layout(HDF5, (HEIGHT, WIDTH), H5),
    "HDF5, one frame": Layout(HDF5, (1, HEIGHT, WIDTH), {**H5, "chunk_shape": FLAT}),
    "HDF5, one frame of four dimensions": Layout(
        HDF5, (1, HEIGHT, WIDTH), {**H5, "chunk_shape": [1, *FLAT]}
    ),
    "HDF5, two frames": Layout(HDF5, (2, HEIGHT, WIDTH), {**H5, "chunk_shape": FLAT}, 2),
    "HDF5, two frames of four dimensions": Layout(
        HDF5, (2, HEIGHT, WIDTH), {**H5, "chunk_shape": [1, 2, HEIGHT, WIDTH]}, 2
    ),
    "HDF5, frame_per_point": Layout(HDF5, (HEIGHT, WIDTH), {**H5, "frame_per_point": 2}, 2),
    "TIFF": Layout(TIFF, (HEIGHT, WIDTH)),
    "NPY": Layout(NPY, (HEIGHT, WIDTH)),
    "CSV": Layout(CSV, (1, WIDTH)),
}


@dataclass
class Measured:
    """A run, and the number of the frame that belongs to each of its rows."""

    run: RunBuilder
    more: int
    in_files: int = 0
    frames: list[int] = field(default_factory=list)


def measure(
    directory: Path, layout: Layout, datums: Sequence[Datum], more: int = 0, more_in_first: int = 0
) -> Measured:
    """Return a run with datums of files, the last of which has `more` frames than announced."""
    run = RunBuilder()
    run.start()
    kind = external(layout.shape, "<f8" if layout.mimetype == CSV else "<u2")
    run.descriptor("primary", {"x": "number", "img": kind})
    order = list(dict.fromkeys(file for file, _, _ in datums))
    resources = {}
    counted_on: dict[int, int] = {}
    measured = Measured(run, more)
    frames = measured.frames
    for position, (file, start, stop) in enumerate(datums):
        if file not in resources:
            # Indices that go on where those of the files before end are taken to count on.
            earlier = sum(
                max(end for name, _, end in datums[:position] if name == other) - counted_on[other]
                for other in resources
            )
            counted_on[file] = start if resources and start == earlier else 0
            number = max(end for name, _, end in datums if name == file) - counted_on[file]
            number += more if file == order[-1] else 0
            number += more_in_first if file == order[0] else 0
            measured.in_files += number
            uri = layout.write(directory, file, number)
            resources[file] = run.stream_resource(
                "img", uri, layout.mimetype, **layout.resource(file)
            )
        for index in range(start, stop):
            run.event("primary", {"x": len(frames)})
            frames.append(100 * file + (index - counted_on[file]) * layout.per_index)
        run.stream_datum("primary", resources[file], start, stop)
        seq_num = len(frames) - (stop - start)
        run.docs[-1][1]["seq_nums"] = {"start": seq_num + 1, "stop": len(frames) + 1}
        run.docs[-1][1]["uid"] += f"/{len(run.docs)}"
    run.stop()
    return measured


def read(node: Any, part: str = "") -> np.ndarray:
    """Read an array by one request: Tiled's client repeats it for minutes if the server fails."""
    shape = list(node.shape)
    if part:
        start, stop = map(int, part.split(":"))
        shape[0] = stop - start
    response = node.context.http_client.get(
        node.item["links"]["full"].partition("?")[0],
        params={"expected_shape": ",".join(map(str, shape)), **({"slice": part} if part else {})},
        headers={"Accept": "application/octet-stream"},
    )
    assert response.status_code == 200, response.text
    dtype = node.structure().data_type.to_numpy_dtype()
    return np.frombuffer(response.content, dtype).reshape(shape)


def numbers(values: np.ndarray, layout: Layout, rows: int) -> list[int]:
    """Return the number that the first frame of each row carries; all of its pixels have it."""
    if not rows:
        return []
    per_row = np.asarray(values).reshape(rows, layout.per_index, -1)
    assert (per_row == per_row[:, :, :1]).all()
    assert (per_row[:, :, 0] - per_row[:, :1, 0] == np.arange(layout.per_index)).all()
    return [int(number) for number in per_row[:, 0, 0]]


def check(client: Container, measured: Measured, layout: Layout, *, exact: bool | None) -> None:
    """Read the frames of a run; if they are not those of the events, it must be said."""
    uid = measured.run.uid
    node = stream_of(client, uid)["img"]
    concatenated = layout.mimetype == CSV
    rows = node.shape[0]
    assert concatenated or node.shape[1:] == tuple(
        (2, *layout.shape) if "frame_per_point" in layout.parameters else layout.shape
    )
    told = [p.text for p in validate_run(client[uid]) if p.key == "img"]
    noted = [n for n in notes_of(client, uid) if n.startswith("External key 'img' of stream")]
    found = numbers(read(node), layout, rows)
    assert len(found) == rows
    assert numbers(read(node, f"{rows - 1}:{rows}"), layout, 1) == found[-1:]
    if exact is not False and found == measured.frames:
        assert EVENT_ROWS not in node.metadata
        assert noted == []
        unused = measured.in_files - len(set(measured.frames))
        assert len(told) == (unused > 0 and layout.mimetype == HDF5), told
        assert all("of which" in text for text in told)
        return
    assert exact is not True, (found, measured.frames)
    assert len(noted) == 1
    assert any("not the frames of the events" in text for text in told)
    ranges = node.metadata[EVENT_ROWS]
    assert [found[i] for start, stop in ranges for i in range(start, stop)] == measured.frames


COMMON: dict[str, tuple[list[Datum], int]] = {
    "all": ([(0, 0, 5)], 0),
    "one by one": ([(0, i, i + 1) for i in range(4)], 0),
    "an aborted scan": ([(0, 0, 2)], 3),
    "an aborted scan, one by one": ([(0, i, i + 1) for i in range(3)], 2),
    "an aborted scan of one event": ([(0, 0, 1)], 4),
    "a late begin": ([(0, 2, 5)], 0),
    "a late begin and an early end": ([(0, 2, 3), (0, 3, 4)], 2),
    "every second frame": ([(0, i, i + 1) for i in (0, 2, 4)], 1),
    "backwards": ([(0, i, i + 1) for i in (2, 1, 0)], 0),
    "a dropped frame": ([(0, 0, 2), (0, 3, 5)], 0),
    "another order": ([(0, i, i + 1) for i in (2, 0, 1)], 0),
    "one frame of two events": ([(0, 0, 2), (0, 1, 2)], 0),
    "two files": ([(0, 0, 2), (1, 0, 3)], 0),
    "two files, aborted": ([(0, 0, 2), (1, 0, 1)], 2),
    "two files, the first late": ([(0, 1, 3), (1, 0, 2)], 1),
    "two files, interleaved": ([(0, 0, 1), (1, 0, 1), (0, 1, 2), (1, 1, 2)], 0),
}
BY_SLICE = {
    "all", "one by one", "an aborted scan", "an aborted scan, one by one",
    "an aborted scan of one event", "a late begin", "a late begin and an early end",
    "every second frame", "backwards", "two files", "two files, aborted",
    "two files, the first late",
}  # fmt: skip
FROM_THE_BEGINNING = {"all", "one by one", "two files"}


def expected_exact(layout: Layout, case: str) -> bool | None:
    if layout.mimetype in (TIFF, NPY):
        return True
    if layout.mimetype == CSV:
        return True if case in FROM_THE_BEGINNING else None
    by_block = layout.per_index > 1 and not layout.rows_in_file
    return case in (BY_SLICE - {"every second frame", "backwards"} if by_block else BY_SLICE)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        (name, case)
        for name in LAYOUTS
        for case in COMMON
        # Of text, Tiled reads each file as one chunk, which `chunk_shape` would have to say.
        if name != "CSV" or "two files" not in case
    ],
)
def test_rows_are_the_frames_of_the_events(
    client: Container, tmp_path: Path, name: str, case: str
) -> None:
    layout, (datums, more) = LAYOUTS[name], COMMON[case]
    measured = measure(tmp_path, layout, datums, more)
    emit(measured.run.docs, TiledWriter(client))
    check(client, measured, layout, exact=expected_exact(layout, case))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].mimetype != CSV])
def test_an_earlier_file_with_more_frames_moves_no_frame_in_silence(
    client: Container, tmp_path: Path, name: str
) -> None:
    layout = LAYOUTS[name]
    measured = measure(tmp_path, layout, [(0, 0, 2), (1, 0, 3)], more=1, more_in_first=2)
    emit(measured.run.docs, TiledWriter(client))
    check(client, measured, layout, exact=layout.mimetype != HDF5)


@pytest.mark.parametrize(("more", "certain"), [(0, True), (2, False)])
def test_indices_that_may_go_on_or_begin_late_are_noted(
    client: Container, tmp_path: Path, more: int, certain: bool
) -> None:
    """A file with no more frames than were counted on has no others."""
    layout = LAYOUTS["HDF5, a frame, no chunks"]
    measured = measure(tmp_path, layout, [(0, 0, 2), (1, 2, 4)], more)
    emit(measured.run.docs, TiledWriter(client))
    notes = [
        note for note in notes_of(client, measured.run.uid) if "where those of earlier" in note
    ]
    assert len(notes) == (not certain)
    check(client, measured, layout, exact=True)


def test_file_names_that_may_count_on_or_begin_late_are_noted(
    client: Container, tmp_path: Path
) -> None:
    measured = measure(tmp_path, LAYOUTS["TIFF"], [(0, 0, 2), (1, 2, 4)])
    emit(measured.run.docs, TiledWriter(client))
    (note,) = notes_of(client, measured.run.uid)
    assert "begin with 2, where those of earlier files end" in note


def test_a_csv_file_with_too_many_rows_to_skip_is_noted(
    client: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_tiled_writer.consolidators.csv.MAX_SKIPPED", 2)
    measured = measure(tmp_path, LAYOUTS["CSV"], [(0, 0, 2)], more=3)
    emit(measured.run.docs, TiledWriter(client))
    (note,) = notes_of(client, measured.run.uid)
    assert "have 3 rows more than were announced, so that Tiled cannot read them" in note


# -- any datums -----------------------------------------------------------------------------------

DATUMS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 2)).map(
        lambda datum: (datum[0], datum[1], datum[1] + datum[2])
    ),
    min_size=1,
    max_size=5,
)
ANY_FILES = [name for name in LAYOUTS if name != "CSV"]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(datums=DATUMS, name=st.sampled_from(ANY_FILES), more=st.integers(0, 2), live=st.booleans())
def test_each_row_has_its_frame_or_it_is_said_which_has_not(
    client: Container, tmp_path: Path, datums: list[Datum], name: str, more: int, live: bool
) -> None:
    """Any order, gaps, repeats and splits of datums over any number of files."""
    directory = tmp_path / str(uuid.uuid4())
    directory.mkdir()
    measured = measure(directory, LAYOUTS[name], datums, more)
    # Indices that seem to count on, and then go back, get a note of their own.
    assume(all(frame % 100 < 90 and frame >= 0 for frame in measured.frames))
    emit_with_flushes(measured.run.docs, TiledWriter(client), every=1 if live else 100)
    check(client, measured, LAYOUTS[name], exact=True if "TIFF" in name or "NPY" in name else None)


@pytest.mark.plugins
@pytest.mark.filterwarnings("ignore:Tiled server does not support remote validation")
@pytest.mark.parametrize("name", ["HDF5, a frame", "HDF5, frame_per_point", "TIFF"])
@pytest.mark.parametrize("case", ["all", "an aborted scan", "a late begin", "another order"])
def test_the_validation_of_bluesky_tiled_plugins_adds_no_frames(
    client: Container, tmp_path: Path, name: str, case: str
) -> None:
    pytest.importorskip("bluesky_tiled_plugins")
    layout = LAYOUTS[name]
    measured = measure(tmp_path, layout, *COMMON[case])
    emit(measured.run.docs, TiledWriter(client))
    assert client[measured.run.uid].validate(fix_errors=True, raise_on_error=True)
    check(client, measured, layout, exact=expected_exact(layout, case))


# -- while it grows, and again --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HDF5, a frame", "HDF5, one frame", "HDF5, two frames", "TIFF"])
@pytest.mark.parametrize("case", ["an aborted scan, one by one", "two files", "late"])
def test_the_rows_so_far_are_right_while_the_run_grows(
    client: Container, tmp_path: Path, name: str, case: str
) -> None:
    layout = LAYOUTS[name]
    late = ([(0, 2, 3), (0, 3, 5), (0, 5, 6)], 1)
    measured = measure(tmp_path, layout, *{**COMMON, "late": late}[case])
    writer = TiledWriter(client)
    rows = 0
    for pair in measured.run.docs:
        emit([pair], writer)
        if pair[0] == "stream_datum":
            assert writer.flush(timeout=30.0)
            rows += pair[1]["indices"]["stop"] - pair[1]["indices"]["start"]
            node = stream_of(client, measured.run.uid)["img"]
            assert numbers(read(node), layout, rows) == measured.frames[:rows]


@pytest.mark.parametrize("case", ["a late begin and an early end", "another order", "two files"])
@pytest.mark.parametrize("name", ["HDF5, one frame", "TIFF"])
def test_a_run_that_comes_again_has_the_same_frames(
    client: Container, tmp_path: Path, name: str, case: str
) -> None:
    """Its documents come again after it was stored in part, or as a whole."""
    layout = LAYOUTS[name]
    measured = measure(tmp_path, layout, *COMMON[case])
    docs = measured.run.docs
    last = max(i for i, (kind, _) in enumerate(docs) if kind == "stream_datum")
    with TiledWriter(client, journal_directory=tmp_path / "first") as writer:
        emit(docs[:last], writer)
        assert writer.flush(timeout=30.0)
    for _ in range(2):
        emit(docs, TiledWriter(client))
        check(client, measured, layout, exact=None)


# -- what old documents leave out -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("mimetype", "dtype"),
    [*((HDF5, name) for name in ("<u2", "|u1", "<i4", "<f4", "<f8", "|b1")), (TIFF, "<u2")],
)
@pytest.mark.parametrize("here", [True, False], ids=["here", "there"])
def test_the_type_of_the_files_is_registered_if_none_is_declared(
    client: Container,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mimetype: str,
    here: bool,
    dtype: str,
) -> None:
    if not here:  # only the server has the files
        monkeypatch.setattr(opening, "is_visible", lambda uri: False)
    layout = Layout(mimetype, (HEIGHT, WIDTH), H5 if mimetype == HDF5 else {})
    frames = frames_of(0, 3).astype(dtype)
    run = RunBuilder()
    run.start()
    key = external(layout.shape)
    del key["dtype_numpy"]
    run.descriptor("primary", {"x": "number", "img": key})
    if mimetype == HDF5:
        with h5py.File(tmp_path / "a.h5", "w") as h5:
            h5["x"] = frames
        resource = run.stream_resource("img", uri_of(tmp_path / "a.h5"), **H5)
    else:
        for i, frame in enumerate(frames):
            tifffile.imwrite(tmp_path / f"{i}.tif", frame)
        resource = run.stream_resource("img", uri_of(tmp_path) + "/", TIFF, template="{:d}.tif")
    run.stream_datum("primary", resource, 0, 3)
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert notes_of(client, run.uid) == []
    node = stream_of(client, run.uid)["img"]
    assert node.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read(node), frames)


# -- datums of old -------------------------------------------------------------------------------


def old_run(
    path: Path, spec: str, shape: tuple[int, ...], datums: Sequence[dict[str, Any]], **kwargs: Any
) -> RunBuilder:
    """Return a run with an event for each datum, which may come again."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external(shape, kind="FILESTORE:")})
    resource = {"uid": f"res-{run.uid}", "spec": spec, "root": "/", "path_semantics": "posix"}
    run.add("resource", {**resource, "resource_path": str(path)[1:], "resource_kwargs": kwargs})
    sent: list[dict[str, Any]] = []
    for datum_kwargs in datums:
        if datum_kwargs not in sent:
            sent.append(datum_kwargs)
            doc = {"datum_id": f"{run.uid}/{len(sent) - 1}", "resource": resource["uid"]}
            run.add("datum", {**doc, "datum_kwargs": datum_kwargs})
        datum_id = f"{run.uid}/{sent.index(datum_kwargs)}"
        run.event("primary", {"img": datum_id}, filled={"img": False})
    run.stop()
    return run


@pytest.mark.parametrize("name", ["point_number", "frame"])
@pytest.mark.parametrize(
    ("indices", "kind", "more", "exact"),
    [
        ([0, 1], int, 3, True),
        ([0, 1], float, 3, True),
        ([2, 3], np.int64, 0, True),
        ([0, 2, 4], int, 0, True),
        ([2, 0, 1], int, 0, False),
        ([0, 1, 1], float, 0, False),
        ([0, 1, 3], int, 0, False),
    ],
)
def test_datums_of_ad_hdf5_are_frames(
    client: Container,
    tmp_path: Path,
    name: str,
    indices: list[int],
    kind: Any,
    more: int,
    exact: bool,
) -> None:
    measured = Measured(RunBuilder(), more, max(indices) + 1 + more, indices)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["entry/data/data"] = frames_of(0, measured.in_files)
    datums = [{name: kind(index)} for index in indices]
    shape = (1, HEIGHT, WIDTH)
    measured.run = old_run(tmp_path / "a.h5", "AD_HDF5", shape, datums, frame_per_point=kind(1))
    emit(measured.run.docs, TiledWriter(client))
    check(client, measured, Layout(HDF5, shape), exact=exact)


@pytest.mark.parametrize("channel", [1, 3])
@pytest.mark.parametrize("shape", [(7,), (1, 7)])
@pytest.mark.parametrize("frames", [[0, 1], [1, 2, 3], [2, 0]])
def test_a_channel_of_a_dataset_is_read(
    client: Container,
    tmp_path: Path,
    shape: tuple[int, ...],
    channel: int,
    frames: list[int],
) -> None:
    """Of a dataset of points, channels and bins."""
    data = np.arange(4 * 3 * 7, dtype="<u2").reshape(4, 3, 7)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["entry/instrument/detector/data"] = data
    datums = [{"frame": frame, "channel": channel} for frame in frames]
    run = old_run(tmp_path / "a.h5", "XSP3", shape, datums)
    emit(run.docs, TiledWriter(client))
    node = stream_of(client, run.uid)["img"]
    np.testing.assert_array_equal(read(node).reshape(-1, 7), data[frames, channel - 1], strict=True)
    assert notes_of(client, run.uid) == []


@pytest.mark.parametrize("wrong", [0, "one", 1.5])
def test_a_channel_that_is_none_is_noted(client: Container, tmp_path: Path, wrong: Any) -> None:
    datums = [{"frame": 0, "channel": wrong}]
    run = old_run(tmp_path / "a.h5", "XSP3", (7,), datums)
    emit(run.docs, TiledWriter(client))
    assert any(f"channel is {wrong!r}" in note for note in notes_of(client, run.uid))


def test_another_channel_of_the_same_key_is_noted(client: Container, tmp_path: Path) -> None:
    datums = [{"frame": 0, "channel": 1}, {"frame": 1, "channel": 2}]
    run = old_run(tmp_path / "a.h5", "XSP3", (7,), datums)
    emit(run.docs, TiledWriter(client))
    assert any("its channel is 2" in note for note in notes_of(client, run.uid))


def test_events_of_no_frame_and_frames_of_no_event(client: Container, tmp_path: Path) -> None:
    """Test frames have indices, but no sequence numbers."""
    layout = LAYOUTS["HDF5, one frame"]
    measured = Measured(RunBuilder(), 0, 6, [3, 4])
    run = measured.run
    run.start()
    run.descriptor("primary", {"x": "number", "img": external(layout.shape)})
    resource = run.stream_resource("img", layout.write(tmp_path, 0, 6), **layout.resource(0))
    for i, (start, stop, first, last) in enumerate([(0, 3, 1, 1), (3, 4, 1, 2), (4, 6, 2, 3)]):
        if last > first:
            run.event("primary", {"x": i})
        run.stream_datum("primary", resource, start, stop)
        run.docs[-1][1]["seq_nums"] = {"start": first, "stop": last}
    run.stop()
    emit(run.docs, TiledWriter(client))
    check(client, measured, layout, exact=True)


@pytest.mark.parametrize("name", ["a b.h5", "100%.h5", "é(1).h5", "a%20b.h5", "x+y=z.h5"])
def test_a_file_whose_uri_is_encoded_is_read(client: Container, tmp_path: Path, name: str) -> None:
    layout = LAYOUTS["HDF5, one frame"]
    path = tmp_path / name
    measured = measure(tmp_path, layout, [(0, 0, 3)])
    (tmp_path / "0.h5").rename(path)
    (doc,) = [doc for kind, doc in measured.run.docs if kind == "stream_resource"]
    doc["uri"] = f"file://localhost{quote(str(path))}"
    emit(measured.run.docs, TiledWriter(client))
    check(client, measured, layout, exact=True)
