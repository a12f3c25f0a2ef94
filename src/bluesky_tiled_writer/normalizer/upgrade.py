"""Small changes to documents of any vintage, each a function of the document alone.

Whether a document is valid is that, too; what is remembered of it only saves time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jsonschema
import msgpack
from event_model import DocumentNames, schema_validators

from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.schema import to_json

Document = dict[str, Any]

# What the JSON types of the event model mean where no numpy type is given. A bare "array" does
# not say what its elements are: those of events are left open, so that the values can tell.
_NUMPY_TYPES = {"number": "<f8", "integer": "<i8", "boolean": "|b1", "string": "<U0"}
EXTERNAL_ARRAY = "<f8"
EXTERNAL = "EXTERNAL:"
"""What `external` says where a descriptor has it, but empty; the schema wants a word."""

MOST_KNOWN = 20_000
"""Data keys that are remembered to be valid, at most."""

_valid: set[bytes] = set()


def take_out(doc: Document, external: set[str]) -> Document:
    """Take values out that only refer to external data, in place, and give them."""
    references = {key: value for key, value in doc["data"].items() if key in external}
    for part in ("data", "timestamps"):
        doc[part] = {key: value for key, value in doc[part].items() if key not in external}
    return references


def validate(kind: str, doc: Any) -> None:
    """Raise `InvalidDocument` if a document breaks the schema of the event model."""
    validator = schema_validators[DocumentNames[kind]]
    news: set[bytes] = set()
    try:
        validator.validate(_unknown_part(doc, news) if kind == "descriptor" else doc)
    except jsonschema.ValidationError as error:
        # Only what stays wrong in plain JSON is wrong: the schema knows no numpy scalars.
        if validator.is_valid(to_json(doc)[0]):
            return
        where = ".".join(map(str, error.absolute_path)) or "the document"
        raise InvalidDocument(
            f"The {kind} document {_name_of(doc)} breaks the event model: {where}:"
            f" {error.message[:500]}.",
            hint="Mend it where it is made, or by a patch: patches={" + repr(kind) + ": ...}.",
        ) from error
    if len(_valid) > MOST_KNOWN:
        _valid.clear()
    _valid.update(news)


def _unknown_part(descriptor: Any, news: set[bytes]) -> Any:
    """A descriptor without data keys that were valid before; the others are added to `news`.

    A schema takes half a millisecond for each, and most descriptors declare what others did before.
    """
    part = _without_known(descriptor, news)
    if isinstance(configuration := descriptor.get("configuration"), dict):
        devices = {name: _without_known(device, news) for name, device in configuration.items()}
        part = {**part, "configuration": devices}
    return part


def _without_known(declaring: Any, news: set[bytes]) -> Any:
    """The same of whatever has data keys: a descriptor, or the configuration of a device."""
    data_keys = declaring.get("data_keys") if isinstance(declaring, dict) else None
    if not isinstance(data_keys, dict):
        return declaring
    unknown = {}
    for name, data_key in data_keys.items():
        packed = _packed(name, data_key)
        if packed in _valid:
            continue
        unknown[name] = data_key
        if packed is not None:
            news.add(packed)
    return {**declaring, "data_keys": unknown}


def _packed(name: str, data_key: Any) -> bytes | None:
    """What tells a data key from every other one; None if it has values that JSON may not have."""
    try:
        # Strict: what equals something valid is not valid, too, if it is a numpy scalar or a tuple.
        packed: bytes = msgpack.packb([name, data_key], strict_types=True)
    except (TypeError, ValueError, OverflowError):
        return None
    return packed


def _name_of(doc: Any) -> str:
    name = f" ({doc['name']})" if "name" in doc else ""
    return f"{doc.get('uid', doc.get('datum_id'))!r}{name}"


def name_lists(doc: Document) -> Iterator[list[str]]:
    """The lists in a descriptor that name data keys."""
    yield from (doc.get("object_keys") or {}).values()
    for hints in (doc.get("hints") or {}).values():
        if isinstance(hints, dict) and isinstance(hints.get("fields"), list):
            yield hints["fields"]


def update_data_key(data_key: Document, array_type: str | None) -> None:
    """Say the type of the values in today's words, in place."""
    descr = data_key.pop("dtype_descr", None)
    old = data_key.pop("dtype_str", None)
    dtype = data_key.get("dtype")
    default = array_type if dtype == "array" else _NUMPY_TYPES.get(str(dtype))
    if (
        numpy_type := [list(item) for item in descr or ()]
        or data_key.get("dtype_numpy", old)
        or default
    ):
        data_key["dtype_numpy"] = numpy_type
    else:
        data_key.pop("dtype_numpy", None)
    if "shape" in data_key and data_key["shape"] is None:
        data_key["shape"] = []


def shallow_copy(doc: Mapping[str, Any]) -> Document:
    """A copy of an event or page whose values are the same objects."""
    doc = dict(doc)
    for part in ("data", "timestamps", "filled"):
        if isinstance(doc.get(part), Mapping):
            doc[part] = dict(doc[part])
    return doc


def is_whole(doc: Mapping[str, Any]) -> bool:
    """Whether an event has what there is to change; if not, the stream that takes it says so."""
    return isinstance(doc.get("data"), Mapping) and isinstance(doc.get("timestamps"), Mapping)


def rename(doc: Document, renamed: Mapping[str, str]) -> None:
    """Rename keys of an event or page, in place."""
    for part in ("data", "timestamps", "filled"):
        values = doc.get(part) or {}
        for old, new in renamed.items():
            if old in values:
                values[new] = values.pop(old)


def partly_filled(doc: Any, external: Iterable[str]) -> bool:
    """Whether some rows of a page bring external data themselves and others refer to it."""
    filled = doc.get("filled") or {}
    return any(
        any(flags) and not all(flags) for flags in (filled.get(key) or () for key in external)
    )
