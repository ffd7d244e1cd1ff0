"""What is known at one look, as plain numbers: what decisions are made from, and recorded with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from monitoring.recorded import Recorded

Kind = Literal["data", "prediction", "label", "concept"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value and the bounds within which it lies with the confidence asked for."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SegmentFacts:
    """One segment of the labelled rows.

    Args:
        name: e.g. ``vendor_id=2``.
        rows: labelled rows in it.
        log_loss: in nats.
        reference_log_loss: the version's on its holdout, in nats; None if the reference has too few such rows.
    """

    name: str
    rows: int
    log_loss: Interval
    reference_log_loss: float | None


@dataclass(frozen=True, kw_only=True)
class PerformanceFacts:
    """Quality of the predictions whose label is there.

    Args:
        rows: labelled predictions.
        coverage: labelled share of those whose label was due, in [0, 1]; None if none was due.
        log_loss: in nats; None without rows.
        auc: in [0, 1]; None unless both labels occur.
        brier: in [0, 1]; None without rows.
        base_rate: share of positive labels; None without rows.
        from_at: of the first row.
        to_at: of the last row.
        segments: the worst first, against their references.
    """

    rows: int
    coverage: float | None
    log_loss: Interval | None
    auc: Interval | None
    brier: Interval | None
    base_rate: float | None
    from_at: datetime | None
    to_at: datetime | None
    segments: tuple[SegmentFacts, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EstimateFacts:
    """Quality estimated for predictions whose label is still out.

    Args:
        method: ``confidence`` for calibrated classifiers, else ``direct loss``.
        rows: predictions without a label.
        log_loss: estimated, in nats.
        realised_error: mean absolute error of earlier estimates once their labels came, in nats; None if none did.
        blind: why the estimate is not to be trusted; None if nothing speaks against it.
        auc: estimated, in [0, 1]; None by ``direct loss``.
        brier: estimated, in [0, 1]; None by ``direct loss``.
        from_at: of the first of these predictions; None if it was not recorded.
        to_at: of the last.
    """

    method: str
    rows: int
    log_loss: Interval
    realised_error: float | None = None
    blind: str | None = None
    auc: Interval | None = None
    brier: Interval | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnDrift:
    """How far one column has moved.

    Args:
        column: its name, or ``score``, ``label``, ``residual``.
        kind: of drift.
        effect: distance, in standard deviations of the reference or as it is defined for codes.
        threshold: from which distance on it was named.
        importance: of the feature to the version, in [0, 1]; 0 if unknown.
        segment: in which segment; empty: everywhere.
        score: how far out of the ordinary the effect is, in standard deviations of a normal number; 0 if it was not
            recorded.
    """

    column: str
    kind: Kind
    effect: float
    threshold: float
    importance: float = 0.0
    segment: str = ""
    score: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DriftFacts:
    """What has moved.

    Args:
        rows: predictions compared.
        columns: how many were compared.
        over: those over their thresholds in this window, the most important first.
        windows_over: of the newest windows, how many had any over its threshold, by kind.
        called: kinds of drift that are called, by k of n windows or by these together, with hysteresis.
        scores: of every column everywhere in this window, not below 0, see `ColumnDrift`; empty if not recorded.
        effects: of the same columns, see `ColumnDrift`.
        moved: columns of the called kinds that the newest windows together show moved, the most important first.
        limit: the evidence beyond which columns of a kind raise an alarm together; 0 if it was not recorded.
        alike: how the scores of windows in a row are correlated where nothing moves, in [0, 1].
    """

    rows: int
    columns: int
    over: tuple[ColumnDrift, ...] = ()
    windows_over: dict[Kind, int] | None = None
    called: tuple[Kind, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    effects: dict[str, float] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    limit: float = 0.0
    alike: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong with the data themselves, which no retrain cures.

    Args:
        column: where; empty: everywhere.
        kind: e.g. ``nulls``, ``unit``, ``stuck``, ``category gone``, ``swapped``, ``stale source``, ``duplicates``,
            ``labels missing``, ``labels flipped``, ``clock``.
        detail: one sentence with the numbers.
    """

    column: str
    kind: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """Mean loss of one window.

    Args:
        at: the moment by which all its labels were due.
        rows: labelled rows.
        log_loss: in nats.
        version: that answered; None in what was recorded before windows were corrected.
        from_at: its questions were asked in [`from_at`, `to_at`); None likewise.
        to_at: see `from_at`.
        due: predictions.
        low: lower bound of the loss; None likewise.
        high: upper bound.
    """

    at: datetime
    rows: int
    log_loss: float
    version: str | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None
    due: int = 0
    low: float | None = None
    high: float | None = None

    def shown(self) -> dict[str, Any]:
        """As people read it, as JSON."""
        return {
            "version": self.version, "from": self.from_at and self.from_at.isoformat(),
            "to": self.to_at and self.to_at.isoformat(), "rows": self.due, "labelled": self.rows,
            "log_loss": self.log_loss, "low": self.low, "high": self.high,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MonitorFacts(Recorded):
    """Everything a decision at one look is made from.

    Args:
        as_of: the moment of the look.
        version: the version that answers, None if there is none.
        trained_at: what moment that version was trained as of, None if unknown.
        last_retrain_at: what moment the newest retrain was called for, None if there was none.
        rows: predictions of that version in the window.
        reference_log_loss: the version's log-loss when it was made, in nats; None if unknown.
        reference_rows: how many rows that was measured on; 0 if unknown, and then it is taken to be exact.
        labels_since_training: labels that no training has seen.
        performance: None if it was not measured.
        estimate: None if nothing could be estimated.
        drift: None if it was not measured.
        faults: of the data.
        losses: of the newest windows, oldest first, with the labels known by now; those that another version answered
            are among them.
        refused: retrains since the last promotion whose versions the gate kept back.
        refused_kinds: kinds of drift that were called when these were called for.
        retrain_s: what the last retrains took, in compute seconds; None if unknown.
        rows_per_day: predictions asked for a day, lately.
        look_every_s: event seconds until the next look.
    """

    as_of: datetime
    version: str | None
    trained_at: datetime | None
    last_retrain_at: datetime | None
    rows: int
    reference_log_loss: float | None = None
    reference_rows: int = 0
    labels_since_training: int = 0
    performance: PerformanceFacts | None = None
    estimate: EstimateFacts | None = None
    drift: DriftFacts | None = None
    faults: tuple[Fault, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    refused: int = 0
    refused_kinds: tuple[Kind, ...] = ()
    retrain_s: float | None = None
    rows_per_day: float = 0.0
    look_every_s: float = 0.0

    def with_(self, **changed: Any) -> MonitorFacts:
        """The same with some facts replaced."""
        return replace(self, **changed)
