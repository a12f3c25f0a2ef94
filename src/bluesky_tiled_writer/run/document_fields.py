"""Fields of documents, read so that an odd one costs no more than what depends on it.

A document is refused only if no row can be made of it. Everything else that is odd costs a note.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from bluesky_tiled_writer.consolidators import count
from bluesky_tiled_writer.errors import InvalidDocument
from bluesky_tiled_writer.schema import DeclaredKey, to_json

from .steps import SpecName

MAX_SPECS = 20
"""Specs that Tiled takes per node."""

MAX_SPEC_TEXT = 255
"""Characters that Tiled takes in the name, and in the version, of a spec."""

_NO_PATH = re.compile(r"[/?#\x00-\x1f\x7f\ud800-\udfff]")


def mapping(kind: str, doc: Any) -> Mapping[str, Any]:
    """Return a document, if it is one."""
    if isinstance(doc, Mapping):
        return doc
    raise InvalidDocument(
        f"The {kind} document is {doc!r}, which is no mapping.",
        hint="A document is a dictionary with the fields of the event model.",
    )


def run_uid(start: Mapping[str, Any]) -> str:
    """Return the uid of a run, which becomes part of paths in Tiled."""
    uid = start.get("uid")
    if isinstance(uid, str) and uid not in ("", ".", "..") and not _NO_PATH.search(uid):
        return uid
    raise InvalidDocument(
        f"The start document {uid!r} has the uid {uid!r}, which cannot be part of a path.",
        hint="It must be text that is not empty, not '.' or '..', and has no slash, question"
        " mark, hash, lone surrogate or control character.",
    )


def stream_name(doc: Mapping[str, Any]) -> str:
    """Return the name of the stream of a descriptor."""
    name = doc.get("name")
    if isinstance(name, str) and name:
        return name
    raise InvalidDocument(
        f"The descriptor document {doc.get('uid')!r} has the name {name!r}.",
        hint="It must be text: the name of the stream of its events.",
    )


def reference(doc: Mapping[str, Any], kind: str, field: str, hint: str) -> Hashable:
    """Return a field that other documents refer to, or that refers to others."""
    value = doc.get(field)
    if value is None or (isinstance(value, str) and not value):
        raise InvalidDocument(f"The {kind} document {_name(doc)} has no {field}.", hint=hint)
    try:
        hash(value)
    except TypeError:
        raise InvalidDocument(
            f"The {kind} document {_name(doc)} has the {field} {value!r}.", hint=hint
        ) from None
    return value  # type: ignore[no-any-return]


def _name(doc: Mapping[str, Any]) -> str:
    return f"{doc.get('uid')!r} ({doc['name']})" if "name" in doc else repr(doc.get("uid"))


# -- start ----------------------------------------------------------------------------------------


def read_specs(value: Any) -> tuple[list[SpecName], list[str]]:
    """Read `tiled_specs`: names, pairs, mappings or objects with a name and a version.

    Returns
    -------
    tuple of (list of SpecName, list of str)
        Each spec once, as many as Tiled takes beside ours, and a note for each one left out.
    """
    specs: list[SpecName] = []
    notes: list[str] = []
    for item in _items(value):
        spec = _spec(item)
        if spec is None:
            notes.append(f"start.tiled_specs: {item!r} is no spec and was left out.")
        elif len(specs) == MAX_SPECS - 1:
            notes.append(f"start.tiled_specs: {item!r} was left out: Tiled takes {MAX_SPECS}.")
        elif spec not in specs:
            specs.append(spec)
    return specs, notes


def _spec(item: Any) -> SpecName | None:
    name: Any
    version: Any = None
    if isinstance(item, str):
        name = item
    elif isinstance(item, Mapping):
        name, version = item.get("name"), item.get("version")
    elif isinstance(item, list | tuple) and len(item) == 2:
        name, version = item
    else:
        name, version = getattr(item, "name", None), getattr(item, "version", None)
    texts = [name] if version is None else [name, version]
    fits = all(isinstance(text, str) and len(text) <= MAX_SPEC_TEXT for text in texts)
    return (name, version) if fits and name else None


def read_access_tags(value: Any) -> tuple[list[str] | None, list[str]]:
    """Read `tiled_access_tags`; return them and notes. Without any, the server's policy decides."""
    if value is None:
        return None, []
    items = _items(value)
    tags = [item for item in items if isinstance(item, str)]
    notes = [
        f"start.tiled_access_tags: {item!r} is no text and was left out."
        for item in items
        if not isinstance(item, str)
    ]
    return tags if tags or not notes else None, notes


def _items(value: Any) -> list[Any]:
    """Return the items of a list; anything else is the only one."""
    if value is None:
        return []
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return [value]
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else list(value)


# -- descriptor -----------------------------------------------------------------------------------


def read_data_key(stream: str, key: Any, data_key: Any) -> tuple[DeclaredKey, list[str]]:
    """Read a data key of a descriptor, whatever it holds.

    Returns
    -------
    tuple of (DeclaredKey, list of str)
        What it declares, with None for sizes that vary; and notes of fields that could not be
        used: values decide instead.
    """
    where = f"Stream {stream!r}, data key {key!r}"
    notes = []
    if not isinstance(data_key, Mapping):
        notes.append(f"{where}: it is declared as {data_key!r}; values decide its type.")
        data_key = {}
    plain, _ = to_json(data_key)  # noted with the descriptor
    usable = dict(plain)
    for field, read in (("dtype", _dtype), ("shape", _shape)):
        if field not in usable:
            continue
        try:
            usable[field] = read(usable[field])
        except (TypeError, ValueError):
            notes.append(f"{where}: the {field} {usable.pop(field)!r} was not used.")
    try:
        declared = DeclaredKey.from_data_key(key, usable)
    except Exception:  # numpy has many ways to refuse a type that it does not know
        usable.pop("dtype_numpy", None)
        declared = DeclaredKey.from_data_key(key, usable)
    if None in usable.get("shape", ()):  # also where the descriptor has -1
        plain = {**plain, "shape": usable["shape"]}
    return replace(declared, data_key=plain), notes


def _dtype(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _shape(value: Any) -> list[int | None]:
    """Return a shape as plain integers, None for those that vary (-1 in some descriptors)."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError
    return [None if size is None or _size(size) < 0 else _size(size) for size in value]


def _size(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return operator.index(value)


def text_name(key: Any) -> str:
    """Return a data key as text that can be part of a name."""
    text, _ = to_json(key if type(key) is str else str(key))
    return str(text)


# -- files ----------------------------------------------------------------------------------------


def read_range(doc: Mapping[str, Any], field: str) -> dict[str, int] | None:
    """Return the start and the (exclusive) stop in a field of a stream_datum, if they are that."""
    value = doc.get(field)
    try:
        start, stop = count(value["start"]), count(value["stop"])  # type: ignore[index]
    except (KeyError, TypeError, IndexError):
        return None
    if start is None or stop is None or not 0 <= start <= stop:
        return None
    return {"start": start, "stop": stop}


def own_copy(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a document that does not change with it; as JSON if it must be."""
    try:
        return copy.deepcopy(dict(doc))
    except Exception:  # an object that cannot be copied
        plain, _ = to_json(doc)
        return dict(plain)
