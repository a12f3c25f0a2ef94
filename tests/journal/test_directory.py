"""The directory of journals: which there are, and which have lost their owner."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from processes import answer, next_line, process

from bluesky_tiled_writer.errors import JournalError
from bluesky_tiled_writer.journal import JournalDirectory, default_path, to_json_lines
from bluesky_tiled_writer.journal import directory as directory_

SERVER = {"uri": "http://example.org/api/v1/metadata/raw"}


@pytest.fixture
def directory(tmp_path):
    return JournalDirectory(tmp_path / "journal")


def for_server(header):
    return header.server == SERVER


def leave(directory, uid, server=SERVER, size=1):
    """Write a journal whose owner is gone."""
    journal = directory.create(uid, server)
    for number in range(size):
        journal.append("event", {"seq_num": number})
    journal.close()
    return journal.path


def test_the_default_is_in_the_state_directory_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path().parent.name == "bluesky-tiled-writer"
    assert JournalDirectory().path == default_path()
    assert str(default_path()) in repr(JournalDirectory())


def test_a_directory_that_was_never_used_is_empty(directory):
    assert directory.journals() == []
    assert directory.orphans(for_server) == []
    assert not directory.path.exists()


def test_orphans_are_those_of_the_same_server_without_an_owner(directory):
    owned = directory.create("owned", SERVER)
    leave(directory, "other server", {"uri": "http://example.com"})
    first, second = leave(directory, "first"), leave(directory, "second")
    orphans = directory.orphans(for_server)
    assert [journal.path for journal in orphans] == [first, second]
    assert directory.orphans(for_server) == []
    for journal in orphans:
        journal.close()
    again = directory.orphans(for_server)
    assert len(again) == 2
    for journal in [*again, owned]:
        journal.remove()
    assert [info.header.uid for info in directory.journals()] == ["other server"]


TAKE = f"""
sys.stdin.readline()
orphans = directory.orphans(lambda header: header.server == {SERVER!r})
say(*[journal.header.uid for journal in orphans])
sys.stdin.read()
"""


def test_two_processes_never_get_the_same_orphan(directory):
    uids = {f"run-{i}" for i in range(30)}
    for uid in uids:
        leave(directory, uid)
    with process(TAKE, directory.path) as one, process(TAKE, directory.path) as other:
        for child in (one, other):
            child.stdin.write("\n")
            child.stdin.flush()
        of_one, of_other = next_line(one).split(), next_line(other).split()
        assert sorted(of_one + of_other) == sorted(uids)
        assert directory.orphans(for_server) == []
    left = directory.orphans(for_server)
    assert {journal.header.uid for journal in left} == uids
    for journal in left:
        journal.close()


def test_the_journal_of_a_living_process_is_no_orphan_until_it_is_killed(directory):
    script = f"journal = directory.create('a', {SERVER!r}); say('ready'); sys.stdin.read()"
    with process(script, directory.path) as child:
        assert next_line(child) == "ready"
        assert directory.orphans(for_server) == []
        assert [info.locked for info in directory.journals()] == [True]
        child.kill()
        child.wait()
        (orphan,) = directory.orphans(for_server)
        orphan.close()


def test_journals_are_described_oldest_first_and_unreadable_last(directory):
    old = directory.create("old", SERVER, {"batch_size": 3})
    new = leave(directory, "new", "another")
    (directory.path / "broken.journal").write_bytes(b"no journal")
    (directory.path / "unrelated.txt").write_text("hello")
    infos = directory.journals()
    assert [info.path for info in infos] == [old.path, new, directory.path / "broken.journal"]
    assert [info.locked for info in infos] == [True, False, False]
    assert [info.size for info in infos] == [p.path.stat().st_size for p in infos]
    assert [info.header and info.header.uid for info in infos] == ["old", "new", None]
    assert infos[0].header.since <= infos[1].header.since
    assert (infos[0].problem, infos[1].problem) == ("", "")
    assert "no readable header" in infos[2].problem
    old.close()


def test_describing_a_journal_does_not_lock_it(directory):
    leave(directory, "a")
    script = "say(*[info.locked for info in directory.journals()])"
    assert answer(script, directory.path) == ["False"]
    (orphan,) = directory.orphans(for_server)
    assert answer(script, directory.path) == ["True"]
    orphan.remove()


def test_a_journal_that_cannot_be_read_is_no_orphan_and_stays(directory):
    path = leave(directory, "a")
    path.write_bytes(b"x" * 500)
    assert directory.orphans(for_server) == []
    assert path.exists()


def test_an_empty_file_is_removed(directory):
    path = leave(directory, "a")
    os.truncate(path, 0)
    assert directory.orphans(for_server) == []
    assert not path.exists()


def test_a_locked_empty_file_is_left_to_its_owner(directory):
    journal = directory.create("a", SERVER)
    os.truncate(journal.path, 0)
    assert directory.orphans(for_server) == []
    assert journal.path.exists()
    journal.close()


def test_a_journal_that_is_removed_meanwhile_is_left_out(directory, monkeypatch):
    path = leave(directory, "a")
    monkeypatch.setattr(JournalDirectory, "_paths", lambda self: [path, path.with_name("gone")])
    assert [info.path for info in directory.journals()] == [path]
    monkeypatch.setattr(directory_, "is_locked", lambda path: path.unlink())
    assert directory.journals() == []
    assert directory.orphans(for_server) == []


def test_an_error_releases_the_journals_taken_so_far(directory, monkeypatch):
    leave(directory, "a")
    leave(directory, "b")
    adopt, calls = directory_._adopt, []

    def fail_at_the_second(path, server):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return adopt(path, server)

    with monkeypatch.context() as patch:
        patch.setattr(directory_, "_adopt", fail_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            directory.orphans(for_server)
    orphans = directory.orphans(for_server)
    assert len(orphans) == 2
    for journal in orphans:
        journal.close()


# -- export -------------------------------------------------------------------------------------


def test_export_writes_json_lines_with_notes(directory):
    journal = directory.create("a", SERVER)
    journal.append("start", {"uid": "a", "shape": np.array([2, 3])})
    journal.append("event", {"data": {"x": np.float64("nan")}})
    file = io.StringIO()
    assert to_json_lines(journal.path, file) == []
    first, second = map(json.loads, file.getvalue().splitlines())
    assert first == {"name": "start", "doc": {"uid": "a", "shape": [2, 3]}}
    assert second["doc"] == {"data": {"x": "NaN"}}
    assert "data.x" in second["notes"][0]
    journal.remove()


def test_export_reports_what_is_missing(directory):
    path = leave(directory, "a", size=3)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    file = io.StringIO()
    (damage,) = to_json_lines(path, file)
    assert damage.end == len(data)
    assert len(file.getvalue().splitlines()) == 2


def test_export_of_another_file_is_an_error(tmp_path):
    with pytest.raises(JournalError, match="No such file"):
        to_json_lines(tmp_path / "a.journal", io.StringIO())
