"""Runs as their readers see them: the clients of bluesky-tiled-plugins, and Tiled's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from documents import EPOCH, Document, RunBuilder, data_key, emit, scalar_run
from tiled.client import from_context
from tiled.client.composite import CompositeClient
from tiled.client.container import Container
from tiled.client.context import Context
from tiled.client.dataframe import DataFrameClient
from tiled.queries import Key
from tree import clients_without

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.schema import MAX_COLUMNS

pytest.importorskip("bluesky_tiled_plugins")
pytestmark = pytest.mark.plugins

from bluesky_tiled_plugins.clients.bluesky_event_stream import BlueskyEventStreamV3  # noqa: E402
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV2, BlueskyRunV3  # noqa: E402

LOCAL_VALIDATION = "does not support remote validation"
IMAGES = [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]], [[12, 13, 14], [15, 16, 17]]]


def configuration(exposure: float) -> dict[str, Any]:
    return {
        "camera": {
            "data": {"exposure": exposure, "mode": "fast"},
            "timestamps": {"exposure": EPOCH, "mode": EPOCH},
            "data_keys": {
                "exposure": data_key(dtype_numpy="<f8"),
                "mode": data_key("string", dtype_numpy="<U4"),
            },
        }
    }


def compose() -> RunBuilder:
    """A run with what readers make use of, in documents that need no update."""
    run = RunBuilder()
    run.start(scan_id=17, plan_name="flight of the fancy", sample={"name": "Cu"})
    run.descriptor(
        "baseline",
        {"temperature": data_key(dtype_numpy="<f8", object_name="device")},
        hints={"device": {"fields": []}},
    )
    run.event("baseline", {"temperature": 20.5})
    keys: dict[str, Document] = {
        "x": data_key(dtype_numpy="<f8", object_name="device"),
        "n": data_key("integer", dtype_numpy="<i8", object_name="device"),
        "label": data_key("string", dtype_numpy="<U5", object_name="device"),
        "image": data_key("array", [2, 3], dtype_numpy="<u2", object_name="device"),
    }
    hints = {"device": {"fields": ["x"]}}
    run.descriptor("primary", keys, hints=hints, configuration=configuration(0.1))
    for i in range(3):
        if i == 2:
            run.descriptor("primary", keys, hints=hints, configuration=configuration(0.2))
        data = {"x": i / 2, "n": i, "label": f"row {i}", "image": IMAGES[i]}
        run.event("primary", data, timestamps=dict.fromkeys(data, EPOCH + i))
    run.event("baseline", {"temperature": 21.5})
    run.stop()
    return run


@pytest.fixture(scope="module")
def sent(app_context: Context) -> RunBuilder:
    """A run that is stored, for all tests of this module to read."""
    run = compose()
    emit(run.docs, TiledWriter(from_context(app_context)))
    return run


@pytest.fixture
def run(client: Container, sent: RunBuilder) -> BlueskyRunV3:
    return client[sent.uid]


# -- the run --------------------------------------------------------------------------------------


def test_a_run_is_a_bluesky_run(run: BlueskyRunV3, sent: RunBuilder) -> None:
    assert type(run) is BlueskyRunV3
    assert list(run) == ["baseline", "primary"]
    assert run.start == sent.docs[0][1]
    assert run.stop == sent.docs[-1][1]
    assert "scan_id=17" in repr(run)
    assert "'primary'" in repr(run)


def test_a_run_is_found_by_its_metadata(client: Container, sent: RunBuilder) -> None:
    assert list(client.search(Key("start.scan_id") == 17)) == [sent.uid]
    assert list(client.search(Key("start.plan_name") == "flight of the fancy")) == [sent.uid]


@pytest.mark.parametrize(
    "path", ["primary/x", "primary/internal/x", ("primary", "x"), ("primary", "internal", "x")]
)
def test_a_column_is_found_by_its_path(run: BlueskyRunV3, path: Any) -> None:
    assert list(run[path].read()) == [0.0, 0.5, 1.0]


def test_streams_are_attributes(run: BlueskyRunV3) -> None:
    assert isinstance(run.primary, BlueskyEventStreamV3)
    assert list(run.baseline["temperature"].read()) == [20.5, 21.5]


def test_the_streams_namespace_of_older_layouts_still_leads_there(run: BlueskyRunV3) -> None:
    with pytest.warns(DeprecationWarning, match="streams"):
        streams = run["streams"]
    assert list(streams["primary"]["n"].read()) == [0, 1, 2]


def test_a_run_is_valid(run: BlueskyRunV3) -> None:
    with pytest.warns(UserWarning, match=LOCAL_VALIDATION):
        assert run.validate(raise_on_error=True) is True
    assert "notes" not in run.metadata


def test_its_descriptors_are_those_sent(run: BlueskyRunV3, sent: RunBuilder) -> None:
    expected = [doc for name, doc in sent.docs if name == "descriptor"]
    assert sorted(run.descriptors, key=lambda doc: doc["time"]) == expected
    assert run.primary.descriptors == expected[1:]


def test_the_documents_are_those_sent(run: BlueskyRunV3, sent: RunBuilder) -> None:
    exported = [(name, dict(doc)) for name, doc in run.documents()]
    made_up = {"uid", "filled"}  # of events only: they are not stored

    def known(name: str, doc: Document) -> tuple[str, Document]:
        left_out = made_up if name == "event" else set()
        return name, {key: value for key, value in doc.items() if key not in left_out}

    # The exporter ends in the order of time, as these were sent.
    assert [known(*pair) for pair in exported] == [known(*pair) for pair in sent.docs]


def test_exported_documents_can_be_written_again(client: Container, sent: RunBuilder) -> None:
    again = client.create_container()
    emit(((name, dict(doc)) for name, doc in client[sent.uid].documents()), TiledWriter(again))
    first, second = client[sent.uid]["primary"], again[sent.uid]["primary"]
    xr.testing.assert_identical(first.read(), second.read())
    assert second.metadata == first.metadata


# -- the stream -----------------------------------------------------------------------------------


def test_a_stream_is_an_event_stream(run: BlueskyRunV3) -> None:
    stream = run["primary"]
    assert isinstance(stream, BlueskyEventStreamV3)
    assert isinstance(stream, CompositeClient)
    assert repr(stream).startswith("<BlueskyEventStream")
    assert "stream_name='primary'" in repr(stream)
    assert set(stream) == {
        "seq_num",
        "time",
        *(f"{ts}{key}" for ts in ("", "ts_") for key in ("x", "n", "label", "image")),
    }
    assert len(stream) == 10
    assert "x" in stream
    assert "internal" not in stream
    assert sorted(stream.base) == ["image", "internal"]


def test_a_stream_reads_as_a_dataset(run: BlueskyRunV3) -> None:
    dataset = run["primary"].read()
    assert isinstance(dataset, xr.Dataset)
    assert set(dataset.variables) == {"time", "x", "n", "label", "image"}
    assert dataset["time"].dims == dataset["x"].dims == ("time",)
    assert dataset["image"].dims == ("time", "dim_int_1", "dim_int_2")
    assert dataset["image"].dtype == np.uint16
    assert dataset["n"].dtype == np.int64
    np.testing.assert_array_equal(dataset["x"], [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(dataset["label"], ["row 0", "row 1", "row 2"])
    np.testing.assert_array_equal(dataset["image"], IMAGES)


def test_a_stream_reads_the_variables_that_are_asked_for(run: BlueskyRunV3) -> None:
    dataset = run["primary"].read(["x", "ts_x"])
    assert set(dataset.variables) == {"x", "ts_x"}
    np.testing.assert_array_equal(dataset["ts_x"], [EPOCH, EPOCH + 1, EPOCH + 2])


@pytest.mark.parametrize("key", ["x", "n", "label", "image", "ts_image", "seq_num", "time"])
def test_each_key_reads_alone(run: BlueskyRunV3, sent: RunBuilder, key: str) -> None:
    events = [doc for name, doc in sent.docs if name == "event" and "x" in doc["data"]]
    rows = [{**doc["data"], "ts_image": doc["timestamps"]["image"], **doc} for doc in events]
    values = run["primary"][key].read()
    np.testing.assert_array_equal(np.asarray(values), [row[key] for row in rows])


def test_part_of_an_array_can_be_read(run: BlueskyRunV3) -> None:
    assert run["primary"]["image"][1, :, 2].tolist() == [8, 11]
    assert run["primary/image"][1:, 0, 0].tolist() == [6, 12]


def test_a_stream_reads_lazily_with_dask(app_context: Context, sent: RunBuilder) -> None:
    stream = from_context(app_context, "dask")[sent.uid]["primary"]
    dataset = stream.read()
    assert dataset["image"].chunks is not None
    np.testing.assert_array_equal(dataset["image"].compute(scheduler="synchronous"), IMAGES)
    assert list(stream["internal/events"].read().compute(scheduler="synchronous")["n"]) == [0, 1, 2]


def test_a_stream_keeps_its_client_in_variations(run: BlueskyRunV3) -> None:
    stream = run["primary"].include_data_sources()
    assert isinstance(stream, BlueskyEventStreamV3)
    assert len(stream["internal/events"].read()) == 3
    (source,) = stream["image"].data_sources()
    assert source.management == "writable"


# -- the events by their old path -----------------------------------------------------------------


@pytest.mark.parametrize("path", ["internal/events", ("internal", "events")])
def test_the_events_are_found_by_the_path_in_tutorials(run: BlueskyRunV3, path: Any) -> None:
    events = run["primary"][path]
    assert isinstance(events, DataFrameClient)
    frame = events.read()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["n"]) == [0, 1, 2]
    assert "ts_image" in frame


@pytest.mark.parametrize(
    "path", ["internal/events/x", ("internal", "events", "x"), ("internal/events", "x")]
)
def test_a_column_is_found_by_the_path_in_tutorials(run: BlueskyRunV3, path: Any) -> None:
    assert list(run["primary"][path].read()) == [0.0, 0.5, 1.0]


def test_the_events_of_a_stream_without_events_are_a_key_error(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.stop()
    emit(run.docs, TiledWriter(client))
    with pytest.raises(KeyError, match="no events"):
        client[run.uid]["primary"]["internal/events"]


@pytest.mark.parametrize("path", ["internal/events/nothing", "internal/nothing", "nothing"])
def test_a_path_that_leads_nowhere_is_a_key_error(run: BlueskyRunV3, path: str) -> None:
    with pytest.raises(KeyError, match="nothing"):
        run["primary"][path]


# -- the reader of databroker ---------------------------------------------------------------------


@pytest.fixture
def old_reader(app_context: Context, sent: RunBuilder) -> BlueskyRunV2:
    """``run.v2``, in a map of clients of its own: ``v2`` changes the map for all that share it."""
    reader = from_context(app_context, structure_clients=clients_without("nothing"))[sent.uid].v2
    assert isinstance(reader, BlueskyRunV2)
    return reader


def test_the_reader_of_databroker_has_the_data(old_reader: BlueskyRunV2, run: BlueskyRunV3) -> None:
    assert old_reader.start == run.start
    stream = old_reader["primary"]
    assert set(stream["data"]) == {"time", "x", "n", "label", "image"}
    dataset = stream.read()
    xr.testing.assert_identical(dataset[sorted(dataset)], run["primary"].read()[sorted(dataset)])
    xr.testing.assert_identical(stream["data"].read(), dataset)
    assert list(old_reader["primary/data/x"].read()) == [0.0, 0.5, 1.0]
    np.testing.assert_array_equal(stream["data"]["image"].read(), IMAGES)
    assert list(old_reader.primary["data"]["n"].read()) == [0, 1, 2]


def test_the_reader_of_databroker_has_the_timestamps(old_reader: BlueskyRunV2) -> None:
    stamps = old_reader["primary"]["timestamps"].read()
    assert set(stamps) >= {"ts_x", "ts_n", "ts_label", "ts_image"}
    np.testing.assert_array_equal(stamps["ts_image"], [EPOCH, EPOCH + 1, EPOCH + 2])


def test_the_reader_of_databroker_has_the_configuration(old_reader: BlueskyRunV2) -> None:
    stream = old_reader["primary"]
    camera = stream["config"]["camera"].read()
    np.testing.assert_array_equal(camera["exposure"], [0.1, 0.2])
    np.testing.assert_array_equal(camera["mode"], ["fast", "fast"])
    assert stream["config/camera/exposure"].read().tolist() == [0.1, 0.2]
    stamps = stream["config_timestamps"]["camera"].read()
    np.testing.assert_array_equal(stamps["exposure"], [EPOCH, EPOCH])


def test_the_reader_of_databroker_has_the_descriptors(
    old_reader: BlueskyRunV2, sent: RunBuilder
) -> None:
    expected = [doc for name, doc in sent.docs if name == "descriptor" and doc["name"] == "primary"]
    descriptors = old_reader["primary"].descriptors
    # The reader has fields of its own in them, and so no exact copies.
    assert [{key: doc[key] for key in expected[0]} for doc in descriptors] == expected


# -- runs of other shapes -------------------------------------------------------------------------


def test_ragged_rows_can_be_read(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"trace": data_key("array", [None], dtype_numpy="<f8")})
    for i in range(3):
        run.event("primary", {"trace": [i / 2] * (i + 1)})
    run.stop()
    emit(run.docs, TiledWriter(client))

    stream = client[run.uid]["primary"]
    assert stream["trace"].read().tolist() == [[0.0], [0.5, 0.5], [1.0, 1.0, 1.0]]
    with pytest.warns(UserWarning, match="padded with NaNs"):
        dataset = stream.read()
    assert dataset["trace"].shape == (3, 3)
    sent = [doc["data"] for name, doc in run.docs if name == "event"]
    assert [doc["data"] for name, doc in client[run.uid].documents() if name == "event"] == sent


def test_a_run_that_has_not_stopped_reads_as_far_as_it_is(client: Container) -> None:
    run = scalar_run()
    writer = TiledWriter(client)
    emit(run.docs[:-1], writer)
    assert writer.flush()
    assert len(client[run.uid]["primary"].read()["x"]) == 3
    emit(run.docs[-1:], writer)


def test_a_run_without_streams_is_a_bluesky_run(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert type(client[run.uid]) is BlueskyRunV3
    assert list(client[run.uid]) == []
    assert [name for name, _ in client[run.uid].documents()] == ["start", "stop"]
    with pytest.warns(UserWarning, match=LOCAL_VALIDATION):
        assert client[run.uid].validate() is True


# -- more columns than one table takes ------------------------------------------------------------

KEYS = [f"key_{i:03}" for i in range(600)]


@pytest.fixture(scope="module")
def wide(app_context: Context) -> RunBuilder:
    """A run with 1202 columns, and so with two tables."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(KEYS, "number"))
    for row in range(2):
        run.event("primary", {key: row + i / 1000 for i, key in enumerate(KEYS)})
    run.stop()
    emit(run.docs, TiledWriter(from_context(app_context)))
    return run


