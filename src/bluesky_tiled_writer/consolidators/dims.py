"""Names of the dimensions of data in files: as declared, where xarray can have them so."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

TIME = "time"
"""The dimension that counts events."""


def usable_dims(
    declared: Iterable[Any], shape: Sequence[int], key: str, sizes: MutableMapping[str, int]
) -> tuple[str, ...] | None:
    """Return names for the dimensions of an array that can be read with the others of its stream.

    xarray allows a name once in an array, and with one size in a Dataset. A name that breaks this,
    or is not there at all, becomes `<key>_dim<axis>`, as Tiled's client would call it.

    Parameters
    ----------
    declared : iterable
        The names, that of the first dimension included; anything but text counts as none.
    shape : sequence of int
        The shape of the array.
    key : str
        Its data key.
    sizes : mapping of str to int
        The sizes that names have in other arrays of the stream; gets those of this one.

    Returns
    -------
    tuple of str, or None
        One name a dimension; None if nothing was declared.
    """
    names = list(declared)
    if len(names) > len(shape) and names[:2] == [TIME, TIME]:
        del names[0]  # the declared ones count the events, too
    if not any(isinstance(name, str) for name in names[1:]):
        return None
    dims: list[str] = []
    for axis, size in enumerate(shape):
        name = names[axis] if axis < len(names) else None
        usable = isinstance(name, str) and name.strip() and name not in dims
        if usable and axis:
            usable = name != TIME and sizes.setdefault(str(name), size) == size
        dims.append(str(name) if usable else f"{key}_dim{axis}")
    return tuple(dims)
