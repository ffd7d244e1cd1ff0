"""LitServe: ``BENCH_BATCH`` calls share one read and one run. Runs in LitServe's environment."""

from __future__ import annotations

from typing import Any

import litserve
import redis

from bench.servers import told
from bench.servers.scoring import Network, keys, matrix, score_many

_WAIT_S = 0.001


class Ranker(litserve.LitAPI):
    """Scores the ads of a call, or of a batch of calls."""

    def setup(self, device: str) -> None:
        """Connect and load."""
        self._store = redis.Redis(host="127.0.0.1", port=told.redis_port())
        self._network = Network(told.model())

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe takes a hint for a query parameter
        """The body as it is."""
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The calls as they are."""
        return inputs

    def predict(self, call: Any) -> Any:
        """Answer a call or a batch."""
        if isinstance(call, list):
            return score_many(self._store.mget, self._network, call)
        return self._network.scores(matrix(call, self._store.mget(keys(call)))).tolist()

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """The answers as they are."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        """The answer's body."""
        return {"predictions": output}


if __name__ == "__main__":
    batch, servers = int(told.option("BATCH")), int(told.option("API_SERVERS"))
    api = Ranker(max_batch_size=batch, batch_timeout=_WAIT_S if batch > 1 else 0.0)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(told.option("WORKERS")), fast_queue=told.option("FAST") == "1"
    )
    server.run(
        host="127.0.0.1",
        port=int(told.option("PORT")),
        num_api_servers=servers,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
