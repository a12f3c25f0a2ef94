"""Documents of every kind with internal data, in every order that a RunEngine may send them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.preprocessors import run_decorator
from bluesky.utils import RunEngineInterrupted
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from event_model import DocumentRouter
from ophyd.sim import SynAxis
from tiled.client.container import Container
from tree import array_of, ragged_of, read_arrow, snapshot, stream_of

from bluesky_tiled_writer import TiledWriter

BATCH_SIZES = pytest.mark.parametrize("batch_size", [1, 2, 10_000])


@pytest.fixture
def tiled_client(client: Container) -> Container:
    """In place of the plugin's, so that `RE` writes to the app in this process."""
    return client


def columns(client: Container, uid: str, stream: str = "primary") -> dict[str, list[Any]]:
    """The table of a stream, without time stamps."""
    table = read_arrow(stream_of(client, uid, stream)["internal"])
    names = [name for name in table.column_names if name != "time" and not name.startswith("ts_")]
    return table.select(names).to_pydict()


# -- kinds of documents ---------------------------------------------------------------------------

ROWS = [
    {"x": 0.5, "n": 1, "label": "a", "image": [[1, 2], [3, 4]], "trace": [0.5]},
    {"x": 1.5, "n": -2, "label": "ü", "image": [[5, 6], [7, 8]], "trace": []},
    {"x": 2.5, "n": 3, "label": "", "image": [[9, 0], [1, 2]], "trace": [1.5, 2.5]},
    {"x": -0.5, "n": 4, "label": "d", "image": [[3, 4], [5, 6]], "trace": [3.5]},
]
KEYS: dict[str, str | Document] = {
    "x": "number",
    "n": "integer",
    "label": "string",
    "image": data_key("array", [2, 2], dtype_numpy="<u2"),
    "trace": data_key("array", [None], dtype_numpy="<f8"),
}


def as_events(run: RunBuilder, rows: Sequence[Document]) -> None:
    for row in rows:
        run.event("primary", row)


def as_page(run: RunBuilder, rows: Sequence[Document]) -> None:
    run.event_page("primary", rows)


def as_pages_and_events(run: RunBuilder, rows: Sequence[Document]) -> None:
    run.event_page("primary", rows[:1])
    run.event("primary", rows[1])
    run.event_page("primary", [])
    run.event_page("primary", rows[2:])


def as_bulk_events(run: RunBuilder, rows: Sequence[Document]) -> None:
    events = [run.event("primary", row)[1] for row in rows]
    del run.docs[-len(rows) :]
    run.add("bulk_events", {"primary": events})


def as_page_of_arrays(run: RunBuilder, rows: Sequence[Document]) -> None:
    """Columns that numpy can hold come as arrays, as from a file of another kind."""
    _, page = run.event_page("primary", rows)
    for part in ("data", "timestamps"):
        for key in page[part].keys() - {"trace"}:
            page[part][key] = np.array(page[part][key])
    page["seq_num"], page["time"] = np.array(page["seq_num"]), np.array(page["time"])


FORMS = [as_events, as_page, as_pages_and_events, as_bulk_events, as_page_of_arrays]


