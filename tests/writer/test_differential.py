"""The same documents through this writer and that of bluesky-tiled-plugins: the same tree.

Where ours differs, `DIFFERENCES` says how, and why that is better.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import httpx
import pytest
from bluesky import RunEngine
from bluesky.callbacks.tiled_writer import TiledWriter as BlueskyWriter
from documents import Document, Pair, RunBuilder, data_key, emit, scalar_run
from ophyd.sim import SynAxis, SynGauss
from tiled.client.container import Container
from tree import snapshot

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.schema.notes import Deviation

pytest.importorskip("bluesky_tiled_plugins")
pytestmark = pytest.mark.plugins

from bluesky_tiled_plugins import TiledWriter as PeerWriter  # noqa: E402

Tree = dict[str, Any]


# -- runs -----------------------------------------------------------------------------------------


def plain_scan() -> Iterable[Pair]:
    return scalar_run(events=4, plan_name="scan", scan_id=3, num_points=4, motors=["x"]).docs


def all_scalars() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    keys = {
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "string": "string",
        "f8": data_key("number", dtype_numpy="<f8"),
        "i8": data_key("integer", dtype_numpy="<i8"),
    }
    run.descriptor("primary", keys)
    for i in range(3):
        run.event(
            "primary",
            {
                "number": i / 2,
                "integer": i,
                "boolean": i == 1,
                "string": "é" * i,
                "f8": i / 3,
                "i8": -i,
            },
        )
    run.stop()
    return run.docs


def several_streams() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    for stream in ("baseline", "primary", "two words", "a_b", "a"):
        run.descriptor(stream, {"c": "number", "b_c": "integer"})
    run.event("baseline", {"c": 0.5, "b_c": 1})
    for i in range(3):
        for stream in ("primary", "two words", "a_b", "a"):
            run.event(stream, {"c": i / 2, "b_c": i})
    run.event("baseline", {"c": 1.5, "b_c": 2})
    run.stop()
    return run.docs


def a_key_of_two_streams() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.descriptor("monitor", {"x": data_key("string", source="another")})
    run.event("primary", {"x": 0.5})
    run.event("monitor", {"x": "a"})
    run.stop()
    return run.docs


def configuration_updates() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    for i in range(3):
        run.descriptor(
            "primary",
            {"x": "number"},
            configuration={
                "camera": {
                    "data": {"exposure": i / 4, "mode": "fast", "roi": [0, i]},
                    "timestamps": {"exposure": 1.0 * i, "mode": 2.0, "roi": 3.0},
                    "data_keys": {
                        "exposure": data_key(),
                        "mode": data_key("string"),
                        "roi": data_key("array", [2]),
                    },
                }
            },
        )
        run.event("primary", {"x": i / 2})
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 9.5})
    run.stop()
    return run.docs


def arrays() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    keys = {
        "x": "number",
        "wave": data_key("array", [2], dtype_numpy="<f8"),
        "image": data_key("array", [2, 4], dtype_numpy="<u2"),
        "flags": data_key("array", [2], dtype_numpy="|b1"),
    }
    run.descriptor("primary", keys)
    for i in range(4):
        run.event(
            "primary",
            {
                "x": i / 2,
                "wave": [0.5, i],
                "image": [[i] * 4, [7] * 4],
                "flags": [True, i > 1],
            },
        )
    run.stop()
    return run.docs


def square_images() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"x": "number", "image": data_key("array", [2, 2], dtype_numpy="<i4")}
    )
    for i in range(2):
        run.event("primary", {"x": 0.5, "image": [[i, 1], [2, 3]]})
    run.stop()
    return run.docs


def arrays_of_undeclared_type() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    for i in range(2):
        run.event("primary", {"x": i / 2, "wave": [0.5, i / 2]})
    run.stop()
    return run.docs


def arrays_of_undeclared_type_with_integers() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    for i in range(2):
        run.event("primary", {"x": i / 2, "wave": [2**60 + 1, i]})
    run.stop()
    return run.docs


def arrays_of_strings() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "names": data_key("array", [2], dtype_numpy="<U4")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "names": ["ab", "é" * (i + 1)]})
    run.stop()
    return run.docs


def ragged_arrays() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"x": "number", "trace": data_key("array", [None], dtype_numpy="<f8")}
    )
    for i in range(3):
        run.event("primary", {"x": i / 2, "trace": [0.5] * (3 - i)})
    run.stop()
    return run.docs


def arrays_of_varying_length() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "trace": data_key("array", [3], dtype_numpy="<f8")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "trace": [0.5] * (i + 1)})
    run.stop()
    return run.docs


def reserved_names() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        {"time": "number", "seq_num": "integer", "x": "number"},
        hints={"device": {"fields": ["time", "x"]}},
    )
    for i in range(3):
        run.event("primary", {"time": i / 2, "seq_num": i, "x": i / 3})
    run.stop()
    return run.docs


def streams_without_events() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("empty", {"x": "number", "image": data_key("array", [2], dtype_numpy="<u2")})
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.stop()
    return run.docs


def no_streams() -> Iterable[Pair]:
    run = RunBuilder()
    run.start(plan_name="nothing")
    run.stop()
    return run.docs


def aborted() -> Iterable[Pair]:
    run = scalar_run(events=2)
    run.docs[-1][1].update(exit_status="abort", reason="by hand")
    return run.docs


def failed_before_any_stream() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.stop("fail", reason="no beam")
    return run.docs


def not_stopped() -> Iterable[Pair]:
    return scalar_run(events=2).docs[:-1]


def repeated_seq_num() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for seq_num in (1, 2, 3, 2, 3, 4):
        run.event("primary", {"x": seq_num / 2}, seq_num=seq_num)
    run.stop()
    return run.docs


def old_descriptors() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        {
            "x": data_key("number", dtype_str="<f8"),
            "n": {"source": "test", "dtype": "integer", "shape": None, "dtype_str": "<i8"},
            "image": data_key("array", [2, 3], dtype_str="<u2"),
            "label": {"source": "test", "dtype": "string", "shape": []},
        },
        object_keys={"motor": ["x"], "camera": ["n", "image", "label"]},
        hints={"motor": {"fields": ["x"]}, "camera": {}},
        configuration={
            "camera": {
                "data": {"size": [2, 3]},
                "timestamps": {"size": 0.5},
                "data_keys": {"size": {"source": "", "dtype": "array", "shape": None}},
            }
        },
    )
    for i in range(3):
        run.event("primary", {"x": i / 2, "n": i, "image": [[i] * 3] * 2, "label": "a"})
    run.stop()
    return run.docs


def event_pages() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"x": "number", "image": data_key("array", [2, 3], dtype_numpy="<u2")}
    )
    rows = [{"x": i / 2, "image": [[i] * 3] * 2} for i in range(6)]
    run.event_page("primary", rows[:2])
    run.event("primary", rows[2])
    run.event_page("primary", rows[3:])
    run.stop()
    return run.docs


def tags_and_specs() -> Iterable[Pair]:
    run = scalar_run(
        tiled_specs=["MyRun", {"name": "TheirRun", "version": "1.2"}], tiled_access_tags=None
    )
    return run.docs


def many_columns() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    keys = [f"key_{i:03}" for i in range(700)]
    run.descriptor("primary", dict.fromkeys(keys, data_key()))
    for i in range(2):
        run.event("primary", dict.fromkeys(keys, i / 2))
    run.stop()
    return run.docs


def integers_of_a_number() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "y": "number"})
    for i in range(3):
        run.event("primary", {"x": i, "y": i / 2})
    run.stop()
    return run.docs


def a_key_that_no_event_has() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "never": "integer"})
    for i in range(2):
        run.event("primary", {"x": i / 2})
    run.stop()
    return run.docs


def a_value_that_is_none() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "n": "integer"})
    run.event("primary", {"x": 0.5, "n": None})
    run.event("primary", {"x": None, "n": None})
    run.stop()
    return run.docs


def narrow_types() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        {
            "x": "number",
            "f4": data_key("number", dtype_numpy="<f4"),
            "u2": data_key("integer", dtype_numpy="<u2"),
        },
    )
    run.event("primary", {"x": 0.5, "f4": 1.5, "u2": 65535})
    run.stop()
    return run.docs


def metadata_beyond_json() -> Iterable[Pair]:
    run = scalar_run(
        big=2**53 + 1,
        bigger=2**64 - 1,
        nan=float("nan"),
        inf=[float("inf"), -float("inf")],
        blob=b"text",
    )
    return run.docs


def arrays_of_strings_of_undeclared_type() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    for i in range(2):
        run.event("primary", {"x": i / 2, "wave": ["ab", "é"]})
    run.stop()
    return run.docs


def arrays_of_longer_strings_than_declared() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "names": data_key("array", [2], dtype_numpy="<U2")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "names": ["ab", "c" * (i + 1)]})
    run.stop()
    return run.docs


def an_array_that_an_event_lacks() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2], dtype_numpy="<i4")})
    run.event("primary", {"x": 0.5, "wave": [1, 2]})
    run.event("primary", {"x": 1.5})
    run.event("primary", {"x": 2.5, "wave": [3, 4]})
    run.stop()
    return run.docs


# -- runs of a RunEngine --------------------------------------------------------------------------


@pytest.fixture
def tiled_client(client: Container) -> Container:
    """In place of the plugin's, so that `RE` needs no server of its own."""
    return client


