"""Health, status and metrics over HTTP, for programs that watch."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Protocol, Self

from .status import Status

logger = logging.getLogger("bluesky_tiled_writer")

LOOK_EVERY = 0.5
"""Seconds between two looks whether there is still something to tell of."""

PATIENCE = 10.0
"""Seconds within which a request has to come over a connection."""


@dataclass(frozen=True)
class Figure:
    """A number, as Prometheus collects it.

    Parameters
    ----------
    name : str
        Its name, below that of this package.
    kind : str
        "counter" for what only grows, "gauge" for anything else.
    text : str
        What it counts.
    value : float, optional
        None if it is not known.
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    value: float | None

    def __str__(self) -> str:
        full = f"bluesky_tiled_writer_{self.name}"
        return f"# HELP {full} {self.text}\n# TYPE {full} {self.kind}\n{full} {self.value}\n"


@dataclass(frozen=True)
class Report:
    """The health, status and figures of one moment.

    Parameters
    ----------
    facts : dict
        Ready for JSON.
    figures : sequence of Figure
        Those of them that are numbers.
    """

    facts: dict[str, Any]
    figures: Sequence[Figure]


def facts_of(status: Status) -> dict[str, Any]:
    """Return what a status says, ready for JSON."""
    journals = status.journals
    return {
        "state": status.state,
        "rows_stored": status.rows_stored,
        "pending_rows": status.pending_rows,
        "pending_bytes": status.pending_bytes,
        "oldest": round(status.oldest, 3),
        "server_down": status.server_down,
        "waiting_for": dict(status.waiting_for),
        "journals": None
        if journals is None
        else {
            "directory": str(journals.path),
            "bytes": journals.nbytes,
            "max_bytes": journals.most,
            "free_bytes": journals.free,
            "fraction": round(journals.fraction, 3),
        },
        "last_error": None if status.last_error is None else str(status.last_error),
    }


def figures_of(status: Status) -> list[Figure]:
    """Return the numbers of a status."""
    journals = status.journals
    taken = None if journals is None else journals.nbytes
    fraction = None if journals is None else round(journals.fraction, 4)
    login = int(status.state == "login")
    return [
        Figure("rows_total", "counter", "Rows that were sent to Tiled.", status.rows_stored),
        Figure("pending_rows", "gauge", "Rows in memory.", status.pending_rows),
        Figure("pending_bytes", "gauge", "Bytes of the rows in memory.", status.pending_bytes),
        Figure("oldest_seconds", "gauge", "Since all that came was stored.", status.oldest),
        Figure("server_down", "gauge", "1 if Tiled does not answer.", int(status.server_down)),
        Figure("login_refused", "gauge", "1 if Tiled does not take the login.", login),
        Figure("journal_bytes", "gauge", "Bytes of the journals in the directory.", taken),
        Figure("journal_room_used", "gauge", "Part of the room for journals in use.", fraction),
    ]


class StatusServer:
    """Answers ``/healthz``, ``/status`` (JSON) and ``/metrics`` (text for Prometheus).

    Parameters
    ----------
    report : callable
        Returns what is to be told now.
    port : int
        0 for any that is free.
    host : str
        Address to listen at.
    is_over : callable, optional
        Returns True when there is nothing to tell any more.
    is_healthy : callable, optional
        Returns False if there is no use in waiting.

    Attributes
    ----------
    port : int
        Where it listens.
    """

    def __init__(
        self,
        report: Callable[[], Report],
        port: int,
        host: str,
        is_over: Callable[[], bool] = lambda: False,
        is_healthy: Callable[[], bool] = lambda: True,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def do_GET(self) -> None:
                _answer(self, report, is_healthy)

            def log_message(self, *args: Any) -> None:
                """Log nothing: Prometheus asks every few seconds."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._server.timeout = LOOK_EVERY
        self._is_over = is_over
        self._closed = threading.Event()
        self.port = int(self._server.server_address[1])
        name = "bluesky-tiled-writer-monitor"
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._server:
            while not (self._closed.is_set() or self._is_over()):
                self._server.handle_request()

    def close(self) -> None:
        """Answer no more."""
        self._closed.set()
        self._thread.join()


def _answer(
    request: BaseHTTPRequestHandler, report: Callable[[], Report], is_healthy: Callable[[], bool]
) -> None:
    code, kind = 200, "application/json"
    path = request.path.partition("?")[0]
    if path == "/healthz":
        healthy = is_healthy()
        code, text = (200 if healthy else 503), json.dumps({"healthy": healthy})
    elif path == "/status":
        text = json.dumps(report().facts)
    elif path == "/metrics":
        kind = "text/plain; version=0.0.4; charset=utf-8"
        text = "".join(str(figure) for figure in report().figures if figure.value is not None)
    else:
        code, text = 404, json.dumps({"paths": ["/healthz", "/status", "/metrics"]})
    body = text.encode()
    request.send_response(code)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class _HasStatus(Protocol):
    @property
    def status(self) -> Status: ...


class WriterMonitor:
    """Answers programs that watch a writer: ``/healthz``, ``/status`` and ``/metrics``.

    It ends with the writer, which it does not keep from being dropped. A port that is taken, as by
    another session, costs a warning in the log, and not the start of a session.

    Parameters
    ----------
    writer : TiledWriter
        What they tell of.
    port : int
        0 for any that is free.
    host : str
        Address to listen at; "0.0.0.0" for all of this machine.

    Attributes
    ----------
    port : int or None
        Where it listens; None if it could not.
    """

    def __init__(self, writer: _HasStatus, port: int, host: str = "127.0.0.1") -> None:
        source = writer.status.source
        assert source is not None, "only the status of a writer can be told again"
        self._server = None
        try:
            now = source.now
            self._server = StatusServer(lambda: _report(now()), port, host, source.is_over)
        except OSError as error:
            text = "Nobody can watch the writer at %s:%s: %s. Is another session watched there?"
            logger.warning(text, host, port, error.strerror or error)
        self.port = None if self._server is None else self._server.port

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _report(status: Status) -> Report:
    states = [run.state for run in status.by_run]
    runs = [
        {
            "uid": run.uid,
            "state": run.state,
            "streams": dict(run.streams),
            "rows_stored": run.rows_stored,
            "rows_waiting": run.rows_waiting,
            "documents_waiting": run.documents_waiting,
            "age": round(run.age, 3),
            "waits_for": run.waits_for,
        }
        for run in status.by_run
    ]
    facts = {"time": time.time(), **facts_of(status), "set_aside": dict(status.set_aside)}
    figures = [
        *figures_of(status),
        Figure("open_runs", "gauge", "Runs that are not stored yet.", status.runs),
        Figure("runs_behind", "gauge", "Runs stored from disk.", states.count("behind")),
        Figure("runs_waiting", "gauge", "Runs that may not be sent.", len(status.waiting_for)),
        Figure("runs_set_aside", "gauge", "Runs that Tiled refuses.", len(status.set_aside)),
    ]
    return Report({**facts, "runs": runs}, figures)
