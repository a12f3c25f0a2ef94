"""What a server turned out not to hold, learned from its refusals."""

from __future__ import annotations

import numpy as np


def ragged_name(dtype: np.dtype) -> str:
    """What a refusal of a ragged node of this type means.

    They are kept as lists in a database: one that has no lists has none of any type, but for
    uint64, which most databases do not have at all.
    """
    return "ragged u8" if dtype.str[1:] == "u8" else "ragged"


class ServerLimits:
    """What the databases behind one Tiled server cannot hold.

    Tiled does not say which database it keeps tables in, and asking costs a request. So everything
    is offered; what is refused is remembered here, for all runs of a writer, and goes to
    array nodes or to text from then on.
    """

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def has_column(self, dtype: np.dtype) -> bool:
        """Whether there may be a column of this type."""
        return dtype.str[1:] not in self._refused

    def has_ragged(self, dtype: np.dtype) -> bool:
        """Whether there may be a ragged node of this type."""
        return "ragged" not in self._refused and ragged_name(dtype) not in self._refused

    @property
    def has_lists(self) -> bool:
        """Whether there may be columns of lists."""
        return "lists" not in self._refused

    @property
    def has_nul(self) -> bool:
        """Whether text may contain NUL (not on PostgreSQL)."""
        return "NUL" not in self._refused

    def learn(self, what: str) -> bool:
        """Remember a refusal; False if it was known, so that trying again would not help."""
        if what in self._refused:
            return False
        self._refused.add(what)
        return True
