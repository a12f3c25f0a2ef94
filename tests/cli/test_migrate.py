"""Runs move from files, from Tiled and from programs; what cannot move is named."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgpack
import pytest
import stamina
from click.testing import Result
from documents import EPOCH, Pair, RunBuilder, emit, scalar_run
from servers import free_port, wait_until
from tiled.client import from_uri
from tiled.client.container import Container
from tiled.server.settings import get_settings
from tree import columns_of
from typer.testing import CliRunner

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.cli import migrate
from bluesky_tiled_writer.cli.app import app
from bluesky_tiled_writer.cli.reports import Outcome

COMMAND = [sys.executable, "-m", "bluesky_tiled_writer.cli"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A server that this module's tests share."""
    from bluesky_tiled_writer.local_server import LocalServer

    key = get_settings().single_user_api_key  # which is one for all servers of a process
    with LocalServer(readable_storage=[tmp_path_factory.getbasetemp()], api_key=key) as server:
        client = from_uri(server.uri)
        yield client
        client.context.close()


@pytest.fixture
def source(root: Container) -> Container:
    return root.create_container()


@pytest.fixture
def target(root: Container) -> Container:
    return root.create_container()


def run_cli(source: Any, target: Container, *options: str) -> Result:
    address = source if isinstance(source, str | Path) else uri(source)
    return CliRunner().invoke(app, ["migrate", str(address), "--to", uri(target), *options])


def uri(container: Container) -> str:
    return f"{container.uri}?api_key={container.context.api_key}"


def write(container: Container, *runs: RunBuilder) -> None:
    with TiledWriter(container, journal_directory=None) as writer:
        for run in runs:
            emit(run.docs, writer)


def save(path: Path, *runs: RunBuilder) -> None:
    docs = [pair for run in runs for pair in run.docs]
    if path.suffix == ".msgpack":
        path.write_bytes(b"".join(map(msgpack.packb, docs)))
    else:
        path.write_text("".join(json.dumps(pair) + "\n" for pair in docs))


def runs_of(container: Container) -> set[str]:
    return set(container.new_variation())


# -- what arrives -------------------------------------------------------------------------------


def test_a_directory_of_files_moves_with_all_below_it(target: Container, tmp_path: Path) -> None:
    (tmp_path / "2026" / "05").mkdir(parents=True)
    runs = [scalar_run(2) for _ in range(4)]
    save(tmp_path / "one.jsonl", runs[0])
    save(tmp_path / "2026" / "two.msgpack", runs[1], runs[2])
    save(tmp_path / "2026" / "05" / "three.jsonl", runs[3])
    (tmp_path / "notes.txt").write_text("no documents")
    result = run_cli(tmp_path, target)
    assert result.exit_code == 0, result.output
    assert result.stdout == "4 runs: 4 stored, 0 already stored, 0 not finished, 0 failed.\n"
    assert runs_of(target) == {run.uid for run in runs}
    result = run_cli(tmp_path, target)
    assert result.exit_code == 0, result.output
    assert result.stdout == "4 runs: 0 stored, 4 already stored, 0 not finished, 0 failed.\n"


def test_a_catalog_in_tiled_moves(source: Container, target: Container) -> None:
    runs = [scalar_run(3), scalar_run(1)]
    write(source, *runs)
    result = run_cli(source, target, "--verify")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "2 runs: 2 stored, 0 already stored, 0 not finished, 0 failed.",
        "2 compared row by row, 0 with differences.",
    ]
    for run in runs:
        assert columns_of(target, run.uid) == columns_of(source, run.uid)
        assert target[run.uid].metadata == source[run.uid].metadata


class RunOfAProgram:
    """A run such as those of databroker."""

    def __init__(self, docs: list[Pair], fills: Iterable[Any]) -> None:
        self.docs = docs
        self._fills = list(fills)

    def documents(self, fill: Any) -> Iterator[Pair]:
        if fill not in self._fills or fill is True:
            raise ValueError(f"fill={fill!r}")
        yield from self.docs


