"""Metadata as JSON can hold it, with a note of everything that it cannot hold exactly.

Pure functions: Python and numpy values in, plain JSON values out.
"""

from __future__ import annotations

import base64
import datetime
import enum
import math
from collections import UserString
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import numpy as np

JSON_INT_MIN, JSON_INT_MAX = -(2**63), 2**64 - 1
"""The integers that the JSON of Tiled (orjson) carries exactly."""

MAX_DEPTH = 200
"""Mappings and lists within one another; orjson refuses more than 254, some of them Tiled's own."""

NOTES_KEY = "_run_normalizer_notes"
"""Key of the stop document under which a normalizer hands its notes to the writer of the run."""


def to_json(value: Any, path: str = "") -> tuple[Any, list[str]]:
    """Return metadata as plain JSON values, and notes of what is not exact.

    What JSON can hold stays exact: numpy scalars and arrays become numbers and lists, mappings and
    sequences of any class dictionaries and lists, paths text. What it cannot hold (NaN, infinities,
    bytes, integers beyond 64 bit, keys that are not text, values that contain themselves, other
    objects) takes its nearest readable form.

    Parameters
    ----------
    value : Any
        A metadata value, usually a whole document.
    path : str
        Where the value stands, for the notes.

    Returns
    -------
    tuple of (Any, list of str)
        The plain value, and a note for each place where it is not exactly what was given.
    """
    conversion = _Conversion()
    return conversion.plain(value, path), conversion.notes


def safe_repr(value: Any) -> str:
    """Return the repr of a value, or that of a bare object if its own raises."""
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of a pydantic model; None for values of other types.

    Tables of ophyd-async are such models, whose fields are the columns.
    """
    return dict(value) if hasattr(type(value), "model_fields") else None


_CONTAINERS = frozenset({dict, list, tuple})


class _Conversion:
    """One conversion of a value to JSON, with its notes and the containers that it is within."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._within: list[int] = []

    def plain(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value, path)
        if kind is bool or value is None:
            return value
        if kind is int:
            return self._integer(value, path)
        if kind is float:
            return self._float(value, path)
        if kind in _CONTAINERS or isinstance(value, Mapping | list | tuple):
            return self._container(value, path)
        return self._other(value, path)

    def _container(self, value: Mapping[Any, Any] | Sequence[Any], path: str) -> Any:
        within = self._within
        if id(value) in within or len(within) == MAX_DEPTH:
            reason = "contains itself" if id(value) in within else "is nested too deeply"
            name = type(value).__name__
            self.notes.append(f"{path}: {name} {reason}; it is stored as its repr.")
            return self._text(safe_repr(value), path)
        within.append(id(value))
        try:
            if isinstance(value, list | tuple):
                return [self.plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
            return self._mapping(value, path)  # type: ignore[arg-type]
        finally:
            within.pop()

    def _mapping(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in value.items():
            name = key if type(key) is str else _key_text(key)
            where = f"{path}.{name}" if path else name
            if not isinstance(key, str):
                self.notes.append(f"{where}: the key {safe_repr(key)} is stored as text.")
            plain = self._text(name, where)
            if plain is not key and (plain != key or plain in result):
                plain = self._free(plain, where, value, result)
            result[plain] = self.plain(item, where)
        return result

    def _free(self, name: str, path: str, *taken: Mapping[Any, Any]) -> str:
        """Return a name that no other key of a mapping has."""
        free = name
        while any(free in keys for keys in taken):
            free += "_"
        if free != name:
            self.notes.append(f"{path}: another key is {name!r}; this one is {free!r}.")
        return free

    def _integer(self, value: int, path: str) -> int | str:
        if JSON_INT_MIN <= value <= JSON_INT_MAX:
            return value
        self.notes.append(f"{path}: the integer {value} is beyond 64 bit and is stored as text.")
        return str(value)

    def _float(self, value: float, path: str) -> float | str:
        if math.isfinite(value):
            return value
        text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        self.notes.append(f"{path}: JSON has no {text}; it is stored as the text {text!r}.")
        return text

    def _text(self, value: str, path: str) -> str:
        # A catalog on PostgreSQL refuses NUL in JSON, and UTF-8 has no lone surrogates:
        # one such character would cost the whole document.
        plain = value.replace("\0", "\N{SYMBOL FOR NULL}")
        plain = plain.encode("utf-8", "backslashreplace").decode()
        if plain == value:
            return value
        self.notes.append(f"{path}: {value!r} has characters that JSON storage cannot hold.")
        return plain

    def _other(self, value: Any, path: str) -> Any:
        """Convert the rarer types, most of which wrap a plain value."""
        if isinstance(value, enum.Enum):
            return self.plain(value.value, path)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
            return self._numbers(value, path)
        if isinstance(value, str):
            return self._text(str(value), path)
        if isinstance(value, int):
            return self._integer(int(value), path)
        if isinstance(value, float):
            return self._float(float(value), path)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value), path)
        if isinstance(value, datetime.date | datetime.time):
            self.notes.append(f"{path}: {value!r} is stored as text.")
            return value.isoformat()
        if isinstance(value, UserString | PurePath):
            return self._text(str(value), path)
        if isinstance(value, Set):
            self.notes.append(f"{path}: a set is stored as a list.")
            return [self.plain(item, path) for item in sorted(value, key=safe_repr)]
        if (items := _items(value)) is not None:
            return self._container(items, path)
        if (columns := _columns(value)) is not None:
            return self._container(columns, path)
        if isinstance(value, np.ndarray):
            self.notes.append(f"{path}: an array of {value.dtype} is stored as a list.")
            items = value.tolist()
            return self.plain([_element(i) for i in items] if value.ndim else items, path)
        name = type(value).__name__
        self.notes.append(f"{path}: {name} has no JSON form; it is stored as its repr.")
        return self._text(safe_repr(value), path)

    def _numbers(self, value: np.ndarray | np.generic, path: str) -> Any:
        if value.dtype.kind == "f" and value.dtype.itemsize > 8:  # which Python has no type for
            with np.errstate(over="ignore"):
                nearest = value.astype("f8")
            if not np.array_equal(nearest, value, equal_nan=True):
                self.notes.append(f"{path}: {value.dtype} is stored as the nearest float64.")
            value = nearest
        return self.plain(value.tolist(), path)

    def _bytes(self, value: bytes, path: str) -> str:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            self.notes.append(f"{path}: bytes are stored as base64 text.")
            return base64.b64encode(value).decode()
        self.notes.append(f"{path}: bytes are stored as UTF-8 text.")
        return self._text(text, path)


def _columns(value: Any) -> Mapping[str, Any] | None:
    """Return the columns of a table or an array of records, by name; None for other values."""
    if isinstance(value, np.ndarray | np.void) and value.dtype.names is not None:
        return {name: value[name] for name in value.dtype.names}
    try:
        return fields_of(value)
    except Exception:  # any object may look like one
        return None


def _items(value: Any) -> list[Any] | None:
    """Return the items of a deque, a range or another sequence; None for other values."""
    try:
        return list(value) if isinstance(value, Sequence) else None
    except Exception:  # a class of another package
        return None


def _key_text(key: Any) -> str:
    try:
        return str(key.value if isinstance(key, enum.Enum) else key)
    except Exception:
        return object.__repr__(key)


def _element(item: Any) -> Any:
    return str(item) if isinstance(item, complex | np.generic) else item
