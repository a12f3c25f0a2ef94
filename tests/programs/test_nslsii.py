"""nslsii: a profile of NSLS-II, with its metadata in Redis and its documents on Kafka, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults.tiled_process import KEY
from servers import wait_until
from tiled.client import from_uri
from tiled.client.container import Container
from tree import snapshot

from .beamline import Beamline

pytest.importorskip("bluesky_kafka", reason="needs bluesky-kafka")
pytest.importorskip("pexpect", reason="needs the extra 'programs'")

from confluent_kafka import Producer
from consumers.kafka_broker import KafkaBroker
from consumers.services import Service

from .queueserver import redis
from .terminal import Terminal

PROFILE = Path(__file__).parent / "nslsii_profile"
TOPIC = "tst.bluesky.runengine.documents"
RAW, COPY = "raw", "copy"
"""Containers: of the runs that the profile stores, and of those that come over Kafka."""

TIMEOUT = 60.0
"""s: more than the end of a session takes."""

TAGS = "tiled_access_tags"
EXPERIMENT: dict[str, Any] = {
    "data_session": "pass-123456",
    "username": "tester",
    "start_datetime": "2026-11-29T12:00:00",
    TAGS: ["pass-123456"],
    "cycle": "2026-3",
    "proposal": {"proposal_id": "123456", "title": "Rows", "type": "GU", "pi_name": "A. Tester"},
}
"""What ``sync-experiment`` leaves in Redis. The tags are for Tiled, and no metadata."""


@dataclass(frozen=True)
class Profile:
    """The profile's environment: Kafka, Redis, and a Tiled server that is down.

    Parameters
    ----------
    beamline : Beamline
        With the Tiled server.
    python : str
        Has nslsii.
    kafka : Path
        The configuration that nslsii and the consumer read.
    redis_port : int
        Of localhost.
    """

    beamline: Beamline
    python: str
    kafka: Path
    redis_port: int

    def session(self) -> Terminal:
        """Begin a session of IPython."""
        more = {
            "BLUESKY_KAFKA_CONFIG_PATH": str(self.kafka),
            "BLUESKY_LOG_FILE": str(self.log),
            "BLUESKY_IPYTHON_LOG_FILE": str(self.beamline.home / "ipython.log"),
            "MPLBACKEND": "Agg",
            "REDIS_PORT": str(self.redis_port),
            "TILED_BLUESKY_WRITING_API_KEY_TST": KEY,
            "TILED_URI": self.uri_of(RAW),
        }
        return Terminal(self.beamline, PROFILE, self.python, more)

    @property
    def log(self) -> Path:
        """Where nslsii lets bluesky and others log."""
        return self.beamline.home / "bluesky.log"

    def uri_of(self, container: str) -> str:
        """Return the address of a container in Tiled."""
        return f"{self.beamline.server.url}/api/v1/metadata/{container}"

    def consumer(self) -> Service:
        """Start to store what comes over Kafka."""
        to = f"{self.uri_of(COPY)}?api_key={KEY}"
        directory = self.beamline.home / "consumer"
        return Service(directory, "kafka", TOPIC, f"--to={to}", f"--config={self.kafka}")


@pytest.fixture
def profile(facilities: str, beamline: Beamline) -> Iterator[Profile]:
    with ExitStack() as stack:
        broker = stack.enter_context(KafkaBroker())
        Producer({"bootstrap.servers": broker.address}).list_topics(TOPIC)  # which makes it
        config = {
            "abort_run_on_kafka_exception": False,
            "bootstrap_servers": [broker.address],
            "runengine_producer_config": {"acks": 1, "linger.ms": 0},
        }
        path = beamline.home / "kafka.yml"
        path.write_text(json.dumps(config))  # which is YAML, too
        port = stack.enter_context(redis(beamline.home))
        yield Profile(beamline, facilities, path, port)


def number_of_stored(runs: Container) -> int:
    return sum("stop" in run.metadata for run in runs.values())


def test_a_profile_that_begins_before_tiled_does(profile: Profile) -> None:
    beamline = profile.beamline
    with profile.session() as terminal:
        assert "The profile went on to its last line." in terminal.greeting
        assert "Traceback" not in terminal.greeting
        assert "Traceback" not in terminal.enter(f"RE.md.update({EXPERIMENT})")
        assert "Traceback" not in terminal.enter("RE(count([det], 3))")
        assert "Traceback" not in terminal.enter("uid, = RE(scan([det], motor, -1, 1, 5))")
        assert "degraded" in terminal.enter("tw")

        beamline.server.start()
        client = from_uri(beamline.server.uri)
        with client.context:
            client.create_container(RAW)
        assert "True" in terminal.enter("tw.wait_for(uid, timeout=60)")
        assert "Traceback" not in terminal.exit(TIMEOUT)
    beamline.wait_for_runs("count", "scan", container=(RAW,))
    assert "Tiled cannot be reached yet" in profile.log.read_text()


def test_what_comes_over_kafka_is_what_the_profile_stores(profile: Profile) -> None:
    server = profile.beamline.server
    server.start()
    client = from_uri(server.uri)
    with client.context, profile.session() as terminal:
        runs, copies = client.create_container(RAW), client.create_container(COPY)
        terminal.enter(f"RE.md.update({EXPERIMENT})")
        terminal.enter("uids = [*RE(count([det], 3)), *RE(scan([det], motor, -1, 1, 5))]")
        consumer = profile.consumer()
        try:
            wait_until(lambda: number_of_stored(copies) == 2, consumer.log.read_text)
        finally:
            assert consumer.terminate() == 0
        assert {*runs} == {*copies}
        for uid, copied in copies.items():
            assert snapshot(copied) == snapshot(runs[uid])
            start = copied.metadata["start"]
            assert {name: start.get(name) for name in EXPERIMENT} == EXPERIMENT | {TAGS: None}
