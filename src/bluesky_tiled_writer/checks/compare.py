"""Values compared: as documents have them beside as readers get them.

Pure functions, which know nothing of how values were stored. Numbers are equal if they are the same
number, whatever their types; None equals NaN, since readers of tables see no difference; text that
holds JSON equals the array that it was made from; an array of one element equals the element.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_tiled_writer.schema import (
    FLOAT_EXACT,
    fields_of,
    only_element,
    plain_number,
    plain_scalar,
    regular_block,
    verbatim,
)

_MAX_TEXT = 200  # characters of a value in a message


def same(measured: Any, stored: Any) -> bool:
    """Return True if a stored value is the one of a document.

    Parameters
    ----------
    measured : Any
        The value in the document; None if it has none.
    stored : Any
        A cell of a table as Arrow gives it, or a row of an array (a scalar if the array has one
        dimension).
    """
    measured, stored = plain_scalar(measured), plain_scalar(stored)
    if isinstance(measured, np.ma.MaskedArray):
        measured = measured.tolist()
    if isinstance(table := fields_of(measured) or measured, Mapping):
        return _same_table(table, stored)
    if is_array(measured):
        found = _from_json(stored)
        if is_array(found):
            return _same_arrays(measured, found)
        measured = only_element(measured)
        return not is_array(measured) and same(measured, stored)
    found = stored if isinstance(measured, str) else _from_json(stored)
    if is_array(found):
        stored = only_element(found)
    if is_blank(measured):
        return is_blank(stored)
    number, _ = plain_number(measured)
    if number is not None:
        measured, stored = number, _complex_of_text(stored)
    if isinstance(measured, str) and isinstance(stored, bytes):  # its data key declares bytes
        measured = measured.encode("utf-8", "surrogatepass")
    try:
        return type(measured == stored) in (bool, np.bool_) and bool(measured == stored)
    except Exception:  # objects may refuse to be compared
        return False


def _same_table(measured: Mapping[str, Any], stored: Any) -> bool:
    """Compare the columns of a table with records, or with JSON that has them."""
    found = _from_json(stored)
    if isinstance(found, np.ndarray | np.void) and found.dtype.names is not None:
        found = {name: found[name] for name in found.dtype.names}
    if not isinstance(found, Mapping) or found.keys() != measured.keys():
        return False
    return all(same(measured[name], found[name]) for name in measured)


def _from_json(stored: Any) -> Any:
    """Return the value in a text that is JSON; other values as they are."""
    try:
        return json.loads(stored) if isinstance(stored, str) else stored
    except ValueError:
        return stored


def _complex_of_text(stored: Any) -> Any:
    """Return the complex number in a text, which JSON has no other form for."""
    try:
        return complex(stored) if isinstance(stored, str) and stored.endswith("j)") else stored
    except ValueError:
        return stored


def is_array(value: Any) -> bool:
    """Return True if a value has elements."""
    return isinstance(value, list | tuple | np.ndarray)


def is_blank(value: Any) -> bool:
    """Return True for what readers see as missing: None, NaN and NaT."""
    if value is None:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, complex):
        return math.isnan(value.real) or math.isnan(value.imag)
    return isinstance(value, float) and math.isnan(value)


def _same_arrays(measured: Any, stored: Any) -> bool:
    if isinstance(measured, np.ndarray) and isinstance(stored, np.ndarray):
        if measured.shape != stored.shape:
            return False
        if (exact := _same_at_once(measured, stored)) is not None:
            return exact
    return _same_nested(measured, stored)


def _same_at_once(measured: np.ndarray, stored: np.ndarray) -> bool | None:
    """Compare whole arrays; None where numpy cannot tell, so that elements must be compared."""
    kinds = {measured.dtype.kind, stored.dtype.kind}
    if kinds <= {"f"} or kinds <= {"c"}:
        return bool(np.array_equal(measured, stored, equal_nan=True))
    if len(kinds) == 1 and kinds <= set("biuUSMm"):
        return bool(np.array_equal(measured, stored)) or None
    if kinds <= set("biuf"):
        # numpy compares integers with floats as float64, which is exact below this.
        with np.errstate(invalid="ignore"):
            if not bool((np.abs(stored.astype("f8")) >= FLOAT_EXACT).any()):
                return bool(np.array_equal(measured, stored)) or None
    return None


def _same_nested(measured: Any, stored: Any) -> bool:
    measured, stored = _plain(measured), _plain(stored)
    if isinstance(measured, list | tuple) and isinstance(stored, list | tuple):
        return len(measured) == len(stored) and all(map(_same_nested, measured, stored))
    return not is_array(measured) and not is_array(stored) and same(measured, stored)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.void) else value


def different_rows(measured: Sequence[Any], stored: Sequence[Any]) -> Iterator[int]:
    """Yield the rows in which two columns differ; the columns have the same length."""
    if isinstance(stored, np.ndarray) and stored.ndim > 1:
        block = regular_block(measured)
        if block is not None and block.shape == stored.shape and _same_at_once(block, stored):
            return
    for row, (was, now) in enumerate(zip(measured, stored, strict=True)):
        if not same(was, now):
            yield row


def different_metadata(expected: Any, stored: Any, path: str) -> Iterator[tuple[str, str]]:
    """Compare metadata of plain JSON values.

    Parameters
    ----------
    expected, stored : Any
        Values of JSON.
    path : str
        Where they are, such as "start.sample".

    Yields
    ------
    str, str
        The path of a difference, and what is different.
    """
    if isinstance(expected, Mapping) and isinstance(stored, Mapping):
        for key in {**expected, **stored}:
            where = f"{path}.{key}"
            if key not in stored:
                yield where, f"{shortened(expected[key])} is not stored"
            elif key not in expected:
                yield where, f"{shortened(stored[key])} is stored, but not in the document"
            else:
                yield from different_metadata(expected[key], stored[key], where)
    elif expected != stored or isinstance(expected, bool) != isinstance(stored, bool):
        yield path, f"{shortened(expected)}, but {shortened(stored)} is stored"


def shortened(value: Any) -> str:
    """Return a value as text for a message of one line."""
    text = verbatim(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
