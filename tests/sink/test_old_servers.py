"""Runs on a Tiled server before 0.2.11, which knows neither an order of rows nor ragged nodes.

``nox -s old_servers`` installs one; `OLD_TILED` is the Python that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import multi_user
import pytest
from documents import RunBuilder, data_key, emit
from servers import Storage, app_config, free_port, is_healthy, wait_until
from tiled.client import from_uri
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter

PYTHON = os.environ.get("OLD_TILED", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="needs the Python of an older Tiled")


@contextmanager
def old_server(directory: Path, sql_uri: str, **more: Any) -> Iterator[str]:
    """Run an older server in a process of its own, with more configuration; yield its URL."""
    config = app_config(Storage("", directory, sql_uri))
    config.pop("media_types", None)  # of bluesky-tiled-plugins, which is not installed there
    arguments = config["trees"][0]["args"]
    arguments |= {"uri": f"sqlite:///{directory / 'catalog.db'}", **more.pop("catalog", {})}
    (directory / "config.yml").write_text(json.dumps(config | more))
    url, log = f"http://127.0.0.1:{(port := free_port())}", directory / "log"
    serve = ["serve", "config", str(directory / "config.yml"), "--port", str(port)]
    with log.open("wb") as output:
        tiled = [PYTHON, "-m", "tiled"]
        subprocess.run([*tiled, "catalog", "init", arguments["uri"]], check=True, stderr=output)
        process = subprocess.Popen([*tiled, *serve], stdout=output, stderr=output)
    try:
        wait_until(
            lambda: process.poll() is not None or is_healthy(url),
            lambda: f"the Tiled server does not answer:\n{log.read_text()}",
        )
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def old_client(
    tmp_path_factory: pytest.TempPathFactory, database: str, request: pytest.FixtureRequest
) -> Iterator[Container]:
    """A client of an older server."""
    directory = tmp_path_factory.mktemp("old")
    sql_uri = f"{database}:///{directory / 'tables.db'}"
    if database == "postgresql":
        sql_uri = request.getfixturevalue("postgresql_uri")
    key = {"single_user_api_key": "secret"}
    with old_server(directory, sql_uri, authentication=key) as url:
        client = from_uri(f"{url}/api/v1?api_key=secret")
        yield client
        client.context.close()


def test_a_run_is_stored_and_read(old_client: Container, database: str) -> None:
    run = RunBuilder()
    run.start()
    kinds = {"x": "number", "wave": data_key("array", [2]), "varying": data_key("array", [None])}
    run.descriptor("primary", kinds)
    for i in range(20):
        run.event("primary", {"x": i, "wave": [i, 0.5], "varying": [1.5] * (i % 3)})
    run.stop()
    with TiledWriter(old_client, batch_size=1) as writer:
        for position, document in enumerate(run.docs):
            emit([document], writer)
            if position % 7 == 0:
                assert writer.flush(60.0)
        assert writer.wait_for(run.uid, 60.0)

    stored = old_client[run.uid]
    assert "stop" in stored.metadata
    notes = stored.metadata["notes"]
    assert any("does not sort" in note for note in notes) == (database == "postgresql")
    assert any("its arrays are text, as JSON" in note for note in notes)
    dataset = stored["primary"].read().sortby("time")
    assert dataset["x"].values.tolist() == list(range(20))
    assert dataset["wave"].values.tolist() == [[i, 0.5] for i in range(20)]
    assert list(map(json.loads, dataset["varying"].values)) == [[1.5] * (i % 3) for i in range(20)]


TAGS = """
import sqlite3, sys
from tiled.access_control.access_tags import create_access_tags_tables, update_access_tags_tables
path, owner, reader, *scopes = sys.argv[1:]
tags = {"public": {}, "root": {owner: scopes, reader: scopes}, "visit": {owner: scopes}}
with sqlite3.connect(path) as connection:
    create_access_tags_tables(connection)
    update_access_tags_tables(connection, scopes, tags, {"visit": [owner]}, ["public"])
"""
"""Defines access tags, as servers before 0.2.19 keep them."""


def test_access_tags_reach_a_server_that_knows_them_by_another_name(tmp_path: Path) -> None:
    tags = tmp_path / "tags.db"
    scopes = [*multi_user.WRITING, *multi_user.DELETING]
    subprocess.run([PYTHON, "-c", TAGS, str(tags), "bob", "carol", *scopes], check=True)
    policy = {
        "access_policy": "tiled.access_control.access_policies:TagBasedAccessPolicy",
        "args": {
            "provider": multi_user.PROVIDER,
            "tags_db": {"uri": f"file:{tags}"},
            "access_tags_parser": "tiled.access_control.access_tags:AccessTagsParser",
        },
    }
    run = RunBuilder()
    run.start(tiled_access_tags=["visit"])
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    run.event("primary", {"x": 1.5, "wave": [1, 2]})
    run.stop()
    with (
        old_server(
            tmp_path,
            f"sqlite:///{tmp_path / 'tables.db'}",
            catalog={"top_level_access_blob": {"tags": ["root"]}},
            authentication=multi_user.AUTHENTICATION,
            database={"uri": f"sqlite:///{tmp_path / 'users.db'}", "init_if_not_exists": True},
            access_control=policy,
        ) as url,
        multi_user.client_of(url, "bob", scopes) as bob,
        multi_user.client_of(url, "carol") as carol,
    ):
        with TiledWriter(bob) as writer:
            emit(run.docs, writer)
            assert writer.wait_for(run.uid, 60.0)
        stream = stream_of(bob, run.uid)
        for node in (bob[run.uid], stream, stream["internal"], stream["wave"]):
            assert node.item["attributes"]["access_blob"] == {"tags": ["visit"]}
        assert run.uid not in carol
