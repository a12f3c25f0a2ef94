"""Documents are compared with what Tiled holds: every difference is named, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import RunBuilder, data_key, scalar_run
from tiled.client.container import Container
from tree import stream_of
from value_cases import CASES, SQL_CASES, all_cases

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks.compare import same
from bluesky_tiled_writer.checks.readback import RunInTiled
from bluesky_tiled_writer.checks.verify import verify
from bluesky_tiled_writer.errors import UnknownReference

NAN = float("nan")
Docs = list[tuple[str, dict[str, Any]]]


def write(client: Container, docs: Docs, **options: Any) -> None:
    with TiledWriter(client, **options) as writer:
        for name, doc in docs:
            writer(name, doc)


def differences(client: Container, run: RunBuilder, docs: Docs | None = None) -> list[str]:
    found = verify(run.docs if docs is None else docs, RunInTiled.find(client, run.uid))
    return list(map(str, found))


def test_every_documented_value_is_as_expected(database: str, storage_client: Container) -> None:
    run = all_cases(1, CASES if database == "duckdb" else SQL_CASES)
    write(storage_client, run.docs)
    assert differences(storage_client, run) == []


def test_pages_and_columns_of_lists_are_as_expected(client: Container) -> None:
    run = all_cases("page")
    write(client, run.docs, max_array_size=-1)
    assert differences(client, run) == []


def test_names_of_every_kind(client: Container) -> None:
    names = ["a(b)", "1a", "k" * 61, "A", "a", "q?#", "y" * 300, "time", "internal", "ts_a"]
    run = RunBuilder()
    run.start(time_of_day="noon", tiled_specs=["mine"])
    run.descriptor("primary", dict.fromkeys(names, "number"))
    run.event("primary", {name: i / 2 for i, name in enumerate(names)})
    run.stop()
    write(client, run.docs)
    assert differences(client, run) == []


def test_keys_that_are_absent_come_late_or_never(client: Container) -> None:
    array = data_key("array", [2], dtype_numpy="<f8")
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "never": "integer", "a": array, "nothing": array})
    run.event("primary", {"x": 1.5})
    run.event("primary", {"a": [1, 2]})
    run.descriptor("primary", {"x": "number", "late": "string", "b": array})
    run.event("primary", {"x": 2.5, "late": "z", "b": [1, 2]})
    run.descriptor("empty", {"x": "number"})
    run.stop()
    write(client, run.docs)
    assert differences(client, run) == []


def test_rows_measured_again_after_a_pause(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for seq_num in (1, 2, 3, 2, 3, 4):
        run.event("primary", {"x": seq_num / 3}, seq_num=seq_num)
    run.stop()
    write(client, run.docs)
    assert differences(client, run) == []


def test_more_deviations_than_are_noted(client: Container) -> None:
    array = data_key("array", [2], dtype_numpy="<f8")
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "a": array})
    for i in range(130):
        run.event("primary", {"x": f"text {i}"} if i else {"x": "text", "a": [1, 2]})
    run.stop()
    write(client, run.docs)
    assert differences(client, run) == []


def test_run_of_1500_keys(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {f"k{i}": "number" for i in range(600)})
    run.event("primary", {f"k{i}": i for i in range(600)})
    run.stop()
    write(client, run.docs)
    assert differences(client, run) == []


def test_metadata_that_json_cannot_hold(client: Container) -> None:
    run = RunBuilder()
    run.start(nan=NAN, array=np.arange(3), big=2**70, raw=b"\xff", flag=np.bool_(True))
    run.stop(reason="é\0")
    write(client, run.docs)
    assert differences(client, run) == []


def broken(index: int, **changes: Any) -> tuple[RunBuilder, Docs]:
    """A run, and its documents with another value in one of the events."""
    run = scalar_run(4)
    docs = list(run.docs)
    name, doc = docs[2 + index]
    docs[2 + index] = (name, {**doc, "data": {**doc["data"], **changes}})
    return run, docs


def test_changed_value_is_named(client: Container) -> None:
    run, docs = broken(2, x=7.5)
    write(client, run.docs)
    assert differences(client, run, docs) == [
        "stream 'primary', key 'x', seq_num 3: 7.5, but 1.0 is stored"
    ]


@pytest.mark.parametrize("changes", [{"label": "row 11"}, {"n": 1.5}, {"x": None}, {"n": "1"}])
def test_any_changed_cell_is_found(changes: dict[str, Any], client: Container) -> None:
    run, docs = broken(1, **changes)
    write(client, run.docs)
    (found,) = differences(client, run, docs)
    assert found.startswith(f"stream 'primary', key '{next(iter(changes))}', seq_num 2: ")


def test_missing_rows_are_named_and_the_others_compared(client: Container) -> None:
    run, docs = broken(3, x=9)
    write(client, [pair for i, pair in enumerate(run.docs) if i not in (3, 4)])
    found = differences(client, run, docs)
    assert found[0] == "stream 'primary': 2 rows are not stored: seq_num 2-3"
    assert found[1].startswith("stream 'primary', key 'x', seq_num 4: 9, but 1.5")
    assert len(found) == 2


def test_rows_stored_twice_are_named(client: Container) -> None:
    run = scalar_run(4)
    name, event = run.docs[3]
    write(client, [*run.docs[:4], (name, {**event, "uid": "another"}), *run.docs[4:]])
    assert differences(client, run) == [
        "stream 'primary': 1 rows are stored once too often: seq_num 2"
    ]


def test_documents_that_come_twice_are_expected_once(client: Container) -> None:
    run = scalar_run(4)
    write(client, run.docs)
    run.docs[:-1] = [pair for pair in run.docs[:-1] for _ in range(2)]
    assert differences(client, run) == []


def test_rows_in_another_order_are_found(client: Container) -> None:
    run = scalar_run(4)
    docs = run.docs
    write(client, [*docs[:2], docs[3], docs[2], *docs[4:]])
    assert differences(client, run) == ["stream 'primary': the rows are stored in another order"]


def test_changed_array_element_is_found(client: Container) -> None:
    run = RunBuilder()
    run.start()
    shape = {"shape": [2, 3], "dtype_numpy": "<i8"}
    run.descriptor("primary", {"image": data_key("array", **shape), "r": data_key("array", [None])})
    for i in range(3):
        run.event("primary", {"image": np.full((2, 3), i), "r": [0.5] * i})
    run.stop()
    write(client, run.docs)
    run.docs[3][1]["data"]["image"] = [[1, 1, 1], [1, 1, 8]]
    run.docs[4][1]["data"]["r"] = [0.5, 0.75]
    found = differences(client, run)
    assert [text.partition(":")[0] for text in found] == [
        "stream 'primary', key 'image', seq_num 2",
        "stream 'primary', key 'r', seq_num 3",
    ]


def test_missing_nodes_and_streams_are_named(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"a": data_key("array", [2]), "x": "number"})
    run.event("primary", {"a": [1, 2], "x": 1})
    run.descriptor("extra", {"x": "number"})
    run.stop()
    write(client, run.docs)
    stream_of(client, run.uid).delete_contents("a", external_only=False)
    docs = [*run.docs[:3], run.docs[4]]
    assert differences(client, run, docs) == [
        "stream 'primary', key 'a': is not stored",
        "stream 'extra': Tiled has this stream, and the documents do not",
    ]


def test_metadata_are_compared(client: Container) -> None:
    run = scalar_run(1, sample={"name": "Ni", "n": 1})
    write(client, run.docs)
    start = {**run.docs[0][1], "sample": {"name": "Cu", "n": True}, "more": 1}
    stop = {**run.docs[-1][1], "exit_status": "abort"}
    assert differences(client, run, [("start", start), *run.docs[1:-1], ("stop", stop)]) == [
        "start.sample.name: 'Cu', but 'Ni' is stored",
        "start.sample.n: True, but 1 is stored",
        "start.more: 1 is not stored",
        "stop.exit_status: 'abort', but 'success' is stored",
    ]


def test_run_that_is_not_there(client: Container) -> None:
    assert differences(client, scalar_run()) == ["Tiled has no such run"]


def test_run_without_stop(client: Container) -> None:
    run = scalar_run(2)
    write(client, run.docs[:-1])
    assert differences(client, run) == ["Tiled has no stop document"]
    assert differences(client, run, run.docs[:-1]) == []


def test_documents_without_a_start(client: Container) -> None:
    with pytest.raises(UnknownReference, match="no start document"):
        list(verify(scalar_run().docs[1:], None))


def test_document_that_cannot_be_stored_is_a_difference(client: Container) -> None:
    run = scalar_run(1)
    write(client, run.docs)
    bad = [("event", {"descriptor": "unknown"}), ("event_page", {}), ("descriptor", {})]
    found = differences(client, run, [*run.docs[:2], *bad, *run.docs[2:]])
    assert len(found) == 3
    assert all("cannot be stored" in text for text in found)


def test_rows_in_files_are_counted(client: Container, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["data"] = np.zeros((5, 2))
    run = RunBuilder()
    run.start()
    image = data_key("array", [2], dtype_numpy="<f8", external="STREAM:")
    run.descriptor("primary", {"image": image})
    uri = f"file://localhost{tmp_path}/f.h5"
    resource = run.stream_resource("image", uri, dataset="data", chunk_shape=[1])
    run.stream_datum("primary", resource, 0, 3)
    run.stream_datum("primary", resource, 3, 5)
    run.stop()
    write(client, run.docs)
    assert differences(client, run) == []
    (found,) = differences(client, run, [*run.docs[:-2], run.docs[-1]])
    assert found == "stream 'primary', key 'image': 3 rows, but the shape (5, 2) is registered"


@pytest.mark.parametrize(
    ("measured", "stored", "expected"),
    [
        (2**60 + 1, float(2**60), False),
        (2**60, float(2**60), True),
        ([2**60 + 1], np.array([2.0**60]), False),
        (np.array([2**60 + 1]), np.array([2.0**60]), False),
        (np.array([2**63], "u8"), np.array([2.0**63]), True),
        ([1, None], np.array([1, NAN]), True),
        ([1, NAN], np.array([1, 2.0]), False),
        (np.float32(0.1), 0.1, False),
        ([[1, 2], [3]], "[[1, 2], [3]]", True),
        ([[1, 2], [3]], "[[1, 2], [4]]", False),
        ([1, 2], "text", False),
        ([1, 2], 1, False),
        (1, [1], True),
        ([1], 1, True),
        (1.5, "[1.5]", True),
        (1, [1, 1], False),
        ([], [[]], False),
        ("abc", b"abc", True),
        ("1", 1, False),
        (None, "", False),
        (np.datetime64("NaT", "s"), None, True),
        (np.zeros(2), np.zeros(3), False),
    ],
)
def test_same(measured: Any, stored: Any, expected: bool) -> None:
    assert same(measured, stored) is expected
