"""Which run a document belongs to, and which runs have not been stopped yet."""

from __future__ import annotations

from typing import Any

import pytest
from documents import RunBuilder, data_key, scalar_run

from bluesky_tiled_writer.run import OpenRuns, RunIndex


def test_documents_of_interleaved_runs_are_told_apart() -> None:
    one, two = RunBuilder(), RunBuilder()
    for run in (one, two):
        run.start()
        run.descriptor("primary", {"x": "number", "i": data_key("array", [2], external="OLD:")})
        run.event("primary", {"x": 1})
        run.event_page("primary", [{"x": 1}])
        resource = run.stream_resource("i", "file://localhost/f.h5")
        run.stream_datum("primary", resource, 0, 1)
        run.add("resource", {"uid": f"r{run.uid}", "run_start": run.uid})
        run.add("datum", {"resource": f"r{run.uid}"})
        run.add("bulk_datum", {"resource": f"r{run.uid}"})
        run.add("bulk_events", {"primary": [run.docs[2][1]]})
        run.stop()
    index = RunIndex()
    for first, second in zip(one.docs, two.docs, strict=True):
        assert index.run_of(*first) == one.uid
        assert index.run_of(*second) == two.uid


@pytest.mark.parametrize(
    ("name", "doc"),
    [
        ("event", {"descriptor": "unknown"}),
        ("event", {}),
        ("start", {"uid": 5}),
        ("descriptor", {"uid": [1], "run_start": {}}),
        ("resource", {"uid": "without a run"}),
        ("bulk_events", {}),
        ("nonsense", {"descriptor": ["x"]}),
    ],
)
def test_document_of_an_unknown_run_has_none(name: str, doc: dict[str, Any]) -> None:
    assert RunIndex().run_of(name, doc) is None


def test_open_run_is_closed_with_the_number_of_events_of_each_stream() -> None:
    one, two = scalar_run(3), scalar_run(2)
    open_runs = OpenRuns()
    for run, docs in (one, one.docs[:-1]), (two, two.docs[:-2]):
        for name, doc in docs:
            open_runs.add(run.uid, name, doc)
    assert list(open_runs) == [one.uid, two.uid]
    stop = open_runs.stop_document(one.uid)
    assert (stop["run_start"], stop["num_events"]) == (one.uid, {"primary": 3})
    open_runs.add(two.uid, *two.docs[-1])
    assert list(open_runs) == [one.uid]
    open_runs.discard(one.uid)
    assert list(open_runs) == []
