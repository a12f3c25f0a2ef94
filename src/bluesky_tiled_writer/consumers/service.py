"""A consumer as a program: it runs until a signal ends it, and answers who asks how it goes."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bluesky_tiled_writer.delivery import on_signals

from .consumer import Consumer
from .monitor import Monitor
from .source import MessageSource

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def consume(
    source: MessageSource,
    client: Any,
    *,
    directory: str | Path | None = None,
    status_port: int | None = None,
    status_host: str = "127.0.0.1",
    timeout: float = 30.0,
    **options: Any,
) -> None:
    """Store the documents that come over a bus, until SIGTERM or SIGINT.

    In another thread than the main one, which alone gets signals, use `Consumer` and its `stop`.

    Parameters
    ----------
    source, client, directory, **options
        As for `Consumer`.
    status_port, status_host : int, str
        Where health, status and metrics are told, see `Monitor`; by default nowhere.
    timeout : float
        Seconds at the end to store what is in hand.
    """
    consumer = Consumer(source, client, directory=directory, **options)
    with ExitStack() as stack:
        if status_port is not None:
            stack.enter_context(Monitor(consumer, status_port, status_host))
        stack.enter_context(on_signals(_SIGNALS, consumer.stop))
        consumer.run(timeout)
