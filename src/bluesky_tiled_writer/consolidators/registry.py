"""Consolidators by the MIME type of the files that they describe."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from bluesky_tiled_writer.errors import InvalidDocument

from .base import ConsolidatorBase
from .csv import CSVConsolidator
from .files import StreamDocument, subject
from .hdf5 import HDF5Consolidator
from .image_sequence import JPEGConsolidator, TIFFConsolidator
from .mimetypes import BYTES
from .npy import NPYConsolidator
from .opaque import BytesConsolidator
from .registered import REGISTERED, RegisteredFiles

CONSOLIDATOR_REGISTRY: defaultdict[str, Any] = defaultdict(
    lambda: ConsolidatorBase,
    {
        mimetype: consolidator
        for consolidator in (
            BytesConsolidator,
            CSVConsolidator,
            HDF5Consolidator,
            TIFFConsolidator,
            JPEGConsolidator,
            NPYConsolidator,
        )
        for mimetype in consolidator.supported_mimetypes
    },
)
"""Consolidators by MIME type; `ConsolidatorBase` for any other type, which the server may know."""


_OTHER_REGISTRIES = {
    "bluesky_tiled_plugins.writing.consolidators": "bluesky_tiled_plugins",
    "bluesky.consolidators": "bluesky",
}
"""Modules that have a registry too, which counts once they are imported, and their packages."""


def consolidator_factory(
    stream_resource_doc: StreamDocument, descriptor_doc: StreamDocument
) -> Any:
    """Return the consolidator for the files that a StreamResource names.

    Parameters
    ----------
    stream_resource_doc : mapping
        The first StreamResource of a data key.
    descriptor_doc : mapping
        The descriptor of its stream, or the metadata that Tiled keeps of it.

    Returns
    -------
    ConsolidatorBase or BytesConsolidator
        Or the class that is registered for the MIME type, or `RegisteredFiles` for those that
        another catalog has. Data without a fixed shape cannot be an
        array in Tiled: their files are registered as bytes, with a note. So are files of a type
        without a class, if the documents do not describe an array.

    Raises
    ------
    InvalidDocument
        If the documents do not describe the files; the message names key and resource.
    """
    if REGISTERED in stream_resource_doc:
        return RegisteredFiles(stream_resource_doc)
    mimetype, key = (_text(stream_resource_doc.get(name)) for name in ("mimetype", "data_key"))
    registered = _registered(mimetype)
    made = registered or _for_other_types()
    data_key = (descriptor_doc.get("data_keys") or {}).get(key)
    shape = data_key.get("shape") if isinstance(data_key, Mapping) else None
    arrays = isinstance(made, type) and issubclass(made, ConsolidatorBase)
    if arrays and isinstance(shape, list | tuple) and None in shape:
        return opaque_consolidator(stream_resource_doc, "its shape varies")
    if registered is None and mimetype and data_key:
        return _array_or_bytes(made, stream_resource_doc, descriptor_doc)
    return made(stream_resource_doc, descriptor_doc)


def _registered(mimetype: str) -> Any:
    """Return what is registered for a MIME type: here, or for the writers of other packages.

    Beamlines have registered their own classes there. One of theirs comes before one that this
    package brings, and after one that was registered here.
    """
    ours = CONSOLIDATOR_REGISTRY.get(mimetype)
    if ours is not None and not _comes_with(ours, __package__):
        return ours
    for module, package in _OTHER_REGISTRIES.items():
        registry = getattr(sys.modules.get(module), "CONSOLIDATOR_REGISTRY", {})
        theirs = registry.get(mimetype)
        if theirs is not None and not _comes_with(theirs, package):
            return theirs
    return ours


def _comes_with(consolidator: Any, package: str) -> bool:
    return f"{getattr(consolidator, '__module__', '')}.".startswith(f"{package}.")


def _text(value: Any) -> str:
    """Return text as it is, and none for anything else, which the class refuses by name."""
    return value if isinstance(value, str) else ""


def _array_or_bytes(
    made: Any, stream_resource_doc: StreamDocument, descriptor_doc: StreamDocument
) -> Any:
    """Return a consolidator for a type without a class: an array if the documents allow it."""
    try:
        consolidator = made(stream_resource_doc, descriptor_doc)
        consolidator.get_data_source()
    except InvalidDocument as error:
        return opaque_consolidator(stream_resource_doc, f"they are no array: {error}")
    return consolidator


def _for_other_types() -> Any:
    default = CONSOLIDATOR_REGISTRY.default_factory
    return ConsolidatorBase if default is None else default()


def opaque_consolidator(stream_resource_doc: StreamDocument, reason: str) -> BytesConsolidator:
    """Return a consolidator that registers files of any type as bytes.

    For files that cannot be described, or whose type the server does not know.

    Parameters
    ----------
    stream_resource_doc : mapping
        The StreamResource; its MIME type is kept in the metadata of the node.
    reason : str
        The reason, for the notes.
    """
    consolidator = BytesConsolidator({**stream_resource_doc, "mimetype": BYTES})
    mimetype = stream_resource_doc.get("mimetype")
    consolidator.metadata["mimetype"] = mimetype
    reason = reason if reason.endswith(".") else f"{reason}."
    consolidator.notes.append(
        f"{subject(consolidator.data_key, stream_resource_doc.get('uid'))}: the files"
        f" ({mimetype}) were registered as bytes, since {reason}"
    )
    return consolidator
