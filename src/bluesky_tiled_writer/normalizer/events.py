"""Events and pages: what is renamed or taken out of them, and the rows of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from event_model import bulk_datum_to_datum_page

from bluesky_tiled_writer.errors import InvalidDocument

from .documents import Document, is_blank, items_or_none, mapping_or_empty

_NEEDED = "A page needs {}, with one value a row in every column."


@dataclass(frozen=True)
class EventChanges:
    """The changes that the events of one descriptor need.

    Parameters
    ----------
    descriptor : str
        Uid of the descriptor.
    stream : str
        Name of the stream.
    renamed : mapping of str to str
        Old names of data keys to new ones.
    external : frozenset of str
        Keys, by their new names, whose values are in files.
    """

    descriptor: Any
    stream: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    external: frozenset[str] = frozenset()

    @property
    def none(self) -> bool:
        """True if the events need no change."""
        return not self.renamed and not self.external

    def apply(self, doc: Document) -> Document:
        """Rename keys of an event or page, and take references to external data out, in place.

        Returns
        -------
        dict
            The references by key.
        """
        # Without values there is nothing to change; the stream of the event refuses it.
        if self.none or not all(isinstance(doc.get(part), dict) for part in ("data", "timestamps")):
            return {}
        for part in ("data", "timestamps", "filled"):
            if isinstance(values := doc.get(part), dict):
                for old, new in self.renamed.items():
                    if old in values:
                        values[new] = values.pop(old)
        filled = mapping_or_empty(doc.get("filled"))
        referring = {key for key in self.external if not any(_brings(doc, key, filled.get(key)))}
        doc.pop("filled", None)
        for key in referring:
            doc["timestamps"].pop(key, None)
        return {key: doc["data"].pop(key) for key in list(doc["data"]) if key in referring}


def _brings(doc: Mapping[str, Any], key: str, flags: Any) -> Iterator[bool]:
    """Yield for each row of an event or page if it brings the data of an external key.

    It does if its flag says so, or if the value can be no id of a datum, whatever the flag says.
    """
    value = mapping_or_empty(doc.get("data")).get(key)
    is_page = items_or_none(doc.get("seq_num")) is not None
    values = (items_or_none(value) or ()) if is_page else (value,)
    column = items_or_none(flags)
    if column is None:
        yield from (not is_blank(flags) or is_data(value) for value in values)
        return
    for value, flag in zip_longest(values, column):
        yield not is_blank(flag) or is_data(value)


def partly_filled(page: Mapping[str, Any], external: Iterable[str]) -> bool:
    """Return True if some rows of a page bring external data and others refer to it."""
    filled = mapping_or_empty(page.get("filled"))
    return any(len(set(_brings(page, key, filled.get(key)))) > 1 for key in external)


def is_data(value: Any) -> bool:
    """Return True for a value that is plainly data, since it is no text, as ids of datums are."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0 or value.dtype.kind not in "OSU"
    return value is not None and not isinstance(value, str)


def unpack_events(page: Mapping[str, Any]) -> list[Document]:
    """Return the events of a page.

    Raises
    ------
    InvalidDocument
        If a column is missing, or has another length than `seq_num`.
    """
    needed = "seq_num, time, data and timestamps"
    rows = _Rows("event_page", page.get("uid"), page.get("seq_num"), "seq_num", needed)
    columns: dict[str, list[Any]] = {
        "time": rows.column(page.get("time"), "time"),
        "data": rows.transposed(page.get("data"), "data"),
        "timestamps": rows.transposed(page.get("timestamps"), "timestamps"),
        "filled": rows.transposed(mapping_or_empty(page.get("filled")), "filled"),
    }
    if "uid" in page:
        columns["uid"] = rows.column(page["uid"], "uid")
    return [
        {
            "descriptor": page.get("descriptor"),
            "seq_num": seq_num,
            **{name: column[row] for name, column in columns.items()},
        }
        for row, seq_num in enumerate(rows.first)
    ]


def unpack_datums(page: Mapping[str, Any]) -> list[Document]:
    """Return the Datums of a page.

    Raises
    ------
    InvalidDocument
        If a column is missing, or has another length than `datum_id`.
    """
    needed = "resource, datum_id and datum_kwargs"
    rows = _Rows("datum_page", page.get("datum_id"), page.get("datum_id"), "datum_id", needed)
    given = page.get("datum_kwargs")
    all_kwargs = rows.transposed({} if is_blank(given) else given, "datum_kwargs")
    resource = {"resource": page["resource"]} if "resource" in page else {}
    return [
        {**resource, "datum_id": datum_id, "datum_kwargs": kwargs}
        for datum_id, kwargs in zip(rows.first, all_kwargs, strict=True)
    ]


def bulk_datum_page(doc: Mapping[str, Any]) -> Document:
    """Return Datums that were grouped before there were pages as a page.

    Raises
    ------
    InvalidDocument
        If they cannot be taken apart.
    """
    try:
        return dict(bulk_datum_to_datum_page(dict(doc)))
    except Exception as error:  # it takes whatever is there for mappings and lists
        raise InvalidDocument(
            f"The bulk_datum of the resource {doc.get('resource')!r} is malformed: {error!r}.",
            hint="It needs resource, datum_ids and datum_kwarg_list, the last two alike in length.",
        ) from error


class _Rows:
    """The rows of a page, which all columns must have; errors name the page."""

    def __init__(self, kind: str, uid: Any, first: Any, name: str, needed: str) -> None:
        self._page = f"{kind} {uid!r}"
        self._hint = _NEEDED.format(needed)
        self._length: int | None = None
        self.first = self.column(first, name)
        self._length = len(self.first)

    def column(self, values: Any, name: str) -> list[Any]:
        column = items_or_none(values)
        if column is None:
            raise InvalidDocument(
                f"The {self._page} has {values!r} where the column {name!r} should be.",
                hint=self._hint,
            )
        if self._length not in (None, len(column)):
            raise InvalidDocument(
                f"The {self._page} has columns of different lengths: {self._length} rows, but"
                f" {len(column)} values of {name!r}.",
                hint=self._hint,
            )
        return column

    def transposed(self, columns: Any, name: str) -> list[Document]:
        """Return one mapping a row, of a mapping of columns."""
        if not isinstance(columns, Mapping):
            raise InvalidDocument(
                f"The {self._page} has {columns!r} where the columns of {name!r} should be.",
                hint=self._hint,
            )
        by_key = {key: self.column(values, f"{name}.{key}") for key, values in columns.items()}
        return [{key: by_key[key][row] for key in by_key} for row in range(len(self.first))]
