"""What an operator sees of a consumer: health, status and metrics, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from .consumer import Consumer

STUCK = 60.0
"""Seconds without a pass of the loop after which a consumer is not healthy."""


class Monitor:
    """Answers ``/healthz``, ``/status`` (JSON) and ``/metrics`` (text for Prometheus).

    Parameters
    ----------
    consumer : Consumer
        What they tell of.
    port : int
        0 for any that is free.
    host : str
        Address to listen at; "0.0.0.0" for all of this machine.

    Attributes
    ----------
    port : int
        Where it listens.
    """

    def __init__(self, consumer: Consumer, port: int, host: str = "127.0.0.1") -> None:
        self._consumer = consumer
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor._answer(self)

            def log_message(self, *args: Any) -> None:
                """Log nothing: Prometheus asks every few seconds."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="monitor", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        code, kind = 200, "application/json"
        path = request.path.partition("?")[0]
        if path == "/healthz":
            healthy = self.healthy
            code, text = (200 if healthy else 503), json.dumps({"healthy": healthy})
        elif path == "/status":
            text = json.dumps(self.status())
        elif path == "/metrics":
            kind, text = "text/plain; version=0.0.4; charset=utf-8", self.metrics()
        else:
            code, text = 404, json.dumps({"paths": ["/healthz", "/status", "/metrics"]})
        body = text.encode()
        request.send_response(code)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @property
    def healthy(self) -> bool:
        """True if messages are being taken; Tiled may be down, which `status` tells."""
        return time.monotonic() - self._consumer.last_pass < STUCK

    def status(self) -> dict[str, Any]:
        """Return what there is to know, ready for JSON."""
        consumer, status = self._consumer, self._consumer.status
        return {
            "bus": consumer.source.name,
            "state": status.state,
            "paused": consumer.paused,
            "documents": consumer.documents,
            "rows_stored": status.rows_stored,
            "runs_open": consumer.open_runs,
            "runs_stored": consumer.runs_stored,
            "lag": consumer.source.lag(),
            "pending_rows": status.pending_rows,
            "pending_bytes": status.pending_bytes,
            "oldest": round(status.oldest, 3),
            "server_down": status.server_down,
            "waiting_for": dict(status.waiting_for),
            "set_aside": {
                "messages": consumer.set_aside.messages,
                "runs": consumer.set_aside.runs,
                "directory": str(consumer.set_aside.directory),
            },
            "last_error": None if status.last_error is None else str(status.last_error),
        }

    def metrics(self) -> str:
        """Return the figures of `status` as Prometheus reads them."""
        now = self.status()
        lines = []
        for name, kind, what, value in (
            ("documents_total", "counter", "Documents that came.", now["documents"]),
            ("rows_total", "counter", "Rows that were sent to Tiled.", now["rows_stored"]),
            ("runs_total", "counter", "Runs stored to their end.", now["runs_stored"]),
            ("open_runs", "gauge", "Runs that are not stored yet.", now["runs_open"]),
            ("lag", "gauge", "Messages that the bus has and that did not come.", now["lag"]),
            ("pending_rows", "gauge", "Rows in memory.", now["pending_rows"]),
            ("pending_bytes", "gauge", "Bytes of the rows in memory.", now["pending_bytes"]),
            ("oldest_seconds", "gauge", "Since all that came was stored.", now["oldest"]),
            ("paused", "gauge", "1 if nothing is taken from the bus.", int(now["paused"])),
            ("server_down", "gauge", "1 if Tiled does not answer.", int(now["server_down"])),
            (
                "messages_set_aside_total",
                "counter",
                "Messages that cannot be stored.",
                now["set_aside"]["messages"],
            ),
            (
                "runs_set_aside_total",
                "counter",
                "Runs that Tiled refuses.",
                now["set_aside"]["runs"],
            ),
        ):
            if value is None:
                continue
            full = f"bluesky_tiled_writer_{name}"
            lines += [f"# HELP {full} {what}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return "\n".join(lines) + "\n"
