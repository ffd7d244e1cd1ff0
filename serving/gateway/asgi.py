"""The gateway as an ASGI application: the calls that carry traffic by hand, everything else by FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from core.errors import UnknownSource, UnknownUseCase
from serving.gateway.door import Door
from serving.gateway.exchange import Endpoint, Reply
from serving.gateway.json_body import ClientGone, read_body
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.open_inference.asgi import OpenInferencePages
from serving.gateway.problems import WrongMethod
from serving.gateway.webhook import PATH as WEBHOOK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOT_METHODS = ("POST", "OPTIONS")
_PROBES = ("/healthz", "/readyz")
_ADMIN = "/v1/admin/"  # looks at keys itself, so that refusals too get into the ledger
_CONSOLE = "/console"  # likewise, as it logs people in
_SIGNED = (WEBHOOK,)  # proven by a signature, not by a key
ALLOWED = Reply(204, b"", ((b"allow", ", ".join(_HOT_METHODS).encode()),))
"""The answer to OPTIONS for a call that carries traffic."""


class Gateway:
    """Answers one request at a time, as any ASGI server brings them.

    A server that speaks the door's language (`serving.gateway.protocol`) brings calls that carry traffic to it itself.

    Args:
        door: the calls that carry traffic.
        use_cases: names of all use cases.
        sources: names of all event sources.
        open_inference: answers what lies below /v2, but for the calls that carry traffic.
        pages: answers everything else, and the lifespan.
        metrics: where requests are counted.
    """

    def __init__(
        self,
        door: Door,
        *,
        use_cases: Collection[str],
        sources: Collection[str],
        open_inference: OpenInferencePages,
        pages: ASGIApp,
        metrics: GatewayMetrics,
    ) -> None:
        self.door = door
        self._use_cases = use_cases
        self._sources = sources
        self._open_inference = open_inference
        self._pages = pages
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        path: str = scope["path"]
        endpoint = self.door.find(path.encode())
        if endpoint is not None:
            await self._answer(endpoint, scope, receive, send)
        elif self._open_inference.owns(path):
            if (reply := await self._open_inference.answer(scope, receive)) is not None:
                await _send(send, reply if scope["method"] != "HEAD" else replace(reply, body=b""))
        elif path in (*_PROBES, *_SIGNED, _CONSOLE) or path.startswith((_ADMIN, f"{_CONSOLE}/")):
            await self._page(scope, receive, send)
        else:
            await self._other(path, scope, receive, send)

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        try:
            self.door.admit(headers, endpoint)
            reply = without_post(scope["method"])
            if reply is None:
                body = await read_body(headers, receive, self.door.max_body_bytes)
                reply = await self._ask(endpoint, headers, body)
        except ClientGone:
            self.door.gone(endpoint.route)
            return
        except Exception as error:  # entry point, as in the door
            reply = self.door.refuse(error, endpoint.route)
        await _send(send, reply)

    async def _ask(self, endpoint: Endpoint, headers: list[tuple[bytes, bytes]], body: bytes) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(reply: Reply | BaseException) -> None:
            if not future.done() and isinstance(reply, Reply):
                future.set_result(reply)

        self.door.answer(endpoint, headers, body, respond)
        return await future

    async def _other(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """A path that carries no traffic: an unknown name, or a page."""
        is_call = path.startswith("/v1/")
        try:
            if is_call:
                self.door.admit(scope["headers"])
            else:
                self.door.admit_to_page(scope["headers"])
            match path.split("/")[1:]:
                case ["v1", "models", name, "predict" | "feedback"]:
                    raise UnknownUseCase(name[:60], list(self._use_cases))
                case ["v1", "events", name]:
                    raise UnknownSource(name[:60], list(self._sources))
        except Exception as error:  # entry point, as in the door
            await _send(send, self.door.refuse(error, "/v1" if is_call else "page"))
            return
        await self._page(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI answer; HEAD is GET without the body."""
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif head:
                message = {**message, "body": b""}
            await send(message)

        await self._pages(scope, receive, watched)
        self._metrics.answered(getattr(scope.get("route"), "path", "unknown"), status)


def without_post(method: str) -> Reply | None:
    """The answer to another method than POST; None to a POST.

    Raises:
        WrongMethod: if it is neither POST nor OPTIONS.
    """
    if method == "POST":
        return None
    if method != "OPTIONS":
        raise WrongMethod(method, _HOT_METHODS)
    return ALLOWED


async def _send(send: Send, reply: Reply) -> None:
    lines: list[tuple[bytes, bytes]] = []
    if reply.status != 204:
        lines = [(b"content-type", reply.media_type), (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": [*lines, *reply.headers]})
    await send({"type": "http.response.body", "body": reply.body})
