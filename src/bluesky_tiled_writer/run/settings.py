"""Settings of a run that every part of its way to Tiled may need."""

from __future__ import annotations

from dataclasses import dataclass, field

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.schema import ServerLimits

READY_BYTES = 16 * 2**20
"""Bytes of rows that a stream collects by default before they should be stored."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of one run; see `TiledWriter`.

    Parameters
    ----------
    batch_size : int
        Rows that should be stored together.
    max_array_size : int
        Arrays of at most this many elements go to list columns; 0 for none, -1 for all.
    path_map : PathMap
        From where detectors write files to where the server reads them.
    ready_bytes : int
        Bytes of rows that should be stored together, however few rows they are.
    limits : ServerLimits
        What the server cannot hold; shared with the sink, which learns it.
    """

    batch_size: int = 10_000
    max_array_size: int = 0
    path_map: PathMap = field(default_factory=lambda: PathMap({}))
    ready_bytes: int = READY_BYTES
    limits: ServerLimits = field(default_factory=ServerLimits)
