"""When jobs are advanced, and what becomes of those that fail: with a clock that the test turns."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from bluesky_tiled_writer.delivery.access import LOOK_AT_CREDENTIALS
from bluesky_tiled_writer.delivery.attempts import MAX_DELAYS, MAX_FAILURES
from bluesky_tiled_writer.delivery.breaker import Trouble
from bluesky_tiled_writer.delivery.sender import Sender
from bluesky_tiled_writer.errors import (
    LoginRefused,
    OutOfStep,
    RequestRefused,
    RunComplete,
    RunExists,
    ServerUnreachable,
    StorageError,
    TooEarly,
    WrittenElsewhere,
)

from .model import QuietServer

INTERVAL = 1.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ScriptedJob:
    """A job that fails as it is told to, and remembers what was asked of it."""

    name = "Run a"

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = deque(outcomes)
        self.waiting = True
        self.finished = False
        self.progress = 0
        self.obstacle: StorageError | None = None
        self.synced = 0
        self.advanced: list[bool] = []
        self.events: list[str] = []
        self.error: Exception | None = None

    def advance(self, rows: bool) -> None:
        self.advanced.append(rows)
        if self.outcomes and (error := self.outcomes.popleft()) is not None:
            raise error

    def sync(self) -> None:
        self.synced += 1

    def begin_again(self, error: StorageError) -> None:
        self.events.append("begin again")

    def complete(self) -> None:
        self.events.append("complete")

    def set_aside(self, error: Exception) -> None:
        self.events.append("set aside")
        self.error = error
        self.waiting = False


class Server(QuietServer):
    def __init__(self) -> None:
        self.up = True
        self.asked = 0
        self.borrowed: list[object] = []

    def healthy(self) -> bool:
        self.asked += 1
        return self.up

    def use_credentials_of(self, other: object) -> None:
        self.borrowed.append(other)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def sender(clock: Clock, server: Server) -> Iterator[Sender]:
    """A sender whose thread never does anything: the test calls `turn` itself."""
    sender = Sender(server, INTERVAL, clock=clock)
    sender._run = lambda: None  # type: ignore[method-assign]
    yield sender
    sender.close(1.0)


def turn_for(sender: Sender, clock: Clock, seconds: float) -> None:
    """Let time pass as the thread would, without sleeping."""
    end = clock.now + seconds
    while clock.now < end:
        delay = sender.turn()
        if delay is None:
            return
        clock.now += max(delay, 1e-3)


@pytest.mark.parametrize(("takes", "ahead"), [(0.125, 0.125), (0.5, 0.25)])
def test_rows_are_sent_ahead_by_what_the_last_ones_took(
    sender: Sender, clock: Clock, takes: float, ahead: float
) -> None:
    """So they are in Tiled after an interval; but a slow server is not asked all the time."""

    class SlowJob(ScriptedJob):
        def advance(self, rows: bool) -> None:
            super().advance(rows)
            clock.now += takes

    job = SlowJob()
    sender.add(job)
    clock.now += INTERVAL
    started = clock.now
    delay = sender.turn()
    assert delay is not None
    assert clock.now + delay == pytest.approx(started + INTERVAL - ahead)


def test_what_waits_is_sent_once_an_interval(sender: Sender, clock: Clock) -> None:
    job = ScriptedJob()
    sender.add(job)
    assert sender.turn() == pytest.approx(INTERVAL)
    assert job.advanced == []
    turn_for(sender, clock, 3.5 * INTERVAL)
    assert job.advanced == [True, True, True]


def test_a_job_with_nothing_to_send_is_left_alone(sender: Sender, clock: Clock) -> None:
    job = ScriptedJob()
    job.waiting = False
    sender.add(job)
    turn_for(sender, clock, 5 * INTERVAL)
    assert job.advanced == []


def test_a_job_in_haste_is_advanced_at_once_with_its_rows_or_without(sender: Sender) -> None:
    job = ScriptedJob()
    sender.add(job)
    sender.wake(job, rows=False)
    sender.turn()
    sender.wake(job)
    sender.turn()
    sender.turn()
    assert job.advanced == [False, True]


def test_a_job_that_is_over_is_forgotten(sender: Sender) -> None:
    job = ScriptedJob()
    sender.add(job)
    job.finished = True
    assert sender.turn() is None
    assert sender.jobs == []


@pytest.mark.parametrize("status", [502, 503, 504, None])
def test_while_the_server_is_away_nothing_is_sent(
    sender: Sender, clock: Clock, server: Server, status: int | None
) -> None:
    error = RequestRefused("away", status=status) if status else ServerUnreachable("gone")
    job, other = ScriptedJob(error), ScriptedJob()
    sender.add(job)
    sender.add(other)
    sender.wake(job)
    server.up = False
    sender.turn()
    assert sender.access.trouble is None  # before it was asked
    sender.turn()
    assert sender.access.trouble is Trouble.AWAY
    turn_for(sender, clock, 60.0)
    assert len(job.advanced) == 1
    assert other.advanced == []
    assert other.synced > 10  # what was taken gets to the disk all the same
    assert 10 < server.asked < 30  # now and then, and ever more seldom
    server.up = True
    turn_for(sender, clock, 6.0)
    assert sender.access.trouble is None
    assert len(job.advanced) > 1
    assert len(other.advanced) > 0
    assert job.events == []


def test_trouble_and_its_end_are_logged_once(
    sender: Sender, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bluesky_tiled_writer")
    job = ScriptedJob(*[ServerUnreachable("gone")] * 5)
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 60.0)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "does not answer" in messages[0]
    assert "answers again" in messages[1]


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_a_refusal_sets_its_job_aside_at_once(sender: Sender, clock: Clock, status: int) -> None:
    job, other = ScriptedJob(RequestRefused("no", status=status)), ScriptedJob()
    sender.add(job)
    sender.add(other)
    sender.wake(job)
    turn_for(sender, clock, 2.5)
    assert job.events == ["set aside"]
    assert len(job.advanced) == 1
    assert len(other.advanced) == 2


# -- logins and permissions -----------------------------------------------------------------------


def refused(status: int) -> RequestRefused:
    return LoginRefused("no") if status == 401 else RequestRefused("no", status=status)


def test_a_refused_login_stops_all_jobs_until_it_works(
    sender: Sender, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    job, other = ScriptedJob(*[refused(401)] * 20), ScriptedJob()
    sender.add(job)
    sender.wake(job)
    sender.turn()
    sender.add(other)
    sender.wake(other)
    sender.turn()
    assert sender.access.trouble is Trouble.LOGIN
    assert (other.advanced, other.synced) == ([], 1)
    turn_for(sender, clock, 15 * 60.0)
    assert not job.outcomes, "it is tried once a minute at least"
    assert job.events == []
    assert other.advanced
    assert sender.access.trouble is None
    messages = [r.getMessage() for r in caplog.records if r.name == "bluesky_tiled_writer"]
    assert [text.split(";")[0].split(".")[0] for text in messages] == [
        "The login to Tiled does not work",
        "The login to Tiled works again",
    ]


def test_other_credentials_are_tried_at_once(sender: Sender, clock: Clock, server: Server) -> None:
    job = ScriptedJob(*[refused(401)] * 9)
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 100.0)
    tries = len(job.advanced)
    assert (delay := sender.turn()) is not None
    assert delay <= LOOK_AT_CREDENTIALS
    job.outcomes.clear()
    assert len(job.advanced) == tries
    server.credentials = "another key"
    sender.turn()
    assert len(job.advanced) == tries + 1
    assert sender.access.trouble is None


def test_a_run_without_permission_waits_alone(
    sender: Sender, clock: Clock, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    job, other = ScriptedJob(*[refused(403)] * 30), ScriptedJob()
    sender.add(job)
    sender.add(other)
    sender.wake(job)
    turn_for(sender, clock, 2.5)
    assert sender.access.trouble is None
    assert isinstance(job.obstacle, RequestRefused)
    assert len(other.advanced) == 2
    turn_for(sender, clock, 20 * 60.0)
    tries = len(job.advanced)
    assert 20 <= tries < 30
    assert job.events == []
    server.credentials = "another key"
    sender.turn()
    assert len(job.advanced) == tries + 1, "other credentials are tried at once"
    turn_for(sender, clock, 20 * 60.0)
    assert job.obstacle is None
    messages = [r.getMessage() for r in caplog.records if r.name == "bluesky_tiled_writer"]
    assert ["has to wait" in message for message in messages] == [True, False]
    assert messages[1] == "Run a does not have to wait any more; going on."


def test_the_login_of_a_new_writer_is_taken_only_for_one_that_is_refused(
    sender: Sender, server: Server
) -> None:
    other = Sender(QuietServer(), INTERVAL)
    sender.access.use_login_of(other.access)
    assert server.borrowed == []
    job = ScriptedJob(refused(401))
    sender.add(job)
    sender.wake(job)
    sender.turn()
    sender.access.use_login_of(other.access)
    assert len(server.borrowed) == 1


# -------------------------------------------------------------------------------------------------


def test_another_run_under_the_same_uid_sets_the_job_aside(sender: Sender) -> None:
    job = ScriptedJob(RunExists("there is one"))
    sender.add(job)
    sender.wake(job)
    sender.turn()
    assert job.events == ["set aside"]


def test_a_500_is_tried_again_and_given_up_within_seconds_if_the_server_is_healthy(
    sender: Sender, clock: Clock
) -> None:
    job = ScriptedJob(*[RequestRefused("oops", status=500)] * 100)
    sender.add(job)
    sender.wake(job)
    begin = clock.now
    while not job.events:
        turn_for(sender, clock, 0.1)
    assert job.events == ["set aside"]
    assert len(job.advanced) == MAX_FAILURES + 1
    assert clock.now - begin < 10.0


def test_a_500_of_a_server_in_trouble_is_waited_out(
    sender: Sender, clock: Clock, server: Server
) -> None:
    job = ScriptedJob(*[RequestRefused("oops", status=500)] * 3)
    server.up = False
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 600.0)
    assert job.events == []
    server.up = True
    turn_for(sender, clock, 60.0)
    assert job.events == []
    assert len(job.advanced) > 4


def test_a_busy_server_is_left_alone_as_long_as_it_says(sender: Sender, clock: Clock) -> None:
    job = ScriptedJob(RequestRefused("busy", status=429, retry_after=7.0))
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 6.9)
    assert len(job.advanced) == 1
    turn_for(sender, clock, 0.2)
    assert len(job.advanced) == 2
    assert sender.access.trouble is None


def test_a_job_that_is_too_early_is_asked_again_as_often_as_it_takes(
    sender: Sender, clock: Clock
) -> None:
    job = ScriptedJob(*[TooEarly("wait", retry_after=2.0)] * (MAX_DELAYS + 5))
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 1.9)
    assert len(job.advanced) == 1
    turn_for(sender, clock, 2.0 * (MAX_DELAYS + 5))
    assert job.events == []
    assert len(job.advanced) > MAX_DELAYS + 5
    assert sender.last_error is None


def test_a_run_that_another_process_writes_waits_as_long_as_that_does_and_alone(
    sender: Sender, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = WrittenElsewhere("Another one.", hint="", retry_after=6.0, answered=True)
    job, other = ScriptedJob(*[elsewhere] * (MAX_DELAYS + 5)), ScriptedJob()
    for each in (job, other):
        sender.add(each)
        sender.wake(each)
    turn_for(sender, clock, 5.9)
    assert len(job.advanced) == 1
    assert job.obstacle is elsewhere
    assert len(other.advanced) > 1
    turn_for(sender, clock, 6.0 * (MAX_DELAYS + 5))
    assert job.events == []
    assert job.obstacle is None
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(", and is tried")[0] for text in told] == [
        "Run a has to wait",
        "Run a does not have to wait any more; going on.",
    ]


def test_what_never_gets_through_is_given_up_in_the_end(sender: Sender, clock: Clock) -> None:
    job = ScriptedJob(*[ServerUnreachable("dropped")] * 100)
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 1000.0)
    assert job.events == ["set aside"]
    assert len(job.advanced) == MAX_DELAYS + 1


def test_refusals_and_outages_are_counted_apart(sender: Sender, clock: Clock) -> None:
    oops, gone = RequestRefused("oops", status=500), ServerUnreachable("dropped")
    job = ScriptedJob(*[oops, gone] * MAX_FAILURES, None)
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 100.0)
    assert job.events == []
    assert not job.outcomes


def test_success_makes_failures_forgotten(sender: Sender, clock: Clock) -> None:
    oops = RequestRefused("oops", status=500)
    outcomes = [*[oops] * MAX_FAILURES, None, *[oops] * MAX_FAILURES, None]
    job = ScriptedJob(*outcomes)
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 100.0)
    assert job.events == []


def test_progress_makes_failures_forgotten(sender: Sender, clock: Clock) -> None:
    class Slow(ScriptedJob):
        def advance(self, rows: bool) -> None:
            self.progress += len(self.advanced) % MAX_FAILURES == 0
            super().advance(rows)

    job = Slow(*[RequestRefused("oops", status=500)] * 20)
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 100.0)
    assert job.events == []
    assert not job.outcomes


def test_a_node_that_is_out_of_step_makes_the_job_begin_again(sender: Sender, clock: Clock) -> None:
    job = ScriptedJob(OutOfStep("other rows"))
    sender.add(job)
    sender.wake(job)
    turn_for(sender, clock, 0.5)
    assert job.events == ["begin again"]
    assert len(job.advanced) == 2


def test_a_run_that_tiled_has_is_complete(sender: Sender) -> None:
    job = ScriptedJob(RunComplete("is there"))
    sender.add(job)
    sender.wake(job)
    sender.turn()
    assert job.events == ["complete"]


def test_a_defect_costs_its_own_job(sender: Sender, clock: Clock) -> None:
    job, other = ScriptedJob(ZeroDivisionError()), ScriptedJob()
    sender.add(job)
    sender.add(other)
    sender.wake(job)
    turn_for(sender, clock, 2.5)
    assert job.events == ["set aside"]
    assert len(other.advanced) == 2


# -- the thread itself -----------------------------------------------------------------------------


def make_sender(server: Server) -> Sender:
    return Sender(server, 0.01)


def test_the_thread_ends_with_the_last_job_and_starts_with_the_next(server: Server) -> None:
    sender = make_sender(server)
    for _ in range(3):
        job = ScriptedJob()
        sender.add(job)
        assert sender.wait(lambda job=job: len(job.advanced) > 1, 5.0)  # type: ignore[misc]
        job.finished = True
        assert sender.wait(lambda: sender._thread is None, 5.0)


def test_a_wait_ends_when_its_time_is_over(server: Server) -> None:
    sender = make_sender(server)
    assert not sender.wait(lambda: False, 0.01)
    assert sender.wait(lambda: True, 0.0)


def test_who_waits_learns_at_once_that_the_server_is_down(server: Server) -> None:
    sender = make_sender(server)
    server.up = False
    sender.add(ScriptedJob(ServerUnreachable("gone")))
    assert sender.wait(lambda: sender.access.trouble is Trouble.AWAY, 5.0)
    sender.close(5.0)


def test_closing_ends_the_thread_whatever_waits(server: Server) -> None:
    sender = make_sender(server)
    sender.add(ScriptedJob())
    ended: list[bool] = []
    sender.close(5.0, lambda: ended.append(sender.at_work))
    assert ended == [False]


def test_a_thread_that_outlives_the_wait_for_its_end_does_what_comes_then(server: Server) -> None:
    sender = make_sender(server)
    at_a_request, may_go_on, ended = (threading.Event() for _ in range(3))

    def take_long() -> None:
        at_a_request.set()
        may_go_on.wait(5.0)

    sender.call_later(0.0, take_long)
    assert at_a_request.wait(5.0)
    sender.close(0.01, ended.set)
    assert not ended.is_set()
    may_go_on.set()
    assert ended.wait(5.0)


def test_functions_go_together_and_their_error_comes_when_all_have_ended(server: Server) -> None:
    sender = make_sender(server)
    run_concurrently: list[bool] = []
    barrier = threading.Barrier(3, timeout=5.0)

    def meet(error: Exception | None = None) -> Callable[[], None]:
        def function() -> None:
            barrier.wait()
            run_concurrently.append(True)
            if error is not None:
                raise error

        return function

    class Job(ScriptedJob):
        def advance(self, rows: bool) -> None:
            try:
                sender.run_concurrently([meet(), meet(ServerUnreachable("gone")), meet()])
            except ServerUnreachable:
                self.events.append("raised")
            self.finished = True

    job = Job()
    sender.add(job)
    assert sender.wait(lambda: job.finished and sender._thread is None, 5.0)
    assert job.events == ["raised"]
    assert run_concurrently == [True] * 3


def test_functions_that_call_others_together_do_not_wait_for_a_thread_that_is_not_there(
    server: Server,
) -> None:
    sender = Sender(server.healthy, 0.01, connections=2)
    called: list[int] = []

    def outer(number: int) -> Callable[[], None]:
        inner = [lambda i=i: called.append(10 * number + i) for i in range(3)]  # type: ignore[misc]
        return lambda: sender.run_concurrently(inner)

    class Job(ScriptedJob):
        def advance(self, rows: bool) -> None:
            sender.run_concurrently([outer(number) for number in range(5)])
            self.finished = True

    job = Job()
    sender.add(job)
    assert sender.wait(lambda: job.finished and sender._thread is None, 5.0)
    assert sorted(called) == [10 * number + i for number in range(5) for i in range(3)]


def test_no_function_is_called_after_an_error(server: Server) -> None:
    sender = Sender(server.healthy, 0.01, connections=1)
    called: list[int] = []

    def fail() -> None:
        raise ServerUnreachable("gone")

    with pytest.raises(ServerUnreachable):
        sender.run_concurrently([lambda: called.append(1), fail, lambda: called.append(2)])
    assert called == [1]
