"""Documents of every kind with internal data, in any order that a RunEngine may send them."""

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
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from event_model import DocumentRouter
from ophyd.sim import SynAxis
from tiled.client.container import Container
from tree import array_of, columns_of, ragged_of, read_arrow, snapshot, stream_of

from bluesky_tiled_writer import TiledWriter


@pytest.fixture
def tiled_client(client: Container) -> Container:
    """Replaces the plugin's, so that `RE` writes to the app in this process."""
    return client


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
    """Columns come as numpy arrays where possible, as from a file of another format."""
    _, page = run.event_page("primary", rows)
    for part in ("data", "timestamps"):
        for key in page[part].keys() - {"trace"}:
            page[part][key] = np.array(page[part][key])
    page["seq_num"], page["time"] = np.array(page["seq_num"]), np.array(page["time"])


FORMS = [as_events, as_page, as_pages_and_events, as_bulk_events, as_page_of_arrays]


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_same_in_documents_of_every_kind(
    client: Container, form: Callable[[RunBuilder, Sequence[Document]], None]
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", KEYS)
    form(run, ROWS)
    run.stop()

    emit(run.docs, TiledWriter(client))

    stream = stream_of(client, run.uid)
    assert sorted(stream) == ["image", "internal", "trace"]
    assert columns_of(client, run.uid) == {
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

    assert columns_of(client, run.uid)["x"] == [0.5, 1.5]
    assert columns_of(client, run.uid, "monitor")["x"] == [10.5, 11.5]


def test_bulk_events_need_not_have_the_same_keys(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "n": "integer"})
    events = [run.event("primary", row)[1] for row in ({"x": 0.5}, {"n": 2}, {"x": 2.5, "n": 3})]
    run.docs[-3:] = [("bulk_events", {"primary": events})]
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns_of(client, run.uid) == {
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

    assert columns_of(client, run.uid) == {"seq_num": [1], "x": [1.5]}
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
    assert columns_of(client, run.uid)["x"] == [0.5, 1.5, 2.5]


def test_a_call_returns_the_document_as_other_routers_do(client: Container) -> None:
    writer = TiledWriter(client)
    for name, doc in scalar_run().docs:
        returned_name, returned = writer(name, doc)
        assert returned_name == name
        assert returned is doc


def test_a_run_engine_may_have_the_writer_for_one_plan(client: Container, RE: RunEngine) -> None:
    RE.unsubscribe(0)  # the writer of the fixture
    (uid,) = RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3), TiledWriter(client))
    assert columns_of(client, uid)["motor"] == [0.0, 0.5, 1.0]
    (other,) = RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3))
    assert other not in client


def test_a_run_engine_may_have_the_writer_for_every_plan(client: Container, RE: RunEngine) -> None:
    uids = [RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3))[0] for _ in range(2)]
    for uid in uids:
        assert columns_of(client, uid)["motor"] == [0.0, 0.5, 1.0]


# -- several runs ---------------------------------------------------------------------------------


def test_several_runs_may_be_open_at_once(client: Container) -> None:
    shuffle = random.Random(0)
    runs = [scalar_run(events=5, scan_id=i, plan_name=f"plan {i}") for i in range(4)]
    queues = [list(run.docs) for run in runs]
    mixed: list[Pair] = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(shuffle.choice(queues).pop(0))

    emit(mixed, TiledWriter(client))

    for i, run in enumerate(runs):
        metadata = client[run.uid].metadata
        assert metadata["start"]["scan_id"] == i
        assert metadata["stop"]["run_start"] == run.uid
        assert columns_of(client, run.uid) == {
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
        client[uid].metadata["start"]["which"]: len(columns_of(client, uid)["seq_num"])
        for uid in uids
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


def test_documents_may_change_after_the_call(client: Container) -> None:
    run = mixed_run()
    emit(run.docs, TiledWriter(client))
    expected = snapshot(client[run.uid])
    client.delete_contents([run.uid], recursive=True, external_only=False)

    writer = TiledWriter(client)
    for name, doc in run.docs:
        given = copy.deepcopy(doc)
        writer(name, given)
        wreck(given)

    assert snapshot(client[run.uid]) == expected


def test_documents_are_not_changed_by_the_call(client: Container) -> None:
    run = mixed_run()
    writer = TiledWriter(client)
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
