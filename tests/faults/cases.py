"""The kinds of requests, the faults that may meet them, and checks of what is stored after."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tiled.client.container import Container

from bluesky_tiled_writer import TiledWriter

from .caller import Caller
from .conftest import PATIENCE
from .proxy import Answer, Drop, Fault, Hang, Late
from .runs import FaultRun, assert_exactly_once

SETTLED = 60.0
"""s: within which every run has to be stored, once the fault is over."""

REQUESTS: dict[str, dict[str, Any]] = {
    "create run": {"method": "POST", "path": "^/metadata$"},
    "create stream": {"method": "POST", "path": "^/metadata/[^/]+$"},
    "create table": {
        "method": "POST",
        "path": "^/metadata/[^/]+/primary$",
        "body": '"id": ?"internal"',
    },
    "first rows": {"method": "PATCH", "path": "^/table/partition/[^/]+/primary/"},
    "more rows": {"method": "PATCH", "path": "^/table/partition/[^/]+/primary/", "nth": 2},
    "create array": {
        "method": "POST",
        "path": "^/metadata/[^/]+/primary$",
        "body": '"id": ?"image"',
    },
    "first block": {"method": "PUT", "path": "^/array/full/"},
    "more blocks": {"method": "PATCH", "path": "^/array/full/"},
    "create ragged": {
        "method": "POST",
        "path": "^/metadata/[^/]+/primary$",
        "body": '"id": ?"spectrum"',
    },
    "first ragged rows": {"method": "PUT", "path": "^/ragged/full/"},
    "more ragged rows": {"method": "PATCH", "path": "^/ragged/full/"},
    "register asset": {"method": "POST", "path": "^/register/"},
    "update asset": {"method": "PUT", "path": "^/data_source/"},
    "update stream": {"method": "PATCH", "path": "^/metadata/[^/]+/primary$"},
    "stop": {"method": "PATCH", "path": "^/metadata/[^/]+$"},
    "close node": {"method": "DELETE", "path": "^/stream/close/[^/]+/primary/internal$"},
    "close run": {"method": "DELETE", "path": "^/stream/close/[^/]+$"},
}
"""Every kind of request that a run needs."""

FAULTS: dict[str, Fault] = {
    "dropped before": Drop(),
    "dropped after": Drop(after=True),
    "429": Answer(429, headers={"Retry-After": "0"}),
    **{f"{status} before": Answer(status) for status in (500, 502, 503, 504)},
    **{f"{status} after": Answer(status, after=True) for status in (500, 502, 503, 504)},
    "slow before": Hang(PATIENCE / 6),
    "slow after": Hang(PATIENCE / 6, after=True),
    "timeout before": Hang(PATIENCE * 1.2),
    "timeout after": Hang(PATIENCE * 1.2, after=True),
    "late at once": Late(0.05),
    "late": Late(0.7),
    "late after a timeout": Late(PATIENCE * 1.2, hang=True),
}


def send_slowly(caller: Caller, docs: list[Any], seconds: float) -> None:
    """Send documents over so many seconds."""
    start = time.monotonic()
    for i, doc in enumerate(docs):
        caller.send([doc])
        time.sleep(max(0.0, start + (i + 1) / len(docs) * seconds - time.monotonic()))


def assert_stored(
    client: Container,
    writer: TiledWriter,
    run: FaultRun,
    journals: Path | None = None,
    settled: float = SETTLED,
) -> None:
    assert writer.wait_for(run.uid, timeout=settled)
    assert_exactly_once(client, run.uid, run.docs)
    if journals is not None:
        assert_all_done(journals)


def assert_all_done(journals: Path) -> None:
    assert list(journals.iterdir()) == []
