"""The documents of a run in Tiled, as they were before it was stored, as far as Tiled tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from tiled.structures.data_source import DataSource, Management

from bluesky_tiled_writer.checks import RunNotes, read_columns
from bluesky_tiled_writer.consolidators import REGISTERED, PathMap
from bluesky_tiled_writer.errors import UnknownReference, mapped_errors
from bluesky_tiled_writer.run import ORIGINAL_URIS
from bluesky_tiled_writer.schema import (
    NOTES_KEY,
    ROW_NUMBER,
    column_groups,
    join_columns,
    timestamp_name,
)

from .saved_documents import Pair
from .stored_rows import ArrayRows, KeyColumns, declaration, page_column, rows_of

PAGE_ROWS = 10_000
"""Rows of an event page, at most."""

PAGE_BYTES = 16 * 2**20
"""Bytes of arrays in an event page, about, but one row at least."""

_ROWS_UNKNOWN = 1_000
"""Rows that a table is taken to have if the stop document does not tell."""

RUN_METADATA = frozenset({"start", "stop", "notes", "written_by"})
"""Keys in the metadata of a run that its documents, or its writer, account for."""


class StoredRun:
    """The documents of a run that Tiled holds. It can be iterated over again and again.

    Values, names and notes are those that the documents had where the notes tell them; uids of
    events are made. Files are described as the catalog has them registered. A table is in memory
    as a whole, arrays are read page by page.

    Parameters
    ----------
    client : tiled.client.container.Container
        The client of the run: Tiled's own, or that of bluesky-tiled-plugins.
    path_map : PathMap, optional
        For files that the next server has in another place.
    access_tags : bool
        Let the start document have the access tags of the run.

    Attributes
    ----------
    uid, name : str
        The uid of the run, and its key in the catalog.
    metadata : mapping
        Its metadata in Tiled.
    """

    one_run = True

    def __init__(
        self, client: Any, *, path_map: PathMap | None = None, access_tags: bool = True
    ) -> None:
        self._container = getattr(client, "base", client)
        self._path_map = PathMap({}) if path_map is None else path_map
        self._access_tags = access_tags
        self.metadata: Mapping[str, Any] = dict(self._container.metadata)
        self.name = str(self._container.item["id"])
        self._start: Any = self.metadata.get("start")
        self.uid: str = (self._start or {}).get("uid", self.name)

    @property
    def options(self) -> dict[str, Any]:
        """Options of a writer for these documents: they are of today, and paths are mapped."""
        return {"normalizer": None, "path_map": {}}

    def quiet(self) -> StoredRun:
        """Return the same documents, for another use."""
        return self

    def __iter__(self) -> Iterator[Pair]:
        if not isinstance(self._start, Mapping):
            raise UnknownReference(f"Tiled has no start document of run {self.name!r}.")
        notes = list(map(str, self.metadata.get("notes") or ()))
        yield "start", self._start_document(self._start)
        with mapped_errors(f"the request for the streams of run {self.uid!r}"):
            streams = _streams(self._container)
        given, stop = RunNotes(notes).streams(), self.metadata.get("stop") or {}
        for stored_name, client in streams.items():
            name = given.get(stored_name, stored_name)
            rows = (stop.get("num_events") or {}).get(name)
            yield from _Stream(self.uid, name, stored_name, client, notes, rows).documents(
                self._path_map
            )
        if stop:
            yield "stop", {**stop, NOTES_KEY: notes} if notes else dict(stop)

    def _start_document(self, start: Mapping[str, Any]) -> dict[str, Any]:
        attributes, doc = _attributes(self._container), dict(start)
        specs = [spec for spec in attributes.get("specs") or () if spec["name"] != "BlueskyRun"]
        if specs:
            doc["tiled_specs"] = [{"name": s["name"], "version": s.get("version")} for s in specs]
        tags = attributes.get("access_tags") or (attributes.get("access_blob") or {}).get("tags")
        if tags and self._access_tags:
            doc["tiled_access_tags"] = list(tags)
        return doc


def _streams(run: Any) -> Mapping[str, Any]:
    """Return the streams of a run, which older catalogs have in a container of their own."""
    streams = dict(run.items())
    if streams.keys() == {"streams"}:
        inner: Any = streams["streams"]
        if "BlueskyEventStream" not in {spec["name"] for spec in _attributes(inner)["specs"]}:
            return dict(getattr(inner, "base", inner).items())
    return streams


def _with_sources(client: Any) -> Any:
    """Return a container whose items come with their data sources."""
    return getattr(client, "base", client).new_variation(include_data_sources=True)


def _attributes(client: Any) -> Any:
    return client.item["attributes"]


class _Stream:
    """A stream of a run in Tiled.

    Parameters
    ----------
    uid : str
        Uid of the run.
    name, stored_name : str
        Its name in the documents, and in Tiled.
    client : Any
        Its client.
    notes : sequence of str
        Those of the run.
    rows : int, optional
        The number of its rows, if it is known.
    """

    def __init__(
        self,
        uid: str,
        name: str,
        stored_name: str,
        client: Any,
        notes: Sequence[str],
        rows: Any,
    ) -> None:
        self._uid = uid
        self._name = name
        self._stored_name = stored_name
        self._container = _with_sources(client)
        self._notes = RunNotes(notes)
        self._rows = rows if isinstance(rows, int) else _ROWS_UNKNOWN
        metadata = dict(self._container.metadata)
        self._updates = metadata.pop("_config_updates", None) or []
        self._first = self._descriptor(metadata)
        self._keys: dict[str, Any] = self._first["data_keys"]

    def _descriptor(self, metadata: dict[str, Any]) -> dict[str, Any]:
        keys = dict(metadata.get("data_keys") or {})
        objects: dict[str, list[str]] = {}
        for key, declared in keys.items():
            if name := declared.get("object_name"):
                objects.setdefault(name, []).append(key)
        return {
            "uid": f"{self._uid}/{self._stored_name}",
            **metadata,
            "data_keys": keys,
            "name": self._name,
            "run_start": self._uid,
            "object_keys": objects,
        }

    def documents(self, path_map: PathMap) -> Iterator[Pair]:
        """Yield the descriptors, the events, and what describes files."""
        with mapped_errors(f"the request for the nodes of stream {self._name!r}"):
            nodes = dict(_nodes(self._container))
        external = {name: node for name, node in nodes.items() if _is_external(node)}
        table = self._read_table(nodes)
        columns = self._columns(
            {name: node for name, node in nodes.items() if name not in external}, table
        )
        for key, source in columns.values.items():
            self._keys.setdefault(key, declaration(source))
        yield "descriptor", self._first
        count = (
            table.num_rows
            if table.num_columns
            else max(map(len, columns.values.values()), default=0)
        )
        yield from self._events(table, columns, count)
        for name, node in external.items():
            yield from self._files(name, node, path_map)

    # -- events ---------------------------------------------------------------------------------

    def _read_table(self, nodes: Mapping[str, Any]) -> pa.Table:
        """Return the columns of all tables, side by side."""
        parts = []
        for node in nodes.values():
            if _family(node) == "table" and not _is_external(node):
                groups = column_groups(node.columns, self._rows)
                # Pandas, which the server uses, may add a column of its own.
                parts += [read_columns(node, group).select(group) for group in groups]
        return join_columns(parts)

    def _events(self, table: pa.Table, columns: KeyColumns, count: int) -> Iterator[Pair]:
        times, seq_nums = (
            table[name].to_pylist() if name in table.column_names else []
            for name in ("time", "seq_num")
        )
        row_bytes = sum(getattr(source, "row_bytes", 0) for source in columns.values.values())
        most = max(1, min(PAGE_ROWS, PAGE_BYTES // max(1, row_bytes)))
        row, descriptor, updates = 0, self._first, list(self._later_descriptors())
        while row < count:
            while updates and _is_due(updates[0][1], times, row):
                yield (pair := updates.pop(0))
                descriptor = pair[1]
            stop = min(count, row + most)
            if updates:
                due = (i for i in range(row + 1, stop) if _is_due(updates[0][1], times, i))
                stop = next(due, stop)
            page = {
                key: page_column(
                    source,
                    columns.verbatim.get(key),
                    row,
                    stop,
                    may_be_json=self._may_be_json(key),
                )
                for key, source in columns.values.items()
            }
            yield (
                "event_page",
                {
                    "uid": [f"{descriptor['uid']}/{i}" for i in range(row, stop)],
                    "descriptor": descriptor["uid"],
                    "seq_num": seq_nums[row:stop] or [*range(row + 1, stop + 1)],
                    "time": times[row:stop] or [self._first.get("time", 0.0)] * (stop - row),
                    "data": page,
                    "timestamps": {
                        key: rows_of(source, row, stop) for key, source in columns.stamps.items()
                    },
                    # What is not in files was brought by events, whatever the descriptor says.
                    "filled": {
                        key: [True] * (stop - row)
                        for key in page
                        if "external" in self._keys.get(key, {})
                    },
                },
            )
            row = stop
        yield from updates

    def _columns(self, nodes: Mapping[str, Any], table: pa.Table) -> KeyColumns:
        """Find where the values, the timestamps and the deviating values of each key are."""
        notes, stream = self._notes, self._stored_name  # which notes have
        described: dict[str, Any] = {}
        arrays: dict[str, Any] = {}
        for name, node in nodes.items():
            if _family(node) == "table":
                described.update(node.metadata)
            else:
                arrays[node.metadata.get("data_key", name)] = ArrayRows(node)
        left: dict[str, Any] = {
            name: table[name]
            for name in table.column_names
            # The next writer counts rows itself.
            if name not in ("seq_num", "time") and not name.startswith(ROW_NUMBER)
        }
        found = KeyColumns({}, {}, {})
        for key in self._keys:
            name = key
            if "data_key" in (described.get(key) or {}):
                name = notes.stored_as(stream, key, "column")
            if name in left:
                found.values[key] = left.pop(name)
        left = {**arrays, **left}
        for key in self._keys:
            if key not in found.values and key in left:
                found.values[key] = left.pop(key)
            if (kept := notes.verbatim_in(stream, key)) is not None and kept in left:
                found.verbatim[key] = left.pop(kept)
        for key in self._keys:
            name = timestamp_name(key)
            name = name if name in left else notes.stored_as(stream, name, "column")
            if name in left:
                found.stamps[key] = left.pop(name)
        stamps = {name: key for key in left if (name := timestamp_name(key)) in left}
        for name, source in left.items():  # of keys that no descriptor declares
            if name in stamps:
                found.stamps[stamps[name]] = source
            else:
                found.values[name] = source
        return found

    def _may_be_json(self, key: str) -> bool:
        """Return True if text in a column may be an array, or another value that is no text."""
        declared = self._keys[key].get("dtype")
        return declared != "string" or self._notes.arrays_are_text(self._stored_name, key)

    def _later_descriptors(self) -> Iterator[Pair]:
        for number, update in enumerate(self._updates, start=1):
            uid = update.get("uid", f"{self._first['uid']}/{number}")
            yield "descriptor", {**self._first, "configuration": {}, **update, "uid": uid}

    # -- files ----------------------------------------------------------------------------------

    def _files(self, name: str, node: Any, path_map: PathMap) -> Iterator[Pair]:
        """Describe the files of a key as they are registered."""
        source = DataSource.from_json(_attributes(node)["data_sources"][0])
        metadata = dict(node.metadata)
        originals = [asset.data_uri for asset in source.assets]
        for asset in source.assets:
            asset.data_uri, _ = path_map(asset.data_uri)
        if [asset.data_uri for asset in source.assets] != originals:
            metadata.setdefault(ORIGINAL_URIS, originals)
        key = metadata.get("data_key", name)
        uid = f"{self._first['uid']}/{name}"
        shape = (source.structure or {}).get("shape") or (len(source.assets),)
        yield (
            "stream_resource",
            {
                "uid": uid,
                "run_start": self._uid,
                "data_key": key,
                "mimetype": source.mimetype,
                "uri": originals[0] if originals else node.uri,
                "parameters": dict(source.parameters),
                REGISTERED: {"data_source": asdict(source), "metadata": metadata},
            },
        )
        yield (
            "stream_datum",
            {
                "uid": f"{uid}/0",
                "stream_resource": uid,
                "descriptor": self._first["uid"],
                "indices": {"start": 0, "stop": shape[0]},
                "seq_nums": {"start": 1, "stop": shape[0] + 1},
            },
        )


def _nodes(container: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the nodes of a stream; in older catalogs they are in containers in it."""
    for name, node in container.items():
        if _family(node) == "container":
            yield from _nodes(_with_sources(node))
        else:
            yield name, node


def _family(node: Any) -> str:
    family = _attributes(node)["structure_family"]
    return str(getattr(family, "value", family))


def _is_external(node: Any) -> bool:
    sources = _attributes(node).get("data_sources") or ()
    return any(source["management"] == Management.external for source in sources)


def _is_due(descriptor: Mapping[str, Any], times: Sequence[Any], row: int) -> bool:
    """Return True if a row was measured after a descriptor; by the time, which is all there is."""
    since, time = descriptor.get("time"), times[row] if times else None
    return since is not None and time is not None and bool(time >= since)
