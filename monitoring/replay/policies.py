"""The policies a replay compares, by the names they are called on the command line."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.errors import EvergreenError
from core.policy import Policy
from core.triggers import Always, Drift, EstimatedDrop, Never, NewLabels, PerformanceDrop, Schedule, Trigger, WorthIt

ORACLE, ALWAYS, OWN = "oracle", "always", "own"
NAMES = ("never", "daily", "weekly", "monthly", "drift", "performance", "cost", "always", "oracle")
_DAY = timedelta(days=1)
_EVERY = {"daily": _DAY, "weekly": 7 * _DAY, "monthly": 30 * _DAY}


def policies_named(names: tuple[str, ...], declared: Policy) -> dict[str, Policy]:
    """The policies to simulate; ``oracle`` is made from what all others trained, and is left out.

    Each is the use case's own with another trigger: never, daily, weekly, monthly (30 days), drift, performance
    (`Policy.performance_drop`), estimate (likewise), labels (a new holdout's worth), cost, always; ``own`` is the use
    case's as it stands.

    Args:
        names: what they are called.
        declared: the use case's policy.

    Raises:
        EvergreenError: for an unknown name.

    Example:
        >>> policies_named(("weekly", "oracle"), Policy())["weekly"].trigger
        Schedule(every=datetime.timedelta(days=7))
    """
    found = {}
    for name in dict.fromkeys(names):
        if name == ORACLE:
            continue
        found[name] = declared if name == OWN else replace(declared, trigger=_trigger(name, declared))
    return found


def _trigger(name: str, declared: Policy) -> Trigger:
    if name in _EVERY:
        return Schedule(_EVERY[name])
    known: dict[str, Trigger] = {
        "never": Never(), ALWAYS: Always(), "drift": Drift(), "cost": WorthIt(),
        "performance": PerformanceDrop(declared.performance_drop),
        "estimate": EstimatedDrop(declared.performance_drop), "labels": NewLabels(declared.holdout_rows),
    }  # fmt: skip
    if name not in known:
        every = ", ".join([*NAMES, "estimate", "labels", OWN])
        raise EvergreenError(f"There is no policy {name!r} to replay. Use some of: {every}.")
    return known[name]
