"""Stop documents that are made are recognized, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from event_model import DocumentNames, schema_validators

from bluesky_tiled_writer.run import (
    DOCUMENTS_END,
    PROCESS_ENDED,
    interrupted_stop,
    is_made,
)


@pytest.mark.parametrize("reason", [DOCUMENTS_END, PROCESS_ENDED])
def test_a_made_stop_is_a_stop_document_that_says_why(reason: str) -> None:
    stop = interrupted_stop("run", reason, {"primary": 3})
    schema_validators[DocumentNames.stop].validate(stop)
    assert stop["run_start"] == "run"
    assert stop["exit_status"] == "fail"
    assert stop["num_events"] == {"primary": 3}
    assert stop["reason"].startswith(reason)
    assert is_made(stop)


def test_two_made_stops_are_two_documents() -> None:
    first, second = (interrupted_stop("run", PROCESS_ENDED, {}) for _ in range(2))
    assert first["uid"] != second["uid"]


def test_a_stop_that_earlier_versions_made_is_recognized() -> None:
    assert is_made({"reason": f"{PROCESS_ENDED} This stop document is of bluesky-tiled-writer."})


@pytest.mark.parametrize(
    "stop", [None, {}, {"reason": ""}, {"reason": PROCESS_ENDED}, {"reason": 5}]
)
def test_any_other_stop_is_not(stop: Any) -> None:
    assert not is_made(stop)
