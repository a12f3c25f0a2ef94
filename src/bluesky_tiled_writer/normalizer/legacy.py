"""External data of the older event model, Resource and Datum, in the words of today's.

Today a StreamResource names the files of one data key, and StreamDatums say which rows they bring.
In older documents a Resource names files, a Datum a part of them, and an event holds the id of the
Datum in place of its value. So the two meet in the event: only there is the data key known.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bluesky_tiled_writer.consolidators import count, mimetypes_by_spec
from bluesky_tiled_writer.errors import InvalidDocument

from .documents import Document, NamedDocument, mapping_or_empty, own_copy, text
from .events import unpack_datums
from .stream_resources import odd_parameters, of_today

SPEC = "_resource_spec"
"""Among the `datum_kwargs`, the spec of the Resource, for patches that depend on it."""

_NPY = "NPY_SEQ"
"""The spec of `ophyd.sim`, whose files are numbered by the `index` of the Datum."""

_CHOOSING = ("channel", "column", "dataset", "filename", "path", "slice", "squeeze", "template")
"""Arguments of a Datum that choose a part of the files, which a StreamResource does today."""

_USED_DATUMS = 1000
"""Datums that are kept after an event has referred to them: another one may do so as well."""


@dataclass(frozen=True)
class _Reference:
    """An event's mention of a Datum."""

    datum_id: str
    data_key: str
    descriptor: str
    stream: str
    seq_num: Any

    def number(self, value: Any) -> int:
        """Read a number in the arguments of the Datum."""
        if (number := count(value)) is None:
            raise InvalidDocument(
                f"External key {self.data_key!r} of stream {self.stream!r}: the datum_kwargs of"
                f" {self.datum_id!r} have {value!r} where a number of frames or rows should be.",
                hint="Mend them by a patch: patches={'datum': ...}.",
            )
        return number


