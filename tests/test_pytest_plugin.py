"""The fixtures that this package gives to the test suites of others."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

BEAMLINE_TESTS = """
import threading

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import pytest
from bluesky.utils import RunEngineInterrupted
from ophyd.sim import SynAxis


def test_a_plan_is_stored(RE, tiled_client):
    (uid,) = RE(bp.scan([], SynAxis(name="motor"), -5, 5, 10))
    table = tiled_client[uid]["primary"].base["internal"].read()
    assert list(table["motor"]) == pytest.approx([-5 + 10 * i / 9 for i in range(10)])


def test_a_plan_may_be_left_paused(RE):
    def plan():
        yield from bps.open_run()
        yield from bps.pause()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())


def test_the_engines_of_earlier_tests_are_gone(tiled_writer):
    assert "bluesky-run-engine" not in {thread.name for thread in threading.enumerate()}


def test_the_server_can_be_used_without_an_engine(tiled_client):
    tiled_client.create_container("by-hand")
    assert "by-hand" in tiled_client
"""


POSTGRESQL_CONFTEST = """
import os

import pytest


@pytest.fixture(scope="session")
def tiled_database():
    return os.environ["TEST_POSTGRESQL"]
"""

DATABASE_TEST = """
from urllib.parse import urlsplit

import bluesky.plans as bp
from ophyd.sim import SynAxis


def test_tables_are_in_the_database(RE, tiled_client, tiled_database):
    (uid,) = RE(bp.scan([], SynAxis(name="motor"), 0, 1, 3))
    (source,) = tiled_client[uid]["primary"].base["internal"].data_sources()
    (asset,) = source.assets
    assert urlsplit(asset.data_uri).scheme == urlsplit(tiled_database).scheme == "postgresql"
"""


class Outcomes:
    """Collects the outcome of each test of a suite that runs inside of a test."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[-1]
        if report.when == "call" or not report.passed:
            self.by_name[name] = report.outcome


def run_suite(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the test files in a directory; return the outcome of each test."""
    # In this process, because a new one would import Tiled's server again, for many seconds.
    # Not with pytester, which afterwards unloads all modules that its suite was first to import:
    # extension modules cannot be loaded twice.
    monkeypatch.chdir(directory)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    outcomes = Outcomes()
    arguments = ["-W", "error", "-p", "no:cacheprovider", f"--basetemp={directory / 'inner'}"]
    files = sorted(path.name for path in directory.glob("test_*.py"))
    gc.collect()  # what tests before this one left to the garbage collector
    status = pytest.main([*arguments, *files], plugins=[outcomes])
    assert status == 0
    return list(outcomes.by_name.values())


def test_a_beamline_package_has_the_fixtures_without_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_beamline.py").write_text(BEAMLINE_TESTS)
    assert run_suite(tmp_path, monkeypatch) == ["passed"] * 4


@pytest.mark.postgresql
def test_a_beamline_package_may_choose_the_database(
    postgresql_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POSTGRESQL", postgresql_uri)
    (tmp_path / "conftest.py").write_text(POSTGRESQL_CONFTEST)
    (tmp_path / "test_database.py").write_text(DATABASE_TEST)
    assert run_suite(tmp_path, monkeypatch) == ["passed"]


def test_a_suite_that_uses_no_fixture_imports_nothing_heavy() -> None:
    program = """
import sys
import bluesky_tiled_writer.pytest_plugin
print(*sys.modules.keys() & {"bluesky", "numpy", "pyarrow", "tiled"})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
