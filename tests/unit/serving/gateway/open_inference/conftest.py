"""The protocol's service with a scorer in memory, asked as Triton's own client would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from core.errors import EvergreenError, NoLiveVersion
from core.use_case import UseCase
from serving.gateway.exchange import Reply
from serving.gateway.open_inference.reply import as_error
from serving.gateway.open_inference.scorer import Asked, Done, Scored
from serving.gateway.open_inference.service import OpenInference, Request
from serving.gateway.problems import problem_for

NOW_US = 1_549_108_800_000_000  # 2019-02-02 12:00 UTC
DTYPES = {"INT64": np.int64, "INT32": np.int32, "FP64": np.float64, "FP32": np.float32, "BYTES": np.object_}


@dataclass
class MemoryScorer:
    """Answers 0.5, and keeps what it was asked."""

    served: Sequence[str] = ("7", "8")
    asked: list[Asked] = field(default_factory=list)
    failure: EvergreenError | None = None
    score_of: Callable[[dict[str, Any]], float | None] = lambda row: 0.5

    def versions(self, use_case: str) -> Sequence[str]:
        return self.served

    def require_room(self, use_case: str) -> None:
        pass

    def ask(self, asked: Asked, done: Done) -> None:
        if not self.served:
            raise NoLiveVersion(asked.use_case)
        self.asked.append(asked)
        done(self.failure or self._scored(asked))

    def _scored(self, asked: Asked) -> Scored:
        n = len(asked.instances)
        degraded = [["profile: stale", "clock: late"] if row["vendor"] == "unknown" else [] for row in asked.instances]
        scores = [self.score_of(row) for row in asked.instances]
        return Scored(scores, [f"id-{i}" for i in range(n)], degraded, asked.version or self.served[0])

    async def check(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class Door:
    """The service as a client meets it."""

    service: OpenInference
    scorer: MemoryScorer

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        try:
            return await self.service(Request(method, path, lines, body, lambda: NOW_US))
        except EvergreenError as error:
            return as_error(problem_for(error))

    async def get(self, path: str) -> Any:
        reply = await self.call("GET", path)
        assert reply.status == 200, reply.body
        return orjson.loads(reply.body)

    async def infer(
        self, inputs: list[InferInput], outputs: list[InferRequestedOutput] | None = None, **options: Any
    ) -> InferResult:
        body, header = InferenceServerClient.generate_request_body(inputs, outputs=outputs, **options)
        headers = {} if header is None else {"inference_header_content_length": str(header)}
        reply = await self.call("POST", "/v2/models/tip/infer", body, **headers)
        assert reply.status == 200, reply.body
        header = dict(reply.headers).get(b"inference-header-content-length")
        return InferenceServerClient.parse_response_body(
            reply.body, header_length=None if header is None else int(header)
        )

    async def refusal(self, document: Any, **headers: str) -> tuple[int, str]:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        reply = await self.call("POST", "/v2/models/tip/infer", body, **headers)
        answer = orjson.loads(reply.body)
        assert set(answer) == {"error"}, answer
        return reply.status, answer["error"]


@pytest.fixture
def door(use_case: UseCase) -> Door:
    scorer = MemoryScorer()
    return Door(OpenInference({"tip": use_case}, scorer, most=4, max_body_bytes=100_000), scorer)


def tensor(name: str, datatype: str, values: list[Any], *, binary: bool = True, column: bool = False) -> InferInput:
    """An input as Triton's client makes it."""
    array = np.array(values, dtype=DTYPES[datatype])
    array = array.reshape(-1, 1) if column else array
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=binary)


def listed(name: str, datatype: str, data: Any, **more: Any) -> dict[str, Any]:
    """An input as JSON."""
    shape = [len(data)] if isinstance(data, list) else [1]
    return {"name": name, "datatype": datatype, "shape": shape, "data": data} | more
