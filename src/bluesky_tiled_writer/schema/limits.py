"""Limits of a server, learned from what it refuses."""

from __future__ import annotations

import sys

import numpy as np


def ragged_name(dtype: np.dtype) -> str:
    """Return the name of the limit that the refusal of a ragged node of this type shows.

    Tiled keeps ragged nodes as lists in a database. One that has no lists refuses every type;
    uint64 is refused by most databases, with or without lists.
    """
    return "ragged u8" if dtype.str[1:] == "u8" else "ragged"


class RequestSize:
    """The size of requests that a server, or a proxy before it, takes, learned from refusals.

    Attributes
    ----------
    most : int
        Bytes of a request that was not refused for its size so far.
    """

    def __init__(self) -> None:
        self.most = sys.maxsize

    def refused(self, nbytes: int, *, final: bool) -> None:
        """Learn that a request of this size is too large.

        If it is `final`, because it cannot be made smaller, somebody will have to raise the limit:
        then all is forgotten, and what it is afterwards is learned anew.
        """
        self.most = sys.maxsize if final else min(self.most, nbytes - 1)


class ServerLimits:
    """Types that the databases behind one Tiled server cannot hold.

    Tiled does not say which database it keeps tables in, and a request that finds out costs time.
    So everything is offered at first; what the server refuses is remembered here, for all runs of
    a writer, and goes to array nodes or to text from then on.

    Parameters
    ----------
    request_size : RequestSize, optional
        What is known of the size of requests; all writers for a server share it.

    Attributes
    ----------
    database : str
        What it keeps tables in: the scheme of the URI that the answer to the creation of a table
        has. Empty as long as there was none.
    """

    def __init__(self, request_size: RequestSize | None = None) -> None:
        self.request_size = request_size or RequestSize()
        self.database = ""
        self._refused: set[str] = set()

    @property
    def writes_concurrently(self) -> bool:
        """True if the database is known to take several writes at the same time.

        On DuckDB all requests share a connection, and get into each other's transactions. SQLite
        refuses an append while another one is under way.
        """
        return self.database == "postgresql"

    @property
    def loses_rows(self) -> bool:
        """True if the database may lose rows of appends that were answered with success.

        On DuckDB a read that fails undoes the append that is in the same transaction.
        """
        return self.database == "duckdb"

    def take_over(self, other: ServerLimits) -> None:
        """Know all that another object knows."""
        self.database = other.database
        self._refused |= other._refused.copy()

    def knows(self, what: str) -> bool:
        """Return True if that was refused."""
        return what in self._refused

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

    @property
    def may_delete(self) -> bool:
        """False if the login was found not to have the right to delete nodes."""
        return "deletion" not in self._refused

    def learn(self, what: str) -> bool:
        """Remember a refusal.

        Parameters
        ----------
        what : str
            A type (`u8`, ...), `lists`, `NUL`, `order`, `deletion`, or what `ragged_name` returns.

        Returns
        -------
        bool
            False if it was known already, so that another attempt would fail as this one did.
        """
        if what in self._refused:
            return False
        self._refused.add(what)
        return True
