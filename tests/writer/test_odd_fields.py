"""Documents with odd fields: what can be stored is stored, and notes say what differs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from tiled.client.container import Container
from tree import array_of, read_arrow, stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter
from bluesky_tiled_writer.errors import InvalidDocument

NORMALIZERS = pytest.mark.parametrize("normalizer", [RunNormalizer, None], ids=["", "none"])

START, DESCRIPTOR, EVENT, STOP = 0, 1, 2, 5
"""Places of these documents in a `scalar_run` of three events."""

NAN = float("nan")

Change = Callable[[list[Pair]], None]


def fields(index: int, *missing: str, **values: Any) -> Change:
    """Change fields of one document of the run, and take some away."""

    def change(docs: list[Pair]) -> None:
        doc = docs[index][1]
        doc.update(copy.deepcopy(values))
        for name in missing:
            del doc[name]

    return change


def odd_keys(index: int, **values: Any) -> Change:
    """Add an entry under a key that is no text."""

    def change(docs: list[Pair]) -> None:
        docs[index][1][7] = copy.deepcopy(values)  # type: ignore[index]

    return change


def declared(**values: Any) -> Change:
    """Change how the key `x` is declared."""

    def change(docs: list[Pair]) -> None:
        docs[DESCRIPTOR][1]["data_keys"]["x"].update(copy.deepcopy(values))

    return change


def declared_as(value: Any) -> Change:
    def change(docs: list[Pair]) -> None:
        docs[DESCRIPTOR][1]["data_keys"]["x"] = value

    return change


# A change, the columns that are not as usual then, and words that the notes have.
ODD: dict[str, tuple[Change, dict[str, list[Any]], list[str]]] = {
    # start
    "specs that are a number": (fields(START, tiled_specs=5), {}, ["start.tiled_specs: 5"]),
    "specs without names": (
        fields(START, tiled_specs=[{"version": "1"}, None]),
        {},
        ["start.tiled_specs: {'version': '1'}", "start.tiled_specs: None"],
    ),
    "access tags that are a number": (
        fields(START, tiled_access_tags=5),
        {},
        ["start.tiled_access_tags: 5"],
    ),
    "a start with a time that is text": (fields(START, time="noon"), {}, []),
    "a start without time": (fields(START, "time"), {}, []),
    "a start with a key that is no text": (odd_keys(START, a={8}), {}, ["start.7", "set"]),
    "a start with what JSON cannot hold": (
        fields(START, sample={"mass": NAN, 3: b"\xff"}),
        {},
        ["start.sample.mass: JSON has no NaN", "the key 3 is stored as text", "base64"],
    ),
    # descriptor
    "a data key without dtype": (declared_as({"source": "test", "shape": []}), {}, []),
    "a data key that is a number": (declared_as(5), {}, ["'x'", "5"]),
    "a data key that is None": (declared_as(None), {}, ["'x'", "None"]),
    "a dtype that is a number": (declared(dtype=5), {}, ["'x'", "dtype"]),
    "a shape that is text": (declared(shape="abc"), {}, ["'x'", "shape"]),
    "a shape with a fraction": (declared(shape=[-1.5]), {}, ["'x'", "shape"]),
    "a shape that is nested": (declared(shape=[[1], [2]]), {}, ["'x'", "shape"]),
    "a dtype_numpy of no meaning": (declared(dtype_numpy="no type"), {}, []),
    "a dtype_numpy that is a mapping": (declared(dtype_numpy={"a": 1}), {}, []),
    "a descriptor without time": (fields(DESCRIPTOR, "time"), {}, []),
    "configuration by number": (
        fields(DESCRIPTOR, configuration={5: {"data": {6: NAN}}}),
        {},
        ["the key 5 is stored as text", "the key 6 is stored as text", "JSON has no NaN"],
    ),
    "configuration in a list": (fields(DESCRIPTOR, configuration=[1, {2: 3}]), {}, ["the key 2"]),
    "hints and object_keys that are numbers": (
        fields(DESCRIPTOR, hints=7, object_keys=8),
        {},
        [],
    ),
    # events
    "an event with a seq_num that is text": (
        fields(EVENT, seq_num="one"),
        {"seq_num": [None, 2, 3]},
        ["'seq_num', seq_num 1: 'one'"],
    ),
    "an event with a time that is text": (
        fields(EVENT, time="noon"),
        {"time": [None, ..., ...]},
        ["'time', seq_num 1: 'noon'"],
    ),
    "an event whose timestamps are None": (
        fields(EVENT, timestamps={"x": None, "n": "noon"}),
        {"ts_x": [None, ..., ...], "ts_n": [None, ..., ...], "ts_label": [None, ..., ...]},
        ["'noon'"],
    ),
    "an event without uid": (fields(EVENT, "uid"), {}, []),
    "an event with filled that is a number": (fields(EVENT, filled=5), {}, []),
    "an event with a value that fits nowhere": (
        fields(EVENT, data={"x": {1: 2}, "n": 0, "label": "row 0"}),
        {"x": [None, 0.5, 1.0]},
        ["'x', seq_num 1: {1: 2}"],
    ),
    # stop
    "a stop without exit_status": (fields(STOP, "exit_status"), {}, []),
    "a stop without uid or time": (fields(STOP, "uid", "time"), {}, []),
    "a stop with odd num_events": (fields(STOP, num_events=[NAN]), {}, ["JSON has no NaN"]),
    "a stop with a key that is no text": (odd_keys(STOP, a=1), {}, ["the key 7"]),
}


@NORMALIZERS
@pytest.mark.parametrize(("change", "columns", "notes"), ODD.values(), ids=ODD.keys())
def test_odd_fields_cost_a_note_and_no_row(
    client: Container,
    change: Change,
    columns: dict[str, list[Any]],
    notes: list[str],
    normalizer: Any,
) -> None:
    run = scalar_run()
    usual = copy.deepcopy([doc for name, doc in run.docs if name == "event"])
    change(run.docs)

    emit(run.docs, TiledWriter(client, normalizer=normalizer))

    node = client[run.uid]
    table = read_arrow(stream_of(client, run.uid)["internal"]).to_pydict()
    expected = {
        "seq_num": [doc["seq_num"] for doc in usual],
        "time": [doc["time"] for doc in usual],
        **{key: [doc["data"][key] for doc in usual] for key in ("x", "n", "label")},
        **{f"ts_{key}": [doc["timestamps"][key] for doc in usual] for key in ("x", "n", "label")},
    }
    for name, cells in columns.items():
        kept = [old if new is ... else new for old, new in zip(expected[name], cells, strict=True)]
        expected[name] = kept
    table.pop("ts_row_number", None)  # where neither `seq_num` nor `time` tells the order
    assert table == expected
    assert node.metadata["start"]["uid"] == run.uid
    assert node.metadata["stop"]["run_start"] == run.uid
    found = node.metadata.get("notes", [])
    for words in notes:
        assert any(words in note for note in found), found
    assert bool(found) == bool(notes), found


NAMES: list[Any] = ["det/x", "a.b", "#", "%41", "?", "a b", "X", "x" * 300, "ä", 5, 1.5, None, True]


@NORMALIZERS
@pytest.mark.parametrize("key", NAMES, ids=[ascii(name)[:20] for name in NAMES])
def test_a_data_key_of_any_name_can_be_read(client: Container, key: Any, normalizer: Any) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", key: data_key()})
    run.event("primary", {"x": 0.5, key: 1.5})
    run.event_page("primary", [{"x": 1.5, key: 2.5}])
    run.stop()

    emit(run.docs, TiledWriter(client, normalizer=normalizer))

    stream = stream_of(client, run.uid)
    columns = read_arrow(stream["internal"]).to_pydict()
    assert columns["x"] == [0.5, 1.5]
    values = {name: cells for name, cells in columns.items() if name not in ("x", "ts_x")}
    for name in set(stream) - {"internal"}:
        values[name] = array_of(stream[name])["values"]
    (name,) = [name for name, cells in values.items() if cells == [1.5, 2.5]]
    if not isinstance(key, str):
        notes = client[run.uid].metadata["notes"]
        assert any(repr(key) in note and repr(name) in note for note in notes)
    assert client[run.uid].metadata["stop"]["num_events"] == {"primary": 2}


# -- files ----------------------------------------------------------------------------------------


def run_with_files(tmp_path: Path, mimetype: Any = "application/octet-stream") -> RunBuilder:
    """Start, descriptor, stream_resource, a stream_datum of two rows, another of two, stop."""
    path = tmp_path / "frames.raw"
    path.write_bytes(b"frames")
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"img": data_key("array", [2, 2], external="STREAM:")})
    resource = run.stream_resource("img", f"file://localhost{path}", mimetype)
    run.stream_datum("primary", resource, 0, 2)
    run.stream_datum("primary", resource, 2, 4)
    run.stop()
    return run


def files_of(client: Container, run: RunBuilder) -> Any:
    """The node of the files, with what Tiled knows of them."""
    return stream_of(client.new_variation(include_data_sources=True), run.uid)["img"]


RESOURCE, FIRST_DATUM = 2, 3


def with_field(pair: Pair, name: str, value: Any) -> Document:
    return {**pair[1], name: value}


@NORMALIZERS
@pytest.mark.parametrize("mimetype", [None, 5], ids=["none", "a number"])
def test_files_without_a_type_are_bytes(
    client: Container, tmp_path: Path, mimetype: Any, normalizer: Any
) -> None:
    run = run_with_files(tmp_path, mimetype)
    emit(run.docs, TiledWriter(client, normalizer=normalizer))
    assert files_of(client, run).structure_family == "bytes"
    (note,) = client[run.uid].metadata["notes"]
    assert run.docs[RESOURCE][1]["uid"] in note
    assert "MIME type" in note


@NORMALIZERS
@pytest.mark.parametrize("parameters", ["abc", 5, [1]])
def test_strange_parameters_cost_a_note(
    client: Container, tmp_path: Path, parameters: Any, normalizer: Any
) -> None:
    run = run_with_files(tmp_path)
    run.docs[RESOURCE][1]["parameters"] = parameters
    emit(run.docs, TiledWriter(client, normalizer=normalizer))
    assert files_of(client, run).structure_family == "bytes"
    notes = client[run.uid].metadata["notes"]
    assert any("parameters" in note and repr(parameters) in note for note in notes)


@NORMALIZERS
@pytest.mark.parametrize("seq_nums", [None, 5, {"start": 2, "stop": 1}])
def test_datums_without_seq_nums_cost_a_note(
    client: Container, tmp_path: Path, seq_nums: Any, normalizer: Any
) -> None:
    run = run_with_files(tmp_path)
    run.docs[FIRST_DATUM][1]["seq_nums"] = seq_nums
    emit(run.docs, TiledWriter(client, normalizer=normalizer))
    assert files_of(client, run).structure_family == "bytes"
    (note,) = client[run.uid].metadata["notes"]
    assert "seq_nums" in note


@NORMALIZERS
@pytest.mark.parametrize(
    "indices", [None, 5, {}, {"start": 2, "stop": 1}, {"start": 0.5, "stop": 1}]
)
def test_a_datum_without_indices_is_refused_and_costs_nothing_else(
    client: Container, tmp_path: Path, indices: Any, normalizer: Any
) -> None:
    run = run_with_files(tmp_path)
    writer = TiledWriter(client, normalizer=normalizer)
    emit(run.docs[:FIRST_DATUM], writer)

    with pytest.raises(InvalidDocument, match="indices") as raised:
        writer("stream_datum", with_field(run.docs[FIRST_DATUM], "indices", indices))

    assert run.docs[FIRST_DATUM][1]["uid"] in str(raised.value)
    assert raised.value.hint
    emit(run.docs[FIRST_DATUM:], writer)
    assert files_of(client, run).structure_family == "bytes"
    assert "notes" not in client[run.uid].metadata
