"""HTTP/1.1 as bytes, as far as a load generator needs it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

HOST = "127.0.0.1"
SILENCE_S = 15.0


@dataclass(frozen=True)
class Kept:
    """An answer that was kept whole.

    Args:
        request: which request it answers, an index.
        raw: head and body as they came.
    """

    request: int
    raw: bytes

    @property
    def head(self) -> bytes:
        """Status line and headers."""
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """The body, its chunks put together."""
        _, _, body = self.raw.partition(b"\r\n\r\n")
        return body if _length_at(self.head) >= 0 else _joined(body)


def request_bytes(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A whole POST of JSON on a connection that stays open."""
    lines = {"Host": HOST, "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def is_whole(data: bytes | bytearray) -> bool:
    r"""Whether `data` is a whole answer; it must not hold the beginning of another.

    Example:
        >>> is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        True
        >>> is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        False
    """
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = _length_at(data, head)
    if at < 0:
        return data.endswith(b"\r\n0\r\n\r\n")
    return len(data) >= head + 4 + int(data[at : data.index(b"\r", at)])


def connected(port: int) -> socket.socket:
    """A connection to a server on loopback."""
    connection = socket.create_connection((HOST, port), timeout=SILENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _length_at(data: bytes | bytearray, end: int | None = None) -> int:
    """Where the number of the Content-Length header begins; -1 if there is none."""
    for name in (b"\ncontent-length:", b"\nContent-Length:"):
        at = data.find(name, 0, end)
        if at >= 0:
            return at + len(name)
    return -1


def _joined(chunks: bytes) -> bytes:
    found = []
    while True:
        size, _, rest = chunks.partition(b"\r\n")
        n = int(size.partition(b";")[0], 16)
        if not n:
            return b"".join(found)
        found.append(rest[:n])
        chunks = rest[n + 2 :]
