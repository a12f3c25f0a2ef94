"""Runs on a Tiled server before 0.2.11, which knows neither an order of rows nor ragged nodes.

``nox -s old_servers`` installs one; `OLD_TILED` is the Python that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from documents import RunBuilder, data_key, emit
from servers import Storage, app_config, free_port, is_healthy, wait_until
from tiled.client import from_uri
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

PYTHON = os.environ.get("OLD_TILED", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="needs the Python of an older Tiled")


@pytest.fixture(scope="module")
def old_client(
    tmp_path_factory: pytest.TempPathFactory, database: str, request: pytest.FixtureRequest
) -> Iterator[Container]:
    """A client of an older server in a process of its own."""
    directory = tmp_path_factory.mktemp("old")
    sql_uri = f"{database}:///{directory / 'tables.db'}"
    if database == "postgresql":
        sql_uri = request.getfixturevalue("postgresql_uri")
    config = app_config(Storage(database, directory, sql_uri))
    config.pop("media_types", None)  # of bluesky-tiled-plugins, which is not installed there
    config["trees"][0]["args"]["uri"] = catalog = f"sqlite:///{directory / 'catalog.db'}"
    config["authentication"] = {"single_user_api_key": "secret"}
    (directory / "config.yml").write_text(json.dumps(config))
    url, log = f"http://127.0.0.1:{(port := free_port())}", directory / "log"
    serve = ["serve", "config", str(directory / "config.yml"), "--port", str(port)]
    with log.open("wb") as output:
        tiled = [PYTHON, "-m", "tiled"]
        subprocess.run([*tiled, "catalog", "init", catalog], check=True, stderr=output)
        process = subprocess.Popen([*tiled, *serve], stdout=output, stderr=output)
    try:
        wait_until(
            lambda: process.poll() is not None or is_healthy(url),
            lambda: f"the Tiled server does not answer:\n{log.read_text()}",
        )
        client = from_uri(f"{url}/api/v1?api_key=secret")
        yield client
        client.context.close()
    finally:
        process.kill()
        process.wait()


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
