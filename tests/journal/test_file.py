"""The journal of one run: writing, ending, crashing, forking and adopting."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time

import pytest
from processes import answer, next_line, process

from bluesky_tiled_writer.errors import JournalError
from bluesky_tiled_writer.journal import Header, JournalFile, JournalReader
from bluesky_tiled_writer.journal import disk as disk_

HEADER = Header("a uid", "a server", {"batch_size": 3})
EVENTS = [("event", {"seq_num": i, "data": {"x": i / 2}}) for i in range(5)]


@pytest.fixture
def journal(tmp_path):
    journal = JournalFile.create(tmp_path / "journal", HEADER)
    yield journal
    journal.close()


def read(path):
    with JournalReader.open(path) as reader:
        pairs = [(entry.name, entry.doc) for entry in reader]
        assert reader.damage == []
        return pairs


def test_what_was_appended_can_be_read_at_once(journal):
    for number, event in enumerate(EVENTS, 1):
        journal.append(*event)
        assert read(journal.path) == EVENTS[:number]
        assert journal.size == journal.path.stat().st_size
    with journal.documents() as reader:
        assert [(e.name, e.doc) for e in reader] == EVENTS
        assert reader.header == journal.header


def test_the_header_tells_run_process_and_time(journal):
    header = journal.header
    assert (header.uid, header.server, header.options) == ("a uid", "a server", HEADER.options)
    assert header.pid == os.getpid()
    assert header.host
    assert abs(time.time() - header.since) < 60


@pytest.mark.parametrize("uid", ["../../etc/passwd", "a/b", "", "\0", "\ud800", "x" * 5000, "Å"])
def test_no_uid_leads_out_of_the_directory(tmp_path, uid):
    journal = JournalFile.create(tmp_path, Header(uid, "a server"))
    journal.close()
    name = hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()
    assert journal.path == tmp_path / f"{name}.journal"
    with JournalReader.open(journal.path) as reader:
        assert reader.header.uid == uid


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_the_file_is_private(journal):
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_a_run_may_have_several_journals(journal):
    """One for each server, or one left by a crash: none is overwritten."""
    journal.append(*EVENTS[0])
    second = JournalFile.create(journal.path.parent, HEADER)
    third = JournalFile.create(journal.path.parent, HEADER)
    assert len({journal.path, second.path, third.path}) == 3
    assert read(journal.path) == EVENTS[:1]
    assert read(second.path) == []
    second.remove()
    third.remove()


def test_remove_deletes_the_file_and_refuses_from_then_on(journal):
    journal.remove()
    assert not journal.path.exists()
    journal.close()
    for call in (lambda: journal.append(*EVENTS[0]), journal.sync, journal.remove):
        with pytest.raises(JournalError, match="is closed"):
            call()


def test_close_leaves_the_file_to_be_adopted(journal):
    journal.append(*EVENTS[0])
    journal.close()
    journal.close()
    assert read(journal.path) == EVENTS[:1]
    assert "closed" in repr(journal)


# -- adopting -----------------------------------------------------------------------------------


def test_a_journal_with_an_owner_is_not_adopted(journal):
    assert JournalFile.adopt(journal.path) is None
    code = "say(JournalFile.adopt(next(directory.path.iterdir())))"
    assert answer(code, journal.path.parent) == ["None"]


def test_an_adopted_journal_continues_where_its_owner_stopped(journal):
    journal.append(*EVENTS[0])
    journal.close()
    adopted = JournalFile.adopt(journal.path)
    assert adopted.header == journal.header
    adopted.append(*EVENTS[1])
    adopted.close()
    assert read(journal.path) == EVENTS[:2]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_adopting_cuts_off_a_torn_end(journal, cut):
    for event in EVENTS:
        journal.append(*event)
    journal.close()
    os.truncate(journal.path, journal.size - cut)
    adopted = JournalFile.adopt(journal.path)
    adopted.append("stop", {})
    adopted.close()
    assert read(journal.path) == [*EVENTS[: -1 if cut < 60 else -2], ("stop", {})]


def test_adopting_completes_a_torn_header(journal):
    journal.close()
    os.truncate(journal.path, journal.size - 5)
    adopted = JournalFile.adopt(journal.path)
    adopted.append(*EVENTS[0])
    adopted.close()
    assert read(journal.path) == EVENTS[:1]


def test_adopting_leaves_damage_in_the_middle_as_it_is(journal):
    journal.append(*EVENTS[0])
    place = journal.size - 1
    journal.append(*EVENTS[1])
    journal.close()
    with journal.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    adopted = JournalFile.adopt(journal.path)
    adopted.append(*EVENTS[2])
    with adopted.documents() as reader:
        assert [e.doc["seq_num"] for e in reader] == [1, 2]
        assert len(reader.damage) == 1
    adopted.close()


def test_absent_and_other_files_are_not_adopted(tmp_path):
    assert JournalFile.adopt(tmp_path / "a.journal") is None
    (tmp_path / "a.journal").write_bytes(b"no journal")
    with pytest.raises(JournalError, match="no readable header"):
        JournalFile.adopt(tmp_path / "a.journal")


def test_a_journal_that_its_owner_just_removed_is_not_adopted(journal, monkeypatch):
    """The lock is free, but only because the file is gone."""

    def remove_then_lock(fd, shared=False):
        monkeypatch.undo()
        journal.remove()
        return disk_.try_lock(fd)

    monkeypatch.setattr(disk_, "try_lock", remove_then_lock)
    assert JournalFile.adopt(journal.path) is None


@pytest.mark.skipif(os.name == "nt", reason="owners of POSIX")
def test_the_journal_of_another_user_is_not_adopted(journal, monkeypatch):
    """In a directory that others can write to, it could contain anything."""
    journal.close()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(JournalError, match=r"another user.*directory of your own"):
        JournalFile.adopt(journal.path)


def test_a_new_file_that_another_process_locked_first_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_, "try_lock", lambda fd, shared=False: monkeypatch.undo())
    journal = JournalFile.create(tmp_path, HEADER)
    journal.append(*EVENTS[0])
    journal.close()
    assert list(tmp_path.iterdir()) == [journal.path]
    assert journal.path.stem.endswith("-2")


# -- processes ----------------------------------------------------------------------------------

WRITE = """
journal = directory.create("a uid", "a server")
number = 0
while True:
    journal.append("event", {"seq_num": number, "data": {"x": list(range(number % 500))}})
    say(number)
    number += 1
