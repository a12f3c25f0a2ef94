"""Limits of a server, learned from what it refuses."""

from __future__ import annotations

import numpy as np


def ragged_name(dtype: np.dtype) -> str:
    """Return the name of the limit that the refusal of a ragged node of this type shows.

    Tiled keeps ragged nodes as lists in a database. One that has no lists refuses every type;
    uint64 is refused by most databases, with or without lists.
    """
    return "ragged u8" if dtype.str[1:] == "u8" else "ragged"


class ServerLimits:
    """Types that the databases behind one Tiled server cannot hold.

    Tiled does not say which database it keeps tables in, and a request that finds out costs time.
    So everything is offered at first; what the server refuses is remembered here, for all runs of
    a writer, and goes to array nodes or to text from then on.
    """

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def has_column(self, dtype: np.dtype) -> bool:
        """Return False if columns of this type were refused."""
        return dtype.str[1:] not in self._refused

    def has_ragged(self, dtype: np.dtype) -> bool:
        """Return False if ragged nodes of this type were refused."""
        return "ragged" not in self._refused and ragged_name(dtype) not in self._refused

    @property
    def has_lists(self) -> bool:
        """False if columns of lists were refused."""
        return "lists" not in self._refused

    @property
    def has_order(self) -> bool:
        """False if the server was found not to sort the rows of a table as it is asked to."""
        return "order" not in self._refused

    @property
    def has_nul(self) -> bool:
        """False if text with NUL was refused (PostgreSQL)."""
        return "NUL" not in self._refused

    def learn(self, what: str) -> bool:
        """Remember a refusal.

        Parameters
        ----------
        what : str
            A type (`u8`, ...), `lists`, `NUL`, `order`, or what `ragged_name` returns.

        Returns
        -------
        bool
            False if it was known already, so that another attempt would fail as this one did.
        """
        if what in self._refused:
            return False
        self._refused.add(what)
        return True
