"""The command `migrate`: its options, what it prints, and its exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bluesky_tiled_writer.errors import mapped_errors

from .migrate import WORKERS, Migration, MigrationReport
from .options import ApiKey, PathMaps, To, connected, pairs
from .output import complain, count
from .replay import TIMEOUT, Replay
from .reports import Outcome
from .run_filter import RunFilter
from .sources import RunSource, databroker_catalog, source_of

DATABROKER = "databroker:"
"""Begins a source that is the name of a catalog of databroker."""


def migrate(
    source: Annotated[
        str,
        typer.Argument(
            help="Address of a container in Tiled; databroker:NAME; a file of saved documents, or a"
            " directory of these."
        ),
    ],
    to: To,
    api_key: ApiKey = None,
    source_api_key: Annotated[
        str | None,
        typer.Option(envvar="TILED_SOURCE_API_KEY", show_envvar=True, help="That of the source."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs that started then or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs that started before.")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only runs whose start document meets it, such as plan_name=count; may be given"
            " more than once.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Runs, or files, that move at the same time.")
    ] = WORKERS,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare each run with its source afterwards.")
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Close runs without a stop document as interrupted.")
    ] = False,
    access_tags: Annotated[
        bool, typer.Option(help="Let runs from Tiled keep their access tags.")
    ] = True,
    max_array_size: Annotated[int, typer.Option(help="As for TiledWriter.")] = 0,
    path_map: PathMaps = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for a server that is down.")
    ] = TIMEOUT,
) -> None:
    """Move the runs of another catalog to Tiled.

    What Tiled has already is left alone: run the command again after any failure, and it goes on.
    The exit status is 0 if Tiled has all of the runs to their end.
    """
    maps = pairs(path_map or [], "--path-map")
    try:
        wanted = RunFilter.of(since, until, query or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with connected(to, api_key) as client, _opened(source, source_api_key) as opened:
        runs = source_of(opened, wanted, path_map=maps, access_tags=access_tags)
        to_tiled = Replay(
            client, finish=finish, timeout=timeout, path_map=maps, max_array_size=max_array_size
        )
        with _progress(runs) as advance:
            migration = Migration(runs, client, to_tiled, verify=verify, on_progress=advance)
            report = migration.run(workers)
    _print(report, verify)
    if report.error is not None:
        raise report.error
    raise typer.Exit(0 if report.complete else 1)


@contextmanager
def _opened(source: str, api_key: str | None) -> Iterator[Any]:
    """Open a source by what it is called."""
    if source.startswith(("http://", "https://")):
        with connected(source, api_key) as client:
            yield client
    elif source.startswith(DATABROKER):
        with mapped_errors("the request to connect"):
            catalog = databroker_catalog(source.removeprefix(DATABROKER))
        yield catalog
    else:
        yield Path(source)


@contextmanager
def _progress(source: RunSource) -> Iterator[Any]:
    """Show a bar on standard error, with the time that is left; nothing unless on a terminal."""
    console = Console(stderr=True)
    progress = Progress(
        BarColumn(),
        DownloadColumn() if source.in_bytes else MofNCompleteColumn(),
        *([] if source.in_bytes else [TextColumn("runs")]),
        TimeElapsedColumn(),
        TextColumn("left:"),
        # Runs differ in size: the estimate is from the last minutes, not from the last runs.
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=300.0,
    )
    with progress:
        task = progress.add_task("", total=source.total)
        yield lambda size: progress.advance(task, size)


def _print(report: MigrationReport, verified: bool) -> None:
    for run in report.incomplete:
        reason = run.reason or f"{count(run.refused, 'document')} of it cannot be stored"
        more = f" ({run.first_refusal})" if run.refused else ""
        typer.echo(f"{run.outcome.value:<14}  {run.uid}: {reason}{more}")
    for uid, differences in report.differences.items():
        typer.echo(f"{'different':<14}  {uid}:")
        for text in differences:
            typer.echo(f"  {text}")
    for problem in report.problems:
        complain(problem)
    parts = [f"{report.outcomes[outcome]} {outcome.value}" for outcome in Outcome]
    typer.echo(f"{count(report.outcomes.total(), 'run')}: {', '.join(parts)}.")
    if verified:
        typer.echo(
            f"{report.verified} compared row by row, {len(report.differences)} with differences."
        )
