"""A server that is far away: each request takes long, and the caller notices nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from documents import scalar_run
from tiled.client.container import Container

from .caller import Caller
from .cases import assert_stored
from .conftest import MakeWriter
from .proxy import Proxy

DELAY = 0.05
"""s: from a beamline to a server in another town, and back."""


def test_a_short_run_takes_five_requests_one_after_the_other_and_its_events_do_not_wait(
    proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    """The run, its stream, the table, its rows and the stop document."""
    proxy.delay = DELAY
    run = scalar_run(events=10)
    writer = make_writer(flush_interval=60.0)
    caller = Caller(writer)

    caller.send(run.docs)

    assert_stored(client, writer, run, journals)
    requests = [request for request in proxy.seen("", run.uid) if "close" not in request.path]
    requests = [*proxy.seen("POST", "^/metadata$"), *requests]
    assert [(request.method, request.path) for request in requests] == [
        ("POST", "/metadata"),
        ("POST", f"/metadata/{run.uid}"),
        ("POST", f"/metadata/{run.uid}/primary"),
        ("PATCH", f"/table/partition/{run.uid}/primary/internal"),
        ("PATCH", f"/metadata/{run.uid}"),
    ]
    for one, following in pairwise(requests):
        assert one.ended is not None
        assert one.ended <= following.received
    # Twelve calls: they would take more than that if each waited for an answer.
    assert caller.held < 5 * DELAY
