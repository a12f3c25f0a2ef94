"""When a server that does not answer is asked again, and what is said about it."""

from __future__ import annotations

from bluesky_tiled_writer.delivery.breaker import FIRST_DELAY, Breaker, Trouble


def test_it_is_closed_until_a_request_goes_unanswered() -> None:
    breaker = Breaker()
    assert not breaker.open
    assert breaker.trip(10.0, Trouble.AWAY)
    assert breaker.open
    assert not breaker.confirmed
    assert breaker.next_check == 10.0


def test_delays_double_up_to_the_longest() -> None:
    breaker = Breaker()
    now, delays = 0.0, []
    breaker.trip(now, Trouble.AWAY)
    for _ in range(7):
        breaker.still(now)
        assert breaker.confirmed
        delays.append(breaker.next_check - now)
        now = breaker.next_check
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, Trouble.AWAY.value, Trouble.AWAY.value]


def test_an_answer_to_the_question_alone_does_not_shorten_the_delay() -> None:
    breaker = Breaker()
    breaker.trip(0.0, Trouble.AWAY)
    breaker.still(0.0)
    breaker.answers()
    assert not breaker.open
    assert not breaker.confirmed
    breaker.trip(1.0, Trouble.AWAY)
    breaker.still(1.0)
    assert breaker.next_check - 1.0 == 2 * FIRST_DELAY


def test_it_is_news_once_that_the_server_is_away_and_once_that_it_is_back() -> None:
    breaker = Breaker()
    assert breaker.trip(0.0, Trouble.AWAY)
    breaker.answers()
    assert not breaker.trip(1.0, Trouble.AWAY)
    breaker.answers()
    assert breaker.succeeded() is Trouble.AWAY
    assert breaker.succeeded() is None
    assert breaker.trip(2.0, Trouble.AWAY)
    breaker.still(2.0)
    assert breaker.next_check - 2.0 == FIRST_DELAY


def test_a_refused_login_is_known_at_once_and_asked_for_less_and_less_often() -> None:
    breaker = Breaker()
    now, delays = 0.0, []
    for _ in range(10):
        assert breaker.trip(now, Trouble.LOGIN) == (now == 0.0)
        assert breaker.confirmed
        delays.append(breaker.next_check - now)
        now = breaker.next_check
        breaker.answers()
        assert breaker.trouble is Trouble.LOGIN  # until a request succeeds
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_server_that_is_back_and_refuses_the_login_is_another_trouble() -> None:
    breaker = Breaker()
    breaker.trip(0.0, Trouble.AWAY)
    for now in range(5):
        breaker.still(now)
    breaker.answers()
    assert breaker.trip(10.0, Trouble.LOGIN)
    assert breaker.next_check - 10.0 == FIRST_DELAY
    assert breaker.succeeded() is Trouble.LOGIN
