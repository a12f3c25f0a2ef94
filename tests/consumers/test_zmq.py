"""0MQ: nothing is kept on the way, nothing is unpickled unasked, and the journal is on disk."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from bluesky.callbacks.zmq import Publisher
from documents import RunBuilder, data_key, scalar_run
from faults.processes import processes
from faults.tiled_process import KEY
from servers import wait_until
from tiled.client import from_context
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer.consumers import Consumer
from bluesky_tiled_writer.consumers.zmq import ZmqSource
from bluesky_tiled_writer.delivery import catch_up
from bluesky_tiled_writer.errors import InvalidDocument, TiledWriterError

from .zmq_proxies import BlueskyProxy, join, lossy_proxy, make_keys, publish, to_msgpack

NewConsumer = Callable[..., Consumer]
NewPublisher = Callable[..., Publisher]


@pytest.fixture(scope="module")
def proxy() -> Iterator[BlueskyProxy]:
    proxy = BlueskyProxy()
    yield proxy
    proxy.kill()


@pytest.fixture
def client(context_on: Callable[[str], Any]) -> Container:
    return from_context(context_on("sqlite"))


@pytest.fixture
def new_consumer(client: Container, tmp_path: Path, journals: Path) -> Iterator[NewConsumer]:
    consumers: list[Consumer] = []

    def new_consumer(source: ZmqSource) -> Consumer:
        directory = tmp_path / "consume"
        consumer = Consumer(source, client, directory=directory, journal_directory=journals)
        consumers.append(consumer)
        source.open(consumer)
        return consumer

    yield new_consumer
    for consumer in consumers:
        consumer.close(5.0)


@pytest.fixture
def new_publisher(proxy: BlueskyProxy) -> Iterator[NewPublisher]:
    """Make a publisher that sends msgpack, unless it is told otherwise, and is closed after all."""
    with ExitStack() as stack:

        def new_publisher(address: str = proxy.publishers, **options: Any) -> Publisher:
            publisher = Publisher(address, **({"serializer": to_msgpack} | options))
            publisher._socket.setsockopt(zmq.LINGER, 0)
            stack.callback(publisher.close)
            return publisher

        yield new_publisher


def consume(consumer: Consumer, until: Callable[[], bool]) -> None:
    def is_done() -> bool:
        consumer.step()
        return until()

    wait_until(is_done, lambda: "the consumer does not get there")


def rows(client: Container, run: RunBuilder) -> list[int]:
    table = read_arrow(stream_of(client, run.uid)["internal"])
    return [int(number) for number in table["seq_num"].to_pylist()]


def array_run(events: int) -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2, 2])})
    for i in range(events):
        run.event("primary", {"x": np.float32(i), "image": np.full((2, 2), i)})
    run.stop()
    return run


def test_runs_of_publishers_that_send_msgpack_are_stored(
    proxy: BlueskyProxy,
    client: Container,
    new_consumer: NewConsumer,
    new_publisher: NewPublisher,
    journals: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    consumer = new_consumer(ZmqSource(proxy.subscribers))
    publisher = new_publisher(proxy.publishers)
    join(publisher, consumer.source)
    caplog.clear()  # perhaps the proxy was not there yet
    runs = [array_run(300), scalar_run(events=3)]
    for run in runs:
        publish(publisher, run.docs)
    consume(consumer, lambda: consumer.runs_stored == 2)
    assert rows(client, runs[0]) == [*range(1, 301)]
    assert client[runs[0].uid]["primary"]["image"].read()[299].tolist() == [[299, 299]] * 2
    assert consumer.source.lag() is None
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    wait_until(lambda: not list(journals.glob("*.journal")), lambda: "there are journals left")


def test_pickled_documents_are_set_aside_unless_they_are_allowed(
    proxy: BlueskyProxy,
    client: Container,
    new_consumer: NewConsumer,
    new_publisher: NewPublisher,
    tmp_path: Path,
) -> None:
    """A sender may put anything into a pickle; whoever unpickles it runs that."""
    strict = new_consumer(ZmqSource(proxy.subscribers, b"bl1"))
    trusting = new_consumer(ZmqSource(proxy.subscribers, b"bl1", allow_pickle=True))
    publisher = new_publisher(prefix=b"bl1", serializer=pickle.dumps)
    for consumer in (strict, trusting):
        join(publisher, consumer.source)
    while strict.source.receive(0.3):
        pass
    run = array_run(3)
    publish(publisher, run.docs)
    consume(trusting, lambda: trusting.runs_stored == 1)
    assert rows(client, run) == [1, 2, 3]
    consume(strict, lambda: strict.documents == len(run.docs))
    entries = [json.loads(line) for line in strict.set_aside.path.read_text().splitlines()]
    assert len(entries) == len(run.docs)
    assert all("--allow-pickle" in entry["why"] for entry in entries)


class Attack:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_unpickled_unasked(tmp_path: Path, protocol: int) -> None:
    """Whatever the protocol: that of 0 is text, and 2 and later begin as an empty map does."""
    attacked = tmp_path / "attacked"
    doc = {"uid": "1", "time": 0.0, "x": [Attack(attacked)]}
    message = b" start " + pickle.dumps(doc, protocol)
    with pytest.raises(InvalidDocument, match="pickled"):
        ZmqSource("localhost:1")._decode(message)
    assert not attacked.exists()
    ZmqSource("localhost:1", allow_pickle=True)._decode(message)
    assert attacked.exists()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 70_000])
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_msgpack_is_never_taken_for_a_pickle(size: int, allow_pickle: bool) -> None:
    doc = {str(i): "." for i in range(size)}
    source = ZmqSource("localhost:1", allow_pickle=allow_pickle)
    assert source._decode(b"bl start " + msgpack.packb(doc)) == ("start", doc)


@pytest.mark.parametrize(
    "message",
    [b"", b"start", b" start \xc1", b" start ", b" \xff \x80", b" start \x93\x01\x02\x03", b" a ."],
)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_other_messages_are_no_documents(message: bytes, allow_pickle: bool) -> None:
    with pytest.raises(InvalidDocument):
        ZmqSource("localhost:1", allow_pickle=allow_pickle)._decode(message)


def test_only_the_prefix_is_listened_to(
    proxy: BlueskyProxy, new_consumer: NewConsumer, new_publisher: NewPublisher
) -> None:
    consumer = new_consumer(ZmqSource(proxy.subscribers, b"bl2"))
    ours, other = (new_publisher(prefix=p) for p in (b"bl2", b"bl22"))
    join(ours, consumer.source)
    for publisher in (other, ours):
        publish(publisher, scalar_run().docs)
    consume(consumer, lambda: consumer.runs_stored == 1)
    assert consumer.documents == 6


def test_a_run_whose_start_was_missed_is_told_once(
    proxy: BlueskyProxy,
    client: Container,
    new_consumer: NewConsumer,
    new_publisher: NewPublisher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    consumer = new_consumer(ZmqSource(proxy.subscribers))
    publisher = new_publisher(proxy.publishers)
    join(publisher, consumer.source)
    missed, run = scalar_run(events=20), scalar_run()
    publish(publisher, missed.docs[5:])
    publish(publisher, run.docs)
    consume(consumer, lambda: consumer.runs_stored == 1)
    assert missed.uid not in client
    assert consumer.set_aside.messages == 0
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1


def consume_in_process(address: str, uri: str, directory: Path) -> None:
    journals = directory / "journals"
    source = ZmqSource(address)
    consumer = Consumer(source, uri, directory=directory, journal_directory=journals)
    source.open(consumer)
    while True:
        consumer.step()
        if consumer.documents:
            (directory / "documents").write_text(str(consumer.documents))


def test_a_run_goes_on_after_its_consumer_was_killed(
    proxy: BlueskyProxy,
    client: Container,
    new_consumer: NewConsumer,
    new_publisher: NewPublisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came is in the journal; what was published while there was no consumer is not."""
    monkeypatch.setattr(catch_up, "RESUMED_WITHIN", 600.0)  # as patient as outside of tests
    uri = f"{client.uri}?api_key={KEY}"
    first = processes.Process(target=consume_in_process, args=(proxy.subscribers, uri, tmp_path))
    first.start()
    publisher = new_publisher(proxy.publishers)
    came = tmp_path / "documents"

    def documents() -> int:
        return int(came.read_text() or 0) if came.exists() else 0

    def listens() -> bool:
        publisher("stop", {"run_start": "nobody"})
        return documents() > 0

    wait_until(listens, lambda: "the consumer does not listen")
    run = scalar_run(events=30)
    before = documents()
    publish(publisher, run.docs[:12])
    wait_until(lambda: documents() >= before + 12, lambda: "documents do not come")
    first.kill()
    first.join()
    second = new_consumer(ZmqSource(proxy.subscribers))
    join(publisher, second.source)
    publish(publisher, run.docs[12:])
    consume(second, lambda: run.uid in client and bool(client[run.uid].metadata.get("stop")))
    assert rows(client, run) == [*range(1, 31)]
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]


