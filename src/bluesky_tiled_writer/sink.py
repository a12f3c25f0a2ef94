"""The only module that writes to Tiled: one method a step.

Requests go through the http client of `tiled.client`, which brings addresses, credentials and the
in-process transport; the structures and encodings are Tiled's own. No request on the normal path
is a GET: what a node is made of is known from the step, how many rows it holds from having sent
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute
from tiled.client.base import BaseClient
from tiled.client.utils import client_for_item
from tiled.mimetypes import APACHE_ARROW_FILE_MIME_TYPE
from tiled.serialization.table import serialize_arrow
from tiled.structures.array import ArrayStructure, BuiltinDtype, StructDtype
from tiled.structures.core import StructureFamily
from tiled.structures.table import TableStructure

from .errors import RequestRefused, RunExists, StorageError, StorageUnsupported
from .limits import Limits, ragged_name
from .ragged_rows import RaggedRows, in_columns
from .requests import Path, Requests
from .steps import (
    AppendRows,
    CloseNodes,
    Content,
    CreateRun,
    CreateStream,
    Discard,
    ExtendArray,
    ExtendRagged,
    Node,
    Rebuild,
    RegisterAsset,
    SpecName,
    Step,
    UpdateAsset,
    UpdateMetadata,
)

SQL_TABLE_MIME_TYPE = "application/x-tiled-sql-table"
CHUNK_BYTES = 16 * 2**20
"""Largest chunk of an array node, in bytes of its data type."""

READ_BYTES = 64 * 2**20
"""How much of a node is read at once when it has to be rebuilt."""


@dataclass
class _Registered:
    """What the server has of a node on files: the id of its data source, and which files."""

    data_source: Any
    uris: set[str]


class TiledSink:
    """Carries out steps below a container of a Tiled server.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container that holds the runs.
    limits : Limits, optional
        Takes what the server turns out not to hold.
    """

    def __init__(self, client: BaseClient, limits: Limits | None = None) -> None:
        self._client = client
        self._requests = Requests(client)
        self._rows: dict[Path, int] = {}
        self._salvaged: dict[Path, Content] = {}
        self._registered: dict[Path, _Registered] = {}
        self.limits = limits or Limits()

    def carry_out(self, step: Step) -> None:
        """Carry out one step; see `steps.Sink`."""
        match step:
            case AppendRows():
                self._append_rows(step)
            case ExtendArray():
                self._extend_array(step)
            case ExtendRagged():
                self._extend_ragged(step)
            case RegisterAsset():
                self._register(step)
            case UpdateAsset():
                self._update_asset(step)
            case CreateRun():
                self._create_run(step)
            case CreateStream():
                self._create_container((step.run, step.name), step)
            case UpdateMetadata():
                self._update_metadata(step)
            case Rebuild():
                self._rebuild(step)
            case Discard():
                self._discard(step.nodes)
            case CloseNodes():
                self._close(step)

    # -- containers -----------------------------------------------------------------------------

    def _create_run(self, step: CreateRun) -> None:
        try:
            self._create_container((step.uid,), step)
        except RequestRefused as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            raise RunExists(
                f"Tiled already holds a run with the uid {step.uid!r} (of the start document"
                f" with scan_id {step.metadata['start'].get('scan_id')!r}).",
                hint="A uid stands for one run: delete the one that is there, or replay this"
                " one under another uid.",
            ) from error

    def _create_container(self, path: Path, step: CreateRun | CreateStream) -> None:
        self._create(
            path, StructureFamily.container, step.metadata, step.access_tags, specs=step.specs
        )

    def _create(
        self,
        path: Path,
        family: StructureFamily,
        metadata: Mapping[str, Any],
        access_tags: Sequence[str] | None,
        *,
        specs: Sequence[SpecName] = (),
        data_source: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        body = {
            "id": path[-1],
            "structure_family": family,
            "metadata": metadata,
            "specs": [{"name": name, "version": version} for name, version in specs],
            "data_sources": [data_source] if data_source else [],
            "access_tags": access_tags,
        }
        endpoint = "register" if data_source and data_source["assets"] else "metadata"
        return self._requests.send("POST", endpoint, path[:-1], json_body=body, about=path)

    def _update_metadata(self, step: UpdateMetadata) -> None:
        # A JSON patch, and no merge patch, to which a None would mean "delete".
        patch = [
            {"op": "add", "path": _pointer(key), "value": value}
            for key, value in step.values.items()
        ]
        path = tuple(part for part in (step.run, step.stream, step.node) if part is not None)
        body = {
            "content-type": "application/json-patch+json",
            "metadata": patch,
            "specs": None,
            "access_tags": None,
        }
        params = {"drop_revision": True}
        self._requests.send("PATCH", "metadata", path, json_body=body, params=params)

    def _close(self, step: CloseNodes) -> None:
        for path in step.paths:
            self._requests.send("DELETE", "stream/close", path)
            self._rows.pop(path, None)
            self._registered.pop(path, None)

    # -- tables ---------------------------------------------------------------------------------

    def _append_rows(self, step: AppendRows) -> None:
        table = step.table.slice(self._known(step.node, step.start))
        if step.node.path not in self._rows:
            self._create_table(step.node, table.schema)
        if not table.num_rows:
            return
        try:
            self._requests.send(
                "PATCH",
                "table/partition",
                step.node.path,
                content=bytes(serialize_arrow(APACHE_ARROW_FILE_MIME_TYPE, table, {})),
                headers={"Content-Type": APACHE_ARROW_FILE_MIME_TYPE},
                params={"partition": 0},
            )
        except RequestRefused as error:
            if _has_nul(table) and self.limits.learn("NUL"):
                raise StorageUnsupported(str(error), status=error.status) from error
            raise
        self._rows[step.node.path] += table.num_rows

    def _create_table(self, node: Node, schema: pa.Schema) -> None:
        structure = asdict(TableStructure.from_schema(schema))
        try:
            self._create_node(node, StructureFamily.table, structure, SQL_TABLE_MIME_TYPE)
        except RequestRefused as error:
            # The server does not say what it refused; these are what its databases differ in.
            doubtful = []
            if pa.uint64() in schema.types:
                doubtful.append("u8")
            if any(map(pa.types.is_list, schema.types)):
                doubtful.append("lists")
            if any(map(self.limits.learn, doubtful)):
                raise StorageUnsupported(str(error), status=error.status) from error
            raise

    def _create_node(
        self,
        node: Node,
        family: StructureFamily,
        structure: Mapping[str, Any],
        mimetype: str | None = None,
    ) -> None:
        data_source = {
            "structure_family": family,
            "structure": structure,
            "id": None,
            "mimetype": mimetype,
            "parameters": {},
            "properties": {},
            "assets": [],
            "management": "writable",
        }
        self._create(node.path, family, node.metadata, node.access_tags, data_source=data_source)
        self._rows[node.path] = 0

    # -- arrays ---------------------------------------------------------------------------------

    def _extend_array(self, step: ExtendArray) -> None:
        block = step.block[self._known(step.node, step.start) :]
        if not len(block):
            return
        if step.node.path not in self._rows:
            block = self._create_array(step.node, block)
        for part in _pieces(block):
            start = self._rows[step.node.path]
            self._requests.send(
                "PATCH",
                "array/full",
                step.node.path,
                content=np.ascontiguousarray(part).tobytes(),
                headers={"Content-Type": "application/octet-stream"},
                params={
                    "offset": str(start),
                    "shape": ",".join(map(str, part.shape)),
                    "extend": True,
                },
            )
            self._rows[step.node.path] = start + len(part)

    def _create_array(self, node: Node, block: np.ndarray) -> np.ndarray:
        """Create the node with the first rows of a block; the rest comes back.

        The server takes the chunks of the first write for all that follow, and rounds an array
        up to whole chunks: so the first write has a whole number of them.
        """
        row_bytes = max(1, block[:1].nbytes)
        chunk = min(len(block), max(1, CHUNK_BYTES // row_bytes))
        first = block[:chunk]
        structure = ArrayStructure(
            data_type=_data_type(block.dtype),
            shape=first.shape,
            chunks=tuple((size,) for size in first.shape),
            dims=node.dims,
        )
        self._create_node(node, StructureFamily.array, asdict(structure))
        self._requests.send(
            "PUT",
            "array/full",
            node.path,
            content=np.ascontiguousarray(first).tobytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        self._rows[node.path] = chunk
        return block[chunk:]

    def _extend_ragged(self, step: ExtendRagged) -> None:
        rows = step.rows.since(self._known(step.node, step.start))
        if not len(rows):
            return
        content = _ragged_buffers(rows)
        headers = {"Content-Type": "application/zip"}
        path = step.node.path
        if path not in self._rows:
            self._create_ragged(step.node, rows)
            self._requests.send("PUT", "ragged/full", path, content=content, headers=headers)
        else:
            params = {"shape": str(len(rows)), "offset": str(self._rows[path]), "extend": True}
            self._requests.send(
                "PATCH", "ragged/full", path, content=content, headers=headers, params=params
            )
        self._rows[path] += len(rows)

    def _create_ragged(self, node: Node, rows: RaggedRows) -> None:
        from tiled.structures.ragged import RaggedStructure

        ndim_fixed = rows.shape.index(None)
        structure = RaggedStructure(
            data_type=_data_type(rows.dtype),
            shape=(len(rows), *rows.shape),
            size=sum(row.size for row in rows.rows),
            chunks=(
                (len(rows),),
                *((size,) for size in rows.shape[:ndim_fixed] if size is not None),
                *(None for _ in rows.shape[ndim_fixed:]),
            ),
            dims=node.dims,
        )
        try:
            self._create_node(node, StructureFamily.ragged, asdict(structure))
        except RequestRefused as error:
            if self.limits.learn(ragged_name(rows.dtype)):
                raise StorageUnsupported(str(error), status=error.status) from error
            raise

    # -- files of detectors ---------------------------------------------------------------------

    def _register(self, step: RegisterAsset) -> None:
        node, source = step.node, step.source
        if node.path in self._registered:
            return
        try:
            answer = self._create(
                node.path,
                source.structure_family,
                node.metadata,
                node.access_tags,
                data_source=asdict(source),
            )
        except RequestRefused as error:
            if error.status != httpx.codes.UNSUPPORTED_MEDIA_TYPE:
                raise
            raise StorageUnsupported(
                f"the server cannot read the MIME type {source.mimetype!r}", status=error.status
            ) from error
        uris = {asset.data_uri for asset in source.assets}
        self._registered[node.path] = _Registered(answer.json()["data_sources"][0]["id"], uris)

    def _update_asset(self, step: UpdateAsset) -> None:
        known = self._registered[step.node.path]
        new = [asset for asset in step.source.assets if asset.data_uri not in known.uris]
        source = replace(step.source, id=known.data_source, assets=new)
        params = {}
        if step.shape is not None and step.offset is not None:
            params["patch_shape"] = ",".join(map(str, step.shape))
            params["patch_offset"] = ",".join(map(str, step.offset))
        body = {"data_source": asdict(source)}
        self._requests.send("PUT", "data_source", step.node.path, json_body=body, params=params)
        known.uris.update(asset.data_uri for asset in new)

    # -- what does not fit any more -------------------------------------------------------------

    def _rebuild(self, step: Rebuild) -> None:
        for node in step.nodes:
            if node.path not in self._salvaged:
                self._salvaged[node.path] = self._read(node.path)
        # From here on only memory has these rows; they stay salvaged until all of them are back,
        # since the server may refuse their new form.
        remade = step.remake({node.name: self._salvaged[node.path] for node in step.nodes})
        self._discard([*step.nodes, *(append.node for append in remade)])
        for append in remade:
            self.carry_out(append)
        for node in step.nodes:
            del self._salvaged[node.path]

    def _discard(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if self._rows.pop(node.path, None) is not None:
                self._requests.send(
                    "DELETE", "metadata", node.path, params={"external_only": False}
                )

    def _read(self, path: Path) -> Content:
        item = self._requests.send("GET", "metadata", path).json()["data"]
        family = item["attributes"]["structure_family"]
        if family == StructureFamily.table:
            return self._read_table(path, item["attributes"]["structure"]["columns"])
        client = client_for_item(self._client.context, self._client.structure_clients, item)
        if family == StructureFamily.ragged:
            return [np.asarray(row) for row in client.read().tolist()]
        return np.asarray(client.read())

    def _read_table(self, path: Path, columns: Sequence[str]) -> pa.Table:
        """Read a table as Arrow: the client's way, through pandas and dask, makes text of lists."""
        rows = self._rows[path]
        width = max(1, READ_BYTES // max(1, rows * 16))
        table = None
        for start in range(0, len(columns), width):
            names = list(columns[start : start + width])
            accept = {"Accept": APACHE_ARROW_FILE_MIME_TYPE}
            response = self._requests.send(
                "POST", "table/full", path, json_body=names, headers=accept
            )
            part = pa.ipc.open_file(pa.BufferReader(response.read())).read_all()
            for name in names:
                column = part[name]
                table = (
                    pa.table({name: column}) if table is None else table.append_column(name, column)
                )
        assert table is not None
        return table

    def _known(self, node: Node, start: int) -> int:
        """How many rows of a step that starts at this ordinal the node holds already."""
        held = self._rows.get(node.path, 0)
        if start > held:
            raise StorageError(
                f"Rows {held} to {start - 1} of {'/'.join(node.path)} were never sent.",
                hint="This is a defect of bluesky-tiled-writer; please report it.",
            )
        return held - start


def _pointer(key: str) -> str:
    """The JSON pointer to a key of the metadata."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _data_type(dtype: np.dtype) -> BuiltinDtype | StructDtype:
    if dtype.fields is not None:
        return StructDtype.from_numpy_dtype(dtype)
    return BuiltinDtype.from_numpy_dtype(dtype)


def _pieces(block: np.ndarray) -> Iterator[np.ndarray]:
    """A block in pieces of at most a few chunks, so that no request is too large."""
    size = max(1, 4 * CHUNK_BYTES // max(1, block[:1].nbytes))
    for start in range(0, len(block), size):
        yield block[start : start + size]


def _has_nul(table: pa.Table) -> bool:
    return any(
        pa.types.is_string(column.type)
        and pa.compute.any(pa.compute.match_substring(column, "\0")).as_py()
        for column in table.columns
    )


def _ragged_buffers(rows: RaggedRows) -> bytes:
    """Rows in the format that Tiled takes for ragged arrays."""
    import awkward
    import ragged
    from tiled.serialization.ragged import to_zipped_buffers

    levels, values = in_columns(rows)
    layout: Any = awkward.contents.NumpyArray(values)
    for level in reversed(levels):
        if isinstance(level, int):
            layout = awkward.contents.RegularArray(layout, level)
        else:
            offsets = awkward.index.Index64(level)
            layout = awkward.contents.ListOffsetArray(offsets, layout)
    return bytes(to_zipped_buffers("application/zip", ragged.array(layout), {}))
