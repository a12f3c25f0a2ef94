"""Documents from Kafka: topics, partitions and consumer groups."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from bluesky_tiled_writer.errors import TiledWriterError

from .source import Assignments, Message, Start, unpack_pair

logger = logging.getLogger("bluesky_tiled_writer")

CONFIGURATION = "BLUESKY_KAFKA_CONFIG_PATH"
DEFAULT_PATH = Path("/etc/bluesky/kafka.yml")
"""Where programs that publish, such as nslsii, have the configuration of the brokers."""

AT_ONCE = 500
"""Messages that are taken together."""
MEASURE_EVERY = 1.0
"""Seconds between two looks at how many messages there are."""
PATIENCE = 10.0
"""Seconds to wait for an answer of the brokers."""

_OF_PRODUCERS = frozenset(
    {
        "acks",
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "linger.ms",
        "message.send.max.retries",
        "message.timeout.ms",
        "partitioner",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "request.required.acks",
        "request.timeout.ms",
        "retries",
        "sticky.partitioning.linger.ms",
        "transaction.timeout.ms",
        "transactional.id",
    }
)

_OURS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A rebalance leaves to a consumer the partitions that it keeps.
    "partition.assignment.strategy": "cooperative-sticky",
}
_DEFAULTS = {
    "auto.offset.reset": "earliest",
    "queued.max.messages.kbytes": 16 * 1024,
}


def read_configuration(path: str | Path | None = None) -> dict[str, Any]:
    """Read the configuration of the brokers that bluesky's publishers use.

    Parameters
    ----------
    path : str or Path, optional
        A YAML file with ``bootstrap_servers`` and ``runengine_producer_config``; by default the one
        that the environment variable BLUESKY_KAFKA_CONFIG_PATH names, or /etc/bluesky/kafka.yml.

    Returns
    -------
    dict
        Options of confluent_kafka, without those that only producers have; empty if no path was
        given and there is no file.

    Raises
    ------
    TiledWriterError
        If the file cannot be read.
    """
    where = Path(path or os.environ.get(CONFIGURATION) or DEFAULT_PATH)
    if path is None and CONFIGURATION not in os.environ and not where.exists():
        return {}
    try:
        found = yaml.safe_load(where.read_text())
        producer = dict(found.get("runengine_producer_config") or {})
        servers = found.get("bootstrap_servers") or producer.get("bootstrap.servers", "")
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise TiledWriterError(
            f"{where} has no configuration of Kafka: {error}.",
            hint="It needs bootstrap_servers and, if they ask for a login,"
            " runengine_producer_config.",
        ) from error
    configuration = {key: value for key, value in producer.items() if key not in _OF_PRODUCERS}
    configuration["bootstrap.servers"] = servers if isinstance(servers, str) else ",".join(servers)
    return configuration


class KafkaSource:
    r"""Topics of Kafka, whose partitions the consumers of a group share.

    All documents of a run must be in one partition, in order: let publishers use the uid of the
    run as key (or one key for all). Values are msgpack, with numpy, of name and document, as
    bluesky-kafka sends them.

    Parameters
    ----------
    topics : iterable of str
        Names, or patterns that begin with ``^``:
        ``^.*\.bluesky\.runengine\.documents``.
    group : str
        Consumers of one group share the runs; each group gets them all.
    configuration : mapping, optional
        Options of confluent_kafka, such as ``bootstrap.servers``; by default as
        `read_configuration` finds them.
    """

    keeps = True

    def __init__(
        self,
        topics: Iterable[str],
        group: str = "bluesky-tiled-writer",
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = "Kafka"
        self._topics = list(topics)
        found = read_configuration() if configuration is None else dict(configuration)
        if "bootstrap.servers" not in found:
            raise TiledWriterError(
                "No broker of Kafka is known.",
                hint=f"Give `bootstrap.servers` (--brokers), or a file in {CONFIGURATION}.",
            )
        self._consumer = Consumer(
            {**_DEFAULTS, "group.id": group, **found, **_OURS, "error_cb": self._on_error},
            logger=logger,
        )
        self._assignments: Assignments | None = None
        self._assigned: dict[str, TopicPartition] = {}
        self._unknown: list[TopicPartition] = []  # assigned, but the brokers do not say from where
        self._closing = False
        self._paused = self._told = False
        self._lag: int | None = None
        self._next_measure = 0.0

    def open(self, assignments: Assignments) -> None:
        """Subscribe to the topics."""
        self._assignments = assignments
        self._consumer.subscribe(
            self._topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def receive(self, timeout: float) -> Sequence[Message]:
        """Return what has come."""
        if self._unknown:
            self._begin_unknown()
        if time.monotonic() >= self._next_measure:  # not when asked: other threads hang in this
            self._lag = self._measure_lag()
            self._next_measure = time.monotonic() + MEASURE_EVERY
        received = []
        for message in self._consumer.consume(AT_ONCE, timeout):
            error = message.error()
            if error is None:
                self._told = False
                name = _name(message.topic(), message.partition())
                data = message.value() or b""
                kind, milliseconds = message.timestamp()
                when = time.time() if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000
                received.append(Message(name, message.offset(), data, unpack_pair, when))
            elif error.fatal():
                raise KafkaException(error)
            else:
                self._on_error(error)
        return received

    def pause(self) -> None:
        """Receive nothing more, but stay in the group."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Receive messages again."""
        self._paused = False
        self._consumer.resume(
            [at for at in self._consumer.assignment() if _name_of(at) in self._assigned]
        )

    def commit(self, starts: Mapping[str, Start]) -> None:
        """Commit, in the background: a commit that is lost costs a little work."""
        self._commit(starts, asynchronous=True)

    def _commit(self, starts: Mapping[str, Start], *, asynchronous: bool) -> None:
        offsets = []
        for name, start in starts.items():
            if (assigned := self._assigned.get(name)) is not None:
                text = json.dumps({"seen": start.seen})
                topic, number = assigned.topic, assigned.partition
                offsets.append(TopicPartition(topic, number, start.offset, text))
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            logger.warning("Kafka: a commit failed, and is made again later: %s", error)

    def lag(self) -> int | None:
        """Return how many messages did not come yet, as far as the brokers have told."""
        return self._lag

    def _measure_lag(self) -> int | None:
        total = 0
        for assigned in list(self._assigned.values()):
            try:
                _, high = self._consumer.get_watermark_offsets(assigned, cached=True)
                (at,) = self._consumer.position([assigned])
            except (KafkaException, RuntimeError):
                return None
            if high > 0 and at.offset >= 0:
                total += max(0, high - at.offset)
        return total

    def close(self) -> None:
        """Leave the group, so that another consumer goes on at once."""
        self._closing = True
        try:
            self._consumer.close()
        except KafkaException as error:
            logger.warning("Kafka: the group was not left, and waits for this consumer: %s", error)

    # -- what the client calls in `receive` -----------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin where the group is. An exception here would end the client in a state of its own.

        Partitions of which that is not known wait: nothing comes from them until it is.
        """
        if (committed := self._committed(partitions)) is not None:
            self._begin(committed)
        else:
            self._unknown += partitions
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition] | None:
        if self._closing:  # they were assigned while the group is being left
            return None
        try:
            committed: list[TopicPartition] = self._consumer.committed(partitions, timeout=PATIENCE)
        except KafkaException as error:
            self._on_error(error.args[0])
            return None
        return None if any(at.error is not None for at in committed) else committed

    def _begin_unknown(self) -> None:
        if (committed := self._committed(self._unknown)) is not None:
            self._consumer.incremental_unassign(self._unknown)
            self._unknown = []
            self._begin(committed)
            if not self._paused:
                self._consumer.resume(committed)

    def _begin(self, committed: list[TopicPartition]) -> None:
        for at in committed:
            name = _name_of(at)
            if at.offset < 0:  # none yet; what is kept is taken from the beginning
                at.offset = OFFSET_BEGINNING
            self._assigned[name] = at
            if self._assignments is not None:
                self._assignments.assign(name, Start(max(0, at.offset), _seen(at.metadata)))
        self._consumer.incremental_assign(committed)
        if self._paused:
            self._consumer.pause(committed)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(self._let_go(partitions), asynchronous=False)
        self._unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Let go of what another consumer has already: there is nothing to commit."""
        self._let_go(partitions)
        self._unassign(partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> Mapping[str, Start]:
        names = [_name_of(at) for at in partitions]
        return {} if self._assignments is None else self._assignments.revoke(names)

    def _unassign(self, partitions: list[TopicPartition]) -> None:
        names = {_name_of(at) for at in partitions}
        for name in names:
            self._assigned.pop(name, None)
        self._unknown = [at for at in self._unknown if _name_of(at) not in names]
        self._consumer.incremental_unassign(partitions)

    def _on_error(self, error: KafkaError) -> None:
        if not self._told:
            self._told = True
            logger.warning("Kafka: %s. It goes on when the brokers answer.", error)


def _name(topic: str, partition: int) -> str:
    return f"{topic}[{partition}]"


def _name_of(at: TopicPartition) -> str:
    return _name(at.topic, at.partition)


def _seen(metadata: Any) -> int:
    try:
        return int(json.loads(metadata)["seen"])
    except (KeyError, TypeError, ValueError):
        return 0  # committed by another program
