"""The loop that all buses share, on a bus in this process: what is stored, and committed when."""

from __future__ import annotations

import base64
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pyarrow as pa
import pytest
from documents import Pair, RunBuilder, scalar_run
from servers import wait_until
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer.consumers import Consumer, Monitor, Start
from bluesky_tiled_writer.consumers import consumer as module

from .memory_bus import MemoryBus, packed

NewConsumer = Callable[..., Consumer]


@pytest.fixture
def client(context_on: Callable[[str], Any]) -> Container:
    """A server in a process of its own."""
    from tiled.client import from_context

    return from_context(context_on("sqlite"))


@pytest.fixture
def new_consumer(client: Container, tmp_path: Path) -> Iterator[NewConsumer]:
    consumers: list[Consumer] = []

    def new_consumer(bus: MemoryBus, **options: Any) -> Consumer:
        consumer = Consumer(bus.source(), client, directory=tmp_path / "consume", **options)
        consumers.append(consumer)
        consumer.source.open(consumer)
        return consumer

    yield new_consumer
    for consumer in consumers:
        consumer.close(5.0)


def interleaved(*runs: RunBuilder) -> list[Pair]:
    """Return the documents of runs that were open at the same time, one of each in turn."""
    longest = max(len(run.docs) for run in runs)
    return [run.docs[i] for i in range(longest) for run in runs if i < len(run.docs)]


def consume(consumer: Consumer, until: Callable[[], bool]) -> None:
    """Let a consumer take messages until something is true."""

    def is_done() -> bool:
        consumer.step()
        return until()

    wait_until(is_done, "the consumer does not get there", timeout=60.0)


def table(client: Container, run: RunBuilder, stream: str = "primary") -> pa.Table:
    return read_arrow(stream_of(client, run.uid, stream)["internal"])


def rows(client: Container, run: RunBuilder, stream: str = "primary") -> int:
    return len(table(client, run, stream))


def test_runs_are_stored_and_the_position_goes_on(
    client: Container, new_consumer: NewConsumer
) -> None:
    runs = [scalar_run(events=3) for _ in range(3)]
    bus = MemoryBus(packed(interleaved(*runs)))
    consumer = new_consumer(bus)
    consume(consumer, lambda: bus.committed.offset == len(bus.messages))
    assert [rows(client, run) for run in runs] == [3, 3, 3]
    assert all(client[run.uid].metadata["stop"] for run in runs)
    assert consumer.runs_stored == 3
    assert consumer.documents == len(bus.messages)


def test_the_position_stays_at_the_start_of_a_run_that_is_not_stopped(
    client: Container, new_consumer: NewConsumer
) -> None:
    first, second = scalar_run(), scalar_run()
    stop = second.docs.pop()
    bus = MemoryBus(packed([*first.docs, *second.docs]))
    consumer = new_consumer(bus)
    consume(consumer, lambda: bus.committed.offset == len(first.docs))
    assert bus.committed == Start(len(first.docs), seen=len(bus.messages))
    bus.messages += packed([stop])
    consume(consumer, lambda: bus.committed.offset == len(bus.messages))
    assert rows(client, second) == 3


