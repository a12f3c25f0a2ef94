"""Nodes whose data are in the files of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import httpx
from tiled.structures.data_source import DataSource

from bluesky_tiled_writer.errors import RequestRefused, StorageUnsupported
from bluesky_tiled_writer.run import RegisterAsset, UpdateAsset

from .node import StoredNode


class FilesNode(StoredNode):
    """A node on files. Registering the same files and rows twice does no harm."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._data_source: Any = None
        self._uris: set[str] = set()
        self._last: UpdateAsset | None = None
        self._found_shape: tuple[int, ...] = ()  # as Tiled has it, perhaps ahead of what is sent

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
        source = replace(step.source, id=self._data_source, assets=new)
        params = {}
        if step.shape is not None and step.offset is not None:
            params["patch_shape"] = ",".join(map(str, step.shape))
            params["patch_offset"] = ",".join(map(str, step.offset))
        with self.noting_uncertainty():
            self._requests.send(
                "PUT",
                "data_source",
                self.path,
                json_body={"data_source": asdict(source)},
                params=params,
            )
        self._uris.update(asset.data_uri for asset in new)
        self._found_shape = ()

    def check(self, *, again: bool) -> None:
        """Repeat the last update, which an earlier one may have replaced by taking effect late."""
        if self._last is not None:
            self._uncertain = True
            self.update(replace(self._last, shape=None, offset=None))

    # -- what the server holds ------------------------------------------------------------------

    def _covers(self, source: DataSource) -> bool:
        """Return True if Tiled was found to have at least as many rows."""
        shape = getattr(source.structure, "shape", None)
        return bool(self._found_shape) and shape is not None and self._found_shape[0] >= shape[0]

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
        self._found_shape = tuple((source.get("structure") or {}).get("shape") or ())
