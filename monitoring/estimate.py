"""How predictions will turn out whose labels are still out, and when that cannot be told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.losses import WORST_LOG_LOSS, Floats, auc, auc_influence, row_brier, row_log_loss
from monitoring.expected_loss import CONFIDENCE, Calibrated, cross_fitted, expected_loss, fitting_method
from monitoring.facts import EstimateFacts, Interval
from monitoring.resampling import Resampled, time_blocks

# From fewer labelled rows nothing is learned.
_FEWEST = 200
# With so many newest labelled rows, those of the reference are not needed.
_ENOUGH = 1000
_MOST = 20_000
# The newest labels contradict the reference by so many rows at least.
_TAIL = 500
_SURELY = 0.99


def estimate(
    unlabelled: pd.DataFrame,
    labelled_reference: pd.DataFrame,
    newest_labelled: pd.DataFrame,
    *,
    earlier: Sequence[EstimateFacts] = (),
    confidence: float = 0.95,
    tolerance: float = 0.1,
) -> EstimateFacts | None:
    """Estimate the quality of predictions without labels, from what scores like theirs have lost.

    It holds as long as a score, or the features, keep their meaning. Whether they do only labels can tell: where the
    newest contradict the version's reference, or an earlier estimate turned out wrong, the estimate is called blind,
    and is made from the newest labels alone.
    Source: Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance (2022), section 3: without
    assumptions on the shift no estimate can be right.

    Args:
        unlabelled: predictions of one version: ``at``, ``score``, features ``f__…``.
        labelled_reference: labelled rows of its holdout: ``at``, ``score``, ``label``, features (``f__`` or not).
        newest_labelled: its newest predictions as `join_labels` gives them.
        earlier: estimates made before, of predictions that may have their labels now.
        confidence: of the interval, within which the mean loss of the predictions will lie once their labels are there.
        tolerance: relative difference from what was expected that does not count as a contradiction.

    Returns:
        None without predictions, or with fewer than 200 labelled rows or one label only.
    """
    reference, newest = _labelled(labelled_reference), _labelled(newest_labelled)
    base = reference if _is_enough(reference) else newest
    if not len(unlabelled) or not _is_enough(base):
        return None
    method = fitting_method(base)
    tail = newest.tail(max(len(unlabelled), _TAIL))
    error, missed = _realised(earlier, newest, tolerance)
    blind = _contradiction(reference, tail, method, tolerance) or missed
    learned = _learned_from(reference, newest, tail, is_blind=blind is not None)
    spread = _Spread(learned, len(unlabelled), confidence)
    expected = expected_loss(unlabelled, method).fit(learned).losses(unlabelled)
    residuals = spread.losses - cross_fitted(learned, method)
    return EstimateFacts(
        method=method,
        rows=len(unlabelled),
        log_loss=spread.around(float(expected.mean()), residuals, WORST_LOG_LOSS),
        realised_error=error,
        blind=blind,
        from_at=unlabelled["at"].min().to_pydatetime(),
        to_at=unlabelled["at"].max().to_pydatetime(),
        **(_by_chances(unlabelled, learned, spread) if method == CONFIDENCE else {}),
    )


class _Spread:
    """How far the mean of some unlabelled rows may lie from what is expected of it.

    The mean of m rows differs from its expectation as that of the n labelled rows does, times sqrt(n / m); the
    expectation was learned from n rows, which adds 1 under the root. Both are taken from blocks of time.

    Args:
        learned: the labelled rows.
        rows: how many unlabelled ones.
        confidence: in (0, 1).
    """

    def __init__(self, learned: pd.DataFrame, rows: int, confidence: float) -> None:
        self._scale = math.sqrt(1 + len(learned) / rows)
        self._drawn = Resampled(time_blocks(learned["at"]), confidence=confidence)
        self.label, self.score = (learned[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
        self.losses = row_log_loss(self.label, self.score)

    def around(self, value: float, differences: Floats, most: float) -> Interval:
        """Bounds in [0, most] around a value, from what the labelled rows differed by."""
        seen = self._drawn.mean(differences, support=(-most, most))
        low, high = ((bound - seen.value) * self._scale for bound in (seen.low, seen.high))
        return Interval(value=value, low=max(value + low, 0.0), high=min(value + high, most))


def _by_chances(unlabelled: pd.DataFrame, learned: pd.DataFrame, spread: _Spread) -> dict[str, Interval | None]:
    """The area and the Brier score to be expected, from the chance of a one of each row."""
    calibrated = Calibrated().fit(learned)
    chances, score = calibrated.chances(unlabelled), unlabelled["score"].to_numpy(dtype=np.float64)
    differences = row_brier(spread.label, spread.score) - row_brier(calibrated.chances(learned), spread.score)
    return {
        "auc": spread.around(auc(chances, score), auc_influence(spread.label, spread.score), 1.0),
        "brier": spread.around(float(row_brier(chances, score).mean()), differences, 1.0),
    }


def _contradiction(reference: pd.DataFrame, tail: pd.DataFrame, method: str, tolerance: float) -> str | None:
    """What the newest labelled rows say against the reference; None if nothing, or if either has too few rows."""
    if not (_is_enough(reference) and len(tail) >= _FEWEST):
        return None
    label, score = (tail[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
    losses = row_log_loss(label, score)
    expected = expected_loss(tail, method).fit(reference).losses(tail)
    gap = Resampled(time_blocks(tail["at"]), confidence=_SURELY).mean(
        losses - expected, support=(-WORST_LOG_LOSS, WORST_LOG_LOSS)
    )
    unsure = math.sqrt(1 + len(tail) / len(reference))  # what was expected was learned from few rows, too
    low, high = (gap.value + (bound - gap.value) * unsure for bound in (gap.low, gap.high))
    allowed = tolerance * float(expected.mean())
    if low <= allowed and high >= -allowed:
        return None
    return (
        f"concept drift: the newest {len(tail):,} labelled rows have a log-loss of {losses.mean():.3f} where "
        f"{expected.mean():.3f} was to be expected of such scores ({gap.value:+.3f}, surely beyond {allowed:.3f}), and "
        f"{label.mean():.1%} ones; what comes after them is estimated from them alone"
    )


def _realised(
    earlier: Sequence[EstimateFacts], newest: pd.DataFrame, tolerance: float
) -> tuple[float | None, str | None]:
    """The mean absolute error of earlier estimates, and what the newest of them got wrong whose labels are there."""
    errors, missed = [], None
    dated = [(each.to_at, each.from_at, each) for each in earlier if each.from_at and each.to_at]
    for until, since, each in sorted(dated, key=lambda d: d[0]):
        rows = newest.loc[(newest["at"] >= since) & (newest["at"] <= until)] if len(newest) else newest
        if len(rows) < max(each.rows / 2, 1):
            continue
        label, score = (rows[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
        realised, value = float(row_log_loss(label, score).mean()), each.log_loss
        errors.append(abs(realised - value.value))
        is_out = not value.low <= realised <= value.high and errors[-1] > tolerance * value.value
        missed = (
            f"the newest estimate that can be checked, {value.value:.3f} ({value.low:.3f} to {value.high:.3f}), "
            f"turned out {realised:.3f}"
        ) if is_out and len(rows) >= _FEWEST else None  # fmt: skip
    return (float(np.mean(errors)) if errors else None), missed


def _learned_from(reference: pd.DataFrame, newest: pd.DataFrame, tail: pd.DataFrame, *, is_blind: bool) -> pd.DataFrame:
    """The labelled rows to learn from: the newest, with the reference where they are few."""
    if is_blind and _is_enough(tail):
        return tail
    if len(newest) >= _ENOUGH and _is_enough(newest):
        return newest.tail(_MOST)
    return pd.concat([part for part in (reference, newest) if len(part)], ignore_index=True)


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.loc[rows["label"].notna()].sort_values("at", kind="stable") if len(rows) else rows


def _is_enough(rows: pd.DataFrame) -> bool:
    return len(rows) >= _FEWEST and rows["label"].nunique() > 1
