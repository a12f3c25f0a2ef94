"""Events and pages of one stream, from their arrival until they become tasks.

A scan waits for what happens here, so it is little: copy, compare the keys with those of the
descriptor, count. Values are looked at when the rows are stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.schema import DeclaredKey

from .batch import Batch, EventRows, Page
from .own_values import NUMBERS, PLAIN, own_column, own_values
from .settings import RunSettings

SAY_AGAIN = 8
FEWEST = 64
"""While rows go on waiting, they are reported this many times per batch that comes on top, but not
before so many rows have come: of live rows, only the first one is reported at once."""

Waiting: TypeAlias = Batch | DeclaredKey
"""Rows to store, or an external key: the events after it bring values of that key themselves."""


class EventBuffer:
    """The rows of one stream that wait to be stored.

    One thread puts rows in, another takes them out.

    Parameters
    ----------
    stream : str
        Name of the stream, for errors.
    settings : RunSettings
        `batch_size` and `ready_bytes` say how many rows should be stored together.
    lock : threading.RLock
        Held while rows come in or go out; that of the task queue.

    Attributes
    ----------
    data_keys : dict of str to DeclaredKey
        All data keys that the descriptors declare.
    has_marks : bool
        True if events that wait bring values of an external key that had none before.
    """

    def __init__(self, stream: str, settings: RunSettings, lock: threading.RLock) -> None:
        self.data_keys: dict[str, DeclaredKey] = {}
        self._stream = stream
        self._settings = settings
        self._lock = lock
        self._acquire, self._release = lock.acquire, lock.release
        self._expected: set[str] = set()
        self._sized = False  # True if values of various sizes are declared
        self._inspect = True
        # What waits, in order: closed segments and marks of external keys, then the open rows.
        self.has_marks = False
        self._closed: list[EventRows | Page | DeclaredKey] = []
        self._closed_rows = 0
        self._closed_bytes = 0
        self._rows = EventRows(())
        self._rows_taken = 0
        self._await_batch()

    # -- keys -----------------------------------------------------------------------------------

    def declare(self, declared: DeclaredKey) -> None:
        """Take a data key of a descriptor, after the rows before it were taken out.

        Values of it are expected with the events to come, unless it is external.
        """
        with self._lock:
            self.data_keys[declared.key] = declared
            if not declared.external:
                self._expect(declared)

    def _expect(self, declared: DeclaredKey) -> None:
        self._close_rows()
        self._open_rows((*self._rows.keys, declared.key))
        self._expected.add(declared.key)
        dtype = declared.dtype
        self._sized |= declared.is_array or dtype is None or dtype.kind not in NUMBERS
        if declared.external:
            self._closed.append(declared)
            self.has_marks = True
        self._watch_open_rows()

    # -- how much -------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Rows that wait to be stored."""
        return self._closed_rows + len(self._rows)

    @property
    def rows(self) -> int:
        """Rows that came in so far."""
        with self._lock:
            return self._rows_taken + self.pending

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory the rows take that wait."""
        return self._closed_bytes + self._rows.nbytes

    # -- in -------------------------------------------------------------------------------------

    def event(self, doc: Mapping[str, Any]) -> bool:
        """Take one event. The document may change afterwards: what is kept is a copy.

        Returns
        -------
        bool
            True if as many rows wait as should be stored together. It is not repeated with every
            event after that, but often enough to keep memory in bounds.

        Raises
        ------
        InvalidDocument
            If no row can be made of it; the buffer is as it was before.
        """
        self._acquire()  # what `with` does takes longer, and every event of a scan comes by here
        try:
            rows = self._rows
            try:
                data, stamps = doc["data"], doc["timestamps"]
                seq_num, time = doc["seq_num"], doc["time"]
                try:
                    values, times = rows.pick(data), rows.pick(stamps)
                    unusual = len(data) != rows.count
                except KeyError:
                    unusual = True
                if unusual:
                    values, times = self._unusual(doc)
                    rows = self._rows
            except InvalidDocument:
                raise
            except Exception as error:  # any object may be where a mapping should be
                raise self._invalid("event", doc, error) from error
            if inspect := self._inspect:
                values, nbytes = own_values(values)
                rows.sized_bytes += nbytes
                self._inspect = self._sized or not PLAIN.issuperset(map(type, values))
            # At once, so that an event is taken whole or not at all.
            cells = rows.cells
            cells += (seq_num, time, *values, *times)
            if len(cells) < self._open_cells and (
                not inspect or rows.sized_bytes < self._open_sized_bytes
            ):
                return False
            return self._report()
        finally:
            self._release()

    def event_page(self, doc: Mapping[str, Any]) -> bool:
        """Take the rows of a page, column by column; returns and raises what `event` does."""
        try:
            seq_num, time = own_column(doc["seq_num"])[0], own_column(doc["time"])[0]
            stamps = {key: own_column(column)[0] for key, column in doc["timestamps"].items()}
            data, nbytes = {}, 0
            for key, column in doc["data"].items():
                data[key], size = own_column(column)
                nbytes += size
            brought = self._sort_out(doc, data, _brought_column)
        except InvalidDocument:
            raise
        except Exception as error:  # any object may be where a column should be
            raise self._invalid("event_page", doc, error) from error
        count = len(seq_num)
        lengths = {len(column) for column in (time, *data.values(), *stamps.values())}
        if lengths - {count}:
            raise InvalidDocument(
                f"event_page {doc.get('uid')!r} of stream {self._stream!r} has columns of different"
                f" lengths: {count} seq_num, but also {sorted(lengths - {count})}.",
                hint="Every column of a page needs one value per row.",
            )
        if not count:
            return False
        with self._lock:
            for declared in brought:
                self._expect(declared)
            self._close_rows()
            self._close(Page(seq_num, time, data, stamps, nbytes))
            if self.pending < self._ready_rows and self.nbytes < self._ready_bytes:
                return False
            return self._report()

    def _unusual(self, doc: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return values and timestamps of an event that has other keys than those expected."""
        data, stamps = doc["data"], doc["timestamps"]
        brought: list[DeclaredKey] = []
        if data.keys() != self._expected:
            data = dict(data)
            brought = self._sort_out(doc, data, _brought_value)
        keys = (*self._rows.keys, *(declared.key for declared in brought))
        values = tuple(data.get(key) for key in keys)
        times = [stamps.get(key) for key in keys]
        for declared in brought:
            self._expect(declared)
        return values, times

    def _sort_out(
        self, doc: Mapping[str, Any], data: dict[str, Any], brought_by: Callable[[Any, Any], Any]
    ) -> list[DeclaredKey]:
        """Drop references to external data, in place; return the external keys with data."""
        filled = doc.get("filled")
        flags: Mapping[str, Any] = filled if isinstance(filled, Mapping) else {}
        brought = []
        for key in [key for key in data if key not in self._expected]:
            declared = self.data_keys.get(key)
            if declared is None:
                raise InvalidDocument(
                    f"The event {doc.get('uid')!r} of stream {self._stream!r} has the key {key!r},"
                    " which its descriptor does not declare.",
                    hint=f"Declare it: the descriptor has {sorted(map(str, self.data_keys))}.",
                )
            data[key] = brought_by(data[key], flags.get(key, True))
            if data[key] is _REFERENCE:
                del data[key]
            else:
                brought.append(declared)
        return brought

    def _invalid(self, kind: str, doc: Any, error: Exception) -> InvalidDocument:
        uid = doc.get("uid") if isinstance(doc, Mapping) else None
        missing = f"has no {error}" if isinstance(error, KeyError) else f"is malformed: {error}"
        return InvalidDocument(
            f"{kind} {uid!r} of stream {self._stream!r} {missing}.",
            hint="It needs seq_num, time, data and timestamps, the last two by data key.",
        )

    # -- out ------------------------------------------------------------------------------------

    def take(self) -> list[Waiting]:
        """Return what waits, in order; it waits no longer. The caller holds the lock."""
        self._close_rows()
        taken: list[Waiting] = []
        for is_key, group in groupby(self._closed, lambda part: isinstance(part, DeclaredKey)):
            parts: list[Any] = list(group)
            taken += parts if is_key else [Batch(parts)]
        self._rows_taken += self._closed_rows
        self._closed, self._closed_rows, self._closed_bytes = [], 0, 0
        self.has_marks = False
        self._await_batch()
        return taken

    def _close_rows(self) -> None:
        if self._rows:
            self._close(self._rows)
            self._open_rows(self._rows.keys)

    def _open_rows(self, keys: tuple[str, ...]) -> None:
        # Where numbers are declared only the first values are inspected, for time's sake: a device
        # that gives something else than it declares does so each time.
        self._rows, self._inspect = EventRows(keys), True

    def _close(self, segment: EventRows | Page) -> None:
        self._closed.append(segment)
        self._closed_rows += len(segment)
        self._closed_bytes += segment.nbytes
        self._watch_open_rows()

    # -- when there is enough -------------------------------------------------------------------

    def _await_batch(self) -> None:
        self._report_at(self._settings.batch_size, self._settings.ready_bytes)

    def _report(self) -> bool:
        """Report that a batch is full, and again when a part of the next one has come."""
        self._report_at(
            self.pending + max(FEWEST, self._settings.batch_size // SAY_AGAIN),
            self.nbytes + self._settings.ready_bytes // SAY_AGAIN,
        )
        return True

    def _report_at(self, rows: int, nbytes: int) -> None:
        self._ready_rows, self._ready_bytes = rows, nbytes
        self._watch_open_rows()

    def _watch_open_rows(self) -> None:
        """Work out when the open rows make it enough: an event only compares two numbers."""
        left = self._ready_bytes - self._closed_bytes
        rows = min(self._ready_rows - self._closed_rows, left // self._rows.row_bytes)
        self._open_cells = max(1, rows) * self._rows.width
        self._open_sized_bytes = left


_REFERENCE = object()
"""In place of a value that only refers to external data."""


def _brought_value(value: Any, filled: Any) -> Any:
    """Return a value of an external key, if the event has it; arrays are no references."""
    return value if filled or isinstance(value, list | tuple | np.ndarray) else _REFERENCE


def _brought_column(column: Sequence[Any], filled: Any) -> Any:
    """Return the values of an external key that a page has, None for those it refers to."""
    flags = filled if isinstance(filled, list | tuple | np.ndarray) else [filled] * len(column)
    if len(flags) != len(column):
        return column
    values = [_brought_value(value, flag) for value, flag in zip(column, flags, strict=True)]
    missing = [value is _REFERENCE for value in values]
    if not any(missing):
        return column
    if all(missing):
        return _REFERENCE
    return [None if value is _REFERENCE else value for value in values]
