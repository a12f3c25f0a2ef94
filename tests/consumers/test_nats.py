"""NATS JetStream: one consumer reads, others stand by; each row once, whatever is killed."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import Pair, RunBuilder, data_key, scalar_run
from faults import LONG
from faults.tiled_process import KEY, TiledProcess
from servers import wait_until
from tiled.client import from_context, from_uri
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer.consumers import Consumer, Start
from bluesky_tiled_writer.consumers.lease import Record
from bluesky_tiled_writer.consumers.nats import NatsSource
from bluesky_tiled_writer.consumers.nats_reader import where_to_begin
from bluesky_tiled_writer.errors import TiledWriterError

pytest.importorskip("bluesky_nats", reason="needs Python before 3.15")

from .nats_server import (
    STREAM,
    SUBJECT,
    ConsumerProcess,
    Nats,
    NatsServer,
    connected,
)
from .stored import is_stored

NewConsumer = Callable[..., Consumer]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def nats(server: NatsServer) -> Iterator[Nats]:
    """A publisher on a server with a new stream, and no consumer's position."""
    with connected(server.url) as nats:
        nats.new_stream()
        yield nats
        nats.call(nats.js.delete_stream(STREAM))
        with suppress(Exception):  # the test needed none
            nats.call(nats.js.delete_key_value("bluesky-tiled-writer"))


@pytest.fixture
def client(context_on: Callable[[str], Any]) -> Container:
    return from_context(context_on("sqlite"))


@pytest.fixture
def uri(client: Container) -> str:
    return f"{client.uri}?api_key={KEY}"


@pytest.fixture
def new_consumer(client: Container, tmp_path: Path, server: NatsServer) -> Iterator[NewConsumer]:
    with ExitStack() as stack:

        def new_consumer(**options: Any) -> Consumer:
            source = NatsSource(server.url, **options)
            consumer = Consumer(source, client, directory=tmp_path / "consume")
            source.open(consumer)
            stack.callback(consumer.close, 5.0)
            return consumer

        yield new_consumer


@pytest.fixture
def new_process(uri: str, tmp_path: Path, server: NatsServer) -> Iterator[Callable[[], Any]]:
    with ExitStack() as stack:
        numbers = iter(range(1000))

        def new_process(quick: bool = False) -> ConsumerProcess:
            name = f"consumer-{next(numbers)}"
            process = ConsumerProcess(server.url, uri, tmp_path, name, quick)
            stack.callback(process.kill)
            return process

        yield new_process


def consume(until: Callable[[], bool], *consumers: Consumer) -> None:
    def is_done() -> bool:
        for consumer in consumers:
            consumer.step(0.05)
        return until()

    wait_until(is_done, lambda: "the consumer does not get there")


def rows(client: Container, run: RunBuilder) -> list[int]:
    table = read_arrow(stream_of(client, run.uid)["internal"])
    return [int(number) for number in table["seq_num"].to_pylist()]


def interleaved(*runs: RunBuilder) -> list[Pair]:
    longest = max(len(run.docs) for run in runs)
    return [run.docs[i] for i in range(longest) for run in runs if i < len(run.docs)]


def committed(nats: Nats) -> Record:
    async def read() -> bytes:
        bucket = await nats.js.key_value("bluesky-tiled-writer")
        return bytes((await bucket.get(f"{STREAM}.{SUBJECT}.=2A=")).value)

    return Record.unpack(nats.call(read()))


