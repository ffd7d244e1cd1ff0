"""How well predictions turned out, measured on the labels that came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from core.clock import as_utc
from core.losses import (
    WORST_LOG_LOSS,
    Floats,
    auc,
    auc_influence,
    row_brier,
    row_log_loss,
)
from features.segments import Cut, column_of
from monitoring.facts import Interval, LossPoint, PerformanceFacts, SegmentFacts
from monitoring.resampling import Resampled, entity_units, time_blocks

FEWEST_ROWS = 50
"""Fewer rows of a segment say nothing of it."""
_SHARE = (0.0, 1.0)
_LOSS = (0.0, WORST_LOG_LOSS)


def join_labels(predictions: pd.DataFrame, labels: pd.DataFrame, horizon: timedelta, as_of: datetime) -> pd.DataFrame:
    """Put labels beside the predictions whose label is due.

    Predictions younger than the horizon are left out even when their label is there already: which labels
    come early depends on the label. A label known after its prediction's horizon corrects an earlier one.

    Args:
        predictions: at least ``prediction_id``, ``at`` and ``score``.
        labels: ``prediction_id``, ``label``, ``known_at``.
        horizon: how long a label may take.
        as_of: the moment it is asked for; labels known later are not looked at.

    Returns:
        The due predictions in their order, with ``label`` as float: 0, 1, or NaN where none came.
    """
    if predictions.empty:
        return predictions.assign(label=np.zeros(0))
    moment = pd.Timestamp(as_utc(as_of))
    due = predictions.loc[predictions["at"] + horizon <= moment]
    if labels.empty:
        return due.assign(label=np.nan)
    known = labels.loc[labels["known_at"] <= moment].sort_values("known_at", kind="stable")
    last = known.drop_duplicates("prediction_id", keep="last").set_index("prediction_id")["label"]
    return due.assign(label=due["prediction_id"].map(last).astype("float64"))


def measure(
    labelled: pd.DataFrame,
    *,
    cuts: Sequence[Cut] = (),
    reference_losses: Mapping[str, float] | None = None,
    by: str | None = None,
    confidence: float = 0.95,
) -> PerformanceFacts:
    """Measure the scores of a frame made by `join_labels`, with bounds, and by segment.

    Rows near each other in time, or of one entity, are taken to depend on each other.

    Args:
        labelled: due predictions: at least ``at``, ``score`` and ``label`` (0, 1 or NaN), and the segments' columns.
        cuts: what makes the segments.
        reference_losses: the version's on its holdout, by segment, in nats.
        by: column of the entity whose rows depend on each other; None: blocks of time.
        confidence: of the intervals, in (0, 1).
    """
    due = len(labelled)
    rows = labelled.loc[labelled["label"].notna()] if due else labelled
    n = len(rows)
    if n == 0:
        return PerformanceFacts(
            rows=0, coverage=0.0 if due else None, log_loss=None, auc=None, brier=None, base_rate=None,
            from_at=None, to_at=None,
        )  # fmt: skip
    label, score = (rows[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
    drawn = Resampled(entity_units(rows[by]) if by else time_blocks(rows["at"]), confidence=confidence)
    losses = row_log_loss(label, score)
    return PerformanceFacts(
        rows=n,
        coverage=n / due,
        log_loss=drawn.mean(losses, support=_LOSS),
        auc=_auc(drawn, label, score),
        brier=drawn.mean(row_brier(label, score), support=_SHARE),
        base_rate=float(label.mean()),
        from_at=rows["at"].min().to_pydatetime(),
        to_at=rows["at"].max().to_pydatetime(),
        segments=_by_segment(rows, losses, drawn, cuts, reference_losses or {}),
    )


def loss_point(
    labelled: pd.DataFrame,
    version: str,
    since: datetime,
    until: datetime,
    *,
    due_at: datetime,
    confidence: float = 0.95,
) -> LossPoint | None:
    """The mean loss of what a version answered to the questions of [since, until); None without a label.

    It is made from the labels known by now: a label after its horizon changes the window its prediction was in.

    Args:
        labelled: a frame made by `join_labels`, with ``version``.
        version: whose answers count.
        since: when the window begins.
        until: when it ends.
        due_at: when the last of its labels was due.
        confidence: of the bounds, in (0, 1).
    """
    if labelled.empty:
        return None
    asked = labelled.loc[
        (labelled["version"] == version) & (labelled["at"] >= since) & (labelled["at"] < until)
    ]  # fmt: skip
    rows = asked.loc[asked["label"].notna()]
    if rows.empty:
        return None
    label, score = (rows[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
    loss = Resampled(time_blocks(rows["at"]), confidence=confidence).mean(row_log_loss(label, score), support=_LOSS)
    return LossPoint(
        at=due_at, rows=len(rows), log_loss=loss.value, version=version, from_at=since, to_at=until, due=len(asked),
        low=loss.low, high=loss.high,
    )  # fmt: skip


def _auc(drawn: Resampled, label: Floats, score: Floats) -> Interval | None:
    if label.min() == label.max():
        return None
    return drawn.mean(auc_influence(label, score), support=_SHARE, offset=auc(label, score))


def _by_segment(
    rows: pd.DataFrame, losses: Floats, drawn: Resampled, cuts: Sequence[Cut], reference_losses: Mapping[str, float]
) -> tuple[SegmentFacts, ...]:
    """The segments with enough rows, the largest rise over its reference first."""
    found = []
    for cut in cuts:
        column = column_of(rows, cut.column)
        for name, mask in cut.masks(column.to_numpy()) if column is not None else ():
            if mask.sum() >= FEWEST_ROWS:
                loss, before = drawn.mean(losses, support=_LOSS, rows=mask), reference_losses.get(name)
                found.append(SegmentFacts(name=name, rows=int(mask.sum()), log_loss=loss, reference_log_loss=before))
    overall = float(losses.mean())
    return tuple(sorted(found, key=lambda s: (s.reference_log_loss or overall) - s.log_loss.value))
