"""Journals as bytes, for tests of the format."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from bluesky_tiled_writer.journal.codec import Encoder
from bluesky_tiled_writer.journal.format import Header, encode_frame
from bluesky_tiled_writer.journal.reader import Damage, JournalReader

MARKER = bytes.fromhex("b1a7e90043d5f28c")
HEADER = Header("a uid", {"uri": "http://example.org/api/v1/metadata/raw"}, {"batch_size": 3})
Pair = tuple[str, Any]


def encode_journal(pairs: Sequence[Pair]) -> tuple[bytes, list[int]]:
    """Return the bytes of a journal, and the offsets at which header and frames end."""
    data = HEADER.encode(MARKER)
    ends = [len(data)]
    for pair in pairs:
        data += encode_frame(MARKER, len(data), Encoder().encode(list(pair)))
        ends.append(len(data))
    return data, ends


def read_journal(data: bytes) -> tuple[list[Pair], list[Damage], int]:
    """Return the documents, the damage, and the size of the torn end."""
    reader = JournalReader(io.BytesIO(data))
    assert reader.header == HEADER
    pairs = [(entry.name, entry.doc) for entry in reader]
    return pairs, reader.damage, reader.torn
