"""``bluesky-tiled-writer consume``: a service that stores documents from a bus."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from bluesky_tiled_writer.consumers import Consumer, MessageSource, Monitor

from .options import ApiKey, MaxArraySize, PathMaps, To, pairs

consume = typer.Typer(
    no_args_is_help=True, help="Store documents that come over a bus, until it is stopped."
)


class LogFormat(Enum):
    """What a line of the log looks like."""

    TEXT = "text"
    JSON = "json"


Directory = Annotated[
    Path | None,
    typer.Option("--directory", help="For what is set aside.  [default: in the state directory]"),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="As for TiledWriter; 1 is live.")]
StatusPort = Annotated[
    int | None,
    typer.Option("--status-port", help="Answer /healthz, /status and /metrics there."),
]
StatusHost = Annotated[
    str, typer.Option("--status-host", help="The address for that; 0.0.0.0 for all.")
]
Format = Annotated[LogFormat, typer.Option("--log-format", help="Of the lines in the log.")]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds to store what is in hand after SIGTERM.")
]


@consume.command()
def kafka(
    topics: Annotated[
        list[str], typer.Argument(help="Topics, or patterns that begin with ^.", show_default=False)
    ],
    to: To,
    group: Annotated[
        str, typer.Option("--group", help="Consumers of one group share the runs.")
    ] = "bluesky-tiled-writer",
    brokers: Annotated[
        str | None, typer.Option("--brokers", metavar="HOST:PORT,...", help="Bootstrap servers.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="BLUESKY_KAFKA_CONFIG_PATH",
            help="File that nslsii reads.  [default: /etc/bluesky/kafka.yml]",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-X", metavar="KEY=VALUE", help="An option of librdkafka."),
    ] = None,
    api_key: ApiKey = None,
    batch_size: BatchSize = 10_000,
    max_array_size: MaxArraySize = 0,
    path_map: PathMaps = None,
    directory: Directory = None,
    status_port: StatusPort = None,
    status_host: StatusHost = "127.0.0.1",
    log_format: Format = LogFormat.TEXT,
    timeout: Timeout = 30.0,
) -> None:
    """Store the runs in topics of Kafka."""
    from bluesky_tiled_writer.consumers import KafkaSource, read_configuration

    found = {} if brokers and config is None else read_configuration(config)
    if brokers:
        found["bootstrap.servers"] = brokers
    found.update(pairs(option or [], "--option"))
    writer = _writer_options(api_key, batch_size, max_array_size, path_map)
    source = lambda: KafkaSource(topics, group, found)  # noqa: E731
    _serve(source, to, directory, writer, status_port, status_host, log_format, timeout)


def _writer_options(
    api_key: str | None, batch_size: int, max_array_size: int, path_map: list[str] | None
) -> dict[str, Any]:
    return {
        "api_key": api_key,
        "batch_size": batch_size,
        "max_array_size": max_array_size,
        "path_map": pairs(path_map or [], "--path-map"),
    }


def _serve(
    new_source: Callable[[], MessageSource],
    to: str,
    directory: Path | None,
    options: dict[str, Any],
    status_port: int | None,
    status_host: str,
    log_format: LogFormat,
    timeout: float,
) -> None:
    """Consume until SIGTERM or SIGINT."""
    _log_to_stderr(log_format)
    with ExitStack() as stack:
        consumer = Consumer(new_source(), to, directory=directory, **options)
        if status_port is not None:
            stack.enter_context(Monitor(consumer, status_port, status_host))

        def stop(number: int, frame: FrameType | None) -> None:
            consumer.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        consumer.run(timeout)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_to_stderr(log_format: LogFormat) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if log_format is LogFormat.JSON else text)
    ours = logging.getLogger("bluesky_tiled_writer")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
