"""Whether Tiled has runs to their end."""

from __future__ import annotations

from documents import RunBuilder
from servers import wait_until
from tiled.client.container import Container


def is_stored(client: Container, run: RunBuilder) -> bool:
    return run.uid in client and bool(client[run.uid].metadata.get("stop"))


def wait_stored(client: Container, *runs: RunBuilder, timeout: float = 90.0) -> None:
    for run in runs:
        wait_until(lambda run=run: is_stored(client, run), f"{run.uid} is not stored", timeout)  # type: ignore[misc]
