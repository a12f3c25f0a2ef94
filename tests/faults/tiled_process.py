"""A Tiled server that can be killed, and restarted with what it has stored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import httpx
from servers import Storage, app_config, free_port, is_healthy, wait_until

from .processes import processes

KEY = "secret"


def serve(config: Path, catalog: str, port: int, log: Path) -> None:
    """Do what ``tiled catalog init`` and ``tiled serve config`` do, with the output in a file."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    import uvicorn
    from tiled.commandline._catalog import init
    from tiled.config import parse_configs
    from tiled.server.app import build_app_from_config

    init(catalog, if_not_exists=True)  # Tiled itself would start another Python for it
    uvicorn.run(build_app_from_config(parse_configs(config)), host="127.0.0.1", port=port)


ROOT_TAG = "everybody"
"""The access tag of the catalog itself, if access is controlled."""


class TiledProcess:
    """A Tiled server in a process of its own; catalog, tables and arrays are in a directory.

    Parameters
    ----------
    directory : Path
        For everything that the server stores.
    readable : Path
        Directory of the files of detectors.
    database : str
        That keeps the tables: duckdb, sqlite or postgresql.
    sql_uri : str, optional
        Where it is, if not in the directory.
    authentication : mapping, optional
        That part of the configuration; by default there is one API key.
    access_control : mapping, optional
        That part; the catalog has the tag `ROOT_TAG` then.
    streaming : bool
        Have a streaming cache, which live subscribers need.

    Attributes
    ----------
    database : str
        As given.
    arrays : Path
        Directory of the arrays, in directories like the paths of their nodes.
    catalog_file : Path
        SQLite's file of the catalog.
    """

    def __init__(
        self,
        directory: Path,
        readable: Path,
        database: str = "duckdb",
        sql_uri: str = "",
        authentication: Mapping[str, Any] | None = None,
        *,
        access_control: Mapping[str, Any] | None = None,
        streaming: bool = True,
    ) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        self.database = database
        self.arrays = directory / "data"
        self._log = directory / "log"
        sql_uri = sql_uri or f"{database}:///{directory / 'tables.db'}"
        storage = Storage(database, directory, sql_uri)
        config = app_config(storage, [readable])
        self.catalog_file = directory / "catalog.db"
        self._catalog = f"sqlite:///{self.catalog_file}"
        config["trees"][0]["args"]["uri"] = self._catalog
        config["authentication"] = {"single_user_api_key": KEY}
        if not streaming:
            del config["streaming_cache"]
        if authentication is not None:
            config["authentication"] = dict(authentication)
            users = f"sqlite:///{directory / 'users.db'}"
            config["database"] = {"uri": users, "init_if_not_exists": True}
        if access_control is not None:
            config["access_control"] = dict(access_control)
            config["trees"][0]["args"]["top_level_access_tags"] = [ROOT_TAG]
        self._config = directory / "config.yml"
        self._config.write_text(json.dumps(config))  # which is YAML, too
        self._process: BaseProcess | None = None

    @property
    def url(self) -> str:
        """The address, which stays the same."""
        return self._url

    @property
    def uri(self) -> str:
        """The address of the API, with its key."""
        return uri_of(self._url)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and wait until the server answers."""
        assert self._process is None
        port = int(self._url.rpartition(":")[2])
        process = processes.Process(
            target=serve, args=(self._config, self._catalog, port, self._log)
        )
        process.start()
        self._process = process
        try:
            wait_until(
                lambda: not process.is_alive() or is_healthy(self._url),
                lambda: f"the Tiled server does not answer:\n{self._log.read_text()}",
            )
            if not process.is_alive():
                raise RuntimeError(f"the Tiled server ended at start:\n{self._log.read_text()}")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process with SIGKILL, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None

    def delete_arrays_without_a_node(self, run: str) -> list[Path]:
        """Delete what a killed server left of arrays of a run whose nodes it had not made yet.

        It refuses to make such an array as long as the files are there. Return their directories.
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
    """Return the address of the API of a server, or of a proxy in front of it, with the key."""
    return f"{url}/api/v1?api_key={KEY}"
