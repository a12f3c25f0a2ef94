"""Fields of a kind that is not expected: passed on as they are, or refused by name."""

from __future__ import annotations

import copy
import types
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from documents import Document, Pair, RunBuilder, data_key, scalar_run
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_tiled_writer import RunNormalizer
from bluesky_tiled_writer.errors import DocumentError, InvalidDocument

START, DESCRIPTOR, EVENT, STOP = 0, 1, 2, -1
"""Places of these documents in a `scalar_run`."""


def normalized(docs: list[Pair], normalizer: RunNormalizer | None = None) -> list[Pair]:
    normalizer = normalizer or RunNormalizer()
    result: list[Pair] = []
    normalizer.subscribe(lambda name, doc: result.append((name, doc)))
    for pair in docs:
        normalizer(*pair)
    return result


@pytest.mark.parametrize(
    ("index", "fields"),
    [
        (START, {"time": "noon"}),
        (START, {"time": None, "scan_id": [], "hints": 7}),
        (START, {7: "a number as a key"}),
        (DESCRIPTOR, {"run_start": 7, "time": "noon"}),
        (DESCRIPTOR, {"configuration": [1, 2]}),
        (DESCRIPTOR, {"configuration": {"det": None, 7: "x"}}),
        (DESCRIPTOR, {"configuration": {"det": {"data_keys": {"gain": 1}, "data": {7: 1}}}}),
        (DESCRIPTOR, {"object_keys": "x", "hints": ["x"]}),
        (DESCRIPTOR, {"object_keys": {"det": "x"}, "hints": {"det": {"fields": "x"}}}),
        (DESCRIPTOR, {"object_keys": {"det": [["x"], 7]}, "hints": {"det": {"fields": [["x"]]}}}),
        (STOP, {"exit_status": "fine", "time": [], "num_events": 3}),
    ],
)
def test_odd_fields_are_passed_on(index: int, fields: dict[Any, Any]) -> None:
    docs = scalar_run(events=1).docs
    docs[index][1].update(copy.deepcopy(fields))
    out = normalized(docs)
    assert [name for name, _ in out] == [name for name, _ in docs]
    assert {key: out[index][1][key] for key in fields} == fields


@pytest.mark.parametrize(
    "odd",
    [
        data_key("float"),
        {"dtype": "number", "shape": []},
        data_key("number", ["a"]),  # type: ignore[list-item]
        {"shape": 7, "dtype": ["number"]},
        {"dtype_numpy": 7},
        {"dtype_descr": 7, "dtype": "array"},
        {"dtype_descr": [7], "dtype": "array"},
        {7: 8},
        {},
        "number",
        None,
    ],
)
def test_an_odd_data_key_is_passed_on(odd: Any) -> None:
    docs = scalar_run(events=1).docs
    docs[DESCRIPTOR][1].update(data_keys={"x": copy.deepcopy(odd), "n": data_key("integer")})
    data_keys = normalized(docs)[DESCRIPTOR][1]["data_keys"]
    assert data_keys["n"] == data_key("integer", dtype_numpy="<i8", object_name="device")
    if isinstance(odd, dict):
        assert {key: data_keys["x"][key] for key in odd} == odd
    else:
        assert data_keys["x"] == odd


@pytest.mark.parametrize("key", ["det/x", "a.b", "", "%41", 7])
def test_a_data_key_may_have_any_name(key: Any) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {key: "number", "time": "number"})
    run.event("primary", {key: 1.5, "time": 0.5})
    (_, doc), (_, event) = normalized(run.docs)[1:]
    assert doc["data_keys"].keys() == event["data"].keys() == {key, "time_"}


@pytest.mark.parametrize("type_", [np.dtype("<f4"), np.dtype([("q", "<f8"), ("n", "<i4")])])
def test_a_type_may_be_an_object_of_numpy(type_: np.dtype) -> None:
    docs = scalar_run(events=1).docs
    docs[DESCRIPTOR][1]["data_keys"]["x"]["dtype_numpy"] = type_
    (_, doc) = normalized(docs)[DESCRIPTOR]
    plain = "<f4" if type_.fields is None else [["q", "<f8"], ["n", "<i4"]]
    assert doc["data_keys"]["x"]["dtype_numpy"] == plain


def test_mappings_need_not_be_dictionaries() -> None:
    docs = scalar_run(events=1).docs

    def frozen(value: Any) -> Any:
        if isinstance(value, dict):
            return types.MappingProxyType({key: frozen(item) for key, item in value.items()})
        return value

    assert normalized([(name, frozen(doc)) for name, doc in docs]) == normalized(docs)


