"""``bluesky-tiled-writer check``: does a server do all that a run needs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.errors import TiledWriterError
from bluesky_tiled_writer.journal import Finding, Grade, check_journals
from bluesky_tiled_writer.sink import Preflight

from .options import ApiKey, Journals, PathMaps, connected, pairs


def check(
    uri: Annotated[str, typer.Argument(help="Address of the container that is to get the runs.")],
    api_key: ApiKey = None,
    files: Annotated[
        Path | None,
        typer.Option("--files", metavar="DIR", help="Directory of detector files, to try one."),
    ] = None,
    path_map: PathMaps = None,
    journal_directory: Journals = None,
    rate: Annotated[
        float, typer.Option("--rate", help="Events a second, for the length of an outage.")
    ] = 1000.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Try what a run needs, before the first one, and delete it again.

    The exit status is 0 if there is no problem; there may be warnings.
    """
    found: list[Finding] = []
    maps = PathMap(pairs(path_map or [], "--path-map"))
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connected(uri, api_key))
        except TiledWriterError as error:
            found.append(Finding("server", Grade.PROBLEM, str(error.args[0]), error.hint))
        else:
            found += Preflight(client, maps).check(files)
    found += check_journals(journal_directory or "default", rate)
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in found], indent=1))
    else:
        for finding in found:
            typer.echo(str(finding))
    raise typer.Exit(1 if any(finding.grade is Grade.PROBLEM for finding in found) else 0)