def test_runs_of_a_program_move(target: Container) -> None:
    one, two, three = scalar_run(1), scalar_run(2), scalar_run(3)
    programs_runs = [one.docs, RunOfAProgram(two.docs, [False]), RunOfAProgram(three.docs, ["no"])]
    report = migrate(programs_runs, target, verify=True)
    assert report.complete, report
    assert report.verified == 3
    assert runs_of(target) == {one.uid, two.uid, three.uid}


def test_what_somebody_added_to_the_metadata_moves_too(
    source: Container, target: Container
) -> None:
    run = scalar_run(1)
    write(source, run)
    assert migrate(source, target).complete
    source[run.uid].update_metadata({"sample_is": "broken"})
    report = migrate(source.new_variation(), target)
    assert report.outcomes == {Outcome.ALREADY_STORED: 1}
    assert target[run.uid].metadata == source[run.uid].metadata
    assert target[run.uid].metadata["sample_is"] == "broken"


def test_notes_are_there_once(source: Container, target: Container) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer", "det/x": "number"})
    run.event("primary", {"n": "none", "det/x": 0.5})
    run.stop()
    write(source, run)
    assert migrate(source, target, verify=True).complete
    assert target[run.uid].metadata["notes"] == source[run.uid].metadata["notes"]
    assert len(target[run.uid].metadata["notes"]) >= 2


# -- which runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["files", "tiled", "program"])
def test_only_wanted_runs_move(
    source: Container, target: Container, tmp_path: Path, kind: str
) -> None:
    runs = [scalar_run(1, scan_id=i, sample={"name": "LaB6" if i % 2 else "Si"}) for i in range(6)]
    for i, run in enumerate(runs):
        run.docs[0][1]["time"] = EPOCH + i
    if kind == "files":
        save(tmp_path / "all.jsonl", *runs)
        what: Any = tmp_path
    elif kind == "tiled":
        write(source, *runs)
        what = source
    else:
        what = [run.docs for run in runs]
    report = migrate(
        what, target, since=EPOCH + 1, until=EPOCH + 5, query=["sample.name=LaB6", "scan_id>1"]
    )
    assert report.complete
    assert runs_of(target) == {runs[3].uid}


def test_a_query_that_makes_no_sense_is_refused(target: Container, tmp_path: Path) -> None:
    result = run_cli(tmp_path, target, "--query", "count")
    assert result.exit_code == 2
    assert "is no condition such as" in result.stderr


# -- what does not arrive -----------------------------------------------------------------------


def test_runs_that_cannot_move_are_named_and_the_others_move(
    source: Container, target: Container
) -> None:
    good, other, open_run = scalar_run(2), scalar_run(2), scalar_run(2)
    open_run.docs.pop()
    write(source, good, other, open_run)
    source.create_container("folder")
    changed = copy.deepcopy(other)
    changed.docs[0][1]["sample"] = "another"
    write(target, changed)
    result = run_cli(source, target)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[-1] == "3 runs: 1 stored, 0 already stored, 1 not finished, 1 failed."
    assert any(line.startswith(f"failed          {other.uid}: ") for line in lines)
    assert any(
        line.startswith(f"not finished    {open_run.uid}: it has no stop document")
        for line in lines
    )
    assert result.stderr == "folder: 'folder' is no Bluesky run.\n"
    assert columns_of(target, good.uid) == columns_of(source, good.uid)
    assert columns_of(target, open_run.uid) == columns_of(source, open_run.uid)


def test_a_run_without_a_stop_is_closed_on_request(source: Container, target: Container) -> None:
    run = scalar_run(2)
    run.docs.pop()
    write(source, run)
    report = migrate(source, target, finish=True)
    assert report.outcomes == {Outcome.STORED: 1}
    assert target[run.uid].metadata["stop"]["exit_status"] == "fail"


def test_files_that_cannot_be_read_are_named(target: Container, tmp_path: Path) -> None:
    run = scalar_run(2)
    (tmp_path / "1.msgpack").write_bytes(b"\x89PNG")
    save(tmp_path / "2.jsonl", run)
    with (tmp_path / "2.jsonl").open("a") as file:
        file.write("no JSON\n")
    (tmp_path / "3.jsonl").write_text("")
    report = migrate(tmp_path, target)
    assert report.outcomes == {Outcome.STORED: 1}
    assert not report.complete
    starts = [text.replace(str(tmp_path), "").partition(" ")[0] for text in report.problems]
    assert sorted(starts) == ["/1.msgpack:", "/2.jsonl:", "/3.jsonl:"]


