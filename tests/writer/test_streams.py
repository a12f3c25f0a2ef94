"""Streams of a run, and the ways in which a RunEngine may end one."""

from __future__ import annotations

from typing import Any

import bluesky.plan_stubs as bps
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from documents import (
    TOGETHER_OR_NOT,
    RunBuilder,
    Send,
    data_key,
    emit,
    emit_one_by_one,
    scalar_run,
)
from ophyd.sim import SynAxis
from tiled.client.container import Container
from tree import columns_of, stream_of

from bluesky_tiled_writer import TiledWriter


@pytest.fixture
def tiled_client(client: Container) -> Container:
    """Replaces the plugin's, so that `RE` writes to the app in this process."""
    return client


# -- descriptors ----------------------------------------------------------------------------------


def configuration(exposure: float) -> dict[str, Any]:
    return {
        "configuration": {
            "camera": {
                "data": {"exposure": exposure},
                "timestamps": {"exposure": 0.5},
                "data_keys": {"exposure": data_key(dtype_numpy="<f8")},
            }
        }
    }


def test_a_configuration_update_is_kept_and_its_rows_go_to_the_same_table(
    client: Container,
) -> None:
    run = RunBuilder()
    run.start()
    descriptors = []
    for exposure in (0.1, 0.2, 0.3):
        descriptors.append(run.descriptor("primary", {"x": "number"}, **configuration(exposure))[1])
        for i in range(2):
            run.event("primary", {"x": exposure + i})
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns_of(client, run.uid) == {
        "seq_num": [1, 2, 3, 4, 5, 6],
        "x": [0.1, 1.1, 0.2, 1.2, 0.3, 1.3],
    }
    metadata = stream_of(client, run.uid).metadata
    assert metadata["uid"] == descriptors[0]["uid"]
    assert metadata["configuration"]["camera"]["data"] == {"exposure": 0.1}
    assert metadata["_config_updates"] == [
        {"uid": doc["uid"], "time": doc["time"], "configuration": doc["configuration"]}
        for doc in descriptors[1:]
    ]


def test_an_event_may_still_refer_to_the_descriptor_before_an_update(client: Container) -> None:
    run = RunBuilder()
    run.start()
    _, first = run.descriptor("primary", {"x": "number"}, **configuration(0.1))
    run.descriptor("primary", {"x": "number"}, **configuration(0.2))
    run.event("primary", {"x": 0.5})
    _, late = run.event("primary", {"x": 1.5})
    late["descriptor"] = first["uid"]
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns_of(client, run.uid)["x"] == [0.5, 1.5]


@TOGETHER_OR_NOT
def test_a_later_descriptor_may_declare_more_keys(client: Container, send: Send) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.event("primary", {"x": 1.5})
    image = data_key("array", [2], dtype_numpy="<i4")
    _, later = run.descriptor("primary", {"x": "number", "n": "integer", "image": image})
    run.event("primary", {"x": 2.5, "n": 3, "image": [1, 2]})
    run.stop()

    send(run.docs, TiledWriter(client))

    assert columns_of(client, run.uid) == {
        "seq_num": [1, 2, 3],
        "x": [0.5, 1.5, 2.5],
        "n": [None, None, 3],
    }
    stream = stream_of(client, run.uid)
    assert stream["image"].read().tolist() == [[0, 0], [0, 0], [1, 2]]
    assert sorted(stream.metadata["data_keys"]) == ["image", "n", "x"]
    notes = " ".join(client[run.uid].metadata["notes"])
    assert later["uid"] in notes
    assert "'image'" in notes
    assert "'n'" in notes


def test_a_stream_without_events_has_no_table(client: Container) -> None:
    run = RunBuilder()
    run.start()
    keys = {"x": "number", "image": data_key("array", [2, 2]), "trace": data_key("array", [None])}
    run.descriptor("empty", keys, **configuration(0.1))
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert sorted(client[run.uid]) == ["empty", "primary"]
    assert list(stream_of(client, run.uid, "empty")) == []
    assert sorted(stream_of(client, run.uid, "empty").metadata["data_keys"]) == sorted(keys)


