"""Documents of every vintage, mended and brought up to date before they are stored."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from documents import EPOCH, Document, Pair, RunBuilder, data_key, emit, scalar_run
from event_model import DocumentNames
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter


def normalized(docs: list[Pair], normalizer: RunNormalizer | None = None) -> list[Pair]:
    """What comes out of a normalizer."""
    normalizer = normalizer or RunNormalizer()
    result: list[Pair] = []
    normalizer.subscribe(lambda name, doc: result.append((name, doc)))
    for name, doc in docs:
        normalizer(name, doc)
    return result


def descriptor(data_keys: dict[str, Any], **more: Any) -> Document:
    """A descriptor after normalization."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", data_keys, **more)
    return normalized(run.docs)[1][1]


# -- types and shapes -----------------------------------------------------------------------------

DESCR = [["q", "<f8"], ["n", "<i4"]]


@pytest.mark.parametrize(
    ("declared", "dtype_numpy"),
    [
        # Today's word stands.
        (data_key("number", dtype_numpy="<f4"), "<f4"),
        (data_key("array", [2], dtype_numpy=DESCR), DESCR),
        # Words of the past.
        (data_key("number", dtype_str="<f4"), "<f4"),
        (data_key("array", [2], dtype_str="<u2"), "<u2"),
        (data_key("array", [2], dtype_descr=DESCR), DESCR),
        (data_key("array", [2], dtype_descr=[tuple(field) for field in DESCR]), DESCR),
        # Which of several counts.
        (data_key("number", dtype_numpy="<f4", dtype_str="<f8"), "<f4"),
        (data_key("array", [2], dtype_descr=DESCR, dtype_numpy="|V12", dtype_str="|V12"), DESCR),
        (data_key("number", dtype_descr=[], dtype_str="<f4"), "<f4"),
        # None of them: the meaning of the JSON type.
        (data_key("number"), "<f8"),
        (data_key("integer"), "<i8"),
        (data_key("boolean"), "|b1"),
        (data_key("string"), "<U0"),
        # What a bare array holds, only its values can tell, unless they are elsewhere.
        (data_key("array", [2]), None),
        (data_key("array", [2], external="FILESTORE:"), None),  # the files know
        (data_key("integer", external="FILESTORE:"), None),
        (data_key("array", [2], dtype_str="<u2", external="FILESTORE:"), "<u2"),
    ],
)
def test_the_type_of_a_key_is_said_in_todays_words(declared: Document, dtype_numpy: Any) -> None:
    data_keys = descriptor({"x": declared})["data_keys"]
    assert data_keys["x"].get("dtype_numpy") == dtype_numpy
    assert not {"dtype_str", "dtype_descr"} & data_keys["x"].keys()


@pytest.mark.parametrize("dtype", ["number", "array"])
def test_the_types_of_configuration_are_said_in_todays_words_too(dtype: str) -> None:
    def configuration(**declared: Any) -> dict[str, Any]:
        return {
            "camera": {
                "data": {"gain": 1},
                "timestamps": {"gain": EPOCH},
                "data_keys": {"gain": {"source": "test", "dtype": dtype, **declared}},
            }
        }

    old = descriptor({}, configuration=configuration(shape=None, dtype_str="<u2"))
    assert old["configuration"] == configuration(shape=[], dtype_numpy="<u2")
    bare = descriptor({}, configuration=configuration(shape=[]))
    assert bare["configuration"] == configuration(shape=[], dtype_numpy="<f8")


@pytest.mark.parametrize("dtype", ["number", "array"])
def test_a_shape_of_null_is_an_empty_one(dtype: str) -> None:
    data_keys = descriptor({"x": {"source": "test", "dtype": dtype, "shape": None}})["data_keys"]
    assert data_keys["x"]["shape"] == []


def test_a_descriptor_of_the_first_vintage_is_up_to_date() -> None:
    """Before there were hints, object keys and configuration."""
    doc = {
        "uid": "d",
        "run_start": "r",
        "time": EPOCH,
        "name": "primary",
        "data_keys": {"x": data_key()},
    }
    ((_, result),) = normalized([("descriptor", doc)])
    assert result == {**doc, "data_keys": {"x": data_key(dtype_numpy="<f8")}}