@BATCH_SIZES
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_same_in_documents_of_every_kind(
    client: Container,
    form: Callable[[RunBuilder, Sequence[Document]], None],
    batch_size: int,
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", KEYS)
    form(run, ROWS)
    run.stop()

    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    stream = stream_of(client, run.uid)
    assert sorted(stream) == ["image", "internal", "trace"]
    assert columns(client, run.uid) == {
        "seq_num": [1, 2, 3, 4],
        "x": [0.5, 1.5, 2.5, -0.5],
        "n": [1, -2, 3, 4],
        "label": ["a", "ü", "", "d"],
    }
    assert array_of(stream["image"])["dtype"] == "uint16"
    assert array_of(stream["image"])["values"] == [row["image"] for row in ROWS]
    assert ragged_of(stream["trace"])["values"] == [row["trace"] for row in ROWS]
    table = read_arrow(stream["internal"]).to_pydict()
    times = [table["time"][0] + i for i in range(4)]
    for name in ("time", *(f"ts_{key}" for key in KEYS)):
        assert table[name] == times
    assert "notes" not in client[run.uid].metadata


def test_bulk_events_may_be_of_several_streams(client: Container) -> None:
    run = RunBuilder()
    run.start()
    for stream in ("primary", "monitor"):
        run.descriptor(stream, {"x": "number"})
    events = {
        name: [run.event(name, {"x": start + i})[1] for i in range(2)]
        for name, start in (("primary", 0.5), ("monitor", 10.5))
    }
    run.docs[-4:] = [("bulk_events", events)]
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns(client, run.uid)["x"] == [0.5, 1.5]
    assert columns(client, run.uid, "monitor")["x"] == [10.5, 11.5]


def test_bulk_events_need_not_have_the_same_keys(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "n": "integer"})
    events = [run.event("primary", row)[1] for row in ({"x": 0.5}, {"n": 2}, {"x": 2.5, "n": 3})]
    run.docs[-3:] = [("bulk_events", {"primary": events})]
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns(client, run.uid) == {
        "seq_num": [1, 2, 3],
        "x": [0.5, None, 2.5],
        "n": [None, 2, 3],
    }


@pytest.mark.parametrize("kind", ["datum", "datum_page", "bulk_datum"])
def test_old_documents_of_external_data_leave_the_rows_of_events_alone(
    client: Container, kind: str
) -> None:
    run = RunBuilder()
    run.start()
    resource: Document = {
        "uid": f"resource of {run.uid}",
        "run_start": run.uid,
        "spec": "AD_HDF5",
        "root": "/",
        "resource_path": "data.h5",
        "resource_kwargs": {},
        "path_semantics": "posix",
    }
    datum_id = f"{resource['uid']}/0"
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2], external="OLD:")})
    run.add("resource", resource)
    references: dict[str, Document] = {
        "datum": {"datum_id": datum_id, "datum_kwargs": {"point_number": 0}},
        "datum_page": {"datum_id": [datum_id], "datum_kwargs": {"point_number": [0]}},
        "bulk_datum": {"datum_ids": [datum_id], "datum_kwarg_list": [{"point_number": 0}]},
    }
    run.add(kind, {"resource": resource["uid"], **references[kind]})
    run.event("primary", {"x": 1.5, "image": datum_id}, filled={"image": False})
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns(client, run.uid) == {"seq_num": [1], "x": [1.5]}
    assert client[run.uid].metadata["stop"]["exit_status"] == "success"


# -- ways to call ---------------------------------------------------------------------------------


def test_the_writer_is_a_document_router(client: Container) -> None:
    assert isinstance(TiledWriter(client), DocumentRouter)


CALLS: dict[str, Callable[[TiledWriter, str, Document], Any]] = {
    "by position": lambda writer, name, doc: writer(name, doc),
    "by name": lambda writer, name, doc: writer(name=name, doc=doc),
    "by method": lambda writer, name, doc: getattr(writer, name)(doc),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_documents_may_be_given_in_each_way_to_call_a_router(
    client: Container, call: Callable[[TiledWriter, str, Document], Any]
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.event_page("primary", [{"x": 1.5}, {"x": 2.5}])
    run.stop()
    writer = TiledWriter(client)
    for name, doc in run.docs:
        call(writer, name, doc)
    assert columns(client, run.uid)["x"] == [0.5, 1.5, 2.5]


def test_a_call_returns_the_document_as_other_routers_do(client: Container) -> None:
    writer = TiledWriter(client)
    for name, doc in scalar_run().docs:
        returned_name, returned = writer(name, doc)
        assert returned_name == name
        assert returned is doc


def test_a_run_engine_may_have_the_writer_for_one_plan(client: Container, RE: RunEngine) -> None:
    RE.unsubscribe(0)  # the writer of the fixture
    (uid,) = RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3), TiledWriter(client))
    assert columns(client, uid)["motor"] == [0.0, 0.5, 1.0]
    (other,) = RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3))
    assert other not in client


