"""Seeing to it that MLflow has the webhook when the deployer starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from core.errors import EvergreenError
from core.settings import Settings

logger = logging.getLogger(__name__)
_AGAIN_S = 60.0


class WebhookKeeper:
    """Registers the webhook, and again every minute while that fails; without it promotions only take longer.

    Args:
        settings: say where MLflow and the receiver are.
        monotonic: a clock in seconds that never goes backwards.
    """

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._monotonic = settings, monotonic
        self._due_s = float("inf") if not settings.webhook_receiver else -float("inf")

    def keep(self) -> None:
        """Register it, if that is due."""
        now_s = self._monotonic()
        if now_s < self._due_s:
            return
        from registry.mlflow_registry import MlflowRegistry
        from registry.webhook import ensure_webhook

        settings = self._settings
        name = "evergreen" if not settings.mlflow.url else f"evergreen {settings.webhook_receiver}"
        try:
            ensure_webhook(
                MlflowRegistry(settings.mlflow_url),
                name=name,
                receiver=settings.webhook_receiver,
                secret=settings.webhook_secret(),
            )
        except EvergreenError as error:
            self._due_s = now_s + _AGAIN_S
            logger.warning("MLflow has no webhook, so that promotions take a few seconds longer: %s", error)
            return
        self._due_s = float("inf")
        logger.info("MLflow tells %s when an alias moves", settings.webhook_receiver)
