"""Runs of every age, by the checks that beamlines use for their own normalizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detector_files import AD_TIFF, legacy_run
from documents import EPOCH, RunBuilder, data_key, scalar_run

from bluesky_tiled_writer import RunNormalizer
from bluesky_tiled_writer.testing import NormalizerCase, NormalizerTests


def plain() -> NormalizerCase:
    return NormalizerCase(scalar_run(events=4).docs)


def reserved_names() -> NormalizerCase:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"time": "number", "x": "number", "ts_x": "integer"})
    for value in range(3):
        run.event("primary", {"time": value / 2, "x": 0.5, "ts_x": value})
    run.stop()
    return NormalizerCase(run.docs)


def first_vintage() -> NormalizerCase:
    """Before there were hints, object keys, configuration and data types of numpy."""
    key = {"source": "PV:x", "dtype": "number", "shape": None}
    head: dict[str, Any] = {"uid": "d", "run_start": "r", "time": EPOCH, "name": "primary"}
    event = {"uid": "e", "descriptor": "d", "time": EPOCH, "seq_num": 1}
    stop = {"uid": "s", "run_start": "r", "time": EPOCH, "exit_status": "success"}
    start = ("start", {"uid": "r", "time": EPOCH})
    row = ("event", {**event, "data": {"x": 1.5}, "timestamps": {"x": EPOCH}})
    today = {**key, "shape": [], "dtype_numpy": "<f8"}
    return NormalizerCase(
        [start, ("descriptor", {**head, "data_keys": {"x": key}}), row, ("stop", stop)],
        expected=[start, ("descriptor", {**head, "data_keys": {"x": today}}), row, ("stop", stop)],
    )


def legacy(spec: str, *, late: bool, paged: bool, **kwargs: Any) -> NormalizerCase:
    return NormalizerCase(legacy_run(spec, Path("/data"), late=late, paged=paged, **kwargs).docs)


def area_detector() -> NormalizerCase:
    return legacy("AD_TIFF", late=False, paged=False, **AD_TIFF)


def area_detector_with_late_datums() -> NormalizerCase:
    return legacy("AD_HDF5", late=True, paged=False, frame_per_point=1)


def area_detector_in_pages() -> NormalizerCase:
    return legacy("AD_HDF5_SWMR", late=False, paged=True, frame_per_point=1)


def unknown_spec() -> NormalizerCase:
    return legacy("OWN", late=True, paged=True)


def external_key_with_a_reserved_name() -> NormalizerCase:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"time": data_key("array", [2], external="STREAM:")})
    files = run.stream_resource("time", "file:///x.h5", dataset="/x")
    run.stream_datum("primary", files, 0, 3)
    run.stream_datum("primary", files, 3, 5)
    run.stop()
    return NormalizerCase(run.docs)


def partly_filled() -> NormalizerCase:
    docs = legacy_run("AD_TIFF", Path("/data"), late=False, paged=False, **AD_TIFF).docs
    for name, doc in docs[-4:]:
        if name == "event":
            doc["data"]["img"], doc["filled"] = [[1] * 5] * 4, {"img": True}
    return NormalizerCase(docs)


def mended() -> NormalizerCase:
    """By patches, and by a class that leaves a stream out and adds another."""

    class Beamline(RunNormalizer):
        def descriptor(self, doc: Any) -> None:
            if doc["name"] != "unwanted":
                super().descriptor(doc)

        def event(self, doc: Any) -> None:
            if "y" not in doc["data"]:
                super().event({**doc, "data": {**doc["data"], "x": doc["data"]["x"] * 10}})

        def stop(self, doc: Any) -> None:
            keys = {"total": data_key(dtype_numpy="<f8")}
            summary = {"uid": "sum", "run_start": doc["run_start"], "name": "summary"}
            self.emit("descriptor", {**summary, "time": EPOCH, "data_keys": keys})
            super().stop(doc)

    def patch(doc: Any) -> Any:
        doc["data_keys"]["x"]["dtype"] = "number"
        return doc

    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": {**data_key(), "dtype": "float"}})
    run.descriptor("unwanted", {"y": "number"})
    for value in range(3):
        run.event("primary", {"x": value})
        run.event("unwanted", {"y": value})
    run.stop()
    return NormalizerCase(
        run.docs,
        normalizer=Beamline,
        patches={"descriptor": patch},
        left_out=["unwanted"],
        added=["summary"],
    )


CASES: list[Callable[[], NormalizerCase]] = [
    plain, reserved_names, first_vintage, area_detector, area_detector_with_late_datums,
    area_detector_in_pages, unknown_spec, external_key_with_a_reserved_name, partly_filled, mended,
]  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=[make.__name__ for make in CASES])
class TestRunsOfEveryAge(NormalizerTests):
    schemas = True

    @pytest.fixture(autouse=True)
    def _which(self, make: Callable[[], NormalizerCase]) -> None:
        self.make_case = make  # type: ignore[method-assign]


def test_old_runs_come_out_with_stream_documents() -> None:
    names = [name for name, _ in area_detector().run()]
    assert names.count("stream_resource") == 1
    assert names.count("stream_datum") == 6
    assert not {"resource", "datum", "datum_page"} & set(names)
