"""Runs that other processes have left, and what is looked at after their recovery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from documents import Document, Pair, RunBuilder, Send, data_key, emit
from tiled.client.container import Container
from tree import array_of, read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.delivery.process import unregister
from bluesky_tiled_writer.journal import JournalFile
from bluesky_tiled_writer.journal.format import Header

PATIENCE = 30.0
OPTIONS = {"max_array_size": 0, "path_map": {}, "spec_to_mimetype": {}}


NO_PROCESS = 2**22 + 1
"""A number that no process of Linux has."""


def leave_journal(
    directory: Path,
    client: Container,
    docs: Sequence[Pair],
    pid: int = NO_PROCESS,
    **options: Any,
) -> None:
    """Leave what a process leaves that is killed after it took these documents."""
    server = options.pop("server", str(client.uri).split("?")[0].rstrip("/"))
    header = Header(docs[0][1]["uid"], server, OPTIONS | options, pid=pid)
    journal = JournalFile.create(directory, header)
    for name, doc in docs:
        journal.append(name, doc)
    journal.close()


def store(client: Container, docs: Sequence[Pair], *, send: Send = emit, **options: Any) -> None:
    """Store in Tiled what a process had stored of these documents when it was killed."""
    with TiledWriter(client, journal_directory=None, **options) as writer:
        send(docs, writer)


def kill(writer: TiledWriter) -> None:
    """End a writer as the end of its process does: nothing more is sent."""
    manager = writer._manager
    manager._sender.close(PATIENCE)
    assert not manager._sender.at_work
    for job in manager.jobs:
        job.release()
    manager._closed = True
    unregister(manager)


def column(client: Container, uid: str, name: str = "n", stream: str = "primary") -> list[Any]:
    return list(read_arrow(stream_of(client, uid, stream)["internal"])[name].to_pylist())


def rich_run(stopped: bool = True) -> RunBuilder:
    """Two streams, an array, a ragged array, a page, and a second descriptor."""
    run = RunBuilder()
    run.start(plan_name="scan", motors=["x"])
    keys = {
        "n": "integer",
        "label": "string",
        "image": data_key("array", [2], dtype_numpy="<i4"),
        "spectrum": data_key("array", [None], dtype_numpy="<f8"),
    }
    run.descriptor("baseline", {"n": "integer"})
    run.event("baseline", {"n": 100})
    run.descriptor("primary", keys)
    for i in range(5):
        run.event("primary", rich_row(i))
    run.event_page("primary", [rich_row(i) for i in range(5, 9)])
    run.descriptor("primary", keys, configuration={"det": {"data": {"gain": 2}}})
    run.event("primary", rich_row(9), seq_num=8)  # rewound
    run.event("baseline", {"n": 101})
    if stopped:
        run.stop(num_events={"baseline": 2, "primary": 10})
    return run


def rich_row(i: int) -> Document:
    return {"n": i, "label": f"row {i}", "image": [i, -i], "spectrum": [float(i)] * (1 + i % 3)}


def assert_rich_run_stored(client: Container, uid: str) -> None:
    assert column(client, uid) == [*range(10)]
    assert column(client, uid, "seq_num") == [*range(1, 10), 8]
    assert column(client, uid, "label") == [f"row {i}" for i in range(10)]
    assert column(client, uid, "n", "baseline") == [100, 101]
    stream = stream_of(client, uid)
    assert array_of(stream["image"])["values"] == [[i, -i] for i in range(10)]
    assert stream["spectrum"].read().tolist() == [[float(i)] * (1 + i % 3) for i in range(10)]
    assert len(stream.metadata["_config_updates"]) == 1
    assert client[uid].metadata["stop"]["num_events"] == {"baseline": 2, "primary": 10}


def writes(requests: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(method, path.strip("/")) for method, path in requests if method != "GET"]


def assert_nothing_left(journals: Path) -> None:
    assert list(journals.iterdir()) == []
