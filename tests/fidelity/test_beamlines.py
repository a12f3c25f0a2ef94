"""Documents shaped like those of beamlines, with the mends that their profiles make."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from documents import EPOCH, RunBuilder, data_key, emit
from event_model import DocumentNames
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter

Document = dict[str, Any]
FRAMES = np.arange(3 * 4 * 5, dtype="<u2").reshape(3, 4, 5)
DATASET = "entry/instrument/detector/data"


class OldRun(RunBuilder):
    """Composes documents with resources and datums, as ophyd makes them."""

    def resource(self, spec: str, root: str, path: str, **kwargs: Any) -> str:
        uid = str(uuid.uuid4())
        doc = {
            "uid": uid,
            "run_start": self.uid,
            "spec": spec,
            "root": root,
            "resource_path": path,
            "resource_kwargs": kwargs,
            "path_semantics": "posix",
        }
        self.add("resource", doc)
        return uid

    def datum(self, resource: str, number: Any, **kwargs: Any) -> str:
        datum_id = f"{resource}/{number}"
        self.add("datum", {"datum_id": datum_id, "resource": resource, "datum_kwargs": kwargs})
        return datum_id


def image(**more: Any) -> Document:
    return data_key("array", [5, 4, 0], external="FILESTORE:", **more)


def write_hdf5(path: Path, data: np.ndarray, dataset: str = DATASET) -> Path:
    with h5py.File(path, "w") as file:
        file[dataset] = data
    return path


def stored(client: Container, run: RunBuilder, **options: Any) -> Container:
    with TiledWriter(client, **options) as writer:
        emit(run.docs, writer)
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"
    client[run.uid]["primary"].read()
    return client[run.uid]


def absolute(doc: Document) -> Document:
    """Put the root into the path, as most profiles do."""
    if not doc["resource_path"].startswith(doc["root"]):
        doc["resource_path"] = os.path.join(doc["root"], doc["resource_path"])
    doc["root"] = ""
    return doc


# -- NSLS-II --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rooted", [True, False])
def test_a_camera_whose_descriptor_lies(client: Container, tmp_path: Path, rooted: bool) -> None:
    """CSX: a key that is text is declared an integer, `dtype_str` is not numpy's, paths have roots.

    Without the mended root the path below it is absolute, and must not be doubled.
    """
    write_hdf5(tmp_path / "fccd.h5", FRAMES)
    run = OldRun()
    run.start(scan_id=7)
    keys = {"fccd_image": image(), "inout_status": "integer", "tardis_h": "number"}
    run.descriptor("primary", keys)
    path = str(tmp_path / "fccd.h5") if rooted else "fccd.h5"
    resource = run.resource("AD_HDF5", str(tmp_path), path, frame_per_point=1)
    for i in range(3):
        datum = run.datum(resource, i, point_number=i)
        run.event("primary", {"fccd_image": datum, "inout_status": "In", "tardis_h": i})
    run.stop()

    def patch_descriptor(doc: Document) -> Document:
        doc["data_keys"]["inout_status"]["dtype"] = "string"
        doc["data_keys"]["fccd_image"].update(dtype_str="u2", shape=(1, 4, 5))
        for declared in doc["data_keys"].values():
            if "dtype_str" in declared:
                declared["dtype_str"] = np.dtype(declared["dtype_str"]).str
        return doc

    def patch_resource(doc: Document) -> Document:
        doc["resource_kwargs"].update(dataset=DATASET)
        return doc if rooted else absolute(doc)

    patches = {"descriptor": patch_descriptor, "resource": patch_resource}
    primary = stored(client, run, patches=patches)["primary"]
    np.testing.assert_array_equal(primary["fccd_image"].read().reshape(FRAMES.shape), FRAMES)
    assert list(primary["inout_status"].read()) == ["In"] * 3
    np.testing.assert_array_equal(primary["tardis_h"].read(), [0, 1, 2])


def test_pictures_of_cameras_beside_a_detector_whose_keys_have_spaces(
    client: Container, tmp_path: Path
) -> None:
    """BMM."""
    write_hdf5(tmp_path / "cam.h5", FRAMES)
    channels = [f"4-element SDD_channel0{i}" for i in range(1, 5)]
    run = OldRun()
    run.start(XDI={"Element": {"symbol": "Fe"}}, plan_name="scan_nd xafs")
    mca = data_key("array", [8], external="FILESTORE:")
    run.descriptor("primary", dict.fromkeys(channels, mca) | {"xascam_image": image()})
    spectra = np.arange(3 * 4 * 8, dtype="<f8").reshape(3, 4, 8)
    write_hdf5(tmp_path / "xs.h5", spectra)
    camera = run.resource("AD_HDF5", "/", str(tmp_path / "cam.h5"), frame_per_point=1)
    detector = run.resource("XSP3", "/", str(tmp_path / "xs.h5"))
    for row in range(3):
        data: Document = {"xascam_image": run.datum(camera, row, point_number=row)}
        for channel, key in enumerate(channels, 1):
            name = f"{row}/{channel}"
            data[key] = run.datum(detector, name, frame=row, channel=channel)
        run.event("primary", data)
    run.stop()

    def patch_descriptor(doc: Document) -> Document:
        for key, declared in doc["data_keys"].items():
            declared["dtype_str"] = "<f8" if "SDD" in key else "<u2"
        doc["data_keys"]["xascam_image"]["shape"] = [1, 4, 5]
        return doc

    def patch_resource(doc: Document) -> Document:
        doc["resource_kwargs"].update(dataset=DATASET, chunk_shape=(1,))
        return absolute(doc)

    patches = {"descriptor": patch_descriptor, "resource": patch_resource}
    made = stored(client, run, patches=patches)
    primary = made["primary"]
    np.testing.assert_array_equal(primary["xascam_image"].read().reshape(FRAMES.shape), FRAMES)
    for channel, key in enumerate(channels):
        found = primary[key].read().reshape(3, 8)
        np.testing.assert_array_equal(found, spectra[:, channel])


def test_tables_in_text_files_that_a_patch_describes(client: Container, tmp_path: Path) -> None:
    """QAS: files of encoders, with a type of structs that is for the files."""
    lines = [(10 * i, 0, i, i, 1) for i in range(6)]
    path = tmp_path / "encoder.txt"
    path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    columns = np.dtype([(name, "<i8") for name in ("ts_s", "ts_ns", "encoder", "index", "state")])
    run = OldRun()
    run.start(plan_name="execute_trajectory")
    run.descriptor("primary", {"energy": "number"})
    run.descriptor("pb1", {"pb1_enc1": data_key("array", [-1], external="FILESTORE:")})
    resource = run.resource("PIZZABOX_ENC_FILE_TXT_PD", str(tmp_path), "encoder.txt")
    run.event("pb1", {"pb1_enc1": run.datum(resource, 0)})
    for i in range(2):
        run.event("primary", {"energy": 7112 + i})
    run.stop()

    def patch_descriptor(doc: Document) -> Document:
        if (declared := doc["data_keys"].get("pb1_enc1")) is not None:
            declared.update(dtype_str=columns.str, dtype_descr=columns.descr, shape=(6,))
        return doc

    def patch_resource(doc: Document) -> Document:
        doc["resource_kwargs"].update(sep=" ")
        return absolute(doc)

    made = stored(
        client,
        run,
        patches={"descriptor": patch_descriptor, "resource": patch_resource},
        spec_to_mimetype={"PIZZABOX_ENC_FILE_TXT_PD": "text/csv;header=absent"},
    )
    np.testing.assert_array_equal(made["primary"]["energy"].read(), [7112, 7113])
    notes = " ".join(made.metadata.get("notes", ()))
    assert "pb1_enc1" in notes or len(stream_of(client, run.uid, "pb1")["pb1_enc1"].read()) == 6


class RepeatedDatums(RunNormalizer):
    """HXN: after the first event, all events have the datum ids of the first; they are counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resource: str | None = None
        self._frames = 0

    def resource(self, doc: Document) -> None:
        self._resource = doc["uid"]
        super().resource(doc)

    def datum(self, doc: Document) -> Any:
        """Keep none: events get datums of their own."""

    def event(self, doc: Document) -> Any:
        doc = dict(doc, data=dict(doc["data"]))
        datum_id = f"{self._resource}/{self._frames}"
        kwargs = {"point_number": self._frames}
        super().datum({"datum_id": datum_id, "resource": self._resource, "datum_kwargs": kwargs})
        self._frames += 1
        doc["data"]["img"] = datum_id
        super().event(doc)


