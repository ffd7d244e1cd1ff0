"""Versions that are left alone because they do not load or do not answer as they should."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime

from core.clock import Clock
from core.decision import Decision
from core.errors import DeploymentError, DigestMismatch, EvergreenError, UnsafeArtifact
from core.ledger import Ledger
from registry.artifact_scan import ArtifactRefused
from registry.versions import ModelRegistry
from serving.deployment import ACTOR, SmokeFailed
from serving.standing import KIND

logger = logging.getLogger(__name__)
_FOR_GOOD = (DigestMismatch, UnsafeArtifact, ArtifactRefused, SmokeFailed)
_TRY_AGAIN_S = 15.0
_ENTRIES = 50


class Refusals:
    """Remembers until when each version is left alone, and writes to the ledger why.

    Args:
        ledger: where refusals are recorded.
        registry: knows what moment a version is of.
        clock: tells now.
        monotonic: a clock in seconds that never goes backwards.
    """

    def __init__(self, ledger: Ledger, registry: ModelRegistry, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._ledger, self._registry, self._clock, self._monotonic = ledger, registry, clock, monotonic
        self._until_s: dict[tuple[str, str], float] = {}

    def of(self, use_case: str) -> frozenset[str]:
        """Versions that are not to be tried (again) now."""
        now_s = self._monotonic()
        return frozenset(v for (name, v), until_s in self._until_s.items() if name == use_case and now_s < until_s)

    def forgive(self, use_case: str, version: str) -> None:
        """Let a version be tried again at once."""
        self._until_s.pop((use_case, version), None)

    def refuse(self, use_case: str, version: str, error: DeploymentError) -> None:
        """Leave a version alone: for good if it is not what it should be, for a while if it just did not load."""
        hopeless = isinstance(error, _FOR_GOOD) and not self._serves(use_case, version)
        self._until_s[use_case, version] = math.inf if hopeless else self._monotonic() + _TRY_AGAIN_S
        reason, kind = str(error), type(error).__name__
        if self._was_said(use_case, version, kind):
            return
        logger.error("%s %s is refused, serving goes on as it is: %s", use_case, version, reason)
        evidence = {"error": kind, "again_in_s": None if hopeless else _TRY_AGAIN_S}
        self._ledger.record(
            use_case, KIND, Decision("refuse", reason, evidence),
            actor=ACTOR, as_of=self._as_of(use_case, version), version=version,
        )  # fmt: skip

    def _was_said(self, use_case: str, version: str, kind: str) -> bool:
        """Whether the same refusal is in the ledger, and no deployment since."""
        for entry in self._ledger.entries(use_case, kind=KIND, actions=("deploy", "refuse"), limit=_ENTRIES):
            if entry.action == "deploy":
                return False
            if (entry.version, entry.evidence.get("error")) == (version, kind):
                return True
        return False

    def _serves(self, use_case: str, version: str) -> bool:
        live = self._ledger.live(use_case)
        return live is not None and live.version == version

    def _as_of(self, use_case: str, version: str) -> datetime:
        try:
            return self._registry.info(use_case, version).as_of
        except EvergreenError:
            return self._clock.now()