def test_a_run_engine_may_have_the_writer_for_every_plan(client: Container, RE: RunEngine) -> None:
    uids = [RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3))[0] for _ in range(2)]
    for uid in uids:
        assert columns(client, uid)["motor"] == [0.0, 0.5, 1.0]


# -- several runs ---------------------------------------------------------------------------------


@BATCH_SIZES
def test_several_runs_may_be_open_at_once(client: Container, batch_size: int) -> None:
    shuffle = random.Random(0)
    runs = [scalar_run(events=5, scan_id=i, plan_name=f"plan {i}") for i in range(4)]
    queues = [list(run.docs) for run in runs]
    mixed: list[Pair] = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(shuffle.choice(queues).pop(0))

    emit(mixed, TiledWriter(client, batch_size=batch_size))

    for i, run in enumerate(runs):
        metadata = client[run.uid].metadata
        assert metadata["start"]["scan_id"] == i
        assert metadata["stop"]["run_start"] == run.uid
        assert columns(client, run.uid) == {
            "seq_num": [1, 2, 3, 4, 5],
            "x": [0.0, 0.5, 1.0, 1.5, 2.0],
            "n": [0, 1, 2, 3, 4],
            "label": [f"row {i}" for i in range(5)],
        }


def test_runs_may_be_nested_in_one_plan(client: Container, RE: RunEngine) -> None:
    motor = SynAxis(name="motor")

    @run_decorator(md={"which": "inner"})
    def inner() -> Any:
        yield from bps.trigger_and_read([motor])
        yield from bps.trigger_and_read([motor])

    @run_decorator(md={"which": "outer"})
    def outer() -> Any:
        yield from bps.trigger_and_read([motor])
        yield from set_run_key(inner())
        yield from bps.trigger_and_read([motor])
        yield from bps.trigger_and_read([motor])

    uids = RE(outer())

    lengths = {
        client[uid].metadata["start"]["which"]: len(columns(client, uid)["seq_num"]) for uid in uids
    }
    assert lengths == {"inner": 2, "outer": 3}


def set_run_key(plan: Any) -> Any:
    from bluesky.preprocessors import set_run_key_wrapper

    return set_run_key_wrapper(plan, "inner")


# -- documents are the caller's -------------------------------------------------------------------


def wreck(value: Any) -> None:
    """Change everything in a document in place."""
    if isinstance(value, dict):
        for item in value.values():
            wreck(item)
        value.clear()
        value["wrecked"] = "wrecked"
    elif isinstance(value, list):
        for item in value:
            wreck(item)
        value[:] = ["wrecked"]
    elif isinstance(value, np.ndarray):
        value.fill(7)


@BATCH_SIZES
def test_documents_may_change_after_the_call(client: Container, batch_size: int) -> None:
    run = mixed_run()
    emit(run.docs, TiledWriter(client))
    expected = snapshot(client[run.uid])
    client.delete_contents([run.uid], recursive=True, external_only=False)

    writer = TiledWriter(client, batch_size=batch_size)
    for name, doc in run.docs:
        given = copy.deepcopy(doc)
        writer(name, given)
        wreck(given)

    assert snapshot(client[run.uid]) == expected


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_documents_are_not_changed_by_the_call(client: Container, batch_size: int) -> None:
    run = mixed_run()
    writer = TiledWriter(client, batch_size=batch_size)
    for name, doc in run.docs:
        given = copy.deepcopy(doc)
        writer(name, doc)
        np.testing.assert_equal(doc, given)


