"""Ray Serve: replicas that take the HTTP request itself. Runs in Ray's environment."""

from __future__ import annotations

import signal
from typing import Any

import orjson
import ray
import redis.asyncio
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.servers import told
from bench.servers.scoring import Network, keys, matrix

_IN_FLIGHT = 256


@serve.deployment(
    num_replicas=int(told.option("REPLICAS")),
    max_ongoing_requests=_IN_FLIGHT,
    ray_actor_options={"num_cpus": 0.5},
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
)
class Ranker:
    """Scores the ads of a call."""

    def __init__(self, port: int, model: str) -> None:
        self._store = redis.asyncio.Redis(host="127.0.0.1", port=port)
        self._network = Network(model)

    async def __call__(self, request: Request) -> Any:
        """Answer one call."""
        call = orjson.loads(await request.body())
        found = await self._store.mget(keys(call))
        body = orjson.dumps({"predictions": self._network.scores(matrix(call, found)).tolist()})
        return Response(body, media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=told.option("TEMP"))
    serve.start(http_options={"host": "127.0.0.1", "port": int(told.option("PORT"))})
    serve.run(Ranker.bind(told.redis_port(), told.model()), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
