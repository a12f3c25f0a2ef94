"""Resources and Datums of the older event model, as StreamResources and StreamDatums."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from event_model import DocumentNames, schema_validators

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.normalizer.legacy import LegacyResources

Document = dict[str, Any]
Pair = tuple[str, Document]


def resource(uid: str = "r", spec: str = "AD_TIFF", **more: Any) -> Document:
    return {
        "uid": uid,
        "spec": spec,
        "root": "/data",
        "resource_path": f"{uid}/",
        "resource_kwargs": {},
        **more,
    }


def datum(datum_id: str, resource: str = "r", **kwargs: Any) -> Document:
    return {"datum_id": datum_id, "resource": resource, "datum_kwargs": kwargs}


def refer(
    legacy: LegacyResources,
    datum_id: str,
    key: str = "det",
    descriptor: str = "d",
    stream: str = "primary",
    seq_num: int = 1,
) -> list[Pair]:
    pairs = legacy.reference(datum_id, key, descriptor, stream, seq_num)
    for name, doc in pairs:
        schema_validators[DocumentNames[name]].validate(doc)
    return pairs


def indices(pairs: list[Pair]) -> list[tuple[int, int]]:
    return [
        (doc["indices"]["start"], doc["indices"]["stop"])
        for name, doc in pairs
        if name == "stream_datum"
    ]


def converted(**more: Any) -> Document:
    legacy = LegacyResources()
    legacy.resource(resource(**more))
    legacy.datum(datum("r/0"))
    (_, doc), _ = refer(legacy, "r/0")
    return doc


# -- resources ------------------------------------------------------------------------------------


def test_resource_and_datum_become_stream_resource_and_stream_datum() -> None:
    legacy = LegacyResources()
    doc = resource(resource_kwargs={"template": "%d.tif", "frame_per_point": 2})
    before = copy.deepcopy(doc)
    assert legacy.resource(doc) == []
    assert legacy.datum(datum("r/0", point_number=0, channel=3)) == []
    assert refer(legacy, "r/0", seq_num=1) == [
        (
            "stream_resource",
            {
                "uid": "r-d-det",
                "data_key": "det",
                "mimetype": "multipart/related;type=image/tiff",
                "uri": "file://localhost/data/r/",
                "parameters": {
                    "template": "%d.tif",
                    "multiplier": 2,
                    "spec": "AD_TIFF",
                    "channel": 3,
                },
            },
        ),
        (
            "stream_datum",
            {
                "uid": "r/0",
                "stream_resource": "r-d-det",
                "descriptor": "d",
                "indices": {"start": 0, "stop": 1},
                "seq_nums": {"start": 1, "stop": 2},
            },
        ),
    ]
    assert doc == before
    assert legacy.late() == ([], [])


@pytest.mark.parametrize(
    ("more", "uri"),
    [
        ({"root": "/data", "resource_path": "x.h5"}, "/data/x.h5"),
        ({"root": "/data/", "resource_path": "x.h5"}, "/data/x.h5"),
        ({"root": "/data", "resource_path": "/sub/x.h5"}, "/data/sub/x.h5"),
        ({"root": "/", "resource_path": "sub/x.h5"}, "/sub/x.h5"),
        ({"root": "", "resource_path": "/sub/x.h5"}, "/sub/x.h5"),
        ({"root": None, "resource_path": "/sub/x.h5"}, "/sub/x.h5"),
        ({"root": "/data", "resource_path": "sub/"}, "/data/sub/"),
        ({"root": "/data", "resource_path": ""}, "/data/"),
        ({"root": "C:\\data", "resource_path": "sub\\x.h5"}, "/C:/data/sub/x.h5"),
        ({"root": "C:\\data", "resource_path": "sub\\"}, "/C:/data/sub/"),
        (
            {"root": "/data", "resource_path": "sub\\x.h5", "path_semantics": "windows"},
            "/data/sub/x.h5",
        ),
        ({"root": "/data", "resource_path": "a\\b.h5", "path_semantics": "posix"}, "/data/a\\b.h5"),
    ],
)
def test_root_and_path_are_joined(more: Document, uri: str) -> None:
    assert converted(**more)["uri"] == f"file://localhost{uri}"


def test_uri_and_share_keep_their_host() -> None:
    assert converted(root="", resource_path="file://nas/x.h5")["uri"] == "file://nas/x.h5"
    share = converted(root="\\\\nas\\share", resource_path="x.h5", path_semantics="windows")
    assert share["uri"] == "file://nas/share/x.h5"


def test_template_of_area_detector_makes_a_directory() -> None:
    # The documents of ophyd have no slash at the end; areaDetector puts one.
    for template, uri in [("%s%s_%6.6d.tiff", "/data/sub/"), ("_%d.tiff", "/data/sub")]:
        doc = converted(resource_path="sub", resource_kwargs={"template": template})
        assert doc["uri"] == f"file://localhost{uri}"


@pytest.mark.parametrize(
    ("spec", "kwargs", "mimetype", "dataset"),
    [
        ("AD_HDF5", {}, "application/x-hdf5", "/entry/data/data"),
        ("ad_hdf5", {}, "application/x-hdf5", "/entry/data/data"),
        ("AD_HDF5", {"dataset": "/x"}, "application/x-hdf5", "/x"),
        ("AD_HDF5", {"path": "/x"}, "application/x-hdf5", "/x"),
        ("XSP3", {}, "application/x-hdf5", "/entry/instrument/detector/data"),
        ("PANDA", {}, "application/x-hdf5", ""),
        ("NPY_SEQ", {}, "multipart/related;type=application/x-npy", None),
        ("SPE", {"path": "/x"}, "application/octet-stream", None),
        ("OWN", {}, "application/x-own", None),
        ("own_too", {}, "application/x-own-too", None),
    ],
)
def test_spec_gives_mimetype_and_dataset(
    spec: str, kwargs: Document, mimetype: str, dataset: str | None
) -> None:
    own = {"OWN": "application/x-own", "own_too": "application/x-own-too"}
    legacy = LegacyResources(own)
    legacy.resource(resource(spec=spec, resource_kwargs=kwargs))
    legacy.datum(datum("r/0"))
    (_, doc), _ = refer(legacy, "r/0")
    assert doc["mimetype"] == mimetype
    assert doc["parameters"].get("dataset") == dataset
    assert doc["parameters"]["spec"] == spec.upper()


def test_first_stream_resources_had_a_spec_too() -> None:
    legacy = LegacyResources()
    old = {**resource(spec="AD_HDF5", resource_path="x.h5"), "data_key": "det", "run_start": ""}
    doc = legacy.stream_resource({**old, "resource_kwargs": {"path": "/x"}})
    schema_validators[DocumentNames.stream_resource].validate(doc)
    assert (doc["uri"], doc["data_key"]) == ("file://localhost/data/x.h5", "det")
    assert doc["parameters"] == {"dataset": "/x", "spec": "AD_HDF5"}
    assert legacy.stream_resource(doc) == doc


@pytest.mark.parametrize("name", ["spec", "root", "resource_path", "resource_kwargs"])
def test_resource_without_a_field_is_refused(name: str) -> None:
    doc = resource()
    del doc[name]
    with pytest.raises(InvalidDocument, match=f"'r' has no '{name}'"):
        LegacyResources().stream_resource(doc)


# -- datums ---------------------------------------------------------------------------------------


def rows(*datums: Document, resources: tuple[str, ...] = ("r",)) -> list[tuple[int, int]]:
    """Indices of the datums, each of which an event of one stream refers to."""
    legacy = LegacyResources()
    for uid in resources:
        legacy.resource(resource(uid))
    for doc in datums:
        legacy.datum(doc)
    return [
        pair
        for seq_num, doc in enumerate(datums, 1)
        for pair in indices(refer(legacy, doc["datum_id"], seq_num=seq_num))
    ]


def test_index_is_the_number_of_the_event_where_nothing_else_is_said() -> None:
    assert rows(datum("0"), datum("1")) == [(0, 1), (1, 2)]


def test_index_is_the_point_number() -> None:
    assert rows(datum("0", point_number=4), datum("1", point_number=0)) == [(4, 5), (0, 1)]


def test_indices_are_those_that_are_given() -> None:
    given = {"start": 3, "stop": 7}
    assert rows(datum("0", indices=given, point_number=1, frame=1)) == [(3, 7)]


def test_frame_is_the_last_of_the_datum() -> None:
    assert rows(*(datum(str(n), frame=n) for n in (0, 1, 4, 5))) == [(0, 1), (1, 2), (2, 5), (5, 6)]


def test_frames_of_the_next_file_are_counted_on() -> None:
    datums = [datum("0", frame=1), datum("1", "s", frame=0), datum("2", "s", frame=2)]
    assert rows(*datums, resources=("r", "s")) == [(0, 2), (2, 3), (3, 5)]


@pytest.mark.parametrize("frame", [0, 2])
def test_frames_of_the_next_file_count_wherever_they_begin(frame: int) -> None:
    datums = [datum("0", frame=0), datum("1", "s", frame=frame)]
    assert rows(*datums, resources=("r", "s")) == [(0, 1), (1, frame + 2)]


def test_frames_that_begin_again_in_the_same_file_are_counted_on() -> None:
    assert rows(datum("0", frame=3), datum("1", frame=0), datum("2", frame=1)) == [
        (0, 4), (4, 5), (5, 6),
    ]  # fmt: skip


def test_frames_are_counted_for_each_stream_and_key() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    found = []
    for n, (stream, key) in enumerate([("primary", "a"), ("primary", "b"), ("dark", "a")]):
        legacy.datum(datum(str(n), frame=0))
        found += indices(refer(legacy, str(n), key, stream, stream))
    assert found == [(0, 1)] * 3


def test_files_of_ophyd_sim_are_numbered_by_index() -> None:
    legacy = LegacyResources()
    legacy.resource(resource(spec="NPY_SEQ"))
    legacy.datum(datum("0", index=4))
    pairs = refer(legacy, "0")
    assert indices(pairs) == [(4, 5)]
    assert pairs[0][1]["parameters"] == {"index": 4, "spec": "NPY_SEQ"}


@pytest.mark.parametrize(
    "kwargs", [{"frame": "x"}, {"point_number": 1.5}, {"indices": {"start": 1}}]
)
def test_datum_without_a_number_is_refused(kwargs: Document) -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    legacy.datum(datum("r/0", **kwargs))
    with pytest.raises(InvalidDocument, match=r"'det' of stream 'primary'.*'r/0'"):
        legacy.reference("r/0", "det", "d", "primary", 1)


@pytest.mark.parametrize("name", ["datum_id", "resource"])
def test_datum_without_a_field_is_refused(name: str) -> None:
    doc = datum("r/0")
    del doc[name]
    with pytest.raises(InvalidDocument, match=f"no '{name}'"):
        LegacyResources().datum(doc)


def test_datum_page_is_datums() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    legacy.datum_page(
        {"resource": "r", "datum_id": ["0", "1"], "datum_kwargs": {"point_number": [5, 6]}}
    )
    assert indices(refer(legacy, "1") + refer(legacy, "0")) == [(6, 7), (5, 6)]


def test_patches_see_the_spec() -> None:
    legacy = LegacyResources()
    legacy.resource(resource(spec="xsp3"))
    doc = datum("0", channel=1)
    marked = legacy.marked(doc)
    assert marked["datum_kwargs"] == {"channel": 1, "_resource_spec": "XSP3"}
    assert doc == datum("0", channel=1)
    assert legacy.marked(datum("0", "unknown")) == datum("0", "unknown")


# -- who refers to what ---------------------------------------------------------------------------


def test_each_descriptor_and_key_has_a_stream_resource_of_its_own() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    for n in range(5):
        legacy.datum(datum(str(n), channel=n))
    uids = []
    for n, (key, uid) in enumerate([("a", "d"), ("b", "d"), ("a", "e"), ("a", "d"), ("a", "e")]):
        uids.append([doc["uid"] for _, doc in refer(legacy, str(n), key, uid)])
    assert uids == [["r-d-a", "0"], ["r-d-b", "1"], ["r-e-a", "2"], ["3"], ["4"]]


def test_a_datum_may_be_referred_to_again() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    legacy.datum(datum("0", point_number=0))
    assert indices(refer(legacy, "0", "a") + refer(legacy, "0", "b")) == [(0, 1), (0, 1)]
    assert legacy.late() == ([], [])


def test_reference_waits_for_datum_and_resource() -> None:
    legacy = LegacyResources()
    assert refer(legacy, "0") == []
    assert legacy.datum(datum("0")) == []
    assert [name for name, _ in legacy.resource(resource())] == ["stream_resource", "stream_datum"]
    assert legacy.late() == ([], [])


def test_rows_of_a_key_stay_in_order_while_one_waits() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    legacy.datum(datum("1", frame=1))
    legacy.datum(datum("x"))
    assert refer(legacy, "0", seq_num=1) == []
    assert refer(legacy, "1", seq_num=2) == []
    assert len(refer(legacy, "x", key="other")) == 2
    assert indices(legacy.datum(datum("0", frame=0))) == [(0, 1), (1, 2)]


def test_datum_that_never_comes_costs_only_its_rows_and_is_noted() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    for n in (1, 2):
        legacy.datum(datum(str(n), frame=n - 1))
    for n in range(3):
        assert refer(legacy, str(n), seq_num=n + 1) == []
    legacy.datum(datum("lost", "never"))
    assert refer(legacy, "lost", key="other", seq_num=7) == []
    docs, notes = legacy.late()
    assert indices(docs) == [(0, 1), (1, 2)]
    assert len(notes) == 2
    assert all(word in notes[0] for word in ("'det'", "'primary'", "datum '0'", "1 of its rows"))
    assert all(word in notes[1] for word in ("'other'", "resource 'never'", "seq_num 7"))
    assert legacy.late() == ([], [])


def test_used_datums_are_forgotten_in_the_end() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    for n in range(3000):
        legacy.datum(datum(str(n)))
        refer(legacy, str(n), seq_num=n + 1)
    assert len(legacy._datums) + len(legacy._used) == 1000


# -- the same as bluesky-tiled-plugins ------------------------------------------------------------


@pytest.mark.plugins
@pytest.mark.parametrize(
    ("spec", "resource_kwargs", "datum_kwargs"),
    [
        (
            "AD_TIFF",
            {"template": "%d.x", "frame_per_point": 1},
            "point_number",
        ),
        ("AD_HDF5", {"frame_per_point": 5}, "point_number"),
        ("ad_hdf5_swmr", {}, "frame"),
        ("XSP3", {"dataset": "x"}, "frame"),
        ("TPX_HDF5", {"path": "/y"}, None),
        ("NPY_SEQ", {}, None),
        ("SOMETHING", {"a": [1, {"b": 2}]}, None),
    ],
)
def test_documents_are_those_of_bluesky_tiled_plugins(
    spec: str, resource_kwargs: Document, datum_kwargs: str | None
) -> None:
    peer = pytest.importorskip("bluesky_tiled_plugins.writing.tiled_writer")
    first = resource("r", spec, resource_kwargs=resource_kwargs, run_start="run")
    second = {**first, "uid": "s", "resource_path": "s/"}

    def kwargs(number: int) -> Document:
        return {"channel": 1, **({datum_kwargs: number} if datum_kwargs else {})}

    datums = [datum(f"r/{n}", "r", **kwargs(n)) for n in (0, 1, 4)]
    datums += [datum(f"s/{n}", "s", **kwargs(n)) for n in (0, 1)]
    expected = peer_documents(peer.RunNormalizer(), [first, second], datums)
    legacy = LegacyResources()
    legacy.resource(first)
    legacy.resource(second)
    for doc in datums:
        legacy.datum(legacy.marked(doc))
    pairs = [p for n, d in enumerate(datums, 1) for p in refer(legacy, d["datum_id"], seq_num=n)]
    assert pairs == expected


def peer_documents(normalizer: Any, resources: list[Document], datums: list[Document]) -> Any:
    """What bluesky-tiled-plugins makes of the same documents."""
    pairs: list[tuple[str, Mapping[str, Any]]] = []
    collect: Callable[..., None] = lambda name, doc: pairs.append((name, doc))  # noqa: E731
    for kind in ("stream_resource", "stream_datum"):
        normalizer.subscribe(collect, kind)
    data_keys = {"det": {"source": "", "dtype": "array", "shape": [], "external": "FILESTORE:"}}
    normalizer.descriptor(
        {"uid": "d", "name": "primary", "run_start": "", "time": 0, "data_keys": data_keys}
    )
    for doc in resources:
        normalizer.resource(doc)
    for doc in datums:
        normalizer.datum(doc)
    for seq_num, doc in enumerate(datums, 1):
        event = {"uid": "", "descriptor": "d", "time": 0, "seq_num": seq_num, "filled": {}}
        normalizer.event({**event, "data": {"det": doc["datum_id"]}, "timestamps": {"det": 0}})
    return pairs
