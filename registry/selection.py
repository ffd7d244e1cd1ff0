"""Which labelled rows a version is trained on, and how much each of them counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from core.clock import MICROSECOND, to_us
from core.policy import Policy, Selection

_HALF_LIVES = 8  # older rows would weigh 0.4 % together
_SCALES = (0.25, 0.5, 1.0, 2.0)
BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True)
class SelectedRows:
    """What a selection leaves of some rows that are sorted by time.

    Args:
        first: position of the first row to train on.
        weights: float32, one for each row from there, 1 on average; None: all count alike.
        window: length that validation chose; None if it did not.
        validated: log-loss on the validation rows by window in days.
    """

    first: int
    weights: npt.NDArray[np.float32] | None = None
    window: timedelta | None = None
    validated: dict[str, float] = field(default_factory=dict)


def describe(selection: Selection) -> str:
    """A selection in a few words.

    Example:
        >>> describe(Selection(kind="window", window=timedelta(days=60), warm_start=True))
        'window of 60 days, warm start'
    """
    days = {
        "all": "all history",
        "window": f"window of {_days(selection.window)} days",
        "exponential": f"weights halved every {_days(selection.half_life)} days",
        "validated": f"validated window around {_days(selection.window)} days",
    }[selection.kind]
    return f"{days}, warm start" if selection.warm_start else days


def since(selections: Sequence[Selection], moment: datetime) -> datetime:
    """From when on labelled rows are needed so that each of the selections finds its own."""
    return min(_reach(each, moment) for each in selections)


def select_rows(
    selection: Selection,
    at: npt.NDArray[np.datetime64],
    moment: datetime,
    validation_loss: Callable[[int], float | None] | None = None,
) -> SelectedRows:
    """Choose among rows.

    Args:
        selection: how.
        at: times of the rows, datetime64[us] UTC, sorted, holdout excluded.
        moment: from which ages count.
        validation_loss: for ``validated``: log-loss, on the newest of the rows, of what is trained on those from a
            position on; None if it cannot be trained on these. Validation is on rows older than the holdout, so that
            the gate's comparison stays one with rows nobody chose by. Source: Bifet & Gavaldà (2007) on windows of
            a length that the data choose; Hastie, Tibshirani & Friedman (2009), 7.2, on a third part of the data.

    Returns:
        The rows; all of them if no window could be validated.

    Raises:
        ValueError: for ``validated`` without `validation_loss`.
    """
    oldest = int(np.searchsorted(at, _as64(_reach(selection, moment))))
    if selection.kind == "exponential":
        return SelectedRows(oldest, _weights(at[oldest:], moment, selection.half_life))
    if selection.kind != "validated":
        return SelectedRows(oldest)
    if validation_loss is None:
        raise ValueError("a validated window needs a validation_loss")
    return _validated(selection, at, moment, validation_loss)


def _validated(
    selection: Selection,
    at: npt.NDArray[np.datetime64],
    moment: datetime,
    validation_loss: Callable[[int], float | None],
) -> SelectedRows:
    firsts: dict[int, timedelta] = {}
    for scale in _SCALES:
        window = selection.window * scale
        firsts.setdefault(int(np.searchsorted(at, _as64(moment - window))), window)
    losses = {first: loss for first in firsts if (loss := validation_loss(first)) is not None}
    best = min(losses, key=lambda first: (losses[first], first), default=min(firsts))
    said = {_days(firsts[first]): loss for first, loss in losses.items()}
    return SelectedRows(best, None, firsts[best], said)


def _reach(selection: Selection, moment: datetime) -> datetime:
    if selection.kind == "all":
        return BEGINNING
    if selection.kind == "exponential":
        return moment - _HALF_LIVES * selection.half_life
    return moment - selection.window * (max(_SCALES) if selection.kind == "validated" else 1)


def _weights(at: npt.NDArray[np.datetime64], moment: datetime, half_life: timedelta) -> npt.NDArray[np.float32]:
    """Source: exponential forgetting, as in Gama et al. (2014), "A survey on concept drift adaptation", 3.1.2."""
    age_us = to_us(moment) - at.astype("datetime64[us]").astype(np.int64)
    weights = np.exp2(-age_us / (half_life / MICROSECOND))
    relative: npt.NDArray[np.float32] = (weights / max(weights.mean(), 1e-300) if len(weights) else weights).astype(
        np.float32
    )
    return relative


def _as64(moment: datetime) -> np.datetime64:
    return np.datetime64(to_us(moment), "us")


def before(policy: Policy, moment: datetime) -> tuple[datetime, datetime] | None:
    """A span of an older regime: a quarter of the training window, before anything that is trained on.

    Returns:
        Its beginning and its end; None if all history is trained on.
    """
    end = since(policy.trains_on, moment)
    return None if end <= BEGINNING else (end - policy.training_window / 4, end)


def _days(length: timedelta) -> str:
    return f"{length / timedelta(days=1):g}"
