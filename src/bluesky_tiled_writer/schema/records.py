"""Records: values of a structured type, in columns, so that each field keeps its own type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .array_type import ArrayType
from .to_numpy import depth_of, row_of
from .widening import TypeRequirements

FitField = Callable[[np.ndarray, np.dtype], np.ndarray | None]
"""Returns elements in the kind of type that a field declares; None if they do not fit."""


class RecordType:
    """The type of all records so far: of each field, the type that holds all of its values.

    Parameters
    ----------
    declared : numpy.dtype
        The declared type, which has fields.
    """

    def __init__(self, declared: np.dtype) -> None:
        assert declared.fields is not None
        self.declared = declared
        self._declared_fields = {name: field[0] for name, field in declared.fields.items()}
        self._types = {
            name: ArrayType(field.base, TypeRequirements())
            for name, field in self._declared_fields.items()
        }

    @property
    def dtype(self) -> np.dtype:
        """The type that holds all of them: the declared one, if it does."""
        found = {name: found.dtype for name, found in self._types.items()}
        if all(self._declared_fields[name].base == dtype for name, dtype in found.items()):
            return self.declared
        return self._with_fields(found)

    def _with_fields(self, types: Mapping[str, np.dtype]) -> np.dtype:
        names = self.declared.names or ()
        return np.dtype([(name, types[name], self._declared_fields[name].shape) for name in names])

    def parse(self, value: Any, fit: FitField) -> np.ndarray | None:
        """Return a value as an array of records, whose fields have the types of the value.

        Parameters
        ----------
        value : Any
            An array of records, a table (a mapping of columns), or nested lists of records, which
            are lists themselves in JSON.
        fit : callable
            Decides if the values of a field fit.

        Returns
        -------
        numpy.ndarray or None
            None if it has other fields, or values that do not fit.
        """
        columns = self._columns(value)
        if columns is None:
            return None
        fitted: dict[str, np.ndarray] = {}
        shapes = set()
        for name, column in columns.items():
            row, _ = row_of(column)
            declared = self._declared_fields[name]
            if not isinstance(row, np.ndarray):
                return None
            items = row.astype(declared.base) if row.size == 0 else fit(row, declared.base)
            if items is None:
                return None
            inner = len(declared.shape)
            if items.shape[items.ndim - inner :] != declared.shape:
                return None
            shapes.add(items.shape[: items.ndim - inner])
            fitted[name] = items
        if len(shapes) != 1:
            return None
        records = np.empty(shapes.pop(), self._with_fields({n: f.dtype for n, f in fitted.items()}))
        for name, items in fitted.items():
            records[name] = items
            self._types[name].account(items)
        return records

    def _columns(self, value: Any) -> Mapping[str, Any] | None:
        names = self.declared.names or ()
        if isinstance(value, np.ndarray | np.void) and value.dtype.names is not None:
            value = np.asarray(value)
            return (
                {name: value[name] for name in names} if _same(value.dtype.names, names) else None
            )
        if isinstance(value, Mapping):
            return value if _same(value, names) else None
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            return None
        # By the value alone: with the shape of other rows it would mean something else in each.
        ndim = depth_of(value) - 1 - len(self._declared_fields[names[0]].shape)
        try:
            return {name: _pick(value, ndim, i, len(names)) for i, name in enumerate(names)}
        except (TypeError, IndexError, ValueError):
            return None


def single_column(declared: np.dtype | None, table: Mapping[Any, Any]) -> RecordType | None:
    """Return the type of tables of one column, which ophyd-async declares without a field (`|V8`).

    The first table tells its name and type. None if the key is declared as anything else.
    """
    if declared is None or declared.kind != "V" or declared.fields is not None or len(table) != 1:
        return None
    ((name, column),) = table.items()
    row, _ = row_of(column)
    if not isinstance(name, str) or row is None or row.dtype.kind not in "biufcUS":
        return None
    return RecordType(np.dtype([(name, np.dtype("S40") if row.dtype.kind in "US" else row.dtype)]))


def _same(found: Any, names: tuple[str, ...]) -> bool:
    return len(found) == len(names) and set(found) == set(names)


def _pick(value: Any, depth: int, field: int, count: int) -> Any:
    """Return a field of all records in nested lists."""
    if depth > 0:
        return [_pick(item, depth - 1, field, count) for item in value]
    if isinstance(value, np.void):
        value = value.item()
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError
    return value[field]