class Camera(SynGauss):
    """A detector whose gain is part of its configuration."""

    def __init__(self) -> None:
        self.gain = 2.5
        self.motor = SynAxis(name="motor")
        super().__init__("camera", self.motor, "motor", center=0, Imax=1, sigma=1)

    def read_configuration(self) -> Document:
        gain = {"camera_gain": {"value": self.gain, "timestamp": 0.5}}
        return {**super().read_configuration(), **gain}

    def describe_configuration(self) -> Document:
        return {**super().describe_configuration(), "camera_gain": data_key()}

    def configure(self, d: Document) -> tuple[Document, Document]:
        before = self.read_configuration()
        self.gain = d["gain"]
        return before, self.read_configuration()


def scan() -> Any:
    camera = Camera()
    return bp.scan([camera], camera.motor, -1, 1, 5)


def count() -> Any:
    camera = Camera()
    return bpp.baseline_wrapper(bp.count([camera], num=3), [camera.motor])


def by_hand() -> Any:
    motor = SynAxis(name="motor", value=0.5)

    @bpp.run_decorator(md={"plan_name": "by hand"})
    def plan() -> Any:
        yield from bps.trigger_and_read([motor], name="first")
        yield from bps.mv(motor, 1.5)
        yield from bps.trigger_and_read([motor], name="second stream")
        yield from bps.trigger_and_read([motor], name="first")

    return plan()