def test_a_wide_stream_has_several_tables(client: Container, wide: RunBuilder) -> None:
    stream = client[wide.uid]["primary"]
    assert sorted(stream.base) == ["internal_0", "internal_1"]
    tables = [stream.base[name].columns for name in ("internal_0", "internal_1")]
    assert max(map(len, tables)) <= MAX_COLUMNS
    expected = {"seq_num", "time", *KEYS, *(f"ts_{key}" for key in KEYS)}
    assert sorted([*tables[0], *tables[1]]) == sorted(expected)
    assert set(stream) == expected


def test_the_events_of_a_wide_stream_read_as_one_table(client: Container, wide: RunBuilder) -> None:
    events = client[wide.uid]["primary"]["internal/events"]
    frame = events.read()
    assert set(frame.columns) == {"seq_num", "time", *KEYS, *(f"ts_{key}" for key in KEYS)}
    assert frame["seq_num"].tolist() == [1, 2]
    assert frame[KEYS].to_numpy().tolist() == [
        [row + i / 1000 for i in range(len(KEYS))] for row in range(2)
    ]
    assert "2 tables, 1202 columns" in repr(events)
    assert sorted(events.columns) == sorted(frame.columns)


def test_some_columns_of_a_wide_stream_can_be_read(client: Container, wide: RunBuilder) -> None:
    stream = client[wide.uid]["primary"]
    first_and_last = ["ts_key_599", "key_000"]
    frame = stream["internal/events"].read(first_and_last)
    assert list(frame.columns) == first_and_last
    assert frame["key_000"].tolist() == [0.0, 1.0]
    assert list(stream["internal/events/key_001"].read()) == [0.001, 1.001]
    assert list(stream["key_002"].read()) == [0.002, 1.002]
    assert set(stream.read(["key_000", "seq_num"])) == {"key_000", "seq_num"}