def test_an_external_key_may_say_null() -> None:
    data_keys = descriptor({"x": data_key("array", [2], external=None)})["data_keys"]
    assert isinstance(data_keys["x"]["external"], str)


# -- object keys ----------------------------------------------------------------------------------


def test_every_key_gets_the_name_of_its_object() -> None:
    doc = descriptor(
        {"x": "number", "y": "number", "loose": "number"},
        object_keys={"stage": ["x", "y"], "camera": []},
    )
    names = {key: spec.get("object_name") for key, spec in doc["data_keys"].items()}
    assert names == {"x": "stage", "y": "stage", "loose": None}
    assert doc["object_keys"] == {"stage": ["x", "y"], "camera": []}


def test_object_keys_may_name_what_the_stream_does_not_have() -> None:
    doc = descriptor({"x": "number"}, object_keys={"stage": ["x", "left out"]})
    assert doc["data_keys"].keys() == {"x"}


# -- reserved names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "renamed"),
    [
        (["time"], {"time": "time_"}),
        (["seq_num"], {"seq_num": "seq_num_"}),
        (["internal"], {"internal": "internal_"}),
        (
            ["internal_0", "internal_12"],
            {"internal_0": "internal_0_", "internal_12": "internal_12_"},
        ),
        (["x", "ts_x"], {"ts_x": "ts_x_"}),
        (["time", "time_"], {"time": "time__"}),
        (["ts_x", "ts_x_", "x"], {"ts_x": "ts_x__"}),
        # Names that only look alike.
        (["ts_x"], {}),
        (["Time", "times", "seq_nums", "internals", "internal_x", "ts_", "_time"], {}),
    ],
)
def test_a_key_with_a_reserved_name_is_renamed(keys: list[str], renamed: dict[str, str]) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        dict.fromkeys(keys, "number"),
        hints={"device": {"fields": list(keys)}, "other": {}},
        object_keys={"device": list(keys)},
    )
    row = {key: float(i) for i, key in enumerate(keys)}
    stamps = {key: EPOCH + i for i, key in enumerate(keys)}
    run.event("primary", row, timestamps=stamps, filled=dict.fromkeys(keys, True))
    run.event_page("primary", [row, row])
    normalizer = RunNormalizer()

    _, (_, descriptor), (_, event), (_, page) = normalized(run.docs, normalizer)

    new = [renamed.get(key, key) for key in keys]
    assert sorted(descriptor["data_keys"]) == sorted(new)
    assert descriptor["hints"] == {"device": {"fields": new}, "other": {}}
    assert descriptor["object_keys"] == {"device": new}
    assert event["data"] == dict(zip(new, row.values(), strict=True))
    assert event["timestamps"] == dict(zip(new, stamps.values(), strict=True))
    assert page["data"] == {key: [value, value] for key, value in event["data"].items()}
    assert page["timestamps"].keys() == page["data"].keys()
    assert normalizer.notes == [
        f"Renamed data_key {old!r} to {new!r} in stream primary" for old, new in renamed.items()
    ]


def test_only_the_stream_that_has_the_name_is_renamed() -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("first", {"x": "number", "ts_x": "number"})
    run.descriptor("second", {"ts_x": "number"})
    run.event("first", {"x": 0.5, "ts_x": 1.5})
    run.event("second", {"ts_x": 2.5})
    *_, (_, first), (_, second) = normalized(run.docs)
    assert first["data"] == {"x": 0.5, "ts_x_": 1.5}
    assert second["data"] == {"ts_x": 2.5}


def test_notes_reach_the_metadata_of_the_run(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"time": "number", "x": "number", "ts_x": "integer"})
    run.event("primary", {"time": 0.5, "x": 1.5, "ts_x": 2})
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert client[run.uid].metadata["notes"] == [
        "Renamed data_key 'time' to 'time_' in stream primary",
        "Renamed data_key 'ts_x' to 'ts_x_' in stream primary",
    ]
    assert "_run_normalizer_notes" not in client[run.uid].metadata["stop"]
    table = read_arrow(stream_of(client, run.uid)["internal"]).to_pydict()
    assert table["time_"] == [0.5]
    assert table["ts_x_"] == [2]
    assert table["ts_x"] == table["time"]


# -- patches --------------------------------------------------------------------------------------


