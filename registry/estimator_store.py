"""Estimators as they were fitted, kept at hand for a warm start."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_KEPT = 20  # the champion is among them unless twenty versions in a row were no better


class EstimatorStore:
    """Keeps the newest fitted estimators of each use case in a folder that only this user may enter.

    A pickle runs code when it is read, so these never leave the machine they were written on: neither the registry
    nor a model host sees them. What is lost is trained from scratch.

    Args:
        folder: of this store alone; made when something is kept.

    Example:
        >>> EstimatorStore(Path("nowhere")).load("taxi_tip", "d1ge57") is None
        True
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, use_case: str, digest: str, estimator: Any) -> bool:
        """Keep an estimator under its version's digest; False, with a warning, if it cannot be pickled."""
        folder = self._folder / use_case
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        try:
            packed = pickle.dumps(estimator)
        except Exception as error:  # the estimator is the user's: whatever it raises, the version is good without
            _log.warning("%s: the estimator cannot be kept for a warm start: %s", use_case, error)
            return False
        fresh = folder / f".{digest}"
        fresh.write_bytes(packed)
        fresh.chmod(0o600)
        fresh.replace(folder / digest)
        newest = sorted(folder.glob("[!.]*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in newest[_KEPT:]:
            old.unlink(missing_ok=True)
        return True

    def load(self, use_case: str, digest: str) -> Any:
        """The estimator of a version; None if it is not at hand, or does not fit what is installed now."""
        path = self._folder / use_case / digest
        if not path.is_file():
            return None
        try:
            return pickle.loads(path.read_bytes())
        except Exception as error:  # of another release of the estimator's library
            _log.warning("%s: the estimator of %s cannot be read again: %s", use_case, digest[:12], error)
            return None
