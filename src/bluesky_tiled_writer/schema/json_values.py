"""Metadata that JSON can hold, and a note of everything that it could not.

Pure functions: Python and numpy values in, plain JSON values out.
"""

from __future__ import annotations

import base64
import datetime
import enum
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

JSON_INT_MIN, JSON_INT_MAX = -(2**63), 2**64 - 1
"""The integers that the JSON of Tiled (orjson) carries exactly."""

NOTES_KEY = "_run_normalizer_notes"
"""Where the stop document carries the notes of a normalizer to whoever writes the run."""


def to_json(value: Any, path: str = "") -> tuple[Any, list[str]]:
    """Turn metadata into plain JSON values.

    Whatever JSON holds exactly stays what it is: numpy scalars and arrays become numbers and
    lists, tuples become lists. What it cannot hold (NaN, infinities, bytes, integers beyond
    64 bit, keys that are not text, other objects) takes its nearest readable form.

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
    notes: list[str] = []
    return _plain(value, path, notes), notes


def _plain(value: Any, path: str, notes: list[str]) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value, path, notes)
    if kind is bool or value is None:
        return value
    if kind is int:
        return _integer(value, path, notes)
    if kind is float:
        return _float(value, path, notes)
    if isinstance(value, Mapping):
        return _mapping(value, path, notes)
    if kind is list or kind is tuple:
        return [_plain(item, f"{path}[{i}]", notes) for i, item in enumerate(value)]
    return _other(value, path, notes)


def _mapping(value: Mapping[Any, Any], path: str, notes: list[str]) -> dict[str, Any]:
    result = {}
    for key, item in value.items():
        name = key if type(key) is str else str(key.value if isinstance(key, enum.Enum) else key)
        where = f"{path}.{name}" if path else name
        if not isinstance(key, str):
            notes.append(f"{where}: the key {key!r} is stored as text.")
        result[_text(name, where, notes)] = _plain(item, where, notes)
    return result


def _integer(value: int, path: str, notes: list[str]) -> int | str:
    if JSON_INT_MIN <= value <= JSON_INT_MAX:
        return value
    notes.append(f"{path}: the integer {value} is beyond 64 bit and is stored as text.")
    return str(value)


def _float(value: float, path: str, notes: list[str]) -> float | str:
    if math.isfinite(value):
        return value
    text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    notes.append(f"{path}: JSON has no {text}; it is stored as the text {text!r}.")
    return text


def _text(value: str, path: str, notes: list[str]) -> str:
    # A catalog on PostgreSQL refuses NUL in JSON, and UTF-8 has no lone surrogates:
    # one such character would cost the whole document.
    plain = value.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode()
    if plain != value:
        notes.append(f"{path}: {value!r} has characters that JSON storage cannot hold.")
    return plain


def _other(value: Any, path: str, notes: list[str]) -> Any:
    """Values of the rarer types, most of which are a plain value in disguise."""
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, notes)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        return _plain(value.tolist(), path, notes)
    if isinstance(value, list | tuple):
        return _plain(list(value), path, notes)
    if isinstance(value, str):
        return _text(str(value), path, notes)
    if isinstance(value, int):
        return _integer(int(value), path, notes)
    if isinstance(value, float):
        return _float(float(value), path, notes)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value), path, notes)
    if isinstance(value, datetime.date | datetime.time):
        notes.append(f"{path}: {value!r} is stored as text.")
        return value.isoformat()
    if isinstance(value, set | frozenset):
        notes.append(f"{path}: a set is stored as a list.")
        return [_plain(item, path, notes) for item in sorted(value, key=repr)]
    if isinstance(value, np.ndarray):
        notes.append(f"{path}: an array of {value.dtype} is stored as a list.")
        return _plain([_element(item) for item in value.tolist()], path, notes)
    notes.append(f"{path}: {type(value).__name__} has no JSON form; it is stored as its repr.")
    return _text(repr(value), path, notes)


def _element(item: Any) -> Any:
    return str(item) if isinstance(item, complex | np.generic) else item


def _bytes(value: bytes, path: str, notes: list[str]) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        notes.append(f"{path}: bytes are stored as base64 text.")
        return base64.b64encode(value).decode()
    notes.append(f"{path}: bytes are stored as UTF-8 text.")
    return _text(text, path, notes)
