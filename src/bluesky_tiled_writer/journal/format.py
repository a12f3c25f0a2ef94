"""What a journal looks like on disk.

::

    journal   = header header frame*       the header twice: without it nothing can be read
    header    = magic version marker size checksum payload        payload: what it is about
    frame     = marker size checksum(payload) checksum(this head) payload    payload: [name, doc]

Integers are little endian, checksums are CRC-32, payloads are encoded by `.codec`. The marker is
drawn at random for each journal, and the checksum of a frame's head also covers the offset of the
frame: bytes inside a document never pass for a frame, not even those of another journal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from bluesky_tiled_writer.errors import JournalError

from .codec import CodecError, Encoder, decode

VERSION = 1
MAGIC = b"\x89TWJ\r\n\x1a\n"
"""As that of PNG: not text, and not the same after a transfer that takes it for text."""
MARKER_SIZE = 8
MAX_HEADER = 2**16
"""Bytes in a header, at most."""

HEADER = struct.Struct(f"<{len(MAGIC)}sH{MARKER_SIZE}sII")
HEAD = struct.Struct(f"<{MARKER_SIZE}sIII")
"""Of a frame: marker, size of the payload, its checksum, checksum of the head."""
_head = HEAD.pack
_place = struct.Struct("<QII").pack


@dataclass(frozen=True)
class Header:
    """What a journal is about.

    Parameters
    ----------
    uid : str
        Uid of the run.
    server : Any
        Identity of the place in Tiled that gets the run, of plain values.
    options : dict
        What else it takes to store the run as the process would have that wrote the journal.
    since : float
        When the journal was created, in seconds since the epoch.
    host, pid : str, int
        The process that created it.
    """

    uid: str
    server: Any
    options: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0
    host: str = ""
    pid: int = 0

    def encode(self, marker: bytes) -> bytes:
        """Both copies of the header.

        Raises
        ------
        JournalError
            If it is larger than a header may be, or holds what cannot be encoded.
        """
        try:
            payload = Encoder().encode(vars(self))
        except CodecError as error:
            raise JournalError(f"The header of a journal cannot be written: {error}") from error
        if len(payload) > MAX_HEADER:
            raise JournalError(f"The header of a journal is too large: {len(payload)} bytes.")
        head = HEADER.pack(MAGIC, VERSION, marker, len(payload), 0)
        checksum = crc32(payload, crc32(head))
        return 2 * (HEADER.pack(MAGIC, VERSION, marker, len(payload), checksum) + payload)


def good_header(data: bytes) -> tuple[bytes, Header, bytes]:
    """The bytes of a copy of the header that is whole, what it says, and the marker of frames."""
    offset = data.find(MAGIC)
    while offset >= 0:
        head = data[offset : offset + HEADER.size]
        if len(head) == HEADER.size:
            _, version, marker, size, checksum = HEADER.unpack(head)
            payload = data[offset + HEADER.size : offset + HEADER.size + size]
            unsigned = HEADER.pack(MAGIC, version, marker, size, 0)
            # Both copies have the same size, which says where the second one is.
            in_place = offset in (0, HEADER.size + size)
            if in_place and len(payload) == size and checksum == crc32(payload, crc32(unsigned)):
                return head + payload, _decode_header(version, payload), marker
        offset = data.find(MAGIC, offset + 1)
    raise JournalError(
        "The file has no readable header of a journal.",
        hint="It is not a journal, or neither its server nor its run can be known any more.",
    )


def _decode_header(version: int, payload: bytes) -> Header:
    if version != VERSION:
        raise JournalError(
            f"The journal has version {version} of the format, and this package reads {VERSION}.",
            hint="Recover it with the version of bluesky-tiled-writer that wrote it.",
        )
    try:
        return Header(**decode(payload))
    except (CodecError, TypeError) as error:
        raise JournalError(f"The header of the journal cannot be decoded: {error}") from error


def encode_frame(marker: bytes, offset: int, payload: bytes) -> bytes:
    """The frame that goes to an offset in the file of a journal."""
    size, checksum = len(payload), crc32(payload)
    return _head(marker, size, checksum, crc32(_place(offset, size, checksum))) + payload


def parse_head(marker: bytes, offset: int, head: bytes) -> tuple[int, int] | None:
    """Size and checksum of the payload, if these bytes are the head of the frame at an offset."""
    if len(head) != HEAD.size:
        return None
    found, size, checksum, place = HEAD.unpack(head)
    if found != marker or place != crc32(_place(offset, size, checksum)):
        return None
    return size, checksum
