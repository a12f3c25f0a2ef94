"""Documents that cannot be stored: a clear error for each, and every other run goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from documents import EPOCH, Document, Pair, RunBuilder, data_key, emit, scalar_run
from tiled.client.container import Container
from tree import read_arrow, snapshot, stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.errors import (
    DuplicateRun,
    InvalidDocument,
    RunExists,
    TiledWriterError,
    UnknownReference,
)

START, DESCRIPTOR, EVENT = 0, 1, 2
"""Places of these documents in a `scalar_run`."""

Make = Callable[[list[Pair]], Pair]


@dataclass
class Wrong:
    """A document that is wrong, made from those of the run that it is slipped into.

    It comes after the first `after` of them; the error is of the type `error`, and its message
    has the words `names`.
    """

    make: Make
    error: type[TiledWriterError]
    names: tuple[str, ...]
    after: int = 3


@dataclass
class Unknown:
    """A document that refers to what never came, as `Wrong`; it is told in the log."""

    make: Make
    names: tuple[str, ...]
    after: int = 3


def changed(index: int, **fields: Any) -> Make:
    """One of the run's own documents with some fields changed; None takes a field away."""

    def make(docs: list[Pair]) -> Pair:
        name, doc = copy.deepcopy(docs[index])
        doc.update(uid="wrong-document")
        doc.update(fields)
        return name, {key: value for key, value in doc.items() if value is not None}

    return make


def event_with(**data: Any) -> Make:
    """An event of the run with other or more values."""

    def make(docs: list[Pair]) -> Pair:
        name, doc = changed(EVENT)(docs)
        doc["data"].update(data)
        doc["timestamps"].update(dict.fromkeys(data, EPOCH))
        return name, doc

    return make


def page(**fields: Any) -> Make:
    """A page of two rows with some fields changed; None takes a field away."""

    def make(docs: list[Pair]) -> Pair:
        doc: Document = {
            "uid": ["wrong-row-1", "wrong-row-2"],
            "descriptor": docs[DESCRIPTOR][1]["uid"],
            "time": [EPOCH, EPOCH],
            "seq_num": [1, 2],
            "data": {"x": [0.5, 1.5], "n": [1, 2], "label": ["a", "b"]},
            "timestamps": {key: [EPOCH, EPOCH] for key in ("x", "n", "label")},
            "filled": {},
        }
        doc.update(fields)
        return "event_page", {key: value for key, value in doc.items() if value is not None}

    return make


def document(kind: str, **fields: Any) -> Make:
    return lambda docs: (kind, {"uid": "wrong-document", "time": EPOCH, **fields})


def files(**fields: Any) -> Make:
    """A stream_resource with some fields changed; None takes a field away."""

    def make(docs: list[Pair]) -> Pair:
        doc: Document = {
            "uid": "wrong-document",
            "run_start": docs[START][1]["uid"],
            "data_key": "image",
            "mimetype": "application/x-hdf5",
            "uri": "file://localhost/data/image.h5",
            "parameters": {},
        }
        doc.update(fields)
        return "stream_resource", {key: value for key, value in doc.items() if value is not None}

    return make


def datum(**fields: Any) -> Make:
    """A stream_datum with some fields changed; None takes a field away."""

    def make(docs: list[Pair]) -> Pair:
        rows = {"start": 0, "stop": 1}
        doc: Document = {
            "uid": "wrong-document",
            "descriptor": docs[DESCRIPTOR][1]["uid"],
            "indices": rows,
            "seq_nums": rows,
        }
        doc.update(fields)
        return "stream_datum", {key: value for key, value in doc.items() if value is not None}

    return make