def test_a_normalizer_that_replaces_the_datums_of_events(client: Container, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "img.h5", FRAMES)
    run = OldRun()
    run.start()
    declared = data_key("array", [1, 4, 5], external="FILESTORE:", dtype_str="<u2")
    run.descriptor("primary", {"img": declared, "sclr1_ch2": data_key("array", [1])})
    resource = run.resource("AD_HDF5", "/", str(tmp_path / "img.h5"), dataset=DATASET)
    datum = run.datum(resource, 0, point_number=0)
    for i in range(3):
        run.event("primary", {"img": datum, "sclr1_ch2": float(i)})
    run.stop()

    def patch_descriptor(doc: Document) -> Document:
        doc["data_keys"]["sclr1_ch2"].update(dtype="number", shape=[], dtype_str="<f4")
        return doc

    made = stored(client, run, normalizer=RepeatedDatums, patches={"descriptor": patch_descriptor})
    found = made["primary"]["img"].read().reshape(FRAMES.shape)
    np.testing.assert_array_equal(found, FRAMES)
    np.testing.assert_array_equal(made["primary"]["sclr1_ch2"].read(), [0, 1, 2])


class StreamAtStop(RunNormalizer):
    """ISS: a stream that no document declares is emitted when the run stops."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cache: list[Document] = []
        self.run_start_uid = ""

    def start(self, doc: Document) -> None:
        self.run_start_uid = doc["uid"]
        super().start(doc)

    def event(self, doc: Document) -> Any:
        self.cache.append(doc)
        super().event(doc)

    def made_up(self) -> Iterator[tuple[Any, Document]]:
        descriptor = {
            "run_start": self.run_start_uid,
            "name": "drained",
            "time": EPOCH,
            "uid": str(uuid.uuid4()),
            "data_keys": {"double": data_key()},
            "configuration": {},
            "hints": {},
            "object_keys": {},
        }
        yield DocumentNames.descriptor, descriptor
        for doc in self.cache:
            data = {"double": 2 * doc["data"]["x"]}
            event = dict(doc, descriptor=descriptor["uid"], uid=str(uuid.uuid4()), data=data)
            yield DocumentNames.event, event | {"timestamps": {"double": doc["time"]}}

    def stop(self, doc: Document) -> None:
        for name, made in self.made_up():
            self.emit(name, made)
        super().stop(doc)


def test_a_normalizer_that_drains_a_cache_at_the_stop(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for i in range(3):
        run.event("primary", {"x": i})
    run.stop()
    made = stored(client, run, normalizer=StreamAtStop)
    np.testing.assert_array_equal(made["drained"]["double"].read(), [0, 2, 4])
    np.testing.assert_array_equal(made["primary"]["x"].read(), [0, 1, 2])


def test_a_shape_with_minus_one_and_dims_with_time(client: Container, tmp_path: Path) -> None:
    """IOS: shapes are clipped, `dims` begin with time."""
    spectra = np.arange(3 * 16, dtype="<f8").reshape(3, 16)
    write_hdf5(tmp_path / "xs3.h5", spectra)
    run = OldRun()
    run.start()
    declared = data_key("array", [-1], external="FILESTORE:", dtype_str="<f8")
    run.descriptor("primary", {"xs3_channel01_data": declared})
    resource = run.resource("AD_HDF5", "/", str(tmp_path / "xs3.h5"), dataset=DATASET)
    for i in range(3):
        datum = run.datum(resource, i, point_number=i)
        run.event("primary", {"xs3_channel01_data": datum})
    run.stop()

    def patch_descriptor(doc: Document) -> Document:
        doc["data_keys"]["xs3_channel01_data"].update(shape=(1, 16), dims=("time", "bin_count"))
        return doc

    made = stored(client, run, patches={"descriptor": patch_descriptor})
    found = made["primary"]["xs3_channel01_data"].read()
    np.testing.assert_array_equal(found.reshape(3, 16), spectra)


# -- the APS, and others --------------------------------------------------------------------------


@pytest.mark.parametrize("frame_per_point", [1, 1.0, np.int64(1)])
def test_a_series_of_pictures(client: Container, tmp_path: Path, frame_per_point: Any) -> None:
    """SMI and XPD: TIFF files by a template, with and without a slash before it."""
    for i, frame in enumerate(FRAMES):
        tifffile.imwrite(tmp_path / f"pil1M_{i:06d}.tiff", frame)
    run = OldRun()
    run.start(sample_name="calib")
    run.descriptor("primary", {"pil1M_image": image(dtype_str="<f8")})
    resource = run.resource(
        "AD_TIFF",
        "/nsls2/data1",
        str(tmp_path),
        template="%s%s_%6.6d.tiff",
        filename="pil1M",
        frame_per_point=frame_per_point,
    )
    for i in range(3):
        datum = run.datum(resource, i, point_number=i)
        run.event("primary", {"pil1M_image": datum})
    run.stop()

    def patch_descriptor(doc: Document) -> Document:
        doc["data_keys"]["pil1M_image"].update(dtype_str="<u2", shape=[1, 4, 5])
        return doc

    def patch_resource(doc: Document) -> Document:
        doc["resource_kwargs"]["join_method"] = "concat"
        return absolute(doc)

    patches = {"descriptor": patch_descriptor, "resource": patch_resource}
    made = stored(client, run, patches=patches)
    found = made["primary"]["pil1M_image"].read()
    np.testing.assert_array_equal(found.reshape(FRAMES.shape), FRAMES)


def test_a_fly_scan_of_arrays_and_a_monitor(client: Container) -> None:
    """USAXS: a page of arrays at the end, whose lengths the descriptor has as they were before."""
    run = RunBuilder()
    run.start(plan_name="Flyscan", hdf5_file=None, detectors=["fly"])
    run.descriptor("ring_monitor", {"aps_current": "number"})
    run.event("ring_monitor", {"aps_current": 101.9})
    keys = {"ar_angles": data_key("array", [8000]), "upd_counts": data_key("array", [8000])}
    run.descriptor("mca", keys, object_keys={})
    run.event("mca", {"ar_angles": np.linspace(8, 9, 50), "upd_counts": list(range(50))})
    run.descriptor("primary", {"ar_start": "number"})
    run.event("primary", {"ar_start": 8.746})
    run.stop()
    mca = stored(client, run)["mca"]
    np.testing.assert_array_equal(np.asarray(mca["upd_counts"].read()[0]), np.arange(50))
    np.testing.assert_array_equal(np.asarray(mca["ar_angles"].read()[0]), np.linspace(8, 9, 50))


def test_metadata_and_specs_that_a_patch_adds(client: Container) -> None:
    """8-ID and SST: entries for a workflow, specs and access tags of the facility."""
    run = RunBuilder()
    run.start(data_management={"workflow": {"id": None}}, sample_id="S-12", proposal=308_001)
    run.descriptor("primary", {"i0": "number"}, object_keys={})
    run.event("primary", {"i0": 1.0})
    run.stop()

    def patch_start(doc: Document) -> Document:
        doc["tiled_specs"] = [{"name": "rsoxs", "version": "1"}]
        doc["project"] = {"name": "rsoxs", "proposal": str(doc.pop("proposal"))}
        return doc

    def patch_descriptor(doc: Document) -> Document:
        doc["object_keys"] = {"scaler": list(doc["data_keys"])}
        doc["hints"] = {"scaler": {"fields": list(doc["data_keys"])}}
        return doc

    def patch_stop(doc: Document) -> Document:
        doc["reason"] = doc.get("reason") or "done"
        return doc

    patches = {"start": patch_start, "descriptor": patch_descriptor, "stop": patch_stop}
    made = stored(client, run, patches=patches)
    assert ("rsoxs", "1") in [(spec.name, spec.version) for spec in made.specs]
    assert made.metadata["start"]["project"] == {"name": "rsoxs", "proposal": "308001"}
    assert made.metadata["stop"]["reason"] == "done"
    assert made["primary"].metadata["hints"] == {"scaler": {"fields": ["i0"]}}
