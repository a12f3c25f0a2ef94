"""External keys whose values come with the events are stored as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from documents import TOGETHER_OR_NOT, RunBuilder, Send, data_key, emit
from tiled.client.container import Container
from tree import array_of, columns_of, stream_of

from bluesky_tiled_writer import RunNormalizer, TiledWriter

EXTERNAL = {
    "x": data_key(),
    "image": data_key("array", [2, 2], dtype_numpy="<u2", external="FILESTORE:"),
}


IMAGE = [[1, 2], [3, 4]]


@pytest.mark.parametrize("normalized", [True, False], ids=["normalized", "as they are"])
def test_external_data_that_are_filled_in_are_stored(client: Container, normalized: bool) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    for i in range(3):
        run.event("primary", {"x": i / 2, "image": IMAGE}, filled={"image": True})
    run.stop()

    options: dict[str, Any] = {} if normalized else {"normalizer": None}
    emit(run.docs, TiledWriter(client, **options))

    stream = stream_of(client, run.uid)
    assert sorted(stream) == ["image", "internal"]
    assert array_of(stream["image"])["dtype"] == "uint16"
    assert stream["image"].read().tolist() == [IMAGE] * 3
    assert columns_of(client, run.uid) == {"seq_num": [1, 2, 3], "x": [0.0, 0.5, 1.0]}
    assert "notes" not in client[run.uid].metadata


@TOGETHER_OR_NOT
def test_external_data_that_are_filled_in_from_a_later_event_on_are_stored(
    client: Container, send: Send
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    run.event("primary", {"x": 0.5, "image": "datum/0"}, filled={"image": False})
    run.event("primary", {"x": 1.5, "image": IMAGE}, filled={"image": "handler"})
    run.event("primary", {"x": 2.5, "image": "datum/2"}, filled={"image": False})
    run.event("primary", {"x": 3.5, "image": IMAGE}, filled={"image": True})
    run.stop()

    send(run.docs, TiledWriter(client))

    nothing = [[0, 0], [0, 0]]
    images = stream_of(client, run.uid)["image"].read()
    assert images.tolist() == [nothing, IMAGE, nothing, IMAGE]
    assert columns_of(client, run.uid)["x"] == [0.5, 1.5, 2.5, 3.5]
    notes = client[run.uid].metadata["notes"]
    for seq_num in (1, 3):
        assert any("'image'" in note and f"seq_num {seq_num}:" in note for note in notes)


@pytest.mark.parametrize("filled", [[True, True], [False, True], [True, False], [False, False]])
def test_the_rows_of_a_page_may_be_filled_one_by_one(client: Container, filled: list[bool]) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    rows = [{"x": i / 2, "image": IMAGE if flag else "datum"} for i, flag in enumerate(filled)]
    _, page = run.event_page("primary", rows)
    page["filled"] = {"image": filled}
    run.stop()

    emit(run.docs, TiledWriter(client))

    stream = stream_of(client, run.uid)
    assert columns_of(client, run.uid)["x"] == [0.0, 0.5]
    assert ("image" in stream) is any(filled)
    if any(filled):
        nothing = [[0, 0], [0, 0]]
        assert stream["image"].read().tolist() == [IMAGE if flag else nothing for flag in filled]


def test_a_scalar_that_is_external_may_be_filled_in_too(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": data_key("integer", external="FILESTORE:"), "x": data_key()})
    run.event("primary", {"x": 0.5, "n": "datum/0"}, filled={"n": False})
    run.event("primary", {"x": 1.5, "n": 7}, filled={"n": True})
    run.stop()

    emit(run.docs, TiledWriter(client))

    assert columns_of(client, run.uid) == {"seq_num": [1, 2], "x": [0.5, 1.5], "n": [None, 7]}


FILLED: dict[str, dict[str, Any]] = {
    "no flags at all": {},
    "no flag for the key": {"filled": {}},
    "a flag that is False": {"filled": {"image": False}},
    "a flag that is None": {"filled": {"image": None}},
}


@pytest.mark.parametrize("normalizer", [RunNormalizer, None], ids=["normalized", "as they are"])
@pytest.mark.parametrize("flags", FILLED.values(), ids=FILLED)
@pytest.mark.parametrize("image", [np.array(IMAGE), IMAGE], ids=["array", "lists"])
@pytest.mark.parametrize("in_page", [False, True], ids=["events", "page"])
def test_data_in_place_of_the_id_of_a_datum_are_stored_whatever_the_flags_say(
    client: Container, image: Any, flags: dict[str, Any], normalizer: Any, in_page: bool
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    rows = [{"x": i / 2, "image": image} for i in range(2)]
    if in_page:
        run.event_page("primary", rows)
    else:
        for row in rows:
            run.event("primary", row)
    run.stop()
    for kind, doc in run.docs:
        if kind in ("event", "event_page"):
            doc.pop("filled", None)
            doc.update(flags)
            if in_page and doc.get("filled"):
                doc["filled"] = {key: [flag] * 2 for key, flag in doc["filled"].items()}

    emit(run.docs, TiledWriter(client, normalizer=normalizer))

    assert stream_of(client, run.uid)["image"].read().tolist() == [IMAGE] * 2
    assert "notes" not in client[run.uid].metadata


def test_a_page_of_data_and_ids_has_a_row_for_each(client: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", EXTERNAL)
    rows: list[dict[str, Any]] = [{"x": 0.5, "image": IMAGE}, {"x": 1.5, "image": "datum/1"}]
    _, page = run.event_page("primary", rows)
    page["filled"] = {}
    run.stop()

    emit(run.docs, TiledWriter(client))

    images = stream_of(client, run.uid)["image"].read()
    assert images.tolist() == [IMAGE, [[0, 0], [0, 0]]]
