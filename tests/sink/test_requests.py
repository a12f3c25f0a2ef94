"""What a run costs in requests, and how its nodes are closed to live subscribers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import RequestLog
from documents import Pair, RunBuilder, data_key, emit, emit_one_by_one, scalar_run
from request_lists import closings, gets
from tiled.client.container import Container
from tree import stream_of

from bluesky_tiled_writer import TiledWriter


@pytest.fixture(autouse=True)
def no_runs_of_other_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let writers find no run in the default directory, which would cost requests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def busy_run() -> RunBuilder:
    """A run with two streams, arrays, pages, and configuration that changes twice."""
    run = RunBuilder()
    run.start(scan_id=1)
    run.descriptor("baseline", {"temperature": "number"})
    keys = {
        "x": data_key(),
        "image": data_key("array", [2, 3], dtype_numpy="<u2"),
        "trace": data_key("array", [None], dtype_numpy="<f8"),
        "names": data_key("array", [2], dtype_numpy="<U8"),
    }
    run.descriptor("primary", keys)
    run.event("baseline", {"temperature": 20.5})
    for i in range(4):
        if i:
            run.descriptor("primary", keys, configuration=exposure(i))
        row = {
            "x": i / 2,
            "image": [[i] * 3] * 2,
            "trace": [0.5] * (i + 1),
            "names": ["a", "b" * i],
        }
        run.event("primary", row)
        run.event_page("primary", [row, row])
    run.event("baseline", {"temperature": 21.5})
    run.stop()
    return run


def exposure(seconds: float) -> dict[str, object]:
    return {
        "detector": {
            "data": {"exposure": seconds},
            "timestamps": {"exposure": 0.0},
            "data_keys": {"exposure": data_key()},
        }
    }


def store(run: RunBuilder, writer: TiledWriter) -> None:
    """Send a run, and wait until its nodes are closed, which `stop` does only for local apps."""
    emit(run.docs, writer)
    assert writer.wait_for(run.uid)


def test_a_run_of_one_stream_costs_five_requests_and_the_closings(
    client: Container, request_log: RequestLog
) -> None:
    run = scalar_run(events=50)
    writer = TiledWriter(client)
    with request_log(client) as requests:
        store(run, writer)

    stream = f"{run.uid}/primary"
    assert [(method, path.strip("/")) for method, path in requests] == [
        ("POST", "metadata"),
        ("POST", f"metadata/{run.uid}"),
        ("POST", f"metadata/{stream}"),
        ("PATCH", f"table/partition/{stream}/internal"),
        ("PATCH", f"metadata/{run.uid}"),
        ("DELETE", f"stream/close/{stream}/internal"),
        ("DELETE", f"stream/close/{stream}"),
        ("DELETE", f"stream/close/{run.uid}"),
    ]


def test_a_writer_costs_no_request_before_its_first_run(
    client: Container, request_log: RequestLog
) -> None:
    with request_log(client) as requests:
        TiledWriter(client)
    assert requests == []


def test_each_further_batch_costs_one_request(client: Container, request_log: RequestLog) -> None:
    run = scalar_run(events=30)
    writer = TiledWriter(client)
    with request_log(client) as requests:
        for start in (0, 12, 22):  # a start, a descriptor and 10 events; 10 events; the rest
            emit(run.docs[start : {0: 12, 12: 22, 22: None}[start]], writer)
            assert writer.flush()
    assert Counter(method for method, path in requests if "table/partition" in path) == {"PATCH": 3}
    assert len(requests) == 5 + 2 + 3


def test_an_event_costs_no_request_before_its_batch_is_full(
    client: Container, request_log: RequestLog
) -> None:
    run = scalar_run(events=30)
    writer = TiledWriter(client, flush_interval=60.0)
    emit(run.docs[:2], writer)
    assert writer.flush()
    with request_log(client) as requests:
        emit(run.docs[2:-1], writer)
    assert requests == []
    emit(run.docs[-1:], writer)


@pytest.mark.parametrize("batch_size", [1, 3, 10_000])
def test_nothing_is_ever_read_back(
    client: Container, request_log: RequestLog, batch_size: int
) -> None:
    runs = [busy_run(), busy_run()]
    interleaved: list[Pair] = [
        pair for pairs in zip(*(run.docs for run in runs), strict=True) for pair in pairs
    ]
    with request_log(client) as requests:
        emit(interleaved, TiledWriter(client, batch_size=batch_size))
    assert gets(requests) == []
    assert not any(method == "DELETE" and "metadata" in path for method, path in requests)


def test_an_array_whose_rows_came_one_by_one_is_read_in_one_request(
    client: Container, request_log: RequestLog
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"wave": data_key("array", [2], dtype_numpy="<i4")})
    for i in range(20):
        run.event("primary", {"wave": [i, -i]})
    run.stop()
    with TiledWriter(client) as writer:
        emit_one_by_one(run.docs, writer)
        assert writer.wait_for(run.uid)
    wave = stream_of(client, run.uid)["wave"]
    assert len(wave.chunks[0]) > 1
    with request_log(client) as requests:
        assert wave.read().tolist() == [[i, -i] for i in range(20)]
        assert wave[3:5].tolist() == [[3, -3], [4, -4]]
    assert [method for method, _ in requests] == ["GET", "GET"]


def test_every_node_is_closed_once_at_stop_and_children_come_first(
    client: Container, request_log: RequestLog
) -> None:
    run = busy_run()
    writer = TiledWriter(client)
    with request_log(client) as requests:
        emit(run.docs[:-1], writer)
        assert closings(requests) == []
        emit(run.docs[-1:], writer)
        assert writer.wait_for(run.uid)
    closed = closings(requests)

    nodes = [run.uid]
    for stream in ("baseline", "primary"):
        path = f"{run.uid}/{stream}"
        nodes += [path, *(f"{path}/{name}" for name in stream_of(client, run.uid, stream))]
    assert len(nodes) == 8
    assert sorted(closed) == sorted(nodes)
    for i, path in enumerate(closed):
        assert not any(later.startswith(f"{path}/") for later in closed[i + 1 :])


@pytest.mark.parametrize("streams", [[], ["primary"]], ids=["no stream", "a stream without events"])
def test_a_run_without_data_is_closed_too(
    client: Container, request_log: RequestLog, streams: list[str]
) -> None:
    run = RunBuilder()
    run.start()
    for name in streams:
        run.descriptor(name, {"x": "number"})
    run.stop()
    with request_log(client) as requests:
        store(run, TiledWriter(client))
    assert closings(requests) == [*(f"{run.uid}/{name}" for name in streams), run.uid]


def test_the_stop_document_is_stored_before_anything_is_closed(
    client: Container, request_log: RequestLog
) -> None:
    run = busy_run()
    with request_log(client) as requests:
        store(run, TiledWriter(client))
    closed = [index for index, (method, _) in enumerate(requests) if method == "DELETE"]
    assert closed == list(range(closed[0], len(requests)))
    assert requests[closed[0] - 1][0] == "PATCH"
    assert requests[closed[0] - 1][1].strip("/") == f"metadata/{run.uid}"


def test_a_refused_document_costs_no_request(client: Container, request_log: RequestLog) -> None:
    writer = TiledWriter(client)
    run = scalar_run()
    emit(run.docs[:3], writer)
    assert writer.flush()
    name, event = run.docs[3]
    with request_log(client) as requests:
        writer(name, {**event, "descriptor": "nobody"})  # which the log tells
        with pytest.raises(ValueError, match="descriptor"):
            writer(name, {**event, "data": {"surprise": 1}})
    assert requests == []
    emit(run.docs[3:], writer)
