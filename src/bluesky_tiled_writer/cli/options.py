"""Options that several commands share, and the connection to a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from tiled.client import from_uri

from bluesky_tiled_writer.errors import mapped_errors

To = Annotated[str, typer.Option("--to", metavar="URI", help="Address of the container in Tiled.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="TILED_API_KEY", show_envvar=True, help="API key of the server."
    ),
]
MaxArraySize = Annotated[int, typer.Option("--max-array-size", help="As for TiledWriter.")]
PathMaps = Annotated[
    list[str] | None,
    typer.Option(
        "--path-map", metavar="FROM=TO", help="As for TiledWriter; may be given more than once."
    ),
]


Journals = Annotated[
    Path | None,
    typer.Option(
        "--journal-directory", help="Directory of the journals.", show_default="as for TiledWriter"
    ),
]


@contextmanager
def connected(uri: str, api_key: str | None) -> Iterator[Any]:
    """Connect to a container in Tiled, and close the connection at the end."""
    with mapped_errors("the request to connect"):
        client = from_uri(uri, api_key=api_key)
    try:
        yield client
    finally:
        client.context.close()


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """Return what ``KEY=VALUE`` texts say.

    Raises
    ------
    typer.BadParameter
        If one of them is something else.
    """
    found = {}
    for text in texts:
        left, equals, right = text.partition("=")
        if not (left and equals and right):
            raise typer.BadParameter(f"{text!r} is not FROM=TO", param_hint=option)
        found[left] = right
    return found
