"""Show that readers during appends end a Tiled server that keeps tables in DuckDB.

For a report to Tiled; it uses nothing of this package. It needs `tiled[all]` and some seconds:

    python duckdb_crash.py            # DuckDB, which `tiled serve catalog --temp` has
    python duckdb_crash.py sqlite     # the same with tables in SQLite

The server gets one table, to which one client appends a row after the other, while three processes
read it. It prints how that ended; the exit status is 1 if the server died.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

SECONDS = 60.0
READERS = 3
KEY = "secret"


def address() -> tuple[int, str]:
    """Return a free port, and the address of a server there."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    return port, f"http://127.0.0.1:{port}"


def read(url: str) -> None:
    """Read the table again and again."""
    from tiled.client import from_uri

    table = from_uri(f"{url}/api/v1", api_key=KEY)["table"]
    while True:
        with suppress(Exception):  # a read at the moment of an append may fail
            table.read()


def append(url: str, server: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Append rows until the time is up, or the server is gone; return how many, and failures."""
    import pyarrow
    from tiled.client import from_uri

    schema = pyarrow.schema([("n", pyarrow.int64()), ("x", pyarrow.float64())])
    client = from_uri(f"{url}/api/v1", api_key=KEY)
    table = client.create_appendable_table(schema, key="table")
    context = multiprocessing.get_context("spawn")
    readers = [context.Process(target=read, args=(url,), daemon=True) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    rows = failures = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        row = pyarrow.table({"n": [rows], "x": [rows / 2]}, schema)
        try:
            table.append_partition(0, row)
            rows += 1
        except Exception:
            failures += 1
            time.sleep(0.1)
    for reader in readers:
        reader.kill()
        reader.join()
    return rows, failures


def main() -> int:
    """Serve, append and read; return 1 if the server died."""
    database = sys.argv[1] if len(sys.argv) > 1 else "duckdb"
    port, url = address()
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        storage = [f"--write={directory}/data", f"--write={database}:///{directory}/tables.db"]
        Path(directory, "data").mkdir()
        catalog = ["catalog", f"{directory}/catalog.db", "--init", *storage]
        command = [sys.executable, "-m", "tiled", "serve", *catalog, f"--api-key={KEY}"]
        with log.open("wb") as output:
            server = subprocess.Popen([*command, f"--port={port}"], stdout=output, stderr=output)
        while server.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=1):
                break
        start = time.monotonic()
        rows, failures = append(url, server)
        elapsed, status = time.monotonic() - start, server.poll()
        lines = log.read_text().splitlines()
        server.kill()
        server.wait()
    print(f"{database}: {rows} rows in {elapsed:.0f} s, {failures} appends failed.")
    if status is None:
        print("The server lives.")
        return 0
    reason = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    print(f"The server died: {reason}. The end of its log:", *lines[-3:], sep="\n    ")
    return 1


if __name__ == "__main__":
    sys.exit(main())
