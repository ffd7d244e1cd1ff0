"""Asking the model host for scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from core.errors import DependencyDown


class CallFailed(DependencyDown):
    """The model host did not answer a call with scores.

    Args:
        problem: what happened.
        status: the HTTP status it answered with; None if it did not answer at all.
    """

    def __init__(self, problem: str, status: int | None = None) -> None:
        super().__init__("The model host", problem)
        self.problem = problem
        self.status = status

    @property
    def gone(self) -> bool:
        """Whether the host does not know the version."""
        return self.status == 404

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed in a moment: no worker just now, or nobody listening."""
        return self.status in (None, 503, 507)

    @property
    def input_related(self) -> bool:
        """Whether the input may be the cause, so that other instances may fare better without it."""
        return self.status in (400, 500)


class ModelCaller(Protocol):
    """Scores instances with one version. A call must be safe to repeat, and to cancel at any point."""

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send one request to a version and return its answer.

        Args:
            use_case: the use case's name.
            version: the version that shall answer.
            body: as a gateway sends it, see ``serving.torchserve.wire.parse``.

        Returns:
            ``predictions`` (n floats), ``degraded`` (objects with ``instance`` and ``reasons``, by instance),
            ``model_version``, ``timing`` (seconds for features, model and log) and ``logged``.

        Raises:
            CallFailed: if there are no scores.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections; must be idempotent."""
        ...


class MemoryModelCaller:
    """A model host in memory, for tests: answers with a function's result and keeps the calls it got.

    Args:
        answer: from (use case, version, body) to the scores, or raising CallFailed.
    """

    def __init__(self, answer: Callable[[str, str, Mapping[str, Any]], list[float]] | None = None) -> None:
        self._answer = answer or (lambda use_case, version, body: [0.5] * len(body["instances"]))
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer once the gate is open; a row whose instance says ``unknown`` is degraded."""
        self.calls.append((use_case, version, body))
        await self.gate.wait()
        degraded = [
            {"instance": i, "reasons": ["profile: unknown entity"]}
            for i, row in enumerate(body["instances"])
            if "unknown" in row.values()
        ]
        scores = self._answer(use_case, version, body)
        timing = (0.0, 0.0, 0.0)
        return {
            "predictions": scores, "degraded": degraded, "model_version": version, "timing": timing, "logged": "stream"
        }  # fmt: skip

    async def close(self) -> None:
        """Nothing to let go of."""
