"""A server of tokens, and auth objects that ask it for one for each request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from .tiled_process import KEY


class TokenServer:
    """Gives out the API key as a token; may be down, answer with an error, or give a wrong one."""

    def __init__(self) -> None:
        self.status = 200
        self.token = KEY
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.dumps({"token": outer.token}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._handler = Handler
        self.start()

    def start(self, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class TokenAuth(httpx.Auth):
    """Asks for a new token for each request, within httpx's own flow."""

    def __init__(self, server: TokenServer) -> None:
        self.server = server

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        answer = yield httpx.Request("POST", f"http://127.0.0.1:{self.server.port}/token")
        answer.raise_for_status()
        answer.read()
        request.headers["Authorization"] = f"Apikey {answer.json()['token']}"
        yield request


class OwnTokenAuth(httpx.Auth):
    """The same with a client of its own, and with errors of its own."""

    def __init__(self, server: TokenServer) -> None:
        self.server = server

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        try:
            answer = httpx.post(f"http://127.0.0.1:{self.server.port}/token")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise RuntimeError("the login service gave no token") from error
        request.headers["Authorization"] = f"Apikey {answer.json()['token']}"
        yield request