def test_runs_that_break_off_cost_no_other_run(target: Container) -> None:
    good, bad = scalar_run(2), scalar_run(2)

    class Broken:
        def __iter__(self) -> Iterator[Pair]:
            yield from bad.docs[:3]
            raise OSError("the disk is gone")

    class Gone:
        def documents(self) -> Iterator[Pair]:
            raise OSError("it was deleted")

        def __repr__(self) -> str:
            return "<run 7>"

    report = migrate([Gone(), Broken(), good.docs], target, workers=1)
    assert report.problems == ["<run 7>: OSError: it was deleted"]
    assert [(run.uid, run.reason) for run in report.incomplete] == [
        (bad.uid, "OSError: the disk is gone")
    ]
    assert report.outcomes == {Outcome.STORED: 1, Outcome.FAILED: 1}
    report = migrate([bad.docs], target)
    assert report.outcomes == {Outcome.STORED: 1}


def test_verification_tells_what_differs(target: Container, tmp_path: Path) -> None:
    run = scalar_run(20)
    changed = copy.deepcopy(run)
    for name, doc in changed.docs:
        if name == "event":
            doc["data"]["x"] += 1
    write(target, changed)
    save(tmp_path / "run.jsonl", run)
    assert run_cli(tmp_path, target).exit_code == 0
    result = run_cli(tmp_path, target, "--verify")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        f"different       {run.uid}:",
        "  stream 'primary', key 'x', seq_num 1: 0.0, but 1.0 is stored",
    ]
    assert lines[-3:] == [
        "  10 more differences",
        "1 run: 0 stored, 1 already stored, 0 not finished, 0 failed.",
        "1 compared row by row, 1 with differences.",
    ]


@pytest.mark.skipif(find_spec("databroker") is not None, reason="databroker is installed")
def test_a_missing_databroker_is_named(target: Container) -> None:
    result = run_cli("databroker:mad", target)
    assert result.exit_code == 1
    assert "pip install 'databroker[all]'" in result.stderr


def test_a_source_that_does_not_answer_is_an_error(target: Container) -> None:
    with stamina.set_testing(True):  # no pauses between attempts
        result = run_cli(f"http://127.0.0.1:{free_port()}/api/v1", target)
    assert result.exit_code == 1
    assert "Error: No answer from Tiled to the request to connect" in result.stderr


# -- on the way ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["files", "tiled"])
def test_progress_adds_up(source: Container, target: Container, tmp_path: Path, kind: str) -> None:
    runs = [scalar_run(150), scalar_run(1)]
    if kind == "files":
        for number, run in enumerate(runs):
            save(tmp_path / f"{number}.jsonl", run)
        total = sum(path.stat().st_size for path in tmp_path.iterdir())
    else:
        write(source, *runs)
        total = 2
    lock, told = threading.Lock(), []

    def on_progress(size: float) -> None:
        with lock:
            told.append(size)

    report = migrate(tmp_path if kind == "files" else source, target, on_progress=on_progress)
    assert report.complete
    assert sum(told) == total
    assert min(told) > 0


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(
    root: Container, target: Container, tmp_path: Path
) -> None:
    runs = [scalar_run(5) for _ in range(150)]
    for number, run in enumerate(runs):
        save(tmp_path / f"{number:03d}.jsonl", run)
    command = [*COMMAND, "migrate", str(tmp_path), "--to", uri(target), "--workers", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        wait_until(
            lambda: process.poll() is not None or len(target.new_variation()) > 2,
            lambda: "no run arrived",
        )
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, complaints
    assert complaints == "Interrupted. Run the same command again to continue.\n"
    assert len(runs_of(target)) < len(runs)
    some = {run.uid for run in runs[:10]}
    for path in sorted(tmp_path.iterdir())[10:]:
        path.unlink()
    result = run_cli(tmp_path, target, "--verify")
    assert result.exit_code == 0, result.output
    assert some <= runs_of(target)
