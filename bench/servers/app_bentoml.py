"""BentoML's own way: a service class with an API that is a coroutine. Runs in BentoML's environment."""

from __future__ import annotations

from typing import Any

import bentoml
import redis.asyncio

from bench.servers import told
from bench.servers.scoring import Network, keys, matrix


@bentoml.service(workers=2, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Ranker:
    """Scores the ads of a call."""

    def __init__(self) -> None:
        self._store = redis.asyncio.Redis(host="127.0.0.1", port=told.redis_port())
        self._network = Network(told.model())

    @bentoml.api
    async def predict(self, call: dict[str, Any]) -> dict[str, Any]:
        """Answer one call."""
        found = await self._store.mget(keys(call))
        return {"predictions": self._network.scores(matrix(call, found)).tolist()}
