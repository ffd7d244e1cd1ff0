"""uvicorn's HTTP protocol, guarded against clients that send headers slowly or without end."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.gateway.problems import PROBLEM_TYPE, MalformedBody, problem_for

_HEADERS_TIME_S = 10.0
_HEADERS_MOST_BYTES = 32_768


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers take over ten seconds or 32 kB."""

    _headers_bytes = 0
    _headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; if the headers are still incomplete, all of it counts against their limit."""
        super().data_received(data)
        if self._headers_timer is not None:
            self._headers_bytes += len(data)
            if self._headers_bytes > _HEADERS_MOST_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        """Start waiting for the rest of the headers."""
        super().on_message_begin()
        if self._headers_timer is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        """Hand the request on."""
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem document and close."""
        problem = problem_for(MalformedBody(msg, remedy="Send an HTTP/1.1 request with less than 32 kB of headers."))
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (PROBLEM_TYPE, len(problem.body)) + problem.body)
        self.transport.close()

    def _await_headers(self) -> None:
        self._headers_bytes = 0
        self._headers_timer = self.loop.call_later(_HEADERS_TIME_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
