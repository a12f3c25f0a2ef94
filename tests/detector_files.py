"""Files of detectors, documents that describe them, and simulated detectors that write them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from documents import Pair, RunBuilder, data_key, emit
from external_files import HDF5
from PIL import Image
from tiled.client.container import Container
from tree import stream_of, table_of

from bluesky_tiled_writer import TiledWriter

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
    """Return a run with a motor and a detector that says after each event where its frame is."""
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


def legacy_run(
    spec: str,
    directory: Path | str,
    *,
    late: bool,
    paged: bool,
    missing: bool = False,
    **kwargs: Any,
) -> RunBuilder:
    """Return a run of six events whose values are ids of datums that come before or after."""
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


def two_detectors(good: str, bad: str, mimetype: str = HDF5, **parameters: Any) -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "good": external(), "bad": external()})
    resources = {
        "good": run.stream_resource("good", good, **DATASET),
        "bad": run.stream_resource("bad", bad, mimetype, **parameters),
    }
    for i in range(6):
        run.event("primary", {"x": i / 2})
        for resource in resources.values():
            run.stream_datum("primary", resource, i, i + 1)
    run.stop()
    return run


def assert_only_the_good_one_is_stored(client: Container, run: RunBuilder) -> str:
    stream = stream_of(client, run.uid)
    assert sorted(stream) == ["good", "internal"]
    np.testing.assert_array_equal(stream["good"].read(), FRAMES)
    assert len(table_of(stream["internal"])["columns"]["x"][1]) == 6
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"
    (note,) = notes_of(client, run.uid)
    assert "'bad'" in note
    assert "'primary'" in note
    return note


def emit_with_flushes(docs: Iterable[Pair], writer: TiledWriter, every: int) -> None:
    """Send documents, and flush after every `every`-th stream datum."""
    count = 0
    for pair in docs:
        emit([pair], writer)
        count += pair[0] == "stream_datum"
        if pair[0] == "stream_datum" and count % every == 0:
            assert writer.flush()


def registered(client: Container, uid: str) -> dict[str, Any]:
    """Return all that Tiled has of nodes on files, except their values."""
    stream = client.new_variation(include_data_sources=True)[uid]["primary"]
    found = {}
    for key in stream_of(client, uid):
        item = stream_of(client, uid)[key].item["attributes"]
        if item["structure_family"] == "table":
            found[key] = None
            continue
        (source,) = (stream.base if hasattr(stream, "base") else stream)[key].data_sources()
        values = dataclasses.asdict(source)
        del values["id"]
        for asset in values["assets"]:
            del asset["id"]
        values["assets"].sort(key=lambda asset: asset["num"])
        found[key] = (item["structure_family"], item["metadata"], item["specs"], values)
    return found


def simulated_detector(directory: Path) -> Any:
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
    from ophyd_async.sim import SimBlobDetector

    with init_devices():
        det = SimBlobDetector(StaticPathProvider(UUIDFilenameProvider(), directory))
    return det  # noqa: RET504 - its name is that of the variable


def frames_in(directory: Path) -> np.ndarray:
    (path,) = directory.glob("*.h5")
    found: list[np.ndarray] = []

    def visit(_: str, item: Any) -> None:
        if getattr(item, "ndim", 0) == 3:
            found.append(item[()])

    with h5py.File(path) as file:
        file.visititems(visit)
    (frames,) = found
    return frames
