"""Readers that poll while rows come in, of a server such as our demo, tutorials and fixtures have.

On DuckDB they may end the server, and rows are lost that it said were stored.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from documents import RunBuilder, data_key
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter

from . import LONG
from .polling import Readers, local_server

SCAN = 60.0 if LONG else 3.0
"""s"""
PACE = 0.02
"""s between events."""


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def test_readers_may_poll_during_a_scan(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, journals: Path
) -> None:
    if database == "postgresql":
        database = request.getfixturevalue("postgresql_uri")
    run = RunBuilder()
    opening = [
        run.start(),
        run.descriptor(
            "primary",
            {"n": "integer", "a": data_key("array", [4], dtype_numpy="<f8")},
        ),
    ]
    rows = 0
    with (
        local_server(tmp_path, database) as (uri, server),
        Readers(uri, run.uid, tmp_path) as readers,
        TiledWriter(from_uri(uri), journal_directory=journals, flush_interval=0.05) as writer,
    ):
        for name, doc in opening:
            writer(name, doc)
        end = time.monotonic() + SCAN
        while time.monotonic() < end:
            writer(*run.event("primary", {"n": rows, "a": [float(rows)] * 4}))
            rows += 1
            time.sleep(PACE)
        writer(*run.stop())
        reports = readers.stop()
        assert writer.wait_for(run.uid)
        assert server.is_alive()
        stored = writer.client[run.uid]["primary"]["internal/events"].read()
        writer.client.context.close()
    assert list(stored["n"]) == list(range(rows))
    assert [(report.rows, report.errors) for report in reports] == [(rows, [])] * 3
    assert "Traceback" not in (tmp_path / "server" / "server.log").read_text()