def reconfigured() -> Any:
    camera = Camera()

    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.trigger_and_read([camera])
        yield from bps.configure(camera, {"gain": 7.5})
        yield from bps.trigger_and_read([camera])

    return plan()


def failing() -> Any:
    motor = SynAxis(name="motor")

    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.trigger_and_read([motor])
        raise RuntimeError("out of beam")

    return plan()


# -- differences ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How the tree of this writer differs from the other's, and why.

    `apply` changes the other's tree into this one, in place.
    """

    why: str
    apply: Callable[[Tree], None]


def streams(tree: Tree) -> Iterator[Tree]:
    yield from tree["children"].values()


def primary(tree: Tree) -> Tree:
    return tree["children"]["primary"]


def nodes(tree: Tree) -> Tree:
    """The data nodes of the primary stream."""
    return primary(tree)["children"]


def table(tree: Tree) -> Tree:
    """The columns of the primary stream's table: name to (type, values)."""
    return nodes(tree)["internal"]["columns"]


def our_spec(tree: Tree) -> None:
    for stream in streams(tree):
        stream["specs"].insert(0, ("TiledWriterEventStream", "1.0"))


def no_notes_on_arrays(tree: Tree) -> None:
    notes = tree["metadata"].pop("notes")
    where = ("written as zarr.", "written as ragged array.", "are padded with NaNs.")
    if others := [note for note in notes if not note.endswith(where)]:
        tree["metadata"]["notes"] = others


