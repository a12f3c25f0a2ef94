"""From a descriptor to the place of each data key: what is declared, and what SQL can name.

Pure functions of the descriptor.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote_plus

import numpy as np

TEXT = np.dtype("U")
"""Stands for text of any length."""

JSON_TYPES: Mapping[str, np.dtype] = {
    "number": np.dtype("f8"),
    "integer": np.dtype("i8"),
    "boolean": np.dtype("?"),
    "string": TEXT,
}
"""What the JSON types of the event model mean when no `dtype_numpy` says more."""

MAX_COLUMNS = 1024
"""Columns that one SQL table may have (the limit that the other writers use)."""

MAX_NAME_BYTES = 63
"""Bytes in an SQL identifier (PostgreSQL's limit, the lowest; Tiled enforces it everywhere)."""

# Tiled refuses these in column names, see tiled.adapters.sql; names that start with an
# underscore are its own. Control characters break the statement that creates the table.
_FORBIDDEN = re.compile(r"""['"`;\\%()=+\x00-\x1f]|--|/\*|\*/""")
_COLUMN = re.compile(r"[A-Za-z].*")

# What a path segment cannot carry in a URL, as Tiled's client builds its URLs, or in a file name.
_UNADDRESSABLE = re.compile(r"[/?#\x00-\x1f]")
_MAX_FILE_NAME = 240
_TABLE = re.compile(r"internal(_\d+)?")


class Source(Enum):
    """The part of an event that a column comes from."""

    SEQ_NUM = 0
    TIME = 1
    DATA = 2
    TIMESTAMPS = 3


class StorageForm(Enum):
    """Where the values of a key go."""

    COLUMN = "a column of the table"
    LIST = "a list column of the table"
    ARRAY = "an array node"
    RAGGED = "a ragged node"
    JSON = "a text column of the table, as JSON"

    @property
    def in_table(self) -> bool:
        """Whether the values are a column of the stream's table."""
        return self in (StorageForm.COLUMN, StorageForm.LIST, StorageForm.JSON)


@dataclass(frozen=True)
class DeclaredKey:
    """What a descriptor says of one data key.

    Parameters
    ----------
    key : str
        Name of the data key.
    is_array : bool
        Whether its values are arrays.
    dtype : numpy.dtype or None
        Type of its elements (`TEXT` for text of any length), None if not declared.
    shape : tuple of (int or None) or None
        Shape of one value, None if not declared.
    data_key : mapping
        The data key of the descriptor, kept as the metadata of its node.
    external : bool
        Whether the values come from files, unless an event is filled.
    """

    key: str
    is_array: bool
    dtype: np.dtype | None
    shape: tuple[int | None, ...] | None
    data_key: Mapping[str, Any]
    external: bool = False

    @classmethod
    def from_data_key(cls, key: str, data_key: Mapping[str, Any]) -> DeclaredKey:
        """Read one entry of a descriptor's `data_keys`, after normalization."""
        dtype = numpy_type(data_key.get("dtype_numpy"))
        shape = tuple(data_key.get("shape") or ())
        json_type = data_key.get("dtype", "number")
        is_array = json_type == "array" or (bool(shape) and json_type not in JSON_TYPES)
        if dtype is None or dtype.kind == "O":
            dtype = None if is_array else JSON_TYPES.get(json_type, TEXT)
        declared_shape = shape if is_array and shape else None if is_array else ()
        return cls(key, is_array, dtype, declared_shape, data_key, "external" in data_key)


def numpy_type(description: Any) -> np.dtype | None:
    """Read a `dtype_numpy`: a type string, or a list of fields; None where numpy does not know."""
    if not description:
        return None
    if not isinstance(description, str):
        try:
            return np.dtype([tuple(field) for field in description])
        except (TypeError, ValueError):
            return None
    try:
        return np.dtype(description)
    except TypeError:
        return None


def column_type_exists(dtype: np.dtype) -> bool:
    """Whether Tiled has an SQL column for the type, on one database at least."""
    return dtype.kind in "bU" or dtype.str[1:] in (
        "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8",
    )  # fmt: skip


def is_column_name(name: str) -> bool:
    """Whether Tiled takes the name as that of an SQL column."""
    return (
        len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
        and _COLUMN.fullmatch(name) is not None
        and _FORBIDDEN.search(name) is None
    )


class Names:
    """The names in use in a stream; SQL does not tell `A` from `a`."""

    def __init__(self) -> None:
        self._columns = {"seq_num", "time", "_dataset_id", "_partition_id"}
        self._nodes: set[str] = set()

    def column(self, name: str, *, reserve: int = 0) -> bool:
        """Take a name for a column, if SQL has room for it and for `reserve` bytes more."""
        if not is_column_name(name) or name.lower() in self._columns:
            return False
        if len(name.encode()) + reserve > MAX_NAME_BYTES:
            return False
        self._columns.add(name.lower())
        return True

    def node(self, name: str) -> str:
        """Take a name for a node: itself, unless it cannot be addressed or is in use."""
        free = _UNADDRESSABLE.sub("_", name)
        if len(quote_plus(free, errors="replace")) > _MAX_FILE_NAME:
            digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8)
            free = f"{quote_plus(free[:60], errors='replace')[:200]}_{digest.hexdigest()}"
        while free in self._nodes or _TABLE.fullmatch(free):
            free += "_"
        self._nodes.add(free)
        return free


def timestamp_name(key: str) -> str:
    """Name of the column with the timestamps of a key."""
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


def dimension_names(
    shape: Iterable[int | None], shared: dict[tuple[int, int], str]
) -> tuple[str, ...]:
    """Name the dimensions of a node, the first of which counts events.

    Equal sizes share a name throughout a stream (`shared` keeps them), so that they align in an
    xarray Dataset; but not within one array, where xarray takes a name only once. A dimension of
    varying size has a name by its axis.
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
