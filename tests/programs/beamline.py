"""A beamline for a test: a Tiled server that may be down, and a home for the programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.tiled_process import TiledProcess
from servers import wait_until
from tiled.client import from_uri
from tree import columns_of, stream_of

PROFILE = Path(__file__).parent / "profile"


@dataclass(frozen=True)
class StoredRun:
    """What Tiled holds of a run."""

    plan: str
    stop: dict[str, Any] | None
    seq_nums: list[int]

    @property
    def is_whole(self) -> bool:
        """True if it has its end, and each row that was measured once."""
        return self.stop is not None and self.seq_nums == [
            *range(1, self.stop["num_events"]["primary"] + 1)
        ]


@dataclass(frozen=True)
class Beamline:
    """A Tiled server, not started yet, and the environment of the programs that write to it."""

    server: TiledProcess
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables; they leave what the user has in his home alone."""
        return os.environ | {
            "HOME": str(self.home),
            "IPYTHONDIR": str(self.home / "ipython"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "TILED_URI": self.server.uri,
            "TILED_PROFILES": str(self.home / "profiles"),
        }

    def write_profile(self, name: str) -> None:
        """Write a profile of Tiled for the server."""
        directory = self.home / "profiles"
        directory.mkdir(exist_ok=True)
        profile = {name: {"uri": self.server.uri}}
        (directory / f"{name}.yml").write_text(json.dumps(profile))  # which is YAML, too

    @property
    def journals(self) -> list[Path]:
        """The journals of runs that are not stored to their end."""
        return sorted((self.home / "state").rglob("*.journal"))

    def wait_until_stored_in_part(self, *container: str) -> None:
        """Wait until the only run has a table; it is not read, since SQLite may be locked."""

        def tables() -> int:
            with self._opened(*container) as client:
                streams = [
                    stream_of(client, uid) for uid, run in client.items() if "primary" in run
                ]
                return sum("internal" in stream for stream in streams)

        wait_until(lambda: tables() == 1, lambda: f"not stored: {self.journals}")

    def wait_for_runs(self, *plans: str, container: tuple[str, ...] = ()) -> list[StoredRun]:
        """Wait until all runs are stored to their end, and return those of a container.

        They come in the order in which they were measured; their plans must be these.
        """
        wait_until(lambda: not self.journals, lambda: f"not stored: {self.journals}")
        with self._opened(*container) as client:
            runs = {uid: run.metadata for uid, run in client.items()}
            stored = [
                StoredRun(
                    metadata["start"]["plan_name"],
                    metadata.get("stop"),
                    columns_of(client, uid)["seq_num"],
                )
                for uid, metadata in sorted(runs.items(), key=lambda run: run[1]["start"]["time"])
            ]
        assert [run.plan for run in stored] == [*plans]
        assert all(run.is_whole for run in stored), stored
        return stored

    @contextmanager
    def _opened(self, *container: str) -> Iterator[Any]:
        """A client of a container; an empty mapping if it is not there."""
        client: Any = from_uri(self.server.uri)
        with client.context:
            for name in container:
                client = client.get(name, {})
            yield client
