"""Which consolidator describes which files."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bluesky_tiled_writer.errors import InvalidDocument

from .base import ConsolidatorBase
from .csv import CSVConsolidator
from .files import Document, subject
from .hdf5 import HDF5Consolidator
from .image_sequence import JPEGConsolidator, TIFFConsolidator
from .mimetypes import BYTES
from .npy import NPYConsolidator
from .opaque import BytesConsolidator

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
"""Consolidators by MIME type. `ConsolidatorBase` takes any other type: servers may know it."""


def consolidator_factory(stream_resource_doc: Document, descriptor_doc: Document) -> Any:
    """Make the consolidator for the files that a StreamResource names.

    Parameters
    ----------
    stream_resource_doc : mapping
        The first StreamResource of a data key.
    descriptor_doc : mapping
        The descriptor of its stream, or what Tiled keeps of it.

    Returns
    -------
    ConsolidatorBase or BytesConsolidator
        Or whatever class is registered for the MIME type. Data of no fixed shape cannot be an
        array in Tiled: those files are registered as bytes, with a note; and so are files of a
        type that has no class, if the documents do not describe an array.

    Raises
    ------
    InvalidDocument
        If the documents do not describe the files; the message names key and resource.
    """
    mimetype = stream_resource_doc.get("mimetype", "")
    registered = CONSOLIDATOR_REGISTRY.get(mimetype)
    made = registered or _for_other_types()
    key = stream_resource_doc.get("data_key")
    data_key = (descriptor_doc.get("data_keys") or {}).get(key) or {}
    arrays = isinstance(made, type) and issubclass(made, ConsolidatorBase)
    if arrays and None in (data_key.get("shape") or ()):
        return opaque_consolidator(stream_resource_doc, "its shape varies")
    if registered is None and mimetype and data_key:
        return _array_or_bytes(made, stream_resource_doc, descriptor_doc)
    return made(stream_resource_doc, descriptor_doc)


def _array_or_bytes(made: Any, stream_resource_doc: Document, descriptor_doc: Document) -> Any:
    """Describe files of a type that has no class: whether they hold an array, nobody has said."""
    try:
        consolidator = made(stream_resource_doc, descriptor_doc)
        consolidator.get_data_source()
    except InvalidDocument as error:
        return opaque_consolidator(stream_resource_doc, f"they are no array: {error}")
    return consolidator


def _for_other_types() -> Any:
    default = CONSOLIDATOR_REGISTRY.default_factory
    return ConsolidatorBase if default is None else default()


def opaque_consolidator(stream_resource_doc: Document, reason: str) -> BytesConsolidator:
    """Register files as bytes although they have a type of their own.

    For files that cannot be described, or whose type the server does not know.

    Parameters
    ----------
    stream_resource_doc : mapping
        The StreamResource; its MIME type is kept in the metadata of the node.
    reason : str
        Why, for the notes.
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
