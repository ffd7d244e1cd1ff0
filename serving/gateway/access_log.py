"""What the gateway's log says about predict requests: everything if asked, else those that failed or were slow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from core.errors import Overloaded, RequestError

logger = logging.getLogger(__name__)
_MOST_PER_S = 5
_MOST_IDS = 20


class AccessLog:
    """Writes a line per predict request at DEBUG, and one at WARNING for those that failed or were slow.

    In trouble every request is one of those: no more than five a second are written, and the next line says how many
    were left out. What clients do wrong is for them to read, and what is shed is counted.

    Args:
        slow_s: seconds from which a request counts as slow.
        monotonic: a clock in seconds that never goes backwards.

    Example:
        >>> AccessLog(slow_s=1.0).answered("taxi_tip", "7", 0.002, ["id"])
    """

    def __init__(self, slow_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._slow_s = slow_s
        self._monotonic = monotonic
        self._second = -1
        self._written = 0
        self._left_out = 0

    def answered(self, use_case: str, version: str, seconds: float, ids: Sequence[str]) -> None:
        """Take note of a request that was answered.

        Args:
            use_case: what was asked for.
            version: what answered.
            seconds: how long it took.
            ids: its prediction ids; the first twenty are written.
        """
        if seconds >= self._slow_s:
            if self._may_write():
                self._write(logging.WARNING, "slow", use_case, version, seconds, ids)
        elif logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, "answered", use_case, version, seconds, ids)

    def failed(self, use_case: str, version: str, seconds: float, ids: Sequence[str], error: BaseException) -> None:
        """Take note of a request that a version did not answer."""
        if not isinstance(error, RequestError | Overloaded) and self._may_write():
            self._write(logging.WARNING, "failed", use_case, version, seconds, ids, error)

    def _may_write(self) -> bool:
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        self._written += 1
        if self._written > _MOST_PER_S:
            self._left_out += 1
            return False
        return True

    def _write(
        self, level: int, what: str, use_case: str, version: str, seconds: float, ids: Sequence[str],
        error: BaseException | None = None,
    ) -> None:  # fmt: skip
        facts = {
            "use_case": use_case,
            "version": version,
            "duration_ms": round(seconds * 1000, 2),
            "instances": len(ids),
            "prediction_ids": list(ids[:_MOST_IDS]),
        }
        after = f": {type(error).__name__} {error}" if error is not None else ""
        if level == logging.WARNING and self._left_out:
            facts["left_out"] = self._left_out
            after += f"; {self._left_out} lines like it were left out"
            self._left_out = 0
        shown = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
        logger.log(
            level,
            "predict %s by version %s in %.1f ms (%s)%s",
            what,
            version,
            seconds * 1000,
            shown,
            after,
            extra=facts,
        )
