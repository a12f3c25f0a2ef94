"""Writers, their journals, and the line to their server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiled.client.container import Container
from tiled.client.context import Context

from .helpers import Line, MakeWriter, writers_of


@pytest.fixture
def line(tiled_client: Container) -> Iterator[Line]:
    line = Line(tiled_client)
    yield line
    line.hooks.remove(line._before)


@pytest.fixture
def make_writer(tiled_client: Container, journals: Path) -> Iterator[MakeWriter]:
    """Make writers with journals of their own; they are closed after the test."""
    with writers_of(tiled_client, journals) as make:
        yield make


@pytest.fixture(params=["app", "http"])
def any_client(request: pytest.FixtureRequest, app_context: Context) -> Container:
    """A client of an app in this process, and one over HTTP."""
    client: Container = request.getfixturevalue(
        {"app": "client", "http": "tiled_client"}[request.param]
    )
    return client
