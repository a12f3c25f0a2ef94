"""Rows come back as they were measured, on each database, however users read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DATABASES
from documents import RunBuilder, data_key, emit
from faults.tiled_process import KEY
from tiled.client.container import Container
from tree import stream_of
from typer.testing import CliRunner

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.cli import app

ON_POSTGRESQL = pytest.mark.postgresql
EVENTS = 400
FLUSH_EVERY = 20
"""Rows in one append: enough appends for PostgreSQL to fill free space in older pages."""


class Numbering:
    """How `seq_num` and `time` go on from row to row."""

    def __init__(self, seq_num: Callable[[int], int], time: Callable[[int], float]) -> None:
        self.seq_num = seq_num
        self.time = time


def rewound(row: int) -> int:
    """Return a `seq_num` that goes back by 20 after each 100 rows, as after pause and resume."""
    return row + 1 - 20 * (row // 100)


NUMBERINGS = {
    "plain": Numbering(lambda row: row + 1, lambda row: 1e9 + row),
    "rewound": Numbering(rewound, lambda row: 1e9 + row),
    "rewound, equal times": Numbering(lambda row: rewound(row), lambda row: 1e9 + row // 100),
    "clock steps back": Numbering(lambda row: row + 1, lambda row: 1e9 + row - 50 * (row // 100)),
    "both at once": Numbering(rewound, lambda row: 1e9 + row - 50 * (row // 100)),
    "nothing changes": Numbering(lambda row: 1, lambda row: 1e9),
}


def numbered_run(numbering: Numbering, events: int = EVENTS, keys: int = 2) -> RunBuilder:
    """Return a run whose values, in a table and in an array node, are the numbers of its rows."""
    run = RunBuilder()
    run.start()
    names = [f"x{i}" for i in range(keys)]
    declared: dict[str, Any] = dict.fromkeys(names, "number")
    run.descriptor("primary", declared | {"a": data_key("array", [2]), "text": "string"})
    for row in range(events):
        data = dict.fromkeys(names, row) | {"a": [row, row], "text": str(row)}
        _, doc = run.event("primary", data)
        doc["seq_num"], doc["time"] = numbering.seq_num(row), numbering.time(row)
    run.stop()
    return run


def send_in_parts(
    run: RunBuilder, writer: TiledWriter, halfway: Callable[[], None] = lambda: None
) -> None:
    """Send a run so that Tiled gets its rows in many appends."""
    rows, events = 0, sum(name == "event" for name, _ in run.docs)
    for name, doc in run.docs:
        emit([(name, doc)], writer)
        rows += name == "event"
        if name == "event" and rows % FLUSH_EVERY == 0:
            assert writer.flush(timeout=60.0)
        if name == "event" and rows == events // 2:
            halfway()


@pytest.fixture
def holes(database: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Leave free space in the middle of the tables of a PostgreSQL database."""
    if database != "postgresql":
        yield lambda: None
        return
    from adbc_driver_postgresql import dbapi

    uri = request.getfixturevalue("postgresql_uri")

    def make() -> None:
        with closing(dbapi.connect(uri, autocommit=True)) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT table_name FROM information_schema.columns WHERE column_name = 'x0'"
            )
            for (table,) in cursor.fetchall():
                last = f'(SELECT max(_dataset_id) FROM "{table}")'
                cursor.execute(
                    f'DELETE FROM "{table}" WHERE _dataset_id < {last} AND random() < .5'
                )
                cursor.execute(f'VACUUM "{table}"')
            cursor.close()

    yield make


def assert_in_order(client: Container, uid: str, events: int, columns: int = 2) -> None:
    """Read a run as users do."""
    measured = np.arange(events)
    stream = client[uid]["primary"]
    read = stream.read()
    for name in ("x0", f"x{columns - 1}"):
        np.testing.assert_array_equal(stream[name].read(), measured)
        np.testing.assert_array_equal(read[name], measured)
    np.testing.assert_array_equal(np.asarray(read["a"])[:, 0], measured)
    assert list(read["text"].values) == [str(row) for row in measured]
    base = stream_of(client, uid)
    for name in (node for node in base if node.startswith("internal")):
        table = base[name]
        column = next((c for c in table.columns if c.startswith("x")), None)
        if column is not None:
            np.testing.assert_array_equal(table.read()[column], measured)
            np.testing.assert_array_equal(table.read_partition(0, [column])[column], measured)


@pytest.mark.parametrize(
    ("database", "name"),
    [
        *(("duckdb", "both at once"), ("sqlite", "both at once"), ("sqlite", "rewound")),
        *(pytest.param("postgresql", name, marks=ON_POSTGRESQL) for name in NUMBERINGS),
    ],
    indirect=["database"],
)
def test_rows_are_read_in_the_order_in_which_they_were_measured(
    storage_client: Container, holes: Callable[[], None], name: str
) -> None:
    numbering = NUMBERINGS[name]
    first = numbered_run(numbering)
    with TiledWriter(storage_client, journal_directory=None) as writer:
        send_in_parts(first, writer)  # the rows of another run, which leaves holes in the table
        run = numbered_run(numbering)
        send_in_parts(run, writer, halfway=holes)
    assert_in_order(storage_client, run.uid, EVENTS)
    holes()
    assert_in_order(storage_client, run.uid, EVENTS)


