"""One look at a live version: what it answered lately, how that turned out, how far things have moved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.use_case import UseCase
from monitoring.calling import KINDS, call
from monitoring.estimate import estimate
from monitoring.facts import DriftFacts, EstimateFacts, Kind, MonitorFacts
from monitoring.live import LiveVersion, Past, Served
from monitoring.loss_curve import follow
from monitoring.measured import Measure, Measured, measure_window


def look(
    use_case: UseCase,
    live: LiveVersion | None,
    served: Served,
    past: Past,
    *,
    as_of: datetime,
    measuring: Measure | None = None,
) -> MonitorFacts:
    """Gather the facts of one look; only what the live version itself answered counts.

    Production and replay call this one function, and `decide_retrain` on what it finds.

    Args:
        use_case: whose.
        live: the version that answers; None if there is none.
        served: predictions since `window_start` and their labels.
        past: what came before.
        as_of: the moment of the look.
        measuring: `measure_window`, or what remembers its results: they depend on nothing but what it is given.
    """
    facts = MonitorFacts(
        as_of=as_of, version=live.version if live else None, trained_at=live.trained_at if live else None,
        last_retrain_at=past.last_retrain_at, rows=0, reference_log_loss=live.log_loss if live else None,
        reference_rows=live.holdout_rows if live else 0, labels_since_training=past.labels_since_training,
        refused=past.refused, refused_kinds=past.refused_kinds, retrain_s=past.retrain_s,
        look_every_s=use_case.policy.monitor_every.total_seconds(),
    )  # fmt: skip
    if live is None or served.predictions.empty:
        return facts
    found = (measuring or measure_window)(use_case, live, served, past.newest_event_at, as_of)
    return facts.with_(
        rows=found.rows,
        performance=found.performance,
        estimate=_estimate(use_case, live, found, past.looks),
        drift=_called(use_case, live, found.drift, past.looks, as_of),
        faults=found.faults,
        losses=follow(use_case, facts, found.performance, past, served),
        rows_per_day=found.rows_per_day,
    )


def kinds_called(looks: Sequence[MonitorFacts]) -> tuple[Kind, ...]:
    """Kinds of drift that were called at any of some looks."""
    called = {kind for each in looks if each.drift is not None for kind in each.drift.called}
    return tuple(kind for kind in KINDS if kind in called)


def _estimate(
    use_case: UseCase, live: LiveVersion, found: Measured, looks: Sequence[MonitorFacts]
) -> EstimateFacts | None:
    """Of the version's predictions without a label; None where they are too few for a verdict anyway."""
    if found.unlabelled is None or found.labelled is None:
        return None
    earlier = [each.estimate for each in looks if each.version == live.version and each.estimate is not None]
    return estimate(
        found.unlabelled, live.reference, found.labelled, earlier=earlier, confidence=use_case.policy.gate.confidence
    )


def _called(
    use_case: UseCase, live: LiveVersion, found: DriftFacts | None, looks: Sequence[MonitorFacts], as_of: datetime
) -> DriftFacts | None:
    """The same with what is called by this window and those of the looks before together."""
    if found is None:
        return None
    policy, last, windows = use_case.policy, as_of, [found]
    for before in reversed([each for each in looks if each.version == live.version and each.drift is not None]):
        if before.drift is not None and last - before.as_of >= policy.monitor_window:  # windows must not overlap
            windows.append(before.drift)
            last = before.as_of
    return call(windows[::-1], policy.drift, live.profile.importance if live.profile is not None else {})
