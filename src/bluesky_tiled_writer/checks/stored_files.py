"""The files of a detector, compared with what is registered of them in Tiled.

Tiled's own adapters open the files, if this computer has them. Of each, only the header is read; of
a sequence, only the first and the last file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tiled.ndslice import NDSlice
from tiled.structures.array import ArrayStructure
from tiled.structures.data_source import DataSource
from tiled.utils import path_from_uri

from bluesky_tiled_writer.consolidators import (
    HDF5Consolidator,
    JPEGConsolidator,
    NPYConsolidator,
    TIFFConsolidator,
    is_visible,
)

MAX_OPENED = 100
"""If a key has more files than this, only the first and the last are opened."""

_DATASETS = HDF5Consolidator.supported_mimetypes
_SEQUENCES = set[str]().union(
    *(kind.supported_mimetypes for kind in (TIFFConsolidator, JPEGConsolidator, NPYConsolidator))
)
_NAMED = 3  # files that a message names


def file_problems(source: DataSource[Any], registered: ArrayStructure | None) -> list[str] | None:
    """Compare the files of a node with its structure.

    Parameters
    ----------
    source : DataSource
        The data source of the node, with its assets.
    registered : ArrayStructure, optional
        The structure in Tiled; None for a node of bytes, whose files only have to be there.

    Returns
    -------
    list of str, optional
        The problems, in words. None if none is known but the files were not opened: this computer
        does not see them, or Tiled itself does not read their type.
    """
    uris = [asset.data_uri for asset in sorted(source.assets, key=lambda asset: asset.num or 0)]
    here = [uri for uri in uris if is_visible(uri)]
    if missing := [uri for uri in here if not path_from_uri(uri).exists()]:
        return [f"{len(missing)} of its {len(uris)} files are missing: {_some(missing)}."]
    if registered is None or not uris or len(here) < len(uris):
        return None
    try:
        opened = _open(source, uris)
    except (ImportError, PermissionError):
        return None  # the server may have the library, or the permission
    except Exception as error:  # adapters raise whatever the library for the format does
        return [f"its files cannot be read: {_words(error)} ({_some(uris)})."]
    return None if opened is None else [*_differences(opened, uris, registered)]


class _Opened:
    """The structures of the files that were opened.

    Attributes
    ----------
    each : dict of str to ArrayStructure
        By URI; files that are read together have one structure.
    first : ArrayStructure
        The structure of the first file.
    rows : int or None
        Rows of all files; None if not all were opened.
    part : slice
        Those that are served.
    frames : bool
        True if `rows` counts files of a sequence, each a frame: one or several make a row of the
        array, or one file several rows.
    """

    def __init__(
        self,
        each: dict[str, ArrayStructure],
        rows: int | None,
        part: slice = slice(None),
        *,
        frames: bool,
    ) -> None:
        self.each = each
        self.part = part
        self.first = next(iter(each.values()))
        self.rows = rows
        self.frames = frames


def _open(source: DataSource[Any], uris: Sequence[str]) -> _Opened | None:
    """Open files; None if their type is not known, or there are too many to be read together."""
    from tiled.mimetypes import DEFAULT_ADAPTERS_BY_MIMETYPE as ADAPTERS

    parameters = source.parameters or {}
    if source.mimetype in _SEQUENCES:
        adapter = ADAPTERS[source.mimetype]
        ends = {uri: adapter.from_uris(uri).structure() for uri in (uris[0], uris[-1])}
        return _Opened(ends, len(uris), frames=True)
    if source.mimetype not in _DATASETS:
        return None
    adapter = ADAPTERS[source.mimetype]
    part, parameters = _without_rows(parameters)
    if parameters.get("slice") or parameters.get("squeeze"):  # these apply to all files together
        groups = [uris] if len(uris) <= MAX_OPENED else []
    elif len(uris) <= MAX_OPENED:
        groups = [[uri] for uri in uris]
    else:
        groups = [[uris[0]], [uris[-1]]]
    each = {group[0]: adapter.from_uris(*group, **parameters).structure() for group in groups}
    if not each:
        return None
    for structure in each.values():
        if not isinstance(structure, ArrayStructure):
            raise ValueError(f"{parameters.get('dataset')!r} is no dataset, but a group")
    complete = len(uris) <= MAX_OPENED
    rows = sum(structure.shape[0] for structure in each.values()) if complete else None
    return _Opened(each, rows, part, frames=False)


def _without_rows(parameters: Mapping[str, Any]) -> tuple[slice, dict[str, Any]]:
    """Return the rows that a slice selects, and parameters to read all rows.

    A dimension that is squeezed out has the size 1, and does not count here.
    """
    try:
        first, *others = NDSlice.from_numpy_str(str(parameters.get("slice") or ":"))
    except ValueError:
        return slice(None), dict(parameters)
    if not isinstance(first, slice):
        return slice(None), dict(parameters)
    left = {key: value for key, value in parameters.items() if key not in ("slice", "squeeze")}
    if others:
        left["slice"] = NDSlice(slice(None), *others).to_numpy_str()
    return first, left


def _differences(opened: _Opened, uris: Sequence[str], registered: ArrayStructure) -> Iterator[str]:
    first = opened.first
    for uri, structure in opened.each.items():
        if (structure.shape[1:], structure.data_type) != (first.shape[1:], first.data_type):
            yield f"its files differ: {uris[0]} holds {_kind(first)}, {uri} {_kind(structure)}."
            return
    declared, found = (s.data_type.to_numpy_dtype() for s in (registered, first))
    if declared != found:
        yield f"its data type is {found.str} in the files, but registered as {declared.str}."
    frame = first.shape[1:]
    rows = opened.rows
    if opened.frames and not _ends_with(registered.shape, frame):
        # Several files make a row, or a file several rows.
        rows, frame = (rows or 0) * math.prod(frame[:1]), frame[1:]
    if not _ends_with(registered.shape, frame):
        yield (
            f"its shape is registered as {registered.shape}, which does not end with that of a"
            f" frame in the files, {first.shape[1:]}."
        )
        return
    declared_rows = math.prod(registered.shape) // (math.prod(frame) or 1)
    served = None if rows is None else len(range(*opened.part.indices(rows)))
    if served is not None and served < declared_rows:
        yield (
            f"it is registered with {declared_rows} rows, but its files hold {served} only"
            f" ({_some(uris)})."
        )
    elif rows is not None and rows > declared_rows:
        yield (
            f"its files hold {rows} rows, of which {declared_rows} are registered ({_some(uris)})."
        )
    yield from _chunk_differences(opened, registered, frame)


def _ends_with(shape: Sequence[int], frame: Sequence[int]) -> bool:
    """Return True if a shape ends with another one; dimensions of size 1 do not count."""
    outer, inner = ([size for size in sizes if size != 1] for sizes in (shape, frame))
    return not inner or outer[-len(inner) :] == inner


def _chunk_differences(
    opened: _Opened, registered: ArrayStructure, frame: Sequence[int]
) -> Iterator[str]:
    chunks = registered.chunks
    if opened.frames:
        if any(len(sizes) > 1 for sizes in chunks[1:]):
            yield (
                f"its chunks are registered as {_sizes(registered)}, but Tiled reads nothing"
                " smaller than a file of a sequence."
            )
        return
    found = opened.first.chunks
    if all(len(sizes) == 1 for sizes in found) or all(len(sizes) == 1 for sizes in chunks):
        return  # the files have no chunks, or none were declared
    outer = len(chunks) - len(frame)
    declared_rows = math.prod(sizes[0] for sizes in chunks[:outer])
    in_files = (min(found[0][0], math.prod(registered.shape[:outer])), *(s[0] for s in found[1:]))
    if (declared_rows, *(sizes[0] for sizes in chunks[outer:])) != in_files:
        yield (
            f"its chunks are {tuple(s[0] for s in found)} in the files, but registered as"
            f" {_sizes(registered)}."
        )


def _sizes(structure: ArrayStructure) -> tuple[int, ...]:
    return tuple(sizes[0] if sizes else 0 for sizes in structure.chunks)


def _kind(structure: ArrayStructure) -> str:
    return f"{structure.shape[1:]} of {structure.data_type.to_numpy_dtype().str}"


def _some(uris: Sequence[str]) -> str:
    return ", ".join(uris[:_NAMED]) + (", ..." if len(uris) > _NAMED else "")


def _words(error: Exception) -> str:
    text = str(error.args[0]) if error.args else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
