"""Replay with a scripted writer: faults that are hard to cause in a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documents import scalar_run

from bluesky_tiled_writer.cli import replay
from bluesky_tiled_writer.cli.replay import Outcome, Replay
from bluesky_tiled_writer.cli.saved_documents import SavedDocuments
from bluesky_tiled_writer.delivery import Settings, Status
from bluesky_tiled_writer.errors import NotStored, OutOfStep, ServerUnreachable

Docs = list[tuple[str, dict[str, Any]]]


class ScriptedWriter:
    """Stands in for `TiledWriter`; raises the next of `errors` at each stop document."""

    errors: list[Exception]
    settings = Settings()
    server_down = False
    flushes = True
    instances: list[ScriptedWriter]

    def __init__(self, client: Any, *, timeout: float, **options: Any) -> None:
        self.timeout = timeout
        self.options = options
        self.taken: Docs = []
        self.closed = False
        self.instances.append(self)

    def __call__(self, name: str, doc: Any) -> None:
        self.taken.append((name, doc))
        if name == "stop" and self.errors:
            raise self.errors.pop(0)

    def announce(self, uid: str, documents: Any) -> None:
        pass

    @property
    def status(self) -> Status:
        return Status("idle", server_down=self.server_down)

    def flush(self, timeout: float | None = None) -> bool:
        return self.flushes

    def close(self, timeout: float | None = None) -> bool:
        self.patience = timeout
        self.closed = True
        return True


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedWriter]:
    scripted = type("Scripted", (ScriptedWriter,), {"errors": [], "instances": []})
    monkeypatch.setattr(replay, "TiledWriter", scripted)
    return scripted


def saved(directory: Path, docs: Docs) -> SavedDocuments:
    path = directory / "runs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in docs))
    return SavedDocuments(path)


def new(**options: Any) -> Replay:
    client: Any = {}  # a server without runs
    return Replay(client, **options)


def test_run_that_is_out_of_step_is_sent_again_alone(
    writer: type[ScriptedWriter], tmp_path: Path
) -> None:
    one, two = scalar_run(2), scalar_run(2)
    writer.errors = [OutOfStep("other rows")]
    report = new().store(saved(tmp_path, [*one.docs, *two.docs]))
    assert {uid: run.outcome for uid, run in report.runs.items()} == {
        two.uid: Outcome.STORED,
        one.uid: Outcome.STORED,
    }
    assert [instance.taken for instance in writer.instances] == [
        [*one.docs, *two.docs],
        one.docs,
    ]


def test_run_that_stays_out_of_step_has_failed(
    writer: type[ScriptedWriter], tmp_path: Path
) -> None:
    run = scalar_run(2)
    writer.errors = [OutOfStep("other rows") for _ in range(replay.ATTEMPTS)]
    report = new().store(saved(tmp_path, run.docs))
    assert report.runs[run.uid].outcome is Outcome.FAILED
    assert report.runs[run.uid].reason == "other rows [OutOfStep]"
    assert not report.complete
    assert all(instance.closed for instance in writer.instances)


def test_server_that_is_down_ends_the_replay(writer: type[ScriptedWriter], tmp_path: Path) -> None:
    one, two = scalar_run(1), scalar_run(1)
    writer.errors, writer.server_down = [NotStored("not in time")], True
    with pytest.raises(ServerUnreachable, match=f"Run {one.uid!r} and what follows"):
        new(timeout=5.0).store(saved(tmp_path, [*one.docs, *two.docs]))
    (instance,) = writer.instances
    assert instance.closed
    assert instance.patience == 0.0


def test_unexpected_error_fails_only_its_run(writer: type[ScriptedWriter], tmp_path: Path) -> None:
    one, two = scalar_run(1), scalar_run(1)
    writer.errors = [ZeroDivisionError("oops")]
    report = new().store(saved(tmp_path, [*one.docs, *two.docs]))
    assert report.runs[one.uid].reason == "ZeroDivisionError: oops"
    assert report.runs[two.uid].outcome is Outcome.STORED


def test_open_run_whose_rows_are_not_stored_in_time_has_failed(
    writer: type[ScriptedWriter], tmp_path: Path
) -> None:
    run = scalar_run(1)
    writer.flushes = False
    report = new().store(saved(tmp_path, run.docs[:-1]))
    assert report.runs[run.uid].outcome is Outcome.FAILED
    assert "not stored in time" in report.runs[run.uid].reason


def test_events_of_every_stream_are_counted(writer: type[ScriptedWriter], tmp_path: Path) -> None:
    run = scalar_run(3)
    run.docs.pop()
    run.event_page("primary", [{"x": 1, "n": 1, "label": ""}] * 4)
    run.descriptor("empty", {"x": "number"})
    new(finish=True).store(saved(tmp_path, run.docs))
    name, stop = writer.instances[0].taken[-1]
    assert (name, stop["num_events"]) == ("stop", {"primary": 7, "empty": 0})
    assert (stop["run_start"], stop["exit_status"]) == (run.uid, "fail")


def test_progress_is_reported_after_each_document(
    writer: type[ScriptedWriter], tmp_path: Path
) -> None:
    documents, positions = saved(tmp_path, scalar_run(3).docs), []
    new().store(documents, lambda: positions.append(documents.position))
    assert len(positions) == 6
    assert positions[-1] == documents.size
