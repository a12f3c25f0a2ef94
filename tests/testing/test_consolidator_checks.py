"""The checks of consolidators find what they are there for, and name the key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from documents import RunBuilder, data_key
from external_files import HDF5, TIFF

from bluesky_tiled_writer.consolidators import (
    HDF5Consolidator,
    MultipartRelatedConsolidator,
    Patch,
    TIFFConsolidator,
)
from bluesky_tiled_writer.consolidators.frames import Frames
from bluesky_tiled_writer.testing import (
    ConsolidatorCase,
    ConsolidatorTests,
    check_batchings,
    check_consolidator,
    check_frames,
    check_growth,
    check_structure,
)

FRAMES = np.arange(24, dtype="<i4").reshape(4, 2, 3)

Check = Callable[[ConsolidatorCase], object]


@pytest.fixture
def case(tmp_path: Path) -> ConsolidatorCase:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = FRAMES
    run = RunBuilder()
    run.start()
    key = data_key("array", [2, 3], dtype_numpy="<i4", external="STREAM:", dims=["y", "x"])
    run.descriptor("primary", {"det": key})
    files = run.stream_resource("det", f"file://localhost{tmp_path}/a.h5", dataset="/x")
    run.stream_datum("primary", files, 0, 3)
    run.stream_datum("primary", files, 3, 4)
    run.stop()
    return ConsolidatorCase(run.docs, FRAMES, files=[tmp_path / "a.h5"])


def test_what_is_right_passes(case: ConsolidatorCase) -> None:
    whole = replace(case, chunks=((4,), (2,), (3,)), dims=("time", "y", "x"))
    assert check_consolidator(whole).structure.shape == (4, 2, 3)


def changed(value: np.ndarray) -> np.ndarray:
    changed = value.copy()
    changed[2, 1, 0] += 1
    return changed


@pytest.mark.parametrize(
    ("check", "expected", "words"),
    [
        (check_structure, {"frames": FRAMES[:3]}, "det: shape: got .4, 2, 3., expected .3, 2, 3."),
        (check_structure, {"frames": FRAMES.astype("f8")}, "det: type"),
        (check_structure, {"frames": None}, "det: structure family: got 'array'"),
        (check_structure, {"chunks": ((1, 3), (2,), (3,))}, "det: chunks"),
        (check_structure, {"dims": ("t", "y", "x")}, "det: dims"),
        (check_structure, {"files": ["/elsewhere.h5"]}, "det: files"),
        (check_frames, {"frames": changed(FRAMES)}, r"1 of 24 .*\(2, 1, 0\): read .*15"),
    ],
)
def test_another_expectation_is_told(
    case: ConsolidatorCase, check: Check, expected: dict[str, Any], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        check(replace(case, **expected))
    with pytest.raises(AssertionError, match=words):
        check_consolidator(replace(case, **expected))


def test_small_differences_may_be_tolerated(case: ConsolidatorCase) -> None:
    check_frames(replace(case, frames=changed(FRAMES), tolerance=1))
    with pytest.raises(AssertionError):
        check_frames(replace(case, frames=changed(FRAMES), tolerance=0.5))


class ChangesDocuments(HDF5Consolidator):
    def consume_stream_datum(self, doc: Any) -> Patch:
        patch = super().consume_stream_datum(doc)
        doc["indices"]["start"] += 0
        doc["used"] = True
        return patch


class CountsDatums(HDF5Consolidator):
    def consume_stream_datum(self, doc: Any) -> Patch:
        self.metadata["datums"] = self.metadata.get("datums", 0) + 1
        return super().consume_stream_datum(doc)


class ARowADatum(HDF5Consolidator):
    def consume_stream_datum(self, doc: Any) -> Patch:
        start = doc["indices"]["start"]
        return super().consume_stream_datum({**doc, "indices": {"start": start, "stop": start + 1}})


class WrongPatch(HDF5Consolidator):
    def consume_stream_datum(self, doc: Any) -> Patch:
        patch = super().consume_stream_datum(doc)
        return Patch(patch.shape, (patch.offset[0] + 1, *patch.offset[1:]))


class SmallPatch(HDF5Consolidator):
    def consume_stream_datum(self, doc: Any) -> Patch:
        patch = super().consume_stream_datum(doc)
        return Patch((*patch.shape[:2], 1), patch.offset)


class SharesItsAssets(HDF5Consolidator):
    def get_data_source(self) -> Any:
        source = super().get_data_source()
        source.assets = self.assets
        return source


class Shrinks(HDF5Consolidator):
    def consume_stream_datum(self, doc: Any) -> Patch:
        self.frames = Frames(self.selection)
        return super().consume_stream_datum(doc)


@pytest.mark.parametrize(
    ("check", "factory", "words"),
    [
        (check_structure, ChangesDocuments, "documents after use"),
        (check_batchings, CountsDatums, "the metadata depends on how the datums are cut"),
        (check_batchings, ARowADatum, "the source depends on .* Its structure is"),
        (check_growth, WrongPatch, "not within the shape"),
        (check_growth, SmallPatch, "block of all datums together"),
        (check_growth, SharesItsAssets, "data source after it was changed"),
        (check_growth, Shrinks, "makes the array shorter"),
    ],
)
def test_a_check_finds_its_defect(
    case: ConsolidatorCase, check: Check, factory: Any, words: str
) -> None:
    with pytest.raises(AssertionError, match=f"det: .*{words}"):
        check(replace(case, factory=factory))
    check(case)


def test_files_must_stay_in_order(tmp_path: Path) -> None:
    class NewestFirst(MultipartRelatedConsolidator):
        supported_mimetypes = TIFFConsolidator.supported_mimetypes

        def get_data_source(self) -> Any:
            source = super().get_data_source()
            source.assets.reverse()
            return source

    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"det": data_key("array", [2, 3], external="STREAM:")})
    files = run.stream_resource("det", "file://localhost/data/", TIFF, template="{:d}.tif")
    for row in range(2):
        run.stream_datum("primary", files, row, row + 1)
    case = ConsolidatorCase(run.docs, np.zeros((2, 2, 3)), factory=NewestFirst)
    with pytest.raises(AssertionError, match="det: files known before a datum"):
        check_growth(case)
    with pytest.raises(AssertionError, match="det: numbers of the assets"):
        check_structure(case)


def test_files_that_are_bytes_must_be_there(tmp_path: Path) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"det": data_key("array", external="STREAM:")})
    files = run.stream_resource("det", f"file://localhost{tmp_path}/a", "application/octet-stream")
    run.stream_datum("primary", files, 0, 1)
    with pytest.raises(AssertionError, match="det: there is no file"):
        check_frames(ConsolidatorCase(run.docs))
    (tmp_path / "a").touch()
    check_consolidator(ConsolidatorCase(run.docs, files=[tmp_path / "a"]))


def test_one_of_several_keys_must_be_named() -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {k: data_key("array", [2], external="STREAM:") for k in "ab"})
    for key in "ab":
        files = run.stream_resource(key, f"file://localhost/{key}.h5", HDF5, dataset="/x")
    run.stream_datum("primary", files, 0, 1)
    case = ConsolidatorCase(run.docs, np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        check_structure(case)
    check_structure(replace(case, data_key="b"))
    with pytest.raises(ValueError, match="no stream_datum of 'a'"):
        check_structure(replace(case, data_key="a"))


def test_the_base_class_needs_a_case(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="make_case"):
        ConsolidatorTests().test_frames(tmp_path)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bluesky_tiled_writer.testing", ["pytest"]),
        ("bluesky_tiled_writer", ["pytest", "numpy", "tiled", "event_model", "pyarrow"]),
    ],
)
def test_what_an_import_does_not_bring(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "[]"
