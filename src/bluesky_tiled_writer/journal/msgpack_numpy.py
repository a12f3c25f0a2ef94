"""Values of numpy as msgpack_numpy writes them, which saved and published documents have."""

from __future__ import annotations

from typing import Any

import numpy as np


def from_msgpack_numpy(mapping: Any, unreadable: list[str]) -> Any:
    """Return the array, numpy scalar or complex number that msgpack_numpy turned into a mapping.

    This never raises, because msgpack could not read on; problems are added to `unreadable`.
    """
    try:
        if b"nd" in mapping:
            if mapping.get(b"kind") == b"O":
                unreadable.append("an array of pickled Python objects, which are not loaded")
                return None
            dtype, data = _dtype(mapping[b"type"]), mapping[b"data"]
            array = np.ndarray(mapping.get(b"shape", ()), dtype, buffer=data)
            return array if mapping[b"nd"] else array[()]
        if b"complex" in mapping:
            return complex(mapping[b"data"])
    except Exception as error:
        unreadable.append(f"an array that cannot be read: {error!r}")
        return None
    return mapping


def _dtype(described: Any) -> np.dtype[Any]:
    if isinstance(described, str):
        return np.dtype(described)
    return np.dtype([(field[0], _dtype(field[1]), *map(_size, field[2:])) for field in described])


def _size(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape
