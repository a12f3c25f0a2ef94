"""Numpy dtypes to plain values and back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np


def describe(dtype: np.dtype[Any]) -> Any:
    """Return plain values from which `to_dtype` makes an equal dtype.

    `numpy.lib.format` does so for files, but fails on overlapping fields and warns about metadata,
    which is no part of the type.

    Returns
    -------
    str, list, dict or None
        A name, ``[base, shape]``, or the fields. None for dtypes that other packages add to numpy,
        whose names mean another dtype.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        described = describe(base)
        return None if described is None else [described, list(shape)]
    if dtype.names is None:
        return next((name for name in (dtype.str, dtype.char) if _means(name, dtype)), None)
    assert dtype.fields is not None
    fields = [dtype.fields[name] for name in dtype.names]
    formats = [describe(field[0]) for field in fields]
    if None in formats:
        return None
    return {
        "names": list(dtype.names),
        "formats": formats,
        "offsets": [field[1] for field in fields],
        "titles": [field[2] if len(field) > 2 else None for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def to_dtype(described: Any) -> np.dtype[Any]:
    """Return the dtype of what `describe` returned."""
    if isinstance(described, list):
        base, shape = described
        described = (to_dtype(base), tuple(shape))
    elif isinstance(described, dict):
        formats = [to_dtype(format_) for format_ in described["formats"]]
        described = described | {"formats": formats}
    return cast("np.dtype[Any]", np.dtype(described))


def _means(name: str, dtype: np.dtype[Any]) -> bool:
    try:
        return bool(np.dtype(name) == dtype)
    except TypeError:
        return False
