"""Resources and Datums of the older event model, as StreamResources and StreamDatums."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
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
        ({"root": "/data", "resource_path": "/data/sub/x.h5"}, "/data/sub/x.h5"),
        ({"root": "/data/", "resource_path": "/data/sub/"}, "/data/sub/"),
        ({"root": "/data", "resource_path": "/sub/x.h5"}, "/sub/x.h5"),
        ({"root": "/", "resource_path": "sub/x.h5"}, "/sub/x.h5"),
        ({"root": "", "resource_path": "/sub/x.h5"}, "/sub/x.h5"),
        ({"root": None, "resource_path": "/sub/x.h5"}, "/sub/x.h5"),
        ({"root": "/data", "resource_path": "sub/"}, "/data/sub/"),
        ({"root": "/data", "resource_path": ""}, "/data/"),
        ({"root": "C:\\data", "resource_path": "sub\\x.h5"}, "/C:/data/sub/x.h5"),
        ({"root": "C:\\data", "resource_path": "sub\\"}, "/C:/data/sub/"),
        ({"root": "C:\\data", "resource_path": "C:\\data\\x.h5"}, "/C:/data/x.h5"),
        ({"root": "C:\\data", "resource_path": "D:/x.h5"}, "/D:/x.h5"),
        ({"root": "C:\\data", "resource_path": "\\sub\\x.h5"}, "/C:/sub/x.h5"),
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


@pytest.mark.parametrize("name", ["frame", "point_number"])
@pytest.mark.parametrize("numbers", [[0, 1, 4, 5], [2, 3], [2, 0, 1], [1, 1], [1.0, np.int64(2)]])
def test_a_datum_is_one_frame_of_its_file(name: str, numbers: list[Any]) -> None:
    datums = [datum(str(n), **{name: number}) for n, number in enumerate(numbers)]
    assert rows(*datums) == [(number, number + 1) for number in numbers]


@pytest.mark.parametrize(
    "kwargs", [[{"frame": 0}, {"frame": 2}], [{"point_number": 0}] * 2, [{}] * 2]
)
def test_frames_are_counted_in_each_file(kwargs: list[Document]) -> None:
    datums = [datum(f"{r}{n}", r, **more) for r in "rs" for n, more in enumerate(kwargs)]
    found = rows(*datums, resources=("r", "s"))
    assert found[:2] == found[2:]


def test_a_datum_of_two_events_is_the_same_frame() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    for n in range(2):
        legacy.datum(datum(str(n)))
    found = [indices(refer(legacy, name, seq_num=n)) for n, name in enumerate("0011", 1)]
    assert found == [[(0, 1)], [(0, 1)], [(1, 2)], [(1, 2)]]


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


@pytest.mark.parametrize("name", ["channel", "dataset", "template"])
def test_each_part_of_the_files_has_a_stream_resource_of_its_own(name: str) -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    for n, part in enumerate("1121"):
        legacy.datum(datum(str(n), **{name: part}, timestamp=n))
    found = [refer(legacy, str(n), seq_num=n + 1) for n in range(4)]
    assert [len(pairs) for pairs in found] == [2, 1, 2, 1]
    uids = [pairs[-1][1]["stream_resource"] for pairs in found]
    assert uids == ["r-d-det", "r-d-det", "r-d-det-2", "r-d-det"]
    assert [found[n][0][1]["parameters"][name] for n in (0, 2)] == ["1", "2"]


def test_each_descriptor_and_key_has_a_stream_resource_of_its_own() -> None:
    legacy = LegacyResources()
    legacy.resource(resource())
    for n in range(5):
        legacy.datum(datum(str(n), other=n))
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


# -- URIs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("file://localhost/data/a%20b.h5", "/data/a b.h5"),
        ("file://localhost/data/a%2Bb%3D%28c%29.h5", "/data/a+b=(c).h5"),
        ("file://localhost/d%C3%A9j%C3%A0/a.h5", "/déjà/a.h5"),
        ("file://localhost/data/100%25.h5", "/data/100%.h5"),
        ("file://localhost/data/a b+c.h5", "/data/a b+c.h5"),
        # What is no encoded character, or none that Tiled could read.
        ("file://localhost/data/img_%05d.tif", "/data/img_%05d.tif"),
        ("file://localhost/data/img_%3d.tif", "/data/img_%3d.tif"),
        ("file://localhost/data/%s%s_%6.6d.tif", "/data/%s%s_%6.6d.tif"),
        ("file://localhost/data/a%3Fb%23c.h5", "/data/a%3Fb%23c.h5"),
        ("file://localhost/data/a%FF.h5", "/data/a%FF.h5"),
        ("file://localhost/data/a%0Ab%zz.h5", "/data/a%0Ab%zz.h5"),
    ],
)
def test_a_uri_is_registered_as_tiled_reads_it(uri: str, read: str) -> None:
    doc = {"uid": "r", "data_key": "a", "mimetype": "x/y", "uri": uri, "parameters": {}}
    assert LegacyResources().stream_resource(doc)["uri"] == f"file://localhost{read}"


def test_a_uri_of_another_scheme_stays() -> None:
    doc = {"uid": "r", "mimetype": "x/y", "uri": "s3://bucket/a%20b", "parameters": {}}
    assert LegacyResources().stream_resource(doc)["uri"] == "s3://bucket/a%20b"


def test_a_path_is_not_encoded() -> None:
    doc = {
        "uid": "r",
        "spec": "X",
        "root": "/data",
        "resource_path": "a%20b",
        "resource_kwargs": {},
    }
    assert LegacyResources().stream_resource(doc)["uri"] == "file://localhost/data/a%20b"


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
    assert pairs == [own_frames(pair, datum_kwargs) for pair in expected]


def own_frames(pair: Any, said_by: str | None) -> Any:
    """A document of theirs with the frames that the handlers of the specs read.

    There, a `frame` is the last of several for one event, and files count on after earlier ones;
    a dropped frame is one of the next event. Here, it is one frame, and its number is that in its
    own file. So is that of a datum which does not say it: the first of a file is frame 0.
    """
    name, doc = pair
    if name == "stream_datum" and said_by != "point_number":
        number = doc["uid"].partition("/")[2]
        row = int(number) if said_by else [0, 1, 4].index(int(number))
        doc["indices"] = {"start": row, "stop": row + 1}
        doc["seq_nums"] = {"start": row + 1, "stop": row + 2}
    return name, doc


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
