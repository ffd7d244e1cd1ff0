"""When to retrain: a pure function of what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.decision import Decision
from core.use_case import Policy
from monitoring.performance import Performance


@dataclass(frozen=True, kw_only=True)
class DriftFacts:
    """How far the inputs and scores have moved from those the live version was made on.

    Args:
        rows: predictions compared.
        share: share of feature columns over the threshold, in [0, 1].
        score_distance: distance of the scores, None if they were not compared.
        drifted: feature columns over the threshold with their distances, largest first.
    """

    rows: int
    share: float
    score_distance: float | None = None
    drifted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MonitorFacts:
    """What is known at one look.

    Args:
        as_of: the moment of the look.
        version: the version that answers, None if there is none.
        trained_at: what moment that version was trained as of, None if unknown.
        last_retrain_at: what moment the newest retrain was called for, None if there was none.
        rows: predictions of that version in the window.
        performance: quality of those with a due label, None if it was not measured.
        reference_log_loss: the version's log-loss when it was made, in nats; None if unknown.
        drift: None if it was not measured.
    """

    as_of: datetime
    version: str | None
    trained_at: datetime | None
    last_retrain_at: datetime | None
    rows: int
    performance: Performance | None
    reference_log_loss: float | None
    drift: DriftFacts | None

    def seen(self, *, rows: int, performance: Performance | None, drift: DriftFacts | None) -> MonitorFacts:
        """The same with what was measured."""
        return replace(self, rows=rows, performance=performance, drift=drift)


def decide_retrain(facts: MonitorFacts, policy: Policy) -> Decision:
    """Decide whether to retrain now.

    A drop in performance comes before drift, drift before the schedule. Within the cooldown after a retrain
    was called for, only the schedule counts.

    Returns:
        Action ``retrain`` with evidence ``trigger`` (performance, drift or schedule), or ``wait``.
    """
    evidence = _evidence(facts)
    if facts.version is None:
        return Decision("wait", "no version answers yet, so there is nothing to watch", evidence)
    cooling = _cooling(facts, policy)
    watched = {} if cooling else {"performance": _performance(facts, policy), "drift": _drift(facts, policy)}
    fired = {name: why for name, why in {**watched, "schedule": _schedule(facts, policy)}.items() if why}
    if fired:
        trigger = next(iter(fired))
        return Decision("retrain", fired[trigger], evidence | {"trigger": trigger, "fired": list(fired)})
    reason = cooling or _too_few(facts, policy) or "no trigger fired"
    return Decision("wait", reason, evidence)


def _cooling(facts: MonitorFacts, policy: Policy) -> str | None:
    if facts.last_retrain_at is None or facts.as_of - facts.last_retrain_at >= policy.cooldown:
        return None
    return f"a retrain was called for at {facts.last_retrain_at:%Y-%m-%d %H:%M}, the cooldown is {policy.cooldown}"


def _performance(facts: MonitorFacts, policy: Policy) -> str | None:
    seen, reference = facts.performance, facts.reference_log_loss
    if seen is None or reference is None or reference <= 0 or seen.rows < policy.min_monitor_rows:
        return None
    rise = seen.log_loss / reference - 1
    if not rise > policy.performance_drop:
        return None
    return (
        f"log-loss {seen.log_loss:.4f} on {seen.rows} labelled rows is {rise:.1%} above the reference "
        f"{reference:.4f}; {policy.performance_drop:.0%} is allowed"
    )


def _drift(facts: MonitorFacts, policy: Policy) -> str | None:
    seen = facts.drift
    if seen is None or seen.rows < policy.min_monitor_rows:
        return None
    if seen.share >= policy.drift_share and seen.drifted:
        first = ", ".join(f"{name} {distance:.2f}" for name, distance in list(seen.drifted.items())[:3])
        return f"{seen.share:.0%} of the features drifted ({first}); {policy.drift_share:.0%} calls for a retrain"
    if seen.score_distance is not None and seen.score_distance > policy.drift_threshold:
        return f"the scores drifted by {seen.score_distance:.2f}; {policy.drift_threshold:.2f} is allowed"
    return None


def _schedule(facts: MonitorFacts, policy: Policy) -> str | None:
    known = [moment for moment in (facts.trained_at, facts.last_retrain_at) if moment is not None]
    if not known or facts.as_of - max(known) < policy.retrain_every:
        return None
    age = (facts.as_of - max(known)).days
    return f"the last training was called for {age} days ago; one is due every {policy.retrain_every.days} days"


def _too_few(facts: MonitorFacts, policy: Policy) -> str | None:
    labelled = facts.performance.rows if facts.performance else 0
    if facts.rows >= policy.min_monitor_rows and labelled >= policy.min_monitor_rows:
        return None
    return (
        f"too few rows for a verdict: {facts.rows} predictions, {labelled} of them labelled; "
        f"{policy.min_monitor_rows} are needed, no trigger fired"
    )


def _evidence(facts: MonitorFacts) -> dict[str, Any]:
    return {
        "version": facts.version,
        "trained_at": facts.trained_at.isoformat() if facts.trained_at else None,
        "last_retrain_at": facts.last_retrain_at.isoformat() if facts.last_retrain_at else None,
        "rows": facts.rows,
        "reference_log_loss": facts.reference_log_loss,
        "performance": facts.performance.facts() if facts.performance else None,
        "drift": None
        if facts.drift is None
        else {
            "rows": facts.drift.rows,
            "share": facts.drift.share,
            "score_distance": facts.drift.score_distance,
            "drifted": dict(list(facts.drift.drifted.items())[:10]),
        },
    }
