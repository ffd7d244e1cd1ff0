from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from registry.tree_thresholds import floor_to_float32, hist_gradient_boostings, with_float32_thresholds

anything = st.floats(allow_nan=False, width=64)


@given(anything, st.floats(allow_nan=False, width=32))
def test_comparing_with_the_floor_decides_alike(threshold: float, x: float) -> None:
    floor = floor_to_float32(np.array([threshold]))[0]
    with np.errstate(over="ignore"):
        assert float(np.float32(floor)) == floor
    assert (np.float64(x) <= threshold) == (np.float64(x) <= floor)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.sampled_from([-1.0, 1.0]))
def test_thresholds_next_to_float32_numbers_are_floored(x: float, direction: float) -> None:
    threshold = np.nextafter(np.float64(x), direction * np.inf)
    floor = floor_to_float32(np.array([threshold]))[0]
    assert (np.float64(x) <= threshold) == (np.float64(x) <= floor)


def test_boosting_is_found_inside_pipelines_and_left_alone() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 2)).astype(np.float32)
    labels = (matrix[:, 0] > 0).astype(np.int64)
    pipeline = make_pipeline(FunctionTransformer(), HistGradientBoostingClassifier(max_iter=3)).fit(matrix, labels)
    (boosting,) = hist_gradient_boostings(pipeline)
    thresholds = boosting._predictors[0][0].nodes["num_threshold"].copy()
    (copied,) = hist_gradient_boostings(with_float32_thresholds(pipeline))
    assert np.array_equal(boosting._predictors[0][0].nodes["num_threshold"], thresholds)
    changed = copied._predictors[0][0].nodes["num_threshold"]
    assert np.array_equal(changed, changed.astype(np.float32))


def test_other_estimators_are_not_copied() -> None:
    estimator = LogisticRegression()
    assert with_float32_thresholds(estimator) is estimator
