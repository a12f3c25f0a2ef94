"""Readers that poll see rows during the scan, without a flush."""

from __future__ import annotations

from pathlib import Path

from conftest import ContextOn
from documents import RunBuilder, data_key
from servers import wait_until
from tiled.client import from_context
from tree import stream_of, unless_busy

from bluesky_tiled_writer import TiledWriter

ROWS = 5


def test_each_row_is_seen_before_the_next_one_is_measured(
    context_on: ContextOn, journals: Path
) -> None:
    client = from_context(context_on("sqlite"))
    run = RunBuilder()
    opening = [
        run.start(),
        run.descriptor(
            "primary", {"n": "integer", "wave": data_key("array", [2], dtype_numpy="<f8")}
        ),
    ]

    def seen() -> tuple[list[int], list[list[float]]] | None:
        """Return what there is of the run; None if there is nothing yet."""
        try:
            stream = stream_of(client, run.uid)
            numbers = unless_busy(lambda: list(stream["internal"].read()["n"]))
            wave = stream["wave"]
            return numbers or [], unless_busy(lambda: wave[: wave.shape[0]].tolist()) or []
        except KeyError:
            return None

    with TiledWriter(client, journal_directory=journals, batch_size=1) as writer:
        for name, doc in opening:
            writer(name, doc)
        for n in range(ROWS):
            writer(*run.event("primary", {"n": n, "wave": [n, -n]}))
            so_far = list(range(n + 1)), [[i, -i] for i in range(n + 1)]
            wait_until(lambda: seen() == so_far, lambda: f"{seen()}, not {so_far}", 30)  # noqa: B023
        writer(*run.stop())
        assert writer.wait_for(run.uid)
