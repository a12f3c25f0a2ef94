"""The access tags of runs, on a server whose policy enforces them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import multi_user
import pytest
from delivery.recoveries import leave_journal
from documents import RunBuilder, data_key, emit, emit_one_by_one, scalar_run
from multi_user import DELETING, READING, WRITING
from servers import wait_until
from sqlalchemy.ext.asyncio import create_async_engine
from tiled.access_control.access_tags import update_access_tags_tables
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter

from .runs import FaultRun, assert_exactly_once
from .tiled_process import ROOT_TAG, TiledProcess

PATIENCE = 60.0

ACCESS = {
    "access_policy": "tiled.access_control.access_policies:TagBasedAccessPolicy",
    "args": {
        "provider": multi_user.PROVIDER,
        "access_tags_parser": "tiled.access_control.access_tags:AccessTagsParser",
    },
}

OWNER = [*WRITING, *DELETING]
VISIT = {"bob": OWNER, "carol": READING}
TAGS = {
    ROOT_TAG: {"bob": OWNER, "erin": OWNER, "carol": READING, "dave": READING},
    "visit": VISIT,
    "no deletion": {"bob": WRITING, "carol": READING},
    "user:bob": {"bob": OWNER},  # which Tiled gives to what has no tags
}

Login = Callable[[str], Container]


def define(server: TiledProcess, tags: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Let the server have these tags, each with the scopes of its users; bob owns them."""

    async def write() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{server.catalog_file}")
        owners = {tag: {"bob"} for tag in tags}
        try:
            await update_access_tags_tables(engine, {"public": {}, **tags}, owners, {"public"})
        finally:
            await engine.dispose()

    asyncio.run(write())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledProcess]:
    """A server on which bob may write, and carol read, what has the tag *visit*."""
    directory = tmp_path_factory.mktemp("server")
    readable = tmp_path_factory.getbasetemp()
    with TiledProcess(
        directory,
        readable,
        "sqlite",
        authentication=multi_user.AUTHENTICATION,
        access_control=ACCESS,
    ) as server:
        define(server, TAGS)
        yield server


@pytest.fixture
def login(server: TiledProcess) -> Iterator[Login]:
    with ExitStack() as stack:
        scopes = {"bob": OWNER}  # without those that make an admin
        yield lambda user: stack.enter_context(
            multi_user.client_of(server.url, user, scopes.get(user))
        )


@pytest.fixture
def writer(login: Login, journals: Path) -> Iterator[TiledWriter]:
    with TiledWriter(login("bob"), journal_directory=journals, batch_size=1) as writer:
        yield writer


def tagged(run: RunBuilder, *tags: str) -> list[tuple[str, Any]]:
    """Return the documents of a run with these access tags in its start document."""
    (name, start), *others = run.docs
    return [(name, {**start, "tiled_access_tags": list(tags)}), *others]


def tags_of(run: Container) -> dict[str, list[str]]:
    """Return the access tags of a run, and of all nodes below it, by path."""
    nodes = {run.item["id"]: run}
    for name in run:
        nodes[name] = stream = stream_of(run.parent, run.item["id"], name)
        nodes |= {f"{name}/{key}": node for key, node in stream.items()}
    return {path: node.item["attributes"]["access_tags"] for path, node in nodes.items()}


def test_each_node_of_a_run_has_its_tags_and_is_read_by_who_has_them(
    login: Login, writer: TiledWriter, frames: str
) -> None:
    run = FaultRun(frames)
    emit_one_by_one(tagged(run, "visit"), writer)
    assert writer.wait_for(run.uid, PATIENCE)
    for user in ("bob", "carol"):
        assert_exactly_once(login(user), run.uid, run.docs)
    tags = tags_of(login("carol")[run.uid])
    assert len(tags) > 8
    assert set(map(tuple, tags.values())) == {("visit",)}
    assert run.uid not in login("dave")


def test_a_node_that_is_widened_keeps_its_tags(login: Login, writer: TiledWriter) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"wave": data_key("array", [2], dtype_numpy="<i4"), "n": "integer"})
    rows = [[1, 2], [3, 4], [0.5, 6]]
    for n, wave in enumerate(rows):
        run.event("primary", {"wave": wave, "n": n if n < 2 else 2.5})
    run.stop()
    emit_one_by_one(tagged(run, "visit"), writer)
    assert writer.wait_for(run.uid, PATIENCE)
    stored = login("carol")[run.uid]
    assert stored["primary"]["wave"].read().tolist() == rows
    assert set(map(tuple, tags_of(stored).values())) == {("visit",)}


def test_a_run_without_tags_is_its_writer_s(login: Login, writer: TiledWriter) -> None:
    run = scalar_run()
    emit(run.docs, writer)
    assert writer.wait_for(run.uid, PATIENCE)
    assert run.uid in login("bob")
    assert run.uid not in login("carol")


def test_tags_that_an_admin_gives_a_run_stay(login: Login, writer: TiledWriter) -> None:
    run = scalar_run()
    docs = tagged(run, "visit")
    emit(docs[:-1], writer)
    assert writer.flush(PATIENCE)
    login("alice")[run.uid].replace_metadata(access_tags=["visit", ROOT_TAG])
    emit(docs[-1:], writer)
    assert writer.wait_for(run.uid, PATIENCE)
    stored = login("dave")[run.uid]
    assert stored.metadata["stop"] == run.docs[-1][1]
    assert sorted(stored.item["attributes"]["access_tags"]) == [ROOT_TAG, "visit"]


def test_a_run_whose_tag_is_not_defined_waits_for_that_and_holds_up_no_other(
    server: TiledProcess, login: Login, writer: TiledWriter
) -> None:
    run, other = scalar_run(), scalar_run()
    emit(tagged(run, "later"), writer)
    emit(tagged(other, "visit"), writer)
    assert writer.wait_for(other.uid, PATIENCE)
    why = writer.status.waiting_for[run.uid]
    assert "tag='later' is not defined" in why
    assert "tiled_access_tags" in why
    define(server, {**TAGS, "later": VISIT})
    assert writer.wait_for(run.uid, PATIENCE)
    wait_until(lambda: run.uid in login("carol"), "carol does not see the run")


def test_a_policy_that_lets_nobody_delete_costs_a_note(login: Login, writer: TiledWriter) -> None:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer"})
    for n in (1, 2.5, 3):
        run.event("primary", {"n": n})
    run.stop()
    emit_one_by_one(tagged(run, "no deletion"), writer)
    assert writer.wait_for(run.uid, PATIENCE)
    stored = login("carol")[run.uid]
    column = read_arrow(stream_of(login("carol"), run.uid)["internal"])["n"].to_pylist()
    assert column == [1, None, 3]
    assert any("2.5" in note for note in stored.metadata["notes"])


def test_a_run_that_another_login_began_waits_for_that_one(login: Login, journals: Path) -> None:
    """The journals of a machine are those of all who log in there."""
    run = scalar_run()
    with TiledWriter(login("bob"), journal_directory=None) as first:
        emit(run.docs[:4], first)
        assert first.flush(PATIENCE)
    leave_journal(journals, login("bob"), run.docs)
    with TiledWriter(login("erin"), journal_directory=journals) as other:
        (recovery,) = other.recover(PATIENCE)
        assert not recovery.stored
        assert "does not show it to this login" in recovery.text
        assert not other.status.set_aside
    with TiledWriter(login("bob"), journal_directory=journals) as again:
        (recovery,) = again.recover(PATIENCE)
        assert recovery.stored
    assert login("bob")[run.uid].metadata["stop"] == run.docs[-1][1]
