"""What a facility has: PostgreSQL, Redis, two Tiled servers, and HAProxy in front of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.tiled_process import TiledProcess, uri_of
from servers import PostgreSQL, free_port, is_healthy, wait_until

_BALANCER = """
global
    maxconn 500
defaults
    mode http
    timeout connect 2s
    timeout check 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    retries 3
    option redispatch
    retry-on conn-failure
frontend tiled
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    balance leastconn
    option httpchk GET /healthz
    default-server check inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
"""
"""A request that may have reached a server is not sent to another one: that is for the client."""


def program(name: str) -> str:
    """Return the path of a program; skip the test where it is not installed, but not in CI."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI must not skip this test")
        pytest.skip(f"{name} is not installed")
    return path


class SharedTiled(TiledProcess):
    """One of several servers with the same catalog, tables, arrays and streaming cache."""

    def __init__(
        self, directory: Path, readable: Path, shared: Path, database: str, redis: str
    ) -> None:
        directory.mkdir()
        super().__init__(directory, readable, "postgresql", database)
        self.arrays = shared
        self._catalog = database
        config: dict[str, Any] = json.loads(self._config.read_text())
        arguments = config["trees"][0]["args"]
        arguments["uri"] = database
        arguments["writable_storage"] = [shared.as_uri(), database]
        config["streaming_cache"] = {"uri": redis}
        self._config.write_text(json.dumps(config))


class Facility:
    """The parts, each in a process of its own.

    Attributes
    ----------
    servers : list of SharedTiled
        The Tiled servers.
    url : str
        The address of the balancer.
    """

    def __init__(self, postgresql: PostgreSQL, servers: list[SharedTiled], url: str) -> None:
        self.postgresql = postgresql
        self.servers = servers
        self.url = url

    @property
    def uri(self) -> str:
        """The address of the API, with its key."""
        return uri_of(self.url)

    @classmethod
    @contextmanager
    def running(cls, directory: Path, readable: Path, servers: int = 2) -> Iterator[Facility]:
        """Run all of it."""
        binaries = PostgreSQL.find_binaries()
        if binaries is None:
            program("initdb")
            raise AssertionError
        shared = directory / "shared"
        shared.mkdir()
        with ExitStack() as stack:
            cluster = stack.enter_context(PostgreSQL(binaries, survives=True).running())
            database = stack.enter_context(cluster.new_database())
            redis = stack.enter_context(_redis(directory))
            tiled = []
            for number in range(servers):
                server = SharedTiled(
                    directory / f"tiled-{number}", readable, shared, database, redis
                )
                tiled.append(stack.enter_context(server))
            url = stack.enter_context(_balancer(directory, [server.url for server in tiled]))
            yield cls(cluster, tiled, url)


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with _process(program("redis-server"), *options, log=directory / "redis.log"):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def _balancer(directory: Path, urls: list[str]) -> Iterator[str]:
    port = free_port()
    servers = [f"    server tiled-{n} {url.removeprefix('http://')}" for n, url in enumerate(urls)]
    path = directory / "haproxy.cfg"
    path.write_text(_BALANCER.format(port=port) + "\n".join(servers) + "\n")
    url = f"http://127.0.0.1:{port}"
    with _process(program("haproxy"), "-f", str(path), log=directory / "haproxy.log"):
        wait_until(lambda: is_healthy(url), lambda: "the balancer does not answer")
        yield url


@contextmanager
def _process(*command: str, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()
