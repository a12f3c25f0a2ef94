"""A server that refuses a run for good: it waits for a person to act, and other runs go on."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import pytest
import zarr
from delivery.helpers import messages_of, wait_until
from tiled.client.container import Container

from bluesky_tiled_writer.errors import StorageError
from bluesky_tiled_writer.journal import JournalDirectory

from . import LONG
from .caller import Caller
from .conftest import MakeWriter
from .proxy import Answer, Proxy
from .runs import FaultRun, assert_exactly_once
from .tiled_process import TiledProcess

RECOGNISED = 15.0
"""s: within which the writer has to see that trying again is of no use."""

STEPS: dict[str, dict[str, str]] = {
    "create run": {"method": "POST", "path": "^/metadata$", "body": "{uid}"},
    "create table": {"method": "POST", "path": "^/metadata/{uid}/primary$"},
    "append rows": {"method": "PATCH", "path": "^/table/partition/{uid}/primary/"},
    "extend array": {"method": "PUT|PATCH", "path": "^/array/full/{uid}/"},
    "register": {"method": "POST", "path": "^/register/{uid}/"},
    "stop": {"method": "PATCH", "path": "^/metadata/{uid}$"},
}
Refusal = tuple[int, str]
SELECTION: dict[str, list[Refusal]] = {
    "content": [(422, "create table"), (500, "extend array"), (500, "stop")],
}
ALONE = [
    pytest.param([(status, step)], id=f"{status} to {step}")
    for status in (422, 500)
    for step in STEPS
]
ACCESS: list[Refusal] = [(401, "create run"), (403, "append rows"), (403, "register")]
ACCESS_ALONE: list[Refusal] = [(status, step) for status in (401, 403) for step in STEPS]
SEVERAL = [pytest.param(refusals, id=name) for name, refusals in SELECTION.items()]


@pytest.mark.parametrize("refusals", [*SEVERAL, *(ALONE if LONG else [])])
def test_a_step_that_is_refused_for_good_sets_only_its_run_aside(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    frames: str,
    caplog: pytest.LogCaptureFixture,
    refusals: list[Refusal],
) -> None:
    refused = {FaultRun(frames): refusal for refusal in refusals}
    other = FaultRun(frames)
    for run, (status, step) in refused.items():
        target = {name: text.replace("{uid}", run.uid) for name, text in STEPS[step].items()}
        proxy.inject(Answer(status), **target, times=math.inf)
    writer = make_writer()
    caller = Caller(writer)

    with caplog.at_level(logging.WARNING, "bluesky_tiled_writer"):
        for parts in zip(*(run.parts for run in (*refused, other)), strict=True):
            for part in parts:
                caller.send(part)
        start = time.monotonic()
        for run, (status, _) in refused.items():
            with pytest.raises(StorageError, match=str(status)):
                writer.wait_for(run.uid, timeout=2 * RECOGNISED)
        assert time.monotonic() - start + caller.at_stop < RECOGNISED * len(refused)

    assert writer.wait_for(other.uid, timeout=RECOGNISED)
    assert_exactly_once(client, other.uid, other.docs)
    caller.assert_hardly_held()
    assert sorted(uids_in(journals)) == sorted(run.uid for run in refused)
    for run in refused:
        told = [text for record in caplog.records if run.uid in (text := record.getMessage())]
        assert len(told) == 1, told


@pytest.mark.parametrize(("status", "step"), ACCESS_ALONE if LONG else ACCESS)
def test_a_run_that_may_not_be_written_goes_on_when_it_may(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    frames: str,
    caplog: pytest.LogCaptureFixture,
    status: int,
    step: str,
) -> None:
    run, other = FaultRun(frames), FaultRun(frames)
    target = {name: text.replace("{uid}", run.uid) for name, text in STEPS[step].items()}
    proxy.inject(Answer(status), **target, times=math.inf)
    writer = make_writer()
    caller = Caller(writer)

    with caplog.at_level(logging.WARNING, "bluesky_tiled_writer"):
        for parts in zip(run.parts, other.parts, strict=True):
            for part in parts:
                caller.send(part)
        wait_until(lambda: writer.status.waiting_for or writer.status.state == "login")
        assert writer.status.set_aside == {}
        assert not writer.flush(timeout=RECOGNISED)
        if status == 403:
            assert writer.wait_for(other.uid, timeout=RECOGNISED)
            assert str(status) in writer.status.waiting_for[run.uid]
    caller.assert_hardly_held()

    proxy.clear()
    for name in (run, other):
        assert writer.wait_for(name.uid, timeout=RECOGNISED)
        assert_exactly_once(client, name.uid, name.docs)
    assert list(journals.iterdir()) == []
    assert writer.status.state == "idle"
    told = [text for text in messages_of(caplog) if str(status) in text]
    assert len(told) == 1, told


def test_a_run_that_was_set_aside_is_stored_when_the_reason_is_gone(
    proxy: Proxy, client: Container, make_writer: MakeWriter, journals: Path, run: FaultRun
) -> None:
    proxy.inject(Answer(422), "PATCH", "^/table/partition/", nth=2, times=math.inf)
    with make_writer() as writer:
        for part in run.parts:
            Caller(writer).send(part)
        with pytest.raises(StorageError, match="422"):
            writer.wait_for(run.uid, timeout=RECOGNISED)
    proxy.clear()

    recoveries = make_writer().recover(timeout=RECOGNISED)

    assert [recovery.stored for recovery in recoveries] in ([True], [])  # or by itself, before
    assert_exactly_once(client, run.uid, run.docs)
    assert list(journals.iterdir()) == []


def test_an_array_that_a_killed_server_left_without_a_node_sets_its_run_aside(
    server: TiledProcess, client: Container, make_writer: MakeWriter, journals: Path, frames: str
) -> None:
    refused, other = FaultRun(frames), FaultRun(frames)
    left = server.arrays / refused.uid / "primary" / "image"
    zarr.create_array(left, shape=(1, 2, 2), chunks=(1, 2, 2), dtype="<i4")
    # No proxy: after an error of its own Tiled closes the connection, the next request's as well.
    writer = make_writer(client)
    caller = Caller(writer)

    for mine, theirs in zip(refused.parts, other.parts, strict=True):
        caller.send(mine)
        caller.send(theirs)
    with pytest.raises(StorageError, match=r"500 .*primary/image.* The log of the server says why"):
        writer.wait_for(refused.uid, timeout=RECOGNISED)
    assert writer.wait_for(other.uid, timeout=RECOGNISED)
    assert_exactly_once(client, other.uid, other.docs)
    caller.assert_hardly_held()

    assert server.delete_arrays_without_a_node(refused.uid) == [left]
    (recovery,) = writer.recover(timeout=RECOGNISED)
    assert recovery.stored
    assert_exactly_once(client, refused.uid, refused.docs)
    assert list(journals.iterdir()) == []


@pytest.mark.parametrize("status", [403, 500] if LONG else [500])
def test_a_stored_run_is_stored_though_its_end_cannot_be_told_to_subscribers(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    run: FaultRun,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    refused = proxy.inject(Answer(status), "DELETE", "^/stream/close/", times=math.inf)
    writer = make_writer()
    caller = Caller(writer)

    with caplog.at_level(logging.WARNING, "bluesky_tiled_writer"):
        caller.send(run.docs)
        assert writer.wait_for(run.uid, timeout=RECOGNISED)

    assert refused.met
    assert_exactly_once(client, run.uid, run.docs)
    caller.assert_hardly_held()
    assert list(journals.iterdir()) == []
    assert writer.status.set_aside == {}
    (told,) = [text for record in caplog.records if run.uid in (text := record.getMessage())]
    assert "is stored" in told
    assert str(status) in told


@pytest.mark.parametrize("most", [4_000, 10_000] if LONG else [4_000])
def test_a_batch_that_is_too_large_for_one_request_goes_in_several(
    proxy: Proxy,
    client: Container,
    make_writer: MakeWriter,
    journals: Path,
    frames: str,
    most: int,
) -> None:
    run = FaultRun(frames, rows=150)
    proxy.max_body = most
    writer = make_writer(flush_interval=60.0)
    caller = Caller(writer)

    for part in run.parts:
        caller.send(part)

    assert writer.wait_for(run.uid, timeout=60.0)
    refused = [e.size for e in proxy.seen() if e.status == 413]
    assert refused, "nothing was too large"
    assert_exactly_once(client, run.uid, run.docs)
    caller.assert_hardly_held()
    assert list(journals.iterdir()) == []

    again = FaultRun(frames, rows=150)
    proxy.clear()
    proxy.max_body = most
    another = make_writer(flush_interval=60.0)
    Caller(another).send(again.docs)
    assert another.wait_for(again.uid, timeout=60.0)
    assert all(e.size < min(refused) for e in proxy.seen()), "the limit was forgotten"
    assert_exactly_once(client, again.uid, again.docs)


@pytest.mark.parametrize("node", ["internal", "spectrum"] if LONG else ["spectrum"])
def test_an_error_that_passes_is_not_taken_for_a_limit_of_the_database(
    proxy: Proxy, client: Container, make_writer: MakeWriter, run: FaultRun, node: str
) -> None:
    trouble = proxy.inject(
        Answer(500), "POST", "^/metadata/[^/]+/primary$", body=f'"id": ?"{node}"', times=2
    )
    writer = make_writer()

    Caller(writer).send(run.docs)

    assert writer.wait_for(run.uid, timeout=RECOGNISED)
    assert trouble.met == 2
    assert_exactly_once(client, run.uid, run.docs)  # in columns and ragged nodes as ever


def test_a_row_that_is_too_large_on_its_own_sets_its_run_aside(
    proxy: Proxy, make_writer: MakeWriter, journals: Path, run: FaultRun
) -> None:
    proxy.inject(Answer(413), "PATCH", "^/table/partition/", times=math.inf)
    writer = make_writer()
    caller = Caller(writer)

    for part in run.parts:
        caller.send(part)

    with pytest.raises(StorageError, match=r"413 .* bytes: .* Raise the limit"):
        writer.wait_for(run.uid, timeout=RECOGNISED)
    caller.assert_hardly_held()
    assert uids_in(journals) == [run.uid]


def uids_in(journals: Path) -> list[str]:
    """Return the uids of the runs that have a journal."""
    found = JournalDirectory(journals).journals()
    return [journal.header.uid for journal in found if journal.header is not None]
