"""Runs that bluesky-kafka publishes are stored, each row once, whatever is killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.plans import scan
from confluent_kafka import KafkaError, KafkaException, Producer
from documents import RunBuilder, data_key, scalar_run
from faults import LONG
from faults.tiled_process import TiledProcess
from ophyd.sim import det, motor
from servers import wait_until
from tiled.client import from_uri
from tiled.client.container import Container
from tree import read_arrow, stream_of, unless_busy

from bluesky_tiled_writer.consumers import Consumer, KafkaSource, kafka, read_configuration
from bluesky_tiled_writer.errors import TiledWriterError

from .kafka_broker import Beamline, KafkaBroker
from .services import Service
from .stored import is_stored, wait_stored

TOPIC = "bl01.bluesky.runengine.documents"
KILLS = 100 if LONG else 2
AWAY = 60.0 if LONG else 0.0
"""s: how long Tiled and the broker do not answer."""


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledProcess]:
    directory = tmp_path_factory.mktemp("tiled")
    with TiledProcess(directory, tmp_path_factory.getbasetemp(), "sqlite") as server:
        yield server


@pytest.fixture(scope="module")
def client(tiled: TiledProcess) -> Iterator[Container]:
    client = from_uri(tiled.uri)
    yield client
    client.context.close()


NewService = Callable[..., Service]


@pytest.fixture
def new_service(broker: KafkaBroker, tiled: TiledProcess, tmp_path: Path) -> Iterator[NewService]:
    with ExitStack() as stack:

        def new_service(topic: str, group: str = "") -> Service:
            service = Service(
                tmp_path / "consume",
                "kafka",
                topic,
                f"--to={tiled.uri}",
                f"--group={group or topic}",
                f"--brokers={broker.address}",
                "--batch-size=1",
                "-Xsession.timeout.ms=6000",
                "-Xheartbeat.interval.ms=500",
            )
            stack.callback(service.terminate)
            return service

        yield new_service


def takes_documents(service: Service) -> bool:
    return ((service.status() or {}).get("documents") or 0) > 0


def numbers(client: Container, run: RunBuilder) -> list[int]:
    """Return the seq_num of the rows that are stored."""
    try:
        table = stream_of(client, run.uid)["internal"]
    except KeyError:
        return []
    found: list[int] = read_arrow(table)["seq_num"].to_pylist()
    return found


def test_a_scan_is_stored(
    RE: RunEngine, broker: KafkaBroker, client: Container, new_service: NewService
) -> None:
    """With the RunEngine, and bluesky-kafka's own publisher, whose key is one for all."""
    service = new_service(TOPIC)
    publisher = broker.publisher(TOPIC, "bl01")
    RE.subscribe(publisher)
    (uid,) = RE(scan([det], motor, -1, 1, 5))
    publisher.flush()
    run = RunBuilder()
    run.uid = uid
    wait_stored(client, run)
    stream = client[uid]["primary"]
    assert stream.read()["motor"].values.tolist() == [-1, -0.5, 0, 0.5, 1]
    wait_until(
        lambda: service.tells(runs_stored=1, rows_stored=5, lag=0),
        "it does not say so",
        timeout=60.0,
    )
    assert service.terminate() == 0


def test_values_of_numpy_come_across(
    broker: KafkaBroker, client: Container, new_service: NewService
) -> None:
    run = RunBuilder()
    run.start(sample=np.float32(1.5))
    run.descriptor("primary", {"x": "number", "image": data_key("array", [2, 3])})
    images = np.arange(12.0).reshape(2, 2, 3)
    for image in images:
        run.event("primary", {"x": np.float64(1.5), "image": image})
    run.stop()
    topic = "numpy.documents"
    Beamline(broker, topic).publish(run)
    new_service(f"^.*{topic}")
    wait_stored(client, run)
    assert (stream_of(client, run.uid)["image"].read() == images).all()


