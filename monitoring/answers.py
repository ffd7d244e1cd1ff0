"""What each trigger says to the facts of a look, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from core.policy import Policy
from core.triggers import (
    AllOf,
    Always,
    AnyOf,
    Drift,
    EstimatedDrop,
    KOf,
    Never,
    NewLabels,
    PerformanceDrop,
    Schedule,
    Trigger,
    WorthIt,
)
from monitoring.expected_gain import expect_gain, reference_half
from monitoring.facts import Interval, MonitorFacts

_SHOWN = 3
_MOST_DOUBLINGS = 5


@dataclass(frozen=True)
class Answer:
    """What a trigger says.

    Args:
        name: what it goes by: never, always, schedule, labels, drift, performance, estimate, cost; any, all, k of n.
        fired: whether it calls for a retrain.
        reason: why, or why not, with the numbers.
        parts: what those it is put together from say.
    """

    name: str
    fired: bool
    reason: str
    parts: tuple[Answer, ...] = ()

    @property
    def leaves(self) -> tuple[Answer, ...]:
        """The answers of the single conditions, in their order."""
        return tuple(leaf for part in self.parts for leaf in part.leaves) if self.parts else (self,)

    def as_json(self) -> dict[str, Any]:
        """As JSON, for the ledger."""
        found: dict[str, Any] = {"name": self.name, "fired": self.fired, "reason": self.reason}
        return found | ({"parts": [part.as_json() for part in self.parts]} if self.parts else {})


def answer(trigger: Trigger, facts: MonitorFacts, policy: Policy) -> Answer:
    """Ask a trigger.

    Args:
        trigger: the condition.
        facts: what one look saw.
        policy: for the cooldown and the fewest rows of a verdict.
    """
    if isinstance(trigger, AnyOf | AllOf | KOf):
        return _combined(trigger, tuple(answer(part, facts, policy) for part in trigger.triggers))
    if isinstance(trigger, Never):
        return Answer("never", False, "the policy never retrains")
    if isinstance(trigger, Always):
        return Answer("always", True, "the policy retrains at every look")
    if isinstance(trigger, Schedule):
        return _schedule(trigger, facts)
    name = _NAMES[type(trigger)]
    if rests := _rests(trigger, facts, policy):
        return Answer(name, False, rests)
    fired, reason = _watched(trigger, facts, policy)
    return Answer(name, fired, reason)


def _rests(trigger: Trigger, facts: MonitorFacts, policy: Policy) -> str | None:
    """Why a trigger is not asked yet after a retrain; None if it is.

    Where the gate keeps back what is trained, signs of change call for no more of it at once: each such retrain doubles
    the cooldown, as with repeated failures elsewhere. A drop that was measured is no sign but the harm itself, and
    drift of a kind that was not there then is news: neither waits longer than the cooldown.
    Source: exponential back-off, Metcalfe & Boggs, Ethernet (1976).
    """
    last = facts.last_retrain_at
    if last is None:
        return None
    since = f"a retrain was called for at {last:%Y-%m-%d %H:%M}"
    if facts.as_of - last < policy.cooldown:
        return f"{since}, the cooldown is {_days(policy.cooldown)}"
    longer = policy.cooldown * 2 ** min(facts.refused, _MOST_DOUBLINGS)
    if isinstance(trigger, PerformanceDrop) or facts.as_of - last >= longer or _is_news(trigger, facts):
        return None
    return f"{since}, and the gate kept back the last {facts.refused}: the cooldown is {_days(longer)}"


def _is_news(trigger: Trigger, facts: MonitorFacts) -> bool:
    called = facts.drift.called if facts.drift is not None else ()
    return isinstance(trigger, Drift) and bool(set(called) & set(trigger.kinds) - set(facts.refused_kinds))


_NAMES = {
    NewLabels: "labels", Drift: "drift", PerformanceDrop: "performance", EstimatedDrop: "estimate", WorthIt: "cost",
}  # fmt: skip


def _combined(trigger: AnyOf | AllOf | KOf, parts: tuple[Answer, ...]) -> Answer:
    if isinstance(trigger, KOf):
        needed, name = trigger.k, f"{trigger.k} of {len(parts)}"
    else:
        needed, name = (1, "any") if isinstance(trigger, AnyOf) else (len(parts), "all")
    calls = sum(part.fired for part in parts) >= needed
    return Answer(name, calls, "; ".join(part.reason for part in parts if part.fired == calls), parts)


def _schedule(trigger: Schedule, facts: MonitorFacts) -> Answer:
    known = [moment for moment in (facts.trained_at, facts.last_retrain_at) if moment is not None]
    if not known:
        return Answer("schedule", False, "it is unknown when the last training was called for")
    age = facts.as_of - max(known)
    reason = f"the last training was called for {_days(age)} ago; one is due every {_days(trigger.every)}"
    return Answer("schedule", age >= trigger.every, reason)


def _watched(trigger: Trigger, facts: MonitorFacts, policy: Policy) -> tuple[bool, str]:
    if isinstance(trigger, NewLabels):
        n = facts.labels_since_training
        return n >= trigger.rows, f"{n} labels came that no training has seen; {trigger.rows} call for one"
    if isinstance(trigger, Drift):
        return _drift(trigger, facts)
    if isinstance(trigger, PerformanceDrop):
        return _performance(trigger.by, facts, policy)
    if isinstance(trigger, EstimatedDrop):
        return _estimate(trigger.by, facts, policy)
    assert isinstance(trigger, WorthIt)
    return _worth(trigger, facts, policy)


def _drift(trigger: Drift, facts: MonitorFacts) -> tuple[bool, str]:
    seen = facts.drift
    if seen is None:
        return False, f"drift was not measured on {facts.rows} predictions"
    called = [kind for kind in seen.called if kind in trigger.kinds]
    if not called:
        over = f"{len(seen.over)} of {seen.columns} columns are over their thresholds in this window"
        other = f"; {', '.join(seen.called)} drift is called, which does not count here" if seen.called else ""
        return False, f"no drift is called ({over}{other})"
    columns = [column for column in seen.over if column.kind in called][:_SHOWN]
    first = ", ".join(
        f"{c.column}{f' where {c.segment}' if c.segment else ''} {c.effect:.2f} of {c.threshold:.2f}" for c in columns
    )
    together = ", ".join(seen.moved[:_SHOWN])
    named = f"; the newest windows together name {together}" if together else ""
    return True, f"{', '.join(called)} drift is called{f' ({first})' if first else ''}{named}"


def _performance(by: float, facts: MonitorFacts, policy: Policy) -> tuple[bool, str]:
    seen, reference = facts.performance, facts.reference_log_loss
    if seen is None or seen.log_loss is None or seen.rows < policy.min_monitor_rows:
        rows = seen.rows if seen else 0
        return False, f"{rows} labelled predictions are too few to measure on; {policy.min_monitor_rows} are needed"
    if not _usable(reference):
        return False, "the version's own log-loss is unknown"
    assert reference is not None
    return _risen("log-loss", (seen.log_loss, seen.rows), (reference, facts.reference_rows), by)


def _estimate(by: float, facts: MonitorFacts, policy: Policy) -> tuple[bool, str]:
    seen, reference = facts.estimate, facts.reference_log_loss
    if seen is None or seen.rows < policy.min_monitor_rows:
        rows = seen.rows if seen else 0
        return False, f"{rows} unlabelled predictions are too few to estimate on; {policy.min_monitor_rows} are needed"
    if seen.blind is not None:
        return False, f"the estimate is blind: {seen.blind}"
    if not _usable(reference):
        return False, "the version's own log-loss is unknown"
    assert reference is not None
    off = seen.realised_error or 0.0
    found = Interval(value=seen.log_loss.value, low=seen.log_loss.low - off, high=seen.log_loss.high + off)
    return _risen("estimated log-loss", (found, seen.rows), (reference, facts.reference_rows), by)


def _risen(what: str, seen: tuple[Interval, int], reference: tuple[float, int], by: float) -> tuple[bool, str]:
    """Whether even at least it is more than `by` above the reference; each with the rows it was measured on.

    The reference is uncertain too: by as much as the rows it was measured on are fewer than those seen.
    """
    (found, rows), (before, reference_rows) = seen, reference
    off = math.hypot(found.value - found.low, reference_half(found, rows, reference_rows) * (1 + by))
    rise, least = found.value / before - 1, (found.value - off) / before - 1
    reason = (
        f"{what} {found.value:.4f} on {rows} rows is {rise:+.1%} against the reference {before:.4f}, "
        f"at least {least:+.1%}; beyond {by:+.0%} calls for a retrain"
    )
    return least > by, reason


def _worth(trigger: WorthIt, facts: MonitorFacts, policy: Policy) -> tuple[bool, str]:
    if facts.retrain_s is None:
        return False, "what a retrain costs is unknown, as none was measured yet"
    gain = expect_gain(facts, policy.gate.confidence)
    if gain is None:
        return False, "what a retrain would gain is unknown, as no loss was measured yet"
    cost = facts.retrain_s * trigger.nats_per_compute_s
    reason = (
        f"expected gain {gain.low:.1f} nats until the next look (at {gain.per_row.value:+.4f}, at least "
        f"{gain.per_row.low:+.4f}, over {gain.rows:.0f} predictions) against {cost:.1f}, the worth of the "
        f"{facts.retrain_s:.1f} s that a retrain takes"
    )
    return gain.low > cost, reason


def _usable(reference: float | None) -> bool:
    return reference is not None and math.isfinite(reference) and reference > 0


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.3g} days"
