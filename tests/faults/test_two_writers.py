"""Two processes that have the documents of one run: Tiled gets each row once, whoever is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.sink import ownership

from . import LONG
from .acquisition import PATIENCE, Rival, wait_for
from .cases import assert_all_done
from .runs import FaultRun, assert_exactly_once
from .tiled_process import TiledProcess

SHORT = {"PATIENCE": 3.0, "REST": 1.0, "GRACE": 0.7}
"""s: instead of those of the sink, which the tests would wait for."""


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in SHORT.items():
        monkeypatch.setattr(ownership, name, seconds)


@pytest.fixture
def rivals(server: TiledProcess, tmp_path: Path) -> Iterator[list[Rival]]:
    """Two processes, each with its own journals, that write a run when they are told to."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Rival(server.uri, tmp_path / name, SHORT)) for name in ("a", "b")
        ]


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_two_processes_that_begin_at_once_store_a_run_once(
    client: Container, rivals: list[Rival], frames: str, seed: int
) -> None:
    random = Random(seed)
    run = FaultRun(frames, rows=random.randint(3, 40))
    for rival in rivals:
        rival.begin(run.docs, random.choice([0.0, 0.002, 0.02]))

    for rival in rivals:
        rival.join()

    assert_exactly_once(client, run.uid, run.docs)
    for rival in rivals:
        assert_all_done(rival.journals)
    # One waited for the other, and neither found what it had not written.
    log = "".join(rival.log for rival in rivals)
    assert "from the first row" not in log, log
    assert "comes and goes" not in log, log
    assert "missing in Tiled" not in log, log


@pytest.mark.parametrize("seed", range(40 if LONG else 2))
def test_the_other_one_stores_the_run_when_either_is_killed(
    client: Container, rivals: list[Rival], frames: str, seed: int
) -> None:
    random = Random(seed)
    run = FaultRun(frames, rows=random.randint(3, 40))
    paces = [random.choice([0.0, 0.005, 0.03]) for _ in rivals]
    for rival, pace in zip(rivals, paces, strict=True):
        rival.begin(run.docs, pace)
    victim, survivor = random.sample(rivals, 2)
    victim.wait_for_returned(random.randint(1, len(run.docs)))
    time.sleep(random.expovariate(1 / 0.2))
    victim.kill()

    survivor.join()

    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(survivor.journals)
    with TiledWriter(client, journal_directory=victim.journals) as writer:
        recoveries = writer.recover(timeout=PATIENCE)
    assert all(recovery.stored for recovery in recoveries), recoveries
    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(victim.journals)


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_a_recovery_beside_a_replay_stores_a_run_once(
    client: Container, rivals: list[Rival], frames: str, seed: int
) -> None:
    random = Random(seed)
    run = FaultRun(frames, rows=random.randint(10, 40))
    dead, replay = rivals
    dead.begin(run.docs, 0.01)
    dead.wait_for_returned(len(run.docs) - 1)
    time.sleep(random.uniform(0.0, 0.3))
    dead.kill()
    replay.begin(run.docs, 0.0)
    time.sleep(random.uniform(0.0, 4.0))

    with TiledWriter(client, journal_directory=dead.journals) as writer:
        replay.join()
        wait_for(lambda: writer.recover(timeout=PATIENCE) == [] or dead.is_clean)

    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(dead.journals)
    assert_all_done(replay.journals)


@pytest.mark.parametrize("part", (1, 2, 3) if LONG else (2,))
def test_a_scan_that_rests_finds_that_its_run_was_taken_over(
    client: Container, rivals: list[Rival], frames: str, journals: Path, part: int
) -> None:
    run = FaultRun(frames, rows=10)
    other = rivals[0]
    first = sum(map(len, run.parts[:part]))
    with TiledWriter(client, journal_directory=journals, flush_interval=0.05) as writer:
        for name, doc in run.docs[:first]:
            writer(name, doc)
        assert writer.flush()
        other.begin(run.docs, 0.0)
        other.join()
        assert_exactly_once(client, run.uid, run.docs)

        for name, doc in run.docs[first:]:
            writer(name, doc)
        assert writer.wait_for(run.uid)

    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(journals)


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_a_scan_that_goes_on_while_it_is_taken_over_is_stored_once(
    client: Container, rivals: list[Rival], frames: str, journals: Path, seed: int
) -> None:
    random = Random(seed)
    run = FaultRun(frames, rows=10)
    half = len(run.docs) // 2
    with TiledWriter(client, journal_directory=journals, flush_interval=0.05) as writer:
        for name, doc in run.docs[:half]:
            writer(name, doc)
        assert writer.flush()
        rivals[0].begin(run.docs, 0.0)
        time.sleep(random.uniform(0.5, 1.5) * SHORT["PATIENCE"])
        for name, doc in run.docs[half:]:
            writer(name, doc)
            time.sleep(random.choice([0.0, 0.05]))
        rivals[0].join()
        assert writer.wait_for(run.uid)

    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(journals)
    assert_all_done(rivals[0].journals)


def test_what_waits_for_another_process_says_so_and_holds_nobody(
    client: Container, rivals: list[Rival], frames: str, journals: Path
) -> None:
    run = FaultRun(frames, rows=30)
    rivals[0].begin(run.docs, 0.05)
    rivals[0].wait_for_returned(20)
    with TiledWriter(client, journal_directory=journals, flush_interval=0.05) as writer:
        for name, doc in run.docs[:-1]:
            writer(name, doc)
        wait_for(lambda: run.uid in writer.status.waiting_for)
        assert "nother process" in writer.status.waiting_for[run.uid]
        writer(*run.docs[-1])
        assert rivals[0].alive, "too late to tell"
        rivals[0].join()
        assert writer.wait_for(run.uid)

    assert_exactly_once(client, run.uid, run.docs)
    assert_all_done(journals)
