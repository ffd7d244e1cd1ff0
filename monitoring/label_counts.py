"""What came back as labels, and whether that can be right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from core.clock import as_utc


@dataclass(frozen=True)
class LabelDay:
    """The predictions of one day whose label is due.

    Args:
        day: UTC.
        due: predictions.
        labelled: of those.
        positive: of the labelled.
    """

    day: date
    due: int
    labelled: int
    positive: int


@dataclass(frozen=True)
class LabelCounts:
    """The labels of a window.

    Args:
        days: with a label that is due, in order.
        received: labels.
        repeated: of those, labels of a prediction that had the same label already.
        contradicting: labels of a prediction that had another label, within its horizon.
        early: labels known before their prediction was asked for.
    """

    days: tuple[LabelDay, ...] = ()
    received: int = 0
    repeated: int = 0
    contradicting: int = 0
    early: int = 0


def count_labels(
    predictions: pd.DataFrame, labels: pd.DataFrame, *, horizon: timedelta, as_of: datetime
) -> LabelCounts:
    """Count the labels of a window.

    Args:
        predictions: ``prediction_id`` and ``at``.
        labels: ``prediction_id``, ``label`` and ``known_at`` as they were received; the log keeps the last of each
            prediction only, so repetitions are seen only before they get there.
        horizon: how long a label may take.
        as_of: the moment it is asked for; labels known later are not looked at.
    """
    moment = pd.Timestamp(as_utc(as_of))
    if predictions.empty or labels.empty:
        known = pd.DataFrame({"prediction_id": [], "label": [], "known_at": pd.DatetimeIndex([], tz="UTC")})
    else:
        known = labels.loc[labels["known_at"] <= moment].sort_values("known_at", kind="stable")
    asked = predictions.drop_duplicates("prediction_id") if len(predictions) else predictions
    last = known.drop_duplicates("prediction_id", keep="last").set_index("prediction_id")
    asked_at = known["prediction_id"].map(asked.set_index("prediction_id")["at"]) if len(known) else None
    before = known.groupby("prediction_id")["label"].shift()
    in_time = (known["known_at"] - asked_at <= horizon) if asked_at is not None else np.zeros(0, dtype=bool)
    due = predictions.loc[predictions["at"] + horizon <= moment] if len(predictions) else predictions
    return LabelCounts(
        days=_days(due, last["label"]),
        received=len(known),
        repeated=int((before == known["label"]).sum()),
        contradicting=int((before.notna() & (before != known["label"]) & in_time).sum()),
        early=int((known["known_at"] < asked_at).sum()) if asked_at is not None else 0,
    )


def _days(due: pd.DataFrame, labels: pd.Series[Any]) -> tuple[LabelDay, ...]:
    if due.empty:
        return ()
    label = due["prediction_id"].map(labels).astype("float64")
    table = pd.DataFrame({"day": due["at"].dt.date, "labelled": label.notna(), "positive": label > 0})
    days = [(str(day), rows) for day, rows in table.groupby("day")]
    return tuple(
        LabelDay(date.fromisoformat(day), len(rows), int(rows["labelled"].sum()), int(rows["positive"].sum()))
        for day, rows in days
    )
