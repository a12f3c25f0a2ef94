"""Logins that expire, are revoked or cannot be tried: runs wait, and go on by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import multi_user
import pytest
from delivery.helpers import PATIENCE, messages_of, wait_until
from documents import RunBuilder, emit
from multi_user import ADMIN, log_in, logged_in
from tiled.client import from_uri
from tiled.client.container import Container
from tree import read_arrow, stream_of

from bluesky_tiled_writer import TiledWriter
from bluesky_tiled_writer.errors import LoginRefused, NotStored, StorageError

from . import LONG
from .tiled_process import KEY, TiledProcess
from .tokens import OwnTokenAuth, TokenAuth, TokenServer

HARDLY = 3.0
"""s: for a whole run whose `stop` does not wait; machines are busy."""


def scan() -> RunBuilder:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"n": "integer"})
    for value in range(3):
        run.event("primary", {"n": value})
    run.stop()
    return run


def emit_quickly(run: RunBuilder, writer: TiledWriter) -> None:
    began = time.monotonic()
    emit(run.docs, writer)
    assert time.monotonic() - began < HARDLY, "the caller is never held by a login"


def assert_stored(client: Container, run: RunBuilder) -> None:
    assert client[run.uid].metadata["stop"] == run.docs[-1][1]
    assert read_arrow(stream_of(client, run.uid)["internal"])["n"].to_pylist() == [0, 1, 2]


# -- auth objects that ask another server for tokens ----------------------------------------------


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.stop()


TROUBLES = ["down", "503", "401", "wrong token"]


@pytest.mark.parametrize("seconds", [3.0, 70.0] if LONG else [1.0])
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("auth", [TokenAuth, OwnTokenAuth])
def test_a_token_server_in_trouble_holds_up_nobody(
    server_process: TiledProcess,
    process_client: Container,
    tokens: TokenServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    auth: type[Any],
    trouble: str,
    seconds: float,
) -> None:
    uri = f"{server_process.url}/api/v1"
    options: dict[str, Any] = {"journal_directory": tmp_path / "journals", "flush_interval": 0.1}
    with TiledWriter.from_uri(uri, auth=auth(tokens), **options) as writer:
        before, during = scan(), scan()
        emit(before.docs, writer)
        assert_stored(process_client, before)
        caplog.clear()

        match trouble:
            case "down":
                tokens.stop()
            case "wrong token":
                tokens.token = "wrong"
            case status:
                tokens.status = int(status)
        emit_quickly(during, writer)
        wait_until(lambda: writer.status.state == "login")
        assert writer.status.set_aside == {}
        assert not writer.flush(timeout=seconds)
        time.sleep(seconds)
        assert during.uid not in process_client

        match trouble:
            case "down":
                tokens.start(tokens.port)
            case "wrong token":
                tokens.token = KEY
            case _:
                tokens.status = 200
        assert writer.wait_for(during.uid, timeout=70.0 + PATIENCE)
        assert_stored(process_client, during)
        assert writer.status.state == "idle"
        writer.client.context.close()
    texts = messages_of(caplog)
    assert len([text for text in texts if "does not work" in text]) == 1
    assert len([text for text in texts if "works again" in text]) == 1
    assert not any(KEY in text for text in texts)


# -- Tiled's own tokens ---------------------------------------------------------------------------

AUTHENTICATION = {**multi_user.AUTHENTICATION, "access_token_max_age": 2}


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledProcess]:
    """A server with access tokens of two seconds' lifetime."""
    directory = tmp_path_factory.mktemp("multi-user")
    readable = tmp_path_factory.getbasetemp()
    with TiledProcess(directory, readable, "sqlite", authentication=AUTHENTICATION) as server:
        yield server


@pytest.fixture(autouse=True)
def token_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILED_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def key(users: TiledProcess) -> Iterator[tuple[str, Any]]:
    """An API key that can be revoked, and the context that can do so."""
    with logged_in(users.url, ADMIN) as context:
        yield context.create_api_key()["secret"], context


@pytest.fixture
def alice(users: TiledProcess, key: tuple[str, Any]) -> Iterator[Any]:
    """A client that looks at what is there, with a key that works."""
    client = from_uri(users.url, api_key=key[0])
    yield client
    client.context.close()


def test_tokens_are_refreshed_while_a_run_lasts(
    users: TiledProcess, alice: Any, tmp_path: Path
) -> None:
    client = from_uri(users.url, api_key=alice.context.api_key)
    client.context.api_key = None
    log_in(client.context, remember_me=True)
    run = scan()
    with TiledWriter(client, journal_directory=tmp_path / "j", flush_interval=0.1) as writer:
        for pair in run.docs:
            emit([pair], writer)
            time.sleep(0.8)
        assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_stored(alice, run)
    client.context.close()


