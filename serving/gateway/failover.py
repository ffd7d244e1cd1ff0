"""Trying a failed call again where that can help, and leaving alone who does not answer."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from core.errors import DependencyDown
from features.streams import SHADOW
from serving.gateway.breaker import Breaker, RetryBudget
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed, ModelCaller
from serving.gateway.route_table import InFlight, RouteTable
from serving.gateway.tallies import Tallies

_PAUSES_S = (0.0, 0.05, 0.2)  # another worker may be idle at once; one that is restarted takes longer than all of them
_CIRCUIT_OPEN = "it failed again and again a moment ago and is left alone"


class FailoverCaller:
    """Calls a version, and where it fails, what may help; predictions are idempotent by their id.

    If the route names another champion than the version that failed, that one is asked (once). If the host had no
    worker or nobody was listening, the same call is made again, up to three times within a quarter of a second. Both
    only within the retry budget. A version that fails again and again is left alone for a while. Nobody answers in
    a shadow's place.

    Args:
        inner: makes the calls.
        routes: says which version is live now.
        in_flight: told of calls to another version than was first asked.
        tallies: told how each version did.
        metrics: where retries are counted.
        pause: waits some seconds.
        seconds: a clock that only goes forward.
    """

    def __init__(
        self,
        inner: ModelCaller,
        routes: RouteTable,
        in_flight: InFlight,
        tallies: Tallies,
        metrics: GatewayMetrics,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._routes = routes
        self._in_flight = in_flight
        self._tallies = tallies
        self._metrics = metrics
        self._pause = pause
        self._seconds = seconds
        self._breakers: defaultdict[tuple[str, str], Breaker] = defaultdict(Breaker)
        self._budget = RetryBudget()

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask `version`, and on failure what may help."""
        self._budget.called()
        try:
            return await self._ask(use_case, version, body)
        except CallFailed as failure:
            if body.get("role") == SHADOW:
                raise
            return await self._again(use_case, version, body, failure)

    def is_open(self, use_case: str, version: str) -> bool:
        """Whether a version is being left alone."""
        breaker = self._breakers.get((use_case, version))
        return breaker is not None and breaker.is_open

    async def close(self) -> None:
        """Close the inner caller."""
        await self._inner.close()

    async def _ask(self, use_case: str, version: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        breaker, began_s, n = self._breakers[use_case, version], self._seconds(), len(body["calls"])
        if not breaker.allows(began_s):
            self._tallies.failed(use_case, version, n)
            raise CallFailed(_CIRCUIT_OPEN, 503)
        try:
            answer = await self._inner.score(use_case, version, body)
        except CallFailed as failure:
            if failure.passing:
                self._failed(use_case, version, breaker)
            if not failure.input_related or n == 1:  # else it is asked again, one by one
                self._tallies.failed(use_case, version, n)
            raise
        except asyncio.CancelledError:  # it took too long
            self._failed(use_case, version, breaker)
            self._tallies.failed(use_case, version, n)
            raise
        if breaker.failures:
            self._metrics.breaker(use_case, version, is_open=False)
        breaker.succeeded()
        self._tallies.answered(use_case, version, self._seconds() - began_s, n)
        return answer

    def _failed(self, use_case: str, version: str, breaker: Breaker) -> None:
        breaker.failed(self._seconds())
        self._metrics.breaker(use_case, version, is_open=breaker.is_open)

    async def _again(
        self, use_case: str, version: str, body: Mapping[str, Any], failure: CallFailed
    ) -> Mapping[str, Any]:
        moved, pauses = False, iter(_PAUSES_S)
        while True:
            live = await self._live_version(use_case, version, failure)
            pause_s = next(pauses, None) if failure.passing and failure.problem != _CIRCUIT_OPEN else None
            if live != version and not moved:
                moved = True
            elif pause_s is None:
                raise failure
            elif pause_s:
                await self._pause(pause_s)
                live = await self._live_version(use_case, version, failure)
            if not self._budget.take(self._seconds()):
                self._metrics.retried("no budget")
                raise failure
            version = live
            try:
                with self._in_flight.counted(use_case, version, len(body["instances"])):
                    answer = await self._ask(use_case, version, body)
            except CallFailed as next_failure:
                self._metrics.retried("failed")
                failure = next_failure
            else:
                self._metrics.retried("answered")
                return answer

    async def _live_version(self, use_case: str, version: str, failure: CallFailed) -> str:
        if failure.gone:
            with suppress(DependencyDown):
                await self._routes.refresh()
        route = self._routes.find(use_case)
        return route.version if route else version
