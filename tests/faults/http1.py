"""Just enough HTTP/1.1 to pass whole messages on, byte for byte."""

from __future__ import annotations

from asyncio import StreamReader
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote


@dataclass(frozen=True)
class Message:
    """A request or an answer: its first line, its headers (names in lower case), and its bytes."""

    first_line: str
    headers: dict[str, str]
    head: bytes = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def raw(self) -> bytes:
        return self.head + self.body

    @property
    def method(self) -> str:
        """The method of a request."""
        return self.first_line.split(" ", 1)[0]

    @property
    def target(self) -> tuple[str, str]:
        """The path of a request, decoded and without empty segments, and its query."""
        path, _, query = self.first_line.split(" ")[1].partition("?")
        return "/" + "/".join(unquote(part) for part in path.split("/") if part), query

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.first_line.split(" ")[1])


async def read_request(reader: StreamReader) -> Message | None:
    """Read the next request on a connection; None if the client has closed it."""
    return await _read(reader)


async def read_answer(reader: StreamReader, method: str) -> Message | None:
    """Read the answer to a request; None if the server closed the connection instead."""
    return await _read(reader, method)


def answer(status: int, text: str, headers: dict[str, str] | None = None) -> bytes:
    """Return an answer in the form of Tiled's errors."""
    body = f'{{"detail": "{text}"}}'.encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _read(reader: StreamReader, answers: str | None = None) -> Message | None:
    """Read a message: a request, or the `answers` to a method."""
    first = await reader.readline()
    if not first:
        return None
    lines = [first]
    while lines[-1] not in (b"\r\n", b"\n"):
        lines.append(await reader.readline())
        if not lines[-1]:
            return None
    headers = {}
    for line in lines[1:-1]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    head = b"".join(lines)
    first_line = first.decode("latin-1").strip()
    message = Message(first_line, headers, head, b"")
    if answers == "HEAD" or (answers and message.status in (204, 304)):
        return message
    return Message(first_line, headers, head, await _body(reader, headers, bool(answers)))


async def _body(reader: StreamReader, headers: dict[str, str], is_answer: bool) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if is_answer else b""


async def _chunks(reader: StreamReader) -> bytes:
    """Read a chunked body, with its framing."""
    raw = b""
    while True:
        line = await reader.readuntil(b"\n")
        size = int(line.split(b";")[0], 16)
        raw += line
        if not size:
            break
        raw += await reader.readexactly(size + 2)
    while line not in (b"\r\n", b"\n"):  # trailers
        line = await reader.readuntil(b"\n")
        raw += line
    return raw
