"""HTTP/1.1 connections to the model host, kept alive: one request at a time each, as many as are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import httptools

_CONNECT_S = 2.0
_LARGEST_BYTES = 64 * 1024 * 1024


class HostConnections:
    """Posts bodies to one server.

    A general client costs as much per call as the host's whole answer to a small one; this does what a call needs.

    Args:
        url: ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def post(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Send a body and return the status and the body of the answer.

        A kept connection that the server has closed is replaced once, if nothing of an answer came: calls are safe
        to repeat. When this is cancelled, the connection is given up.

        Raises:
            OSError: if the server cannot be reached, or hangs up.
        """
        lines = [f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Length: {len(body)}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        request = "".join([*lines, "\r\n"]).encode("latin-1") + body
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                try:
                    return await self._ask(connection, request)
                except ConnectionResetError:
                    if connection.began:
                        raise
        return await self._ask(await self._connect(), request)

    async def close(self) -> None:
        """Close all connections."""
        for connection in list(self._all):
            connection.close()

    async def _ask(self, connection: _Connection, request: bytes) -> tuple[int, bytes]:
        try:
            answer = await connection.ask(request)
        except BaseException:  # also when cancelled: what comes later must not be taken for another's answer
            connection.close()
            raise
        finally:
            self._all = {known for known in self._all if known.is_open}
        if connection.is_open:
            self._idle.append(connection)
        return answer

    async def _connect(self) -> _Connection:
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        self._all.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One connection, that has one request in flight at most."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._size = 0
        self.began = False

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._parts, self._size, self.began = [], 0, False
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._fail(ConnectionResetError(f"it hung up ({exc})" if exc else "it hung up"))

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionResetError(f"it does not speak HTTP ({error})"))
            self.close()

    def on_message_begin(self) -> None:
        """The answer begins."""
        self.began = True

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(body)
        self._size += len(body)
        if self._size > _LARGEST_BYTES:
            self._fail(ConnectionResetError(f"its answer is larger than {_LARGEST_BYTES} bytes"))
            self.close()

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        waiting, self._waiting = self._waiting, None
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        if waiting is not None and not waiting.done():
            waiting.set_result((self._parser.get_status_code(), b"".join(self._parts)))
        elif self._transport is not None:  # nobody asked for that
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
