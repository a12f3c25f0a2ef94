"""A Tiled server in this process, for tutorials, demonstrations and tests.

Tiled's own `SimpleTiledServer` keeps tables in DuckDB, where all requests share one connection:
clients that read while rows come in end the process, with a corrupted heap.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote_plus

STARTUP_TIMEOUT = 60.0
"""Seconds to wait until the server takes connections."""
LOGGERS = ("tiled", "uvicorn")
"""Loggers of the server."""


class LocalServer:
    """A Tiled server in a thread of this process, with tables in SQLite.

    Clients may read while rows come in. It needs the extra ``bluesky-tiled-writer[server]``. For
    data that matter use a server in a process of its own, with PostgreSQL.

    Parameters
    ----------
    directory : str or Path, optional
        For catalog, tables, arrays and log. A server that is given it later has all of that again.
        By default a temporary directory, which is removed at the end.
    database : str
        Where tables are: "sqlite" or "duckdb", in a file in the directory; or the URI of a
        database, such as ``postgresql://user@host:5432/name``.
    readable_storage : sequence of str or Path
        Directories of files that detectors write.
    api_key : str, optional
        By default a random one. Tiled has one key a process: that of its last server.
    port : int
        By default a free one.

    Attributes
    ----------
    uri : str
        Address of the API, with the key, for ``tiled.client.from_uri``.
    web_ui_link : str
        Address of Tiled's web page, with the key.
    directory : Path
        The directory.
    api_key : str
        The key.
    port : int
        The port.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        database: str = "sqlite",
        readable_storage: Sequence[str | Path] = (),
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self.api_key = api_key or secrets.token_hex(16)
        with ExitStack() as stack:
            if directory is None:
                directory = stack.enter_context(TemporaryDirectory(prefix="tiled-"))
            self.directory = Path(directory).resolve()
            self.directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_logging_to(self.directory / "server.log"))
            config = self._config(database, readable_storage)
            self.port = stack.enter_context(_serving(config, port))
            self._stack = stack.pop_all()
        url, key = f"http://127.0.0.1:{self.port}", quote_plus(self.api_key)
        self.uri = f"{url}/api/v1?api_key={key}"
        self.web_ui_link = f"{url}?api_key={key}"

    def _config(self, database: str, readable: Sequence[str | Path]) -> dict[str, Any]:
        """Return the configuration, as ``tiled serve config`` reads it from a file."""
        data, tables = self.directory / "data", self.directory / "tables.db"
        catalog_file = self.directory / "catalog.db"
        data.mkdir(exist_ok=True)
        if database == "sqlite":
            _let_readers_in(tables)
        if "://" not in database:
            database = f"{database}:///{tables}"
        catalog = {
            "uri": f"sqlite:///{catalog_file}",
            "init_if_not_exists": not catalog_file.exists(),  # takes seconds, even if it exists
            "writable_storage": [data.as_uri(), database],
            "readable_storage": [Path(path).resolve().as_uri() for path in readable],
        }
        return {
            "authentication": {"single_user_api_key": self.api_key},
            "trees": [{"path": "/", "tree": "catalog", "args": catalog}],
            "streaming_cache": {"uri": "memory"},
        }

    def close(self) -> None:
        """Stop the server, and remove its directory if that is temporary."""
        self._stack.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _let_readers_in(tables: Path) -> None:
    """Let SQLite read and write at the same time; without it, each finds the other's lock."""
    with closing(sqlite3.connect(tables)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write what the server logs to a file; it would clutter the output of notebooks."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


@contextmanager
def _serving(config: dict[str, Any], port: int) -> Iterator[int]:
    """Serve what a configuration describes, in another thread; yield the port."""
    import uvicorn
    from tiled.server.app import build_app_from_config

    options = uvicorn.Config(
        build_app_from_config(config), port=port, loop="asyncio", log_config=None
    )
    server = uvicorn.Server(options)
    # A daemon, so that a script which does not close the server ends nevertheless.
    thread = threading.Thread(target=server.run, name="tiled-server", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + STARTUP_TIMEOUT
        while not server.started:
            thread.join(0.02)
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("The Tiled server did not start.")
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