def test_metadata_that_cannot_be_copied_are_passed_on() -> None:
    generator = (x for x in [1, 2])
    cycle: list[Any] = [generator]
    cycle.append(cycle)
    given = {"nested": {"generator": generator, "cycle": cycle}, "pair": (1, [2])}
    ((_, doc),) = normalized([("start", {"uid": "r", "time": 0.0, **given})])
    assert doc["nested"]["generator"] is generator
    assert doc["nested"]["cycle"][1] is doc["nested"]["cycle"]
    assert doc["nested"] is not given["nested"]


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "doc", "words"),
    [
        ("surprise", {}, ["surprise"]),
        ("emit", {}, ["emit"]),
        ("start", None, ["start", "NoneType"]),
        ("event", ["data"], ["event", "list"]),
        ("descriptor", {"uid": "d", "name": "primary"}, ["descriptor", "'d'", "data_keys"]),
        ("descriptor", {"uid": "d", "name": "p", "data_keys": ["x"]}, ["'d'", "'p'", "data_keys"]),
        ("descriptor", {"uid": ["d"], "name": "p", "data_keys": {}}, ["'p'", "uid"]),
        ("stream_resource", {"mimetype": "x", "uri": "file:///x"}, ["resource", "uid"]),
        ("stream_resource", {"uid": "r", "mimetype": "x", "uri": 7}, ["'r'", "uri"]),
        ("stream_resource", {"uid": "r", "spec": "x"}, ["'r'", "root"]),
        ("resource", {"uid": "r", "spec": "x", "root": "/"}, ["'r'", "resource_path"]),
        ("resource", {"uid": None}, ["resource", "uid"]),
        ("datum", {"resource": "r"}, ["datum_id", "'r'"]),
        ("datum", {"datum_id": ["d"], "resource": "r"}, ["datum_id", "'d'", "'r'"]),
        ("datum", {"datum_id": "d", "resource": ["r"]}, ["'d'", "resource", "'r'"]),
        ("datum_page", {"datum_id": "d", "resource": "r"}, ["datum_page", "'d'", "datum_id"]),
        ("datum_page", {"datum_id": ["d"]}, ["'d'", "resource"]),
        (
            "datum_page",
            {"datum_id": ["d"], "resource": "r", "datum_kwargs": {"n": [1, 2]}},
            ["'d'", "lengths", "datum_kwargs.n"],
        ),
        ("datum_page", {"datum_id": [], "datum_kwargs": [1]}, ["datum_page", "datum_kwargs"]),
        ("bulk_datum", {"resource": "r", "datum_kwarg_list": 7}, ["bulk_datum", "'r'"]),
        ("bulk_events", {"d": [7]}, ["event", "int"]),
    ],
)
def test_a_document_of_which_no_row_can_be_made_is_refused_by_name(
    name: str, doc: Any, words: list[str]
) -> None:
    with pytest.raises(InvalidDocument) as raised:
        normalized([(name, doc)])
    for word in words:
        assert word in str(raised.value)
    assert raised.value.hint


def page(**fields: Any) -> Document:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    _, doc = run.event_page("primary", [{"x": 0.5}, {"x": 1.5}])
    return {key: value for key, value in {**doc, **fields}.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"seq_num": None}, "seq_num"),
        ({"time": 7}, "time"),
        ({"data": None}, "data"),
        ({"data": {"x": [1]}}, "data.x"),
        ({"timestamps": [1]}, "timestamps"),
        ({"filled": {"x": [True]}}, "filled.x"),
    ],
)
def test_a_page_that_is_unpacked_needs_whole_columns(fields: Document, word: str) -> None:
    events: list[Document] = []
    normalizer = RunNormalizer(patches={"event": lambda doc: doc})
    normalizer.subscribe(lambda name, doc: events.append(doc), "event")
    with pytest.raises(InvalidDocument, match=word) as raised:
        normalizer("event_page", page(**fields))
    assert raised.value.hint
    assert events == []


def test_a_page_without_uids_is_unpacked() -> None:
    events: list[Document] = []
    normalizer = RunNormalizer()
    normalizer.subscribe(lambda name, doc: events.append(doc), "event")
    normalizer("event_page", page(uid=None, filled=None))
    assert [(doc["seq_num"], doc["data"]) for doc in events] == [(1, {"x": 0.5}), (2, {"x": 1.5})]


@pytest.mark.parametrize("returned", [0, [], "doc"])
@pytest.mark.parametrize("kind", ["start", "descriptor", "event", "stop"])
def test_a_patch_that_returns_no_document_is_named(kind: str, returned: Any) -> None:
    normalizer = RunNormalizer(patches={kind: lambda doc: returned})
    with pytest.raises(InvalidDocument, match=f"patch of the {kind} document"):
        normalized(scalar_run().docs, normalizer)


# -- external data --------------------------------------------------------------------------------


