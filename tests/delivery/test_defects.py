"""Documents, normalizers and callbacks that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import Document, emit, scalar_run
from tiled.client.container import Container

from bluesky_tiled_writer import RunNormalizer
from bluesky_tiled_writer.errors import (
    DocumentError,
)

from .helpers import MakeWriter, column


class Defect(Exception):
    pass


def failing_on(kind: str, when: Callable[[Document], bool] = lambda doc: True) -> Any:
    """A normalizer with a defect."""

    def method(self: RunNormalizer, doc: Document) -> None:
        if when(doc):
            raise Defect(kind)
        getattr(RunNormalizer, kind)(self, doc)

    return type("Failing", (RunNormalizer,), {kind: method})


def test_an_event_that_a_normalizer_fails_on_costs_itself_only(
    any_client: Container, make_writer: MakeWriter, journals: Path
) -> None:
    run = scalar_run()
    normalizer = failing_on("event", lambda doc: bool(doc["data"]["n"] == 1))
    writer = make_writer(any_client, normalizer=normalizer)
    emit(run.docs[:3], writer)
    with pytest.raises(Defect):
        emit(run.docs[3:4], writer)
    emit(run.docs[4:], writer)
    assert writer.flush()
    assert column(any_client, run.uid) == [0, 2]
    assert list(journals.iterdir()) == []


def test_a_start_that_a_normalizer_fails_on_costs_its_run_only(
    tiled_client: Container,
    make_writer: MakeWriter,
    journals: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, other = scalar_run(), scalar_run(plan_name="other")
    normalizer = failing_on("start", lambda doc: "plan_name" not in doc)
    writer = make_writer(normalizer=normalizer)
    emit(other.docs[:3], writer)
    with pytest.raises(Defect):
        emit(run.docs[:1], writer)
    emit(run.docs[1:2], writer)
    assert "belongs to no open run" in caplog.text
    emit(other.docs[3:], writer)
    assert writer.flush()
    assert column(tiled_client, other.uid) == [0, 1, 2]
    assert writer.status.runs == 0
    assert list(journals.iterdir()) == []


def test_a_stop_that_a_normalizer_fails_on_leaves_a_run_that_can_be_stopped(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    run = scalar_run()
    normalizer = failing_on("stop", lambda doc: bool(doc["exit_status"] == "success"))
    writer = make_writer(normalizer=normalizer)
    with pytest.raises(Defect):
        emit(run.docs, writer)
    assert writer.flush()
    assert column(tiled_client, run.uid) == [0, 1, 2]
    emit([run.stop(exit_status="abort")], writer)
    assert tiled_client[run.uid].metadata["stop"]["exit_status"] == "abort"


def test_another_callback_that_raises_does_not_matter(
    tiled_client: Container, make_writer: MakeWriter
) -> None:
    """A RunEngine aborts the plan then, and still sends the stop document."""
    run, other = scalar_run(), scalar_run()
    writer = make_writer()
    emit(run.docs[:4], writer)
    with pytest.raises(DocumentError):
        writer("event", {"descriptor": run.docs[1][1]["uid"]})
    emit([*other.docs, *run.docs[4:]], writer)
    assert column(tiled_client, run.uid) == column(tiled_client, other.uid) == [0, 1, 2]
