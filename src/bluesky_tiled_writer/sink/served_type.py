"""The type of an array that Tiled serves, whatever type is registered for it.

Tiled sends the bytes of an array as they are, and a client takes them for the registered type. As
TIFF, the same array says of which type it is.
"""

from __future__ import annotations

import struct

import numpy as np

_BITS, _FORMAT = 258, 339
"""Tags of TIFF: bits of a sample, and what they stand for."""

_KINDS = {1: "u", 2: "i", 3: "f", 6: "c"}
"""Kinds of numpy types, by their number in TIFF."""


def served_type(tiff: bytes, content: bytes) -> np.dtype | None:
    """Return the type of the elements of an array.

    Parameters
    ----------
    tiff : bytes
        The array as an uncompressed TIFF file.
    content : bytes
        The bytes of the array, in any order.

    Returns
    -------
    numpy.dtype or None
        None if the two do not agree on any type.
    """
    try:
        tags = _tags(tiff)
    except (struct.error, KeyError):
        return None
    bits, kind = tags.get(_BITS, 1), _KINDS.get(tags.get(_FORMAT, 1))
    if kind is None or bits not in (8, 16, 32, 64, 128):
        return None
    order = "<" if tiff[:2] == b"II" else ">"
    written = np.dtype(f"{order}{kind}{bits // 8}")
    if not content or len(content) % written.itemsize:
        return None
    for dtype in (written, written.newbyteorder()):
        if np.frombuffer(content, dtype).astype(written).tobytes() in tiff:
            return dtype
    return None


def _tags(tiff: bytes) -> dict[int, int]:
    """Return the numbers in the first directory of a TIFF file; the first of several."""
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    version, offset = struct.unpack_from(f"{order}HL", tiff, 2)
    if version != 42:  # BigTIFF, for files of more than 4 GB
        raise KeyError(version)
    (count,) = struct.unpack_from(f"{order}H", tiff, offset)
    tags = {}
    for start in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHL", tiff, start)
        if kind == 3:  # 16 bit
            place = start + 8
            if number > 2:
                (place,) = struct.unpack_from(f"{order}L", tiff, place)
            (tags[tag],) = struct.unpack_from(f"{order}H", tiff, place)
    return tags