"""


@pytest.mark.parametrize("documents", [1, 100, 1000])
def test_a_killed_process_leaves_every_document_that_it_had_appended(tmp_path, documents):
    with process(WRITE, tmp_path) as child:
        for _ in range(documents):
            last = int(next_line(child))
        child.kill()
        last = int((child.stdout.read().split() or [last])[-1])
    (path,) = tmp_path.iterdir()
    adopted = JournalFile.adopt(path)
    numbers = [doc["seq_num"] for _, doc in read(path)]
    adopted.close()
    assert numbers == list(range(len(numbers)))
    assert len(numbers) in (last + 1, last + 2)


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = directory.create("a uid", "a server")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
number = 0
try:
    while True:
        journal.append("event", {"seq_num": number, "data": b"x" * 3000})
        number += 1
except JournalError as error:
    first = str(error)
    assert "could not be written" in first, first
size = journal.size
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    journal.append("event", {})
except JournalError as again:
    assert str(again) == first
else:
    raise AssertionError("there is a gap")
assert journal.path.stat().st_size == size
say(number)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_partial_write_is_cut_off(tmp_path):
    (number,) = answer(LIMITED, tmp_path)
    (path,) = tmp_path.iterdir()
    with JournalReader.open(path) as reader:
        assert [e.doc["seq_num"] for e in reader] == list(range(int(number)))
        assert (reader.damage, reader.torn) == ([], 0)


FORK = """
import os
journal = directory.create("a uid", "a server")
journal.append("event", {"seq_num": 0})
for lock in journal._append_lock, journal._sync_lock:
    lock.acquire()  # as another thread of the parent may have
go_on, tell = os.pipe()
child = os.fork()
if child == 0:
    journal.leave_to_parent()
    append = lambda: journal.append("event", {"seq_num": 7})
    for call in append, journal.sync, journal.remove, journal.put_away:
        try:
            call()
        except JournalError as error:
            assert "belongs to process" in str(error), error
        else:
            os._exit(1)
    journal.close()
    say("child")
    os.read(go_on, 1)  # not stdin, which would take what the parent is to read
    sys.stdin.read()
    os._exit(0)
for lock in journal._append_lock, journal._sync_lock:
    lock.release()
say("parent")
sys.stdin.readline()
journal.append("event", {"seq_num": 1})
os.write(tell, b".")
say("appended")
sys.stdin.readline()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_that_leaves_the_journal_neither_writes_nor_unlocks_nor_keeps_the_lock(
    tmp_path,
):
    with process(FORK, tmp_path) as child:
        assert {next_line(child), next_line(child)} == {"child", "parent"}
        (path,) = tmp_path.iterdir()
        assert JournalFile.adopt(path) is None
        child.stdin.write("go on\n")
        child.stdin.flush()
        assert next_line(child) == "appended"
        assert JournalFile.adopt(path) is None
        child.kill()  # the parent: the child is still there, and waits for the end of stdin
        child.wait()
        adopted = JournalFile.adopt(path)
        assert adopted is not None
        adopted.close()
        assert [doc["seq_num"] for _, doc in read(path)] == [0, 1]


