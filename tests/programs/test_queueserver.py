"""bluesky-queueserver: an environment opened while Tiled is down, and one that is destroyed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .beamline import Beamline

pytest.importorskip("bluesky_queueserver", reason="needs the extra 'programs'")

from .queueserver import Manager


@pytest.fixture
def manager(beamline: Beamline) -> Iterator[Manager]:
    with Manager.running(beamline) as manager:
        yield manager


def test_tiled_is_down_when_the_environment_is_opened_and_when_it_is_closed(
    beamline: Beamline, manager: Manager
) -> None:
    manager.open_environment()
    assert "The profile went on to its last line." in manager.printed
    for num in (3, 1, 2):
        manager.add_plan("count", ["det"], num=num)
    manager.add_plan("scan", ["det"], "motor", -1, 1, 5)
    manager.run_queue()
    assert len(beamline.journals) == 4

    beamline.server.start()
    runs = beamline.wait_for_runs("count", "count", "count", "scan")
    assert [len(run.seq_nums) for run in runs] == [3, 1, 2, 5]

    beamline.server.kill()
    manager.add_plan("count", ["det"], num=4)
    manager.run_queue()
    manager.close_environment()
    assert len(beamline.journals) == 1
    beamline.server.start()
    manager.open_environment()
    beamline.wait_for_runs("count", "count", "count", "scan", "count")


def test_an_environment_that_is_destroyed_in_mid_plan(beamline: Beamline, manager: Manager) -> None:
    beamline.server.start()
    manager.open_environment()
    manager.add_plan("count", ["det"], num=10_000, delay=0.1)
    manager.do("queue_start")
    beamline.wait_until_stored_in_part()
    manager.destroy_environment()
    assert len(beamline.journals) == 1

    manager.open_environment()
    (run,) = beamline.wait_for_runs("count")
    assert run.stop is not None
    assert run.stop["exit_status"] == "fail"
    assert run.seq_nums
