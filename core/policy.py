"""What a use case says of its own upkeep: when to retrain, on what, and what a new version must show."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from core.triggers import AnyOf, Drift, PerformanceDrop, Schedule, Trigger


@dataclass(frozen=True, kw_only=True)
class DriftPolicy:
    """What counts as drift.

    Args:
        false_alarms: share of windows without drift that may raise anything, over all columns together, in (0, 1).
        min_effect: smallest distance worth an alarm, however certain it is, in standard deviations of the reference.
        over: windows that must be over their threshold before drift is called, of the newest `of` (k of n) ...
        of: ... and as many must be under it before it is over again.
    """

    false_alarms: float = 0.01
    min_effect: float = 0.05
    over: int = 2
    of: int = 3


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which labelled rows a version is trained on.

    Args:
        kind: ``all`` history; a sliding ``window``; ``exponential`` weights, halved every `half_life`; ``validated``:
            the window, of halves and doubles of `window`, that does best on the newest labels.
        window: length, for ``window`` and ``validated``.
        half_life: for ``exponential``.
        warm_start: whether the estimator goes on from the champion's, where it can.
    """

    kind: Literal["all", "window", "exponential", "validated"] = "window"
    window: timedelta = timedelta(days=90)
    half_life: timedelta = timedelta(days=30)
    warm_start: bool = False


@dataclass(frozen=True, kw_only=True)
class GatePolicy:
    """What a challenger must show besides its gain.

    Args:
        confidence: of the intervals, in (0.5, 1).
        segment_margin: relative rise of log-loss allowed in any segment, beyond what its interval leaves open.
        min_segment_rows: fewest rows of a segment that is judged.
        calibration_margin: by how much the calibration error may be larger than the champion's.
        old_regime_margin: relative rise of log-loss allowed on rows from before the training window.
        leak_auc: AUC of a single feature from which a leak is suspected.
        leak_gain: relative gain over the champion that is too good to be true.
        leak_excess: share of what the champion's AUC leaves open to 1 that no single feature closes by itself.
        max_latency_ratio: slowest it may answer in a staged host, against the champion; None: not asked.
    """

    confidence: float = 0.95
    segment_margin: float = 0.1
    min_segment_rows: int = 200
    calibration_margin: float = 0.02
    old_regime_margin: float = 0.5
    leak_auc: float = 0.98
    leak_gain: float = 0.6
    leak_excess: float = 0.25
    max_latency_ratio: float | None = 2.0


@dataclass(frozen=True, kw_only=True)
class AftermathPolicy:
    """When a promotion is taken back because of the labels that came since.

    Args:
        period: event time after which a version that was not shown worse is confirmed.
        confidence: in (0, 1): one minus the chance that a version no worse is ever taken back, however often looked at.
        margin: relative rise of log-loss, over the version before, that counts as no worse.
        min_rows: fewest labelled rows for a verdict before the period is over.
    """

    period: timedelta = timedelta(days=28)
    confidence: float = 0.99
    margin: float = 0.01
    min_rows: int = 500


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When to retrain, on what, and what a new version must show.

    Args:
        training_window: labelled rows this far back are trained on, unless `selections` say otherwise.
        holdout_rows: newest labelled rows, kept out of training, on which versions are compared.
        min_rows: fewest labelled rows (training and holdout together) to train on.
        monitor_window: predictions this far back are watched.
        monitor_every: event time between two looks, in replays (live, prefect.yaml's schedule counts).
        materialize_every: time between two refreshes of the batch views that are computed from events; in replays, of
            those that read tables, too (live, these follow prefect.yaml's schedule).
        min_monitor_rows: fewest rows in the window for a verdict.
        drift_threshold: distance above which Evidently's page shows a column as drifted; nothing is decided by it.
        performance_drop: relative rise of log-loss over the version's reference that calls for a retrain.
        retrain_every: event time after which the champion is retrained in any case.
        cooldown: event time after a retrain in which only a schedule triggers anything. It doubles with each retrain in
            a row that the gate keeps back, but for a drop in performance and for new kinds of drift.
        min_gain: relative reduction of log-loss on the holdout a challenger must show to be promoted.
        trigger: what calls for a retrain; None: any of `performance_drop`, drift and `retrain_every`.
        segments: request fields or feature columns by whose values performance and drift are looked at separately.
        selections: what to train on; a retrain tries all of them, and the gate picks. Empty: `training_window`.
        drift: what counts as drift.
        gate: what a challenger must show besides its gain.
        aftermath: when a promotion is taken back.
    """

    training_window: timedelta = timedelta(days=90)
    holdout_rows: int = 2000
    min_rows: int = 4000
    monitor_window: timedelta = timedelta(days=7)
    monitor_every: timedelta = timedelta(days=7)
    materialize_every: timedelta = timedelta(days=28)
    min_monitor_rows: int = 500
    drift_threshold: float = 0.2
    performance_drop: float = 0.15
    retrain_every: timedelta = timedelta(days=90)
    cooldown: timedelta = timedelta(days=5)
    min_gain: float = 0.0
    trigger: Trigger | None = None
    segments: tuple[str, ...] = ()
    selections: tuple[Selection, ...] = ()
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    gate: GatePolicy = field(default_factory=GatePolicy)
    aftermath: AftermathPolicy = field(default_factory=AftermathPolicy)

    @property
    def calls_for(self) -> Trigger:
        """What calls for a retrain."""
        usual = AnyOf((PerformanceDrop(self.performance_drop), Drift(), Schedule(self.retrain_every)))
        return usual if self.trigger is None else self.trigger

    @property
    def trains_on(self) -> tuple[Selection, ...]:
        """What a retrain tries."""
        return self.selections or (Selection(kind="window", window=self.training_window),)
