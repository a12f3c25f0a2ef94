"""Values without what wraps them, and values as text."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import numpy as np

from .json_values import to_json


def plain_scalar(value: Any) -> Any:
    """Unwrap a scalar: numpy scalars, 0-d arrays, enums and subclasses of str become plain values.

    Other values are returned as they are, as are times of numpy, which would lose their unit.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.generic) and value.dtype.kind not in "Mm":
        value = value.item()
    if isinstance(value, str):
        return str(value)
    return value


def json_text(value: Any) -> str:
    """Return a value as JSON text, with NaN as Python's json writes and reads it; text as it is."""
    if isinstance(value, bytes):
        value = to_json(value)[0]
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=_json_fallback)
    except (TypeError, ValueError):  # keys that are not text, or a value that contains itself
        return repr(value)


def _json_fallback(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else to_json(value)[0]