def own_data_key(tree: Tree) -> None:
    for stream in streams(tree):
        data_keys = stream["metadata"]["data_keys"]
        stream["children"]["internal"]["metadata"] = data_keys


def own_dims(tree: Tree) -> None:
    nodes(tree)["image"]["dims"] = ("time", "dim_int_1", "dim_int_2")


def no_invented_type(tree: Tree) -> None:
    del primary(tree)["metadata"]["data_keys"]["wave"]["dtype_numpy"]


def inexact_is_noted(tree: Tree) -> None:
    tree["metadata"]["notes"] = [
        f"Stream 'primary', key 'wave', seq_num {i + 1}: [{2**60 + 1}, {i}]"
        f" {Deviation.NEAREST.value}."
        for i in range(2)
    ]


def declared_float(tree: Tree) -> None:
    table(tree)["x"] = ("double", [0.0, 1.0, 2.0])


def column_of_every_key(tree: Tree) -> None:
    data_keys = primary(tree)["metadata"]["data_keys"]
    nodes(tree)["internal"]["metadata"]["never"] = data_keys["never"]
    table(tree)["never"] = ("int64", [None, None])
    table(tree)["ts_never"] = ("double", [None, None])


def declared_integer(tree: Tree) -> None:
    table(tree)["n"] = ("int64", [None, None])


def declared_width(tree: Tree) -> None:
    table(tree)["f4"] = ("float", [1.5])
    table(tree)["u2"] = ("uint16", [65535])


def exact_metadata(tree: Tree) -> None:
    tree["metadata"]["start"].update(
        big=2**53 + 1, bigger=2**64 - 1, nan="NaN", inf=["Infinity", "-Infinity"], blob="text"
    )
    tree["metadata"]["notes"] = [
        "start.nan: JSON has no NaN; it is stored as the text 'NaN'.",
        "start.inf[0]: JSON has no Infinity; it is stored as the text 'Infinity'.",
        "start.inf[1]: JSON has no -Infinity; it is stored as the text '-Infinity'.",
        "start.blob: bytes are stored as UTF-8 text.",
    ]


def hints_follow(tree: Tree) -> None:
    primary(tree)["metadata"]["hints"] = {"device": {"fields": ["time_", "x"]}}


def ragged(tree: Tree) -> None:
    node = nodes(tree)["trace"]
    node["metadata"]["dtype_numpy"] = "<f8"
    node.update(
        family="ragged",
        shape=(3, None),
        dims=("time", "dim_rgd_1"),
        values=[[0.5], [0.5, 0.5], [0.5, 0.5, 0.5]],
    )


def wide_strings(tree: Tree) -> None:
    node = nodes(tree)["names"]
    node["metadata"]["dtype_numpy"] = node["dtype"] = "<U16"
    node["values"][2] = ["ab", "ccc"]


def spare_width(tree: Tree) -> None:
    node = nodes(tree)["wave"]
    node["metadata"]["dtype_numpy"] = node["dtype"] = "<U16"


def a_row_an_event(tree: Tree) -> None:
    node = nodes(tree)["wave"]
    node["shape"] = (3, 2)
    node["values"].insert(1, [0, 0])
    tree["metadata"]["notes"] = [
        f"Stream 'primary', key 'wave', seq_num 2: {Deviation.MISSING.value}."
    ]