class LegacyResources:
    """The Resources and Datums of a run, kept until events refer to them.

    Parameters
    ----------
    spec_to_mimetype : mapping of str to str, optional
        MIME types by spec, in addition to the known ones.
    """

    def __init__(self, spec_to_mimetype: Mapping[str, str] | None = None) -> None:
        self.mimetypes = mimetypes_by_spec(dict(spec_to_mimetype or {}))
        self._specs: dict[Any, str] = {}
        self._resources: dict[Any, Document] = {}
        self._datums: dict[str, Document] = {}
        self._used: OrderedDict[str, Document] = OrderedDict()
        # Of datums that do not say which rows they are: how many, by stream, key and resource; and
        # the row of each datum, by stream and key.
        self._read: dict[tuple[str, str, Any], int] = {}
        self._rows: dict[str, dict[tuple[str, str], int]] = {}
        self._emitted: dict[str, Document] = {}
        self._started: set[str] = set()
        self._unknown: set[str] = set()  # specs
        self._notes: list[str] = []
        # By stream and data key, in the order of the events.
        self._waiting: dict[tuple[str, str], deque[_Reference]] = {}

    # -- documents ------------------------------------------------------------------------------

    def resource(self, doc: Mapping[str, Any]) -> list[NamedDocument]:
        """Take a Resource.

        Returns
        -------
        list of (str, dict)
            Documents to emit now, for events that came before it; most often none.

        Raises
        ------
        InvalidDocument
            If it has no uid, or does not say where the files are.
        """
        spec = text(doc.get("spec"))
        known = spec if spec in self.mimetypes else spec.upper()
        if known not in self.mimetypes:
            self._unknown.add(spec.upper())
        today = self._of_today({**doc, "spec": spec.upper()}, known)
        self._specs[doc["uid"]] = spec.upper()
        self._resources[doc["uid"]] = today
        return self._arrived()

    def stream_resource(self, doc: Mapping[str, Any]) -> Document:
        """Bring a StreamResource of any age up to date.

        Raises
        ------
        InvalidDocument
            If it has no uid, or does not say where the files are.
        """
        return self._of_today(doc, text(doc.get("spec")))

    def _of_today(self, doc: Mapping[str, Any], spec: str) -> Document:
        today = of_today(doc, self.mimetypes[spec])
        if (odd := odd_parameters(doc)) is not None:
            self._notes.append(
                f"The resource {doc['uid']!r} has parameters that are no mapping; they were not"
                f" used: {odd!r}."
            )
        return today

    def marked(self, doc: Mapping[str, Any]) -> Document:
        """Return a copy of a Datum with the spec of its Resource, if known, for patches."""
        marked = own_copy(doc)
        resource = marked.get("resource")
        spec = self._specs.get(resource) if isinstance(resource, str | int) else None
        if spec and isinstance(kwargs := marked.get("datum_kwargs", {}), Mapping | None):
            marked["datum_kwargs"] = {**(kwargs or {}), SPEC: spec}
        return marked

    def datum(self, doc: Mapping[str, Any]) -> list[NamedDocument]:
        """Take a Datum.

        Returns
        -------
        list of (str, dict)
            Documents to emit now, for events that came before it; most often none.

        Raises
        ------
        InvalidDocument
            If it has no id or does not name its Resource.
        """
        _check_datum(doc)
        kwargs = doc.get("datum_kwargs")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            self._notes.append(
                f"The datum {doc['datum_id']!r} has datum_kwargs that are no mapping; they were"
                f" not used: {kwargs!r}."
            )
        self._datums[doc["datum_id"]] = dict(doc)
        return self._arrived()

    def datum_page(self, doc: Mapping[str, Any]) -> list[NamedDocument]:
        """Take a page of Datums; see `datum`."""
        datums = unpack_datums(doc)
        for datum in datums:
            _check_datum(datum)  # a page is taken as a whole or not at all
        return [pair for datum in datums for pair in self.datum(datum)]

    def reference(
        self, datum_id: str, data_key: str, descriptor: str, stream: str, seq_num: Any
    ) -> list[NamedDocument]:
        """Take an event's reference to a Datum.

        Parameters
        ----------
        datum_id : str
            The value of the key in the event.
        data_key, descriptor, stream : str
            The key, the uid of the descriptor and the name of the stream.
        seq_num : int
            That of the event, counted from 1.

        Returns
        -------
        list of (str, dict)
            Documents to emit: a StreamDatum, before it the StreamResource if this is its first
            use. Nothing if the Datum, or one before it, is still to come: it is remembered.

        Raises
        ------
        InvalidDocument
            If the Datum does not say which rows it brings.
        """
        reference = _Reference(datum_id, data_key, descriptor, stream, seq_num)
        if (stream, data_key) not in self._waiting and self._is_here(datum_id):
            return list(self._documents(reference))
        self._waiting.setdefault((stream, data_key), deque()).append(reference)
        return []

    def late(self) -> tuple[list[NamedDocument], list[str]]:
        """Return the documents and notes that are left when the run stops.

        Returns
        -------
        tuple of (list of (str, dict), list of str)
            Documents to emit, and a note for each key with Datums that never came, or that came
            late and make no sense. Only their own rows are missing.
        """
        documents: list[NamedDocument] = []
        notes: list[str] = []
        for (stream, key), waiting in self._waiting.items():
            missing = []
            for reference in waiting:
                if self._is_here(reference.datum_id):
                    documents += self._documents_or_note(reference)
                else:
                    missing.append(reference)
            if missing:
                what = self._missing_document(missing[0])
                notes.append(
                    f"External key {key!r} of stream {stream!r}: {what} never came, so that"
                    f" {len(missing)} of its rows were not registered (seq_num"
                    f" {missing[0].seq_num} the first)."
                )
        self._waiting.clear()
        return documents, [*self._notes, *notes]

    def _documents_or_note(self, reference: _Reference) -> list[NamedDocument]:
        """Return the documents of a reference; a Datum that is wrong does not cost later ones."""
        try:
            return list(self._documents(reference))
        except InvalidDocument as error:
            self._notes.append(str(error))
            return []

    def _documents(self, reference: _Reference) -> Iterator[NamedDocument]:
        datum = self._take(reference.datum_id)
        resource = self._resources[datum["resource"]]
        kwargs = dict(mapping_or_empty(datum.get("datum_kwargs")))
        start, stop = self._indices(reference, resource, kwargs)
        # Each descriptor and key gets a StreamResource of its own, since it lands on its own node.
        uid = f"{datum['resource']}-{reference.descriptor}-{reference.data_key}"
        chosen = {name: str(kwargs[name]) for name in _CHOOSING if name in kwargs}
        if self._emitted.setdefault(uid, chosen) != chosen:  # another part of the files
            uid = f"{uid}-{'-'.join(chosen.values())}"
        if uid not in self._started:
            self._started.add(uid)
            self._emitted.setdefault(uid, chosen)
            if resource["parameters"].get("spec") in self._unknown:
                self._notes.append(_as_bytes(reference, datum["resource"], resource))
            stream_resource = copy.copy(resource)
            stream_resource["parameters"] = own_copy({**resource["parameters"], **kwargs})
            yield (
                "stream_resource",
                {**stream_resource, "uid": uid, "data_key": reference.data_key},
            )
        yield (
            "stream_datum",
            {
                "uid": reference.datum_id,
                "stream_resource": uid,
                "descriptor": reference.descriptor,
                "indices": {"start": start, "stop": stop},
                "seq_nums": {"start": start + 1, "stop": stop + 1},
            },
        )

    def _indices(
        self, reference: _Reference, resource: Document, kwargs: Document
    ) -> tuple[int, int]:
        """Find the indices of a Datum; the arguments that give them are removed."""
        if isinstance(indices := kwargs.pop("indices", None), Mapping):
            return reference.number(indices.get("start")), reference.number(indices.get("stop"))
        if (point := kwargs.pop("point_number", None)) is not None:
            return reference.number(point), reference.number(point) + 1
        if (frame := kwargs.pop("frame", None)) is not None:
            return reference.number(frame), reference.number(frame) + 1
        if resource["parameters"].get("spec") == _NPY and "index" in kwargs:
            return reference.number(kwargs["index"]), reference.number(kwargs["index"]) + 1
        row = self._next_row(reference, resource["uid"])
        return row, row + 1

    def _next_row(self, reference: _Reference, resource: Any) -> int:
        """Return the row of a Datum that does not say it: they are in order in each Resource."""
        where = (reference.stream, reference.data_key)
        rows = self._rows.setdefault(reference.datum_id, {})
        if where not in rows:
            rows[where] = self._read.get((*where, resource), 0)
            self._read[*where, resource] = rows[where] + 1
        return rows[where]

    # -- references that wait -------------------------------------------------------------------

    def _is_here(self, datum_id: str) -> bool:
        datum = self._datums.get(datum_id) or self._used.get(datum_id)
        return datum is not None and datum["resource"] in self._resources

    def _take(self, datum_id: str) -> Document:
        datum = self._datums.pop(datum_id, None) or self._used[datum_id]
        self._used[datum_id] = datum
        self._used.move_to_end(datum_id)
        if len(self._used) > _USED_DATUMS:
            forgotten, _ = self._used.popitem(last=False)
            self._rows.pop(forgotten, None)
        return datum

    def _arrived(self) -> list[NamedDocument]:
        """Return the documents that the latest one made possible; keys keep their row order."""
        documents: list[NamedDocument] = []
        for key, waiting in list(self._waiting.items()):
            while waiting and self._is_here(waiting[0].datum_id):
                documents += self._documents_or_note(waiting.popleft())
            if not waiting:
                del self._waiting[key]
        return documents

    def _missing_document(self, reference: _Reference) -> str:
        datum = self._datums.get(reference.datum_id) or self._used.get(reference.datum_id)
        if datum is None:
            return f"the datum {reference.datum_id!r}"
        return f"the resource {datum['resource']!r} of the datum {reference.datum_id!r}"


def _check_datum(doc: Mapping[str, Any]) -> None:
    for name, kinds in (("datum_id", str), ("resource", str | int)):
        if not isinstance(doc.get(name), kinds):
            what = f"the {name} {doc[name]!r}" if name in doc else f"no {name!r}"
            raise InvalidDocument(
                f"The datum {doc.get('datum_id')!r} (resource {doc.get('resource')!r}) has {what}.",
                hint="A datum needs datum_id, resource and datum_kwargs.",
            )


def _as_bytes(reference: _Reference, uid: Any, resource: Mapping[str, Any]) -> str:
    spec = resource["parameters"].get("spec")
    return (
        f"External key {reference.data_key!r} of stream {reference.stream!r} (resource {uid!r}):"
        f" its files are registered as bytes, since the spec {spec!r} has no known MIME type."
        f" spec_to_mimetype={{{spec!r}: ...}} would give it one."
    )
