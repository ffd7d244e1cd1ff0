"""Logging a trouble when it begins, changes and ends, not each time it is met."""

from __future__ import annotations

import logging

from core.errors import EvergreenError


class Troubles:
    """What is wrong now, by what it is about.

    Args:
        logger: where it is told.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._known: dict[str, str] = {}

    def note(self, what: str, error: Exception) -> None:
        """Something is wrong with `what`."""
        text = f"{type(error).__name__}: {error}"
        if self._known.get(what) == text:
            return
        self._known[what] = text
        if isinstance(error, EvergreenError):
            self._logger.warning("%s has to wait: %s", what, error)
        else:
            self._logger.error("%s failed unexpectedly", what, exc_info=error)

    def over(self, what: str) -> None:
        """Nothing is wrong with `what`."""
        if self._known.pop(what, None) is not None:
            self._logger.info("%s goes on", what)
