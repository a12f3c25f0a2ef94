"""The RunEngine counts events in its own ways; only those that did not come are missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import pytest
from bluesky import RunEngine
from documents import Pair
from ophyd.sim import SynAxis, TrivialFlyer, det, motor
from ophyd_async.core import (
    StaticPathProvider,
    TriggerInfo,
    UUIDFilenameProvider,
    init_devices,
    soft_signal_rw,
)
from ophyd_async.sim import SimBlobDetector

from bluesky_tiled_writer.delivery import Settings
from bluesky_tiled_writer.delivery.pipeline import Pipeline
from bluesky_tiled_writer.run import RunSettings
from bluesky_tiled_writer.testing import MemoryServer

Plan = Callable[[], Any]


@pytest.fixture
def engine(RE: RunEngine) -> Iterator[RunEngine]:
    RE.dispatcher.unsubscribe_all()
    RE.record_interruptions = True
    yield RE
    RE.record_interruptions = False


def documents_of(engine: RunEngine, plan: Any) -> list[Pair]:
    docs: list[Pair] = []
    token = engine.subscribe(lambda name, doc: docs.append((name, doc)))
    engine(plan)
    engine.unsubscribe(token)
    return docs


def notes_on(docs: list[Pair]) -> list[str]:
    server = MemoryServer()
    pipeline = Pipeline(Settings(run=RunSettings()), server.new_sink())
    for name, doc in docs:
        pipeline.feed(name, doc)
    pipeline.deliver()
    notes = server.runs[docs[0][1]["uid"]].get("notes", [])
    return [note for note in notes if "lacks" in note]


def with_baseline() -> Any:
    return bpp.baseline_wrapper(bp.scan([det], motor, -1, 1, 4), [SynAxis(name="m")])


def with_a_monitor() -> Any:
    with init_devices(mock=False):
        signal = soft_signal_rw(int, 0, name="signal")

    @bpp.monitor_during_decorator([signal])
    @bpp.run_decorator()
    def inner() -> Any:
        for value in range(3):
            yield from bps.abs_set(signal, value, wait=True)
            yield from bps.trigger_and_read([det])

    return inner()


def with_a_flyer() -> Any:
    return bp.fly([TrivialFlyer()])


@bpp.run_decorator()
def rewound() -> Any:
    """A plan that is paused and goes back to its checkpoint, two events before."""
    yield from bps.checkpoint()
    yield from bps.trigger_and_read([det])
    yield from bps.create("primary")
    yield from bps.read(det)
    yield from bps.save()
    yield from bps.pause()
    yield from bps.trigger_and_read([det])


@bpp.run_decorator()
def failing() -> Any:
    yield from bps.trigger_and_read([det])
    yield from bps.create("primary")
    yield from bps.read(det)
    yield from bps.drop()


@pytest.mark.parametrize("plan", [with_baseline, with_a_monitor, with_a_flyer, failing])
def test_nothing_is_missed_where_all_came(engine: RunEngine, plan: Plan) -> None:
    docs = documents_of(engine, plan())
    assert "num_events" in docs[-1][1]
    assert notes_on(docs) == []


def test_nothing_is_missed_after_a_rewind(engine: RunEngine) -> None:
    docs: list[Pair] = []
    token = engine.subscribe(lambda name, doc: docs.append((name, doc)))
    with pytest.raises(Exception, match="paused"):
        engine(rewound())
    engine.resume()
    engine.unsubscribe(token)
    counted = docs[-1][1]["num_events"]["primary"]
    assert sum(name == "event" and "det" in doc["data"] for name, doc in docs) > counted
    assert notes_on(docs) == []


def test_rows_of_fly_scans_are_counted(engine: RunEngine, tmp_path: Path) -> None:
    with init_devices():
        paths = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
        detectors = [SimBlobDetector(paths, name=name) for name in ("one", "other")]

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator()
    def plan() -> Any:
        for detector in detectors:
            info = TriggerInfo(number_of_events=5, livetime=0.01, deadtime=0.001)
            yield from bps.prepare(detector, info, wait=True)
        yield from bps.declare_stream(*detectors, name="main")
        yield from bps.kickoff_all(*detectors, wait=True)
        yield from bps.collect_while_completing(
            detectors, detectors, flush_period=0.02, stream_name="main"
        )

    docs = documents_of(engine, plan())
    assert docs[-1][1]["num_events"]["main"] > 0
    assert not any(name.startswith("event") for name, _ in docs)
    assert notes_on(docs) == []
    last = max(i for i, (name, _) in enumerate(docs) if name == "stream_datum")
    (note,) = notes_on([*docs[:last], *docs[last + 1 :]])
    assert "stream 'main' lacks" in note
