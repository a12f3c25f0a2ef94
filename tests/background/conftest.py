"""Writers, their journals, and the line to their server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiled.client.container import Container
from tiled.client.context import Context

from bluesky_tiled_writer import TiledWriter

from .helpers import LONG_AGO, Line, MakeWriter


@pytest.fixture
def line(tiled_client: Container) -> Iterator[Line]:
    line = Line(tiled_client)
    yield line
    line.hooks.remove(line._before)


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    return tmp_path / "journals"


@pytest.fixture
def make_writer(tiled_client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers with journals of their own; they are closed after the test."""
    made: list[TiledWriter] = []

    def make(client: Container = tiled_client, **options: Any) -> TiledWriter:
        options = {"journal_directory": journals, "flush_interval": LONG_AGO} | options
        made.append(TiledWriter(client, **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close(timeout=5.0)


@pytest.fixture(params=["app", "http"])
def any_client(request: pytest.FixtureRequest, app_context: Context) -> Container:
    """A client of an app in this process, and one over HTTP."""
    client: Container = request.getfixturevalue(
        {"app": "client", "http": "tiled_client"}[request.param]
    )
    return client
