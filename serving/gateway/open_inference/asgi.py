"""The protocol's calls as ASGI brings them: all but the one that carries traffic, which the door knows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from serving.gateway.door import Door
from serving.gateway.exchange import Endpoint, RawHeaders, Reply
from serving.gateway.json_body import ClientGone, read_body
from serving.gateway.open_inference.service import OpenInference, Request, route_of
from serving.gateway.request_clock import RequestClock

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

PREFIX: Final = "/v2"
_PROBES: Final = (f"{PREFIX}/health/live", f"{PREFIX}/health/ready")


class OpenInferencePages:
    """Answers what lies below ``/v2``.

    Args:
        service: the protocol.
        door: lets calls in and counts them.
        clock: tells now for a request.
    """

    def __init__(self, service: OpenInference, door: Door, clock: RequestClock) -> None:
        self._service = service
        self._door = door
        self._clock = clock

    def owns(self, path: str) -> bool:
        """Whether a path is the protocol's."""
        return path == PREFIX or path.startswith(f"{PREFIX}/")

    async def answer(self, scope: Scope, receive: Receive) -> Reply | None:
        """The answer to a request, errors as replies too; None if the client went away."""
        path: str = scope["path"]
        route, headers = route_of(path), scope["headers"]
        try:
            if path not in _PROBES:
                self._door.admit(headers, self._endpoint(path))
            body = b""
            if scope["method"] == "POST":
                body = await read_body(headers, receive, self._door.max_body_bytes)
            reply = await self._service(Request(scope["method"], path, headers, body, lambda: self._now_us(headers)))
        except ClientGone:
            self._door.gone(route)
            return None
        except Exception as error:  # entry point, as in the door
            return self._door.refuse(error, route)
        self._door.count(route, reply.status)
        return reply

    def _now_us(self, headers: RawHeaders) -> int:
        return self._clock.now_us(headers)

    def _endpoint(self, path: str) -> Endpoint | None:
        """What a key must be good for: to infer, or to have a model try its example, the use case's predictions."""
        parts = path.split("/")
        wants_scores = len(parts) > 4 and parts[2] == "models" and parts[-1] in ("infer", "ready")
        return self._service.infer.get(parts[3]) if wants_scores else None
