"""Documents compared, and events packed into pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_PARTS = ("data", "timestamps", "filled")


def same_documents(ours: Any, theirs: Any) -> bool:
    """Return True if two documents, or values in them, are equal; NaN is equal to NaN."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if ours.keys() != theirs.keys():
            return False
        return all(same_documents(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(same_documents, ours, theirs))
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        mine, other = np.asarray(ours), np.asarray(theirs)
        if mine.dtype != other.dtype or mine.shape != other.shape:
            return False
        return same_documents(mine.tolist(), other.tolist())
    if ours is theirs:
        return True
    return bool(ours == theirs) or bool(ours != ours and theirs != theirs)


def in_pages(documents: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the documents with consecutive events of one kind packed into event pages."""
    packed: list[tuple[str, Any]] = []
    rows: list[Mapping[str, Any]] = []
    for name, doc in [*documents, ("", {})]:
        if rows and (name != "event" or not _alike(rows[-1], doc)):
            packed.append(("event_page", _page(rows)))
            rows = []
        if name == "event":
            rows.append(doc)
        elif name:
            packed.append((name, doc))
    return packed


def _alike(row: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Return True if two events may be rows of one page."""
    if row["descriptor"] != event["descriptor"] or row.keys() != event.keys():
        return False
    return all((row.get(part) or {}).keys() == (event.get(part) or {}).keys() for part in _PARTS)


def _page(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    page: dict[str, Any] = {"descriptor": rows[0]["descriptor"]}
    for name in ("uid", "time", "seq_num"):
        if name in rows[0]:
            page[name] = [row[name] for row in rows]
    for part in _PARTS:
        keys = (rows[0].get(part) or {}).keys()
        page[part] = {key: [row[part][key] for row in rows] for key in keys}
    return page