def test_a_key_that_is_called_like_a_table_is_none_of_the_tables(client: Container) -> None:
    run = RunBuilder()
    run.start()
    keys = {**dict.fromkeys(KEYS, "number"), "internal_trace": data_key("array", [2])}
    run.descriptor("primary", keys)
    run.event("primary", {**dict.fromkeys(KEYS, 0.5), "internal_trace": [1.0, 2.0]})
    run.stop()
    emit(run.docs, TiledWriter(client))

    stream = client[run.uid]["primary"]
    assert sorted(stream.base) == ["internal_0", "internal_1", "internal_trace"]
    assert len(stream["internal/events"].read()) == 1
    assert stream["internal_trace"].read().tolist() == [[1.0, 2.0]]


def test_a_wide_run_is_valid(client: Container, wide: RunBuilder) -> None:
    with pytest.warns(UserWarning, match=LOCAL_VALIDATION):
        assert client[wide.uid].validate() is True


# -- without the plugins --------------------------------------------------------------------------


@pytest.fixture
def plain_client(app_context: Context) -> Container:
    """A client as where bluesky-tiled-plugins is not installed."""
    clients = clients_without("bluesky_tiled_plugins")
    assert not {"BlueskyRun", "BlueskyEventStream"} & set(clients)
    return from_context(app_context, structure_clients=clients)


