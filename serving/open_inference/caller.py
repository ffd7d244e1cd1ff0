"""The gateway's way to a server of the Open Inference Protocol: features are read here, the server sees a matrix."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from core.errors import EvergreenError, RequestError, Unavailable
from core.settings import Settings
from serving.gateway.model_caller import CallFailed
from serving.open_inference.scorings import Scorings
from serving.open_inference.server import InferenceServer, ServerRefused

_GONE, _BUSY, _FAILED, _MISUNDERSTOOD = 404, 503, 500, 502


class OpenInferenceCaller:
    """Scores with the versions that the deployer published, a few calls at a time, each in a thread.

    Failures bear the statuses that TorchServe's would, so that they are met in the same way.

    Args:
        settings: where the server, the store and Redis are.
    """

    def __init__(self, settings: Settings) -> None:
        self._server = InferenceServer(settings.host.url, timeout_s=settings.host.timeout_s)
        self._scorings = Scorings(settings, self._server)
        self._threads = ThreadPoolExecutor(settings.host.threads, thread_name_prefix="open-inference")

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request; a thread that is asked goes on if the caller no longer waits."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answer, use_case, version, dict(body))

    async def close(self) -> None:
        """Wait for the calls that are under way, and close all connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self._scorings.close()
        self._server.close()

    def _answer(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            scoring = self._scorings.get(use_case, version)
        except EvergreenError as error:
            raise CallFailed(str(error), _GONE) from error
        try:
            answer: dict[str, Any] = orjson.loads(scoring.answer(body))
        except RequestError as error:
            raise CallFailed(str(error), 400) from error
        except ServerRefused as error:
            status = error.status if error.status in (_GONE, _FAILED) else _MISUNDERSTOOD
            raise CallFailed(str(error), status) from error
        except Unavailable as error:
            raise CallFailed(str(error), _BUSY) from error
        except Exception as error:  # an entry point: the gateway outlives whatever a use case's code raises
            raise CallFailed(f"{use_case} {version} fails ({type(error).__name__}: {error})", _FAILED) from error
        return answer