def test_interleaved_runs_of_bluesky_s_publisher_are_stored(
    nats: Nats, client: Container, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    """Their messages all have the header of the run that was opened last."""
    runs = [scalar_run(events=5), scalar_run(events=8)]
    consumer = new_consumer()
    nats.publish(interleaved(*runs))
    consume(lambda: consumer.runs_stored == 2, consumer)
    assert [rows(client, run) for run in runs] == [[*range(1, 6)], [*range(1, 9)]]
    assert all(client[run.uid].metadata["stop"] == run.docs[-1][1] for run in runs)
    assert consumer.source.lag() == 0
    consume(lambda: committed(nats).start.offset == nats.last() + 1, consumer)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_many_messages_come_in_order_without_beginning_again(
    nats: Nats, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    """More than are asked for together."""
    caplog.set_level(logging.DEBUG, "bluesky_tiled_writer")
    consumer = new_consumer()
    nats.publish_many("event", 2000)
    offsets: list[int] = []

    def is_done() -> bool:
        offsets.extend(message.offset for message in consumer.source.receive(0.1))
        return len(offsets) >= 2000

    wait_until(is_done, lambda: "messages are missing")
    assert offsets == [*range(1, 2001)]
    assert "read again" not in caplog.text


def test_values_of_numpy_are_stored_as_they_were(
    nats: Nats, client: Container, new_consumer: NewConsumer
) -> None:
    """The publisher sends arrays as lists: their type is in the descriptor."""
    run = RunBuilder()
    run.start(when=np.float32(0.5), big=2**64 - 1, several=np.arange(3))
    keys = {
        "x": data_key("number", dtype_numpy="<f4"),
        "n": data_key("integer", dtype_numpy="<u8"),
        "on": "boolean",
        "image": data_key("array", [2, 3], dtype_numpy="<u2"),
        "line": data_key("array", [3]),
    }
    run.descriptor("primary", keys)
    image = np.arange(6, dtype="<u2").reshape(2, 3)
    line = np.array([0.5, np.nan, 2.5])
    values = {"x": np.float32(0.1), "n": np.uint64(2**64 - 1), "on": np.True_}
    run.event("primary", {**values, "image": image, "line": line})
    run.stop()
    consumer = new_consumer()
    nats.publish(run.docs)
    consume(lambda: consumer.runs_stored == 1, consumer)
    stream = stream_of(client, run.uid)
    (row,) = read_arrow(stream["internal"]).to_pylist()
    assert (np.float32(row["x"]), row["on"]) == (values["x"], True)
    assert stream["n"].read().tolist() == [2**64 - 1]  # which SQLite has no column for
    assert stream["image"].read().dtype == "<u2"
    assert stream["image"].read().tolist() == [image.tolist()]
    np.testing.assert_array_equal(stream["line"].read()[0], line)
    start = client[run.uid].metadata["start"]
    assert (start["when"], start["big"], start["several"]) == (0.5, 2**64 - 1, [0, 1, 2])
    assert client[run.uid].metadata.get("notes") is None


def test_messages_that_are_no_documents_are_set_aside(
    nats: Nats, client: Container, new_consumer: NewConsumer
) -> None:
    run, missed = scalar_run(), scalar_run()
    consumer = new_consumer()
    nats.publish_raw("start", b"\xc1 not msgpack")
    nats.publish(run.docs[:3])
    nats.publish_raw("coffee", b"\x80")
    nats.publish_raw("event", b"\x93\x01\x02\x03")
    nats.publish(missed.docs[2:4])
    nats.publish(run.docs[3:])
    consume(lambda: consumer.runs_stored == 1, consumer)
    assert rows(client, run) == [1, 2, 3]
    entries = [json.loads(line) for line in consumer.set_aside.path.read_text().splitlines()]
    assert [entry["offset"] for entry in entries] == [1, 5, 6, 7, 8]
    assert {entry["partition"] for entry in entries} == {STREAM}


def test_a_stand_by_goes_on_at_once_when_the_other_one_ends(
    nats: Nats, client: Container, new_consumer: NewConsumer
) -> None:
    run = scalar_run(events=20)
    first, second = new_consumer(), new_consumer()
    nats.publish(run.docs[:12])
    consume(lambda: first.documents + second.documents == 12, first, second)
    active, other = (first, second) if first.documents else (second, first)
    assert other.documents == 0
    began = time.monotonic()
    active.close(5.0)
    nats.publish(run.docs[12:])
    consume(lambda: other.runs_stored == 1, other)
    assert time.monotonic() - began < 60.0
    assert rows(client, run) == [*range(1, 21)]
    assert other.documents == len(run.docs)


def test_the_active_consumer_is_killed_and_the_stand_by_goes_on(
    nats: Nats, client: Container, new_process: Callable[..., ConsumerProcess]
) -> None:
    run = scalar_run(events=60)
    active = new_process(quick=True)
    active.wait_for(lambda documents: documents >= 0)
    nats.publish(run.docs[:20])
    active.wait_for(lambda documents: documents == 20)
    other = new_process(quick=True)
    other.wait_for(lambda documents: documents == 0)
    active.kill()
    nats.publish(run.docs[20:])
    other.wait_for(lambda documents: documents == len(run.docs))
    wait_until(lambda: is_stored(client, run), lambda: "the run is not stored")
    assert rows(client, run) == [*range(1, 61)]


def test_a_server_that_is_killed_in_mid_run_costs_nothing(
    server: NatsServer,
    nats: Nats,
    client: Container,
    new_consumer: NewConsumer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = scalar_run(events=60)
    consumer = new_consumer()
    nats.publish(run.docs[:20])
    consume(lambda: consumer.documents == 20, consumer)
    server.kill()
    consume(lambda: consumer.open_runs == 0, consumer)  # another one may have it by now
    server.start()
    nats.publish_until_it_works(run.docs[20:])
    consume(lambda: consumer.runs_stored == 1, consumer)
    assert rows(client, run) == [*range(1, 61)]
    assert caplog.text.count("It goes on when the servers answer") == 1
    assert caplog.text.count("the servers answer again") == 1


def test_a_server_that_is_down_at_the_start_is_no_obstacle(
    server: NatsServer, nats: Nats, client: Container, new_consumer: NewConsumer
) -> None:
    run = scalar_run()
    nats.publish(run.docs)
    server.kill()
    consumer = new_consumer()
    for _ in range(5):
        assert consumer.step(0.1) == 0
    server.start()
    consume(lambda: consumer.runs_stored == 1, consumer)
    assert rows(client, run) == [1, 2, 3]


def test_a_consumer_can_be_closed_while_there_is_no_server(new_consumer: NewConsumer) -> None:
    source = NatsSource("nats://127.0.0.1:1")
    source.open(new_consumer())
    assert not source.receive(0.3)
    source.close()


def test_what_is_held_back_waits_at_the_server(nats: Nats, new_consumer: NewConsumer) -> None:
    run = scalar_run(events=600)
    consumer = new_consumer()
    nats.publish(run.docs[:2])
    consume(lambda: consumer.documents == 2, consumer)
    consumer.source.pause()
    nats.publish(run.docs[2:])
    assert not consumer.source.receive(0.5)
    wait_until(lambda: (consumer.source.lag() or 0) >= 600, lambda: "the lag is not seen")
    consumer.source.resume()
    consume(lambda: consumer.runs_stored == 1, consumer)


def test_messages_that_the_limits_of_the_stream_removed_are_told(
    nats: Nats, client: Container, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    removed, run = scalar_run(events=30), scalar_run()
    consumer = new_consumer()
    nats.publish(removed.docs[:5])
    consume(lambda: consumer.documents == 5, consumer)
    consumer.close(5.0)
    nats.publish(removed.docs[5:])
    nats.call(nats.js.purge_stream(STREAM, keep=2))
    nats.publish(run.docs)
    consumer = new_consumer()
    consume(lambda: consumer.runs_stored == 1, consumer)
    assert rows(client, run) == [1, 2, 3]
    assert "its limits removed the messages from 1 to 31" in caplog.text


def test_what_the_limits_remove_of_a_run_that_is_under_way_is_told_once(
    nats: Nats, client: Container, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    """This consumer has it, and stores it; another one could not."""
    run = scalar_run()
    consumer = new_consumer()
    nats.publish(run.docs[:4])
    consume(lambda: consumer.documents == 4, consumer)
    nats.call(nats.js.purge_stream(STREAM))
    consume(lambda: "its limits removed the messages from 1 to 4" in caplog.text, consumer)
    nats.publish(run.docs[4:])
    consume(lambda: consumer.runs_stored == 1, consumer)
    assert rows(client, run) == [1, 2, 3]
    assert caplog.text.count("its limits removed") == 1


@pytest.mark.parametrize(
    ("record", "first", "last", "begins", "warns"),
    [
        (Record(), 0, 0, Start(1), False),  # an empty stream, for the first time
        (Record(), 51, 99, Start(51), False),
        (Record(start=Start(60, 80), stream="May"), 51, 99, Start(60, 80), False),
        (Record(start=Start(100, 100), stream="May"), 51, 99, Start(100, 100), False),
        (Record(start=Start(40, 80), stream="May"), 51, 99, Start(51, 80), True),
        (Record(start=Start(100, 100), stream="May"), 100, 99, Start(100, 100), False),  # purged
        (Record(start=Start(101, 101), stream="May"), 51, 99, Start(51), True),  # lost its end
        (Record(start=Start(60, 80), stream="April"), 51, 99, Start(51), True),  # made again
    ],
)
def test_where_to_begin(record: Record, first: int, last: int, begins: Start, warns: bool) -> None:
    start, warning = where_to_begin(record, "May", first, last)
    assert start == begins
    assert (warning is not None) == warns


@pytest.mark.parametrize(
    ("options", "says"),
    [({"subject": "nowhere.at.all"}, "no stream for"), ({"stream": "none"}, "no stream none")],
)
def test_a_stream_that_is_not_there_is_told(
    nats: Nats, new_consumer: NewConsumer, options: dict[str, str], says: str
) -> None:
    consumer = new_consumer(**options)
    with pytest.raises(TiledWriterError, match=says):
        consume(lambda: False, consumer)


def test_a_stream_that_is_deleted_is_told(
    nats: Nats, new_consumer: NewConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = new_consumer()
    nats.publish(scalar_run().docs[:3])
    consume(lambda: consumer.documents == 3, consumer)
    nats.call(nats.js.delete_stream(STREAM))
    with pytest.raises(TiledWriterError, match="no stream"):
        consume(lambda: False, consumer)
    assert len(caplog.records) <= 1  # that it cannot be read
    nats.new_stream()


def test_a_stream_that_drops_what_was_acknowledged_is_refused(
    nats: Nats, new_consumer: NewConsumer
) -> None:
    nats.new_stream("work", "work", retention="workqueue")
    consumer = new_consumer(subject="work")
    with pytest.raises(TiledWriterError, match="drops messages"):
        consume(lambda: False, consumer)
    nats.call(nats.js.delete_stream("work"))


def test_a_name_has_to_be_one_of_a_bucket() -> None:
    with pytest.raises(TiledWriterError, match="no name"):
        NatsSource(name="beam line")


def test_a_subject_may_stand_for_several_publishers(
    nats: Nats, client: Container, new_consumer: NewConsumer
) -> None:
    run = scalar_run()
    consumer = new_consumer(subject="events.>")
    nats.publish(run.docs)
    consume(lambda: consumer.runs_stored == 1, consumer)
    assert rows(client, run) == [1, 2, 3]
    assert SUBJECT.startswith("events.")


@pytest.mark.skipif(not LONG, reason="takes long: FAULTS=long")
def test_a_consumer_that_is_suspended_and_comes_back_repeats_nothing(
    nats: Nats, client: Container, new_process: Callable[[], ConsumerProcess]
) -> None:
    """It believes to have the lease when it goes on, and has documents in hand."""
    run = scalar_run(events=3000)
    active = new_process()
    active.wait_for(lambda documents: documents >= 0)
    other = new_process()
    other.wait_for(lambda documents: documents >= 0)
    before = {active: active.documents, other: other.documents}
    nats.publish(run.docs[:1500])
    active = wait_for_reader(before)
    (other,) = before.keys() - {active}
    active.suspend()
    other.wait_for(lambda documents: documents > 0)
    nats.publish(run.docs[1500:2000])
    active.resume()
    nats.publish(run.docs[2000:])
    wait_until(lambda: is_stored(client, run), lambda: "the run is not stored")
    assert rows(client, run) == [*range(1, 3001)]


@pytest.mark.skipif(not LONG, reason="takes long: FAULTS=long")
def test_both_sides_are_away_in_turn_and_together(
    server: NatsServer, nats: Nats, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = scalar_run(events=400)
    with TiledProcess(tmp_path, tmp_path_factory.getbasetemp(), "sqlite") as tiled:
        consumer = Consumer(NatsSource(server.url), tiled.uri, directory=tmp_path / "consume")
        consumer.source.open(consumer)
        for part, away in enumerate([[tiled], [server], [tiled, server], []]):
            nats.publish_until_it_works(run.docs[part * 101 : part * 101 + 101])
            consume_for(0.5, consumer)
            for one in away:
                one.kill()
            consume_for(10.0, consumer)
            for one in away:
                one.start()
        consume(lambda: consumer.runs_stored == 1, consumer)
        consumer.close(30.0)
        client = from_uri(tiled.uri)
        assert rows(client, run) == [*range(1, 401)]
        client.context.close()


def consume_for(seconds: float, consumer: Consumer) -> None:
    end = time.monotonic() + seconds
    consume(lambda: time.monotonic() > end, consumer)


@pytest.mark.skipif(not LONG, reason="takes long: FAULTS=long")
def test_a_hundred_kills(
    server: NatsServer,
    nats: Nats,
    client: Container,
    new_process: Callable[[], ConsumerProcess],
) -> None:
    """Consumers are killed anywhere, the server now and then; one stands by all the time."""
    random.seed(13)
    runs: list[RunBuilder] = []
    processes = [new_process(), new_process()]
    for kill in range(100):
        run = scalar_run(events=30)
        runs.append(run)
        part = random.randrange(1, len(run.docs))
        before = {process: process.documents for process in processes}
        nats.publish_until_it_works(run.docs[:part])
        reader = wait_for_reader(before)
        time.sleep(random.random() / 2)
        if kill % 10 == 5:
            server.kill()
            server.start()
        reader.kill()
        processes.remove(reader)
        processes.append(new_process())
        nats.publish_until_it_works(run.docs[part:])
    for run in runs:
        wait_until(lambda run=run: is_stored(client, run), lambda: "a run is not stored")
        assert rows(client, run) == [*range(1, 31)]


def wait_for_reader(before: dict[ConsumerProcess, int]) -> ConsumerProcess:
    """Return the process that gets documents."""

    found: list[ConsumerProcess] = []

    def is_found() -> bool:
        found.extend(one for one, count in before.items() if one.documents > max(count, 0))
        return bool(found)

    wait_until(is_found, lambda: "nobody reads")
    return found[0]