def test_the_next_consumer_sends_what_is_missing(
    client: Container, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of the open run are in Tiled, and those of a stored one come again without a start."""
    short, long = scalar_run(events=3), scalar_run(events=40)
    bus = MemoryBus(packed([*interleaved(short, long)]))
    everything = bus.messages
    bus.messages = everything[:30]
    consumer = new_consumer(bus)
    consume(consumer, lambda: bus.committed.offset == 1)
    assert bus.committed.offset == 1  # where the long one starts: after the start of the short one
    consumer.close(5.0)
    before = rows(client, long)
    assert 0 < before < 40
    bus.messages = everything
    consumer = new_consumer(bus)
    consume(consumer, lambda: bus.committed.offset == len(bus.messages))
    assert rows(client, long) == 40
    assert table(client, long)["seq_num"].to_pylist() == [*range(1, 41)]
    assert client[long.uid].metadata.get("notes") is None
    assert consumer.set_aside.messages == 0
    assert "did not come" not in caplog.text


def test_messages_that_are_no_documents_are_set_aside_and_the_rest_goes_on(
    client: Container, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    run = scalar_run()
    missed = scalar_run()
    odd = [
        b"\xc1 not msgpack",
        msgpack.dumps(["start"]),
        msgpack.dumps(["coffee", {"uid": "1"}]),
        msgpack.dumps(["start", {"time": 1.0}]),
        msgpack.dumps(["event", {"descriptor": {}, "data": {}}]),
        *packed(missed.docs[2:4]),  # events of a run that this bus never had
    ]
    good = packed(run.docs)
    bus = MemoryBus([*odd[:3], *good[:3], *odd[3:], *good[3:]])
    consumer = new_consumer(bus)
    consume(consumer, lambda: bus.committed.offset == len(bus.messages))
    assert rows(client, run) == 3
    entries = [json.loads(line) for line in consumer.set_aside.path.read_text().splitlines()]
    assert [base64.b64decode(entry["data"]) for entry in entries] == odd
    assert [entry["offset"] for entry in entries] == [0, 1, 2, 6, 7, 8, 9]
    assert all(entry["why"] and entry["bus"] == "memory" for entry in entries)
    assert consumer.set_aside.messages == len(odd)
    unknown = missed.docs[2][1]["descriptor"]
    assert caplog.text.count(unknown) == 1


def test_a_run_that_tiled_refuses_is_set_aside_as_a_journal(
    client: Container, new_consumer: NewConsumer, tmp_path: Path
) -> None:
    """Another run has its uid; the position goes on, and a replay can be tried."""
    other, run = scalar_run(), scalar_run()
    client.create_container(run.uid, metadata={"start": {"uid": run.uid, "time": 0.0}})
    bus = MemoryBus(packed([*run.docs, *other.docs]))
    consumer = new_consumer(bus)
    consume(consumer, lambda: bus.committed.offset == len(bus.messages))
    assert rows(client, other) == 3
    assert consumer.set_aside.runs == 1
    (journal,) = (tmp_path / "consume" / "set-aside").glob("*.journal")
    from bluesky_tiled_writer.cli import read_documents

    assert [name for name, _ in read_documents(journal)] == [name for name, _ in run.docs]


def test_nothing_is_taken_while_much_waits(
    client: Container, new_consumer: NewConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus keeps it: memory is bounded while Tiled is slow."""
    monkeypatch.setattr(module, "MOST_PENDING", 50_000)
    run = scalar_run(events=2000)
    bus = MemoryBus(packed(run.docs))
    consumer = new_consumer(bus, flush_interval=30.0)
    most = 0

    def is_paused() -> bool:
        nonlocal most
        most = max(most, consumer.status.pending_bytes)
        return consumer.paused

    consume(consumer, is_paused)
    assert consumer.documents < 2000
    consumer.writer.flush(30.0)
    consume(consumer, lambda: not consumer.paused)

    def is_stored() -> bool:
        if consumer.paused:
            consumer.writer.flush(30.0)
        return bus.committed.offset == len(bus.messages)

    consume(consumer, is_stored)
    assert most < 200_000
    assert rows(client, run) == 2000


def test_a_run_that_never_stops_is_interrupted_in_the_end(
    client: Container, new_consumer: NewConsumer
) -> None:
    run = scalar_run()
    run.docs.pop()
    bus = MemoryBus(packed(run.docs))
    consumer = new_consumer(bus, abandoned_after=0.3)
    consume(consumer, lambda: bus.committed.offset == len(bus.messages))
    assert client[run.uid].metadata["stop"]["exit_status"] == "fail"
    assert rows(client, run) == 3


def test_copies_of_consumers_that_were_killed_are_removed(
    client: Container, new_consumer: NewConsumer, tmp_path: Path
) -> None:
    left = tmp_path / "consume" / "scratch-left"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "x.journal").write_bytes(b"x")
    first = new_consumer(MemoryBus())
    second = new_consumer(MemoryBus())
    assert not left.exists()
    assert len(list((tmp_path / "consume").glob("scratch-*"))) == 2
    for consumer in (first, second):
        consumer.close(1.0)
    assert not list((tmp_path / "consume").glob("scratch-*"))


def get(monitor: Monitor, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor.port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_operator_sees_how_it_goes(client: Container, new_consumer: NewConsumer) -> None:
    run = scalar_run()
    bus = MemoryBus([b"\xc1", *packed(run.docs)])
    consumer = new_consumer(bus)
    with Monitor(consumer, 0) as monitor:
        consume(consumer, lambda: bus.committed.offset == len(bus.messages))
        assert get(monitor, "/healthz")[0] == 200
        status = json.loads(get(monitor, "/status")[1])
        assert (status["documents"], status["runs_stored"], status["lag"]) == (7, 1, 0)
        assert status["set_aside"]["messages"] == 1
        metrics = get(monitor, "/metrics")[1]
        assert "\nbluesky_tiled_writer_runs_total 1\n" in metrics
        assert "\nbluesky_tiled_writer_messages_set_aside_total 1\n" in metrics
        assert get(monitor, "/coffee")[0] == 404
        consumer.last_pass = time.monotonic() - 1000
        assert get(monitor, "/healthz")[0] == 503


def test_nothing_is_logged_of_a_run_that_goes_well(
    new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    bus = MemoryBus(packed(scalar_run().docs))
    with caplog.at_level(logging.WARNING, "bluesky_tiled_writer"):
        consume(new_consumer(bus), lambda: bus.committed.offset == len(bus.messages))
    assert not caplog.records
