"""The documents of runs in Tiled: stored again, they make the same runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_runs
import pytest
from detector_files import FRAMES, external, hdf5_run, registered, write_hdf5, write_tiffs
from documents import Pair, RunBuilder, data_key, emit, scalar_run
from external_files import TIFF
from peer_differences import RUNS
from peer_runs import not_stopped, structured_arrays
from tiled.client.container import Container
from tree import clients_without, snapshot, stream_of
from value_cases import SQL_CASES, all_cases

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks import RunInTiled, verify
from bluesky_tiled_writer.cli import StoredRun
from bluesky_tiled_writer.consolidators import PathMap

MAKES = [*RUNS, not_stopped, structured_arrays]
OF_THE_OTHER = [
    peer_runs.all_scalars,
    peer_runs.configuration_updates,
    peer_runs.arrays,
    peer_runs.arrays_of_undeclared_type_with_integers,
    peer_runs.arrays_of_strings,
    peer_runs.ragged_arrays,
    peer_runs.reserved_names,
    peer_runs.repeated_seq_num,
    peer_runs.event_pages,
    peer_runs.a_value_that_is_none,
    peer_runs.metadata_beyond_json,
]


class Catalogs:
    """Two containers of one server, from one of which runs move to the other."""

    def __init__(self, client: Container) -> None:
        self.source = client.create_container()
        self.target = client.create_container()

    def write(self, docs: Iterable[Pair], **options: Any) -> str:
        docs = list(docs)
        with TiledWriter(self.source, journal_directory=None, **options) as writer:
            emit(docs, writer)
        return str(docs[0][1]["uid"])

    def move(self, uid: str, **options: Any) -> list[Pair]:
        """Store the documents of a run in the other container, and return them."""
        run = StoredRun(self.source[uid], **options)
        docs = list(run)
        with TiledWriter(self.target, journal_directory=None, **run.options) as writer:
            for name, doc in docs:
                writer(name, doc)
        return docs

    def differences(self, uid: str, docs: Iterable[Pair]) -> list[str]:
        return list(map(str, verify(docs, RunInTiled.find(self.target, uid))))

    def assert_same(self, uid: str) -> None:
        source, target = (snapshot(container[uid]) for container in (self.source, self.target))
        for run in (source, target):
            run["metadata"].pop("written_by", None)  # of one that is not stopped
        assert target == source


@pytest.fixture
def catalogs(client: Container) -> Catalogs:
    return Catalogs(client)


@pytest.mark.parametrize("make", MAKES, ids=[make.__name__ for make in MAKES])
def test_runs_of_this_package_are_the_same_again(
    catalogs: Catalogs, make: Callable[[], Iterable[Pair]]
) -> None:
    original = list(make())
    uid = catalogs.write(original)
    docs = catalogs.move(uid)
    catalogs.assert_same(uid)
    assert catalogs.differences(uid, docs) == []
    assert catalogs.differences(uid, original) == []


@pytest.mark.plugins
@pytest.mark.parametrize("make", OF_THE_OTHER, ids=[make.__name__ for make in OF_THE_OTHER])
def test_runs_of_the_other_writer_come_across(
    catalogs: Catalogs, make: Callable[[], Iterable[Pair]]
) -> None:
    """What it stored is in the documents, and what is in the documents is stored."""
    plugins = pytest.importorskip("bluesky_tiled_plugins")
    original = list(make())
    emit(original, plugins.TiledWriter(catalogs.source, max_array_size=0))
    uid = original[0][1]["uid"]
    docs = catalogs.move(uid)
    assert list(verify(docs, RunInTiled.find(catalogs.source, uid))) == []
    assert catalogs.differences(uid, docs) == []


def test_every_documented_value_is_the_same_again(catalogs: Catalogs) -> None:
    run = all_cases(1, SQL_CASES)
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    assert catalogs.differences(uid, docs) == []
    assert catalogs.differences(uid, run.docs) == []
    assert catalogs.target[uid].metadata == catalogs.source[uid].metadata


def test_plain_clients_of_tiled_are_enough(client: Container) -> None:
    catalogs = Catalogs(client)
    run = scalar_run(4, tiled_specs=["mine"])
    catalogs.write(run.docs)
    plain = catalogs.source.new_variation(
        structure_clients=clients_without("bluesky_tiled_plugins")
    )
    assert list(StoredRun(plain[run.uid])) == list(StoredRun(catalogs.source[run.uid]))


def test_values_beyond_the_notes_come_as_they_were(catalogs: Catalogs) -> None:
    run = RunBuilder()
    run.start()
    keys = {"n": "integer", "image": data_key("array", [2], dtype_numpy="<i8")}
    run.descriptor("primary", keys)
    for i in range(300):
        masked = np.ma.MaskedArray([i, 2 * i], [i % 2, 0])
        run.event("primary", {"n": i if i % 3 == 0 else f"none {i}", "image": masked})
    run.stop()
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    page = next(doc for name, doc in docs if name == "event_page")
    assert page["data"]["n"][:3] == [0, "none 1", "none 2"]
    assert page["data"]["image"][1].mask.tolist() == [True, False]
    catalogs.assert_same(uid)


def test_names_that_were_changed_are_those_of_the_documents(catalogs: Catalogs) -> None:
    names = ["det/x", "time", "seq_num", "internal", "ts_a", "a", "A", "q?#", "y" * 300, "1a"]
    run = RunBuilder()
    run.start()
    for stream in ("primary", "det/x_monitor"):
        run.descriptor(stream, dict.fromkeys(names, "number"))
        run.event(stream, {name: i / 2 for i, name in enumerate(names)})
    run.stop()
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    pages = [doc for name, doc in docs if name == "event_page"]
    taken = {"time", "seq_num", "internal", "ts_a"}  # which a normalizer renames
    wanted = {f"{name}_" if name in taken else name for name in names}
    assert [set(page["data"]) for page in pages] == [wanted] * 2
    assert {doc["name"] for name, doc in docs if name == "descriptor"} == {
        "primary",
        "det/x_monitor",
    }
    catalogs.assert_same(uid)


def test_more_columns_than_a_table_takes_are_the_same_again(catalogs: Catalogs) -> None:
    keys = [f"key_{i}" for i in range(700)]
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(keys, "number"))
    for row in range(3):
        run.event("primary", {key: row + i / 2 for i, key in enumerate(keys)})
    run.stop()
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    catalogs.assert_same(uid)
    assert catalogs.differences(uid, run.docs) == []
    assert catalogs.differences(uid, docs) == []


def test_events_refer_to_the_descriptor_before_them(catalogs: Catalogs) -> None:
    run = RunBuilder()
    run.start()
    uids = []
    for i in range(3):
        configuration = {"det": {"data": {"gain": i}, "timestamps": {"gain": 1.0 * i}}}
        _, doc = run.descriptor("primary", {"x": "number"}, configuration=configuration)
        uids.append(doc["uid"])
        for _ in range(i + 1):
            run.event("primary", {"x": i})
    run.stop()
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    pages = [doc for name, doc in docs if name == "event_page"]
    assert [(page["descriptor"], page["data"]["x"]) for page in pages] == [
        (uids[0], [0.0]),
        (uids[1], [1.0, 1.0]),
        (uids[2], [2.0, 2.0, 2.0]),
    ]
    catalogs.assert_same(uid)


def test_large_arrays_are_read_in_parts(
    catalogs: Catalogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_tiled_writer.cli.stored_runs.PAGE_BYTES", 3 * 800)
    run = RunBuilder()
    run.start()
    keys = {
        "image": data_key("array", [100], dtype_numpy="<f8"),
        "spectrum": data_key("array", [None], dtype_numpy="<f8"),
    }
    run.descriptor("primary", keys)
    for i in range(8):
        run.event("primary", {"image": [i / 2] * 100, "spectrum": [i / 4] * i})
    run.stop()
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    lengths = [len(doc["seq_num"]) for name, doc in docs if name == "event_page"]
    assert lengths == [2, 2, 2, 2]
    catalogs.assert_same(uid)


# -- files --------------------------------------------------------------------------------------


def selected_run(uri: str) -> RunBuilder:
    """Return a run that refers to some of the frames in files, and to one of them twice."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external()})
    parameters = {"template": "img_{:03d}.tif", "chunk_shape": [1]}
    resource = run.stream_resource("img", uri, TIFF, **parameters)
    for frame in (0, 2, 2, 5):
        _, doc = run.stream_datum("primary", resource, frame, frame + 1)
        doc["uid"] += f"-{len(run.docs)}"
        doc["seq_nums"] = {"start": len(run.docs) - 3, "stop": len(run.docs) - 2}
    run.stop()
    return run


