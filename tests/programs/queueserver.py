"""The manager of bluesky-queueserver and its Redis, as processes of a test."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from servers import free_port, wait_until

from .beamline import PROFILE, Beamline
from .processes import program

PATIENCE = 5_000
"""ms: how long a request waits for the manager."""


@contextmanager
def redis(directory: Path) -> Iterator[int]:
    """Run a Redis server that keeps nothing on disk, and yield its port."""
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed, and CI must not skip these tests")
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [binary, f"--port {port}", "--bind 127.0.0.1", '--save ""', f"--dir {directory}"]
    log = directory / "redis.log"

    def answers() -> bool:
        with closing(socket.socket()) as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    with program(command, log, dict(os.environ)):
        wait_until(answers, log.read_text)
        yield port


class Manager:
    """What a person does with ``qserver``.

    Parameters
    ----------
    address : str
        Of the manager.
    log : Path
        What it and the environment print.
    """

    def __init__(self, address: str, log: Path) -> None:
        self._address = address
        self._log = log

    @classmethod
    @contextmanager
    def running(cls, beamline: Beamline) -> Iterator[Manager]:
        """Run Redis and the manager, with the start-up files of the profile."""
        home, control, info = beamline.home, free_port(), free_port()
        log = home / "manager.log"
        with ExitStack() as stack:
            port = stack.enter_context(redis(home))
            command = [
                str(Path(sys.executable).parent / "start-re-manager"),
                f"--startup-dir={PROFILE / 'startup'}",
                f"--existing-plans-devices={home / 'existing.yaml'}",
                f"--redis-addr=localhost:{port}",
                f"--zmq-control-addr=tcp://127.0.0.1:{control}",
                f"--zmq-info-addr=tcp://127.0.0.1:{info}",
            ]
            stack.enter_context(program(command, log, beamline.environment))
            manager = cls(f"tcp://127.0.0.1:{control}", log)
            wait_until(lambda: manager.ask("ping") is not None, log.read_text)
            yield manager

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any] | None:
        """Return the answer to a request; None if there is none."""
        with zmq.Context() as context, context.socket(zmq.REQ) as sock:
            sock.linger = 0
            sock.connect(self._address)
            sock.send_json({"method": method, "params": parameters})
            if not sock.poll(PATIENCE):
                return None
            answer: dict[str, Any] = sock.recv_json()
            return answer

    def do(self, method: str, **parameters: Any) -> None:
        """Have something done."""
        answer = self.ask(method, **parameters)
        assert answer is not None, f"{method}: no answer\n{self.printed}"
        assert answer["success"], f"{method}: {answer['msg']}"

    def add_plan(self, name: str, *args: Any, **kwargs: Any) -> None:
        item = {"item_type": "plan", "name": name, "args": args, "kwargs": kwargs}
        self.do("queue_item_add", item=item, user="tester", user_group="primary")

    def run_queue(self) -> None:
        """Start the queue, and wait until all of its plans are done."""
        self.do("queue_start")
        wait_until(self._is_done, self._log.read_text)

    def open_environment(self) -> None:
        self.do("environment_open")
        wait_until(lambda: self._has_environment(True), self._log.read_text)

    def close_environment(self) -> None:
        self.do("environment_close")
        wait_until(lambda: self._has_environment(False), self._log.read_text)

    def destroy_environment(self) -> None:
        """End the process of the environment, whatever it is doing."""
        self.do("environment_destroy")
        wait_until(lambda: self._has_environment(False), self._log.read_text)

    def _is_done(self) -> bool:
        status = self.ask("status") or {}
        return status.get("manager_state") == "idle" and status["items_in_queue"] == 0

    def _has_environment(self, there: bool) -> bool:
        status = self.ask("status") or {}
        return (
            status.get("manager_state") == "idle" and status["worker_environment_exists"] == there
        )
