"""Asking the model host for scores, and trying again where that can help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from core.errors import DependencyDown
from serving.gateway.route_table import InFlight, RouteTable

_PAUSE_S = 0.05


class CallFailed(DependencyDown):
    """The model host did not answer a call with scores.

    Args:
        problem: what happened.
        status: the HTTP status it answered with; None if it did not answer at all.
    """

    def __init__(self, problem: str, status: int | None = None) -> None:
        super().__init__("The model host", problem)
        self.problem = problem
        self.status = status

    @property
    def gone(self) -> bool:
        """Whether the host does not know the version."""
        return self.status == 404

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed in a moment: no worker just now, or nobody listening."""
        return self.status in (None, 503, 507)

    @property
    def input_related(self) -> bool:
        """Whether the input may be the cause, so that other instances may fare better without it."""
        return self.status in (400, 500)


class ModelCaller(Protocol):
    """Scores instances with one version. A call must be safe to repeat, and to cancel at any point."""

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request to a version and return its answer.

        Args:
            use_case: the use case's name.
            version: the version that shall answer.
            body: ``instances``, ``at_us``, ``prediction_ids`` (n each) and ``now_us``.

        Returns:
            ``predictions`` (n floats), ``degraded`` (n lists of reasons) and ``model_version``.

        Raises:
            CallFailed: if there are no scores.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections; must be idempotent."""
        ...


class MemoryModelCaller:
    """A model host in memory, for tests: answers with a function's result and keeps the calls it got.

    Args:
        answer: from (use case, version, body) to the scores, or raising CallFailed.
    """

    def __init__(self, answer: Callable[[str, str, Mapping[str, Any]], list[float]] | None = None) -> None:
        self._answer = answer or (lambda use_case, version, body: [0.5] * len(body["instances"]))
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer once the gate is open; a row whose instance says ``unknown`` is degraded."""
        self.calls.append((use_case, version, body))
        await self.gate.wait()
        degraded = [["profile: unknown entity"] if "unknown" in row.values() else [] for row in body["instances"]]
        scores = self._answer(use_case, version, body)
        return {"predictions": scores, "degraded": degraded, "model_version": version}

    async def close(self) -> None:
        """Nothing to let go of."""


class FailoverCaller:
    """Tries a failed call once more where that can help; predictions are idempotent by their id.

    If the route names another version by now, that one is asked (once). If the host had no worker or
    nobody was listening, the same call is made again after 50 ms (once).

    Args:
        inner: makes the calls.
        routes: says which version is live now.
        in_flight: told of calls to another version than was first asked.
        pause: waits some seconds.
    """

    def __init__(
        self,
        inner: ModelCaller,
        routes: RouteTable,
        in_flight: InFlight,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._routes = routes
        self._in_flight = in_flight
        self._pause = pause

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask `version`, and on failure what may help."""
        try:
            return await self._inner.score(use_case, version, body)
        except CallFailed as failure:
            return await self._again(use_case, version, body, failure)

    async def close(self) -> None:
        """Close the inner caller."""
        await self._inner.close()

    async def _again(self, use_case: str, version: str, body: Mapping[str, Any], failure: CallFailed) -> dict[str, Any]:
        moved = waited = False
        while True:
            live = await self._live_version(use_case, version, failure)
            if live != version and not moved:
                moved = True
            elif failure.passing and not waited:
                waited = True
                await self._pause(_PAUSE_S)
                live = await self._live_version(use_case, version, failure)
            else:
                raise failure
            version = live
            try:
                with self._in_flight.counted(use_case, version, len(body["instances"])):
                    return await self._inner.score(use_case, version, body)
            except CallFailed as next_failure:
                failure = next_failure

    async def _live_version(self, use_case: str, version: str, failure: CallFailed) -> str:
        if failure.gone:
            with suppress(DependencyDown):
                await self._routes.refresh()
        route = self._routes.find(use_case)
        return route.version if route else version
