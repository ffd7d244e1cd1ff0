"""One look at a live version: what it answered lately, how that turned out, how far things have moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from core.use_case import UseCase
from monitoring.drift import draw_drift, served_columns
from monitoring.estimate import estimate
from monitoring.facts import EstimateFacts, LossPoint, MonitorFacts, PerformanceFacts
from monitoring.performance import join_labels, measure

LOOKS = 16
"""How many looks before are looked back on."""
_DAY_S = 86_400.0
_LOSSES = 64
"""How many points of the loss curve are kept with a decision."""


@dataclass(frozen=True)
class LiveVersion:
    """The version that answers, as it was when it was made.

    Args:
        version: its number.
        trained_at: event time of its training set.
        log_loss: on its holdout, in nats.
        reference: features, ``score`` and ``label`` of its holdout, or of its newest rows.
        holdout_rows: how many rows `log_loss` was measured on; 0 if unknown.
    """

    version: str
    trained_at: datetime
    log_loss: float
    reference: pd.DataFrame
    holdout_rows: int = 0


@dataclass(frozen=True)
class Served:
    """What was logged.

    Args:
        predictions: of the window and of one horizon before it, of any version.
        labels: of the same span.
    """

    predictions: pd.DataFrame
    labels: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Past:
    """What came before a look.

    Args:
        looks: facts of the newest `LOOKS` looks before, oldest first.
        last_retrain_at: what moment the newest retrain was called for; None if there was none.
        retrain_s: what retrains took lately, in compute seconds; None if unknown.
        labels_since_training: labels that no training has seen.
    """

    looks: Sequence[MonitorFacts] = ()
    last_retrain_at: datetime | None = None
    retrain_s: float | None = None
    labels_since_training: int = 0


def window_start(use_case: UseCase, as_of: datetime) -> datetime:
    """From when on predictions are needed for a look at `as_of`: the window, and the time labels take."""
    return as_of - use_case.policy.monitor_window - use_case.label.horizon


def look(use_case: UseCase, live: LiveVersion | None, served: Served, past: Past, *, as_of: datetime) -> MonitorFacts:
    """Gather the facts of one look; only what the live version itself answered counts.

    Production and replay call this one function, and `decide_retrain` on what it finds.

    Args:
        use_case: whose.
        live: the version that answers; None if there is none.
        served: predictions since `window_start` and their labels.
        past: what came before.
        as_of: the moment of the look.
    """
    policy = use_case.policy
    facts = MonitorFacts(
        as_of=as_of, version=live.version if live else None, trained_at=live.trained_at if live else None,
        last_retrain_at=past.last_retrain_at, rows=0, reference_log_loss=live.log_loss if live else None,
        reference_rows=live.holdout_rows if live else 0, labels_since_training=past.labels_since_training,
        retrain_s=past.retrain_s, look_every_s=policy.monitor_every.total_seconds(),
    )  # fmt: skip
    if live is None or served.predictions.empty:
        return facts
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    recent = _recent(use_case, served.predictions, as_of)
    labelled = join_labels(answered, served.labels, use_case.label.horizon, as_of)
    performance = measure(
        labelled, segments=policy.segments, reference=live.reference, categorical=use_case.categorical,
        confidence=policy.gate.confidence,
    )  # fmt: skip
    return facts.with_(
        rows=len(_recent(use_case, answered, as_of)),
        performance=performance,
        estimate=_estimate(live, answered, labelled, past.looks),
        losses=_losses(facts, performance, past.looks),
        rows_per_day=len(recent) / (policy.monitor_window.total_seconds() / _DAY_S),
    )


def draw_page(use_case: UseCase, live: LiveVersion, served: Served, *, as_of: datetime, page: Path) -> None:
    """Write Evidently's report about the predictions a look at `as_of` saw."""
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    draw_drift(
        served_columns(_recent(use_case, answered, as_of), use_case.features.columns),
        live.reference,
        categorical=use_case.categorical,
        threshold=use_case.policy.drift_threshold,
        page=page,
    )


def _recent(use_case: UseCase, predictions: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    return predictions.loc[predictions["at"] >= as_of - use_case.policy.monitor_window]


def _estimate(
    live: LiveVersion, answered: pd.DataFrame, labelled: pd.DataFrame, looks: Sequence[MonitorFacts]
) -> EstimateFacts | None:
    """Of the version's predictions without a label."""
    has_label = labelled.index[labelled["label"].notna()]
    earlier = [each.estimate for each in looks if each.version == live.version and each.estimate is not None]
    return estimate(answered.drop(index=has_label), live.reference, labelled, earlier=earlier)


def _losses(
    facts: MonitorFacts, seen: PerformanceFacts | None, looks: Sequence[MonitorFacts]
) -> tuple[LossPoint, ...]:
    """The version's loss curve: as the look before has it, and this window's point."""
    before = next((each.losses for each in reversed(looks) if each.version == facts.version), ())
    if seen is None or seen.log_loss is None:
        return before
    return (*before, LossPoint(at=facts.as_of, rows=seen.rows, log_loss=seen.log_loss.value))[-_LOSSES:]
