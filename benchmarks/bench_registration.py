"""How long it takes to register many external keys where every request to Tiled is late."""

from __future__ import annotations

import argparse
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
from bluesky_tiled_plugins import TiledWriter as PeerWriter
from common import EPOCH, PATIENCE, PROXY_DELAY, Pair, distant, journals, seconds, tiled_server
from tiled.client import from_uri

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.delivery import CONNECTIONS

Writer = Callable[[str, dict[str, Any]], object]
SHAPE = (3, 4)


def write_file(path: Path, keys: int, rows: int) -> None:
    with h5py.File(path, "w") as file:
        for i in range(keys):
            file[f"data_{i}"] = np.full((rows, *SHAPE), i, "<i4")


def documents(path: Path, keys: int, rows: int) -> tuple[str, list[Pair]]:
    """A run whose keys are all data sets of one file."""
    uid, descriptor = str(uuid.uuid4()), str(uuid.uuid4())
    data_key = {
        "source": "",
        "dtype": "array",
        "dtype_numpy": "<i4",
        "shape": [1, *SHAPE],
        "external": "STREAM:",
    }
    stream = {
        "uid": descriptor,
        "run_start": uid,
        "time": EPOCH,
        "name": "primary",
        "data_keys": {f"key_{i}": data_key for i in range(keys)},
        "object_keys": {"det": [f"key_{i}" for i in range(keys)]},
        "configuration": {},
    }
    docs: list[Pair] = [("start", {"uid": uid, "time": EPOCH}), ("descriptor", stream)]
    for i in range(keys):
        resource = {
            "uid": f"{uid}-{i}",
            "run_start": uid,
            "data_key": f"key_{i}",
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{path}",
            "parameters": {"dataset": f"/data_{i}", "chunk_shape": [rows, *SHAPE]},
        }
        datum = {
            "uid": f"{uid}-{i}/0",
            "stream_resource": resource["uid"],
            "descriptor": descriptor,
            "indices": {"start": 0, "stop": rows},
            "seq_nums": {"start": 1, "stop": rows + 1},
        }
        docs += [("stream_resource", resource), ("stream_datum", datum)]
    stop = {"uid": f"{uid}-stop", "run_start": uid, "time": EPOCH, "exit_status": "success"}
    return uid, [*docs, ("stop", stop)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=500)
    parser.add_argument(
        "--serial-keys", type=int, default=200, help="for one connection, scaled up to --keys"
    )
    parser.add_argument("--peer-keys", type=int, default=50, help="for the peer, likewise")
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--delay", type=float, default=PROXY_DELAY, help="seconds a request")
    options = parser.parse_args()

    with (
        tempfile.TemporaryDirectory() as name,
        tiled_server(Path(name)) as server,
        distant(server, options.delay) as uri,
        journals() as directory,
    ):
        path = Path(name) / "data.h5"
        write_file(path, options.keys, options.rows)
        client, near = from_uri(uri), from_uri(server)

        def send(writer: Writer, keys: int) -> float:
            """From `start` until `stop` returns, in seconds for all keys."""
            uid, docs = documents(path, keys, options.rows)

            def action() -> None:
                for name, doc in docs:
                    writer(name, doc)

            elapsed = seconds(action)
            check(uid, keys)
            return elapsed * options.keys / keys

        def check(uid: str, keys: int) -> None:
            stream = near[uid]["primary"].base
            if len(stream) != keys:
                raise RuntimeError(f"{len(stream)} of {keys} keys are in Tiled")
            for i in (0, keys - 1):
                if not (stream[f"key_{i}"].read() == i).all():
                    raise RuntimeError(f"key_{i} does not give what is in the file")

        def ours(keys: int) -> float:
            with TiledWriter(client, journal_directory=directory, timeout=PATIENCE) as writer:
                return send(writer, keys)

        def serial() -> float:
            with patch("bluesky_tiled_writer.writer.CONNECTIONS", 1):
                return ours(options.serial_keys)

        ours(1)  # what comes only once in a process
        together = ours(options.keys)
        one_by_one = serial()
        peer = send(PeerWriter(client), options.peer_keys)

    print(
        f"registration: {options.keys} external keys, each request {options.delay} s late: ours "
        f"{together:.1f} s ({CONNECTIONS} connections), {one_by_one:.1f} s with one, "
        f"ratio 1/{one_by_one / together:.1f}; peer {peer:.1f} s, ratio 1/{peer / together:.1f}"
    )


if __name__ == "__main__":
    main()
