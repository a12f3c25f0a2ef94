"""The copies of a run's documents, and what they allow the writer to promise."""

from __future__ import annotations

import errno
import json
import os

import pytest

from bluesky_tiled_writer.errors import JournalError
from bluesky_tiled_writer.journal import (
    NOTE,
    Backup,
    DocumentCopies,
    JournalDirectory,
    known_options,
)

FULL = JournalError("the disk is full")
EVENTS = [("event", {"seq_num": i}) for i in range(1, 4)]


@pytest.fixture
def journal(tmp_path):
    journal = JournalDirectory(tmp_path).create("a uid", "a server")
    yield journal
    journal.close()


def backup():
    return Backup("a uid", None, {})


@pytest.mark.parametrize(
    ("has_journal", "failed", "has_backup", "in_file", "journaled", "can_repeat", "tell", "only"),
    [
        (True, False, False, False, True, True, False, False),
        (True, False, True, False, True, True, False, False),
        (True, True, False, False, False, False, True, False),
        (True, True, True, False, False, False, False, False),
        (False, True, False, False, False, False, True, False),
        (False, True, True, False, False, False, False, False),
        (False, False, False, False, False, False, True, True),
        (False, False, True, False, False, False, False, False),
        (False, False, False, True, False, True, True, True),
    ],
)  # fmt: skip
def test_promises_depend_on_the_copies(
    journal, has_journal, failed, has_backup, in_file, journaled, can_repeat, tell, only
):
    copies = DocumentCopies(
        "a uid",
        journal if has_journal else None,
        FULL if failed else None,
        backup() if has_backup else None,
        in_file=in_file,
    )
    assert copies.journaled is journaled
    assert copies.can_repeat is can_repeat
    assert copies.must_tell_caller is tell
    assert copies.only_caller_knows is only


def test_a_lost_journal_is_logged_once_and_flushed_no_more(journal, caplog, monkeypatch):
    copies = DocumentCopies("a uid", journal)

    def fail(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail, raising=False)
    copies.sync()
    monkeypatch.undo()
    copies.sync()
    copies.lose_journal(FULL)
    assert "Input/output error" in str(copies.journal_failure)
    (record,) = caplog.records
    assert record.message.startswith("The journal of run a uid can no longer be written.")
    assert not copies.journaled


def test_the_backup_gets_the_journal_without_notes_then_what_the_journal_lacks(journal):
    saved = {}
    copies = DocumentCopies("a uid", journal, None, Backup("a uid", None, saved))
    journal.append(*EVENTS[0])
    journal.append(NOTE, "a remark")
    assert copies.copy_for_backup(*EVENTS[1])
    copies.back_up(OSError("refused"))
    copies.back_up(OSError("refused again"))
    copies.copy_for_backup(*EVENTS[2])
    assert [(entry["name"], entry["doc"]) for entry in saved["a uid"]] == EVENTS


def test_a_document_is_not_copied_without_a_backup(journal):
    assert not DocumentCopies("a uid", journal).copy_for_backup(*EVENTS[0])


@pytest.mark.parametrize("uid", ["5a0f-17", "../../etc/passwd", "a\udc80"])
def test_a_backup_is_one_file_in_its_directory(tmp_path, uid):
    backup = Backup(uid, tmp_path / "backup", None)
    backup.keep(*EVENTS[0])
    backup.use(OSError("refused"))
    (path,) = (tmp_path / "backup").iterdir()
    assert json.loads(path.read_text()) == {"name": "event", "doc": EVENTS[0][1]}


def test_the_journal_of_a_stored_run_is_deleted(journal, tmp_path):
    DocumentCopies("a uid", journal).remove(incomplete=False)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_journal_is_kept_under_another_name(journal, tmp_path, caplog):
    DocumentCopies("a uid", journal).remove(incomplete=True)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".damaged"
    assert str(path) in caplog.text
    assert JournalDirectory(tmp_path).orphans(lambda header: header.server == "a server") == []


def test_a_journal_that_cannot_be_deleted_is_logged(journal, caplog):
    journal.close()
    DocumentCopies("a uid", journal).remove(incomplete=False)
    assert "Run a uid is stored, but its journal is still there. The journal" in caplog.text


def test_a_released_journal_can_be_adopted(journal, tmp_path):
    DocumentCopies("a uid", journal).release()
    (orphan,) = JournalDirectory(tmp_path).orphans(lambda header: header.server == "a server")
    orphan.close()


def test_a_run_without_a_journal_needs_no_care(caplog):
    copies = DocumentCopies("a uid")
    copies.sync()
    copies.back_up(OSError("refused"))
    copies.remove(incomplete=True)
    copies.release()
    assert str(copies) == ""
    assert caplog.records == []


def test_options_of_another_version_are_left_out():
    assert known_options({"max_array_size": 16, "of_later": 1}) == {"max_array_size": 16}
