"""``bluesky-tiled-writer check``: does a server do all that a run needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from tiled.client import from_uri

from bluesky_tiled_writer.consolidators import PathMap
from bluesky_tiled_writer.errors import mapped_errors
from bluesky_tiled_writer.journal import Finding, Grade, check_journals
from bluesky_tiled_writer.sink import Preflight

from .options import ApiKey, PathMaps, pairs


def check(
    uri: Annotated[str, typer.Argument(help="Address of the container that is to get the runs.")],
    api_key: ApiKey = None,
    files: Annotated[
        Path | None,
        typer.Option("--files", metavar="DIR", help="Directory of detector files, to try one."),
    ] = None,
    path_map: PathMaps = None,
    journal_directory: Annotated[
        Path | None,
        typer.Option(
            "--journal-directory", help="Of the writer.", show_default="as for TiledWriter"
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", help="Events a second, for the length of an outage.")
    ] = 1000.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Try what a run needs, before the first one, and delete it again.

    The exit status is 0 if there is no problem; there may be warnings.
    """
    found: list[Finding] = []
    try:
        with mapped_errors("the request to connect"):
            client = from_uri(uri, api_key=api_key)
    except Exception as error:
        hint = str(getattr(error, "hint", ""))
        found.append(Finding("server", Grade.PROBLEM, str(error.args[0]), hint))
    else:
        with client.context:
            found += Preflight(client, PathMap(pairs(path_map or [], "--path-map"))).check(files)
    found += check_journals(journal_directory or "default", rate)
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in found], indent=1))
    else:
        for finding in found:
            typer.echo(str(finding))
    raise typer.Exit(1 if any(finding.grade is Grade.PROBLEM for finding in found) else 0)
