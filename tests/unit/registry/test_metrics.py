from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from registry import metrics


@pytest.fixture
def scored() -> tuple[metrics.Labels, metrics.Scores]:
    rng = np.random.default_rng(1)
    scores = np.round(rng.uniform(size=3000), 2).astype(np.float32)  # rounded: with ties
    return (rng.uniform(size=3000) < scores).astype(np.int64), scores


def test_log_loss_auc_and_brier_are_scikit_learns(scored: tuple[metrics.Labels, metrics.Scores]) -> None:
    labels, scores = scored
    assert metrics.log_loss(labels, scores) == pytest.approx(reference.log_loss(labels, scores), rel=1e-5)
    assert metrics.auc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.brier(labels, scores) == pytest.approx(reference.brier_score_loss(labels, scores), rel=1e-6)


def test_certain_and_wrong_is_bad_and_finite() -> None:
    losses = metrics.row_log_loss(np.array([1, 0]), np.array([0.0, 1.0], np.float32))
    assert np.all(np.isfinite(losses)) and np.all(losses > 15)


def test_auc_needs_both_labels() -> None:
    assert metrics.auc(np.array([1, 1]), np.array([0.1, 0.2])) is None


def test_true_probabilities_are_calibrated(scored: tuple[metrics.Labels, metrics.Scores]) -> None:
    labels, scores = scored
    assert metrics.calibration_error(labels, scores) < 0.04
    assert metrics.calibration_error(labels, 1 - scores) > 0.3


def test_calibration_bins_cover_every_row() -> None:
    bins = metrics.calibration_bins(np.array([0, 1, 1]), np.array([0.0, 1.0, 0.05], np.float32))
    assert bins.rows.tolist() == [2, 1]
    assert bins.rate.tolist() == [0.5, 1.0]


def test_base_rate_log_loss_is_the_entropy_of_the_labels() -> None:
    assert metrics.base_rate_log_loss(np.array([0, 1])) == pytest.approx(np.log(2))
    assert metrics.base_rate_log_loss(np.array([1, 1])) == pytest.approx(0, abs=1e-6)
