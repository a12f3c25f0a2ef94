"""Files opened as a Tiled server would open them; never before a run stops."""

from __future__ import annotations

import os
from typing import Any, NamedTuple
from urllib.parse import urlparse

from tiled.structures.array import ArrayStructure
from tiled.structures.data_source import DataSource
from tiled.utils import path_from_uri


class _Node(NamedTuple):
    """As much of a node in the catalog as adapters look at."""

    metadata_: dict[str, Any]
    specs: list[Any]


def open_data_source(source: DataSource, adapter_class: Any = None) -> Any:
    """Return Tiled's adapter on the files of a data source.

    Parameters
    ----------
    source : DataSource
        As a consolidator composes it.
    adapter_class : type, optional
        Adapter to use instead of Tiled's own for the MIME type.

    Raises
    ------
    ValueError
        If Tiled has no adapter for the MIME type.
    """
    if adapter_class is None:
        from tiled.mimetypes import DEFAULT_ADAPTERS_BY_MIMETYPE

        adapter_class = DEFAULT_ADAPTERS_BY_MIMETYPE.get(source.mimetype)
    if adapter_class is None:
        raise ValueError(f"Tiled has no adapter for {source.mimetype!r}: pass adapter_class.")
    return adapter_class.from_catalog(source, _Node({}, []), **source.parameters)


def is_visible(uri: str) -> bool:
    """Return True if this computer has the directory of a file: the server may have other disks."""
    parsed = urlparse(uri)
    if parsed.scheme != "file" or parsed.netloc not in ("", "localhost"):
        return False
    return os.access(path_from_uri(uri).parent, os.X_OK)


def data_type_in_files(source: DataSource) -> Any:
    """Return the type of the elements in the first file of a data source.

    Returns
    -------
    BuiltinDtype or StructDtype or None
        None if this computer cannot read the file, or its type.
    """
    from tiled.mimetypes import DEFAULT_ADAPTERS_BY_MIMETYPE

    adapter = DEFAULT_ADAPTERS_BY_MIMETYPE.get(source.mimetype)
    uris = [asset.data_uri for asset in source.assets[:1] if is_visible(asset.data_uri)]
    if adapter is None or not uris:
        return None
    wanted = ("dataset", "swmr", "locking")
    options = {key: value for key, value in source.parameters.items() if key in wanted}
    try:
        structure = adapter.from_uris(*uris, **options).structure()
    except Exception:  # adapters raise whatever the library for the format does
        return None
    return structure.data_type if isinstance(structure, ArrayStructure) else None


def shapes_in_files(source: DataSource) -> list[tuple[int, ...]] | None:
    """Return the shapes of the data in each file of a data source.

    Returns
    -------
    list of tuple of int, or None
        None if this computer cannot read all of them.
    """
    from tiled.mimetypes import DEFAULT_ADAPTERS_BY_MIMETYPE

    adapter = DEFAULT_ADAPTERS_BY_MIMETYPE.get(source.mimetype)
    uris = [asset.data_uri for asset in source.assets]
    if adapter is None or not all(map(is_visible, uris)):
        return None
    part = ("slice", "squeeze")
    options = {key: value for key, value in source.parameters.items() if key not in part}
    try:
        return [tuple(adapter.from_uris(uri, **options).structure().shape) for uri in uris]
    except Exception:  # adapters raise whatever the library for the format does
        return None
