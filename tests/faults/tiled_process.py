"""A Tiled server that can be killed, and started again on what it had stored."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx
from servers import Storage, app_config, free_port, is_healthy, wait_until

KEY = "secret"


class TiledProcess:
    """``tiled serve`` in a process of its own; catalog, tables and arrays are in a directory.

    Parameters
    ----------
    directory : Path
        For everything that the server stores.
    readable : Path
        Directory of the files of detectors.
    database : str
        That keeps the tables: duckdb or sqlite.

    Attributes
    ----------
    arrays : Path
        Directory of the arrays, in directories like the paths of their nodes.
    """

    def __init__(self, directory: Path, readable: Path, database: str = "duckdb") -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        self.arrays = directory / "data"
        self._log = directory / "log"
        storage = Storage(database, directory, f"{database}:///{directory / 'tables.db'}")
        config = app_config(storage, [readable])
        config["trees"][0]["args"] |= {
            "uri": f"sqlite:///{directory / 'catalog.db'}",
            "init_if_not_exists": True,
        }
        config["authentication"] = {"single_user_api_key": KEY}
        self._config = directory / "config.yml"
        self._config.write_text(json.dumps(config))  # which is YAML, too
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, which stays the same."""
        return self._url

    @property
    def uri(self) -> str:
        """The address of the API, with its key."""
        return uri_of(self._url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and wait until the server answers."""
        assert self._process is None
        port = self._url.rpartition(":")[2]
        command = [sys.executable, "-m", "tiled", "serve", "config", str(self._config)]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [*command, f"--port={port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(
            lambda: process.poll() is not None or is_healthy(self._url),
            lambda: f"the Tiled server does not answer:\n{self._log.read_text()}",
        )
        if process.poll() is not None:
            raise RuntimeError(f"the Tiled server ended at start:\n{self._log.read_text()}")

    def kill(self) -> None:
        """End the process with SIGKILL, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def delete_arrays_without_a_node(self, run: str) -> list[Path]:
        """Delete what is left of arrays of a run that the server was killed while making.

        It refuses to make them again as long as they are there.
        """
        headers = {"Authorization": f"Apikey {KEY}"}
        left = []
        for path in self.arrays.glob(f"{run}/*/*"):
            node = path.relative_to(self.arrays).as_posix()
            answer = httpx.get(f"{self._url}/api/v1/metadata/{node}", headers=headers)
            if answer.status_code == httpx.codes.NOT_FOUND:
                left.append(path)
                shutil.rmtree(path)
        return left


def uri_of(url: str) -> str:
    """The address of a server's API, or of a proxy before it, with the key."""
    return f"{url}/api/v1?api_key={KEY}"
