"""Nodes whose data are in the files of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import httpx
import numpy as np
from tiled.structures.array import BuiltinDtype
from tiled.structures.data_source import DataSource

from bluesky_tiled_writer.consolidators import (
    HDF5Consolidator,
    data_type_in_files,
    shapes_in_files,
)
from bluesky_tiled_writer.errors import RequestRefused, StorageUnsupported
from bluesky_tiled_writer.run import CorrectType, CountRows, RegisterAsset, UpdateAsset

from .node import StoredNode
from .served_type import served_type

OCTETS = "application/octet-stream"

_TYPES = [
    BuiltinDtype.from_numpy_dtype(np.dtype(name))
    for name in ("u2", "u1", "u4", "i4", "f4", "i2", "i1", "u8", "i8", "?")
]
"""Types of detectors' elements, the most frequent ones first."""


def with_type(source: DataSource, kind: Any) -> DataSource:
    """Return a data source with another type of its elements."""
    return replace(source, structure=replace(source.structure, data_type=kind))


class FilesNode(StoredNode):
    """A node on files. Registering the same files and rows twice does no harm."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._data_source: Any = None
        self._uris: set[str] = set()
        self._last: UpdateAsset | None = None
        # As Tiled has them, perhaps ahead of what is sent.
        self._found_shape: tuple[int, ...] = ()
        self._found_parameters: Any = None

    def register(self, step: RegisterAsset) -> None:
        """Create the node, if it does not exist.

        Raises
        ------
        StorageUnsupported
            If the server cannot read files of this MIME type.
        """
        source = step.source
        self.resolve_uncertainty(source)
        if self.exists:
            return
        body = {
            "structure_family": source.structure_family,
            "data_sources": [asdict(source)],
        }
        try:
            answer = self.create(body, source)
        except RequestRefused as error:
            if error.status != httpx.codes.UNSUPPORTED_MEDIA_TYPE:
                raise
            raise StorageUnsupported(
                f"the server cannot read the MIME type {source.mimetype!r}", status=error.status
            ) from error
        if answer is not None:
            self._data_source = answer.json()["data_sources"][0]["id"]
            self._uris = {asset.data_uri for asset in source.assets}

    def update(self, step: UpdateAsset) -> None:
        """Register files and rows that were added, unless Tiled is known to have them."""
        self._last = step
        self.resolve_uncertainty(step.source)
        new = [asset for asset in step.source.assets if asset.data_uri not in self._uris]
        if not new and self._covers(step.source):
            return
        params = {}
        if step.shape is not None and step.offset is not None:
            params["patch_shape"] = ",".join(map(str, step.shape))
            params["patch_offset"] = ",".join(map(str, step.offset))
        self._put(replace(step.source, assets=new), params)
        self._uris.update(asset.data_uri for asset in new)

    def _put(self, source: DataSource, params: Mapping[str, str]) -> None:
        source = replace(source, id=self._data_source)
        with self.noting_uncertainty():
            self._requests.send(
                "PUT",
                "data_source",
                self.path,
                json_body={"data_source": asdict(source)},
                params=params,
            )
        self._found_shape = ()

    def correct_type(self, step: CorrectType) -> None:
        """Register the type of the elements that the files have, or that Tiled can read."""
        self.resolve_uncertainty(step.source)
        kind = data_type_in_files(step.source)
        if kind is None and 0 not in step.source.structure.shape:
            is_hdf5 = step.source.mimetype in HDF5Consolidator.supported_mimetypes
            kind = (self._readable_type if is_hdf5 else self._served_type)(step.source)
        if kind is None:
            return
        source = with_type(step.source, kind)
        self._put(replace(source, assets=[]), {})
        self._last = UpdateAsset(step.node, source)
        step.found(kind)

    def count_rows(self, step: CountRows) -> None:
        """Register what the files have turned out to need."""
        shapes = shapes_in_files(step.source)
        if not shapes or (source := step.found(shapes)) is None:
            return
        self.resolve_uncertainty(source)
        self._put(replace(source, assets=[]), {})
        self._last = UpdateAsset(step.node, source)

    def _readable_type(self, source: DataSource) -> Any:
        """Try which type Tiled can read: it refuses HDF5 files of another type than registered."""
        for kind in (source.structure.data_type, *_TYPES):
            self._put(replace(with_type(source, kind), assets=[]), {})
            if self._can_be_read(source):
                return kind
        self._put(replace(source, assets=[]), {})
        return None

    def _can_be_read(self, source: DataSource) -> bool:
        return self._read((1,) * len(source.structure.shape), OCTETS) is not None

    def _served_type(self, source: DataSource) -> Any:
        """Find out the type of the first row as Tiled serves it, whatever is registered."""
        structure = source.structure
        row = (1, *(sizes[0] for sizes in structure.chunks[1:]))
        content, tiff = (self._read(row, mimetype) for mimetype in (OCTETS, "image/tiff"))
        if content is None or tiff is None or (dtype := served_type(tiff, content)) is None:
            return None
        return BuiltinDtype.from_numpy_dtype(dtype)

    def _read(self, shape: tuple[int, ...], mimetype: str) -> bytes | None:
        """Read the begin of the first block; None if Tiled cannot."""
        params = {
            "block": ",".join(["0"] * len(shape)),
            "slice": ",".join(f"0:{size}" for size in shape),
            "expected_shape": ",".join(map(str, shape)),
        }
        # After an error of its own the server may cut the connection, which others use too.
        headers = {"Accept": mimetype, "Connection": "close"}
        try:
            answer = self._requests.send(
                "GET", "array/block", self.path, headers=headers, params=params
            )
        except RequestRefused:
            return None
        return bytes(answer.read())

    def check(self, *, again: bool) -> None:
        """Repeat the last update, which an earlier one may have replaced by taking effect late."""
        if self._last is not None:
            self._uncertain = True
            self.update(replace(self._last, shape=None, offset=None))

    # -- what the server holds ------------------------------------------------------------------

    def _covers(self, source: DataSource) -> bool:
        """Return True if Tiled was found to have at least as many rows, and the same ones.

        The parameters say which frames of the files the rows are.
        """
        shape = getattr(source.structure, "shape", None)
        if not self._found_shape or shape is None:
            return False
        if self._found_shape[0] == shape[0]:
            return bool(self._found_parameters == source.parameters)
        return bool(self._found_shape[0] > shape[0])

    def _matches(self, item: Mapping[str, Any], wanted: DataSource) -> bool:
        sources = item["attributes"].get("data_sources") or []
        return (
            item["attributes"]["structure_family"] == wanted.structure_family
            and len(sources) == 1
            and sources[0]["mimetype"] == wanted.mimetype
        )

    def _take_over(self, item: Mapping[str, Any]) -> None:
        (source,) = item["attributes"]["data_sources"]
        self._data_source = source["id"]
        self._uris = {asset["data_uri"] for asset in source["assets"]}
        self._found_parameters = source.get("parameters")
        self._found_shape = tuple((source.get("structure") or {}).get("shape") or ())