@pytest.mark.parametrize("kind", ["hdf5", "selected"])
def test_files_are_registered_as_they_were(catalogs: Catalogs, tmp_path: Path, kind: str) -> None:
    if kind == "hdf5":
        run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    else:
        run = selected_run(write_tiffs(tmp_path, FRAMES))
    uid = catalogs.write(run.docs)
    docs = catalogs.move(uid)
    assert registered(catalogs.target, uid) == registered(catalogs.source, uid)
    catalogs.assert_same(uid)
    assert catalogs.differences(uid, docs) == []


@pytest.mark.plugins
def test_files_of_the_other_writer_are_registered_as_they_were(
    catalogs: Catalogs, tmp_path: Path
) -> None:
    plugins = pytest.importorskip("bluesky_tiled_plugins")
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    emit(run.docs, plugins.TiledWriter(catalogs.source))
    docs = catalogs.move(run.uid)
    assert registered(catalogs.target, run.uid) == registered(catalogs.source, run.uid)
    assert catalogs.differences(run.uid, docs) == []
    np.testing.assert_array_equal(stream_of(catalogs.target, run.uid)["img"].read(), FRAMES)


def test_files_in_another_place_are_registered_there(catalogs: Catalogs, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    run = hdf5_run(write_hdf5(tmp_path / "a.h5", FRAMES))
    uid = catalogs.write(run.docs)
    (tmp_path / "a.h5").rename(tmp_path / "new" / "a.h5")
    catalogs.move(uid, path_map=PathMap({str(tmp_path): str(tmp_path / "new")}))
    node = stream_of(catalogs.target, uid)["img"]
    assert node.metadata["original_uris"] == [f"file://localhost{tmp_path}/a.h5"]
    np.testing.assert_array_equal(node.read(), FRAMES)


def test_what_an_event_brought_stays_in_tiled(catalogs: Catalogs) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": external((2,))})
    run.event("primary", {"img": [1, 2]}, filled={"img": True})
    run.stop()
    uid = catalogs.write(run.docs)
    catalogs.move(uid)
    catalogs.assert_same(uid)


def test_specs_and_access_tags_are_for_the_next_writer(client: Container) -> None:
    catalogs = Catalogs(client)
    run = scalar_run(tiled_specs=["mine", {"name": "theirs", "version": "2"}])
    catalogs.write(run.docs)
    stored = catalogs.source[run.uid]
    stored.item["attributes"]["access_tags"] = ["proposal"]  # which needs an access policy
    _, start = next(_start_documents(StoredRun(stored)))
    assert start["tiled_access_tags"] == ["proposal"]
    assert start["tiled_specs"] == [
        {"name": "mine", "version": None},
        {"name": "theirs", "version": "2"},
    ]
    _, start = next(_start_documents(StoredRun(stored, access_tags=False)))
    assert "tiled_access_tags" not in start


def _start_documents(run: StoredRun) -> Iterator[Pair]:
    return (pair for pair in run if pair[0] == "start")
