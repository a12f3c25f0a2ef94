"""Events and pages as they come in, until they are stored.

This is what a scan waits for, so it does as little as it can: it copies, checks the keys against
the descriptor, and leaves everything else to those who store the rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.schema import DeclaredKey

from .batch import Batch, EventRows, Page

SAY_AGAIN = 8
"""How often it is said, while as many rows come again, that they should be stored."""

NUMBERS = "biufc"
"""Kinds of numpy types whose values take about as much memory as any other one."""

BYTES_A_VALUE = 32
"""About what a number in a list takes: the object, and the place in the list."""


class EventBuffer:
    """The rows of one stream that wait to be stored.

    One thread puts rows in, and another takes them out.

    Parameters
    ----------
    stream : str
        Name of the stream, for errors.
    on_internal : callable
        Told of a key declared as external when an event brings its values itself, before these
        are taken.
    lock : threading.RLock
        Held while rows come in or go out.
    batch_size, batch_bytes : int
        EventRows, and bytes of them, that should be stored together.

    Attributes
    ----------
    data_keys : dict of str to DeclaredKey
        All data keys that the descriptors declare.
    """

    def __init__(
        self,
        stream: str,
        on_internal: Callable[[DeclaredKey], None],
        lock: threading.RLock,
        batch_size: int,
        batch_bytes: int,
    ) -> None:
        self.data_keys: dict[str, DeclaredKey] = {}
        self._rows_taken = 0
        self._stream = stream
        self._on_internal = on_internal
        self._lock = lock
        self._acquire, self._release = lock.acquire, lock.release
        self._batch_size = self._ready_rows = batch_size
        self._batch_bytes = self._ready_bytes = batch_bytes
        self._keys: set[str] = set()
        self._sized_keys: list[str] = []
        self._segments: list[EventRows | Page] = []
        self._rows = EventRows(())
        self._pending = 0
        self.sized_bytes = 0

    def declare(self, declared: DeclaredKey) -> None:
        """Know a data key; values of it are expected with the events to come, unless external."""
        self.data_keys[declared.key] = declared
        if not declared.external:
            self.expect(declared)

    def expect(self, declared: DeclaredKey) -> None:
        """Expect values of a key with the events to come."""
        with self._lock:
            self._close_segment()
            self._rows = EventRows((*self._rows.keys, declared.key))
            self._keys.add(declared.key)
            if declared.is_array or declared.dtype is None or declared.dtype.kind not in NUMBERS:
                self._sized_keys.append(declared.key)
            self._ready_rows = self._batch_rows

    @property
    def pending(self) -> int:
        """EventRows that wait to be stored."""
        return self._pending + len(self._rows)

    @property
    def rows(self) -> int:
        """EventRows that came in so far."""
        with self._lock:
            return self._rows_taken + self.pending

    @property
    def row_bytes(self) -> int:
        """About how much memory a row takes, but for its arrays and texts."""
        return 2 * (1 + len(self._keys)) * BYTES_A_VALUE

    @property
    def nbytes(self) -> int:
        """About how much memory the rows take that wait."""
        return self.pending * self.row_bytes + self.sized_bytes

    def event(self, doc: Mapping[str, Any]) -> bool:
        """Take one event. The document may change afterwards: what is kept is a copy.

        Returns
        -------
        bool
            Whether there are as many rows now as should be stored together. It is not said with
            every event after that, but often enough to keep memory in bounds.
        """
        self._acquire()  # what `with` does takes longer, and every event of a scan comes by here
        try:
            rows = self._rows
            try:
                data, stamps = doc["data"], doc["timestamps"]
                seq_num, time = doc["seq_num"], doc["time"]
                try:
                    values, times = rows.pick(data), rows.pick(stamps)
                    unusual = len(data) != len(values)
                except KeyError:
                    unusual = True
                if unusual:
                    rows, values, times = self._unusual(doc)
            except (KeyError, AttributeError, TypeError) as error:
                raise self._invalid("event", doc, error) from error
            if self._sized_keys:
                values = self._own_sized(rows.keys, values)
            # At once, so that an event is taken whole or not at all.
            rows.cells += (seq_num, time, *values, *times)
            pending = self._pending + len(rows.cells) // rows.width
            if pending < self._ready_rows and self.sized_bytes < self._ready_bytes:
                return False
            return self._say_ready(pending)
        finally:
            self._release()

    @property
    def _batch_rows(self) -> int:
        return max(1, min(self._batch_size, self._batch_bytes // self.row_bytes))

    def _say_ready(self, pending: int) -> bool:
        self._ready_rows = pending + max(1, self._batch_rows // SAY_AGAIN)
        self._ready_bytes = self.sized_bytes + max(1, self._batch_bytes // SAY_AGAIN)
        return True

    def _unusual(self, doc: Mapping[str, Any]) -> tuple[EventRows, list[Any], list[Any]]:
        """Where an event goes that has other keys than its stream, its values, and timestamps."""
        data, stamps = doc["data"], doc["timestamps"]
        if data.keys() != self._keys:
            data = dict(data)
            self._check(data, doc.get("filled") or {}, doc.get("uid"))
        rows = self._rows
        return rows, [data.get(key) for key in rows.keys], [stamps.get(key) for key in rows.keys]

    def event_page(self, doc: Mapping[str, Any]) -> bool:
        """Take the rows of a page, column by column; returns what `event` does."""
        try:
            seq_num, time = list(doc["seq_num"]), list(doc["time"])
            data = {key: _own(column) for key, column in doc["data"].items()}
            stamps = {key: _own(column) for key, column in doc["timestamps"].items()}
        except (KeyError, AttributeError, TypeError) as error:
            raise self._invalid("event_page", doc, error) from error
        lengths = {len(column) for column in (time, *data.values(), *stamps.values())}
        if lengths - {len(seq_num)}:
            raise InvalidDocument(
                f"event_page {doc.get('uid')!r} of stream {self._stream!r} has columns of different"
                f" lengths: {len(seq_num)} seq_num, but also {sorted(lengths - {len(seq_num)})}.",
                hint="Every column of a page needs one value a row.",
            )
        if not seq_num:
            return False
        if data.keys() != self._keys:
            filled = {k: all(v) for k, v in (doc.get("filled") or {}).items()}
            self._check(data, filled, doc.get("uid"))
        with self._lock:
            self._close_segment()
            self._segments.append(Page(seq_num, time, data, stamps))
            self._pending += len(seq_num)
            self.sized_bytes += sum(_nbytes(data[key]) for key in self._sized_keys if key in data)
            if self._pending < self._ready_rows and self.sized_bytes < self._ready_bytes:
                return False
            return self._say_ready(self._pending)

    def _invalid(self, kind: str, doc: Any, error: Exception) -> InvalidDocument:
        uid = doc.get("uid") if isinstance(doc, Mapping) else None
        missing = f"has no {error}" if isinstance(error, KeyError) else f"is malformed: {error}"
        return InvalidDocument(
            f"{kind} {uid!r} of stream {self._stream!r} {missing}.",
            hint="It needs seq_num, time, data and timestamps, the last two by data key.",
        )

    def _check(self, data: dict[str, Any], filled: Mapping[str, Any], uid: Any) -> None:
        """Sort out keys beyond those that events of this stream usually have."""
        for key in data.keys() - self._keys:
            declared = self.data_keys.get(key)
            if declared is None:
                raise InvalidDocument(
                    f"The event {uid!r} of stream {self._stream!r} has the key {key!r}, which its"
                    " descriptor does not declare.",
                    hint=f"Declare it: the descriptor has {sorted(self.data_keys)}.",
                )
            if filled.get(key, True):  # external, but this event brings the data itself
                self._on_internal(declared)
            else:
                del data[key]  # a reference to external data

    def _own_sized(self, keys: Sequence[str], values: Iterable[Any]) -> list[Any]:
        """Copy arrays: a device may use its buffer again before they are sent. Count bytes."""
        values = list(values)
        for key in self._sized_keys:
            index = keys.index(key)
            self.sized_bytes += _nbytes(values[index])
            values[index] = _own(values[index])
        return values

    def _close_segment(self) -> None:
        if self._rows:
            self._segments.append(self._rows)
            self._pending += len(self._rows)
            self._rows = EventRows(self._rows.keys)

    def take(self) -> Batch:
        """All rows that wait; they wait no longer."""
        with self._lock:
            nbytes = self.nbytes
            self._close_segment()
            batch = Batch(self._segments, nbytes)
            self._rows_taken += self._pending
            self._segments, self._pending, self.sized_bytes = [], 0, 0
            self._ready_rows, self._ready_bytes = self._batch_rows, self._batch_bytes
            return batch


def _own(value: Any) -> Any:
    """A copy of an array value, deep as far as it is made of lists and arrays."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], list | tuple | np.ndarray):
            return [_own(item) for item in value]
        return list(value)
    return value


def _nbytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple) and value:
        return len(value) * (_nbytes(value[0]) or 8)
    return 0
