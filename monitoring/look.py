"""One look at a live version: what it answered lately, how that turned out, how far things have moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from core.use_case import UseCase
from monitoring.drift_page import draw_drift, measure_drift, served_columns
from monitoring.performance import join_labels, measure
from monitoring.triggers import DriftFacts, MonitorFacts


@dataclass(frozen=True)
class LiveVersion:
    """The version that answers, as it was when it was made.

    Args:
        version: its number.
        trained_at: event time of its training set.
        log_loss: on its holdout, in nats.
        reference: features and ``score`` of its holdout.
    """

    version: str
    trained_at: datetime
    log_loss: float
    reference: pd.DataFrame


@dataclass(frozen=True)
class Served:
    """What was logged.

    Args:
        predictions: of the window and of one horizon before it, of any version.
        labels: of the same span.
    """

    predictions: pd.DataFrame
    labels: pd.DataFrame


def window_start(use_case: UseCase, as_of: datetime) -> datetime:
    """From when on predictions are needed for a look at `as_of`: the window, and the time labels take."""
    return as_of - use_case.policy.monitor_window - use_case.label.horizon


def look(
    use_case: UseCase,
    live: LiveVersion | None,
    served: Served,
    *,
    as_of: datetime,
    last_retrain_at: datetime | None,
) -> MonitorFacts:
    """Gather the facts of one look; only what the live version itself answered counts.

    Args:
        use_case: whose.
        live: the version that answers; None if there is none.
        served: predictions since `window_start` and their labels.
        as_of: the moment of the look.
        last_retrain_at: what moment the newest retrain was called for.
    """
    policy = use_case.policy
    facts = MonitorFacts(
        as_of=as_of, version=live.version if live else None, trained_at=live.trained_at if live else None,
        last_retrain_at=last_retrain_at, rows=0, performance=None,
        reference_log_loss=live.log_loss if live else None, drift=None,
    )  # fmt: skip
    if live is None or served.predictions.empty:
        return facts
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    recent = _recent(use_case, live, served, as_of)
    performance = measure(join_labels(answered, served.labels, use_case.label.horizon, as_of))
    drift = None
    if len(recent) >= policy.min_monitor_rows:
        report = measure_drift(
            served_columns(recent, use_case.features.columns),
            live.reference,
            categorical=use_case.categorical,
            threshold=policy.drift_threshold,
        )
        drift = DriftFacts(
            rows=report.rows, share=report.share, score_distance=report.score_distance, drifted=report.drifted
        )
    return facts.seen(rows=len(recent), performance=performance, drift=drift)


def draw_page(use_case: UseCase, live: LiveVersion, served: Served, *, as_of: datetime, page: Path) -> None:
    """Write Evidently's report about the predictions a look at `as_of` saw."""
    draw_drift(
        served_columns(_recent(use_case, live, served, as_of), use_case.features.columns),
        live.reference,
        categorical=use_case.categorical,
        threshold=use_case.policy.drift_threshold,
        page=page,
    )


def _recent(use_case: UseCase, live: LiveVersion, served: Served, as_of: datetime) -> pd.DataFrame:
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    return answered.loc[answered["at"] >= as_of - use_case.policy.monitor_window]
