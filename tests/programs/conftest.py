"""A beamline for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.tiled_process import TiledProcess

from .beamline import Beamline


@pytest.fixture
def beamline(tmp_path: Path) -> Iterator[Beamline]:
    """A beamline whose Tiled server is down."""
    for name in ("server", "home"):
        (tmp_path / name).mkdir()
    server = TiledProcess(tmp_path / "server", tmp_path, "sqlite")
    yield Beamline(server, tmp_path / "home")
    server.kill()


@pytest.fixture
def facilities() -> str:
    """The Python of an environment that has apsbits and nslsii, which pin and bring much."""
    if python := os.environ.get("FACILITIES"):
        return python
    return pytest.skip("FACILITIES names no Python: nox -s programs does it")
