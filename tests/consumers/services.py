"""``bluesky-tiled-writer consume`` in processes that can be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from servers import free_port


class Service:
    """A consumer in a process of its own.

    Attributes
    ----------
    log : Path
        What it logs, one JSON object a line.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        directory.mkdir(exist_ok=True)
        self.port = free_port()
        self.log = directory / f"log-{self.port}"
        self.directory = directory
        options = [
            f"--directory={directory}",
            f"--status-port={self.port}",
            "--log-format=json",
        ]
        self._output = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bluesky_tiled_writer", "consume", *arguments, *options],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )

    def status(self) -> dict[str, Any] | None:
        """Return what it tells of itself; None if it does not answer."""
        assert self.process.poll() is None, self.log.read_text()
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as answer,
        ):
            status: dict[str, Any] = json.load(answer)
            return status
        return None

    def tells(self, **expected: Any) -> bool:
        """Return True if it tells this of itself."""
        status = self.status() or {}
        return all(status.get(name) == value for name, value in expected.items())

    @property
    def messages(self) -> list[str]:
        """What it has logged."""
        return [json.loads(line)["message"] for line in self.log.read_text().splitlines()]

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._output.close()

    def terminate(self) -> int:
        """Let it end, as systemd does; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self._output.close()
        return status
