"""Values that were not stored as they came, collected for the notes of the run."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from .json_values import safe_repr
from .plain_values import json_verbatim

MAX_NOTES = 100
"""Values of a key that are noted one by one; of the others, the number is noted."""

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
    run do not depend on how its rows were batched.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, Deviation], _Tally] = {}
        self._left_out: dict[str, dict[int, str]] = {}
        self._long: set[str] = set()

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
        text = "" if what is Deviation.MISSING else verbatim(value)
        self._tallies.setdefault((key, what), _Tally()).add(row_number, text)
        if what is Deviation.LEFT_OUT:
            whole = json_verbatim(value)
            self._left_out.setdefault(key, {}).setdefault(row_number, whole)
            if max(len(text), len(whole)) > MAX_TEXT:
                self._long.add(key)

    def count(self, key: str, what: Deviation) -> int:
        """Return how many values of the key differ in this way."""
        tally = self._tallies.get((key, what))
        return tally.count if tally else 0

    @property
    def keys_left_out(self) -> list[str]:
        """The keys with values that are left out, and not forgotten."""
        return list(self._left_out)

    def left_out(self, key: str) -> Mapping[int, str]:
        """Return the values of a key that are left out, as JSON, by row number."""
        return self._left_out.get(key, {})

    def is_cut(self, key: str) -> bool:
        """Return True if a value that is left out is too long for a note."""
        return key in self._long

    def forget_left_out(self, key: str) -> None:
        """Forget the values of a key that are left out, since they are stored beside it."""
        self._left_out.pop(key, None)

    def has(self, key: str, what: Deviation) -> bool:
        """Return True if a value of the key differs in this way."""
        return (key, what) in self._tallies

    def update(self, other: Deviations) -> None:
        """Add the deviations of a batch, once it is stored."""
        for (key, what), tally in other._tallies.items():
            mine = self._tallies.setdefault((key, what), _Tally())
            for row_number, text in tally.first:
                mine.add(row_number, text)
            mine.count += tally.count - len(tally.first)
        for key, values in other._left_out.items():
            self._left_out.setdefault(key, {}).update(values)
        self._long |= other._long

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
                notes.append(
                    f"{where}, seq_num {seq_num(row_number)}: {text}{' ' * bool(text)}{what.value}."
                )
            if more := tally.count - len(tally.first):
                notes.append(f"{where}: {more} more values: {what.value}.")
        return notes


def verbatim(value: Any) -> str:
    """Return a value as a person would type it in Python, arrays as lists; cut if it is long."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    text = safe_repr(value)
    if len(text) > MAX_TEXT:
        return f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} characters more)"
    return text
