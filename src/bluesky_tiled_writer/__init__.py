"""Stores Bluesky runs in Tiled: ``RE.subscribe(TiledWriter(client))``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import TiledWriterError

if TYPE_CHECKING:
    from .normalizer import RunNormalizer
    from .writer import TiledWriter

__all__ = ["RunNormalizer", "TiledWriter", "TiledWriterError"]

# Imported on first use: pytest imports this package at its start in every environment that has
# it, to find our fixtures, and most test suites there use none of them.
_HOME = {"RunNormalizer": ".normalizer", "TiledWriter": ".writer"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