def test_patches_mend_each_kind_of_document(client: Container) -> None:
    def patch_start(doc: Document) -> Document:
        doc["plan_name"] = "mended"
        return doc

    def patch_descriptor(doc: Document) -> Document:
        doc["data_keys"]["n"]["dtype"] = "integer"
        return doc

    def patch_event(doc: Document) -> Document:
        doc["data"]["n"] += 100
        return doc

    def patch_stop(doc: Document) -> Document:
        return {**doc, "reason": "mended"}

    run = RunBuilder()
    run.start(plan_name="broken")
    run.descriptor("primary", {"n": {**data_key(), "dtype": "int"}})
    run.event("primary", {"n": 1})
    run.event_page("primary", [{"n": 2}, {"n": 3}])
    run.stop()
    patches = {
        "start": patch_start,
        "descriptor": patch_descriptor,
        "event": patch_event,
        "stop": patch_stop,
    }

    emit(run.docs, TiledWriter(client, patches=patches))

    metadata = client[run.uid].metadata
    assert metadata["start"]["plan_name"] == "mended"
    assert metadata["stop"]["reason"] == "mended"
    table = stream_of(client, run.uid)["internal"].read()
    assert table["n"].tolist() == [101, 102, 103]
    assert table["n"].dtype == np.int64


def test_a_patch_comes_before_anything_else() -> None:
    """A renamed key is renamed after the patch, and what a patch adds is renamed too."""

    def patch_descriptor(doc: Document) -> Document:
        doc["data_keys"]["time"] = doc["data_keys"].pop("clock")
        return doc

    def patch_event(doc: Document) -> Document:
        for part in ("data", "timestamps"):
            doc[part]["time"] = doc[part].pop("clock")
        return doc

    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"clock": data_key(dtype_str="<f4")}, object_keys={})
    run.event("primary", {"clock": 0.5})
    normalizer = RunNormalizer({"descriptor": patch_descriptor, "event": patch_event})
    _, (_, descriptor), (_, event) = normalized(run.docs, normalizer)
    assert descriptor["data_keys"].keys() == event["data"].keys() == {"time_"}


def test_a_patch_of_pages_sees_pages() -> None:
    seen: list[str] = []

    def patch(kind: str) -> Any:
        def see(doc: Document) -> Document:
            seen.append(kind)
            return doc

        return see

    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event_page("primary", [{"x": 0.5}, {"x": 1.5}])
    names = [name for name, _ in normalized(run.docs, RunNormalizer({"event_page": patch("page")}))]
    assert names == ["start", "descriptor", "event_page"]
    assert seen == ["page"]
    both = RunNormalizer({"event_page": patch("page"), "event": patch("event")})
    names = [name for name, _ in normalized(run.docs, both)]
    assert names == ["start", "descriptor", "event", "event"]
    assert seen == ["page", "page", "event", "event"]


def patch_in_place(part: str) -> Any:
    """A patch that changes a document, and something in it."""

    def patch(doc: Document) -> Document:
        doc[part]["patched"] = 1
        return doc

    return patch


PATCHED_IN_PLACE = {
    "start": patch_in_place("nested"),
    "descriptor": patch_in_place("hints"),
    "stop": patch_in_place("num_events"),
    "resource": patch_in_place("resource_kwargs"),
    "datum": patch_in_place("datum_kwargs"),
}


def every_kind() -> list[Pair]:
    run = RunBuilder()
    run.start(nested={"list": [1, [2]]}, array=np.arange(3))
    run.descriptor(
        "primary",
        {
            "time": data_key(dtype_str="<f4"),
            "x": {"source": "test", "dtype": "number", "shape": None},
            "image": data_key("array", [2], external="FILESTORE:"),
        },
        hints={"device": {"fields": ["time", "x"]}},
    )
    resource = {
        "uid": "resource",
        "run_start": run.uid,
        "spec": "AD_TIFF",
        "root": "/",
        "resource_path": "data",
        "resource_kwargs": {"frame_per_point": 1, "template": "%s%s_%d.tif", "filename": "f"},
        "path_semantics": "posix",
    }
    run.add("resource", resource)
    datum = {"datum_id": "resource/0", "resource": "resource", "datum_kwargs": {"point_number": 0}}
    run.add("datum", datum)
    row = {"time": 0.5, "x": 1.5, "image": "resource/0"}
    run.event("primary", row, filled={"image": False})
    run.event("primary", {**row, "image": [1, 2]}, filled={"image": True})
    run.event_page("primary", [{"time": 0.5, "x": 1.5, "image": [1, 2]}])
    run.docs[-1][1]["filled"] = {"image": [True]}
    run.stop()
    return run.docs


