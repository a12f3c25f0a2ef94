"""``consume nats`` and ``consume zmq``: their options, and what they do about SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from bluesky.callbacks.zmq import Publisher
from documents import RunBuilder, scalar_run
from faults.tiled_process import KEY
from servers import wait_until
from tiled.client import from_context
from tiled.client.container import Container
from typer.testing import CliRunner

from bluesky_tiled_writer.cli import app

from .stored import is_stored
from .zmq_proxies import BlueskyProxy

pytest.importorskip("bluesky_nats", reason="needs Python before 3.15")

from .nats_server import NatsServer, connected


@pytest.fixture
def client(context_on: Callable[[str], Any]) -> Container:
    return from_context(context_on("sqlite"))


@contextmanager
def command(client: Container, directory: Path, *arguments: str) -> Iterator[None]:
    """Run a command until the end of the block, and make sure that it ends well at SIGTERM."""
    started = [sys.executable, "-m", "bluesky_tiled_writer.cli", "consume", *arguments]
    to = ["--to", str(client.uri), "--api-key", KEY, "--directory", str(directory)]
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*started, *to], stderr=output)
        try:
            wait_until(lambda: "message" in log.read_text(), log.read_text)
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(60.0) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def test_nats(client: Container, tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    run, later = scalar_run(), scalar_run()
    arguments = ["nats", "--server", server.url, "--name", "here", "--log-format", "json"]
    with connected(server.url) as nats:
        nats.new_stream()
        with command(client, tmp_path, *arguments):
            nats.publish(run.docs)
            wait_until(lambda: is_stored(client, run), lambda: "the run is not stored")
            nats.publish(later.docs[:4])
        with command(client, tmp_path, *arguments):
            nats.publish(later.docs[4:])
            wait_until(lambda: is_stored(client, later), lambda: "the run is not stored")
    server.kill()


def test_zmq(client: Container, tmp_path: Path) -> None:
    proxy = BlueskyProxy()
    publisher = Publisher(proxy.publishers, prefix=b"bl1")
    publisher._socket.setsockopt(zmq.LINGER, 0)
    runs: list[RunBuilder] = []

    def is_one_stored() -> bool:
        """Some are published before there is a connection."""
        runs.append(scalar_run())
        for name, doc in runs[-1].docs:
            publisher(name, doc)
        return any(is_stored(client, run) for run in runs)

    arguments = ["zmq", proxy.subscribers, "--prefix", "bl1", "--allow-pickle"]
    journals = ["--journal-directory", str(tmp_path / "journals"), "--journal-max-bytes", "1"]
    with command(client, tmp_path, *arguments, *journals):
        wait_until(is_one_stored, lambda: "no run is stored")
        for name, doc in scalar_run().docs[:-1]:  # a run that stays open, and so its journal
            publisher(name, doc)
        told, log = "more than journal_max_bytes", tmp_path / "log"
        wait_until(lambda: told in log.read_text(), log.read_text)
        assert (tmp_path / "journals").exists()
    publisher.close()
    proxy.kill()


def test_one_key_is_not_enough(tmp_path: Path) -> None:
    arguments = ["consume", "zmq", "localhost:1", "--to", "http://x", "--curve-secret", "key"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "give both keys" in result.output
