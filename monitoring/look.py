"""One look at a live version: what it answered lately, how that turned out, how far things have moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from core.use_case import UseCase
from monitoring.drift import KINDS, find_drift, is_called, name_moved
from monitoring.drift_page import draw_drift, served_columns
from monitoring.estimate import estimate
from monitoring.facts import DriftFacts, EstimateFacts, Fault, Kind, LossPoint, MonitorFacts, PerformanceFacts
from monitoring.label_counts import count_labels
from monitoring.performance import join_labels, measure
from monitoring.profile import ReferenceProfile
from monitoring.quality import find_faults
from monitoring.window import WindowProfile, profile_window

LOOKS = 16
"""How many looks before are looked back on at most."""
_DAY = timedelta(days=1)
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
        profile: of all rows it was made of; None: drift and faults are not looked for.
    """

    version: str
    trained_at: datetime
    log_loss: float
    reference: pd.DataFrame
    holdout_rows: int = 0
    profile: ReferenceProfile | None = None


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
        looks: facts of the looks before that are `worth_remembering`, oldest first.
        last_retrain_at: what moment the newest retrain was called for; None if there was none.
        refused: retrains since the last promotion whose versions the gate kept back.
        refused_kinds: kinds of drift that were called when these were called for.
        retrain_s: what retrains took lately, in compute seconds; None if unknown.
        labels_since_training: labels that no training has seen.
        newest_event_at: of each event source, when its newest event was; those left out are not judged.
    """

    looks: Sequence[MonitorFacts] = ()
    last_retrain_at: datetime | None = None
    refused: int = 0
    refused_kinds: tuple[Kind, ...] = ()
    retrain_s: float | None = None
    labels_since_training: int = 0
    newest_event_at: Mapping[str, datetime] = field(default_factory=dict)


def worth_remembering(moments: Sequence[datetime], apart: timedelta) -> list[int]:
    """Which earlier looks the next one needs: the newest, and before it those that are a window apart.

    Args:
        moments: of the looks, rising.
        apart: the length of a window.

    Returns:
        Positions, rising, at most `LOOKS`.

    Example:
        >>> days = [datetime(2019, 2, day) for day in (1, 4, 7, 8)]
        >>> worth_remembering(days, timedelta(days=3))
        [0, 1, 3]
    """
    kept: list[int] = []
    for i in range(len(moments) - 1, -1, -1):
        if len(kept) == LOOKS:
            break
        if not kept or moments[kept[-1]] - moments[i] >= apart:
            kept.append(i)
    return kept[::-1]


def kinds_called(looks: Sequence[MonitorFacts]) -> tuple[Kind, ...]:
    """Kinds of drift that were called at any of some looks."""
    called = {kind for each in looks if each.drift is not None for kind in each.drift.called}
    return tuple(kind for kind in KINDS if kind in called)


def window_start(use_case: UseCase, as_of: datetime) -> datetime:
    """From when on predictions are needed for a look at `as_of`: the window, and the time labels take."""
    return as_of - use_case.policy.monitor_window - use_case.label.horizon


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
        losses=_losses(facts, found.performance, past.looks),
        rows_per_day=found.rows_per_day,
    )


def measure_window(
    use_case: UseCase, live: LiveVersion, served: Served, newest_event_at: Mapping[str, datetime], as_of: datetime
) -> Measured:
    """Measure what the version answered in the window that ends at `as_of`; see `look`."""
    policy = use_case.policy
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    labelled = join_labels(answered, served.labels, use_case.label.horizon, as_of)
    unlabelled = answered.drop(index=labelled.index[labelled["label"].notna()])
    is_to_estimate = len(unlabelled) >= policy.min_monitor_rows
    recent = _recent(use_case, answered, as_of)
    window = _profiled(live, recent, labelled)
    return Measured(
        rows=len(recent),
        performance=measure(
            labelled, segments=policy.segments, reference=live.reference, categorical=use_case.codes,
            confidence=policy.gate.confidence,
        ),
        drift=_drift(use_case, live, window),
        faults=_faults(use_case, live, window, served, newest_event_at, as_of),
        rows_per_day=len(_recent(use_case, served.predictions, as_of)) / (policy.monitor_window / _DAY),
        unlabelled=unlabelled if is_to_estimate else None,
        labelled=labelled if is_to_estimate else None,
    )  # fmt: skip


def draw_page(use_case: UseCase, live: LiveVersion, served: Served, *, as_of: datetime, page: Path) -> dict[str, float]:
    """Write Evidently's page about the predictions a look at `as_of` saw; returns its distances, by column."""
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    return draw_drift(
        served_columns(_recent(use_case, answered, as_of), use_case.features.columns),
        live.reference,
        categorical=use_case.categorical,
        threshold=use_case.policy.drift_threshold,
        page=page,
    )


def _recent(use_case: UseCase, predictions: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    return predictions.loc[predictions["at"] >= as_of - use_case.policy.monitor_window]


def _profiled(live: LiveVersion, recent: pd.DataFrame, labelled: pd.DataFrame) -> WindowProfile | None:
    """The window's profile, with the labels that are due."""
    if live.profile is None:
        return None
    label = labelled["label"].reindex(recent.index)
    return profile_window(live.profile, [recent.assign(label=label)])


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


def _drift(use_case: UseCase, live: LiveVersion, window: WindowProfile | None) -> DriftFacts | None:
    if window is None or live.profile is None or window.rows < use_case.policy.min_monitor_rows:
        return None
    return find_drift(live.profile, [window], use_case.policy.drift)


def _called(
    use_case: UseCase, live: LiveVersion, found: DriftFacts | None, looks: Sequence[MonitorFacts], as_of: datetime
) -> DriftFacts | None:
    """The same with what is called by this window and those of the looks before together."""
    if found is None:
        return None
    policy, last = use_case.policy, as_of
    seen: list[set[Kind]] = [{each.kind for each in found.over}]
    scores = [found.scores]
    for before in reversed([each for each in looks if each.version == live.version and each.drift is not None]):
        if before.drift is not None and last - before.as_of >= policy.monitor_window:  # windows must not overlap
            seen.append({each.kind for each in before.drift.over})
            scores.append(before.drift.scores)
            last = before.as_of
    seen.reverse()
    newest = seen[-policy.drift.of :]
    called = tuple(kind for kind in KINDS if is_called([kind in kinds for kinds in seen], policy.drift))
    importance = live.profile.importance if live.profile is not None else {}
    return replace(
        found,
        windows_over={kind: sum(kind in kinds for kinds in newest) for kind in KINDS},
        called=called,
        moved=name_moved(scores[: policy.drift.of][::-1], called, importance),
    )


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


def _losses(facts: MonitorFacts, seen: PerformanceFacts | None, looks: Sequence[MonitorFacts]) -> tuple[LossPoint, ...]:
    """The version's loss curve: as the look before has it, and this window's point."""
    before = next((each.losses for each in reversed(looks) if each.version == facts.version), ())
    if seen is None or seen.log_loss is None:
        return before
    return (*before, LossPoint(at=facts.as_of, rows=seen.rows, log_loss=seen.log_loss.value))[-_LOSSES:]
