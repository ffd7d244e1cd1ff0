"""uvicorn's HTTP protocol, with a short way for the calls that carry traffic, and guards against slow clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.gateway.asgi import without_post
from serving.gateway.door import Door
from serving.gateway.exchange import Endpoint, RawHeaders, Reply, header
from serving.gateway.json_body import BODY_TIME_S, too_large, too_slow
from serving.gateway.problems import PROBLEM_TYPE, MalformedBody, problem_for

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_HEADERS_TIME_S = 10.0
_HEADERS_MOST_BYTES = 32_768


class _NoEvent:
    """Stands where uvicorn's cycles have an event that nobody waits for here."""

    def set(self) -> None:
        pass


_NO_EVENT = _NoEvent()


class _Traffic:
    """One call that carries traffic, in the place of uvicorn's request-response cycle.

    It is answered by writing to the transport, without the tasks and messages of ASGI in between.
    """

    __slots__ = (
        "disconnected", "endpoint", "headers", "is_whole", "keep_alive", "message_event", "method", "parts", "protocol",
        "response_complete", "size", "started",
    )  # fmt: skip

    def __init__(self, protocol: GatewayProtocol, endpoint: Endpoint, method: str, keep_alive: bool) -> None:
        self.protocol = protocol
        self.endpoint = endpoint
        self.method = method
        self.headers: RawHeaders = protocol.headers
        self.keep_alive = keep_alive
        self.message_event = _NO_EVENT
        self.parts: list[bytes] = []
        self.size = 0
        self.is_whole = False
        self.started = False
        self.response_complete = False
        self.disconnected = False

    def body(self) -> bytes:
        """All of it that has come."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def respond(self, reply: Reply | BaseException) -> None:
        """Send the answer, if anybody is there."""
        if isinstance(reply, Reply) and not self.response_complete:
            self.response_complete = True
            if not self.disconnected:
                self.protocol.send_reply(self, reply)


class GatewayProtocol(HttpToolsProtocol):
    """Brings calls that carry traffic to the gateway's door, and everything else to its ASGI application.

    Closes a connection whose request line and headers take over ten seconds or 32 kB; refuses a body that takes over
    ten seconds, or is larger than allowed, before more of it than that is held.
    """

    _headers_bytes = 0
    _in_headers = True
    _slow_timer: asyncio.TimerHandle | None = None
    _idle_since_s = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._door: Door = self.config.app.door  # type: ignore[union-attr]
        self.headers = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._wait(_HEADERS_TIME_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        cycle: Any = self.cycle
        if isinstance(cycle, _Traffic) and not cycle.is_whole and not cycle.response_complete:
            self._door.gone(cycle.endpoint.route)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; if the request is still incomplete afterwards, the rest of it must come in time."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._headers_bytes += len(data)
            if self._headers_bytes > _HEADERS_MOST_BYTES:
                self.send_400_response("The headers are too large.")
            elif self._slow_timer is None:
                self._wait(_HEADERS_TIME_S)
        elif self._slow_timer is None and self._awaits_body():
            self._wait(BODY_TIME_S)

    def on_message_begin(self) -> None:
        """Start a request: what only ASGI needs is made when it turns out to be needed."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._in_headers = True
        self._headers_bytes = 0

    def on_headers_complete(self) -> None:
        """Hand the request on: to the door, or to the application."""
        self._in_headers = False
        self._stop_waiting()
        if self.transport.is_closing():
            return
        endpoint = self._door.find(self.url)
        if endpoint is None:
            headers, url, expects = self.headers, self.url, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            super().on_headers_complete()
            return
        parser = self.parser
        call = _Traffic(
            self,
            endpoint,
            parser.get_method().decode("latin-1"),
            parser.should_keep_alive() and parser.get_http_version() != "1.0",
        )
        before, self.cycle = self.cycle, call  # type: ignore[assignment]
        if before is None or before.response_complete:
            self._open(call)
        else:  # requests are answered in their order
            self.flow.pause_reading()
            self.pipeline.appendleft((call, self.app))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        call: Any = self.cycle
        if type(call) is not _Traffic:
            super().on_body(body)
        elif not call.response_complete:
            call.parts.append(body)
            call.size += len(body)
            if call.size > self._door.max_body_bytes:
                call.parts.clear()
                if call.started:  # else when it is its turn
                    self._refuse(call, too_large(self._door.max_body_bytes), is_last=True)

    def on_message_complete(self) -> None:
        """Answer a call whose body is there."""
        call: Any = self.cycle
        if type(call) is not _Traffic:
            super().on_message_complete()
            return
        self._stop_waiting()
        call.is_whole = True
        if call.response_complete and not call.keep_alive:
            self.transport.close()
        elif call.started and not call.response_complete:
            self._door.answer(call.endpoint, call.headers, call.body(), call.respond)

    def send_reply(self, call: Any, reply: Reply) -> None:
        """Write an answer at once."""
        lines = [STATUS_LINE[reply.status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        if reply.status != 204:
            lines.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (reply.media_type, len(reply.body)))
        for name, value in reply.headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"connection" and value == b"close":
                call.keep_alive = False
        if not call.keep_alive and (b"connection", b"close") not in reply.headers:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", b"" if call.method == "HEAD" else reply.body)
        self.transport.write(b"".join(lines))
        if not call.keep_alive and call.is_whole:
            self.transport.close()
        # else what is still on its way is let in and dropped: who hangs up on data takes the answer back with it
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Go on with what the client has sent meanwhile, or wait for more: uvicorn's, without a timer per answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle_since_s = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._check_idle_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for long."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            self._check_idle_in(left_s)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem document and close."""
        problem = problem_for(MalformedBody(msg, remedy="Send an HTTP/1.1 request with less than 32 kB of headers."))
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (PROBLEM_TYPE, len(problem.body)) + problem.body)
        self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        """Leave the timer alone: it looks for itself whether the connection has been idle."""

    def _start_asgi_task(self, cycle: Any, app: ASGI3Application) -> None:
        if type(cycle) is _Traffic:
            self._open(cycle)
            if cycle.is_whole and not cycle.response_complete:
                self._door.answer(cycle.endpoint, cycle.headers, cycle.body(), cycle.respond)
        else:
            super()._start_asgi_task(cycle, app)

    def _open(self, call: _Traffic) -> None:
        """It is the call's turn: let it in, or refuse it before its body is read."""
        call.started = True
        length = header(call.headers, b"content-length")
        size = int(length) if length is not None and length.isdigit() and len(length) < 19 else 0
        most = self._door.max_body_bytes
        try:
            self._door.admit(call.headers, call.endpoint)
            other = without_post(call.method)
        except Exception as error:  # entry point, as in the door
            self._refuse(call, error, is_last=size > most)
            return
        if other is not None:
            call.respond(other)
        elif size > most or call.size > most:
            self._refuse(call, too_large(most), is_last=True)
        elif self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, call: _Traffic, error: BaseException, *, is_last: bool) -> None:
        call.keep_alive = call.keep_alive and not is_last
        call.respond(self._door.refuse(error, call.endpoint.route))

    def _awaits_body(self) -> bool:
        call: Any = self.cycle
        return type(call) is _Traffic and not call.is_whole

    def _check_idle_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _wait(self, seconds: float) -> None:
        self._slow_timer = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None

    def _give_up(self) -> None:
        self._slow_timer = None
        call: Any = self.cycle
        if not self._in_headers and type(call) is _Traffic and call.started and not call.response_complete:
            self._refuse(call, too_slow(), is_last=True)
        if not self.transport.is_closing():
            self.transport.close()
