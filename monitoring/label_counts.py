"""What came back as labels, and whether that can be right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.clock import MICROSECOND, as_utc

_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000


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
    # whole microseconds, of which floats hold 285 years exactly; NaN where nobody asked
    asked_us = pd.Series(_us(asked["at"]), index=asked["prediction_id"]) if len(known) else pd.Series(dtype=np.float64)
    waited_us = _us(known["known_at"]) - known["prediction_id"].map(asked_us).to_numpy(dtype=np.float64)
    before = known.groupby("prediction_id")["label"].shift()
    due = predictions.loc[predictions["at"] + horizon <= moment] if len(predictions) else predictions
    return LabelCounts(
        days=_days(due, last["label"]),
        received=len(known),
        repeated=int((before == known["label"]).sum()),
        contradicting=int((before.notna() & (before != known["label"]) & (waited_us <= horizon / MICROSECOND)).sum()),
        early=int((waited_us < 0).sum()),
    )


def _days(due: pd.DataFrame, labels: pd.Series[Any]) -> tuple[LabelDay, ...]:
    if due.empty:
        return ()
    label = due["prediction_id"].map(labels).to_numpy(dtype=np.float64)
    days, places = np.unique(_us(due["at"]) // _DAY_US, return_inverse=True)
    counts = [np.bincount(places, rows) for rows in (np.ones(len(label)), ~np.isnan(label), label > 0)]
    return tuple(
        LabelDay(_EPOCH + timedelta(days=int(day)), int(many), int(labelled), int(positive))
        for day, many, labelled, positive in zip(days, *counts, strict=True)
    )


def _us(moments: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Microseconds since 1970."""
    return np.asarray(pd.DatetimeIndex(moments).as_unit("us").asi8)
