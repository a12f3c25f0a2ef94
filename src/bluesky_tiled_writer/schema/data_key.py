"""Data keys as a descriptor declares them, and the forms in which values can be stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

TEXT = np.dtype("U")
"""Stands for text of any length."""

JSON_TYPES: Mapping[str, np.dtype] = {
    "number": np.dtype("f8"),
    "integer": np.dtype("i8"),
    "boolean": np.dtype("?"),
    "string": TEXT,
}
"""The types that the JSON types of the event model stand for, if there is no `dtype_numpy`."""


class Source(Enum):
    """The part of an event that a column comes from."""

    SEQ_NUM = 0
    TIME = 1
    DATA = 2
    TIMESTAMPS = 3
    ROW_NUMBER = 4
    """Not of an event: the number of the row in its stream."""
    VERBATIM = 5
    """Not of an event: the values of a key that are not stored as they came."""


class StorageForm(Enum):
    """The forms in which the values of a key can be stored."""

    COLUMN = "a column of the table"
    LIST = "a list column of the table"
    ARRAY = "an array node"
    RAGGED = "a ragged node"
    JSON = "a text column of the table, as JSON"

    @property
    def in_table(self) -> bool:
        """True for a column of the stream's table, False for a node of its own."""
        return self in (StorageForm.COLUMN, StorageForm.LIST, StorageForm.JSON)


@dataclass(frozen=True)
class DeclaredKey:
    """A data key as a descriptor declares it.

    Parameters
    ----------
    key : str
        Name of the data key.
    is_array : bool
        True if its values are arrays.
    dtype : numpy.dtype or None
        Type of its elements (`TEXT` for text of any length), None if not declared.
    shape : tuple of (int or None) or None
        Shape of one value, None if not declared.
    data_key : mapping
        The data key of the descriptor, which becomes the metadata of its node.
    external : bool
        True if the values are in files, except in events that are filled.
    """

    key: str
    is_array: bool
    dtype: np.dtype | None
    shape: tuple[int | None, ...] | None
    data_key: Mapping[str, Any]
    external: bool = False

    @classmethod
    def from_data_key(cls, key: str, data_key: Mapping[str, Any]) -> DeclaredKey:
        """Read one entry of the `data_keys` of a descriptor that was brought up to date."""
        dtype = numpy_type(data_key.get("dtype_numpy"))
        sizes = data_key.get("shape") or ()
        shape = tuple(None if size is None or size < 0 else size for size in sizes)
        json_type = data_key.get("dtype", "number")
        is_array = json_type == "array" or (bool(shape) and json_type not in JSON_TYPES)
        text = json_type == "string" and dtype is not None and dtype.kind in "biufc"
        if dtype is None or dtype.kind == "O":
            dtype = None if is_array else JSON_TYPES.get(json_type, TEXT)
        elif not is_array and (text or dtype.kind in "SU"):
            dtype = TEXT  # ophyd-async declares all text as bytes
        declared_shape = shape if is_array and shape else None if is_array else ()
        return cls(key, is_array, dtype, declared_shape, data_key, "external" in data_key)


def numpy_type(description: Any) -> np.dtype | None:
    """Read a `dtype_numpy`: a type string or a list of fields; None if numpy has no such type."""
    if not description:
        return None
    try:
        if isinstance(description, str):
            return _without_long_double(np.dtype(description))
        return np.dtype([tuple(field) for field in description])
    except (TypeError, ValueError, SyntaxError, OverflowError):  # numpy parses it like Python
        return None


def _without_long_double(dtype: np.dtype) -> np.dtype:
    """Return float64 or complex128 for wider types, whose layout depends on the machine."""
    widest = {"f": "f8", "c": "c16"}.get(dtype.kind)
    return np.dtype(widest) if widest and dtype.itemsize > np.dtype(widest).itemsize else dtype


def column_type_exists(dtype: np.dtype) -> bool:
    """Return True if a column of the type exists on one of Tiled's databases at least."""
    return dtype.kind in "bU" or dtype.str[1:] in (
        "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8",
    )  # fmt: skip
