"""Faults where programs make a client and a writer for each task, in a container for each visit."""

from __future__ import annotations

import gc
import uuid
from pathlib import Path

import httpx
import pytest
from servers import wait_until
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

from . import LONG
from .caller import Caller
from .cases import FAULTS, REQUESTS, SETTLED
from .conftest import PATIENCE
from .proxy import Proxy, Rule
from .runs import FaultRun, assert_exactly_once
from .tiled_process import uri_of

SELECTION = {
    "dropped after": ["create run", "first rows", "register asset", "close run"],
    "500 after": ["create stream", "more rows", "update asset", "stop"],
}


def in_visit(visit: str, request: str) -> dict[str, object]:
    """Return what tells a kind of request, for runs in the container of a visit."""
    rule = dict(REQUESTS[request])
    path = str(rule["path"])
    if path == "^/metadata$":
        return rule | {"path": f"^/metadata/{visit}$"}
    return rule | {"path": path.replace("[^/]+", f"{visit}/[^/]+", 1)}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("fault", FAULTS if LONG else SELECTION)
def test_tasks_whose_requests_go_wrong_lose_and_repeat_no_row(
    proxy: Proxy, client: Container, journals: Path, frames: str, fault: str
) -> None:
    """Nobody closes those writers, and each may be gone before its run is stored."""
    visit = client.create_container(f"visit-{uuid.uuid4().hex[:8]}")
    name = str(visit.item["id"])
    runs = []
    for request in REQUESTS if LONG else SELECTION[fault]:
        rule = proxy.inject(FAULTS[fault], **in_visit(name, request))
        runs.append(run := FaultRun(frames))
        take(proxy, name, run, journals)
        wait_until_met(rule, request)

    wait_until(lambda: not list(journals.iterdir()), lambda: "not all runs are stored")
    for run in runs:
        assert_exactly_once(visit, run.uid, run.docs)


def wait_until_met(rule: Rule, request: str) -> None:
    """Nodes are closed after the stop document is stored, for which alone the caller waits."""
    wait_until(lambda: rule.met == 1, f"no request to {request}")


def take(proxy: Proxy, visit: str, run: FaultRun, journals: Path) -> None:
    """Do what such a program does for a task."""
    client = from_uri(uri_of(proxy.url), timeout=httpx.Timeout(PATIENCE))[visit]
    writer = TiledWriter(client, batch_size=1, timeout=1.0, journal_directory=journals)
    caller = Caller(writer)
    *parts, last = run.parts
    for part in parts:
        caller.send(part)
        writer.flush(timeout=SETTLED)  # the requests that are to go wrong
    caller.send(last)
    caller.assert_hardly_held()
    assert caller.at_stop < 2.0
    del caller, writer
    gc.collect()
