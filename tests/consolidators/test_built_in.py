"""Each built-in consolidator on real files, by the checks that beamlines use for their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from documents import Pair, RunBuilder, data_key
from external_files import BYTES, CSV, HDF5, JPEG, NPY, TIFF
from PIL import Image

from bluesky_tiled_writer.testing import ConsolidatorCase, ConsolidatorTests

FRAMES = np.arange(4 * 2 * 3 * 5, dtype="<u2").reshape(4, 2, 3, 5)
"""Of 4 rows, 2 frames each, 3 x 5 pixels."""

Resource = tuple[str, str, dict[str, Any], int]
"""MIME type, URI, parameters, rows."""


def documents(
    shape: tuple[int, ...], dtype: str, *resources: Resource, **declared: Any
) -> list[Pair]:
    """The documents of a key with files of these resources, two datums each."""
    run = RunBuilder()
    run.start()
    key = data_key("array", shape, dtype_numpy=dtype, external="STREAM:", **declared)
    run.descriptor("primary", {"x": "number", "det": key})
    row = 0
    for mimetype, uri, parameters, rows in resources:
        files = run.stream_resource("det", uri, mimetype, **parameters)
        for start, stop in ((0, 1), (1, rows)):
            run.stream_datum("primary", files, row + start, row + stop)
        row += rows
    run.stop()
    return run.docs


def uri(path: Path) -> str:
    return f"file://localhost{path}"


def write_hdf5(path: Path, data: np.ndarray) -> str:
    with h5py.File(path, "w") as file:
        file["entry/data"] = data
    return uri(path)


def hdf5(directory: Path) -> ConsolidatorCase:
    path = directory / "a.h5"
    files = (HDF5, write_hdf5(path, FRAMES), {"dataset": "/entry/data", "chunk_shape": [1]}, 4)
    return ConsolidatorCase(
        documents((2, 3, 5), "<u2", files, dims=["frame", "y", "x"]),
        FRAMES,
        files=[path],
        chunks=((1, 1, 1, 1), (2,), (3,), (5,)),
        dims=("time", "frame", "y", "x"),
    )


def hdf5_of_scalars(directory: Path) -> ConsolidatorCase:
    values = np.linspace(0, 1, 6)
    files = (HDF5, write_hdf5(directory / "a.h5", values), {"dataset": "/entry/data"}, 6)
    return ConsolidatorCase(documents((1,), "<f8", files), values, chunks=((6,),))


def hdf5_files_stacked(directory: Path) -> ConsolidatorCase:
    paths = [directory / "a.h5", directory / "b.h5"]
    resources = [
        (HDF5, write_hdf5(path, half), {"dataset": "/entry/data", "join_method": "stack"}, 2)
        for path, half in zip(paths, np.split(FRAMES, 2), strict=True)
    ]
    return ConsolidatorCase(documents((2, 3, 5), "<u2", *resources), FRAMES, files=paths)


def hdf5_appended(directory: Path) -> ConsolidatorCase:
    frames = FRAMES.reshape(8, 3, 5)
    parameters = {"dataset": "/entry/data", "join_method": "concat", "chunk_shape": [3]}
    files = (HDF5, write_hdf5(directory / "a.h5", frames), parameters, 4)
    return ConsolidatorCase(
        documents((2, 3, 5), "<u2", files), frames, chunks=((3, 3, 2), (3,), (5,))
    )


def hdf5_by_template(directory: Path) -> ConsolidatorCase:
    paths = [directory / f"f_{i:02d}.h5" for i in range(4)]
    for path, frames in zip(paths, FRAMES, strict=True):
        write_hdf5(path, frames[np.newaxis])
    parameters = {"dataset": "/entry/data", "template": "f_{:02d}.h5"}
    files = (HDF5, uri(directory) + "/", parameters, 4)
    return ConsolidatorCase(documents((2, 3, 5), "<u2", files), FRAMES, files=paths)


def tiffs(directory: Path, per_file: int, **parameters: Any) -> ConsolidatorCase:
    paths = []
    for number, pages in enumerate(FRAMES.reshape(-1, per_file, 3, 5)):
        paths.append(directory / f"img_{number:03d}.tif")
        tifffile.imwrite(paths[-1], pages.squeeze())
    template = {"template": "img_{:03d}.tif", **parameters}
    files = (TIFF, uri(directory) + "/", template, 4)
    return ConsolidatorCase(documents((2, 3, 5), "<u2", files), FRAMES, files=paths)


def tiff_of_two_pages(directory: Path) -> ConsolidatorCase:
    return tiffs(directory, 2)


def tiffs_of_a_frame(directory: Path) -> ConsolidatorCase:
    return tiffs(directory, 1, multiplier=2)


def tiffs_of_two_resources(directory: Path) -> ConsolidatorCase:
    frames, resources, paths = FRAMES[:, 0], [], []
    for name, half in zip("ab", np.split(frames, 2), strict=True):
        for number, frame in enumerate(half):
            paths.append(directory / f"{name}_{number}.tif")
            tifffile.imwrite(paths[-1], frame)
        parameters = {"template": f"{name}_{{:d}}.tif"}
        resources.append((TIFF, uri(directory) + "/", parameters, 2))
    return ConsolidatorCase(documents((3, 5), "<u2", *resources), frames, files=paths)


def npy(directory: Path) -> ConsolidatorCase:
    paths = [directory / f"det_{number}.npy" for number in range(4)]
    for path, frames in zip(paths, FRAMES, strict=True):
        np.save(path, frames)
    files = (NPY, uri(directory / "det"), {}, 4)
    return ConsolidatorCase(documents((2, 3, 5), "<u2", files), FRAMES, files=paths)


def csv(directory: Path) -> ConsolidatorCase:
    values = np.arange(4 * 3 * 2, dtype="<f8").reshape(12, 2) / 4
    path = directory / "a.csv"
    np.savetxt(path, values, delimiter=",")
    files = (CSV, uri(path), {}, 4)
    return ConsolidatorCase(documents((3, 2), "<f8", files), values, files=[path])


def csv_with_a_row_in_each_file(directory: Path) -> ConsolidatorCase:
    """Tiled reads each file as one chunk."""
    values = np.arange(2 * 3 * 2, dtype="<f8").reshape(6, 2) / 4
    paths, resources = [directory / "a.csv", directory / "b.csv"], []
    for path, half in zip(paths, np.split(values, 2), strict=True):
        np.savetxt(path, half, delimiter=" ")
        resources.append((CSV, uri(path), {"sep": " ", "chunk_shape": [3]}, 1))
    return ConsolidatorCase(
        documents((3, 2), "<f8", *resources), values, files=paths, chunks=((3, 3), (2,))
    )


def jpeg(directory: Path) -> ConsolidatorCase:
    frames = np.zeros((4, 16, 16), "|u1")
    frames += np.arange(16, dtype="|u1") * 10
    paths = [directory / f"img_{number}.jpeg" for number in range(4)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path, quality=95)
    files = (JPEG, uri(directory) + "/", {"template": "img_{:d}.jpeg"}, 4)
    return ConsolidatorCase(documents((16, 16), "|u1", files), frames, files=paths, tolerance=6)


def opaque(directory: Path) -> ConsolidatorCase:
    paths = [directory / f"raw_{number}.dat" for number in range(4)]
    for path in paths:
        path.write_bytes(b"raw")
    files = (BYTES, uri(directory) + "/", {"template": "raw_{:d}.dat"}, 4)
    return ConsolidatorCase(documents((), "<u2", files), files=paths)


def type_without_a_class(directory: Path) -> ConsolidatorCase:
    """Any other MIME type goes to the server as it is: it may have an adapter."""
    from tiled.adapters.hdf5 import HDF5ArrayAdapter

    class Adapter(HDF5ArrayAdapter):
        @classmethod
        def from_catalog(cls, source: Any, node: Any, **parameters: Any) -> Any:
            return super().from_catalog(source, node, dataset="/entry/data", **parameters)

    files = ("application/x-own", write_hdf5(directory / "a.own", FRAMES), {}, 4)
    return ConsolidatorCase(documents((2, 3, 5), "<u2", files), FRAMES, adapter=Adapter)


CASES: list[Callable[[Path], ConsolidatorCase]] = [
    hdf5, hdf5_of_scalars, hdf5_files_stacked, hdf5_appended, hdf5_by_template,
    tiff_of_two_pages, tiffs_of_a_frame, tiffs_of_two_resources,
    npy, csv, csv_with_a_row_in_each_file, jpeg, opaque, type_without_a_class,
]  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=[make.__name__ for make in CASES])
class TestBuiltInConsolidators(ConsolidatorTests):
    @pytest.fixture(autouse=True)
    def _which(self, make: Callable[[Path], ConsolidatorCase]) -> None:
        self._make = make

    def make_case(self, directory: Path) -> ConsolidatorCase:
        return self._make(directory)
