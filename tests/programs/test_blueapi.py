"""blueapi makes a client and a writer for each task, in a container for each visit."""

from __future__ import annotations

import os

import pytest
from servers import wait_until

from .beamline import Beamline
from .blueapi_service import Service, container_of

VISIT, OTHER_VISIT = "cm12345-1", "cm12345-2"


@pytest.fixture
def blueapi() -> str:
    """The command of blueapi, in an environment of its own."""
    if command := os.environ.get("BLUEAPI"):
        return command
    return pytest.skip("BLUEAPI names no command: nox -s programs does it")


def test_tasks_of_two_visits_and_a_server_that_is_killed(blueapi: str, beamline: Beamline) -> None:
    beamline.server.start()
    with Service.running(blueapi, beamline) as service:
        for num in (3, 1):
            service.wait(service.begin(VISIT, num=num))
        service.wait(service.begin(OTHER_VISIT, num=2))
        beamline.wait_for_runs("count", "count", container=container_of(VISIT))
        beamline.wait_for_runs("count", container=container_of(OTHER_VISIT))

        task = service.begin(OTHER_VISIT, num=40, delay=0.1)
        wait_until(lambda: len(beamline.journals) == 1, lambda: service.printed)
        beamline.server.kill()
        service.wait(task)
        assert len(beamline.journals) == 1
        beamline.server.start()
        runs = beamline.wait_for_runs("count", "count", container=container_of(OTHER_VISIT))
        assert runs[-1].seq_nums == [*range(1, 41)]


def test_a_service_that_is_killed_in_mid_task(blueapi: str, beamline: Beamline) -> None:
    beamline.server.start()
    path = container_of(VISIT)
    with Service.running(blueapi, beamline) as service:
        service.begin(VISIT, num=10_000, delay=0.1)
        beamline.wait_until_stored_in_part(*path)
    assert len(beamline.journals) == 1

    with Service.running(blueapi, beamline) as service:
        service.wait(service.begin(OTHER_VISIT, num=2))
        (interrupted,) = beamline.wait_for_runs("count", container=path)
        beamline.wait_for_runs("count", container=container_of(OTHER_VISIT))
    assert interrupted.stop is not None
    assert interrupted.stop["exit_status"] == "fail"
    assert interrupted.seq_nums