WRONG = {
    # References that are missing.
    "an event that names no descriptor": Wrong(
        changed(EVENT, descriptor=None), InvalidDocument, ("event", "wrong-document", "descriptor")
    ),
    "a page that names no descriptor": Wrong(
        page(descriptor=None), InvalidDocument, ("event_page", "wrong-row-1", "descriptor")
    ),
    "a descriptor that names no run": Wrong(
        changed(DESCRIPTOR, run_start=None),
        InvalidDocument,
        ("descriptor", "wrong-document", "run_start"),
    ),
    "a stop that names no run": Wrong(
        document("stop", exit_status="success"),
        InvalidDocument,
        ("stop", "wrong-document", "run_start"),
    ),
    # Another start.
    "another start of a run that is open": Wrong(
        lambda docs: ("start", {"uid": docs[START][1]["uid"], "time": EPOCH, "scan_id": 2}),
        DuplicateRun,
        ("another start", "still open"),
    ),
    # Events that do not fit.
    "an event with an undeclared key": Wrong(
        event_with(surprise=1), InvalidDocument, ("wrong-document", "primary", "surprise")
    ),
    "an event without data": Wrong(
        changed(EVENT, data=None), InvalidDocument, ("event", "wrong-document", "primary", "data")
    ),
    "an event without timestamps": Wrong(
        changed(EVENT, timestamps=None),
        InvalidDocument,
        ("event", "wrong-document", "primary", "timestamps"),
    ),
    "an event without seq_num": Wrong(
        changed(EVENT, seq_num=None),
        InvalidDocument,
        ("event", "wrong-document", "primary", "seq_num"),
    ),
    "an event without time": Wrong(
        changed(EVENT, time=None), InvalidDocument, ("event", "wrong-document", "primary", "time")
    ),
    "an event whose data are a list": Wrong(
        changed(EVENT, data=[1, 2, 3]), InvalidDocument, ("event", "wrong-document", "primary")
    ),
    "a page with an undeclared key": Wrong(
        page(data={"x": [1, 2], "n": [1, 2], "label": ["", ""], "surprise": [1, 2]}),
        InvalidDocument,
        ("wrong-row-1", "primary", "surprise"),
    ),
    "a page without data": Wrong(
        page(data=None), InvalidDocument, ("event_page", "wrong-row-1", "primary", "data")
    ),
    "a page without seq_num": Wrong(
        page(seq_num=None), InvalidDocument, ("event_page", "wrong-row-1", "primary", "seq_num")
    ),
    "a page whose columns differ in length": Wrong(
        page(data={"x": [0.5], "n": [1, 2], "label": ["a", "b"]}),
        InvalidDocument,
        ("event_page", "wrong-row-1", "primary", "lengths"),
    ),
    "a page with more timestamps than rows": Wrong(
        page(timestamps={"x": [1.0, 2.0, 3.0]}),
        InvalidDocument,
        ("event_page", "wrong-row-1", "primary", "lengths"),
    ),
    # Descriptors that are no descriptors.
    "a descriptor without data_keys": Wrong(
        changed(DESCRIPTOR, data_keys=None),
        InvalidDocument,
        ("descriptor", "wrong-document", "primary", "data_keys"),
    ),
    "a descriptor whose data_keys are a list": Wrong(
        changed(DESCRIPTOR, data_keys=["x"]),
        InvalidDocument,
        ("descriptor", "wrong-document", "primary", "data_keys"),
    ),
    "a descriptor without a name": Wrong(
        changed(DESCRIPTOR, name=None), InvalidDocument, ("descriptor", "wrong-document", "name")
    ),
    # Files that cannot be found, or rows that are not said to be in them.
    **{
        f"a stream_resource without {field}": Wrong(
            files(**{field: None}), InvalidDocument, ("stream_resource", field)
        )
        for field in ("uid", "data_key", "uri")
    },
    "a stream_datum of an unknown stream_resource": Wrong(
        datum(stream_resource="nobody"),
        UnknownReference,
        ("stream_datum", "wrong-document", "nobody"),
    ),
    "a stream_datum without a stream_resource": Wrong(
        datum(stream_resource=None),
        InvalidDocument,
        ("stream_datum", "wrong-document", "stream_resource"),
    ),
    "a document of no known kind": Wrong(document("surprise"), InvalidDocument, ("surprise",)),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_document_is_named_and_costs_nothing_else(client: Container, case: Wrong) -> None:
    # Of three events, two are stored when the second comes, and one waits for the stop.
    writer = TiledWriter(client, batch_size=2)
    hit, other = scalar_run(), scalar_run()
    emit(other.docs[:3], writer)
    emit(hit.docs[: case.after], writer)

    with pytest.raises(case.error) as raised:
        emit([case.make(hit.docs)], writer)

    for name in case.names:
        assert name in str(raised.value)
    assert raised.value.hint

    # The run of the wrong document takes its right ones still, and so does any other.
    emit(hit.docs[case.after :], writer)
    emit(other.docs[3:], writer)
    for run in (hit, other):
        assert_complete(client, run)


UNKNOWN = {
    "an event of an unknown run": Unknown(
        changed(EVENT, descriptor="nobody"), ("event", "wrong-document", "nobody")
    ),
    "an event before its descriptor": Unknown(changed(EVENT), ("event", "wrong-document"), after=1),
    "a page of an unknown run": Unknown(
        page(descriptor="nobody"), ("event_page", "wrong-row-1", "nobody")
    ),
    "a page before its descriptor": Unknown(page(), ("event_page", "wrong-row-1"), after=1),
    "a descriptor of an unknown run": Unknown(
        changed(DESCRIPTOR, run_start="nobody"),
        ("descriptor", "wrong-document", "nobody"),
    ),
    "a stop of an unknown run": Unknown(
        document("stop", run_start="nobody", exit_status="success"),
        ("stop", "wrong-document", "nobody"),
    ),
    "a resource of an unknown run": Unknown(
        document("resource", run_start="nobody"),
        ("resource", "wrong-document", "nobody"),
    ),
    "a datum of an unknown resource": Unknown(
        document("datum", datum_id="wrong-datum", resource="nobody"),
        ("datum", "nobody"),
    ),
    "a stream_datum of an unknown run": Unknown(
        document("stream_datum", descriptor="nobody", stream_resource="nobody"),
        ("stream_datum", "wrong-document", "nobody"),
    ),
}
"""References to nothing that was ever seen: it may be that what they refer to was missed."""


@pytest.mark.parametrize("case", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_reference_to_nothing_is_told_once_and_costs_nothing_else(
    client: Container, case: Unknown, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TiledWriter(client, batch_size=2)
    hit, other = scalar_run(), scalar_run()
    emit(other.docs[:3], writer)
    emit(hit.docs[: case.after], writer)

    emit([case.make(hit.docs)] * 2, writer)

    (line,) = [record for record in caplog.records if "no open run" in record.getMessage()]
    assert line.levelname == "WARNING"
    assert line.exc_info is None
    for name in case.names:
        assert name in line.getMessage()
    emit(hit.docs[case.after :], writer)
    emit(other.docs[3:], writer)
    for run in (hit, other):
        assert_complete(client, run)


def assert_complete(client: Container, run: RunBuilder) -> None:
    """Assert that Tiled has a `scalar_run`, the whole of it and nothing else."""
    node = client[run.uid]
    assert list(node) == ["primary"]
    assert node.metadata["start"] == run.docs[0][1]
    assert node.metadata["stop"] == run.docs[-1][1]
    assert "notes" not in node.metadata
    events = [doc for name, doc in run.docs if name == "event"]
    assert read_arrow(stream_of(client, run.uid)["internal"]).to_pydict() == {
        "seq_num": [doc["seq_num"] for doc in events],
        "time": [doc["time"] for doc in events],
        **{key: [doc["data"][key] for doc in events] for key in ("x", "n", "label")},
        **{f"ts_{key}": [doc["timestamps"][key] for doc in events] for key in ("x", "n", "label")},
    }


UNADDRESSABLE = ["", "a/b", "..", ".", "/", None, 7]


@pytest.mark.parametrize("uid", UNADDRESSABLE)
def test_a_run_whose_uid_cannot_be_part_of_a_path_is_refused(client: Container, uid: Any) -> None:
    writer = TiledWriter(client)
    other = scalar_run()
    emit(other.docs[:3], writer)
    assert writer.flush()
    before = set(client)

    with pytest.raises(InvalidDocument) as raised:
        writer("start", {"uid": uid, "time": EPOCH})

    assert "start" in str(raised.value)
    assert repr(uid) in str(raised.value)
    assert raised.value.hint
    assert set(client) == before
    emit(other.docs[3:], writer)
    assert_complete(client, other)


@pytest.mark.parametrize("name", [name for name in UNADDRESSABLE if not isinstance(name, str)])
def test_a_stream_whose_name_is_no_text_is_refused(client: Container, name: Any) -> None:
    writer = TiledWriter(client)
    run = scalar_run()
    emit(run.docs[:3], writer)
    doc = {**run.docs[DESCRIPTOR][1], "uid": "wrong-document", "name": name}

    with pytest.raises(InvalidDocument) as raised:
        writer("descriptor", doc)

    assert "descriptor" in str(raised.value)
    assert "name" in str(raised.value)
    assert repr(name) in str(raised.value) or "wrong-document" in str(raised.value)
    assert raised.value.hint
    emit(run.docs[3:], writer)
    assert_complete(client, run)


@pytest.mark.parametrize("name", ["two words", "a_b", "ünï", "100%", "a+b", "a.b", "...", "A", "~"])
def test_a_uid_and_a_stream_name_may_be_any_other_text(client: Container, name: str) -> None:
    writer = TiledWriter(client)
    run = RunBuilder()
    run.uid = f"{name} {run.uid}"
    run.start()
    run.descriptor(name, {"x": "number"})
    run.event(name, {"x": 1.5})
    run.stop()

    emit(run.docs, writer)

    assert client[run.uid].metadata["start"]["uid"] == run.uid
    assert stream_of(client, run.uid, name)["internal"].read()["x"].tolist() == [1.5]


def test_a_run_that_tiled_has_already_is_left_as_it_is(client: Container) -> None:
    first = scalar_run(scan_id=41)
    emit(first.docs, TiledWriter(client))
    stored = snapshot(client[first.uid])
    writer = TiledWriter(client)
    other = scalar_run()
    emit(other.docs[:3], writer)
    second = RunBuilder()
    second.uid = first.uid
    second.start(scan_id=42)
    second.descriptor("primary", {"y": "number"})
    second.event("primary", {"y": 1.0})
    second.stop()

    emit(second.docs, writer)
    with pytest.raises(RunExists) as raised:
        writer.wait_for(first.uid)

    assert first.uid in str(raised.value)
    assert "41" in str(raised.value)
    assert "42" in str(raised.value)
    assert raised.value.hint
    assert snapshot(client[first.uid]) == stored
    emit(other.docs[3:], writer)
    assert_complete(client, other)


def test_the_documents_of_a_run_that_has_ended_belong_to_no_open_run(
    client: Container, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TiledWriter(client)
    run = scalar_run()
    emit(run.docs, writer)
    stored = snapshot(client[run.uid])

    emit(run.docs[1:], writer)

    assert sum("no open run" in line for line in caplog.messages) == 1
    assert snapshot(client[run.uid]) == stored


def test_an_unknown_reference_says_which_runs_are_open(
    client: Container, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TiledWriter(client)
    writer("event", {"uid": "e", "descriptor": "nobody"})
    assert "open are none." in caplog.text
    run = scalar_run()
    emit(run.docs[:1], writer)
    writer("event", {"uid": "e", "descriptor": "nobody else"})
    assert f"open are {run.uid}." in caplog.text
    emit(run.docs[1:], writer)


# Streams whose events take the long way through the normalizer.
LONG_WAYS = {
    "a renamed key": {"time": data_key()},
    "an external key": {"x": data_key(), "image": data_key("array", [2], external="FILESTORE:")},
}


@pytest.mark.parametrize("field", ["data", "timestamps", "seq_num", "time"])
@pytest.mark.parametrize("data_keys", LONG_WAYS.values(), ids=LONG_WAYS.keys())
@pytest.mark.parametrize("kind", ["event", "event_page"])
def test_an_event_that_has_to_be_changed_first_may_be_wrong_too(
    client: Container, kind: str, data_keys: Document, field: str
) -> None:
    writer = TiledWriter(client)
    run = RunBuilder()
    run.start()
    run.descriptor("primary", data_keys)
    internal = {key: 1.5 for key, spec in data_keys.items() if "external" not in spec}
    if kind == "event":
        name, right = run.event("primary", internal)
    else:
        name, right = run.event_page("primary", [internal])
    wrong = {key: value for key, value in right.items() if key != field}
    emit(run.docs[:2], writer)

    with pytest.raises(InvalidDocument, match=f"{name}.*primary.*{field}"):
        writer(name, wrong)

    emit([(name, right), run.stop()], writer)
    assert len(stream_of(client, run.uid)["internal"].read()) == 1


def test_without_a_normalizer_wrong_documents_are_named_too(client: Container) -> None:
    writer = TiledWriter(client, normalizer=None)
    run = scalar_run()
    emit(run.docs[:2], writer)
    for index, field, names in [
        (DESCRIPTOR, "uid", ("descriptor", "uid")),
        (DESCRIPTOR, "data_keys", ("descriptor", "data_keys")),
        (EVENT, "data", ("event", "wrong-document", "data")),
    ]:
        doc = {**run.docs[index][1], "uid": "wrong-document"}
        if index == DESCRIPTOR:
            doc["name"] = "another"
        del doc[field]
        with pytest.raises(InvalidDocument) as raised:
            writer(run.docs[index][0], doc)
        for name in names:
            assert name in str(raised.value)
    emit(run.docs[2:], writer)
    assert_complete(client, run)