OUR_SPEC = Difference(
    "Our spec comes first, so that our client resolves `internal/events`.", our_spec
)
NOTES = Difference(
    "An array in a node of its own is how arrays are stored, and nothing to take note of.",
    no_notes_on_arrays,
)
DATA_KEYS = Difference(
    "What a node says of a key is from its own stream, not from the last one that has the key.",
    own_data_key,
)
SQUARE = Difference(
    "xarray takes the name of a dimension once an array: equal sizes need two names.", own_dims
)
UNDECLARED = Difference(
    "The descriptor stays as it was: nobody said that the elements are floats.", no_invented_type
)
INEXACT = Difference("Integers that are stored as floats are noted.", inexact_is_noted)
NUMBER = Difference(
    "A `number` is a float, also if all values happen to be whole: no batch decides on a type.",
    declared_float,
)
NEVER = Difference(
    "Every declared key has a column, and keeps it in the next run.", column_of_every_key
)
NULLS = Difference(
    "The type of a column is declared; no values are no reason for text.", declared_integer
)
NARROW = Difference("A column has the `dtype_numpy` that is declared.", declared_width)
METADATA = Difference(
    "Integers are exact; what JSON has no form for is stored readably, and noted.", exact_metadata
)
HINTS = Difference("Hints follow a renamed key: they name what is there.", hints_follow)
RAGGED = Difference("Rows keep their lengths; nothing is padded.", ragged)
STRINGS = Difference("Strings are not cut to the declared width.", wide_strings)
SPARE = Difference(
    "The width that the first batch happens to need is not that of the later ones.", spare_width
)
ROWS = Difference("Every node has one row an event, so that they can be joined.", a_row_an_event)

RUNS: dict[Callable[[], Iterable[Pair]], list[Difference]] = {
    plain_scan: [OUR_SPEC],
    all_scalars: [OUR_SPEC],
    several_streams: [OUR_SPEC],
    a_key_of_two_streams: [OUR_SPEC, DATA_KEYS],
    configuration_updates: [OUR_SPEC],
    arrays: [OUR_SPEC, NOTES],
    square_images: [OUR_SPEC, NOTES, SQUARE],
    arrays_of_undeclared_type: [OUR_SPEC, NOTES, UNDECLARED],
    arrays_of_undeclared_type_with_integers: [OUR_SPEC, NOTES, UNDECLARED, INEXACT],
    arrays_of_strings: [OUR_SPEC, NOTES],
    arrays_of_strings_of_undeclared_type: [OUR_SPEC, NOTES, UNDECLARED, SPARE],
    arrays_of_longer_strings_than_declared: [OUR_SPEC, NOTES, STRINGS],
    arrays_of_varying_length: [OUR_SPEC, NOTES, RAGGED],
    an_array_that_an_event_lacks: [OUR_SPEC, NOTES, ROWS],
    ragged_arrays: [OUR_SPEC, NOTES],
    reserved_names: [OUR_SPEC, HINTS],
    streams_without_events: [OUR_SPEC],
    no_streams: [],
    aborted: [OUR_SPEC],
    failed_before_any_stream: [],
    repeated_seq_num: [OUR_SPEC],
    old_descriptors: [OUR_SPEC, NOTES],
    event_pages: [OUR_SPEC, NOTES],
    tags_and_specs: [OUR_SPEC],
    many_columns: [OUR_SPEC],
    integers_of_a_number: [OUR_SPEC, NUMBER],
    a_key_that_no_event_has: [OUR_SPEC, NEVER],
    a_value_that_is_none: [OUR_SPEC, NULLS],
    narrow_types: [OUR_SPEC, NARROW],
    metadata_beyond_json: [OUR_SPEC, METADATA],
}


# -- comparison -----------------------------------------------------------------------------------


class Both:
    """The two writers, below two containers of one server, so that uids may be the same."""

    def __init__(self, client: Container) -> None:
        self.ours = client.create_container()
        self.theirs = client.create_container()

    def write(self, docs: Iterable[Pair], batch_size: int = 10_000) -> None:
        docs = list(docs)
        with TiledWriter(self.ours, max_array_size=0, batch_size=batch_size) as writer:
            emit(docs, writer)
        emit(docs, PeerWriter(self.theirs, max_array_size=0, batch_size=batch_size))

    def assert_same(self, uid: str, differences: Iterable[Difference]) -> None:
        theirs = snapshot(self.theirs[uid])
        for difference in differences:
            before = copy.deepcopy(theirs)
            difference.apply(theirs)
            assert theirs != before, f"there is no such difference: {difference.why}"
        assert snapshot(self.ours[uid]) == theirs


@pytest.fixture
def both(client: Container) -> Both:
    return Both(client)


@pytest.mark.parametrize(
    ("make", "differences"), RUNS.items(), ids=[make.__name__ for make in RUNS]
)
def test_the_tree_is_the_same_but_for_what_is_known(
    both: Both, make: Callable[[], Iterable[Pair]], differences: list[Difference]
) -> None:
    docs = list(make())
    both.write(docs)
    both.assert_same(docs[0][1]["uid"], differences)