def external_run(resource: Document, datum: Document, **event: Any) -> tuple[list[Pair], list[str]]:
    """Documents and notes of a run with one frame, of a resource and a datum with these fields."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"det": data_key("array", [2], external="FILESTORE:")})
    files = {"uid": "r", "spec": "AD_TIFF", "root": "/", "resource_path": "x"}
    run.add("resource", {**files, "resource_kwargs": {}, **resource})
    run.add("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {}, **datum})
    run.event("primary", {"det": "r/0"}, filled={"det": False})
    run.docs[-1][1].update(event)
    run.stop()
    normalizer = RunNormalizer()
    return normalized(run.docs, normalizer), normalizer.notes


def test_parameters_that_are_no_mapping_cost_nothing_else() -> None:
    docs, notes = external_run({"resource_kwargs": [7]}, {"datum_kwargs": [8]})
    names = [name for name, _ in docs]
    assert names == ["start", "descriptor", "event", "stream_resource", "stream_datum", "stop"]
    assert docs[3][1]["parameters"] == {"spec": "AD_TIFF"}
    assert len(notes) == 2
    assert "'r'" in notes[0]
    assert "[7]" in notes[0]
    assert "'r/0'" in notes[1]
    assert "[8]" in notes[1]


def test_a_reference_by_an_event_without_a_number_is_the_next_of_its_file() -> None:
    docs, notes = external_run({}, {}, seq_num="first")
    assert docs[4][1]["indices"] == {"start": 0, "stop": 1}
    assert notes == []


# -- anything -------------------------------------------------------------------------------------

JUNK = st.sampled_from(
    [
        None, 7, -1, 1.5, True,
        "x", "", b"x", [], ["x"], [["x"]], {}, {"x": 1}, {7: None}, {"a": {"b": []}},
        (), ("x", 1), np.arange(3), np.float64(0.5), np.zeros((2, 2)), object(), float("nan"),
        {"data_keys": 7}, {"x": {"dtype": 7}}, [{"x": 1}], iter([1]), np.array(7), {"x"},
    ]
)  # fmt: skip


def every_kind() -> list[Pair]:
    run = RunBuilder()
    run.start()
    image = data_key("array", [2], external="FILESTORE:")
    gain = {"gain": data_key(dtype_str="<f4")}
    run.descriptor(
        "primary",
        {"time": data_key(), "image": image},
        configuration={"det": {"data": {"gain": 1}, "timestamps": {}, "data_keys": gain}},
        hints={"det": {"fields": ["time"]}},
    )
    files = {"uid": "r", "spec": "AD_TIFF", "root": "/", "resource_path": "x"}
    run.add("resource", {**files, "resource_kwargs": {"frame_per_point": 1}})
    run.add("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"frame": 0}})
    run.add("datum_page", {"datum_id": ["r/1"], "resource": "r", "datum_kwargs": {"frame": [1]}})
    run.event("primary", {"time": 0.5, "image": "r/0"}, filled={"image": False})
    run.event_page("primary", [{"time": 0.5, "image": "r/1"}])
    run.docs[-1][1]["filled"] = {"image": [False]}
    run.stream_datum("primary", run.stream_resource("image", "file:///x"), 0, 1)
    run.stop()
    return run.docs


def places(doc: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a document, outermost first."""
    found = []
    for key, value in doc.items() if isinstance(doc, dict) else ():
        found += [(*path, key), *places(value, (*path, key))]
    return found


PLACES = [(i, path) for i, (_, doc) in enumerate(every_kind()) for path in places(doc)]
PATCHES: list[Any] = [{}, {"event": lambda doc: doc, "datum": lambda doc: doc}]


@settings(max_examples=400, deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3),
    patches=st.sampled_from(PATCHES),
)
def test_no_other_error_than_a_document_error_leaves_the_normalizer(
    changes: list[tuple[tuple[int, tuple[Any, ...]], Any]], patches: Any
) -> None:
    docs = every_kind()
    for (index, path), junk in changes:
        part: Any = docs[index][1]
        for key in path[:-1]:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[path[-1]] = junk
    normalizer = RunNormalizer(patches=patches)
    out: list[Pair] = []
    normalizer.subscribe(lambda name, doc: out.append((name, doc)))
    normalizer.subscribe(lambda name, doc: None, "event")
    for pair in docs:
        with suppress(DocumentError):
            normalizer(*pair)
    assert [name for name, _ in out[:1]] == ["start"]
    assert out[-1][0] == "stop"


def test_groups_from_before_there_were_pages_are_taken_apart() -> None:
    docs = every_kind()
    event = next(i for i, (name, _) in enumerate(docs) if name == "event")
    docs[event] = ("bulk_events", {"d": [docs[event][1]]})
    page = next(i for i, (name, _) in enumerate(docs) if name == "datum_page")
    group = {"resource": "r", "datum_kwarg_list": [{"frame": 1}]}
    docs[page] = ("bulk_datum", {**group, "datum_ids": ["r/1"]})
    out = normalized(docs)
    datums = [doc["uid"] for name, doc in out if name == "stream_datum"]
    assert [name for name, _ in out if name.startswith("event")] == ["event", "event_page"]
    assert datums[:2] == ["r/0", "r/1"]
