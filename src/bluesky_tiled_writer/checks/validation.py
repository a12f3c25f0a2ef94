"""Validation of a stored run: what Tiled has registered, beside what files and server hold."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from tiled.client.base import BaseClient
from tiled.structures.data_source import Management

from bluesky_tiled_writer.consolidators import counts, shape_of_datum

from .stored_files import file_problems

logger = logging.getLogger("bluesky_tiled_writer")

_ARROW = "application/vnd.apache.arrow.file"
_TABLE = "internal"
_SEQ_NUM = "seq_num"


@dataclass(frozen=True)
class Problem:
    """Something in a stored run that is not as it should be.

    Attributes
    ----------
    stream : str
        Name of the stream; empty where the run as a whole is meant.
    key : str
        The data key, or rather its node; empty where the stream as a whole is meant.
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
    """Say what is wrong with a run that is stored; only the plugins' own check raises.

    Parameters
    ----------
    uid, run : str, tiled.client.container.Container
        The run.
    ignore_errors : list of str
        Patterns (regular expressions) of problems that are none.
    """
    try:
        problems = validate_run(run)
    except Exception as error:  # a scan does not end for a check that fails
        logger.warning("Run %s could not be validated: %s", uid, error)
        problems = []
    for problem in problems:
        if not any(re.search(pattern, str(problem)) for pattern in ignore_errors):
            logger.warning("Run %s: %s", uid, problem)
    if (validate := getattr(run, "validate", None)) is not None:
        validate(ignore_errors=ignore_errors, raise_on_error=True)


def validate_run(run: BaseClient) -> list[Problem]:
    """Look for problems in a stored run, without changing anything in it.

    For each external key: files that are missing, and shape, chunks, data type or names of
    dimensions that were declared otherwise than the files have them. For each stream: nodes with
    more or fewer rows than there were events.

    Parameters
    ----------
    run : tiled.client.container.Container
        The run, ``client[uid]``, after its stop document.

    Returns
    -------
    list of Problem
        Empty if all is well. An error of the server in reading a key is a problem, too.

    Raises
    ------
    httpx.HTTPError
        If the run itself cannot be read.

    Notes
    -----
    It takes little time however large the data are: one column of each table is read, and the
    files of a detector are opened (but for the first and the last frame of a sequence, only their
    headers are read) where this computer sees the directories that they are in; and the server is
    asked for the last element. Where it does not, or the files are of a type that Tiled does not
    know, the server is asked for the first element as well. So these are not found:

    - a damaged frame in the middle, or a file in the middle of a sequence (or of more than
      `stored_files.MAX_OPENED` HDF5 files) that differs from the first and the last;
    - if the files are on disks of the server only: a file that is missing in the middle, more
      rows than were registered, another order of dimensions that has the same size, and, except
      for HDF5 files, another data type;
    - chunks in CSV files, and what is in files that are registered as bytes;
    - values that are wrong.
    """
    run = run.new_variation(include_data_sources=True)
    stop = run.metadata.get("stop")
    problems = [] if stop else [Problem("", "", "it has no stop document.")]
    num_events: Mapping[str, int] = (stop or {}).get("num_events") or {}
    for name, stream in run.items():
        nodes = dict(getattr(stream, "base", stream).items())
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
    # After an error of its own, a server may close the connection: do not provoke it in vain.
    found = compared or _reading_problems(node, structure, both_ends=compared is None)
    return found + _dims_problems(structure, data_key)


def _reading_problems(node: Any, structure: Any, *, both_ends: bool) -> list[str]:
    """Read one element of the last chunk, and perhaps one of the first."""
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
        except Exception as error:  # an in-process server lets its own exceptions through
            return [f"its {place} row cannot be read: {error}"]
        size = structure.data_type.to_numpy_dtype().itemsize
        if len(answer) != size:
            return [
                f"an element of its {place} row has {len(answer)} bytes, but its data type"
                f" {structure.data_type.to_numpy_dtype().str} has {size}."
            ]
    return []


def _dims_problems(structure: Any, data_key: Mapping[str, Any]) -> list[str]:
    dims, ndim = structure.dims, len(structure.shape)
    declared = data_key.get("dims")
    if declared and not dims:
        return [
            f"the dims of the data key, {tuple(declared)}, do not fit the shape"
            f" {structure.shape}; none are registered."
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
    """Compare the rows of all nodes: one an event.

    There are more rows than `num_events` where a scan was rewound, since all of them are kept: so
    that is compared with the distinct sequence numbers.
    """
    rows: dict[str, int] = {}
    events = None
    for key, node in nodes.items():
        try:
            if node.structure_family == "table":
                columns = node.structure().columns
                column = _SEQ_NUM if _SEQ_NUM in columns else columns[0]
                values = _column(node, column)
                rows[key] = len(values)
                if column == _SEQ_NUM:
                    events = len(set(values))
            elif (number := _rows(node, data_keys.get(key) or {})) is not None:
                rows[key] = number
        except Exception as error:  # an in-process server lets its own exceptions through
            yield Problem(stream, key, f"its rows cannot be counted: {error}")
    if num_events is not None and events is not None and events != num_events:
        yield Problem(
            stream, "", f"the stop document counts {num_events} events, but {events} are stored."
        )
    tables = [number for key, number in rows.items() if key.startswith(_TABLE)]
    expected = tables[0] if tables else num_events or max(rows.values(), default=0)
    for key, number in rows.items():
        if number != expected:
            yield Problem(stream, key, f"it has {number} rows, but the stream has {expected}.")


def _rows(node: Any, data_key: Mapping[str, Any]) -> int | None:
    """Count the rows of an array; None where what is known of the key does not tell."""
    shape = getattr(node.structure(), "shape", None)
    if not shape:
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
    answer = _get(node, "full", _ARROW, column=name)
    values: list[Any] = pa.ipc.open_file(pa.BufferReader(answer)).read_all()[name].to_pylist()
    return values


# -- requests -------------------------------------------------------------------------------------


def _get(node: Any, link: str, media_type: str, **params: str) -> bytes:
    """Ask once, without the patience of Tiled's client, which takes minutes over an error."""
    response = node.context.http_client.get(
        node.item["links"][link].partition("?")[0],
        params=params,
        # Others use this client: a server may cut the connection after an error of its own.
        headers={"Accept": media_type, "Connection": "close"},
    )
    content: bytes = response.read()
    if response.is_success:
        return content
    try:
        detail = json.loads(content)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    raise ValueError(f"the server answered {response.status_code}, {str(detail).rstrip('.')}.")
