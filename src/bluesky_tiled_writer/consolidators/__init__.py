"""From detector files, as documents describe them, to data sources that Tiled can serve.

A consolidator collects what the documents say of the files of one external data key and composes
the `DataSource` that is registered in Tiled: assets, structure, parameters of the adapter. No
file is opened. To support another format, subclass `ConsolidatorBase` (or the class of a similar
format) and enter it in `CONSOLIDATOR_REGISTRY` under its MIME type::

    class CBFConsolidator(MultipartRelatedConsolidator):
        supported_mimetypes = {"multipart/related;type=image/cbf"}


    CONSOLIDATOR_REGISTRY["multipart/related;type=image/cbf"] = CBFConsolidator
"""

from .base import ConsolidatorBase
from .csv import CSVConsolidator
from .files import ExternalFiles, Patch
from .hdf5 import HDF5Consolidator, MultipartHDF5Consolidator
from .image_sequence import JPEGConsolidator, MultipartRelatedConsolidator, TIFFConsolidator
from .mimetypes import mimetypes_by_spec
from .npy import NPYConsolidator
from .opaque import BytesConsolidator
from .path_map import PathMap, file_uri, is_windows_path
from .registry import CONSOLIDATOR_REGISTRY, consolidator_factory, opaque_consolidator
from .shapes import counts, shape_of_datum

__all__ = [
    "CONSOLIDATOR_REGISTRY",
    "BytesConsolidator",
    "CSVConsolidator",
    "ConsolidatorBase",
    "ExternalFiles",
    "HDF5Consolidator",
    "JPEGConsolidator",
    "MultipartHDF5Consolidator",
    "MultipartRelatedConsolidator",
    "NPYConsolidator",
    "Patch",
    "PathMap",
    "TIFFConsolidator",
    "consolidator_factory",
    "counts",
    "file_uri",
    "is_windows_path",
    "mimetypes_by_spec",
    "opaque_consolidator",
    "shape_of_datum",
]
