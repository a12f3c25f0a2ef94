"""Reading saved documents: every format, and files that are damaged or incomplete."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from bluesky.callbacks.json_writer import JSONLinesWriter, JSONWriter
from documents import RunBuilder, data_key, scalar_run
from event_model import pack_event_page

from bluesky_tiled_writer.cli.saved_documents import (
    Format,
    SavedDocuments,
    read_documents,
)
from bluesky_tiled_writer.errors import TiledWriterError, UnreadableFile
from bluesky_tiled_writer.journal import JournalDirectory, to_json_lines
from bluesky_tiled_writer.journal.backup import Backup

Docs = list[tuple[str, dict[str, Any]]]


def as_journal(docs: Docs, directory: Path) -> Path:
    journal = JournalDirectory(directory).create("uid", "server")
    for name, doc in docs:
        journal.append(name, doc)
    journal.close()
    return journal.path


def as_backup(docs: Docs, directory: Path) -> Path:
    backup = Backup("uid", directory, None)
    for name, doc in docs:
        backup.keep(name, doc)
    backup.use(OSError("no server"))
    return directory / "uid.jsonl"


def as_export(docs: Docs, directory: Path) -> Path:
    path = directory / "export.jsonl"
    with path.open("w") as file:
        to_json_lines(as_journal(docs, directory), file)
    return path


def as_peers_backup(docs: Docs, directory: Path) -> Path:
    writer = JSONLinesWriter(str(directory), "backup.jsonl")
    for name, doc in docs:
        writer(name, doc)
    return directory / "backup.jsonl"


def as_json_array(docs: Docs, directory: Path) -> Path:
    writer = JSONWriter(str(directory), "array.json")
    for name, doc in docs:
        writer(name, doc)
    return directory / "array.json"


def as_suitcase_jsonl(docs: Docs, directory: Path) -> Path:
    path = directory / "suitcase.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in docs))
    return path


def as_json_seq(docs: Docs, directory: Path) -> Path:
    path = directory / "export.json-seq"
    lines = [json.dumps({"name": name, "doc": doc}) for name, doc in docs]
    path.write_text("".join(f"\x1e{line}\n" for line in lines))
    return path


def as_suitcase_msgpack(docs: Docs, directory: Path) -> Path:
    path = directory / "suitcase.msgpack"
    packed = [msgpack.packb(pair, default=msgpack_numpy.encode, use_bin_type=True) for pair in docs]
    path.write_bytes(b"".join(packed))
    return path


WRITERS = [
    as_journal,
    as_backup,
    as_export,
    as_peers_backup,
    as_json_array,
    as_suitcase_jsonl,
    as_json_seq,
    as_suitcase_msgpack,
]


def read(path: Path) -> tuple[Docs, list[str]]:
    problems: list[TiledWriterError] = []
    docs = list(read_documents(path, problems.append))
    return docs, list(map(str, problems))


@pytest.mark.parametrize("save", WRITERS)
def test_documents_come_back_as_they_were_saved(
    save: Callable[[Docs, Path], Path], tmp_path: Path
) -> None:
    docs = scalar_run(scan_id=3).docs
    assert read(save(docs, tmp_path)) == (docs, [])


@pytest.mark.parametrize("save", [as_journal, as_suitcase_jsonl, as_suitcase_msgpack])
def test_file_may_hold_several_runs(save: Callable[[Docs, Path], Path], tmp_path: Path) -> None:
    docs = scalar_run().docs + scalar_run().docs
    assert read(save(docs, tmp_path)) == (docs, [])


@pytest.mark.parametrize("save", WRITERS)
def test_progress_ends_at_the_size_of_the_file(
    save: Callable[[Docs, Path], Path], tmp_path: Path
) -> None:
    saved = SavedDocuments(save(scalar_run(50).docs, tmp_path))
    positions = [saved.position for _ in saved]
    assert positions == sorted(positions)
    assert saved.position == saved.size == saved.path.stat().st_size


@pytest.mark.parametrize("save", WRITERS)
def test_torn_end_is_reported_and_what_comes_before_is_read(
    save: Callable[[Docs, Path], Path], tmp_path: Path
) -> None:
    docs = scalar_run().docs
    path = save(docs, tmp_path)
    os.truncate(path, path.stat().st_size - 5)
    found, (problem,) = read(path)
    saved = SavedDocuments(path, lambda error: None)
    assert [len(list(saved)), saved.torn] == [len(docs) - 1, True]
    assert found == docs[:-1]
    assert str(path) in problem
    assert "the last document is incomplete" in problem


def test_unreadable_line_is_reported_and_skipped(tmp_path: Path) -> None:
    docs = scalar_run().docs
    path = as_peers_backup(docs, tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"data"', b'"da\xffta')
    lines[4] = b'{"name": "event"}\n'
    path.write_bytes(b"".join(lines))
    found, problems = read(path)
    assert found == [docs[0], docs[1], docs[3], docs[5]]
    assert f"{path}: line 3 is not JSON" in problems[0]
    assert f"{path}: line 5 is not a name with a document." in problems[1]
    assert len(problems) == 2


def test_last_line_without_newline_is_read(tmp_path: Path) -> None:
    docs = scalar_run().docs
    path = as_peers_backup(docs, tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert read(path) == (docs, [])


def test_damage_in_a_journal_loses_only_that_document(tmp_path: Path) -> None:
    docs = scalar_run().docs
    path = as_journal(docs, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"row 1")] ^= 1
    path.write_bytes(data)
    found, (problem,) = read(path)
    assert found == [*docs[:3], *docs[4:]]
    assert "a document is damaged" in problem


def test_damage_in_msgpack_loses_what_follows(tmp_path: Path) -> None:
    docs = scalar_run().docs
    path = as_suitcase_msgpack(docs, tmp_path)
    end = sum(len(msgpack.packb(pair)) for pair in docs[:3])
    path.write_bytes(path.read_bytes()[:end] + b"\x92\xc1" + path.read_bytes()[end:])
    found, (problem,) = read(path)
    assert found == docs[:3]
    assert f"{path}: byte {end} and what follows is not msgpack" in problem


RECORDS = np.array([(1, [2.5, 3.5])], dtype=[("a", "<i4"), ("b", "<f8", (2,))])
NESTED = np.zeros(2, dtype=[("a", [("b", ">i2"), ("c", "<U3")])])


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">u2").reshape(2, 3),
        np.array(["a", "bcd"]),
        np.zeros((0, 4)),
        np.array(1.5),
        np.float32(0.1),
        np.bool_(True),
        RECORDS,
        NESTED,
        1 - 2.5j,
        np.complex64(1j),
    ],
    ids=repr,
)
def test_arrays_in_suitcase_msgpack_are_read_as_msgpack_numpy_reads_them(
    value: Any, tmp_path: Path
) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": data_key("array", [3])})
    run.event("primary", {"x": value})
    path = as_suitcase_msgpack(run.docs, tmp_path)
    found, problems = read(path)
    assert problems == []
    stored = found[-1][1]["data"]["x"]
    # What msgpack_numpy itself makes of it.
    (*_, (_, reference)) = msgpack.Unpacker(
        io.BytesIO(path.read_bytes()), object_hook=msgpack_numpy.decode, strict_map_key=False
    )
    assert type(stored) is type(reference["data"]["x"])
    assert np.array_equal(stored, reference["data"]["x"])
    assert getattr(stored, "dtype", None) == getattr(value, "dtype", None)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    run = scalar_run()
    run.docs[3][1]["data"]["x"] = np.array([print, None])
    path = as_suitcase_msgpack(run.docs, tmp_path)
    found, (problem,) = read(path)
    assert found == [*run.docs[:3], *run.docs[4:]]
    assert "pickled" in problem


def test_numpy_values_in_a_journal_are_read(tmp_path: Path) -> None:
    run = scalar_run(1)
    run.docs[2][1]["data"]["x"] = np.arange(3)
    found, _ = read(as_journal(run.docs, tmp_path))
    assert np.array_equal(found[2][1]["data"]["x"], np.arange(3))


def test_nan_in_json_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "nan.jsonl"
    path.write_text('["event", {"data": {"x": NaN}}]\n')
    ((_, doc),), _ = read(path)
    assert np.isnan(doc["data"]["x"])


def test_format_is_recognised_by_the_first_bytes(tmp_path: Path) -> None:
    docs = scalar_run().docs
    for save, expected in (
        (as_journal, Format.JOURNAL),
        (as_suitcase_jsonl, Format.JSON_LINES),
        (as_suitcase_msgpack, Format.MSGPACK),
    ):
        path = save(docs, tmp_path).rename(tmp_path / "renamed")
        assert SavedDocuments(path).format is expected


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UnreadableFile, match=r"image\.png is not a file of saved documents"):
        read_documents(path)


def test_notes_in_a_journal_are_skipped(tmp_path: Path) -> None:
    docs = scalar_run().docs
    assert read(as_journal([*docs, ("note", "stopped")], tmp_path)) == (docs, [])


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_file_that_cannot_be_opened_raises_our_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_documents(tmp_path / name)


def test_empty_file_has_no_documents(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert read(path) == ([], [])


def test_problems_are_logged_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{]\n")
    assert list(read_documents(path)) == []
    assert "line 1 is not JSON" in caplog.text


def test_page_larger_than_the_read_buffer_is_read(tmp_path: Path) -> None:
    run = scalar_run(0)
    run.descriptor("wide", {"a": data_key("array", [2**20], dtype_numpy="<f8")})
    events = [run.event("wide", {"a": np.full(2**20, i, "f8")})[1] for i in range(3)]
    page = pack_event_page(*events)
    path = as_suitcase_msgpack([*run.docs[:-3], ("event_page", page)], tmp_path)
    found, problems = read(path)
    assert problems == []
    assert np.array_equal(found[-1][1]["data"]["a"], page["data"]["a"])
