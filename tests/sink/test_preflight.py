"""What is found before the first run, on real servers, and that nothing is left there."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.tiled_process import TiledProcess
from tiled.client import from_context, from_uri
from tiled.client.container import Container
from typer.testing import CliRunner

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.cli import app
from bluesky_tiled_writer.journal import Finding, Grade, check_journals
from bluesky_tiled_writer.sink import Preflight, preflight

NEEDED = [
    "server",
    "clock",
    "exporter",
    "login",
    "container",
    "table",
    "database of tables",
    "order of rows",
    "array",
    "detector files",
    "live subscription",
    "validator",
    "delete",
]


def by_subject(found: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in found}


@pytest.mark.plugins
def test_all_is_well_on_a_server_that_can_do_it(
    storage_client: Container, database: str, tmp_path: Path
) -> None:
    before = set(storage_client)
    found = Preflight(storage_client).check(tmp_path)
    assert [finding.subject for finding in found] == NEEDED
    grades = {finding.subject: finding.grade for finding in found}
    expected = dict.fromkeys(NEEDED, Grade.OK)
    if database == "duckdb":  # which readers of growing tables may end
        expected["database of tables"] = Grade.WARNING
    assert grades == expected
    assert set(storage_client) == before
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_server_cannot_read_is_a_problem(
    context_on: Callable[[str], Any], tmp_path: Path
) -> None:
    """It is somewhere else there."""
    client = from_context(context_on("sqlite"))
    elsewhere = lambda uri: (uri.replace(str(tmp_path), "/nowhere"), True)  # noqa: E731
    found = by_subject(Preflight(client, elsewhere).check(tmp_path))
    assert found["detector files"].grade is Grade.PROBLEM
    assert found["delete"].grade is Grade.OK


def test_without_a_container_nothing_else_is_tried(http_server: str) -> None:
    client = from_uri(http_server)
    with client.context:
        client.context.http_client.headers["Authorization"] = "Apikey wrong"
        found = by_subject(Preflight(client).check())
    assert found["container"].grade is Grade.PROBLEM
    assert "table" not in found


def test_a_server_without_a_streaming_cache_cannot_tell_subscribers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LIVE_PATIENCE", 0.2)  # nothing comes, however long one waits
    with TiledProcess(tmp_path, tmp_path, "sqlite", streaming=False) as server:
        client = from_uri(server.uri)
        with client.context:
            found = by_subject(Preflight(client).check())
    assert found["live subscription"].grade is Grade.WARNING


def test_the_directory_of_journals_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = by_subject(check_journals(tmp_path / "journals"))
    assert {finding.grade for finding in good.values()} == {Grade.OK}
    (tmp_path / "file").touch()
    (bad,) = check_journals(tmp_path / "file" / "journals")
    assert bad.grade is Grade.PROBLEM
    (none,) = check_journals(None)
    assert none.grade is Grade.WARNING
    little = by_subject(check_journals(tmp_path, events_a_second=1e12))
    assert little["room for an outage"].grade is Grade.WARNING
    monkeypatch.setattr("bluesky_tiled_writer.journal.findings.file_system", lambda path: "nfs4")
    assert by_subject(check_journals(tmp_path))["journal"].grade is Grade.WARNING


def test_the_command_prints_a_line_each_and_its_status_says_whether_there_is_a_problem(
    http_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    directory = f"--journal-directory={tmp_path}"
    result = CliRunner().invoke(app, ["check", http_server, directory])
    assert result.exit_code == 0, result.output
    assert "\nok       table: Can be made, grow, and be read.\n" in result.output
    result = CliRunner().invoke(app, ["check", http_server, directory, "--json"])
    subjects = [finding["subject"] for finding in json.loads(result.stdout)]
    assert subjects[0] == "server"
    assert subjects[-1] == "room for an outage"
    result = CliRunner().invoke(app, ["check", "http://127.0.0.1:1/api/v1", directory])
    assert result.exit_code == 1
    assert "problem  server: No answer" in result.output


def test_a_writer_checks_its_own_container(http_server: str, journals: Path) -> None:
    with TiledWriter.from_uri(http_server, journal_directory=journals) as writer:
        found = by_subject(writer.check())
        writer.client.context.close()
    assert found["array"].grade is Grade.OK
    assert str(journals) in found["journal"].text
