"""When a server that does not answer is asked again, and what is said about it."""

from __future__ import annotations

from bluesky_tiled_writer.delivery.breaker import FIRST_DELAY, LAST_DELAY, Breaker


def test_it_is_closed_until_a_request_goes_unanswered() -> None:
    breaker = Breaker()
    assert not breaker.open
    assert breaker.trip(now=10.0)
    assert breaker.open
    assert not breaker.confirmed
    assert breaker.next_check == 10.0


def test_delays_double_up_to_the_longest() -> None:
    breaker = Breaker()
    now, delays = 0.0, []
    breaker.trip(now)
    for _ in range(7):
        breaker.still_down(now)
        assert breaker.confirmed
        delays.append(breaker.next_check - now)
        now = breaker.next_check
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, LAST_DELAY, LAST_DELAY]


def test_an_answer_to_the_question_alone_does_not_shorten_the_delay() -> None:
    breaker = Breaker()
    breaker.trip(0.0)
    breaker.still_down(0.0)
    breaker.answers()
    assert not breaker.open
    assert not breaker.confirmed
    breaker.trip(1.0)
    breaker.still_down(1.0)
    assert breaker.next_check - 1.0 == 2 * FIRST_DELAY


def test_it_is_news_once_that_the_server_is_away_and_once_that_it_is_back() -> None:
    breaker = Breaker()
    assert breaker.trip(0.0)
    breaker.answers()
    assert not breaker.trip(1.0)
    breaker.answers()
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.trip(2.0)
    breaker.still_down(2.0)
    assert breaker.next_check - 2.0 == FIRST_DELAY