def test_events_that_are_lost_on_the_way_are_noted(
    client: Container, new_consumer: NewConsumer, new_publisher: NewPublisher
) -> None:
    run = scalar_run(events=10)
    lost = run.docs[5][1]["uid"].encode()
    with lossy_proxy(lambda message: lost in message) as (publishers, subscribers):
        consumer = new_consumer(ZmqSource(subscribers))
        publisher = new_publisher(publishers)
        join(publisher, consumer.source)
        publish(publisher, run.docs)
        consume(consumer, lambda: consumer.runs_stored == 1)
        assert rows(client, run) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert "primary" in str(client[run.uid].metadata.get("notes"))


def test_a_proxy_that_is_away_is_told_once_and_used_when_it_is_back(
    new_consumer: NewConsumer, new_publisher: NewPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bluesky_tiled_writer")
    proxy = BlueskyProxy()
    consumer = new_consumer(ZmqSource(proxy.subscribers))
    publisher = new_publisher(proxy.publishers)
    join(publisher, consumer.source)
    caplog.clear()  # perhaps the proxy was not there yet
    proxy.kill()
    consume(consumer, lambda: "what is published until it is back is lost" in caplog.text)
    proxy.start()
    join(publisher, consumer.source)
    publish(publisher, scalar_run().docs)
    consume(consumer, lambda: consumer.runs_stored == 1)
    assert caplog.text.count("0MQ: nobody is at") == 1
    assert caplog.text.count("0MQ: connected") == 1
    proxy.kill()


def test_a_proxy_may_ask_for_keys(
    client: Container, new_consumer: NewConsumer, new_publisher: NewPublisher, tmp_path: Path
) -> None:
    server, keys = make_keys(tmp_path)
    proxy = BlueskyProxy(server)
    consumer = new_consumer(ZmqSource(proxy.subscribers, curve=keys))
    publisher = new_publisher(proxy.publishers)
    join(publisher, consumer.source)
    run = scalar_run()
    publish(publisher, run.docs)
    consume(consumer, lambda: consumer.runs_stored == 1)
    assert rows(client, run) == [1, 2, 3]
    proxy.kill()


def test_what_cannot_work_is_told_at_once(tmp_path: Path, new_consumer: NewConsumer) -> None:
    with pytest.raises(TiledWriterError, match="space"):
        ZmqSource("localhost:5578", b"a b")
    consumer = new_consumer(ZmqSource("localhost:1"))
    with pytest.raises(TiledWriterError, match="no address"):
        ZmqSource("nowhere").open(consumer)
    _, keys = make_keys(tmp_path)
    keys.secret_path.unlink()
    with pytest.raises(TiledWriterError, match="keys"):
        ZmqSource("localhost:5578", curve=keys).open(consumer)
