"""The calls that carry traffic: found by their path, let in, answered, and counted, whatever brings them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from core.errors import EvergreenError
from serving.gateway.access import Access
from serving.gateway.exchange import Call, Endpoint, RawHeaders, Reply, Respond, header
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.open_inference.reply import as_error
from serving.gateway.problems import PROBLEM_TYPE, Problem, internal_problem, problem_for
from serving.gateway.request_clock import RequestClock

logger = logging.getLogger(__name__)
_V2 = "/v2"  # its clients know no problem documents
CLIENT_GONE = 499  # what a client that went away is counted under


class Door:
    """Lets calls in and sees to it that each gets one answer, errors as problem documents.

    Args:
        endpoints: by path.
        clock: tells now for a request.
        metrics: where requests are counted.
        access: decides by a request's API key.
        max_body_bytes: largest body.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        clock: RequestClock,
        metrics: GatewayMetrics,
        access: Access,
        max_body_bytes: int,
    ) -> None:
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._clock = clock
        self._metrics = metrics
        self._access = access
        self.max_body_bytes = max_body_bytes

    def find(self, path: bytes) -> Endpoint | None:
        """The endpoint at a path, as it stands in the request line."""
        return self._endpoints.get(path)

    def admit(self, headers: RawHeaders, endpoint: Endpoint | None = None) -> None:
        """Return if the request may come in, and count it; asked before its body is read.

        Raises:
            RequestError: as `Access.check` says.
            DependencyDown: likewise.
            Overloaded: if it would wait too long.
        """
        key = header(headers, b"x-api-key")
        if endpoint is None:
            self._access.check(key, None, None)
        else:
            self._access.check(key, endpoint.scope, endpoint.use_case)
            endpoint.require_room()

    def admit_to_page(self, headers: RawHeaders) -> None:
        """Return if the request may see metrics and documents: from this machine, or with any key; not counted."""
        if not self._access.is_loopback:
            self._access.check(header(headers, b"x-api-key"), None, None, 0)

    def answer(self, endpoint: Endpoint, headers: RawHeaders, body: bytes, respond: Respond) -> None:
        """Have an endpoint answer a request that was let in; `respond` gets one reply, errors as replies too."""

        def finish(result: Reply | BaseException) -> None:
            reply = result if isinstance(result, Reply) else self.refusal(result, endpoint.route)
            self._metrics.answered(endpoint.route, reply.status)
            respond(reply)

        try:
            endpoint.begin(Call(body, headers, self._clock.now_us(headers)), finish)
        except Exception as error:  # entry point: a fault of ours must not show the client anything, nor go unseen
            finish(error)

    def refuse(self, error: BaseException, route: str) -> Reply:
        """The answer to a request that gets no further, counted."""
        reply = self.refusal(error, route)
        self._metrics.answered(route, reply.status)
        return reply

    def gone(self, route: str) -> None:
        """Count a request whose client went away before it was complete."""
        self._metrics.answered(route, CLIENT_GONE)

    def count(self, route: str, status: int) -> None:
        """Count a request that was answered elsewhere."""
        self._metrics.answered(route, status)

    def refusal(self, error: BaseException, route: str) -> Reply:
        """The problem document for an error, or what clients of another protocol expect in its place."""
        if isinstance(error, EvergreenError):
            problem = problem_for(error)
            if problem.status == 500:
                logger.error("%s failed", route, exc_info=error)
        else:
            logger.error("%s failed", route, exc_info=error)
            problem = internal_problem()
        return as_error(problem) if route.startswith(_V2) else _reply(problem)


def by_path(
    endpoints: Mapping[str, Mapping[str, Endpoint]],
    sources: Iterable[tuple[str, Endpoint]],
    infer: Mapping[str, Endpoint] | None = None,
) -> dict[str, Endpoint]:
    """The endpoints of use cases, as ``{"predict": …, "feedback": …}``, and of event sources by their paths.

    Those that infer, in the other protocol, come by use case.
    """
    found = {f"/v1/models/{name}/{verb}": e for name, verbs in endpoints.items() for verb, e in verbs.items()}
    found |= {f"/v1/events/{name}": endpoint for name, endpoint in sources}
    return found | {f"/v2/models/{name}/infer": endpoint for name, endpoint in (infer or {}).items()}


def _reply(problem: Problem) -> Reply:
    return Reply(problem.status, problem.body, problem.headers, PROBLEM_TYPE)
