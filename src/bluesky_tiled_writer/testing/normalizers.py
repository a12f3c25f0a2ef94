"""Checks of a normalizer: documents of any age in, today's documents out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from event_model import DocumentNames, schema_validators, unpack_event_page

from bluesky_tiled_writer.errors import DocumentError
from bluesky_tiled_writer.normalizer import RunNormalizer, own_copy
from bluesky_tiled_writer.run import RunSettings, RunWriter, TaskQueue
from bluesky_tiled_writer.schema import NOTES_KEY, to_json

from .pages import in_pages, same_documents


@dataclass(frozen=True)
class NormalizerCase:
    """The documents of one run, and how they are to be normalized.

    Parameters
    ----------
    documents : sequence of (str, dict)
        The documents of one run, of any age, from start to stop.
    normalizer : type
        The class, made with `patches` and `spec_to_mimetype` as `TiledWriter` makes it.
    patches, spec_to_mimetype : mapping
        As for `TiledWriter`.
    left_out : collection of str
        Names of streams and data keys that the normalizer leaves out on purpose.
    added : collection of str
        Names of streams that the normalizer adds on purpose.
    expected : sequence of (str, dict), optional
        The documents that must come out; not compared if None. Notes need not be given.
    """

    documents: Sequence[tuple[str, Any]]
    normalizer: type = RunNormalizer
    patches: Mapping[str, Any] = field(default_factory=dict)
    spec_to_mimetype: Mapping[str, str] = field(default_factory=dict)
    left_out: Collection[str] = ()
    added: Collection[str] = ()
    expected: Sequence[tuple[str, Any]] | None = None

    def run(self, documents: Sequence[tuple[str, Any]] | None = None) -> list[tuple[str, Any]]:
        """Return the documents that the normalizer makes of these, or of those of the case."""
        normalizer = self.normalizer(
            patches=dict(self.patches), spec_to_mimetype=dict(self.spec_to_mimetype)
        )
        emitted: list[tuple[str, Any]] = []
        normalizer.subscribe(lambda name, doc: emitted.append((name, doc)))
        for name, doc in self.documents if documents is None else documents:
            normalizer(name, doc)
        return emitted


def check_normalizer(case: NormalizerCase, *, schemas: bool = False) -> list[tuple[str, Any]]:
    """Check all that this module can check of one case.

    Parameters
    ----------
    case : NormalizerCase
        The documents, and the normalizer.
    schemas : bool
        Check the emitted documents by the JSON schemas of event_model, too. The writer does not
        need them to hold.

    Returns
    -------
    list of (str, dict)
        The emitted documents.

    Raises
    ------
    AssertionError
        If the normalizer does not keep a promise; the message says which, and for which document.
    """
    emitted = check_inputs_unchanged(case)
    check_writer_takes(case)
    check_order(case)
    check_nothing_lost(case)
    check_pages(case)
    if schemas:
        check_schemas(case)
    if case.expected is not None:
        check_expected(case)
    return emitted


def check_inputs_unchanged(case: NormalizerCase) -> list[tuple[str, Any]]:
    """Check that the documents that are given stay as they are, for other callbacks."""
    given = [(name, own_copy(doc)) for name, doc in case.documents]
    emitted = case.run()
    for (name, before), (_, after) in zip(given, case.documents, strict=True):
        if not same_documents(before, after):
            raise AssertionError(
                f"The normalizer changed the {name} document that it was given: {_uid(after)}."
                f" Before: {before!r}. After: {after!r}."
            )
    return emitted


def check_writer_takes(case: NormalizerCase) -> None:
    """Check that the writer can make rows of every emitted document."""
    writer = RunWriter(TaskQueue(), RunSettings())
    for name, doc in case.run():
        try:
            writer(name, doc)
        except DocumentError as error:
            raise AssertionError(
                f"The writer refuses an emitted {name} document: {error}"
            ) from error


def check_order(case: NormalizerCase) -> None:
    """Check that a run begins with its start document, and that nothing follows its stop."""
    given, emitted = [name for name, _ in case.documents], [name for name, _ in case.run()]
    for name in ("start", "stop"):
        if emitted.count(name) != given.count(name):
            raise AssertionError(
                f"{given.count(name)} {name} documents were given, and {emitted.count(name)}"
                " emitted."
            )
    if "start" in emitted[1:] or "stop" in emitted[:-1]:
        raise AssertionError(f"start must come first and stop last, but the order is {emitted}.")


def check_nothing_lost(case: NormalizerCase) -> None:
    """Check that all events, data keys and external rows come out once, and in order."""
    given, emitted = _Contents(case.documents), _Contents(case.run())
    for uid, stream in given.streams.items():
        if stream in case.left_out:
            continue
        if uid not in emitted.streams:
            raise AssertionError(f"The descriptor {uid!r} of the stream {stream!r} was lost.")
        ours, theirs = given.events[uid], emitted.events[uid]
        if ours != theirs:
            raise AssertionError(
                f"Stream {stream!r}: the events {ours} were given, but {theirs} emitted, in this"
                " order."
            )
        for key in sorted(map(str, given.keys[uid])):
            if key not in case.left_out and not emitted.keys[uid].intersection(_names(key)):
                raise AssertionError(
                    f"Stream {stream!r}: the data key {key!r} was lost; there are"
                    f" {sorted(emitted.keys[uid])}."
                )
    more = {name for name in emitted.streams.values() if name not in given.streams.values()}
    if unexpected := more - set(case.added):
        raise AssertionError(f"The streams {sorted(unexpected)} were not in the given documents.")
    _check_external(case, given, emitted)


def _check_external(case: NormalizerCase, given: _Contents, emitted: _Contents) -> None:
    for (uid, key), datums in given.external.items():
        if key in case.left_out or given.streams.get(uid) in case.left_out:
            continue
        there = [d for name in _names(key) for d in emitted.external.get((uid, name), ())]
        if datums != there:
            raise AssertionError(
                f"External key {key!r} of stream {given.streams.get(uid)!r}: its rows are the"
                f" datums {datums}, but stream_datums were emitted for {there}, in this order."
            )


def _names(key: str) -> list[str]:
    """Return the names that a data key may come out under: reserved ones get underscores."""
    return [key + "_" * n for n in range(3)]


def check_pages(case: NormalizerCase) -> None:
    """Check that events in pages come out like single events."""
    single = _rows(case.run())
    paged = _rows(case.run(in_pages(case.documents)))
    for uid in single.keys() | paged.keys():
        ours, theirs = single.get(uid, []), paged.get(uid, [])
        if len(ours) != len(theirs):
            raise AssertionError(
                f"Descriptor {uid!r}: {len(ours)} events come out where events are given, but"
                f" {len(theirs)} where pages are."
            )
        for mine, other in zip(ours, theirs, strict=True):
            if not same_documents(mine, other):
                raise AssertionError(
                    f"Descriptor {uid!r}: an event comes out as {mine!r}, but in a page as"
                    f" {other!r}."
                )


def check_schemas(case: NormalizerCase) -> None:
    """Check the emitted documents by the JSON schemas of event_model, as far as JSON can say."""
    for name, doc in case.run():
        for error in schema_validators[DocumentNames[name]].iter_errors(to_json(doc)[0]):
            where = ".".join(map(str, error.absolute_path)) or "the document"
            raise AssertionError(
                f"The emitted {name} document {_uid(doc)} breaks the event model: {where}:"
                f" {error.message[:500]}."
            )


def check_expected(case: NormalizerCase) -> None:
    """Check that the documents come out that the case expects."""
    emitted, expected = case.run(), list(case.expected or ())
    names = [name for name, _ in emitted]
    if names != [name for name, _ in expected]:
        raise AssertionError(
            f"The emitted documents are {names}, expected {[name for name, _ in expected]}."
        )
    for (name, doc), (_, wanted) in zip(emitted, expected, strict=True):
        without = {key: value for key, value in doc.items() if key != NOTES_KEY or key in wanted}
        if not same_documents(without, wanted):
            raise AssertionError(f"A {name} document is {without!r}, expected {wanted!r}.")


class NormalizerTests:
    """A base class for tests that pytest collects: one test for each check.

    Subclass it, name the class ``Test...``, and override `make_case`.
    """

    schemas = False
    """Whether the emitted documents must fulfil the JSON schemas of event_model."""

    def make_case(self) -> NormalizerCase:
        """Return the documents and the normalizer."""
        raise NotImplementedError(f"{type(self).__name__} needs a make_case().")

    def test_inputs_unchanged(self) -> None:
        """The documents that are given stay as they are."""
        check_inputs_unchanged(self.make_case())

    def test_writer_takes(self) -> None:
        """The writer can make rows of every emitted document."""
        check_writer_takes(self.make_case())

    def test_order(self) -> None:
        """Start comes first, stop last."""
        check_order(self.make_case())

    def test_nothing_lost(self) -> None:
        """All events, data keys and external rows come out once, and in order."""
        check_nothing_lost(self.make_case())

    def test_pages(self) -> None:
        """Events in pages come out like single events."""
        check_pages(self.make_case())

    def test_schemas(self) -> None:
        """The emitted documents fulfil the schemas, if that is wanted."""
        if self.schemas:
            check_schemas(self.make_case())

    def test_expected(self) -> None:
        """The expected documents come out, if the case has any."""
        case = self.make_case()
        if case.expected is not None:
            check_expected(case)


class _Contents:
    """The streams, events, data keys and external rows that documents have."""

    def __init__(self, documents: Sequence[tuple[str, Any]]) -> None:
        self.streams: dict[Any, str] = {}
        self.keys: dict[Any, set[str]] = {}
        self.events: dict[Any, list[Any]] = {}
        # By descriptor and data key, the datums that events refer to, or StreamDatums bring.
        self.external: dict[tuple[Any, str], list[Any]] = {}
        external: dict[Any, set[str]] = {}
        resources: dict[Any, str] = {}
        for name, doc in documents:
            if name == "descriptor":
                uid = doc["uid"]
                self.streams[uid] = str(doc.get("name"))
                self.keys[uid] = set(doc["data_keys"])
                self.events[uid] = []
                external[uid] = {k for k, v in doc["data_keys"].items() if "external" in v}
            elif name == "stream_datum":
                place = doc["descriptor"], resources.get(doc["stream_resource"], "")
                self.external.setdefault(place, []).append(doc["uid"])
            elif name == "stream_resource":
                resources[doc["uid"]] = doc.get("data_key", "")
            for event in _events(name, doc):
                uid = event["descriptor"]
                self.events.setdefault(uid, []).append(event.get("uid", event["seq_num"]))
                for key in sorted(external.get(uid, ()) & event["data"].keys()):
                    value, filled = event["data"][key], event.get("filled") or {}
                    if isinstance(value, str) and not filled.get(key):
                        self.external.setdefault((uid, key), []).append(value)


def _events(name: str, doc: Any) -> list[Any]:
    if name == "event_page":
        return list(unpack_event_page(doc))
    return [doc] if name == "event" else []


def _rows(documents: Sequence[tuple[str, Any]]) -> dict[Any, list[Any]]:
    rows: dict[Any, list[Any]] = {}
    for name, doc in documents:
        for event in _events(name, doc):
            row = {key: value for key, value in event.items() if key != "filled"}
            rows.setdefault(event["descriptor"], []).append(row)
    return rows


def _uid(doc: Any) -> str:
    return repr(doc.get("uid", doc.get("datum_id")))
