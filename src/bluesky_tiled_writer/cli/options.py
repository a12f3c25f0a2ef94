"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

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
