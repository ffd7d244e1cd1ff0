"""What runs the models."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Protocol

from core.errors import DeploymentError


class ModelHost(Protocol):
    """Runs versions of use cases and answers for each of them separately.

    Every method raises DependencyDown if the host does not answer.
    """

    def register(self, use_case: str, version: str, archive: Path) -> None:
        """Make a version answer; returns once it does. Must be idempotent.

        Raises:
            DeploymentError: if the version cannot be loaded; nothing of it stays behind.
        """
        ...

    def unregister(self, use_case: str, version: str) -> None:
        """Let go of a version. Must be idempotent, and leave all others alone."""
        ...

    def loaded(self) -> dict[str, set[str]]:
        """Versions that answer, by use case; a use case without any is left out."""
        ...

    def prefer(self, use_case: str, version: str) -> None:
        """Let a loaded version answer callers that name none. Must be idempotent.

        Raises:
            DeploymentError: if it is not loaded.
        """
        ...

    def predict(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask one version, in the format of ``serving.torchserve.wire``.

        Raises:
            DeploymentError: if it is not loaded, refuses the request or fails on it.
        """
        ...


class MemoryModelHost:
    """A host without processes: every version answers 0.5 unless told otherwise. For tests.

    Args:
        score: what every instance is answered.

    Example:
        >>> host = MemoryModelHost()
        >>> host.loaded()
        {}
    """

    def __init__(self, score: float = 0.5) -> None:
        self.score = score
        self.preferred: dict[str, str] = {}
        self._loaded: dict[str, set[str]] = {}

    def register(self, use_case: str, version: str, archive: Path) -> None:
        """Accept any zip archive."""
        if not zipfile.is_zipfile(archive):
            raise DeploymentError(f"{use_case} {version}: {archive} is no archive. Pack the version again.")
        self._loaded.setdefault(use_case, set()).add(version)
        self.preferred.setdefault(use_case, version)

    def unregister(self, use_case: str, version: str) -> None:
        """Forget a version."""
        rest = self._loaded.get(use_case, set())
        rest.discard(version)
        if not rest:
            self._loaded.pop(use_case, None)
            self.preferred.pop(use_case, None)
        elif self.preferred[use_case] == version:
            self.preferred[use_case] = max(rest)

    def loaded(self) -> dict[str, set[str]]:
        """What was registered and not let go."""
        return {use_case: set(versions) for use_case, versions in self._loaded.items()}

    def prefer(self, use_case: str, version: str) -> None:
        """Remember which one answers callers that name none."""
        self._require(use_case, version)
        self.preferred[use_case] = version

    def predict(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer the fixed score for each instance."""
        self._require(use_case, version)
        instances = body.get("instances")
        if not isinstance(instances, list) or not instances:
            raise DeploymentError(f"{use_case} {version} refused the request: no instances. Send a list.")
        n = len(instances)
        return {
            "predictions": [self.score] * n,
            "prediction_ids": body.get("prediction_ids") or [f"memory-{i}" for i in range(n)],
            "degraded": [],
            "model_version": version,
        }

    def _require(self, use_case: str, version: str) -> None:
        if version not in self._loaded.get(use_case, set()):
            raise DeploymentError(f"{use_case} {version} is not loaded. Register it first.")