FORGOTTEN = """
journal = directory.create("a uid", "a server")
journal.append("event", {"seq_num": 0})
child = os.fork()
if child == 0:
    for call in journal.sync, journal.remove, journal.put_away:
        try:
            call()
        except JournalError as error:
            assert "belongs to process" in str(error), error
        else:
            os._exit(1)
    journal.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
journal.append("event", {"seq_num": 1})
say("appended")
sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_that_does_not_leave_the_journal_cannot_remove_or_unlock_it(tmp_path):
    with process(FORGOTTEN, tmp_path) as child:
        assert next_line(child) == "appended"
        (path,) = tmp_path.iterdir()
        assert JournalFile.adopt(path) is None
        assert [doc["seq_num"] for _, doc in read(path)] == [0, 1]


# -- failures -----------------------------------------------------------------------------------


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "make room"), (errno.EROFS, "journal_directory")]
)
def test_after_a_failed_write_every_document_is_refused(journal, monkeypatch, number, hint):
    journal.append(*EVENTS[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail_with(number))
        with pytest.raises(JournalError, match=hint):
            journal.append(*EVENTS[1])
    # A later document would follow a gap.
    with pytest.raises(JournalError, match=hint):
        journal.append(*EVENTS[2])
    assert read(journal.path) == EVENTS[:1]


def test_after_a_failed_encoding_every_document_is_refused(journal):
    journal.append(*EVENTS[0])
    loop: dict[str, object] = {}
    loop["loop"] = loop
    for doc in (loop, {}):
        with pytest.raises(JournalError, match="cannot hold the event document"):
            journal.append("event", doc)
    assert read(journal.path) == EVENTS[:1]


def test_a_journal_that_cannot_be_created_leaves_no_file(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="could not be created"):
        JournalFile.create(tmp_path / "file", HEADER)
    monkeypatch.setattr(os, "write", fail_with(errno.ENOSPC))
    with pytest.raises(JournalError, match="make room"):
        JournalFile.create(tmp_path / "journal", HEADER)
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_, "try_lock", fail_with(errno.ENOLCK))
    with pytest.raises(JournalError, match="local disk"):
        JournalFile.create(tmp_path, HEADER)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_partial_document(journal, monkeypatch):
    write = os.write

    def write_then_interrupt(fd, data):
        write(fd, data)
        raise KeyboardInterrupt

    def interrupt_in_the_middle(fd, data):
        if isinstance(data, memoryview):
            raise KeyboardInterrupt
        return write(fd, data[:7])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.append(*EVENTS[0])
    journal.append(*EVENTS[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupt_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            journal.append(*EVENTS[2])
    with pytest.raises(JournalError, match="KeyboardInterrupt"):
        journal.append(*EVENTS[3])
    assert read(journal.path) == EVENTS[:2]


def test_a_document_may_take_several_writes(journal, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    for event in EVENTS:
        journal.append(*event)
    assert read(journal.path) == EVENTS


def test_a_journal_that_cannot_be_deleted_is_closed(journal, monkeypatch):
    monkeypatch.setattr(type(journal.path), "unlink", fail_with(errno.EROFS))
    with pytest.raises(JournalError, match="could not be deleted"):
        journal.remove()
    monkeypatch.undo()
    adopted = JournalFile.adopt(journal.path)
    adopted.remove()


# -- the disk -----------------------------------------------------------------------------------


def test_append_does_not_wait_for_sync(journal, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slow(fd):
        entered.set()
        assert leave.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow, raising=False)
    thread = threading.Thread(target=journal.sync)
    thread.start()
    assert entered.wait(30)
    journal.append(*EVENTS[0])
    leave.set()
    thread.join(30)
    assert read(journal.path) == EVENTS[:1]


def test_sync_flushes_only_if_there_is_something_new(journal, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append, raising=False)
    journal.sync()
    journal.sync()
    journal.append(*EVENTS[0])
    journal.sync()
    assert len(calls) == 2


def test_after_a_failed_sync_every_document_is_refused(journal, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail_with(errno.EIO), raising=False)
        with pytest.raises(JournalError, match="Input/output error"):
            journal.sync()
    for call in (journal.sync, lambda: journal.append(*EVENTS[0])):
        with pytest.raises(JournalError, match="Input/output error"):
            call()