@pytest.mark.parametrize("database", DATABASES[-1:], indirect=True)
def test_5000_live_rows_are_read_in_order(
    storage_client: Container, holes: Callable[[], None]
) -> None:
    with TiledWriter(storage_client, batch_size=1, journal_directory=None) as writer:
        send_in_parts(numbered_run(NUMBERINGS["rewound"]), writer)
        holes()
        run = numbered_run(NUMBERINGS["rewound"], 5000)
        send_in_parts(run, writer, halfway=holes)
    assert_in_order(storage_client, run.uid, 5000)
    holes()
    assert_in_order(storage_client, run.uid, 5000)


def test_each_part_of_a_wide_table_is_in_order(
    storage_client: Container, holes: Callable[[], None]
) -> None:
    keys = 1200
    with TiledWriter(storage_client, journal_directory=None) as writer:
        send_in_parts(numbered_run(NUMBERINGS["rewound"], 50, keys), writer)
        holes()
        run = numbered_run(NUMBERINGS["rewound"], 150, keys)
        send_in_parts(run, writer, halfway=holes)
    assert_in_order(storage_client, run.uid, 150, keys)


@pytest.mark.parametrize("version", ["0.2.10", "0.2.11", "0.3.0b1", "unknown"])
def test_a_server_that_does_not_sort_is_noted_where_that_matters(
    storage_client: Container, database: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_client.context.server_info, "library_version", version)
    run = numbered_run(NUMBERINGS["rewound"], 20)
    with TiledWriter(storage_client) as writer:
        send_in_parts(run, writer)
    (source,) = storage_client[run.uid]["primary"].base["internal"].data_sources()
    # With the parameter, such a server could not open the table.
    assert ("order_by_args" in source.parameters) == (version != "0.2.10")
    notes = storage_client[run.uid].metadata.get("notes", ())
    noted = any("does not sort the rows" in note for note in notes)
    assert noted == (database == "postgresql" and version == "0.2.10")


@pytest.mark.parametrize("database", DATABASES[-1:], indirect=True)
@pytest.mark.parametrize("numbering", ["plain", "rewound"])
def test_runs_that_were_stored_without_an_order_get_one(
    storage_client: Container, holes: Callable[[], None], numbering: str, monkeypatch: Any
) -> None:
    run = numbered_run(NUMBERINGS[numbering])
    with monkeypatch.context() as patch, TiledWriter(storage_client) as writer:
        patch.setattr("bluesky_tiled_writer.sink.tables.order_parameters", lambda order: {})
        send_in_parts(numbered_run(NUMBERINGS[numbering]), writer)
        send_in_parts(run, writer, halfway=holes)
    with pytest.raises(AssertionError):
        assert_in_order(storage_client, run.uid, EVENTS)
    uri = f"{storage_client.context.api_uri}?api_key={KEY}"
    done = CliRunner().invoke(app, ["sort", run.uid, "--to", uri])
    assert done.exit_code == 0, done.output
    assert "internal: sorted by " in done.output
    assert_in_order(storage_client, run.uid, EVENTS)
    again = CliRunner().invoke(app, ["sort", run.uid, "--to", uri])
    assert "internal: is sorted by " in again.output


@pytest.mark.plugins
def test_exporter_has_the_rows_in_order(
    storage_client: Container, holes: Callable[[], None], tmp_path: Path
) -> None:
    """It sorts events by time, and takes those of one `seq_num` for one."""
    with TiledWriter(storage_client, journal_directory=None) as writer:
        send_in_parts(numbered_run(NUMBERINGS["plain"]), writer)
        run = numbered_run(NUMBERINGS["plain"])
        send_in_parts(run, writer, halfway=holes)
    events = exported(storage_client[run.uid], tmp_path / "run.json-seq")
    assert [event["data"]["x0"] for event in events] == list(range(EVENTS))


@pytest.mark.plugins
def test_run_whose_table_has_row_numbers_can_be_exported(
    storage_client: Container, tmp_path: Path
) -> None:
    with TiledWriter(storage_client) as writer:
        run = numbered_run(NUMBERINGS["nothing changes"], 3)
        emit(run.docs, writer)
    assert "ts_row_number" in stream_of(storage_client, run.uid)["internal"].columns
    assert exported(storage_client[run.uid], tmp_path / "run.json-seq")


def exported(run: Container, path: Path) -> list[dict[str, Any]]:
    """Return the events that the exporter of bluesky-tiled-plugins has of a run."""
    run.export(str(path), format="application/json-seq")
    documents = [json.loads(line.strip("\x1e")) for line in path.read_text().split("\n") if line]
    return [document["doc"] for document in documents if document["name"] == "event"]
