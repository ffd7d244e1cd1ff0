"""The gateway's way to a server of the Open Inference Protocol: features are read here, the server sees a matrix."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core.errors import DeadlineMissed, EvergreenError, RequestError, Unavailable
from core.settings import Settings
from serving.gateway.model_caller import CallFailed
from serving.open_inference.scorings import NotInStore, Scorings
from serving.open_inference.server import InferenceServer, ServerRefused

logger = logging.getLogger(__name__)


class OpenInferenceCaller:
    """Scores with the versions that the deployer published, a few calls at a time, each in a thread.

    Failures bear the statuses that TorchServe's would, so that they are met in the same way.

    Args:
        settings: where the server, the store and Redis are.
    """

    def __init__(self, settings: Settings) -> None:
        timeout_s = min(settings.host.timeout_s, settings.gateway.timeout_s)  # a thread must not outlast its caller
        self._server = InferenceServer(settings.host.url, timeout_s=timeout_s)
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
            return self._scorings.answer(use_case, version, body)
        except Exception as error:  # an entry point: the gateway outlives whatever a use case's code raises
            if not isinstance(error, EvergreenError):
                logger.exception("%s %s failed", use_case, version)
            raise CallFailed(str(error) or type(error).__name__, _status(error)) from error


def _status(error: Exception) -> int:
    """What TorchServe would answer."""
    match error:
        case RequestError():
            return 400
        case NotInStore():
            return 404
        case DeadlineMissed():
            return 504
        case Unavailable():
            return 503
        case ServerRefused():
            return error.status if error.status in (404, 500) else 502
    return 500
