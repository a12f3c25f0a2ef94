"""Which runs are wanted, as people write it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bluesky_tiled_writer.cli.run_filter import Condition, RunFilter

START = {"time": 1000.0, "scan_id": 7, "plan_name": "count", "sample": {"name": "LaB6"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plan_name=count", True),
        ("start.plan_name == count", True),
        ("plan_name!=count", False),
        ('plan_name="count"', True),
        ("scan_id=7", True),
        ('scan_id="7"', False),
        ("scan_id>=7", True),
        ("scan_id > 7", False),
        ("scan_id<8", True),
        ("scan_id<=6.5", False),
        ("sample.name=LaB6", True),
        ("sample.name.first=LaB6", False),
        ("unknown=1", False),
        ("unknown!=1", False),
        ("plan_name<3", False),
    ],
)
def test_conditions_are_met_or_not(text: str, expected: bool) -> None:
    assert Condition.parse(text).matches(START) is expected


@pytest.mark.parametrize("text", ["", "count", "=count", "plan_name"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no condition"):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, True),
        (1000, None, True),
        (None, 1000.0, False),
        ("1000", "1000.5", True),
        (datetime(1970, 1, 1, 0, 20, tzinfo=UTC), None, False),
        ("1970-01-01T00:16:40+00:00", "1970-01-01T00:16:41+00:00", True),
    ],
)
def test_times_are_from_inclusive_to_exclusive(since: Any, until: Any, expected: bool) -> None:
    assert RunFilter.of(since, until).matches(START) is expected


def test_all_conditions_are_met() -> None:
    assert RunFilter.of(query=["plan_name=count", "scan_id=7"]).matches(START)
    assert not RunFilter.of(query=["plan_name=count", "scan_id=8"]).matches(START)
    assert not RunFilter()
    assert RunFilter.of(since=0)


def test_a_date_is_local() -> None:
    assert RunFilter.of("2026-05-04").since == datetime(2026, 5, 4).timestamp()


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        RunFilter.of("yesterday")
