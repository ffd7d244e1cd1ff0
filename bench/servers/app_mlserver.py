"""MLServer: a runtime of one's own, asked in the Open Inference Protocol. Runs in MLServer's environment."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from bench.servers import told
from bench.servers.scoring import Network, keys, matrix
from bench.workload import FIELDS


class Ranker(MLModel):
    """Scores the ads of a call."""

    async def load(self) -> bool:
        """Connect and load."""
        self._store = redis.asyncio.Redis(host="127.0.0.1", port=told.redis_port())
        self._network = Network(told.model())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one call: tensors ``user`` [1], ``ads`` [n] and ``fields`` [8]."""
        tensors: dict[str, Any] = {each.name: each.data.root for each in payload.inputs}
        call = {"user": tensors["user"][0], "ads": tensors["ads"], **dict(zip(FIELDS, tensors["fields"], strict=True))}
        scores = self._network.scores(matrix(call, await self._store.mget(keys(call))))
        output = ResponseOutput(name="scores", shape=list(scores.shape), datatype="FP32", data=scores.tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])
