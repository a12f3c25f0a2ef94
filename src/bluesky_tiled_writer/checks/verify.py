"""Compare the documents of a run with what Tiled holds of it, row by row.

What is expected comes from the documents alone, and shares nothing with the code that stores
them, but the normalizer. A cell that the notes of the run mention is not a difference.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from event_model import pack_event_page

from bluesky_tiled_writer.errors import DocumentError, InvalidDocument, UnknownReference
from bluesky_tiled_writer.normalizer import RunNormalizer
from bluesky_tiled_writer.schema import NOTES_KEY, Deviation, timestamp_name, to_json

from .compare import different_metadata, different_rows, shortened
from .readback import RunInTiled, StreamInTiled

_ACCESS = ("tiled_access_tags", "tiled_specs")
"""What the start document says to the writer, and is stored elsewhere than in the metadata."""


@dataclass(frozen=True)
class Difference:
    """Something that Tiled does not hold as the documents have it.

    Parameters
    ----------
    text : str
        What is different.
    stream, key : str, optional
        Where, if it concerns one stream or one data key.
    seq_num : int, optional
        The row.
    """

    text: str
    stream: str | None = None
    key: str | None = None
    seq_num: int | None = None

    def __str__(self) -> str:
        where = [
            f"{name} {value!r}"
            for name, value in (("stream", self.stream), ("key", self.key))
            if value is not None
        ]
        if self.seq_num is not None:
            where.append(f"seq_num {self.seq_num}")
        return f"{', '.join(where)}: {self.text}" if where else self.text


def verify(documents: Iterable[tuple[str, Any]], stored: RunInTiled | None) -> Iterator[Difference]:
    """Compare the documents of one run with what Tiled holds.

    Parameters
    ----------
    documents : iterable of (str, dict)
        All documents of the run. Without a stop document, that of Tiled is not compared.
    stored : RunInTiled or None
        The run in Tiled; None if there is none.

    Yields
    ------
    Difference
        One after the other, as they are found. The values of a stream are read key by key.

    Raises
    ------
    UnknownReference
        If there is no start document.
    StorageError
        If Tiled cannot be read.
    """
    expected = ExpectedRun()
    normalizer = RunNormalizer()
    normalizer.subscribe(expected)
    for name, doc in documents:
        try:
            normalizer(name, doc)
        except (DocumentError, LookupError, TypeError, AttributeError) as error:
            text = str(error) if isinstance(error, DocumentError) else repr(error)
            yield Difference(f"a document ({name}) cannot be stored: {text}")
    if expected.start is None:
        raise UnknownReference(
            "There is no start document.", hint="Does the file have this run, and from its start?"
        )
    if stored is None:
        yield Difference("Tiled has no such run")
        return
    notes = _Notes(stored.metadata.get("notes") or ())
    documents_of_run = {"start": stored_start(expected.start)}
    if expected.stop is not None:
        documents_of_run["stop"] = to_json(expected.stop)[0]
    for name, plain in documents_of_run.items():
        held = stored.metadata.get(name)
        if held is None:
            yield Difference(f"Tiled has no {name} document")
            continue
        for path, text in different_metadata(plain, held, name):
            yield Difference(f"{path}: {text}")
    for name, stream in expected.streams.items():
        nodes = stored.stream(name)
        if nodes is None:
            yield Difference("Tiled has no such stream", name)
        else:
            yield from _verify_stream(stream, nodes, notes)
    for name in sorted(stored.names - expected.streams.keys()):
        yield Difference("Tiled has this stream, and the documents do not", name)


def stored_start(start: Mapping[str, Any]) -> Any:
    """A start document as it is stored in the metadata of its run."""
    return to_json({key: value for key, value in start.items() if key not in _ACCESS})[0]


# -- what the documents say ---------------------------------------------------------------------


@dataclass
class ExpectedStream:
    """All that the documents say of a stream, in columns."""

    name: str
    data_keys: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seq_nums: list[Any] = field(default_factory=list)
    times: list[Any] = field(default_factory=list)
    external_rows: Counter[str] = field(default_factory=Counter)
    _data: dict[str, list[Any]] = field(default_factory=dict)
    _timestamps: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, page: Mapping[str, Any]) -> None:
        """Take the rows of an event page."""
        before, seq_nums, times = len(self.seq_nums), list(page["seq_num"]), list(page["time"])
        parts = [(page["data"], self._data), (page["timestamps"], self._timestamps)]
        lengths = {len(times), *(len(values) for part, _ in parts for values in part.values())}
        if lengths != {len(seq_nums)}:
            raise InvalidDocument(f"It has columns of different lengths: {sorted(lengths)}.")
        for part, columns in parts:
            for key, values in part.items():
                column = columns.setdefault(key, [])
                column += [None] * (before - len(column))
                column += values
        self.seq_nums += seq_nums
        self.times += times

    def columns(self) -> Iterator[tuple[str, str, list[Any]]]:
        """Of each column of internal data: the data key, its name in Tiled, one value a row."""
        rows = len(self.seq_nums)
        yield "time", "time", self.times
        for key, data_key in self.data_keys.items():
            if "external" in data_key and key not in self._data:
                continue
            for name, columns in ((key, self._data), (timestamp_name(key), self._timestamps)):
                column = columns.get(key, [])
                yield key, name, column + [None] * (rows - len(column))


class ExpectedRun:
    """Takes the normalized documents of one run."""

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        self.stop: dict[str, Any] | None = None
        self.streams: dict[str, ExpectedStream] = {}
        self._by_descriptor: dict[str, ExpectedStream] = {}
        self._keys_of_resources: dict[str, str] = {}

    def __call__(self, name: str, doc: Any) -> None:
        """Take a document."""
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


# -- against what is stored ---------------------------------------------------------------------


def _verify_stream(
    expected: ExpectedStream, stored: StreamInTiled, notes: _Notes
) -> Iterator[Difference]:
    name = expected.name
    yield from _verify_external(expected, stored, notes)
    if not expected.seq_nums:
        if len(stored.seq_nums):
            yield Difference(f"{len(stored.seq_nums)} rows are stored, and there is no event", name)
        return
    rows, differences = _matching_rows(expected.seq_nums, stored.seq_nums)
    yield from (Difference(text, name) for text in differences)
    for key, column, values in expected.columns():
        node = notes.node(name, column)
        held = stored.column(column, node)
        if held is None:
            yield Difference("is not stored", name, column)
            continue
        if len(held) != len(stored.seq_nums):
            yield Difference(
                f"its node has {len(held)} rows, the table {len(stored.seq_nums)}", name, column
            )
        pairs = [(i, row) for i, row in enumerate(rows) if row is not None and row < len(held)]
        if rows == list(range(len(held))):
            compared = held
        else:
            values, compared = [values[i] for i, _ in pairs], [held[row] for _, row in pairs]
        for index in different_rows(values, compared):
            measured, seq_num = values[index], expected.seq_nums[pairs[index][0]]
            if not notes.excuse(name, key, seq_num, measured):
                text = f"{shortened(measured)}, but {shortened(compared[index])} is stored"
                yield Difference(text, name, column, seq_num)


def _matching_rows(
    expected: Sequence[Any], stored: Sequence[Any]
) -> tuple[list[int | None], list[str]]:
    """For each row of the documents the row that is stored; and what is wrong, in words.

    A `seq_num` may stand for several rows, after a pause and resume: these match in their order.
    """
    expected, stored = list(expected), list(stored)
    if expected == stored:
        return list(range(len(expected))), []
    differences = []
    missing, surplus = Counter(expected), Counter(stored)
    missing.subtract(stored)
    surplus.subtract(expected)
    if lost := sorted((+missing).elements()):
        differences.append(f"{len(lost)} rows are not stored: seq_num {_ranges(lost)}")
    if more := sorted((+surplus).elements()):
        differences.append(f"{len(more)} rows are stored once too often: seq_num {_ranges(more)}")
    places: dict[Any, list[int]] = {}
    for row, seq_num in reversed(list(enumerate(stored))):
        places.setdefault(seq_num, []).append(row)
    rows = [places[seq_num].pop() if places.get(seq_num) else None for seq_num in expected]
    known = [row for row in rows if row is not None]
    if known != sorted(known):
        differences.append("the rows are stored in another order")
    return rows, differences


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers in words: 1-4, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number <= parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in parts]
    return ", ".join(texts if len(texts) <= 20 else [*texts[:20], "..."])


def _verify_external(
    expected: ExpectedStream, stored: StreamInTiled, notes: _Notes
) -> Iterator[Difference]:
    """Compare how many rows are registered; the values are in the files."""
    for key, rows in expected.external_rows.items():
        if notes.mention_external(expected.name, key):
            continue
        shape = stored.shape(notes.node(expected.name, key))
        if shape is None:
            yield Difference("no files are registered for this key", expected.name, key)
        elif shape:
            # One row an event, or, where they are joined, as many as there are in each.
            datum = expected.data_keys.get(key, {}).get("shape") or [1]
            if shape[0] not in (rows, rows * (datum[0] or 1)):
                text = f"{rows} rows, but the shape {shape} is registered"
                yield Difference(text, expected.name, key)


class _Notes:
    """What the notes of a run say of its cells."""

    def __init__(self, notes: Iterable[Any]) -> None:
        self._notes = [str(note) for note in notes]
        self._counts: dict[str, int] = {}

    def excuse(self, stream: str, key: str, seq_num: Any, measured: Any) -> bool:
        """Whether they say that this cell is not as measured; each note that counts, counts."""
        where = f"Stream {stream!r}, key {key!r}"
        cell, missing = _noted(f"{where}, seq_num {seq_num}: "), f"{Deviation.MISSING.value}."
        for note in self._about(where):
            if note.startswith(cell) and note.endswith(missing) == (measured is None):
                return True
        for note in self._about(where):
            count, _, what = note.removeprefix(_noted(f"{where}: ")).partition(" more values: ")
            if count.isdecimal() and (what == missing) == (measured is None):
                left = self._counts.setdefault(note, int(count))
                self._counts[note] -= 1
                return left > 0
        return False

    def node(self, stream: str, name: str) -> str:
        """The node that a key, or its timestamps, is in."""
        for note in self._about(f"Stream {stream!r}, key {name!r}: stored in the node "):
            try:
                return str(ast.literal_eval(note.partition(": stored in the node ")[2][:-1]))
            except (ValueError, SyntaxError):
                continue
        return name

    def mention_external(self, stream: str, key: str) -> bool:
        """Whether its files were not registered as they should."""
        return bool(self._about(f"External key {key!r} of stream {stream!r}: "))

    def _about(self, begin: str) -> list[str]:
        begin = _noted(begin)
        return [note for note in self._notes if note.startswith(begin)]


def _noted(text: str) -> str:
    """A text as it is in notes, which are stored as JSON."""
    return str(to_json(text)[0])
