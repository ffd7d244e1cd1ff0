"""Triton with a model in Python, by PyTriton: Triton's own batching, one read and one run for a batch.

Runs in Triton's environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import redis
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.servers import told
from bench.servers.scoring import Network, score_many
from bench.workload import FIELDS

_MOST = 64
_DELAY_US = 100
_PORTS_APART = 1


def inferrer(port: int, model: str) -> Any:
    """What answers a batch of calls: ``user`` [b, 1], ``ads`` [b, n] and ``fields`` [b, 8]."""
    store, network = redis.Redis(host="127.0.0.1", port=port), Network(model)

    @batch
    def infer(user: Any, ads: Any, fields: Any) -> dict[str, Any]:
        calls = [
            {"user": u, "ads": a, **dict(zip(FIELDS, f, strict=True))}
            for u, a, f in zip(user[:, 0].tolist(), ads.tolist(), fields.tolist(), strict=True)
        ]
        return {"scores": np.array(score_many(store.mget, network, calls), dtype=np.float32)}

    return infer


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(told.option("PORT")), allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="ranker",
            infer_func=[inferrer(told.redis_port(), told.model()) for _ in range(int(told.option("WORKERS")))],
            inputs=[
                Tensor(name="user", dtype=np.int64, shape=(1,)),
                Tensor(name="ads", dtype=np.int64, shape=(-1,)),
                Tensor(name="fields", dtype=np.float32, shape=(len(FIELDS),)),
            ],
            outputs=[Tensor(name="scores", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=_MOST, batching=True, batcher=DynamicBatcher(max_queue_delay_microseconds=_DELAY_US)
            ),
            strict=False,
        )
        triton.serve()
