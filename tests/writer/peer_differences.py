"""The known differences between the trees of this writer and those of others, with reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import peer_runs as runs
from documents import Pair

from bluesky_tiled_writer.schema.notes import Deviation

Tree = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A difference of this writer's tree from the other's, and its reason.

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
    "Arrays always have nodes of their own, which is not worth a note.",
    no_notes_on_arrays,
)


DATA_KEYS = Difference(
    "A node describes its key as its own stream declares it, not as the last stream did.",
    own_data_key,
)


SQUARE = Difference(
    "xarray wants each dimension of an array to have its own name, equal sizes or not.", own_dims
)


UNDECLARED = Difference(
    "The descriptor stays as it was: it did not say that the elements are floats.", no_invented_type
)


INEXACT = Difference("Integers that are stored as floats are noted.", inexact_is_noted)


NUMBER = Difference(
    "A `number` is a float even if all values happen to be whole: no batch decides on a type.",
    declared_float,
)


NEVER = Difference(
    "Every declared key has a column, and keeps it in the next run.", column_of_every_key
)


NULLS = Difference(
    "The type of a column is declared, and is not text for lack of values.", declared_integer
)


NARROW = Difference("A column has the `dtype_numpy` that is declared.", declared_width)


METADATA = Difference(
    "Integers are exact; what JSON cannot hold is stored in a readable form and noted.",
    exact_metadata,
)


HINTS = Difference(
    "Hints follow a renamed key, so that they name a column that exists.", hints_follow
)


RAGGED = Difference("Rows keep their lengths; nothing is padded.", ragged)


STRINGS = Difference("Strings are not cut to the declared width.", wide_strings)


SPARE = Difference("Later batches may need wider strings than the first.", spare_width)


ROWS = Difference("Every node has one row an event, so that they can be joined.", a_row_an_event)


RUNS: dict[Callable[[], Iterable[Pair]], list[Difference]] = {
    runs.plain_scan: [OUR_SPEC],
    runs.all_scalars: [OUR_SPEC],
    runs.several_streams: [OUR_SPEC],
    runs.a_key_of_two_streams: [OUR_SPEC, DATA_KEYS],
    runs.configuration_updates: [OUR_SPEC],
    runs.arrays: [OUR_SPEC, NOTES],
    runs.square_images: [OUR_SPEC, NOTES, SQUARE],
    runs.arrays_of_undeclared_type: [OUR_SPEC, NOTES, UNDECLARED],
    runs.arrays_of_undeclared_type_with_integers: [OUR_SPEC, NOTES, UNDECLARED, INEXACT],
    runs.arrays_of_strings: [OUR_SPEC, NOTES],
    runs.arrays_of_strings_of_undeclared_type: [OUR_SPEC, NOTES, UNDECLARED, SPARE],
    runs.arrays_of_longer_strings_than_declared: [OUR_SPEC, NOTES, STRINGS],
    runs.arrays_of_varying_length: [OUR_SPEC, NOTES, RAGGED],
    runs.an_array_that_an_event_lacks: [OUR_SPEC, NOTES, ROWS],
    runs.ragged_arrays: [OUR_SPEC, NOTES],
    runs.reserved_names: [OUR_SPEC, HINTS],
    runs.streams_without_events: [OUR_SPEC],
    runs.no_streams: [],
    runs.aborted: [OUR_SPEC],
    runs.failed_before_any_stream: [],
    runs.repeated_seq_num: [OUR_SPEC],
    runs.old_descriptors: [OUR_SPEC, NOTES],
    runs.event_pages: [OUR_SPEC, NOTES],
    runs.tags_and_specs: [OUR_SPEC],
    runs.many_columns: [OUR_SPEC],
    runs.integers_of_a_number: [OUR_SPEC, NUMBER],
    runs.a_key_that_no_event_has: [OUR_SPEC, NEVER],
    runs.a_value_that_is_none: [OUR_SPEC, NULLS],
    runs.narrow_types: [OUR_SPEC, NARROW],
    runs.metadata_beyond_json: [OUR_SPEC, METADATA],
}