@pytest.mark.parametrize("again", ["on the same context", "with a new client and writer"])
def test_a_login_that_has_expired_waits_for_another_one(
    users: TiledProcess,
    alice: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    again: str,
) -> None:
    client = from_uri(users.url, api_key=alice.context.api_key)
    client.context.api_key = None
    log_in(client.context)
    options: dict[str, Any] = {"journal_directory": tmp_path / "j", "flush_interval": 0.1}
    with TiledWriter(client, **options) as writer:
        run = scan()
        emit(run.docs[:3], writer)
        assert writer.flush()
        time.sleep(3.0)  # it has expired
        began = time.monotonic()
        emit(run.docs[3:], writer)
        assert time.monotonic() - began < HARDLY
        wait_until(lambda: writer.status.state == "login")
        assert not writer.status.server_down
        assert "CannotRefreshAuthentication" in str(writer.status.last_error)
        if again == "on the same context":
            log_in(client.context)
            assert writer.wait_for(run.uid, timeout=PATIENCE)
        else:
            other = from_uri(users.url, api_key=alice.context.api_key)
            with TiledWriter(other, **options):
                assert writer.wait_for(run.uid, timeout=PATIENCE)
            other.context.close()
    assert_stored(alice, run)
    client.context.close()
    assert list((tmp_path / "j").iterdir()) == []


def test_a_key_that_was_revoked_may_be_replaced_on_the_client(
    users: TiledProcess, key: tuple[str, Any], tmp_path: Path
) -> None:
    first, _ = key
    client = from_uri(users.url, api_key=first)
    second = client.context.create_api_key()["secret"]
    with TiledWriter(client, journal_directory=tmp_path / "j", flush_interval=0.1) as writer:
        run = scan()
        emit(run.docs[:3], writer)
        assert writer.flush()
        client.context.api_key = second
        client.context.revoke_api_key(first[:8])
        client.context.api_key = first
        emit_quickly(_rest(run), writer)
        wait_until(lambda: writer.status.state == "login")
        began = time.monotonic()
        client.context.api_key = second
        assert writer.wait_for(run.uid, timeout=PATIENCE)
        assert time.monotonic() - began < HARDLY, "new credentials are used at once"
    assert_stored(client, run)
    client.context.close()


def _rest(run: RunBuilder) -> RunBuilder:
    rest = RunBuilder()
    rest.docs = run.docs[3:]
    return rest


def test_a_key_without_the_scopes_is_a_login_that_waits(
    users: TiledProcess, alice: Any, tmp_path: Path
) -> None:
    weak = alice.context.create_api_key(scopes=["read:metadata", "read:data"])["secret"]
    client = from_uri(users.url, api_key=weak)
    with TiledWriter(client, journal_directory=tmp_path / "j", flush_interval=0.1) as writer:
        run = scan()
        emit_quickly(run, writer)
        wait_until(lambda: writer.status.state == "login")
        assert "Writing takes write:metadata" in str(writer.status.last_error)
        assert writer.status.set_aside == {}
        client.context.api_key = alice.context.api_key
        assert writer.wait_for(run.uid, timeout=PATIENCE)
    assert_stored(alice, run)
    client.context.close()


def test_without_a_journal_the_caller_is_told_why(users: TiledProcess, alice: Any) -> None:
    client = from_uri(users.url, api_key=alice.context.api_key)
    writer = TiledWriter(client, journal_directory=None)
    client.context.api_key = "00000000deadbeef"
    run = scan()
    began = time.monotonic()
    with pytest.raises(NotStored, match=r"is not stored: Tiled answered 401") as raised:
        emit(run.docs, writer)
    assert time.monotonic() - began < HARDLY
    assert isinstance(raised.value.__cause__, LoginRefused)
    client.context.api_key = alice.context.api_key
    assert writer.close()
    assert_stored(alice, run)
    client.context.close()


def test_a_login_that_nobody_can_give_here_waits(users: TiledProcess, tmp_path: Path) -> None:
    """There is no terminal to ask for a password, and no key."""
    with TiledWriter.from_uri(users.url, journal_directory=tmp_path / "j") as writer:
        run = scan()
        emit_quickly(run, writer)
        wait_until(lambda: writer.status.state == "login")
        with pytest.raises(StorageError, match="prompt"):
            _ = writer.client
        assert not writer.close()
    assert len(list((tmp_path / "j").iterdir())) == 1
