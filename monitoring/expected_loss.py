"""What a score is expected to lose before its label is there: learned from rows whose label is."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.losses import CLIP, Floats, row_log_loss
from features.segments import LOGGED, column_of

CONFIDENCE, DIRECT = "confidence", "direct loss"
_FOLDS = 5
# An isotonic curve needs about a thousand rows to beat a sigmoid: Niculescu-Mizil & Caruana (2005), figure 8.
_ISOTONIC_ROWS = 1000
_BINS = 10
_SURELY = 0.001
_SMALL_GAP = 0.02
# Shares nearer to 0 or 1 than this cannot be told from them by the rows there are.
_EDGE = 1e-3


class ExpectedLoss(Protocol):
    """Learns from labelled rows what rows are expected to lose. Must be deterministic."""

    def fit(self, rows: pd.DataFrame) -> ExpectedLoss:
        """Learn from ``score``, ``label`` (0 or 1) and maybe features; returns itself."""
        ...

    def losses(self, rows: pd.DataFrame) -> Floats:
        """The log-loss each of n rows is expected to have, in nats, shape (n,)."""
        ...


class Calibrated:
    """Expects what a score would lose if the share of ones among rows of its kind were as before.

    Confidence-based estimation: exact as long as a score keeps its meaning, however the inputs move.
    Source: Guillory et al., Predicting with Confidence on Unseen Distributions (2021); calibration by Platt (1999),
    from 1,000 rows on by isotonic regression (Zadrozny & Elkan, 2002).

    Example:
        >>> rows = pd.DataFrame({"score": [0.2, 0.8] * 50, "label": [0.0] * 40 + [0.0, 1.0] * 30})
        >>> Calibrated().fit(rows).chances(rows).shape
        (100,)
    """

    def fit(self, rows: pd.DataFrame) -> Calibrated:
        """See ExpectedLoss."""
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression

        label = rows["label"].to_numpy(dtype=np.float64)
        self._is_isotonic = len(rows) >= _ISOTONIC_ROWS
        curve: Any = IsotonicRegression(out_of_bounds="clip") if self._is_isotonic else LogisticRegression(C=1e4)
        self._curve = curve.fit(self._input(rows), label)
        return self

    def chances(self, rows: pd.DataFrame) -> Floats:
        """The chance of a one of each of n rows, shape (n,)."""
        given = self._input(rows)
        found: Floats = self._curve.predict(given) if self._is_isotonic else self._curve.predict_proba(given)[:, 1]
        return np.clip(found, _EDGE, 1 - _EDGE)

    def losses(self, rows: pd.DataFrame) -> Floats:
        """See ExpectedLoss."""
        return row_log_loss(self.chances(rows), rows["score"].to_numpy(dtype=np.float64))

    def _input(self, rows: pd.DataFrame) -> npt.NDArray[Any]:
        log_odds = _log_odds(rows)
        return log_odds if self._is_isotonic else log_odds[:, None]


class DirectLoss:
    """Expects what rows with such features and such a score have lost: a small regression of the rows' losses.

    For classifiers whose score alone does not tell the chance of a one.
    Source: direct loss estimation as in NannyML's documentation, "How it works: Performance Estimation" (2023).

    Args:
        features: names of the feature columns, as logged or without ``f__``.
    """

    def __init__(self, features: tuple[str, ...]) -> None:
        self._features = features

    def fit(self, rows: pd.DataFrame) -> DirectLoss:
        """See ExpectedLoss."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        label, score = (rows[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
        self._regressor = HistGradientBoostingRegressor(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0, random_state=0
        ).fit(self._matrix(rows), row_log_loss(label, score))
        return self

    def losses(self, rows: pd.DataFrame) -> Floats:
        """See ExpectedLoss."""
        found: Floats = np.maximum(self._regressor.predict(self._matrix(rows)), 0.0)
        return found

    def _matrix(self, rows: pd.DataFrame) -> Floats:
        columns = (column_of(rows, name) for name in self._features)
        given = [np.full(len(rows), np.nan) if c is None else c.to_numpy(dtype=np.float64) for c in columns]
        return np.column_stack([*given, _log_odds(rows)])


def expected_loss(rows: pd.DataFrame, method: str) -> ExpectedLoss:
    """The model of a method, not fitted yet, for rows with logged features."""
    if method == CONFIDENCE:
        return Calibrated()
    return DirectLoss(tuple(name for name in rows.columns if name.startswith(LOGGED)))


def fitting_method(rows: pd.DataFrame) -> str:
    """``confidence`` if scores, calibrated on other rows, keep what they promise; else ``direct loss``.

    They do not when, of ten bins of equal size, the shares of ones differ from those promised surely (at 0.1 %) and by
    more than 2 points on average.
    Source: Hosmer & Lemeshow (1980), on cross-fitted chances.

    Args:
        rows: ``score`` and ``label``, sorted by time.
    """
    from scipy.stats import chi2  # type: ignore[import-untyped]

    label = rows["label"].to_numpy(dtype=np.float64)
    chances = np.empty(len(rows))
    for train, test in folds(len(rows)):
        chances[test] = Calibrated().fit(rows.iloc[train]).chances(rows.iloc[test])
    by_score = np.argsort(rows["score"].to_numpy(), kind="stable")
    bins = np.empty(len(rows), dtype=np.int64)
    bins[by_score] = np.arange(len(rows)) * _BINS // len(rows)
    gaps, spread = (np.bincount(bins, w, _BINS) for w in (label - chances, chances * (1 - chances)))
    is_sure = chi2.sf(float((gaps**2 / spread).sum()), _BINS) < _SURELY
    return DIRECT if is_sure and np.abs(gaps).sum() / len(rows) > _SMALL_GAP else CONFIDENCE


def cross_fitted(rows: pd.DataFrame, method: str) -> Floats:
    """What each labelled row was expected to lose by a model of the others, shape (n,); rows sorted by time."""
    found = np.empty(len(rows))
    for train, test in folds(len(rows)):
        found[test] = expected_loss(rows, method).fit(rows.iloc[train]).losses(rows.iloc[test])
    return found


def folds(n: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Positions to train on and to test on: five stretches in turn, so that neighbours in time stay together."""
    every = np.arange(n)
    parts = np.array_split(every, _FOLDS)
    return [(np.setdiff1d(every, part, assume_unique=True), part) for part in parts]


def _log_odds(rows: pd.DataFrame) -> Floats:
    score = np.clip(rows["score"].to_numpy(dtype=np.float64), CLIP, 1 - CLIP)
    found: Floats = np.log(score) - np.log1p(-score)
    return found
