"""Files of the old resources and datums are registered like those of stream resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_files import (
    AD_TIFF,
    FRAMES,
    external,
    legacy_run,
    notes_of,
    write_hdf5,
    write_tiffs,
)
from documents import Pair, RunBuilder, emit
from external_files import TIFF
from tiled.client.container import Container
from tree import stream_of, table_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter

LATE = pytest.mark.parametrize("late", [False, True], ids=["before", "late"])


PAGED = pytest.mark.parametrize("paged", [False, True], ids=["events", "page"])


@LATE
@PAGED
def test_the_datums_of_ad_hdf5_are_registered(
    client: Container, tmp_path: Path, late: bool, paged: bool
) -> None:
    write_hdf5(tmp_path / "a.h5", FRAMES)
    run = legacy_run("AD_HDF5", tmp_path / "a.h5", late=late, paged=paged, frame_per_point=1)
    emit(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read().reshape(FRAMES.shape), FRAMES)
    assert node.metadata["spec"] == "AD_HDF5"
    assert node.metadata["frame_per_point"] == 1
    assert notes_of(client, run.uid) == []
    table = table_of(stream_of(client, run.uid)["internal"])["columns"]
    assert table["x"][1] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert "img" not in table


@LATE
@PAGED
def test_the_datums_of_ad_tiff_are_registered(
    client: Container, tmp_path: Path, late: bool, paged: bool
) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=late, paged=paged, **AD_TIFF)
    emit(run.docs, TiledWriter(client))

    node = client[run.uid]["primary"]["img"]
    np.testing.assert_array_equal(node.read().reshape(FRAMES.shape), FRAMES)
    assert notes_of(client, run.uid) == []


def test_datum_pages_and_overridden_datums_are_registered(
    client: Container, tmp_path: Path
) -> None:
    class Own(RunNormalizer):
        seen = 0

        def datum(self, doc: Any) -> None:
            Own.seen += 1
            super().datum(doc)

    def with_page(run: RunBuilder) -> list[Pair]:
        datums = [doc for name, doc in run.docs if name == "datum"]
        page = {
            "resource": datums[0]["resource"],
            "datum_id": [doc["datum_id"] for doc in datums],
            "datum_kwargs": {"point_number": list(range(6))},
        }
        docs = [pair for pair in run.docs if pair[0] != "datum"]
        return [*docs[:3], ("datum_page", page), *docs[3:]]

    write_tiffs(tmp_path, FRAMES)
    options: list[Any] = [{}, {"normalizer": Own}, {"patches": {"datum": lambda doc: doc}}]
    for option in options:
        run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
        emit(with_page(run), TiledWriter(client, **option))
        node = client[run.uid]["primary"]["img"]
        np.testing.assert_array_equal(node.read().reshape(FRAMES.shape), FRAMES)
    assert Own.seen == 6


def test_a_normalizer_of_a_beamline_may_add_specs(client: Container, tmp_path: Path) -> None:
    class Own(RunNormalizer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.spec_to_mimetype["OWN_TIFF"] = TIFF

    write_tiffs(tmp_path, FRAMES)
    options: list[Any] = [{"normalizer": Own}, {"spec_to_mimetype": {"OWN_TIFF": TIFF}}]
    for option in options:
        run = legacy_run("OWN_TIFF", f"{tmp_path}/", late=False, paged=False, **AD_TIFF)
        emit(run.docs, TiledWriter(client, **option))
        frames = client[run.uid]["primary"]["img"].read().reshape(FRAMES.shape)
        np.testing.assert_array_equal(frames, FRAMES)


def test_a_datum_that_never_comes_costs_only_its_own_row(client: Container, tmp_path: Path) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, missing=True, **AD_TIFF)
    emit(run.docs, TiledWriter(client))

    stream = client[run.uid]["primary"]
    np.testing.assert_array_equal(stream["img"].read().reshape(5, 4, 5), FRAMES[[0, 1, 2, 4, 5]])
    assert len(table_of(stream_of(client, run.uid)["internal"])["columns"]["x"][1]) == 6
    (note,) = notes_of(client, run.uid)
    assert "'img'" in note
    assert f"res-{run.uid}/3" in note
    assert "seq_num 4" in note


def test_a_datum_that_makes_no_sense_costs_only_itself(client: Container, tmp_path: Path) -> None:
    write_tiffs(tmp_path, FRAMES)
    for late in (False, True):
        run = legacy_run("AD_TIFF", tmp_path, late=late, paged=False, **AD_TIFF)
        for name, doc in run.docs:
            if name == "datum" and doc["datum_id"].endswith("/2"):
                doc["datum_kwargs"] = {"point_number": "two"}
        emit(run.docs, TiledWriter(client))
        frames = client[run.uid]["primary"]["img"].read().reshape(5, 4, 5)
        np.testing.assert_array_equal(frames, FRAMES[[0, 1, 3, 4, 5]])
        (note,) = notes_of(client, run.uid)
        assert f"res-{run.uid}/2" in note


def test_events_with_only_external_keys_have_rows_and_frames(
    client: Container, tmp_path: Path
) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
    for name, doc in run.docs:
        if name == "descriptor":
            del doc["data_keys"]["x"]
            doc["object_keys"] = {"device": ["img"]}
        if name == "event":
            del doc["data"]["x"], doc["timestamps"]["x"]
    emit(run.docs, TiledWriter(client))

    stream = stream_of(client, run.uid)
    np.testing.assert_array_equal(stream["img"].read().reshape(FRAMES.shape), FRAMES)
    columns = table_of(stream["internal"])["columns"]
    assert sorted(columns) == ["seq_num", "time"]
    assert columns["seq_num"][1] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [None, 7], ids=str)
def test_what_is_no_datum_is_noted_once_or_stored(client: Container, value: int | None) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "img": external((1,), kind="OLD:")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "img": value})
    run.stop()
    emit(run.docs, TiledWriter(client))
    if value is not None:
        assert stream_of(client, run.uid)["img"].read().tolist() == [[value]] * 3
        return
    (note,) = notes_of(client, run.uid)
    assert "'img'" in note
    assert "seq_num 1 the first" in note


def test_without_a_normalizer_old_resources_are_noted(client: Container, tmp_path: Path) -> None:
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
    emit(run.docs, TiledWriter(client, normalizer=None))
    (note,) = notes_of(client, run.uid)
    assert f"res-{run.uid}" in note
    assert list(stream_of(client, run.uid)) == ["internal"]


def test_frames_that_come_with_events_and_in_files_have_nodes_of_their_own(
    client: Container, tmp_path: Path
) -> None:
    write_tiffs(tmp_path, FRAMES)
    run = legacy_run("AD_TIFF", tmp_path, late=False, paged=False, **AD_TIFF)
    events = [doc for name, doc in run.docs if name == "event"]
    events[5]["data"]["img"], events[5]["filled"] = FRAMES[5].tolist(), {"img": True}
    emit(run.docs, TiledWriter(client, batch_size=1))
    stream = stream_of(client, run.uid)
    np.testing.assert_array_equal(stream["img"].read().reshape(5, 4, 5), FRAMES[:5])
    np.testing.assert_array_equal(stream["img_"].read()[5], FRAMES[5])
    assert any("'img_'" in note for note in notes_of(client, run.uid))