def test_without_the_plugins_a_stream_is_a_composite(
    plain_client: Container, sent: RunBuilder
) -> None:
    run = plain_client[sent.uid]
    assert type(run) is Container
    stream = run["primary"]
    assert isinstance(stream, CompositeClient)
    assert not isinstance(stream, BlueskyEventStreamV3)
    assert repr(stream).startswith("<CompositeClient")
    assert sorted(stream.base) == ["image", "internal"]
    assert list(stream["x"].read()) == [0.0, 0.5, 1.0]
    np.testing.assert_array_equal(stream.read()["image"], IMAGES)


def test_without_the_plugins_the_events_are_found_too(
    plain_client: Container, sent: RunBuilder, wide: RunBuilder
) -> None:
    stream = plain_client[sent.uid]["primary"]
    assert list(stream["internal/events"].read()["n"]) == [0, 1, 2]
    assert list(stream["internal/events/x"].read()) == [0.0, 0.5, 1.0]
    assert plain_client[wide.uid]["primary"]["internal/events"].read().shape == (2, 1202)


def test_without_this_package_a_stream_is_what_it_is_to_others(
    app_context: Context, sent: RunBuilder
) -> None:
    clients = clients_without("bluesky_tiled_writer")
    assert "BlueskyEventStream" in clients
    assert "TiledWriterEventStream" not in clients
    stream = from_context(app_context, structure_clients=clients)[sent.uid]["primary"]
    assert type(stream) is BlueskyEventStreamV3
    np.testing.assert_array_equal(stream.read()["image"], IMAGES)
