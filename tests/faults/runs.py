"""A run with every kind of node, and a check that Tiled holds each of its documents once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from documents import Document, Pair, RunBuilder, data_key
from tiled.client.composite import CompositeClient
from tiled.client.container import Container
from tree import array_of, plain, ragged_of, table_of

FRAMES = np.arange(200 * 2 * 3, dtype="<u2").reshape(200, 2, 3)
"""The frames in the detector's file, one for each row."""

Stored = dict[str, Any]


def write_frames(path: Path) -> str:
    """Write the file of the detector, and return its URI."""
    with h5py.File(path, "w") as file:
        file["data"] = FRAMES
    return f"file://localhost{path}"


class FaultRun(RunBuilder):
    """A run of three streams, in parts between which a test may wait.

    *primary* has scalars, an array and a ragged array, events, a page, an update of the
    configuration, and seq_nums that repeat; *baseline* has a row at either end, and *camera* a
    scalar and frames in a file.

    Parameters
    ----------
    frames : str
        URI of the detector's file.
    rows : int
        Rows of the stream primary in each of the two parts that have any; at least 3.
    """

    def __init__(self, frames: str, rows: int = 4) -> None:
        super().__init__()
        self._row = 0
        self._frame = 0
        cuts = [0]
        self.start(plan_name="scan")
        self.descriptor("baseline", {"temperature": "number"})
        self.event("baseline", {"temperature": 290.5})
        self._declare_primary()
        self.descriptor("camera", {"gain": "integer", "frame": _frame_key()})
        resource = self.stream_resource("frame", frames, dataset="/data", chunk_shape=[1, 2, 3])
        for _ in range(rows):
            self.event("primary", self._next_row())
            self._take_frame(resource)
        cuts.append(len(self.docs))
        self._declare_primary(configuration={"det": {"data": {"gain": 2}, "timestamps": {}}})
        self.event_page("primary", [self._next_row() for _ in range(rows - 2)])
        for seq_num in (2, None):  # rewound, as a RunEngine does after a pause
            self.event("primary", self._next_row(), seq_num=seq_num)
        self._take_frame(resource)
        cuts.append(len(self.docs))
        self.event("baseline", {"temperature": 291.5})
        self.stop()
        ends = [*cuts[1:], len(self.docs)]
        self.parts = [self.docs[i:j] for i, j in zip(cuts, ends, strict=True)]

    def _declare_primary(self, **more: Any) -> None:
        keys = {
            "x": "number",
            "n": "integer",
            "label": "string",
            "image": data_key("array", [2, 2], dtype_numpy="<i4"),
            "spectrum": data_key("array", [None], dtype_numpy="<f8"),
        }
        self.descriptor("primary", keys, **more)

    def _next_row(self) -> Document:
        i = self._row
        self._row += 1
        return {
            "x": i / 2,
            "n": i,
            "label": f"row {i}",
            "image": [[i, 1], [2, -i]],
            "spectrum": [i + j / 4 for j in range(1 + i % 3)],
        }

    def _take_frame(self, resource: Pair) -> None:
        self.event("camera", {"gain": self._frame})
        self.stream_datum("camera", resource, self._frame, self._frame + 1)
        self._frame += 1


def _frame_key() -> Document:
    return data_key("array", [2, 3], dtype_numpy="<u2", external="STREAM:")


def assert_exactly_once(client: Container, uid: str, docs: Iterable[Pair]) -> None:
    """Assert that Tiled holds every document once, with its values in their places, and no more."""
    found = list(differences(stored(client, uid), expected(docs)))
    assert not found, "\n".join([f"of the run {uid}, Tiled holds", *found])