def test_a_page_without_rows_counts_as_no_event(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.event_page("primary", [])
    run.stop()
    emit(run.docs, TiledWriter(client))
    assert list(stream_of(client, run.uid)) == []


def test_a_run_without_streams_is_its_metadata(client: Container) -> None:
    run = RunBuilder()
    _, start = run.start(plan_name="nothing", scan_id=7)
    _, stop = run.stop()
    emit(run.docs, TiledWriter(client))
    assert list(client[run.uid]) == []
    assert client[run.uid].metadata == {"start": start, "stop": stop}


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_events", [True, False])
@pytest.mark.parametrize("exit_status", ["success", "abort", "fail"])
def test_a_run_that_went_wrong_is_as_complete_as_it_got(
    client: Container, exit_status: str, with_events: bool
) -> None:
    run = RunBuilder()
    run.start()
    if with_events:
        run.descriptor("primary", {"x": "number"})
        run.event("primary", {"x": 0.5})
    _, stop = run.stop(exit_status, reason="the beam was lost")

    emit(run.docs, TiledWriter(client))

    assert client[run.uid].metadata["stop"] == stop
    if with_events:
        assert columns_of(client, run.uid)["x"] == [0.5]


def test_a_run_that_has_not_stopped_can_be_read(client: Container) -> None:
    run = scalar_run()
    writer = TiledWriter(client)
    emit(run.docs[:-1], writer)
    assert writer.flush()
    assert columns_of(client, run.uid)["n"] == [0, 1, 2]
    assert "stop" not in client[run.uid].metadata
    emit(run.docs[-1:], writer)
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]


@pytest.mark.parametrize("seq_nums", [[1, 2, 3, 2, 3, 4], [1, 1, 1], [5, 9, 2]])
def test_every_row_is_kept_whatever_its_seq_num(client: Container, seq_nums: list[int]) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "image": data_key("array", [1])})
    for i, seq_num in enumerate(seq_nums):
        run.event("primary", {"x": i / 2, "image": [i]}, seq_num=seq_num)
    run.stop()

    emit_one_by_one(run.docs, TiledWriter(client))

    assert columns_of(client, run.uid) == {
        "seq_num": seq_nums,
        "x": [i / 2 for i in range(len(seq_nums))],
    }
    images = stream_of(client, run.uid)["image"].read()
    assert images.tolist() == [[i] for i in range(len(seq_nums))]


def test_the_rows_of_a_paused_and_resumed_scan_are_all_kept(
    client: Container, RE: RunEngine
) -> None:
    motor = SynAxis(name="motor")

    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.checkpoint()
        yield from bps.mv(motor, 1)
        yield from bps.trigger_and_read([motor])
        yield from bps.mv(motor, 2)
        yield from bps.trigger_and_read([motor])
        yield from bps.pause()
        yield from bps.trigger_and_read([motor])
        yield from bps.close_run()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (uid,) = RE.resume()

    assert columns_of(client, uid)["seq_num"] == [1, 2, 1, 2, 3]
    assert columns_of(client, uid)["motor"] == [1.0, 2.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(("end", "status"), [("abort", "abort"), ("stop", "success")])
def test_a_scan_that_is_ended_by_hand_says_how(
    client: Container, RE: RunEngine, end: str, status: str
) -> None:
    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.trigger_and_read([SynAxis(name="motor")])
        yield from bps.pause()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (uid,) = getattr(RE, end)()

    assert client[uid].metadata["stop"]["exit_status"] == status
    assert len(columns_of(client, uid)["motor"]) == 1


def test_a_scan_that_fails_says_why(client: Container, RE: RunEngine) -> None:
    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.trigger_and_read([SynAxis(name="motor")])
        raise ValueError("out of beam")

    uids = []
    RE.subscribe(lambda name, doc: uids.append(doc["uid"]), "start")
    with pytest.raises(ValueError, match="out of beam"):
        RE(plan())

    stop = client[uids[0]].metadata["stop"]
    assert stop["exit_status"] == "fail"
    assert "out of beam" in stop["reason"]
    assert len(columns_of(client, uids[0])["motor"]) == 1
