"""The layout of a journal on disk.

::

    journal   = header header frame*       the header twice: without it nothing can be read
    header    = magic version marker size checksum payload                   payload: a `Header`
    frame     = marker size checksum(payload) checksum(this head) payload    payload: [name, doc]

Integers are little endian, checksums are CRC-32, payloads are encoded by `.codec`. Each journal has
a random marker, and the checksum of a frame's head also covers the offset of the frame. So bytes
inside a document are never mistaken for a frame, even if the document is another journal.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from bluesky_tiled_writer.errors import JournalError

from .codec import CodecError, Encoder, decode

VERSION = 1
MAGIC = b"\x89TWJ\r\n\x1a\n"
"""First bytes, chosen like those of PNG: a transfer in text mode changes them."""
NOTE = "note"
"""Name of an entry that is not a document but a remark on the run."""
MARKER_SIZE = 8
MAX_HEADER = 2**16
"""Largest payload of a header, in bytes."""

JOURNALED_OPTIONS: tuple[str, ...] = ("max_array_size", "path_map", "spec_to_mimetype")
"""Options of `TiledWriter` in the header: those that change how a run is stored."""

HEADER = struct.Struct(f"<{len(MAGIC)}sH{MARKER_SIZE}sII")
HEAD = struct.Struct(f"<{MARKER_SIZE}sIII")
"""Head of a frame: marker, size of the payload, its checksum, checksum of the head."""
_head = HEAD.pack
_place = struct.Struct("<QII").pack


@dataclass(frozen=True)
class Header:
    """The run of a journal, where it belongs, and who wrote it.

    Parameters
    ----------
    uid : str
        Uid of the run.
    server : Any
        Identity of the container in Tiled that receives the run, of plain values.
    options : dict
        Options of the writer that any other process needs to store the run in the same way.
    since : float
        When the journal was created, in seconds since the epoch.
    host : str
        Name of the host of the process that created it.
    pid : int
        Number of that process.
    """

    uid: str
    server: Any
    options: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0
    host: str = ""
    pid: int = 0

    @property
    def process_lives(self) -> bool:
        """True if there is a process of its number; perhaps not that one any more."""
        if self.host != socket.gethostname():
            return False
        if self.pid == os.getpid() or os.name == "nt":  # where `kill` would end it
            return self.pid == os.getpid()
        try:
            os.kill(self.pid, 0)
        except OSError as error:
            return isinstance(error, PermissionError)
        return True

    def encode(self, marker: bytes) -> bytes:
        """Return the bytes of both copies of the header.

        Raises
        ------
        JournalError
            If the header is too large, or one of its values cannot be encoded.
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


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of a header that this version of the package knows."""
    return {name: options[name] for name in JOURNALED_OPTIONS if name in options}


def good_header(data: bytes) -> tuple[bytes, Header, bytes]:
    """Find an intact copy of the header in the first bytes of a journal.

    Returns
    -------
    tuple of (bytes, Header, bytes)
        The bytes of the copy, the header, and the marker of the frames.

    Raises
    ------
    JournalError
        If there is none, or a later version of the format wrote it.
    """
    offset = data.find(MAGIC)
    while offset >= 0:
        head = data[offset : offset + HEADER.size]
        if len(head) == HEADER.size:
            _, version, marker, size, checksum = HEADER.unpack(head)
            payload = data[offset + HEADER.size : offset + HEADER.size + size]
            unsigned = HEADER.pack(MAGIC, version, marker, size, 0)
            # Both copies have the same size, so the second one can only be in one place.
            in_place = offset in (0, HEADER.size + size)
            if in_place and len(payload) == size and checksum == crc32(payload, crc32(unsigned)):
                return head + payload, _decode_header(version, payload), marker
        offset = data.find(MAGIC, offset + 1)
    raise JournalError(
        "The file has no readable header.",
        hint="It is not a journal, or too damaged to tell its server and its run.",
    )


def _decode_header(version: int, payload: bytes) -> Header:
    if version != VERSION:
        raise JournalError(
            f"The journal has format version {version}; this package reads version {VERSION}.",
            hint="Recover it with the version of bluesky-tiled-writer that wrote it.",
        )
    try:
        return Header(**decode(payload))
    except (CodecError, TypeError) as error:
        raise JournalError(f"The header of the journal cannot be decoded: {error}") from error


def encode_frame(marker: bytes, offset: int, payload: bytes) -> bytes:
    """Return the frame of a payload for an offset in the file."""
    size, checksum = len(payload), crc32(payload)
    return _head(marker, size, checksum, crc32(_place(offset, size, checksum))) + payload


def parse_head(marker: bytes, offset: int, head: bytes) -> tuple[int, int] | None:
    """Return size and checksum of a frame's payload, or None if this is not the head of one."""
    if len(head) != HEAD.size:
        return None
    found, size, checksum, place = HEAD.unpack(head)
    if found != marker or place != crc32(_place(offset, size, checksum)):
        return None
    return size, checksum
