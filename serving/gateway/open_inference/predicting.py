"""The protocol's scores, from the gateway's own predictors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic

from serving.gateway import predictor
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.open_inference.scorer import Asked, Done, Scored
from serving.gateway.predictor import Predictor
from serving.gateway.route_table import RouteTable


class PredictorScorer:
    """Has instances scored as the gateway's own API would, under the same limits and by the same versions.

    Args:
        predictors: by use case.
        routes: which versions are live.
        metrics: where predictions are counted.
        check: returns if requests can be answered, else raises Unavailable.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        routes: RouteTable,
        metrics: GatewayMetrics,
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self._predictors = predictors
        self._routes = routes
        self._metrics = metrics
        self._check = check

    def versions(self, use_case: str) -> Sequence[str]:
        """The champion and the canary; a shadow answers nobody."""
        route = self._routes.find(use_case)
        if route is None:
            return ()
        return (route.version,) if route.canary is None else (route.version, route.canary.version)

    def require_room(self, use_case: str) -> None:
        """Refuse what would wait too long."""
        self._predictors[use_case].require_room()

    def ask(self, asked: Asked, done: Done) -> None:
        """Ask the predictor, and count what is logged: all others are probes."""
        began_s = monotonic()

        def answered(result: predictor.Scored | BaseException) -> None:
            if not isinstance(result, predictor.Scored):
                done(result)
                return
            if asked.log:
                self._metrics.predicted(asked.use_case, monotonic() - began_s, len(result.degraded))
            degraded: list[Sequence[str]] = [()] * len(result.predictions)
            for i, why in result.degraded:
                degraded[i] = why
            done(Scored(result.predictions, result.ids, degraded, result.version))

        question = predictor.Asked(asked.instances, None, asked.at_us, asked.now_us, asked.timeout_s, log=asked.log)
        self._predictors[asked.use_case].ask(question, answered, asked.version)

    async def check(self) -> None:
        """As the gateway's own readiness."""
        await self._check()