@pytest.mark.parametrize("patches", [{}, PATCHED_IN_PLACE], ids=["plain", "patched in place"])
def test_the_documents_of_the_caller_are_never_changed(patches: Any) -> None:
    docs = every_kind()
    given = copy.deepcopy(docs)
    normalized(docs, RunNormalizer(patches))
    for (name, doc), (_, before) in zip(docs, given, strict=True):
        np.testing.assert_equal(doc, before, err_msg=name)


@pytest.mark.parametrize("kind", ["event", "event_page"])
def test_an_event_that_is_patched_in_place_is_not_the_callers(kind: str) -> None:
    def patch(doc: Document) -> Document:
        doc["data"]["x"] = 7
        doc["timestamps"]["x"] = 7
        doc["seq_num"] = 7
        return doc

    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 1})
    run.event_page("primary", [{"x": 1}])
    given = copy.deepcopy(run.docs)
    normalized(run.docs, RunNormalizer({kind: patch}))
    assert run.docs == given


# -- what is not done to events -------------------------------------------------------------------


def test_the_values_of_events_are_not_copied() -> None:
    image = np.zeros((2, 2))
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"image": data_key("array", [2, 2]), "time": "number"})
    run.descriptor("plain", {"image": data_key("array", [2, 2])})
    run.event("primary", {"image": image, "time": 0.5})
    run.event_page("primary", [{"image": image, "time": 0.5}])
    _, plain = run.event("plain", {"image": image})
    _, plain_page = run.event_page("plain", [{"image": image}])

    out = [doc for name, doc in normalized(run.docs) if name in ("event", "event_page")]

    assert out[0]["data"]["image"] is image
    assert out[1]["data"]["image"][0] is image
    # Where there is nothing to change, the very documents pass.
    assert out[2] is plain
    assert out[3] is plain_page
    patched = RunNormalizer({"event": lambda doc: doc})
    events = [doc for name, doc in normalized(run.docs, patched) if name == "event"]
    assert all(event["data"]["image"] is image for event in events)


def test_a_document_may_hold_numpy_values_(
    client: Container,
) -> None:
    run = RunBuilder()
    run.start(scan_id=np.int64(3), data_groups=("a", "b"))
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2])})
    run.docs[-1][1]["time"] = np.float64(EPOCH)
    run.docs[-1][1]["data_keys"]["image"]["shape"] = (np.int64(2),)
    run.event("primary", {"x": 0.5, "image": [1, 2]})
    run.stop()
    run.docs[-1][1]["num_events"] = {"primary": np.int64(1)}

    emit(run.docs, TiledWriter(client))

    assert client[run.uid].metadata["start"]["scan_id"] == 3
    assert client[run.uid].metadata["stop"]["num_events"] == {"primary": 1}
    assert stream_of(client, run.uid)["image"].read().tolist() == [[1.0, 2.0]]


# -- subscribers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["start", "descriptor", "event", "stop", DocumentNames.stop])
def test_a_subscriber_may_want_one_kind_of_document(name: Any) -> None:
    seen: list[Pair] = []
    normalizer = RunNormalizer()
    normalizer.subscribe(lambda name, doc: seen.append((name, doc)), name)
    run = scalar_run()
    out = normalized(run.docs, normalizer)
    assert seen == [pair for pair in out if pair[0] == getattr(name, "name", name)]
    assert seen


def test_a_subscriber_of_events_gets_the_rows_of_pages() -> None:
    seen: list[Document] = []
    normalizer = RunNormalizer()
    normalizer.subscribe(lambda name, doc: seen.append(doc), "event")
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"time": "number"})
    run.event_page("primary", [{"time": 0.5}, {"time": 1.5}])
    for pair in run.docs:
        normalizer(*pair)
    assert [event["seq_num"] for event in seen] == [1, 2]
    assert [event["data"] for event in seen] == [{"time_": 0.5}, {"time_": 1.5}]


