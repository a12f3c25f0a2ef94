"""The data keys of a descriptor in today's words: names, types and shapes.

A descriptor may have anything in any field. Only what is of the right kind is brought up to date;
the rest stays as it is, for the metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .documents import Document, is_blank, mapping_or_empty, text

# What the JSON types of the event model mean where no numpy type is given. A bare "array" does
# not say what its elements are: those of events are left open, so that the values can tell.
_NUMPY_TYPES = {"number": "<f8", "integer": "<i8", "boolean": "|b1", "string": "<U0"}
_EXTERNAL_ARRAY = "<f8"
_EXTERNAL = "EXTERNAL:"
"""The value of `external` where a descriptor gives None: the key is external all the same."""

RESERVED_KEYS = re.compile(r"time|seq_num|internal(_\d+)?")
"""Data keys that would be taken for columns or nodes of the layout in Tiled."""


def upgrade_descriptor(doc: Document) -> dict[str, str]:
    """Bring a descriptor with `data_keys` up to date, in place.

    Returns
    -------
    dict of str to str
        The data keys that were renamed: old name to new.
    """
    doc["data_keys"] = data_keys = dict(doc["data_keys"])
    for key, data_key in data_keys.items():
        if isinstance(data_key, Mapping):
            data_keys[key] = dict(data_key)
    renamed = _rename_reserved(data_keys)
    for names in _name_lists(doc):
        names[:] = [renamed.get(key, key) if isinstance(key, str) else key for key in names]
    for data_key in data_keys.values():
        if isinstance(data_key, dict):
            if "external" in data_key and data_key["external"] is None:
                data_key["external"] = _EXTERNAL
            _update_data_key(data_key, None)
    for device in mapping_or_empty(doc.get("configuration")).values():
        for data_key in mapping_or_empty(mapping_or_empty(device).get("data_keys")).values():
            if isinstance(data_key, dict):
                _update_data_key(data_key, _EXTERNAL_ARRAY)
    for name, keys in mapping_or_empty(doc.get("object_keys")).items():
        for key in keys if isinstance(keys, list) else ():
            if isinstance(key, str) and isinstance(data_key := data_keys.get(key), dict):
                data_key["object_name"] = name
    return renamed


def external_keys(doc: Mapping[str, Any]) -> frozenset[str]:
    """Return the data keys of a descriptor whose values are in files."""
    data_keys: Mapping[str, Any] = doc["data_keys"]
    return frozenset(
        key for key, data_key in data_keys.items() if "external" in mapping_or_empty(data_key)
    )


def _rename_reserved(data_keys: Document) -> dict[str, str]:
    """Rename data keys that would be taken for something else in Tiled, in place."""
    stamps = {f"ts_{key}" for key in data_keys}
    renamed: dict[str, str] = {}
    for key in list(data_keys):
        if not isinstance(key, str):
            continue
        if not RESERVED_KEYS.fullmatch(key) and key not in stamps:
            continue
        new = f"{key}_"
        while new in data_keys or new in stamps:
            new += "_"
        renamed[key] = new
        data_keys[new] = data_keys.pop(key)
    return renamed


def _name_lists(doc: Document) -> Iterator[list[Any]]:
    """Yield the lists in a descriptor that name data keys."""
    for keys in mapping_or_empty(doc.get("object_keys")).values():
        if isinstance(keys, list):
            yield keys
    for hints in mapping_or_empty(doc.get("hints")).values():
        if isinstance(fields := mapping_or_empty(hints).get("fields"), list):
            yield fields


def _update_data_key(data_key: Document, array_type: str | None) -> None:
    """Say the type and the shape of the values in today's words, in place."""
    fields = _struct_fields(data_key.get("dtype_descr"))
    if fields is not None:
        del data_key["dtype_descr"]
    old = data_key.pop("dtype_str", None)
    dtype = text(data_key.get("dtype"))
    default = array_type if dtype == "array" else _NUMPY_TYPES.get(dtype)
    if "external" in data_key:  # the files know
        default = None
    given = fields or _type_string(data_key.get("dtype_numpy", old))
    if not is_blank(numpy_type := default if is_blank(given) else given):
        data_key["dtype_numpy"] = numpy_type
    else:
        data_key.pop("dtype_numpy", None)
    if "shape" in data_key and data_key["shape"] is None:
        data_key["shape"] = []


def _struct_fields(descr: Any) -> list[Any] | None:
    """Return the fields of a struct as lists; None if `descr` is no list of fields."""
    try:
        return [list(field) for field in descr]
    except TypeError:
        return None


def _type_string(numpy_type: Any) -> Any:
    """Return a numpy type in the form of a document; anything else as it is."""
    if isinstance(numpy_type, np.dtype):
        return numpy_type.str if numpy_type.fields is None else _struct_fields(numpy_type.descr)
    return numpy_type
