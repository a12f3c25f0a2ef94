"""Files opened as a Tiled server would open them; never while a run is written."""

from __future__ import annotations

from typing import Any, NamedTuple

from tiled.structures.data_source import DataSource


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
