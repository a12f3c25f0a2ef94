"""Values that were not stored as they came, collected for the notes of the run."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from .json_values import safe_repr
from .plain_values import json_mask, json_verbatim
from .ragged_rows import NestedRow

MAX_NOTES = 100
"""Values of a key that are noted one by one, for each way in which they differ."""

MAX_TEXT = 20_000
"""Characters of a value in a note: the metadata of a run is no place for an image."""


class Deviation(Enum):
    """A way in which a stored value differs from the one that came; the text ends a note."""

    LEFT_OUT = "does not fit the type of the key; the cell is empty, or holds fill values"
    NEAREST = "has no exact form in the type of the key; the nearest one is stored"
    AS_TEXT = "is not text; it is stored as text"
    MASKED = "has masked elements; the values under the mask are stored"
    MISSING = "no value; the row of the node holds fill values"


@dataclass
class _Tally:
    """The deviations of one kind of one key."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    """Row numbers and values, in order: at most `MAX_NOTES`, those with the lowest numbers."""

    def add(self, row_number: int, text: str) -> None:
        self.count += 1
        if len(self.first) < MAX_NOTES or row_number < self.first[-1][0]:
            insort(self.first, (row_number, text))
            del self.first[MAX_NOTES:]


class Deviations:
    """The deviations of one stream, by key and kind.

    Which of them are noted one by one depends on their row numbers only, so that the notes of a
    run do not depend on how its rows were batched. The values are kept verbatim, until it is known
    whether there are more of them than notes can hold, and then until they are stored.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, Deviation], _Tally] = {}
        self._missing: dict[str, Sequence[range]] = {}
        self._kept: dict[str, dict[int, str]] = {}
        self._beyond_notes: set[str] = set()

    def add(self, key: str, what: Deviation, row_number: int, value: Any = None) -> None:
        """Record one deviation.

        Parameters
        ----------
        key : str
            The data key.
        what : Deviation
            The way in which the stored value differs.
        row_number : int
            Number of the row in its stream, from 0.
        value : Any
            The value as it came.
        """
        text = verbatim(value)
        self._tally(key, what).add(row_number, text)
        kept = self._kept.setdefault(key, {})
        if row_number not in kept:
            kept[row_number] = (
                json_mask(value) if what is Deviation.MASKED else json_verbatim(value)
            )
        if max(len(text), len(kept[row_number])) > MAX_TEXT:
            self._beyond_notes.add(key)

    def add_missing(self, key: str, rows: Sequence[range]) -> None:
        """Record all rows of a key that have no value, once they are known."""
        self._missing[key] = rows
        if len(rows) > MAX_NOTES:
            kept = self._kept.setdefault(key, {})
            kept.update((row_number, json_verbatim(None)) for part in rows for row_number in part)
            self._beyond_notes.add(key)

    def _tally(self, key: str, what: Deviation) -> _Tally:
        return self._tallies.setdefault((key, what), _Tally())

    @property
    def kept_keys(self) -> list[str]:
        """The keys with values that are kept verbatim."""
        return [key for key, kept in self._kept.items() if kept]

    def kept(self, key: str) -> Mapping[int, str]:
        """Return the values of a key that are kept, as JSON, by row number."""
        return self._kept.get(key, {})

    def forget(self, key: str) -> None:
        """Forget the values of a key, since they are stored beside it."""
        self._kept.pop(key, None)

    def beyond_notes(self, key: str, *others: Deviations) -> bool:
        """Return True if the notes do not hold all values of a key, here and in others together.

        There are more of one kind than notes, or one is too long for a note.
        """
        found = (self, *others)
        return any(key in some._beyond_notes for some in found) or any(
            sum(some._tallies[key, what].count for some in found if some.has(key, what)) > MAX_NOTES
            for what in Deviation
        )

    def has(self, key: str, what: Deviation) -> bool:
        """Return True if a value of the key differs in this way."""
        return (key, what) in self._tallies

    def update(self, other: Deviations) -> None:
        """Add the deviations of a batch, once it is stored."""
        for (key, what), tally in other._tallies.items():
            mine = self._tally(key, what)
            for row_number, text in tally.first:
                mine.add(row_number, text)
            mine.count += tally.count - len(tally.first)
        for key, values in other._kept.items():
            self._kept[key] = values | self._kept.get(key, {})
        self._missing |= other._missing
        self._beyond_notes |= other._beyond_notes

    def notes(self, stream: str, seq_num: Callable[[int], int]) -> list[str]:
        """Return the notes of the stream: one a value, and one that counts those beyond.

        Parameters
        ----------
        stream : str
            Name of the stream.
        seq_num : callable
            Returns the `seq_num` of a row number.
        """
        notes = []
        for (key, what), tally in self._tallies.items():
            where = f"Stream {stream!r}, key {key!r}"
            for row_number, text in tally.first:
                notes.append(f"{where}, seq_num {seq_num(row_number)}: {text} {what.value}.")
            if more := tally.count - len(tally.first):
                notes.append(f"{where}: {more} more values: {what.value}.")
        for key, parts in self._missing.items():
            where, what = f"Stream {stream!r}, key {key!r}", Deviation.MISSING
            for rows in parts[:MAX_NOTES]:
                first, last = seq_num(rows[0]), seq_num(rows[-1])
                which = f"{first} to {last}" if len(rows) > 1 else f"{first}"
                notes.append(f"{where}, seq_num {which}: {what.value}.")
            if more := sum(map(len, parts[MAX_NOTES:])):
                notes.append(f"{where}: {more} more values: {what.value}.")
        return notes


def verbatim(value: Any) -> str:
    """Return a value as a person would type it in Python, arrays as lists; cut if it is long."""
    if isinstance(value, np.ndarray | np.generic | NestedRow):
        value = value.tolist()
    text = safe_repr(value)
    if len(text) > MAX_TEXT:
        return f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} characters more)"
    return text
