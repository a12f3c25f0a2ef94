"""Documents of one run go in, tasks come out; what is odd costs a note, or that document."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from documents import EPOCH, RunBuilder, data_key, scalar_run
from memory_run import MemoryRun, take_out

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.errors import InvalidDocument, TiledWriterError, UnknownReference
from bluesky_tiled_writer.run import (
    CloseRun,
    CreateRun,
    CreateStream,
    DeclareKeys,
    ExecuteStep,
    ExpectKey,
    FinishRun,
    RegisterDatum,
    RunSettings,
    RunWriter,
    StoreRows,
    TaskQueue,
    UpdateMetadata,
)
from bluesky_tiled_writer.schema import NOTES_KEY, to_json

URI = "file://localhost/data/frames.h5"
EXTERNAL = data_key("array", [2, 2], dtype_numpy="<u2", external="STREAM:")


def kinds(tasks: list[Any]) -> list[str]:
    return [
        type(task.step).__name__ if isinstance(task, ExecuteStep) else type(task).__name__
        for task in tasks
    ]


def begun(data_keys: dict[str, Any], **settings: Any) -> tuple[RunBuilder, MemoryRun]:
    """A run whose start and first descriptor were emitted and delivered."""
    run, memory = RunBuilder(), MemoryRun(**settings)
    run.uid = "run"
    run.start()
    run.descriptor("primary", data_keys)
    memory.emit(run.docs)
    memory.deliver()
    return run, memory


def finished(run: RunBuilder, memory: MemoryRun) -> MemoryRun:
    memory.emit([run.stop()])
    memory.deliver()
    return memory


# -- the usual way --------------------------------------------------------------------------------


def test_documents_become_tasks_in_their_order() -> None:
    memory = MemoryRun()
    memory.emit(scalar_run().docs)
    assert kinds(memory.deliver()) == [
        "CreateRun",
        "CreateStream",
        "DeclareKeys",
        "StoreRows",
        "FinishRun",
        "CloseRun",
    ]


def test_a_later_descriptor_updates_the_configuration_and_adds_keys() -> None:
    run, memory = begun({"x": "number"})
    run.event("primary", {"x": 1.0})
    run.descriptor("primary", {"x": "number"}, configuration={"device": {"data": {"gain": 2}}})
    run.descriptor("primary", {"x": "number", "y": "number"})
    run.event("primary", {"x": 2.0, "y": 3.0})
    memory.emit(run.docs[2:])
    tasks = memory.deliver()
    assert kinds(tasks) == [
        "UpdateMetadata",
        "StoreRows",
        "DeclareKeys",
        "UpdateMetadata",
        "StoreRows",
    ]
    finished(run, memory)
    assert memory.columns()["y"] == [None, 3.0]
    stream = memory.metadata["run", "primary"]
    assert list(stream["data_keys"]) == ["x", "y"]
    gain, added = stream["_config_updates"]
    assert gain["configuration"] == {"device": {"data": {"gain": 2}}}
    assert "configuration" not in added
    assert any("added ['y']" in note for note in memory.notes)


def test_a_run_says_how_many_events_came() -> None:
    run, memory = begun({"x": "number"})
    assert memory.writer.started
    run.event("primary", {"x": 1.0})
    run.event_page("primary", [{"x": 2.0}, {"x": 3.0}])
    memory.emit(run.docs[2:3])
    memory.deliver()
    memory.emit(run.docs[3:])
    assert memory.writer.num_events == {"primary": 3}
    assert not MemoryRun().writer.started


def test_that_there_is_enough_is_told_once() -> None:
    run, memory = begun({"x": "number"}, batch_size=2)
    writer = memory.writer
    memory.emit([run.event("primary", {"x": 1.0})])
    assert not writer.take_ready()
    memory.emit([run.event("primary", {"x": 1.0})])
    memory.emit([run.event_page("primary", [{"x": 1.0}])])
    assert writer.take_ready()
    assert not writer.take_ready()


def test_events_may_go_to_the_buffer_of_their_descriptor() -> None:
    run, memory = begun({"x": "number"})
    _, doc = run.event("primary", {"x": 1.0})
    buffer = memory.writer.buffer(doc["descriptor"])
    assert buffer is not None
    buffer.event(doc)
    assert finished(run, memory).columns()["x"] == [1.0]
    assert memory.writer.buffer("nobody") is None


def test_specs_tags_and_notes_are_consumed() -> None:
    queue = TaskQueue()
    writer = RunWriter(queue, RunSettings())
    writer.notes.append("of the delivery")
    writer("start", {"uid": "run", "time": 0.0, "tiled_specs": ["Own"], "tiled_access_tags": ["a"]})
    tasks = take_out(queue)
    task = next(tasks)
    assert isinstance(task, ExecuteStep)
    assert isinstance(step := task.step, CreateRun)
    assert step.specs == [("Own", None), ("BlueskyRun", "3.0")]
    assert step.access_tags == ["a"]
    assert step.metadata == {"start": {"uid": "run", "time": 0.0}}
    writer("stop", {"uid": "stop", NOTES_KEY: ["of the normalizer"]})
    finish = next(tasks)
    assert isinstance(finish, FinishRun)
    assert finish.stop == {"uid": "stop"}
    assert finish.notes == ["of the normalizer", "of the delivery"]


def test_documents_may_change_after_the_call() -> None:
    run, memory = begun({})
    descriptor = run.descriptor("other", {"x": "number", "image": EXTERNAL})[1]
    memory.writer("descriptor", descriptor)
    resource = run.stream_resource("image", URI, dataset="/frames")
    datum = run.stream_datum("other", resource, 0, 2)
    docs = [descriptor, resource[1], datum[1]]
    memory.writer(*resource)
    memory.writer(*datum)
    event = run.event("other", {"x": 1.0})
    memory.writer(*event)
    for doc in docs:
        for value in doc.values():
            if isinstance(value, dict):
                value.clear()
    memory.emit([("stop", run.stop()[1])])
    memory.deliver()
    assert memory.metadata["run", "other"]["data_keys"]["x"]["dtype"] == "number"
    assert memory.sources["run", "other", "image"].structure.shape == (2, 2, 2)
    assert memory.sources["run", "other", "image"].parameters["dataset"] == "/frames"


def test_the_path_map_changes_where_files_are_and_keeps_where_they_were() -> None:
    run, memory = begun({"image": EXTERNAL}, path_map=PathMap({"/data": "/mnt"}))
    resource = run.stream_resource("image", URI, dataset="/frames")
    memory.emit([resource, run.stream_datum("primary", resource, 0, 2)])
    finished(run, memory)
    (asset,) = memory.sources["run", "primary", "image"].assets
    assert asset.data_uri == "file://localhost/mnt/frames.h5"


def test_the_keys_that_events_bring_are_expected_before_the_datums_that_follow() -> None:
    run, memory = begun({"x": "number", "image": EXTERNAL})
    image = [[1, 2], [3, 4]]
    resource = run.stream_resource("image", URI, dataset="/frames")
    memory.emit(
        [
            run.event("primary", {"x": 1.0, "image": image}, filled={"image": True}),
            resource,
            run.stream_datum("primary", resource, 1, 2),
            run.event("primary", {"x": 2.0, "image": image}, filled={"image": True}),
        ]
    )
    tasks = memory.deliver()
    assert [type(task) for task in tasks] == [ExpectKey, StoreRows, RegisterDatum, StoreRows]


# -- odd start documents --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "specs", "left_out"),
    [
        (None, [], []),
        ("Own", [("Own", None)], []),
        ({"name": "Own", "version": "1"}, [("Own", "1")], []),
        ([("Own", "1"), ["Other", None]], [("Own", "1"), ("Other", None)], []),
        (["Own", 5, None, {"version": "1"}], [("Own", None)], ["5", "None", "'version'"]),
        ([("Own", 2)], [], ["'Own', 2"]),
        (["", "x" * 256], [], ["''", "xxx"]),
        (["Own", "Own", ("BlueskyRun", "3.0")], [("Own", None)], []),
        (5, [], ["5"]),
        ([f"s{i}" for i in range(25)], [(f"s{i}", None) for i in range(19)], ["s19", "s24"]),
        (object, [], ["object"]),
    ],
)
def test_specs_that_tiled_would_refuse_are_left_out(
    value: Any, specs: list[Any], left_out: list[str]
) -> None:
    queue = TaskQueue()
    writer = RunWriter(queue, RunSettings())
    writer("start", {"uid": "run", "time": 0.0, "tiled_specs": value})
    assert next(take_out(queue)).step.specs == [*specs, ("BlueskyRun", "3.0")]  # type: ignore[union-attr]
    for words in left_out:
        assert any("start.tiled_specs" in note and words in note for note in writer.notes)
    assert bool(writer.notes) == bool(left_out)


@pytest.mark.parametrize(
    ("value", "tags", "left_out"),
    [
        (None, None, []),
        ([], [], []),
        ("a", ["a"], []),
        (("b", "a"), ["b", "a"], []),
        ({"b", "a"}, ["a", "b"], []),
        (["a", 5, ["b"]], ["a"], ["5", "['b']"]),
        (5, None, ["5"]),
        ({"a": 1}, None, ["{'a': 1}"]),
    ],
)
def test_access_tags_that_tiled_would_refuse_are_left_out(
    value: Any, tags: Any, left_out: list[str]
) -> None:
    queue = TaskQueue()
    writer = RunWriter(queue, RunSettings())
    writer("start", {"uid": "run", "time": 0.0, "tiled_access_tags": value})
    assert next(take_out(queue)).step.access_tags == tags  # type: ignore[union-attr]
    for words in left_out:
        assert any("start.tiled_access_tags" in n and words in n for n in writer.notes)
    assert bool(writer.notes) == bool(left_out)


# -- odd descriptors ------------------------------------------------------------------------------

# What is declared, and what of it is named in a note since it was not used.
ODD_KEYS: dict[str, tuple[Any, list[str]]] = {
    "no mapping": (5, ["declared as 5"]),
    "None": (None, ["declared as None"]),
    "a list": (["number"], ["declared as ['number']"]),
    "empty": ({}, []),
    "a dtype of no meaning": (data_key("float"), []),
    "a dtype that is no text": ({**data_key(), "dtype": 5}, ["dtype 5"]),
    "a dtype that cannot be hashed": ({**data_key(), "dtype": ["x"]}, ["dtype ['x']"]),
    "a shape that is text": ({**data_key(), "shape": "abc"}, ["shape 'abc'"]),
    "a shape that is a number": ({**data_key(), "shape": 3}, ["shape 3"]),
    "a shape with a fraction": ({**data_key(), "shape": [-1.5]}, ["shape [-1.5]"]),
    "a nested shape": ({**data_key(), "shape": [[1], [2]]}, ["shape [[1], [2]]"]),
    "a shape with NaN": ({**data_key(), "shape": [float("nan")]}, ["shape ['NaN']"]),
    "a shape of floats": ({**data_key("array"), "shape": [1.0]}, []),
    "a strange shape of arrays": ({**data_key("array"), "shape": "abc"}, ["shape 'abc'"]),
    "a dtype_numpy of no meaning": (data_key(dtype_numpy="no type"), []),
    "a dtype_numpy that is broken": (data_key(dtype_numpy="<f8,,("), []),
    "a dtype_numpy that is a number": (data_key(dtype_numpy=5), []),
    "a dtype_numpy that is a mapping": (data_key(dtype_numpy={"a": 1}), []),
    "a dtype_numpy that is an array": (data_key(dtype_numpy=np.zeros(2)), []),
    "keys that are no text": ({**data_key(), 5: {6: 7}, None: ()}, []),
    "values that JSON cannot hold": (data_key(limits=(float("nan"), b"\xff", {1, 2})), []),
}


@pytest.mark.parametrize(("odd", "noted"), ODD_KEYS.values(), ids=ODD_KEYS.keys())
@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
def test_a_data_key_may_be_declared_in_any_way(odd: Any, noted: list[str], later: bool) -> None:
    run, memory = begun({"x": "number"} if later else {})
    descriptor = copy.copy(run.descriptor("primary" if later else "other", {"x": "number"})[1])
    name = descriptor["name"]
    descriptor["data_keys"] = {"x": data_key(), "odd": odd}
    memory.writer("descriptor", descriptor)
    value = [2.5] if isinstance(odd, dict) and odd.get("dtype") == "array" else 2.5
    memory.emit([run.event(name, {"x": 1.0, "odd": value})])
    finished(run, memory)
    assert memory.columns(name)["x"] == [1.0]
    node = memory.nodes.get(("run", name, "odd"))
    if node is None:
        assert memory.columns(name)["odd"] in ([2.5], ["2.5"])
    else:
        assert np.ravel(node[0]).tolist() in ([2.5], ["2.5"])
    plain = memory.metadata["run", name]["data_keys"]["odd"]
    assert plain == (to_json(odd)[0] if isinstance(odd, dict) else {})
    about = [note for note in memory.notes if "data key 'odd'" in note]
    assert [words in note for note in about for words in noted] == [True] * len(noted)
    assert len(about) == (len(noted) > 0)


@pytest.mark.parametrize("shape", [[-1], [2, -1], [None]])
def test_a_negative_size_is_one_that_varies(shape: list[Any]) -> None:
    run, memory = begun({"a": {**data_key("array"), "shape": shape, "dtype_numpy": "<f8"}})
    rows = [np.zeros((2,) * len(shape)), np.zeros((1,) * len(shape))]
    memory.emit([run.event("primary", {"a": row}) for row in rows])
    finished(run, memory)
    stored = memory.nodes["run", "primary", "a"]
    assert [row.shape for row in stored] == [row.shape for row in rows]
    assert memory.metadata["run", "primary"]["data_keys"]["a"]["shape"] == shape


ODD_NAMES: list[Any] = ["det/x", "a.b", "#", "%41", "?", "", "a b", "x" * 300, "ä", "\0", "\ud800"]
ODD_NAMES += [5, 1.5, None, True, ("a", 1), b"bytes"]


@pytest.mark.parametrize("key", ODD_NAMES, ids=[ascii(name)[:20] for name in ODD_NAMES])
def test_a_data_key_may_have_any_name(key: Any) -> None:
    run, memory = begun({"x": data_key(), key: data_key()})
    memory.emit([run.event("primary", {"x": 1.0, key: 2.5})])
    memory.emit([run.event_page("primary", [{"x": 2.0, key: 3.5}])])
    finished(run, memory)
    columns = memory.columns()
    assert columns["x"] == [1.0, 2.0]
    own = {path[2]: content for path, content in memory.nodes.items() if path[2] != "internal"}
    values = [columns[name] for name in columns if name not in ("seq_num", "time", "x", "ts_x")]
    values += [content.tolist() for content in own.values()]
    assert [2.5, 3.5] in values
    for name in (*columns, *own):
        assert isinstance(name, str)
        name.encode()
    if not isinstance(key, str):
        assert any(f"key {key!r}" in n and repr(str(key)) in n for n in memory.notes)


def test_metadata_that_json_cannot_hold_are_noted() -> None:
    run, memory = begun({})
    odd = {5: float("nan"), None: b"\xff", "device": {"data": {6: {1, 2}}, "data_keys": 5}}
    run.descriptor("other", {"x": "number"}, configuration=odd, hints=7, object_keys=8)
    run.descriptor("other", {"x": "number"}, configuration=odd)
    run.descriptor("other", {"x": "number"}, configuration=[1, odd])
    memory.emit(run.docs[2:])
    finished(run, memory)
    stream = memory.metadata["run", "other"]
    assert stream["configuration"]["5"] == "NaN"
    assert stream["configuration"]["device"]["data"]["6"] == [1, 2]
    assert stream["hints"] == 7
    assert stream["_config_updates"][0]["configuration"] == stream["configuration"]
    for words in ("the key 5 is stored as text", "JSON has no NaN", "a set is stored"):
        assert any("descriptor other.configuration" in n and words in n for n in memory.notes)


def test_a_later_descriptor_needs_no_time() -> None:
    run, memory = begun({"x": "number"})
    doc = run.descriptor("primary", {"x": "number"})[1]
    del doc["time"]
    memory.writer("descriptor", doc)
    finished(run, memory)
    assert memory.metadata["run", "primary"]["_config_updates"] == [{"uid": doc["uid"]}]


# -- odd stream resources and datums ------------------------------------------------------------


@pytest.mark.parametrize("parameters", ["abc", 5, [1], object()])
def test_strange_parameters_of_files_are_left_out(parameters: Any) -> None:
    run, memory = begun({"image": {**EXTERNAL, "shape": [2]}})
    resource = run.stream_resource("image", URI, "text/csv")
    resource[1]["parameters"] = parameters
    memory.emit([resource, run.stream_datum("primary", resource, 0, 2)])
    finished(run, memory)
    assert any(resource[1]["uid"] in n and "parameters" in n for n in memory.notes)


def test_a_resource_that_cannot_be_copied_is_taken_as_json() -> None:
    run, memory = begun({"image": EXTERNAL})
    resource = run.stream_resource("image", URI, dataset="/frames", lines=(n for n in range(3)))
    memory.writer(*resource)
    memory.emit([run.stream_datum("primary", resource, 0, 2)])
    finished(run, memory)
    assert memory.sources["run", "primary", "image"].parameters["dataset"] == "/frames"


@pytest.mark.parametrize("seq_nums", [None, 5, {}, {"start": 3}, {"start": 3, "stop": 1}, [1, 2]])
def test_without_seq_nums_indices_tell_which_events_rows_belong_to(seq_nums: Any) -> None:
    run, memory = begun({"image": EXTERNAL})
    resource = run.stream_resource("image", URI, dataset="/frames")
    datum = run.stream_datum("primary", resource, 2, 5)
    datum[1]["seq_nums"] = seq_nums
    memory.emit([resource, datum, datum])
    registered = [task.datum for task in memory.deliver() if isinstance(task, RegisterDatum)]
    assert [datum["seq_nums"] for datum in registered] == [{"start": 3, "stop": 6}] * 2
    assert len([note for note in memory.writer.notes if "seq_nums" in note]) == 1


def test_a_key_of_files_may_be_no_text() -> None:
    run, memory = begun({5: EXTERNAL})  # type: ignore[dict-item]
    resource = run.stream_resource(5, URI, dataset="/frames")  # type: ignore[arg-type]
    memory.emit([resource, run.stream_datum("primary", resource, 0, 2)])
    finished(run, memory)
    assert memory.sources["run", "primary", "5"].structure.shape == (2, 2, 2)


# -- odd stops ------------------------------------------------------------------------------------


def test_a_stop_document_may_hold_anything() -> None:
    _, memory = begun({})
    doc = {"uid": 5, "time": "now", "num_events": object, 7: {8}, NOTES_KEY: 9, "exit_status": None}
    memory.writer("stop", doc)
    memory.deliver()
    stop = memory.metadata["run",]["stop"]
    assert {name: stop[name] for name in ("uid", "time", "7", "exit_status")} == {
        "uid": 5,
        "time": "now",
        "7": [8],
        "exit_status": None,
    }
    assert "9" in memory.notes


def test_an_old_resource_is_noted() -> None:
    run, memory = begun({})
    memory.writer("resource", {"uid": "old"})
    assert any("'old'" in n and "normalizer" in n for n in finished(run, memory).notes)


# -- what is refused ------------------------------------------------------------------------------

UNHASHABLE = ["x"]
RESOURCE = {"uid": "r", "data_key": "image", "uri": URI, "mimetype": "x/y", "parameters": {}}
DATUM = {"uid": "sd", "descriptor": "d", "stream_resource": "good"}
DATUM |= {"indices": {"start": 0, "stop": 1}, "seq_nums": {"start": 1, "stop": 2}}  # type: ignore[dict-item]
EVENT = {"uid": "e", "seq_num": 1, "time": EPOCH, "data": {"x": 1.0}, "timestamps": {"x": EPOCH}}
DESCRIPTOR = {"uid": "d2", "name": "other", "data_keys": {}, "time": EPOCH}


def without(doc: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in doc.items() if name != field}


Refused = tuple[str, Any, type[TiledWriterError], tuple[str, ...]]
REFUSED: list[Refused] = [
    ("descriptor", without(DESCRIPTOR, "uid"), InvalidDocument, ("descriptor", "uid", "other")),
    ("descriptor", {**DESCRIPTOR, "uid": UNHASHABLE}, InvalidDocument, ("uid", "['x']")),
    ("descriptor", {**DESCRIPTOR, "uid": None}, InvalidDocument, ("descriptor", "uid")),
    ("descriptor", without(DESCRIPTOR, "name"), InvalidDocument, ("'d2'", "name")),
    ("descriptor", {**DESCRIPTOR, "name": ["x"]}, InvalidDocument, ("'d2'", "['x']")),
    *(
        ("descriptor", {**DESCRIPTOR, "data_keys": keys}, InvalidDocument, ("'d2'", "data_keys"))
        for keys in (None, 5, "x", ["x"])
    ),
    ("event", EVENT, InvalidDocument, ("event", "'e'", "descriptor")),
    ("event", {**EVENT, "descriptor": "nobody"}, UnknownReference, ("'e'", "'nobody'")),
    ("event", {**EVENT, "descriptor": UNHASHABLE}, UnknownReference, ("'e'", "['x']")),
    ("event", {**EVENT, "descriptor": "d", "data": 5}, InvalidDocument, ("'e'", "'primary'")),
    ("event_page", {"uid": ["e"], "descriptor": "nobody"}, UnknownReference, ("'nobody'",)),
    ("event_page", {"uid": ["e"], "descriptor": "d"}, InvalidDocument, ("'e'", "'seq_num'")),
    *(
        ("stream_resource", without(RESOURCE, field), InvalidDocument, ("stream_resource", field))
        for field in ("uid", "data_key", "uri")
    ),
    ("stream_resource", {**RESOURCE, "data_key": ""}, InvalidDocument, ("data_key",)),
    ("stream_resource", {**RESOURCE, "uid": UNHASHABLE}, InvalidDocument, ("uid", "['x']")),
    ("stream_resource", {**RESOURCE, "data_key": UNHASHABLE}, InvalidDocument, ("data_key",)),
    *(
        ("stream_resource", {**RESOURCE, "uri": uri}, InvalidDocument, ("'r'", "'image'", "uri"))
        for uri in (None, "", 5, b"file:")
    ),
    ("stream_datum", without(DATUM, "descriptor"), InvalidDocument, ("'sd'", "descriptor")),
    ("stream_datum", {**DATUM, "descriptor": "nobody"}, UnknownReference, ("'sd'", "'nobody'")),
    ("stream_datum", without(DATUM, "stream_resource"), InvalidDocument, ("'sd'",)),
    ("stream_datum", {**DATUM, "stream_resource": "r"}, UnknownReference, ("'sd'", "'r'")),
    ("stream_datum", {**DATUM, "stream_resource": UNHASHABLE}, InvalidDocument, ("'sd'", "['x']")),
    *(
        ("stream_datum", {**DATUM, "indices": indices}, InvalidDocument, ("'sd'", "indices"))
        for indices in (
            None,
            5,
            {},
            {"start": 0},
            {"start": 2, "stop": 1},
            {"start": -1, "stop": 1},
            {"start": 0.5, "stop": 1},
            {"start": "0", "stop": "1"},
            [0, 1],
        )
    ),
    *(
        (kind, 5, InvalidDocument, (kind, "5"))
        for kind in ("descriptor", "stream_resource", "stop")
    ),
    *((kind, None, InvalidDocument, (kind,)) for kind in ("event", "event_page", "stream_datum")),
]


@pytest.mark.parametrize(("kind", "doc", "error", "names"), REFUSED)
def test_a_document_that_makes_no_row_is_named_and_costs_nothing_else(
    kind: str, doc: Any, error: type[TiledWriterError], names: tuple[str, ...]
) -> None:
    run = RunBuilder()
    run.uid = "run"
    run.start()
    run.descriptor("primary", {"x": data_key(), "image": EXTERNAL}, uid="d")
    resource = run.stream_resource("image", URI, dataset="/frames")
    resource[1]["uid"] = "good"
    run.event("primary", {"x": 1.0})
    run.stream_datum("primary", resource, 0, 1)
    memory = MemoryRun()
    memory.emit(run.docs)

    with pytest.raises(error) as raised:
        memory.writer(kind, doc)

    for name in names:
        assert name in str(raised.value)
    assert raised.value.hint
    memory.emit([run.event("primary", {"x": 2.0}), run.stream_datum("primary", resource, 1, 2)])
    finished(run, memory)
    assert memory.columns()["x"] == [1.0, 2.0]
    assert memory.sources["run", "primary", "image"].structure.shape == (2, 2, 2)
    assert list(memory.nodes) == [("run", "primary", "internal")]
    assert memory.notes == []


@pytest.mark.parametrize("uid", ["", "a/b", "..", ".", None, 7, ["x"], "a?b", "\x7f", "\ud800"])
def test_a_run_without_a_uid_for_a_path_does_not_start(uid: Any) -> None:
    queue = TaskQueue()
    writer = RunWriter(queue, RunSettings())
    with pytest.raises(InvalidDocument, match="start") as raised:
        writer("start", {"uid": uid, "time": EPOCH})
    assert repr(uid) in str(raised.value)
    assert not writer.started
    assert len(queue) == 0


@pytest.mark.parametrize("kind", ["descriptor", "stop"])
def test_nothing_is_stored_before_the_start(kind: str) -> None:
    queue = TaskQueue()
    writer = RunWriter(queue, RunSettings())
    with pytest.raises(UnknownReference, match="before the start"):
        writer(kind, copy.deepcopy(DESCRIPTOR))
    assert len(queue) == 0


def test_tasks_name_what_they_are_for() -> None:
    """Tasks refer to the stream that they belong to, and steps to run and stream."""
    run, memory = begun({"x": "number"})
    run.descriptor("primary", {"x": "number"})
    memory.emit([run.docs[-1], run.event("primary", {"x": 1.0}), run.stop()])
    update, rows, finish, close = memory.deliver()
    assert isinstance(update, ExecuteStep)
    assert isinstance(update.step, UpdateMetadata)
    assert (update.step.run, update.step.stream) == ("run", "primary")
    assert isinstance(rows, StoreRows)
    assert rows.stream.name == "primary"
    assert isinstance(finish, FinishRun)
    assert isinstance(close, CloseRun)
    assert finish.run == close.run == "run"
    assert not isinstance(close, DeclareKeys | CreateStream)
