"""What continual training was worth: the live versions against the frozen first one, on the same predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase
from features.offline.log import OfflineLog

Scores = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Comparison:
    """Log-loss of both on labelled predictions.

    Args:
        months: one row per month: ``month, predictions, frozen, evergreen, versions``.
        since: start of the span below.
        frozen: log-loss of the first version over the span, in nats.
        evergreen: log-loss of what was served over the span.
        predictions: labelled predictions in the span.
        whole_frozen: the same over everything.
        whole_evergreen: the same over everything.
    """

    months: pd.DataFrame
    since: datetime
    frozen: float
    evergreen: float
    predictions: int
    whole_frozen: float
    whole_evergreen: float

    @property
    def gain(self) -> float:
        """How far below the frozen version's log-loss the served one is, as a share of it."""
        return 1 - self.evergreen / self.frozen


def compare_with_frozen(log: OfflineLog, use_case: UseCase, frozen: Scores, since: datetime | None) -> Comparison:
    """Score every logged prediction with the first version too, on the features that were served."""
    served = log.predictions(use_case.name)
    served = served[served["version"] != ""]
    rows = served.merge(log.labels(use_case.name)[["prediction_id", "label"]], on="prediction_id")
    matrix = rows[[f"f__{column}" for column in use_case.features.columns]].to_numpy(dtype=np.float32)
    y = rows["label"].to_numpy(dtype=np.int64)
    losses = pd.DataFrame(
        {
            "month": rows["at"].dt.strftime("%Y-%m"),
            "frozen": row_log_loss(y, frozen(matrix)),
            "evergreen": row_log_loss(y, rows["score"].to_numpy()),
            "version": rows["version"],
        }
    )
    months = losses.groupby("month").agg(
        predictions=("frozen", "size"),
        frozen=("frozen", "mean"),
        evergreen=("evergreen", "mean"),
        versions=("version", lambda v: ", ".join(dict.fromkeys(v))),
    )
    start = since or rows["at"].min().to_pydatetime()
    span = losses[(rows["at"] >= pd.Timestamp(start)).to_numpy()]
    return Comparison(
        months=months.reset_index(), since=start, frozen=float(span["frozen"].mean()),
        evergreen=float(span["evergreen"].mean()), predictions=len(span),
        whole_frozen=float(losses["frozen"].mean()), whole_evergreen=float(losses["evergreen"].mean()),
    )  # fmt: skip


def row_log_loss(y: npt.NDArray[np.int64], scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Log-loss of each row in nats; scores are kept 1e-7 away from 0 and 1."""
    p = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.where(y == 1, -np.log(p), -np.log1p(-p)))
