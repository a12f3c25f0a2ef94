"""The process of the experiment is killed: Tiled gets each document whose call had returned."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

from . import LONG
from .acquisition import PATIENCE, Acquisition, recovery, wait_for
from .conftest import MakeWriter
from .proxy import Proxy
from .runs import FaultRun, assert_exactly_once, differences, expected, stored
from .tiled_process import TiledProcess, uri_of

Begin = Callable[..., Acquisition]


@pytest.fixture
def begin(server: TiledProcess, journals: Path, tmp_path: Path) -> Begin:
    """Write a run in a process of its own."""

    def begin(run: FaultRun, pace: float, uri: str = server.uri) -> Acquisition:
        return Acquisition(uri, journals, run.docs, tmp_path / "returned", pace)

    return begin


SEEDS = range(100) if LONG else (1, 2, 4, 7)
"""The few are kills at each pace, early and late."""


@pytest.mark.parametrize("seed", SEEDS)
def test_documents_whose_calls_had_returned_are_stored_once_after_a_kill(
    client: Container, begin: Begin, make_writer: MakeWriter, journals: Path, frames: str, seed: int
) -> None:
    random = Random(seed)
    run = FaultRun(frames, rows=random.randint(3, 30))
    with begin(run, pace=random.choice([0.0, 0.002, 0.02])) as acquisition:
        acquisition.wait_for_returned(random.randint(1, len(run.docs) - 1))
        time.sleep(random.expovariate(1 / 0.02))

    recover(make_writer(client))

    assert_stored_up_to(client, run, acquisition.returned)
    assert_all_done(journals)


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_a_kill_while_the_end_of_the_run_is_being_stored_loses_and_repeats_nothing(
    client: Container, begin: Begin, make_writer: MakeWriter, journals: Path, frames: str, seed: int
) -> None:
    random = Random(seed)
    run = FaultRun(frames, rows=random.randint(3, 30))
    with begin(run, pace=0.0) as acquisition:
        acquisition.wait_for_returned(len(run.docs) - 1)
        time.sleep(random.uniform(0.0, 0.5))

    recover(make_writer(client))

    assert_stored_up_to(client, run, acquisition.returned)
    assert_all_done(journals)


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_a_kill_far_from_the_server_loses_and_repeats_nothing(
    proxy: Proxy,
    client: Container,
    begin: Begin,
    make_writer: MakeWriter,
    journals: Path,
    frames: str,
    seed: int,
) -> None:
    """Some of its requests arrive after its end."""
    random = Random(seed)
    run = FaultRun(frames, rows=random.randint(3, 30))
    proxy.delay = 0.1
    with begin(run, pace=0.0, uri=uri_of(proxy.url)) as acquisition:
        acquisition.wait_for_returned(len(run.docs) - 1)
        time.sleep(random.uniform(0.0, 1.5))

    recover(make_writer())

    assert_stored_up_to(client, run, acquisition.returned)
    assert_all_done(journals)


def test_a_process_that_is_killed_while_the_server_is_away_loses_nothing(
    proxy: Proxy,
    client: Container,
    begin: Begin,
    make_writer: MakeWriter,
    journals: Path,
    frames: str,
) -> None:
    run = FaultRun(frames, rows=10)
    with begin(run, pace=0.01, uri=uri_of(proxy.url)) as acquisition:
        acquisition.wait_for_returned(12)
        proxy.go_away()
        acquisition.wait_for_returned(30)
    proxy.come_back()

    recover(make_writer())

    assert_stored_up_to(client, run, acquisition.returned)
    assert_all_done(journals)


def test_a_new_writer_finishes_the_runs_of_a_killed_one_by_itself(
    client: Container, begin: Begin, make_writer: MakeWriter, journals: Path, run: FaultRun
) -> None:
    with begin(run, pace=0.01) as acquisition:
        acquisition.wait_for_returned(12)

    make_writer(client)
    wait_for(lambda: list(journals.iterdir()) == [])

    assert_stored_up_to(client, run, acquisition.returned)


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_a_recovery_that_is_killed_is_taken_up_by_the_next(
    proxy: Proxy,
    client: Container,
    begin: Begin,
    make_writer: MakeWriter,
    journals: Path,
    tmp_path: Path,
    frames: str,
    seed: int,
) -> None:
    random = Random(seed)
    uri = uri_of(proxy.url)
    run = FaultRun(frames, rows=20)
    with begin(run, pace=0.005, uri=uri) as acquisition:
        acquisition.wait_for_returned(random.randint(5, len(run.docs) - 5))
    proxy.delay = 0.02
    (tmp_path / "go").touch()

    for _ in range(3 if LONG else 2):
        with recovery(uri, journals, tmp_path, "it"):
            time.sleep(random.uniform(0.0, 0.5))
    proxy.wait_until_idle()
    recover(make_writer())

    assert_stored_up_to(client, run, acquisition.returned)
    assert_all_done(journals)


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_two_processes_that_recover_at_once_store_a_run_once(
    proxy: Proxy,
    client: Container,
    begin: Begin,
    journals: Path,
    tmp_path: Path,
    frames: str,
    seed: int,
) -> None:
    random = Random(seed)
    uri = uri_of(proxy.url)
    run = FaultRun(frames, rows=20)
    with begin(run, pace=0.005, uri=uri) as acquisition:
        acquisition.wait_for_returned(random.randint(5, len(run.docs) - 5))
    proxy.clear()
    proxy.delay = 0.02

    with (
        recovery(uri, journals, tmp_path, "one") as one,
        recovery(uri, journals, tmp_path, "another") as another,
    ):
        (tmp_path / "go").touch()
        one.join(PATIENCE)
        another.join(PATIENCE)
        assert (one.exitcode, another.exitcode) == (0, 0)

    assert_stored_up_to(client, run, acquisition.returned)
    assert_all_done(journals)


def test_the_run_of_a_process_that_lives_is_left_to_it(
    client: Container, begin: Begin, make_writer: MakeWriter, journals: Path, run: FaultRun
) -> None:
    with begin(run, pace=0.03) as acquisition:
        acquisition.wait_for_returned(10)
        assert make_writer(client).recover(timeout=PATIENCE) == []
        assert acquisition.returned < len(run.docs), "too late to tell"
        acquisition.process.join(PATIENCE)
        assert acquisition.process.exitcode == 0

    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(journals)


def recover(writer: TiledWriter) -> None:
    recoveries = writer.recover(timeout=PATIENCE)
    assert all(recovery.stored for recovery in recoveries), recoveries


def assert_stored_up_to(client: Container, run: FaultRun, returned: int) -> None:
    """Assert that Tiled holds what was returned for, with or without the document under way."""
    held = stored(client, run.uid)
    if held != expected(run.docs[: returned + 1]):
        found = list(differences(held, expected(run.docs[:returned])))
        assert not found, "\n".join([f"of {returned} documents, Tiled holds", *found])


def assert_all_done(journals: Path) -> None:
    assert list(journals.iterdir()) == []