def test_a_subscriber_that_leaves_gets_no_more() -> None:
    seen: dict[str, list[str]] = {"stays": [], "leaves": []}
    normalizer = RunNormalizer()
    normalizer.subscribe(lambda name, doc: seen["stays"].append(name))
    token = normalizer.subscribe(lambda name, doc: seen["leaves"].append(name))
    docs = scalar_run(events=1).docs
    normalizer(*docs[0])
    normalizer.unsubscribe(token)
    normalizer.unsubscribe(token)
    for pair in docs[1:]:
        normalizer(*pair)
    assert seen == {"stays": ["start", "descriptor", "event", "stop"], "leaves": ["start"]}


# -- subclasses -----------------------------------------------------------------------------------


class Beamline(RunNormalizer):
    """What normalizers of beamlines do: overrides of every kind."""

    def start(self, doc: Any) -> None:
        self.scale = doc.get("scale", 1)
        super().start({**doc, "beamline": "31-ID"})

    def descriptor(self, doc: Any) -> None:
        if doc["name"] == "unwanted":
            self.notes.append("Left the stream 'unwanted' out.")
            return
        super().descriptor(doc)

    def event(self, doc: Any) -> None:
        doc = copy.deepcopy(doc)
        if "x" not in doc["data"]:
            return
        doc["data"]["x"] *= self.scale
        super().event(doc)

    def emit(self, name: Any, doc: Any) -> None:
        if name == "stop":
            doc["reason"] = f"{len(self.notes)} notes"
        super().emit(name, doc)


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_a_subclass_may_override_every_step(client: Container, batch_size: int) -> None:
    run = RunBuilder()
    run.start(scale=10)
    run.descriptor("primary", {"x": "number"})
    run.descriptor("unwanted", {"y": "number"})
    run.event("primary", {"x": 0.5})
    run.event("unwanted", {"y": 0.5})
    run.event_page("primary", [{"x": 1.5}, {"x": 2.5}])
    run.event_page("unwanted", [{"y": 1.5}])
    run.stop()

    emit(run.docs, TiledWriter(client, normalizer=Beamline, batch_size=batch_size))

    node = client[run.uid]
    assert list(node) == ["primary"]
    assert node.metadata["start"]["beamline"] == "31-ID"
    assert node.metadata["stop"]["reason"] == "1 notes"
    assert node.metadata["notes"] == ["Left the stream 'unwanted' out."]
    assert stream_of(client, run.uid)["internal"].read()["x"].tolist() == [5.0, 15.0, 25.0]


def test_a_subclass_may_emit_documents_of_its_own(client: Container) -> None:
    class WithSummary(RunNormalizer):
        def stop(self, doc: Any) -> None:
            stream = {
                "uid": "summary",
                "run_start": doc["run_start"],
                "time": EPOCH,
                "name": "summary",
                "data_keys": {"total": data_key()},
            }
            self.emit("descriptor", stream)
            row = {"descriptor": "summary", "time": EPOCH, "seq_num": 1, "uid": "row"}
            total = {"data": {"total": 1.5}, "timestamps": {"total": EPOCH}}
            self.emit(DocumentNames.event, {**row, **total})
            super().stop(doc)

    run = scalar_run()
    emit(run.docs, TiledWriter(client, normalizer=WithSummary))
    assert sorted(client[run.uid]) == ["primary", "summary"]
    assert stream_of(client, run.uid, "summary")["internal"].read()["total"].tolist() == [1.5]


def test_each_run_has_a_normalizer_of_its_own(client: Container) -> None:
    made: list[RunNormalizer] = []

    class Recorded(RunNormalizer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    writer = TiledWriter(
        client,
        normalizer=Recorded,
        patches={"start": lambda doc: doc},
        spec_to_mimetype={"MINE": "text/csv"},
    )
    runs = [scalar_run(), scalar_run()]
    for pairs in zip(*(run.docs for run in runs), strict=True):
        emit(pairs, writer)

    assert len(made) == 2
    assert made[0].notes is not made[1].notes
    for normalizer in made:
        assert normalizer.patches.keys() == {"start"}
        assert normalizer.spec_to_mimetype["MINE"] == "text/csv"
        assert normalizer.spec_to_mimetype["AD_HDF5"] == "application/x-hdf5"
        assert normalizer.spec_to_mimetype["anything else"] == "application/octet-stream"
