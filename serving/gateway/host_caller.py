"""The model host over HTTP: TorchServe's inference API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from core.errors import DependencyDown
from serving.gateway.host_connection import HostConnections
from serving.gateway.model_caller import CallFailed
from serving.gateway.tracing import passed_on

_SCORES = {float, int, type(None)}  # null: the model gave no finite score, which `degraded` then says
_WORKER_DIED = b"Worker died"


class HostCaller:
    """Calls ``{url}/predictions/{use case}/{version}`` over kept-alive connections.

    Args:
        url: the inference API's base address.
        key: the current inference key; empty where the host wants none. Called for every request.
    """

    def __init__(self, url: str, key: Callable[[], str]) -> None:
        self._connections = HostConnections(url)
        self._key = key

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request; once more if the host says the key has expired meanwhile."""
        path = f"/predictions/{use_case}/{version}"
        payload = orjson.dumps(body)
        status, answer = await self._post(path, payload)
        if _wrong_key(status, answer):
            status, answer = await self._post(path, payload)
            if _wrong_key(status, answer):
                raise CallFailed("it does not accept the key in its key file", 401)
        if status == 500 and _WORKER_DIED in answer:  # with the call in its hands; another may answer it
            status = 507
        if status != 200:
            raise CallFailed(f"it answered {status} for {use_case}/{version}: {answer[:200]!r}", status)
        return _checked(answer, len(body["instances"]), f"{use_case}/{version}")

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def _post(self, path: str, payload: bytes) -> tuple[int, bytes]:
        try:
            key = self._key()
            headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
            if (traceparent := passed_on.get()) is not None:
                headers["traceparent"] = traceparent.decode()
            return await self._connections.post(path, headers, payload)
        except (OSError, TimeoutError, DependencyDown) as error:
            raise CallFailed(f"{error}" or type(error).__name__) from error


def _wrong_key(status: int, answer: bytes) -> bool:
    return status in (401, 403) or (status == 400 and b"Token Auth" in answer)


def _checked(answer: bytes, n: int, who: str) -> dict[str, Any]:
    """The answer, proven to hold n scores and what was missing."""
    try:
        document: dict[str, Any] = orjson.loads(answer)
        scores = document["predictions"]
        if len(scores) == n and _SCORES.issuperset(map(type, scores)):
            document["model_version"] = str(document["model_version"])
            missing = document.setdefault("degraded", [])
            if any(type(each["instance"]) is not int or type(each["reasons"]) is not list for each in missing):
                raise ValueError("degraded")
            document.setdefault("timing", (0.0, 0.0, 0.0))
            document.setdefault("logged", "")
            return document
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CallFailed(f"{who} sent an answer that cannot be understood: {answer[:200]!r}", 502) from error
    raise CallFailed(f"{who} did not answer {n} instances with {n} scores: {answer[:200]!r}", 502)
