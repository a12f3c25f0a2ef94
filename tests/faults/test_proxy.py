"""The proxy does to requests what it is told, and leaves all others alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from .proxy import Answer, Drop, Hang, Late, Proxy


class Server(ThreadingHTTPServer):
    """A server that records the bodies that it gets, and sends them back."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body.decode())
        self.send_response(200)
        if self.path.endswith("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for byte in body:
                self.wfile.write(b"1\r\n" + bytes([byte]) + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_PATCH = do_POST

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{server.server_port}") as proxy:
        yield proxy


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url + "/api/v1", trust_env=False, timeout=5) as client:
        yield client


def test_without_faults_requests_and_answers_pass_unchanged(
    proxy: Proxy, server: Server, http: httpx.Client
) -> None:
    body = "a" * 300_000

    assert http.post("/metadata/a%2Fb//c?x=1", content=body).text == body
    assert http.post("/chunked", content="12345").text == "12345"
    assert http.head("/metadata/").headers["content-length"] == "1000"

    assert server.bodies == [body, "12345"]
    assert [(e.method, e.path, e.query, e.size, e.status) for e in proxy.log] == [
        ("POST", "/metadata/a/b/c", "x=1", 300_000, 200),
        ("POST", "/chunked", "", 5, 200),
        ("HEAD", "/metadata", "", 0, 200),
    ]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_dropped_request_has_no_answer_and_acts_only_if_dropped_after(
    proxy: Proxy, server: Server, http: httpx.Client, after: bool
) -> None:
    proxy.inject(Drop(after))

    with pytest.raises(httpx.TransportError):
        http.post("/", content="1")
    assert http.post("/", content="2").text == "2"

    assert server.bodies == ["1", "2"] if after else ["2"]
    assert [e.status for e in proxy.log] == [None, 200]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_answer_of_the_proxy_takes_the_place_of_the_servers(
    proxy: Proxy, server: Server, http: httpx.Client, after: bool
) -> None:
    proxy.inject(Answer(503, after, {"Retry-After": "1"}))

    answer = http.post("/", content="1")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert server.bodies == ["1"] * after
    assert [(e.status, e.server_status) for e in proxy.log] == [(503, 200 if after else None)]


def test_faults_meet_the_requests_that_they_are_for(
    proxy: Proxy, server: Server, http: httpx.Client
) -> None:
    rule = proxy.inject(Answer(500), "PATCH|PUT", "^/table/.*/internal$", "yes", nth=2, times=2)

    def patch(path: str, body: str) -> int:
        return http.patch(path, content=body).status_code

    assert http.post("/table/a/internal", content="yes").status_code == 200
    assert patch("/table/a/other", "yes") == 200
    assert patch("/table/a/internal", "no") == 200
    assert [patch("/table/a/internal", "yes") for _ in range(4)] == [200, 500, 500, 200]
    assert rule.met == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_hang_that_the_client_sits_out_is_only_slow(
    proxy: Proxy, server: Server, http: httpx.Client, after: bool
) -> None:
    proxy.inject(Hang(0.2, after))
    start = time.monotonic()

    assert http.post("/", content="1").text == "1"

    assert time.monotonic() - start >= 0.2
    assert server.bodies == ["1"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_hang_that_the_client_gives_up_acts_only_if_it_hung_after(
    proxy: Proxy, server: Server, http: httpx.Client, after: bool
) -> None:
    proxy.inject(Hang(0.5, after))

    with pytest.raises(httpx.ReadTimeout):
        http.post("/", content="1", timeout=0.1)
    proxy.wait_until_idle()

    assert server.bodies == ["1"] * after


@pytest.mark.parametrize("hang", [False, True], ids=["dropped", "hanging"])
def test_a_late_request_acts_after_the_one_that_was_sent_in_its_place(
    proxy: Proxy, server: Server, http: httpx.Client, hang: bool
) -> None:
    proxy.inject(Late(0.5, hang))

    with pytest.raises(httpx.TransportError):
        http.post("/", content="1", timeout=0.1)
    assert http.post("/", content="1 again").text == "1 again"
    proxy.wait_until_idle()

    assert server.bodies == ["1 again", "1"]


def test_a_proxy_that_is_away_refuses_and_then_takes_connections_at_the_same_address(
    proxy: Proxy, server: Server, http: httpx.Client
) -> None:
    http.post("/", content="1")
    for _ in range(3):
        proxy.go_away()
        with pytest.raises(httpx.ConnectError):
            http.post("/", content="2")
        proxy.come_back()
        assert http.post("/", content="3").text == "3"

    assert server.bodies == ["1", "3", "3", "3"]


def test_going_away_cuts_off_what_is_under_way(
    proxy: Proxy, server: Server, http: httpx.Client
) -> None:
    proxy.inject(Hang(math.inf))
    errors: list[Exception] = []

    def post() -> None:
        try:
            http.post("/", content="1", timeout=None)
        except httpx.TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=post)
    thread.start()
    deadline = time.monotonic() + 5
    while not proxy.log and time.monotonic() < deadline:
        time.sleep(0.01)
    proxy.go_away()
    thread.join()

    assert len(errors) == 1
    proxy.wait_until_idle()
    assert server.bodies == []


def test_a_server_that_is_away_is_an_answer_that_never_comes(
    proxy: Proxy, server: Server, http: httpx.Client
) -> None:
    server.socket.close()

    with pytest.raises(httpx.TransportError):
        http.post("/", content="1")


def test_every_request_takes_the_delay_longer(proxy: Proxy, http: httpx.Client) -> None:
    proxy.delay = 0.1
    start = time.monotonic()

    http.post("/", content="1")
    http.post("/", content="1")

    assert time.monotonic() - start >= 0.2


def test_bodies_above_the_limit_are_refused(
    proxy: Proxy, server: Server, http: httpx.Client
) -> None:
    proxy.max_body = 10

    assert http.post("/", content="1" * 11).status_code == 413
    assert http.post("/", content="1" * 10).status_code == 200
    assert server.bodies == ["1" * 10]


def test_a_cleared_proxy_only_passes_on(proxy: Proxy, http: httpx.Client) -> None:
    proxy.inject(Answer(500), times=math.inf)
    proxy.delay, proxy.max_body = 1.0, 0
    proxy.clear()
    start = time.monotonic()

    assert http.post("/", content="1").status_code == 200
    assert time.monotonic() - start < 1.0
    assert len(proxy.log) == 1