def test_a_run_that_is_not_stopped_is_the_same(both: Both) -> None:
    """Without write-through the other one has no row of it, and ours all, for it flushes."""
    docs = list(not_stopped())
    both.write(docs, batch_size=1)
    both.assert_same(docs[0][1]["uid"], [OUR_SPEC])


def test_interleaved_runs_are_the_same(both: Both) -> None:
    makes = [plain_scan, no_streams, configuration_updates]
    runs = [list(make()) for make in makes]
    both.write(pair for pairs in zip_longest(*runs) for pair in pairs if pair)
    for make, docs in zip(makes, runs, strict=True):
        both.assert_same(docs[0][1]["uid"], RUNS[make])


@pytest.mark.parametrize("plan", [scan, count, by_hand, reconfigured])
def test_runs_of_a_run_engine_are_the_same(
    both: Both, RE: RunEngine, plan: Callable[[], Any]
) -> None:
    docs: list[Pair] = []
    (uid,) = RE(plan(), lambda name, doc: docs.append((name, doc)))
    both.write(docs)
    both.assert_same(uid, [OUR_SPEC])


def test_a_failed_run_of_a_run_engine_is_the_same(both: Both, RE: RunEngine) -> None:
    docs: list[Pair] = []
    with pytest.raises(RuntimeError, match="out of beam"):
        RE(failing(), lambda name, doc: docs.append((name, doc)))
    both.write(docs)
    both.assert_same(docs[0][1]["uid"], [OUR_SPEC])


@pytest.mark.parametrize("writer_class", [TiledWriter, PeerWriter])
def test_every_node_gets_the_access_tags(client: Container, writer_class: type) -> None:
    """Seen on the wire: a server without access policy does not tell of them."""
    run = scalar_run(tiled_access_tags=["my-proposal"])
    sent: list[Document] = []

    def record(request: httpx.Request) -> None:
        if request.method == "POST" and "/metadata/" in request.url.path:
            sent.append(json.loads(request.content))

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(record)
    try:
        emit(run.docs, writer_class(client))
    finally:
        hooks.remove(record)

    assert [body["id"] for body in sent] == [run.uid, "primary", "internal"]
    assert [body["access_tags"] for body in sent] == [["my-proposal"]] * 3
    assert "tiled_access_tags" not in client[run.uid].metadata["start"]


def structured_arrays() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    descr = [["q", "<f8"], ["n", "<i4"]]
    run.descriptor("primary", {"x": "number", "hits": data_key("array", [2], dtype_descr=descr)})
    for i in range(2):
        run.event("primary", {"x": 0.5, "hits": [(0.5, i), (1.5, i)]})
    run.stop()
    return run.docs


def a_renamed_key_whose_new_name_is_taken() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"time": "number", "time_": "number"})
    run.event("primary", {"time": 0.5, "time_": 1.5})
    run.stop()
    return run.docs


@pytest.mark.parametrize(
    "make",
    [structured_arrays, a_renamed_key_whose_new_name_is_taken],
)
def test_what_the_other_refuses_is_stored(both: Both, make: Callable[[], Iterable[Pair]]) -> None:
    docs = list(make())
    with pytest.raises((TypeError, ValueError)):
        emit(docs, PeerWriter(both.theirs))
    emit(docs, TiledWriter(both.ours))
    assert both.ours[docs[0][1]["uid"]].metadata["stop"]["exit_status"] == "success"


@pytest.mark.parametrize("make", [plain_scan, all_scalars, configuration_updates, no_streams])
def test_the_tree_is_that_of_the_writer_in_bluesky_itself(
    both: Both, make: Callable[[], Iterable[Pair]]
) -> None:
    """It puts small arrays into list columns, which ours does when it is told to."""
    docs = list(make())
    emit(docs, TiledWriter(both.ours, max_array_size=16))
    emit(docs, BlueskyWriter(both.theirs))
    both.assert_same(docs[0][1]["uid"], [OUR_SPEC] if make is not no_streams else [])
