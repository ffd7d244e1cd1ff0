"""Knowing when nobody asks a version any more."""

from __future__ import annotations

from collections.abc import Collection


class Draining:
    """Remembers since when each version of a use case has been idle.

    A gateway reports what it waits for only every now and then, so that a version counts as drained when it
    was seen idle all through the grace.

    Args:
        grace_s: seconds.

    Example:
        >>> draining = Draining(grace_s=5)
        >>> draining.look("taxi_tip", loaded={"6", "7"}, busy={"7"}, now_s=100.0), \
            draining.look("taxi_tip", loaded={"6", "7"}, busy={"7"}, now_s=105.0)
        (frozenset(), frozenset({'6'}))
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._idle_since_s: dict[tuple[str, str], float] = {}

    def look(
        self, use_case: str, *, loaded: Collection[str], busy: Collection[str | None], now_s: float
    ) -> frozenset[str]:
        """Take note of what is busy now, and return the loaded versions that are drained.

        Args:
            use_case: whose versions.
            loaded: versions there are.
            busy: versions that are routed to or waited for.
            now_s: seconds on any clock that never goes backwards.
        """
        idle = {(use_case, version) for version in loaded if version not in busy}
        known = {key for key in self._idle_since_s if key[0] == use_case}
        for key in known - idle:
            del self._idle_since_s[key]
        for key in idle - known:
            self._idle_since_s[key] = now_s
        return frozenset(
            version for _, version in idle if now_s - self._idle_since_s[use_case, version] >= self._grace_s
        )
