"""Every key is stored under a name that opens: as it is, or changed with a note."""

from __future__ import annotations

import ast
from typing import Any
from urllib.parse import quote, unquote

import pytest
from documents import RunBuilder, data_key, emit
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.checks import RunInTiled, verify

NAMES = [
    *("x", "x_y", "a.b", "a b", "a&b", "a:b", "a,b", "a@b", "a$b", "a-b", "[0]", "*", "~a", "ä"),
    *("a+b", "a=b", "a;b", 'a"b', "a`b", "x\\y", "100%", "_x", "1a", "日本", " lead", "trail "),
    *("det/x", "a//b", "/a", "a/", "internal/x", "x?y", "a#b"),  # change on their way in a URL
    *("a%2Fb", "50%25", "x%41", "per%cent", "X", "k" * 61, ".", "..", "", "a\tb", "a\nb"),
]


def postgresql(kind: str) -> Any:
    return pytest.param("postgresql", kind, marks=pytest.mark.postgresql)


def written(client: Container, declared: Any, value: Any) -> tuple[RunBuilder, Container]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", dict.fromkeys(NAMES, declared))
    for row in range(2):
        run.event("primary", {name: value(i, row) for i, name in enumerate(NAMES)})
    run.stop()
    with TiledWriter(client) as writer:
        emit(run.docs, writer)
    return run, client[run.uid]


def names_in_tiled(run: Container) -> dict[str, str]:
    """Return the name under which each key is stored, by the notes."""
    names = {name: name for name in NAMES}
    for note in run.metadata["notes"]:
        for name in NAMES:
            begin = f"Stream 'primary', key {name!r}: stored in the "
            if note.startswith(begin):
                names[name] = ast.literal_eval(note.removeprefix(begin).partition(" ")[2][:-1])
    return names


@pytest.mark.parametrize(
    ("database", "kind"),
    [("duckdb", "array"), ("sqlite", "column"), postgresql("column")],
    indirect=["database"],
)
def test_every_key_opens_under_its_name_or_the_one_that_is_noted(
    storage_client: Container, kind: str
) -> None:
    if kind == "column":
        docs, run = written(storage_client, data_key(), lambda i, row: i + row / 2)
    else:
        declared = data_key("array", [2], dtype_numpy="<f8")
        docs, run = written(storage_client, declared, lambda i, row: [i + row / 2] * 2)
    stream, names = run["primary"], names_in_tiled(run)
    assert len(set(names.values())) == len(NAMES)
    for i, name in enumerate(NAMES):
        stored_as = names[name]
        assert unquote(quote(stored_as, safe="")) == stored_as == unquote(stored_as)
        assert stream[stored_as].read().ravel()[0] == i
    assert all(unquote(name) == name and "/" not in name for name in stream)
    assert {*names.values()} <= {*stream.read().data_vars}
    metadata: dict[str, Any] = {}
    base = stream_of(storage_client, docs.uid)
    for node in base:
        if node == "internal":
            metadata |= base[node].metadata
        elif not node.startswith("ts_"):
            metadata[base[node].metadata.get("data_key", node)] = {}
    assert {*metadata} == {*NAMES}  # from what is stored to the key as it was
    stored = RunInTiled.find(storage_client, docs.uid)
    assert list(map(str, verify(docs.docs, stored))) == []


def test_streams_whose_names_change_in_a_url_get_other_names(client: Container) -> None:
    """A monitor of the device `det/x` is called `det/x_monitor`."""
    names = ["det/x_monitor", "det_x_monitor", "a%2Fb", "a?b", "a\x7fb", "plain", ".."]
    run = RunBuilder()
    run.start()
    for name in names:
        run.descriptor(name, {"x": "number"})
    for row in range(2):
        for i, name in enumerate(names):
            run.event(name, {"x": i + row / 2})
    run.stop()
    with TiledWriter(client) as writer:
        emit(run.docs, writer)
    stored = client[run.uid]
    found = ["det_x_monitor", "det_x_monitor_", "a_2Fb", "a_b", "a_b_", "plain", ".._"]
    assert sorted(stored) == sorted(found)
    for i, (name, stored_as) in enumerate(zip(names, found, strict=True)):
        assert stored[stored_as]["x"].read().tolist() == [i, i + 0.5]
        note = f"Stream {name!r}: stored as the stream {stored_as!r}."
        assert (note in stored.metadata["notes"]) == (name != stored_as)
    in_tiled = RunInTiled.find(client, run.uid)
    assert list(map(str, verify(run.docs, in_tiled))) == []