def differences(found: Any, wanted: Any, where: str = "") -> Iterator[str]:
    """Yield a line for each place where the two differ; for a list, the first one."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            yield from differences(found.get(key), wanted.get(key), f"{where}/{key}")
    elif isinstance(found, list) and isinstance(wanted, list):
        pairs = zip_longest(found, wanted, fillvalue="nothing")
        differing = ((i, *pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        for i, one, other in islice(differing, 1):
            sizes = f"{len(found)} for {len(wanted)} rows"
            yield f"{where}: {sizes}, in row {i} {one!r} for {other!r}"
    elif found != wanted:
        yield f"{where}: {found!r} for {wanted!r}"


def expected(docs: Iterable[Pair]) -> Stored:
    """Return what Tiled has to hold of these documents, if no more come."""
    run: Stored = {"start": None, "stop": None, "streams": {}}
    streams: dict[str, _ExpectedStream] = {}
    for name, doc in docs:
        if name in ("start", "stop"):
            run[name] = doc
        elif name == "descriptor":
            stream = run["streams"].setdefault(doc["name"], _ExpectedStream(doc["data_keys"]))
            stream.updates += 1
            streams[doc["uid"]] = stream
        elif name == "event":
            streams[doc["descriptor"]].add_row(
                doc["seq_num"], doc["time"], doc["data"], doc["timestamps"]
            )
        elif name == "event_page":
            for i, seq_num in enumerate(doc["seq_num"]):
                data, timestamps = (
                    {key: values[i] for key, values in doc[field].items()}
                    for field in ("data", "timestamps")
                )
                streams[doc["descriptor"]].add_row(seq_num, doc["time"][i], data, timestamps)
        elif name == "stream_datum":
            indices = doc["indices"]
            frames = streams[doc["descriptor"]].nodes.setdefault("frame", [])
            frames.extend(FRAMES[indices["start"] : indices["stop"]].tolist())
    if run["stop"] is None:
        # The numbers of events are in `streams`; the wording of the reason does not matter.
        run["stop"] = {
            "run_start": run["start"]["uid"],
            "exit_status": "fail",
            "num_events": {n: s.rows for n, s in run["streams"].items() if s.rows},
        }
    run["streams"] = {name: stream.stored for name, stream in run["streams"].items()}
    return run


class _ExpectedStream:
    def __init__(self, data_keys: Document) -> None:
        self._data_keys = data_keys
        self.columns: dict[str, list[Any]] = {}
        self.nodes: dict[str, list[Any]] = {}
        self.rows = 0
        self.updates = -1

    def add_row(self, seq_num: int, time: float, data: Document, timestamps: Document) -> None:
        self.rows += 1
        cells = {"seq_num": seq_num, "time": time}
        for key, value in data.items():
            cells[f"ts_{key}"] = timestamps[key]
            if self._data_keys[key]["dtype"] == "array":
                self.nodes.setdefault(key, []).append(value)
            else:
                cells[key] = value
        for name, cell in cells.items():
            self.columns.setdefault(name, []).append(cell)

    @property
    def stored(self) -> Stored:
        return {"columns": self.columns, "nodes": self.nodes, "updates": self.updates}


def stored(client: Container, uid: str) -> Stored:
    """Return what Tiled holds of a run, in the form of `expected`."""
    run = client[uid]
    metadata = plain(dict(run.metadata))
    streams = {name: _stored_stream(_plain_container(stream)) for name, stream in run.items()}
    return {"start": metadata["start"], "stop": _stop_of(metadata), "streams": streams}


def _plain_container(stream: Any) -> Container:
    return stream.base if isinstance(stream, CompositeClient) else stream


def _stop_of(metadata: Document) -> Document | None:
    """Return the stop document; of a synthetic one, only what must be true of it."""
    stop: Document | None = metadata.get("stop")
    if stop is None or stop["exit_status"] == "success":
        return stop
    assert stop["reason"]
    assert metadata["notes"], "a run that never stopped is marked as such"
    num_events = {stream: number for stream, number in stop["num_events"].items() if number}
    return {
        "run_start": stop["run_start"],
        "exit_status": stop["exit_status"],
        "num_events": num_events,
    }


def _stored_stream(stream: Container) -> Stored:
    columns: dict[str, list[Any]] = {}
    nodes: dict[str, list[Any]] = {}
    declared = stream.metadata["data_keys"]
    for name, node in stream.items():
        match node.item["attributes"]["structure_family"]:
            case "table":
                for column, (_, values) in table_of(node)["columns"].items():
                    if declared.get(column, {}).get("dtype") == "array":  # SQLite has no lists
                        nodes[column] = [json.loads(value) for value in values]
                    else:
                        columns[column] = values
            case "ragged":
                nodes[name] = ragged_of(node)["values"]
            case _:
                nodes[name] = array_of(node)["values"]
    updates = len(stream.metadata.get("_config_updates", []))
    return {"columns": columns, "nodes": nodes, "updates": updates}
