"""The data source and the structure of a node, as requests and answers have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiled.structures.core import StructureFamily


def data_source(
    family: StructureFamily,
    structure: Mapping[str, Any],
    mimetype: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a request that creates a node says of data that Tiled will keep."""
    source = {
        "structure_family": family,
        "structure": structure,
        "id": None,
        "mimetype": mimetype,
        "parameters": dict(parameters or {}),
        "properties": {},
        "assets": [],
        "management": "writable",
    }
    return {"structure_family": family, "data_sources": [source]}


def has_structure(item: Mapping[str, Any]) -> bool:
    """Return False for a node without a form: Tiled left it behind when it failed to create it."""
    return bool(item["attributes"].get("data_sources"))


def structure_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the structure in what the server says of a node."""
    return dict(item["attributes"]["structure"])
