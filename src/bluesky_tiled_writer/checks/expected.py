"""The contents that Tiled should have of a run, derived from its documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from event_model import pack_event_page

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.schema import NOTES_KEY, timestamp_name


@dataclass
class ExpectedStream:
    """A stream as its documents have it, in columns."""

    name: str
    data_keys: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seq_nums: list[Any] = field(default_factory=list)
    times: list[Any] = field(default_factory=list)
    external_rows: Counter[str] = field(default_factory=Counter)
    _data: dict[str, list[Any]] = field(default_factory=dict)
    _timestamps: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, page: Mapping[str, Any]) -> None:
        """Add the rows of an event page.

        Raises
        ------
        InvalidDocument
            If its columns differ in length.
        """
        before, seq_nums, times = len(self.seq_nums), list(page["seq_num"]), list(page["time"])
        parts = [(page["data"], self._data), (page["timestamps"], self._timestamps)]
        lengths = {len(times), *(len(values) for part, _ in parts for values in part.values())}
        if lengths != {len(seq_nums)}:
            raise InvalidDocument(f"It has columns of different lengths: {sorted(lengths)}.")
        for part, columns in parts:
            for key, values in part.items():
                column = columns.setdefault(key, [])
                column += [None] * (before - len(column))
                column.extend(values)  # numpy would add to a list what is an array
        self.seq_nums += seq_nums
        self.times += times

    def columns(self) -> Iterator[tuple[str, str, list[Any]]]:
        """Yield each column of internal data: its data key, its name in Tiled, a value a row."""
        rows = len(self.seq_nums)
        yield "time", "time", self.times
        for key, data_key in self.data_keys.items():
            if "external" in data_key and key not in self._data:
                continue
            for name, columns in ((key, self._data), (timestamp_name(key), self._timestamps)):
                column = columns.get(key, [])
                yield key, name, column + [None] * (rows - len(column))


class ExpectedRun:
    """A run as its documents have it. Call it with each document, normalized."""

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        self.stop: dict[str, Any] | None = None
        self.streams: dict[str, ExpectedStream] = {}
        self._by_descriptor: dict[str, ExpectedStream] = {}
        self._keys_of_resources: dict[str, str] = {}

    def __call__(self, name: str, doc: Any) -> None:
        """Add a document."""
        match name:
            case "start":
                self.start = dict(doc)
            case "stop":
                self.stop = {key: value for key, value in doc.items() if key != NOTES_KEY}
            case "descriptor":
                stream = self.streams.setdefault(doc["name"], ExpectedStream(doc["name"]))
                stream.data_keys = {**doc["data_keys"], **stream.data_keys}
                self._by_descriptor[doc["uid"]] = stream
            case "event":
                self._stream(doc).add(pack_event_page(doc))
            case "event_page":
                self._stream(doc).add(doc)
            case "stream_resource":
                self._keys_of_resources[doc["uid"]] = doc["data_key"]
            case "stream_datum":
                key = self._keys_of_resources[doc["stream_resource"]]
                rows = doc["indices"]["stop"] - doc["indices"]["start"]
                self._stream(doc).external_rows[key] += rows

    def _stream(self, doc: Mapping[str, Any]) -> ExpectedStream:
        return self._by_descriptor[doc["descriptor"]]
