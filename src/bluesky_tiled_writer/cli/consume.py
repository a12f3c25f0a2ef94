"""``bluesky-tiled-writer consume``: a service that stores documents from a bus."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_tiled_writer.consumers import MessageSource
from bluesky_tiled_writer.consumers import consume as run

from .options import ApiKey, MaxArraySize, PathMaps, To, pairs

consume = typer.Typer(
    no_args_is_help=True, help="Store documents that come over a bus, until it is stopped."
)


class LogFormat(Enum):
    """The form of a line in the log."""

    TEXT = "text"
    JSON = "json"


Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory", help="For what is set aside.", show_default="in the state directory"
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="As for TiledWriter; 1 is live.")]
StatusPort = Annotated[
    int | None,
    typer.Option("--status-port", help="Answer /healthz, /status and /metrics there."),
]
StatusHost = Annotated[
    str, typer.Option("--status-host", help="The address for that; 0.0.0.0 for all.")
]
JournalMaxBytes = Annotated[
    int | None,
    typer.Option("--journal-max-bytes", help="As for TiledWriter: beyond, the log has an error."),
]
Format = Annotated[LogFormat, typer.Option("--log-format", help="Of the lines in the log.")]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds to store what is in hand after SIGTERM.")
]


Made = tuple[MessageSource, dict[str, Any]]
"""The source of a bus, and options of the writer that only this bus has."""


def _serve(
    make: Callable[[], Made],
    to: To,
    *,
    api_key: ApiKey = None,
    batch_size: BatchSize = 10_000,
    max_array_size: MaxArraySize = 0,
    path_map: PathMaps = None,
    directory: Directory = None,
    journal_max_bytes: JournalMaxBytes = None,
    status_port: StatusPort = None,
    status_host: StatusHost = "127.0.0.1",
    log_format: Format = LogFormat.TEXT,
    timeout: Timeout = 30.0,
) -> None:
    """Consume until SIGTERM or SIGINT."""
    with _logging_to_stderr(log_format):
        source, options = make()
        run(
            source,
            to,
            directory=directory,
            status_port=status_port,
            status_host=status_host,
            timeout=timeout,
            api_key=api_key,
            batch_size=batch_size,
            max_array_size=max_array_size,
            path_map=pairs(path_map or [], "--path-map"),
            journal_max_bytes=journal_max_bytes,
            **options,
        )


def _with_options_of_consumers(make: Callable[..., Made]) -> Callable[..., None]:
    """Make a command of what makes the source of a bus: with its options, and those of `_serve`."""
    own = signature(make, eval_str=True).parameters
    _, *shared = signature(_serve, eval_str=True).parameters.values()
    together = [*own.values(), *shared]

    @wraps(make)
    def command(**given: Any) -> None:
        of_bus = {name: given.pop(name) for name in own}
        _serve(lambda: make(**of_bus), **given)

    by_name = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in together]
    command.__signature__ = Signature(by_name)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in together}
    return command


@consume.command()
@_with_options_of_consumers
def kafka(
    topics: Annotated[
        list[str], typer.Argument(help="Topics, or patterns that begin with ^.", show_default=False)
    ],
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
            help="File that nslsii reads.",
            show_default="/etc/bluesky/kafka.yml",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-X", metavar="KEY=VALUE", help="An option of librdkafka."),
    ] = None,
) -> Made:
    """Store the runs in topics of Kafka."""
    from bluesky_tiled_writer.consumers import KafkaSource, read_configuration

    found = {} if brokers and config is None else read_configuration(config)
    if brokers:
        found["bootstrap.servers"] = brokers
    found.update(pairs(option or [], "--option"))
    return KafkaSource(topics, group, found), {}


@consume.command()
@_with_options_of_consumers
def nats(
    servers: Annotated[
        list[str] | None,
        typer.Option("--server", help="nats://HOST:PORT; for each of a cluster."),
    ] = None,
    subject: Annotated[
        str, typer.Option("--subject", help="Prefix of the subjects; may have * and >.")
    ] = "events.volatile",
    stream: Annotated[
        str | None, typer.Option("--stream", help="By default the one that has the subject.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Of consumers of one name one reads, others stand by.")
    ] = "bluesky-tiled-writer",
    credentials: Annotated[
        Path | None, typer.Option("--credentials", help="File with the credentials of a user.")
    ] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="Of JetStream.")] = None,
) -> Made:
    """Store the runs in a stream of NATS JetStream."""
    from bluesky_tiled_writer.consumers import NatsSource

    options: dict[str, Any] = {"domain": domain}
    if credentials is not None:
        options["user_credentials"] = str(credentials)
    at = servers or ["nats://localhost:4222"]
    return NatsSource(at, subject, stream, name, **options), {}


@consume.command()
@_with_options_of_consumers
def zmq(
    address: Annotated[str, typer.Argument(help="Where the proxy sends: HOST:PORT or ipc://PATH.")],
    prefix: Annotated[
        str, typer.Option("--prefix", help="Of the publishers; by default any.")
    ] = "",
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            help="Unpickle documents, which runs whatever is in them: only where all who can"
            " reach the proxy may do that.",
        ),
    ] = False,
    curve_secret: Annotated[
        Path | None, typer.Option("--curve-secret", help="File with the secret key of this client.")
    ] = None,
    curve_server: Annotated[
        Path | None, typer.Option("--curve-server", help="File with the public key of the proxy.")
    ] = None,
    journal_directory: Annotated[
        Path | None,
        typer.Option(
            "--journal-directory",
            help="On a local disk, for what Tiled does not have yet; by default in the state"
            " directory.",
        ),
    ] = None,
) -> Made:
    """Store the runs that a proxy of 0MQ passes on."""
    from bluesky_tiled_writer.consumers import Curve, ZmqSource

    if (curve_secret is None) != (curve_server is None):
        raise typer.BadParameter("give both keys", param_hint="--curve-secret, --curve-server")
    curve = Curve(curve_secret, curve_server) if curve_secret and curve_server else None
    source = ZmqSource(address, prefix.encode(), allow_pickle=allow_pickle, curve=curve)
    journals = {} if journal_directory is None else {"journal_directory": journal_directory}
    return source, journals


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


@contextmanager
def _logging_to_stderr(log_format: LogFormat) -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if log_format is LogFormat.JSON else text)
    ours = logging.getLogger("bluesky_tiled_writer")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
