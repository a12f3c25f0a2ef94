"""Documents as the normalizer holds them: dictionaries of its own, whatever is in them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

Document = dict[str, Any]
NamedDocument = tuple[str, Document]


def own_copy(doc: Mapping[str, Any]) -> Document:
    """Return a copy of a document that may be changed at any depth.

    What cannot be copied, such as a generator, stays the same object.
    """
    try:
        return copy.deepcopy(dict(doc))
    except Exception:  # any object may be in a document, and raise anything
        copied: Document = _copy(dict(doc), {})
        return copied


def _copy(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, Mapping):
        mapping = known[id(value)] = {}
        mapping.update((key, _copy(item, known)) for key, item in value.items())
        return mapping
    if type(value) in (list, tuple):
        items = known[id(value)] = []
        items.extend(_copy(item, known) for item in value)
        return items
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def shallow_copy(doc: Mapping[str, Any]) -> Document:
    """Return a copy of an event or page whose values are the same objects."""
    doc = dict(doc)
    for part in ("data", "timestamps", "filled"):
        if isinstance(values := doc.get(part), dict | Mapping):
            doc[part] = dict(values)
    return doc


def mapping_or_empty(value: Any) -> Mapping[Any, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, dict | Mapping) else {}


def items_or_none(value: Any) -> list[Any] | None:
    """Return the items of a column or list; None for text, and for what has no items."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return None
    try:
        return list(value)
    except TypeError:  # an array without dimensions
        return None


def text(value: Any) -> str:
    """Return a value as text: none for what is blank."""
    return "" if is_blank(value) else str(value)


def is_blank(value: Any) -> bool:
    """Return True for None and for empty or zero values; False for arrays of several elements."""
    try:
        return not value
    except Exception:  # an array has no truth value of its own
        return False
