"""The model host over HTTP: TorchServe's inference API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import orjson

from core.errors import DependencyDown
from serving.gateway.model_caller import CallFailed

_CONNECT_S = 2.0
_JSON = {"Content-Type": "application/json"}
_SCORES = {float, int, type(None)}  # null: the model gave no finite score, which `degraded` then says


class HostCaller:
    """Calls ``{url}/predictions/{use case}/{version}`` over kept-alive connections.

    Must be made inside a running event loop.

    Args:
        url: the inference API's base address.
        key: the current inference key; empty where the host wants none. Called for every request.
    """

    def __init__(self, url: str, key: Callable[[], str]) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request; once more if the host says the key has expired meanwhile."""
        url = f"{self._url}/predictions/{use_case}/{version}"
        payload = orjson.dumps(body)
        status, answer = await self._post(url, payload)
        if _wrong_key(status, answer):
            status, answer = await self._post(url, payload)
            if _wrong_key(status, answer):
                raise CallFailed("it does not accept the key in its key file", 401)
        if status != 200:
            raise CallFailed(f"it answered {status} for {use_case}/{version}: {answer[:200]!r}", status)
        return _checked(answer, len(body["instances"]), f"{use_case}/{version}")

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _post(self, url: str, payload: bytes) -> tuple[int, bytes]:
        try:
            headers = {**_JSON, "Authorization": f"Bearer {key}"} if (key := self._key()) else _JSON
            async with self._session.post(url, data=payload, headers=headers) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, DependencyDown) as error:
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
