"""The gateway as an ASGI application: the calls that carry traffic by hand, everything else by FastAPI."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from core.errors import EvergreenError, Unauthorized, UnknownSource, UnknownUseCase
from serving.gateway.endpoints import Endpoint, Headers
from serving.gateway.json_body import ClientGone, read_body
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.problems import PROBLEM_TYPE, WrongMethod, internal_problem, problem_for
from serving.gateway.request_clock import RequestClock

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_JSON = b"application/json"
_HOT_METHODS = ("POST", "OPTIONS")


class Gateway:
    """Routes, authenticates and limits requests, and turns every error into a problem document.

    Args:
        endpoints: per use case its predict and feedback, as ``{"predict": …, "feedback": …}``.
        sources: per event source its endpoint.
        pages: answers everything else, and the lifespan.
        clock: tells now for a request.
        metrics: where requests are counted.
        api_key: what /v1 calls must carry; empty if nothing.
        max_body_bytes: largest body.
    """

    def __init__(
        self,
        *,
        endpoints: Mapping[str, Mapping[str, Endpoint]],
        sources: Mapping[str, Endpoint],
        pages: ASGIApp,
        clock: RequestClock,
        metrics: GatewayMetrics,
        api_key: str,
        max_body_bytes: int,
    ) -> None:
        self._use_cases = endpoints
        self._sources = sources
        self._pages = pages
        self._clock = clock
        self._metrics = metrics
        self._api_key = api_key.encode()
        self._max_body_bytes = max_body_bytes
        self._hot = {f"/v1/models/{name}/{verb}": e for name, verbs in endpoints.items() for verb, e in verbs.items()}
        self._hot |= {f"/v1/events/{name}": endpoint for name, endpoint in sources.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        path: str = scope["path"]
        endpoint = self._hot.get(path)
        if endpoint is not None:
            await self._guarded(scope, send, endpoint.route, lambda: self._answer(endpoint, scope, receive, send))
        elif path.startswith("/v1/"):
            await self._guarded(scope, send, "/v1", lambda: self._other(path, scope, receive, send))
        else:
            await self._page(scope, receive, send)

    async def _guarded(self, scope: Scope, send: Send, route: str, answer: Callable[[], Awaitable[int]]) -> None:
        """Run `answer` for a /v1 call, authenticated, and send a problem document for what it raises."""
        status = 499  # what a client that went away is counted under
        try:
            self._authenticate(scope)
            status = await answer()
        except EvergreenError as error:
            problem = problem_for(error)
            status = problem.status
            if status == 500:
                logger.error("%s failed", route, exc_info=error)
            await _send(send, status, PROBLEM_TYPE, problem.body, problem.headers)
        except ClientGone:
            pass
        except Exception:  # entry point: a fault of ours must not show the client anything, nor go unseen
            logger.exception("%s failed", route)
            problem = internal_problem()
            status = problem.status
            await _send(send, status, PROBLEM_TYPE, problem.body, ())
        if status:
            self._metrics.answered(route, status)

    def _authenticate(self, scope: Scope) -> None:
        if not self._api_key:
            return
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                if hmac.compare_digest(value, self._api_key):
                    return
                raise Unauthorized("The API key is wrong.")
        raise Unauthorized("The API key is missing.")

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> int:
        if scope["method"] != "POST":
            return await _without_post(scope["method"], send)
        body = await read_body(scope["headers"], receive, self._max_body_bytes)
        reply = await endpoint(body, self._clock.now_us(scope["headers"]))
        await _send(send, reply.status, _JSON, reply.body, reply.headers)
        return reply.status

    async def _other(self, path: str, scope: Scope, receive: Receive, send: Send) -> int:
        """A /v1 path that carries no traffic: an unknown name, or a page."""
        match path.split("/")[2:]:
            case ["models", name, "predict" | "feedback"]:
                raise UnknownUseCase(name[:60], list(self._use_cases))
            case ["events", name]:
                raise UnknownSource(name[:60], list(self._sources))
        await self._page(scope, receive, send)
        return 0  # counted as a page

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


async def _without_post(method: str, send: Send) -> int:
    if method != "OPTIONS":
        raise WrongMethod(method, _HOT_METHODS)
    await _send(send, 204, b"", b"", ((b"allow", ", ".join(_HOT_METHODS).encode()),))
    return 204


async def _send(send: Send, status: int, media_type: bytes, body: bytes, headers: Headers) -> None:
    lines: list[tuple[bytes, bytes]] = []
    if status != 204:
        lines = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*lines, *headers]})
    await send({"type": "http.response.body", "body": body})