def test_each_row_is_there_once_whenever_the_consumer_is_killed(
    broker: KafkaBroker, client: Container, new_service: NewService
) -> None:
    """Two consumers share the partitions; one of them is killed, and replaced, again and again."""
    topic = "killed.documents"
    beamline = Beamline(broker, topic)
    services = [new_service(topic), new_service(topic)]
    runs: list[RunBuilder] = []
    for _ in range(KILLS):
        new = [scalar_run(events=random.randint(1, 60)) for _ in range(4)]
        runs += new
        cut = [random.randint(1, len(run.docs)) for run in new]
        for run, at in zip(new, cut, strict=True):
            beamline.publish(run, run.docs[:at])
        if random.random() < 0.5:  # in the middle of them, if it gets any, or at once
            with suppress(TimeoutError):
                wait_until(lambda: takes_documents(services[0]), "", timeout=15.0)
        if random.random() < 0.8:
            services.pop(0).kill()
        else:  # as systemd does
            services.pop(0).terminate()
        services.append(new_service(topic))
        for run, at in zip(new, cut, strict=True):
            beamline.publish(run, run.docs[at:])
    # Each consumer may leave runs to the next one, which has to ask whether somebody writes them.
    wait_stored(client, *runs, timeout=600.0 if LONG else 90.0)
    for run in runs:
        events = sum(name == "event" for name, _ in run.docs)
        assert numbers(client, run) == [*range(1, events + 1)]
        assert not client[run.uid].metadata.get("notes")
    for service in services:
        assert not any("set aside" in text for text in service.messages)


def test_tiled_and_the_broker_may_go_away(
    broker: KafkaBroker, client: Container, new_service: NewService, tiled: TiledProcess
) -> None:
    topic = "away.documents"
    beamline = Beamline(broker, topic)
    service = new_service(topic)
    first, second, third = (scalar_run(events=20) for _ in range(3))
    beamline.publish(first)
    wait_stored(client, first)
    tiled.kill()
    beamline.publish(second, second.docs[:10])
    wait_until(lambda: service.tells(runs_open=1), "nothing comes", timeout=60.0)
    beamline.publish(third)
    time.sleep(AWAY)  # Tiled alone
    with broker.away():
        time.sleep(AWAY)  # both
        tiled.start()
        time.sleep(AWAY)  # the broker alone
    wait_until(
        lambda: unless_busy(lambda: numbers(client, second)) == [*range(1, 9)],
        "the rows are not stored",
        timeout=60.0,
    )
    beamline.publish(second, second.docs[10:])
    wait_stored(client, second, third)
    assert numbers(client, second) == numbers(client, third) == [*range(1, 21)]


def test_a_partition_waits_until_the_brokers_say_where_the_group_is(
    broker: KafkaBroker,
    client: Container,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may go away just when a consumer joins; from anywhere else it would lose documents."""
    topic, run, left = "unknown.documents", scalar_run(events=5), [True] * 9

    class Forgetful(confluent_kafka.Consumer):
        def committed(self, *args: Any, **kwargs: Any) -> Any:
            if left:
                left.pop()
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return super().committed(*args, **kwargs)

    monkeypatch.setattr(kafka, "Consumer", Forgetful)
    Beamline(broker, topic).publish(run)
    source = KafkaSource([topic], topic, {"bootstrap.servers": broker.address})
    consumer = Consumer(source, client, directory=tmp_path)
    source.open(consumer)
    deadline = time.monotonic() + 60.0
    while left:
        assert time.monotonic() < deadline, "no partition is assigned"
        consumer.step()
        assert consumer.documents == 0
        source.pause()
        source.resume()  # what is known, which is nothing
    while consumer.step() or not is_stored(client, run):
        assert time.monotonic() < deadline, "it is not stored"
    consumer.close()
    assert numbers(client, run) == [*range(1, 6)]


def test_a_message_that_is_no_document_does_not_stop_the_rest(
    broker: KafkaBroker, client: Container, new_service: NewService
) -> None:
    topic = "poison.documents"
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    run = scalar_run()
    producer.produce(topic, b"\xc1 poison", key=run.uid)
    producer.flush()
    Beamline(broker, topic).publish(run)
    service = new_service(topic)
    wait_stored(client, run)
    (line,) = (service.directory / "set-aside" / "messages.jsonl").read_text().splitlines()
    assert topic in line


def test_the_configuration_of_publishers_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nslsii reads it; options that only producers have are left out."""
    path = tmp_path / "kafka.yml"
    path.write_text(
        """
abort_run_on_kafka_exception: true
bootstrap_servers:
  - kafka1.example.org:9092
  - kafka2.example.org:9092
runengine_producer_config:
  security.protocol: SASL_SSL
  sasl.username: beamline
  acks: 0
  message.timeout.ms: 3000
  compression.codec: snappy
"""
    )
    monkeypatch.setenv("BLUESKY_KAFKA_CONFIG_PATH", str(path))
    assert read_configuration() == {
        "bootstrap.servers": "kafka1.example.org:9092,kafka2.example.org:9092",
        "security.protocol": "SASL_SSL",
        "sasl.username": "beamline",
    }
    path.write_text("[")
    with pytest.raises(TiledWriterError, match="bootstrap_servers"):
        read_configuration()
    with pytest.raises(TiledWriterError, match="No broker"):
        KafkaSource(["topic"], configuration={})
