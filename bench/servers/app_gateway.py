"""Evergreen's gateway as it is started, except that the model host is an object that answers at once.

``python -m bench.servers.app_gateway``: what is left is the gateway's own work.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.settings import Settings
from serving.gateway import main as process
from serving.gateway.app import Outside, real_outside


class Instant:
    """A model host that answers 0.5."""

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer."""
        return {
            "predictions": [0.5] * len(body["instances"]),
            "degraded": [],
            "model_version": version,
            "timing": (0.0, 0.0, 0.0),
            "logged": "stream",
        }

    async def close(self) -> None:
        """Nothing to let go of."""


def without_host(settings: Settings) -> Outside:
    """Redis and the clock as the settings say."""
    return replace(real_outside(settings), caller=Instant)


if __name__ == "__main__":
    process.real_outside = without_host
    sys.exit(process.main())
