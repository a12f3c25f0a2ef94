"""Requests that follow another one before it is answered."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator

import httpx
import pytest

from bluesky_tiled_writer.errors import ServerUnreachable
from bluesky_tiled_writer.sink.lead import Distance, Lead
from bluesky_tiled_writer.sink.requests import Requests, in_process

FOR_EVER = 3600.0


def answer(took: float, worked: str | None) -> httpx.Response:
    headers = {} if worked is None else {"Server-Timing": worked}
    response = httpx.Response(200, headers=headers)
    response.elapsed = datetime.timedelta(seconds=took)
    return response


@pytest.mark.parametrize(
    ("took", "worked", "far"),
    [
        (0.070, "tok;dur=0.0, app;dur=16.0", True),
        (0.020, "tok;dur=0.0, app;dur=16.0", False),  # on the same machine
        (0.200, "app;dur=150.0", False),  # slow, but near
        (0.070, None, False),  # a proxy takes headers away
        (0.070, "db;dur=16.0", False),
        (0.070, "app;dur=...", False),
        (0.070, "app;dur=16", True),
    ],
)
def test_only_of_a_server_that_is_far_away_is_it_known_when_to_follow(took, worked, far):
    distance = Distance()
    assert distance.lag is None
    distance.learn(answer(took, worked))
    assert (distance.lag is not None) == far
    if far:
        assert 0.016 < distance.lag < took / 2


def test_a_distance_is_that_of_the_last_answer():
    distance = Distance()
    distance.learn(answer(0.070, "app;dur=16.0"))
    distance.learn(answer(0.020, "app;dur=16.0"))
    assert distance.lag is None


def test_an_app_in_this_process_is_never_far_however_busy_the_process_is():
    distance = Distance(never_far=True)
    distance.learn(answer(0.500, "app;dur=16.0"))
    assert distance.lag is None


def test_requests_know_an_app_in_this_process(client):
    assert in_process(client)
    requests = Requests(client)
    requests.distance.learn(answer(0.500, "app;dur=16.0"))
    assert requests.distance.lag is None


class Request:
    """Is answered when the test says so, and fails as often as it says."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.sent = 0
        self.answer = threading.Event()

    def __call__(self) -> None:
        self.sent += 1
        assert self.answer.wait(10)
        if self.failures:
            self.failures -= 1
            raise ServerUnreachable(f"the {self.sent}. time")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_who_follows_before_the_answer_may_be_too_early():
    request = Request()
    lead = Lead(request, lag=0.0)
    assert lead.wait()
    request.answer.set()
    lead.settle()
    assert not lead.wait()
    assert request.sent == 1


def test_nobody_waits_longer_than_for_the_answer():
    request = Request()
    lead = Lead(request, lag=FOR_EVER)
    assert lead.lag > 1000
    request.answer.set()
    assert not lead.wait()
    assert lead.lag == 0
    lead.settle()


def test_a_failure_is_told_once_then_the_request_is_sent_again():
    request = Request(failures=2)
    request.answer.set()
    lead = Lead(request, lag=0.0)
    with pytest.raises(ServerUnreachable, match=r"the 1\. time"):
        lead.settle()
    assert request.sent == 1
    with pytest.raises(ServerUnreachable, match=r"the 2\. time"):
        lead.settle()
    lead.settle()
    lead.settle()
    assert request.sent == 3


def test_where_no_thread_can_be_started_it_is_answered_at_once(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    request = Request(failures=1)
    request.answer.set()
    lead = Lead(request, lag=FOR_EVER)
    assert not lead.wait()
    with pytest.raises(ServerUnreachable):
        lead.settle()
    lead.settle()
    assert request.sent == 2
