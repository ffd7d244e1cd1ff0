"""What one window of a version's answers says by itself, whatever came before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from core.use_case import UseCase
from features.segments import Cut, segment_values
from monitoring.drift import find_drift
from monitoring.facts import DriftFacts, Fault, PerformanceFacts
from monitoring.label_counts import count_labels
from monitoring.live import LiveVersion, Served
from monitoring.performance import FEWEST_ROWS, join_labels, measure
from monitoring.quality import find_faults
from monitoring.window import WindowProfile, profile_window

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one window says by itself, whatever came before.

    Args:
        rows: predictions of the version in the window.
        performance: of those with a label.
        drift: of the window; what is called is for several windows together to say.
        faults: of the data.
        unlabelled: predictions without a label, when they are enough to estimate on.
        labelled: those whose label is due, as `join_labels` gives them; only kept where there is something to estimate.
        rows_per_day: predictions of any version.
    """

    rows: int
    performance: PerformanceFacts
    drift: DriftFacts | None
    faults: tuple[Fault, ...]
    rows_per_day: float
    unlabelled: pd.DataFrame | None = None
    labelled: pd.DataFrame | None = None


Measure = Callable[[UseCase, LiveVersion, Served, Mapping[str, datetime], datetime], Measured]


def measure_window(
    use_case: UseCase,
    live: LiveVersion,
    served: Served,
    newest_event_at: Mapping[str, datetime],
    as_of: datetime,
    *,
    with_drift: bool = True,
) -> Measured:
    """Measure what the version answered in the window that ends at `as_of`; see `look`.

    Args:
        use_case: whose.
        live: the version.
        served: what was logged.
        newest_event_at: of each event source.
        as_of: the moment of the look.
        with_drift: whether to look for drift, which takes most of the time.
    """
    policy = use_case.policy
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    labelled = join_labels(answered, served.labels, use_case.label.horizon, as_of)
    unlabelled = answered.drop(index=labelled.index[labelled["label"].notna()])
    is_to_estimate = len(unlabelled) >= policy.min_monitor_rows
    newest = recent(use_case, answered, as_of)
    window = _profiled(live, newest, labelled)
    return Measured(
        rows=len(newest),
        performance=measure(
            labelled, cuts=_cuts(use_case, live, labelled), reference_losses=_reference_losses(live),
            confidence=policy.gate.confidence,
        ),
        drift=_drift(use_case, live, window) if with_drift else None,
        faults=_faults(use_case, live, window, served, newest_event_at, as_of),
        rows_per_day=len(recent(use_case, served.predictions, as_of)) / (policy.monitor_window / _DAY),
        unlabelled=unlabelled if is_to_estimate else None,
        labelled=labelled if is_to_estimate else None,
    )  # fmt: skip


def recent(use_case: UseCase, predictions: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """The predictions of the window that ends at `as_of`."""
    return predictions.loc[predictions["at"] >= as_of - use_case.policy.monitor_window]


def _cuts(use_case: UseCase, live: LiveVersion, labelled: pd.DataFrame) -> tuple[Cut, ...]:
    """As the version's reference has them; for segments declared since, from its rows, or else from these."""
    known = {cut.column: cut for cut in live.profile.cuts} if live.profile is not None else {}
    fresh = segment_values(use_case, labelled) | segment_values(use_case, live.reference)
    return tuple(known.get(name) or Cut.of(name, values) for name, values in fresh.items())


def _reference_losses(live: LiveVersion) -> dict[str, float]:
    if live.profile is None:
        return {}
    return {name: quality.log_loss for name, quality in live.profile.quality.items() if quality.rows >= FEWEST_ROWS}


def _profiled(live: LiveVersion, rows: pd.DataFrame, labelled: pd.DataFrame) -> WindowProfile | None:
    """The window's profile, with the labels that are due."""
    if live.profile is None:
        return None
    label = labelled["label"].reindex(rows.index)
    return profile_window(live.profile, [rows.assign(label=label)])


def _drift(use_case: UseCase, live: LiveVersion, window: WindowProfile | None) -> DriftFacts | None:
    if window is None or live.profile is None or window.rows < use_case.policy.min_monitor_rows:
        return None
    return find_drift(live.profile, [window], use_case.policy.drift)


def _faults(
    use_case: UseCase,
    live: LiveVersion,
    window: WindowProfile | None,
    served: Served,
    newest_event_at: Mapping[str, datetime],
    as_of: datetime,
) -> tuple[Fault, ...]:
    if window is None or live.profile is None:
        return ()
    labels = count_labels(served.predictions, served.labels, horizon=use_case.label.horizon, as_of=as_of)
    return find_faults(live.profile, window, as_of=as_of, newest_event_at=newest_event_at, labels=labels)
