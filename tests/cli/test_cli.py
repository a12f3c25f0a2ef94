"""The command line: what it prints, what it stores in Tiled, and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import stamina
from click.testing import Result
from documents import RunBuilder, data_key, scalar_run
from servers import free_port
from tiled.client import from_uri
from tiled.client.container import Container
from typer.testing import CliRunner

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.cli.app import app
from bluesky_tiled_writer.cli.output import show_again
from bluesky_tiled_writer.journal import JournalDirectory, JournalFile

Docs = list[tuple[str, dict[str, Any]]]
COMMAND = [sys.executable, "-m", "bluesky_tiled_writer.cli"]


def run_cli(*arguments: Any) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def catalog(http_server: str) -> Iterator[Container]:
    client = from_uri(http_server)
    yield client
    client.context.close()


def save(path: Path, docs: Docs) -> Path:
    lines = (json.dumps({"name": name, "doc": doc}) for name, doc in docs)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def as_journal(directory: Path, docs: Docs, server: str = "http://elsewhere") -> JournalFile:
    journal = JournalDirectory(directory).create(docs[0][1]["uid"], server)
    for name, doc in docs:
        journal.append(name, doc)
    return journal


def table(catalog: Container, uid: str) -> Any:
    return catalog[uid]["primary"]["internal/events"].read()


# -- replay -------------------------------------------------------------------------------------


def test_replayed_run_is_in_tiled(catalog: Container, http_server: str, tmp_path: Path) -> None:
    run = scalar_run(5)
    result = run_cli("replay", save(tmp_path / "run.jsonl", run.docs), "--to", http_server)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"stored          {run.uid}\n"
    assert list(table(catalog, run.uid)["x"]) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert catalog[run.uid].metadata["stop"]["exit_status"] == "success"


def test_replaying_again_sends_nothing(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = scalar_run(5)
    path = save(tmp_path / "run.jsonl", run.docs)
    run_cli("replay", path, "--to", http_server)
    result = run_cli("replay", path, "--to", http_server)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"already stored  {run.uid}\n"
    assert len(table(catalog, run.uid)) == 5


@pytest.mark.parametrize("held", [1, 2, 4])
def test_replay_sends_what_is_missing(
    held: int, catalog: Container, http_server: str, tmp_path: Path
) -> None:
    array = data_key("array", [2], dtype_numpy="<f8")
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "a": array})
    for i in range(6):
        run.event("primary", {"x": i, "a": [i, i]})
    run.stop()
    path = tmp_path / "run.jsonl"
    assert run_cli("replay", save(path, run.docs[:held]), "--to", http_server).exit_code == 1
    result = run_cli("replay", save(path, run.docs), "--to", http_server)
    assert (result.exit_code, result.stdout) == (0, f"stored          {run.uid}\n")
    assert run_cli("verify", run.uid, path, "--to", http_server).exit_code == 0
    assert len(table(catalog, run.uid)) == 6


def test_replay_goes_on_after_a_stop_that_was_made_for_half_a_run(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = scalar_run(6)
    half = save(tmp_path / "half.jsonl", run.docs[:5])
    whole = save(tmp_path / "whole.jsonl", run.docs)
    assert run_cli("replay", half, "--to", http_server, "--finish").exit_code == 0
    assert catalog[run.uid].metadata["stop"]["exit_status"] == "fail"
    result = run_cli("replay", whole, "--to", http_server)
    assert (result.exit_code, result.stdout) == (0, f"stored          {run.uid}\n")
    assert len(table(catalog, run.uid)) == 6
    assert catalog[run.uid].metadata["stop"] == run.docs[-1][1]
    for path in (half, whole):
        result = run_cli("replay", path, "--to", http_server, "--finish")
        assert (result.exit_code, result.stdout) == (0, f"already stored  {run.uid}\n")


def test_replay_of_fewer_rows_than_tiled_holds_changes_nothing(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = scalar_run(6)
    most = save(tmp_path / "most.jsonl", run.docs[:-1])
    half = save(tmp_path / "half.jsonl", [*run.docs[:4], run.docs[-1]])
    run_cli("replay", most, "--to", http_server)
    result = run_cli("replay", half, "--to", http_server)
    assert result.exit_code == 1
    assert "give 2 rows" in result.stdout
    assert len(table(catalog, run.uid)) == 6
    assert "stop" not in catalog[run.uid].metadata


def test_several_files_and_runs_are_replayed(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    runs = [scalar_run(i + 1) for i in range(4)]
    mixed = [
        pair for pairs in zip(runs[0].docs[:3], runs[1].docs[:3], strict=True) for pair in pairs
    ]
    save(tmp_path / "1.jsonl", [*mixed, *runs[0].docs[3:], *runs[1].docs[3:]])
    save(tmp_path / "2.jsonl", runs[2].docs)
    as_journal(tmp_path, runs[3].docs).close()
    (tmp_path / "README").write_text("not for the program")
    result = run_cli("replay", tmp_path, "--to", http_server)
    assert result.exit_code == 0, result.output
    # A journal is named by a hash of its uid, so there is no telling which file comes first.
    assert sorted(line.split() for line in result.stdout.splitlines()) == sorted(
        ["stored", run.uid] for run in runs
    )
    assert [len(table(catalog, run.uid)) for run in runs] == [1, 2, 3, 4]


def test_run_without_stop_is_left_open_without_finish(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = scalar_run(3)
    path = save(tmp_path / "run.jsonl", run.docs[:-1])
    result = run_cli("replay", path, "--to", http_server)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not finished    {run.uid}: it has no stop document")
    assert len(table(catalog, run.uid)) == 3
    assert "stop" not in catalog[run.uid].metadata
    result = run_cli("replay", path, "--to", http_server, "--finish")
    assert (result.exit_code, result.stdout) == (0, f"stored          {run.uid}\n")
    stop = catalog[run.uid].metadata["stop"]
    assert (stop["exit_status"], stop["num_events"]) == ("fail", {"primary": 3})
    assert "end before it was stopped" in stop["reason"]
    assert len(table(catalog, run.uid)) == 3
    result = run_cli("replay", path, "--to", http_server)
    assert (result.exit_code, result.stdout) == (0, f"already stored  {run.uid}\n")


def test_journal_of_an_interrupted_run_is_closed(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = scalar_run(3)
    journal = as_journal(tmp_path, run.docs[:-1])
    journal.close()
    result = run_cli("replay", journal.path, "--to", http_server)
    assert result.exit_code == 0, result.output
    assert catalog[run.uid].metadata["stop"]["exit_status"] == "fail"
    assert journal.path.exists()


def test_journal_in_use_is_refused(http_server: str, tmp_path: Path) -> None:
    run = scalar_run(3)
    journal = as_journal(tmp_path, run.docs)
    result = run_cli("replay", journal.path, "--to", http_server)
    journal.close()
    assert result.exit_code == 1
    assert "is being stored by another process" in result.stderr


def test_unreadable_files_do_not_stop_the_others(http_server: str, tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b"\x89PNG")
    run = scalar_run(1)
    save(tmp_path / "2.jsonl", run.docs)
    (tmp_path / "3.msgpack").write_bytes(b"\x89PNG")
    result = run_cli("replay", tmp_path, "--to", http_server)
    assert (result.exit_code, result.stdout) == (1, f"stored          {run.uid}\n")
    assert "1.jsonl: there is no run in it." in result.stderr
    assert "3.msgpack is not a file of saved documents." in result.stderr


def test_replay_of_a_journal_uses_the_options_of_its_writer(
    served_catalog: str, tmp_path: Path
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"a": data_key("array", [2], dtype_numpy="<f8")})
    run.event("primary", {"a": [1, 2]})
    run.stop()
    journal = JournalDirectory(tmp_path).create(run.uid, "", {"max_array_size": 16, "later": 1})
    for name, doc in run.docs:
        journal.append(name, doc)
    journal.close()
    # To DuckDB, since SQLite has no columns of lists.
    assert run_cli("replay", journal.path, "--to", served_catalog).exit_code == 0
    client = from_uri(served_catalog)
    assert list(client[run.uid]["primary"].base) == ["internal"]
    client.context.close()


def test_failed_run_gives_its_reason_and_the_others_are_stored(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    first, other, second = scalar_run(2), scalar_run(2), scalar_run(2, more="metadata")
    second.docs[0][1]["uid"] = first.uid  # another run under the same uid
    second.docs[1][1]["run_start"] = second.docs[-1][1]["run_start"] = first.uid
    run_cli("replay", save(tmp_path / "1.jsonl", first.docs), "--to", http_server)
    path = save(tmp_path / "2.jsonl", [*second.docs, *other.docs])
    result = run_cli("replay", path, "--to", http_server)
    assert result.exit_code == 1
    failed, stored = result.stdout.splitlines()
    assert failed.startswith(f"failed          {first.uid}: Tiled already holds")
    assert stored == f"stored          {other.uid}"


def test_documents_that_cannot_be_stored_are_reported(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = scalar_run(3)
    run.docs[3][1]["data"]["surprise"] = 1
    path = save(tmp_path / "run.jsonl", [("event", {"descriptor": "?", "uid": "e"}), *run.docs])
    result = run_cli("replay", path, "--to", http_server)
    assert result.exit_code == 1
    assert result.stdout == f"stored          {run.uid}\n"
    assert "1 document of it cannot be stored:" in result.stderr
    assert "'surprise'" in result.stderr
    assert "1 document of no known run:" in result.stderr
    assert list(table(catalog, run.uid)["seq_num"]) == [1, 3]


def test_torn_end_is_reported_but_is_no_failure(http_server: str, tmp_path: Path) -> None:
    run = scalar_run(3)
    path = save(tmp_path / "run.jsonl", run.docs)
    with path.open("a") as file:
        file.write('{"name": "sta')
    result = run_cli("replay", path, "--to", http_server)
    assert result.exit_code == 0
    assert "the last document is incomplete" in result.stderr


def test_unreadable_line_is_a_failure(catalog: Container, http_server: str, tmp_path: Path) -> None:
    run = scalar_run(3)
    path = save(tmp_path / "run.jsonl", run.docs)
    path.write_text(path.read_text().replace('"row 1"', "row 1"))
    result = run_cli("replay", path, "--to", http_server)
    assert result.exit_code == 1
    assert "line 4 is not JSON" in result.stderr
    assert list(table(catalog, run.uid)["label"]) == ["row 0", "row 2"]


@pytest.fixture
def few_attempts() -> Iterator[None]:
    """Let Tiled's client try a request twice at once; ten attempts take 20 s."""
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.mark.usefixtures("few_attempts")
def test_absent_server_gives_one_message(tmp_path: Path) -> None:
    path = save(tmp_path / "run.jsonl", scalar_run().docs)
    result = run_cli("replay", path, "--to", f"http://127.0.0.1:{free_port()}/api/v1")
    assert result.exit_code == 1
    assert "Error: No answer from Tiled" in result.stderr
    assert "Is the server up, and its address right?" in result.stderr


