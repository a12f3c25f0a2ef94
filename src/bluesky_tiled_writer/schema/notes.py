"""Values that could not be stored as they came, kept for the notes of the run."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

MAX_NOTES = 100
"""Values of a key that are noted one by one; the rest is a count."""

MAX_TEXT = 20_000
"""Characters of a value in a note: the metadata of a run is no place for an image."""


class Deviation(Enum):
    """What happened to a value that did not fit."""

    LEFT_OUT = "does not fit the type of the key; the cell is empty, or holds fill values"
    NEAREST = "has no exact form in the type of the key; the nearest one is stored"
    AS_TEXT = "is not text; it is stored as text"
    MISSING = "no value; the row of the node holds fill values"


@dataclass
class _Tally:
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)  # sorted by row_number

    def add(self, row_number: int, text: str) -> None:
        self.count += 1
        if len(self.first) < MAX_NOTES or row_number < self.first[-1][0]:
            insort(self.first, (row_number, text))
            del self.first[MAX_NOTES:]


class Deviations:
    """The deviations of one stream, by key and by what happened.

    Which of them are noted one by one depends on their row_numbers only, so that the notes of a run
    do not depend on how its rows were batched.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, Deviation], _Tally] = {}

    def add(self, key: str, what: Deviation, row_number: int, value: Any = None) -> None:
        """Record one misfit; `row_number` is the row's number in its stream, from 0."""
        text = "" if what is Deviation.MISSING else verbatim(value)
        self._tallies.setdefault((key, what), _Tally()).add(row_number, text)

    def update(self, other: Deviations) -> None:
        """Take over the deviations of a batch that is now stored."""
        for (key, what), tally in other._tallies.items():
            mine = self._tallies.setdefault((key, what), _Tally())
            for row_number, text in tally.first:
                mine.add(row_number, text)
            mine.count += tally.count - len(tally.first)

    def notes(self, stream: str, seq_num: Callable[[int], int]) -> list[str]:
        """Say it in words, one note a value; `seq_num` translates row_numbers."""
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
    """A value as a person would type it in Python, arrays as lists."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    if len(text) > MAX_TEXT:
        return f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} characters more)"
    return text
