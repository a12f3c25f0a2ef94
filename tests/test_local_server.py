"""The server of our demo, tutorials and fixtures."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from documents import emit, scalar_run
from tiled.client import from_uri
from tiled.server.settings import get_settings
from tree import stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.local_server import LocalServer


def start(directory: Path | None = None) -> LocalServer:
    """Start a server with the key of all apps of this process."""
    return LocalServer(directory, api_key=get_settings().single_user_api_key)


def test_what_is_stored_is_there_for_the_next_server_of_the_directory(
    tmp_path: Path, journals: Path
) -> None:
    run = scalar_run()
    with start(tmp_path / "new") as server:
        client = from_uri(server.uri)
        with TiledWriter(client, journal_directory=journals) as writer:
            emit(run.docs, writer)
            assert writer.wait_for(run.uid)
        client.context.close()
        assert str(server.port) in server.web_ui_link
        assert server.uri in repr(server)
    with closing(sqlite3.connect(tmp_path / "new" / "tables.db")) as tables:
        assert tables.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with start(tmp_path / "new") as server:
        client = from_uri(server.uri)
        node = stream_of(client, run.uid)["internal"]
        assert list(node.read()["n"]) == [0, 1, 2]
        assert urlsplit(node.data_sources()[0].assets[0].data_uri).scheme == "sqlite"
        client.context.close()


def test_temporary_storage_is_removed_at_the_end() -> None:
    server = start()
    assert (server.directory / "tables.db").exists()
    server.close()
    assert not server.directory.exists()
    server.close()  # once more does no harm


def test_a_server_that_cannot_start_says_so(tmp_path: Path) -> None:
    with start(tmp_path) as server, pytest.raises(RuntimeError, match="did not start"):
        LocalServer(tmp_path, api_key=server.api_key, port=server.port)  # which is taken
