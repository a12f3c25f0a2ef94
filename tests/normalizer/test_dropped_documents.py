"""Patches that return None drop documents, and what belongs to them; the rest is stored."""

from __future__ import annotations

from typing import Any

import pytest
from documents import RunBuilder, data_key, emit
from tiled.client.container import Container
from tree import columns_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter
from bluesky_tiled_writer.errors import InvalidDocument

Document = dict[str, Any]


def two_streams() -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.descriptor("noise", {"y": "number"})
    for i in range(4):
        run.event("primary", {"x": i})
        run.event("noise", {"y": i})
    run.event_page("noise", [{"y": 8}, {"y": 9}])
    run.stop()
    return run


def test_events_that_a_patch_drops_are_left_out_and_counted(client: Container) -> None:
    run = two_streams()

    def only_even(doc: Document) -> Document | None:
        return doc if doc["seq_num"] % 2 else None

    with TiledWriter(client, patches={"event": only_even}) as writer:
        emit(run.docs, writer)
    assert columns_of(client, run.uid)["x"] == [0.0, 2.0]
    assert columns_of(client, run.uid, "noise")["y"] == [0.0, 2.0, 8.0]
    assert "5 event documents were dropped by a patch." in client[run.uid].metadata["notes"]


def test_the_events_of_a_descriptor_go_with_it(client: Container) -> None:
    run = two_streams()

    def no_noise(doc: Document) -> Document | None:
        return None if doc["name"] == "noise" else doc

    with TiledWriter(client, patches={"descriptor": no_noise}) as writer:
        emit(run.docs, writer)
    assert list(client[run.uid]) == ["primary"]
    assert columns_of(client, run.uid)["x"] == [0.0, 1.0, 2.0, 3.0]
    assert {*client[run.uid].metadata["notes"]} == {
        "1 descriptor documents were dropped by a patch.",
        "4 event documents were dropped by a patch.",
        "1 event_page documents were dropped by a patch.",
    }


def test_the_datums_of_a_resource_go_with_it(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "img": data_key("array", [2], external="STREAM:")})
    run.event("primary", {"x": 1})
    resource = run.stream_resource("img", "file://localhost/nowhere.h5", dataset="/x")
    run.stream_datum("primary", resource, 0, 1)
    run.stop()
    with TiledWriter(client, patches={"stream_resource": lambda doc: None}) as writer:
        emit(run.docs, writer)
    assert columns_of(client, run.uid)["x"] == [1.0]
    assert "1 stream_datum documents were dropped by a patch." in client[run.uid].metadata["notes"]


@pytest.mark.parametrize("kind", ["start", "stop"])
def test_what_a_run_needs_cannot_be_dropped(kind: str) -> None:
    run = two_streams()
    normalizer = RunNormalizer({kind: lambda doc: None})
    with pytest.raises(InvalidDocument, match=f"the {kind} document .* a run needs"):
        emit(run.docs, normalizer)