def mixed_run() -> RunBuilder:
    """A run with values of every kind that can be changed in place."""
    run = RunBuilder()
    run.start(
        sample={"name": "Cu", "cells": [1, 2, [3]]},
        tiled_access_tags=None,
        hints={"dimensions": [[["x"], "primary"]]},
    )
    keys: dict[str, str | Document] = {
        **KEYS,
        "time": data_key(),
        "names": data_key("array", [2], dtype_numpy="<U3"),
        "frame": data_key("array", [2, 2], dtype_numpy="<f4"),
        "ring": data_key("array", [None, 2]),
    }
    configuration = {
        "device": {
            "data": {"gain": [1, 2]},
            "timestamps": {"gain": 0.5},
            "data_keys": {"gain": data_key("array", [2])},
        }
    }
    run.descriptor("primary", keys, configuration=configuration)

    def row(i: int) -> Document:
        return {
            **copy.deepcopy(ROWS[i]),
            "time": 0.5 * i,
            "names": ["abc", "de"],
            "frame": np.full((2, 2), i, np.float32),
            "ring": [np.array([0.5, i]), [1.5, 2.5]],
        }

    run.event("primary", row(0))
    run.event("primary", row(1))
    run.descriptor("primary", keys, configuration=copy.deepcopy(configuration))
    run.event_page("primary", [row(2), row(3)])
    run.stop(reason="done")
    return run


# -- streams --------------------------------------------------------------------------------------


def configuration(exposure: float) -> dict[str, Any]:
    return {
        "configuration": {
            "camera": {
                "data": {"exposure": exposure},
                "timestamps": {"exposure": 0.5},
                "data_keys": {"exposure": data_key(dtype_numpy="<f8")},
            }
        }
    }


@BATCH_SIZES
def test_a_configuration_update_is_kept_and_its_rows_go_to_the_same_table(
    client: Container, batch_size: int
) -> None:
    run = RunBuilder()
    run.start()
    descriptors = []
    for exposure in (0.1, 0.2, 0.3):
        descriptors.append(run.descriptor("primary", {"x": "number"}, **configuration(exposure))[1])
        for i in range(2):
            run.event("primary", {"x": exposure + i})
    run.stop()

    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    assert columns(client, run.uid) == {
        "seq_num": [1, 2, 3, 4, 5, 6],
        "x": [0.1, 1.1, 0.2, 1.2, 0.3, 1.3],
    }
    metadata = stream_of(client, run.uid).metadata
    assert metadata["uid"] == descriptors[0]["uid"]
    assert metadata["configuration"]["camera"]["data"] == {"exposure": 0.1}
    assert metadata["_config_updates"] == [
        {"uid": doc["uid"], "time": doc["time"], "configuration": doc["configuration"]}
        for doc in descriptors[1:]
    ]


def test_an_event_may_still_refer_to_the_descriptor_before_an_update(client: Container) -> None:
    run = RunBuilder()
    run.start()
    _, first = run.descriptor("primary", {"x": "number"}, **configuration(0.1))
    run.descriptor("primary", {"x": "number"}, **configuration(0.2))
    run.event("primary", {"x": 0.5})
    _, late = run.event("primary", {"x": 1.5})
    late["descriptor"] = first["uid"]
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns(client, run.uid)["x"] == [0.5, 1.5]


@BATCH_SIZES
def test_a_later_descriptor_may_declare_more_keys(client: Container, batch_size: int) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.event("primary", {"x": 1.5})
    image = data_key("array", [2], dtype_numpy="<i4")
    _, later = run.descriptor("primary", {"x": "number", "n": "integer", "image": image})
    run.event("primary", {"x": 2.5, "n": 3, "image": [1, 2]})
    run.stop()

    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    assert columns(client, run.uid) == {
        "seq_num": [1, 2, 3],
        "x": [0.5, 1.5, 2.5],
        "n": [None, None, 3],
    }
    stream = stream_of(client, run.uid)
    assert stream["image"].read().tolist() == [[0, 0], [0, 0], [1, 2]]
    assert sorted(stream.metadata["data_keys"]) == ["image", "n", "x"]
    notes = " ".join(client[run.uid].metadata["notes"])
    assert later["uid"] in notes
    assert "'image'" in notes
    assert "'n'" in notes


