"""The service of blueapi, from an environment of its own: its pins exclude ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from faults.tiled_process import KEY
from servers import free_port, wait_until

from .beamline import Beamline
from .processes import program

HOME = Path(__file__).parent / "blueapi_home"
INSTRUMENT = "i00"


def container_of(visit: str) -> tuple[str, ...]:
    """Return the path of the container that blueapi makes for a visit."""
    return INSTRUMENT, visit.split("-")[0], visit


class Service:
    """A service that runs one task at a time, each with a client and a writer of its own.

    Parameters
    ----------
    url : str
        Of its REST API.
    log : Path
        What it prints.
    """

    def __init__(self, url: str, log: Path) -> None:
        self._http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)
        self._log = log

    @classmethod
    @contextmanager
    def running(cls, blueapi: str, beamline: Beamline) -> Iterator[Service]:
        """Run the service; at the end it is killed."""
        url = f"http://127.0.0.1:{free_port()}"
        sources = [{"kind": "planFunctions", "module": "beamline_plans"}]
        config = {
            "api": {"url": url},
            "env": {"metadata": {"instrument": INSTRUMENT}, "sources": sources},
            "tiled": {"enabled": True, "url": beamline.server.url, "authentication": KEY},
        }
        path = beamline.home / "blueapi.yaml"
        path.write_text(json.dumps(config))  # which is YAML, too
        log = beamline.home / "blueapi.log"
        environment = beamline.environment | {"PYTHONPATH": str(HOME)}
        with program([blueapi, f"--config={path}", "serve"], log, environment):
            service = cls(url, log)
            with service._http:
                wait_until(service._is_ready, log.read_text)
                yield service

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def begin(self, visit: str, **parameters: Any) -> str:
        """Begin to count in a visit, and return the id of the task."""
        task = {"name": "count", "params": parameters, "instrument_session": visit}
        (task_id,) = [v for k, v in self._ask("POST", "/tasks", task).items() if k == "task_id"]
        self._ask("PUT", "/worker/task", {"task_id": task_id})
        return str(task_id)

    def wait(self, task_id: str) -> None:
        """Wait until a task is over, without errors."""
        wait_until(lambda: self._task(task_id)["is_complete"], self._log.read_text)
        assert self._task(task_id)["errors"] == []

    def _task(self, task_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/tasks/{task_id}")

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, f"{answer.status_code} {answer.text}\n{self.printed}"
        result: dict[str, Any] = answer.json()
        return result

    def _is_ready(self) -> bool:
        try:
            answer = self._http.get("/plans")
        except httpx.TransportError:
            return False
        return answer.is_success and "count" in answer.text
