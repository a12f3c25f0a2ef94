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


class Misfit(Enum):
    """What happened to a value that did not fit."""

    LEFT_OUT = "does not fit the type of the key; the cell is empty, or holds fill values"
    NEAREST = "has no exact form in the type of the key; the nearest one is stored"
    AS_TEXT = "is not text; it is stored as text"
    MISSING = "no value; the row of the node holds fill values"


@dataclass
class _Tally:
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)  # sorted by ordinal

    def add(self, ordinal: int, text: str) -> None:
        self.count += 1
        if len(self.first) < MAX_NOTES or ordinal < self.first[-1][0]:
            insort(self.first, (ordinal, text))
            del self.first[MAX_NOTES:]


class Misfits:
    """The misfits of one stream, by key and by what happened.

    Which of them are noted one by one depends on their ordinals only, so that the notes of a run
    do not depend on how its rows were batched.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, Misfit], _Tally] = {}

    def add(self, key: str, what: Misfit, ordinal: int, value: Any = None) -> None:
        """Record one misfit; `ordinal` is the row's number in its stream, from 0."""
        text = "" if what is Misfit.MISSING else verbatim(value)
        self._tallies.setdefault((key, what), _Tally()).add(ordinal, text)

    def update(self, other: Misfits) -> None:
        """Take over the misfits of a batch that is now stored."""
        for (key, what), tally in other._tallies.items():
            mine = self._tallies.setdefault((key, what), _Tally())
            for ordinal, text in tally.first:
                mine.add(ordinal, text)
            mine.count += tally.count - len(tally.first)

    def notes(self, stream: str, seq_num: Callable[[int], int]) -> list[str]:
        """Say it in words, one note a value; `seq_num` translates ordinals."""
        notes = []
        for (key, what), tally in self._tallies.items():
            where = f"Stream {stream!r}, key {key!r}"
            for ordinal, text in tally.first:
                notes.append(
                    f"{where}, seq_num {seq_num(ordinal)}: {text}{' ' * bool(text)}{what.value}."
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
