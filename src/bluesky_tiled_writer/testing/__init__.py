"""Test your own consolidator or normalizer, or a run without a server; pytest is not needed.

::

    check_consolidator   consolidators.py  documents and files in, frames out (datums.py: batchings)
    check_normalizer     normalizers.py    documents of any age in, today's out (pages.py)
    MemoryServer         memory.py         executes steps, and says what Tiled would hold
    MemoryNode           memory_node.py    one node of it

Each check is a function of its own, and raises an AssertionError that names the key or document.
`ConsolidatorTests` and `NormalizerTests` are base classes with a test for each check.
"""

from bluesky_tiled_writer.consolidators import open_data_source

from .consolidators import (
    ConsolidatorCase,
    ConsolidatorTests,
    check_batchings,
    check_consolidator,
    check_frames,
    check_growth,
    check_structure,
)
from .memory import MemoryContainer, MemoryServer, MemorySink
from .memory_node import MemoryNode
from .normalizers import (
    NormalizerCase,
    NormalizerTests,
    check_expected,
    check_inputs_unchanged,
    check_normalizer,
    check_nothing_lost,
    check_order,
    check_pages,
    check_schemas,
    check_writer_takes,
)

__all__ = [
    "ConsolidatorCase",
    "ConsolidatorTests",
    "MemoryContainer",
    "MemoryNode",
    "MemoryServer",
    "MemorySink",
    "NormalizerCase",
    "NormalizerTests",
    "check_batchings",
    "check_consolidator",
    "check_expected",
    "check_frames",
    "check_growth",
    "check_inputs_unchanged",
    "check_normalizer",
    "check_nothing_lost",
    "check_order",
    "check_pages",
    "check_schemas",
    "check_structure",
    "check_writer_takes",
    "open_data_source",
]
