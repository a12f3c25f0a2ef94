"""Tiled servers for tests, in this process or another one, and the databases behind them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from tiled.client.context import Context

STARTUP_TIMEOUT = 120.0
"""s: enough even on a busy machine."""
EXPORTER = "bluesky_tiled_plugins.exporters:json_seq_exporter"


@dataclass(frozen=True)
class Storage:
    """The storage of an app: arrays in a directory, tables in a database."""

    name: str
    directory: Path
    sql_uri: str


def app_config(storage: Storage, readable: Sequence[Path] = (), **more: Any) -> dict[str, Any]:
    """Return the configuration of a facility's server, with two differences.

    The catalog is in memory, which spares each app the seconds that `tiled catalog init` takes;
    under a name of its own, because Tiled shares what is in memory among the apps of a process by
    its name, and empties it as soon as one of them ends.
    No API key is set, because Tiled has one key a process: setting one for this app would lock
    out the clients of the others. `Context.from_app` finds it in Tiled's settings.
    """
    data = storage.directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    catalog = {
        "uri": f"sqlite:///file:{uuid.uuid4().hex}?mode=memory&cache=shared&uri=true",
        "writable_storage": [data.as_uri(), storage.sql_uri],
        "readable_storage": [path.as_uri() for path in readable],
        **more,
    }
    config: dict[str, Any] = {
        "trees": [{"path": "/", "tree": "catalog", "args": catalog}],
        "streaming_cache": {"uri": "memory"},
    }
    if find_spec("bluesky_tiled_plugins"):
        config["media_types"] = {"BlueskyRun": {"application/json-seq": EXPORTER}}
    return config


@contextmanager
def in_process(storage: Storage, readable: Sequence[Path] = (), **more: Any) -> Iterator[Context]:
    """Run an app in this process, and stop it with all of its threads.

    `more` are arguments of its catalog.
    """
    from tiled.server.app import build_app_from_config

    with Context.from_app(build_app_from_config(app_config(storage, readable, **more))) as context:
        yield context


@contextmanager
def tiled_serve_catalog(directory: Path, readable: Sequence[Path] = ()) -> Iterator[str]:
    """Run ``tiled serve catalog --temp`` in a process of its own, and yield the URI of its API."""
    port = free_port()
    command = [sys.executable, "-m", "tiled", "serve", "catalog", "--temp"]
    command += ["--api-key=secret", f"--port={port}", *(f"--read={path}" for path in readable)]
    log = directory / "tiled-serve-catalog.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(directory)},
        )
    try:
        wait_until(
            lambda: process.poll() is not None or is_healthy(f"http://127.0.0.1:{port}"),
            lambda: f"the Tiled server does not answer:\n{log.read_text()}",
        )
        if process.poll() is not None:
            raise RuntimeError(f"the Tiled server ended at start:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}/api/v1?api_key=secret"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class PostgreSQL:
    """A PostgreSQL cluster of our own, in a temporary directory, without durability.

    It listens on a Unix socket in that directory and on a free port of localhost.

    Parameters
    ----------
    binaries : Path
        Directory of its programs.
    survives : bool
        Keep what was committed when the cluster is killed (not when the machine is).
    """

    def __init__(self, binaries: Path, *, survives: bool = False) -> None:
        self._binaries = binaries
        self._survives = survives
        # A short path outside of pytest's directories: those are closed to other users, and the
        # name of a Unix socket may have 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="pg-"))
        # PostgreSQL refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._directory, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._port = free_port()
        self._data = self._directory / "data"

    @staticmethod
    def find_binaries() -> Path | None:
        """Return the directory of the newest `initdb`, which Debian keeps off the PATH."""
        if on_path := shutil.which("initdb"):
            return Path(on_path).resolve().parent
        installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        versions = sorted(installed, key=lambda path: float(path.parts[-3]))
        return versions[-1].parent if versions else None

    @contextmanager
    def running(self) -> Iterator[PostgreSQL]:
        try:
            self._run("initdb", "--username=postgres", "--auth=trust", "--no-sync")
            self._start()
            try:
                yield self
            finally:
                self._run("pg_ctl", "stop", "--wait", "--mode=immediate")
        finally:
            shutil.rmtree(self._directory)

    def crash(self) -> None:
        """End without a word to anybody, and start again, as after a crash."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")
        self._start()

    def _start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": self._directory,
            "fsync": "off",
            "synchronous_commit": "on" if self._survives else "off",
            "full_page_writes": "off",
        }
        options = " ".join(f"-c {key}={value}" for key, value in settings.items())
        log = str(self._directory / "log")
        self._run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options}")

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Yield the URI of an empty database, and drop it at the end.

        The name is new each time: Tiled tells the databases of a process apart by name alone.
        """
        name = f"tiled_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name}")
        yield self._uri(name)
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _uri(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def _execute(self, statement: str) -> None:
        from adbc_driver_postgresql import dbapi

        with (
            dbapi.connect(self._uri("postgres"), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)

    def _run(self, program: str, *arguments: str) -> None:
        # To a file, not a pipe: the server inherits it from pg_ctl and would keep a pipe open.
        output = self._directory / f"{program}.out"
        with output.open("ab") as stream:
            done = subprocess.run(
                [self._binaries / program, f"--pgdata={self._data}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                timeout=STARTUP_TIMEOUT,
                **self._user,
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{output.read_text()}")


def free_port() -> int:
    """Return a port of localhost that is free now."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


def wait_until(
    condition: Callable[[], bool],
    message: str | Callable[[], str],
    timeout: float = STARTUP_TIMEOUT,
) -> None:
    """Wait until something is true; else raise an error with the message."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(message if isinstance(message, str) else message())
        time.sleep(0.05)
