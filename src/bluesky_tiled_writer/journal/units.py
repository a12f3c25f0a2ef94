"""Bytes and seconds for people to read."""

from __future__ import annotations


def size_text(nbytes: float) -> str:
    """Return a number of bytes with a unit, such as "1.2 MB"."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes:.0f} bytes"


def age_text(seconds: float) -> str:
    """Return a number of seconds with a unit, such as "3 h"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
