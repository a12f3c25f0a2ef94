"""The health, status and metrics of a consumer, over HTTP."""

from __future__ import annotations

import time
from typing import Any, Self

from bluesky_tiled_writer.delivery import Figure, Report, StatusServer, facts_of, figures_of

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
        self._server = StatusServer(self._report, port, host, is_healthy=lambda: self.healthy)
        self.port = self._server.port

    def close(self) -> None:
        """Answer no more."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def healthy(self) -> bool:
        """True if messages are being taken; Tiled may be down, which `status` tells."""
        return time.monotonic() - self._consumer.last_pass < STUCK

    def status(self) -> dict[str, Any]:
        """Return what there is to know, ready for JSON."""
        return self._report().facts

    def _report(self) -> Report:
        consumer, status = self._consumer, self._consumer.status
        lag, aside = consumer.source.lag(), consumer.set_aside
        facts = {
            "bus": consumer.source.name,
            "paused": consumer.paused,
            "documents": consumer.documents,
            "runs_open": consumer.open_runs,
            "runs_stored": consumer.runs_stored,
            "lag": lag,
            "set_aside": {
                "messages": aside.messages,
                "runs": aside.runs,
                "directory": str(aside.directory),
            },
        }
        figures = [
            Figure("documents_total", "counter", "Documents that came.", consumer.documents),
            Figure("runs_total", "counter", "Runs stored to their end.", consumer.runs_stored),
            Figure("open_runs", "gauge", "Runs that are not stored yet.", consumer.open_runs),
            Figure("lag", "gauge", "Messages that the bus has and that did not come.", lag),
            Figure("paused", "gauge", "1 if nothing is taken from the bus.", int(consumer.paused)),
            Figure(
                "messages_set_aside_total",
                "counter",
                "Messages that cannot be stored.",
                aside.messages,
            ),
            Figure("runs_set_aside_total", "counter", "Runs that Tiled refuses.", aside.runs),
        ]
        return Report(facts | facts_of(status), figures_of(status) + figures)