def test_a_stream_without_events_has_no_table(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("empty", KEYS, **configuration(0.1))
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert sorted(client[run.uid]) == ["empty", "primary"]
    assert list(stream_of(client, run.uid, "empty")) == []
    assert sorted(stream_of(client, run.uid, "empty").metadata["data_keys"]) == sorted(KEYS)


def test_a_page_without_rows_counts_as_no_event(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event_page("primary", [])
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert list(stream_of(client, run.uid)) == []


def test_a_run_without_streams_is_its_metadata(client: Container) -> None:
    run = RunBuilder()
    _, start = run.start(plan_name="nothing", scan_id=7)
    _, stop = run.stop()
    emit(run.docs, TiledWriter(client))
    assert list(client[run.uid]) == []
    assert client[run.uid].metadata == {"start": start, "stop": stop}


@pytest.mark.parametrize("with_events", [True, False])
@pytest.mark.parametrize("exit_status", ["success", "abort", "fail"])
def test_a_run_that_went_wrong_is_as_complete_as_it_got(
    client: Container, exit_status: str, with_events: bool
) -> None:
    run = RunBuilder()
    run.start()
    if with_events:
        run.descriptor("primary", {"x": "number"})
        run.event("primary", {"x": 0.5})
    _, stop = run.stop(exit_status, reason="the beam was lost")

    emit(run.docs, TiledWriter(client))

    assert client[run.uid].metadata["stop"] == stop
    if with_events:
        assert columns(client, run.uid)["x"] == [0.5]


def test_a_run_that_has_not_stopped_can_be_read(client: Container) -> None:
    run = scalar_run()
    writer = TiledWriter(client, batch_size=1)
    emit(run.docs[:-1], writer)
    assert columns(client, run.uid)["n"] == [0, 1, 2]
    assert "stop" not in client[run.uid].metadata
    emit(run.docs[-1:], writer)
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]


@BATCH_SIZES
@pytest.mark.parametrize("seq_nums", [[1, 2, 3, 2, 3, 4], [1, 1, 1], [5, 9, 2], [3]])
def test_every_row_is_kept_whatever_its_seq_num(
    client: Container, seq_nums: list[int], batch_size: int
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "image": data_key("array", [1])})
    for i, seq_num in enumerate(seq_nums):
        run.event("primary", {"x": i / 2, "image": [i]}, seq_num=seq_num)
    run.stop()

    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    assert columns(client, run.uid) == {
        "seq_num": seq_nums,
        "x": [i / 2 for i in range(len(seq_nums))],
    }
    images = stream_of(client, run.uid)["image"].read()
    assert images.tolist() == [[i] for i in range(len(seq_nums))]


