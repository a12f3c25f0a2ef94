"""Bluesky documents for tests, composed by hand from plain dictionaries.

Nothing here validates or corrects: a test may build a document that no RunEngine would emit.
Only the uids differ from one build to the next; every time stamp is counted from `EPOCH`.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import pytest

EPOCH = 1_700_000_000.0
"""Time of the first document of every run; each document, or row of a page, is 1 s later."""

Document = dict[str, Any]
Pair = tuple[str, Document]


def emit(docs: Iterable[Pair], *callbacks: Callable[[str, Document], object]) -> None:
    """Send documents to callbacks, each of which gets copies of its own."""
    for name, doc in docs:
        for callback in callbacks:
            callback(name, copy.deepcopy(doc))


class Flushing(Protocol):
    """A callback that can be flushed."""

    def __call__(self, name: str, doc: Document) -> object: ...

    def flush(self, timeout: float | None = None) -> bool: ...


def emit_one_by_one(docs: Iterable[Pair], writer: Flushing) -> None:
    """Send documents as `emit` does, and flush after each that has rows."""
    for name, doc in docs:
        emit([(name, doc)], writer)
        if name in ("event", "event_page", "stream_datum"):
            assert writer.flush(timeout=30.0)


def emit_in_small_batches(docs: Iterable[Pair], writer: Flushing) -> None:
    """Send documents as `emit` does, and flush after the first event, and after each ten."""
    events = 0
    for name, doc in docs:
        emit([(name, doc)], writer)
        if name == "event":
            if events % 10 == 0:
                assert writer.flush(timeout=30.0)
            events += 1


Send = Callable[[Iterable[Pair], Any], None]
TOGETHER_OR_NOT = pytest.mark.parametrize("send", [emit, emit_one_by_one])
"""The two extremes of batching; test_batching.py has those between them."""
TOGETHER_OR_IN_BATCHES = pytest.mark.parametrize("send", [emit, emit_in_small_batches])
"""The same for more than a hundred events, which take half a minute one by one."""


def data_key(dtype: str = "number", shape: Iterable[int | None] = (), **more: Any) -> Document:
    """Return a data key with the fields that the event model requires."""
    return {"source": "test", "dtype": dtype, "shape": list(shape), **more}


def scalar_run(events: int = 3, stream: str = "primary", **metadata: Any) -> RunBuilder:
    """Return a whole run of one stream with a number, an integer and a string."""
    run = RunBuilder()
    run.start(**metadata)
    run.descriptor(stream, {"x": "number", "n": "integer", "label": "string"})
    for i in range(events):
        run.event(stream, {"x": i / 2, "n": i, "label": f"row {i}"})
    run.stop()
    return run


def run_of_rows(
    data_keys: Mapping[str, str | Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> RunBuilder:
    """Return a whole run of one stream with these keys, and an event for each row."""
    run = RunBuilder()
    run.start()
    run.descriptor("primary", data_keys)
    for row in rows:
        run.event("primary", row)
    run.stop()
    return run


class RunBuilder:
    """Composes the documents of one run, and keeps them in order in `docs`.

    Examples
    --------
    >>> run = RunBuilder()
    >>> name, start = run.start(plan_name="count")
    >>> _ = run.descriptor("primary", {"x": "number", "image": data_key("array", [2, 2])})
    >>> _ = run.event("primary", {"x": 1.5, "image": [[0, 1], [2, 3]]})
    >>> _ = run.stop()
    >>> [name for name, doc in run.docs]
    ['start', 'descriptor', 'event', 'stop']
    """

    def __init__(self) -> None:
        self.docs: list[Pair] = []
        self.uid = str(uuid.uuid4())
        self._seconds = 0
        self._descriptors: dict[str, Document] = {}
        self._num_events: dict[str, int] = {}

    def add(self, name: str, doc: Document) -> Pair:
        """Record any document, such as one of an old event model, and return it with its name."""
        self.docs.append((name, doc))
        return name, doc

    def start(self, **metadata: Any) -> Pair:
        return self.add("start", {"uid": self.uid, "time": self._now(), **metadata})

    def descriptor(
        self, stream: str, data_keys: Mapping[str, str | Mapping[str, Any]], **more: Any
    ) -> Pair:
        """Declare a stream, or change the configuration of one that is declared already.

        A data key may be given as the dtype of a scalar, or in full (see `data_key`).
        """
        keys = {
            key: data_key(declared) if isinstance(declared, str) else dict(declared)
            for key, declared in data_keys.items()
        }
        doc = {
            "uid": str(uuid.uuid4()),
            "run_start": self.uid,
            "time": self._now(),
            "name": stream,
            "data_keys": keys,
            "configuration": {},
            "hints": {},
            "object_keys": {"device": list(keys)},
            **more,
        }
        self._descriptors[stream] = doc
        return self.add("descriptor", doc)

    def event(
        self,
        stream: str,
        data: Mapping[str, Any],
        seq_num: int | None = None,
        timestamps: Mapping[str, float] | None = None,
        filled: Mapping[str, bool | str] | None = None,
    ) -> Pair:
        """Add a row. `seq_num` counts up unless it is given, and goes on from the one given."""
        self._num_events[stream] = seq_num or self._num_events.get(stream, 0) + 1
        now = self._now()
        return self.add(
            "event",
            {
                "uid": str(uuid.uuid4()),
                "descriptor": self._descriptors[stream]["uid"],
                "time": now,
                "seq_num": self._num_events[stream],
                "data": dict(data),
                "timestamps": dict.fromkeys(data, now) if timestamps is None else {**timestamps},
                "filled": dict(filled or {}),
            },
        )

    def event_page(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> Pair:
        """Add rows with the same keys, as columns."""
        rows = list(rows)
        first = self._num_events.get(stream, 0) + 1
        self._num_events[stream] = first + len(rows) - 1
        times = [self._now() for _ in rows]
        keys = list(rows[0]) if rows else list(self._descriptors[stream]["data_keys"])
        return self.add(
            "event_page",
            {
                "uid": [str(uuid.uuid4()) for _ in rows],
                "descriptor": self._descriptors[stream]["uid"],
                "time": times,
                "seq_num": list(range(first, first + len(rows))),
                "data": {key: [row[key] for row in rows] for key in keys},
                "timestamps": {key: list(times) for key in keys},
                "filled": {},
            },
        )

    def stream_resource(
        self, key: str, uri: str, mimetype: str = "application/x-hdf5", **parameters: Any
    ) -> Pair:
        """Add files of an external data key."""
        return self.add(
            "stream_resource",
            {
                "uid": str(uuid.uuid4()),
                "run_start": self.uid,
                "data_key": key,
                "mimetype": mimetype,
                "uri": uri,
                "parameters": parameters,
            },
        )

    def stream_datum(self, stream: str, resource: Pair, start: int, stop: int) -> Pair:
        """Say that a resource has rows ``start`` to ``stop`` (exclusive, from 0) of a stream."""
        uid = resource[1]["uid"]
        return self.add(
            "stream_datum",
            {
                "uid": f"{uid}/{start}",
                "stream_resource": uid,
                "descriptor": self._descriptors[stream]["uid"],
                "indices": {"start": start, "stop": stop},
                "seq_nums": {"start": start + 1, "stop": stop + 1},
            },
        )

    def stop(self, exit_status: str = "success", **more: Any) -> Pair:
        return self.add(
            "stop",
            {
                "uid": str(uuid.uuid4()),
                "run_start": self.uid,
                "time": self._now(),
                "exit_status": exit_status,
                "num_events": dict(self._num_events),
                **more,
            },
        )

    def _now(self) -> float:
        self._seconds += 1
        return EPOCH + self._seconds - 1
