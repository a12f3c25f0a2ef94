"""Describe detector files, from their documents, as data sources that Tiled can serve.

A consolidator collects what the documents say of the files of one external data key and composes
the `DataSource` that is registered in Tiled: assets, structure, parameters of the adapter. It
opens no file.

::

    ExternalFiles      files.py           the files of a key: base of all (numbered.py: templates)
    ConsolidatorBase   base.py            rows in files as one array (shapes.py, row_map.py)
    usable_dims        dims.py            names of its dimensions that xarray can have
    Frames             frames.py          which frames of which file the rows are
    HDF5, CSV          hdf5.py, csv.py    several rows a file
    TIFF, JPEG, NPY    image_sequence.py, npy.py    a file or more a row
    BytesConsolidator  opaque.py          files that are not opened by Tiled either
    RegisteredFiles    registered.py      files as another catalog has them registered
    consolidator_factory  registry.py     the class for a MIME type (mimetypes.py: for old specs)
    open_data_source   opening.py         the files as Tiled would open them, for tests
    PathMap            path_map.py        from where a detector writes to where the server reads

To support another format, subclass `ConsolidatorBase` (or the class of a similar format) and enter
it in `CONSOLIDATOR_REGISTRY` under its MIME type::

    class CBFConsolidator(MultipartRelatedConsolidator):
        supported_mimetypes = {"multipart/related;type=image/cbf"}


    CONSOLIDATOR_REGISTRY["multipart/related;type=image/cbf"] = CBFConsolidator

`bluesky_tiled_writer.testing` checks such a class on real files.
"""

from .base import ConsolidatorBase
from .csv import CSVConsolidator
from .dims import usable_dims
from .files import ExternalFiles, Patch
from .frames import EVENT_ROWS, Frames, Selection, ranges_in_words
from .hdf5 import HDF5Consolidator, MultipartHDF5Consolidator
from .image_sequence import JPEGConsolidator, MultipartRelatedConsolidator, TIFFConsolidator
from .mimetypes import mimetypes_by_spec
from .npy import NPYConsolidator
from .opaque import BytesConsolidator
from .opening import data_type_in_files, is_visible, open_data_source, shapes_in_files
from .path_map import PathMap, file_uri, is_windows_path
from .registered import REGISTERED
from .registry import CONSOLIDATOR_REGISTRY, consolidator_factory, opaque_consolidator
from .shapes import count, counts, shape_of_datum

__all__ = [
    "CONSOLIDATOR_REGISTRY",
    "EVENT_ROWS",
    "REGISTERED",
    "BytesConsolidator",
    "CSVConsolidator",
    "ConsolidatorBase",
    "ExternalFiles",
    "Frames",
    "HDF5Consolidator",
    "JPEGConsolidator",
    "MultipartHDF5Consolidator",
    "MultipartRelatedConsolidator",
    "NPYConsolidator",
    "Patch",
    "PathMap",
    "Selection",
    "TIFFConsolidator",
    "consolidator_factory",
    "count",
    "counts",
    "data_type_in_files",
    "file_uri",
    "is_visible",
    "is_windows_path",
    "mimetypes_by_spec",
    "opaque_consolidator",
    "open_data_source",
    "ranges_in_words",
    "shape_of_datum",
    "shapes_in_files",
    "usable_dims",
]
