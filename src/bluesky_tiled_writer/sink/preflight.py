"""A check before the first run: does the server do all that a run needs, and how well."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from tiled.structures.array import ArrayStructure
from tiled.structures.core import Spec, StructureFamily
from tiled.structures.data_source import Asset, DataSource, Management

from bluesky_tiled_writer.errors import RequestRefused, TiledWriterError, mapped_errors
from bluesky_tiled_writer.journal import Finding, Grade

from .address import Address
from .connection import Connection
from .items import has_structure
from .requests import Requests
from .tables import KEEP_ORDER, database_of

FAR = 20.0
"""ms to the server and back from which on a request is worth a thought."""
SKEW = 2.0
"""Seconds by which clocks may differ before that is worth a word."""
LIVE_PATIENCE = 5.0
"""Seconds for what was written to come to a live subscriber."""

_NAME = "bluesky-tiled-writer-check"
_ROWS = 3

_DATABASES = {
    "postgresql": (Grade.OK, "PostgreSQL", ""),
    "sqlite": (Grade.OK, "SQLite", "It belongs to one server process; several need PostgreSQL."),
    "duckdb": (
        Grade.WARNING,
        "DuckDB",
        "Clients that read tables while they grow can end the server: use SQLite or PostgreSQL.",
    ),
}


_WITHOUT_DELETION = (
    "Values that need a wider type than the first rows are kept in notes, or in a table beside the"
    " others. With the scopes delete:node and delete:revision their node is written anew."
)


class Preflight:
    """Tries on a server what a run needs, in a container of its own that is deleted at the end.

    Parameters
    ----------
    client : tiled.client.base.BaseClient
        The container that is to get the runs.
    path_map : callable, optional
        Returns the URI under which the server finds a file, and whether it differs.
    """

    def __init__(
        self, client: Any, path_map: Callable[[str], tuple[str, bool]] = lambda uri: (uri, False)
    ) -> None:
        self._client = client
        self._path_map = path_map
        self._requests = Requests(Connection.of(client))
        self._found: list[Finding] = []

    def check(self, files: str | Path | None = None) -> list[Finding]:
        """Return what was found; nothing is left on the server.

        Parameters
        ----------
        files : str or Path, optional
            A directory of detector files: a file is written there, and read through the server.
        """
        self._look_at_server()
        self._look_at_login()
        name, container = f"{_NAME}-{uuid.uuid4().hex[:8]}", None
        with self._step("container", "can be made"):
            container = self._client.create_container(name)
        if container is None:
            return self._found
        try:
            self._try_table(container)
            self._try_array(container)
            if files is not None:
                self._try_file(container, Path(files))
            self._try_live(container)
            self._try_validator(container)
        finally:
            self._delete(name)
        return self._found

    # -- the server -----------------------------------------------------------------------------

    def _look_at_server(self) -> None:
        context = self._client.context
        with self._step("server", ""):
            times, answer = [], None
            for _ in range(5):
                began = time.perf_counter()
                answer = context.http_client.get(str(context.api_uri))
                times.append(1000 * (time.perf_counter() - began))
            distance, version = median(times), context.server_info.library_version
            text = f"Tiled {version} at {Address.of(self._client)}, {distance:.1f} ms away."
            hint = "Scans do not wait for it; their ends do, for about five requests."
            self._add("server", Grade.OK, text, hint if distance > FAR else "")
            self._compare_clocks(answer)
        exporters = context.server_info.formats.get("BlueskyRun", [])
        if exporters:
            self._add("exporter", Grade.OK, f"Runs can be exported as {', '.join(exporters)}.")
        else:
            text = "Runs cannot be exported as documents (no media type for BlueskyRun)."
            hint = "Install bluesky-tiled-plugins beside the server and configure its exporter."
            self._add("exporter", Grade.WARNING, text, hint)

    def _compare_clocks(self, answer: Any) -> None:
        date = answer.headers.get("date") if answer is not None else None
        if date is None:
            return
        skew = time.time() - parsedate_to_datetime(date).timestamp() - 0.5  # it has whole seconds
        text = f"This machine and the server differ by {abs(skew):.0f} s."
        if abs(skew) > SKEW:
            self._add("clock", Grade.WARNING, text, "Synchronize both: tokens expire by the clock.")
        else:
            self._add("clock", Grade.OK, text)

    def _look_at_login(self) -> None:
        """Tell who this is; what is allowed is told by what can be done."""
        context = self._client.context
        links = context.server_info.authentication.links
        who = "an API key of the whole server, or anybody"
        if links is not None and getattr(links, "whoami", None):
            with suppress(Exception):
                found = context.http_client.get(str(links.whoami)).json()
                names = [identity["id"] for identity in found.get("identities", [])]
                who = ", ".join(names) or f"principal {found.get('uuid')}"
            with suppress(Exception):
                key = context.http_client.get(str(links.apikey)).json()
                who += f", with an API key of scopes {', '.join(key['scopes'])}"
        self._add("login", Grade.OK, f"It is {who}.")

    # -- what a run needs -----------------------------------------------------------------------

    def _try_table(self, container: Any) -> None:
        table = pa.table({"seq_num": pa.array(range(1, _ROWS + 1), pa.int64())})
        with self._step("table", "can be made, grow, and be read"):
            node = container.create_appendable_table(table.schema, key="table")
            node.append_partition(0, table)
            found = node.read()["seq_num"].tolist()
            if found != table["seq_num"].to_pylist():
                raise TiledWriterError(f"of {_ROWS} rows, {found} came back.")
        item = self._requests.item((container.item["id"], "table"))
        if item is not None and has_structure(item):
            database = database_of(item["attributes"])
            grade, name, hint = _DATABASES.get(database, (Grade.WARNING, database, ""))
            self._add("database of tables", grade, f"{name}.", hint)
            self._tell_order(database)

    def _tell_order(self, database: str) -> None:
        if self._requests.sorts_rows or database in KEEP_ORDER:
            self._add("order of rows", Grade.OK, "Rows come back in the order of the events.")
        else:
            text = "This server returns rows of tables in any order."
            self._add("order of rows", Grade.PROBLEM, text, "Use Tiled 0.2.11 or later.")

    def _try_array(self, container: Any) -> None:
        array = np.arange(6.0).reshape(2, 3)
        with self._step("array", "can be made, and be read"):
            node = container.write_array(array, key="array")
            if not np.array_equal(node.read(), array):
                raise TiledWriterError("other values came back.")

    def _try_file(self, container: Any, directory: Path) -> None:
        array = np.arange(_ROWS, dtype="<i8")
        path = directory / f"{_NAME}-{uuid.uuid4().hex[:8]}.npy"
        with self._step("detector files", f"in {directory} can be registered, and be read"):
            try:
                np.save(path, array)
                uri, _ = self._path_map(path.resolve().as_uri().replace("///", "//localhost/", 1))
                asset = Asset(data_uri=uri, is_directory=False, parameter="data_uri", num=None)
                source = DataSource(
                    structure_family=StructureFamily.array,
                    structure=ArrayStructure.from_array(array),
                    mimetype="application/x-npy",
                    management=Management.external,
                    assets=[asset],
                )
                node = container.new(StructureFamily.array, [source], key="file")
                if not np.array_equal(node.read(), array):
                    raise TiledWriterError("other values came back.")
            finally:
                path.unlink(missing_ok=True)

    def _try_live(self, container: Any) -> None:
        """Subscribe to the container, and see whether a new node is told."""
        came = threading.Event()
        try:
            container.create_container("live")
            subscription, callback = container.subscribe(), _setting(came)
            subscription.child_created.add_callback(callback)  # which it refers to weakly

            def listen() -> None:
                with suppress(Exception):  # the server has no streams
                    subscription.start(0)  # from the first update on

            thread = threading.Thread(target=listen, name="preflight", daemon=True)
            thread.start()
            told = came.wait(LIVE_PATIENCE)
            subscription.disconnect()
            thread.join(LIVE_PATIENCE)
        except Exception:
            told = False
        if told:
            self._add("live subscription", Grade.OK, "Subscribers are told of new data.")
        else:
            text = "Subscribers are not told of new data; polling works."
            hint = "Configure a streaming_cache (memory, or Redis for several servers)."
            self._add("live subscription", Grade.WARNING, text, hint)

    def _try_validator(self, container: Any) -> None:
        """See whether the server refuses a run that is none."""
        try:
            container.create_container("run", specs=[Spec("BlueskyRun", "3.0")])
        except Exception:
            self._add("validator", Grade.OK, "The server validates runs.")
        else:
            self._add("validator", Grade.OK, "The server takes runs as they are.")

    def _delete(self, name: str) -> None:
        with self._step("delete", ""):
            try:
                params = {"recursive": True, "external_only": False}
                self._requests.send("DELETE", "metadata", (name,), params=params)
                self._add("delete", Grade.OK, "What was made is deleted.")
            except RequestRefused as error:
                if not error.lacks_scope:
                    raise
                text = f"This login may not delete nodes: {name!r} is left there."
                self._add("delete", Grade.WARNING, text, _WITHOUT_DELETION)

    # -- parts ----------------------------------------------------------------------------------

    def _add(self, subject: str, grade: Grade, text: str, hint: str = "") -> None:
        self._found.append(Finding(subject, grade, text, hint))

    @contextmanager
    def _step(self, subject: str, done: str) -> Iterator[None]:
        """Try something; what goes wrong is a problem, and what comes after it is tried, too."""
        try:
            with mapped_errors(f"the check of the {subject}"):
                yield
        except Exception as error:
            expected = isinstance(error, TiledWriterError)
            text = str(error.args[0]) if expected else f"{type(error).__name__}: {error}"
            hint = error.hint if isinstance(error, TiledWriterError) else ""
            self._add(subject, Grade.PROBLEM, text, hint)
        else:
            if done:
                self._add(subject, Grade.OK, f"{done[0].upper()}{done[1:]}.")


def _setting(event: threading.Event) -> Callable[..., None]:
    return lambda *_: event.set()