def test_the_rows_of_a_paused_and_resumed_scan_are_all_kept(
    client: Container, RE: RunEngine
) -> None:
    motor = SynAxis(name="motor")

    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.checkpoint()
        yield from bps.mv(motor, 1)
        yield from bps.trigger_and_read([motor])
        yield from bps.mv(motor, 2)
        yield from bps.trigger_and_read([motor])
        yield from bps.pause()
        yield from bps.trigger_and_read([motor])
        yield from bps.close_run()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (uid,) = RE.resume()

    assert columns(client, uid)["seq_num"] == [1, 2, 1, 2, 3]
    assert columns(client, uid)["motor"] == [1.0, 2.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(("end", "status"), [("abort", "abort"), ("stop", "success")])
def test_a_scan_that_is_ended_by_hand_says_how(
    client: Container, RE: RunEngine, end: str, status: str
) -> None:
    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.trigger_and_read([SynAxis(name="motor")])
        yield from bps.pause()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (uid,) = getattr(RE, end)()

    assert client[uid].metadata["stop"]["exit_status"] == status
    assert len(columns(client, uid)["motor"]) == 1


def test_a_scan_that_fails_says_why(client: Container, RE: RunEngine) -> None:
    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.trigger_and_read([SynAxis(name="motor")])
        raise ValueError("out of beam")

    uids = []
    RE.subscribe(lambda name, doc: uids.append(doc["uid"]), "start")
    with pytest.raises(ValueError, match="out of beam"):
        RE(plan())

    stop = client[uids[0]].metadata["stop"]
    assert stop["exit_status"] == "fail"
    assert "out of beam" in stop["reason"]
    assert len(columns(client, uids[0])["motor"]) == 1


# -- external keys whose values come with the events ----------------------------------------------

EXTERNAL = {
    "x": data_key(),
    "image": data_key("array", [2, 2], dtype_numpy="<u2", external="FILESTORE:"),
}
IMAGE = [[1, 2], [3, 4]]


@BATCH_SIZES
@pytest.mark.parametrize("normalized", [True, False], ids=["normalized", "as they are"])
def test_external_data_that_are_filled_in_are_stored(
    client: Container, batch_size: int, normalized: bool
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    for i in range(3):
        run.event("primary", {"x": i / 2, "image": IMAGE}, filled={"image": True})
    run.stop()

    options: dict[str, Any] = {} if normalized else {"normalizer": None}
    emit(run.docs, TiledWriter(client, batch_size=batch_size, **options))

    stream = stream_of(client, run.uid)
    assert sorted(stream) == ["image", "internal"]
    assert array_of(stream["image"])["dtype"] == "uint16"
    assert stream["image"].read().tolist() == [IMAGE] * 3
    assert columns(client, run.uid) == {"seq_num": [1, 2, 3], "x": [0.0, 0.5, 1.0]}
    assert "notes" not in client[run.uid].metadata


@BATCH_SIZES
def test_external_data_that_are_filled_in_from_a_later_event_on_are_stored(
    client: Container, batch_size: int
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    run.event("primary", {"x": 0.5, "image": "datum/0"}, filled={"image": False})
    run.event("primary", {"x": 1.5, "image": IMAGE}, filled={"image": "handler"})
    run.event("primary", {"x": 2.5, "image": "datum/2"}, filled={"image": False})
    run.event("primary", {"x": 3.5, "image": IMAGE}, filled={"image": True})
    run.stop()

    emit(run.docs, TiledWriter(client, batch_size=batch_size))

    nothing = [[0, 0], [0, 0]]
    images = stream_of(client, run.uid)["image"].read()
    assert images.tolist() == [nothing, IMAGE, nothing, IMAGE]
    assert columns(client, run.uid)["x"] == [0.5, 1.5, 2.5, 3.5]
    notes = client[run.uid].metadata["notes"]
    for seq_num in (1, 3):
        assert any("'image'" in note and f"seq_num {seq_num}:" in note for note in notes)


@pytest.mark.parametrize("filled", [[True, True], [False, True], [True, False], [False, False]])
def test_the_rows_of_a_page_may_be_filled_one_by_one(client: Container, filled: list[bool]) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    rows = [{"x": i / 2, "image": IMAGE if flag else "datum"} for i, flag in enumerate(filled)]
    _, page = run.event_page("primary", rows)
    page["filled"] = {"image": filled}
    run.stop()

    emit(run.docs, TiledWriter(client))

    stream = stream_of(client, run.uid)
    assert columns(client, run.uid)["x"] == [0.0, 0.5]
    assert ("image" in stream) is any(filled)
    if any(filled):
        nothing = [[0, 0], [0, 0]]
        assert stream["image"].read().tolist() == [IMAGE if flag else nothing for flag in filled]


def test_a_scalar_that_is_external_may_be_filled_in_too(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": data_key("integer", external="FILESTORE:"), "x": data_key()})
    run.event("primary", {"x": 0.5, "n": "datum/0"}, filled={"n": False})
    run.event("primary", {"x": 1.5, "n": 7}, filled={"n": True})
    run.stop()

    emit(run.docs, TiledWriter(client, batch_size=1))

    assert columns(client, run.uid) == {"seq_num": [1, 2], "x": [0.5, 1.5], "n": [None, 7]}
