"""BentoML with adaptive batching: the calls of a batch share one read and one run. Runs in BentoML's environment."""

from __future__ import annotations

from typing import Any

import bentoml
import redis

from bench.servers import told
from bench.servers.scoring import Network, score_many


@bentoml.service(workers=2, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Ranker:
    """Scores the ads of calls."""

    def __init__(self) -> None:
        self._store = redis.Redis(host="127.0.0.1", port=told.redis_port())
        self._network = Network(told.model())

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, calls: list[dict[str, Any]]) -> list[list[float]]:
        """Answer a batch of calls."""
        return score_many(self._store.mget, self._network, calls)