def test_absent_file_gives_one_message(http_server: str, tmp_path: Path) -> None:
    result = run_cli("replay", tmp_path / "absent.jsonl", "--to", http_server)
    assert result.exit_code == 1
    told = f"{tmp_path}/absent.jsonl cannot be read: No such file or directory. [UnreadableFile]\n"
    assert result.stderr == told


def test_debug_raises_the_error(tmp_path: Path) -> None:
    result = run_cli("--debug", "export", tmp_path / "absent.journal")
    assert result.exit_code == 1
    assert result.exception is not None
    assert "absent.journal" in str(result.exception)


@pytest.mark.parametrize("text", ["Z:/data", "=x", "x="])
def test_malformed_path_map_is_refused(text: str, tmp_path: Path) -> None:
    path = save(tmp_path / "run.jsonl", [])
    result = run_cli("replay", path, "--to", "http://nowhere", "--path-map", text)
    assert result.exit_code == 2
    assert "is not FROM=TO" in result.stderr


# -- in a process of its own --------------------------------------------------------------------


@pytest.mark.usefixtures("ctrl_c")
def test_interrupted_replay_continues_when_it_is_run_again(
    catalog: Container, http_server: str, tmp_path: Path
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for i in range(30_000):
        run.event("primary", {"x": i})
    run.stop()
    path = save(tmp_path / "run.jsonl", run.docs)
    command = [*COMMAND, "replay", str(path), "--to", http_server]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while run.uid not in catalog and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    assert complaints == "Interrupted. Run the same command again to continue.\n"
    result = run_cli("replay", path, "--to", http_server)
    assert (result.exit_code, result.stdout) == (0, f"stored          {run.uid}\n"), result.stderr
    result = run_cli("verify", run.uid, path, "--to", http_server)
    assert (result.exit_code, result.stdout) == (0, f"Run {run.uid}: no difference.\n")


def test_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [*COMMAND, "status", "--journal-directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"No runs are waiting in {tmp_path}.\n")


# -- status -------------------------------------------------------------------------------------


def test_status_describes_each_journal(tmp_path: Path) -> None:
    first, second = scalar_run(), scalar_run()
    as_journal(tmp_path, first.docs, "http://tiled.example/api/v1").close()
    journal = as_journal(tmp_path, second.docs)
    (tmp_path / "broken.journal").write_bytes(b"nonsense")
    result = run_cli("status", "--journal-directory", tmp_path)
    journal.close()
    assert result.exit_code == 0
    head, one, two, three, hint = result.stdout.split("\n\n")
    assert head == f"3 runs in {tmp_path}:"
    assert one.splitlines()[:2] == [first.uid, "  to     http://tiled.example/api/v1"]
    assert "(0 s ago)" in one or "(1 s ago)" in one
    assert re.search(r"size   [\d.]+ kB", one)
    assert f"owner  none: process {os.getpid()} on " in one
    assert two.splitlines()[4].startswith(f"  owner  process {os.getpid()} on ")
    assert two.splitlines()[5] == f"  file   {journal.path}"
    assert "unreadable" in three
    assert "replay FILE --to URI" in hint


def test_status_may_be_watched_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []

    def lines() -> list[str]:
        if len(shown) == 3:
            raise KeyboardInterrupt
        shown.append(f"look {len(shown)}")
        return shown[-1:]

    show_again(lines, every=0.0)
    assert "look 2" in capsys.readouterr().out


# -- verify -------------------------------------------------------------------------------------


def test_verify_prints_differences(catalog: Container, http_server: str, tmp_path: Path) -> None:
    run, other = scalar_run(30), scalar_run(2)
    with TiledWriter(catalog, journal_directory=None) as writer:
        for name, doc in run.docs:
            writer(name, doc)
    for _, doc in run.docs[2:-1]:
        doc["data"]["x"] += 0.25
    path = save(tmp_path / "runs.jsonl", [*run.docs, *other.docs])
    result = run_cli("verify", run.uid, path, "--to", http_server)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "stream 'primary', key 'x', seq_num 1: 0.25, but 0.0 is stored"
    assert len(lines) == 12
    assert lines[10] == "stream 'primary', key 'x': 20 more differences"
    assert lines[11] == f"Run {run.uid}: 30 differences."


def test_verify_reports_a_run_that_tiled_lacks(http_server: str, tmp_path: Path) -> None:
    run = scalar_run()
    path = save(tmp_path / "run.jsonl", run.docs)
    result = run_cli("verify", run.uid, path, "--to", http_server)
    assert result.exit_code == 1
    assert result.stdout.startswith("Tiled has no such run\n")


def test_verify_refuses_a_run_that_the_file_lacks(http_server: str, tmp_path: Path) -> None:
    path = save(tmp_path / "run.jsonl", scalar_run().docs)
    result = run_cli("verify", "other", path, "--to", http_server)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no start document.")


# -- export -------------------------------------------------------------------------------------


def test_export_writes_json_lines(tmp_path: Path) -> None:
    run = scalar_run()
    journal = as_journal(tmp_path, run.docs)
    journal.close()
    result = run_cli("export", journal.path)
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["name"], line["doc"]) for line in lines] == run.docs
    assert run_cli("export", journal.path, "-o", tmp_path / "out.jsonl").exit_code == 0
    assert (tmp_path / "out.jsonl").read_text() == result.stdout


def test_export_of_a_damaged_journal_reports_what_is_missing(tmp_path: Path) -> None:
    journal = as_journal(tmp_path, scalar_run().docs)
    journal.close()
    data = bytearray(journal.path.read_bytes())
    data[data.index(b"row 1")] ^= 1
    journal.path.write_bytes(data)
    result = run_cli("export", journal.path)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 5
    assert "a document is damaged" in result.stderr


def test_export_to_an_absent_directory_is_an_error(tmp_path: Path) -> None:
    journal = as_journal(tmp_path, scalar_run().docs)
    journal.close()
    result = run_cli("export", journal.path, "-o", tmp_path / "no" / "file")
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory." in result.stderr


def test_version_is_printed() -> None:
    result = run_cli("--version")
    assert result.exit_code == 0
    assert result.stdout == f"bluesky-tiled-writer {version('bluesky-tiled-writer')}\n"
