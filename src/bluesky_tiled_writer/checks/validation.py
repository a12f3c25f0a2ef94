"""Validation of a stored run: its nodes compared with the files, the server and each other."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiled.client.base import BaseClient
from tiled.client.utils import handle_error
from tiled.structures.data_source import Management
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from bluesky_tiled_writer.consolidators import (
    EVENT_ROWS,
    CSVConsolidator,
    counts,
    ranges_in_words,
    shape_of_datum,
)
from bluesky_tiled_writer.errors import StorageError, mapped_errors
from bluesky_tiled_writer.schema import read_arrow_file

from .stored_files import file_problems

logger = logging.getLogger("bluesky_tiled_writer")

_TABLE = "internal"
_SEQ_NUM = "seq_num"


@dataclass(frozen=True)
class Problem:
    """Something in a stored run that is not as it should be.

    Attributes
    ----------
    stream : str
        Name of the stream; empty if the problem is one of the whole run.
    key : str
        The data key, or rather its node; empty if the problem is one of the whole stream.
    text : str
        What is wrong, in words.
    """

    stream: str
    key: str
    text: str

    def __str__(self) -> str:
        parts = [("Stream", self.stream), ("key", self.key)]
        subject = ", ".join(f"{kind} {name!r}" for kind, name in parts if name) or "Run"
        return f"{subject}: {self.text}"


def log_problems(uid: str, run: BaseClient, ignore_errors: list[str]) -> None:
    """Log the problems of a stored run, and call the `validate` of its client, if it has one.

    Parameters
    ----------
    uid, run : str, tiled.client.container.Container
        The run.
    ignore_errors : list of str
        Regular expressions; problems that match one are not logged.

    Raises
    ------
    Exception
        What `validate` raises, which bluesky-tiled-plugins has; nothing else is raised.
    """
    try:
        problems = validate_run(run)
    except Exception as error:  # a check that fails must not end a scan
        logger.warning("Run %s could not be validated: %s", uid, error)
        problems = []
    for problem in problems:
        if not any(re.search(pattern, str(problem)) for pattern in ignore_errors):
            logger.warning("Run %s: %s", uid, problem)
    if (validate := getattr(run, "validate", None)) is not None:
        validate(ignore_errors=ignore_errors, raise_on_error=True)


def validate_run(run: BaseClient) -> list[Problem]:
    """Find the problems of a stored run, without changing anything in it.

    For each external key: files that are missing; shape, chunks, data type or names of dimensions
    that are registered otherwise than the files have them; frames that are not those of the events,
    or that no event has. For each stream: nodes with more or
    fewer rows than there were events.

    Parameters
    ----------
    run : tiled.client.container.Container
        The run, ``client[uid]``, after its stop document.

    Returns
    -------
    list of Problem
        Empty if all is well. If the server fails to read a key, that is a problem of the key.

    Raises
    ------
    StorageError
        If the run itself cannot be read.

    Notes
    -----
    The time does not grow with the size of the data, except that of text files. Of each table, and
    of text files, one column is read. If this
    computer sees the directory of a detector's files, they are opened, which reads their headers
    (of a sequence, the first and the last file), and the server is asked for the last element of
    the array. Otherwise, or if Tiled has no adapter for their type, the server is asked for the
    first element as well. So these are not found:

    - a damaged frame in the middle, or a file in the middle of a sequence (or of more than
      `stored_files.MAX_OPENED` HDF5 files) that differs from the first and the last;
    - if only the server has the disks: a missing file in the middle, more rows than are
      registered, dimensions of the same size in another order, and, except in HDF5 files, another
      data type;
    - chunks in CSV files, and the content of files that are registered as bytes;
    - wrong values.
    """
    with mapped_errors("the request for the nodes of a run"):
        run = run.new_variation(include_data_sources=True)
        streams: dict[str, Any] = dict(run.items())
        nodes_of = {
            name: dict(getattr(stream, "base", stream).items()) for name, stream in streams.items()
        }
    stop = run.metadata.get("stop")
    problems = [] if stop else [Problem("", "", "it has no stop document.")]
    num_events: Mapping[str, int] = (stop or {}).get("num_events") or {}
    for name, stream in streams.items():
        nodes = nodes_of[name]
        data_keys = stream.metadata.get("data_keys") or {}
        for key, node in nodes.items():
            found = _key_problems(node, data_keys.get(key) or {})
            problems += [Problem(name, key, text) for text in found]
        problems += _row_problems(name, nodes, data_keys, num_events.get(name))
    return problems


# -- one key --------------------------------------------------------------------------------------


def _key_problems(node: Any, data_key: Mapping[str, Any]) -> list[str]:
    if not (sources := node.data_sources()) or sources[0].management != Management.external:
        return []
    is_array = node.structure_family == "array"
    structure = node.structure() if is_array else None
    compared = file_problems(sources[0], structure)
    if structure is None:
        return compared or []
    # After an error of its own the server may close the connection: if the files tell, do not ask.
    found = compared or _reading_problems(node, structure, both_ends=compared is None)
    if not found and sources[0].mimetype in CSVConsolidator.supported_mimetypes:
        found = _column_problems(node, structure)
    return found + _frame_problems(node.metadata) + _dims_problems(structure, data_key)


def _frame_problems(metadata: Mapping[str, Any]) -> list[str]:
    """Return what the writer noted of frames that Tiled cannot serve as the events have them."""
    if (ranges := metadata.get(EVENT_ROWS)) is None:
        return []
    return [
        "its rows are not the frames of the events: these are its rows"
        f" {ranges_in_words(ranges)}, in this order (see {EVENT_ROWS!r} in its metadata)."
    ]


def _reading_problems(node: Any, structure: Any, *, both_ends: bool) -> list[str]:
    """Read one element of the last chunk and, for `both_ends`, one of the first."""
    if 0 in structure.shape or not structure.shape:
        return []
    first = [(0, 0) for _ in structure.chunks]
    last = [(len(sizes) - 1, sizes[-1] - 1) for sizes in structure.chunks]
    for place, chunk in (("first", first), ("last", last))[0 if both_ends else 1 :]:
        try:
            answer = _get(
                node,
                "block",
                "application/octet-stream",
                block=",".join(str(number) for number, _ in chunk),
                slice=",".join(f"{index}:{index + 1}" for _, index in chunk),
                expected_shape=",".join("1" for _ in chunk),
            )
        except StorageError as error:
            return [f"its {place} row cannot be read: {error}"]
        size = structure.data_type.to_numpy_dtype().itemsize
        if len(answer) != size:
            return [
                f"an element of its {place} row has {len(answer)} bytes, but its data type"
                f" {structure.data_type.to_numpy_dtype().str} has {size}."
            ]
    return []


def _column_problems(node: Any, structure: Any) -> list[str]:
    """Read a column of text files, which Tiled can only read as a whole."""
    if 0 in structure.shape:
        return []
    shape = (structure.shape[0], *(1 for _ in structure.shape[1:]))
    try:
        _get(
            node,
            "full",
            "application/octet-stream",
            slice=",".join([":", *("0:1" for _ in shape[1:])]),
            expected_shape=",".join(map(str, shape)),
        )
    except StorageError as error:
        return [f"it cannot be read, perhaps since its files have more or fewer rows: {error}"]
    return []


def _dims_problems(structure: Any, data_key: Mapping[str, Any]) -> list[str]:
    dims, ndim = structure.dims, len(structure.shape)
    declared = data_key.get("dims")
    names = tuple(dims or ())
    if declared and tuple(declared) not in (names, names[1:]):
        return [
            f"the dims of the data key, {tuple(declared)}, do not fit the shape"
            f" {structure.shape}, or those of other keys; they are {dims or 'not registered'}."
        ]
    if dims and len(dims) != ndim:
        return [f"its dims {tuple(dims)} do not fit the shape {structure.shape}."]
    if dims and len(set(dims)) < ndim:
        return [f"of its dims {tuple(dims)}, two have the same name."]
    return []


# -- rows of a stream -----------------------------------------------------------------------------


def _row_problems(
    stream: str, nodes: Mapping[str, Any], data_keys: Mapping[str, Any], num_events: int | None
) -> Iterator[Problem]:
    """Compare the numbers of rows of all nodes, which have one an event.

    If a scan was rewound there are more rows than `num_events`, since all of them are kept: so
    `num_events` is compared with the distinct sequence numbers.
    """
    rows: dict[str, int] = {}
    in_tables: list[int] = []
    events = None
    for key, node in nodes.items():
        try:
            if node.structure_family == "table":
                columns = node.structure().columns
                column = _SEQ_NUM if _SEQ_NUM in columns else columns[0]
                values = _column(node, column)
                rows[key] = len(values)
                if key.startswith(_TABLE):
                    in_tables.append(len(values))
                if column == _SEQ_NUM:
                    events = len(set(values))
            elif (number := _rows(node, data_keys.get(key) or {})) is not None:
                rows[key] = number
        except Exception as error:  # one node that cannot be read must not hide the others
            yield Problem(stream, key, f"its rows cannot be counted: {error}")
    if num_events is not None and events is not None and events != num_events:
        yield Problem(
            stream, "", f"the stop document counts {num_events} events, but {events} are stored."
        )
    expected = in_tables[0] if in_tables else num_events or max(rows.values(), default=0)
    for key, number in rows.items():
        if number != expected:
            yield Problem(stream, key, f"it has {number} rows, but the stream has {expected}.")


def _rows(node: Any, data_key: Mapping[str, Any]) -> int | None:
    """Return the number of rows of an array; None if its data key does not tell what a row is."""
    shape = getattr(node.structure(), "shape", None)
    if not shape or EVENT_ROWS in node.metadata:  # which is a problem of its own
        return None
    if node.data_sources()[0].management != Management.external:
        return int(shape[0])
    try:
        declared = counts(data_key.get("shape"))
    except TypeError:
        return None
    multiplier = node.metadata.get("frame_per_point")
    if tuple(shape[1:]) == shape_of_datum(declared, multiplier, stacked=True):
        return int(shape[0])
    appended = shape_of_datum(declared, multiplier, stacked=False)
    if appended and tuple(shape[1:]) == appended[1:] and appended[0]:
        return int(shape[0]) // appended[0] if shape[0] % appended[0] == 0 else None
    return None


def _column(node: Any, name: str) -> list[Any]:
    answer = _get(node, "full", APACHE_ARROW_FILE_MIME_TYPE, column=name)
    values: list[Any] = read_arrow_file(answer)[name].to_pylist()
    return values


# -- requests -------------------------------------------------------------------------------------


def _get(node: Any, link: str, media_type: str, **params: str) -> bytes:
    """Send one request; Tiled's client would repeat it for minutes if the server fails.

    Raises
    ------
    StorageError
        If there is an error, or no answer.
    """
    with mapped_errors(f"the request for {node.item['id']!r}"):
        response = node.context.http_client.get(
            node.item["links"][link].partition("?")[0],
            params=params,
            # After an error of its own the server may cut the connection, which others use too.
            headers={"Accept": media_type, "Connection": "close"},
        )
        handle_error(response)
        content: bytes = response.read()
    return content
