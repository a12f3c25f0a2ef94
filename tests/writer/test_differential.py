"""The same documents make the same tree in Tiled through this writer and through others.

`peer_differences.py` lists the differences, and why ours is better.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any

import httpx
import pytest
from bluesky import RunEngine
from bluesky.callbacks.tiled_writer import TiledWriter as BlueskyWriter
from documents import Document, Pair, emit, scalar_run
from peer_differences import OUR_SPEC, RUNS, Difference
from peer_plans import by_hand, count, failing, reconfigured, scan
from peer_runs import (
    a_renamed_key_whose_new_name_is_taken,
    all_scalars,
    configuration_updates,
    no_streams,
    not_stopped,
    plain_scan,
    structured_arrays,
)
from tiled.client.container import Container
from tree import snapshot

from bluesky_tiled_writer import TiledWriter

pytest.importorskip("bluesky_tiled_plugins")


pytestmark = pytest.mark.plugins

from bluesky_tiled_plugins import TiledWriter as PeerWriter  # noqa: E402


@pytest.fixture
def tiled_client(client: Container) -> Container:
    """Replaces the plugin's, so that `RE` needs no server of its own."""
    return client


class Both:
    """The two writers, in two containers of one server, so that both can store the same uid."""

    def __init__(self, client: Container) -> None:
        self.ours = client.create_container()
        self.theirs = client.create_container()

    def write(self, docs: Iterable[Pair], batch_size: int = 10_000) -> None:
        docs = list(docs)
        with TiledWriter(self.ours, max_array_size=0, batch_size=batch_size) as writer:
            emit(docs, writer)
        emit(docs, PeerWriter(self.theirs, max_array_size=0, batch_size=batch_size))

    def assert_same(self, uid: str, differences: Iterable[Difference]) -> None:
        theirs = snapshot(self.theirs[uid])
        for difference in differences:
            before = copy.deepcopy(theirs)
            difference.apply(theirs)
            assert theirs != before, f"there is no such difference: {difference.why}"
        assert snapshot(self.ours[uid]) == theirs


@pytest.fixture
def both(client: Container) -> Both:
    return Both(client)


@pytest.mark.parametrize(
    ("make", "differences"), RUNS.items(), ids=[make.__name__ for make in RUNS]
)
def test_the_tree_differs_only_where_it_is_known_to(
    both: Both, make: Callable[[], Iterable[Pair]], differences: list[Difference]
) -> None:
    docs = list(make())
    both.write(docs)
    both.assert_same(docs[0][1]["uid"], differences)


def test_a_run_that_is_not_stopped_is_the_same(both: Both) -> None:
    """The other one has no row of it without write-through."""
    docs = list(not_stopped())
    both.write(docs, batch_size=1)
    both.assert_same(docs[0][1]["uid"], [OUR_SPEC])


def test_interleaved_runs_are_the_same(both: Both) -> None:
    makes = [plain_scan, no_streams, configuration_updates]
    runs = [list(make()) for make in makes]
    both.write(pair for pairs in zip_longest(*runs) for pair in pairs if pair)
    for make, docs in zip(makes, runs, strict=True):
        both.assert_same(docs[0][1]["uid"], RUNS[make])


@pytest.mark.parametrize("plan", [scan, count, by_hand, reconfigured])
def test_runs_of_a_run_engine_are_the_same(
    both: Both, RE: RunEngine, plan: Callable[[], Any]
) -> None:
    docs: list[Pair] = []
    (uid,) = RE(plan(), lambda name, doc: docs.append((name, doc)))
    both.write(docs)
    both.assert_same(uid, [OUR_SPEC])


def test_a_failed_run_of_a_run_engine_is_the_same(both: Both, RE: RunEngine) -> None:
    docs: list[Pair] = []
    with pytest.raises(RuntimeError, match="out of beam"):
        RE(failing(), lambda name, doc: docs.append((name, doc)))
    both.write(docs)
    both.assert_same(docs[0][1]["uid"], [OUR_SPEC])


@pytest.mark.parametrize("writer_class", [TiledWriter, PeerWriter])
def test_every_node_gets_the_access_tags(client: Container, writer_class: type) -> None:
    """Checked in the requests, since a server without an access policy does not return them."""
    run = scalar_run(tiled_access_tags=["my-proposal"])
    sent: list[Document] = []

    def record(request: httpx.Request) -> None:
        if request.method == "POST" and "/metadata/" in request.url.path:
            sent.append(json.loads(request.content))

    hooks = client.context.http_client.event_hooks["request"]
    hooks.append(record)
    try:
        emit(run.docs, writer_class(client))
    finally:
        hooks.remove(record)

    assert [body["id"] for body in sent] == [run.uid, "primary", "internal"]
    assert [body["access_tags"] for body in sent] == [["my-proposal"]] * 3
    assert "tiled_access_tags" not in client[run.uid].metadata["start"]


@pytest.mark.parametrize(
    "make",
    [structured_arrays, a_renamed_key_whose_new_name_is_taken],
)
def test_documents_that_the_other_refuses_are_stored(
    both: Both, make: Callable[[], Iterable[Pair]]
) -> None:
    docs = list(make())
    with pytest.raises((TypeError, ValueError)):
        emit(docs, PeerWriter(both.theirs))
    emit(docs, TiledWriter(both.ours))
    assert both.ours[docs[0][1]["uid"]].metadata["stop"]["exit_status"] == "success"


@pytest.mark.parametrize("make", [plain_scan, all_scalars, configuration_updates, no_streams])
def test_the_tree_is_that_of_the_writer_in_bluesky_itself(
    both: Both, make: Callable[[], Iterable[Pair]]
) -> None:
    """It stores small arrays in list columns, which ours does on request."""
    docs = list(make())
    emit(docs, TiledWriter(both.ours, max_array_size=16))
    emit(docs, BlueskyWriter(both.theirs))
    both.assert_same(docs[0][1]["uid"], [OUR_SPEC] if make is not no_streams else [])
