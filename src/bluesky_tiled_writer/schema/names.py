"""Names of columns, nodes and dimensions: what SQL, URLs, file systems and xarray accept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from urllib.parse import quote_plus

MAX_COLUMNS = 1024
"""Columns that one SQL table may have (the limit that the other writers use)."""

MAX_NAME_BYTES = 63
"""Bytes in an SQL identifier (PostgreSQL's limit, the lowest; Tiled enforces it everywhere)."""

# Tiled refuses these in column names, see tiled.adapters.sql; names that start with an
# underscore are its own. Control characters break the statement that creates the table.
_FORBIDDEN = re.compile(r"""['"`;\\%()=+\x00-\x1f\ud800-\udfff]|--|/\*|\*/""")
_COLUMN = re.compile(r"[A-Za-z].*")

# Tiled's client puts names into URLs as they are: these end a path segment or change it on the
# way (`%41` arrives as `A`). Control characters are no part of a file name, and lone surrogates
# no part of any URL.
_UNADDRESSABLE = re.compile(r"[/?#\x00-\x1f\x7f\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})")
_DOTS = re.compile(r"\.{0,2}")
_TABLE = re.compile(r"internal(_\d+)?")

_MAX_FILE_NAME = 240
"""Bytes of a node's name, quoted as Tiled quotes it for a file: most file systems take 255."""

_NO_WORD = re.compile(r"[^A-Za-z0-9_]")

_KEPT_COLUMN = 40
"""Characters that are left of a name that is substituted."""

_KEPT = 60
"""Characters that are left of a longer name, before the digest that tells it from others."""


def is_column_name(name: str) -> bool:
    """Return True if Tiled accepts the name as that of an SQL column."""
    return (
        _COLUMN.fullmatch(name) is not None
        and _FORBIDDEN.search(name) is None
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def is_addressable(name: str) -> bool:
    """Return True if a node of this name can be opened: it arrives in a URL as it is."""
    return not _UNADDRESSABLE.search(name) and not _DOTS.fullmatch(name)


class Names:
    """The names in use in a stream: those of columns, which SQL tells apart without case."""

    def __init__(self) -> None:
        self._columns = {"seq_num", "time", "_dataset_id", "_partition_id"}
        self._nodes: set[str] = set()

    def column(self, name: str, *, reserve: int = 0) -> str | None:
        """Reserve and return a name for a column: `name`, or one like it that can be opened.

        Tiled's client puts it into a URL, and would read another column, or none.

        Parameters
        ----------
        name : str
            Name of the column.
        reserve : int
            Bytes to be left for a prefix of the name.

        Returns
        -------
        str or None
            None if SQL refuses the name, or has no room for it and the prefix, or if a column
            has this name in upper or lower case.
        """
        free = _UNADDRESSABLE.sub("_", name)
        while free != name and free.lower() in self._columns:
            free += "_"
        if not is_column_name(free) or free.lower() in self._columns:
            return None
        if len(free.encode()) + reserve > MAX_NAME_BYTES:
            return None
        self._columns.add(free.lower())
        return free

    def substitute(self, name: str) -> str:
        """Reserve and return a name for a column in place of one that SQL refuses."""
        free = _NO_WORD.sub("_", name)[:_KEPT_COLUMN]
        if not free[:1].isalpha():
            free = f"key{free}"
        while free.lower() in self._columns:
            free += "_"
        self._columns.add(free.lower())
        return free

    def node(self, name: str) -> str:
        """Reserve and return a name for a node: `name`, or one like it that can be used.

        It differs where a URL or a file cannot have the name, where it is that of a table, and
        where another node has it.
        """
        free = _UNADDRESSABLE.sub("_", name)
        if _DOTS.fullmatch(free):
            free += "_"
        if len(_quoted(free)) > _MAX_FILE_NAME:
            digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8)
            free = free[:_KEPT]
            while len(_quoted(free)) > _MAX_FILE_NAME - 40:
                free = free[:-1]
            free = f"{free}_{digest.hexdigest()}"
        while free in self._nodes or _TABLE.fullmatch(free):
            free += "_"
        self._nodes.add(free)
        return free


def _quoted(name: str) -> str:
    return quote_plus(name, errors="replace")


def timestamp_name(key: str) -> str:
    """Return the name of the column with the timestamps of a key."""
    return f"ts_{key}"


def parts(columns: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Spread columns over tables of at most `MAX_COLUMNS`.

    Returns
    -------
    list of (str, list of str)
        Node names and their columns: one `internal`, or `internal_0`, `internal_1`, ... of about
        equal size in the order of the column names, as the other writers name and fill them.
    """
    if len(columns) <= MAX_COLUMNS:
        return [("internal", list(columns))]
    ordered = sorted(columns)
    count = -(-len(ordered) // MAX_COLUMNS)
    size = -(-len(ordered) // count)
    return [
        (f"internal_{i}", ordered[start : start + size])
        for i, start in enumerate(range(0, len(ordered), size))
    ]


def further_parts(columns: Sequence[str], tables: Collection[str]) -> list[tuple[str, list[str]]]:
    """Spread columns over tables beside those that a stream has, which take no more columns."""
    free = (name for i in count(1) if (name := f"internal_{i}") not in tables)
    starts = range(0, len(columns), MAX_COLUMNS)
    return [(next(free), list(columns[start : start + MAX_COLUMNS])) for start in starts]


def dimension_names(
    shape: Iterable[int | None], shared: dict[tuple[int, int], str]
) -> tuple[str, ...]:
    """Name the dimensions of a node, the first of which counts events.

    Dimensions of equal size share a name throughout a stream, so that they align in an xarray
    Dataset; but not within one array, where xarray allows a name only once. A dimension of varying
    size is named by its axis.

    Parameters
    ----------
    shape : iterable of (int or None)
        The shape of a row; None where it varies.
    shared : dict
        The names of the stream so far, by size and by how many dimensions of this size come
        before in the same array; gets the new ones.

    Returns
    -------
    tuple of str
        One name more than the shape has dimensions.
    """
    names = ["time"]
    sizes: list[int] = []
    for axis, size in enumerate(shape, start=1):
        if size is None:
            names.append(f"dim_rgd_{axis}")
            continue
        which = (size, sizes.count(size))
        sizes.append(size)
        names.append(shared.setdefault(which, f"dim_int_{len(shared) + 1}"))
    return tuple(names)
