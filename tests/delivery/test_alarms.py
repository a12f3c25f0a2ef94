"""The lines for mails and chats of "Run it at a beamline", with a server that takes mails."""

from __future__ import annotations

import atexit
import logging
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from documents import emit, scalar_run
from tiled.client.container import Container

from .helpers import (
    BOUND,
    PATIENCE,
    Line,
    MakeWriter,
    key_revoked,
    refused_for_good,
    wait_until,
    wide_run,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "operate.md"


def recipes() -> list[str]:
    """The code under "Be told"."""
    section = PAGE.read_text("utf-8").partition("### Be told")[2].partition("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


class Mails(socketserver.StreamRequestHandler):
    """Speaks as much SMTP as it takes to get a mail."""

    def handle(self) -> None:
        self._say(220)
        for line in self.rfile:
            command = line[:4].upper().strip()
            if command == b"DATA":
                self._say(354)
                text = "".join(iter(lambda: self.rfile.readline().decode(), ".\r\n"))
                payload = message_from_string(text).get_payload(decode=True)
                self.server.texts.append(payload.decode().strip())  # type: ignore[attr-defined, union-attr]
            self._say(221 if command == b"QUIT" else 250)
            if command == b"QUIT":
                return

    def _say(self, code: int) -> None:
        self.wfile.write(f"{code} yes\r\n".encode())


class Posts(BaseHTTPRequestHandler):
    """A chat, as a program posts to it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.texts.append(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def running(server: socketserver.TCPServer) -> Iterator[tuple[int, list[str]]]:
    """Serve; yield the port, and the texts that came."""
    texts: list[str] = []
    server.texts = texts  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1]), texts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def mails() -> Iterator[list[str]]:
    """The mails that come of the recipe, word for word but for the address of the server."""
    recipe, _ = recipes()
    with running(socketserver.TCPServer(("127.0.0.1", 0), Mails)) as (port, texts):
        code = recipe.replace('("mail.example.org", 25)', f'("127.0.0.1", {port})')
        assert code != recipe
        names: dict[str, Any] = {}
        exec(code, names)
        yield texts
        names["postman"].stop()
        atexit.unregister(names["postman"].stop)
        logging.getLogger("bluesky_tiled_writer").removeHandler(names["problems"])


def assert_told(texts: list[str], *expected: str) -> None:
    """Each text begins as expected, and there are no others."""
    wait_until(lambda: len(texts) >= len(expected))
    beginnings = [text[: len(part)] for text, part in zip(texts, expected, strict=False)]
    assert beginnings == [*expected]
    assert len(texts) == len(expected), texts
    texts.clear()


def test_each_problem_is_one_mail_and_so_is_its_end(
    tiled_client: Container, make_writer: MakeWriter, line: Line, mails: list[str]
) -> None:
    first, behind, refused = scalar_run(), wide_run(events=300), scalar_run()
    writer = make_writer(max_pending_bytes=BOUND, flush_interval=0.02)
    emit(first.docs[:3], writer)
    with line.cut():
        emit(first.docs[3:4], writer)
        assert_told(mails, "Tiled does not answer")
    assert_told(mails, "Tiled answers again")
    with key_revoked(tiled_client):
        emit(first.docs[4:-1], writer)
        assert_told(mails, "The login to Tiled does not work")
    assert_told(mails, "The login to Tiled works again")
    emit(first.docs[-1:], writer)

    with line.held():
        emit(behind.docs[:-1], writer)
        assert_told(mails, f"Run {behind.uid}: Tiled takes rows more slowly than they come.")
    emit(behind.docs[-1:], writer)
    assert_told(mails, f"Run {behind.uid} is in Tiled now.")
    assert writer.wait_for(behind.uid, PATIENCE)

    with refused_for_good(tiled_client):
        emit(refused.docs, writer)
        assert_told(mails, f"Run {refused.uid} was set aside: Tiled answered 405")
    assert writer.recover(PATIENCE)[0].stored
    assert_told(mails, f"Run {refused.uid} is in Tiled now.")

    emit(scalar_run().docs, writer)
    assert writer.flush(PATIENCE)
    assert mails == []


def test_a_chat_gets_the_same_lines() -> None:
    _, recipe = recipes()
    with running(HTTPServer(("127.0.0.1", 0), Posts)) as (port, texts):
        code = recipe.replace("https://chat.example.org/hooks/...", f"http://127.0.0.1:{port}/x")
        assert code != recipe
        names: dict[str, Any] = {"logging": logging}
        exec(code, names)
        handler = names["Chat"]()
        handler.handle(logging.makeLogRecord({"msg": "Run %s was set aside", "args": ("a",)}))
    assert texts == ['{"text":"Run a was set aside"}']
