"""What use cases allow their new versions, by the files in ``models/`` as they are now."""

from __future__ import annotations

import logging
from pathlib import Path

from core.discovery import load_use_case
from core.errors import EvergreenError
from core.serving_policy import Bake
from core.use_case import UseCase

logger = logging.getLogger(__name__)


class BakePolicies:
    """Looks up a use case's declaration; one that cannot be loaded bakes by the defaults.

    Args:
        models_dir: folder of the use-case files.
    """

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._loaded: dict[Path, tuple[int, UseCase | None]] = {}

    def __call__(self, use_case: str) -> Bake:
        """What the use case allows a version in its bake."""
        # those that name it come first, so that no other is run, and imports what it needs, for nothing
        for path in sorted(self._models_dir.glob("[!_]*.py"), key=lambda path: (not _names(path, use_case), path)):
            declared = self._load(path)
            if declared is not None and declared.name == use_case:
                return declared.serving.bake
        logger.warning("No file in %s declares %s: its versions bake by the defaults.", self._models_dir, use_case)
        return Bake()

    def _load(self, path: Path) -> UseCase | None:
        try:
            changed = path.stat().st_mtime_ns
            if self._loaded.get(path, (None, None))[0] != changed:
                self._loaded[path] = (changed, None)
                self._loaded[path] = (changed, load_use_case(path).use_case)
        except (EvergreenError, OSError) as error:
            logger.warning("%s is left out when bakes are looked up: %s", path, error)
        return self._loaded.get(path, (0, None))[1]


def _names(path: Path, use_case: str) -> bool:
    try:
        return use_case in path.read_text()
    except (OSError, ValueError):
        return False
